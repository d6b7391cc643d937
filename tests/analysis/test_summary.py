import math

import numpy as np
import pandas as pd
import pytest
from made_runs import METRIC, rounds, seeds
from scipy.stats import ttest_rel

from dal.analysis.paired_tests import holm
from dal.analysis.statistics import aubc, curves
from dal.analysis.summary import summarise

GENERATOR = np.random.default_rng(0)


def made(strategies, n=6, lift=0.0):
    return {
        name: {s: (GENERATOR.random(3) / 10 + lift * place).tolist() for s in range(n)}
        for place, name in enumerate(strategies)
    }


# Areas over 20 to 40: random .5, .6; bald .6, .8. Differences .1, .2: mean .15, sd .0707.
def test_a_summary_by_hand():
    table = summarise(
        rounds(
            {
                "random": seeds([0.4, 0.5, 0.6], [0.5, 0.6, 0.7]),
                "bald": seeds([0.4, 0.65, 0.7], [0.5, 0.9, 0.9]),
            }
        )
    ).set_index("strategy")
    assert table["aubc_mean"].to_dict() == pytest.approx({"bald": 0.7, "random": 0.55})
    bald = table.loc["bald"]
    assert (bald["n_seeds"], bald["n_paired"], bald["n_runs"]) == (2, 2, 2)
    assert (bald["labels_low"], bald["labels_high"]) == (20, 40)
    assert bald["aubc_diff"] == pytest.approx(0.15)
    assert bald["effect_size"] == pytest.approx(0.15 / 0.0707, abs=1e-2)
    assert bald["final_mean"] == pytest.approx(0.8)
    assert (bald["labels_to_0.9"], bald["reached_0.9"]) == (math.inf, 1)
    assert math.isnan(table.loc["random", "p"])
    assert math.isnan(table.loc["random", "aubc_diff"])


def test_p_values_are_paired_by_seed_and_corrected_within_the_setting():
    runs = rounds(made(["random", "bald", "margin", "entropy"], lift=0.02))
    table = summarise(runs).set_index("strategy")
    areas = {name: aubc(curves(part)) for name, part in runs.groupby("strategy")}
    others = ["bald", "margin", "entropy"]
    p = [ttest_rel(areas[name], areas["random"]).pvalue for name in others]
    assert table.loc[others, "p"].tolist() == pytest.approx(p)
    assert table.loc[others, "p_holm"].tolist() == pytest.approx(holm(p))
    shuffled = summarise(runs.sample(frac=1, random_state=1)).set_index("strategy")
    pd.testing.assert_frame_equal(table, shuffled)


def test_settings_are_kept_apart():
    runs = made(["random", "bald"])
    both = pd.concat([rounds(runs), rounds(runs, setting=("default", "mnist", "cnn"))])
    table = summarise(both)
    assert table["dataset"].tolist() == ["digits", "digits", "mnist", "mnist"]
    first = table.iloc[:2].drop(columns="dataset")
    second = table.iloc[2:].drop(columns="dataset").reset_index(drop=True)
    pd.testing.assert_frame_equal(first, second)


def test_a_crashed_run_is_counted_and_not_averaged():
    runs = made(["random", "bald"], n=5)
    whole = summarise(rounds(runs)).set_index("strategy")
    runs["bald"][5] = [0.0]
    table = summarise(rounds(runs)).set_index("strategy")
    assert (table.loc["bald", "n_runs"], table.loc["bald", "n_seeds"]) == (6, 5)
    assert table.loc["bald", "aubc_mean"] == whole.loc["bald", "aubc_mean"]
    assert table.loc["bald", "final_mean"] == whole.loc["bald", "final_mean"]


def test_a_seed_without_its_partner_is_in_the_mean_and_not_in_the_test():
    runs = made(["random", "bald"], n=5)
    del runs["random"][2]
    table = summarise(rounds(runs)).set_index("strategy")
    assert (table.loc["bald", "n_seeds"], table.loc["bald", "n_paired"]) == (5, 4)
    areas = aubc(curves(rounds({"bald": runs["bald"]})))
    assert table.loc["bald", "aubc_mean"] == pytest.approx(areas.mean())
    areas = {name: aubc(curves(rounds({name: of_it}))) for name, of_it in runs.items()}
    pairs = (areas["bald"] - areas["random"])[[0, 1, 3, 4]]
    assert table.loc["bald", "aubc_diff"] == pytest.approx(pairs.mean())


def test_a_run_that_begins_late_is_in_no_mean_though_it_reaches_the_end():
    runs = made(["random", "bald"], n=5)
    late = rounds({"bald": {5: [0.0, 0.0]}}, (30, 40))
    whole, table = (
        summarise(some).set_index("strategy")
        for some in (rounds(runs), pd.concat([rounds(runs), late]))
    )
    assert table.loc["bald", "n_seeds"] == 5
    assert table.loc["bald", "final_mean"] == whole.loc["bald", "final_mean"]


def test_without_the_reference_nothing_is_compared():
    table = summarise(rounds(made(["bald", "margin"])))
    assert table["p"].isna().all()
    assert table["n_paired"].tolist() == [0, 0]


def test_columns_come_in_their_documented_order():
    table = summarise(rounds(made(["random", "bald"])), targets=[0.05])
    assert table.columns.tolist() == [
        *("experiment", "dataset", "model", "strategy", "n_seeds", "n_runs", "n_paired"),
        *("labels_low", "labels_high", "aubc_mean", "aubc_sd", "aubc_diff", "ci_low", "ci_high"),
        *("effect_size", "p", "p_holm", "p_permutation", "final_mean", "final_sd"),
        *("reached_0.05", "labels_to_0.05", "saving_0.05", "saving_bound_0.05"),
    ]


def test_two_rounds_of_one_budget_are_refused():
    twice = pd.concat([rounds(made(["random"]))] * 2)
    with pytest.raises(ValueError, match="one round per budget"):
        summarise(twice, metric=METRIC)
