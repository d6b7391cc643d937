"""Distances in feature space, in tiles.

N points, M centres, D features. Distances are squared Euclidean and clamped at 0: the expanded
form |x|² + |c|² - 2<x, c> can fall a little below it.
"""

import torch
from torch import Tensor

from dal.functional.factored import Factored
from dal.functional.sketch import Sketched

ROWS, CENTRES = 4096, 256  # a tile of 4 MiB in float32


def nearest_squared_distance(points: Tensor, centres: Tensor) -> Tensor:
    """Squared distance of each point to the nearest of the centres.

    Time O(N M D), less where many points have structure; memory O(N), tiles and the sketch of
    `Sketched`.

    Args:
        points: [N, D].
        centres: [M, D].

    Returns:
        [N]; +inf where there is no centre.

    >>> nearest_squared_distance(torch.tensor([[0.0], [5.0]]), torch.tensor([[1.0], [9.0]]))
    tensor([ 1., 16.])
    """
    nearest = points.new_full((len(points),), torch.inf)  # [N]
    if len(points) and len(centres):
        mean = points.mean(0)  # far from it the expanded distance cancels
        rows = Sketched(points, mean)
        for block in centres.split(ROWS):
            rows.lower(nearest, Factored(block - mean))
    return nearest


def nearest_neighbours(queries: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Squared distances to, and positions of, the k points nearest to each query.

    A query that is itself among the points finds itself. Time O(Q N D); peak memory one tile of
    4096 queries by all points in blocks of 4096 beyond the result.

    Args:
        queries: [Q, D].
        points: [N, D]; N >= k.
        k: how many.

    Returns:
        [Q, k] squared distances, ascending, and [Q, k] long positions among the points.

    >>> squared, positions = nearest_neighbours(
    ...     torch.tensor([[0.9]]), torch.tensor([[0.0], [1.0], [5.0]]), 2
    ... )
    >>> positions
    tensor([[1, 0]])
    """
    offset = points.mean(0) if len(points) else 0.0  # far from it the expanded distance cancels
    squared = queries.new_empty(len(queries), k)
    positions = torch.empty(len(queries), k, dtype=torch.long, device=queries.device)
    for start in range(0, len(queries), ROWS):
        rows = queries[start : start + ROWS] - offset
        best = rows.new_empty(len(rows), 0)
        where = positions.new_empty(len(rows), 0)
        for first in range(0, len(points), ROWS):
            block = points[first : first + ROWS] - offset
            tile = torch.addmm(block.square().sum(1), rows, block.T, alpha=-2)  # [rows, block]
            near = tile.topk(min(k, len(block)), dim=1, largest=False)
            best = torch.cat([best, near.values], 1)
            where = torch.cat([where, near.indices + first], 1)
            kept = best.topk(min(k, best.shape[1]), dim=1, largest=False)
            best, where = kept.values, where.gather(1, kept.indices)
        norms = rows.square().sum(1, keepdim=True)
        squared[start : start + ROWS] = best.add_(norms).clamp_min_(0)
        positions[start : start + ROWS] = where
    return squared, positions
