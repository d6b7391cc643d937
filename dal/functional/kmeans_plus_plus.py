"""k-means++ seeding: points drawn in proportion to their squared distance from those drawn."""

import torch
from torch import Tensor

from dal.functional.factored import Factored
from dal.functional.shards import Shards

STEPS = 16  # acceptances between two looks at their number; each look waits for the device
SMALLEST, LARGEST = 32, {"cpu": 512, "cuda": 2048}  # proposals of a block
BLOCK, LOOK = 20_000, 8  # fixed cost of proposing a block, in distances, and of a look, in picks


def kmeans_plus_plus(
    points: Factored,
    n: int,
    generator: torch.Generator,
    *,
    weights: Tensor | None = None,
    shards: Shards | None = None,
) -> Tensor:
    """Draw n points, each in proportion to its weight and squared distance to those drawn.

    Arthur and Vassilvitskii, SODA 2007. Without weights the first point is the one of largest
    norm, as in BADGE; with weights it is drawn in proportion to them.

    Distances only fall. So points are proposed in proportion to what they were when all points
    were last compared with the picks, and accepted with probability now / then: the first that
    is accepted has the law of a fresh draw (rejection sampling), and only distances between
    proposals and later picks are needed. When these have cost half of what it takes to compare
    all points with the later picks, that is done, in one product.

    Args:
        points: N of them; of several processes, those that this one holds.
        n: how many, at most the points of all processes.
        generator: on the points' device; in the same state in every process.
        weights: [N], non-negative, some above 0; ones for plain k-means.
        shards: the processes that hold the points; None for this one alone.

    Returns:
        [n] long, distinct, in the order of choice, the same in every process.
    """
    shards = shards or Shards(len(points))
    chosen = torch.empty(n, dtype=torch.long, device=points.norms.device)
    if n == 0:
        return chosen
    seeding = _Seeding(points, weights, generator, shards)
    chosen[:1] = shards.first_largest(points.norms) if weights is None else seeding.draw(1)
    done = 1
    while done < n:
        later = chosen[seeding.settled : done]
        if seeding.stale(len(later)):
            seeding.settle(later)
            later = later[:0]
        if not seeding.total > 0:  # what is left coincides with picks, or has no weight
            chosen[done:] = _uniform(chosen[:done], n - done, shards, generator)
            break
        picks = seeding.accept(later, n - done)
        chosen[done : done + len(picks)] = picks
        done += len(picks)
    return chosen


