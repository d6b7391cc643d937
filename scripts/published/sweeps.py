"""Training runs that claims are judged by: the command line's own, kept in the output folder."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
from published.claim import NotRunError, Options

from dal.analysis.runs import Runs, read_runs

ROOT = Path(__file__).resolve().parents[2]


def sweep(options: Options, name: str, *overrides: str) -> Runs:
    """Run what is missing of a sweep by `train.py -m`, and read all of it.

    Raises:
        ValueError: if a job failed, with its last line.
    """
    name += "_cuda" * (options.device == "cuda") + "_quick" * options.quick  # other protocols
    launcher = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={options.jobs}"]
    command = [sys.executable, str(ROOT / "train.py"), "-m", f"name={name}", "logger=none"]
    place = "trainer=gpu" if options.device == "cuda" else "trainer=cpu"
    command += [f"data_dir={options.data.resolve()}", place, *overrides]
    command += launcher if options.jobs > 1 else []
    options.out.mkdir(parents=True, exist_ok=True)
    ended = subprocess.run(  # noqa: S603
        command,
        cwd=options.out,
        env={"OMP_NUM_THREADS": "1", **os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        lines = [line for line in ended.stderr.splitlines() if line.startswith("error")]
        raise ValueError(lines[-1] if lines else ended.stderr.strip()[-300:])
    return read_runs(options.out / "runs" / name)


def finished(options: Options, name: str, *overrides: str) -> pd.DataFrame:
    """Rounds of a sweep's finished runs."""
    return sweep(options, name, *overrides).finished


def need(options: Options, folder: str) -> None:
    """Say that a data set is not there, if so."""
    if not (options.data / folder).is_dir():
        raise NotRunError(f"no {folder} in {options.data}")


def cifar10(options: Options) -> list[str]:
    """Name CIFAR-10 as torchvision's files, or else as a folder of images."""
    if (options.data / "cifar-10-batches-py").is_dir():
        return []
    need(options, "cifar10/train")
    return ["dataset=image_folder", f"data_dir={(options.data / 'cifar10').resolve()}"]
