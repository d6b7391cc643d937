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
from dal.functional.information import entropy, mutual_information

CONFIGURATIONS = 512  # in a tile
BLOCK = 256  # items that are evaluated before the bounds are looked at again
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

    def add(self, log_probs: Tensor) -> None:
        """Add an item.

        Args:
            log_probs: [K, C].
        """
        probs = log_probs.exp()
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
        classes = log_probs.shape[2]
        entropies = log_probs.new_zeros(len(log_probs), classes)
        limits = torch.finfo(log_probs.dtype)
        tile = block_elements(log_probs.device)
        items = max(tile // (classes * min(len(self.given), CONFIGURATIONS)), 1)
        for first in range(0, len(log_probs), items):
            probs = log_probs[first : first + items].exp().transpose(1, 2).flatten(0, 1)  # [B·C, K]
            probs.clamp_min_(limits.tiny / limits.eps)  # log 0 · 0 is NaN
            total = entropies[first : first + items].view(-1)  # [B·C]
            for start in range(0, len(self.given), CONFIGURATIONS):
                part = slice(start, start + CONFIGURATIONS)
                given = probs @ self.given[part].T  # [B·C, configurations]
                total.addmv_(given.log().mul_(given), self.shares[part], alpha=-1)
        return entropies.sum(1)

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

    for pick in range(n):
        if pick:
            joint.add(log_probs[positions[pick - 1]])
            share = 1.0 if joint.exact else 1 - slack
            _evaluate(bounds, gain_of, left=len(bounds) - pick, rounding=rounding, share=share)
        position = (bounds >= bounds.max() - rounding).int().argmax()  # the first of equals
        positions[pick], gains[pick] = position, bounds[position]
        bounds[position] = -torch.inf
    return positions, gains


def _evaluate(
    bounds: Tensor,
    gain_of: Callable[[Tensor], Tensor],
    *,
    left: int,
    rounding: float,
    share: float,
) -> None:
    """Replace bounds by gains, highest first, until none left could be the best.

    Args:
        bounds: [N]; changed in place.
        gain_of: positions [B] -> gains [B].
        left: how many items are not chosen yet; the others come last.
        rounding: gains this far apart are equal; below it they are 0 and not evaluated.
        share: of the best gain, that a bound must reach to be evaluated.
    """
    order = bounds.argsort(descending=True, stable=True)[:left]
    ranked = bounds[order]
    best = ranked.new_tensor(0.0)
    for start in range(0, left, BLOCK):
        if not ranked[start] >= (share * best - rounding).clamp_min(rounding):
            return
        rows = order[start : start + BLOCK]
        bounds[rows] = gain_of(rows)
        best = torch.maximum(best, bounds[rows].max())
