"""Whether the numbers that a round is judged by are numbers."""

import math
from collections.abc import Mapping


def check_metrics(round: int, metrics: Mapping[str, float]) -> None:
    """Raise ValueError if a metric is NaN or infinite.

    Args:
        round: number of the round.
        metrics: by name.
    """
    wrong = {name: value for name, value in metrics.items() if not math.isfinite(value)}
    if wrong:
        told = ", ".join(f"{name} is {value}" for name, value in wrong.items())
        raise ValueError(
            f"round {round}: {told}; a metric must be a finite number: lower optimizer.lr if "
            f"training diverged, check the inputs, or have the module log no such metric"
        )
