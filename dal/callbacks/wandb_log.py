"""One W&B run per experiment: metrics, query tables, the curve and the list of what was bought."""

import json
import netrc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

import numpy as np
import wandb
from rich.console import Console

from dal.callbacks.round_log import Record, RoundLog, Run
from dal.run_directory import write_atomically

Mode = Literal["online", "offline", "disabled"]


class WandbLog(RoundLog):
    """Log every round with `n_labelled` as the x-axis.

    Online if a key is configured (WANDB_API_KEY or `wandb login`), offline otherwise, never a
    prompt; WANDB_MODE overrides. A continued run keeps its id, kept in `state/wandb.json`.

    Args:
        project: W&B project.
        entity: W&B user or team; the key's own if None.
        name: of the run.
        group: of the runs that differ in their seed alone.
        job_type: what the runs of a sweep are told apart by.
        tags: words to filter by.
        images: rows of a query's table that show a thumbnail; all rows show index, label, score.
        config: what W&B lists as the run's configuration.
        settings: further `wandb.Settings`.
    """

    def __init__(
        self,
        *,
        project: str = "dal",
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: Sequence[str] = (),
        images: int = 100,
        config: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.options: dict[str, Any] = {
            "project": project,
            "entity": entity,
            "name": name,
            "group": group,
        }
        self.options |= {"job_type": job_type, "tags": list(tags), "config": dict(config or {})}
        self.images = images
        self.settings = dict(settings or {})
        self.run: Any = None
        self.logged = 0  # rounds that W&B has
        self.complete = False

    def on_run_start(self, run: Run) -> None:
        """Open the W&B run, or the next segment of it."""
        kept = self._kept(run.directory)
        self.logged = min(kept.get("logged", 0), len(run.records))
        if self.logged and self.logged == len(run.records) and not run.records[-1]["acquired"]:
            self.complete = True  # an earlier segment has it all
            return
        quiet = {"silent": True, "console": "off", "x_transaction_log_flush_interval": 0.5}
        self.run = wandb.init(
            id=kept.get("id"),
            resume="allow",
            mode=None if os.environ.get("WANDB_MODE") else default_mode(),
            dir=str(run.directory.resolve()) if run.directory else None,
            settings=wandb.Settings(**{**quiet, **self.settings}),
            **self.options,
        )
        self.run.define_metric("*", step_metric="n_labelled")
        self._catch_up(run)

    def on_round_end(self, run: Run, record: Record) -> None:
        """Log a round."""
        self._catch_up(run)

    def on_run_end(self, run: Run) -> None:
        """Log the curve, and all purchases as an artifact."""
        if self.complete:
            return
        picture = run.directory / "curve.png" if run.directory else None
        if picture and picture.exists():
            self.run.log({"curve": wandb.Image(str(picture))}, step=self.logged, commit=True)
        artifact = wandb.Artifact(f"acquired-{self.run.id}", type="acquired")
        bought = [
            {"round": r["round"], "acquired": r["acquired"], "labels": r["acquired_labels"]}
            for r in run.records
        ]
        with artifact.new_file("acquired.json") as file:
            file.write(json.dumps(bought))
        self.run.log_artifact(artifact)
        if self.run.offline:
            folder = os.path.relpath(Path(self.run.dir).parent)
            Console(soft_wrap=True).print(f"wandb  offline; to upload: wandb sync {folder}")
        elif self.run.url:
            Console(soft_wrap=True).print(f"wandb  {self.run.url}")
        self.complete = True

    def close(self) -> None:
        """Finish the W&B run; another job in this process would log into it otherwise."""
        if self.run is not None:
            self.run.finish(exit_code=0 if self.complete else 1)
            self.run = None

    def _catch_up(self, run: Run) -> None:
        for record in run.records[self.logged :]:
            row = self._row(run, record)
            self.run.log(row, step=record["round"], commit=True)  # written now, not with the next
            self.logged = record["round"] + 1
            if run.directory:
                state = {"id": self.run.id, "logged": self.logged}
                file = run.directory / "state" / "wandb.json"
                write_atomically(file, json.dumps(state).encode())

    def _row(self, run: Run, record: Record) -> dict[str, Any]:
        row: dict[str, Any] = {
            name: value
            for name, value in record.items()
            if isinstance(value, int | float) and name != "round"
        }
        if not record["acquired"]:
            return row
        data = run.data.data
        counts = np.bincount(record["acquired_labels"], minlength=len(data.classes))
        edges = np.arange(len(counts) + 1) - 0.5
        row["query/classes"] = wandb.Histogram(np_histogram=(counts, edges))
        table = wandb.Table(columns=["index", "label", "score", "image"])
        scores = record["scores"] or [None] * len(record["acquired"])
        bought = zip(record["acquired"], record["acquired_labels"], scores, strict=True)
        for rank, (index, label, score) in enumerate(bought):
            thumbnail = data.thumbnail(index) if rank < self.images else None
            image = None if thumbnail is None else wandb.Image(thumbnail.permute(1, 2, 0).numpy())
            table.add_data(index, data.classes[label], score, image)
        row["query/items"] = table
        return row

    @staticmethod
    def _kept(directory: Path | None) -> dict[str, Any]:
        file = directory / "state" / "wandb.json" if directory else None
        if file is None or not file.exists():
            return {}
        try:
            kept: dict[str, Any] = json.loads(file.read_text())
        except ValueError as error:
            raise ValueError(f"{file} is damaged ({error}); delete it to log anew") from error
        return kept


def default_mode() -> Mode:
    """Online if a key for the W&B server is configured, else offline."""
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return "online"
    for file in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        path = Path(file).expanduser() if file else None
        if path and path.is_file():
            try:
                if netrc.netrc(str(path)).authenticators(host):
                    return "online"
            except (netrc.NetrcParseError, OSError):
                continue
    return "offline"
