"""Stop when the accuracy on validation rows improves no more."""

from collections.abc import Sequence

from dal.settings import Count, NotNegative, checked
from dal.stopping.target_accuracy import ROUNDING


@checked
def plateau(
    *, val_accuracy: Sequence[float], patience: Count = 3, min_delta: NotNegative = 0.0
) -> str | None:
    """Stop when none of the last rounds was better than the best before them.

    Args:
        val_accuracy: of the rounds so far.
        patience: how many rounds have to improve on those before.
        min_delta: by how much at least; 0: by anything.

    Returns:
        Why to stop, or None.

    Raises:
        ValueError: if patience is below 1, or min_delta below 0.

    >>> plateau(val_accuracy=[0.5, 0.8, 0.79, 0.8], patience=2)
    'val/accuracy 0.8 in the last 2 rounds, 0.8 before them'
    >>> plateau(val_accuracy=[0.5, 0.8, 0.79, 0.81], patience=2)
    """
    before, last = val_accuracy[:-patience], val_accuracy[-patience:]
    if not before:
        return None
    gain = max(last) - max(before)
    if gain > 0 and gain >= min_delta - ROUNDING:
        return None
    return (
        f"val/accuracy {max(last):.4g} in the last {patience} rounds, {max(before):.4g} before them"
    )
