"""What a strategy asks for by the names of its arguments, and what it must give back."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import torch
from torch import Tensor

from dal.functional.gradients import LAST_LAYER
from dal.functional.information import mean_log_probs
from dal.signatures import asked_by, name_of

Strategy = Callable[..., Tensor]

POOL = frozenset({"log_probs", "probs", "features", "scores", "predicted_losses", "costs"})
LABELLED = frozenset({"labelled_log_probs", "labelled_probs", "labelled_features"})
TARGET = frozenset({"target_log_probs"})
GIVEN = frozenset({"labels", "head", "round", "n_labelled", "n_pool", "n", "generator", "shards"})
PLAIN = GIVEN - {
    "head",
    "shards",
}  # needs no model: what a strategy that combines others may ask for
VOCABULARY = POOL | LABELLED | TARGET | GIVEN


def inputs_of(strategy: Strategy) -> frozenset[str]:
    """Names of the vocabulary that a strategy asks for.

    Raises:
        ValueError: if it needs a name outside the vocabulary that its YAML does not set.
    """
    return frozenset(asked_by(strategy, VOCABULARY, kind="strategy"))


def is_score(strategy: Strategy) -> bool:
    """Whether a strategy scores items one by one; a selection takes `n` instead."""
    return "n" not in inputs_of(strategy)


def parts_of(strategy: Strategy) -> dict[str, Strategy]:
    """Strategies that the YAML of a combining strategy lists under `strategies`, by name."""
    listed = strategy.keywords.get("strategies") if isinstance(strategy, partial) else None
    if listed is None:
        return {}
    if not isinstance(listed, Mapping) or not listed or not all(map(callable, listed.values())):
        raise ValueError(
            f"the strategies of {name_of(strategy)} must be named strategies, got {listed!r}"
        )
    return dict(listed)


def leaves_of(strategy: Strategy, path: str = "") -> dict[str, Strategy]:
    """Strategies that choose items themselves, by their path: the parts of a combining one."""
    parts = parts_of(strategy)
    if not parts:
        return {path: strategy}
    leaves: dict[str, Strategy] = {}
    for name, part in parts.items():
        leaves |= leaves_of(part, f"{path}/{name}")
    return leaves


def needs_of(strategy: Strategy, score: Strategy | None) -> frozenset[str]:
    """Names that a strategy needs: its own, its parts', and those of the score they work on."""
    names = inputs_of(strategy).union(*map(inputs_of, leaves_of(strategy).values()))
    return names | inputs_of(score) if score is not None and "scores" in names else names


def wants_last_layer(strategy: Strategy) -> bool:
    """Whether `features` must be what enters the last layer, not another representation."""
    names = inputs_of(strategy)
    if not any(name.endswith("features") for name in names):
        return False
    if "head" in names:
        return True
    function = strategy.func if isinstance(strategy, partial) else strategy
    known = getattr(function, "__globals__", {})
    parameters = inspect.signature(strategy).parameters.values()
    return any(_marked(_hint(parameter.annotation, known)) for parameter in parameters)


def _hint(annotation: Any, known: dict[str, Any]) -> Any:
    """An annotation, read if it is text; text that is no Python stays text."""
    try:
        return get_type_hints(
            SimpleNamespace(__annotations__={"it": annotation}), known, include_extras=True
        )["it"]
    except (TypeError, NameError, SyntaxError, AttributeError):
        return annotation


def _marked(hint: Any) -> bool:
    return LAST_LAYER in getattr(hint, "__metadata__", ()) or any(map(_marked, get_args(hint)))


def takes_given_features(strategy: Strategy, score: Strategy | None) -> bool:
    """Whether a strategy looks at features and any representation will do."""
    return any(not wants_last_layer(leaf) for leaf in _on_features(strategy, score))


def takes_model_features(strategy: Strategy, score: Strategy | None, *, given: bool) -> bool:
    """Whether a strategy looks at what enters the model's last layer.

    Args:
        strategy: a score, a selection, or one that combines such.
        score: what it works on.
        given: features were computed beforehand, for those that any representation serves.
    """
    return any(not given or wants_last_layer(leaf) for leaf in _on_features(strategy, score))


def _on_features(strategy: Strategy, score: Strategy | None) -> list[Strategy]:
    leaves = [*leaves_of(strategy).values()]
    if score is not None and any("scores" in inputs_of(leaf) for leaf in leaves):
        leaves.append(score)
    return [leaf for leaf in leaves if inputs_of(leaf) & {"features", "labelled_features"}]


def setting_of(strategy: Strategy, name: str) -> Any:
    """Value of a setting, from the YAML or the function's default; None if it has none."""
    parameter = inspect.signature(strategy).parameters.get(name)
    return None if parameter is None else parameter.default


