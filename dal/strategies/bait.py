"""BAIT: the batch that leaves the least expected error, by the Fisher information."""

import torch
from torch import Tensor

from dal.functional.checks import (
    check_count,
    check_feature_sets,
    check_n,
    check_positive,
    check_probs,
    check_rows,
    check_tensor,
    check_widths,
)
from dal.functional.costs import Cost, Sizes, costs
from dal.functional.fisher import TILE, Design, fisher_sum
from dal.functional.gradients import LastLayer

PARAMETERS = 9000  # three float64 matrices of that side are 1.9 GB
CELLS = 125_000_000  # N C²; two float64 tensors of that size are 2 GB


def _cost(s: Sizes, oversample: float, dimensions: int | None, candidates: int | None) -> Cost:
    p = s.C * min(s.D, dimensions or s.D)
    rows, picks = min(s.N, candidates or s.N), oversample * s.n
    return Cost(
        products=3 * s.N * p**2 + 8 * p**3 + 6 * picks * (rows + p) * p * s.C,
        elements=picks * rows * s.C**2 * (s.C + 10),
        steps=60 * picks,
        numbers=6 * p**2 + 4 * rows * s.C**2 + 4 * TILE,
    )


@costs(_cost)
def bait(
    *,
    probs: Tensor,
    features: LastLayer,
    labelled_features: LastLayer,
    labelled_probs: Tensor,
    n: int,
    regularisation: float = 1.0,
    oversample: float = 2.0,
    dimensions: int | None = None,
    candidates: int | None = None,
) -> Tensor:
    """Minimise tr[(Σ_{labelled and S} I(x) + λ 1)⁻¹ Σ_pool I(x)] over S greedily, then prune.

    I(x) = (diag p - p pᵀ) ⊗ h hᵀ is the Fisher information of the last layer. Forward, 2n items
    are added, each the one that lowers the trace most; backward, those are taken off whose loss
    raises it least, until n remain. Ties go to the lowest position.

    Source: Ash, Goel, Krishnamurthy and Kakade, NeurIPS 2021.

    Deviation: sums as in the text; the released code weighs the chosen by n / (M + n), takes the
    mean over the labelled and adds them to the target. Without `dimensions` and `candidates`
    nothing is approximated; with them, features are projected to the leading eigenvectors of
    their second moment, and S is sought among the first `candidates` items of the pool, which is
    dealt in random order (the target stays the whole pool).

    Cost: time O(N P² + P³) to start, O(oversample · n · (N P C + P² C)) to search, P = C·D; memory
    three P x P and two N x C x C tensors in float64.

    Args:
        probs: [N, C]; predictive probabilities.
        features: [N, D]; what enters the last layer.
        labelled_features: [M, D]; of the labelled items, M may be 0.
        labelled_probs: [M, C].
        n: how many, between 0 and N.
        regularisation: λ, above 0.
        oversample: how many times n the forward search takes, at least 1; at most all of them.
        dimensions: project the features to so many; None keeps them all.
        candidates: look at so many items of the pool only; None looks at all.

    Returns:
        [n] long positions, in the order of choice.

    Raises:
        ValueError: if shapes differ from the above, n or a hyperparameter is out of range, a value
            is NaN, or C·D is above 9,000 or the number of candidates times C² above 125 million.

    The first two speak for one another, the third for itself, and the last is sure.

    >>> probs = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [1.0, 0.0]])
    >>> features = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [9.0, 9.0]])
    >>> none = torch.empty(0, 2)
    >>> bait(probs=probs, features=features, labelled_features=none, labelled_probs=none, n=2)
    tensor([0, 2])
    """
    check_probs(probs)
    check_feature_sets(features, labelled_features)
    check_tensor("labelled_probs", labelled_probs, "M", "C")
    check_rows(probs=probs, features=features)
    check_rows(labelled_probs=labelled_probs, labelled_features=labelled_features)
    check_widths(probs=probs, labelled_probs=labelled_probs)
    check_n(n, len(probs))
    _check_hyperparameters(regularisation, oversample, dimensions, candidates, n)
    if dimensions is not None and dimensions < features.shape[1]:
        axes = _leading_axes(features, dimensions)
        features, labelled_features = features @ axes, labelled_features @ axes
    rows = len(probs) if candidates is None else min(candidates, len(probs))
    _check_size(probs.shape[1], features.shape[1], rows)
    if n == 0:
        return torch.empty(0, dtype=torch.long, device=probs.device)
    _check_scale(features, labelled_features, regularisation)
    inverse = _inverse(labelled_probs, labelled_features, regularisation)
    design = Design(inverse, fisher_sum(probs, features), probs[:rows], features[:rows])
    return _prune(design, _grow(design, min(rows, max(n, int(oversample * n)))), n)


