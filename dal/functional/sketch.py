"""Points and a few leading axes of each, which rule out most of the pairs that are far apart.

N points, M centres, D features, A axes. A projection never lengthens a distance, so that distances
in the sketch bound the others from below: exact, and cheap where the points have structure.
"""

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from dal.functional.factored import Factored

SHARE = 16  # features per axis of the sketch, which adds that share to the product
SAMPLE = 1024  # points that set the axes and the cells, and the fewest to have a sketch
STEPS = 2  # towards the leading axes, and towards the middles of cells
CELL, TILE = 200, 512  # points of a cell on average, and at most at once
AXES, CENTRES = 8, 1000  # fewer cost little more than the sketch
SEEDS = 16  # centres near the middle of a cell; the nearest of them bounds the distance from above
LEFT = 0.2  # of the pairs of a sample at most, else there is no structure
TRIALS = 8  # tiles, by which the sketch has to have ruled out three quarters of the pairs


def leading_axes(sample: Tensor, count: int) -> Tensor:
    """Directions in which a sample spreads the most, nearly: [S, D] -> [D, A], orthonormal.

    Orthogonal iteration, from points of the sample; A is `count`, or S if that is smaller.
    """
    if not len(sample):
        return sample.new_empty(sample.shape[1], 0)
    scaled = sample / sample.abs().amax().clamp_min(torch.finfo(sample.dtype).tiny)
    axes: Tensor = torch.linalg.qr(scaled[:: max(1, len(sample) // max(1, count))][:count].T).Q
    for _ in range(STEPS):
        axes = torch.linalg.qr(scaled.T @ (scaled @ axes)).Q
    return axes


def cells_of(sketch: Tensor, sample: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Deal points into cells of near ones.

    Args:
        sketch: [N, A].
        sample: [S, A]; some of the points.
        count: about so many cells.

    Returns:
        [N] long, the cell of each point, and [cells, A], the middles; a cell may be empty.
    """
    middles = sample[:: max(1, len(sample) // count)]
    for _ in range(STEPS):
        cell = _nearest(sample, middles)
        mass = 1 + torch.bincount(cell, minlength=len(middles)).unsqueeze(1)
        middles = middles.index_add(0, cell, sample) / mass  # an empty one stays
    return torch.cat([_nearest(rows, middles) for rows in sketch.split(2 * SAMPLE)]), middles


def _nearest(rows: Tensor, middles: Tensor) -> Tensor:
    return torch.addmm(middles.square().sum(1), rows, middles.T, alpha=-2).argmin(1)


class Cells(NamedTuple):
    """Points cell by cell.

    Args:
        axes: [D, A].
        order: [N] long; the point in each row.
        sketch: [N, A]; in this order.
        tiles: cell and rows of each tile.
        middles: [cells, A].
    """

    axes: Tensor
    order: Tensor
    sketch: Tensor
    tiles: list[tuple[int, slice]]
    middles: Tensor


class Sketched(Factored):
    """Points whose distances to many centres are found with the help of a sketch, if it helps.

    The sketch takes 1/16 of the memory of the points, twice that while it is made, and is made
    when first used: on a CPU, where it does not wait for the device.
    """

    def __init__(self, points: Tensor, offset: Tensor) -> None:
        """Take the points less an offset. Time O(N D); memory of [N] and a block.

        Args:
            points: [N, D].
            offset: [D]; near their mean.
        """
        super().__init__(points, offset=offset)
        self.offset: Tensor = offset

    def lower(self, distance: Tensor, centres: Factored) -> None:
        """Lower each point's squared distance to the nearest centre, in place.

        Time O(N M D) at most, and less than half of it where the sketch tells points
        apart; memory a block of rows and a tile, and that of the sketch.

        Args:
            distance: [N].
            centres: M points without an offset.
        """
        fewest = CENTRES // 8 if "cells" in vars(self) else CENTRES  # made, it pays for fewer
        many = len(centres) >= fewest and self.right.device.type == "cpu"
        cells = self.cells if many else None
        if cells is None or not self._lower_by(cells, distance, centres):
            super().lower(distance, centres)

    @cached_property
    def cells(self) -> Cells | None:
        """Cells and sketch; None if there is too little of anything, or no structure."""
        size, width = self.right.shape
        if size < SAMPLE or width // SHARE < AXES:
            return None
        sample = self.right[:: size // SAMPLE] - self.offset
        axes = leading_axes(sample, width // SHARE)
        some = sample @ axes
        if not _tells_apart(some, sample):
            return None
        sketch = self.right.new_empty(size, axes.shape[1])
        for rows, moved in self._blocks():
            torch.mm(moved, axes, out=sketch[rows])
        cell, middles = cells_of(sketch, some, max(1, size // CELL))
        tiles, stop = [], 0
        for number, count in enumerate(torch.bincount(cell).tolist()):
            start, stop = stop, stop + count
            tiles += [(number, slice(at, min(at + TILE, stop))) for at in range(start, stop, TILE)]
        order = cell.argsort(stable=True)
        return Cells(axes, order, sketch[order], tiles, middles)

    def _lower_by(self, cells: Cells, distance: Tensor, centres: Factored) -> bool:
        """As `lower`; gives up the sketch, and says no, if it has left too many pairs."""
        norms = self.norms[cells.order]
        best = distance[cells.order].sub_(norms)
        # Far above the rounding of either distance.
        slack = 1e3 * torch.finfo(norms.dtype).eps * (norms + centres.norms.amax())
        bound = cells.sketch.square().sum(1).sub_(norms).sub_(slack)
        short = centres.right @ cells.axes  # [M, A]
        ends = torch.cat([-2 * short, torch.ones_like(short[:, :1])], 1).T
        squares = short.square().sum(1)
        far = torch.addmm(squares, cells.middles, short.T, alpha=-2)  # [cells, M]
        seeds = far.topk(min(SEEDS, len(centres)), dim=1, largest=False).indices
        points = self.right.new_empty(TILE, self.right.shape[1])
        room = self.right.new_empty(TILE * len(centres))
        starts = short.new_empty(TILE, ends.shape[0])
        left = seen = 0
        for number, (cell, rows) in enumerate(cells.tiles):
            count, nearest = rows.stop - rows.start, best[rows]
            moved = torch.index_select(self.right, 0, cells.order[rows], out=points[:count])
            moved.sub_(self.offset)
            _lower_to(nearest, moved, centres, seeds[cell], room)
            start = starts[:count]  # less the distance so far: what is below 0 is left
            start[:, :-1] = cells.sketch[rows]
            torch.sub(bound[rows], nearest, out=start[:, -1])
            lower = torch.addmm(
                squares, start, ends, out=room[: count * len(squares)].view(count, -1)
            )
            some = lower.amin(0).ge(0).logical_not_().nonzero().squeeze(1)  # NaN is left
            _lower_to(nearest, moved, centres, some, room)
            left, seen = left + count * len(some), seen + count * len(centres)
            if number + 1 == TRIALS and 4 * left > seen:
                self.cells = None
                return False
        distance[cells.order] = torch.minimum(distance[cells.order], best.add_(norms).clamp_min_(0))
        return True


def _tells_apart(sketch: Tensor, sample: Tensor) -> bool:
    """Whether few of a sample are nearer in the sketch than the nearest really is."""
    few = slice(None, None, 8)
    nearest = torch.cdist(sample[few], sample).topk(2, dim=1, largest=False).values[:, 1:]
    return bool((torch.cdist(sketch[few], sketch) < nearest).float().mean() < LEFT)


def _lower_to(
    nearest: Tensor, points: Tensor, centres: Factored, some: Tensor, room: Tensor
) -> None:
    """Lower distances, less the norms of the points, to some of the centres, in place."""
    if len(some):
        tile = room[: len(points) * len(some)].view(1, len(points), -1)
        torch.minimum(nearest, centres.less_norms(points, None, some, tile).amin(1), out=nearest)