def rehearse(
    strategy: Strategy,
    score: Strategy | None,
    *,
    samples: int,
    num_classes: int,
    width: int = 3,
) -> None:
    """Call a strategy on six made-up items, so that what is wrong with it shows before training.

    Of a strategy that combines others each part is called.

    Args:
        strategy: a score or a selection, or one that combines such.
        score: what `scores` comes from, if the strategy names it.
        samples: K of the posterior.
        num_classes: C.
        width: D.

    Raises:
        ValueError: if the strategy refuses, fails, or gives something else than its kind must.
    """
    if parts_of(strategy):
        check_combining(strategy)
        for leaf in leaves_of(strategy).values():
            rehearse(leaf, score, samples=samples, num_classes=num_classes, width=width)
        return
    if "scores" in inputs_of(strategy):
        if score is None:
            raise missing_score(strategy)
        if not is_score(score):
            raise ValueError(f"score must be a score, but {name_of(score)} takes n: a selection")
        rehearse(score, None, samples=samples, num_classes=num_classes, width=width)
    pool, n = 6, 2
    values = _example(pool, n, samples, num_classes, width)
    if score is not None and "scores" in inputs_of(strategy):
        values["scores"] = score(**{name: values[name] for name in inputs_of(score)})
    try:
        out = strategy(**{name: values[name] for name in inputs_of(strategy)})
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(
            f"strategy {name_of(strategy)} fails on a small example: {error!r}"
        ) from error
    if is_score(strategy):
        check_scores(out, pool, name_of(strategy))
    else:
        check_positions(out, n, pool, name_of(strategy))


def _example(pool: int, n: int, samples: int, num_classes: int, width: int) -> dict[str, Any]:
    """A made-up value for every name of the vocabulary."""
    generator = torch.Generator().manual_seed(0)
    labelled, targets = 4, 5

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    values: dict[str, Any] = {name: draw(pool) for name in ("scores", "predicted_losses")}
    values |= {"generator": generator, "n": n, "round": 0, "shards": None}
    values["costs"] = torch.arange(1.0, pool + 1)
    values |= {"n_pool": pool, "n_labelled": labelled, "labels": torch.arange(labelled) % 2}
    last_layer = draw(width, num_classes)
    values["head"] = lambda features: features @ last_layer
    for prefix, rows in (("", pool), ("labelled_", labelled)):
        log_probs = draw(rows, samples, num_classes).log_softmax(-1)
        values[f"{prefix}log_probs"] = log_probs
        values[f"{prefix}probs"] = mean_log_probs(log_probs).exp()
        values[f"{prefix}features"] = draw(rows, width)
    values["target_log_probs"] = draw(targets, samples, num_classes).log_softmax(-1)
    return values


def check_combining(strategy: Strategy) -> None:
    """Raise ValueError if a combining strategy, or one inside it, looks at the model itself."""
    unknown = inputs_of(strategy) - PLAIN
    if unknown:
        raise ValueError(
            f"strategy {name_of(strategy)} combines others and may ask for "
            f"{', '.join(sorted(PLAIN))} alone, got {', '.join(sorted(unknown))}"
        )
    for part in parts_of(strategy).values():
        if parts_of(part):
            check_combining(part)


def missing_score(strategy: Strategy) -> ValueError:
    """Error of a strategy on scores where none are to be had."""
    return ValueError(
        f"strategy {name_of(strategy)} works on scores; name their strategy under `score`"
    )


def check_scores(scores: Any, rows: int, name: str) -> None:
    """Raise ValueError unless a strategy gave one number per item."""
    if not isinstance(scores, Tensor) or scores.shape != (rows,):
        raise ValueError(
            f"score {name} must give one number per item, a tensor of shape [{rows}], "
            f"got {_shape(scores)}"
        )


def check_positions(positions: Any, n: int, rows: int, name: str) -> None:
    """Raise ValueError unless a strategy gave n distinct positions of the pool."""
    whole = isinstance(positions, Tensor) and positions.dtype == torch.long
    if not whole or positions.shape != (n,):
        raise ValueError(f"strategy {name} must give {n} long positions, got {_shape(positions)}")
    if n and (int(positions.min()) < 0 or int(positions.max()) >= rows):
        raise ValueError(
            f"strategy {name} must give positions from 0 to {rows - 1}, got {positions.tolist()}"
        )
    if len(positions.unique()) != n:
        raise ValueError(f"strategy {name} must give distinct positions, got {positions.tolist()}")


def _shape(value: Any) -> str:
    known = isinstance(value, Tensor)
    return f"{value.dtype} of shape {list(value.shape)}" if known else type(value).__name__
