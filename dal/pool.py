"""Which rows of a dataset are labelled, and the only map from pool positions to dataset indices.

`index` is a row of the dataset, `position` a row of the pool's tensors in the order in which the
pool was dealt this round.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from dal.functional.checks import whole_numbers

NO_CLASS = -1  # the label of a row that belongs to none of the classes


class Purchase(NamedTuple):
    """One answer of an oracle, as the history keeps it.

    Args:
        kind: labels of rows of the pool, or other labels of rows that were labelled before.
        indices: dataset rows, in the order of choice.
        labels: one class number each.
        source: who gave them.
    """

    kind: Literal["label", "relabel"]
    indices: tuple[int, ...]
    labels: tuple[int, ...]
    source: str


class LabelledPool:
    """The labelled rows of a dataset in the order they were bought, and the pool of the others.

    A row that was found to belong to no class, label `NO_CLASS`, is neither: it was paid for and
    left the pool, but no model is trained on it.

    Args:
        size: rows of the dataset.
        held_out: indices that are neither labelled nor in the pool (a validation set).
        no_class: whether a row may belong to none of the classes.

    Raises:
        ValueError: if an index is out of range or given twice.

    >>> pool = LabelledPool(5, held_out=[4])
    >>> pool.label([2], labels=[7], source="dataset")
    >>> pool.unlabelled
    tensor([0, 1, 3])
    >>> pool.deal(torch.Generator().manual_seed(0))
    tensor([3, 0, 1])
    >>> pool.to_index(torch.tensor([0]))
    tensor([3])
    >>> pool.relabel([2], labels=[6], source="person")
    >>> pool.labels, [purchase.labels for purchase in pool.history]
    (tensor([6]), [(7,), (6,)])
    """

    def __init__(
        self, size: int, held_out: Sequence[int] | Tensor = (), *, no_class: bool = False
    ) -> None:
        if size < 1:
            raise ValueError(f"a pool needs at least 1 row, got {size}")
        self.size = size
        self.least = NO_CLASS if no_class else 0  # of the labels
        self._free = torch.ones(size, dtype=torch.bool)
        self.held_out = self.check(held_out)
        self._free[self.held_out] = False
        self._held = tuple(self.held_out.tolist())
        self._history: list[Purchase] = []
        self._labels: dict[int, int] = {}  # by index; in the order of labelling, kept by relabel
        self._purchases = 0
        self._dealt: Tensor | None = None

    def __repr__(self) -> str:
        return (
            f"LabelledPool({self.n_labelled} labelled, {self.n_unlabelled} in the pool, "
            f"{len(self.held_out)} held out, round {self.round})"
        )

    @property
    def n_labelled(self) -> int:
        """Number of labelled rows."""
        return len(self._labels) - self.n_no_class

    @property
    def n_no_class(self) -> int:
        """Number of rows that were bought and belong to no class."""
        return sum(label == NO_CLASS for label in self._labels.values())

    @property
    def n_unlabelled(self) -> int:
        """Number of rows in the pool."""
        return self.size - len(self._labels) - len(self.held_out)

    @property
    def round(self) -> int:
        """Number of purchases so far, the start set not counted."""
        return max(self._purchases - 1, 0)

    @property
    def labelled(self) -> Tensor:
        """[M] long: indices of the labelled rows, in the order they were labelled."""
        bought = torch.tensor(list(self._labels), dtype=torch.long)
        return bought[self._is_of_a_class]

    @property
    def no_class(self) -> Tensor:
        """Indices of the rows that were bought and belong to no class, [n] long, in that order."""
        bought = torch.tensor(list(self._labels), dtype=torch.long)
        return bought[~self._is_of_a_class]

    @property
    def labels(self) -> Tensor:
        """[M] long: their labels, as they were given last."""
        return self._answers[self._is_of_a_class]

    @property
    def rounds(self) -> Tensor:
        """[M] long: the purchase in which each was labelled, 0 for the start set."""
        sizes = [len(purchase.indices) for purchase in self._history if purchase.kind == "label"]
        every = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes, dtype=torch.long))
        return every[self._is_of_a_class]

    @property
    def sources(self) -> tuple[str, ...]:
        """Who gave each label last."""
        given = {index: bought.source for bought in self._history for index in bought.indices}
        return tuple(source for index, source in given.items() if self._labels[index] >= 0)

    @property
    def _answers(self) -> Tensor:
        return torch.tensor(list(self._labels.values()), dtype=torch.long)

    @property
    def _is_of_a_class(self) -> Tensor:
        return self._answers >= 0

    @property
    def history(self) -> tuple[Purchase, ...]:
        """All that was labelled and relabelled, in order; it only grows."""
        return tuple(self._history)

    @property
    def unlabelled(self) -> Tensor:
        """[N] long: indices of the pool, ascending."""
        return self._free.nonzero().squeeze(1)

    def deal(self, generator: torch.Generator, n: int | None = None) -> Tensor:
        """Shuffle the pool for this round, so that ties never follow the dataset's order.

        Args:
            generator: on the CPU; the only source of randomness.
            n: deal only that many candidates, or all if None or more than there are.

        Returns:
            [N] long: the index at each position, until the next deal or purchase.
        """
        unlabelled = self.unlabelled
        order = torch.randperm(len(unlabelled), generator=generator)[:n]
        self._dealt = unlabelled[order]
        return self._dealt.clone()

    @property
    def dealt(self) -> Tensor:
        """[N] long: the dataset index at each position.

        Raises:
            ValueError: if the pool was not dealt since the last purchase.
        """
        if self._dealt is None:
            raise ValueError("positions have a meaning only after deal(), which was not called")
        return self._dealt

    def to_index(self, positions: Tensor) -> Tensor:
        """Convert [n] pool positions to [n] dataset indices on the CPU.

        Raises:
            ValueError: if the pool was not dealt since the last purchase, or a position is out
                of range (negative ones included).
        """
        positions, dealt = whole_numbers("positions", positions), self.dealt
        bad = positions[(positions < 0) | (positions >= len(dealt))]
        if len(bad):
            raise ValueError(
                f"a position must lie between 0 and {len(dealt) - 1}, got {int(bad[0])}"
            )
        return dealt[positions]

    def label(
        self, indices: Sequence[int] | Tensor, labels: Sequence[int] | Tensor, source: str
    ) -> None:
        """Move rows from the pool to the labelled set, as one purchase; the first is the start.

        Args:
            indices: [n]; dataset rows in the order of choice.
            labels: [n]; class numbers, at least 0, or `NO_CLASS` where that may be.
            source: who gave the labels.

        Raises:
            ValueError: if an index is out of range, given twice, labelled or held out, or a label
                is missing or too low. Nothing is changed then.
        """
        new = self.check(indices)
        given = self._given(labels, new)
        self._free[new] = False
        self._purchases += 1
        self._dealt = None
        self._add("label", new, given, source)

    def relabel(
        self, indices: Sequence[int] | Tensor, labels: Sequence[int] | Tensor, source: str
    ) -> None:
        """Correct labels; the rows keep their place and round, and the history the old labels.

        Args:
            indices: [n]; labelled rows.
            labels: [n]; class numbers, at least 0, or `NO_CLASS` where that may be.
            source: who gave the labels.

        Raises:
            ValueError: if an index is given twice or not labelled, or a label is missing or
                negative. Nothing is changed then.
        """
        rows = self._rows(indices)
        given = self._given(labels, rows)
        for index in rows.tolist():
            if index not in self._labels:
                raise ValueError(f"index {index} is not labelled; label() gives the first label")
        self._add("relabel", rows, given, source)

    def _add(
        self, kind: Literal["label", "relabel"], rows: Tensor, labels: list[int], source: str
    ) -> None:
        purchase = Purchase(kind, tuple(rows.tolist()), tuple(labels), source)
        self._labels.update(zip(purchase.indices, purchase.labels, strict=True))
        self._history.append(purchase)

    def check(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Return indices as [n] long if all of them are distinct rows of the pool.

        Raises:
            ValueError: if an index is out of range, given twice, labelled or held out.
        """
        checked = self._rows(indices)
        taken = checked[~self._free[checked]]
        if len(taken):
            raise ValueError(f"index {int(taken[0])} is labelled or held out already")
        return checked

    def _given(self, labels: Sequence[int] | Tensor, rows: Tensor) -> list[int]:
        """Return labels as a list if there is one for each of [n] rows."""
        given = whole_numbers("labels", labels)
        if len(given) != len(rows):
            raise ValueError(f"each index needs one label: {len(rows)} wanted, {len(given)} given")
        if (given < self.least).any():
            raise ValueError(
                f"labels must be whole numbers from {self.least} up, got {given.tolist()[:5]}"
            )
        listed: list[int] = given.tolist()
        return listed

    def _rows(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Return indices as [n] long if all of them are distinct rows of the dataset."""
        checked = whole_numbers("indices", indices)
        bad = checked[(checked < 0) | (checked >= self.size)]
        if len(bad):
            raise ValueError(f"an index must lie between 0 and {self.size - 1}, got {int(bad[0])}")
        unique, counts = checked.unique(return_counts=True)
        if len(unique) != len(checked):
            raise ValueError(f"index {int(unique[counts > 1][0])} is given twice")
        return checked

    def state_dict(self) -> dict[str, Any]:
        """Return the state, plain enough for JSON; its parts never change, so none is copied."""
        return {"size": self.size, "held_out": self._held, "history": list(self._history)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the state by that of `state_dict()`.

        Raises:
            ValueError: if the state is of another dataset size or contradicts itself. Nothing is
                changed then.
        """
        wanted = {"size", "held_out", "history"}
        if not isinstance(state, Mapping) or set(state) != wanted:
            got = sorted(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
            raise ValueError(f"pool state must have the keys {sorted(wanted)}, got {got}")
        if type(state["size"]) is not int or state["size"] != self.size:
            raise ValueError(f"pool state is of {state['size']} rows, the dataset has {self.size}")
        held_out = _numbers("held_out", state["held_out"])
        loaded = LabelledPool(self.size, held_out, no_class=self.least < 0)
        history = state["history"] if isinstance(state["history"], list | tuple) else [None]
        for purchase in history:
            match purchase:
                case ["label" | "relabel" as kind, indices, labels, str(source)]:
                    add = loaded.label if kind == "label" else loaded.relabel
                    add(_numbers("indices", indices), _numbers("labels", labels), source)
                case _:
                    raise ValueError(
                        "pool state needs a history of [kind, indices, labels, source]"
                    )
        self.__dict__ = loaded.__dict__


def _numbers(name: str, listed: Any) -> list[int]:
    """Return a list as it is if all of it are whole numbers: true is none."""
    if not isinstance(listed, list | tuple) or set(map(type, listed)) - {int}:
        raise ValueError(f"{name} of a pool state must be a list of whole numbers")
    return list(listed)
