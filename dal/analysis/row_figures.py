"""Figures with a row per strategy: areas, differences, accuracy at budgets, labels, time."""

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dal.analysis.look import INK, MUTED, RULE, Look, new_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PARTS = {  # column of a record -> how it is called and drawn
    "train_seconds": ("training", "#0072B2"),
    "acquisition_seconds": ("acquisition", "#E69F00"),
    "test_seconds": ("test", "#8b8c8d"),
}


def areas(summary: pd.DataFrame, per_seed: pd.DataFrame, look: Look) -> "Figure":
    """Draw the area under each curve: every seed, the mean and its 95 % t interval.

    Args:
        summary: rows of one setting, see `dal.analysis.summary.summarise`.
        per_seed: `strategy`, `value` of each seed.
        look: of the strategies.
    """
    from scipy import stats

    summary = summary.dropna(subset=["aubc_mean"])
    names = [*summary["strategy"]]
    figure, (axes,) = new_rows(names, look)
    for row, line in enumerate(summary.itertuples()):
        seeds = per_seed.loc[per_seed["strategy"] == line.strategy, "value"]
        _dots(axes, seeds.to_numpy(), row, look.colour(line.strategy))
        half = math.nan
        if line.n_seeds > 1:
            t = stats.t.ppf(0.975, line.n_seeds - 1)
            half = t * line.aubc_sd / math.sqrt(line.n_seeds)
        mean = line.aubc_mean
        _interval(axes, (mean, mean - half, mean + half), row, line.strategy, look)
    axes.set_xlabel("area under the learning curve")
    return figure


def differences(summary: pd.DataFrame, per_seed: pd.DataFrame, look: Look) -> "Figure":
    """Draw what each strategy gains over the reference at equal seeds, with 95 % t intervals.

    Args:
        summary: rows of one setting, see `dal.analysis.summary.summarise`.
        per_seed: `strategy`, `value`: the difference at each seed.
        look: of the strategies.
    """
    summary = summary[summary["aubc_diff"].notna() & (summary["strategy"] != look.reference)]
    names = [*summary["strategy"]]
    figure, (axes,) = new_rows(names, look, right=0.85)
    axes.axvline(0, color=INK, linewidth=0.8, linestyle=(0, (4, 1.5)))
    for row, line in enumerate(summary.itertuples()):
        seeds = per_seed.loc[per_seed["strategy"] == line.strategy, "value"]
        _dots(axes, seeds.to_numpy(), row, look.colour(line.strategy))
        known = (line.aubc_diff, line.ci_low, line.ci_high)
        _interval(axes, known, row, line.strategy, look)
        axes.annotate(
            show_p(line.p_holm),
            (1.02, row),
            xycoords=("axes fraction", "data"),
            va="center",
            color=INK if line.p_holm < 0.05 else MUTED,
            annotation_clip=False,
        )
    axes.set_xlabel(f"difference from {look.reference} in area under the curve; Holm p")
    return figure


def at_few_budgets(points: pd.DataFrame, look: Look, metric: str) -> "Figure":
    """Draw accuracy at a few budgets, a panel each, with 95 % t intervals.

    Args:
        points: of one setting: `strategy`, `n_labelled`, `mean`, `ci_low`, `ci_high`; in the order
            of the rows.
        look: of the strategies.
        metric: what is drawn.
    """
    names = [*points["strategy"].unique()]
    budgets = sorted(points["n_labelled"].unique())
    figure, panels = new_rows(names, look, panels=len(budgets))
    for axes, budget in zip(panels, budgets, strict=True):
        there = points[points["n_labelled"] == budget].set_index("strategy")
        for row, name in enumerate(names):
            if name in there.index:
                mean, low, high = there.loc[name, ["mean", "ci_low", "ci_high"]]
                _interval(axes, (mean, low, high), row, name, look)
        axes.set_title(f"{budget:,.0f} labels")
        axes.locator_params(axis="x", nbins=2)
    figure.text(0.5, 0.1 / figure.get_figheight(), metric.replace("/", " "), ha="center")
    return figure


