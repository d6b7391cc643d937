"""One W&B run per experiment: metrics, query tables, the curve and the list of what was bought."""

import json
import netrc
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

import numpy as np
import wandb
from rich.console import Console
from wandb.proto import wandb_internal_pb2

from dal.callbacks.round_log import Record, RoundLog, Run
from dal.callbacks.wandb_file import entries
from dal.files import write_atomically
from dal.pool import NO_CLASS
from dal.settings import Number, checked

Mode = Literal["online", "offline", "disabled"]


class WandbLog(RoundLog):
    """Log every round once, with `n_labelled` as the x-axis and the round as W&B's step.

    Online if a key is configured (WANDB_API_KEY or `wandb login`), offline otherwise, never a
    prompt; WANDB_MODE overrides. The id is kept in `state/wandb.json` before anything is logged.
    A continued run logs the rounds that W&B does not have: offline, those missing in the files of
    earlier segments, since a kill loses what was not written there; online, those from the step
    on at which the server resumes the run. `wandb sync` joins offline segments by their id.

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

    @checked
    def __init__(
        self,
        *,
        project: str = "dal",
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: Sequence[str] = (),
        images: Number = 100,
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
        self.directory: Path | None = None
        self.kept: dict[str, Any] = {}  # what `state/wandb.json` says
        self.steps: set[int] = set()  # that W&B has: its rounds, then one for the end
        self.complete = False

    def on_run_start(self, run: Run) -> None:
        """Open the W&B run, or the next segment of it."""
        finished = bool(run.records) and not run.records[-1]["acquired"]
        self.directory = run.directory
        self.kept = self._read()
        offline, ended = self._logged("offline-run-*")
        if finished and (ended or self.kept.get("complete")):
            self.complete = True  # an earlier segment has it all
            return
        if not self.kept:
            self._keep(id=secrets.token_hex(4))
        mode: Any = os.environ.get("WANDB_MODE") or default_mode()
        quiet = {"silent": True, "console": "off", "x_transaction_log_flush_interval": 0.5}
        self.run = wandb.init(
            id=self.kept["id"],
            resume="allow",
            mode=mode,
            dir=str(run.directory.resolve()) if run.directory else None,
            settings=wandb.Settings(**{**quiet, **self.settings}),
            **self.options,
        )
        self.run.define_metric("*", step_metric="n_labelled")
        sent = self._logged("run-*")[0] if self.run.offline else range(self.run.step)
        self.steps = offline.union(sent)
        if finished:
            self._print("logging the end of this run, which W&B does not have")
        self._catch_up(run)

    def on_round_end(self, run: Run, record: Record) -> None:
        """Log a round."""
        self._catch_up(run)

    def on_run_end(self, run: Run) -> None:
        """Log the curve, and all purchases as an artifact."""
        if self.complete:
            return
        picture, step = run.directory / "curve.png" if run.directory else None, len(run.records)
        if picture and picture.exists() and step not in self.steps:
            self.run.log({"curve": wandb.Image(str(picture))}, step=step, commit=True)
        artifact = wandb.Artifact(f"acquired-{self.run.id}", type="acquired")
        bought = [
            {"round": r["round"], "acquired": r["acquired"], "labels": r["acquired_labels"]}
            for r in run.records
        ]
        with artifact.new_file("acquired.json") as file:
            file.write(json.dumps(bought))
        self.run.log_artifact(artifact)
        if self.run.offline and not self.shared:  # all runs of a sweep can be uploaded at once
            folder = os.path.relpath(Path(self.run.dir).parents[1])
            segments = f"{folder}/offline-run-*-{self.run.id}"
            self._print(f"offline; to upload: wandb sync {segments}")
        elif not self.run.offline and self.run.url:
            self._print(self.run.url)
        self.complete = True

    def close(self) -> None:
        """Finish the W&B run; another job in this process would log into it otherwise."""
        if self.run is not None:
            self.run.finish(exit_code=0 if self.complete else 1)
            if self.complete and (self.run.disabled or not self.run.offline):
                self._keep(complete=True)  # offline the file says so, a moment later
            self.run = None

    def _catch_up(self, run: Run) -> None:
        for record in run.records:
            if record["round"] not in self.steps:
                row = self._row(run, record)
                self.run.log(row, step=record["round"], commit=True)  # now, not with the next
                self.steps.add(record["round"])

    def _row(self, run: Run, record: Record) -> dict[str, Any]:
        row: dict[str, Any] = {
            name: value
            for name, value in record.items()
            if (isinstance(value, int | float) and name != "round") or name == "stopped"
        }
        if not record["acquired"]:
            return row
        data = run.data.data
        labels = [label for label in record["acquired_labels"] if label != NO_CLASS]
        counts = np.bincount(labels, minlength=len(data.classes))
        edges = np.arange(len(counts) + 1) - 0.5
        row["query/classes"] = wandb.Histogram(np_histogram=(counts, edges))
        table = wandb.Table(columns=["index", "label", "score", "image"])
        scores = record["scores"] or [None] * len(record["acquired"])
        bought = zip(record["acquired"], record["acquired_labels"], scores, strict=True)
        for rank, (index, label, score) in enumerate(bought):
            thumbnail = data.thumbnail(index) if rank < self.images else None
            image = None if thumbnail is None else wandb.Image(thumbnail.permute(1, 2, 0).numpy())
            table.add_data(index, data.name_of(label), score, image)
        row["query/items"] = table
        return row

    def _logged(self, pattern: str) -> tuple[set[int], bool]:
        """Read which steps earlier segments in such folders hold, and whether one ended well."""
        steps, ended = set[int](), False
        if self.directory and self.kept:
            for file in self.directory.glob(f"wandb/{pattern}/run-{self.kept['id']}.wandb"):
                for entry in entries(file):
                    # The module's names depend on the version of protobuf that is installed.
                    record = wandb_internal_pb2.Record.FromString(entry)  # type: ignore[attr-defined]
                    if record.HasField("history"):
                        steps.add(record.history.step.num)
                    ended |= record.HasField("exit") and record.exit.exit_code == 0
        return steps, ended

    def _keep(self, **facts: Any) -> None:
        self.kept |= facts
        if self.directory:
            file = self.directory / "state" / "wandb.json"
            write_atomically(file, json.dumps(self.kept).encode())

    def _read(self) -> dict[str, Any]:
        file = self.directory / "state" / "wandb.json" if self.directory else None
        if file is None or not file.exists():
            return {}
        try:
            kept: dict[str, Any] = json.loads(file.read_bytes())
            if not kept["id"].isalnum():
                raise ValueError(f"{kept['id']!r} is no id of a run")
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            RecursionError,
            OSError,
        ) as error:
            raise ValueError(f"{file} is damaged ({error}); delete it to log anew") from error
        return kept

    @staticmethod
    def _print(line: str) -> None:
        Console(soft_wrap=True).print(f"wandb  {line}")


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
