"""A run's folder: configuration, one line per round, the pool's state and the last weights.

A round has happened when its line in `rounds.jsonl` is whole; the line holds the labels bought.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from dal.callbacks.round_log import Record
from dal.data.datamodule import ActiveDataModule


class RunDirectory:
    """Reads and writes the files of one run.

    Args:
        path: the folder; made if missing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.state = self.path / "state"
        self.state.mkdir(parents=True, exist_ok=True)

    def resume(self, data: ActiveDataModule, config: Mapping[str, Any]) -> list[Record]:
        """Bring `data` to where the run stands and return its finished rounds.

        Raises:
            ValueError: if a file is damaged, or the run has another configuration.
        """
        records = self.records()
        self.claim(config, begun=bool(records))
        self.restore_pool(data, records)
        return records

    def claim(self, config: Mapping[str, Any], *, begun: bool) -> None:
        """Keep the configuration in `config.yaml`; compare with it where a round has finished.

        Raises:
            ValueError: if the folder holds a run of another configuration, naming the keys.
        """
        file = self.path / "config.yaml"
        if not begun or not file.exists():
            write_atomically(file, yaml.safe_dump(dict(config), sort_keys=False).encode())
            return
        kept, given = (_flat(c) for c in (yaml.safe_load(file.read_text()) or {}, config))
        keys = sorted(key for key in kept.keys() | given.keys() if kept.get(key) != given.get(key))
        if keys:
            shown = ", ".join(f"{key} ({kept.get(key)} -> {given.get(key)})" for key in keys)
            raise ValueError(
                f"{self.path} holds a run of another configuration: {shown}; "
                f"choose another name=..., or delete that folder"
            )

    def records(self) -> list[Record]:
        """Read the finished rounds; a torn last line is a round that did not happen.

        Raises:
            ValueError: if an earlier line is damaged, naming it.
        """
        file = self.path / "rounds.jsonl"
        if not file.exists():
            return []
        lines = file.read_bytes().split(b"\n")
        torn = lines.pop()
        if torn:
            write_atomically(file, b"".join(line + b"\n" for line in lines))
        records = []
        for number, line in enumerate(lines):
            try:
                record = json.loads(line)
                if record["round"] != number:
                    raise ValueError(f"round {record['round']} where {number} was expected")
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{file} is damaged in line {number + 1} ({error}); restore it, or delete "
                    f"{self.path} to start again"
                ) from error
            records.append(record)
        return records

    def append(self, record: Record) -> None:
        """Add a finished round and wait until the disk has it."""
        with (self.path / "rounds.jsonl").open("ab") as file:
            file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def save_pool(self, data: ActiveDataModule) -> None:
        """Write the pool's state to `state/pool.json`."""
        write_atomically(self.state / "pool.json", json.dumps(data.state_dict()).encode())

    def restore_pool(self, data: ActiveDataModule, records: list[Record]) -> None:
        """Bring a fresh data module to where the finished rounds left it.

        Raises:
            ValueError: if the state is damaged or contradicts the records.
        """
        if not records:
            return
        file = self.state / "pool.json"
        try:
            if file.exists():
                data.load_state_dict(json.loads(file.read_text()))
            if data.round == len(records) - 1 and records[-1]["acquired"]:
                last = records[-1]  # killed between the line and the state
                data.pool.label(last["acquired"], last["acquired_labels"], data.oracle.name)
            bought = [index for record in records for index in record["acquired"]]
            if data.pool.labelled.tolist()[records[0]["n_labelled"] :] != bought:
                raise ValueError("it does not hold the rows that rounds.jsonl says were bought")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{file} is damaged ({error}); restore it, or delete {self.path} to start again"
            ) from error

    def save_weights(self, round: int, weights: Mapping[str, Tensor]) -> None:
        """Write a round's weights to `state/weights-<round>.pt`."""
        file = self._weights(round)
        partial = file.with_suffix(".partial")
        torch.save(dict(weights), partial)
        partial.replace(file)

    def load_weights(self, round: int) -> dict[str, Tensor]:
        """Read a round's weights.

        Raises:
            ValueError: if the file is missing or damaged.
        """
        file = self._weights(round)
        try:
            weights: dict[str, Tensor] = torch.load(file, weights_only=True, map_location="cpu")
        except Exception as error:  # zip, pickle and OS errors alike
            raise ValueError(f"{file} cannot be read: {error}") from error
        return weights

    def forget_weights(self, round: int) -> None:
        """Remove a round's weights, once those of the next round are safe."""
        self._weights(round).unlink(missing_ok=True)

    def _weights(self, round: int) -> Path:
        return self.state / f"weights-{round:04d}.pt"


def write_atomically(file: Path, content: bytes) -> None:
    """Write a file so that a kill leaves either the old content or the new."""
    partial = file.with_name(file.name + ".partial")
    with partial.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(config, Mapping):
        return {prefix: config}
    parts = (_flat(value, f"{prefix}.{key}" if prefix else key) for key, value in config.items())
    return {key: value for part in parts for key, value in part.items()}
