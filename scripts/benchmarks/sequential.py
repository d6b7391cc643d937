"""The textbook loops: one pick at a time, one pass over the pool each, distances from factors.

What a careful author writes in torch without the ideas that `dal` is made of. They are the
yardstick, and what the answers are compared with.
"""

import math

import torch
from torch import Tensor

TILE = 2**22  # numbers in an intermediate of the full evaluation


def kmeans_plus_plus(left: Tensor, right: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Seed k-means++ on left_i ⊗ right_i: two matrix-vector products and a draw for each pick.

    Args:
        left: [N, C].
        right: [N, D].
        n: how many.
        generator: on the tensors' device.

    Returns:
        [n] long; the first is the one of largest norm.
    """
    norms = left.square().sum(1) * right.square().sum(1)  # [N]
    weights = torch.full_like(norms, torch.inf)
    position = norms.argmax()
    chosen = [position]
    for _ in range(n - 1):
        inner = (left @ left[position]) * (right @ right[position])
        distance = (norms + norms[position] - 2 * inner).clamp_min_(0)
        weights = torch.minimum(weights, distance)
        weights[position] = 0
        total = weights.cumsum(0, dtype=torch.float64)
        draw = torch.rand(1, generator=generator, device=total.device, dtype=total.dtype)
        position = torch.searchsorted(total, draw * total[-1], right=True)[0]
        position = position.clamp_max(len(norms) - 1)
        chosen.append(position)
    return torch.stack(chosen)


def badge(probs: Tensor, features: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Run BADGE [n]: k-means++ on (p - e_ŷ) ⊗ h."""
    error = probs.clone()
    error[torch.arange(len(error), device=error.device), probs.argmax(1)] -= 1
    return kmeans_plus_plus(error, features, n, generator)


def k_center(features: Tensor, labelled_features: Tensor, n: int) -> Tensor:
    """Take the farthest item n times: one arg-max and one matrix-vector product for each pick.

    Args:
        features: [N, D].
        labelled_features: [M, D]; M > 0.
        n: how many.

    Returns:
        [n] long.
    """
    mean = features.mean(0)
    features, labelled = features - mean, labelled_features - mean
    norms = features.square().sum(1)
    distance = torch.full_like(norms, torch.inf)
    for block in labelled.split(128):
        tile = torch.addmm(block.square().sum(1), features, block.T, alpha=-2)  # [N, block]
        distance = torch.minimum(distance, tile.amin(1) + norms)
    chosen = torch.empty(n, dtype=torch.long, device=features.device)
    for step in range(n):
        position = distance.argmax()
        chosen[step] = position
        to_new = norms + norms[position] - 2 * (features @ features[position])
        distance = torch.minimum(distance, to_new.clamp_min_(0))
        distance[position] = -torch.inf
    return chosen


def entropy(probs: Tensor) -> Tensor:
    """Score [N] by -Σ p log p, the whole pool at once."""
    return torch.special.entr(probs).sum(1)


def margin(probs: Tensor) -> Tensor:
    """Score [N] by the second largest less the largest."""
    top = probs.topk(2, dim=1).values
    return top[:, 1] - top[:, 0]


def bald(log_probs: Tensor) -> Tensor:
    """Score [N] by H(mean_k p_k) - mean_k H(p_k), the whole pool at once."""
    mean = log_probs.logsumexp(1) - math.log(log_probs.shape[1])
    total = -(mean * mean.exp()).sum(1)
    each = -(log_probs * log_probs.exp()).sum(2)  # [N, K]
    return total - each.mean(1)


def batch_bald(
    log_probs: Tensor, n: int, generator: torch.Generator, configurations: int = 10_000
) -> Tensor:
    """Choose greedily by the joint information, every item evaluated for every pick.

    Label configurations are listed while there are few, and then drawn, equally many from each
    sample, as published.

    Args:
        log_probs: [N, K, C].
        n: how many.
        generator: on the tensors' device; used once configurations are drawn.
        configurations: the most that are listed or drawn.

    Returns:
        [n] long.
    """
    probs = log_probs.exp()
    count, samples, classes = probs.shape
    own = torch.special.entr(probs).sum(2).mean(1)  # [N]
    joint = probs.new_ones(1, samples)  # [M, K]; P(configuration | sample)
    weight = joint.new_ones(1)  # [M]; of a configuration, over its mean of `joint`
    drawn = False
    chosen: list[int] = []
    for _ in range(n):
        gains = torch.empty_like(own)
        mean = joint.mean(1)  # [M]
        given = (weight / samples).unsqueeze(1) * joint  # [M, K]
        rows = max(TILE // (classes * len(joint)), 1)
        for start in range(0, count, rows):
            block = probs[start : start + rows]
            tile = block.transpose(1, 2) @ given.T  # [rows, C, M]; weighted P(y, configuration)
            # the configuration's own term is the same for every item
            inside = (tile / (weight * mean).clamp_min(1e-38)).clamp_min_(1e-38).log_()
            gains[start : start + rows] = -(tile * inside).sum((1, 2))
        gains -= own
        gains[chosen] = -torch.inf
        chosen.append(int(gains.argmax()))
        drawn = drawn or len(joint) * classes > configurations
        if not drawn:
            joint = (joint.unsqueeze(1) * probs[chosen[-1]].T).flatten(0, 1)  # [M·C, K]
            weight = joint.new_ones(len(joint))
        else:
            joint = _draw(probs[chosen], configurations, generator)
            weight = 1 / (len(joint) * joint.mean(1))
    return torch.tensor(chosen)


def _draw(probs: Tensor, configurations: int, generator: torch.Generator) -> Tensor:
    """P(labels | sample) [M, K] of labels of the items [B, K, C], drawn from every sample."""
    each = max(configurations // probs.shape[1], 1)
    joint = probs.new_ones(each * probs.shape[1], probs.shape[1])
    for item in probs:
        labels = torch.multinomial(item, each, replacement=True, generator=generator)
        joint *= item[:, labels.flatten()].T
    return joint
