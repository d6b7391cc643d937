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
COPIED = ("dal", "conf", "scripts", "tests", "train.py", "pyproject.toml", "README.md")


class Fault(NamedTuple):
    """Text to find in a file, what to put there, and the tests that should notice."""

    file: str
    old: str
    new: str
    tests: str


FAULTS = {
    "sign flip in BALD": Fault(
        "dal/strategies/bald.py",
        "scores = mutual_information(log_probs)",
        "scores = -mutual_information(log_probs)",
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
        "torch.clamp_min(log_probs, torch.finfo(log_probs.dtype).min, out=terms)",
        "terms.copy_(log_probs)",
        "tests/contracts",
    ),
    "duplicates on coinciding points": Fault(
        "dal/functional/k_center.py",
        "values.index_fill_(0, place, -torch.inf)",
        "values.index_fill_(0, place, 0)",
        "tests/contracts",
    ),
    "candidates trusted beyond their bound": Fault(
        "dal/functional/k_center.py",
        "settled = highest[:stop] > bound",
        "settled = highest[:stop] > -1",
        "tests/functional/test_k_center.py",
    ),
    "proposals accepted without a look at the picks": Fault(
        "dal/functional/kmeans_plus_plus.py",
        "fits = threshold < now",
        "fits = (threshold < torch.inf) & (now > 0)",
        "tests/functional/test_kmeans_plus_plus.py",
    ),
    "pool label leaked to the strategy": Fault(
        "dal/acquisition.py",
        '"labels": data.pool.labels.to(device)',
        '"labels": data.data.train.targets.to(device)',
        "tests/shell",
    ),
    "second fit on one Trainer": Fault(
        "dal/round.py",
        "trainings.new_trainer(watch, *ends, *asks, *tests, groups, *others, *checkpoint)",
        "globals().setdefault('_', trainings.new_trainer(watch, *asks, groups))",
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
        "self._view(self.data.train, self.pool.dealt)",
        "View(self.data.train, self.data.normalise, self.pool.dealt, None, self.data.augment)",
        "tests/shell",
    ),
    "gradient length as an L1 norm": Fault(
        "dal/strategies/expected_gradient_length.py",
        "exact = hypothesised_error(probs).square().sum(1, keepdim=True)",
        "exact = hypothesised_error(probs).abs().sum(1, keepdim=True).square()",
        "tests/functional/test_feature_scores.py",
    ),
    "argsort taken for ranks": Fault(
        "dal/strategies/softrank.py",
        "ranks[order] = torch.arange(1, len(scores) + 1, dtype=ranks.dtype, device=scores.device)",
        "ranks[:] = order + 1",
        "tests/functional/test_sampled_selections.py",
    ),
    "target samples paired with other samples": Fault(
        "dal/strategies/epig.py",
        "target_log_probs.exp().transpose(0, 1)",
        "target_log_probs.exp().transpose(0, 1).roll(1, 0)",
        "tests/functional/test_epig.py",
    ),
    "cover that forgets the edges into covered points": Fault(
        "dal/functional/coverage.py",
        "degree -= balls.counts(newly)",
        "degree -= balls.counts(best)",
        "tests/functional/test_typicality.py",
    ),
    "test rows measured by every process": Fault(
        "dal/data/batches.py",
        "return torch.tensor_split(rows, processes)[rank]",
        "return rows",
        "tests/shell/test_batches.py",
    ),
    "random generators forgotten in the middle of a training": Fault(
        "dal/callbacks/training_checkpoint.py",
        'torch.set_rng_state(self.loaded["cpu"][rank].cpu().clone())',
        "rank = rank",
        "tests/shell/test_training_checkpoint.py",
    ),
    "labels that were paid for asked again": Fault(
        "dal/loop.py",
        "record |= paid or self.processes",
        "record |= self.processes",
        "tests/shell/test_paid_labels.py",
    ),
    "a purchase lost between its line and the pool": Fault(
        "dal/run_directory.py",
        "if pool.round == len(bought) - 1:",
        "if pool.round == len(bought) + 1:",
        "tests/shell/test_loop_resume.py",
    ),
    "members that start from equal weights": Fault(
        "dal/round.py",
        'global_seed(data.seed, "weights", data.round, part)',
        'global_seed(data.seed, "weights", data.round)',
        "tests/shell/test_ensemble.py",
    ),
    "a part's places taken for positions": Fault(
        "dal/acquisition_parts.py",
        "            return positions[places]",
        "            return places",
        "tests/shell/test_combining_queries.py",
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
