"""Jobs of a sweep that would share a run directory, and what gives each its own."""

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from scripts.command_line.composing import CommandLine

Choices = dict[str, list[str]]  # what is swept: overrides of each key, by key
STRATEGY = "${hydra:runtime.choices.strategy}"
OF_STRATEGY = ("strategy", "score", "posterior", "features")  # reports compare such variants


def remedy(line: CommandLine, config: DictConfig, choices: Choices) -> str:
    """Say in one line why jobs would share a directory, and what to add; nothing if none would.

    Args:
        line: arguments of the command.
        config: what they compose to, with nothing of what is swept.
        choices: what is swept.
    """
    for override in (one for values in choices.values() for one in values):
        key, _, value = override.partition("=")
        if choices[key].count(override) > 1:
            return f"{key} is swept over {value} twice; name each value once"
    first = {key: values[0] for key, values in choices.items()}
    at, job = _directory_of(line, choices, first, 0)
    shared = [
        key
        for key, values in choices.items()
        if any(_directory_of(line, choices, first | {key: one}, 1)[0] == at for one in values[1:2])
    ]
    if not shared:
        return ""
    said = f"jobs that differ in {' and '.join(shared)} alone would share a run directory; "
    if any(_cannot_be_named(key, config, job) for key in shared):
        return f"{said}start one sweep for each value, with a name=... of its own"
    parts = {key: _named(key, job) for key in shared}
    of_strategy = "".join(f"_{part}" for key, part in parts.items() if _is_of_strategy(key))
    others = "_".join(part for key, part in parts.items() if not _is_of_strategy(key))
    subdir = str(OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"])
    if STRATEGY not in subdir:
        of_strategy, others = "", "_".join(parts.values())
    variant = subdir.replace(STRATEGY, f"{STRATEGY}{of_strategy}")
    add = [f"'name={others}'"] * bool(others)
    add += [f"'hydra.sweep.subdir=\"{variant}\"'"] * bool(of_strategy)
    return f"{said}add {' '.join(add)} with the quotes to give each its own"


def _directory_of(
    line: CommandLine, choices: Choices, chosen: dict[str, str], number: int
) -> tuple[str, DictConfig]:
    """Directory of a job, and its configuration."""
    fixed = [one for one in line.overrides if one.partition("=")[0] not in choices]
    overrides = [line.search, *fixed, *chosen.values()]
    loader = GlobalHydra.instance().config_loader()
    job = loader.load_configuration(line.name, overrides, RunMode.MULTIRUN)
    job.hydra.job.num = number
    HydraConfig.instance().set_config(job)
    return f"{job.hydra.sweep.dir}/{job.hydra.sweep.subdir}", job


def _cannot_be_named(key: str, config: DictConfig, job: DictConfig) -> bool:
    """Whether a folder cannot follow a key: it has no value yet, or more than one."""
    path = key.lstrip("+")
    parent, _, name = path.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if isinstance(node, DictConfig) and OmegaConf.is_missing(node, name):
        return True  # where the folder of the whole sweep is asked for
    value = OmegaConf.select(job, path) if path not in job.hydra.runtime.choices else ""
    chosen = job.hydra.runtime.choices.get(path, "")
    return isinstance(value, DictConfig | ListConfig) or "[" in str(chosen)


def _named(key: str, job: DictConfig) -> str:
    path = key.lstrip("+")
    group = path in job.hydra.runtime.choices
    name = path.rpartition("@")[2].rpartition(".")[2]
    return f"{name}_${{{'hydra:runtime.choices.' * group}{path}}}"


def _is_of_strategy(key: str) -> bool:
    return key.lstrip("+").partition(".")[0].partition("@")[0] in OF_STRATEGY
