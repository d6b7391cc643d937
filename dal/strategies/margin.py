"""Margin, also called breaking ties: the items between two classes."""

import torch
from torch import Tensor

from dal.functional.blocks import score_rows
from dal.functional.checks import check_nan, check_probs_shape


def margin(*, probs: Tensor) -> Tensor:
    """Score -(p_(1) - p_(2)), the two largest probabilities.

    Source: Scheffer, Decomain and Wrobel, IDA 2001.

    Cost: time O(N C); memory one block of rows.

    Args:
        probs: [N, C]; predictive probabilities.

    Returns:
        [N] in [-1, 0], higher is closer to a tie.

    Raises:
        ValueError: if `probs` is not [N, C >= 2] or holds NaN.

    >>> margin(probs=torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.4, 0.2]]))
    tensor([-0.5000,  0.0000])
    """
    check_probs_shape(probs)
    scores = score_rows(_minus_gap, probs)
    check_nan("probs", probs, scores)
    return scores


def _minus_gap(probs: Tensor) -> Tensor:
    """Second less first of each row, by a tournament of its columns: [B, C] -> [B]."""
    first, second = _play(probs.T, None)
    while len(first) > 1:
        first, second = _play(first, second)
    return (second - first).squeeze(0)


def _play(first: Tensor, second: Tensor | None) -> tuple[Tensor, Tensor]:
    """Let one half meet the other: the two largest of G groups -> those of ⌈G / 2⌉ groups.

    Args:
        first: [G, B]; the largest of each group.
        second: [G, B]; the second of each, None if a group is one number.

    Returns:
        Two [⌈G / 2⌉, B].
    """
    half = len(first) // 2
    left, right, odd = first[:half], first[half : 2 * half], first[2 * half :]
    winner, loser = torch.maximum(left, right), torch.minimum(left, right)
    if second is not None:
        torch.maximum(loser, second[:half], out=loser)
        torch.maximum(loser, second[half : 2 * half], out=loser)
    if not len(odd):
        return winner, loser
    alone = torch.full_like(odd, -torch.inf) if second is None else second[2 * half :]
    return torch.cat([winner, odd]), torch.cat([loser, alone])
