"""Whether a fast answer is the right one: the same picks, the same numbers, or the same law."""

import math
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROWS = 4_096
COVERED = 5e-3  # share of the pool by which two covers may differ
GAP = 1e-4  # by which a squared distance of float32 may fall short of the largest
ERRORS = 5.0  # standard errors between two means of one law


@dataclass(frozen=True)
class Agreement:
    """What was compared, in a few words, and whether it agrees."""

    said: str
    holds: bool


def numbers(ours: Any, theirs: Any, tolerance: float = 1e-4) -> Agreement:
    """Compare scores by their largest difference."""
    gap = float(np.abs(ours - theirs).max())
    return Agreement(f"differ by {gap:.0e}", gap <= tolerance)


def picks(ours: Any, theirs: Any, first: int | None = None) -> Agreement:
    """Compare positions in order.

    Args:
        ours: [n].
        theirs: [n].
        first: how many must be equal; those after it depend on draws. All by default.
    """
    same = ours == theirs
    needed = len(same) if first is None else min(first, len(same))
    said = f"{int(same.sum())}/{len(same)} picks"
    if needed < len(same):
        said = f"first {int(same[:needed].sum())}/{needed}, all {int(same.sum())}/{len(same)}"
    return Agreement(said, bool(same[:needed].all()))


def farthest_each(ours: Any, theirs: Any, features: Tensor, labelled: Tensor) -> Agreement:
    """Check in float64 that each pick was the farthest item at its turn.

    Near ties may fall either way in float32, and everything after differs; so equal picks are
    counted, and this is what must hold.

    Args:
        ours: [n] positions.
        theirs: [n] positions, of the sequential loop.
        features: [N, D].
        labelled: [M, D].
    """
    chosen = torch.as_tensor(ours, device=features.device)
    centres = torch.cat([labelled, features[chosen]]).double()  # [M + n, D]
    start, n = len(labelled), len(chosen)
    largest = centres.new_zeros(n)
    own = centres.new_empty(n)
    for rows in torch.arange(len(features), device=features.device).split(ROWS):
        distance = torch.cdist(features[rows].double(), centres).square_()
        before = distance.cummin(1).values[:, start - 1 : -1]  # [rows, n]; to centres before pick
        largest = torch.maximum(largest, before.amax(0))
        inside = ((chosen >= rows[0]) & (chosen <= rows[-1])).nonzero().squeeze(1)
        own[inside] = before[chosen[inside] - rows[0], inside]
    gap = float((1 - own / largest.clamp_min(1e-300)).max())
    same = int((np.asarray(ours) == theirs).sum())
    return Agreement(f"{same}/{n} picks, gap {max(gap, 0):.0e}", gap <= GAP)


def covers(ours: Any, theirs: Any, features: Tensor, radius: float) -> Agreement:
    """Compare how many items the balls of the first 1, 2, ... picks cover.

    Pairs whose distance is the radius to the last digit fall either way, and with them a tie
    between two balls; so equal picks are counted, and this is what must hold.

    Args:
        ours: [n] positions.
        theirs: [n] positions, of the published procedure.
        features: [N, D].
        radius: of the balls.
    """
    n, counts = len(ours), []
    for chosen in (ours, theirs):
        count = torch.zeros(n)
        centres = features[torch.as_tensor(chosen)]
        for rows in features.split(ROWS):
            count += (torch.cdist(rows, centres) < radius).cummax(1).values.sum(0)
        counts.append(count)
    gap = float((counts[0] - counts[1]).abs().max()) / len(features)
    same = int((ours == theirs).sum())
    return Agreement(f"{same}/{n} picks, cover {gap:.1%} off", gap <= COVERED)


def potential(chosen: Any, left: Tensor, right: Tensor) -> float:
    """Sum of squared distances of left_i ⊗ right_i to the nearest row chosen."""
    where = torch.as_tensor(chosen, device=left.device)
    few, many = left[where], right[where]
    norms = left.square().sum(1) * right.square().sum(1)
    total = 0.0
    for rows in torch.arange(len(left), device=left.device).split(ROWS):
        inner = (left[rows] @ few.T).mul_(right[rows] @ many.T)
        near = (norms[rows, None] + norms[where] - 2 * inner).amin(1).clamp_min_(0)
        total += float(near.sum(dtype=torch.float64))
    return total


def law(ours: list[Any], theirs: list[Any], left: Tensor, right: Tensor) -> Agreement:
    """Compare the mean potentials of draws with different seeds.

    Args:
        ours: of several seeds, [n] positions each.
        theirs: of at least one.
        left: [N, C].
        right: [N, D].
    """
    mine = [potential(chosen, left, right) for chosen in ours]
    other = [potential(chosen, left, right) for chosen in theirs]
    groups = [values for values in (mine, other) if len(values) > 1]
    freedom = sum(len(values) - 1 for values in groups)
    squares = sum(variance(values) * (len(values) - 1) for values in groups)
    spread = math.sqrt(squares / freedom) if freedom else math.inf
    error = max(spread * math.sqrt(1 / len(mine) + 1 / len(other)), 1e-6 * fmean(other))
    away = (fmean(mine) - fmean(other)) / error
    said = f"potential {fmean(mine) / fmean(other) - 1:+.1%}, {away:+.1f} s.e."
    return Agreement(said, abs(away) <= ERRORS)
