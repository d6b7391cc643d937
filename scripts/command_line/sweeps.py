"""A sweep as a whole: where it is, how many jobs it has, and what became of them."""

import json
import math
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from yaml import YAMLError

from dal.job_note import VARIABLE
from scripts.command_line.composing import CommandLine
from scripts.command_line.shared_directories import Choices, remedy

NOTES = ".sweep"  # beside the runs; whatever reads them passes by folders with a dot
LOCAL = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher"
ENDED = ("ran", "complete", "failed")

Note = dict[str, Any]


class Sweep:
    """What the command that starts the jobs of a sweep knows of them.

    Args:
        line: its arguments; they must compose.
    """

    def __init__(self, line: CommandLine) -> None:
        self.started = time.monotonic()
        self.well = True
        with line.composing():
            config = (
                GlobalHydra.instance()
                .config_loader()
                .load_configuration(
                    line.name,
                    [line.search, *line.overrides],
                    run_mode=RunMode.MULTIRUN,  # what is swept is left out
                    validate_sweep_overrides=False,
                )
            )
            HydraConfig.instance().set_config(config)
            self.directory = Path(config.hydra.sweep.dir)
            choices = _choices(config, line.overrides)
            self.searches = "n_trials" in config.hydra.sweeper
            self.jobs = _number_of_jobs(config, choices)
            self.remedy = "" if self.searches else remedy(line, config, choices)
            self.local = config.hydra.launcher.get("_target_") == LOCAL
        self.folder = self.directory / NOTES / f"{socket.gethostname()}-{os.getpid()}"

    def check_directories(self) -> None:
        """Raise ValueError if two jobs would share a run directory, and say what to add."""
        if self.remedy:
            raise ValueError(self.remedy)

    def ask_for_notes(self) -> None:
        """Let the jobs that are started from now on know where to leave notes."""
        _forget_those_who_died(self.folder.parent)
        sweep = {"folder": str(self.folder.resolve()), "jobs": self.jobs}
        os.environ[VARIABLE] = json.dumps(sweep)
        if self.local:  # all its jobs run at once
            threads = max(1, (os.cpu_count() or 1) // max(self.jobs, 1))
            os.environ.setdefault("OMP_NUM_THREADS", str(threads))

    def close(self) -> None:
        """Say what became of the jobs; their notes go."""
        os.environ.pop(VARIABLE, None)
        notes = self._notes()
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.parent.rmdir()
        if notes:
            self.well = len(_those(notes, "ran", "complete")) >= max(self.jobs, 1)
            self._tell(notes)

    def _notes(self) -> list[Note]:
        notes: dict[int, Note] = {}
        for file in self.folder.glob("*.json"):
            with suppress(OSError, ValueError):
                notes[int(file.stem)] = json.loads(file.read_bytes())
        return [notes[number] for number in sorted(notes)]

    def _tell(self, notes: list[Note]) -> None:
        console = Console(highlight=False, soft_wrap=True)
        counts = {
            "ran": len(_those(notes, "ran")),
            "already complete": len(_those(notes, "complete")),
            "failed": len(_those(notes, "failed")),
            "interrupted": len(_those(notes, "stopped")),
            "left without a word": len(_those(notes, "running")),
            "not begun": max(self.jobs - len(notes), 0),
        }
        said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        took = duration(time.monotonic() - self.started)
        console.print(f"\n[bold]sweep[/]   {self.jobs or len(notes)} runs: {said}; {took}")
        for note in _those(notes, "failed"):
            console.print("[red]failed[/]  ", end="")
            console.print(f"{note['title']}: {note['reason']}", markup=False)
        for note in _those(notes, "running"):
            console.print(f"lost    {note['title']}: it was killed, or still runs", markup=False)
        runs = os.path.commonpath([note["sweep"] for note in notes])
        segments = {
            "/".join(["*"] * len(Path(os.path.relpath(note["directory"], runs)).parts))
            for note in notes
            if any(Path(note["directory"]).glob("wandb/offline-run-*"))
        }
        for depth in segments:
            console.print("wandb   offline; to upload: ", end="")
            console.print(f"wandb sync {runs}/{depth}/wandb/offline-*", markup=False)
        if not self.well:
            console.print("again   the same command runs what is missing")
        best = self._best()
        if best:
            console.print(f"best    {best}", markup=False)
        elif _those(notes, "ran", "complete"):
            console.print(f"next    python scripts/report.py {runs} --out report/", markup=False)

    def _best(self) -> str:
        """What a search over settings ended with, in words."""
        try:
            found = OmegaConf.load(self.directory / "optimization_results.yaml")
            settings = " ".join(f"{key}={value}" for key, value in found.best_params.items())
            return f"{settings} ({found.best_value:.3f})" if self.searches else ""
        except (OSError, YAMLError, AttributeError):
            return ""  # it did not end


@contextmanager
def watched_sweep(line: CommandLine) -> Iterator[Sweep | None]:
    """Say at the end what became of the jobs that are started inside the block, however it ends.

    Args:
        line: arguments of the command; where they make no sweep nothing is said.

    Raises:
        ValueError: if two jobs would share a run directory; none is started then.
    """
    sweep = None
    if line.sweep:
        with suppress(Exception):  # Hydra says what is wrong with them
            sweep = Sweep(line)
    if sweep is None:
        yield None
        return
    sweep.check_directories()
    sweep.ask_for_notes()
    try:
        yield sweep
    finally:
        sweep.close()


def duration(seconds: float) -> str:
    """Say a time as a person would: 42 s, 3 min 5 s, 2 h 7 min."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _choices(config: DictConfig, overrides: list[str]) -> Choices:
    """What is swept: overrides of each key, by key."""
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    return {
        one.get_key_element(): [
            f"{one.get_key_element()}={value}" for value in one.sweep_string_iterator()
        ]
        for one in parser.parse_overrides([*params, *overrides])
        if one.is_sweep_override() and one.is_discrete_sweep()
    }


def _number_of_jobs(config: DictConfig, choices: Choices) -> int:
    trials = config.hydra.sweeper.get("n_trials")
    return int(trials or math.prod(map(len, choices.values())))


def _those(notes: list[Note], *statuses: str) -> list[Note]:
    return [note for note in notes if note["status"] in statuses]


def _forget_those_who_died(notes: Path) -> None:
    """Remove the notes of commands that were killed on this machine."""
    for folder in notes.glob(f"{socket.gethostname()}-*"):
        process = folder.name.rpartition("-")[2]
        if process.isdecimal():
            try:
                os.kill(int(process), 0)
            except ProcessLookupError:
                shutil.rmtree(folder, ignore_errors=True)
            except PermissionError:
                continue
