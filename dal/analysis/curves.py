"""Learning curves: accuracy over labels, of one run or as mean and spread over seeds."""

import json
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from dal.files import replacing

Record = Mapping[str, Any]


class Point(NamedTuple):
    """One budget of a strategy: mean and sample standard deviation over the seeds that have it."""

    n_labelled: int
    mean: float
    sd: float
    seeds: int


def read_runs(root: str | Path) -> dict[str, dict[str, list[Record]]]:
    """Read every `rounds.jsonl` below a folder.

    Returns:
        {setting/strategy: {run: its records}}, where run folders are laid out as
        `<setting>/<strategy>/<run>`; folders without a whole round are left out.

    Raises:
        FileNotFoundError: if there is no run below the folder.
    """
    root = Path(root)
    groups: dict[str, dict[str, list[Record]]] = {}
    for file in sorted(root.rglob("rounds.jsonl")):
        whole = file.read_bytes().split(b"\n")[:-1]
        if whole:
            run = file.parent
            name = run.parent.relative_to(root).as_posix() if run != root else "."
            groups.setdefault(name, {})[run.name] = [json.loads(line) for line in whole]
    if not groups:
        raise FileNotFoundError(f"no finished round (rounds.jsonl) below {root.absolute()}")
    return groups


def curve(runs: Mapping[str, Sequence[Record]], metric: str = "test/accuracy") -> list[Point]:
    """Mean and spread of a metric at every budget that a run reports, ascending.

    Raises:
        ValueError: if no record has the metric.
    """
    values: dict[int, list[float]] = {}
    for records in runs.values():
        for record in records:
            if record.get(metric) is not None:
                values.setdefault(int(record["n_labelled"]), []).append(float(record[metric]))
    if not values:
        raise ValueError(f"no round reports {metric}")
    return [
        Point(n, statistics.fmean(v), statistics.stdev(v) if len(v) > 1 else 0.0, len(v))
        for n, v in sorted(values.items())
    ]


def aubc(points: Sequence[Point]) -> float:
    """Area under the curve over the label axis scaled to [0, 1], by trapezoids.

    >>> aubc([Point(10, 0.5, 0.0, 1), Point(20, 0.75, 0.0, 1), Point(40, 1.0, 0.0, 1)])
    0.7916666666666666
    """
    if len(points) == 1:
        return points[0].mean
    area = sum((b.n_labelled - a.n_labelled) * (a.mean + b.mean) / 2 for a, b in pairwise(points))
    return area / (points[-1].n_labelled - points[0].n_labelled)


def plot_curves(
    curves: Mapping[str, Sequence[Point]],
    file: str | Path,
    title: str = "",
    metric: str = "test/accuracy",
) -> None:
    """Draw curves with a band of one standard deviation into a picture file."""
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    figure = Figure(figsize=(7, 4.5))
    axes = figure.add_axes((0.1, 0.12, 0.87, 0.8))  # a layout engine would take twice the time
    for name, points in curves.items():
        labels = [point.n_labelled for point in points]
        means = [point.mean for point in points]
        (line,) = axes.plot(labels, means, marker="o", markersize=3, label=name)
        if any(point.sd for point in points):
            low = [point.mean - point.sd for point in points]
            high = [point.mean + point.sd for point in points]
            axes.fill_between(labels, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set_xlabel("labelled items")
    axes.set_ylabel(metric.replace("/", " "))
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    file = Path(file)
    with replacing(file) as stream:
        figure.savefig(stream, format=file.suffix.removeprefix(".") or "png", dpi=120)
