"""Seconds and peak extra memory of a call.

On a CPU every call has a forked process of its own, so that nothing leaks into the next one, its
memory can be told from that of the inputs, and a call that takes too long can be stopped. On an
accelerator the calls share the process, and each is waited for.
"""

import ctypes
import os
import resource
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MEMORY = 8 * 2**30  # bytes that a call may take beyond its inputs
PATIENCE = 4.0  # wall time over CPU time, on a busy machine
SHORT = 3.0  # seconds, of a call that is made once more for its memory alone
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # glibc: what is mapped apart, and what is kept when freed


@dataclass(frozen=True)
class Call:
    """Something to measure.

    Args:
        run: state and seed -> result, a tensor, an array or a list; timed.
        prepare: gives the state; neither timed nor counted. It should call `run` on something
            tiny, lest the loading of libraries be measured.
    """

    run: Callable[[Any, int], Any]
    prepare: Callable[[], Any] = lambda: None


@dataclass
class Measured:
    """Outcome of a call that was repeated.

    Args:
        times: seconds of each repeat, none if it was stopped or failed.
        extra_mb: peak memory beyond the inputs, in MiB; None where the system does not tell.
        results: of each repeat.
        stopped: why there is no time: `> 30 s`, `> 8 GiB`, or the error.
    """

    times: list[float] = field(default_factory=list)
    extra_mb: float | None = None
    results: list[Any] = field(default_factory=list)
    stopped: str = ""

    @property
    def best(self) -> float:
        """Least of the repeats, which differ by noise alone."""
        return min(self.times)

    @property
    def median(self) -> float:
        """For calls whose work depends on the seed."""
        return statistics.median(self.times)


@dataclass(frozen=True)
class Meter:
    """Measures calls.

    Args:
        device: `cpu` or `cuda`.
        threads: of one call; with one, seconds are CPU seconds, else wall seconds.
        window: seconds that a repeat lasts at least, by calling what is quick many times over.
    """

    device: str
    threads: int
    window: float = 0.1

    def measure(self, call: Call, repeats: int, limit: float = 600.0) -> Measured:
        """Run a call `repeats` times, fewer if the next might pass the limit.

        Args:
            call: what to run; repeat r has seed r.
            repeats: at least 1.
            limit: in seconds, of all repeats together.
        """
        if self.device != "cpu":
            return self._on_device(call, repeats)
        ours, theirs = get_context("fork").Pipe(duplex=False)
        process = get_context("fork").Process(
            target=_in_child, args=(theirs, call, repeats, limit, self), daemon=True
        )
        process.start()
        theirs.close()
        try:
            found = _await(ours, process, limit, self.threads)
        except EOFError:  # it ended and sent nothing
            found = Measured(stopped="was killed")
        process.join()
        return found

    def _on_device(self, call: Call, repeats: int) -> Measured:
        out = Measured()
        try:
            state = call.prepare()
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            for seed in range(repeats):
                start = time.perf_counter()
                result = call.run(state, seed)
                torch.cuda.synchronize()
                out.times.append(time.perf_counter() - start)
                out.results.append(_plain(result))
            out.extra_mb = (torch.cuda.max_memory_allocated() - before) / 2**20
        except (RuntimeError, ValueError) as error:
            out = Measured(stopped=_named(error))
        return out


def _await(pipe: Connection, process: BaseProcess, limit: float, threads: int) -> Measured:
    """Wait for what a child sends, and end it once its time is up.

    The child's own limit on CPU time would do, but makes its clock tick in milliseconds.
    """
    begun = started = None  # CPU seconds and wall clock when the call itself began
    while True:
        if pipe.poll(0.2):
            sent = pipe.recv()
            if isinstance(sent, Measured):
                return sent
            begun, started = sent, time.perf_counter()
        if begun is None or started is None:
            continue
        waited = time.perf_counter() - started
        used = _cpu_seconds(process.pid)
        spent = waited if used is None else used - begun
        if spent > limit * threads or waited > PATIENCE * limit:
            process.kill()
            return Measured(stopped=over(limit))


def over(limit: float) -> str:
    """How a row says that a call was stopped."""
    return f"> {limit:.0f} s"


