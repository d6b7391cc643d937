"""How figures look: a colour and a mark per strategy, the same in all of them; axes; files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito
MARKS = ("o", "s", "^", "D", "v", "P")
INK, MUTED, RULE = "#1b1c1d", "#8b8c8d", "#dcddde"
THEMED = {INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)"}  # follow the page
WIDTH = 5.2  # inches; a figure stays readable at the width of a phone
SETTINGS: Any = {  # as matplotlib names them
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # names are not formulas
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "svg.fonttype": "none",
    "pdf.fonttype": 3,  # 42 (TrueType): 36 CPU seconds for 1,000 runs in place of 25
}


@dataclass(frozen=True)
class Look:
    """Which strategies stand out, and how each is drawn.

    Args:
        order: strategies, best first.
        reference: the one that all are compared with; drawn in black.
    """

    order: Sequence[str]
    reference: str = "random"

    @property
    def bright(self) -> list[str]:
        """The strategies drawn in colour, at most six: the best."""
        return [name for name in self.order if name != self.reference][: len(COLOURS)]

    def stands_out(self, strategy: str) -> bool:
        """Say whether a strategy is one of the best, or the reference."""
        return strategy == self.reference or strategy in self.bright

    def colour(self, strategy: str) -> str:
        """Give the colour of a strategy in every figure."""
        if strategy in self.bright:
            return COLOURS[self.bright.index(strategy)]
        return INK if strategy == self.reference else MUTED

    def mark(self, strategy: str) -> str:
        """Give the mark of a strategy in every figure."""
        return MARKS[self.bright.index(strategy)] if strategy in self.bright else "o"


def new_axes(
    height: float = 3.4, *, left: float = 0.6, right: float = 0.2, panels: int = 1, top: float = 0.3
) -> tuple["Figure", list["Axes"]]:
    """Make a figure with panels side by side; measures in inches.

    A layout engine would take longer than the drawing.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    figure = Figure(figsize=(WIDTH, height))
    gap, bottom = 0.12, 0.5
    wide = (WIDTH - left - right - gap * (panels - 1)) / panels
    axes = [
        figure.add_axes(
            (
                (left + (wide + gap) * i) / WIDTH,
                bottom / height,
                wide / WIDTH,
                (height - bottom - top) / height,
            )
        )
        for i in range(panels)
    ]
    return figure, axes


def new_rows(
    names: Sequence[str], look: Look, *, panels: int = 1, right: float = 0.2
) -> tuple["Figure", list["Axes"]]:
    """Make a figure with a row per strategy, the first on top."""
    left = 0.25 + 0.072 * max(map(len, names))
    figure, axes = new_axes(
        0.9 + 0.21 * len(names), left=min(left, 2.2), right=right, panels=panels
    )
    for one in axes:
        one.set_ylim(len(names) - 0.4, -0.6)
        one.grid(axis="y", visible=False)
        one.tick_params(axis="y", length=0)
        one.set_yticks(range(len(names)), [])
    axes[0].set_yticks(range(len(names)), names)
    for label, name in zip(axes[0].get_yticklabels(), names, strict=True):
        label.set_color(INK if look.stands_out(name) else MUTED)
    return figure, axes


def label_ends(axes: "Axes", look: Look, ends: Mapping[str, tuple[float, float]]) -> None:
    """Write the names beside the ends of their lines, none over another.

    Args:
        axes: has its final limits.
        look: of the strategies.
        ends: strategy -> last point of its line, in data units.
    """
    to_points = 72 * axes.bbox.height / axes.figure.dpi
    low, high = axes.get_ylim()
    wanted = sorted((y - low) / (high - low) * to_points for _, y in ends.values())
    names = sorted(ends, key=lambda name: ends[name][1])
    step = 10.5
    places: list[float] = []
    for place in wanted:
        places.append(max(place, places[-1] + step) if places else place)
    over = max(places[-1] - to_points, 0.0) if places else 0.0
    for i in range(len(places) - 1, -1, -1):  # push down what left at the top
        limit = to_points if i == len(places) - 1 else places[i + 1] - step
        places[i] = min(places[i], limit) if over else places[i]
    for name, place in zip(names, places, strict=True):
        axes.annotate(
            name,
            (1.0, place / to_points),
            xycoords="axes fraction",
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=look.colour(name),
            fontweight="bold" if name == look.reference else "normal",
        )
