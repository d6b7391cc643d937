"""The data module that splits a dataset into labelled rows, pool, validation and test set."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dal.data.batches import FixedBatches, TrainBatches, share_of_rows
from dal.data.costs import Costs, costs_of_rows
from dal.data.data import Data, Rows
from dal.data.start import Start, first_rows
from dal.data.view import View
from dal.data.watched import Target, check_target, stop_rows, target_rows
from dal.oracles.answers import ask
from dal.oracles.dataset import DatasetOracle, Oracle
from dal.pieces import Pieces
from dal.pool import LabelledPool
from dal.seeding import generator_for
from dal.settings import Count, Number, checked

WHOLE = slice(None)


class ActiveDataModule(pl.LightningDataModule):
    """Train, pool, labelled, validation and test loaders over one `LabelledPool`.

    Batches are float network inputs. Only the train view is augmented; the pool view carries no
    labels at all. Training and validation labels are those the oracle gave, test labels those of
    the dataset. Rows of which the oracle said that they belong to no class are paid for and used
    for nothing.

    Args:
        data: the dataset.
        oracle: makes the source of labels from the dataset.
        initial: how the first labels are chosen: at random, balanced over the classes, or these
            dataset indices.
        initial_size: how many of them; not used where indices are given.
        val_size: rows held out at random for validation before the first round. They are labelled
            too: `labels_used` counts them.
        batch_size: rows of a training batch, over all processes that train together.
        eval_batch_size: rows of a batch without gradients.
        steps: batches per epoch, drawn with replacement from the labelled rows, so that a round
            trains as long however many there are. None: an epoch is one shuffled pass.
        pool_subset: deal only this many random candidates each round.
        target: where strategies that aim at predictions on a target set (EPIG) take its inputs:
            at random from the pool as it is in that round, from the test inputs (never their
            labels), or those that come with the dataset.
        target_size: at most so many of them, drawn anew each round.
        costs: what the label of each train row costs, see `dal.data.costs`; None: 1 each.
        stop_set_size: at most so many rows are watched where a stopping criterion looks at
            predictions.
        num_workers: loader processes, for datasets that are decoded when read.
        seed: the splits, the start and all batches follow from it.

    Raises:
        ValueError: if a size is negative or larger than the dataset, naming it.
    """

    @checked
    def __init__(
        self,
        data: Data,
        oracle: Callable[[Data], Oracle] = DatasetOracle,
        *,
        initial: Start = "random",
        initial_size: Number = 20,
        val_size: Number = 0,
        batch_size: Count = 64,
        eval_batch_size: Count = 512,
        steps: Count | None = None,
        pool_subset: Count | None = None,
        target: Target = "pool",
        target_size: Count = 200,
        costs: Costs | None = None,
        stop_set_size: Count = 2000,
        num_workers: Number = 0,
        seed: Number = 0,
    ) -> None:
        super().__init__()
        self.data = data
        check_target(target, data)
        self.oracle = oracle(data)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.steps = steps
        self.pool_subset = pool_subset
        self.target = target
        self.target_size = target_size
        self.costs = None if costs is None else costs_of_rows(costs, len(data.train))
        self.stop_set_size = stop_set_size
        self.num_workers = num_workers
        self.seed = seed
        self._member: _Member | None = None
        self._start_at = (0, 0)
        self.pieces = Pieces()  # of batches without gradients, if memory runs out
        rows = len(data.train)
        if val_size >= rows:
            raise ValueError(f"val_size must leave rows to buy: below {rows}, got {val_size}")
        split = torch.randperm(rows, generator=generator_for(seed, "split"))
        held = split[:val_size].sort().values
        self.pool = LabelledPool(rows, held, no_class=data.no_class)
        start = first_rows(initial, initial_size, self.pool, data.train.targets, seed)
        answers = self._ask(torch.cat([start, held]))
        self.pool.label(start, answers[: len(start)], self.oracle.name)
        self._held_labels = answers[len(start) :]

    @property
    def round(self) -> int:
        """Number of purchases made after the start."""
        return self.pool.round

    @property
    def n_labelled(self) -> int:
        """Number of rows that a model trains on now."""
        return self.pool.n_labelled

    @property
    def labels_used(self) -> int:
        """Number of labels paid for, the validation set and rows of no class included."""
        return self.pool.n_labelled + self.pool.n_no_class + len(self.pool.held_out)

    @property
    def cost_used(self) -> float:
        """Cost of the labels paid for, counted as `labels_used` counts them."""
        paid = torch.ones(self.pool.size, dtype=torch.bool)
        paid[self.pool.unlabelled] = False
        return math.fsum(self.costs_of(paid.nonzero().squeeze(1)).tolist())  # in any order alike

    def costs_of(self, indices: Tensor) -> Tensor:
        """Costs of the labels of dataset rows: [n] long -> [n] float64, on the CPU."""
        if self.costs is None:
            return torch.ones(len(indices), dtype=torch.float64)
        return self.costs[indices.cpu()]

    def ask(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Ask the oracle for the labels of rows of the pool.

        Args:
            indices: [n]; dataset rows, in the order of choice.

        Returns:
            [n] long: the labels, `NO_CLASS` where there is none.

        Raises:
            ValueError: if an index is out of range, given twice, labelled or held out: nothing is
                asked then. If an answer is no class.
        """
        return self._ask(self.pool.check(indices))

    def label(
        self, indices: Sequence[int] | Tensor, labels: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        """Move rows from the pool to the labelled set.

        Args:
            indices: [n]; dataset rows, in the order of choice.
            labels: [n]; the oracle's answers; it is asked for them if None.

        Returns:
            [n] long: the labels.

        Raises:
            ValueError: as `ask` does; nothing is changed then.
        """
        given = self.ask(indices) if labels is None else torch.as_tensor(labels)
        self.pool.label(indices, given, self.oracle.name)
        return given

    def deal(self) -> Tensor:
        """Shuffle this round's candidates; `pool_dataloader` and positions follow that order."""
        return self.pool.deal(generator_for(self.seed, "pool", self.round), self.pool_subset)

    def train_dataloader(self) -> DataLoader[Any]:
        """Labelled rows with the oracle's labels, shuffled and augmented."""
        rows = self.pool.n_labelled
        if rows == 0:
            raise ValueError("training needs at least 1 labelled row, got 0; see initial_size")
        part, drawn = self._member.part if self._member else "", torch.arange(rows)
        if self._member and self._member.bootstrap:
            generator = generator_for(self.seed, "batches", self.round, part=f"rows of {part}")
            drawn = torch.randint(rows, (rows,), generator=generator)
        view = View(
            self.data.train,
            self.data.normalise,
            self.pool.labelled[drawn],
            self.pool.labels[drawn],
            self.data.augment,
        )
        start, self._start_at = self._start_at, (0, 0)
        rank, processes = self._ranks
        batches = TrainBatches(
            rows,
            self.batch_size,
            steps=self.steps,
            seed=self.seed,
            round=self.round,
            part=part,
            rank=rank,
            processes=processes,
            start=start,
        )
        return self._loader(view, batches)

    def continue_training(self, epoch: int, batch: int) -> None:
        """Let the next `train_dataloader` begin with a batch in the middle of a training."""
        self._start_at = (epoch, batch)

    @property
    def _ranks(self) -> tuple[int, int]:
        """Number of this process and of all that train together."""
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer else (0, 1)

    @contextmanager
    def as_member(self, part: str, *, bootstrap: bool) -> Iterator[None]:
        """Give `train_dataloader` the batches of an ensemble's member inside the block.

        Args:
            part: names the member; its batches follow from it.
            bootstrap: draw as many labelled rows as there are with replacement, and train on
                those; else on all of them.
        """
        self._member = _Member(part, bootstrap)
        try:
            yield
        finally:
            self._member = None

    def labelled_dataloader(self, part: slice = WHOLE) -> DataLoader[Any]:
        """Labelled rows with their labels, in the order they were bought, not augmented."""
        rows = self._view(self.data.train, self.pool.labelled, self.pool.labels)
        return self._sequential(rows, part)

    def pool_dataloader(self, part: slice = WHOLE) -> DataLoader[Any]:
        """Inputs of the dealt candidates, in their dealt order; no labels, not augmented."""
        return self._sequential(self._view(self.data.train, self.pool.dealt), part)

    def target_dataloader(self, part: slice = WHOLE) -> DataLoader[Any]:
        """Inputs of this round's target set, at most `target_size`; no labels, not augmented.

        Raises:
            ValueError: if there is nothing to draw from.
        """
        rows = target_rows(self.target, self.data, self.pool, self.target_size, self.seed)
        return self._sequential(self._view(*rows), part)

    def stop_dataloader(self) -> DataLoader[Any]:
        """Inputs of the stop set, the same rows of the first round's pool in each; no labels."""
        rows = stop_rows(self.pool, self.stop_set_size, self.seed)
        return self._sequential(self._view(self.data.train, rows))

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Validation rows with the oracle's labels, or nothing if there are none of a class.

        Of processes that work together each gets its share of the rows; so with the test rows.
        """
        judged = (self._held_labels >= 0).nonzero().squeeze(1)
        if not len(judged):
            return []
        own = share_of_rows(judged, *self._ranks)
        held, labels = self.pool.held_out[own], self._held_labels[own]
        return self._sequential(self._view(self.data.train, held, labels))

    def test_dataloader(self) -> DataLoader[Any]:
        """Test rows with the dataset's labels."""
        rows = share_of_rows(torch.arange(len(self.data.test)), *self._ranks)
        return self._sequential(self._view(self.data.test, rows, self.data.test.targets[rows]))

    def test_groups(self) -> Tensor:
        """Groups of the test rows that `test_dataloader` gives, in its order: [rows] long."""
        return share_of_rows(self.data.test_groups.of, *self._ranks)

    def check_shares(self, processes: int) -> None:
        """Raise ValueError if there is too little for so many processes to share."""
        TrainBatches(1, self.batch_size, steps=1, seed=0, round=0, processes=processes)
        share_of_rows(torch.arange(len(self.data.test)), 0, processes)
        judged = self._held_labels[self._held_labels >= 0]
        if len(judged):
            share_of_rows(judged, 0, processes)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the pool in plain lists; the rest follows from the arguments."""
        state = self.pool.state_dict()
        return {**state, "history": [list(purchase) for purchase in state["history"]]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the pool from `state_dict()`."""
        self.pool.load_state_dict(state_dict)

    def _ask(self, indices: Tensor) -> Tensor:
        return ask(self.oracle, indices, len(self.data.classes), least=self.data.least)

    def _view(self, rows: Rows | Tensor, indices: Tensor, labels: Tensor | None = None) -> View:
        return View(rows, self.data.normalise, indices, labels)

    def _sequential(self, view: View, part: slice = WHOLE) -> DataLoader[Any]:
        first, stop, _ = part.indices(len(view))
        size = min(self.eval_batch_size, self.pieces.most)
        starts = range(first, stop, size)
        slices = [slice(start, min(start + size, stop)) for start in starts]
        return self._loader(view, FixedBatches(slices))

    def _loader(self, view: View, batches: FixedBatches) -> DataLoader[Any]:
        return DataLoader(
            view,
            sampler=batches,  # one batch an item: rows are read by the batch
            batch_size=None,
            num_workers=self.num_workers,
            generator=generator_for(self.seed, "batches", self.round),  # not the global one
        )


@dataclass(frozen=True)
class _Member:
    part: str
    bootstrap: bool
