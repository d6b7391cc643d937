"""Accuracy on groups of the test rows: right by hand, exact, and kept out of Lightning's logs."""

from dataclasses import replace

import kit
import pytest
import torch
from torch import nn
from torch.nn import functional

from dal.data.data import Data, Groups, Normalise, TensorRows
from dal.data.datamodule import ActiveDataModule
from dal.models.classifier import Classifier
from dal.strategies.random import random

pytestmark = pytest.mark.filterwarnings("ignore:You passed in a .val_dataloader. but")

PREDICTED = [0, 0, 1, 2, 2, 1, 0]
TARGETS = [0, 1, 1, 2, 0, 1, 0]


def told(groups=None):
    """Data whose test inputs are the logits of `PREDICTED`."""
    train = TensorRows(torch.eye(3).repeat(4, 1), torch.arange(3).repeat(4))
    test = TensorRows(torch.eye(3)[PREDICTED], torch.tensor(TARGETS))
    return Data(train, test, ("a", "b", "c"), Normalise(), groups=groups)


class Still(nn.Module):
    """Gives its inputs back, and has a weight to train that changes nothing."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, inputs):
        return inputs + 0 * self.weight


@pytest.fixture
def first(run):
    def first(data, module=lambda: Classifier(Still(), 3), **options):
        module_of = ActiveDataModule(data, initial_size=3, steps=1, **options)
        return run(module_of, model=module, strategy=random, posterior=None, rounds=0)[0]

    return first


@pytest.mark.parametrize("size", [1, 3, 512])
def test_groups_are_the_classes_where_the_data_name_none(first, size):
    record = first(told(), eval_batch_size=size)
    assert record["test/group_accuracy"] == {"a": 2 / 3, "b": 2 / 3, "c": 1.0}
    assert record["test/worst_group_accuracy"] == 2 / 3
    assert record["test/accuracy"] == pytest.approx(5 / 7)


@pytest.mark.parametrize("size", [1, 3, 512])
def test_groups_that_the_data_bring_are_judged_by_row(first, size):
    groups = Groups(torch.tensor([1, 1, 0, 0, 1, 0, 0]), ("even", "odd", "empty"))
    record = first(told(groups), eval_batch_size=size)
    assert record["test/group_accuracy"] == {"even": 1.0, "odd": 1 / 3}
    assert record["test/worst_group_accuracy"] == 1 / 3


@pytest.mark.parametrize(
    "tell",
    [
        lambda logits, targets: logits.sum(),
        lambda logits, targets: functional.cross_entropy(logits, targets, reduction="none"),
        lambda logits, targets: logits.argmax(1) == targets,
    ],
    ids=["one number", "losses", "whether it is right"],
)
def test_a_module_that_says_nothing_of_its_predictions_has_no_groups(first, tell):
    class Silent(kit.PlainModule):
        def __init__(self):
            super().__init__(width=3)

        def test_step(self, batch, batch_idx):
            return tell(self(batch[0]), batch[1])

    record = first(told(), Silent)
    assert not [name for name in record if "group" in name]


def test_a_thousand_classes_make_no_entries_in_the_logs_of_the_trainer(first, monkeypatch):
    logged = []
    log = Classifier.log
    monkeypatch.setattr(Classifier, "log", lambda *a, **o: (logged.append(a[1]), log(*a, **o)))
    test = TensorRows(torch.eye(1000), torch.arange(1000))
    train = TensorRows(torch.eye(1000), torch.arange(1000))
    data = Data(train, test, tuple(map(str, range(1000))), Normalise())
    record = first(data, lambda: Classifier(Still(), 1000))
    assert record["test/group_accuracy"] == dict.fromkeys(map(str, range(1000)), 1.0)
    assert {name for name in logged if name.startswith("test")} == {
        "test/accuracy", "test/nll", "test/ece",
    }  # fmt: skip


def test_the_shares_sum_to_the_accuracy_in_every_round(run, module):
    data = module()
    sizes = data.data.test.targets.bincount() / len(data.data.test)
    for record in run(data):
        shares = torch.tensor(list(record["test/group_accuracy"].values()))
        assert float((shares * sizes).sum()) == pytest.approx(record["test/accuracy"], abs=1e-6)
        assert record["test/worst_group_accuracy"] == pytest.approx(float(shares.min()))


@pytest.mark.parametrize(
    ("of", "names", "said"),
    [
        ([0, 1], ("a", "a"), "different names, got a, a"),
        ([0, 2], ("a", "b"), "one of 2 groups"),
        ([-1, 0], ("a", "b"), "one of 2 groups"),
    ],
)
def test_groups_that_cannot_be_are_refused(of, names, said):
    with pytest.raises(ValueError, match=said):
        Groups(torch.tensor(of), names)


def test_each_test_row_needs_a_group_and_each_class_a_name_of_its_own():
    with pytest.raises(ValueError, match="each of 7 test rows needs a group, got 2"):
        told(Groups(torch.tensor([0, 0]), ("all",)))
    with pytest.raises(ValueError, match="different names, got a, b, a"):
        replace(told(), classes=("a", "b", "a"))
