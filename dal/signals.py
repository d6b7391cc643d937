"""Stop when a signal asks for it: an exception ends what runs, and so its files and logs close."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn


class Stopped(BaseException):
    """A signal asked the run to end; no `Exception`, as nothing failed.

    Args:
        signum: number of the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signal = signal.Signals(signum)

    def __str__(self) -> str:
        """Say what happened and what to do, in one line."""
        return (
            f"stopped by {self.signal.name}; the same command continues after the last "
            "finished round"
        )

    @property
    def exit_code(self) -> int:
        """What a shell reports of a process that the signal ended."""
        return 128 + self.signal


_asked: list[int] = []  # the signal that asked the run to stop, if any did


def stop_if_asked() -> None:
    """Raise `Stopped` if a signal came whose exception was lost, as it is in a finaliser."""
    if _asked:
        raise Stopped(_asked[0])


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put signals off that would end what runs inside; they come when it is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    signals = (signal.SIGTERM, signal.SIGINT, _submitit_signal())
    before = {one: signal.signal(one, lambda signum, _: came.append(signum)) for one in signals}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        for signum in came[:1]:
            signal.raise_signal(signum)


@contextmanager
def stopping() -> Iterator[None]:
    """End what runs inside by `Stopped` when SIGTERM comes; later signals change nothing.

    In a job of submitit its own signal, which SLURM sends before the time limit, does the same.
    Once what runs inside has closed its files and logs, the job is put back into the queue: not
    before, as SLURM kills what it requeues. Submitit does so at its own signal alone, and SLURM
    takes a pre-empted job that exits in its time of grace for one that failed.

    Outside of the main thread, where Python takes no handlers, nothing changes.

    Raises:
        Stopped: if a signal came, whatever the way in which the inside ended: processes that the
            same signal ended, such as data loaders, make it fail in ways of their own.
        SystemExit: the same, in a job of submitit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked, process = _asked, os.getpid()
    asked.clear()

    def stop(signum: int, _: FrameType | None) -> None:
        if os.getpid() != process:  # forked, and with no need of more than an end
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        elif not asked:
            asked.append(signum)
            raise Stopped(signum)

    requeue = signal.getsignal(_submitit_signal())
    signals = {signal.SIGTERM, _submitit_signal()} if callable(requeue) else {signal.SIGTERM}
    before = {signum: signal.signal(signum, stop) for signum in signals}
    try:
        yield
    except BaseException as error:
        if asked and callable(requeue):
            _leave(Stopped(asked[0]), requeue)
        if not asked or isinstance(error, Stopped):
            raise
        raise Stopped(asked[0]) from error
    finally:
        asked.clear()
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _leave(stopped: Stopped, requeue: Callable[..., Any]) -> NoReturn:
    """End a job of submitit, and let it be requeued."""
    sys.stderr.write(f"{stopped}\n")
    sys.stderr.flush()
    if _keeps_its_place():
        requeue(stopped.signal, None)  # it exits, in the first of several tasks
    sys.exit(stopped.exit_code)


def _submitit_signal() -> signal.Signals:
    return signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]


def _keeps_its_place() -> bool:
    """Say whether the job is still running for SLURM, which then neither ends nor requeues it.

    A job that a person cancels gets SIGTERM like one that is pre-empted, and to requeue it
    would bring it back; one that SLURM requeues by itself cannot be requeued again.
    """
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID")
    if job is None:
        return True  # submitit's local executor
    done = subprocess.run(  # noqa: S603 (as SLURM names itself)
        ["squeue", "--noheader", f"--jobs={job}", "--format=%T"],  # noqa: S607 (wherever it is)
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.stdout.strip() == "RUNNING"
