"""Balls of one radius around points, as a graph, and how few of them cover all points.

N points, D features, E directed edges. Balls are open: a point at exactly the radius is outside.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from dal.functional.geometry import nearest_squared_distance
from dal.functional.pairs import BLOCK, OrderedPoints

EDGES = 75_000_000  # 340 MB while the graph is built


class BallGraph(NamedTuple):
    """Which points lie in whose ball, in compressed rows.

    Args:
        places: [N] long; the row of each point.
        offsets: [N + 1] long; row i is neighbours[offsets[i] : offsets[i + 1]].
        neighbours: [E] int; points, in any order within a row, the point itself left out.
    """

    places: Tensor
    offsets: Tensor
    neighbours: Tensor


def ball_graph(points: Tensor, radius: float, *, edges: int = EDGES) -> BallGraph:
    """Join every two points that are less than the radius apart.

    Time O(N² D / 2) at most, and a tenth of it where a few axes tell the points apart (see
    `OrderedPoints`); memory 5 bytes per directed edge at the peak, 4 once built, beside a tile
    and a centred copy of the points.

    Args:
        points: [N, D].
        radius: 0 or more.
        edges: at most so many directed edges.

    Returns:
        The graph, symmetric.

    Raises:
        ValueError: if it has more edges than that.

    >>> graph = ball_graph(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), 1.5)
    >>> graph.offsets, graph.neighbours
    (tensor([0, 1, 3, 4, 4]), tensor([1, 0, 2, 1], dtype=torch.int32))
    """
    graph = _graph(points, radius, edges)
    if graph is None:
        raise ValueError(
            f"a graph of balls must have at most {edges} edges, got more among {len(points)} "
            f"points at radius {radius:g}; take a smaller radius, or fewer points by pool_subset"
        )
    return graph


def members(graph: BallGraph, nodes: Tensor) -> Tensor:
    """Concatenate the neighbours of the nodes.

    Args:
        graph: of N points.
        nodes: [V] long.

    Returns:
        [Σ degree] long, in the order of the nodes; a shared neighbour appears once for each.

    >>> graph = ball_graph(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), 1.5)
    >>> members(graph, torch.tensor([1, 2]))
    tensor([0, 2, 1])
    """
    rows = graph.places[nodes]
    first = graph.offsets[rows]
    counts = graph.offsets[rows + 1] - first  # [V]
    places = torch.repeat_interleave(first - (counts.cumsum(0) - counts), counts)
    places += torch.arange(len(places), device=places.device)
    return graph.neighbours[places].long()


class Balls:
    """The balls around all points: what is in one, and how many of some points are in each.

    The graph is kept where it has at most `edges` edges, and the queries then take time in the
    number of edges they touch; otherwise distances are computed again, and nothing is kept.
    Time O(N² D); memory as `ball_graph`.

    Args:
        points: [N, D].
        radius: 0 or more, may be infinite.
        edges: most directed edges to keep.
    """

    def __init__(self, points: Tensor, radius: float, *, edges: int = EDGES) -> None:
        self.radius, self.size = radius, len(points)
        self.graph = _graph(points, radius, edges)
        if self.graph is None:
            self.points = points - points.mean(0)  # far from it the expanded distance cancels
            self.norms = torch.cat([rows.square().sum(1) for rows in self.points.split(BLOCK)])

    def around(self, node: Tensor) -> Tensor:
        """Points in the ball of a node, itself included: [1] long -> [b] long."""
        if self.graph is not None:
            return torch.cat([members(self.graph, node), node])
        inside = self._inside(slice(None), node).squeeze(1)
        inside[node] = True
        return inside.nonzero().squeeze(1)

    def counts(self, nodes: Tensor) -> Tensor:
        """How many of the nodes lie in each ball, its centre included: [V] long -> [N] long."""
        if self.graph is not None and 2 * len(nodes) > self.size:  # the others are fewer
            others = torch.ones(self.size, dtype=torch.bool, device=nodes.device)
            others[nodes] = False
            all_of_them = self.graph.offsets.diff()[self.graph.places] + 1
            return all_of_them - self.counts(others.nonzero().squeeze(1))
        counts = torch.zeros(self.size, dtype=torch.long, device=nodes.device)
        for some in nodes.split(BLOCK):
            if self.graph is not None:
                counts += torch.bincount(members(self.graph, some), minlength=len(counts))
                counts[some] += 1
            else:
                for start in range(0, len(counts), BLOCK):
                    rows = slice(start, start + BLOCK)
                    counts[rows] += self._inside(rows, some).sum(1)
        return counts

    def _inside(self, rows: slice, nodes: Tensor) -> Tensor:
        """Whether each node lies in the ball of each row: [rows, V] bool."""
        points, others = self.points[rows], self.points[nodes]
        squared = torch.addmm(self.norms[nodes], points, others.T, alpha=-2)
        return squared.add_(self.norms[rows].unsqueeze(1)) < self.radius**2


def greedy_cover(
    points: Tensor, centres: Tensor, radius: float, n: int, *, edges: int = EDGES
) -> Tensor:
    """Choose the ball that holds the most uncovered points, again and again.

    What lies in the ball of a given centre is covered from the start. Each point is covered once,
    so that all picks together take O(E) on the graph. Ties go to the lowest position.

    Args:
        points: [N, D].
        centres: [M, D]; M may be 0.
        radius: 0 or more, may be infinite.
        n: how many at most.
        edges: most directed edges to keep, see `Balls`.

    Returns:
        [at most n] long, in the order of choice; fewer once every point is covered.

    >>> points = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0], [11.0]])
    >>> greedy_cover(points, points[:0], 1.5, 2)
    tensor([1, 4])
    """
    balls = Balls(points, radius, edges=edges)
    covered = nearest_squared_distance(points, centres) < radius**2  # [N]
    degree = balls.counts((~covered).nonzero().squeeze(1))  # [N]
    chosen: list[Tensor] = []
    while len(chosen) < n and not covered.all():
        best = degree.argmax(0, keepdim=True)  # [1]
        ball = balls.around(best)
        newly = ball[~covered[ball]]
        covered[newly] = True
        degree -= balls.counts(newly)
        degree[best] = -len(points) - 1
        chosen.append(best)
    return torch.cat(chosen) if chosen else torch.empty_like(degree[:0])


def pure_radius(points: Tensor, labels: Tensor, purity: float) -> float:
    """Largest radius at which a share of the balls holds a single label.

    The ball of a point is pure up to the distance of the nearest point with another label, so
    that the radius is an order statistic of these distances. Yehuda, Dekel, Hacohen and
    Weinshall, NeurIPS 2022, section 4. Time O(N² D / 2) at most, less where a few axes tell the
    points apart; memory a centred copy of the points and a tile.

    Args:
        points: [N, D].
        labels: [N] long.
        purity: from 0 to 1; at least one ball has to be pure.

    Returns:
        The radius; +inf if so many balls are pure at any radius, as where there is one label.

    >>> points, labels = torch.tensor([[0.0], [1.0], [4.0], [9.0]]), torch.tensor([0, 0, 0, 1])
    >>> pure_radius(points, labels, 0.5), pure_radius(points, labels, 1.0)
    (8.0, 5.0)
    """
    near = OrderedPoints(points, labels)
    nearest = near.start()  # [N], squared; falls as tiles come
    for number, rows in enumerate(near.blocks()):
        for columns in near.blocks()[number:]:
            tile = near.tile(rows, columns, nearest)
            if tile is not None:
                nearest[tile.rows] = torch.minimum(nearest[tile.rows], tile.squared.amin(1))
                nearest[tile.columns] = torch.minimum(nearest[tile.columns], tile.squared.amin(0))
    pure = max(1, math.ceil(purity * len(points) - 1e-9))  # so many of the largest distances
    return math.sqrt(max(0.0, nearest.sort(descending=True).values[pure - 1].item()))


def _graph(points: Tensor, radius: float, edges: int) -> BallGraph | None:
    """The graph, or None if it has more edges than allowed."""
    near = OrderedPoints(points)
    limits = points.new_full((len(points),), radius**2)
    blocks = near.blocks()
    order = near.order.int()
    # What is never written takes no memory on the host.
    neighbours = order.new_empty(min(edges, len(points) ** 2))
    none = order.new_empty(2, 0)
    pending = [[none] for _ in blocks]  # of [2, pairs], by block of the row
    counts, found, end = [near.order.new_zeros(1)], 0, 0
    for number, rows in enumerate(blocks):
        for other, columns in enumerate(blocks[number:], number):
            tile = near.tile(rows, columns, limits)
            if tile is None:
                continue
            row, column = (tile.squared < radius**2).nonzero(as_tuple=True)
            found += 2 * len(row)
            if found > edges:
                return None
            pairs = torch.stack([tile.rows.int()[row], tile.columns.int()[column]])
            pending[other].append(pairs.flip(0))
            pending[number].append(pairs)
        row, column = torch.cat(pending[number], 1)  # no later tile touches these rows
        pending[number] = []
        end += len(row)
        neighbours[end - len(row) : end] = order[column[row.argsort(stable=True)]]
        counts.append(torch.bincount(row - rows.start, minlength=rows.stop - rows.start))
    offsets = torch.cat(counts).cumsum(0)
    return BallGraph(near.order.argsort(), offsets, neighbours[:end])
