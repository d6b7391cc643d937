"""The oracle that errs: how often, how, and always alike."""

import kit
import pytest
import torch

from dal.data.datamodule import ActiveDataModule
from dal.data.scenarios.out_of_distribution import out_of_distribution
from dal.oracles.noisy import NoisyOracle
from dal.strategies.random import random

ROWS = 6000


@pytest.fixture(scope="module")
def data():
    return kit.index_data(rows=ROWS, classes=4)


def told(data, **options):
    """How often each answer came for each class, as shares: [C, C]."""
    answers = NoisyOracle(data, **options)(torch.arange(ROWS))
    pairs = (data.train.targets * 4 + answers).bincount(minlength=16).view(4, 4)
    return pairs / pairs.sum(1, keepdim=True)


def test_symmetric_errors_go_to_each_other_class_alike(data):
    expected = torch.full((4, 4), 0.1).fill_diagonal_(0.7)
    torch.testing.assert_close(told(data, rate=0.3), expected, atol=0.03, rtol=0)


def test_pair_errors_go_to_the_next_class(data):
    expected = torch.eye(4) * 0.6 + torch.eye(4).roll(1, 1) * 0.4
    torch.testing.assert_close(told(data, noise="pair", rate=0.4), expected, atol=0.03, rtol=0)
    assert told(data, noise="pair", rate=1.0).tolist() == torch.eye(4).roll(1, 1).tolist()


def test_a_transition_table_is_what_it_says(data):
    table = [[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25], [0, 0, 1, 0]]
    got = told(data, transition=table)
    torch.testing.assert_close(got, torch.tensor(table), atol=0.04, rtol=0)
    assert ((got > 0) == (torch.tensor(table) > 0)).all()


def test_without_noise_all_answers_are_right(data):
    assert told(data, rate=0.0).tolist() == torch.eye(4).tolist()


def test_the_answer_for_a_row_follows_from_the_seed_and_the_row_alone(data):
    oracle, again, other = (NoisyOracle(data, rate=0.5, seed=seed) for seed in (0, 0, 1))
    whole = oracle(torch.arange(ROWS))
    assert oracle(torch.tensor([77, 5, 4000])).tolist() == whole[[77, 5, 4000]].tolist()
    assert torch.equal(again(torch.arange(ROWS)), whole)
    assert not torch.equal(other(torch.arange(ROWS)), whole)
    longer = NoisyOracle(kit.index_data(rows=ROWS + 4, classes=4), rate=0.5)
    assert torch.equal(longer(torch.arange(ROWS)), whole)


def test_the_labels_of_the_dataset_are_not_changed(data):
    before = data.train.targets.clone()
    NoisyOracle(data, rate=1.0)(torch.arange(ROWS))
    assert torch.equal(data.train.targets, before)


def test_rows_of_no_class_are_told_without_error(data):
    mixed = out_of_distribution(data, classes=[1])
    answers = NoisyOracle(mixed, rate=1.0)(torch.arange(ROWS))
    assert torch.equal(answers == -1, mixed.train.targets == -1)
    assert (
        answers[mixed.train.targets >= 0] != mixed.train.targets[mixed.train.targets >= 0]
    ).all()


def test_a_run_records_and_trains_on_what_the_oracle_said(run):
    data = ActiveDataModule(
        kit.toy_data(), lambda data: NoisyOracle(data, noise="pair", rate=1.0),
        initial_size=6, val_size=5, steps=5, batch_size=16,
    )  # fmt: skip
    right = data.data.train.targets
    records = run(data, strategy=random, rounds=1)
    bought = records[0]["acquired"]
    assert records[0]["acquired_labels"] == ((right[bought] + 1) % 3).tolist()
    assert torch.equal(data.pool.labels, (right[data.pool.labelled] + 1) % 3)
    ((_, labels),) = data.val_dataloader()
    assert torch.equal(labels, (right[data.pool.held_out] + 1) % 3)
    _, tested = next(iter(data.test_dataloader()))
    assert torch.equal(tested, data.data.test.targets)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rate": 1.1}, "rate must lie between 0 and 1"),
        ({"rate": -0.1}, "rate must lie between 0 and 1"),
        ({"noise": "asymmetric"}, "noise must be symmetric or pair"),
        ({"transition": [[1.0]]}, "4 rows of 4"),
        ({"transition": [[1.0, 0, 0]] * 4}, "4 rows of 4"),
        ({"transition": [[1.0, 0, 0, 0.1]] * 4}, "sum in each row is 1, .*for class 0"),
        ({"transition": [[2.0, -1, 0, 0]] * 4}, "from 0 up"),
        ({"transition": [[float("nan"), 0, 0, 0]] * 4}, "transition must"),
    ],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(data, options, said):
    with pytest.raises(ValueError, match=said):
        NoisyOracle(data, **options)
