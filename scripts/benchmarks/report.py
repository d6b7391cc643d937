"""The table, the file of figures and the picture."""

import json
import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from benchmarks import peers
from benchmarks.floors import Floors
from benchmarks.rows import Row
from rich.table import Table

SIGNS = {"sequential": "≥", "peer": "≥", "floor": "≤", "extra_mb": "≤", "seconds": "≤"}


def machine(device: str) -> str:
    """Name of the processor that did the work."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.processor())}, {os.cpu_count()} cores"


def heading(device: str, threads: int, floors: Floors) -> str:
    """Two lines: the machine, and what it can do at most."""
    used = "" if device == "cuda" else f"; {threads} thread{'s' * (threads > 1)}"
    seconds = "CPU" if device == "cpu" and threads == 1 else "wall"
    read = "copy" if device == "cuda" else "read"
    return (
        f"{machine(device)}{used}; {seconds} seconds; torch {torch.__version__}\n"
        f"at most: {read} {floors.bytes / 1e9:,.1f} GB/s, product {floors.flops / 1e9:,.0f} "
        f"GFLOP/s, log {floors.logs / 1e9:,.2f} and exp {floors.exps / 1e9:,.2f} G/s"
    )


def table(rows: list[Row]) -> Table:
    """A line for each case that has something to be compared with."""
    out = Table(box=None, header_style="bold", pad_edge=False)
    out.add_column("case", max_width=46)
    out.add_column("data")
    for name in ("seconds", "extra MB", "x sequential", "x best peer"):
        out.add_column(name, justify="right", no_wrap=True)
    out.add_column("which", no_wrap=True)
    out.add_column("x floor", justify="right", no_wrap=True)
    out.add_column("exact")
    for row in rows:
        if row.stopped:
            out.add_row(row.title, row.data, row.stopped)
            continue
        exact = f"{_mark(row.agrees)} {row.agreement}" if row.agreement else "-"
        out.add_row(
            row.title,
            row.data,
            _cell(row, "seconds", row.seconds),
            _cell(row, "extra_mb", row.extra_mb),
            _cell(row, "sequential", row.ratios.get("sequential")),
            _cell(row, "peer", row.ratios.get("peer"), more=row.at_least),
            row.best_peer,
            _cell(row, "floor", row.ratios.get("floor")),
            exact,
        )
    return out


def listing(rows: list[Row]) -> Table:
    """A line for each selection: time and memory."""
    title = rows[0].title.partition(", ")[2] if rows else ""
    out = Table(title=f"every selection, {title}", title_justify="left", box=None, pad_edge=False)
    out.add_column("selection")
    for name in ("seconds", "extra MB"):
        out.add_column(name, justify="right")
    for row in sorted(rows, key=lambda row: row.seconds or 0):
        cells = (row.stopped, "") if row.stopped else (_short(row.seconds), _short(row.extra_mb))
        out.add_row(row.name, *cells)
    return out


def summary(rows: list[Row]) -> list[str]:
    """How many goals are met, and which are not."""
    judged = [(row, goal, met) for row in rows for goal, met in row.met.items()]
    wrong = [row for row in rows if row.agrees is False]
    out = [f"{sum(met for *_, met in judged)} of {len(judged)} goals met"] if judged else []
    for row, goal, met in judged:
        if not met:
            value = row.ratios.get(goal, getattr(row, goal, None))
            out.append(
                f"  short: {row.title}, {row.data}: {goal.replace('_', ' ')} "
                f"{_short(value)}, goal {SIGNS[goal]}{row.goals[goal]:g}"
            )
    out += [f"  wrong: {row.title}, {row.data}: {row.agreement}" for row in wrong]
    return out


def write_json(
    path: Path, rows: list[Row], floors: Floors, options: dict[str, Any], seconds: float
) -> None:
    """Everything that was measured."""
    libraries = ("torch", "numpy", "scikit-learn", "scipy")
    record = {
        "machine": machine(options["device"]),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in libraries} | peers.installed(),
        "options": options,
        "floors": asdict(floors),
        "total_seconds": seconds,
        "rows": [asdict(row) for row in rows],
    }
    path.write_text(json.dumps(record, indent=1) + "\n")


def draw(path: Path, rows: list[Row], title: str) -> None:
    """Horizontal bars of the ratios on a logarithmic axis, with the goals as ticks."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    shown = [row for row in rows if row.ratios.keys() & {"sequential", "peer"}][::-1]
    if not shown:
        return
    kinds = {"peer": ("best other library", "tab:orange"), "sequential": ("sequential", "tab:blue")}
    figure, axes = plt.subplots(figsize=(10, 1.6 + 0.42 * len(shown)), layout="constrained")
    paper = {"color": "white", "alpha": 0.8, "pad": 0.5}
    for shift, (kind, (label, colour)) in zip((-0.2, 0.2), kinds.items(), strict=True):
        having = [(place, row) for place, row in enumerate(shown) if kind in row.ratios]
        places = [place + shift for place, _ in having]
        widths = [row.ratios[kind] for _, row in having]
        axes.barh(places, [width - 1 for width in widths], 0.38, 1, color=colour, label=label)
        for place, (_, row) in zip(places, having, strict=True):
            value = row.ratios[kind]
            bound = "> " if kind == "peer" and row.at_least else ""
            axes.text(
                max(value, 1) * 1.06, place, f"{bound}{_short(value)}",
                va="center", fontsize=7, bbox=paper,
            )  # fmt: skip
            if kind in row.goals:
                axes.plot([row.goals[kind]] * 2, [place - 0.19, place + 0.19], color="black", lw=2)
    axes.plot([], [], color="black", lw=2, label="goal")
    axes.axvline(1, color="grey", lw=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_yticks(range(len(shown)), [f"{row.title}\n{row.data}" for row in shown], fontsize=7)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.margins(x=0.15)
    axes.set_xlabel("times faster")
    axes.set_title(title, fontsize=9, loc="left")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _cell(row: Row, kind: str, value: float | None, *, more: bool = False) -> str:
    """A figure and, where there is a goal, the goal and whether it is met."""
    if value is None:
        return "-"
    text = f"{'> ' if more else ''}{_short(value)}"
    if kind not in row.goals:
        return text
    return f"{text} {SIGNS[kind]}{row.goals[kind]:g} {_mark(row.met.get(kind))}"


def _mark(met: bool | None) -> str:  # noqa: FBT001
    return {True: "[green]✓[/]", False: "[red]✗[/]", None: ""}[met]


def _short(value: float | None) -> str:
    """Three digits, never in powers of ten."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.001 else f"{value:.1g}"
