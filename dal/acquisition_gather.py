"""One pass of a posterior over rows, and what is kept of its predictions."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from dal.acquisition_batches import batches_on
from dal.acquisition_shares import complete, share_of, together
from dal.acquisition_storage import Storage
from dal.functional.shards import Shards
from dal.pieces import Pieces
from dal.posteriors.posterior import Predict, Prediction

OnBatch = Callable[[int, int], None]
Take = Callable[[Prediction, slice], Tensor]
"""Prediction of a batch and its rows among all -> what is kept of it."""

Look = Callable[[Tensor, Prediction], None]
"""Called with the inputs of a batch and their prediction."""


def gather(
    read: Callable[[slice], DataLoader[Any]],
    rows: int,
    batch_size: int,
    *,
    like: Tensor,
    predict: Predict,
    takes: Mapping[str, Take],
    storage: Storage,
    pieces: Pieces,
    divisible: Collection[str] = (),
    look: Look | None = None,
    on_batch: OnBatch | None = None,
) -> tuple[dict[str, Tensor], Shards | None]:
    """Predict all rows once, each process its share of them, and keep what `takes` picks.

    Nothing waits for the device between batches: results stay where they were made until they
    are copied into one allocation for all rows, which the other processes complete in place. A
    batch that the device has no room for is predicted in pieces, by the process that lacks it.

    Args:
        read: loader of some rows, given as a slice.
        rows: how many there are, at least 1.
        batch_size: of the loader.
        like: a weight; inputs are moved to where it is and to its type.
        predict: makes the predictions of a batch.
        takes: by the name of the result.
        storage: has room for the results.
        pieces: the most rows that are predicted at once.
        divisible: results of which each process may keep its own rows alone. They do if the device
            has room for a share of these results and not for the whole.
        look: what else looks at the predictions.
        on_batch: called in the first process with rows done and rows in all, over all processes.

    Returns:
        [rows, ...] by name, the same in every process, and whose rows are whose if the divisible
        ones are divided: then [own rows, ...].
    """
    if not takes:
        return {}, None
    processes = storage.processes
    own = share_of(rows, batch_size, processes.rank, processes.count)
    largest = share_of(rows, batch_size, 0, processes.count).stop
    # A process without a share predicts the first batch for its shapes; nothing is kept of it.
    place = own if own.stop > own.start else slice(0, min(batch_size, rows))
    kept = _Kept(rows, own, largest, storage, divisible)

    def keep(first: int, inputs: Tensor, start: int) -> None:
        part = slice(first + start, first + start + len(inputs))
        inputs = inputs.to(like)
        prediction = predict(inputs)  # then in one order in all processes
        kept.write({name: takes[name](prediction, part) for name in sorted(takes)}, part)
        if look is not None:
            look(inputs, prediction)

    with together(processes, like.device):
        for inputs in batches_on(read(place), like):
            pieces.apply(partial(keep, place.start), inputs, like)
            place = slice(place.start + len(inputs), own.stop)
            if on_batch is not None and processes.rank == 0:
                on_batch((place.start - own.start) * rows // largest, rows)
    shards = Shards(own.stop - own.start, processes.group, like.device)
    for name, whole in kept.tensors.items():
        if name not in kept.divided:
            complete(whole, shards, like.device)
    return kept.tensors, shards if kept.divided else None


class _Kept:
    """Results of all rows, or of a process's own where they are divided.

    Args:
        rows: in all.
        own: those of this process.
        largest: how many the process with the most has.
        storage: has room for them.
        divisible: names of what may be divided.
    """

    def __init__(
        self, rows: int, own: slice, largest: int, storage: Storage, divisible: Collection[str]
    ) -> None:
        self.rows, self.own, self.largest = rows, own, largest
        self.storage, self.divisible = storage, divisible
        self.divided: frozenset[str] = frozenset()
        self.tensors: dict[str, Tensor] = {}

    def write(self, parts: Mapping[str, Tensor], place: slice) -> None:
        """Keep what was made of the rows of a batch."""
        if len(self.tensors) < len(parts):  # one allocation: a list of batches would need two
            self._allocate(parts)
        inside = slice(place.start - self.own.start, place.stop - self.own.start)
        for name, part in parts.items():
            if name not in self.divided:
                self.tensors[name][place] = part
            elif len(self.tensors[name]):
                self.tensors[name][inside] = part

    def _allocate(self, parts: Mapping[str, Tensor]) -> None:
        if not self.tensors:
            row = sum(
                parts[name][0].numel() * parts[name].element_size() for name in self.divisible
            )
            room = self.storage.has_room
            if room(self.largest * row) and not room(self.rows * row):
                self.divided = frozenset(self.divisible)
        for name, part in parts.items():
            if name not in self.tensors:
                rows = self.own.stop - self.own.start if name in self.divided else self.rows
                self.tensors[name] = self.storage.empty(name, (rows, *part.shape[1:]), part.dtype)


def features_of(prediction: Prediction) -> Tensor:
    """Features of a prediction; raise ValueError if the model shows none."""
    return _shown(
        prediction.features,
        "features and the model shows none: give it features(x), or a linear last layer",
    )


def _predicted_losses(prediction: Prediction) -> Tensor:
    return _shown(
        prediction.predicted_losses,
        "losses predicted by a module that learns beside the model: query through Acquire or "
        "run_rounds, or give query() a LossPrediction",
    )


def _shown(field: Tensor | None, needed: str) -> Tensor:
    if field is None:
        raise ValueError(f"the strategy needs {needed}")
    return field


FIELDS: dict[str, Callable[[Prediction], Tensor]] = {
    "log_probs": lambda prediction: prediction.log_probs,
    "probs": lambda prediction: prediction.probs,
    "features": features_of,
    "predicted_losses": _predicted_losses,
}


def keeping(name: str) -> Take:
    """What keeps a field of the predictions as it is."""
    return lambda prediction, _rows: FIELDS[name](prediction)
