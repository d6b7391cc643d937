"""A pool that also holds items of none of the classes, as one that was gathered by a machine."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dal.data.data import Data, Groups, Normalise, Rows, SelectedRows
from dal.data.scenarios.classes import check_classes
from dal.pool import NO_CLASS
from dal.settings import Count, Number, checked


class JoinedRows:
    """Rows of one dataset after those of another.

    Args:
        first: come first.
        second: come after them.
        targets: [N] long; of all of them.
    """

    def __init__(self, first: Rows, second: Rows, targets: Tensor) -> None:
        self.first = first
        self.second = second
        self.targets = targets
        self.dtype = torch.promote_types(first[[0]].dtype, second[[0]].dtype)

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, indices: Tensor | Sequence[int]) -> Tensor:
        numbers = torch.arange(len(self))[torch.as_tensor(indices)]
        late = numbers >= len(self.first)
        places = (~late).nonzero().squeeze(1), late.nonzero().squeeze(1)
        parts = (
            (self.first, numbers[places[0]]),
            (self.second, numbers[places[1]] - len(self.first)),
        )
        wanted = [(rows, own) for rows, own in parts if len(own) or not len(numbers)]
        read = [rows[own].to(self.dtype) for rows, own in wanted]  # not all can read no rows
        return torch.cat(read)[torch.cat(places).argsort()]


@checked
def out_of_distribution(
    data: Data,
    classes: Sequence[int] = (),
    other: Data | None = None,
    rows: Count | None = None,
    seed: Number = 0,
) -> Data:
    """Let train rows belong to no class: those of some classes, and those of another dataset.

    The classes are classes no more: the others are numbered anew, and the test set has only those.
    The oracle says of such a row that it has no class: it is paid for, and no model is trained
    on it.

    Args:
        data: the dataset.
        classes: numbers of those that are none.
        other: its train rows join the pool, and belong to no class.
        rows: at most so many of them.
        seed: which of them.

    Raises:
        ValueError: if nothing would be of no class, `classes` names what is no class, fewer than
            two are left, or the other inputs are of another shape or scale.
    """
    if classes or other is None:
        check_classes(classes, data.classes)
        data = _without(data, classes)
    if other is None:
        return data
    _check_alike(data, other)
    drawn = torch.randperm(len(other.train), generator=torch.Generator().manual_seed(seed))[:rows]
    joined = SelectedRows(other.train, drawn, torch.full_like(drawn, NO_CLASS))
    targets = torch.cat([data.train.targets, joined.targets])
    return replace(data, train=JoinedRows(data.train, joined, targets), no_class=True)


def _without(data: Data, classes: Sequence[int]) -> Data:
    """Let rows of some classes belong to none."""
    left = [number for number in range(len(data.classes)) if number not in classes]
    renumbered = torch.full((len(data.classes) + 1,), NO_CLASS)  # the last is for NO_CLASS itself
    renumbered[torch.tensor(left, dtype=torch.long)] = torch.arange(len(left))
    every = torch.arange(len(data.train))
    stays = (renumbered[data.test.targets] >= 0).nonzero().squeeze(1)
    groups = data.groups and Groups(data.groups.of[stays], data.groups.names)
    return replace(
        data,
        train=SelectedRows(data.train, every, renumbered[data.train.targets]),
        test=SelectedRows(data.test, stays, renumbered[data.test.targets[stays]]),
        classes=tuple(data.classes[number] for number in left),
        groups=groups,
        no_class=True,
    )


def _check_alike(data: Data, other: Data) -> None:
    """Raise ValueError unless raw inputs of one dataset can stand among those of the other."""
    ours, theirs = (
        (
            list(one.train[[0]].shape[1:]),
            one.normalise.scale if isinstance(one.normalise, Normalise) else None,
        )
        for one in (data, other)
    )
    if ours != theirs:
        raise ValueError(
            f"the other dataset must have inputs of shape {ours[0]} and scale {ours[1]}, got "
            f"{theirs[0]} and {theirs[1]}"
        )
