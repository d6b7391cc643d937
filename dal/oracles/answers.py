"""What an oracle answers, taken for labels only if it is that."""

import torch
from torch import Tensor

from dal.oracles.dataset import Oracle


def ask(oracle: Oracle, indices: Tensor, classes: int, *, least: int = 0) -> Tensor:
    """Ask an oracle to label dataset rows.

    Args:
        oracle: where labels come from.
        indices: [n] long; dataset rows.
        classes: how many there are.
        least: -1 where a row may belong to no class, of which the answer is -1.

    Returns:
        [n] long; its answers.

    Raises:
        ValueError: unless they are one class number per row, or -1 where that may be.
    """
    labels = oracle(indices)
    whole = isinstance(labels, Tensor) and not (labels.is_floating_point() or labels.is_complex())
    if not whole or labels.dtype == torch.bool:
        got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(
            f"the oracle {oracle.name} must give labels as a tensor of whole numbers, got {got}"
        )
    if labels.shape != indices.shape:
        raise ValueError(
            f"the oracle {oracle.name} must give a label for each of {len(indices)} rows, got "
            f"{list(labels.shape)}"
        )
    labels = labels.long().cpu()
    wrong = labels[(labels < least) | (labels >= classes)]
    if len(wrong):
        raise ValueError(
            f"the oracle {oracle.name} must give labels from {least} to {classes - 1}, got "
            f"{int(wrong[0])}"
        )
    return labels
