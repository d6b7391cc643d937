"""The data module that splits a dataset into labelled rows, pool, validation and test set."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from dal.data.data import Data, Rows
from dal.data.view import View
from dal.functional.checks import check_count
from dal.oracles.dataset import DatasetOracle, Oracle
from dal.pool import LabelledPool
from dal.seeding import generator_for

Target = Literal["pool", "test", "given"]
Start = Literal["random", "balanced"] | Sequence[int]
WHOLE = slice(None)


class ActiveDataModule(pl.LightningDataModule):
    """Train, pool, labelled, validation and test loaders over one `LabelledPool`.

    Batches are float network inputs. Only the train view is augmented; the pool view carries no
    labels at all. Training labels are those the oracle gave.

    Args:
        data: the dataset.
        oracle: makes the source of labels from the dataset.
        initial: how the first labels are chosen: at random, balanced over the classes, or these
            dataset indices.
        initial_size: how many of them; not used where indices are given.
        val_size: rows held out at random for validation before the first round. They are labelled
            too: `labels_used` counts them.
        batch_size: rows of a training batch.
        eval_batch_size: rows of a batch without gradients.
        steps: batches per epoch, drawn with replacement from the labelled rows, so that a round
            trains as long however many there are. None: an epoch is one shuffled pass.
        pool_subset: deal only this many random candidates each round.
        target: where strategies that aim at predictions on a target set (EPIG) take its inputs:
            at random from the pool as it is in that round, from the test inputs (never their
            labels), or those that come with the dataset.
        target_size: at most so many of them, drawn anew each round.
        num_workers: loader processes, for datasets that are decoded when read.
        seed: the splits, the start and all batches follow from it.

    Raises:
        ValueError: if a size is negative or larger than the dataset, naming it.
    """

    def __init__(
        self,
        data: Data,
        oracle: Callable[[Data], Oracle] = DatasetOracle,
        *,
        initial: Start = "random",
        initial_size: int = 20,
        val_size: int = 0,
        batch_size: int = 64,
        eval_batch_size: int = 512,
        steps: int | None = None,
        pool_subset: int | None = None,
        target: Target = "pool",
        target_size: int = 200,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("steps", 1 if steps is None else steps, 1),
            ("pool_subset", 1 if pool_subset is None else pool_subset, 1),
            ("initial_size", initial_size, 0),
            ("val_size", val_size, 0),
            ("target_size", target_size, 1),
            ("num_workers", num_workers, 0),
            ("seed", seed, 0),
        ):
            check_count(name, value, least)
        self.data = data
        if target not in ("pool", "test", "given"):
            raise ValueError(f"target must be pool, test or given, got {target!r}")
        if target == "given" and (data.target is None or not len(data.target)):
            raise ValueError(
                "target=given needs a dataset that brings target inputs and this one has none; "
                "use dataset=tensors with target_inputs in the file, or target=pool"
            )
        self.oracle = oracle(data)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.steps = steps
        self.pool_subset = pool_subset
        self.target = target
        self.target_size = target_size
        self.num_workers = num_workers
        self.seed = seed
        self._member: _Member | None = None
        rows = len(data.train)
        if val_size >= rows:
            raise ValueError(f"val_size must leave rows to buy: below {rows}, got {val_size}")
        split = torch.randperm(rows, generator=generator_for(seed, "split"))
        self.pool = LabelledPool(rows, held_out=split[:val_size].sort().values)
        start = self._start(initial, initial_size)
        self.pool.label(start, self._ask(start), self.oracle.name)

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
        """Number of labels paid for, the validation set included."""
        return self.pool.n_labelled + len(self.pool.held_out)

    def label(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Ask the oracle for labels and move the rows from the pool to the labelled set.

        Args:
            indices: [n]; dataset rows, in the order of choice.

        Returns:
            [n] long: the labels.

        Raises:
            ValueError: if an index is out of range, given twice, labelled or held out: nothing is
                asked then. If an answer is no class: nothing is changed then either.
        """
        self.pool.check(indices)
        labels = self._ask(torch.as_tensor(indices, dtype=torch.long))
        self.pool.label(indices, labels, self.oracle.name)
        return labels

    def deal(self) -> Tensor:
        """Shuffle this round's candidates; `pool_dataloader` and positions follow that order."""
        return self.pool.deal(generator_for(self.seed, "pool", self.round), self.pool_subset)

    def train_dataloader(self) -> DataLoader[Any]:
        """Labelled rows with the oracle's labels, shuffled and augmented."""
        rows = self.pool.n_labelled
        if rows == 0:
            raise ValueError("training needs at least 1 labelled row, got 0; see initial_size")
        part = self._member.part if self._member else ""
        generator = generator_for(self.seed, "batches", self.round, part=part)
        drawn = torch.arange(rows)
        if self._member and self._member.bootstrap:
            drawn = torch.randint(rows, (rows,), generator=generator)
        view = View(
            self.data.train,
            self.data.normalise,
            self.pool.labelled[drawn],
            self.pool.labels[drawn],
            self.data.augment,
        )
        if self.steps is None:
            sampler = RandomSampler(view, generator=generator)
        else:
            draws = self.steps * self.batch_size
            sampler = RandomSampler(view, replacement=True, num_samples=draws, generator=generator)
        batches = BatchSampler(sampler, self.batch_size, drop_last=False)
        return self._loader(view, batches)

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
        inputs: Rows | Tensor = self.data.train
        rows = self.pool.unlabelled
        if self.target == "test":
            inputs, rows = self.data.test, torch.arange(len(self.data.test))
        elif self.target == "given" and self.data.target is not None:
            inputs, rows = self.data.target, torch.arange(len(self.data.target))
        if not len(rows):
            raise ValueError("the target set is empty, as the pool is; use target=test")
        generator = generator_for(self.seed, "target", self.round)
        drawn = rows[torch.randperm(len(rows), generator=generator)[: self.target_size]]
        return self._sequential(self._view(inputs, drawn), part)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Validation rows with the dataset's labels, or nothing if `val_size` is 0."""
        held = self.pool.held_out
        if not len(held):
            return []
        return self._sequential(self._view(self.data.train, held, self.data.train.targets[held]))

    def test_dataloader(self) -> DataLoader[Any]:
        """Test rows with the dataset's labels."""
        rows = torch.arange(len(self.data.test))
        return self._sequential(self._view(self.data.test, rows, self.data.test.targets))

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the pool; the rest follows from the arguments."""
        return self.pool.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the pool from `state_dict()`."""
        self.pool.load_state_dict(state_dict)

    def _ask(self, indices: Tensor) -> Tensor:
        labels, classes = self.oracle(indices), len(self.data.classes)
        wrong = [label for label in labels.tolist() if not 0 <= label < classes]
        if wrong:
            raise ValueError(
                f"the oracle {self.oracle.name} must give labels from 0 to {classes - 1}, "
                f"got {wrong[0]}"
            )
        return labels

    def _start(self, initial: Start, size: int) -> Tensor:
        free = self.pool.unlabelled
        if not isinstance(initial, str):
            return self.pool.check(initial)
        if size > len(free):
            raise ValueError(
                f"initial_size must be at most the {len(free)} rows that may be bought, got {size}"
            )
        generator = generator_for(self.seed, "initial")
        order = free[torch.randperm(len(free), generator=generator)]
        if initial == "random":
            return order[:size]
        if initial != "balanced":
            raise ValueError(
                f"initial must be random, balanced or a list of dataset indices, got {initial!r}"
            )
        targets = self.data.train.targets[order]
        rank = torch.empty_like(order)  # how many rows of its class come before each
        for number in targets.unique():
            members = (targets == number).nonzero().squeeze(1)
            rank[members] = torch.arange(len(members))
        return order[rank.argsort(stable=True)[:size]]

    def _view(self, rows: Rows | Tensor, indices: Tensor, labels: Tensor | None = None) -> View:
        return View(rows, self.data.normalise, indices, labels)

    def _sequential(self, view: View, part: slice = WHOLE) -> DataLoader[Any]:
        first, stop, _ = part.indices(len(view))
        size = self.eval_batch_size
        starts = range(first, stop, size)
        return self._loader(view, [slice(start, min(start + size, stop)) for start in starts])

    def _loader(self, view: View, batches: BatchSampler | list[slice]) -> DataLoader[Any]:
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
