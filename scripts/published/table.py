"""The claims in order, tried one by one, and their table."""

import csv
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from published import bookkeeping, exactness, learning, low_budget, power, speed
from published.claim import BROKEN, FAILED, Claim, Finding, NotRunError, Options

CPU, CUDA = ("cpu",), ("cuda",)

CLAIMS = [
    Claim(1, "acquisition maths is exact", "errors at most 1e-10 in float64", exactness.exact),
    Claim(2, "bookkeeping is exact", "no violation (two released code bases have some)",
          bookkeeping.kept),
    Claim(3, "few labels: typicality >> random >= k-centre",
          "TypiClust +19/+22/+13/+10 pts at 10/20/50/100 labels", low_budget.typicality_wins),
    Claim(4, "uncertainty beats random on MNIST",
          "to 90 %: margin 100, BALD 100, random 190 labels; +5.0 pts at 200",
          learning.uncertainty_wins),
    Claim(5, "labels to 10 % error (Gal 2017, Table 1)",
          "BALD 145, VR 120, entropy 165, random 255; run again 150, 143, 163, 250",
          learning.dbal_table),
    Claim(6, "BatchBALD above BALD on MNIST (Kirsch 2019)",
          "to 90 %: 60-100 against 110-180 labels; .892 against .857 at 100",
          learning.joint_batches),
    Claim(7, "repeated images: BALD < random < BatchBALD",
          "five-fold at 200 labels: .851 / .904 / .930", learning.repeated_images),
    Claim(8, "PowerBALD about BatchBALD at the cost of top-k", ".2 s against 566 s (10,000 items)",
          speed.stochastic_batches),
    Claim(9, "entropy, BADGE above random on Fashion-MNIST (CDALBench)",
          "at 5,000: +2.1, +2.0, k-centre +1.4 pts", learning.fashion, CUDA),
    Claim(10, "no ranking by 3 seeds, 5 against random",
          "power 79 to 100 % for 2.2 pts at 3 and 5; 13/29/65 % for .5 at 3/5/10",
          power.seeds_decide),
    Claim(12, "low budget on CIFAR-10 features (TypiClust)", "+6.4 pts, all weights trained",
          learning.low_budget_images, CUDA),
    Claim(13, "CIFAR-10 at the low budget (realistic-al)",
          "AUBC random .472, entropy .431, BADGE .473", learning.realistic, CUDA),
    Claim(14, "k-centre at the size of ImageNet", "13 to 17 h on CPUs (1.28M x 512, 50,000 picks)",
          speed.k_center_at_scale),
    Claim(15, "BADGE at the size of ImageNet",
          "5 to 7.5 h on CPUs (1.28M, 1,000 classes, 50,000 picks)", speed.badge_at_scale),
    Claim(16, "BatchBALD's selection",
          "85.7 s with the network's passes, not in ours (60,000 items, 100 samples, b = 10)",
          speed.batch_bald_at_scale, CUDA),
]  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    number: int
    claim: str
    published: str
    ours: str
    verdict: str
    version: str
    seconds: float

    @property
    def bad(self) -> bool:
        """Whether the claim is refuted, or its runs failed."""
        return self.verdict.startswith((FAILED, BROKEN))


COLUMNS = [*Row.__dataclass_fields__]


def attempt(claim: Claim, options: Options) -> Row:
    """Try a claim; whatever hinders it is its verdict."""
    started = time.perf_counter()
    try:
        if options.device not in claim.devices:
            raise NotRunError(f"needs --device {claim.devices[0]}")
        finding = claim.attempt(options)
    except NotRunError as reason:
        finding = Finding("", f"not run: {reason}")
    except Exception as error:  # one claim's, and the others are tried
        finding = Finding("", f"{BROKEN}: {type(error).__name__}: {' '.join(str(error).split())}")
    took = round(time.perf_counter() - started, 1)
    version = f"{options.device}{' quick' * options.quick}"
    said = finding.ours, finding.verdict, version
    return Row(claim.number, claim.claim, claim.published, *said, took)


def write(rows: Sequence[Row], folder: Path) -> None:
    """Write claims.csv and claims.md; rows of other claims and versions stay."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {(row["number"], row["version"]): row for row in _written(folder)}
    kept |= {(str(row.number), row.version): asdict(row) for row in rows}
    every = [kept[key] for key in sorted(kept, key=lambda key: (int(key[0]), key[1]))]
    with (folder / "claims.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, COLUMNS)
        table.writeheader()
        table.writerows(every)
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for row in every:
        cells = [str(row[name]).replace("|", "/") for name in COLUMNS]
        lines.append(f"| {' | '.join(cells)} |")
    (folder / "claims.md").write_text("\n".join(lines) + "\n")


def _written(folder: Path) -> list[dict[str, str]]:
    file = folder / "claims.csv"
    if not file.exists():
        return []
    with file.open(newline="") as stream:
        table = csv.DictReader(stream)
        return [*table] if table.fieldnames == COLUMNS else []
