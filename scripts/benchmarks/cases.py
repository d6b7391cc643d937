"""The cases with goals, on a CPU or at the same sizes on an accelerator."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from benchmarks import agreement, peers, published, sequential
from benchmarks.data import Pool, pool_of, tall_probs
from benchmarks.floors import Work
from benchmarks.rows import Case, Goals, Plan, on
from benchmarks.sizes import CONFIGURATIONS, FLOAT, Size, short
from torch import Tensor
from torch.nn.functional import normalize

from dal.functional.gradients import hypothesised_error
from dal.strategies.badge import badge
from dal.strategies.bald import bald
from dal.strategies.batch_bald import batch_bald
from dal.strategies.coreset import coreset
from dal.strategies.entropy import entropy
from dal.strategies.margin import margin
from dal.strategies.prob_cover import prob_cover
from dal.strategies.typiclust import typiclust

NEAR = 164 / 50_000  # share of the pool in a ball of ProbCover
NAMES = {"gaussian": "Gaussian", "learned": "learned", "confident": "confident"}
Build = Callable[[str, Size, str], Case]


def plans(size: Size, device: str) -> list[Plan]:
    """Every case at a size, those of one data set together."""
    out: list[Plan] = []

    def add(name: str, title: str, data: str, build: Callable[..., Case], **options: Any) -> None:
        made = partial(build, data, size, device, **options)
        out.append(Plan(name, title, NAMES[data], made))

    pool = f"{short(size.pool)} x {size.width}"
    for data in ("gaussian", "learned", "confident"):
        for n in (size.few, size.many):
            add("badge", f"BADGE {pool}, C=10, n={n}", data, _badge, n=n, classes=10)
        if data == "confident":
            continue
        if data == "gaussian":
            title = f"BADGE {pool}, C=100, n={size.many}"
            add("badge", title, data, _badge, n=size.many, classes=100)
        title = f"k-centre {pool}, n={size.many}, M={size.labelled}"
        add("coreset", title, data, _coreset)
        for items in size.items:
            for samples in size.samples:
                title = f"BatchBALD N={short(items)}, K={samples}, n={size.batch}"
                add("batch_bald", title, data, _batch_bald, items=items, samples=samples)
        add("bald", f"BALD {short(size.scored)} x 20 x 100", data, _bald)
        add("entropy", f"entropy {short(size.probable)} x 100", data, _entropy)
        add("margin", f"margin {short(size.probable)} x 100", data, _margin)
        add("prob_cover", f"ProbCover {pool}, n={size.few}", data, _prob_cover)
        add("typiclust", f"TypiClust {pool}, n={size.few}", data, _typiclust)
    return out


def _pool(data: str, size: Size, device: str, classes: int = 10) -> Pool:
    counts = {"rows": size.pool, "labelled": size.labelled, "width": size.width}
    return pool_of(data, **counts, classes=classes, steps=size.steps, device=device)


def _badge(data: str, size: Size, device: str, *, n: int, classes: int) -> Case:
    pool = _pool(data, size, device, classes)
    features, probs = pool.features, pool.probs()
    many = classes > 10
    goal = 40.0 if data == "gaussian" else 15.0
    return Case(
        ours=on(badge, probs=probs, features=features, n=n),
        goals=Goals(60.0 if many else 10.0, None if many else goal, extra_mb=50),
        sequential=on(sequential.badge, probs=probs, features=features, n=n),
        peers={} if many else peers.badge(probs.cpu(), features.cpu(), n),
        work=Work("one read", bytes=FLOAT * (features.numel() + probs.numel())),
        agree=partial(agreement.law, left=hypothesised_error(probs), right=features),
        random=True,
        repeats=size.draws,
    )


def _coreset(data: str, size: Size, device: str) -> Case:
    pool = _pool(data, size, device)
    given = {"features": pool.features, "labelled_features": pool.labelled}
    n = min(size.many, len(pool.features))
    gaussian = data == "gaussian"
    return Case(
        ours=on(coreset, **given, n=n),
        goals=Goals(10.0, 100.0 if gaussian else None, extra_mb=50),
        sequential=on(sequential.k_center, **given, n=n),
        peers=peers.coreset(pool.features.cpu(), pool.labelled.cpu(), n) if gaussian else {},
        work=Work("all products", flops=2 * pool.features.numel() * (len(pool.labelled) + n)),
        before=(on(coreset, **given, n=1), on(sequential.k_center, **given, n=1)),
        agree=lambda ours, theirs: agreement.farthest_each(
            ours[0], theirs[0], pool.features, pool.labelled
        ),
        repeats=(size.repeats, 1),
    )


def _batch_bald(data: str, size: Size, device: str, *, items: int, samples: int) -> Case:
    log_probs = _pool(data, size, device).samples(items, samples)
    n, classes = size.batch, log_probs.shape[2]
    listed = [min(classes**pick, CONFIGURATIONS) for pick in range(n)]
    tables = items * classes * sum(listed)
    slow = items > 1_000 and data != "gaussian"  # a peer's time does not depend on the values
    return Case(
        ours=on(batch_bald, log_probs=log_probs, n=n),
        goals=Goals(None, None if slow else 20.0, extra_mb=150),
        sequential=on(sequential.batch_bald, log_probs=log_probs, n=n),
        peers={} if slow else peers.batch_bald(log_probs.cpu(), n, CONFIGURATIONS),
        work=Work("every item for every pick", flops=2 * tables * samples, logs=tables),
        agree=lambda ours, theirs: agreement.picks(ours[0], theirs[0], first=5),
        repeats=(2, 1),
    )


def _bald(data: str, size: Size, device: str) -> Case:
    log_probs = _pool(data, size, device, 100).samples(size.scored, 20)
    mean = log_probs.numel() // 20
    return Case(
        ours=on(bald, log_probs=log_probs),
        goals=Goals(3.0, 1.7, 2.0, 20),
        sequential=on(sequential.bald, log_probs=log_probs),
        peers=peers.bald(log_probs.cpu()),
        work=Work(
            "a read, exponentials, logarithms",
            bytes=FLOAT * log_probs.numel(), exps=log_probs.numel(), logs=mean,
        ),
        agree=_same_numbers,
        repeats=(size.repeats, 3),
    )  # fmt: skip


def _entropy(data: str, size: Size, device: str) -> Case:
    probs = tall_probs(_pool(data, size, device, 100), size.probable)
    return Case(
        ours=on(entropy, probs=probs),
        goals=Goals(3.0, 1.7, 2.0, 20),
        sequential=on(sequential.entropy, probs=probs),
        peers=peers.entropy(probs.cpu()),
        work=Work("a read, logarithms", bytes=FLOAT * probs.numel(), logs=probs.numel()),
        agree=_same_numbers,
        repeats=(size.repeats, 3),
    )


def _margin(data: str, size: Size, device: str) -> Case:
    probs = tall_probs(_pool(data, size, device, 100), size.probable)
    return Case(
        ours=on(margin, probs=probs),
        goals=Goals(3.0, 1.7, None, 20),
        sequential=on(sequential.margin, probs=probs),
        peers=peers.margin(probs.cpu()),
        work=Work("a read", bytes=FLOAT * probs.numel()),
        agree=_same_numbers,
        repeats=(size.repeats, 3),
    )


def _same_numbers(ours: list[Any], theirs: list[Any]) -> agreement.Agreement:
    return agreement.numbers(ours[0], theirs[0])


def _prob_cover(data: str, size: Size, device: str) -> Case:
    features = normalize(_pool(data, size, device).features)
    radius, n, pairs = _radius(features), size.few, len(features) ** 2
    given = {"features": features, "n": n, "radius": radius}
    return Case(
        ours=on(prob_cover, **given, labelled_features=features[:0]),
        goals=Goals(4.0, extra_mb=600),
        sequential=on(published.prob_cover, **given) if device == "cpu" else None,
        peers=peers.prob_cover(features.cpu(), radius, n),
        work=Work("half of all products", flops=pairs * features.shape[1]),
        agree=lambda ours, theirs: agreement.covers(ours[0], theirs[0], features, radius),
        repeats=(1, 1),
    )


def _radius(features: Tensor) -> float:
    """Radius of a ball that holds the share NEAR of the pool, by a sample of pairs."""
    some = features[:: max(len(features) // 2_000, 1)]
    return float(torch.cdist(some, some).flatten().kthvalue(int(NEAR * len(some) ** 2) + 1).values)


def _typiclust(data: str, size: Size, device: str) -> Case:
    features = _pool(data, size, device).features
    return Case(
        ours=on(typiclust, features=features, labelled_features=features[:0], n=size.few),
        sequential=(
            on(published.typiclust, features=features, n=size.few) if device == "cpu" else None
        ),
        peers=peers.typiclust(features.cpu(), size.few) if data == "gaussian" else {},
        random=True,
        repeats=(3, 2),
    )
