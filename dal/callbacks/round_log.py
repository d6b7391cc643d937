"""What watches a run: hooks for its start, its rounds, the pool pass and its end."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from dal.data.datamodule import ActiveDataModule

Record = dict[str, Any]  # one line of rounds.jsonl


@dataclass(frozen=True)
class Run:
    """What does not change while a run goes on.

    Args:
        data: the data module; its pool grows.
        strategy: name of the strategy.
        rounds: purchases to make; there is one more round than that.
        query_size: labels bought each time.
        directory: where the run is kept, or None.
        records: of the rounds finished, earlier segments of the run included; grows.
    """

    data: ActiveDataModule
    strategy: str
    rounds: int
    query_size: int
    directory: Path | None
    records: Sequence[Record]


class RoundLog:
    """Watches a run from its first round to its last."""

    shared = False  # whether other runs print on the same terminal, each its own lines

    def on_run_start(self, run: Run) -> None:
        """Begin; `run.records` is not empty when a run is continued."""

    def on_preflight(self, line: str) -> None:
        """Say what queries will take of time and memory; once, before the first training."""

    def trainer_callbacks(self) -> list[pl.Callback]:
        """Lightning callbacks to watch a round's training with; each costs time in every step."""
        return []

    def on_pool_batch_end(self, done: int, total: int) -> None:
        """React to one more batch of the pool; counts are rows."""

    def on_round_end(self, run: Run, record: Record) -> None:
        """Take in a finished round, the last of `run.records`."""

    def on_run_end(self, run: Run) -> None:
        """Take leave of a run that is complete."""

    def close(self) -> None:
        """Release what is held; always called, after a failure too."""
