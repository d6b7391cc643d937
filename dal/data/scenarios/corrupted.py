"""Test images that are worse than those of the pool: a shift that no label of the pool shows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from dal.data.data import Data, Groups, Normalise, Rows
from dal.data.scenarios.row_noise import row_noise
from dal.settings import Number, Share, checked

Corruption = Literal["noise", "blur", "contrast", "brightness", "pixelation"]
Severity = Literal[1, 2, 3, 4, 5]
CLEAN = "clean"
LOOKED_AT, SLACK = 256, 1e-3  # test images, spread over all; how far outside they may lie

STRENGTHS: Mapping[str, Sequence[float]] = {  # by severity; images lie between 0 and 1
    "noise": (0.08, 0.12, 0.18, 0.26, 0.38),  # standard deviation
    "blur": (0.02, 0.03, 0.045, 0.06, 0.08),  # standard deviation, of the shorter side
    "contrast": (0.5, 0.4, 0.3, 0.2, 0.1),  # share that is left
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),  # that is added
    "pixelation": (0.6, 0.5, 0.4, 0.3, 0.25),  # pixels that are left, to a side
}


class CorruptedRows:
    """Images of another dataset, each with the corruption of its group; labels stay.

    Args:
        rows: the other dataset; images [channels, height, width].
        groups: which corruption each row has.
        severity: 1 to 5.
        scale: the raw value that stands for 1.
        seed: of the noise.
    """

    def __init__(self, rows: Rows, groups: Groups, severity: int, scale: float, seed: int) -> None:
        self.rows = rows
        self.targets = rows.targets
        self.groups = groups
        self.severity = severity
        self.scale = scale
        self.seed = seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: Tensor | Sequence[int]) -> Tensor:
        numbers = torch.arange(len(self))[torch.as_tensor(indices)]
        raw = self.rows[numbers]
        images = raw.float() / self.scale
        for number, name in enumerate(self.groups.names):
            chosen = self.groups.of[numbers] == number
            if name != CLEAN and chosen.any():
                images[chosen] = self._corrupted(name, images[chosen], numbers[chosen])
        images *= self.scale
        return images if raw.is_floating_point() else images.round_().to(raw.dtype)

    def _corrupted(self, name: str, images: Tensor, numbers: Tensor) -> Tensor:
        strength = STRENGTHS[name][self.severity - 1]
        if name == "noise":
            changed = images + strength * row_noise(numbers, images.shape[1:], self.seed)
        else:
            changed = CHANGES[name](images, strength)
        return changed.clamp_(0, 1)


def _blur(images: Tensor, strength: float) -> Tensor:
    from torchvision.transforms.v2.functional import gaussian_blur

    sigma = strength * min(images.shape[-2:])
    reach = min(round(3 * sigma) or 1, min(images.shape[-2:]) - 1)  # what it pads by
    blurred: Tensor = gaussian_blur(images, [2 * reach + 1] * 2, [sigma] * 2)
    return blurred


def _contrast(images: Tensor, strength: float) -> Tensor:
    mean = images.mean(dim=(-2, -1), keepdim=True)
    return (images - mean) * strength + mean


def _brightness(images: Tensor, strength: float) -> Tensor:
    return images + strength


def _pixelation(images: Tensor, strength: float) -> Tensor:
    height, width = images.shape[-2:]
    few = [max(round(strength * side), 1) for side in (height, width)]
    return functional.interpolate(functional.interpolate(images, few, mode="area"), (height, width))


CHANGES: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "blur": _blur,
    "contrast": _contrast,
    "brightness": _brightness,
    "pixelation": _pixelation,
}


@checked
def corrupted(
    data: Data,
    corruptions: Sequence[Corruption] = ("noise", "blur", "contrast", "brightness", "pixelation"),
    severity: Severity = 3,
    share: Share = 1.0,
    seed: Number = 0,
) -> Data:
    """Corrupt test images, each in one way; the pool stays as it is.

    The kinds and the idea of severities are those of Hendrycks and Dietterich, ICLR 2019; the
    strengths are set for small images. The corruptions, and `clean`, become the groups of the
    test set.

    Args:
        data: the dataset; its inputs are images.
        corruptions: as many test images get each.
        severity: 1 to 5.
        share: of the test images that are corrupted.
        seed: which image gets which corruption, and of the noise.

    Raises:
        ValueError: if no corruption is named or one is unknown or named twice, `severity` or
            `share` is out of range, or the inputs are no images between 0 and the scale of a
            `Normalise`.
    """
    unknown = [name for name in corruptions if name not in STRENGTHS]
    if not corruptions or unknown:
        got = ", ".join(unknown) or "none"
        raise ValueError(f"corruptions must be some of {', '.join(STRENGTHS)}, got {got}")
    if severity not in range(1, 6):
        raise ValueError(f"severity must be a whole number from 1 to 5, got {severity!r}")
    if data.test[[0]].dim() != 4 or not isinstance(data.normalise, Normalise):
        raise ValueError(
            f"corruptions need images [channels, height, width] normalised by Normalise, got "
            f"inputs {list(data.test[[0]].shape[1:])} and {type(data.normalise).__name__}"
        )
    rows, kinds = len(data.test), len(corruptions)
    some = data.test[torch.linspace(0, rows - 1, min(rows, LOOKED_AT)).long()].float()
    low, high, scale = float(some.min()), float(some.max()), data.normalise.scale
    if low < -SLACK * scale or high > (1 + SLACK) * scale:
        raise ValueError(
            f"corruptions need images from 0 to {scale:g}, got {low:g} to {high:g}; give bytes, or "
            f"floats from 0 to 1, and leave mean and deviation to the normalisation"
        )
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    of = torch.full((rows,), kinds)  # clean
    hit = order[: round(share * rows)]
    of[hit] = torch.arange(len(hit)) % kinds
    groups = Groups(of, (*corruptions, CLEAN))
    test = CorruptedRows(data.test, groups, severity, data.normalise.scale, seed)
    return replace(data, test=test, groups=groups)
