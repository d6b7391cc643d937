"""The k-centre problem: few points within a small radius of all."""

import torch
from torch import Tensor

from dal.functional.factored import Factored
from dal.functional.shards import Shards
from dal.functional.sketch import Sketched

STEPS = 64  # picks between two looks at the distances; each look waits for the device
SMALLEST, LARGEST = 256, {"cpu": 1536, "cuda": 8192}  # candidates of a block; the table is square


def k_center_greedy(
    points: Tensor, centres: Tensor, n: int, *, shards: Shards | None = None
) -> Tensor:
    """Add n points one by one, each the farthest from all centres so far.

    Within twice the optimal covering radius (Gonzalez, 1985). Without centres the first point
    is the one nearest to the mean. Ties go to the lowest position.

    Distances only fall. So as long as the farthest of the m candidates that were the farthest at
    the last look at all points is farther than the m-th of them was, no other point can be, and
    a block of picks is made among the candidates alone. Then all points are compared with the
    block in one product.

    Time O(N (M + n) D + n m), less where points have structure; memory O(N), a table of m² numbers
    (9 MB on a CPU in float32), tiles, and the sketch of `Sketched` where there are many centres.

    Args:
        points: [N, D]; of several processes, the rows that this one holds.
        centres: [M, D]; M may be 0.
        n: how many, at most the rows of all processes.
        shards: the processes that hold the rows; None for this one alone.

    Returns:
        [n] long, in the order of choice, the same in every process.

    >>> pool = torch.tensor([[0.0], [1.2], [2.5], [10.0]])
    >>> k_center_greedy(pool, torch.tensor([[0.5]]), 4)
    tensor([3, 2, 1, 0])
    """
    shards = shards or Shards(len(points))
    chosen = torch.empty(n, dtype=torch.long, device=points.device)
    if n == 0:
        return chosen
    mean = shards.total(points.sum(0)) / shards.rows  # far from it the expanded distance cancels
    rows = Sketched(points, mean)
    distance = torch.full_like(rows.norms, torch.inf)
    done = 0
    if len(centres):
        for block in centres.split(LARGEST["cpu"]):
            rows.lower(distance, Factored(block - mean))
    else:
        chosen[0] = shards.first_largest(-rows.norms)
        done = 1
        _settle(rows, distance, chosen[:1], shards)
    size = min(max(2 * n, SMALLEST), _largest(points))
    while done < n:
        picks = _pick_block(rows, distance, size, n - done, shards)
        chosen[done : done + len(picks)] = picks
        done += len(picks)
        if done < n:
            _settle(rows, distance, picks, shards)
            size = min(2 * size, _largest(points))
    return chosen


def _largest(points: Tensor) -> int:
    return LARGEST.get(points.device.type, LARGEST["cpu"])


def _settle(rows: Factored, distance: Tensor, picks: Tensor, shards: Shards) -> None:
    """Lower the distances of all points to the nearest centre, in place; picks get -inf."""
    rows.lower(distance, rows.take(picks, shards))
    here = picks[(picks >= shards.own.start) & (picks < shards.own.stop)]
    distance[here - shards.own.start] = -torch.inf  # 0 would pick coinciding points again


def _pick_block(rows: Factored, distance: Tensor, size: int, most: int, shards: Shards) -> Tensor:
    """Next picks that `size` candidates settle: at least one, at most so many."""
    values, candidates = shards.largest(distance, size)
    bound = values[-1] if len(values) < shards.rows else values.new_tensor(-torch.inf)
    first = shards.first_largest(distance)
    if not (candidates == first).any():  # all candidates are equals of it
        candidates[-1:] = first
    candidates, order = candidates.sort()  # the first of equals is the lowest position
    values = values[order]
    points = rows.take(candidates, shards)
    squared = points.squared(points)  # [m, m]
    highest, places = values.new_empty(most), candidates.new_empty(most)
    for start in range(0, most, STEPS):
        stop = min(start + STEPS, most)
        for step in range(start, stop):
            place = places[step : step + 1]
            torch.max(values, 0, keepdim=True, out=(highest[step : step + 1], place))
            torch.minimum(values, squared.index_select(0, place).squeeze(0), out=values)
            values.index_fill_(0, place, -torch.inf)
        settled = highest[:stop] > bound
        settled[0] = True
        if not settled.all():
            return candidates[places[: int(settled.int().argmin())]]
    return candidates[places]
