"""Noise that a row has whenever it is read, and that is never kept."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def row_noise(numbers: Tensor, shape: Sequence[int], seed: int) -> Tensor:
    """Draw standard Gaussian noise that follows from a seed and the number of each row.

    Args:
        numbers: [n] long; of the rows.
        shape: of one row.
        seed: of all of them.

    Returns:
        [n, *shape] float32.

    >>> both = row_noise(torch.tensor([3, 8]), (2,), seed=0)
    >>> torch.equal(both[1:], row_noise(torch.tensor([8]), (2,), seed=0))
    True
    """
    generator = torch.Generator()
    noise = torch.empty(len(numbers), *shape)
    for number, row in zip(numbers.tolist(), noise, strict=True):
        digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
        row.normal_(generator=generator.manual_seed(int.from_bytes(digest[:4], "big")))
    return noise
