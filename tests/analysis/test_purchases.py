"""Overlap, balance and novelty of purchases, against counts by hand."""

import math

import pytest
from run_folders import finished, write

from dal.analysis.purchases import overlap, purchases
from dal.analysis.runs import read_runs


@pytest.fixture
def runs(tmp_path):
    """Two strategies: at seed 0 they share one of four items, at seed 1 none."""
    bought = {
        ("bald", 0): ([[1, 2], [3, 4]], [[0, 1], [0, 0]]),
        ("random", 0): ([[5, 6], [4, 7]], [[0, 0], [0, 0]]),
        ("bald", 1): ([[1, 2], [8, 9]], [[2, 2], [2, 2]]),
        ("random", 1): ([[20, 21], [22, 23]], [[0, 1], [0, 1]]),
    }
    for (strategy, seed), (rows, labels) in bought.items():
        records = finished(0.5, 0.6, 0.7, bought=rows, labels=labels)
        write(tmp_path / f"e/d-m/{strategy}/seed={seed}", records)
    unfinished = finished(0.5, 0.6, 0.7, bought=[[1, 2], [3, 4]])[:2]
    write(tmp_path / "e/d-m/random/seed=2", unfinished)
    return read_runs(tmp_path)


def test_overlap_is_the_mean_of_shared_over_all_items_at_equal_seeds(runs):
    table = overlap(runs).set_index(["strategy", "other"])
    assert table.loc[("bald", "random"), "jaccard"] == pytest.approx((1 / 7 + 0) / 2)
    assert table.loc[("random", "bald"), "jaccard"] == pytest.approx((1 / 7 + 0) / 2)
    assert table.loc[("bald", "bald"), "jaccard"] == pytest.approx(2 / 6)
    assert table.loc[("random", "random"), "jaccard"] == 0
    assert table["n_bought"].tolist() == [4] * 4
    assert table["n_pairs"].tolist() == [1, 2, 2, 1]


def test_what_chance_gives_is_that_of_two_random_choices_from_the_pool(runs):
    assert overlap(runs)["expected"].tolist() == pytest.approx([4 / (2 * 96 - 4)] * 4)


def entropy(*shares):
    return -sum(share * math.log(share) for share in shares)


def test_balance_is_entropy_over_the_largest_that_is_possible(runs):
    table = purchases(runs).set_index(["strategy", "n_labelled"])["balance"]
    assert table["bald", 6] == pytest.approx((1 + 0) / 2)  # one of each of two; two of one
    assert table["bald", 8] == pytest.approx((entropy(0.75, 0.25) / math.log(3) + 0) / 2)
    assert table["random", 8] == pytest.approx((0 + math.log(2) / math.log(3)) / 2)


def test_variety_counts_the_classes_of_one_query(runs):
    table = purchases(runs).set_index(["strategy", "n_labelled"])["classes_per_query"]
    assert table["random", 8] == pytest.approx((1 + 2) / 2)


def test_a_query_is_novel_where_no_other_strategy_was_before_or_beside(runs):
    table = purchases(runs).set_index(["strategy", "n_labelled"])["novelty"]
    assert table["bald", 6] == table["random", 6] == 1
    assert table["bald", 8] == pytest.approx((0.5 + 1) / 2)
    assert table["random", 8] == pytest.approx((0.5 + 1) / 2)


def test_a_strategy_alone_has_no_novelty(tmp_path):
    write(tmp_path / "e/d-m/bald/seed=0", finished(0.5, 0.6, 0.7))
    assert purchases(read_runs(tmp_path))["novelty"].isna().all()
