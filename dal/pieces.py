"""Batches in pieces, once a device had no room for them whole."""

import gc
import logging
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

_log = logging.getLogger(__name__)


class Pieces:
    """The most rows of a batch that are worked on at once.

    That is all of them, until a device runs out of memory: then half of those that it had no room
    for, from there on and in all later passes with this object. One line of the log "dal.pieces"
    tells it.

    Attributes:
        most: rows.
    """

    def __init__(self) -> None:
        self.most = sys.maxsize
        self._worked = 0  # rows for which there was room since there was none
        self._unsaid: int | None = None  # rows for which there was no room at first

    def apply(self, work: Callable[[Tensor, int], object], batch: Tensor, like: Tensor) -> None:
        """Do something with all rows of a batch, in their order.

        Args:
            work: given rows [P, ...] of the batch and the place of their first; it is called again
                for the first half of the rows after it raised OutOfMemoryError, and must bear that.
            batch: [B, ...].
            like: a tensor on the device that is used.

        Raises:
            ValueError: if there is no room for one row.
        """
        done = 0
        while done < len(batch):
            rows = batch[done : done + self.most]
            if self.attempt(partial(work, rows, done), rows.__len__, like):
                done += len(rows)

    def attempt(self, work: Callable[[], object], rows: Callable[[], int], like: Tensor) -> bool:
        """Try something; if there was no room, have half of the rows from now on.

        Args:
            work: what to do.
            rows: tells with how many rows at most; 0 if fewer of them would not help.
            like: a tensor on the device that is used.

        Returns:
            Whether it was done.

        Raises:
            ValueError: if there was no room and there are no fewer rows to try it with.
        """
        try:
            work()
        except torch.OutOfMemoryError as error:
            tried = rows()
            if tried > self._worked or tried == 0:
                if tried <= 1:
                    raise _hopeless(error, tried, like.device) from error
                self.most = min(self.most, tried // 2)
                self._unsaid = self._unsaid or tried
            self._worked = 0  # what once had room is tried once more
        else:
            self._worked = max(self._worked, rows())
            self._tell(like.device)
            return True
        # Here, as the traceback has kept alive what the attempt had made.
        gc.collect()
        if like.is_cuda:
            torch.cuda.empty_cache()
        return False

    def _tell(self, device: torch.device) -> None:
        if self._unsaid is not None:
            _log.warning(
                "out of memory on %s at batches of %d rows; going on with %d",
                device, self._unsaid, self.most,
            )  # fmt: skip
            self._unsaid = None


def _hopeless(error: torch.OutOfMemoryError, rows: int, device: torch.device) -> ValueError:
    reason = ". ".join(str(error).split(". ")[:2])  # of many that explain the allocator
    tried = " even with one row at a time" if rows else ""
    return ValueError(
        f"out of memory on {device}{tried} ({reason}); free the device, lower eval_batch_size, "
        f"posterior.samples or posterior.memory_mb, or take a smaller model"
    )
