"""BatchBALD: the batch whose labels together say most about the parameters."""

import logging
import math

import torch
from torch import Tensor

from dal.functional.checks import check_count, check_n, check_samples, check_share
from dal.functional.costs import Cost, Sizes, costs
from dal.functional.joint_entropy import greedy_joint_information

_SATURATED = 0.95  # of ln K
_log = logging.getLogger(__name__)


def _cost(s: Sizes, configurations: int) -> Cost:
    picks = min(s.n, s.K)  # by then nothing is left to tell
    evaluated = 0.12 * sum(min(float(s.C) ** pick, configurations) for pick in range(1, picks))
    return Cost(
        products=s.N * s.C * s.K * evaluated,
        elements=s.N * s.C * (evaluated + 3 * s.K),
        steps=100 * s.n,
        numbers=3 * configurations * s.K + 2048 * s.C * s.K + 20 * s.N + 1.5 * 2**20,
    )


@costs(_cost)
def batch_bald(
    *,
    log_probs: Tensor,
    n: int,
    generator: torch.Generator,
    configurations: int = 10_000,
    slack: float = 0.05,
) -> Tensor:
    """Add items greedily by I(y_1, ..., y_n; ω) = H(y_1, ..., y_n) - Σ_i mean_k H(p_k(y_i)).

    Source: Kirsch, van Amersfoort and Gal, NeurIPS 2019.

    The samples must be shared by the whole pool, as those of dal.posteriors are: item i under
    sample k and item j under sample k come from one network. K samples can be told apart by ln K
    nats at most. A batch that holds 95 % of that before its last pick is reported in one line of
    the log "dal.strategies.batch_bald": later picks follow the last few samples, and equal items
    are taken in order. K = 100 serves batches of about 10.

    Deviation: items that an earlier gain rules out are not evaluated again; drawn labels are kept
    from pick to pick, and the labels of one more item added.

    Cost: time O(n N C K configurations) at most, of which bounds save three quarters or more, and
    nearly all once samples are told apart; memory O(configurations K + N) and a block of 2,048
    items.

    Args:
        log_probs: [N, K, C]; K >= 2 posterior samples, -inf allowed.
        n: how many, between 0 and N.
        generator: on the tensors' device; draws labels once they cannot be listed.
        configurations: how many label configurations of the batch are listed, or else drawn
            (configurations // K from each sample, at least one).
        slack: gains estimated from drawn labels are not quite bounds; items whose old gain is at
            least 1 - slack times the best are evaluated again. From 0 to 1 (all of them).

    Returns:
        [n] long positions, in the order of choice.

    Raises:
        ValueError: if `log_probs` is not [N, K >= 2, C] or holds NaN, n is out of range,
            `configurations` is below 1, or `slack` is outside 0 to 1.

    Item 1 repeats item 0, on which the samples split 2 : 2. Item 2 splits them the other way:

    >>> twice = [[1, 0], [1, 0], [0, 1], [0, 1]]
    >>> across = [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9]]
    >>> log_probs = torch.tensor([twice, twice, across]).log()
    >>> batch_bald(log_probs=log_probs, n=2, generator=torch.Generator())
    tensor([0, 2])
    """
    check_samples(log_probs, "batch_bald")
    check_n(n, len(log_probs))
    check_count("configurations", configurations, 1)
    check_share("slack", slack)
    positions, gains = greedy_joint_information(
        log_probs, n, generator, configurations=configurations, slack=slack
    )
    _report_saturation(gains, log_probs.shape[1])
    return positions


def _report_saturation(gains: Tensor, samples: int) -> None:
    """Log one line if the joint information reached its cap before the last pick."""
    full = gains.cumsum(0)[:-1] > _SATURATED * math.log(samples)
    if full.any():
        _log.warning(
            "batch_bald: after pick %d of %d the batch holds over 95 %% of ln K = %.2f nats, all "
            "that K = %d posterior samples can tell, and later picks are near arbitrary; raise "
            "posterior.samples or lower query_size",
            int(full.int().argmax()) + 1,
            len(gains),
            math.log(samples),
            samples,
        )
