"""run_rounds: rounds, purchases and records."""

from functools import partial

import kit
import pytest
import torch
from toys import STRATEGIES, trainer

from dal.loop import PLAIN_TRAINER
from dal.strategies.bald import bald


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_r_purchases_make_r_plus_1_records_and_no_row_is_bought_twice(module, run, strategy):
    data = module()
    records = run(data, strategy=strategy)
    assert [record["round"] for record in records] == [0, 1, 2, 3]
    assert [record["n_labelled"] for record in records] == [6, 10, 14, 18]
    assert [len(record["acquired"]) for record in records] == [4, 4, 4, 0]
    assert data.n_labelled == 18 == len(data.pool.labelled.unique())
    bought = [index for record in records for index in record["acquired"]]
    assert data.pool.labelled[6:].tolist() == bought
    assert data.pool.rounds.tolist() == [0] * 6 + [1] * 4 + [2] * 4 + [3] * 4


def test_a_record_has_what_a_reader_relies_on(module, run):
    data = module(val_size=5)
    first, *_, last = run(data, strategy=bald)
    assert {
        "round", "n_labelled", "labels_used", "n_pool", "test/accuracy", "test/nll", "test/ece",
        "val/accuracy", "train/loss", "train_seconds", "acquisition_seconds", "test_seconds",
        "peak_memory_bytes", "acquired", "acquired_labels", "scores",
    } <= set(first)  # fmt: skip
    assert (first["labels_used"], first["n_pool"]) == (11, 229)
    targets = data.data.train.targets
    assert first["acquired_labels"] == targets[first["acquired"]].tolist()
    assert first["scores"] == sorted(first["scores"], reverse=True)
    assert (last["acquired"], last["acquired_labels"], last["scores"]) == ([], [], None)
    assert last["acquisition_seconds"] == 0 < first["acquisition_seconds"]
    assert first["peak_memory_bytes"] > 2**20
    assert 0 < first["train/loss"] < 10


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_runs_are_equal(run, strategy):
    torch.manual_seed(1)
    first = run(strategy=strategy)
    torch.manual_seed(2)
    assert kit.timeless(run(strategy=strategy)) == kit.timeless(first)


def test_another_seed_is_another_run(module, run):
    first, other = run(), run(module(seed=1))
    assert first[0]["acquired"] != other[0]["acquired"]
    assert first[0]["test/nll"] != other[0]["test/nll"]


def test_the_global_generator_is_left_alone(run):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    run(strategy=bald)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_empty_pool_ends_the_run_after_buying_the_rest(module, run):
    data = module(initial_size=231)
    records = run(data, rounds=9)
    assert [len(record["acquired"]) for record in records] == [4, 4, 1, 0]
    assert records[-1]["n_labelled"] == 240
    assert data.pool.n_unlabelled == 0


def test_a_pool_subset_bounds_what_may_be_bought(module, run):
    data = module(pool_subset=6)
    seen = []

    def spy(*, n_pool, n):
        seen.append(n_pool)
        return torch.arange(n)

    run(data, strategy=spy)
    assert seen[-3:] == [6, 6, 6]
    assert data.n_labelled == 18


def test_no_rounds_train_and_test_once(module, run):
    data = module()
    (record,) = run(data, rounds=0)
    assert (record["n_labelled"], record["acquired"], data.n_labelled) == (6, [], 6)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_without_a_start_an_untrained_model_asks_first(module, run, strategy):
    data = module(initial_size=0)
    first, second, *_ = run(data, strategy=strategy, rounds=2)
    assert (first["n_labelled"], first["train/loss"], len(first["acquired"])) == (0, None, 4)
    assert (second["n_labelled"], len(second["acquired"])) == (4, 4)
    assert second["train/loss"] > 0


@pytest.mark.parametrize(
    "setting",
    [
        {"rounds": -1},
        {"rounds": 1.5},
        {"query_size": 0},
        {"epochs": 0},
        {"strategy": bald, "posterior": None},
        {"strategy": lambda *, probs, odd: probs[:, 0]},
    ],
    ids=["rounds", "half a round", "query_size", "epochs", "bald without samples", "argument"],
)
def test_what_cannot_work_is_refused_before_anything_is_written(run, tmp_path, setting):
    with pytest.raises(ValueError, match=r"must|needs"):
        run(directory=tmp_path / "run", **setting)
    assert not (tmp_path / "run").exists()


def test_a_subset_smaller_than_a_query_is_refused(module, run):
    with pytest.raises(ValueError, match="pool_subset 3 is below query_size 4"):
        run(module(pool_subset=3))


def test_a_trainer_that_cannot_be_made_is_refused_with_a_remedy(run):
    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(ValueError, match="trainer=cpu"):
        run(trainer=partial(PLAIN_TRAINER, accelerator="gpu"))


def test_a_training_that_never_begins_is_refused_and_nothing_is_kept(module, run, tmp_path):
    with pytest.raises(ValueError, match="round 0: the training ended before it began"):
        run(module(), trainer=partial(trainer, limit_train_batches=0), directory=tmp_path)
    assert not (tmp_path / "rounds.jsonl").exists()


def test_more_processes_than_rows_to_measure_are_refused_before_any_work(module):
    data = module(val_size=1)
    with pytest.raises(ValueError, match="2 processes cannot share 1 rows"):
        data.check_shares(2)
    data.check_shares(1)
