from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from made_runs import rounds, seeds
from scipy.stats import studentized_range

from dal.analysis.ranks import (
    critical_difference,
    friedman,
    groups,
    scores_table,
    wilcoxon_over_settings,
)
from dal.analysis.summary import summarise

# Demšar 2006, Table 6: AUC of C4.5, C4.5+m, C4.5+cf, C4.5+m+cf on 14 data sets.
DEMSAR = pd.DataFrame(
    [
        (0.763, 0.768, 0.771, 0.798),
        (0.599, 0.591, 0.590, 0.569),
        (0.954, 0.971, 0.968, 0.967),
        (0.628, 0.661, 0.654, 0.657),
        (0.882, 0.888, 0.886, 0.898),
        (0.936, 0.931, 0.916, 0.931),
        (0.661, 0.668, 0.609, 0.685),
        (0.583, 0.583, 0.563, 0.625),
        (0.775, 0.838, 0.866, 0.875),
        (1.000, 1.000, 1.000, 1.000),
        (0.940, 0.962, 0.965, 0.962),
        (0.619, 0.666, 0.614, 0.669),
        (0.972, 0.981, 0.9751, 0.975),
        (0.957, 0.978, 0.946, 0.970),
    ],
    columns=["plain", "m", "cf", "m+cf"],
)


def test_a_published_example_comes_out():
    found = friedman(DEMSAR)
    published = {"plain": 3.143, "m": 2.000, "cf": 2.893, "m+cf": 1.964}
    assert found.ranks.to_dict() == pytest.approx(published, abs=5e-4)
    assert found.n == 14
    # The paper's 9.28 and 3.69 are without the correction for ties.
    ranks = found.ranks.to_numpy()
    uncorrected = 12 * 14 / (4 * 5) * ((ranks**2).sum() - 4 * 25 / 4)
    assert uncorrected == pytest.approx(9.28, abs=5e-3)
    assert 13 * uncorrected / (14 * 3 - uncorrected) == pytest.approx(3.69, abs=5e-3)
    # Three pairs of ties and one of four: the ranks' squares spread by 70 - 3 / 2 - 5 = 63.5.
    assert found.chi2 == pytest.approx(uncorrected * 70 / 63.5)
    assert found.f == pytest.approx(13 * found.chi2 / (42 - found.chi2))
    assert found.p < 0.05
    assert found.p_f < 0.05


# The paper's Table 5: q_.05 is 1.960, 2.343, 2.569, 2.728 ... 3.164 for k = 2, 3, 4, 5 ... 10,
# and for alpha .1 1.645, 2.052, 2.291; its example has CD = 1.25 for k = 4, N = 14.
@pytest.mark.parametrize(
    ("k", "alpha", "q"),
    [(2, 0.05, 1.960), (3, 0.05, 2.343), (4, 0.05, 2.569), (10, 0.05, 3.164), (4, 0.1, 2.291)],
)
def test_the_critical_difference_has_the_published_quantiles(k, alpha, q):
    for n in (1, 14):
        wanted = q * (k * (k + 1) / (6 * n)) ** 0.5
        assert critical_difference(k, n, alpha) == pytest.approx(wanted, rel=5e-4)


def test_the_critical_difference_of_the_published_example():
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=5e-3)


def test_the_critical_difference_is_the_range_of_normal_ranks():
    drawn = np.random.default_rng(0).normal(size=(200_000, 4))
    drawn_q = np.quantile(np.ptp(drawn, axis=1), 0.95)
    assert studentized_range.ppf(0.95, 4, np.inf) == pytest.approx(drawn_q, rel=0.01)
    assert critical_difference(4, 1) == pytest.approx(drawn_q * (20 / 12) ** 0.5, rel=0.01)


