"""Which weights a round starts from, given a freshly drawn network and the last round's."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dal.settings import NotNegative, Share, checked


def cold(network: nn.Module, previous: Mapping[str, Tensor]) -> None:
    """Start from the fresh weights, whatever came before: the default of the field."""


def warm(network: nn.Module, previous: Mapping[str, Tensor]) -> None:
    """Continue from the last round's weights and buffers.

    Raises:
        ValueError: if they are of another network.
    """
    _load(network, previous)


@checked
def shrink_perturb(
    network: nn.Module,
    previous: Mapping[str, Tensor],
    shrink: Share = 0.6,
    noise: NotNegative = 0.01,
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
        ValueError: if a factor is out of range, or the weights are of another network.
    """
    _load(network, previous)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(shrink).add_(torch.randn_like(parameter), alpha=noise)


def _load(network: nn.Module, previous: Mapping[str, Tensor]) -> None:
    wanted = {name: list(value.shape) for name, value in network.state_dict().items()}
    given = {name: list(value.shape) for name, value in previous.items()}
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            raise ValueError(
                f"the last round's weights are of another network: {name} is "
                f"{given.get(name, 'absent')} there and {wanted.get(name, 'absent')} here; restore "
                f"state/weights-*.pt of the run's folder, or delete the folder to start again"
            )
    network.load_state_dict(previous)
