"""What an experiment's configuration may say: each key has a place, and each place a signature.

A configuration is plain: dictionaries, lists, text and numbers. A node is a dictionary that names
under `_target_` what is built from its other keys.
"""

import difflib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from dal.acquisition_signature import VOCABULARY
from dal.configuration_trials import faults_of_trials
from dal.data.datamodule import ActiveDataModule
from dal.loop import run_rounds
from dal.settings import MISSING, fault, faults_of, hints_of, is_node, unknown
from dal.stopping.criteria import VALUES

Settings = Mapping[str, Any]

DATA = (
    "initial",
    "initial_size",
    "val_size",
    "batch_size",
    "eval_batch_size",
    "steps",
    "pool_subset",
    "target",
    "target_size",
    "costs",
    "stop_set_size",
    "num_workers",
    "seed",
)
ROUNDS = (
    "rounds",
    "query_size",
    "epochs",
    "patience",
    "until_train_accuracy",
    "test_posterior",
    "spill_dir",
)
NAMES = ("name", "data_dir", "cache_dir")
NODES: Mapping[str, Iterable[str] | int] = {  # and what the run gives each beside its settings
    "dataset": (),
    "model": ("input_shape", "num_classes"),
    "features": 1,
    "weights": 2,
    "posterior": (),
    "strategy": VOCABULARY,
    "score": VOCABULARY,
    "oracle": 1,
    "trainer": ("max_epochs", "callbacks", "default_root_dir"),
    "logger": ("config",),
    "optimizer": 1,
    "scheduler": 1,
}
MAY_BE_NULL = ("score", "scheduler", "posterior")
NO_POSTERIOR = {"_target_": "dal.posteriors.deterministic.Deterministic"}  # what null stands for
BY_NAME: Mapping[str, Iterable[str] | int] = {  # any number of nodes, and what each is given
    "stopping": VALUES,
    "scenario": 1,
}
SECTIONS = ("checkpoint",)  # x.y goes where x_y is named
KNOWN = (*NAMES, *DATA, *ROUNDS, *SECTIONS, *BY_NAME, *NODES)


def faults_of_experiment(config: Settings, build: Callable[[Any], Any]) -> list[str]:
    """Say all that is wrong with a configuration, before data are read or anything is written.

    Names and types are read from the signatures of what the settings go to, ranges from their
    annotations. What costs little is built and tried, see `dal.configuration_trials`.

    Args:
        config: plain settings, all interpolations resolved.
        build: makes what a node names.

    Returns:
        One line for each fault.
    """
    hints = {**dict.fromkeys(NAMES, str), **hints_of(run_rounds), **hints_of(ActiveDataModule)}
    faults = [
        f"{name} has no value; name one by {name}=..., without ~{name}"
        if name in NODES
        else f"{name} has no value; add +{name}=..."
        for name in KNOWN
        if name not in config and name not in MAY_BE_NULL
    ]
    sound: dict[str, Settings] = {}  # nodes without the settings that are wrong
    for name, value in config.items():
        if name not in KNOWN:
            faults.append(unknown(name, KNOWN))
        elif name in BY_NAME:
            faults += _faults_of_nodes(name, value)
        elif name in SECTIONS:
            faults += _faults_of_section(name, value, hints)
        elif name not in NODES:
            faults += fault(name, value, hints[name])
            if is_node(value):  # a function of dataset rows
                faults += faults_of_node(name, value, 1)
        elif value is not None or name not in MAY_BE_NULL:
            wrong = faults_of_node(name, value, NODES[name])
            faults += wrong
            sound |= _sound(name, value, wrong)
    if config.get("posterior") is None:
        sound["posterior"] = NO_POSTERIOR
    return faults + faults_of_trials(sound, build)


def _faults_of_nodes(name: str, nodes: Any) -> list[str]:
    if not isinstance(nodes, Mapping) or is_node(nodes):
        return [f"{name} must hold nodes by name, got {nodes!r}"]
    every = [(f"{name}.{key}", node) for key, node in nodes.items()]
    return [fault for path, node in every for fault in faults_of_node(path, node, BY_NAME[name])]


