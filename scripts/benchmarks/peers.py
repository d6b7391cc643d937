"""Other libraries, each through a function that takes what our strategies take.

None is required; those that are installed take part. An adapter is given tensors, brings them
into its library's layout before the clock starts, and returns positions or scores.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from benchmarks.measuring import Call
from torch import Tensor

MODULES = {  # distribution -> what adapters import
    "scikit-activeml": "skactiveml.pool",
    "batchbald-redux": "batchbald_redux.batchbald",
    "baal": "baal.active.heuristics",
    "modAL-python": "modAL.uncertainty",
}
Peers = dict[str, Call]


@cache
def installed() -> dict[str, str]:
    """Version of each library that is there."""
    found = {}
    for name in MODULES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def badge(probs: Tensor, features: Tensor, n: int) -> Peers:
    """BADGE of scikit-activeml, on given probabilities."""

    def prepare() -> Any:
        from skactiveml.base import SkactivemlClassifier

        class Given(SkactivemlClassifier):
            """Predicts what it was given."""

            def __init__(self, probs: Any = None) -> None:
                super().__init__(classes=list(range(probs.shape[1])))
                self.probs = probs

            def fit(self, *_: Any) -> "Given":
                return self

            def predict_proba(self, X: Any) -> Any:  # noqa: N803
                return self.probs[: len(X)]

        return features.numpy(), np.full(len(features), np.nan), Given(probs.numpy())

    def run(state: Any, seed: int) -> Any:
        from skactiveml.pool import Badge

        rows, labels, given = state
        return Badge(random_state=seed).query(rows, labels, given, fit_clf=False, batch_size=n)

    return _there({"scikit-activeml": Call(run, prepare)})


def coreset(features: Tensor, labelled: Tensor, n: int) -> Peers:
    """k-centre greedy of scikit-activeml; its positions count from the labelled items on."""

    def prepare() -> Any:
        rows = np.concatenate([labelled.numpy(), features.numpy()])
        labels = np.full(len(rows), np.nan)
        labels[: len(labelled)] = 0
        return rows, labels

    def run(state: Any, seed: int) -> Any:
        from skactiveml.pool import CoreSet

        return CoreSet(random_state=seed).query(*state, batch_size=n) - len(labelled)

    return _there({"scikit-activeml": Call(run, prepare)})


def batch_bald(log_probs: Tensor, n: int, configurations: int = 10_000) -> Peers:
    """BatchBALD of batchbald_redux, and of scikit-activeml where all items fit."""

    def redux(_: Any, _seed: int) -> Any:
        from batchbald_redux.batchbald import get_batchbald_batch

        return get_batchbald_batch(log_probs, n, configurations).indices

    def activeml(state: Any, seed: int) -> Any:
        from skactiveml.pool import batch_bald as utilities_of

        utilities = utilities_of(state, n, n_MC_samples=configurations, random_state=seed)
        return np.nanargmax(utilities, axis=1)

    adapters = {"batchbald-redux": Call(redux, lambda: log_probs)}
    if len(log_probs) <= 1_000:
        by_member = Call(activeml, lambda: log_probs.exp().transpose(0, 1).numpy())
        adapters["scikit-activeml"] = by_member
    return _there(adapters)


def bald(log_probs: Tensor) -> Peers:
    """BALD of baal, and of batchbald_redux."""

    def redux(_: Any, _seed: int) -> Any:
        from batchbald_redux.batchbald import compute_conditional_entropy, compute_entropy

        return compute_entropy(log_probs) - compute_conditional_entropy(log_probs)

    def baal(state: Any, _seed: int) -> Any:
        from baal.active.heuristics import BALD

        return BALD().compute_score(state)

    def by_class() -> Any:
        return np.ascontiguousarray(log_probs.exp().transpose(1, 2).numpy())  # [N, C, K]

    return _there({"baal": Call(baal, by_class), "batchbald-redux": Call(redux, lambda: log_probs)})


def entropy(probs: Tensor) -> Peers:
    """Entropy of modAL, baal and scikit-activeml."""
    return _there(
        {
            "modAL-python": Call(_modal("classifier_entropy"), probs.numpy),
            "baal": Call(_baal("Entropy"), probs.numpy),
            "scikit-activeml": Call(_activeml("entropy"), probs.numpy),
        }
    )


def margin(probs: Tensor) -> Peers:
    """Margin of modAL, baal and scikit-activeml; the sign is each library's."""
    return _there(
        {
            "modAL-python": Call(_modal("classifier_margin"), probs.numpy),
            "baal": Call(_baal("Margin"), probs.numpy),
            "scikit-activeml": Call(_activeml("margin_sampling"), probs.numpy),
        }
    )


def prob_cover(features: Tensor, radius: float, n: int) -> Peers:
    """ProbCover of scikit-activeml at a given radius."""

    def run(state: Any, seed: int) -> Any:
        from skactiveml.pool import ProbCover

        strategy = ProbCover(n_classes=2, deltas=[radius], random_state=seed)
        return strategy.query(*state, batch_size=n)

    return _there({"scikit-activeml": Call(run, lambda: _unlabelled(features))})


def typiclust(features: Tensor, n: int) -> Peers:
    """TypiClust of scikit-activeml."""

    def run(state: Any, seed: int) -> Any:
        from skactiveml.pool import TypiClust

        return TypiClust(random_state=seed, k=20).query(*state, batch_size=n)

    return _there({"scikit-activeml": Call(run, lambda: _unlabelled(features))})


def _there(adapters: Peers) -> Peers:
    """Those that are installed, imported here and so not in a row."""
    there = {name: call for name, call in adapters.items() if name in installed()}
    for name in there:
        import_module(MODULES[name])
    return there


def _unlabelled(features: Tensor) -> tuple[Any, Any]:
    rows = features / features.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return rows.numpy(), np.full(len(features), np.nan)


def _modal(name: str) -> Callable[[Any, int], Any]:
    class Given:
        """Predicts what it is asked about."""

        def predict_proba(self, X: Any, **_: Any) -> Any:  # noqa: N803
            return X

    return lambda probs, _seed: getattr(import_module("modAL.uncertainty"), name)(Given(), probs)


def _baal(name: str) -> Callable[[Any, int], Any]:
    return lambda probs, _seed: getattr(
        import_module("baal.active.heuristics"), name
    )().compute_score(probs)


def _activeml(method: str) -> Callable[[Any, int], Any]:
    return lambda probs, _seed: import_module("skactiveml.pool").uncertainty_scores(
        probs, method=method
    )
