"""Learning curves from records: as points, and as a picture."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dal.files import replacing

Record = Mapping[str, Any]


class Point(NamedTuple):
    """One budget of a strategy: mean and sample standard deviation over the seeds that have it.

    Attributes:
        labels: paid for, those of no class included; without validation rows.
    """

    labels: int
    mean: float
    sd: float
    seeds: int


def curve(runs: Mapping[str, Sequence[Record]], metric: str = "test/accuracy") -> list[Point]:
    """Mean and spread of a metric at every budget that a run reports, ascending.

    Raises:
        ValueError: if no record has the metric.
    """
    values: dict[int, list[float]] = {}
    for records in runs.values():
        for record in records:
            if record.get(metric) is not None:
                values.setdefault(paid(record), []).append(float(record[metric]))
    if not values:
        raise ValueError(f"no round reports {metric}")
    return [
        Point(n, statistics.fmean(v), statistics.stdev(v) if len(v) > 1 else 0.0, len(v))
        for n, v in sorted(values.items())
    ]


def paid(record: Record) -> int:
    """Count the labels that a round had, rows that belong to no class included."""
    return int(record["n_labelled"] + record.get("n_no_class", 0))


def plot_curves(
    curves: Mapping[str, Sequence[Point]],
    file: str | Path,
    title: str = "",
    metric: str = "test/accuracy",
) -> None:
    """Draw curves with a band of one standard deviation into a picture file."""
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    figure = Figure(figsize=(7, 4.5))
    axes = figure.add_axes((0.1, 0.12, 0.87, 0.76))  # a layout engine would take twice the time
    for name, points in curves.items():
        labels = [point.labels for point in points]
        means = [point.mean for point in points]
        (line,) = axes.plot(labels, means, marker="o", markersize=3, label=name)
        if any(point.sd for point in points):
            low = [point.mean - point.sd for point in points]
            high = [point.mean + point.sd for point in points]
            axes.fill_between(labels, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set_xlabel("labels")
    axes.set_ylabel(metric.replace("/", " "))
    axes.set_title(title, fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    file = Path(file)
    with replacing(file) as stream:
        figure.savefig(stream, format=file.suffix.removeprefix(".") or "png", dpi=120)
