"""Cheap trials of what a configuration names: what its own code refuses shows before any work."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from dal.acquisition_parts import asked_leaves
from dal.acquisition_signature import Strategy, parts_of, rehearse
from dal.functional.checks import check_positive
from dal.processes import check_strategy
from dal.quiet import quiet_lightning
from dal.settings import is_node, names_of

Settings = Mapping[str, Any]
Built = dict[str, Any]

CLASSES = 3


def faults_of_trials(nodes: Mapping[str, Settings], build: Callable[[Any], Any]) -> list[str]:
    """Build and try posterior, optimiser, scheduler, trainer and strategy.

    A strategy of `dal` chooses among six made-up items; others may need what the data are like, and
    are tried when these are known. What says no is tried again with its settings added one after
    the other, the rest as they are by default, so that each that is wrong is told.

    Args:
        nodes: by name, without what is wrong already.
        build: makes what a node names.

    Returns:
        What they said, a line each.
    """
    faults: list[str] = []
    built: Built = {}
    with warnings.catch_warnings(), quiet_lightning(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        for name, (after, trial) in TRIALS.items():
            if name not in nodes or (after in nodes and after not in built):
                continue
            wrong = []
            for path, node in _with_parts(name, nodes[name]):

                def attempt(settings: Settings, trial: Trial = trial) -> object:
                    return trial(build(settings), built)

                wrong += _faults(path, node, attempt)
            if not wrong:
                built[name] = trial(build(nodes[name]), built)
            faults += wrong
    return faults


def _posterior(made: Any, _: Built) -> Any:
    if not callable(getattr(made, "draw", None)) or not hasattr(made, "samples"):
        raise ValueError(f"a posterior must have samples and draw(), got {type(made).__name__}")
    return made


def _optimizer(make: Callable[..., Any], _: Built) -> torch.optim.Optimizer:
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Linear(2, 2))  # weights of the usual shapes
    made: torch.optim.Optimizer = make(network.parameters())
    for group in made.param_groups:
        rate = group.get("lr", 1.0)
        check_positive("lr", rate.item() if isinstance(rate, Tensor) else rate)
    return made


def _scheduler(make: Callable[..., Any], built: Built) -> object:
    if "optimizer" not in built:
        return None
    made = make(built["optimizer"])
    if not isinstance(made, LRScheduler) or isinstance(made, ReduceLROnPlateau):
        raise ValueError(
            f"scheduler must be an LRScheduler that looks at no metric, as it is stepped after "
            f"each optimiser step, got {type(made).__name__}"
        )
    return made


def _trainer(make: Callable[..., Any], _: Built) -> None:
    try:
        made = make(max_epochs=1)
    except MisconfigurationException as error:
        raise ValueError(f"trainer: {error} Use trainer=cpu, or trainer=auto.") from None
    check_strategy(made)
    if made.limit_test_batches == 0:
        raise ValueError("trainer.limit_test_batches must leave test batches, got 0")


def _strategy(strategy: Strategy, built: Built) -> Strategy:
    score = built.get("score")
    if not _is_ours(strategy) or (score is not None and not _is_ours(score)):
        return strategy
    posterior = built.get("posterior")
    samples = posterior.samples if posterior else 2
    if parts_of(strategy):
        labels = torch.zeros(1, dtype=torch.long)
        given = {"round": 0, "n_labelled": 1, "labels": labels, "generator": torch.Generator()}
        asked_leaves(strategy, given, 2, 6)
    else:
        rehearse(strategy, score, samples=samples, num_classes=CLASSES)
    return strategy


def _is_ours(strategy: Strategy) -> bool:
    """Whether a strategy, and each that it combines, takes data of any kind."""
    function = strategy.func if isinstance(strategy, partial) else strategy
    ours = str(getattr(function, "__module__", "")).startswith("dal.")
    return ours and all(map(_is_ours, parts_of(strategy).values()))


Trial = Callable[[Any, Built], object]
TRIALS: Mapping[str, tuple[str, Trial]] = {  # what is tried before, and how
    "posterior": ("", _posterior),
    "optimizer": ("", _optimizer),
    "scheduler": ("optimizer", _scheduler),
    "trainer": ("", _trainer),
    "score": ("", _strategy),
    "strategy": ("score", _strategy),
}


def _with_parts(path: str, node: Settings) -> Iterator[tuple[str, Settings]]:
    """A node after the strategies that it combines."""
    parts = node.get("strategies")
    for name, part in parts.items() if isinstance(parts, Mapping) else ():
        if is_node(part):
            yield from _with_parts(f"{path}.strategies.{name}", part)
    yield path, node


def _faults(path: str, node: Settings, attempt: Callable[[Settings], object]) -> list[str]:
    """What a node's own code refuses: by setting, where one alone is refused."""
    said = _refusal(attempt, node)
    if said is None:
        return []
    needed = names_of(node["_target_"], needed=True)
    taken = {n: v for n, v in node.items() if n[:1] == "_" or n in ("strategies", *needed)}
    bare = _refusal(attempt, taken)
    told: dict[str, str] = {}
    left = [name for name in node if name not in taken]
    tried: list[str] = []
    while left != tried:  # what is refused may be right beside a later setting
        tried, left = left, []
        for name in tried:
            alone = _refusal(attempt, {**taken, name: node[name]})
            if alone is None:
                taken[name] = node[name]
            else:
                told[name] = alone
                left.append(name)
    lines = [_line(path, name, told[name]) for name in left if told[name] != bare]
    if bare is not None:
        own = [name for name in needed if name in node and name != "strategies"]
        lines.append(_line(path, own[0] if len(own) == 1 else "", bare))
    return sorted(lines) or [_line(path, "", said)]


def _refusal(attempt: Callable[[Settings], object], node: Settings) -> str | None:
    try:
        attempt(node)
    except ValueError as error:
        return str(error)
    except Exception as error:  # of other people's code, anything
        return f"{type(error).__name__}: {error}"
    return None


def _line(path: str, name: str, said: str) -> str:
    """A refusal that begins with the path of the setting, or of the node."""
    if said.startswith(path):
        return said
    if name and said.startswith(f"{name} "):
        return f"{path}.{said}"
    return f"{path}.{name}: {said}" if name else f"{path}: {said}"
