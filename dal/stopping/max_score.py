"""Stop when no item is worth its label any more, by the strategy's own score."""

import math
from collections.abc import Sequence

from dal.settings import checked


@checked
def max_score(*, scores: Sequence[float | None] | None, threshold: float) -> str | None:
    """Stop when the largest score of a query is below the threshold.

    Source: Zhu and Hovy, EMNLP-CoNLL 2007, as max-confidence, for entropy.

    Args:
        scores: of the items wanted, None for minus infinity; None instead of them in a round in
            which the strategy gives none.
        threshold: in the units of the score.

    Returns:
        Why to stop, or None.

    Raises:
        ValueError: if the threshold is NaN.

    >>> max_score(scores=[0.03, 0.01], threshold=0.05)
    'the largest score of the query, 0.03, is below 0.05'
    """
    if math.isnan(threshold):
        raise ValueError("threshold must be a number, got nan")
    largest = max((-math.inf if score is None else score for score in scores or ()), default=None)
    if largest is None or largest >= threshold:
        return None
    return f"the largest score of the query, {largest:.4g}, is below {threshold:g}"
