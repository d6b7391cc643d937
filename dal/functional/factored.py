"""Points that are kept as factors, and distances between them in blocks.

N points, M centres, C and D the widths of the factors. Distances are squared Euclidean and
clamped at 0: the expanded form |x|² + |c|² - 2<x, c> can fall a little below it.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from dal.functional.shards import Shards

TILES = {"cpu": (2048, 256), "cuda": (32768, 1024)}  # points and centres: caches, few launches


class Factored:
    """Points g_i = left_i ⊗ (right_i - offset), of which no product and no copy is held.

    As <g_i, g_j> = <left_i, left_j><right_i, right_j>, distances need the factors alone.

    Args:
        right: [N, D]; the large factor.
        left: [N, C]; the small factor, or None for 1.
        offset: [D], subtracted from `right` block by block, or None.

    Attributes:
        norms: [N]; squared.
    """

    def __init__(
        self, right: Tensor, left: Tensor | None = None, offset: Tensor | None = None
    ) -> None:
        self.right, self.left, self.offset = right, left, offset
        self.tile = TILES.get(right.device.type, TILES["cpu"])
        self.norms = right.new_empty(len(right))
        for rows, moved in self._blocks():
            torch.sum(moved.square(), 1, out=self.norms[rows])
            if left is not None:
                self.norms[rows] *= left[rows].square().sum(1)

    def __len__(self) -> int:
        return len(self.right)

    def take(self, positions: Tensor, shards: Shards) -> "Factored":
        """Points at positions of all processes' rows: [B] long -> B points without an offset."""
        right = shards.take(positions, self.right)
        if self.offset is not None:
            right.sub_(self.offset)  # of a copy
        left = None if self.left is None else shards.take(positions, self.left)
        return Factored(right, left)

    def squared(self, centres: "Factored") -> Tensor:
        """Squared distances to centres without an offset, as these points are: [N, M]."""
        tiles = self._tiles(len(self), len(centres))
        squared = centres.less_norms(self.right, self.left, slice(None), tiles)
        return squared.add_(self.norms.unsqueeze(1)).clamp_min_(0)

    def lower(self, distance: Tensor, centres: "Factored") -> None:
        """Lower each point's squared distance to the nearest centre, in place.

        Time O(N M (C + D)); memory a block of rows, if there is an offset, and two tiles.

        Args:
            distance: [N].
            centres: M points without an offset.
        """
        width = self.tile[1]
        tiles = self._tiles(min(self.tile[0], len(self)), min(width, len(centres)))
        for rows, moved in self._blocks():
            left = None if self.left is None else self.left[rows]
            nearest = distance[rows] - self.norms[rows]
            for first in range(0, len(centres), width):
                some = slice(first, first + width)
                tile = tiles[:, : len(moved), : len(centres.norms[some])]
                tile = centres.less_norms(moved, left, some, tile)
                torch.minimum(nearest, tile.amin(1), out=nearest)
            nearest.add_(self.norms[rows]).clamp_min_(0)
            torch.minimum(distance[rows], nearest, out=distance[rows])

    def _tiles(self, rows: int, centres: int) -> Tensor:
        """Room for distances, and for one factor of products: [1 or 2, rows, centres]."""
        return self.right.new_empty(1 if self.left is None else 2, rows, centres)

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of rows, and what is in them less the offset; valid until the next."""
        size = self.tile[0]
        if self.offset is not None:  # new pages would cost more than the subtraction
            buffer = torch.empty_like(self.right[:size])
        for start in range(0, len(self.right), size):
            rows = slice(start, start + size)
            right = self.right[rows]
            if self.offset is not None:
                right = torch.sub(right, self.offset, out=buffer[: len(right)])
            yield rows, right

    def less_norms(
        self, right: Tensor, left: Tensor | None, some: slice | Tensor, tiles: Tensor
    ) -> Tensor:
        """Squared distances of other points to some of these, less the norms of the others.

        Args:
            right: [rows, D]; of the others, without an offset.
            left: [rows, C] or None.
            some: which of these.
            tiles: [1 or 2, rows, these]; room for the result and for the product of left factors.
        """
        tile = tiles[0]
        if left is None or self.left is None:
            return torch.addmm(self.norms[some], right, self.right[some].T, alpha=-2, out=tile)
        torch.mm(right, self.right[some].T, out=tile)
        tile *= torch.mm(left, self.left[some].T, out=tiles[1])
        return torch.add(self.norms[some], tile, alpha=-2, out=tile)
