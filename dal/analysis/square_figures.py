"""Figures of strategies against strategies: penalties, overlaps, and the diagram of ranks."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dal.analysis.look import INK, MUTED, Look, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WRITTEN = 12  # strategies up to which the numbers are written into the cells


def penalties(matrix: pd.DataFrame, means: pd.Series) -> "Figure":
    """Draw how often each row beats each column, and below how often each column is beaten.

    Args:
        matrix: strategies x strategies.
        means: of the columns, in the order to draw, best first.
    """
    names = [*means.index]
    cells = np.vstack([matrix.loc[names, names].to_numpy(dtype=float), means.to_numpy()[None]])
    figure, axes = _square([*names, "mean of column"], names, cells, "{:.2f}")
    axes.axhline(len(names) - 0.5, color=INK, linewidth=1)
    axes.set_xlabel("how often the row beats the column", labelpad=6, loc="left")
    return figure


def overlaps(table: pd.DataFrame, names: Sequence[str]) -> "Figure":
    """Draw the Jaccard overlap of what strategies bought.

    Args:
        table: rows of one setting, see `dal.analysis.purchases.overlap`.
        names: strategies in the order to draw.
    """
    wide = table.pivot_table(index="strategy", columns="other", values="jaccard")
    wide = wide.reindex(index=names, columns=names)
    figure, axes = _square(names, names, wide.to_numpy(dtype=float), "{:.2f}")
    expected = table["expected"].mean()
    said = "" if math.isnan(expected) else f"; {expected:.2g} is what chance gives"
    axes.set_xlabel(f"Jaccard overlap{said}", labelpad=6, loc="left")
    return figure


def critical_differences(
    ranks: pd.Series, difference: float, bars: Sequence[Sequence[str]], look: Look
) -> "Figure":
    """Draw mean ranks over settings; a bar joins strategies that are not told apart.

    Args:
        ranks: mean rank of each strategy, 1 is best.
        difference: the critical difference.
        bars: groups of strategies within it.
        look: of the strategies.
    """
    ranks = ranks.sort_values()
    names, half = [*ranks.index], math.ceil(len(ranks) / 2)
    side = 0.35 + 0.072 * max(map(len, names)) + 0.35
    height = 1.1 + 0.1 * len(bars) + 0.19 * half
    figure, (axes,) = new_axes(height, left=side, right=side, top=0.5)
    axes.set_position((side / 5.2, 0.02, 1 - 2 * side / 5.2, 1 - 0.6 / height))
    axes.set_xlim(1, max(len(names), 2))
    rows = 1.2 + 0.55 * len(bars) + half
    axes.set_ylim(rows, 0)
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.spines["top"].set_visible(True)
    axes.xaxis.tick_top()
    axes.set_yticks([])
    axes.set_xticks(range(1, len(names) + 1, math.ceil(len(names) / 12)))
    for number, group in enumerate(bars):
        y = 0.5 + 0.55 * number
        low, high = ranks[list(group)].min(), ranks[list(group)].max()
        axes.plot([low - 0.04, high + 0.04], [y, y], color=INK, linewidth=3, clip_on=False)
    for place, name in enumerate(names):
        left = place < half
        y = 0.9 + 0.55 * len(bars) + (place if left else len(names) - 1 - place)
        _flag(axes, name, ranks[name], y, look, left=left)
    axes.annotate(
        f"critical difference {difference:.2f}",
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 24),
        textcoords="offset points",
        color=MUTED,
    )
    return figure


def _flag(axes: "Axes", name: str, rank: float, y: float, look: Look, *, left: bool) -> None:
    end = axes.get_xlim()[0 if left else 1]
    axes.plot([rank, rank, end], [0, y, y], color=look.colour(name), linewidth=1, clip_on=False)
    axes.annotate(
        f"{name} {rank:.2f}" if left else f"{rank:.2f} {name}",
        (end, y),
        xytext=(-4 if left else 4, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="center",
        color=look.colour(name),
        annotation_clip=False,
    )


def _square(
    rows: Sequence[str], columns: Sequence[str], cells: np.ndarray, form: str
) -> tuple["Figure", "Axes"]:
    side = 0.25 + 0.068 * max(map(len, rows))
    wide = 5.2 - side - 0.5  # the last column's name leans out
    cell = min(wide / len(columns), 0.42)
    head = 0.25 + 0.055 * max(map(len, columns))
    height = head + cell * len(rows) + 0.4
    figure, (axes,) = new_axes(height, left=side, right=0.1)
    axes.set_position(
        (side / 5.2, 0.35 / height, cell * len(columns) / 5.2, cell * len(rows) / height)
    )
    top = np.nanmax(cells) if np.isfinite(cells).any() else 1.0
    axes.imshow(cells, cmap="Blues", vmin=0, vmax=top or 1.0, aspect="auto")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    size = min(9.0, 58 * cell)
    turn, side_of = (45, "left") if len(columns) <= WRITTEN else (90, "center")
    axes.set_yticks(range(len(rows)), rows, fontsize=size)
    axes.set_xticks(range(len(columns)), columns, rotation=turn, ha=side_of, fontsize=size)
    if len(columns) <= WRITTEN:
        for (i, j), value in np.ndenumerate(cells):
            if not math.isnan(value):
                colour = "#ffffff" if value > 0.55 * top else "#1c1d1e"  # on a cell, not the page
                axes.text(
                    j,
                    i,
                    form.format(value),
                    ha="center",
                    va="center",
                    color=colour,
                    fontsize=min(8, 22 * cell),
                )
    return figure, axes
