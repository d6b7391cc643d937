"""What labels cost: where the numbers come from, and the strategies that look at them."""

from functools import partial

import kit
import numpy as np
import pytest
import torch

from dal.acquisition_signature import rehearse
from dal.data.costs import costs_of_rows
from dal.data.datamodule import ActiveDataModule
from dal.strategies.entropy import entropy
from dal.strategies.margin import margin
from dal.strategies.per_cost import per_cost

NUMBERS = [0.1, 2.0, 30.0]


def save_npz(path):
    np.savez(path, prices=np.array(NUMBERS))


FILES = {
    "c.npy": lambda path: np.save(path, np.array(NUMBERS)),
    "c.npz": save_npz,
    "c.pt": lambda path: torch.save(torch.tensor(NUMBERS, dtype=torch.float64), path),
    "named.pt": lambda path: torch.save(
        {"costs": torch.tensor(NUMBERS, dtype=torch.float64)}, path
    ),
    "c.csv": lambda path: path.write_text("0.1\n2\n3e1\n"),
}


@pytest.mark.parametrize("name", FILES)
def test_costs_are_read_from_a_file(tmp_path, name):
    FILES[name](tmp_path / name)
    for path in (tmp_path / name, str(tmp_path / name)):
        costs = costs_of_rows(path, 3)
        assert costs.dtype == torch.float64
        assert costs.tolist() == NUMBERS


def test_costs_are_numbers_or_a_function_of_dataset_rows():
    assert costs_of_rows(NUMBERS, 3).tolist() == NUMBERS
    assert costs_of_rows(torch.tensor([1, 2]), 2).tolist() == [1.0, 2.0]
    assert costs_of_rows(lambda indices: 10 + indices, 3).tolist() == [10.0, 11.0, 12.0]


def damaged(path, content=b"nonsense"):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ([1.0, 2.0], r"one number per train row .*\[3\], got \[2\]"),
        ([[1.0], [1.0], [1.0]], r"got \[3, 1\]"),
        ([1.0, 0.0, 1.0], "above 0, got 0.0 in row 1"),
        ([1.0, -2.0, 1.0], "got -2.0 in row 1"),
        ([1.0, 1.0, float("nan")], "got nan in row 2"),
        ([1.0, 1.0, float("inf")], "got inf in row 2"),
        (["a", 1.0, 2.0], "costs must be numbers"),
        (lambda indices: None, "costs must be numbers"),
        (lambda path: damaged(path / "c.npy"), "cannot be read as one array"),
        (lambda path: damaged(path / "c.pt"), "cannot be read as one array"),
        (lambda path: damaged(path / "c.csv"), "cannot be read as one array"),
        (lambda path: damaged(path / "c.txt"), "must end in .npy, .npz, .pt, .csv"),
        (lambda path: "no.npy", "no file"),
    ],
)
def test_other_costs_are_refused(tmp_path, given, match):
    if callable(given) and "path" in given.__code__.co_varnames:
        given = given(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=match) as refused:
        costs_of_rows(given, 3)
    assert "\n" not in str(refused.value)


def test_an_array_of_objects_is_not_executed(tmp_path):
    np.save(tmp_path / "c.npy", np.array([1.0, {}, 2.0], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read as one array"):
        costs_of_rows(tmp_path / "c.npy", 3)


def test_the_cost_used_is_that_of_start_validation_and_purchases():
    data = ActiveDataModule(
        kit.index_data(), initial_size=2, val_size=3, costs=2.0 ** torch.arange(30)
    )
    paid = [*data.pool.labelled.tolist(), *data.pool.held_out.tolist()]
    assert data.cost_used == sum(2**row for row in paid)
    (new,) = data.pool.unlabelled[:1].tolist()
    data.label([new])
    assert data.cost_used == sum(2**row for row in [*paid, new])
    assert data.costs_of(torch.tensor([3, 1])).tolist() == [8, 2]


def test_without_costs_each_label_costs_1():
    data = ActiveDataModule(kit.index_data(), initial_size=2, val_size=3)
    assert data.cost_used == data.labels_used == 5
    assert data.costs_of(torch.tensor([3, 1])).tolist() == [1, 1]


def test_a_strategy_gets_the_costs_of_the_rows_at_its_positions(run, module):
    seen = []

    def cheapest(*, costs, n):
        seen.append(costs)
        return costs.argsort()[:n]

    data = module(costs=lambda indices: 1000 - indices, pool_subset=50)
    free = data.pool.unlabelled
    (record, _) = run(data, strategy=cheapest, rounds=1)
    assert len(seen[-1]) == 50
    assert {*(1000 - seen[-1]).long().tolist()} <= {*free.tolist()}
    assert record["acquired"] == (1000 - seen[-1].sort().values[:4]).long().tolist()


def test_a_score_may_look_at_costs_batch_by_batch(run, module):
    def cheap(*, probs, costs):
        return -costs + 0 * probs[:, 0]

    data = module(costs=lambda indices: 1 + indices, eval_batch_size=7)
    expected = data.pool.unlabelled[:4].tolist()
    (record, _) = run(data, strategy=cheap, rounds=1)
    assert record["acquired"] == expected


def test_score_per_cost_of_a_run_is_that_of_the_formula(run, module):
    costs = 1 + torch.arange(240) % 5
    (dear, _) = run(module(costs=costs), strategy=per_cost, score=entropy, rounds=1)
    (cheap, _) = run(
        module(costs=costs), strategy=partial(per_cost, beta=50.0), score=entropy, rounds=1
    )
    (plain, _) = run(module(), strategy=entropy, rounds=1)
    (free, _) = run(
        module(costs=costs), strategy=partial(per_cost, beta=0.0), score=entropy, rounds=1
    )
    assert set(cheap["acquired_costs"]) == {1.0}
    assert free["acquired"] == plain["acquired"]
    worth = [s / c for s, c in zip(dear["scores"], dear["acquired_costs"], strict=True)]
    assert worth == sorted(worth, reverse=True)
    assert dear["acquired"] != plain["acquired"]


def test_scores_below_0_are_refused_before_any_training():
    rehearse(per_cost, entropy, samples=2, num_classes=3)
    with pytest.raises(ValueError, match="scores must be at least 0"):
        rehearse(per_cost, margin, samples=2, num_classes=3)


@pytest.mark.parametrize(
    ("scores", "costs", "match"),
    [
        ([1.0, -0.5], [1.0, 1.0], "scores must be at least 0 .* got -0.5"),
        ([1.0, float("inf")], [1.0, 1.0], "scores must be at least 0 and finite"),
        ([1.0, 1.0], [1.0, 0.0], "costs must be finite and above 0, got 0"),
        ([1.0, 1.0], [1.0, float("inf")], "costs must be finite"),
        ([1.0, 1.0], [1.0], "same rows"),
    ],
)
def test_score_per_cost_needs_both_in_range(scores, costs, match):
    with pytest.raises(ValueError, match=match):
        per_cost(scores=torch.tensor(scores), costs=torch.tensor(costs), n=1)
    with pytest.raises(ValueError, match="beta"):
        per_cost(scores=torch.ones(2), costs=torch.ones(2), n=1, beta=-1.0)
