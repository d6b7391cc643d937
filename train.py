"""Run one experiment: compose the configuration, build the objects, run the rounds."""

import difflib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)
from rich.console import Console

from dal.stopping import Stopped, stopping

CONF = Path(__file__).resolve().parent / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(config: DictConfig) -> float | None:
    """Run the experiment in Hydra's output directory and return the last test accuracy."""
    job = HydraConfig.get()
    choice = job.runtime.choices
    title = f"{choice.strategy} {choice.dataset}-{choice.model} seed={config.get('seed')}"
    sweep = job.mode == RunMode.MULTIRUN
    directory = Path(job.runtime.output_dir)
    try:
        with stopping():
            return experiment(config, directory, title, sweep=sweep)
    except Exception as error:
        remove_empty(directory, parents=not sweep)
        if place() and isinstance(error, ConnectionError):
            time.sleep(60)  # Lightning kills all once one has ended: the first shall say why before
        if os.environ.get("DAL_TRACEBACK") == "1":
            raise
        if not sweep:
            sys.exit(f"error{place()}: {explain(error)}")
        print(f"error in {title}{place()}: {explain(error)}", file=sys.stderr)
        raise  # Hydra lets the other jobs run and ends with this


def experiment(config: DictConfig, directory: Path, title: str, *, sweep: bool) -> float | None:
    """Build what the configuration names and run the rounds."""
    with Console(quiet=bool(place())).status("loading torch and lightning"):
        from dal.callbacks.curve import Curve
        from dal.callbacks.progress import ProgressLog
        from dal.configuration import DATA, ROUNDS
        from dal.data.datamodule import ActiveDataModule
        from dal.loop import quiet_lightning, run_rounds
        from dal.models.classifier import Classifier, build_network
        from dal.processes import check_sweep

    plain = settings_of(config)
    trainer = trainers_of(config.trainer)
    if sweep:
        with quiet_lightning():
            check_sweep(trainer)
    logger = instantiate(config.logger)
    if isinstance(logger, partial):
        logger = logger(config=plain)
    dataset = instantiate(config.dataset, _convert_="all")
    oracle = instantiate(config.oracle)
    data = ActiveDataModule(dataset, oracle, **{name: plain[name] for name in DATA})
    network, classes = instantiate(config.model, _convert_="all"), len(dataset.classes)
    optimizer, scheduler = instantiate(config.optimizer), instantiate(config.get("scheduler"))
    source = instantiate(config.features, _convert_="all")
    records = run_rounds(
        data,
        model=lambda: Classifier(
            build_network(network, dataset.input_shape, classes), classes, optimizer, scheduler
        ),
        strategy=instantiate(config.strategy, _convert_="all"),
        score=instantiate(config.get("score"), _convert_="all"),
        posterior=instantiate(config.get("posterior")),
        features=lambda: source(dataset),
        trainer=trainer,
        weights=instantiate(config.weights),
        checkpoint_every_n_steps=config.checkpoint.every_n_steps,
        directory=os.path.relpath(directory),
        config=plain,
        logs=[Curve(), ProgressLog(title, prefix=sweep), logger],
        **{name: plain[name] for name in ROUNDS},
    )
    return records[-1].get("test/accuracy")


def trainers_of(node: DictConfig) -> Callable[..., Any]:
    """Make each Trainer from new objects: a strategy or a profiler keeps what one did with it."""

    def trainer(**given: Any) -> Any:
        return instantiate(node, _convert_="all")(**given)

    plugins = instantiate(node, _convert_="all").keywords.get("plugins")
    return partial(trainer, plugins=plugins) if plugins else trainer  # the loop may add its own


def settings_of(config: DictConfig) -> dict[str, Any]:
    """Resolve a configuration into plain settings, or raise what is wrong with it, all at once."""
    from dal.configuration import faults_of_experiment
    from dal.settings import MISSING, SettingsError

    lost: list[str] = []
    faults: list[str] = []
    while (error := _unresolved(config)) is not None:
        key = str(error.full_key)
        if key in lost:  # it cannot be set
            raise SettingsError(faults or [explain(error)])
        if not isinstance(error, InterpolationToMissingValueError):  # that value is told itself
            faults.append(f"{key}: {str(error.msg).splitlines()[0]}")
        lost.append(key)
        OmegaConf.update(config, key, MISSING)
    settings = OmegaConf.to_container(config, resolve=True)
    told = tuple(f"{key.partition('[')[0]} " for key in lost)
    others = faults_of_experiment(settings, build)
    faults += [fault for fault in others if not fault.startswith(told)]
    if faults:
        raise SettingsError(faults)
    return settings


def _unresolved(config: DictConfig) -> OmegaConfBaseException | None:
    try:
        OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        return error
    return None


def build(node: Mapping[str, Any]) -> Any:
    """Build what a node names; its errors come as they were raised."""
    try:
        return instantiate(node, _convert_="all")
    except HydraException as error:
        raise error.__cause__ or error from None


def remove_empty(directory: Path, *, parents: bool) -> None:
    """Remove the folder that Hydra made if nothing came into it, and those above it."""
    with suppress(OSError):
        (os.removedirs if parents else os.rmdir)(os.path.relpath(directory))


