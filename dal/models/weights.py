"""Which weights a round starts from, given a freshly drawn network and the last round's."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def cold(network: nn.Module, previous: Mapping[str, Tensor]) -> None:
    """Start from the fresh weights, whatever came before: the default of the field."""


def warm(network: nn.Module, previous: Mapping[str, Tensor]) -> None:
    """Continue from the last round's weights and buffers."""
    network.load_state_dict(previous)


def shrink_perturb(
    network: nn.Module, previous: Mapping[str, Tensor], shrink: float = 0.6, noise: float = 0.01
) -> None:
    """Start from shrink · previous + noise · N(0, 1), with the last round's buffers.

    Ash and Adams, On Warm-Starting Neural Network Training, NeurIPS 2020. Draws from torch's
    global generator, which the loop seeds for the weights of this round.

    Args:
        network: changed in place.
        previous: the last round's state.
        shrink: factor on the old weights, in [0, 1].
        noise: standard deviation of what is added.

    Raises:
        ValueError: if a factor is out of range.
    """
    if not 0 <= shrink <= 1 or noise < 0:
        raise ValueError(f"shrink must lie in [0, 1] and noise be >= 0, got {shrink} and {noise}")
    network.load_state_dict(previous)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(shrink).add_(torch.randn_like(parameter), alpha=noise)
