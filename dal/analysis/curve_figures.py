"""Figures over the label axis: learning curves, and what strategies bought as they went on."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from dal.analysis.look import MUTED, RULE, Look, label_ends, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABELS = "labelled items"


def learning_curves(
    points: pd.DataFrame,
    unfinished: pd.DataFrame,
    look: Look,
    *,
    metric: str = "test/accuracy",
    log: bool = False,
) -> "Figure":
    """Draw mean curves with 95 % bands over seeds, and unfinished runs as thin dashed lines.

    Args:
        points: of one setting: `strategy`, `n_labelled`, `mean`, `ci_low`, `ci_high`.
        unfinished: rounds of its runs that are not finished: `strategy`, `seed`, `n_labelled`
            and the metric; may be empty.
        look: of the strategies.
        metric: what is drawn.
        log: whether the label axis is logarithmic.
    """
    figure, (axes,) = _line_axes([*points["strategy"], *unfinished["strategy"]], look)
    ends = _lines(axes, points, look, "mean")
    for (name, _), run in unfinished.groupby(["strategy", "seed"]):
        axes.plot(
            run["n_labelled"], run[metric], "--", color=look.colour(name), linewidth=0.7, alpha=0.7
        )
    axes.set_ylabel(metric.replace("/", " "))
    _label_axis(axes, [*points["n_labelled"], *unfinished["n_labelled"]], log=log)
    label_ends(axes, look, ends)
    return figure


def bought_curves(points: pd.DataFrame, look: Look, column: str, title: str) -> "Figure":
    """Draw one of the quantities of `dal.analysis.purchases.purchases` over the labels.

    Args:
        points: of one setting: `strategy`, `n_labelled` and the column.
        look: of the strategies.
        column: what is drawn.
        title: of its axis.
    """
    figure, (axes,) = _line_axes(points["strategy"], look)
    ends = _lines(axes, points.dropna(subset=[column]), look, column)
    axes.set_ylabel(title)
    _label_axis(axes, points["n_labelled"], log=False)
    label_ends(axes, look, ends)
    return figure


def _line_axes(names: Sequence[str] | pd.Series, look: Look) -> tuple["Figure", list["Axes"]]:
    shown = {name for name in names if look.stands_out(name)}
    return new_axes(right=0.25 + 0.073 * max(map(len, [*shown, "others"])))


def _lines(
    axes: "Axes", points: pd.DataFrame, look: Look, column: str
) -> dict[str, tuple[float, float]]:
    """Draw a line per strategy, what stands out last; give the ends of those to be named."""
    ends: dict[str, tuple[float, float]] = {}
    there = dict(tuple(points.groupby("strategy")))
    grey = [name for name in there if not look.stands_out(name)]
    for name in [*grey, *(n for n in reversed(look.order) if n in there and n not in grey)]:
        of_it = there[name].sort_values("n_labelled")
        x, y = of_it["n_labelled"].to_numpy(), of_it[column].to_numpy()
        if name in grey:
            axes.plot(x, y, color=RULE, linewidth=0.9, zorder=1)
            continue
        dash = (0, (4, 1.5)) if name == look.reference else "-"
        mark = look.mark(name)
        colour = look.colour(name)
        axes.plot(x, y, linestyle=dash, color=colour, marker=mark, markersize=3.2, linewidth=1.5)
        if "ci_low" in of_it:
            low, high = of_it["ci_low"].to_numpy(), of_it["ci_high"].to_numpy()
            axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
        ends[name] = (x[-1], y[-1])
    if grey:
        axes.text(
            0.02, 0.98, f"grey: {len(grey)} others", transform=axes.transAxes, color=MUTED, va="top"
        )
    return ends


def _label_axis(axes: "Axes", labels: Sequence[float] | pd.Series, *, log: bool) -> None:
    axes.set_xlabel(LABELS + (" (logarithmic)" if log else ""))
    positive = [label for label in labels if label > 0]
    if not log or not positive:
        return
    low, high = min(positive), max(positive)
    axes.set_xscale("log")
    ticks: list[float] = []
    for tick in (step * 10.0**power for power in range(9) for step in (1, 1.5, 2, 3, 5, 7)):
        apart = not ticks or math.log(tick / ticks[-1]) > 0.13 * math.log(high / low)
        if low <= tick <= high and apart:
            ticks.append(tick)
    axes.set_xticks(ticks or [low], [f"{tick:,.0f}" for tick in ticks or [low]])
    axes.minorticks_off()
