"""Batches on the device of the model, loaded and moved while it works on the one before."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader

AHEAD = {"cuda"}  # on a CPU a second thread would only fight for the cores

T = TypeVar("T")


def batches_on(loader: DataLoader[Any], like: Tensor) -> Iterator[Tensor]:
    """Inputs of each batch, where a weight is and of its type.

    On a GPU the next batch is loaded, pinned and copied on a stream of its own meanwhile; one that
    the GPU has no room for beside the work on the one before comes as it was loaded.
    """
    inputs = (batch[0] if isinstance(batch, list | tuple) else batch for batch in loader)
    if not like.is_cuda:
        moved = (batch.to(like) for batch in inputs)
        yield from one_ahead(moved) if like.device.type in AHEAD else moved
        return
    side, current = torch.cuda.Stream(like.device), torch.cuda.current_stream(like.device)
    for batch, copied in one_ahead(_copied(batch, like, side) for batch in inputs):
        if copied is not None:
            current.wait_event(copied)
            batch.record_stream(current)
        yield batch


def _copied(batch: Tensor, like: Tensor, side: torch.cuda.Stream) -> tuple[Tensor, Any]:
    """Copy a batch and note when that is done; the batch itself and None if there is no room."""
    try:
        with torch.cuda.stream(side):
            source = batch if batch.is_cuda else batch.pin_memory()
            moved = source.to(like.device, non_blocking=True).to(like.dtype)
            return moved, side.record_event()
    except torch.OutOfMemoryError:
        return batch, None


def one_ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, each made in a thread while the one before is in use.

    What making an item raises is raised where that item would have come.

    >>> list(one_ahead(number**2 for number in range(4)))
    [0, 1, 4, 9]
    """
    source = iter(items)
    with ThreadPoolExecutor(1) as thread:
        upcoming = thread.submit(tuple, islice(source, 1))
        while made := upcoming.result():  # one item, or nothing after the last
            upcoming = thread.submit(tuple, islice(source, 1))
            yield made[0]
