import math

import pandas as pd
import pytest
import torch
from made_runs import rounds, seeds

from dal.analysis.labels_to_target import labels_to_target, labels_to_targets, quartiles, saving

NAN, NEVER = math.nan, math.inf


def needed(*rows, target=0.9, last=40, interpolate=False):
    table = pd.DataFrame(rows, columns=[20, 30, 40])
    return labels_to_target(table, target, last, interpolate=interpolate).tolist()


def test_the_first_measured_budget_at_the_target_counts():
    assert needed([0.8, 0.9, 0.95], [0.91, 0.8, 0.95], [0.1, 0.2, 0.95]) == [30, 20, 40]


def test_a_share_that_float32_rounds_down_is_reached():
    rounded = float(torch.tensor(324.0) / 360)
    assert rounded < 0.9
    assert needed([0.8, rounded, 0.95]) == [30]
    assert needed([0.8, rounded, 0.95], interpolate=True) == [30]


# From 0.8 at 20 to 0.96 at 30, 0.9 lies 0.1 / 0.16 of the way: 26.25.
def test_between_budgets_it_is_interpolated_only_if_asked():
    assert needed([0.8, 0.96, 0.97]) == [30]
    assert needed([0.8, 0.96, 0.97], interpolate=True) == [26.25]
    assert needed([0.92, 0.96, 0.97], interpolate=True) == [20]


def test_a_whole_run_below_the_target_is_never_and_a_short_one_is_unknown():
    never, unknown, reached = needed([0.5, 0.6, 0.7], [0.5, 0.6, NAN], [0.5, 0.9, NAN])
    assert never == NEVER
    assert math.isnan(unknown)
    assert reached == 30


def test_the_median_is_never_if_half_of_the_seeds_never_reach_it():
    assert quartiles([90, 100, NEVER])[1] == 100
    assert quartiles([90, NEVER, NEVER])[1] == NEVER
    assert quartiles([90, NEVER])[1] == NEVER
    assert quartiles([90, 100, 110, NEVER]) == (90, 105, 110)
    assert quartiles([NEVER] * 4) == (NEVER, NEVER, NEVER)
    assert quartiles([90, NAN])[1] == 90


# Ratios .5 and .72: geometric mean .6.
def test_the_saving_is_the_geometric_mean_of_paired_ratios():
    found = saving(pd.Series([100, 72]), pd.Series([200, 100]), 400)
    assert (found.n_paired, found.bound) == (2, "")
    assert found.ratio == pytest.approx(0.6)


def test_a_censored_pair_gives_a_bound():
    ours, theirs = pd.Series([100.0, 100.0]), pd.Series([200.0, NEVER])
    assert saving(ours, theirs, 200) == (2, pytest.approx(0.5), "at most")
    assert saving(theirs, ours, 200) == (2, pytest.approx(2), "at least")
    mixed = saving(pd.Series([NEVER, 100.0]), pd.Series([200.0, NEVER]), 200)
    assert mixed.bound == "mixed"
    assert math.isnan(mixed.ratio)


def test_pairs_that_both_never_reach_the_target_say_nothing():
    ours, theirs = pd.Series([50.0, 50.0, NEVER]), pd.Series([100.0, 100.0, NEVER])
    assert saving(ours, theirs, 200) == (2, pytest.approx(0.5), "")
    half = saving(ours[1:], theirs[1:], 200)
    assert half.n_paired == 1
    assert math.isnan(half.ratio)
    nothing = saving(pd.Series([NEVER]), pd.Series([NEVER]), 200)
    assert nothing.n_paired == 0
    assert math.isnan(nothing.ratio)


def test_seeds_are_paired_by_number_not_by_order():
    ours, theirs = pd.Series({3: 50.0, 1: 100.0}), pd.Series({1: 100.0, 2: 10.0, 3: 200.0})
    assert saving(ours, theirs, 200) == (2, pytest.approx(0.5), "")


def test_the_table_says_who_reached_what():
    runs = rounds(
        {
            "random": seeds([0.5, 0.6, 0.9], [0.5, 0.6, 0.7]),
            "bald": seeds([0.5, 0.9, 0.96], [0.9, 0.9, 0.9]),
        }
    )
    table = labels_to_targets(runs).set_index(["strategy", "target"])
    assert table.loc[("random", 0.9), "median"] == NEVER
    assert table.loc[("random", 0.9), "n_reached"] == 1
    assert table.loc[("random", 0.9), "per_seed"] == {0: 40, 1: NEVER}
    assert table.loc[("bald", 0.9), "median"] == 25
    assert table.loc[("bald", 0.9), "bound"] == "at most"
    assert table.loc[("bald", 0.9), "saving"] == pytest.approx((30 / 40 * 20 / 40) ** 0.5)
    assert table.loc[("random", 0.95), "n_reached"] == 0
    assert math.isnan(table.loc[("random", 0.9), "saving"])
