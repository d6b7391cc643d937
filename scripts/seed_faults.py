"""Put known faults into a copy of the project, one at a time, and show which test catches each.

python scripts/seed_faults.py [name ...]   # all of them by default; exits 1 if one is missed

The faults are those that published libraries have shipped. A suite that passes with one of them
is not worth its time.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("dal", "conf", "tests", "train.py", "pyproject.toml", "README.md")


class Fault(NamedTuple):
    """Text to find in a file, what to put there, and the tests that should notice."""

    file: str
    old: str
    new: str
    tests: str


FAULTS = {
    "sign flip in BALD": Fault(
        "dal/strategies/bald.py",
        "return mutual_information(log_probs)",
        "return -mutual_information(log_probs)",
        "tests/functional tests/contracts",
    ),
    "logits averaged, not probabilities": Fault(
        "dal/functional/information.py",
        "return log_probs.logsumexp(-2) - math.log(log_probs.shape[-2])",
        "return log_probs.mean(-2).log_softmax(-1)",
        "tests/functional",
    ),
    "BatchNorm in train mode while scoring": Fault(
        "dal/posteriors/posterior.py",
        "    model.eval()\n",
        "    model.train()\n",
        "tests/shell",
    ),
    "position used as index": Fault(
        "dal/acquisition.py",
        "indices=data.pool.to_index(positions)",
        "indices=positions.cpu()",
        "tests/shell",
    ),
    "global generator used": Fault(
        "dal/strategies/random.py",
        "torch.randperm(n_pool, generator=generator, device=generator.device)",
        "torch.randperm(n_pool, device=generator.device)",
        "tests/contracts",
    ),
    "input edited in place": Fault(
        "dal/functional/gradients.py",
        "error = probs.clone()",
        "error = probs",
        "tests/contracts",
    ),
    "NaN from 0 log 0": Fault(
        "dal/functional/information.py",
        "finite = log_probs.clamp_min(torch.finfo(log_probs.dtype).min)",
        "finite = log_probs",
        "tests/contracts",
    ),
    "duplicates on coinciding points": Fault(
        "dal/functional/geometry.py",
        "distance[position] = -torch.inf",
        "distance[position] = 0",
        "tests/contracts",
    ),
    "pool label leaked to the strategy": Fault(
        "dal/acquisition.py",
        '"labels": data.pool.labels.to(device)',
        '"labels": data.data.train.targets.to(device)',
        "tests/shell",
    ),
    "second fit on one Trainer": Fault(
        "dal/loop.py",
        "            fresh = trainer(\n",
        "            fresh = fresh if number else trainer(\n",
        "tests/shell",
    ),
    "one mask for all samples": Fault(
        "dal/posteriors/masks.py",
        "torch.rand(self.samples, 1, *unit, generator=self.generator)",
        "torch.rand(1, 1, *unit, generator=self.generator).expand(self.samples, 1, *unit)",
        "tests/shell",
    ),
    "pool scored with training augmentation": Fault(
        "dal/data/datamodule.py",
        "_View(self.data, self.pool.dealt)",
        "_View(self.data, self.pool.dealt, None, self.data.augment)",
        "tests/shell",
    ),
}


def main() -> None:
    """Seed the faults named on the command line, or all."""
    names = sys.argv[1:] or list(FAULTS)
    table = Table(box=None, header_style="bold")
    table.add_column("fault")
    table.add_column("caught by", overflow="fold")
    missed = 0
    for name in names:
        caught = _seed(FAULTS[name])
        missed += caught is None
        table.add_row(name, caught or "[red]nothing[/]")
    Console().print(table)
    sys.exit(f"error: {missed} of {len(names)} faults were missed" if missed else 0)


def _seed(fault: Fault) -> str | None:
    """First test that fails with the fault, or None."""
    with tempfile.TemporaryDirectory() as folder:
        for part in COPIED:
            source = ROOT / part
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, Path(folder) / part)
        file = Path(folder) / fault.file
        text = file.read_text()
        if text.count(fault.old) != 1:
            sys.exit(
                f"error: {fault.file} holds {fault.old!r} {text.count(fault.old)} times, not once"
            )
        file.write_text(text.replace(fault.old, fault.new))
        command = [sys.executable, "-m", "pytest", "-x", "-m", "not slow", *fault.tests.split()]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        ended = subprocess.run(  # noqa: S603 - our own tests
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
    if ended.returncode == 0:
        return None
    lines = ended.stdout.splitlines()
    failed = (line.split()[1] for line in lines if line.startswith("FAILED "))
    return next((name.rpartition("/")[2] for name in failed), lines[-1])


if __name__ == "__main__":
    main()