def _cpu_seconds(pid: int | None) -> float | None:
    file = Path(f"/proc/{pid}/stat")
    if not file.exists():
        return None
    fields = file.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _in_child(pipe: Connection, call: Call, repeats: int, limit: float, meter: Meter) -> None:
    """Measure and send; what the libraries print goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    torch.set_num_threads(meter.threads)
    out = Measured()
    torch.ones(64, 64).mm(torch.ones(64, 64)).sum()  # the libraries' own pages
    try:
        state = call.prepare()
        _touch(state)
        _bound_memory()
        pipe.send(time.process_time())
        before = _kilobytes("VmRSS")
        for seed in range(repeats):
            repeat = partial(call.run, state, seed)
            start = time.perf_counter()
            seconds, result = _time(repeat, 1, meter.threads)
            if before is not None and seed == 0:
                out.extra_mb = max(0, (_kilobytes("VmHWM") or 0) - before) / 1024
                if seconds < SHORT:
                    out.extra_mb = min(out.extra_mb, _used_mb(repeat))
            count = min(int(meter.window / max(time.perf_counter() - start, 1e-6)), 1_000)
            if count:
                seconds, result = _time(repeat, count, meter.threads)
            out.times.append(seconds)
            out.results.append(_plain(result))
            if sum(out.times) + 2 * out.times[-1] > limit:
                break
    except (Exception, MemoryError) as error:  # whatever a library raises becomes its row
        out = Measured(stopped=_named(error))
    pipe.send(out)
    pipe.close()


def _used_mb(repeat: Callable[[], Any]) -> float:
    """Peak memory that a call uses, without what the allocator keeps for later calls."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return float("inf")
    for option in (MMAP_THRESHOLD, TRIM_THRESHOLD):
        libc.mallopt(option, 2**17)
    _forget_peak()
    before = _kilobytes("VmRSS") or 0
    repeat()
    peak = _kilobytes("VmHWM") or 0
    libc.mallopt(MMAP_THRESHOLD, 2**25)  # as it adapts to in a long process
    libc.mallopt(TRIM_THRESHOLD, 2**26)
    return max(0, peak - before) / 1024


def _touch(state: Any) -> None:
    """Read the inputs, lest pages that the fork left out count as extra memory."""
    if isinstance(state, torch.Tensor | np.ndarray):
        state.sum()
    elif isinstance(state, dict):
        _touch(list(state.values()))
    elif isinstance(state, list | tuple):
        for part in state:
            _touch(part)


def _time(repeat: Callable[[], Any], count: int, threads: int) -> tuple[float, Any]:
    """Seconds of one of `count` calls, and what the last one gave."""
    clock = time.process_time if threads == 1 else time.perf_counter
    start = clock()
    for _ in range(count):
        result = repeat()
    return (clock() - start) / count, result


def _bound_memory() -> None:
    """Refuse memory beyond a bound from here on, and start to watch the peak."""
    taken = _kilobytes("VmSize")
    if taken is not None:
        resource.setrlimit(resource.RLIMIT_AS, (taken * 1024 + MEMORY, resource.RLIM_INFINITY))
        _forget_peak()


def _forget_peak() -> None:
    """Give freed memory back, and count the peak from what is left."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        CLEAR.write_text("5")


def _kilobytes(name: str) -> int | None:
    """A figure of this process, where the system tells."""
    if not STATUS.exists():
        return None
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines[name].split()[0])


def _plain(result: Any) -> Any:
    """What can be sent to another process."""
    if isinstance(result, torch.Tensor):
        return result.cpu().numpy()
    return np.asarray(result)


def _named(error: BaseException) -> str:
    """Kind and first line of an error, or that it was for want of memory."""
    text = next(iter(str(error).splitlines()), "")
    short = ("can't allocate memory", "out of memory", "Unable to allocate")
    if isinstance(error, MemoryError) or any(said in text for said in short):
        return f"> {MEMORY // 2**30} GiB" if not torch.cuda.is_initialized() else "out of memory"
    return f"{type(error).__name__}: {text}"[:200]
