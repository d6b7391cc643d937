"""Rows that belong to no class: paid for, out of the pool, in the record, and never trained on."""

import json
from dataclasses import replace
from functools import partial
from io import StringIO

import kit
import pytest
import torch
from rich.console import Console
from toys import trainer

from dal.callbacks.csv_log import CsvLog
from dal.callbacks.progress import ProgressLog
from dal.data.data import Data, Normalise, SelectedRows, TensorRows
from dal.data.datamodule import ActiveDataModule
from dal.data.scenarios.out_of_distribution import out_of_distribution
from dal.loop import run_rounds
from dal.pool import NO_CLASS, LabelledPool
from dal.posteriors.mc_dropout import MCDropout
from dal.run_directory import RunDirectory
from dal.strategies.badge import badge
from dal.strategies.coreset import coreset
from dal.strategies.random import random


@pytest.fixture
def open_pool():
    """Ten rows of which every third belongs to no class; three are bought."""
    pool = LabelledPool(10, held_out=[9], no_class=True)
    pool.label([3, 1], [NO_CLASS, 4], "dataset")
    pool.label([0, 5, 2], [2, 1, NO_CLASS], "person")
    return pool


def mixed(rows=240, **options):
    """The toy data, of whose classes b is none."""
    return out_of_distribution(kit.toy_data(rows, **options), classes=[1])


def module(data=None, **options):
    settings = {"initial_size": 9, "val_size": 12, "steps": 5, "batch_size": 16}
    return ActiveDataModule(data or mixed(), **{**settings, **options})


def buy(folder=None, strategy=badge, data=None, rounds=3, **options):
    data = data or module(initial="random")
    records = run_rounds(
        data,
        model=lambda: kit.Classifier(
            kit.toy_network(classes=2), 2, lambda p: torch.optim.Adam(p, lr=0.05)
        ),
        strategy=strategy,
        rounds=rounds,
        query_size=7,
        posterior=MCDropout(4),
        trainer=trainer,
        directory=folder,
        config={"x": 1},
        **options,
    )
    return records, data


def test_the_pool_counts_rows_of_no_class_apart(open_pool):
    assert open_pool.labelled.tolist() == [1, 0, 5]
    assert open_pool.labels.tolist() == [4, 2, 1]
    assert open_pool.rounds.tolist() == [0, 1, 1]
    assert open_pool.sources == ("dataset", "person", "person")
    assert open_pool.no_class.tolist() == [3, 2]
    assert (open_pool.n_labelled, open_pool.n_no_class, open_pool.n_unlabelled) == (3, 2, 4)
    assert open_pool.unlabelled.tolist() == [4, 6, 7, 8]
    with pytest.raises(ValueError, match="index 3 is labelled"):
        open_pool.label([3], [0], "x")


def test_a_correction_takes_a_row_out_of_the_labelled_and_back_to_its_place(open_pool):
    open_pool.relabel([3, 0], [7, NO_CLASS], "expert")
    assert open_pool.labelled.tolist() == [3, 1, 5]
    assert open_pool.labels.tolist() == [7, 4, 1]
    assert open_pool.rounds.tolist() == [0, 0, 1]
    assert open_pool.sources == ("expert", "dataset", "person")
    assert open_pool.no_class.tolist() == [0, 2]


def test_the_state_of_the_pool_keeps_rows_of_no_class(open_pool):
    other = LabelledPool(10, no_class=True)
    other.load_state_dict(json.loads(json.dumps(open_pool.state_dict())))
    assert other.no_class.tolist() == [3, 2]
    assert other.labelled.tolist() == [1, 0, 5]
    with pytest.raises(ValueError, match="from 0 up"):
        LabelledPool(10).load_state_dict(open_pool.state_dict())


@pytest.mark.parametrize("label", [-1, -2])
def test_a_pool_whose_rows_all_have_a_class_takes_no_other_answer(label):
    pool = LabelledPool(10)
    with pytest.raises(ValueError, match="from 0 up"):
        pool.label([1], [label], "x")
    with pytest.raises(ValueError, match="from -1 up"):
        LabelledPool(10, no_class=True).label([1], [-2], "x")


def test_an_answer_of_no_class_is_refused_where_all_rows_have_one():
    data = ActiveDataModule(kit.toy_data(), initial_size=3)
    data.oracle = lambda indices: torch.full_like(indices, NO_CLASS)
    data.oracle.name = "wrong"
    with pytest.raises(ValueError, match="labels from 0 to 2, got -1"):
        data.label([int(data.pool.unlabelled[0])])
    open_data = module()
    open_data.oracle = data.oracle
    row = int(open_data.pool.unlabelled[0])
    assert open_data.label([row]).tolist() == [NO_CLASS]
    open_data.oracle = lambda indices: torch.full_like(indices, NO_CLASS - 1)
    open_data.oracle.name = "wrong"
    with pytest.raises(ValueError, match="labels from -1 to 1, got -2"):
        open_data.label([int(open_data.pool.unlabelled[0])])


def test_a_dataset_says_whether_its_rows_may_have_no_class():
    rows = kit.toy_data().train
    unsure = SelectedRows(rows, torch.arange(30), torch.arange(30) % 3 - 1)
    data = partial(Data, unsure, TensorRows(rows.inputs[:4], torch.arange(4) % 2), ("a", "b"))
    with pytest.raises(ValueError, match="train target -1 is outside the 2 classes"):
        data(Normalise())
    assert data(Normalise(), no_class=True).least == NO_CLASS
    one = SelectedRows(rows, torch.arange(30), torch.arange(30) % 2 - 1)
    with pytest.raises(ValueError, match="at least 2 classes to tell apart, got 1"):
        Data(one, *data.args[1:], Normalise(), no_class=True)


