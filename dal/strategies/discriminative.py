"""Discriminative active learning: items that look unlabelled."""

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import softplus

from dal.functional.checks import (
    check_count,
    check_feature_sets,
    check_n,
)
from dal.functional.costs import Cost, Sizes, costs
from dal.functional.geometry import ROWS
from dal.functional.k_center import k_center_greedy
from dal.functional.ranking import top_n

LAYERS, LEARNING_RATE, BATCH, ACCURACY, EVERY = 2, 1e-3, 64, 0.98, 10


def _cost(s: Sizes, sub_rounds: int, hidden: int, steps: float) -> Cost:
    rounds = min(sub_rounds, s.n)
    steps *= min(1, 0.1 + (s.M + s.n) / 500)  # the fewer are labelled, the sooner told apart
    return Cost(
        products=rounds * (6 * BATCH * steps + s.N) * (s.D + hidden) * hidden,
        elements=s.N * (5 * s.D + rounds * (75 + 3 * hidden)),
        steps=60 * rounds * steps,
        numbers=(s.N + s.M) * (s.D + 10) + ROWS * (s.D + 3 * hidden),
    )


@costs(_cost)
def discriminative(
    *,
    features: Tensor,
    labelled_features: Tensor,
    n: int,
    generator: torch.Generator,
    sub_rounds: int = 10,
    hidden: int = 128,
    steps: int = 200,
) -> Tensor:
    """Take argmax_x P(unlabelled | h_x) of a classifier of labelled against unlabelled items.

    The n items are chosen in sub-rounds. For each a new network is trained, to which all items
    chosen so far are labelled, so that the next ones lie elsewhere.

    Source: Gissin and Shalev-Shwartz, arXiv 1907.06347, 2019.

    Deviation: as in their code ReLU layers, Adam, and no more steps once 98 % of a batch are told
    apart, lest the labelled items be learnt by heart; but two layers of 128 where it has three of
    256, and batches of as many labelled as unlabelled items, all of which may be drawn and
    chosen, where it keeps ten unlabelled ones per labelled one and weights the classes. Features
    are standardised. Without labelled items the one nearest to the mean is chosen first.

    Cost: time O(sub_rounds (steps · 128 + N) (D + hidden) hidden); memory a copy of the
    features and a tile of 4096 x hidden.

    Args:
        features: [N, D].
        labelled_features: [M, D]; M may be 0.
        n: how many, between 0 and N.
        generator: on the tensors' device; draws weights and batches.
        sub_rounds: at least 1; at most n of them are held.
        hidden: units of each of the two layers, at least 1.
        steps: of training in a sub-round at most, at least 1.

    Returns:
        [n] long positions, in the order of choice.

    Raises:
        ValueError: if shapes differ from the above, a number is out of range, or a feature is NaN
            or too large to square.

    Where there are labels, items look labelled.

    >>> pool = torch.tensor([[-1.0], [-1.1], [1.0], [-0.9]])
    >>> labelled, generator = torch.tensor([[-1.0], [-1.2]]), torch.Generator().manual_seed(0)
    >>> discriminative(features=pool, labelled_features=labelled, n=1, generator=generator)
    tensor([2])
    """
    check_feature_sets(features, labelled_features)
    check_n(n, len(features))
    for name, value in {"sub_rounds": sub_rounds, "hidden": hidden, "steps": steps}.items():
        check_count(name, value, 1)
    if n == 0:
        return torch.empty(0, dtype=torch.long, device=features.device)
    size = len(features)
    points = _standardised(torch.cat([features, labelled_features]).detach())
    differ = bool(points.any())  # items that coincide cannot be told apart
    first = 0 if len(labelled_features) else min(n, 1)
    chosen = k_center_greedy(features, labelled_features, first)
    labelled = torch.arange(size + len(labelled_features), device=points.device) >= size
    labelled[chosen] = True
    for turn in range(sub_rounds):
        count = (n - first) // sub_rounds + (turn < (n - first) % sub_rounds)
        if count:
            layers = _train(points, labelled, hidden, steps if differ else 0, generator)
            logits = torch.cat([_forward(layers, rows) for rows in points[:size].split(ROWS)])
            best = top_n(logits.masked_fill(labelled[:size], -torch.inf), count)
            labelled[best] = True
            chosen = torch.cat([chosen, best])
    return chosen


def _standardised(points: Tensor) -> Tensor:
    """Mean 0 and variance 1 of each feature, in place; 0 where it is constant up to rounding."""
    magnitude = torch.maximum(points.amax(0), -points.amin(0))  # [D]
    rounding = 8 * torch.finfo(points.dtype).eps * magnitude
    points -= points.mean(0)
    spread = torch.linalg.vector_norm(points, dim=0) / len(points) ** 0.5
    return points.div_(torch.where(spread > rounding, spread, torch.inf))


def _train(
    points: Tensor, labelled: Tensor, hidden: int, steps: int, generator: torch.Generator
) -> list[Tensor]:
    """Weights, each [out, in + 1] with the bias last, of the network that tells the two apart."""
    sides = labelled.nonzero().squeeze(1), (~labelled).nonzero().squeeze(1)
    widths = [points.shape[1], *[hidden] * LAYERS, 1]
    layers = []
    for inputs, outputs in pairwise(widths):
        weight = points.new_zeros(outputs, inputs + 1)
        weight[:, :-1].normal_(std=(2 / max(1, inputs)) ** 0.5, generator=generator)
        layers.append(weight.requires_grad_())
    optimiser = torch.optim.Adam(layers, lr=LEARNING_RATE)
    for step in range(1, steps + 1):
        batches = [
            points[
                side[torch.randint(len(side), (BATCH,), generator=generator, device=side.device)]
            ]
            for side in sides
        ]
        with torch.enable_grad():
            some, others = _forward(layers, torch.cat(batches)).split(BATCH)
            loss = softplus(some).mean() + softplus(-others).mean()
        for layer, gradient in zip(layers, torch.autograd.grad(loss, layers), strict=True):
            layer.grad = gradient
        optimiser.step()
        told_apart = ((some < 0).sum() + (others > 0).sum()) / (2 * BATCH)
        if step % EVERY == 0 and told_apart >= ACCURACY:
            break
    return [layer.detach() for layer in layers]


def _forward(layers: list[Tensor], points: Tensor) -> Tensor:
    """Logit of "unlabelled": [B, D] -> [B]."""
    values = points
    for layer in layers[:-1]:
        values = torch.addmm(layer[:, -1], values, layer[:, :-1].T).relu()
    return torch.addmm(layers[-1][:, -1], values, layers[-1][:, :-1].T).squeeze(1)
