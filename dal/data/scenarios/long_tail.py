"""A few frequent classes and many rare ones in the pool; all count alike in the test set."""

import math
from dataclasses import replace
from typing import Annotated

import torch

from dal.data.data import Data, SelectedRows
from dal.functional.checks import check_positive
from dal.settings import Number, checked


def _check_ratio(name: str, value: object) -> None:
    check_positive(name, value)
    if not isinstance(value, int | float) or value < 1:
        raise ValueError(f"{name} must be at least 1, as one class to another, got {value!r}")


Ratio = Annotated[float, _check_ratio]


@checked
def long_tail(data: Data, ratio: Ratio = 100.0, seed: Number = 0) -> Data:
    """Drop train rows until class c has n ρ^(-c / (C - 1)); the test set stays as it is.

    Cui, Jia, Lin, Song and Belongie, CVPR 2019 (long-tailed CIFAR). n is as large as the classes
    allow. Of classes whose rows are all gone before nothing is asked, and rows that belong to no
    class stay.

    Args:
        data: the dataset.
        ratio: ρ, rows of class 0 to those of the last class.
        seed: which rows stay.

    Raises:
        ValueError: if `ratio` is below 1, or leaves a class without a row.
    """
    targets, last = data.train.targets, len(data.classes) - 1
    counts = targets[targets >= 0].bincount(minlength=last + 1).tolist()
    shares = [ratio ** (-c / last) for c in range(last + 1)]
    most = min(n / share for n, share in zip(counts, shares, strict=True) if n)
    wanted = [
        math.floor(most * share + 1e-6) for share in shares
    ]  # 1e-6 for what is a whole number
    if any(n and not kept for n, kept in zip(counts, wanted, strict=True)):
        raise ValueError(
            f"ratio must leave each class a row, got {ratio:g} where the first has {most:.0f}"
        )
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    kept = [order[targets[order] == c][:n] for c, n in enumerate(wanted)]
    rows = torch.cat([*kept, order[targets[order] < 0]]).sort().values
    return replace(data, train=SelectedRows(data.train, rows))
