"""Train rows that come several times, a little changed: a pool full of near-duplicates.

Repeated MNIST of Kirsch, van Amersfoort and Gal (BatchBALD), NeurIPS 2019.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dal.data.data import Data, Normalise, Rows, SelectedRows, stratified_split
from dal.data.scenarios.row_noise import row_noise
from dal.settings import Count, NotNegative, Number, checked


class NoisyRows:
    """Rows of another dataset, each with Gaussian noise of its own.

    The noise of a row follows from the seed and the row's number. It is drawn whenever the row is
    read and never kept.

    Args:
        rows: the other dataset.
        scale: standard deviation of the noise, per channel [channels, 1, ...] in raw units.
        seed: of the noise.
    """

    def __init__(self, rows: Rows, scale: Tensor, seed: int) -> None:
        self.rows = rows
        self.targets = rows.targets
        self.scale = scale
        self.seed = seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: Tensor | Sequence[int]) -> Tensor:
        numbers = torch.arange(len(self))[torch.as_tensor(indices)]  # no row below 0
        inputs = self.rows[numbers]
        if not self.scale.any():
            return inputs
        noise = row_noise(numbers, inputs.shape[1:], self.seed)
        return noise.mul_(self.scale).add_(inputs)


@checked
def redundant(
    data: Data,
    repeats: Count = 3,
    noise: NotNegative = 0.1,
    distinct: Count | None = None,
    seed: Number = 0,
) -> Data:
    """Give each train row several times, each time with other noise; the test set stays as it is.

    Rows i·repeats to i·repeats + repeats - 1 are copies of the i-th row kept.

    Args:
        data: what to repeat.
        repeats: how often each row comes.
        noise: standard deviation of the Gaussian noise, in units of the network's input, as in
            the released code of the paper. Noisy rows are floats.
        distinct: keep only this many of the rows first, drawn with the shares of the classes.
        seed: of the noise and of that draw.

    Raises:
        ValueError: if `repeats` or `distinct` is below 1 or `distinct` above the rows there are,
            `noise` is negative or infinite, or the dataset is not normalised by `Normalise`.
    """
    rows = len(data.train)
    if distinct is not None and distinct > rows:
        raise ValueError(f"distinct must be at most the {rows} train rows, got {distinct}")
    if not isinstance(data.normalise, Normalise):
        raise ValueError(
            f"noise is in units of the network's input, so the dataset must be normalised by "
            f"Normalise, got {type(data.normalise).__name__}"
        )
    kept = torch.arange(rows)
    if distinct is not None:
        generator = torch.Generator().manual_seed(seed)
        _, kept = stratified_split(data.train.targets, distinct, generator)
    raw = data.train[[0]]
    scale = torch.tensor(data.normalise.std) * data.normalise.scale * noise
    scale = scale.view(-1, *[1] * (raw.dim() - 2))  # [channels, 1, ...]
    copies = SelectedRows(data.train, kept.repeat_interleave(repeats))
    return replace(data, train=NoisyRows(copies, scale, seed))