def _faults_of_section(name: str, section: Any, hints: Mapping[str, Any]) -> list[str]:
    known = [hint.removeprefix(f"{name}_") for hint in hints if hint.startswith(f"{name}_")]
    if not isinstance(section, Mapping):
        return [f"{name} must hold {', '.join(known)}, got {section!r}"]
    faults = [unknown(key, known, name) for key in section if key not in known]
    for key in known:
        faults += fault(f"{name}.{key}", section.get(key, MISSING), hints[f"{name}_{key}"])
    return faults


def faults_of_node(path: str, node: Any, given: Iterable[str] | int = ()) -> list[str]:
    """Say what is wrong with the names and types in a node, and in the nodes inside it.

    Args:
        path: of the node.
        node: what stands there.
        given: names of the arguments that the run gives its target, or how many of the first.
    """
    if not is_node(node):
        return [f"{path} must name under _target_ what to build, got {node!r}"]
    try:
        target = pkgutil.resolve_name(node["_target_"])
    except Exception as error:  # of a user's module, anything
        return [_not_found(path, node["_target_"], error)]
    if not callable(target):
        return [f"{path}._target_ must be a function or a class, got {node['_target_']}"]
    settings = {name: value for name, value in node.items() if not name.startswith("_")}
    taken = _names_of(target, given)
    lacking = [name for name in _required_by(target) if name in taken and name not in settings]
    if lacking and not node.get("_partial_"):
        return [f"{path} needs _partial_: true, as the run gives it {', '.join(lacking)}"]
    whole = "_args_" not in node and (bool(given) or not node.get("_partial_"))
    faults = faults_of(path, target, settings, taken, whole=whole)
    for name, inner in _nodes_in(settings):
        combined = given if name.startswith("strategies.") else ()
        faults += faults_of_node(f"{path}.{name}", inner, combined)
    return faults


def _sound(name: str, node: Any, faults: Sequence[str]) -> dict[str, Settings]:
    """A node without the settings that are wrong, by its name; nothing if it needs them."""
    wrong = {fault.removeprefix(f"{name}.").split()[0].split(".")[0] for fault in faults}
    if not faults:
        return {name: node}
    if not is_node(node) or not wrong < node.keys() or any(key.startswith("_") for key in wrong):
        return {}
    if wrong & {*_required_by(pkgutil.resolve_name(node["_target_"]))}:
        return {}
    return {name: {key: value for key, value in node.items() if key not in wrong}}


def _not_found(path: str, target: Any, error: Exception) -> str:
    """Say why a target is not there, with the nearest name that is."""
    parent, _, name = str(target).rpartition(".")
    try:
        names = [one for one in dir(pkgutil.resolve_name(parent)) if not one.startswith("_")]
    except Exception:
        names = []
    near = difflib.get_close_matches(name, names, n=1)
    meant = f"; did you mean {parent}.{near[0]}?" if near else ""
    return f"{path}._target_ {target} cannot be imported: {type(error).__name__}: {error}{meant}"


def _parameters_of(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(target).parameters
    except (ValueError, TypeError):  # of a function written in C
        return {}


def _names_of(target: Callable[..., Any], given: Iterable[str] | int) -> list[str]:
    names = [*_parameters_of(target)]
    return names[:given] if isinstance(given, int) else [name for name in given if name in names]


def _required_by(target: Callable[..., Any]) -> list[str]:
    parameters = _parameters_of(target).items()
    return [name for name, parameter in parameters if parameter.default is parameter.empty]


def _nodes_in(settings: Any, path: str = "") -> Iterator[tuple[str, Settings]]:
    """Nodes inside settings, however deep, with their paths."""
    if isinstance(settings, Mapping):
        parts = [(f"{path}.{name}" if path else str(name), part) for name, part in settings.items()]
    else:
        parts = [(f"{path}.{n}", part) for n, part in enumerate(settings)]
    for name, part in parts:
        if is_node(part):
            yield name, part
        elif isinstance(part, Mapping | list):
            yield from _nodes_in(part, name)
