"""Run one experiment: compose the configuration, build the objects, run the rounds."""

import difflib
import os
import sys
from functools import partial
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue
from rich.console import Console

CONF = Path(__file__).resolve().parent / "conf"


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(config: DictConfig) -> float | None:
    """Run the experiment in Hydra's output directory and return the last test accuracy."""
    job = HydraConfig.get()
    choice = job.runtime.choices
    title = f"{choice.strategy} {choice.dataset}-{choice.model} seed={config.seed}"
    sweep = job.mode == RunMode.MULTIRUN
    try:
        return experiment(config, Path(job.runtime.output_dir), title, sweep=sweep)
    except Exception as error:
        if os.environ.get("DAL_TRACEBACK") == "1":
            raise
        if not sweep:
            sys.exit(f"error: {explain(error)}")
        print(f"error in {title}: {explain(error)}", file=sys.stderr)
        raise  # Hydra lets the other jobs run and ends with this


def experiment(config: DictConfig, directory: Path, title: str, *, sweep: bool) -> float | None:
    """Build what the configuration names and run the rounds."""
    with Console().status("loading torch and lightning"):
        from dal.callbacks.curve import Curve
        from dal.callbacks.progress import ProgressLog
        from dal.data.datamodule import ActiveDataModule
        from dal.loop import run_rounds
        from dal.models.classifier import Classifier, build_network

    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    logger = instantiate(config.logger)
    if isinstance(logger, partial):
        logger = logger(config=plain)
    dataset = instantiate(config.dataset, _convert_="all")
    data = ActiveDataModule(
        dataset,
        instantiate(config.oracle),
        initial=plain["initial"],
        initial_size=config.initial_size,
        val_size=config.val_size,
        batch_size=config.batch_size,
        eval_batch_size=config.eval_batch_size,
        steps=config.steps,
        pool_subset=config.pool_subset,
        target=config.target,
        target_size=config.target_size,
        num_workers=config.num_workers,
        seed=config.seed,
    )
    network, classes = instantiate(config.model, _convert_="all"), len(dataset.classes)
    optimizer, scheduler = instantiate(config.optimizer), instantiate(config.scheduler)
    source = instantiate(config.features, _convert_="all")
    records = run_rounds(
        data,
        model=lambda: Classifier(
            build_network(network, dataset.input_shape, classes), classes, optimizer, scheduler
        ),
        strategy=instantiate(config.strategy, _convert_="all"),
        score=instantiate(config.get("score"), _convert_="all"),
        posterior=instantiate(config.posterior),
        features=lambda: source(dataset),
        rounds=config.rounds,
        query_size=config.query_size,
        trainer=instantiate(config.trainer, _convert_="all"),
        epochs=config.epochs,
        weights=instantiate(config.weights),
        spill_dir=config.spill_dir,
        directory=os.path.relpath(directory),
        config=plain,
        logs=[Curve(), ProgressLog(title, prefix=sweep), logger],
    )
    return records[-1].get("test/accuracy")


def explain(error: BaseException) -> str:
    """Say in one line what was wanted and what came."""
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        near = difflib.get_close_matches(name, error.options, n=1, cutoff=0.3)
        meant = f"did you mean {near[0]}? " if near else ""
        return f"{group}={name} is unknown; {meant}There are: {', '.join(error.options)}"
    while isinstance(error, HydraException) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} has no value; add {error.full_key}=..."
    if isinstance(error, ConfigKeyError | ConfigAttributeError):
        known = {*OmegaConf.load(CONF / "config.yaml"), *(group.name for group in CONF.iterdir())}
        near = difflib.get_close_matches(str(error.full_key), map(str, known), n=1, cutoff=0.3)
        meant = f"did you mean {near[0]}? " if near and "." not in str(error.full_key) else ""
        return f"the key {error.full_key} is unknown; {meant}`python train.py --help` lists them"
    if isinstance(error, OverrideParseException):
        return f"{error.override!r} is no key=value; quote brackets and commas for the shell"
    message = " ".join(str(error).split())
    expected = isinstance(error, ValueError | FileNotFoundError)
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
        sys.exit(f"error: {explain(error)}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command continues after the last finished round")


if __name__ == "__main__":
    cli()
