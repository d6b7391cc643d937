"""Uniform choice: the baseline of every comparison."""

import torch
from torch import Tensor

from dal.functional.checks import check_n
from dal.functional.costs import Cost, costs


@costs(lambda s: Cost(elements=3 * s.N, numbers=2 * s.N))
def random(*, n_pool: int, n: int, generator: torch.Generator) -> Tensor:
    """Choose n positions uniformly without replacement; looks at no model and no input.

    Source: the baseline of the field.
    Cost: time and memory O(N); no pass over the pool.

    Args:
        n_pool: size of the pool.
        n: how many, between 0 and `n_pool`.
        generator: the only source of randomness; the positions are on its device.

    Returns:
        [n] long positions, in the order drawn.

    Raises:
        ValueError: if n is out of range.

    >>> random(n_pool=4, n=4, generator=torch.Generator().manual_seed(0)).sort().values
    tensor([0, 1, 2, 3])
    """
    check_n(n, n_pool)
    return torch.randperm(n_pool, generator=generator, device=generator.device)[:n]
