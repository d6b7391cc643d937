"""Classes that the test set has and the pool has not, or hardly."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from dal.data.data import Data, SelectedRows
from dal.data.scenarios.classes import check_classes
from dal.settings import Number, Share, checked


@checked
def missing_class(
    data: Data, classes: Sequence[int] = (), share: Share = 0.0, seed: Number = 0
) -> Data:
    """Drop train rows of some classes; the test set stays as it is.

    Args:
        data: the dataset.
        classes: numbers of the classes that are missing.
        share: of their rows that stay, rounded to whole rows.
        seed: which stay.

    Raises:
        ValueError: if `classes` is empty or names what is no class, `share` does not lie between 0
            and 1, or fewer than two classes are left.
    """
    check_classes(classes, data.classes)
    targets = data.train.targets
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    stays = torch.ones(len(targets), dtype=torch.bool)
    for number in classes:
        members = order[targets[order] == number]
        stays[members[round(share * len(members)) :]] = False
    return replace(data, train=SelectedRows(data.train, stays.nonzero().squeeze(1)))
