"""Read run directories: one table of rounds, what was bought, and what is wrong with them."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from dal.analysis.curves import paid
from dal.analysis.gaps import differing_settings, missing_seeds, unequal_labels
from dal.analysis.statistics import KEY
from dal.files import parse_json, parse_mapping, reason

LONGEST = 80  # characters of a name
LARGEST_CONFIG, LARGEST_ROUNDS = 2**20, 2**30  # bytes


class Key(NamedTuple):
    """What tells a run from the others."""

    experiment: str
    dataset: str
    model: str
    strategy: str
    seed: int

    @property
    def setting(self) -> str:
        """Name what its strategies and seeds have in common."""
        return f"{self.experiment}/{self.dataset}-{self.model}"

    def __str__(self) -> str:
        """Name it as its folder is named."""
        return f"{self.setting}/{self.strategy}/seed={self.seed}"


@dataclass(frozen=True)
class Runs:
    """What run directories hold.

    Args:
        rounds: one row per run and round: `experiment`, `dataset`, `model`, `strategy`, `seed`,
            `round`, `n_labelled`, `finished` (of the run), and the numbers of the record. Rows
            of no class were paid for, and count in `n_labelled`.
        bought: of each run the dataset indices bought, a list per round.
        labels: of each run the labels of those.
        problems: a line for each thing that is missing, damaged or unlike.
        begun: run directories found, those without a whole round included.
    """

    rounds: pd.DataFrame
    bought: dict[Key, list[list[int]]]
    labels: dict[Key, list[list[int]]]
    problems: list[str]
    begun: int

    @property
    def finished(self) -> pd.DataFrame:
        """The rounds of finished runs, which statistics are made of."""
        return self.rounds[self.rounds["finished"]].reset_index(drop=True)

    @property
    def n_finished(self) -> int:
        """Count the finished runs."""
        return len(self.finished[KEY].drop_duplicates())


@dataclass
class _Run:
    key: Key
    folder: Path
    config: dict[str, Any]
    records: list[dict[str, Any]] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether it made its purchases, stopped by itself, or emptied the pool."""
        last = self.records[-1]
        return last.get("stopped") is not None or not last["acquired"]


def read_runs(root: str | Path, *, on_run: Callable[[int, int], None] | None = None) -> Runs:
    """Read every run at or below a folder.

    Names are those of the folders, `<experiment>/<dataset>-<model>/<strategy>/seed=<seed>`; a run
    that lies elsewhere is named by its own `config.yaml`.

    Args:
        root: all runs, those of one experiment or setting, or one run.
        on_run: called with the runs read and their number.

    Returns:
        The runs; those that cannot be read are lines of `problems`.

    Raises:
        ValueError: if there is no run with a whole round.
    """
    folders = run_folders(root)
    runs: dict[Key, _Run] = {}
    problems: list[str] = []
    for done, folder in enumerate(folders):
        if on_run:
            on_run(done + 1, len(folders))
        try:
            run = _read(folder, problems)
            if run.key in runs:
                raise ValueError(f"it has the names of {_plain(str(runs[run.key].folder))}")
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            problems.append(f"{_plain(str(folder))}: left out, {reason(error)}")
            continue
        runs[run.key] = run
    if not runs:
        what = f"; {problems[0]}" if problems else " (no rounds.jsonl is there)"
        raise ValueError(f"no run with a finished round below {Path(root).absolute()}{what}")
    return _together(runs, problems, len(folders))


def run_folders(root: str | Path) -> list[Path]:
    """Find the run directories at or below a folder, in order; links are not followed."""
    found = []
    for place, folders, files in os.walk(root):
        if "rounds.jsonl" in files or ("config.yaml" in files and "state" in folders):
            found.append(Path(place))
            folders.clear()
        folders[:] = [name for name in folders if not name.startswith(".")]
    return sorted(found)


