"""Query by committee, KL to the consensus: the items on which the members' predictions differ."""

from torch import Tensor

from dal.functional.blocks import score_rows
from dal.functional.checks import check_nan, check_samples_shape
from dal.functional.information import mean_log_probs


def qbc_consensus_kl(*, log_probs: Tensor) -> Tensor:
    """Score 1/K Σ_k KL(p_k ‖ p̄), the mean divergence of the members from their mean p̄, in nats.

    Source: McCallum and Nigam, ICML 1998.

    Deviation: they multiply by a density of the documents; this is their disagreement alone. It
    equals `bald` on the same members, written as a divergence and not as a difference of
    entropies; the two differ by rounding.

    Args:
        log_probs: [N, K, C]; K >= 2 members of an ensemble, or posterior samples; -inf allowed.

    Returns:
        [N] in [0, min(ln C, ln K)], higher is more disagreement.

    Raises:
        ValueError: if `log_probs` is not [N, K >= 2, C] or holds NaN. One member is its own
            consensus.

    >>> import torch
    >>> unsure, split = [[0.5, 0.5], [0.5, 0.5]], [[1.0, 0.0], [0.0, 1.0]]
    >>> qbc_consensus_kl(log_probs=torch.tensor([unsure, split]).log())
    tensor([0.0000, 0.6931])
    """
    check_samples_shape(log_probs, "qbc_consensus_kl")
    scores = score_rows(_divergence, log_probs)
    check_nan("log_probs", log_probs, scores)
    return scores


def _divergence(log_probs: Tensor) -> Tensor:
    """[B, K, C] -> [B]."""
    ratio = log_probs - mean_log_probs(log_probs)[:, None]  # [B, K, C]; ln p_kc / p̄_c
    ratio = ratio.masked_fill(log_probs.isneginf(), 0)  # 0 ln 0 = 0, also where p̄_c = 0
    return (log_probs.exp() * ratio).sum(2).mean(1).clamp_min(0)
