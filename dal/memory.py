"""How much memory is free, and was used: of a GPU, or of the host within this process's limits."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int:
    """Bytes that this process could still allocate on a device.

    On a GPU what torch holds in reserve counts as free. On the host it is the least of what the
    system calls available and what the control groups of this process (a container, a batch job)
    leave; files that the system merely caches count as free.
    """
    if device.type == "cuda":
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserve
    return min([_available(), *_left_by_groups()])


def peak_memory_bytes() -> int:
    """Peak memory of the round on the GPU if there is one, else of the process so far."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _available() -> int:
    with suppress(OSError):
        for line in (PROC / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # no Linux


def _left_by_groups() -> Iterator[int]:
    """Bytes left by each control group that bounds the memory of this process."""
    with suppress(OSError):
        for line in (PROC / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:  # version 2
                yield from _left(CGROUPS, path, "memory.max", "memory.current")
            elif "memory" in controllers.split(","):
                root = CGROUPS / "memory"
                yield from _left(root, path, "memory.limit_in_bytes", "memory.usage_in_bytes")


def _left(root: Path, path: str, limit: str, used: str) -> Iterator[int]:
    """Bytes left by a group and by those around it, as far as they can be seen from here."""
    inside = Path(path.lstrip("/"))
    for group in (inside, *inside.parents):
        with suppress(OSError, ValueError):  # not visible from here, or "max": no limit
            most, now = (int((root / group / name).read_text()) for name in (limit, used))
            yield max(most - max(now - _cached(root / group), 0), 0)


def _cached(group: Path) -> int:
    """Bytes of files that the system gives up first."""
    with suppress(OSError, ValueError, KeyError):
        lines = (group / "memory.stat").read_text().splitlines()
        counts = dict(line.split() for line in lines)
        within = counts.get("total_inactive_file")  # version 1, with the groups inside
        return int(within if within is not None else counts["inactive_file"])
    return 0
