"""ALFA-Mix: items whose predicted class changes when a labelled class is mixed in."""

from collections.abc import Callable

import torch
from torch import Tensor

from dal.functional.checks import (
    check_feature_sets,
    check_labels,
    check_n,
    check_probs,
    check_rows,
    check_share,
)
from dal.functional.clustering import kmeans, nearest_distinct
from dal.functional.costs import Cost, costs, kmeans_cost
from dal.functional.geometry import ROWS
from dal.functional.gradients import LastLayer
from dal.functional.kernels import unit_rows


@costs(
    lambda s: kmeans_cost(s.N, s.n, s.D).plus(
        Cost(elements=3 * s.N * s.D * min(s.C, s.M), numbers=(s.N + 6 * ROWS * min(s.M, 1)) * s.D)
    )
)
def alfa_mix(
    *,
    probs: Tensor,
    features: LastLayer,
    labelled_features: LastLayer,
    labels: Tensor,
    head: Callable[[Tensor], Tensor],
    n: int,
    generator: torch.Generator,
    alpha_cap: float = 0.2,
) -> Tensor:
    """Cluster the items where argmax head((1 - α) h + α z*) ≠ ŷ for the anchor z* of some class.

    z* is the mean feature of a labelled class, ŷ the predicted class, and α per coordinate is
    ε |z* - h| g / (|g| (z* - h)), g the gradient of the loss at ŷ with respect to h: of all mixes
    of that length, to first order the one that raises the loss most. ε is alpha_cap / √D, twice
    that and so on to 1 / √D, until there are n candidates; k-means of their unit features with n
    clusters gives the nearest item of each. Where there are fewer candidates, all are taken, and
    the rest are drawn at random.

    Source: Parvaneh, Abbasnejad, Teney, Haffari, van den Hengel and Shi, CVPR 2022; the closed
    form, and the growing ε of the released code.

    Deviation: α (z* - h) = ε |z* - h| g / |g| is computed as a whole, so that nothing is divided
    by z* - h; a coordinate in which h and z* agree stays as it is, and so does h where g is 0.
    Classes without a labelled item have no anchor (the released code gives them the mean of all
    that is labelled). Where nothing is labelled, the whole pool is clustered.

    Cost: time O(N A · head) for A anchors at most 1 / alpha_cap times, and k-means; memory two
    copies of the features and some of 4096 rows, on their way through the head.

    Args:
        probs: [N, C]; predictive probabilities.
        features: [N, D]; what enters the last layer.
        labelled_features: [M, D]; of the labelled items, M may be 0.
        labels: [M] long.
        head: features [..., D] to logits [..., C]; differentiable.
        n: how many, between 0 and N.
        generator: on the tensors' device.
        alpha_cap: first length of the mix and step by which it grows, above 0 and at most 1.

    Returns:
        [n] long positions.

    Raises:
        ValueError: if shapes differ from the above, n or alpha_cap is out of range, or a value is
            NaN or too large to square.

    The boundary is at 0 and the anchors at -4 and 4: the two items nearest to it change sides.

    >>> features = torch.tensor([[-3.0], [0.1], [2.5], [-0.2]])
    >>> head = lambda h: torch.cat([-h, h], dim=-1)
    >>> alfa_mix(
    ...     probs=head(features).softmax(1), features=features, head=head, n=2,
    ...     labelled_features=torch.tensor([[-4.0], [4.0]]), labels=torch.tensor([0, 1]),
    ...     generator=torch.Generator(),
    ... )
    tensor([1, 3])
    """
    check_probs(probs)
    check_feature_sets(features, labelled_features)
    check_rows(probs=probs, features=features)
    check_labels(labels, len(labelled_features))
    check_n(n, len(probs))
    check_share("alpha_cap", alpha_cap)
    if alpha_cap == 0:
        raise ValueError(f"alpha_cap must be above 0, got {alpha_cap}")
    if n == 0:
        return torch.empty(0, dtype=torch.long, device=probs.device)
    candidate = torch.ones(len(probs), dtype=torch.bool, device=probs.device)
    if len(labels):
        anchors = _anchors(labelled_features, labels)
        candidate = _candidates(probs.argmax(1), features, anchors, head, n=n, step=alpha_cap)
    positions = candidate.nonzero().squeeze(1)
    if len(positions) > n:
        directions = unit_rows(features[positions])
        centroids = kmeans(directions, n, generator).centroids
        return positions[nearest_distinct(directions, centroids)]
    others = (~candidate).nonzero().squeeze(1)
    order = torch.randperm(len(others), generator=generator, device=generator.device)
    return torch.cat([positions, others[order[: n - len(positions)]]])


def _anchors(features: Tensor, labels: Tensor) -> Tensor:
    """Mean feature of each class that is present: [M, D], [M] -> [A, D]."""
    present, numbers = labels.unique(return_inverse=True)
    sums = features.new_zeros(len(present), features.shape[1]).index_add_(0, numbers, features)
    return sums / torch.bincount(numbers).unsqueeze(1)


def _candidates(
    predicted: Tensor,
    features: Tensor,
    anchors: Tensor,
    head: Callable[[Tensor], Tensor],
    *,
    n: int,
    step: float,
) -> Tensor:
    """Items whose prediction changes at the least ε that changes n of them: [N] bool."""
    uphill = torch.empty_like(features)  # [N, D]
    for start in range(0, len(features), ROWS):
        part = slice(start, start + ROWS)
        uphill[part] = _uphill(head, features[part], predicted[part])
    candidate = torch.zeros_like(predicted, dtype=torch.bool)
    cap = 0.0
    while cap < 1 and int(candidate.sum()) < n:
        cap = min(cap + step, 1.0)
        for anchor in anchors:
            for rows in (~candidate).nonzero().squeeze(1).split(ROWS):
                h = features[rows]
                away = anchor - h  # [rows, D]
                length = torch.linalg.vector_norm(away, dim=1, keepdim=True)
                move = (cap / h.shape[1] ** 0.5) * length * uphill[rows]
                mixed = h + move.masked_fill(away == 0, 0)
                candidate[rows] = head(mixed).argmax(-1) != predicted[rows]
    return candidate


def _uphill(head: Callable[[Tensor], Tensor], features: Tensor, labels: Tensor) -> Tensor:
    """Unit gradient of the loss at the labels with respect to the features: [R, D]."""
    with torch.enable_grad():
        leaf = features.detach().clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(head(leaf), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, leaf)
    return unit_rows(gradient)