def _grow(design: Design, n: int) -> Tensor:
    chosen = torch.empty(n, dtype=torch.long, device=design.probs.device)
    free = torch.ones(len(design.probs), dtype=torch.bool, device=chosen.device)
    for step in range(n):
        position = design.change(1).masked_fill(~free, -torch.inf).argmax()
        chosen[step] = position
        free[position] = False
        design.apply(position, 1)
    return chosen


def _prune(design: Design, chosen: Tensor, n: int) -> Tensor:
    design.keep(chosen)
    kept = torch.ones(len(chosen), dtype=torch.bool, device=chosen.device)
    for _ in range(len(chosen) - n):
        rise = design.change(-1).masked_fill(~kept, torch.inf)
        position = len(rise) - 1 - rise.flip(0).argmin()  # of equals, the last that came
        kept[position] = False
        design.apply(position, -1)
    return chosen[kept]


def _inverse(probs: Tensor, features: Tensor, regularisation: float) -> Tensor:
    """(Σ_x I(x) + λ 1)⁻¹, [P, P] float64."""
    information = fisher_sum(probs, features)
    information.diagonal().add_(regularisation)
    root = torch.linalg.cholesky(information)
    del information
    return torch.cholesky_inverse(root)


def _leading_axes(features: Tensor, dimensions: int) -> Tensor:
    """Leading eigenvectors of Σ h hᵀ: [N, D] -> [D, dimensions]."""
    moment = features.new_zeros(features.shape[1], features.shape[1], dtype=torch.float64)
    for block in features.split(4096):
        moment += block.double().T @ block.double()
    axes: Tensor = torch.linalg.eigh(moment).eigenvectors[:, -dimensions:]
    return axes.to(features.dtype)


def _check_hyperparameters(
    regularisation: float, oversample: float, dimensions: int | None, candidates: int | None, n: int
) -> None:
    check_positive("regularisation", regularisation)
    check_positive("oversample", oversample)
    if oversample < 1:
        raise ValueError(f"oversample must be at least 1, got {oversample}")
    if dimensions is not None:
        check_count("dimensions", dimensions, 1)
    if candidates is not None:
        check_count("candidates", candidates, max(n, 1))


def _check_size(classes: int, width: int, rows: int) -> None:
    if classes * width > PARAMETERS:
        raise ValueError(
            f"bait holds (C·D)² numbers and C·D must be at most {PARAMETERS}, got {classes} x "
            f"{width}; set dimensions to {max(1, PARAMETERS // classes)} or fewer"
        )
    if rows * classes**2 > CELLS:
        raise ValueError(
            f"bait holds C² numbers per candidate and N·C² must be at most {CELLS}, got {rows} x "
            f"{classes}²; set candidates to {max(1, CELLS // classes**2)} or fewer"
        )


def _check_scale(features: Tensor, labelled_features: Tensor, regularisation: float) -> None:
    squares = torch.cat([block.square().sum(1) for block in (features, labelled_features)])
    largest = float(squares.max())
    if largest > 1e10 * regularisation:
        raise ValueError(
            f"regularisation must be at least 1e-10 of the largest squared feature norm, which "
            f"float64 can still invert, got {regularisation} with a norm of {largest:g}"
        )
