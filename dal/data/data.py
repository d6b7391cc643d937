"""What a dataset factory returns: a train and a test set, class names and transforms."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from dal.pool import NO_CLASS

Transform = Callable[[Tensor], Tensor]


class Rows(Protocol):
    """A labelled dataset that can be read by rows.

    `dataset[torch.tensor([3, 1])]` gives a batch of raw inputs [2, ...] (uint8 images or floats),
    without labels; `targets` [N] long holds the labels, for oracles and evaluation.
    """

    targets: Tensor

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Tensor | Sequence[int]) -> Tensor: ...


class TensorRows:
    """Rows held in memory.

    Args:
        inputs: [N, ...]; uint8 images as [N, channels, height, width], or floats.
        targets: [N]; class numbers.

    Raises:
        ValueError: if there is not one whole-number target per input.
    """

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        if inputs.dim() < 2 or inputs.is_complex():
            raise ValueError(
                f"inputs must be real numbers [N, ...], rows of at least one dimension, got "
                f"{inputs.dtype} of shape {list(inputs.shape)}"
            )
        if targets.dim() != 1 or len(inputs) != len(targets):
            raise ValueError(
                f"each input needs one target: got {len(inputs)} inputs and targets of shape "
                f"{list(targets.shape)}"
            )
        self.inputs = inputs
        self.targets = _class_numbers(targets)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, indices: Tensor | Sequence[int]) -> Tensor:
        return self.inputs[torch.as_tensor(indices)]


class ItemRows:
    """Any map-style torch dataset whose items are (input, target).

    Args:
        dataset: its inputs must be tensors of one shape, without augmentation.
        targets: [N]; taken from `dataset.targets` if None, else read item by item, once.
    """

    def __init__(self, dataset: Any, targets: Tensor | None = None) -> None:
        if targets is None:
            known = getattr(dataset, "targets", None)
            targets = torch.as_tensor(
                known
                if known is not None
                else [int(dataset[row][1]) for row in range(len(dataset))]
            )
        self.dataset = dataset
        self.targets = _class_numbers(targets)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, indices: Tensor | Sequence[int]) -> Tensor:
        rows = torch.as_tensor(indices).tolist()
        return torch.stack([self.dataset[row][0] for row in rows])


class SelectedRows:
    """Rows of another dataset, in any order and each as often as wanted; none is copied.

    Args:
        rows: the other dataset.
        sources: [N] long; which of its rows each row is.
        targets: [N] long; their labels, those of the other dataset if None.
    """

    def __init__(self, rows: Rows, sources: Tensor, targets: Tensor | None = None) -> None:
        self.rows = rows
        self.sources = sources
        self.targets = rows.targets[sources] if targets is None else targets

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, indices: Tensor | Sequence[int]) -> Tensor:
        return self.rows[self.sources[torch.as_tensor(indices)]]


@dataclass(frozen=True)
class Groups:
    """Parts of a test set that are judged apart from each other.

    Args:
        of: [test rows] long; the group of each row.
        names: of the groups.

    Raises:
        ValueError: if two have one name or a row is of a group without one.
    """

    of: Tensor
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"groups must have different names, got {', '.join(self.names):.80}")
        if len(self.of) and not 0 <= int(self.of.min()) <= int(self.of.max()) < len(self.names):
            raise ValueError(f"each row must be of one of {len(self.names)} groups")


@dataclass(frozen=True)
class Normalise:
    """Raw inputs to what the network takes: (x / scale - mean) / std per channel, in float32.

    Args:
        scale: the raw value that stands for 1, 255 for uint8 images.
        mean: per channel, after scaling.
        std: per channel, after scaling.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __call__(self, inputs: Tensor) -> Tensor:
        """Normalise a batch [B, channels, ...]."""
        shape = (1, -1) + (1,) * (inputs.dim() - 2)
        mean = torch.tensor(self.mean).mul(self.scale).view(shape)
        std = torch.tensor(self.std).mul(self.scale).view(shape)
        return inputs.float().sub(mean).div_(std)


