"""Query by committee, vote entropy: the items on which the members' labels scatter."""

import torch
from torch import Tensor

from dal.functional.blocks import score_rows
from dal.functional.checks import check_samples


def qbc_vote_entropy(*, log_probs: Tensor) -> Tensor:
    """Score -Σ_c (V_c/K) ln(V_c/K), where V_c of the K members predict class c.

    Source: Seung, Opper and Sompolinsky, COLT 1992; Dagan and Engelson, ICML 1995.

    Deviation: Dagan and Engelson divide by ln min(K, C), the same for every item and so without
    effect on the order; here the entropy stays in nats. A member between two classes votes for
    the first of them.

    Args:
        log_probs: [N, K, C]; K >= 2 members of an ensemble, or posterior samples.

    Returns:
        [N] in [0, min(ln C, ln K)], higher is more disagreement.

    Raises:
        ValueError: if `log_probs` is not [N, K >= 2, C] or holds NaN. One member always agrees
            with itself.

    Sure or not, a vote is a vote: two against two is ln 2.

    >>> a, b = [0.9, 0.1], [0.4, 0.6]
    >>> qbc_vote_entropy(log_probs=torch.tensor([[a, a, a, a], [a, a, b, b]]).log())
    tensor([0.0000, 0.6931])
    """
    check_samples(log_probs, "qbc_vote_entropy")
    return score_rows(_vote_entropy, log_probs)


def _vote_entropy(log_probs: Tensor) -> Tensor:
    """[B, K, C] -> [B]."""
    votes = torch.nn.functional.one_hot(log_probs.argmax(2), log_probs.shape[2])  # [B, K, C]
    shares = votes.to(log_probs.dtype).mean(1)  # [B, C]
    scores: Tensor = torch.special.entr(shares).sum(1)
    return scores
