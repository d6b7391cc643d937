"""Stop when the accuracy on validation rows is reached."""

from collections.abc import Sequence

from dal.settings import Share, checked

ROUNDING = 1e-6  # of accuracies, which are measured in float32: 0.9 is a little less there


@checked
def target_accuracy(*, val_accuracy: Sequence[float], accuracy: Share) -> str | None:
    """Stop in the first round whose model has the accuracy.

    Args:
        val_accuracy: of the rounds so far.
        accuracy: to reach, from 0 to 1.

    Returns:
        Why to stop, or None.

    Raises:
        ValueError: if the accuracy does not lie between 0 and 1.

    >>> target_accuracy(val_accuracy=[0.7, 0.91], accuracy=0.9)
    'val/accuracy 0.91 has reached 0.9'
    """
    if not val_accuracy or val_accuracy[-1] < accuracy - ROUNDING:
        return None
    return f"val/accuracy {val_accuracy[-1]:.4g} has reached {accuracy:g}"
