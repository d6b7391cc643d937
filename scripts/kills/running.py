"""Start runs, kill them, and enumerate the moments at which they write."""

import ctypes
import importlib
import os
import random
import runpy
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

TRAIN = Path(__file__).resolve().parents[2] / "train.py"
PATIENCE = 600.0  # seconds after which a run that nobody kills counts as hanging
ORPHANS = 30  # seconds that what a run started may outlive it
SET_CHILD_SUBREAPER = 36  # of prctl(2)
FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
MAKES = "os.mkdir"
WRITES = (MAKES, "os.rename", "os.remove", "os.rmdir", "os.truncate")  # audit events
Start = Callable[[Path, list[str]], int]


def command(folder: Path, arguments: list[str]) -> list[str]:
    """Give the command line of a run that is kept in `folder`."""
    return [sys.executable, str(TRAIN), *arguments, f"hydra.run.dir='{folder}'"]


def start(folder: Path, arguments: list[str]) -> int:
    """Start a run as a user does, in a process group of its own."""
    line = command(folder, arguments)
    return _process(folder, lambda: os.execv(line[0], line))  # noqa: S606


def preload() -> None:
    """Import what a run imports, for `fork`; nothing here starts a thread."""
    names = "lightning.pytorch matplotlib.pyplot sklearn.datasets wandb hydra dal.loop"
    for name in (*names.split(), "dal.models.classifier", "dal.callbacks.wandb_log"):
        importlib.import_module(name)


def fork(folder: Path, arguments: list[str], *, moment: int = 0) -> int:
    """Start a run in a copy of this process, which has the libraries; see `die_at` for `moment`."""

    def run() -> None:
        if moment:
            die_at(moment, folder)
        sys.argv = command(folder, arguments)[1:]
        runpy.run_path(sys.argv[0], run_name="__main__")

    return _process(folder, run)


def _process(folder: Path, run: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        os.environ |= {"WANDB_MODE": "offline", "PYTHONUNBUFFERED": "1"}
        os.environ.pop("WANDB_SERVICE", None)  # of whoever started us; it would survive a kill
        log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for stream in (1, 2):
            os.dup2(log, stream)
        sys.stdout.reconfigure(line_buffering=True)
        run()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1 if stop.code else 0
        print("" if isinstance(stop.code, int | None) else stop.code)
    finally:
        os._exit(code)


def wait(pid: int, seconds: float = PATIENCE) -> int | None:
    """Wait for a run and what it started; give its exit code, or None if it goes on after that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            _gather()
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def kill(pid: int, generator: random.Random) -> None:
    """Kill a run with its process group, half of the times with W&B's service as well.

    The service has a session of its own and ends when it sees that the run is gone: a machine that
    fails takes it along, a kill for memory leaves it the time to write.
    """
    family = _descendants(pid)
    os.killpg(pid, signal.SIGKILL)
    if generator.random() < 0.5:
        for other in family:
            with suppress(ProcessLookupError):
                os.kill(other, signal.SIGKILL)
    _gather()


def adopt_orphans() -> None:
    """Become the parent of what killed runs leave behind, so that its end can be waited for."""
    if ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError("this system gives orphans to no other process")


def _gather() -> None:
    """Wait for all children, adopted ones included."""
    end = time.monotonic() + ORPHANS
    with suppress(ChildProcessError):
        while time.monotonic() < end:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)
        raise RuntimeError(f"a process outlives the run that started it by {ORPHANS} s")


def _descendants(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:  # ended meanwhile
        return []
    children = [int(word) for word in text.split()]
    return children + [other for child in children for other in _descendants(child)]


def die_at(moment: int, folder: Path) -> None:
    """Let this process kill itself when it is about to write in `folder` the `moment`-th time.

    What counts is opening a file for writing, each fsync twice (with half of what was written
    since the file was opened, and with all), renaming, removing and making folders. Each is noted
    in `<folder>.moments`. W&B's own files do not count.
    """
    notes = folder.with_suffix(".moments").open("w", buffering=1)
    sizes: dict[Path, int] = {}  # of files when they were opened
    count = 0

    def note(what: str, path: Path, before: Callable[[], None] = lambda: None) -> None:
        nonlocal count
        count += 1
        notes.write(f"{what} {path.relative_to(folder)}\n")
        if count == moment:
            before()
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: str, values: tuple[Any, ...]) -> None:
        if event not in ("open", *WRITES) or not isinstance(values[0], str | os.PathLike):
            return
        path = Path(values[0]).resolve()
        happens = values[2] & FOR_WRITING if event == "open" else event == MAKES or path.exists()
        if happens and _counts(path, folder):
            note(event, path)
            if event == "open":
                kept = path.exists() and not values[2] & os.O_TRUNC
                sizes[path] = path.stat().st_size if kept else 0

    def fsync(file: Any, real: Callable[[Any], None] = os.fsync) -> None:
        path = Path(f"/proc/self/fd/{file if isinstance(file, int) else file.fileno()}").resolve()
        if path in sizes:
            half = (sizes[path] + path.stat().st_size) // 2
            note("half of", path, partial(os.truncate, path, half))
            note("fsync", path)
        real(file)

    os.fsync = fsync
    sys.addaudithook(watch)


def _counts(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder) and not path.is_relative_to(folder / "wandb")