@dataclass(frozen=True)
class Data:
    """A dataset ready for active learning.

    Args:
        train: the rows that may be bought; pool, labelled set and validation set come from it.
        test: the rows that every round is judged on.
        classes: names of the classes, at least two.
        normalise: raw batch -> network input, for every view.
        augment: one raw image [channels, height, width] -> another; training only.
        target: raw inputs [J, ...] without labels from where the model will be used, for
            strategies that aim at predictions there; None if the dataset has none of its own.
        groups: of the test rows; None for the classes.
        no_class: train rows may belong to none of the classes; their target is `NO_CLASS`.

    Raises:
        ValueError: if there are fewer than two classes or two of one name, no rows, a target
            outside them, test or target inputs of another shape, or not one group per test row.
    """

    train: Rows
    test: Rows
    classes: tuple[str, ...]
    normalise: Transform
    augment: Transform | None = None
    target: Tensor | None = None
    groups: Groups | None = None
    no_class: bool = False

    def __post_init__(self) -> None:
        if not len(self.train) or not len(self.test):
            raise ValueError(
                f"a dataset needs train and test rows, got {len(self.train)} and {len(self.test)}"
            )
        shape = self.train[[0]].shape[1:]
        for name, inputs in (("test", self.test[[0]]), ("target", self.target)):
            if inputs is not None and inputs.shape[1:] != shape:
                raise ValueError(
                    f"{name} inputs must have the shape of the others, {list(shape)}, got "
                    f"{list(inputs.shape[1:])}"
                )
        for name, rows, least in (("train", self.train, self.least), ("test", self.test, 0)):
            bad = rows.targets[(rows.targets < least) | (rows.targets >= len(self.classes))]
            if len(bad):
                raise ValueError(
                    f"{name} target {int(bad[0])} is outside the {len(self.classes)} classes"
                )
        seen = len(self.train.targets[self.train.targets >= 0].unique())
        if len(self.classes) < 2 or seen < 2:
            raise ValueError(f"a dataset needs at least 2 classes to tell apart, got {seen}")
        if len(self.test_groups.of) != len(self.test):
            raise ValueError(
                f"each of {len(self.test)} test rows needs a group, got {len(self.test_groups.of)}"
            )

    @property
    def least(self) -> int:
        """The lowest label that there is: 0, or `NO_CLASS`."""
        return NO_CLASS if self.no_class else 0

    @property
    def test_groups(self) -> Groups:
        """Parts of the test set that are judged apart: those given, or the classes."""
        return self.groups or Groups(self.test.targets, self.classes)

    def name_of(self, label: int) -> str:
        """What a label says: the name of a class, or that it is none."""
        return "no class" if label == NO_CLASS else self.classes[label]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one network input, without the batch."""
        return tuple(self.normalise(self.train[[0]]).shape[1:])

    def thumbnail(self, index: int) -> Tensor | None:
        """Image of a train row as uint8 [channels, height, width], or None if it is no image."""
        raw = self.train[[index]][0]
        if raw.dim() != 3 or raw.shape[0] not in (1, 3):
            return None
        scale = self.normalise.scale if isinstance(self.normalise, Normalise) else 255.0
        return (raw.float() * (255.0 / scale)).clamp(0, 255).to(torch.uint8)


def _class_numbers(targets: Tensor) -> Tensor:
    whole = not targets.is_floating_point() and targets.dtype != torch.bool
    numbers = targets.long()  # torch compares no unsigned numbers of several bytes
    if not whole or (len(numbers) and int(numbers.min()) < 0):
        raise ValueError("targets must be class numbers from 0 up (whole, not negative)")
    return numbers


def stratified_split(targets: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Split rows so that n of them have the class shares of the whole, as nearly as can be.

    Args:
        targets: [N]; class numbers.
        n: size of the second part, between 0 and N.
        generator: on the CPU.

    Returns:
        [N - n] and [n] long indices, each ascending.

    >>> keep, held = stratified_split(torch.tensor([0, 0, 0, 0, 1, 1]), 3, torch.Generator())
    >>> torch.tensor([0, 0, 0, 0, 1, 1])[held].tolist()
    [0, 0, 1]
    """
    if not 0 <= n <= len(targets):
        raise ValueError(f"the split must lie between 0 and {len(targets)} rows, got {n}")
    order = torch.randperm(len(targets), generator=generator)
    order = order[targets[order].argsort(stable=True)]  # by class, random within
    picks = torch.arange(n, dtype=torch.float64).add_(0.5).mul_(len(targets) / max(n, 1)).long()
    held = torch.zeros(len(targets), dtype=torch.bool)
    held[order[picks]] = True
    return (~held).nonzero().squeeze(1), held.nonzero().squeeze(1)


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and population standard deviation per channel of uint8 images, on a scale of 0 to 1.

    Args:
        images: [N, channels, height, width] uint8; counted exactly, without a float copy.

    >>> channel_statistics(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    ((0.5,), (0.5,))
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(1):
        share = torch.bincount(channel.reshape(-1), minlength=256).double() / channel.numel()
        mean = float((share * levels).sum())
        means.append(mean)
        stds.append(float((share * (levels - mean).square()).sum().sqrt()) or 1.0)
    return tuple(means), tuple(stds)
