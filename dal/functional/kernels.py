"""Similarities of features, and greedy choices that raise the best similarity everywhere.

N points, M centres, D features. A similarity is a function of two tiles, [R, D] and [B, D] ->
[R, B], symmetric and never negative. It never exists for all pairs at once.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from dal.functional.costs import Cost
from dal.functional.geometry import CENTRES, ROWS

Similarity = Callable[[Tensor, Tensor], Tensor]

TILE = 1024  # 4 MiB in float32, where both sides of a tile are long


def unit_rows(points: Tensor) -> Tensor:
    """Scale each row to length 1; a row of zeros stays as it is.

    >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    norms = torch.linalg.vector_norm(points, dim=1, keepdim=True)
    return points / torch.where(norms > 0, norms, 1)


def gaussian(rows: Tensor, columns: Tensor, *, bandwidth: float) -> Tensor:
    """exp(-|x - c|² / σ²), from the expanded square.

    Rounding moves |x - c|² by a few units in the last place of |x|², so that σ² has to be far
    above it; see `in_precision_of`.

    Args:
        rows: [R, D].
        columns: [B, D].
        bandwidth: σ, above 0.

    Returns:
        [R, B] in [0, 1].

    >>> gaussian(torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0]]), bandwidth=2.0)
    tensor([[1.0000],
            [0.3679]])
    """
    precision = bandwidth**-2
    norms = columns.square().sum(1) * -precision
    tile = torch.addmm(norms, rows, columns.T, alpha=2 * precision)  # [R, B]
    return tile.sub_(rows.square().sum(1, keepdim=True) * precision).clamp_max_(0).exp_()


def gaussian_of(bandwidth: float) -> Similarity:
    """Gaussian similarity with a fixed σ."""
    return partial(gaussian, bandwidth=bandwidth)


def in_precision_of(bandwidth: float, points: Tensor) -> Tensor:
    """Unit rows in a dtype that resolves distances of the order of the bandwidth.

    Args:
        bandwidth: σ.
        points: [N, D]; rows of length 1.

    Returns:
        [N, D]; float64 where σ² is below 10⁴ rounding units, otherwise the points themselves.

    >>> in_precision_of(1.0, torch.ones(2, 1)).dtype, in_precision_of(1e-3, torch.ones(2, 1)).dtype
    (torch.float32, torch.float64)
    """
    return points.double() if bandwidth**2 < 1e4 * torch.finfo(points.dtype).eps else points


def least_distance(points: Tensor) -> float:
    """Smallest distance of two rows of length 1; pairs nearer than 1e-6 count as one point.

    Time O(M² D), in float64; memory a float64 copy and a tile.

    Args:
        points: [M, D].

    Returns:
        The distance; inf where there are no two points.

    >>> round(least_distance(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8]])), 4)
    0.8944
    """
    least = points.new_full((), torch.inf, dtype=torch.float64)
    blocks = points.double().split(TILE) if len(points) else ()
    for number, rows in enumerate(blocks):
        for columns in blocks[number:]:
            norms = rows.square().sum(1, keepdim=True) + columns.square().sum(1)
            squared = norms - 2 * (rows @ columns.T)  # [rows, columns]
            least = torch.minimum(least, squared.masked_fill(squared < 1e-12, torch.inf).amin())
    return float(least.sqrt())


def shifted_cosine(rows: Tensor, columns: Tensor) -> Tensor:
    """(1 + cos) / 2 of rows of length 1: [R, D], [B, D] -> [R, B] in [0, 1].

    >>> shifted_cosine(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[-1.0, 0.0]]))
    tensor([[0.0000],
            [0.5000]])
    """
    half = rows.new_full((1,), 0.5)
    return torch.addmm(half, rows, columns.T, alpha=0.5).clamp_(0, 1)


def best_similarity(points: Tensor, centres: Tensor, similarity: Similarity) -> Tensor:
    """Similarity of each point to the most similar of the centres.

    Time O(N M D); peak memory one tile beyond the result.

    Args:
        points: [N, D].
        centres: [M, D].
        similarity: of two tiles.

    Returns:
        [N]; 0 where there is no centre.

    >>> best_similarity(torch.eye(2), -torch.eye(2)[:1], shifted_cosine)
    tensor([0.0000, 0.5000])
    """
    best = points.new_zeros(len(points))
    for start in range(0, len(points), ROWS):
        rows = points[start : start + ROWS]
        for block in centres.split(CENTRES) if len(centres) else ():
            tile = similarity(rows, block).amax(1)
            best[start : start + ROWS] = torch.maximum(best[start : start + ROWS], tile)
    return best


def lazy_greedy(
    points: Tensor,
    centres: Tensor,
    n: int,
    similarity: Similarity,
    *,
    weights: Tensor | None = None,
) -> Tensor:
    """Add n points one by one, each the argmax of Σ_x w_x max(s(x, x̃) - max_c s(x, c), 0).

    c runs over the centres and the points added. The sum is the gain of the monotone submodular
    Σ_x w_x max_c s(x, c), so that the greedy reaches 1 - 1/e of its optimum (Nemhauser, Wolsey
    and Fisher, 1978), and an old gain bounds the new one from above: only points whose bound is
    the highest are looked at again (Minoux, 1978), and of those only the rows that are better
    covered than at the last full pass. Ties go to the point that is less covered itself, then to
    the lowest position.

    Time: one pass O(N² D / 2), then O(N D) a pick and what is looked at again, at most twice
    the full pass over the rows that changed; memory O(N) and a tile.

    Args:
        points: [N, D].
        centres: [M, D]; M may be 0.
        n: how many, at most N.
        similarity: of two tiles, at most about 1.
        weights: [N], non-negative; ones if None.

    Returns:
        [n] long, distinct, in the order of choice.

    >>> pool = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
    >>> lazy_greedy(pool, torch.empty(0, 1), 2, gaussian_of(1.0))
    tensor([1, 3])
    """
    chosen = torch.empty(n, dtype=torch.long, device=points.device)
    if n == 0:
        return chosen
    if weights is None:
        weights = points.new_ones(len(points))
    weights = weights.to(points.dtype)
    gains = _Gains(points, weights, best_similarity(points, centres, similarity), similarity)
    for step in range(n):
        position = gains.best()
        chosen[step] = position
        gains.add(position)
    return chosen


