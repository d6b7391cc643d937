import math
from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from dal.analysis.paired_tests import holm, paired_test


# Differences 1, 2, 3, 4: mean 2.5, sd 1.291, t = 2.5 / (1.291 / 2) = 3.873, 3 degrees of freedom.
# Tables: t 3.182 is p .05 and 5.841 is p .01; the interval is 2.5 ± 3.182 * 0.6455.
def test_a_case_by_hand():
    test = paired_test([1, 2, 3, 4])
    assert test.n == 4
    assert test.mean == 2.5
    assert test.sd == pytest.approx(1.2910, abs=1e-4)
    assert test.effect_size == pytest.approx(2.5 / 1.2910, abs=1e-3)
    assert (test.ci_low, test.ci_high) == pytest.approx((0.446, 4.554), abs=1e-3)
    assert 0.01 < test.p < 0.05
    assert test.p_permutation == 2 / 16  # all signs alike: 2 of 16


def brute(differences):
    """Two-sided, twice the smaller tail, over all signs."""
    values = np.array(differences)
    means = [np.mean(values * signs) for signs in product([-1, 1], repeat=len(values))]
    tails = [
        np.mean([mean >= values.mean() - 1e-12 for mean in means]),
        np.mean([mean <= values.mean() + 1e-12 for mean in means]),
    ]
    return min(2 * min(tails), 1)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 10])
def test_p_values_are_those_of_all_signs_and_of_another_t_test(n):
    differences = np.random.default_rng(n).normal(0.4, 1, n)
    test = paired_test(differences)
    assert test.p_permutation == pytest.approx(brute(differences))
    other = ttest_1samp(differences, 0)
    assert test.p == pytest.approx(other.pvalue)
    interval = other.confidence_interval(0.95)
    assert (test.ci_low, test.ci_high) == pytest.approx((interval.low, interval.high))


def test_many_pairs_are_flipped_at_random_and_alike_in_every_call():
    differences = np.random.default_rng(3).normal(0.3, 1, 40)
    test = paired_test(differences)
    assert test == paired_test(differences)
    assert test.p_permutation == pytest.approx(test.p, abs=0.02)


def test_equal_differences_are_tested_by_their_signs():
    test = paired_test([0.1, 0.3 - 0.2, 0.1, 0.1, 0.1])
    assert (test.p, test.effect_size, test.sd) == (2 / 32, math.inf, 0)
    assert test.ci_low == test.ci_high == pytest.approx(0.1)
    assert paired_test([-0.1, -0.1]).effect_size == -math.inf


def test_no_difference_at_all_is_no_finding():
    test = paired_test([0.0] * 6)
    assert (test.p, test.p_permutation, test.effect_size, test.mean) == (1, 1, 0, 0)


@pytest.mark.parametrize("differences", [[], [0.1]])
def test_fewer_than_two_pairs_are_not_tested(differences):
    test = paired_test(differences)
    assert test.n == len(differences)
    assert math.isnan(test.p)
    assert math.isnan(test.p_permutation)


def test_a_difference_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="must be finite"):
        paired_test([0.1, math.nan])


# Holm: .005 * 4, .01 * 3, .03 * 2, .04 * 1 = .02, .03, .06, .04, and .04 may not be below .06.
def test_differences_that_are_equal_but_for_float32_have_no_spread():
    right = np.array([70, 150, 170, 251, 277])
    differences = np.float32((right + 1) / 360).astype(float) - np.float32(right / 360)
    assert len(set(differences)) > 1
    found = paired_test(differences)
    assert (found.p, found.p_permutation, found.sd) == (2 / 2**5, 2 / 2**5, 0.0)
    assert found.effect_size == np.inf
    same = paired_test(differences - differences.mean())
    assert (same.p, same.effect_size) == (1.0, 0.0)


def test_sums_that_tie_but_for_float32_tie_in_the_test_of_sign_flips():
    images = np.array([1, 2, 3, 5, -5]) / 360
    noise = np.array([3e-8, -2e-8, 1e-8, -3e-8, 2e-8])
    assert paired_test(images + noise).p_permutation == paired_test(images).p_permutation


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_is_the_closed_test_of_bonferronis():
    p = np.random.default_rng(0).random(5) ** 3
    closed = [
        max(
            min(len(subset) * min(p[list(subset)]), 1)
            for size in range(1, 6)
            for subset in combinations(range(5), size)
            if place in subset
        )
        for place in range(5)
    ]
    assert holm(p) == pytest.approx(closed)


def test_what_was_not_tested_does_not_count():
    corrected = holm([math.nan, 0.01, 0.04])
    assert math.isnan(corrected[0])
    assert corrected[1:] == pytest.approx([0.02, 0.04])
