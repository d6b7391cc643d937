"""Stop when the models of successive rounds say the same."""

import math
from collections.abc import Sequence

from dal.settings import Count, Share, checked


@checked
def stabilisation(
    *, prediction_agreement: Sequence[float | None], kappa: Share = 0.99, windows: Count = 3
) -> str | None:
    """Stop when the mean of the last agreements is high enough.

    Source: Bloodgood and Vijay-Shanker, CoNLL 2009, whose threshold and windows are the defaults.

    Args:
        prediction_agreement: Cohen's kappa between the classes that each round's model and the one
            before give the stop set, from the second round on; None where it is undefined.
        kappa: mean at which to stop.
        windows: how many of the last agreements it is the mean of.

    Returns:
        Why to stop, or None.

    Raises:
        ValueError: if kappa does not lie between 0 and 1, or windows is below 1.

    >>> stabilisation(prediction_agreement=[0.5, 0.98, 1.0], windows=2)
    'the mean kappa of the last 2 rounds, 0.99, has reached 0.99'
    """
    last = [value for value in prediction_agreement[-windows:] if value is not None]
    if len(last) < windows:
        return None
    mean = math.fsum(last) / windows
    if mean < kappa:
        return None
    return f"the mean kappa of the last {windows} rounds, {mean:.4g}, has reached {kappa:g}"