def targets(table: pd.DataFrame, look: Look) -> "Figure":
    """Draw labels to each target: median and quartiles over seeds; "never" is a place of its own.

    Args:
        table: rows of one setting, see `dal.analysis.labels_to_target.labels_to_targets`; in the
            order of the rows.
        look: of the strategies.
    """
    names = [*table["strategy"].unique()]
    wanted = sorted(table["target"].unique())
    figure, panels = new_rows(names, look, panels=len(wanted))
    every = [n for seeds in table["per_seed"] for n in seeds.values() if math.isfinite(n)]
    low, high = (min(every), max(every)) if every else (0, 1)
    never = high + max(high - low, 1) * 0.28
    for axes, target in zip(panels, wanted, strict=True):
        for line in table[table["target"] == target].itertuples():
            row = names.index(line.strategy)
            seeds = np.array([*line.per_seed.values()], dtype=float)
            _dots(axes, np.minimum(seeds, never), row, look.colour(line.strategy))
            known = (min(line.median, never), min(line.q25, never), min(line.q75, never))
            _interval(axes, known, row, line.strategy, look)
        axes.axvspan(never - (never - high) / 2, never + (never - high) / 2, color=RULE, alpha=0.5)
        axes.set_xlim(low - (high - low) * 0.08, never + (never - high) / 2)
        axes.set_title(f"{target:g}")
        fitting = [n for n in every if n <= never - 0.3 * (never - low)]
        ticks = sorted({min(fitting), max(fitting)}) if fitting else []
        axes.set_xticks([*ticks, never], [*(f"{tick:,.0f}" for tick in ticks), "never"])
    figure.text(0.5, 0.1 / figure.get_figheight(), "labels to reach the value on top", ha="center")
    return figure


def times(table: pd.DataFrame, look: Look) -> "Figure":
    """Draw the seconds of a round, split into training, acquisition and test.

    Args:
        table: of one setting: `strategy` and the mean of each column of `PARTS`; in the order of
            the rows.
        look: of the strategies.
    """
    names = [*table["strategy"]]
    figure, (axes,) = new_rows(names, look, right=0.5)
    ends = np.zeros(len(names))
    for place, (column, (title, colour)) in enumerate(PARTS.items()):
        if column not in table:
            continue
        seconds = table[column].fillna(0).to_numpy()
        axes.barh(range(len(names)), seconds, left=ends, height=0.62, color=colour)
        axes.text(0.32 * place, 1.02, f"■ {title}", color=colour, transform=axes.transAxes)
        ends = ends + seconds
    for row, end in enumerate(ends):
        axes.annotate(
            f"{end:.3g}", (end, row), xytext=(4, 0), textcoords="offset points", va="center"
        )
    axes.set_xlabel("seconds per round, mean over rounds and seeds")
    axes.margins(x=0)
    return figure


def show_p(value: float) -> str:
    """Write a p-value.

    >>> show_p(0.0312), show_p(0.00001), show_p(float("nan"))
    ('p = 0.031', 'p < 0.001', '')
    """
    if math.isnan(value):
        return ""
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}" if value < 0.995 else "p = 1"


def _dots(axes: "Axes", values: np.ndarray, row: int, colour: str) -> None:
    """Draw every seed, just below where its mean is drawn."""
    axes.plot(
        values, np.full(len(values), row + 0.28), "o", color=colour, markersize=3, alpha=0.5, mew=0
    )


def _interval(
    axes: "Axes", values: tuple[float, float, float], row: int, name: str, look: Look
) -> None:
    """Draw (middle, low, high) of a strategy; an interval that is not known is left out."""
    middle, low, high = values
    colour = look.colour(name)
    axes.plot([low, high], [row, row], color=colour, linewidth=1.6, solid_capstyle="butt")
    axes.plot([middle], [row], marker=look.mark(name), color=colour, markersize=5.5, mew=0)
