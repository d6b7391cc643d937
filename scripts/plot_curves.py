"""Draw mean and spread over seeds of every strategy found below a folder, and print the table.

python scripts/plot_curves.py runs/default [--out curves.png] [--metric test/accuracy]
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dal.analysis.curves import Point, aubc, curve, plot_curves, read_runs

BUDGETS = 4  # columns of the table, spread evenly over the label axis


def main() -> None:
    """Read the runs, write one picture per data set and model, print one table each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="folder of runs, for instance runs/default")
    parser.add_argument("--out", type=Path, help="picture file; <root>/curves.png by default")
    parser.add_argument("--metric", default="test/accuracy", help="what to draw over the labels")
    options = parser.parse_args()
    try:
        groups = read_runs(options.root)
        settings: dict[str, dict[str, list[Point]]] = {}
        for name, runs in groups.items():
            setting, _, strategy = name.rpartition("/")
            settings.setdefault(setting, {})[strategy] = curve(runs, options.metric)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    out = options.out or options.root / "curves.png"
    console = Console(soft_wrap=True)
    console.width = max(console.width, 100)
    for setting, curves in settings.items():
        ranked = dict(sorted(curves.items(), key=lambda item: -item[1][-1].mean))
        suffix = f"-{setting.replace('/', '-')}" if len(settings) > 1 else ""
        picture = out.with_stem(out.stem + suffix)
        plot_curves(ranked, picture, setting, options.metric)
        console.print(_table(setting, ranked, options.metric))
        console.print(f"picture  {picture}")


def _table(setting: str, curves: dict[str, list[Point]], metric: str) -> Table:
    labels = sorted({point.n_labelled for points in curves.values() for point in points})
    step = max((len(labels) - 1) // (BUDGETS - 1), 1) if len(labels) > 1 else 1
    budgets = sorted({*labels[::-step][:BUDGETS]})
    title = f"{setting or 'runs'}: {metric}, mean ± sd over seeds"
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    table.add_column("strategy", no_wrap=True)
    table.add_column("seeds", justify="right", no_wrap=True)
    for budget in budgets:
        table.add_column(f"{budget} labels", justify="right", no_wrap=True)
    table.add_column("AUBC", justify="right", no_wrap=True)
    for name, points in curves.items():
        known = {point.n_labelled: point for point in points}
        seeds = {point.seeds for point in points}
        count = str(max(seeds)) if len(seeds) == 1 else f"{min(seeds)}-{max(seeds)}"
        cells = [f"{known[b].mean:.3f} ± {known[b].sd:.3f}" if b in known else "" for b in budgets]
        table.add_row(name, count, *cells, f"{aubc(points):.3f}")
    return table


if __name__ == "__main__":
    main()
