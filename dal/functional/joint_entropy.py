"""Joint information of several labels about the parameters, and a batch that maximises it.

N items, K posterior samples, C classes. A configuration gives a label to each chosen item. For
each of M configurations the weights W[m, k] = P(sample k | configuration m) are kept, and

    I(y_S, y_n; ω) - I(y_S; ω) = E_m[H(Σ_k W[m, k] p_k(y_n))] - mean_k H(p_k(y_n))

is what item n adds: one matrix product over configurations and no joint table.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from dal.functional.blocks import block_elements, score_rows
from dal.functional.clustering import nearest_centroid
from dal.functional.information import entropy, mutual_information

CONFIGURATIONS = 512  # in a tile
MERGED = 1024  # groups of configurations that stand for all of them in a bound
BLOCK = 32  # items that are evaluated before the bounds are looked at again; doubled each time
CEILINGS = 2048  # items whose ceilings are computed together
ROUNDING = 64  # gains this many epsilons apart are equal


class JointLabels:
    """Distribution of the labels of the items added so far, and of the samples given them.

    Every configuration of positive probability is listed while C times as many still fit; then
    `configurations // K` are drawn from each sample, at least one, so that a configuration has
    the law of the labels and all count alike.

    Args:
        log_probs: [..., K, C]; gives K, type and device.
        configurations: M, the most configurations.
        generator: on the device of `log_probs`; used once they are drawn.
    """

    def __init__(self, log_probs: Tensor, configurations: int, generator: torch.Generator) -> None:
        samples = log_probs.shape[-2]
        self.given = log_probs.new_full((1, samples), 1 / samples)  # [M, K]; P(sample | labels)
        self.shares = log_probs.new_ones(1)  # [M]; P(labels)
        self.exact = True
        self.configurations = configurations
        self.generator = generator
        self._added: list[Tensor] = []
        self._merged: tuple[Tensor, Tensor] | None = None

    def add(self, log_probs: Tensor) -> None:
        """Add an item.

        Args:
            log_probs: [K, C].
        """
        probs = log_probs.exp()
        self._merged = None
        self._added.append(probs)
        if self.exact and len(self.given) * probs.shape[1] <= self.configurations:
            self._list(probs)
        elif self.exact:
            self._start_drawing(len(probs))
            for earlier in self._added:
                self._draw(earlier)
        else:
            self._draw(probs)

    def conditional_entropy(self, log_probs: Tensor) -> Tensor:
        """Entropy H(y | labels of the items added) of each item, in expectation over the labels.

        Time O(B C K M); memory one tile beyond a copy of the inputs.

        Args:
            log_probs: [B, K, C].

        Returns:
            [B] in [0, ln C].
        """
        return _expected_entropy(log_probs, self.given, self.shares)

    def entropy_ceiling(self, log_probs: Tensor) -> Tensor:
        """What no item's `conditional_entropy` exceeds: [B, K, C] -> [B].

        Configurations of near weights are merged into one of their mean weights. Entropy is
        concave, so that its mean over them is at most that of the merged one (Jensen). Costs a
        part of `conditional_entropy`, as there are `MERGED` configurations at most.
        """
        if self._merged is None:
            self._merged = _merge(self.given, self.shares)
        return _expected_entropy(log_probs, *self._merged)

    def _list(self, probs: Tensor) -> None:
        joint = self.given.unsqueeze(1) * probs.T  # [M, C, K]
        given = joint.sum(2)  # P(y | configuration)
        shares = self.shares.unsqueeze(1) * given  # [M, C]
        possible = shares > 0
        self.given = joint[possible] / given[possible].unsqueeze(1)
        self.shares = shares[possible]

    def _start_drawing(self, samples: int) -> None:
        self.exact = False
        count = max(self.configurations // samples, 1) * samples
        self.given = self.given.new_full((count, samples), 1 / samples)
        self.shares = self.given.new_full((count,), 1 / count)

    def _draw(self, probs: Tensor) -> None:
        each = len(self.given) // len(probs)
        labels = torch.multinomial(probs, each, replacement=True, generator=self.generator)
        joint = self.given * probs[:, labels.flatten()].T  # [M, K]
        total = joint.sum(1, keepdim=True)
        self.given = torch.where(total > 0, joint / total, self.given)


def _expected_entropy(log_probs: Tensor, given: Tensor, shares: Tensor) -> Tensor:
    """Σ_m shares_m H(Σ_k given_mk p_k) of items: [B, K, C], [M, K], [M] -> [B]."""
    count, _, classes = log_probs.shape
    entropies = log_probs.new_zeros(count, classes)
    limits = torch.finfo(log_probs.dtype)
    width = min(len(given), CONFIGURATIONS)
    items = max(min(block_elements(log_probs.device) // (classes * width), count), 1)
    tiles = log_probs.new_empty(2, items * classes, width)
    for first in range(0, count, items):
        probs = log_probs[first : first + items].exp().transpose(1, 2).flatten(0, 1)  # [B·C, K]
        probs.clamp_min_(limits.tiny / limits.eps)  # log 0 · 0 is NaN
        total = entropies[first : first + items].view(-1)  # [B·C]
        for start in range(0, len(given), width):
            part = slice(start, start + width)
            mixed, logs = tiles[:, : len(probs), : len(given[part])]
            torch.mm(probs, given[part].T, out=mixed)  # [B·C, configurations]
            total.addmv_(torch.log(mixed, out=logs).mul_(mixed), shares[part], alpha=-1)
    return entropies.sum(1)


def _merge(given: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Mean weights of groups of near configurations, and their shares: [G, K], [G]."""
    groups = given[:: -(-len(given) // MERGED)]
    for _ in range(2):  # passes of k-means; the second makes ceilings much lower
        nearest = nearest_centroid(given, groups)  # [M]
        together = shares.new_zeros(len(groups)).index_add_(0, nearest, shares)
        sums = torch.zeros_like(groups).index_add_(0, nearest, given * shares.unsqueeze(1))
        filled = together > 0
        together = together[filled]
        groups = sums[filled] / together.unsqueeze(1)
    return groups, together


def joint_information(
    log_probs: Tensor, generator: torch.Generator, *, configurations: int = 10_000
) -> Tensor:
    """I(y_1, ..., y_B; ω) of B items, in nats.

    Args:
        log_probs: [B, K, C].
        generator: on the same device; used if there are more configurations than allowed.
        configurations: the most label configurations to list or draw.

    Returns:
        A scalar in [0, ln K].

    >>> split = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]).log()
    >>> joint_information(split, torch.Generator())
    tensor(0.6931)
    >>> joint_information(torch.cat([split, split]), torch.Generator())  # the second adds nothing
    tensor(0.6931)
    """
    joint = JointLabels(log_probs, configurations, generator)
    total = log_probs.new_zeros(())
    for item in log_probs:
        total += (joint.conditional_entropy(item.unsqueeze(0)) - entropy(item).mean()).squeeze(0)
        joint.add(item)
    return total


def greedy_joint_information(
    log_probs: Tensor,
    n: int,
    generator: torch.Generator,
    *,
    configurations: int,
    slack: float,
) -> tuple[Tensor, Tensor]:
    """Add n items one by one, each the one that adds most to the joint information.

    What an item adds can only fall as others are added, so that an earlier gain bounds a later
    one: items are evaluated in the order of their bounds until no bound exceeds the best gain
    (lazy greedy; Minoux, 1978). Gains of drawn configurations are estimates and may rise a
    little, for which `slack` allows. Ties go to the lowest position.

    Args:
        log_probs: [N, K, C].
        n: how many, at most N.
        generator: on the same device.
        configurations: the most label configurations to list or draw.
        slack: once configurations are drawn, bounds down to 1 - slack times the best gain are
            evaluated too.

    Returns:
        [n] long, in the order of choice, and [n] what each added.
    """
    bounds = mutual_information(log_probs)  # [N]
    certain = score_rows(lambda block: entropy(block).mean(1), log_probs)  # [N]
    joint = JointLabels(log_probs, configurations, generator)
    rounding = ROUNDING * torch.finfo(log_probs.dtype).eps
    positions = torch.empty(n, dtype=torch.long, device=log_probs.device)
    gains = log_probs.new_empty(n)

    def gain_of(rows: Tensor) -> Tensor:
        return (joint.conditional_entropy(log_probs[rows]) - certain[rows]).clamp_min_(0)

    def ceiling_of(rows: Tensor) -> Tensor:
        return joint.entropy_ceiling(log_probs[rows]) - certain[rows]

    for pick in range(n):
        if pick:
            joint.add(log_probs[positions[pick - 1]])
            share = 1.0 if joint.exact else 1 - slack
            coarse = ceiling_of if len(joint.given) > 2 * MERGED else None
            left = len(bounds) - pick
            _evaluate(bounds, gain_of, coarse, left=left, rounding=rounding, share=share)
        position = (bounds >= bounds.max() - rounding).int().argmax()  # the first of equals
        positions[pick], gains[pick] = position, bounds[position]
        bounds[position] = -torch.inf
    return positions, gains


def _evaluate(
    bounds: Tensor,
    gain_of: Callable[[Tensor], Tensor],
    ceiling_of: Callable[[Tensor], Tensor] | None,
    *,
    left: int,
    rounding: float,
    share: float,
) -> None:
    """Replace bounds by gains, highest first, until none left could be the best.

    Args:
        bounds: [N]; changed in place.
        gain_of: positions [B] -> gains [B].
        ceiling_of: positions [B] -> what the gains cannot exceed, for less; None if that does not
            pay.
        left: how many items are not chosen yet; the others come last.
        rounding: gains this far apart are equal; below it they are 0 and not evaluated.
        share: of the best gain, that a bound must reach to be evaluated.
    """
    order = bounds.argsort(descending=True, stable=True)[:left]
    best = bounds.new_tensor(0.0)
    if ceiling_of is not None:
        first, order = order[:BLOCK], order[BLOCK:]
        bounds[first] = gain_of(first)
        best = bounds[first].max()
        order = order[bounds[order] >= share * best - rounding]
        for rows in order.split(CEILINGS):
            ceilings = ceiling_of(rows)
            bounds[rows] = torch.minimum(bounds[rows], ceilings) if share == 1 else ceilings
        order = order[bounds[order].argsort(descending=True, stable=True)]
        share = 1.0  # ceilings hold, whatever was drawn
    size = BLOCK
    while len(order) and bounds[order[0]] >= (share * best - rounding).clamp_min(rounding):
        bounds[order[:size]] = gain_of(order[:size])
        best = torch.maximum(best, bounds[order[:size]].max())
        order, size = order[size:], 2 * size
