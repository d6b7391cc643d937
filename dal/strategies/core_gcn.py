"""CoreGCN: the core-set of features from a graph network that knows what is labelled."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize

from dal.functional.checks import (
    check_count,
    check_feature_sets,
    check_n,
    check_positive,
)
from dal.functional.costs import Cost, Sizes, costs, k_center_cost
from dal.functional.k_center import k_center_greedy

LEARNING_RATE, WEIGHT_DECAY, DROPOUT = 1e-3, 5e-4, 0.3  # of the released code


def _cost(s: Sizes, hidden: int, epochs: int) -> Cost:
    steps = epochs if s.M else 0
    network = Cost(
        products=s.N * s.D * (4 * s.D + 3 * steps * hidden) if s.M else 0,
        elements=s.N * (8 * s.D + steps * (3 * s.D + 12 * hidden)),
        steps=60 * steps,
        numbers=(s.N + s.M) * (4 * s.D + 6 * hidden if s.M else 2 * s.D),
    )
    return k_center_cost(s.N, s.M, s.n, s.D).plus(network)


@costs(_cost)
def core_gcn(
    *,
    features: Tensor,
    labelled_features: Tensor,
    n: int,
    generator: torch.Generator,
    hidden: int = 128,
    epochs: int = 200,
    loss_weight: float = 1.2,
) -> Tensor:
    """Repeat argmax_x min_{c labelled or chosen} |z_x - z_c|, z = relu(A H W_1 + b_1).

    H are pool and labelled features of norm 1, A = D⁻¹ (H Hᵀ - I) + I their graph, D the row
    sums of H Hᵀ - I. The graph network σ(A z W_2 + b_2) learns which items are labelled, by
    -mean_L log σ - loss_weight · mean_U log (1 - σ).

    Source: Caramalau, Bhattarai and Kim, CVPR 2021.

    Deviation: A is the paper's and takes all items; the released code scales its columns and
    draws 10,000 items. Where the paper is silent, dropout 0.3 on z, Adam with learning rate 1e-3
    and weight decay 5e-4 and uniform weights are the code's. The code's last version hands H to
    k-centre greedy, so that its network has no effect; here it is z. Negative similarities may
    leave a row sum near 0: a row is divided by its Euclidean norm where that is larger, which
    never happens without them. Without labelled items there is nothing to learn: z = H.

    Cost: time O(N D² + epochs · N D hidden); memory four copies of the features, and a few
    N x hidden.

    Args:
        features: [N, D].
        labelled_features: [M, D]; M may be 0.
        n: how many, between 0 and N.
        generator: on the tensors' device; draws weights and dropout.
        hidden: width of z, at least 1.
        epochs: steps of training on all items, at least 1.
        loss_weight: of the unlabelled items, above 0.

    Returns:
        [n] long positions, in the order of choice.

    Raises:
        ValueError: if shapes differ from the above, a number is out of range, or a feature is NaN
            or too large to square.

    The one direction without a label is taken.

    >>> pool = torch.tensor([[3.0, 0.0], [0.0, 2.0], [4.0, 0.1]])
    >>> labelled, generator = torch.tensor([[1.0, 0.0]]), torch.Generator().manual_seed(0)
    >>> core_gcn(features=pool, labelled_features=labelled, n=1, generator=generator)
    tensor([1])
    """
    check_feature_sets(features, labelled_features)
    check_n(n, len(features))
    check_count("hidden", hidden, 1)
    check_count("epochs", epochs, 1)
    check_positive("loss_weight", loss_weight)
    points = normalize(torch.cat([features, labelled_features]).detach())  # [N + M, D]
    size = len(features)
    if n and len(labelled_features):
        weights = _weights(points, hidden, generator)
        points = _train(weights, points, size, loss_weight, epochs=epochs, generator=generator)
    return k_center_greedy(points[:size], points[size:], n)


def _weights(points: Tensor, hidden: int, generator: torch.Generator) -> list[Tensor]:
    """W_1, b_1, W_2 and b_2, uniform up to 1/√outputs in size."""
    weights = []
    for shape in ((points.shape[1], hidden), (hidden,), (hidden, 1), (1,)):
        bound = shape[-1] ** -0.5
        weight = points.new_empty(shape).uniform_(-bound, bound, generator=generator)
        weights.append(weight.requires_grad_())
    return weights


def _train(
    weights: list[Tensor],
    points: Tensor,
    size: int,
    loss_weight: float,
    *,
    epochs: int,
    generator: torch.Generator,
) -> Tensor:
    """Hidden features z [N + M, hidden] of the trained network; the first N rows are the pool."""
    divisor = _divisor(points)  # [N + M]
    smoothed = _propagate(points, divisor, points)  # A H [N + M, D]
    first, first_bias, second, second_bias = weights
    optimiser = torch.optim.Adam(weights, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for _ in range(epochs):
        kept = torch.rand(len(points), len(second), generator=generator, device=points.device)
        with torch.enable_grad():
            encoded = torch.addmm(first_bias, smoothed, first).relu() * (kept >= DROPOUT)
            logits = _propagate(points, divisor, encoded @ (second / (1 - DROPOUT))) + second_bias
            loss = -loss_weight * logsigmoid(-logits[:size]).mean()
            loss = loss - logsigmoid(logits[size:]).mean()
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.grad = gradient
        optimiser.step()
    return torch.addmm(first_bias, smoothed, first).relu().detach()


def _divisor(points: Tensor) -> Tensor:
    """What each row of H Hᵀ - diag is divided by: [N, D] -> [N].

    The row sum, which is the sum of magnitudes where none is negative and then no less than the
    Euclidean norm; at least that norm; 1 for a row of zeros.
    """
    own = points.square().sum(1)
    degree = points @ points.sum(0) - own
    norm = ((points @ (points.T @ points) * points).sum(1) - own.square()).clamp_min(0).sqrt()
    divisor = torch.maximum(degree, norm)
    return torch.where(divisor > 1e-6, divisor, 1)


def _propagate(points: Tensor, divisor: Tensor, values: Tensor) -> Tensor:
    """A X = D⁻¹ (H (Hᵀ X) - diag X) + X without the graph: [N, D], [N], [N, F] -> [N, F]."""
    own = points.square().sum(1, keepdim=True)
    return (points @ (points.T @ values) - own * values) / divisor.unsqueeze(1) + values
