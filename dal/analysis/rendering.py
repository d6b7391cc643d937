"""Turn figures into files, several at a time where there are many."""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING

from dal.analysis.look import SETTINGS, THEMED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("svg", "png", "pdf")
FEW = 20  # figures for which more processes take longer to start than they save


@dataclass(frozen=True)
class Drawing:
    """A figure to come.

    Args:
        folder: of its files; empty for those over all settings.
        name: of its files.
        title: above it.
        note: below it: what is drawn, and how.
        draw: makes it; can be handed to another process.
    """

    folder: str
    name: str
    title: str
    note: str
    draw: Callable[[], "Figure"]


def render_all(drawings: Sequence[Drawing]) -> Iterator[dict[str, bytes]]:
    """Give the files of each figure by their kind, in order.

    The colours of an SVG follow the page that it is put into.
    """
    workers = min(os.cpu_count() or 1, len(drawings) // FEW + 1)
    if workers == 1:
        yield from map(render, drawings)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(render, drawings, chunksize=4)


def render(drawing: Drawing) -> dict[str, bytes]:
    """Draw a figure and give its files by their kind."""
    from matplotlib import rc_context

    with rc_context(SETTINGS), rc_context({"svg.hashsalt": f"{drawing.folder}/{drawing.name}"}):
        figure = drawing.draw()
        return {kind: _content(figure, kind) for kind in KINDS}


def _content(figure: "Figure", kind: str) -> bytes:
    content = io.BytesIO()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    figure.savefig(content, format=kind, dpi=150, transparent=kind == "svg", metadata=undated)
    if kind != "svg":
        return content.getvalue()
    text = content.getvalue().decode()
    text = text[text.index("<svg") :]
    for colour, variable in THEMED.items():
        text = text.replace(colour, variable)
    return text.encode()