def _together(runs: dict[Key, _Run], problems: list[str], begun: int) -> Runs:
    for run in runs.values():
        if not run.finished:
            planned = run.config.get("rounds")
            of = f" of {planned + 1}" if isinstance(planned, int) else ""
            problems.append(
                f"{run.key}: unfinished, {len(run.records)}{of} rounds (crashed, or still "
                f"running); not in the statistics"
            )
    finished = {key: run for key, run in runs.items() if run.finished}
    problems += missing_seeds([(key.setting, key.strategy, key.seed) for key in runs])
    problems += unequal_labels(
        {str(key): (key.setting, _labels(run)) for key, run in finished.items()}
    )
    problems += differing_settings([(key.setting, run.config) for key, run in runs.items()])
    problems += [
        f"{setting}: labels have costs; strategies are compared by their number, not by cost"
        for setting in sorted({k.setting for k, run in finished.items() if _has_costs(run)})
    ]
    first = [*KEY, "round", "n_labelled", "finished"]
    rounds = pd.DataFrame([row for key in sorted(runs) for row in _rows(runs[key])])
    return Runs(
        rounds=rounds[[*first, *(name for name in rounds if name not in first)]],
        bought={key: [r["acquired"] for r in runs[key].records] for key in sorted(runs)},
        labels={key: [r["acquired_labels"] for r in runs[key].records] for key in sorted(runs)},
        problems=problems,
        begun=begun,
    )


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _rows(run: _Run) -> Iterator[dict[str, Any]]:
    names = run.key._asdict()
    for record in run.records:
        numbers = {name: value for name, value in record.items() if type(value) in (int, float)}
        yield {**numbers, **names, "n_labelled": paid(record), "finished": run.finished}


def _labels(run: _Run) -> tuple[int, ...]:
    return tuple(map(paid, run.records))


def _has_costs(run: _Run) -> bool:
    return any("cost_used" in record for record in run.records)


def _read(folder: Path, problems: list[str]) -> _Run:
    config = parse_mapping(_content(folder / "config.yaml", LARGEST_CONFIG, b"{}").decode())
    run = _Run(_key(folder, config), folder, config)
    *lines, torn = _content(folder / "rounds.jsonl", LARGEST_ROUNDS, b"").split(b"\n")
    try:
        for line in lines:
            run.records.append(_record(parse_json(line), run.records))
    except ValueError as error:
        number = len(run.records) + 1
        raise ValueError(f"rounds.jsonl is damaged in line {number}: {error}") from error
    if not run.records:
        raise ValueError("it has no finished round")
    if torn:
        problems.append(f"{run.key}: the last line of rounds.jsonl is torn and was not read")
    return run


def _content(file: Path, largest: int, absent: bytes) -> bytes:
    if not file.exists():
        return absent
    if not file.is_file():
        raise ValueError(f"{file.name} is no plain file")
    if file.stat().st_size > largest:
        raise ValueError(f"{file.name} is larger than {largest:,} bytes")
    return file.read_bytes()


def _record(record: Any, earlier: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a record that has what tables and figures are made of."""
    if not isinstance(record, dict):
        raise ValueError(f"a round must be an object, got {type(record).__name__}")
    for name in ("round", "n_labelled", "n_no_class"):
        count = record.get(name, 0 if name == "n_no_class" else None)
        if type(count) is not int or not 0 <= count < 2**53:
            raise ValueError(f"{name} must be a whole number from 0 up")
    if record["round"] != len(earlier):
        raise ValueError(f"round {record['round']} where {len(earlier)} was expected")
    if earlier and record["n_labelled"] < earlier[-1]["n_labelled"]:
        raise ValueError("fewer rows are labelled than in the round before")
    for name, least, end in (("acquired", 0, 2**53), ("acquired_labels", -1, 2**20)):
        listed = record.get(name)
        if not isinstance(listed, list) or set(map(type, listed)) - {int}:
            raise ValueError(f"{name} must be a list of whole numbers")
        if listed and not least <= min(listed) <= max(listed) < end:
            raise ValueError(f"{name} must lie between {least} and {end - 1}")
    if len(record["acquired"]) != len(record["acquired_labels"]):
        raise ValueError("acquired and acquired_labels must be of one length")
    return record


def _key(folder: Path, config: dict[str, Any]) -> Key:
    """Name a run by where it lies, or else by its configuration."""
    parts = folder.absolute().parts[-4:]
    if len(parts) == 4 and parts[3].startswith("seed=") and "-" in parts[1]:
        dataset, _, model = parts[1].rpartition("-")
        names, seed = [parts[0], dataset, model, parts[2]], parts[3].removeprefix("seed=")
    else:
        nodes = [config.get(name) for name in ("dataset", "model", "strategy")]
        targets = [
            str(node.get("_target_", "")) if isinstance(node, dict) else "" for node in nodes
        ]
        names = [str(config.get("name", "")), *(target.rpartition(".")[2] for target in targets)]
        seed = str(config.get("seed", ""))
    if not (seed.isdecimal() and len(seed) < 19) or not all(names):
        raise ValueError(
            "it must lie in <experiment>/<dataset>-<model>/<strategy>/seed=<seed>, or its "
            "config.yaml must have name, seed, dataset, model and strategy"
        )
    if any(not name.isprintable() or len(name) > LONGEST for name in names):
        raise ValueError(f"its names must be of at most {LONGEST} printable characters")
    return Key(names[0], names[1], names[2], names[3], int(seed))
