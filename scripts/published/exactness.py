"""Claim 1: the acquisition maths is exact. Each number is computed again by a slow other road."""

from itertools import combinations, product

import torch
from published.claim import FAILED, REPRODUCED, Finding, Options
from torch import Tensor

from dal.functional.factored import Factored
from dal.functional.gradients import hypothesised_error
from dal.functional.information import mutual_information
from dal.functional.joint_entropy import joint_information
from dal.strategies.batch_bald import batch_bald
from dal.strategies.coreset import coreset

LARGEST = 1e-10  # error in float64
BATCHES, TRIALS = 4, 3
APPROXIMATION = 2.0  # of the k-centre greedy's radius, by proof


def exact(_: Options) -> Finding:
    """Compare with tables of all labels, with all covers and with gradients of autograd."""
    errors = {"BALD": 0.0, "BatchBALD": 0.0, "BADGE": 0.0}
    worst_cover = 0.0
    for seed in range(TRIALS):
        generator = torch.Generator().manual_seed(seed)
        log_probs = 2 * torch.randn(8, 5, 3, generator=generator, dtype=torch.float64)
        log_probs = log_probs.log_softmax(-1)
        errors["BALD"] = max(errors["BALD"], bald_error(log_probs))
        errors["BatchBALD"] = max(errors["BatchBALD"], batch_bald_error(log_probs, generator))
        errors["BADGE"] = max(errors["BADGE"], badge_error(generator))
        worst_cover = max(worst_cover, cover_ratio(generator))
    told = ", ".join(f"{name} {error:.0e}" for name, error in errors.items())
    good = max(errors.values()) <= LARGEST and worst_cover <= APPROXIMATION
    return Finding(
        f"largest errors: {told}; k-centre radius at most {worst_cover:.2f} times the optimum",
        REPRODUCED if good else FAILED,
    )


def information_of_table(log_probs: Tensor) -> float:
    """I(y_1, ..., y_B; ω) from the table of all Cᴮ joint labels: [B, K, C] -> nats."""
    probs = log_probs.exp()
    total = 0.0
    for labels in product(range(probs.shape[2]), repeat=len(probs)):
        given = torch.stack([item[:, y] for item, y in zip(probs, labels, strict=True)]).prod(0)
        mean = given.mean()
        total += (given * given.log()).mean().item() - (mean * mean.log()).item()
    return total


def bald_error(log_probs: Tensor) -> float:
    """Largest difference between BALD and the table of one item's labels."""
    slow = [information_of_table(log_probs[[item]]) for item in range(len(log_probs))]
    return (mutual_information(log_probs) - log_probs.new_tensor(slow)).abs().max().item()


def batch_bald_error(log_probs: Tensor, generator: torch.Generator) -> float:
    """Largest difference of the batch's information; infinite if the greedy picks differ."""
    picks = batch_bald(log_probs=log_probs, n=BATCHES, generator=generator).tolist()
    chosen: list[int] = []
    for _ in range(BATCHES):
        rest = [item for item in range(len(log_probs)) if item not in chosen]
        gains = [information_of_table(log_probs[[*chosen, item]]) for item in rest]
        chosen.append(rest[gains.index(max(gains))])
    if picks != chosen:
        return float("inf")
    fast = joint_information(log_probs[picks], generator).item()
    return abs(fast - information_of_table(log_probs[picks]))


def badge_error(generator: torch.Generator) -> float:
    """Largest relative difference from distances of explicit last-layer gradients."""
    features = torch.randn(12, 6, generator=generator, dtype=torch.float64)
    weight = torch.randn(4, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    logits = features @ weight.T
    losses = torch.nn.functional.cross_entropy(logits, logits.argmax(1), reduction="none")
    rows = [torch.autograd.grad(loss, weight, retain_graph=True)[0].flatten() for loss in losses]
    explicit = torch.cdist(torch.stack(rows), torch.stack(rows)).square()
    points = Factored(features, hypothesised_error(logits.detach().softmax(1)))
    return ((points.squared(points) - explicit).abs().max() / explicit.max()).item()


def cover_ratio(generator: torch.Generator) -> float:
    """Radius of the greedy cover over the smallest of any three picks."""
    pool = torch.randn(11, 2, generator=generator, dtype=torch.float64)
    labelled = torch.randn(1, 2, generator=generator, dtype=torch.float64)

    def radius(picks: Tensor) -> float:
        return torch.cdist(pool, torch.cat([labelled, pool[picks]])).amin(1).max().item()

    greedy = radius(coreset(features=pool, labelled_features=labelled, n=3))
    best = min(radius(torch.tensor(picks)) for picks in combinations(range(len(pool)), 3))
    return greedy / best
