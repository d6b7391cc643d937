"""A run's folder: configuration, one line per round, the pool's state and the last weights.

A round has happened when its line in `rounds.jsonl` is whole; the line holds the labels bought.
Nothing that is read here is executed: all is JSON, YAML without tags, or plain tensors.
"""

import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from dal.callbacks.round_log import Record
from dal.data.datamodule import ActiveDataModule
from dal.data.fingerprint import PARTIAL, facts
from dal.files import (
    append,
    load_tensors,
    make_folder,
    parse_mapping,
    read_json,
    reason,
    save_atomically,
    unwritable,
    write_atomically,
)
from dal.paid_labels import PaidLabels
from dal.pool_file import PoolFile
from dal.run_lock import locked
from dal.run_records import read_lines, read_records


class RunDirectory:
    """Reads and writes the files of one run.

    Args:
        path: the folder; made by `hold`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.state = self.path / "state"
        self._rounds = self.path / "rounds.jsonl"
        self._config = self.path / "config.yaml"
        self._data = self.state / "data.json"
        self._pool = PoolFile(self.state / "pool.json")

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep other processes out inside the block; make the folder if it is missing.

        Raises:
            ValueError: if another process holds it, saying who, or it cannot be written.
        """
        make_folder(self.state)
        with locked(self.state / "lock", self.path):
            yield

    def resume(self, data: ActiveDataModule, config: Mapping[str, Any]) -> list[Record]:
        """Bring `data` to where the run stands and return its finished rounds.

        Nothing is written before all was read and found right.

        Raises:
            ValueError: if a file is damaged or missing, naming it, or if the run has another
                configuration or another data set.
        """
        settings = yaml.dump(dict(config), Dumper=_Plain, sort_keys=False)
        described = facts(data.data, data.costs)
        *lines, torn = read_lines(self._rounds)
        records = []
        if lines or self.paid(0).path.exists():
            self._compare_config(settings)
            self._compare_data(described)
            records = read_records(
                self._rounds,
                lines,
                rows=data.pool.size,
                held_out=len(data.pool.held_out),
                classes=len(data.data.classes),
                least=data.pool.least,
            )
            self._restore_pool(data, records)
        elif self._pool.path.exists():
            raise self._damaged(self._rounds, f"no round is there, but {self._pool.path} has some")
        else:
            self._begin(self._config, settings)
            self._begin(self._data, json.dumps(described, indent=1))
        if torn:  # a round that did not happen
            write_atomically(self._rounds, b"".join(line + b"\n" for line in lines))
        self._tidy(len(records) - 1)
        return records

    def commit(self, record: Record, data: ActiveDataModule, weights: Mapping[str, Tensor]) -> None:
        """Keep all of a finished round; it has happened once its line is on the disk.

        Raises:
            ValueError: if a number is not finite or a file cannot be written. The folder then
                holds the run up to its last whole line, and can be continued.
        """
        number, done = record["round"], record["round"] - 1
        try:
            line = json.dumps(record, allow_nan=False).encode() + b"\n"
        except ValueError as error:
            wrong = [name for name, value in record.items() if not _finite(value)]
            raise ValueError(
                f"round {number}: {', '.join(wrong)} must be finite numbers; "
                f"lower optimizer.lr or check the inputs"
            ) from error
        try:
            save_atomically(self._weights(number), dict(weights))
            append(self._rounds, line)
            done = number
            self._pool.save(data.pool.state_dict())
            self._tidy(number)
        except ValueError as error:
            next_step = f"continues after round {done}" if done >= 0 else "begins with round 0"
            raise ValueError(f"{error}, which {next_step}") from error

    def load_weights(self, round: int) -> dict[str, Tensor]:
        """Read a round's weights.

        Raises:
            ValueError: if the file is missing or damaged.
        """
        file = self._weights(round)
        try:
            weights = load_tensors(file)
        except ValueError as error:
            raise self._damaged(file, error) from error
        if not isinstance(weights, dict) or not all(
            isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()
        ):
            raise self._damaged(file, "it holds no weights by name")
        return weights

    def training_folder(self, round: int) -> Path:
        """Name the folder, not made here, for what an unfinished training keeps.

        It is removed when the round is finished.
        """
        return self.state / f"round-{round:04d}"

    def paid(self, round: int) -> PaidLabels:
        """Where the labels of an unfinished round are kept as soon as the oracle gave them."""
        return PaidLabels(self.training_folder(round) / "paid.json")

    def _begin(self, file: Path, text: str) -> None:
        """Keep what a run without a finished round is of, and drop the training of another."""
        with suppress(OSError):
            if file.read_bytes() == text.encode():
                return
        self._forget("round-*", kept=-1)
        write_atomically(file, text.encode())

    def _compare_config(self, text: str) -> None:
        try:
            found = self._config.read_text()
            kept, given = (_flat(parse_mapping(part)) for part in (found, text))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise self._damaged(self._config, error) from error
        keys = sorted(key for key in kept.keys() | given.keys() if kept.get(key) != given.get(key))
        if keys:
            shown = ", ".join(
                f"{key} ({_short(kept, key)} -> {_short(given, key)})" for key in keys
            )
            raise ValueError(
                f"{self._config} is that of a run of another configuration: {shown}; "
                f"choose another name=..., or delete {self.path}"
            )

    def _compare_data(self, now: Mapping[str, Any]) -> None:
        try:
            then = read_json(self._data)
            if not isinstance(then, dict) or not then.keys() >= now.keys() - PARTIAL:
                raise ValueError("it does not describe a data set")
        except ValueError as error:
            raise self._damaged(self._data, error) from error
        keys = [key for key in {**now, **then} if then.get(key) != now.get(key)]
        if keys:
            shown = ", ".join(_difference(key, then, now) for key in keys)
            raise ValueError(
                f"the data set changed since the run in {self.path} began: {shown}; bring back "
                f"the data of then, or choose another name=... to begin anew"
            )

    def _restore_pool(self, data: ActiveDataModule, records: list[Record]) -> None:
        """Bring a fresh data module to where the finished rounds left it."""
        pool, classes = data.pool, len(data.data.classes)
        start, held = pool.history[0].indices, pool.held_out.tolist()
        bought = [(tuple(r["acquired"]), tuple(r["acquired_labels"])) for r in records]
        bought = [rows_and_labels for rows_and_labels in bought if rows_and_labels[0]]
        try:
            if self._pool.path.exists():
                data.load_state_dict(self._pool.read())
            if pool.round == len(bought) - 1:  # killed between the line and the state
                pool.label(*bought[-1], data.oracle.name)
            there = [purchase[1:3] for purchase in pool.history if purchase.kind == "label"]
            if pool.held_out.tolist() != held or [rows for rows, _ in there[:1]] != [start]:
                raise ValueError("it has other rows than this run starts from or holds out")
            if there[1:] != bought:
                raise ValueError(f"it does not hold what {self._rounds} says was bought")
            if any(max(purchase.labels, default=0) >= classes for purchase in pool.history):
                raise ValueError(f"labels must lie between 0 and {classes - 1}")
        except ValueError as error:
            raise self._damaged(self._pool.path, error) from error

    def _tidy(self, finished: int) -> None:
        """Remove what no run continues from: older weights, trainings that are finished."""
        self._forget("weights-*.pt", kept=finished)
        self._forget("round-*", kept=finished + 1)

    def _forget(self, pattern: str, *, kept: int) -> None:
        for path in self.state.glob(pattern):
            number = re.search(r"\d+", path.name)
            if not number or int(number[0]) == kept:
                continue
            try:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            except OSError as error:
                raise unwritable(path, error) from error

    def _damaged(self, file: Path, why: object) -> ValueError:
        said = reason(why) if isinstance(why, BaseException) else why
        return ValueError(
            f"{file} is damaged ({said}); restore it, or delete {self.path} to start again"
        )

    def _weights(self, round: int) -> Path:
        return self.state / f"weights-{round:04d}.pt"


class _Plain(yaml.SafeDumper):
    """Writes what comes twice twice: a file with aliases is refused."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never write an alias."""
        return True


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(config, Mapping):
        return {prefix: config}
    parts = (
        _flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in config.items()
    )
    return {key: value for part in parts for key, value in part.items()}


def _difference(key: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if key.endswith(("labels", "inputs", "classes", "groups", "costs")):
        return f"other {key}"
    return f"{key} {_short(then, key)} then and {_short(now, key)} now"


def _short(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    return f"{value:,}" if type(value) is int else f"{value!s:.80}"


def _finite(value: Any) -> bool:
    parts = value.values() if isinstance(value, Mapping) else value
    parts = parts if isinstance(value, list | Mapping) else [value]
    return all(math.isfinite(part) for part in parts if isinstance(part, float))
