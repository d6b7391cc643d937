"""Measure every selection against loops, other libraries and what the machine can do at most.

python scripts/benchmark.py                                 the table of cases, on one CPU thread
python scripts/benchmark.py --cases badge,coreset           some of them
python scripts/benchmark.py --device cuda --size imagenet   1.28 million items, on one GPU

Other libraries take part if they are installed: pip install -e '.[benchmark]'.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from benchmarks.names import check_cases

WIDTH = 150  # of what goes to a file


def main() -> None:
    """Read the options, measure case by case, print and write what came out."""
    options = _options()
    os.environ.update({"OMP_NUM_THREADS": str(options.threads), "TQDM_DISABLE": "1"})
    started = time.perf_counter()
    try:
        check_cases(options.cases)
        from benchmarks import report
        from benchmarks.running import plans, prepare, run
        from rich.console import Console

        options.out.mkdir(parents=True, exist_ok=True)
        floors = prepare(options)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    console = Console()
    console.width = console.width if console.is_terminal else WIDTH
    title = report.heading(options.device, options.threads, floors)
    console.print(title, highlight=False)
    rows, listed = run(plans(options), options, floors)
    if rows:
        console.print(report.table(rows), highlight=False)
    if listed:
        console.print(report.listing(listed), highlight=False)
    console.print("\n".join(report.summary(rows)), highlight=False)
    total = time.perf_counter() - started
    settings = {name: str(value) for name, value in vars(options).items()}
    report.write_json(options.out / "benchmark.json", rows + listed, floors, settings, total)
    report.draw(options.out / "benchmark.png", rows, title)
    console.print(f"figures  {options.out}/benchmark.json\npicture  {options.out}/benchmark.png")
    console.print(f"total    {total / 60:.1f} minutes", highlight=False)
    sys.exit(1 if any(row.agrees is False for row in rows) else 0)


def _options() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument(
        "--cases", type=lambda text: [name.strip() for name in text.split(",")], default=[],
        help="comma-separated: cases with goals, names of strategies, or `selections`",
    )  # fmt: skip
    parser.add_argument("--size", choices=["small", "default", "imagenet"], default="default")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of each call; 1 by default")
    parser.add_argument(
        "--peer-seconds", type=float, default=10, metavar="S",
        help="a library is stopped after S seconds (10), or once a goal is met if that is later",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"), help="runs/benchmark")
    options = parser.parse_args()
    if options.threads < 1:
        parser.error(f"--threads must be at least 1, got {options.threads}")
    if options.size == "imagenet" and options.device == "cpu" and not options.quick:
        parser.error("--size imagenet needs --device cuda; --quick shows its cases on a CPU")
    return options


if __name__ == "__main__":
    main()
