"""EPIG: the items whose label tells most about the predictions on a target set."""

import torch
from torch import Tensor

from dal.functional.blocks import score_rows
from dal.functional.checks import check_samples, check_tensor, check_widths
from dal.functional.information import entropy, mean_log_probs

_ROWS, _COLUMNS = 512, 512  # a tile of 1 MiB in float32


def epig(*, log_probs: Tensor, target_log_probs: Tensor) -> Tensor:
    """Score 1/J Σ_j I(y; y*_j) = H(p̄) + 1/J Σ_j [H(p̄*_j) - H(1/K Σ_k p_k ⊗ p*_jk)], in nats.

    Source: Bickford Smith, Kirsch, Farquhar, Gal, Foster and Rainforth, AISTATS 2023.

    Deviation: none; the expectation over target inputs is the mean over the J given ones.

    Cost: time O(N J K C²); memory one tile of joint probabilities, never N x C x J x C of them,
    and one copy of the target's samples.

    Args:
        log_probs: [N, K, C]; K >= 2 posterior samples, -inf allowed.
        target_log_probs: [J, K, C]; the same K samples on J >= 1 inputs of the kind that the
            model is to do well on: neither labelled nor augmented.

    Returns:
        [N] from 0 to the item's BALD and to the targets' mean BALD, higher is more informative.

    Raises:
        ValueError: if shapes differ from the above, the target set is empty, or a value is NaN.

    The target has one label per sample: an item that tells the samples apart tells that label.

    >>> unsure, split = [[0.5, 0.5], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0]]
    >>> samples = torch.tensor([unsure, split]).log()
    >>> epig(log_probs=samples, target_log_probs=samples[1:])
    tensor([0.0000, 0.6931])
    """
    check_samples(log_probs, "epig")
    check_tensor("target_log_probs", target_log_probs, "J", "K", "C")
    check_widths(log_probs=log_probs, target_log_probs=target_log_probs)
    if not len(target_log_probs):
        raise ValueError("epig needs a target set and must get J >= 1 target items, got J = 0")
    if log_probs.shape[1] != target_log_probs.shape[1]:
        raise ValueError(
            f"log_probs and target_log_probs must come from the same K samples, got "
            f"K = {log_probs.shape[1]} and {target_log_probs.shape[1]}"
        )
    marginal = score_rows(_mean_entropy, log_probs)  # [N]
    target = score_rows(_mean_entropy, target_log_probs).mean()
    return (marginal + target - _joint_entropy(log_probs, target_log_probs)).clamp_min(0)


def _mean_entropy(log_probs: Tensor) -> Tensor:
    return entropy(mean_log_probs(log_probs))  # [B, K, C] -> [B]


def _joint_entropy(log_probs: Tensor, target_log_probs: Tensor) -> Tensor:
    """Mean over the targets of H(y, y*_j), [N]."""
    size, samples, classes = log_probs.shape
    targets = target_log_probs.exp().transpose(0, 1).flatten(1) / samples  # [K, J·C]
    tiny = torch.finfo(targets.dtype).tiny
    total = log_probs.new_zeros(size)
    step = max(1, _ROWS // classes)
    for start in range(0, size, step):
        items = log_probs[start : start + step].exp().transpose(1, 2).flatten(0, 1)  # [n·C, K]
        sums = items.new_zeros(len(items))
        for block in targets.split(_COLUMNS, dim=1):
            joint = items @ block  # [n·C, block]; all pairs (y, y*_j) of one j sum to 1
            sums -= joint.clamp_min(tiny).log_().mul_(joint).sum(1)  # 0 ln 0 = 0
        total[start : start + step] = sums.view(-1, classes).sum(1)
    return total / len(target_log_probs)