def refusal_of(arguments: Sequence[str]) -> Exception | None:
    """Say which overrides Hydra refuses, and what is wrong with the settings that the rest make."""
    with Console().status("loading torch and lightning"):
        from dal.settings import SettingsError

    given = get_args_parser().parse_args(arguments)
    name = given.config_name or "config"
    places = [CONF, Path(given.config_dir or CONF).resolve()]
    if not (CONF / name).with_suffix(".yaml").exists():
        places.reverse()  # the first has the primary file
    sound = [f"hydra.searchpath=[file://{places[1]}]"]
    refused: dict[str, Exception | None] = dict.fromkeys(given.overrides)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(places[0]), version_base="1.3"):
        tried: list[str] = []
        while [*refused] != tried:  # a key may exist once another override is there
            tried, refused = [*refused], {}
            for override in tried:
                choices, error = _tried(name, sound, override, sweep=given.multirun)
                sound += choices[:1]
                refused |= {} if error is None else {override: error}
        try:
            config = compose(name, sound, return_hydra_config=True)
        except HydraException as error:  # whatever is overridden
            return error
        lines = _refusals(refused, config)
    HydraConfig.instance().set_config(config)
    with read_write(config), open_dict(config):
        del config["hydra"]
    try:
        if not given.multirun:  # each job of a sweep says its own
            settings_of(config)
    except SettingsError as error:
        lines += error.faults
    return SettingsError(lines) if lines else None


def _refusals(refused: Mapping[str, Exception | None], config: DictConfig) -> list[str]:
    absent = tuple(
        f"{override.partition('=')[0].rpartition('@')[2]}."
        for override, error in refused.items()
        if isinstance(error, MissingConfigException)
    )
    return [
        _refusal(override, error, config)
        for override, error in refused.items()
        if error is not None and not override.startswith(absent)
    ]


def _tried(
    name: str, sound: Sequence[str], override: str, *, sweep: bool
) -> tuple[list[str], Exception | None]:
    """What an override stands for in the jobs of a sweep, or why one of them is refused."""
    try:
        (parsed,) = OverridesParser.create().parse_overrides([override])
        choices = [override]
        if sweep and parsed.is_sweep_override():
            key = parsed.get_key_element()
            choices = [f"{key}={value}" for value in parsed.sweep_string_iterator()]
        for choice in choices:
            compose(name, [*sound, choice])
    except Exception as error:
        return [], error
    return choices, None


def _refusal(override: str, error: Exception, config: DictConfig) -> str:
    """Say in one line why Hydra refuses an override, with the nearest key that it would take."""
    from dal.settings import is_node, names_of, unknown

    cause = error.__cause__ or error
    group, _, value = override.partition("=")
    loader = GlobalHydra.instance().config_loader()
    options = loader.get_group_options(group.lstrip("+").partition("@")[0])
    if value == "null" and options:
        return f"{group} cannot be null; there are: {', '.join(options)}"
    if not isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return explain(error)
    parent, _, name = str(cause.full_key).rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if node is None and parent in config:
        return f"{cause.full_key} cannot be set: {parent} is null"
    more = names_of(node["_target_"]) if is_node(node) else []
    if name in more or (isinstance(node, DictConfig) and not node):
        return f"{cause.full_key} is not in the configuration; add it by +{cause.full_key}=..."
    return unknown(name, [*(node or config), *more], parent if node else "")


def place() -> str:
    """Say which of several processes this is, if it is not the first."""
    ranks = (os.environ.get(name) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
    rank = next((rank for rank in ranks if rank is not None), "0")
    return "" if rank == "0" else f" in process {rank}"


def explain(error: BaseException) -> str:
    """Say in one line what was wanted and what came; in one line each, if settings are wrong."""
    if hasattr(error, "faults"):
        return str(error)
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        near = difflib.get_close_matches(name, error.options, n=1, cutoff=0.5)
        meant = f"did you mean {near[0]}? There" if near else "there"
        return f"{group}={name} is unknown; {meant} are: {', '.join(error.options)}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return f"no configuration file {error.missing_cfg_file}"
    while isinstance(error, HydraException) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} has no value; add {error.full_key}=..."
    if isinstance(error, OverrideParseException):
        return f"{error.override!r} is no key=value; quote brackets and commas for the shell"
    message = " ".join(str(error).split())
    expected = isinstance(error, ValueError | FileNotFoundError | ConnectionError)
    return message if expected and message else f"{type(error).__name__}: {message}"


def cli() -> None:
    """Run Hydra's command line; whatever fails ends with one line and exit code 1."""
    # With HYDRA_FULL_ERROR Hydra hands every exception on and prints nothing of its own.
    os.environ["DAL_TRACEBACK"] = os.environ.get("HYDRA_FULL_ERROR", "0")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        main()
    except Exception as error:
        if os.environ.get("DAL_TRACEBACK") == "1":
            raise
        composing = isinstance(error, HydraException | OmegaConfBaseException)
        composing |= str(error).startswith("Config group override")  # Hydra's ValueError on null
        refused = refusal_of(sys.argv[1:]) if composing else None
        sys.exit(f"error: {explain(refused or error)}")
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.exit_code)
    except KeyboardInterrupt:
        said = "interrupted; the same command continues after the last finished round"
        sys.exit(1 if place() else said)


if __name__ == "__main__":
    cli()
