"""Claim 3: few labels on MNIST; 50 principal components, a pool of 3,000, the nearest neighbour."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from published.claim import Finding, Options, judge
from published.sweeps import need
from torch import Tensor

from dal.strategies.coreset import coreset
from dal.strategies.random import random
from dal.strategies.typiclust import typiclust

SEEDS, POOL = range(5), 3000
PURCHASES = [10, 10, 30, 50]  # to 10, 20, 50 and 100 labels
PUBLISHED = [19, 22, 13, 10]  # points of TypiClust above random

Strategy = Callable[..., Tensor]


class Digits(NamedTuple):
    """Components [N, 50] and labels [N] of the training and the test images."""

    features: Tensor
    labels: Tensor
    test: Tensor
    truth: Tensor


def typicality_wins(options: Options) -> Finding:
    """TypiClust is far above random, and k-centre is not above it from 20 labels on."""
    need(options, "MNIST/raw")
    digits = read_digits(options.data / "MNIST" / "raw")
    typical = gain(digits, typiclust, PURCHASES)
    covering = gain(digits, centres, PURCHASES)
    return Finding(
        f"points above random at 10/20/50/100 labels: TypiClust {_points(typical)}, "
        f"k-centre {_points(covering)}",
        judge(
            direction=min(typical) > 0 and max(covering[1:]) <= 0,
            size=all(ours >= theirs / 2 for ours, theirs in zip(typical, PUBLISHED, strict=True)),
        ),
    )


def _points(gains: Sequence[float]) -> str:
    return "/".join(f"{value:+.0f}" for value in gains)


def read_digits(folder: Path) -> Digits:
    """Read the unpacked files; the components are those of all training images."""

    def read(split: str) -> tuple[Tensor, Tensor]:
        images = np.fromfile(folder / f"{split}-images-idx3-ubyte", dtype=np.uint8)[16:]
        labels = np.fromfile(folder / f"{split}-labels-idx1-ubyte", dtype=np.uint8)[8:]
        return torch.from_numpy(images).view(-1, 784).float() / 255, torch.from_numpy(labels).long()

    (train, labels), (test, truth) = read("train"), read("t10k")
    mean = train.mean(0)
    train, test = train - mean, test - mean
    axes = torch.linalg.eigh(train.T @ train).eigenvectors[:, -50:]
    return Digits(train @ axes, labels, test @ axes, truth)


def accuracies(
    digits: Digits, strategy: Strategy, purchases: Sequence[int], seed: int
) -> list[float]:
    """Test accuracy of the nearest labelled neighbour after each purchase."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(digits.features), generator=generator)[:POOL]
    features, labels = digits.features[drawn], digits.labels[drawn]
    labelled, curve = torch.empty(0, dtype=torch.long), []
    for n in purchases:
        free = torch.ones(POOL, dtype=torch.bool)
        free[labelled] = False
        pool = free.nonzero().squeeze(1)
        pool = pool[torch.randperm(len(pool), generator=generator)]
        given = {"features": features[pool], "labelled_features": features[labelled]}
        positions = strategy(**given, n=n, generator=generator)
        labelled = torch.cat([labelled, pool[positions]])
        nearest = torch.cdist(digits.test, features[labelled]).argmin(1)
        curve.append((labels[labelled][nearest] == digits.truth).double().mean().item())
    return curve


def at_random(*, features: Tensor, n: int, generator: torch.Generator, **_: Tensor) -> Tensor:
    """Random, called as strategies on features are."""
    return random(n_pool=len(features), n=n, generator=generator)


def centres(*, features: Tensor, labelled_features: Tensor, n: int, **_: Any) -> Tensor:
    """Core-set, which draws nothing."""
    return coreset(features=features, labelled_features=labelled_features, n=n)


def gain(digits: Digits, strategy: Strategy, purchases: Sequence[int]) -> list[float]:
    """Points above random, the mean over the seeds after each purchase."""

    def curve(some: Strategy) -> Tensor:
        return torch.tensor([accuracies(digits, some, purchases, seed) for seed in SEEDS]).mean(0)

    return [float(value) for value in 100 * (curve(strategy) - curve(at_random))]
