"""What a query will take, told and checked before any training."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Sized
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import Tensor, nn

from dal.acquisition_gather import features_of
from dal.acquisition_pass import MODEL, SCORE, Pass
from dal.acquisition_signature import TARGET, Strategy, inputs_of
from dal.acquisition_storage import Storage
from dal.data.datamodule import ActiveDataModule
from dal.functional.costs import Sizes
from dal.posteriors.deterministic import Deterministic
from dal.posteriors.posterior import Posterior
from dal.preflight_memory import HOST, Memory, free_of, leaf_cost, memory_of
from dal.preflight_times import pass_seconds, speeds_of
from dal.seeding import generator_for
from dal.signatures import name_of

ROWS = 4  # of which the model tells how wide its features are


class Preflight:
    """Expected memory and time of the queries to come, at the sizes of the next one.

    The memory is that of the tensors a query keeps and of its selection, not that of the model and
    its batches. Of a strategy that combines others it is the most that one of the rounds takes.

    Args:
        strategy: a score, a selection, or one that combines others.
        n: how many are chosen.
        rounds: leaves by path that each of the queries to come asks, at least one.
        model: inputs [B, ...] -> logits [B, C], on any device; left as it was.
        data: holds pool, round and seed; left as it is.
        posterior: gives the samples.
        score: where `scores` comes from.
        features: [rows of data.data.train, D], or None for the model's own.
        storage: of a query, on the device on which the model will be.

    Raises:
        ValueError: if a query cannot fit; with the largest `pool_subset` that does, if one does.
    """

    def __init__(
        self,
        strategy: Strategy,
        n: int,
        rounds: Sequence[Mapping[str, Strategy]],
        *,
        model: nn.Module,
        data: ActiveDataModule,
        posterior: Posterior,
        score: Strategy | None,
        features: Tensor | None,
        storage: Storage,
    ) -> None:
        self.name = name_of(strategy)
        self.data, self.posterior, self.features = data, posterior, features
        self.storage, self.score = storage, score
        self.leaves = {tuple(leaves): leaves for leaves in rounds}
        self.plans = [self._plan(leaves, model) for leaves in self.leaves.values()]
        keys = {
            key for plan in self.plans for names in plan.keys.values() for key in names.values()
        }
        self.keys = keys
        rows = candidates(data)
        width = 0 if features is None else features.shape[1]
        if any(key.endswith("features") and (features is None or MODEL in key) for key in keys):
            width = _width(model, data)
        self.sizes = Sizes(
            N=rows,
            n=min(n, rows),
            M=data.n_labelled,
            D=width,
            C=len(data.data.classes),
            K=posterior.samples,
            J=len(cast("Sized", data.target_dataloader().dataset)) if keys & TARGET else 0,
        )
        self._refuse()

    def line(
        self,
        model: nn.Module,
        context: Callable[[], AbstractContextManager[Any]],
        *,
        ahead: bool = True,
    ) -> str:
        """Tell in one line what to expect, after a trial of the pass on two batches.

        Args:
            model: on the device of the query.
            context: autocast of the training precision.
            ahead: whether the posterior can be asked by later rounds' strategies already.
        """
        leaves: dict[str, Strategy] = {}
        for asked in self.leaves.values() if ahead else [*self.leaves.values()][:1]:
            leaves |= asked
        seconds = pass_seconds(
            self._plan(leaves, model), self.sizes.N, model=model, context=context
        )
        selection = self._selection_seconds()
        most = ", at most over its rounds" if len(self.plans) > 1 else ""
        memory = max(self.memories(self.sizes.N), key=lambda memory: memory.total)
        parts = [
            "no pool pass" if seconds is None else f"pool pass {_time(seconds)}",
            f"selection {'unknown' if selection is None else _time(selection)}",
            *self._places(memory),
            *(() if memory.fits else ("which may not fit",)),
        ]
        return f"{self._what()}{most}: {', '.join(parts)}"

    def _plan(self, leaves: Mapping[str, Strategy], model: nn.Module) -> Pass:
        data = self.data
        if self.score is not None and any("scores" in inputs_of(leaf) for leaf in leaves.values()):
            leaves = {SCORE: self.score, **leaves}
        return Pass(
            leaves,
            data=data,
            posterior=self.posterior,
            features=self.features,
            like=next(model.parameters()),
            given={
                "round": data.round,
                "n_labelled": data.n_labelled,
                "n_pool": candidates(data),
                "labels": data.pool.labels.to(next(model.parameters()).device),
                "shards": None,
            },
            storage=self.storage,
        )

    def _about(self, ending: str) -> bool:
        return any(key.endswith(ending) for key in self.keys)

    def _what(self) -> str:
        sizes, letters = self.sizes, dict[str, int]()
        if self._about("features"):
            letters["D"] = sizes.D
        if self._about("probs"):
            letters |= {"C": sizes.C, "K": sizes.K}
        told = ", ".join(f"{letter} = {value}" for letter, value in letters.items())
        return f"{self.name} on {sizes.N:,} candidates" + (f" ({told})" if told else "")

    def memories(self, rows: int) -> list[Memory]:
        """What queries of so many candidates take, by what is asked in them."""
        return [memory_of(plan, self.sizes._replace(N=rows)) for plan in self.plans]

    def _selection_seconds(self) -> float | None:
        """The most that the selections of one round take, None if one does not tell."""
        most = 0.0
        for plan in self.plans:
            speeds = speeds_of(memory_of(plan, self.sizes).where)
            costs = [
                leaf_cost(plan, path, self.sizes)
                for path in plan.leaves.keys() - plan.streamed.keys()
            ]
            told = [cost.seconds(speeds) for cost in costs if cost is not None]
            if len(told) < len(costs):
                return None
            most = max(most, sum(told))
        return most

    def _places(self, memory: Memory) -> list[str]:
        """What is taken of each place, and what is free there."""
        free, device = free_of(self.storage), self.storage.device
        taken = Counter(memory.kept)
        taken[memory.where] += memory.work
        parts = []
        for place, size in taken.items():
            if place is None:
                parts.append(f"{_size(size)} in a memory-mapped file in {self.storage.folder}")
            elif size:
                host = " in host memory" if place == HOST != device else ""
                parts.append(f"{_size(size)} of {_size(free[place])} free{host}")
        return parts

    def _refuse(self) -> None:
        """Raise ValueError if a query cannot fit."""
        hopeless = [memory for memory in self.memories(self.sizes.N) if memory.hopeless]
        if not hopeless:
            return
        memory = hopeless[0]
        if memory.lacking:
            wanted = (
                f"keeps {_size(memory.kept[None])} that no memory has room for, and "
                f"{self.storage.folder} has {_size(memory.kept[None] - memory.lacking)} free; set "
                f"spill_dir to a folder with room, or "
            )
        else:
            place = "host" if memory.where.type == "cpu" else str(memory.where)
            wanted = (
                f"needs about {_size(memory.work)} of {place} memory to select, and "
                f"{_size(max(memory.free, 0))} are left for it; "
            )
        rows = self._largest()
        remedy = f"set pool_subset={rows}, or " if rows else ""
        raise ValueError(f"{self._what()} {wanted}{remedy}take another strategy")

    def _largest(self) -> int:
        """The most candidates that fit, rounded down to two digits; 0 if fewer than are bought."""
        low, high = 0, self.sizes.N
        while high - low > 1:
            middle = (low + high) // 2
            if all(memory.fits for memory in self.memories(middle)):
                low = middle
            else:
                high = middle
        low -= low % 10 ** max(len(str(low)) - 2, 0)
        return low if low >= self.sizes.n else 0


def candidates(data: ActiveDataModule, bought: int = 0) -> int:
    """How many rows a query will be dealt, once so many more are bought."""
    left = data.pool.n_unlabelled - bought
    return left if data.pool_subset is None else min(left, data.pool_subset)


def _width(model: nn.Module, data: ActiveDataModule) -> int:
    """D of the model's features, from a pass over a few rows."""
    rows = data.data.train[data.pool.unlabelled[:ROWS]]
    inputs = data.data.normalise(rows).to(next(model.parameters()))
    generator = generator_for(data.seed, "masks", data.round)
    with torch.no_grad(), Deterministic().draw(model, generator) as predict:
        return features_of(predict(inputs)).shape[1]


def _time(seconds: float) -> str:
    """About so long, in two digits."""
    if seconds < 0.01:
        return "under 0.01 s"
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"about {_two_digits(seconds / length)} {unit}"
    return f"about {_two_digits(seconds)} s"


def _size(size: float) -> str:
    for unit, length in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= length:
            return f"{_two_digits(size / length)} {unit}"
    return f"{_two_digits(size / 1e3)} kB"


def _two_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
