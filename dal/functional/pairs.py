"""Distances of the pairs that may be near, where most pairs are far apart.

N points, D features. A projection never lengthens a distance, so that a few leading axes rule
most pairs out: exact, and cheap where the points have structure. Points are dealt into blocks of
near ones first, so that what is left of a tile is a small product.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from dal.functional.geometry import ROWS
from dal.functional.sketch import SAMPLE, SHARE, cells_of, leading_axes

BLOCK = 1024  # a tile of 4 MiB in float32
CELLS = 64  # that set the order


class Tile(NamedTuple):
    """What is left of a block of pairs.

    Args:
        rows: [R] long; rows of the ordered points.
        columns: [B] long.
        squared: [R, B]; squared distances, +inf where the pair does not count.
    """

    rows: Tensor
    columns: Tensor
    squared: Tensor


class OrderedPoints:
    """Points in an order in which neighbours stand together, with a sketch of each.

    Args:
        order: [N] long; the point in each row.
    """

    def __init__(self, points: Tensor, labels: Tensor | None = None) -> None:
        """Find the order. Time O(N D² / 16), memory a copy of the points and 1/16 of one.

        Args:
            points: [N, D].
            labels: [N] long; pairs of one label do not count. None counts all.
        """
        mean = points.mean(0) if len(points) else points.new_zeros(points.shape[1])
        sample = points[:: max(1, len(points) // SAMPLE)] - mean
        axes = leading_axes(sample, points.shape[1] // SHARE)
        sketch = torch.cat([(rows - mean) @ axes for rows in points.split(ROWS)])
        self.order = _order(sketch, sample @ axes)
        if labels is not None:
            self.order = self.order[labels[self.order].argsort(stable=True)]
            labels = labels[self.order]
        self._labels = labels
        self._points = points[self.order].sub_(mean)  # else the expanded distance cancels
        self._norms = torch.cat([rows.square().sum(1) for rows in self._points.split(ROWS)])
        self._sketch = sketch[self.order]
        self._sketch_norms = self._sketch.square().sum(1)
        # Far above the rounding of either distance.
        self._slack = (
            1e3 * torch.finfo(points.dtype).eps * (self._norms.amax() if len(points) else 0.0)
        )

    def blocks(self) -> list[slice]:
        """Rows of each block."""
        size = len(self.order)
        return [slice(first, min(first + BLOCK, size)) for first in range(0, size, BLOCK)]

    def start(self) -> Tensor:
        """Squared distance to the nearest of a few points that count: [N]; +inf if none does."""
        step = max(1, len(self.order) // BLOCK)
        some = torch.arange(0, len(self.order), step, device=self.order.device)
        everywhere = torch.arange(len(self.order), device=self.order.device)
        parts = [self._squared(rows, some).amin(1) for rows in everywhere.split(BLOCK)]
        return torch.cat(parts)

    def tile(self, rows: slice, columns: slice, limits: Tensor) -> Tile | None:
        """Distances between two blocks, without rows and columns that are surely too far.

        Args:
            rows: one block.
            columns: a later one, or the same, of which each pair then counts once.
            limits: [N]; a pair is there if its squared distance is below that of either.

        Returns:
            The tile; None if nothing is left.
        """
        if self._alike(rows, columns):
            return None
        lower = _expanded(
            self._sketch[rows], self._sketch_norms[rows],
            self._sketch[columns], self._sketch_norms[columns],
        )  # fmt: skip
        left, right = limits[rows] + self._slack, limits[columns] + self._slack
        r = (lower.amin(1) < torch.maximum(left, right.amax())).nonzero().squeeze(1) + rows.start
        c = (lower.amin(0) < torch.maximum(right, left.amax())).nonzero().squeeze(1) + columns.start
        if len(r) == 0 or len(c) == 0:
            return None
        squared = self._squared(r, c)
        if rows.start == columns.start:
            squared.masked_fill_(r.unsqueeze(1) >= c, torch.inf)
        return Tile(r, c, squared)

    def _alike(self, rows: slice, columns: slice) -> bool:
        """Whether two blocks hold a single label."""
        if self._labels is None:
            return False
        return bool(self._labels[rows.start] == self._labels[columns.stop - 1])  # in order

    def _squared(self, r: Tensor, c: Tensor) -> Tensor:
        """Squared distances of some rows, +inf between those of one label."""
        squared = _expanded(self._points[r], self._norms[r], self._points[c], self._norms[c])
        if self._labels is not None and self._labels[r[-1]] >= self._labels[c[0]]:
            squared.masked_fill_(self._labels[r].unsqueeze(1) == self._labels[c], torch.inf)
        return squared


def _order(sketch: Tensor, sample: Tensor) -> Tensor:
    """Positions cell by cell: [N, A], [S, A] -> [N] long; one block stays as it is."""
    if len(sketch) <= BLOCK or sketch.shape[1] == 0:
        return torch.arange(len(sketch), device=sketch.device)
    return cells_of(sketch, sample, CELLS)[0].argsort(stable=True)


def _expanded(rows: Tensor, row_norms: Tensor, columns: Tensor, column_norms: Tensor) -> Tensor:
    return torch.addmm(column_norms, rows, columns.T, alpha=-2).add_(row_norms.unsqueeze(1))
