"""Pools of the size of ImageNet, for an accelerator."""

from functools import partial

from benchmarks import agreement, dropout, sequential
from benchmarks.data import Pool, pool_of
from benchmarks.floors import Work
from benchmarks.rows import Case, Goals, Plan, on
from benchmarks.sizes import CONFIGURATIONS, Imagenet, short

from dal.functional.gradients import hypothesised_error
from dal.strategies.badge import badge
from dal.strategies.batch_bald import batch_bald
from dal.strategies.coreset import coreset


def plans(size: Imagenet, device: str, *, measured: bool) -> list[Plan]:
    """The four cases; without a device for them they are listed and not measured."""
    pool, picks = f"{short(size.pool)} x {size.width}", f"n={short(size.picks)}"
    centre = f"k-centre {pool}, {picks}, M={short(size.labelled)}"
    draws = f"BADGE {pool}, C={size.classes}, {picks}"
    images = dropout.plan(size.images, size.image_batch, size.passes, device, 2)
    found = [
        Plan("coreset", centre, "Gaussian", partial(_coreset, size, device)),
        Plan("badge", draws, "Gaussian", partial(_badge, size, device)),
        Plan(
            "batch_bald",
            f"BatchBALD N={short(size.items)}, K={size.samples}, n={size.batch}",
            "Gaussian",
            partial(_batch_bald, size, device),
        ),
        images,
    ]
    if measured:
        return found
    return [Plan(plan.name, plan.title, plan.data, None) for plan in found]


def _pool(size: Imagenet, device: str, classes: int) -> Pool:
    counts = {"rows": size.pool, "labelled": size.labelled, "width": size.width}
    return pool_of("gaussian", **counts, classes=classes, steps=0, device=device)


def _coreset(size: Imagenet, device: str) -> Case:
    pool = _pool(size, device, size.classes)
    given = {"features": pool.features, "labelled_features": pool.labelled}
    centres = size.labelled + size.picks

    def agree(ours: list, theirs: list) -> agreement.Agreement:
        first = ours[0][: size.tried]
        return agreement.farthest_each(first, theirs[0], pool.features, pool.labelled)

    return Case(
        ours=on(coreset, **given, n=size.picks),
        goals=Goals(seconds=15),
        sequential=on(sequential.k_center, **given, n=size.tried),
        work=Work("all products", flops=2 * pool.features.numel() * centres),
        before=(on(coreset, **given, n=1), on(sequential.k_center, **given, n=1)),
        picks=size.picks / size.tried,
        agree=agree,
        repeats=(2, 1),
    )


def _badge(size: Imagenet, device: str) -> Case:
    pool = _pool(size, device, size.classes)
    features, probs = pool.features, pool.probs()
    numbers = features.numel() + probs.numel()

    def agree(ours: list, theirs: list) -> agreement.Agreement:
        first = [chosen[: size.tried] for chosen in ours]
        return agreement.law(first, theirs, hypothesised_error(probs), features)

    return Case(
        ours=on(badge, probs=probs, features=features, n=size.picks),
        goals=Goals(seconds=25),
        sequential=on(sequential.badge, probs=probs, features=features, n=size.tried),
        work=Work("all products", flops=2 * numbers * size.picks),
        picks=size.picks / size.tried,
        agree=agree,
        random=True,
        repeats=(4, 3),
    )


def _batch_bald(size: Imagenet, device: str) -> Case:
    log_probs = _pool(size, device, 10).samples(size.items, size.samples)
    listed = [min(10**pick, CONFIGURATIONS) for pick in range(size.batch)]
    tables = size.items * 10 * sum(listed)
    return Case(
        ours=on(batch_bald, log_probs=log_probs, n=size.batch),
        goals=Goals(seconds=2),
        sequential=on(sequential.batch_bald, log_probs=log_probs, n=size.batch),
        work=Work("every item for every pick", flops=2 * tables * size.samples, logs=tables),
        agree=lambda ours, theirs: agreement.picks(ours[0], theirs[0], first=5),
        repeats=(2, 1),
    )
