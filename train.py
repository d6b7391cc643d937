"""Run one experiment: compose the configuration, build the objects, run the rounds."""

import difflib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    InterpolationToMissingValueError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)
from rich.console import Console

from dal.complete import find_end, keep_end
from dal.job_note import JobNote
from dal.signals import Stopped, stopping

CONF = Path(__file__).resolve().parent / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(config: DictConfig) -> float | None:
    """Run the experiment in Hydra's output directory and return its last accuracy.

    It is that of the validation set if there is one, so that a search over settings does not see
    the test set.
    """
    job = HydraConfig.get()
    choice = job.runtime.choices
    title = f"{choice.strategy} {choice.dataset}-{choice.model} seed={config.get('seed')}"
    sweep = job.mode == RunMode.MULTIRUN
    directory = Path(job.runtime.output_dir)
    number = job.job.num if sweep and not place() else None
    root = os.path.relpath(job.sweep.dir) if sweep else ""
    note = JobNote(number, title, directory=os.path.relpath(directory), sweep=root)
    title = f"{note.count}{title}"
    try:
        with stopping(), note.watched():
            if sweep and (end := find_end(directory, settings_as_given(config))):
                note.end = "complete"
                print(f"{title}  complete, {end.n_labelled} labels")
                return end.value
            return experiment(config, directory, title, sweep=sweep)
    except Exception as error:
        remove_empty(directory, parents=not sweep)
        if place() and isinstance(error, ConnectionError):
            time.sleep(60)  # Lightning kills all once one has ended: the first shall say why before
        noted = note.keep("failed", explain(error))
        if os.environ.get("DAL_TRACEBACK") == "1":
            raise
        if not sweep:
            sys.exit(f"error{place()}: {explain(error)}")
        print(f"error in {title}{place()}: {explain(error)}", file=sys.stderr)
        if noted:
            return None  # the command that started the sweep says it again at its end
        raise  # Hydra lets the other jobs run and ends with this


def experiment(config: DictConfig, directory: Path, title: str, *, sweep: bool) -> float | None:
    """Build what the configuration names and run the rounds."""
    with Console(quiet=bool(place())).status("loading torch and lightning"):
        from dal.callbacks.curve import Curve
        from dal.callbacks.progress import ProgressLog
        from dal.configuration import DATA, ROUNDS
        from dal.data.datamodule import ActiveDataModule
        from dal.loop import run_rounds
        from dal.models.classifier import Classifier, build_network
        from dal.processes import check_sweep
        from dal.quiet import quiet_lightning

    plain = settings_of(config)
    trainer = trainers_of(config.trainer)
    if sweep:
        with quiet_lightning():
            check_sweep(trainer)
    shared = sweep and "SUBMITIT_EXECUTOR" not in os.environ  # its jobs have files of their own
    logger = instantiate(config.logger)
    if isinstance(logger, partial):
        logger = logger(config=plain)
    logger.shared = shared
    dataset = instantiate(config.dataset, _convert_="all")
    for change in plain["scenario"].values():
        dataset = build(change)(dataset)
    oracle = instantiate(config.oracle)
    data = ActiveDataModule(dataset, oracle, **{name: given(plain[name]) for name in DATA})
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
        stopping=[build(node) for node in plain["stopping"].values()],
        checkpoint_every_n_steps=config.checkpoint.every_n_steps,
        directory=os.path.relpath(directory),
        config=plain,
        logs=[Curve(), ProgressLog(title, shared=shared), logger],
        **{name: plain[name] for name in ROUNDS},
    )
    last = records[-1]
    value = last.get("val/accuracy", last.get("test/accuracy"))
    if not place():
        keep_end(directory, plain, n_labelled=last["n_labelled"], value=value)
    return value


def trainers_of(node: DictConfig) -> Callable[..., Any]:
    """Make each Trainer from new objects: a strategy or a profiler keeps what one did with it."""

    def trainer(**given: Any) -> Any:
        return instantiate(node, _convert_="all")(**given)

    plugins = instantiate(node, _convert_="all").keywords.get("plugins")
    return partial(trainer, plugins=plugins) if plugins else trainer  # the loop may add its own


def settings_as_given(config: DictConfig) -> dict[str, Any]:
    """Resolve a configuration into plain settings, whatever is wrong with them."""
    if _unresolved(config) is not None:
        return {}
    return OmegaConf.to_container(config, resolve=True)


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


def given(setting: Any) -> Any:
    """Build what a setting names, if it names anything; it is itself what it says otherwise."""
    from dal.settings import is_node

    return build(setting) if is_node(setting) else setting


def remove_empty(directory: Path, *, parents: bool) -> None:
    """Remove the folder that Hydra made if nothing came into it, and those above it."""
    with suppress(OSError):
        (os.removedirs if parents else os.rmdir)(os.path.relpath(directory))


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
    from scripts.command_line.composing import CommandLine
    from scripts.command_line.refusals import refusal_of
    from scripts.command_line.sweeps import watched_sweep

    # With HYDRA_FULL_ERROR Hydra hands every exception on and prints nothing of its own.
    os.environ["DAL_TRACEBACK"] = os.environ.get("HYDRA_FULL_ERROR", "0")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    line = CommandLine(sys.argv[1:], CONF)
    try:
        with watched_sweep(line) as sweep:
            main()
        if sweep and not sweep.well:
            sys.exit(1)
    except Exception as error:
        if os.environ.get("DAL_TRACEBACK") == "1":
            raise
        composing = isinstance(error, HydraException | OmegaConfBaseException)
        composing |= str(error).startswith("Config group override")  # Hydra's ValueError on null
        refused = refusal_of(line, settings_of, explain) if composing else None
        sys.exit(f"error: {explain(refused or error)}")
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.exit_code)
    except KeyboardInterrupt:
        if not place():
            said = "interrupted; the same command continues after the last finished round"
            print(said, file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    cli()
