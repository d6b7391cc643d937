"""What the machine can do at most, measured in the same run."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Floors:
    """Rates of the machine, per second.

    Args:
        bytes: read from memory; on an accelerator, read and written by a copy.
        flops: of a large float32 product, a multiplication and an addition counting as two.
        logs: logarithms of numbers in cache.
        exps: exponentials of numbers in cache.
    """

    bytes: float
    flops: float
    logs: float
    exps: float


@dataclass(frozen=True)
class Work:
    """What cannot be avoided, or what a method does; `what` says which."""

    what: str
    bytes: float = 0.0
    flops: float = 0.0
    logs: float = 0.0
    exps: float = 0.0

    def seconds(self, floors: Floors) -> float:
        """Least time for it on this machine."""
        return (
            self.bytes / floors.bytes
            + self.flops / floors.flops
            + self.logs / floors.logs
            + self.exps / floors.exps
        )


def measure_floors(device: str, *, quick: bool) -> Floors:
    """Time a read (a copy on an accelerator), a product, logarithms and exponentials."""
    cuda = device == "cuda"
    large = 2**22 if quick else 2**30 if cuda else 2**27  # numbers, far beyond any cache
    side = 256 if quick else 16_384 if cuda else 2_048
    cached = 2**14 if quick else 2**28 if cuda else 2**15
    numbers = torch.ones(large, device=device)
    square = torch.ones(side, side, device=device)
    some = torch.rand(cached, device=device) + 0.5
    out, product = torch.empty_like(some), torch.empty_like(square)
    if cuda:
        target = torch.empty_like(numbers)
        read = _best(lambda: target.copy_(numbers), device)
        moved = 8 * large
    else:
        read = _best(numbers.amax, device)
        moved = 4 * large
    multiply = _best(lambda: torch.mm(square, square, out=product), device)
    log = _best(lambda: torch.log(some, out=out), device, times=100)
    exp = _best(lambda: torch.exp(some, out=out), device, times=100)
    return Floors(moved / read, 2 * side**3 / multiply, cached / log, cached / exp)


def _best(call: Callable[[], object], device: str, times: int = 1) -> float:
    """Least seconds of a call in five trials of `times` calls, after one that does not count."""
    clock = time.perf_counter
    if device == "cpu" and torch.get_num_threads() == 1:
        clock = time.process_time
    call()
    seconds = []
    for _ in range(5):
        _wait(device)
        start = clock()
        for _ in range(times):
            call()
        _wait(device)
        seconds.append((clock() - start) / times)
    return max(min(seconds), 1e-9)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