# Two settings, ranks 1 2 3 and 1 2 3: chi2 = n (k - 1) = 4, the most there is, and no rest for F.
def test_settings_that_agree_have_the_largest_statistic():
    found = friedman(pd.DataFrame([(3.0, 2.0, 1.0), (0.9, 0.5, 0.1)], columns=list("abc")))
    assert found.chi2 == pytest.approx(4)
    assert (found.f, found.p_f) == (np.inf, 0)
    assert found.ranks.to_dict() == {"a": 1, "b": 2, "c": 3}


def test_the_statistic_is_large_in_few_of_all_arrangements():
    """The exact p by listing: 4 settings' ranks of 3 strategies, the first fixed."""
    table = pd.DataFrame([(3, 2, 1), (3, 2, 1), (3, 1, 2), (3, 2, 1)], columns=list("abc"))
    found = friedman(table.astype(float))
    listed = [
        friedman(pd.DataFrame([(3, 2, 1), *rest], dtype=float)).chi2
        for rest in np.stack(np.meshgrid(*[range(6)] * 3), -1).reshape(-1, 3)
        for rest in [[list(permutations((1, 2, 3)))[place] for place in rest]]
    ]
    assert found.chi2 == pytest.approx(6.5)  # the rank sums 4, 9, 11 in any table of the test
    assert np.mean(np.array(listed) >= 6.5 - 1e-9) == pytest.approx(0.042, abs=5e-4)


def test_ties_everywhere_are_no_finding():
    found = friedman(pd.DataFrame(np.ones((3, 4)), columns=list("abcd")))
    assert (found.chi2, found.p, found.f, found.p_f) == (0, 1, 0, 1)
    assert found.ranks.tolist() == [2.5] * 4


@pytest.mark.parametrize("shape", [(1, 3), (2, 2)])
def test_too_little_to_rank_is_refused(shape):
    with pytest.raises(ValueError, match="need 2 settings and 3 strategies"):
        friedman(pd.DataFrame(np.random.default_rng(0).random(shape)))


def test_bars_join_what_is_not_told_apart():
    ranks = pd.Series({"a": 1.0, "b": 1.5, "c": 2.5, "d": 2.6, "e": 4.0})
    assert groups(ranks, 1.5) == [["a", "b", "c"], ["b", "c", "d"], ["c", "d", "e"]]
    assert groups(ranks, 0.05) == []
    assert groups(ranks, 9) == [["a", "b", "c", "d", "e"]]


# Six settings, all above random: the smallest p there is, 2 / 2⁶.
def test_wilcoxon_over_settings_by_hand():
    table = pd.DataFrame(
        {
            "random": [0.5, 0.6, 0.7, 0.8, 0.5, 0.4],
            "a": [0.51, 0.62, 0.73, 0.84, 0.55, 0.46],
            "b": [0.5, 0.6, 0.7, 0.8, 0.5, 0.4],
        }
    )
    found = wilcoxon_over_settings(table).set_index("strategy")
    assert found.loc["a", "p"] == pytest.approx(2 / 64)
    assert found.loc["a", "p_holm"] == pytest.approx(4 / 64)
    assert found.loc["a", "median_difference"] == pytest.approx(0.035)
    assert found.loc["b", "p"] == 1
    with pytest.raises(ValueError, match="no margin to compare with, there are: random, a, b"):
        wilcoxon_over_settings(table, "margin")


def test_wilcoxon_with_five_settings_cannot_show_a_difference():
    table = pd.DataFrame({"random": [0.0] * 5, "a": [0.1, 0.2, 0.3, 0.4, 0.5]})
    assert wilcoxon_over_settings(table)["p"][0] == pytest.approx(0.0625)


def test_a_strategy_that_a_setting_lacks_is_left_out_of_the_ranks_and_told():
    curves = {name: seeds([0.4, 0.5], [0.5, 0.6]) for name in ("random", "bald", "badge")}
    less = {name: curves[name] for name in ("random", "bald")}
    runs = pd.concat([rounds(curves), rounds(less, setting=("default", "mnist", "cnn"))])
    table, left_out = scores_table(summarise(runs))
    assert sorted(table) == ["bald", "random"]
    assert left_out == ["badge is left out: 1 of 2 settings do not have it"]
