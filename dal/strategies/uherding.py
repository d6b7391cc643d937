"""Uncertainty herding: kernels that cover the uncertain part of the pool."""

from torch import Tensor

from dal.functional.calibration import fit_temperature, tempered
from dal.functional.checks import (
    check_feature_sets,
    check_labels,
    check_n,
    check_positive,
    check_probs,
    check_rows,
    check_tensor,
    check_widths,
)
from dal.functional.costs import Cost, costs
from dal.functional.kernels import (
    gaussian_of,
    in_precision_of,
    lazy_greedy,
    lazy_greedy_cost,
    least_distance,
    unit_rows,
)


@costs(
    lambda s: lazy_greedy_cost(s.N, s.M, s.n, s.D).plus(
        Cost(
            products=2 * s.M * s.M * s.D,
            elements=20 * s.N * s.C + 2000 * s.M * s.C,
            numbers=s.N * s.C,
        )
    )
)
def uherding(
    *,
    probs: Tensor,
    features: Tensor,
    labelled_features: Tensor,
    labelled_probs: Tensor,
    labels: Tensor,
    n: int,
    temperature: float | None = None,
    bandwidth: float | None = None,
) -> Tensor:
    """Repeat argmax_x̃ mean_x u(x) max(k(x, x̃) - max_{c in labelled and chosen} k(x, c), 0).

    u is 1 - (p_(1) - p_(2)) of the probabilities at a temperature, k the Gaussian kernel
    exp(-|x - c|² / σ²) of unit features. Both adapt: few labels give a wide kernel and an even u,
    many a narrow one. σ is the smallest distance of two labelled items, the temperature the one
    that suits the labels best.

    Source: Bae, Oliveira and Sutherland, ICLR 2025.

    Deviation: the paper trains another model on a part of the labelled set and takes the
    temperature of least calibration error on the rest. A strategy cannot train: the temperature,
    from 1 to 20 as in the released code, is that of least log-loss on the labelled predictions,
    which the model was trained on, so that it errs towards 1; set `temperature` to one found on
    a validation set. Labelled points that coincide do not make σ 0: pairs nearer than 1e-6 do not
    count, and without a pair σ is 1. Without labels, or where the whole pool is certain, u is 1.

    Cost: time O(N² D / 2) for the first gains, O(N (M + n) D) for the new centres, O(M² D) for σ,
    and for gains looked at again at most twice the pairs of points and rows that changed; memory
    one or two copies of the features and O(N C).

    Args:
        probs: [N, C]; predictive probabilities.
        features: [N, D]; of the pool.
        labelled_features: [M, D]; of the labelled items, M may be 0.
        labelled_probs: [M, C].
        labels: [M] long.
        n: how many, between 0 and N.
        temperature: above 0; None fits it.
        bandwidth: σ, above 0; None adapts it.

    Returns:
        [n] long positions, in the order of choice.

    Raises:
        ValueError: if shapes differ from the above, n, a label, the temperature or the bandwidth
            is out of range, or a value is NaN or too large to square.

    The first two stand together and are sure, 1 - margin = 0.02; the last has 0.8, and T = 1.

    >>> import torch
    >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    >>> probs = torch.tensor([[0.99, 0.01], [0.99, 0.01], [0.4, 0.6]])
    >>> uherding(
    ...     probs=probs, features=features, n=2, labels=torch.tensor([0, 0]),
    ...     labelled_features=torch.tensor([[-1.0, 0.0], [-0.8, 0.6]]), labelled_probs=probs[:2],
    ... )
    tensor([2, 0])
    """
    check_probs(probs)
    check_feature_sets(features, labelled_features)
    check_tensor("labelled_probs", labelled_probs, "M", "C")
    check_rows(probs=probs, features=features)
    check_rows(labelled_probs=labelled_probs, labelled_features=labelled_features)
    check_widths(probs=probs, labelled_probs=labelled_probs)
    check_labels(labels, len(labelled_features))
    check_n(n, len(probs))
    for name, value in (("temperature", temperature), ("bandwidth", bandwidth)):
        if value is not None:
            check_positive(name, value)
    if len(labels) and int(labels.max()) >= probs.shape[1]:
        raise ValueError(f"labels must be below C = {probs.shape[1]}, got {int(labels.max())}")
    weights = _uncertainty(probs, labelled_probs, labels, temperature)
    centres = unit_rows(labelled_features)
    if bandwidth is None:
        least = least_distance(centres)
        bandwidth = least if least < float("inf") else 1.0
    points = in_precision_of(bandwidth, unit_rows(features))
    similarity = gaussian_of(bandwidth)
    return lazy_greedy(points, centres.to(points.dtype), n, similarity, weights=weights)


def _uncertainty(
    probs: Tensor, labelled_probs: Tensor, labels: Tensor, temperature: float | None
) -> Tensor | None:
    """1 - margin at the temperature: [N], or None where all weigh the same."""
    if len(labels) == 0:
        return None
    if temperature is None:
        temperature = fit_temperature(labelled_probs, labels, low=1.0, high=20.0)
    best = tempered(probs, temperature).topk(2, dim=1).values  # [N, 2]
    weights = 1 - (best[:, 0] - best[:, 1])
    return weights.clamp_min(0) if (weights > 0).any() else None
