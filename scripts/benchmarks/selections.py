"""Every selection that there is, found by its file: time and extra memory, against no goal."""

from functools import partial
from typing import Any

import torch
from benchmarks.data import Pool, pool_of
from benchmarks.measuring import Call
from benchmarks.names import CONF
from benchmarks.rows import WARM_ROWS, Case, Plan
from benchmarks.sizes import Size
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor

from dal.acquisition_signature import POOL, Strategy, inputs_of, is_score, leaves_of, parts_of
from dal.functional.ranking import top_n

SAMPLES = 20
WARM_PICKS = 4


def plans(names: list[str], size: Size, device: str) -> list[Plan]:
    """A case for each of these strategies that takes `n`, those made of others included."""
    found = []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for name in names:
            config = compose("config", overrides=[f"strategy={name}"])
            strategy = instantiate(config.strategy, _convert_="all")
            score = instantiate(config.score, _convert_="all") if config.get("score") else None
            if not is_score(strategy):
                build = partial(_case, strategy, score, size, device)
                title = f"{name}, {size.listed:,} x {size.width}, n={size.few}"
                found.append(Plan(name, title, "learned", build))
    return found


def _case(strategy: Strategy, score: Strategy | None, size: Size, device: str) -> Case:
    counts = {"rows": size.listed, "labelled": size.labelled, "width": size.width}
    pool = pool_of("learned", **counts, classes=10, steps=size.steps, device=device)
    return Case(ours=_chosen(strategy, _values(strategy, score, pool), size.few), repeats=(1, 1))


def _values(strategy: Strategy, score: Strategy | None, pool: Pool) -> dict[str, Any]:
    """Everything in the vocabulary that a strategy, its parts or its score may ask for."""
    asked = frozenset().union(*map(inputs_of, leaves_of(strategy).values()))
    every = Pool(pool.name, torch.cat([pool.features, pool.labelled]), pool.labelled, pool.weight)
    probs, rows = every.probs(), len(pool.features)
    values: dict[str, Any] = {
        "probs": probs[:rows],
        "features": pool.features,
        "labelled_probs": probs[rows:],
        "labelled_features": pool.labelled,
        "labels": probs[rows:].argmax(1),
        "predicted_losses": pool.features[:, 0],
        "costs": 1 + pool.features[:, 1].abs(),
        "head": partial(_logits, pool.weight),
        "round": 1,
        "n_labelled": len(pool.labelled),
        "n_pool": rows,
        "shards": None,
    }
    if asked & {"log_probs", "scores", "target_log_probs", "labelled_log_probs"}:
        log_probs = every.samples(len(every.features), SAMPLES)
        values |= {"log_probs": log_probs[:rows], "labelled_log_probs": log_probs[rows:]}
        values["target_log_probs"] = log_probs[:200]
    if "scores" in asked and score is not None:
        values["scores"] = score(**{name: values[name] for name in inputs_of(score)})
    return values


def _logits(weight: Tensor, features: Tensor) -> Tensor:
    return features @ weight


def _chosen(strategy: Strategy, values: dict[str, Any], n: int) -> Call:
    device = values["features"].device

    def seeded(given: dict[str, Any], seed: int) -> dict[str, Any]:
        return given | {"generator": torch.Generator(device).manual_seed(seed)}

    def prepare() -> dict[str, Any]:
        few = _rows(values, slice(WARM_ROWS))
        _choose(strategy, seeded(few, 0), min(n, WARM_PICKS))
        return values

    return Call(lambda given, seed: _choose(strategy, seeded(given, seed), n), prepare)


def _rows(values: dict[str, Any], rows: Any) -> dict[str, Any]:
    """The values of some of the pool's items."""
    some = {name: value[rows] for name, value in values.items() if name in POOL}
    return values | some | {"n_pool": len(some["features"])}


def _choose(strategy: Strategy, values: dict[str, Any], n: int) -> Tensor:
    """Positions, as the shell gets them: of a score the best, of parts by functions."""
    given = {name: values[name] for name in inputs_of(strategy) if name != "n"}
    if is_score(strategy):
        return top_n(strategy(**given), n)
    parts = parts_of(strategy)
    if parts:
        given["strategies"] = {name: partial(_take, part, values) for name, part in parts.items()}
    return strategy(**given, n=n)


def _take(part: Strategy, values: dict[str, Any], free: Tensor, n: int) -> Tensor:
    free = free.to(values["features"].device)
    return free[_choose(part, _rows(values, free), n)]
