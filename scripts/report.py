"""Say which strategy won and whether the difference is real, from run directories alone.

python scripts/report.py runs/ --out report/
    [--metric test/accuracy] [--reference random] [--targets .9,.95] [--watch [SECONDS]]
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

if TYPE_CHECKING:
    from pandas import DataFrame

SHOWN = 12  # problems on the terminal; all are on the page


def main() -> None:
    """Read the runs and write the report; again whenever one changed, if asked to watch."""
    options = _options()
    console = Console(soft_wrap=True, highlight=False)
    console.width = max(console.width, 120)
    try:
        if options.watch is None:
            _report(options, console)
        else:
            _watch(options, console)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(0 if options.watch is not None else "interrupted")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="all runs, those of an experiment, or one run")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder to write")
    parser.add_argument(
        "--metric", default="test/accuracy", help="what is compared; more is better"
    )
    parser.add_argument("--reference", default="random", help="strategy to compare with")
    parser.add_argument("--targets", type=_targets, help="values of the metric, with commas")
    parser.add_argument(
        "--watch",
        type=_seconds,
        nargs="?",
        const=10.0,
        metavar="SECONDS",
        help="write again when a run changed, until Ctrl-C; looks every 10 seconds if not told",
    )
    return parser.parse_args()


def _targets(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"wanted numbers as .9,.95, got {text!r}")
    return values


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (0 < value < math.inf):
        raise argparse.ArgumentTypeError(f"wanted seconds above 0, got {text!r}")
    return value


def _watch(options: argparse.Namespace, console: Console) -> None:
    """Report whenever a round was added, until Ctrl-C; what cannot be reported yet is said once."""
    from dal.analysis.runs import run_folders

    last, said = None, ""
    while True:
        files = [folder / "rounds.jsonl" for folder in run_folders(options.root)]
        now = {
            file: (file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()
        }
        if now != last:
            last = now
            try:
                _report(options, console)
            except ValueError as error:
                if str(error) != said:
                    console.print(f"waiting: {error}", markup=False)
                said = str(error)
        time.sleep(options.watch)


def _report(options: argparse.Namespace, console: Console) -> None:
    with console.status("loading pandas and scipy"):
        from dal.analysis.report import write_report
        from dal.analysis.runs import read_runs
        from dal.analysis.statistics import SETTING

    columns = TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn()
    still = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=still) as bars:
        reading, drawing = bars.add_task("runs", total=None), bars.add_task("figures", total=None)
        runs = read_runs(
            options.root,
            on_run=lambda done, total: bars.update(reading, completed=done, total=total),
        )
        tables = write_report(
            runs,
            options.out,
            metric=options.metric,
            reference=options.reference,
            targets=options.targets,
            refresh=options.watch,
            on_figure=lambda done, total: bars.update(drawing, completed=done, total=total),
        )
    for names, summary in tables.summary.groupby(SETTING, sort=False):
        console.print(_table("/".join(names), summary, tables.targets[names]))
    for line in tables.problems[:SHOWN]:
        console.print(f"missing  {line}", markup=False)
    if len(tables.problems) > SHOWN:
        console.print(f"missing  {len(tables.problems) - SHOWN} more, see the page")
    console.print(f"runs     {runs.n_finished} of {runs.begun} finished")
    console.print(f"report   {options.out / 'index.html'}", markup=False)


def _table(title: str, summary: "DataFrame", targets: Sequence[float]) -> Table:
    from dal.analysis.page import row_of

    table = Table(title=escape(title), title_justify="left", box=None, header_style="bold")
    rows = [row_of(line, targets[-1:]) for _, line in summary.iterrows()]
    shown = [name for name in rows[0] if name not in ("effect", "at the end")]
    for name in shown:
        table.add_column(name, justify="left" if name == "strategy" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(row[name]) for name in shown))
    return table


if __name__ == "__main__":
    main()
