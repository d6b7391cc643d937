"""Whether what the model says of the candidates tells them apart at all."""

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from dal.acquisition_gather import features_of
from dal.functional.shards import Shards
from dal.posteriors.posterior import Prediction

INPUTS = "inputs"
FEW = 20  # candidates: the last of a pool may be alike indeed, and most of them are taken
VALUES: dict[str, Callable[[Prediction], Tensor]] = {
    "probabilities": lambda prediction: prediction.log_probs.exp(),
    "features": features_of,
}


class Sameness:
    """What is exactly the same for every candidate of a pass.

    A network whose units died, or whose outputs are saturated, says the same of all items: scores
    are ties then, and a strategy chooses at random without a word. One row of each kind is held,
    and nothing is looked at any more once two rows differ, mostly within the first batch.

    Args:
        asked: names of the vocabulary that strategies ask of the model.
    """

    def __init__(self, asked: Collection[str]) -> None:
        kinds = {
            "probabilities": {"probs", "log_probs"} & {*asked},
            "features": {"features"} & {*asked},
        }
        self.kinds = [kind for kind, names in kinds.items() if names]
        self._alike = {*self.kinds, INPUTS}  # of which no two rows were seen to differ
        self._firsts: dict[str, Tensor] = {}

    def look(self, inputs: Tensor, prediction: Prediction) -> None:
        """Look at a batch, unless all is known to differ already."""
        if not self._alike & {*self.kinds}:
            return
        for kind in self.kinds:
            self._compare(kind, VALUES[kind](prediction))
        self._compare(INPUTS, inputs)

    def of_all(self, processes: Shards) -> list[str]:
        """Kinds of which all rows are the same, though inputs differ, over all processes.

        Every process must call this, after it looked at a batch.
        """
        if not self.kinds or self._everywhere(INPUTS, processes):
            return []
        return [kind for kind in self.kinds if self._everywhere(kind, processes)]

    def _compare(self, kind: str, rows: Tensor) -> None:
        first = self._firsts.setdefault(kind, rows[0].clone())
        if kind in self._alike and not (rows == first).all():
            self._alike.discard(kind)

    def _everywhere(self, kind: str, processes: Shards) -> bool:
        first = self._firsts[kind]
        alike = processes.each(torch.tensor(kind in self._alike, device=first.device).long())
        if not alike.all():
            return False
        firsts = processes.each(first)
        return bool((firsts == firsts[0]).all())


def check_told_apart(
    same: Collection[str], *, round: int, candidates: int, n_labelled: int
) -> None:
    """Raise ValueError if the model says the same of all candidates.

    Args:
        same: kinds of what is the same, from `Sameness`.
        round: number of the round.
        candidates: how many.
        n_labelled: how many rows the model was trained on.
    """
    if not same or candidates < FEW:
        return
    cause = (
        "its units died or its outputs are saturated; lower optimizer.lr, or scale the inputs"
        if n_labelled
        else "it was not trained yet, and its last layer starts at 0 or its units are dead; label "
        "some rows first (initial_size)"
    )
    raise ValueError(
        f"round {round}: the model gives exactly the same {' and '.join(same)} for all "
        f"{candidates:,} candidates though their inputs differ, so that the choice among them "
        f"would be arbitrary: {cause}"
    )
