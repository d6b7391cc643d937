"""Run published claims again and compare: claim, published, ours, verdict.

python scripts/claims.py                         those that fit 2 cores, in under an hour
python scripts/claims.py --claims 1,2,3          some of them
python scripts/claims.py --device cuda           the full protocols, on one GPU

Runs are kept in --out, so that the same command goes on where it was stopped. A verdict is about
direction and ratio, not absolute counts: reproduced (about half of the published effect or more),
direction only, not reproduced, not run and why, or failed and why.
"""

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

DATA = Path(os.environ.get("DAL_DATA_DIR", "data"))


def main() -> None:
    """Try the claims one by one, print and write the table; 1 if one is refuted or failed."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from published.claim import Options
    from published.table import CLAIMS, attempt, write

    chosen = _options([claim.number for claim in CLAIMS])
    options = Options(chosen.device, chosen.quick, chosen.out, chosen.data_dir, chosen.jobs)
    console = Console(highlight=False)
    console.width = max(console.width, 120)
    rows = []
    for claim in CLAIMS:
        if claim.number in chosen.claims:
            with console.status(f"claim {claim.number}: {claim.claim}"):
                rows.append(attempt(claim, options))
            console.print(f"{claim.number:3} {rows[-1].verdict:16} {rows[-1].seconds:7.1f} s")
            write(rows, chosen.out)
    table = Table(box=None, header_style="bold")
    for name in ("#", "claim", "published", "ours", "verdict"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(str(row.number), row.claim, row.published, row.ours, row.verdict)
    console.print(table)
    console.print(f"table  {chosen.out}/claims.csv, claims.md")
    sys.exit(1 if any(row.bad for row in rows) else 0)


def _options(numbers: list[int]) -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)

    def some(text: str) -> list[int]:
        wanted = [int(part) for part in text.split(",")]
        unknown = [number for number in wanted if number not in numbers]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"no claim {unknown[0]}; there are {', '.join(map(str, numbers))}"
            )
        return wanted

    parser.add_argument("--claims", type=some, default=numbers, metavar="1,2,3", help="all")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="smallest versions with a verdict")
    parser.add_argument("--out", type=Path, default=Path("runs/claims"), help="runs/claims")
    parser.add_argument("--data-dir", type=Path, default=DATA, help="data, or $DAL_DATA_DIR")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="one per core")
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {options.jobs}")
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU that torch sees, and there is none")
    return options


if __name__ == "__main__":
    main()
