"""Which rows make a batch: of a training, shared by the processes that train together."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler, TensorDataset

from dal.seeding import seed_for


class Batch(NamedTuple):
    """One batch of a training.

    Args:
        positions: [B]; rows of the view.
        seed: what is random about these rows, such as augmentation, follows from it.
    """

    positions: list[int]
    seed: int


class FixedBatches(DistributedSampler[Any]):
    """Batches in the order given. Lightning leaves them as they are, and pads or repeats none.

    Args:
        batches: positions of the rows of each.
    """

    def __init__(self, batches: Sequence[Any]) -> None:
        # Lightning looks at the type alone; the data set is not used.
        super().__init__(TensorDataset(torch.empty(1)), num_replicas=1, rank=0)
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class TrainBatches(FixedBatches):
    """The batches of a round's training, drawn anew in each epoch: in each pass over them.

    They follow from (seed, round, part, epoch) alone, so that a training can go on in the middle.
    Of processes that train together each takes its share of every batch: with plain averages of
    gradients they take the steps that one process would. A batch that cannot be divided evenly is
    made up with its own first rows, which count twice then. A last batch of a pass that would be a
    single row, which normalisation over a batch cannot take, joins the one before it.

    Args:
        rows: M; how many there are to draw from.
        batch_size: rows of a batch, over all processes; at least their number.
        steps: batches of an epoch, drawn with replacement; None for one shuffled pass.
        seed: of the run.
        round: purchases before.
        part: names one of several trainings of the round.
        rank: of this process.
        processes: how many train together.
        start: epoch and batch to begin with.

    Raises:
        ValueError: if there are more processes than rows in a batch.
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        *,
        steps: int | None,
        seed: int,
        round: int,
        part: str = "",
        rank: int = 0,
        processes: int = 1,
        start: tuple[int, int] = (0, 0),
    ) -> None:
        if batch_size < processes:
            raise ValueError(
                f"batch_size must be at least the {processes} processes that share a batch, got "
                f"{batch_size}"
            )
        self.ends_short = rows % batch_size == 1 and rows > batch_size
        passes = -(-rows // batch_size) - self.ends_short
        super().__init__(range(passes if steps is None else steps))
        self.rows = rows
        self.size = batch_size
        self.steps = steps
        self.seed_of = partial(seed_for, seed, round=round)
        self.part = part
        self.share = (rank, processes)
        self.start = start
        self.epoch = start[0]

    def __iter__(self) -> Iterator[Batch]:
        epoch, (first, done) = self.epoch, self.start
        name = f"{self.part} epoch {epoch}" if epoch else self.part
        batches = enumerate(self._drawn(self.seed_of("batches", part=name)))
        for number, positions in islice(batches, done if epoch == first else 0, None):
            part = f"{name} batch {number} of process {self.share[0]}"
            yield Batch(self._own(positions), self.seed_of("augmentation", part=part))
        self.epoch = epoch + 1

    def _drawn(self, seed: int) -> Iterable[list[int]]:
        generator, rows = torch.Generator().manual_seed(seed), range(self.rows)
        if self.steps is not None:
            draws = self.steps * self.size
            order = RandomSampler(rows, replacement=True, num_samples=draws, generator=generator)
            return BatchSampler(order, self.size, drop_last=False)
        order = RandomSampler(rows, generator=generator)
        batches = [*BatchSampler(order, self.size, drop_last=False)]
        if self.ends_short:  # normalisation over a batch takes two rows
            batches[-2:] = [batches[-2] + batches[-1]]
        return batches

    def _own(self, positions: list[int]) -> list[int]:
        rank, processes = self.share
        each = -(-len(positions) // processes)
        return [positions[(rank + place * processes) % len(positions)] for place in range(each)]


def share_of_rows(rows: Tensor, rank: int, processes: int) -> Tensor:
    """Rows on which one of several processes measures a model; each row is measured once.

    Raises:
        ValueError: if a process would have none.
    """
    if processes > len(rows):
        raise ValueError(f"{processes} processes cannot share {len(rows)} rows; use fewer devices")
    return torch.tensor_split(rows, processes)[rank]
