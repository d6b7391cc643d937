"""Claims 8 and 14 to 16: seconds of selections, on random tensors of the published sizes."""

import time
from collections.abc import Callable
from typing import Any

import torch
from published.claim import Finding, NotRunError, Options, judge
from published.learning import on_repeated_images
from torch import Tensor

from dal.strategies.badge import badge
from dal.strategies.bald import bald
from dal.strategies.batch_bald import batch_bald
from dal.strategies.coreset import coreset
from dal.strategies.power import power

HOUR = 3600.0


def stochastic_batches(options: Options) -> Finding:
    """Claim 8: PowerBALD costs what BALD costs, and is about as good as BatchBALD."""
    items = 1000 if options.quick else 10_000
    log_probs = samples(options, items, 10, 10)

    def sampled(*, generator: torch.Generator) -> Tensor:
        scores = bald(log_probs=log_probs)
        return power(scores=scores, n=10, generator=generator)

    def joint(*, generator: torch.Generator) -> Tensor:
        return batch_bald(log_probs=log_probs, n=10, generator=generator)

    cheap, dear = seconds(options, sampled), seconds(options, joint)
    ours = f"{items:,} items, b = 10: PowerBALD {cheap:.3f} s, BatchBALD {dear:.2f} s"
    if options.quick:
        return Finding(ours, judge(direction=cheap < dear, size=False))
    last = on_repeated_images(options)["final_mean"]
    lost = last["batch_bald"] - last["power_bald"]
    return Finding(
        f"{ours}; accuracy on repeated MNIST {last['power_bald']:.3f}, {last['batch_bald']:.3f}",
        judge(direction=bool(cheap < dear and lost < 0.05), size=cheap < dear / 10 and lost < 0.02),
    )


def k_center_at_scale(options: Options) -> Finding:
    """Claim 14: k-centre over 1.28 million features, 50,000 picks."""
    items, picks = (1_280_000, 50_000) if options.device == "cuda" else (60_000, 1000)
    generator = torch.Generator(options.device).manual_seed(0)
    pool = torch.randn(items, 512, generator=generator, device=options.device)

    def select(**_: Any) -> Tensor:
        return coreset(features=pool, labelled_features=pool[:1000], n=picks)

    share = items * picks / (1_280_000 * 50_000)
    return faster(options, items, picks, select, 13 * HOUR * share)


def badge_at_scale(options: Options) -> Finding:
    """Claim 15: BADGE over 1.28 million items of 1,000 classes, 50,000 picks."""
    large = options.device == "cuda"
    items, classes, picks = (1_280_000, 1000, 50_000) if large else (60_000, 10, 1000)
    generator = torch.Generator(options.device).manual_seed(0)
    features = torch.randn(items, 512, generator=generator, device=options.device)
    probs = torch.randn(items, classes, generator=generator, device=options.device).softmax(1)

    def select(*, generator: torch.Generator) -> Tensor:
        return badge(probs=probs, features=features, n=picks, generator=generator)

    share = items * picks * (classes + 512) / (1_280_000 * 50_000 * 1512)
    return faster(options, items, picks, select, 5 * HOUR * share)


def batch_bald_at_scale(options: Options) -> Finding:
    """Claim 16: BatchBALD over 60,000 items with 100 samples, a batch of 10."""
    if options.device == "cpu":
        raise NotRunError("needs --device cuda")
    log_probs = samples(options, 60_000, 100, 10)

    def select(*, generator: torch.Generator) -> Tensor:
        return batch_bald(log_probs=log_probs, n=10, generator=generator)

    return faster(options, 60_000, 10, select, 85.7)


def samples(options: Options, items: int, samples: int, classes: int) -> Tensor:
    """Log-probabilities like those of a network that is sure of some items: [N, K, C]."""
    generator = torch.Generator(options.device).manual_seed(0)
    given: dict[str, Any] = {"generator": generator, "device": options.device}
    logits = 3 * torch.randn(items, 1, classes, **given)
    return (logits + torch.randn(items, samples, classes, **given)).log_softmax(-1)


def seconds(options: Options, select: Callable[..., Tensor]) -> float:
    """Time of a selection, the better of two."""
    best = float("inf")
    for _ in range(2):
        generator = torch.Generator(options.device).manual_seed(1)
        started = time.perf_counter()
        select(generator=generator).sum().item()  # waits for the device
        best = min(best, time.perf_counter() - started)
    return best


def faster(
    options: Options, items: int, picks: int, select: Callable[..., Tensor], reported: float
) -> Finding:
    """Compare with a reported time, or its share of the work at a smaller size.

    Reproduced if ten times shorter at full size: nobody reports a time of the smaller ones.
    """
    took, full = seconds(options, select), options.device == "cuda"
    ours = f"{items:,} items, {picks:,} picks: {took:.1f} s on {options.device}"
    if not full:
        ours += f"; the reported time by its share of the work is {reported:.0f} s"
    return Finding(ours, judge(direction=took < reported, size=full and took < reported / 10))
