"""GALAXY: bisect where the labels along each class's ranking change."""

import torch
from torch import Tensor

from dal.functional.checks import (
    check_labels,
    check_n,
    check_probs,
    check_rows,
    check_tensor,
    check_widths,
)
from dal.functional.costs import Cost, costs


@costs(
    lambda s: Cost(
        elements=(s.N + s.M) * (105 * s.n + s.C),
        steps=25 * s.n,
        numbers=(s.N + s.M) * (s.C + 28),
    )
)
def galaxy(
    *,
    probs: Tensor,
    labelled_probs: Tensor,
    labels: Tensor,
    n: int,
    generator: torch.Generator,
) -> Tensor:
    """Repeat: for a random class k, halve the shortest gap of its ranking with unlike ends.

    The ranking orders the pool and the labelled items by p_k - max p, then by max p. A gap is a
    run of items of the pool between two items whose labels are known, one being k and the other
    not: its middle is taken. Where all such pairs are neighbours already, the item nearest to one
    of them is taken; where there is none, a random item. With two classes one ranking serves.

    Source: Zhang, Katz-Samuels and Nowak, ICML 2022; the random class as in their LabelBench code.

    Deviation: the paper asks for each label before the next item is chosen. Within a batch the
    labels are unknown, so that the predicted class of a chosen item stands for its label until
    the next query. LabelBench grows the neighbourhood of one of the two kinds of cut only (k
    after not k); here it is any, as in the text.

    Cost: time O(n (N + M) log(N + M) + N C); memory O((N + M) C).

    Args:
        probs: [N, C]; predictive probabilities.
        labelled_probs: [M, C]; of the labelled items, M may be 0.
        labels: [M] long.
        n: how many, between 0 and N.
        generator: on the tensors' device.

    Returns:
        [n] long positions, in the order of choice.

    Raises:
        ValueError: if shapes differ from the above, n is out of range, or a value is NaN.

    Between the labelled 0.95 (class 0) and 0.05 (class 1) lie 0.8, 0.6, 0.3: first the middle.

    >>> first = torch.tensor([0.3, 0.8, 0.6])
    >>> ends = torch.tensor([0.95, 0.05])
    >>> galaxy(
    ...     probs=torch.stack([first, 1 - first], 1), n=2, generator=torch.Generator(),
    ...     labelled_probs=torch.stack([ends, 1 - ends], 1), labels=torch.tensor([0, 1]),
    ... )
    tensor([2, 0])
    """
    check_probs(probs)
    check_tensor("labelled_probs", labelled_probs, "M", "C")
    check_widths(probs=probs, labelled_probs=labelled_probs)
    check_rows(labelled_probs=labelled_probs, labels=labels)
    check_labels(labels, len(labelled_probs))
    check_n(n, len(probs))
    both = torch.cat([probs, labelled_probs])  # [N + M, C]
    confidence, known_class = both.max(1)
    known_class[len(probs) :] = labels
    known = torch.zeros_like(known_class, dtype=torch.bool)
    known[len(probs) :] = True
    chosen = torch.empty(n, dtype=torch.long, device=probs.device)
    rankings = probs.shape[1] if probs.shape[1] > 2 else 1
    classes = torch.randint(rankings, (n,), generator=generator, device=generator.device)
    for step, k in enumerate(classes.tolist()):
        order = _ranking(both[:, k], confidence)
        rank = _next_rank(known[order], known_class[order] == k, generator)
        chosen[step] = order[rank]
        known[chosen[step]] = True
    return chosen


def _ranking(scores: Tensor, confidence: Tensor) -> Tensor:
    """Positions by margin below the best class, then by confidence: [N + M] long."""
    order = confidence.sort(descending=True, stable=True).indices
    margin = (scores - confidence)[order]
    return order[margin.sort(descending=True, stable=True).indices]


def _next_rank(known: Tensor, positive: Tensor, generator: torch.Generator) -> Tensor:
    """Rank to ask for, given which ranks are known and which of those are of the class."""
    free = (~known).nonzero().squeeze(1)
    ends = known.nonzero().squeeze(1)
    cuts = (positive[ends[1:]] != positive[ends[:-1]]).nonzero().squeeze(1)
    if len(cuts) == 0:
        draw = torch.randint(len(free), (1,), generator=generator, device=generator.device)
        return free[draw[0]]
    left, right = ends[cuts], ends[cuts + 1]
    gap = right - left
    if gap.max() > 1:
        shortest = gap.masked_fill(gap == 1, len(known)).argmin()
        return torch.div(left[shortest] + right[shortest], 2, rounding_mode="floor")
    after = torch.searchsorted(left, free)  # cuts before each free rank
    below = free - left[(after - 1).clamp_min(0)]
    above = right[after.clamp_max(len(right) - 1)] - free
    below = torch.where(after > 0, below, len(known))
    above = torch.where(after < len(right), above, len(known))
    return free[torch.minimum(below, above).argmin()]
