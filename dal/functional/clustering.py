"""k-means and average linkage, and the points that stand for a cluster.

N points, D features, k clusters.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from dal.functional.factored import Factored
from dal.functional.geometry import nearest_neighbours
from dal.functional.kmeans_plus_plus import kmeans_plus_plus

BLOCK = 2048  # rows of a tile


class Clusters(NamedTuple):
    """A clustering.

    Args:
        assignment: [N] long; the cluster of each point.
        centroids: [k, D].
    """

    assignment: Tensor
    centroids: Tensor


def kmeans(
    points: Tensor,
    k: int,
    generator: torch.Generator,
    *,
    weights: Tensor | None = None,
    iterations: int = 20,
) -> Clusters:
    """Cluster by Lloyd's iterations from a k-means++ start.

    Lloyd 1982; Arthur and Vassilvitskii, SODA 2007. A cluster that loses all its points, or all
    their weight, keeps its centroid. Time O(iterations N k D); memory one centred copy of the
    points and a tile of 2048 x k.

    Args:
        points: [N, D]; N >= k.
        k: number of clusters.
        generator: on the points' device.
        weights: [N], non-negative; ones if None or if all of them are 0.
        iterations: at most so many; fewer once no point changes its cluster.

    Returns:
        The clusters; some may be empty where points coincide.

    >>> points = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    >>> assignment, centroids = kmeans(points, 2, torch.Generator().manual_seed(0))
    >>> sorted(centroids.flatten().tolist())
    [0.5, 10.5]
    """
    mean = points.mean(0)  # far from the origin the expanded distance cancels in float32
    points = points - mean
    if weights is not None and not (weights > 0).any():
        weights = None
    even = points.new_ones(len(points)) if weights is None else weights
    centroids = points[kmeans_plus_plus(Factored(points), k, generator, weights=even)]
    assignment = nearest_centroid(points, centroids)
    for _ in range(iterations):
        mass = points.new_zeros(k).index_add_(0, assignment, even)
        filled = mass > 0
        centroids = torch.where(
            filled.unsqueeze(1),
            _sums(points, assignment, weights, k) / torch.where(filled, mass, 1).unsqueeze(1),
            centroids,
        )
        moved = nearest_centroid(points, centroids)
        if torch.equal(moved, assignment):
            break
        assignment = moved
    return Clusters(assignment, centroids + mean)


def _sums(points: Tensor, assignment: Tensor, weights: Tensor | None, k: int) -> Tensor:
    """Weighted sum of the points of each cluster: [k, D]."""
    order = assignment.argsort(stable=True)
    sizes = torch.bincount(assignment, minlength=k)
    return embedding_bag(
        order,
        points,
        sizes.cumsum(0) - sizes,
        mode="sum",
        per_sample_weights=None if weights is None else weights[order],
    )


def nearest_centroid(points: Tensor, centroids: Tensor) -> Tensor:
    """Cluster of each point: [N, D], [k, D] -> [N] long; ties go to the lower number."""
    norms = centroids.square().sum(1)
    nearest = torch.empty(len(points), dtype=torch.long, device=points.device)
    tile = points.new_empty(min(BLOCK, len(points)), len(centroids))  # new pages cost time
    for start in range(0, len(points), BLOCK):
        rows = points[start : start + BLOCK]
        squared = torch.addmm(norms, rows, centroids.T, alpha=-2, out=tile[: len(rows)])
        torch.argmin(squared, 1, out=nearest[start : start + BLOCK])
    return nearest


def nearest_distinct(points: Tensor, centroids: Tensor) -> Tensor:
    """Nearest point of each centroid, each point at most once.

    Centroids choose in their order; one whose nearest point is taken gets the nearest that is
    free. Time O(N k D), memory O(N) and a tile.

    Args:
        points: [N, D]; N >= k.
        centroids: [k, D].

    Returns:
        [k] long, distinct.

    >>> nearest_distinct(torch.tensor([[0.0], [4.0]]), torch.tensor([[1.0], [0.5]]))
    tensor([0, 1])
    """
    if not len(points):
        return torch.empty(0, dtype=torch.long, device=points.device)
    mean = points.mean(0)  # far from it the expanded distance cancels
    centroids = centroids - mean
    least = centroids.new_full((len(centroids),), torch.inf)
    chosen = torch.zeros(len(centroids), dtype=torch.long, device=points.device)
    for start in range(0, len(points), BLOCK):
        rows = points[start : start + BLOCK] - mean
        norms = rows.square().sum(1, keepdim=True)
        squared, near = torch.addmm(norms, rows, centroids.T, alpha=-2).min(0)  # of [rows, k]
        chosen = torch.where(squared < least, near + start, chosen)
        least = torch.minimum(squared, least)
    taken = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    centred: Factored | None = None
    for number, position in enumerate(chosen.tolist()):
        free = position
        if taken[position]:
            centred = centred or Factored(points, offset=mean)
            distance = torch.full_like(centred.norms, torch.inf)
            centred.lower(distance, Factored(centroids[number : number + 1]))
            free = int(distance.masked_fill(taken, torch.inf).argmin())
            chosen[number] = free
        taken[free] = True
    return chosen


def typicality(points: Tensor, neighbours: int, rows: Tensor | None = None) -> Tensor:
    """One over the mean distance to the nearest neighbours, the point itself left out.

    Hacohen, Dekel and Weinshall, ICML 2022. Time O(R N D); memory R x neighbours and tiles.

    Args:
        points: [N, D].
        neighbours: how many, below N; with 0 every point is infinitely typical.
        rows: [R] long; the points to rate, all of them if None.

    Returns:
        [R]; +inf where all these neighbours coincide with the point.

    >>> typicality(torch.tensor([[0.0], [1.0], [3.0]]), 2)
    tensor([0.5000, 0.6667, 0.4000])
    """
    rows = torch.arange(len(points), device=points.device) if rows is None else rows
    if neighbours == 0:
        return points.new_full((len(rows),), torch.inf)
    positions = nearest_neighbours(points[rows], points, neighbours + 1)[1]
    own = positions == rows.unsqueeze(1)  # [R, neighbours + 1]; may be crowded out by its equals
    exact = [  # the expanded form is not quite 0 between points that coincide
        (points[some].unsqueeze(1) - points[near]).square().sum(2).sqrt()
        for some, near in zip(rows.split(256), positions.split(256), strict=True)
    ]
    return neighbours / torch.cat(exact).masked_fill(own, 0).sum(1)


def typicality_bounds(points: Tensor, neighbours: int) -> Tensor:
    """What the typicality of no point exceeds, nor falls far below; see `typicality`.

    Squared distances are expanded and lowered by their rounding, so that each point is compared
    with the others in matrix products alone. Time O(N² D); memory N x neighbours and tiles.

    Args:
        points: [N, D].
        neighbours: how many, below N.

    Returns:
        [N]; +inf where rounding hides all the distances.

    >>> typicality_bounds(torch.tensor([[0.0], [1.0], [3.0]]), 2)
    tensor([0.5000, 0.6667, 0.4000])
    """
    if neighbours == 0:
        return points.new_full((len(points),), torch.inf)
    squared = nearest_neighbours(points, points, neighbours + 1)[0][:, 1:]  # the first is itself
    reach = (points - points.mean(0)).square().sum(1).amax()
    rounding = 256 * torch.finfo(points.dtype).eps * reach
    return neighbours / (squared - rounding).clamp_min_(0).sqrt_().sum(1)


class Merges(NamedTuple):
    """A hierarchy of clusters, lowest merge first.

    Args:
        pairs: the two points whose clusters are merged, for each of the N - 1 merges.
        heights: root mean squared distance between the two clusters, ascending.
    """

    pairs: list[tuple[int, int]]
    heights: list[float]


def average_linkage(points: Tensor) -> Merges:
    """Merge the two clusters of least mean squared distance, until one is left.

    Sokal and Michener 1958, on squared distances: their mean between two clusters is the squared
    distance of the centroids plus both mean squared spreads, so that no N x N table is needed.
    By chains of nearest neighbours (Benzécri 1982), which find the same merges as the search for
    the least pair wherever distances differ. Time O(N² D), one synchronisation a step; memory
    O(N D).

    Args:
        points: [N, D].

    Returns:
        The N - 1 merges.

    >>> average_linkage(torch.tensor([[0.0], [2.0], [7.0], [10.0]])).heights[:2]
    [2.0, 3.0]
    """
    centroids = points - points.mean(0) if len(points) else points.clone()
    norms = centroids.square().sum(1)  # [N]
    spreads = torch.zeros_like(norms)  # mean squared distance to the own centroid, +inf once merged
    sizes = torch.ones_like(norms)
    merges: list[tuple[float, tuple[int, int]]] = []
    chain: list[int] = []
    while len(merges) < len(points) - 1:
        chain = chain or [int(spreads.argmin())]
        top, before = chain[-1], chain[-2:-1]
        squared = norms + spreads - 2 * (centroids @ centroids[top]) + norms[top] + spreads[top]
        squared[[top, *chain[:-2]]] = torch.inf  # rounding must not close a circle
        least, nearest = squared.double().min(0)
        found = torch.stack([least, nearest.double(), *squared[before].double()]).tolist()
        if not before or found[0] < found[2]:
            chain.append(int(found[1]))
            continue
        merges.append((max(0.0, found[2]) ** 0.5, (before[0], top)))
        del chain[-2:]
        _merge(merges[-1][1], centroids, norms, spreads, sizes)
    merges.sort(key=lambda merge: merge[0])
    return Merges([pair for _, pair in merges], [height for height, _ in merges])


def cut(merges: Merges, *, clusters: int = 1, height: float = math.inf) -> Tensor:
    """Undo the highest merges of a hierarchy.

    Args:
        merges: of N points.
        clusters: at least so many are left, at most N.
        height: merges above it are undone.

    Returns:
        [N] long; clusters are numbered in the order of their first points.

    >>> cut(average_linkage(torch.tensor([[0.0], [7.0], [2.0], [10.0]])), clusters=2)
    tensor([0, 1, 0, 1])
    """
    root = list(range(len(merges.pairs) + 1))

    def find(point: int) -> int:
        while root[point] != point:
            root[point] = point = root[root[point]]
        return point

    kept = len(root) - clusters
    for (one, other), level in zip(merges.pairs[:kept], merges.heights[:kept], strict=True):
        if level <= height:
            root[find(other)] = find(one)
    numbers: dict[int, int] = {}
    return torch.tensor(
        [numbers.setdefault(find(point), len(numbers)) for point in range(len(root))]
    )


def _merge(
    pair: tuple[int, int], centroids: Tensor, norms: Tensor, spreads: Tensor, sizes: Tensor
) -> None:
    """Replace the first cluster of the pair by the union of both, in place."""
    one, other = pair
    share = sizes[other] / (sizes[one] + sizes[other])
    gap = centroids[other] - centroids[one]  # [D]
    spreads[one] += share * (spreads[other] - spreads[one])
    spreads[one] += share * (1 - share) * gap.square().sum()
    centroids[one] += share * gap
    norms[one] = centroids[one].square().sum()
    sizes[one] += sizes[other]
    spreads[other] = torch.inf
