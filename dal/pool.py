"""Which rows of a dataset are labelled, and the only map from pool positions to dataset indices.

`index` is a row of the dataset, `position` a row of the pool's tensors in the order in which the
pool was dealt this round.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class LabelledPool:
    """The labelled rows of a dataset in the order they were bought, and the pool of the others.

    Args:
        size: rows of the dataset.
        held_out: indices that are neither labelled nor in the pool (a validation set).

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
    """

    def __init__(self, size: int, held_out: Sequence[int] | Tensor = ()) -> None:
        if size < 1:
            raise ValueError(f"a pool needs at least 1 row, got {size}")
        self.size = size
        self._free = torch.ones(size, dtype=torch.bool)
        self.held_out = self.check(held_out)
        self._free[self.held_out] = False
        self._indices: list[int] = []
        self._labels: list[int] = []
        self._rounds: list[int] = []
        self._sources: list[str] = []
        self._round = 0
        self._dealt: Tensor | None = None

    def __repr__(self) -> str:
        return (
            f"LabelledPool({self.n_labelled} labelled, {self.n_unlabelled} in the pool, "
            f"{len(self.held_out)} held out, round {self.round})"
        )

    @property
    def n_labelled(self) -> int:
        """Number of labelled rows."""
        return len(self._indices)

    @property
    def n_unlabelled(self) -> int:
        """Number of rows in the pool."""
        return self.size - len(self._indices) - len(self.held_out)

    @property
    def round(self) -> int:
        """Number of purchases so far, the start set not counted."""
        return max(self._round - 1, 0)

    @property
    def labelled(self) -> Tensor:
        """[M] long: indices of the labelled rows, in the order they were labelled."""
        return torch.tensor(self._indices, dtype=torch.long)

    @property
    def labels(self) -> Tensor:
        """[M] long: their labels, as the oracle gave them."""
        return torch.tensor(self._labels, dtype=torch.long)

    @property
    def rounds(self) -> Tensor:
        """[M] long: the purchase in which each was labelled, 0 for the start set."""
        return torch.tensor(self._rounds, dtype=torch.long)

    @property
    def sources(self) -> tuple[str, ...]:
        """Who gave each label."""
        return tuple(self._sources)

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
        if positions.dim() != 1 or (len(positions) and not _whole(positions)):
            raise ValueError(
                f"positions must be a list of whole numbers, got {positions.dtype} of shape "
                f"{list(positions.shape)}"
            )
        positions, dealt = positions.cpu().long(), self.dealt
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
            labels: [n]; class numbers, at least 0.
            source: who gave the labels.

        Raises:
            ValueError: if an index is out of range, given twice, labelled or held out, or a label
                is missing or negative. Nothing is changed then.
        """
        new = self.check(indices)
        given = torch.as_tensor(labels)
        if given.shape != new.shape:
            raise ValueError(f"each index needs one label: {len(new)} wanted, {len(given)} given")
        if len(given) and (not _whole(given) or given.min() < 0):
            raise ValueError(f"labels must be whole numbers from 0 up, got {given.tolist()[:5]}")
        self._free[new] = False
        self._indices += new.tolist()
        self._labels += given.tolist()
        self._rounds += [self._round] * len(new)
        self._sources += [source] * len(new)
        self._round += 1
        self._dealt = None

    def check(self, indices: Sequence[int] | Tensor) -> Tensor:
        """Return indices as [n] long if all of them are distinct rows of the pool.

        Raises:
            ValueError: if an index is out of range, given twice, labelled or held out.
        """
        checked = torch.as_tensor(indices)
        if checked.dim() != 1:
            raise ValueError(f"indices must be a list, got shape {list(checked.shape)}")
        if not len(checked):
            return torch.empty(0, dtype=torch.long)
        if not _whole(checked):
            raise ValueError(f"indices must be whole numbers, got {checked.dtype}")
        checked = checked.long().cpu()
        bad = checked[(checked < 0) | (checked >= self.size)]
        if len(bad):
            raise ValueError(f"an index must lie between 0 and {self.size - 1}, got {int(bad[0])}")
        unique, counts = checked.unique(return_counts=True)
        if len(unique) != len(checked):
            raise ValueError(f"index {int(unique[counts > 1][0])} is given twice")
        taken = checked[~self._free[checked]]
        if len(taken):
            raise ValueError(f"index {int(taken[0])} is labelled or held out already")
        return checked

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the state, plain enough for JSON."""
        return {
            "size": self.size,
            "held_out": self.held_out.tolist(),
            "purchases": self._round,
            "indices": list(self._indices),
            "labels": list(self._labels),
            "rounds": list(self._rounds),
            "sources": list(self._sources),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the state by that of `state_dict()`.

        Raises:
            ValueError: if the state is of another dataset size or contradicts itself. Nothing is
                changed then.
        """
        wanted = {"size", "held_out", "purchases", "indices", "labels", "rounds", "sources"}
        if set(state) != wanted:
            raise ValueError(f"pool state must have the keys {sorted(wanted)}, got {sorted(state)}")
        if state["size"] != self.size:
            raise ValueError(f"pool state is of {state['size']} rows, the dataset has {self.size}")
        columns = [list(state[key]) for key in ("indices", "labels", "rounds", "sources")]
        if len({len(column) for column in columns}) != 1:
            raise ValueError(
                f"pool state needs one label, round and source per index, "
                f"got {[len(column) for column in columns]}"
            )
        loaded = LabelledPool(self.size, state["held_out"])
        indices, labels, rounds, sources = columns
        loaded.label(indices, labels, source="")
        ordered = rounds == sorted(rounds)
        if not ordered or (rounds and not 0 <= rounds[0] <= rounds[-1] < state["purchases"]):
            raise ValueError(f"pool state has rounds out of order or past {state['purchases']}")
        loaded._rounds, loaded._sources = rounds, sources
        loaded._round = int(state["purchases"])
        self.__dict__ = loaded.__dict__


def _whole(numbers: Tensor) -> bool:
    inexact = numbers.is_floating_point() or numbers.is_complex()
    return not inexact and numbers.dtype != torch.bool
