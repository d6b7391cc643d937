"""ActiveFT: prototypes that match the distribution of the pool, and the items nearest to them."""

import torch
from torch import Tensor

from dal.functional.checks import check_count, check_features, check_n, check_positive
from dal.functional.clustering import nearest_distinct
from dal.functional.costs import Cost, costs
from dal.functional.kernels import unit_rows
from dal.functional.prototypes import fit_prototypes


@costs(
    lambda s, iterations: Cost(
        products=2 * iterations * s.n * s.D * (s.N + s.n),
        elements=iterations * s.N * (s.D / 3 + s.n) + 4 * s.N * s.D,
        steps=iterations * (30 + s.N / 1024),
        numbers=s.N * (s.D + 10) + 4096 * (s.n + s.D) + 8 * s.n * s.D,
    )
)
def active_ft(
    *,
    features: Tensor,
    n: int,
    generator: torch.Generator,
    temperature: float = 0.07,
    iterations: int = 300,
    learning_rate: float = 1e-3,
) -> Tensor:
    """Minimise mean_i -max_j <x_i, θ_j> / τ + mean_j log Σ_(k≠j) exp(<θ_j, θ_k> / τ) over n θ.

    The features x and the prototypes θ have length 1. The θ start at random items and follow
    Adam; each then takes the nearest item that is free. It is a choice at one stroke: what is
    labelled already plays no part, so that it suits the first query.

    Source: Xie, Lu, Yan, Yang, Tomizuka, Zhan, CVPR 2023.

    Deviation: the loss is the text's. The released code joins both terms in one log-sum, weighs
    the second by the items of each prototype, and stops the gradient at one of its two sides.

    Cost: time O(iterations · N n D); memory one copy of the features, O(n D) and tiles
    of 4096 x n and 4096 x D.

    Args:
        features: [N, D]; of the pool.
        n: how many, between 0 and N.
        generator: on the features' device.
        temperature: τ, above 0; the higher, the more the prototypes keep apart.
        iterations: steps of Adam.
        learning_rate: of Adam, above 0.

    Returns:
        [n] long positions, in the order of the prototypes.

    Raises:
        ValueError: if shapes differ from the above, n or a hyperparameter is out of range, or a
            feature is NaN or too large to square.

    One prototype turns to the mean direction, wherever it starts.

    >>> features = torch.tensor([[1.0, -1.0], [1.0, 0.1], [1.0, 1.0]])
    >>> active_ft(features=features, n=1, generator=torch.Generator(), learning_rate=0.1)
    tensor([1])
    """
    check_features("features", features)
    check_n(n, len(features))
    check_positive("temperature", temperature)
    check_count("iterations", iterations, 0)
    check_positive("learning_rate", learning_rate)
    if n == 0:
        return torch.empty(0, dtype=torch.long, device=features.device)
    points = unit_rows(features)
    order = torch.randperm(len(points), generator=generator, device=generator.device)
    prototypes = fit_prototypes(
        points,
        points[order[:n]],
        temperature=temperature,
        iterations=iterations,
        learning_rate=learning_rate,
    )
    return nearest_distinct(points, prototypes)