def test_rows_of_no_class_are_paid_for_and_in_no_batch():
    data = module(initial="random", val_size=30)
    right = data.data.train.targets
    data.label(data.deal()[:50])
    assert data.pool.n_no_class > 5
    assert data.n_labelled + data.pool.n_no_class == 59
    assert data.labels_used == 59 + 30
    lone = torch.cat([labels for _, labels in data.labelled_dataloader()])
    assert torch.equal(lone, right[data.pool.labelled])
    judged = torch.cat([labels for _, labels in data.val_dataloader()])
    assert torch.equal(judged, right[data.pool.held_out][right[data.pool.held_out] >= 0])
    assert 5 < len(judged) < 25
    for loader in (data.train_dataloader(), data.labelled_dataloader(), data.val_dataloader()):
        assert all((labels >= 0).all() for _, labels in loader)
    assert not set(data.pool.no_class.tolist()) & set(data.deal().tolist())


@pytest.mark.parametrize("strategy", [random, badge, coreset])
def test_a_record_says_what_was_bought_for_nothing(strategy):
    records, data = buy(strategy=strategy)
    right = data.data.train.targets
    start = right[list(data.pool.history[0].indices)].tolist()
    none = start.count(NO_CLASS)
    labelled = 9 - none
    assert none > 0
    for record in records:
        assert (record["n_no_class"], record["n_labelled"]) == (none, labelled)
        assert record["labels_used"] == none + labelled + 12
        assert record["n_pool"] == 240 - record["labels_used"]
        assert record["acquired_labels"] == right[record["acquired"]].tolist()
        none += record["acquired_labels"].count(NO_CLASS)
        labelled += len(record["acquired_labels"]) - record["acquired_labels"].count(NO_CLASS)
    assert none > 5
    assert data.pool.n_no_class == none


def test_strategies_see_the_labelled_rows_of_a_class_alone():
    def told(*, labels, labelled_features, n_labelled, n, n_pool):
        seen.append((labels, len(labelled_features), n_labelled))
        return torch.arange(n)

    seen = []
    records, _ = buy(strategy=told)
    for labels, rows, n_labelled in seen:
        assert len(labels) == rows == n_labelled
        assert (labels >= 0).all()
    assert seen[-1][2] == records[-2]["n_labelled"] < records[-2]["labels_used"] - 12


def test_a_round_that_buys_nothing_but_rows_of_no_class_is_followed_by_another():
    data = module(initial_size=0)
    data.oracle = lambda indices: torch.full_like(indices, NO_CLASS)
    data.oracle.name = "empty"
    records, _ = buy(data=data, rounds=2)
    assert [record["n_labelled"] for record in records] == [0, 0, 0]
    assert [record["n_no_class"] for record in records] == [0, 7, 14]


@pytest.mark.parametrize("round", [0, 1, 2])
@pytest.mark.parametrize("hook", ["on_round_end", "on_train_end"])
def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path, round, hook):
    expected, data = buy()
    with pytest.raises(kit.KilledError):
        buy(tmp_path, logs=[kit.KillAt(hook, round)])
    records, again = buy(tmp_path)
    assert kit.timeless(records) == kit.timeless(expected)
    assert again.state_dict() == data.state_dict()


def test_what_was_paid_for_is_taken_up_after_a_kill(tmp_path, monkeypatch):
    expected, _ = buy()

    def die(*_):
        raise kit.KilledError

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "commit", die)
        with pytest.raises(kit.KilledError):
            buy(tmp_path)
    paid = json.loads(next(tmp_path.rglob("paid.json")).read_text())
    assert NO_CLASS in paid["acquired_labels"]
    assert kit.timeless(buy(tmp_path)[0]) == kit.timeless(expected)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("n_no_class", 99, "labels used|rows in the pool"),
        ("n_no_class", None, "n_no_class must be a whole number"),
        ("acquired_labels", [-2] * 7, "labels must lie between -1 and 1"),
        ("test/group_accuracy", {"a": "high"}, "test/group_accuracy must hold numbers by name"),
        ("test/group_accuracy", [1.0], "test/group_accuracy must hold numbers by name"),
    ],
)
def test_a_record_that_cannot_have_been_is_refused(tmp_path, field, value, said):
    buy(tmp_path, rounds=1)
    file = tmp_path / "rounds.jsonl"
    first, second = map(json.loads, file.read_text().splitlines())
    file.write_text("".join(json.dumps(r) + "\n" for r in ({**first, field: value}, second)))
    with pytest.raises(ValueError, match=rf"damaged in line 1 .*({said})"):
        buy(tmp_path, rounds=1)


def test_rows_of_no_class_are_not_told_as_rows_for_validation():
    out = StringIO()
    log = ProgressLog(console=Console(file=out))
    buy(data=module(initial="random", val_size=0), rounds=0, logs=[log])
    assert "in the pool" in out.getvalue()
    assert "for validation" not in out.getvalue()


def test_the_table_for_a_spreadsheet_has_the_same_columns_in_each_round(tmp_path):
    buy(tmp_path, logs=[CsvLog()])
    header, *rows = (tmp_path / "rounds.csv").read_text().splitlines()
    assert {"n_no_class", "test/worst_group_accuracy"} <= set(header.split(","))
    assert not {"test/group_accuracy", "acquired"} & set(header.split(","))
    assert {row.count(",") for row in rows} == {header.count(",")}


def test_the_data_are_told_from_others_by_their_groups(tmp_path):
    data = mixed()
    buy(tmp_path, data=module(data), rounds=1)
    groups = replace(data.test_groups, of=1 - data.test_groups.of)
    with pytest.raises(ValueError, match="other test groups"):
        buy(tmp_path, data=module(replace(data, groups=groups)), rounds=1)
