"""Fixtures of the tests of the shell: data modules, runs, and directories of runs."""

import shutil
from functools import partial

import kit
import pytest
from toys import trainer

from dal.data.datamodule import ActiveDataModule
from dal.loop import PLAIN_TRAINER, run_rounds
from dal.models.weights import cold
from dal.pool import LabelledPool
from dal.posteriors.mc_dropout import MCDropout
from dal.strategies.badge import badge
from dal.strategies.margin import margin


@pytest.fixture(scope="session")
def kept_run():
    """Make three purchases in a directory; return the records and the pool's final state."""

    def run(directory, weights=cold, config=kit.CONFIG, **options):
        data = ActiveDataModule(kit.toy_data(), initial_size=6, val_size=4, steps=5, batch_size=16)
        records = run_rounds(
            data,
            model=kit.toy_module,
            strategy=badge,
            rounds=3,
            query_size=4,
            posterior=MCDropout(4),
            trainer=partial(PLAIN_TRAINER, accelerator="cpu"),
            weights=weights,
            directory=directory,
            config=config,
            **options,
        )
        return kit.timeless(records), data.state_dict()

    return run


@pytest.fixture(scope="session")
def expected(kept_run):
    """What a run that was not stopped gives, made once for each kind of start."""
    known = {}

    def expected(weights=cold):
        if weights not in known:
            known[weights] = kept_run(None, weights)
        return known[weights]

    return expected


@pytest.fixture(scope="session")
def _snapshots(tmp_path_factory, kept_run):
    root = tmp_path_factory.mktemp("whole")
    kept_run(root / "run", logs=[kit.Snapshots(root)])
    return root


@pytest.fixture
def after(_snapshots, tmp_path):
    """Give a copy of the directory of a run as it was after one of its rounds."""

    def after(round):
        folder = tmp_path / f"after {round}"
        if not folder.exists():
            shutil.copytree(_snapshots / str(round), folder)
        return folder

    return after


@pytest.fixture
def data():
    return ActiveDataModule(kit.index_data(), initial=[29, 3, 12], eval_batch_size=7)


@pytest.fixture
def toy():
    return partial(ActiveDataModule, kit.toy_data(), initial_size=10, eval_batch_size=64)


@pytest.fixture
def module():
    return partial(ActiveDataModule, kit.toy_data(), initial_size=6, steps=5, batch_size=16)


@pytest.fixture
def run(module):
    def run(data=None, **options):
        data = module() if data is None else data
        settings = {"model": kit.toy_module, "strategy": margin, "rounds": 3, "query_size": 4}
        settings |= {"posterior": MCDropout(4), "trainer": trainer, **options}
        return run_rounds(data, **settings)

    return run


@pytest.fixture
def pool():
    """Ten rows after a start, one purchase, and two rows held out."""
    pool = LabelledPool(10, held_out=[9, 8])
    pool.label([5, 2], [1, 0], "dataset")
    pool.label([7], [3], "person")
    return pool
