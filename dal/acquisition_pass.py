"""One pass of the model over labelled rows, target set and pool, for all that a query needs."""

from collections.abc import Callable, Mapping, Sized
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from dal.acquisition_draws import drawing
from dal.acquisition_gather import FIELDS, OnBatch, Take, gather, keeping
from dal.acquisition_parts import pick_with
from dal.acquisition_shares import together
from dal.acquisition_signature import (
    GIVEN,
    LABELLED,
    POOL,
    TARGET,
    Strategy,
    check_scores,
    inputs_of,
    is_score,
    wants_last_layer,
)
from dal.acquisition_storage import Storage
from dal.data.datamodule import ActiveDataModule
from dal.functional.ranking import top_n
from dal.models.loss_prediction import LossPrediction
from dal.posteriors.deterministic import Deterministic
from dal.posteriors.posterior import Posterior, Predict, Prediction, head_of
from dal.predictions_check import Sameness, check_told_apart
from dal.seeding import generator_for
from dal.signatures import name_of

SCORE = "score"  # where the scores of the shared score function are kept, beside those of leaves
MODEL = "model "  # in front of features that enter the last layer, where others were asked for


class Pass:
    """What the leaves of a query need, computed in one pass.

    Args:
        leaves: by path, the shared score under `SCORE`.
        data: holds pool, round and seed.
        posterior: gives the samples.
        features: [rows of data.data.train, D], or None for the model's own.
        like: a weight of the model; says where it is, and of which type.
        given: values of the names that need no pass.
        storage: where tensors are kept, and which processes share the work.
    """

    def __init__(
        self,
        leaves: Mapping[str, Strategy],
        *,
        data: ActiveDataModule,
        posterior: Posterior,
        features: Tensor | None,
        like: Tensor,
        given: Mapping[str, Any],
        storage: Storage,
    ) -> None:
        self.leaves = leaves
        self.data = data
        self.posterior = posterior
        self.features = features
        self.like = like
        self.device = like.device
        self.storage = storage
        self.same: list[str] = []  # what the model says of every candidate alike, after the pass
        self.values: dict[str, Any] = dict(given)  # scores of a leaf stand under its path
        self.streamed = {path: leaf for path, leaf in leaves.items() if is_score(leaf)}
        self.keys = {  # where the value of each argument is kept
            path: {name: self._key(leaf, name) for name in inputs_of(leaf)}
            for path, leaf in leaves.items()
        }

    def compute(
        self,
        model: nn.Module,
        losses: LossPrediction | None,
        context: Callable[[], AbstractContextManager[Any]],
        on_batch: OnBatch | None,
    ) -> None:
        """Fill the values: first of the labelled and target rows, then of the pool."""
        rows = len(self.data.pool.dealt)
        keys = {key for named in self.keys.values() for key in named.values()}
        if "head" in keys:
            self.values["head"] = partial(_in_own_precision, head_of(model), model)
        self._take_given(keys)
        passes = keys - self.values.keys() - GIVEN - {SCORE}
        from_model = {
            path for path in self.streamed if any(self._asks(path, name) for name in FIELDS)
        }
        posterior = self.posterior
        if not any(key.endswith("probs") for key in passes):
            posterior = Deterministic()  # features alone need no samples
        if rows and (passes or from_model):
            with drawing(posterior, model, self.data, self.like) as drawn, context():
                predict = drawn
                if losses is not None and "predicted_losses" in keys:
                    predict = partial(_with_losses, losses, model, drawn)
                self._read(passes, from_model, predict, on_batch)
        for path in self.streamed if rows else ():
            if path not in from_model:
                self.values[path] = self._score(path, {}, slice(None))

    def _read(
        self, passes: set[str], from_model: set[str], predict: Predict, on_batch: OnBatch | None
    ) -> None:
        """Take what is asked of the model: of labelled rows, target rows and pool."""
        data = self.data
        over = partial(
            gather,
            batch_size=data.eval_batch_size,
            like=self.like,
            predict=predict,
            storage=self.storage,
            pieces=data.pieces,
        )
        asked = {name for path in self.leaves for name in FIELDS if self._asks(path, name)}
        sameness = Sameness(asked)
        self._take_labelled({key for key in passes if _plain(key) in LABELLED}, predict, over)
        if passes & TARGET:
            take = {"target_log_probs": keeping("log_probs")}
            targets = len(cast("Sized", data.target_dataloader().dataset))
            self.values |= over(data.target_dataloader, targets, takes=take)[0]
        takes = self._kept_of_pool(passes) | {path: self._scoring(path) for path in from_model}
        kept, self.values["shards"] = over(
            data.pool_dataloader,
            len(data.pool.dealt),
            takes=takes,
            on_batch=on_batch,
            divisible=self._divisible(takes),
            look=sameness.look,
        )
        self.values |= kept
        self.same = sameness.of_all(self.storage.processes)

    def check(self, n: int) -> None:
        """Raise ValueError if the model says the same of all candidates and not all are taken."""
        candidates = len(self.data.pool.dealt)
        if n < candidates:
            check_told_apart(
                self.same,
                round=self.data.round,
                candidates=candidates,
                n_labelled=self.data.n_labelled,
            )

    def pick(self, path: str, free: Tensor, n: int) -> Tensor:
        """Choose for a leaf: the best of its scores, or what the selection says."""
        if path not in self.leaves:
            raise ValueError(
                f"the strategy asked its part {path} only when it saw the pool; a choice of parts "
                f"may depend on round, sizes and generator alone"
            )
        leaf = self.leaves[path]
        if not len(free):
            return torch.empty(0, dtype=torch.long, device=free.device)
        if path in self.streamed:
            return top_n(self.values[path][free], n)
        inputs = {name: self.values.get(key) for name, key in self.keys[path].items()}
        tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        where = _where(tensors, free)
        inputs |= {name: value.to(where) for name, value in tensors.items()}
        if inputs.get("shards") is not None:
            with together(self.storage.processes, self.device):  # if one refuses, none must wait
                checked = {"n": 0, "shards": None, "generator": self._generator(path, where)}
                leaf(**inputs | {name: checked[name] for name in inputs.keys() & checked.keys()})
        with self.storage.borrowed():
            generator, rows_of = self._generator(path, where), self.storage.rows_of
            places = pick_with(leaf, inputs, generator, free.to(where), n, rows_of=rows_of)
        return places.to(free.device)

    def _generator(self, path: str, device: torch.device) -> torch.Generator:
        """Each leaf has a generator of its own, so that none depends on what the others draw."""
        return generator_for(self.data.seed, "query", self.data.round, device, path)

    def _key(self, leaf: Strategy, name: str) -> str:
        """Where the value of an argument is kept: features may be the model's or given ones."""
        if name == "scores":
            return SCORE
        if name.endswith("features") and self.features is not None and wants_last_layer(leaf):
            return MODEL + name
        return name

    def _asks(self, path: str, name: str) -> bool:
        """Whether a leaf needs the model's value of a name for the items of the pool."""
        return name in self.keys[path] and self.keys[path][name] not in self.values

    def _take_given(self, keys: set[str]) -> None:
        """Take what no model is asked for: costs, and features computed beforehand."""
        pool = self.data.pool
        if "costs" in keys:
            self.values["costs"] = self.data.costs_of(pool.dealt).to(self.device, torch.float32)
        if self.features is None:
            return
        for name, indices in (("features", pool.dealt), ("labelled_features", pool.labelled)):
            if name in keys:
                self.values[name] = self.storage.rows_of(name, self.features, indices)

    def _take_labelled(
        self, keys: set[str], predict: Predict, over: Callable[..., tuple[dict[str, Tensor], Any]]
    ) -> None:
        """Tensors of the labelled rows; without any, empty ones of the right width."""
        takes = {key: keeping(_plain(key).removeprefix("labelled_")) for key in keys}
        data = self.data
        if not takes or data.n_labelled:
            self.values |= over(data.labelled_dataloader, data.n_labelled, takes=takes)[0]
            return
        example = predict(next(iter(data.pool_dataloader()))[:1].to(self.like))
        self.values |= {key: take(example, slice(0, 1))[:0] for key, take in takes.items()}

    def _kept_of_pool(self, keys: set[str]) -> dict[str, Take]:
        """What selections need of the pool; scores need nothing to be kept."""
        selections = self.leaves.keys() - self.streamed.keys()
        kept = {key for path in selections for key in self.keys[path].values()}
        return {key: keeping(_plain(key)) for key in kept & keys if _plain(key) in POOL}

    def _divisible(self, takes: Mapping[str, Take]) -> set[str]:
        """What may be held in shares: all that a strategy which works on shares asks of the pool.

        Not where others look at it too, or some of it was given and is held whole.
        """
        keys = self.keys.get("", {})
        pool = {key for name, key in keys.items() if name in POOL}
        return pool if "shards" in keys and pool == takes.keys() else set()

    def _scoring(self, path: str) -> Take:
        """Score a batch with a leaf; what was given or is known is not taken from the model."""
        names = [name for name in FIELDS if self._asks(path, name)]

        def take(prediction: Prediction, rows: slice) -> Tensor:
            batch = {name: FIELDS[name](prediction) for name in names}
            if "scores" in self.keys[path]:
                batch["scores"] = self._scoring(SCORE)(prediction, rows)
            return self._score(path, batch, rows)

        return take

    def _score(self, path: str, batch: Mapping[str, Tensor], rows: slice) -> Tensor:
        """Score some rows of the pool; what the batch lacks comes from the values."""
        leaf = self.leaves[path]
        inputs: dict[str, Any] = dict(batch)
        for name in self.keys[path].keys() - batch.keys():
            if name == "generator":
                inputs[name] = self._generator(path, self.device)
            else:
                value = self.values[self.keys[path][name]]
                inputs[name] = value[rows] if name in POOL else value
                if isinstance(value, Tensor):
                    inputs[name] = inputs[name].to(self.device)
        with torch.autocast(self.device.type, enabled=False):  # float32, whatever the training is
            scores = leaf(**inputs)
        count = len(range(*rows.indices(len(self.data.pool.dealt))))
        check_scores(scores, count, name_of(leaf))
        return scores


def _with_losses(
    losses: LossPrediction, model: nn.Module, predict: Predict, inputs: Tensor
) -> Prediction:
    """Add the predicted losses of a batch, from a pass of their own."""
    return replace(predict(inputs), predicted_losses=losses.predict(model, inputs))


def _in_own_precision(
    head: Callable[[Tensor], Tensor], model: nn.Module, features: Tensor
) -> Tensor:
    """Logits in the features' type, where they are; the weights may be elsewhere, of another."""
    return head(features.to(next(model.parameters()))).to(features)


def _where(tensors: Mapping[str, Tensor], free: Tensor) -> torch.device:
    """Where a selection runs: on the CPU as soon as one of its tensors had to go there."""
    moved = [tensor.device for tensor in tensors.values() if tensor.device != free.device]
    return moved[0] if moved else free.device


def _plain(key: str) -> str:
    return key.removeprefix(MODEL)
