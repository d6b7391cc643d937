"""An oracle that errs: the dataset's labels, some of them replaced by those of other classes."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from dal.data.data import Data
from dal.pool import NO_CLASS
from dal.seeding import seed_for
from dal.settings import NotNegative, Number, Share, checked

TOLERANCE = 1e-6  # of a row's sum


class NoisyOracle:
    """Give labels that are wrong at random.

    The answer for a row follows from the seed and the row: who asks again hears the same. The
    labels of the start and of validation rows are as wrong as those that are bought; test labels
    come from the dataset. Rows of no class are told from the others without error.

    Args:
        data: has the right labels.
        noise: what a wrong answer is: `symmetric` for any other class, each as likely, `pair`
            for the next class.
        rate: share of wrong answers.
        transition: [C][C]; chance of each answer for each class, instead of `noise` and `rate`.
        seed: of the errors.

    Raises:
        ValueError: if `noise` is unknown, `rate` does not lie between 0 and 1, or `transition`
            is no table of chances.
    """

    name = "noisy"

    @checked
    def __init__(
        self,
        data: Data,
        noise: Literal["symmetric", "pair"] = "symmetric",
        rate: Share = 0.1,
        transition: Sequence[Sequence[NotNegative]] | None = None,
        seed: Number = 0,
    ) -> None:
        classes = len(data.classes)
        if transition is not None:
            chances = _table(transition, classes)
        elif noise in ("symmetric", "pair"):
            chances = _chances(noise, rate, classes)
        else:
            raise ValueError(f"noise must be symmetric or pair, got {noise!r}")
        self._targets = data.train.targets
        self._bounds = chances.cumsum(1)[:, :-1].contiguous()  # the last answer takes what is left
        self._seed = seed

    def __call__(self, indices: Tensor) -> Tensor:
        """Label dataset rows: [n] long indices -> [n] long class numbers."""
        answers = self._targets[indices].clone()
        asked = (answers != NO_CLASS).nonzero().squeeze(1)
        drawn = [seed_for(self._seed, "oracle", part=str(row)) for row in indices[asked].tolist()]
        uniform = torch.tensor(drawn, dtype=torch.float64).mul_(0.5**63).unsqueeze(1)
        bounds = self._bounds[answers[asked]]  # [n, C - 1]
        answers[asked] = (uniform >= bounds).sum(1)
        return answers


def _chances(noise: str, rate: float, classes: int) -> Tensor:
    right = torch.eye(classes, dtype=torch.float64)
    wrong = right.roll(1, dims=1) if noise == "pair" else (1 - right) / (classes - 1)
    return (1 - rate) * right + rate * wrong


def _table(rows: Sequence[Sequence[float]], classes: int) -> Tensor:
    if len(rows) != classes or any(len(row) != classes for row in rows):
        raise ValueError(f"transition must have {classes} rows of {classes} chances")
    table = torch.tensor([[float(chance) for chance in row] for row in rows], dtype=torch.float64)
    wrong = ((table < 0).any(1) | ~((table.sum(1) - 1).abs() < TOLERANCE)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"transition must have chances from 0 up whose sum in each row is 1, got "
            f"{[*rows[row]]!s:.60} for class {row}"
        )
    return table
