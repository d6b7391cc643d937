"""A pool pass by several processes: whose rows are whose, and how all come to hold the same."""

import platform
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, distributed

from dal.functional.shards import Shards

BLOCK_BYTES = 2**26  # of what is sent at once


def share_of(rows: int, batch_size: int, rank: int, count: int) -> slice:
    """Rows that one of several processes predicts: a run of whole batches, perhaps none.

    A batch is never cut, as floats may differ in the last bit with the size of the batch that
    they were computed in: several processes compute the batches that one would.

    Args:
        rows: in all.
        batch_size: rows of a batch; the last may be smaller.
        rank: of the process.
        count: how many processes.

    >>> [share_of(10, 3, rank, 3) for rank in range(3)]
    [slice(0, 6, None), slice(6, 9, None), slice(9, 10, None)]
    """
    batches, further = divmod(-(-rows // batch_size), count)
    first = rank * batches + min(rank, further)
    last = first + batches + (rank < further)
    return slice(min(first * batch_size, rows), min(last * batch_size, rows))


def neighbours(processes: Shards, device: torch.device) -> int:
    """How many of the processes run on this machine, this one included."""
    if processes.group is None:
        return 1
    machine = torch.tensor(zlib.crc32(platform.node().encode()), device=device)
    return int((processes.each(machine) == machine).sum())


def check_same(dealt: Tensor, processes: Shards, device: torch.device) -> None:
    """Raise ValueError unless all processes were dealt the same rows in the same order.

    Args:
        dealt: [N] long; the dataset row at each position.
        processes: all of them.
        device: what is sent is there.
    """
    if processes.group is None:
        return
    weights = torch.arange(1, len(dealt) + 1, dtype=torch.long)
    sums = processes.each(torch.stack([weights.sum(), (weights * dealt).sum()]).to(device))
    if (sums != sums[0]).any():
        raise ValueError(
            "processes that query together must hold the same pool, got different ones; give them "
            "the same data, seed and purchases"
        )


@contextmanager
def together(processes: Shards, device: torch.device) -> Iterator[None]:
    """Let no process wait for one that failed inside the block: all of them raise.

    Raises:
        RuntimeError: in the processes whose own block did not fail.
    """
    if processes.group is None:
        yield
        return
    failure: Exception | None = None
    try:
        yield
    except Exception as error:  # whatever it is, the others must hear of it
        failure = error
    failed = processes.each(torch.tensor(failure is not None, device=device).long())
    if failure is not None:
        raise failure
    if failed.any():
        raise RuntimeError(
            f"the query failed in process {int(failed.argmax())}, whose error says why"
        )


def complete(whole: Tensor, shards: Shards, device: torch.device) -> None:
    """Fill in the rows of the other processes, in place and without padding.

    Args:
        whole: [rows, ...] on any device; this process's rows are there already.
        shards: which those are.
        device: what is sent is there.
    """
    group = shards.group
    if group is None or not whole.numel():
        return
    size = max(BLOCK_BYTES * len(whole) // (whole.numel() * whole.element_size()), 1)
    for rank, (start, stop) in enumerate(pairwise(shards.starts)):
        for block in whole[start:stop].split(size) if start < stop else ():
            _send(block, rank, group, device)


def as_the_first(tensors: Iterable[Tensor], processes: Shards, device: torch.device) -> None:
    """Give tensors the values that they have in the first process, in place."""
    if processes.group is None:
        return
    for tensor in tensors:
        if tensor.numel():
            _send(tensor.detach(), 0, processes.group, device)


def _send(tensor: Tensor, rank: int, group: distributed.ProcessGroup, device: torch.device) -> None:
    sent = tensor.to(device).contiguous()
    distributed.broadcast(sent, distributed.get_global_rank(group, rank), group)
    if sent is not tensor:
        tensor.copy_(sent)
