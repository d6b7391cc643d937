"""A dataset whose train rows come several times, a little changed: a pool full of near-duplicates.

Repeated MNIST of Kirsch, van Amersfoort and Gal (BatchBALD), NeurIPS 2019.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dal.data.data import Data, Normalise, Rows, stratified_split
from dal.settings import Count, NotNegative, Number, checked


class RepeatedRows:
    """Rows of another dataset, some of them several times, with Gaussian noise of their own.

    The noise of a row follows from the seed and the row's number. It is drawn whenever the row is
    read and never kept.

    Args:
        rows: the other dataset.
        sources: [N] long; which of its rows each row is.
        scale: standard deviation of the noise, per channel [channels, 1, ...] in raw units.
        seed: of the noise.
    """

    def __init__(self, rows: Rows, sources: Tensor, scale: Tensor, seed: int) -> None:
        self.rows = rows
        self.sources = sources
        self.targets = rows.targets[sources]
        self.scale = scale
        self.seed = seed

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, indices: Tensor | Sequence[int]) -> Tensor:
        numbers = torch.arange(len(self))[torch.as_tensor(indices)]  # no row below 0
        inputs = self.rows[self.sources[numbers]]
        if not self.scale.any():
            return inputs
        generator = torch.Generator()
        noise = torch.empty(inputs.shape)
        for number, row in zip(numbers.tolist(), noise, strict=True):
            digest = hashlib.sha256(f"{self.seed}/{number}".encode()).digest()
            row.normal_(generator=generator.manual_seed(int.from_bytes(digest[:4], "big")))
        return noise.mul_(self.scale).add_(inputs)


@checked
def repeated(
    dataset: Data,
    repeats: Count = 3,
    noise: NotNegative = 0.1,
    distinct: Count | None = None,
    seed: Number = 0,
) -> Data:
    """Give each train row several times, each time with other noise; the test set stays as it is.

    Rows i·repeats to i·repeats + repeats - 1 are copies of the i-th row kept.

    Args:
        dataset: what to repeat.
        repeats: how often each row comes.
        noise: standard deviation of the Gaussian noise, in units of the network's input, as in
            the released code of the paper. Noisy rows are floats.
        distinct: keep only this many of the rows first, drawn with the shares of the classes.
        seed: of the noise and of that draw.

    Raises:
        ValueError: if `repeats` or `distinct` is below 1 or `distinct` above the rows there are,
            `noise` is negative or infinite, or the dataset is not normalised by `Normalise`.
    """
    rows = len(dataset.train)
    if distinct is not None and distinct > rows:
        raise ValueError(f"distinct must be at most the {rows} train rows, got {distinct}")
    if not isinstance(dataset.normalise, Normalise):
        raise ValueError(
            f"noise is in units of the network's input, so the dataset must be normalised by "
            f"Normalise, got {type(dataset.normalise).__name__}"
        )
    kept = torch.arange(rows)
    if distinct is not None:
        generator = torch.Generator().manual_seed(seed)
        _, kept = stratified_split(dataset.train.targets, distinct, generator)
    raw = dataset.train[[0]]
    scale = torch.tensor(dataset.normalise.std) * dataset.normalise.scale * noise
    scale = scale.view(-1, *[1] * (raw.dim() - 2))  # [channels, 1, ...]
    train = RepeatedRows(dataset.train, kept.repeat_interleave(repeats), scale, seed)
    return replace(dataset, train=train)
