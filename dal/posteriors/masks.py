"""Dropout masks: one per layer call and posterior sample, the same for every input."""

import math

import torch
from torch import Tensor, nn

Channelwise = nn.Dropout1d | nn.Dropout2d | nn.Dropout3d | nn.FeatureAlphaDropout
Dropout = nn.Dropout | nn.AlphaDropout | Channelwise
_ALPHA = -1.7580993408473766  # what SELU saturates at; alpha dropout drops to it


class Masks:
    """Draws the masks of a layer call when it is first reached and keeps them.

    Args:
        samples: K.
        generator: on the CPU, so that every device gets the same masks.
    """

    def __init__(self, samples: int, generator: torch.Generator) -> None:
        self.samples = samples
        self.generator = generator
        self._kept: dict[tuple[str, int], Tensor] = {}
        self._calls: dict[str, int] = {}

    @property
    def empty(self) -> bool:
        """Whether no mask was drawn yet."""
        return not self._kept

    def start_pass(self) -> None:
        """Begin a forward pass: a layer that is called twice in a pass has two masks."""
        self._calls = {}

    def apply(self, name: str, layer: Dropout, inputs: Tensor, start: int, stop: int) -> Tensor:
        """Drop units of samples start to stop.

        Args:
            name: of the layer.
            layer: the layer itself.
            inputs: [stop - start, B, ...].
            start: first sample.
            stop: one past the last sample.

        Returns:
            [stop - start, B, ...].

        Raises:
            ValueError: if the layer met inputs of another shape before.
        """
        call = self._calls[name] = self._calls.get(name, -1) + 1
        unit = inputs.shape[2:]
        if isinstance(layer, Channelwise):
            unit = torch.Size([unit[0], *[1] * (len(unit) - 1)])
        if (name, call) not in self._kept:
            drawn = torch.rand(self.samples, 1, *unit, generator=self.generator)  # [K, 1, ...]
            self._kept[name, call] = drawn >= layer.p  # before a device that may lack the memory
        kept = self._kept[name, call] = self._kept[name, call].to(inputs.device)
        if kept.shape[2:] != unit:
            raise ValueError(
                f"dropout layer {name} met inputs of shape {list(unit)} after "
                f"{list(kept.shape[2:])}; shared masks need inputs of one size"
            )
        keep = kept[start:stop].to(inputs.dtype)
        probability = 1 - layer.p
        if isinstance(layer, nn.AlphaDropout | nn.FeatureAlphaDropout):
            if probability == 0:
                return torch.zeros_like(inputs)
            scale = 1 / math.sqrt(probability * (1 + (1 - probability) * _ALPHA**2))
            shift = -scale * (1 - probability) * _ALPHA
            return (inputs * keep + _ALPHA * (1 - keep)) * scale + shift
        return inputs * (keep / probability if probability else keep)
