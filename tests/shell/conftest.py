"""Tiny data sets, networks and spies for the tests of the shell."""

import shutil
from functools import partial
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from toys import trainer
from trainer_log import TrainerLog

from dal.data.data import Data, Normalise, TensorRows
from dal.data.datamodule import ActiveDataModule
from dal.loop import PLAIN_TRAINER, run_rounds
from dal.models.classifier import Classifier
from dal.models.weights import cold
from dal.pool import LabelledPool
from dal.posteriors.mc_dropout import MCDropout
from dal.strategies.badge import badge
from dal.strategies.margin import margin

CONFIG = {"seed": 0, "model": {"width": 16, "shape": [1, 2]}, "name": "x"}
CLOCKS = {"train_seconds", "acquisition_seconds", "test_seconds", "peak_memory_bytes"}


class SpyRows(TensorRows):
    """Rows that note which of them are read."""

    def __init__(self, inputs, targets):
        super().__init__(inputs, targets)
        self.read = []

    def __getitem__(self, indices):
        self.read += list(indices)
        return super().__getitem__(indices)


class GuardedRows(SpyRows):
    """Rows whose targets cannot be read once they are sealed."""

    sealed = False

    @property
    def targets(self):
        if self.sealed:
            raise AssertionError("the targets of the dataset were read")
        return self._targets

    @targets.setter
    def targets(self, value):
        self._targets = value


class Untracked(nn.Module):
    """A network that counts its forward passes; its feature is its first input."""

    def __init__(self, width=1, classes=2):
        super().__init__()
        self.head = nn.Linear(width, classes)
        self.calls = 0

    def features(self, inputs):
        return inputs

    def forward(self, inputs):
        self.calls += 1
        return self.head(self.features(inputs))


class Counting(nn.Module):
    """A layer that counts its calls and the rows that it saw."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.calls = 0
        self.rows = 0

    def forward(self, inputs):
        self.calls += 1
        self.rows += len(inputs)
        return self.layer(inputs)


class PlainModule(pl.LightningModule):
    """What a user's own module has at least."""

    def __init__(self, width=4, classes=3):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(width, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(8, classes)

    def forward(self, inputs):
        return self.last(self.drop(self.body(inputs)))

    def training_step(self, batch, batch_idx):
        inputs, targets = batch
        return nn.functional.cross_entropy(self(inputs), targets)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.05)


def toy_data(rows=240, test=60, classes=3, width=4, spread=1.0):
    """Gaussian classes whose mean is their number."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(rows + test) % classes
    inputs = torch.randn(rows + test, width, generator=generator) * spread + targets[:, None]
    return Data(
        TensorRows(inputs[:rows], targets[:rows]),
        TensorRows(inputs[rows:], targets[rows:]),
        tuple("abcdefghij"[:classes]),
        Normalise(),
    )


def index_data(rows=30, classes=2, kind=SpyRows):
    """Row i holds the number i and is of class i mod C."""
    numbers = torch.arange(rows)
    data = Data(
        kind(numbers.float().unsqueeze(1), numbers % classes),
        TensorRows(torch.zeros(classes, 1), torch.arange(classes)),
        tuple("abcdefghij"[:classes]),
        Normalise(),
    )
    data.train.read.clear()  # of the row that its shape was taken from
    return data


def toy_network(width=4, hidden=16, classes=3, dropout=0.5):
    """One hidden layer with dropout after it."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes)
    )


def toy_module():
    """The toy network in a Classifier, with a learning rate at which five steps show."""
    return Classifier(toy_network(), 3, lambda p: torch.optim.Adam(p, lr=0.05))


def timeless(records):
    """Records without what differs between two equal runs."""
    return [{k: v for k, v in record.items() if k not in CLOCKS} for record in records]


class KilledError(BaseException):
    """Stands for a kill: no handler of the package may catch it."""


class KillAt(TrainerLog):
    """Dies in a hook of a round."""

    def __init__(self, hook, round):
        self.round, self.seen = round, 0
        setattr(self, hook, self.die)

    def die(self, *args):
        if self.seen == self.round:
            raise KilledError
        self.seen += 1


class Snapshots(TrainerLog):
    """Copies the directory after every round."""

    def __init__(self, to):
        self.to = to

    def on_round_end(self, run, record):
        shutil.copytree(run.directory, self.to / str(record["round"]))


@pytest.fixture
def kit():
    """The helpers above, without an import from a conftest."""
    return SimpleNamespace(
        SpyRows=SpyRows,
        GuardedRows=GuardedRows,
        Untracked=Untracked,
        Counting=Counting,
        PlainModule=PlainModule,
        toy_data=toy_data,
        index_data=index_data,
        toy_network=toy_network,
        toy_module=toy_module,
        timeless=timeless,
        KilledError=KilledError,
        KillAt=KillAt,
        Snapshots=Snapshots,
        CONFIG=CONFIG,
    )


@pytest.fixture(scope="session")
def kept_run():
    """Make three purchases in a directory; return the records and the pool's final state."""

    def run(directory, weights=cold, config=CONFIG, **options):
        data = ActiveDataModule(toy_data(), initial_size=6, val_size=4, steps=5, batch_size=16)
        records = run_rounds(
            data,
            model=toy_module,
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
        return timeless(records), data.state_dict()

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
    kept_run(root / "run", logs=[Snapshots(root)])
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
def data(kit):
    return ActiveDataModule(kit.index_data(), initial=[29, 3, 12], eval_batch_size=7)


@pytest.fixture
def toy(kit):
    return partial(ActiveDataModule, kit.toy_data(), initial_size=10, eval_batch_size=64)


@pytest.fixture
def module(kit):
    return partial(ActiveDataModule, kit.toy_data(), initial_size=6, steps=5, batch_size=16)


@pytest.fixture
def run(kit, module):
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
