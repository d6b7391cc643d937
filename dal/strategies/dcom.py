"""DCoM: cover the pool while the model is incompetent, resolve its doubts once it is not."""

import math

import torch
from torch import Tensor

from dal.functional.checks import (
    check_feature_sets,
    check_labels,
    check_n,
    check_positive,
    check_probs,
    check_rows,
    check_share,
)
from dal.functional.costs import Cost, Sizes, costs
from dal.functional.coverage import EDGES, Balls
from dal.functional.kernels import unit_rows
from dal.functional.purity import covered_by, pure_radii


def _cost(s: Sizes, max_radius: float, resolution: float) -> Cost:
    halvings = max(1.0, math.log2(max_radius / resolution))
    return Cost(
        products=s.N * s.D * (s.N / 2 + s.M * halvings),
        elements=s.N * (2 * s.N + 6 * s.M * halvings + 20 * s.n),
        steps=30 * s.n,
        numbers=2 * (s.N + s.M) * s.D + min(1.25 * EDGES, s.N**2 / 24) + 2**22,
    )


@costs(_cost)
def dcom(
    *,
    probs: Tensor,
    features: Tensor,
    labelled_features: Tensor,
    labels: Tensor,
    n: int,
    initial_radius: float = 0.75,
    max_radius: float = 1.1,
    resolution: float = 0.05,
    centre: float = 0.8,
    steepness: float = 50.0,
) -> Tensor:
    """Repeat argmax_x s·(1 - margin) + (1 - s)·degree, and cover the ball of x.

    Each labelled item has a radius δ_i, found by bisection: the widest ball of which a share of
    0.4 + 0.2 (covered share at the initial radius) has its label, items of the pool counting by
    their predicted class. The competence is s = (1 + e^(-k(1 - a))) / (1 + e^(-k(c - a))), c the
    share that these balls cover, a the centre and k the steepness. The degree is the number of
    uncovered items closer than the mean of the δ_i. Both terms are scaled so that the best item
    left has 1. Features have length 1. Ties go to the smaller margin, then to the lowest position.

    Source: Mishal and Weinshall, arXiv 2407.01804, 2024; constants as in the released code.

    Deviation: the paper keeps each δ_i from the round in which the item was labelled; here all are
    found anew with the current model. The margin is scaled over the pool alone. The released
    code rounds δ and s and loses the last rows of the pool; here nothing is. Where nothing is
    labelled, balls have the initial radius and the competence is that of a coverage of 0.

    Cost: time O(N² D / 2) at most for all balls, a tenth of it where a few axes tell items apart,
    O(N M D log(max_radius / resolution)) for the radii, and O(N) and the balls per pick; memory
    two copies of the features and 5 bytes for each of two directions of a pair closer than the
    mean radius, up to 75 million (beyond that distances are computed again for each pick).

    Args:
        probs: [N, C]; predictive probabilities.
        features: [N, D]; of the pool, best self-supervised.
        labelled_features: [M, D]; of the labelled items, M may be 0.
        labels: [M] long.
        n: how many, between 0 and N.
        initial_radius: δ that sets the purity asked for, above 0; distances lie in [0, 2].
        max_radius: where the bisection starts, above 0.
        resolution: width at which it ends, above 0.
        centre: a, coverage about which margin takes over from degree, from 0 to 1.
        steepness: k, above 0.

    Returns:
        [n] long positions, in the order of choice.

    Raises:
        ValueError: if shapes differ from the above, n or a hyperparameter is out of range, or a
            value is NaN or too large to square.

    Nothing is labelled: of three items close together the middle one holds all in its ball.

    >>> features = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]])
    >>> probs = torch.tensor([[0.9, 0.1]]).expand(4, -1)
    >>> some = {"labelled_features": features[:0], "labels": torch.empty(0, dtype=torch.long)}
    >>> dcom(probs=probs, features=features, n=2, initial_radius=1.0, **some)
    tensor([1, 3])
    """
    check_probs(probs)
    check_feature_sets(features, labelled_features)
    check_rows(probs=probs, features=features)
    check_labels(labels, len(labelled_features))
    check_n(n, len(probs))
    check_positive("initial_radius", initial_radius)
    check_positive("max_radius", max_radius)
    check_positive("resolution", resolution)
    check_positive("steepness", steepness)
    check_share("centre", centre)
    if n == 0:
        return torch.empty(0, dtype=torch.long, device=probs.device)
    points, centres = unit_rows(features), unit_rows(labelled_features)
    covered = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    radius = initial_radius
    if len(centres):
        radii = centres.new_full((len(centres),), initial_radius)
        radii = pure_radii(
            torch.cat([points, centres]),
            torch.cat([probs.argmax(1), labels]),
            torch.arange(len(points), len(points) + len(centres), device=points.device),
            purity=0.4 + 0.2 * _share(covered_by(points, centres, radii), len(centres)),
            largest=max_radius,
            resolution=resolution,
        )
        covered, radius = covered_by(points, centres, radii), float(radii.mean())
    competence = _logistic(_share(covered, len(centres)), centre, steepness)
    best = probs.topk(2, dim=1).values  # [N, 2]
    return _choose(best[:, 1] - best[:, 0], Balls(points, radius), covered, n, competence)


def _choose(doubt: Tensor, balls: Balls, covered: Tensor, n: int, competence: float) -> Tensor:
    doubt = (doubt - doubt.min()).double()
    free = torch.ones_like(covered)
    degree = balls.counts((~covered).nonzero().squeeze(1))  # [N]
    chosen = torch.empty(n, dtype=torch.long, device=covered.device)
    for step in range(n):
        unsure, wide = _scaled(doubt * free), _scaled(degree.double() * free)
        value = competence * unsure + (1 - competence) * wide + 1e-9 * unsure
        position = value.masked_fill(~free, -torch.inf).argmax(0, keepdim=True)
        chosen[step] = position
        free[position] = False
        ball = balls.around(position)
        newly = ball[~covered[ball]]
        covered[newly] = True
        degree -= balls.counts(newly)
    return chosen


def _scaled(values: Tensor) -> Tensor:
    largest = values.max()
    return values / torch.where(largest > 0, largest, 1)


def _share(covered: Tensor, labelled: int) -> float:
    """Covered share of pool and labelled set; labelled items lie in their own balls."""
    return (float(covered.sum()) + labelled) / (len(covered) + labelled)


def _logistic(coverage: float, centre: float, steepness: float) -> float:
    def sigmoid(x: float) -> float:
        return math.exp(min(x, 0)) / (1 + math.exp(-abs(x)))

    return sigmoid(steepness * (coverage - centre)) / sigmoid(steepness * (1 - centre))
