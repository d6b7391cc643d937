"""Tiny data sets, networks and spies for the tests of the shell."""

import shutil

import lightning.pytorch as pl
import torch
from torch import nn
from trainer_log import TrainerLog

from dal.data.data import Data, Normalise, TensorRows
from dal.models.classifier import Classifier

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