class _Seeding:
    """Draws in proportion to the weights of the last look at all points, and their acceptance.

    Attributes:
        settled: how many picks all points were compared with.
        total: of the weights at that time.
    """

    def __init__(
        self, points: Factored, weights: Tensor | None, generator: torch.Generator, shards: Shards
    ) -> None:
        self.points, self.weights = points, weights
        self.generator, self.shards = generator, shards
        self.distance = torch.full_like(points.norms, torch.inf)  # [N], to the settled picks
        self.settled, self.total = 0, 0.0
        self.work, self.size = torch.inf, SMALLEST
        if weights is not None:
            self._weigh(weights)

    def stale(self, later: int) -> bool:
        """Whether proposals have done half the work of comparing all points with later picks."""
        return self.work > (later + LOOK) * self.shards.rows / 2

    def settle(self, picks: Tensor) -> None:
        """Compare all points with the picks made since the last time."""
        self.points.lower(self.distance, self.points.take(picks, self.shards))
        own = self.shards.own
        self.distance[picks[(picks >= own.start) & (picks < own.stop)] - own.start] = 0
        self._weigh(self.distance if self.weights is None else self.distance * self.weights)
        self.settled += len(picks)
        self.work = 0.0

    def draw(self, count: int) -> Tensor:
        """Positions drawn in proportion to the weights, with replacement: [count] long."""
        shards, cumulative = self.shards, self.cumulative
        target = self._uniform(count) * self.ends[-1]
        owner = _invert(self.ends, target)  # [count]; the process that holds the position
        target -= (self.ends - self.totals)[owner]
        places = _invert(cumulative, target) if len(cumulative) else torch.zeros_like(owner)
        return shards.total(torch.where(owner == shards.rank, places + shards.own.start, 0))

    def accept(self, later: Tensor, most: int) -> Tensor:
        """Propose a block of points and return what is accepted, at most so many: [B] long."""
        positions, threshold = self.draw(self.size), self._uniform(self.size)
        proposals = self.points.take(positions, self.shards)
        then = self.shards.take(positions, self.distance)
        now = then
        if len(later):
            now = torch.minimum(
                then, proposals.squared(self.points.take(later, self.shards)).amin(1)
            )
            now[torch.isin(positions, later)] = 0
        threshold *= then
        left = (threshold < now).nonzero().squeeze(1)  # distances only fall: others are refused
        places = _walk(
            _between(positions[left], proposals.take(left, Shards(self.size))),
            now[left],
            threshold[left],
            most,
        )
        self.work += self.size * len(later) + len(left) ** 2 + BLOCK
        wanted = 1.3 * (most - len(places)) * self.size / max(len(places), 1)
        largest = LARGEST.get(positions.device.type, LARGEST["cpu"])
        self.size = int(min(max(wanted, SMALLEST), largest))
        return positions[left[places]]

    def _weigh(self, weights: Tensor) -> None:
        self.cumulative = weights.cumsum(0, dtype=torch.float64)  # [own points]
        total = self.cumulative[-1] if len(weights) else self.cumulative.sum()
        self.totals = self.shards.each(total)  # [processes]
        self.ends = self.totals.cumsum(0)
        self.total = float(self.ends[-1])

    def _uniform(self, count: int) -> Tensor:
        device = self.distance.device
        return torch.rand(count, generator=self.generator, device=device, dtype=torch.float64)


def _invert(cumulative: Tensor, target: Tensor) -> Tensor:
    """First places whose cumulative weight exceeds the targets, the last with weight at most."""
    last = torch.searchsorted(cumulative, cumulative[-1:])
    return torch.minimum(torch.searchsorted(cumulative, target, right=True), last)


def _between(positions: Tensor, points: Factored) -> Tensor:
    """Squared distances between proposals, 0 where they are the same point: [B, B]."""
    same = positions.unsqueeze(1) == positions
    return points.squared(points).masked_fill_(same, 0)


def _walk(squared: Tensor, now: Tensor, threshold: Tensor, most: int) -> Tensor:
    """Accept proposals in their order where `threshold < now`, lowering `now` as they are.

    Args:
        squared: [B, B], distances between the proposals.
        now: [B]; squared distance to all picks.
        threshold: [B].
        most: accept at most so many.

    Returns:
        Places of the accepted.
    """
    most = min(most, len(now))
    places = torch.zeros(most, dtype=torch.long, device=now.device)
    accepted = torch.zeros(most, dtype=torch.bool, device=now.device)
    for start in range(0, most, STEPS):
        stop = min(start + STEPS, most)
        for step in range(start, stop):
            fits = threshold < now  # an accepted proposal is at 0 and does not fit again
            place = places[step : step + 1]
            torch.argmax(fits.byte(), 0, keepdim=True, out=place)
            torch.index_select(fits, 0, place, out=accepted[step : step + 1])
            now = torch.minimum(now, squared.index_select(0, place).squeeze(0))
        if not accepted[stop - 1]:
            break
    return places[accepted]


def _uniform(chosen: Tensor, n: int, shards: Shards, generator: torch.Generator) -> Tensor:
    """Draw n of the points that are not chosen: [n] long."""
    free = torch.ones(shards.rows, dtype=torch.bool, device=chosen.device)
    free[chosen] = False
    rest = free.nonzero().squeeze(1)
    return rest[torch.randperm(len(rest), generator=generator, device=rest.device)[:n]]
