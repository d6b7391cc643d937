"""Measure what it costs that no round is lost.

python scripts/measure_safety.py              the default job, and a pool of 1.28 million rows
python scripts/measure_safety.py -- rounds=3  options after -- go to train.py

First the share of a job's time, without imports, that its files take: lock, configuration,
fingerprint of the data, weights, line, pool and W&B's id. Then what a round pays on a large pool.
"""

import argparse
import os
import runpy
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from kills import running
from rich.console import Console

ROWS, LABELLED, HELD_OUT, QUERY_SIZE, ROUNDS = 1_280_000, 10_000, 50_000, 1_000, 10
N_WEIGHTS = 11_700_000  # as in a ResNet-18
SHARE, MILLISECONDS = 0.05, 20.0  # goals
ROUND, WEIGHTS = f"a round of {QUERY_SIZE:,} without weights", f"its {N_WEIGHTS:,} weights"
DISK = "waiting for the disk, weights included"


def main() -> None:
    """Measure both, print them beside their goals, end with 1 if one is missed."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("job", nargs="*", help="options of train.py")
    options = parser.parse_args()
    running.preload()
    with tempfile.TemporaryDirectory() as folder:
        spent, total = time_of_job(Path(folder) / "run", options.job)
        large = time_on_large_pool(Path(folder) / "large")
    console = Console(highlight=False, soft_wrap=True)
    share = sum(spent.values()) / total
    console.print(f"the job: {sum(spent.values()):.3f} s of {total:.2f} s are {share:.1%}", end=" ")
    console.print(f"(goal: at most {SHARE:.0%})")
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        console.print(f"  {name:<40}{1000 * seconds:8.1f} ms")
    console.print(f"a pool of {ROWS:,} rows, {LABELLED:,} of them labelled, {HELD_OUT:,} held out:")
    for name, seconds in large.items():
        console.print(f"  {name:<40}{1000 * seconds:8.1f} ms")
    console.print(f"  (goal: at most {MILLISECONDS:.0f} ms for {ROUND})")
    sys.exit(0 if share <= SHARE and 1000 * large[ROUND] <= MILLISECONDS else 1)


def time_of_job(folder: Path, job: list[str]) -> tuple[dict[str, float], float]:
    """Run `train.py` in this process; give the seconds in what keeps it safe, and all of them."""
    from dal.callbacks.wandb_log import WandbLog
    from dal.paid_labels import PaidLabels
    from dal.run_directory import RunDirectory

    spent: dict[str, float] = defaultdict(float)
    for owner, names in (
        (RunDirectory, ("resume", "commit", "load_weights")),
        (PaidLabels, ("save", "read")),
        (WandbLog, ("_keep", "_read", "_logged")),
    ):
        for name in names:
            setattr(owner, name, _timed(getattr(owner, name), f"{owner.__name__}.{name}", spent))
    RunDirectory.hold = _timed_lock(RunDirectory.hold, spent)  # type: ignore[method-assign]
    os.environ["WANDB_MODE"] = "offline"
    sys.argv = running.command(folder, ["strategy=bald", *job])[1:]
    started = time.perf_counter()
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        if stop.code:
            raise
    return dict(spent), time.perf_counter() - started


def _timed(function: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[name] += time.perf_counter() - started

    return call


def _timed_lock(hold: Callable[..., Any], spent: dict[str, float]) -> Callable[..., Any]:
    @contextmanager
    def call(directory: Any) -> Any:
        held = hold(directory)
        _timed(held.__enter__, "RunDirectory.hold", spent)()
        try:
            yield
        finally:
            _timed(held.__exit__, "RunDirectory.hold", spent)(*sys.exc_info())

    return call


def time_on_large_pool(folder: Path) -> dict[str, float]:
    """Give the seconds that beginning and rounds take, medians over the rounds."""
    import torch

    from dal import run_directory
    from dal.data.data import Data, TensorRows
    from dal.data.datamodule import ActiveDataModule

    spent: dict[str, float] = defaultdict(float)
    run_directory.save_atomically = _timed(run_directory.save_atomically, WEIGHTS, spent)
    os.fsync = _timed(os.fsync, DISK, spent)
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(1000, (ROWS,), generator=generator)
    rows = TensorRows(torch.rand(ROWS, 4, generator=generator), targets)
    test = TensorRows(rows.inputs[:1000], targets[:1000])
    data = ActiveDataModule(
        Data(rows, test, tuple(map(str, range(1000))), normalise=lambda batch: batch),
        initial_size=LABELLED,
        val_size=HELD_OUT,
    )
    weights = {"weights": torch.rand(N_WEIGHTS, generator=generator)}
    directory, rounds = run_directory.RunDirectory(folder), []
    with directory.hold():
        started = time.perf_counter()
        directory.resume(data, {})
        begin = time.perf_counter() - started
        for number in range(ROUNDS):
            bought = data.pool.unlabelled[:QUERY_SIZE].tolist()
            record = {"round": number, "n_labelled": data.n_labelled, "acquired": bought}
            record["acquired_labels"] = data.ask(bought).tolist()
            record["scores"] = torch.rand(QUERY_SIZE, generator=generator).tolist()
            record["acquisition_seconds"] = 0.0
            data.label(bought, record["acquired_labels"])
            spent.clear()
            started = time.perf_counter()
            directory.paid(number).save(record)
            directory.commit(record, data, weights)
            total = time.perf_counter() - started
            rounds.append({ROUND: total - spent[WEIGHTS], **spent})
    medians = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    return {"beginning, with the data's fingerprint": begin, **medians}


if __name__ == "__main__":
    main()
