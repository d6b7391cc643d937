"""Work by blocks: small enough for a cache, large enough that its calls cost little."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

ELEMENTS = {"cpu": 2**18, "cuda": 2**24}  # a level-2 cache; few kernel launches


def block_elements(device: torch.device) -> int:
    """How many numbers a block should have on a device."""
    return ELEMENTS.get(device.type, ELEMENTS["cpu"])


def score_rows(score: Callable[..., Tensor], values: Tensor, buffers: int = 0) -> Tensor:
    """Score the rows of a tensor, block by block.

    Time that of `score`; memory that of one block and its buffers, which all blocks share: new
    ones would be asked of the operating system each time.

    Args:
        score: a block of rows [B, ...] and buffers of its shape to write to -> [B].
        values: [N, ...].
        buffers: how many.

    Returns:
        [N] in the type of `values`; carries no gradient.

    >>> score_rows(lambda block: block.amax(1), torch.tensor([[1.0, 2.0], [4.0, 3.0]]))
    tensor([2., 4.])
    """
    values = values.detach()
    count, *row = values.shape
    rows = max(min(block_elements(values.device) // max(math.prod(row), 1), count), 1)
    space = values.new_empty(buffers, rows, *row)
    scores = values.new_empty(count)
    for start in range(0, count, rows):
        block = values[start : start + rows]
        scores[start : start + rows] = score(block, *space[:, : len(block)])
    return scores
