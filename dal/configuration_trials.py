"""Cheap trials of what a configuration names: what its own code refuses shows before any work."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from dal.acquisition_parts import asked_leaves
from dal.acquisition_signature import Strategy, parts_of, rehearse
from dal.functional.checks import check_positive
from dal.loop import quiet_lightning
from dal.processes import check_strategy
from dal.settings import is_node

Settings = Mapping[str, Any]
Built = dict[str, Any]

CLASSES = 3


def faults_of_trials(nodes: Mapping[str, Settings], build: Callable[[Any], Any]) -> list[str]:
    """Build and try posterior, optimiser, scheduler, trainer, start weights and strategy.

    A strategy chooses among six made-up items. What says no is tried again with one setting at a
    time, the others as they are by default, so that each that is wrong is told.

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
    made: torch.optim.Optimizer = make([nn.Parameter(torch.zeros(1))])
    for group in made.param_groups:
        check_positive("lr", group.get("lr", 1.0))
    return made


def _scheduler(make: Callable[..., Any], built: Built) -> object:
    return make(built["optimizer"]) if "optimizer" in built else None


def _weights(start: Callable[..., None], _: Built) -> None:
    network = nn.Linear(1, 1)
    start(network, network.state_dict())


def _trainer(make: Callable[..., Any], _: Built) -> None:
    try:
        check_strategy(make(max_epochs=1))
    except MisconfigurationException as error:
        raise ValueError(f"trainer: {error} Use trainer=cpu, or trainer=auto.") from None


def _strategy(strategy: Strategy, built: Built) -> Strategy:
    posterior = built.get("posterior")
    samples = posterior.samples if posterior else 2
    if parts_of(strategy):
        labels = torch.empty(0, dtype=torch.long)
        given = {"round": 0, "n_labelled": 0, "labels": labels, "generator": torch.Generator()}
        asked_leaves(strategy, given, 2, 6)
    else:
        rehearse(strategy, built.get("score"), samples=samples, num_classes=CLASSES)
    return strategy


Trial = Callable[[Any, Built], object]
TRIALS: Mapping[str, tuple[str, Trial]] = {  # what is tried before, and how
    "posterior": ("", _posterior),
    "optimizer": ("", _optimizer),
    "scheduler": ("optimizer", _scheduler),
    "weights": ("", _weights),
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
    fixed = {n: v for n, v in node.items() if n.startswith("_") or n == "strategies"}
    bare = _refusal(attempt, fixed)
    told = []
    for name in node.keys() - fixed.keys():
        alone = _refusal(attempt, {**fixed, name: node[name]})
        if alone is not None and alone != bare:
            told.append(_line(path, name, alone))
    return sorted(told) or [_line(path, "", said)]


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