def lazy_greedy_cost(rows: int, centres: int, n: int, width: int) -> Cost:
    """Cost of `lazy_greedy` on unit features."""
    return Cost(
        products=rows * width * (rows / 2 + centres + 8 * n),
        elements=rows * (2.8 * rows + 3 * centres + 40 * n),
        steps=60 * n + rows**2 / TILE**2,
        numbers=rows * (width + 20) + 2 * ROWS * width + 4 * TILE**2,
    )


class _Gains:
    """Upper bounds on what each point would add, made exact where it matters.

    `full` [N] holds the exact gains when the coverage was `reference` [N]; `bound` [N] those
    gains or newer ones, and -inf where a point has been added.
    """

    def __init__(
        self, points: Tensor, weights: Tensor, covered: Tensor, similarity: Similarity
    ) -> None:
        self.points, self.weights, self.similarity = points, weights, similarity
        self.covered, self.reference = covered, covered
        # What rounding leaves of a difference of two equal sums, as a random walk.
        self.floor = (
            4 * torch.finfo(points.dtype).eps * len(points) ** 0.5 * weights.amax().double()
        )
        self.tie = torch.finfo(points.dtype).eps ** 0.5 * weights.amax().double()
        self.full = self._initial()
        self.bound = self.full.clone()
        self.exact = torch.ones_like(self.bound, dtype=torch.bool)
        self.changed = torch.empty(0, dtype=torch.long, device=points.device)
        self.work = 0  # pairs looked at since the last full pass

    def best(self) -> Tensor:
        """Position of the highest gain."""
        block = 16
        while True:
            # Of two points that would cover nothing but each other, both would add the same.
            position: Tensor = (self.bound - self.tie * self.covered).argmax()
            if self.exact[position]:
                return position
            if self.work > len(self.points) * min(len(self.changed), len(self.points) // 2):
                self._refresh()  # as much is spent since the last full pass as the next one costs
                continue
            stale = self.bound.masked_fill(self.exact, -torch.inf)
            positions = stale.topk(min(block, len(stale))).indices
            self.bound[positions] = torch.minimum(self.bound[positions], self._now(positions))
            self.exact[positions] = True
            self.work += len(positions) * len(self.changed)
            block = min(2 * block, CENTRES)

    def add(self, position: Tensor) -> None:
        """Make a point a centre."""
        centre = self.points[position].unsqueeze(0)
        to_new = torch.cat([self.similarity(rows, centre) for rows in self.points.split(ROWS)])
        self.covered = torch.maximum(self.covered, to_new.squeeze(1))
        self.changed = (self.covered > self.reference).nonzero().squeeze(1)
        self.full[position] = -torch.inf
        self.bound[position] = -torch.inf
        self.exact = self.bound <= 0  # a gain is not negative

    def _refresh(self) -> None:
        if 2 * len(self.changed) > len(self.points):
            self.full = self._initial().masked_fill(self.full.isneginf(), -torch.inf)
        else:
            everywhere = torch.arange(len(self.points), device=self.points.device)
            self.full = torch.cat([self._now(part) for part in everywhere.split(CENTRES)])
        self.bound, self.reference = self.full.clone(), self.covered
        self.exact, self.changed = torch.ones_like(self.exact), self.changed[:0]
        self.work = 0

    def _now(self, positions: Tensor) -> Tensor:
        """Exact gains of some points: those at the reference, less what the changed rows lost."""
        columns, gains = self.points[positions], self.full[positions]
        for rows in self.changed.split(ROWS):
            tile = self.similarity(self.points[rows], columns)  # [rows, positions]
            before = _excess(tile, self.reference[rows])
            lost = before.sub_(_excess(tile, self.covered[rows]))
            gains = gains - self.weights[rows] @ lost
        return gains.masked_fill((gains < self.floor) & ~gains.isneginf(), 0)

    def _initial(self) -> Tensor:
        """Gains of all points; a tile above the diagonal serves both of its sides."""
        gains = torch.zeros_like(self.covered, dtype=torch.float64)
        size = len(self.points)
        for first in range(0, size, TILE):
            left = slice(first, first + TILE)
            for second in range(first, size, TILE):
                right = slice(second, second + TILE)
                tile = self.similarity(self.points[left], self.points[right])
                gains[right] += self.weights[left] @ _excess(tile, self.covered[left])
                if second > first:
                    gains[left] += self.weights[right] @ _excess(tile.T, self.covered[right])
        return gains


def _excess(tile: Tensor, covered: Tensor) -> Tensor:
    """max(s - c, 0) of a tile [R, B] whose rows are covered [R]; rounding counts as 0."""
    least = 8 * torch.finfo(tile.dtype).eps
    excess: Tensor = torch.threshold_(tile - covered.unsqueeze(1), least, 0)
    return excess
