"""Where the tensors of a query are kept: on the device, in host memory, or in a file."""

import logging
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dal.acquisition_shares import neighbours
from dal.functional.shards import Shards
from dal.memory import free_bytes

SHARE = 0.7  # of what is free; the rest is for the model, its batches and the selection
BLOCK_BYTES = 2**26  # of what is copied at once

_log = logging.getLogger(__name__)


@dataclass
class _Place:
    device: torch.device
    room: int  # bytes that may still be taken


class Storage:
    """Allocates tensors with one row per item, each in the fastest place that has room for it.

    That is the device, else host memory, else a memory-mapped file. What does not stay on the
    device is told in one line of the log "dal.acquisition_storage". The file has no name any more
    once it is mapped, so that nothing is left of it however the process ends.

    Args:
        device: of the model.
        processes: those that query together; all decide alike, by the one with least room.
        folder: of the files; the system's folder for temporary files if None.
    """

    def __init__(
        self, device: torch.device, processes: Shards, folder: str | Path | None = None
    ) -> None:
        self.device = device
        self.processes = processes
        self.folder = Path(tempfile.gettempdir() if folder is None else folder)
        sharing = neighbours(processes, device)
        self.places = []
        for place in dict.fromkeys((device, torch.device("cpu"))):
            free = free_bytes(place) // (sharing if place.type == "cpu" else 1)
            if processes.group is not None:
                free = int(processes.each(torch.tensor(free, device=device)).amin())
            self.places.append(_Place(place, int(SHARE * free)))

    def has_room(self, size: int) -> bool:
        """Whether the device itself has room for so many bytes."""
        return size <= self.places[0].room

    def empty(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Allocate a tensor without values.

        Args:
            name: what it holds, for the log.
            shape: [rows, ...]; one number a row always stays on the device.
            dtype: of the tensor.

        Raises:
            ValueError: if not even the disk has room.
        """
        size = math.prod(shape) * dtype.itemsize
        if len(shape) == 1:
            return torch.empty(shape, dtype=dtype, device=self.device)
        device = self.take(size)
        if device is not None:
            with self._given_back(device, size):
                kept = torch.empty(shape, dtype=dtype, device=device)
            if device != self.device:
                self._tell(name, shape, size, "host memory")
            return kept
        mapped = self._mapped(name, shape, dtype, size)
        self._tell(name, shape, size, f"a memory-mapped file in {self.folder}")
        return mapped

    def take(self, size: int) -> torch.device | None:
        """Count bytes as taken from the fastest memory with room; None if that is a file's."""
        for place in self.places:
            if size <= place.room:
                place.room -= size
                return place.device
        return None

    def rows_of(self, name: str, source: Tensor, positions: Tensor) -> Tensor:
        """Copy rows [B, ...] of a tensor to where there is room, block by block.

        Args:
            name: what they are, for the log.
            source: [rows, ...] on any device.
            positions: [B] long, on any device.
        """
        positions = positions.to(source.device)
        kept = self.empty(name, (len(positions), *source.shape[1:]), source.dtype)
        size = max(BLOCK_BYTES // max(source[:1].numel() * source.element_size(), 1), 1)
        for start in range(0, len(positions), size):
            kept[start : start + size] = source[positions[start : start + size]]
        return kept

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Count what is allocated inside the block as free again after it."""
        rooms = [place.room for place in self.places]
        try:
            yield
        finally:
            for place, room in zip(self.places, rooms, strict=True):
                place.room = room

    @contextmanager
    def _given_back(self, device: torch.device, size: int) -> Iterator[None]:
        """Count bytes as free again if they could not be allocated."""
        try:
            yield
        except torch.OutOfMemoryError:
            for place in self.places:
                place.room += size if place.device == device else 0
            raise

    def _mapped(self, name: str, shape: tuple[int, ...], dtype: torch.dtype, size: int) -> Tensor:
        try:
            with tempfile.TemporaryDirectory(prefix="dal-pool-", dir=self.folder) as folder:
                file = Path(folder) / "rows"
                with file.open("wb") as stream:
                    if hasattr(os, "posix_fallocate"):  # a full disk must fail here, not later
                        os.posix_fallocate(stream.fileno(), 0, size)
                flat = torch.from_file(str(file), shared=True, size=math.prod(shape), dtype=dtype)
                return flat.view(shape)
        except OSError as error:
            raise ValueError(
                f"{name} of {_gib(size)} need room in host memory or in {self.folder}, got neither "
                f"({error}); set spill_dir to a folder with room, or pool_subset"
            ) from error

    def _tell(self, name: str, shape: tuple[int, ...], size: int, where: str) -> None:
        if self.processes.rank:
            return
        room = ", ".join(f"{_gib(place.room)} of {place.device}" for place in self.places)
        _log.warning(
            "%s %s, %s, are kept in %s, as the query may take no more than %s",
            name, list(shape), _gib(size), where, room,
        )  # fmt: skip


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"
