import math

import numpy as np
import pandas as pd
import pytest
from made_runs import METRIC, rounds, seeds
from scipy.integrate import quad
from scipy.stats import bootstrap, t

from dal.analysis.statistics import (
    at_budget,
    at_budgets,
    aubc,
    curves,
    label_range,
    mean_and_interval,
    warnings_about_seeds,
)
from dal.analysis.summary import summarise


def test_curves_have_a_row_per_seed_and_a_column_per_budget():
    table = curves(rounds({"bald": seeds([0.5, 0.6, 0.7], [0.4, 0.5])}))
    assert table.columns.tolist() == [20, 30, 40]
    assert table.loc[0].tolist() == [0.5, 0.6, 0.7]
    assert table.loc[1].dropna().tolist() == [0.4, 0.5]


def test_a_seed_that_is_there_twice_is_refused():
    table = rounds({"bald": seeds([0.5, 0.6, 0.7])})
    with pytest.raises(ValueError, match="seed 0 has two at 20 labels"):
        curves(pd.concat([table, table]))


def test_a_metric_that_nobody_reports_is_refused():
    table = rounds({"bald": seeds([0.5])})
    for call in (summarise, at_budgets, curves):
        with pytest.raises(ValueError, match="no round reports test/f1"):
            call(table, metric="test/f1")
    with pytest.raises(ValueError, match=f"no round reports {METRIC}"):
        curves(table.assign(**{METRIC: math.nan}))


# Trapezoids by hand: (10 * 0.6 + 30 * 0.8) / 40 = 0.75.
def test_the_area_weighs_each_step_by_its_width():
    assert aubc(pd.DataFrame({10: [0.5], 20: [0.7], 50: [0.9]}))[0] == pytest.approx(0.75)


# On log2 labels 1, 2, 8 -> 0, 1, 3: (1 * 0.6 + 2 * 0.8) / 3 = 0.7333.
def test_the_area_over_logarithms_weighs_doublings_alike():
    area = aubc(pd.DataFrame({1: [0.5], 2: [0.7], 8: [0.9]}), log=True)[0]
    assert area == pytest.approx(2.2 / 3)


@pytest.mark.parametrize("log", [False, True])
def test_the_area_is_the_integral_of_the_interpolated_curve(log):
    generator = np.random.default_rng(0)
    x, y = np.array([20, 25, 60, 110, 200]), generator.random(5)
    axis = np.log if log else np.asarray
    low, high = 22.0, 150.0
    inside = axis(x[(x > low) & (x < high)])
    whole, _ = quad(
        lambda place: np.interp(place, axis(x), y), axis(low), axis(high), points=inside
    )
    area = aubc(pd.DataFrame([y], columns=x), (low, high), log=log)[0]
    assert area == pytest.approx(whole / (axis(high) - axis(low)))


def test_a_constant_curve_has_its_height_as_area_on_both_axes():
    flat = pd.DataFrame({10: [0.3], 17: [0.3], 90: [0.3]})
    assert aubc(flat)[0] == pytest.approx(0.3)
    assert aubc(flat, log=True)[0] == pytest.approx(0.3)


def test_a_run_that_does_not_cover_the_range_has_no_area():
    table = pd.DataFrame({10: [0.5, 0.5, math.nan], 20: [0.7, 0.7, 0.7], 50: [0.9, math.nan, 0.9]})
    assert np.isnan(aubc(table, (10, 50))).tolist() == [False, True, True]
    assert aubc(table).tolist() == [0.7, 0.7, 0.7]  # 20 to 20 is what they share


def test_an_area_needs_a_range():
    table = pd.DataFrame({0: [0.1], 10: [0.5]})
    with pytest.raises(ValueError, match="range of labels, got 10 to 5"):
        aubc(table, (10, 5))
    with pytest.raises(ValueError, match="labels above 0, got 0"):
        aubc(table, log=True)


def test_the_range_is_what_half_of_the_runs_cover():
    whole = [0.1, 0.2, 0.3]
    crashed = rounds({"a": seeds(whole, whole), "b": seeds(whole, whole[:1])})
    assert label_range(crashed) == (20, 40)
    early = rounds({"a": seeds(whole[:2], whole[:2]), "b": seeds(whole[:2], whole)})
    assert label_range(early) == (20, 30)
    late = pd.concat(
        [rounds({"a": seeds(whole, whole)}), rounds({"b": seeds([0.4, 0.5])}, (10, 40))]
    )
    assert label_range(late) == (20, 40)


def test_a_budget_between_two_measured_ones_is_interpolated_and_beyond_is_unknown():
    table = pd.DataFrame({20: [0.5, 0.6], 30: [0.7, math.nan]})
    assert at_budget(table, 25)[0] == pytest.approx(0.6)
    assert at_budget(table, 25).isna().tolist() == [False, True]
    assert at_budget(table, 19).isna().all()
    assert at_budget(table, 31).isna().all()


def test_a_mean_says_how_many_seeds_it_is_of():
    table = at_budgets(rounds({"bald": seeds([0.5, 0.6, 0.7], [0.4, 0.5])}))
    assert table["n_labelled"].tolist() == [20, 30, 40]
    assert table["n_seeds"].tolist() == [2, 2, 1]
    assert table["mean"].tolist() == pytest.approx([0.45, 0.55, 0.7])
    assert math.isnan(table["sd"][2])


# mean 2, sd 1, n = 3: 2 ± 4.303 / √3 (t for 2 degrees of freedom in any table).
def test_the_interval_is_students():
    mean, sd, low, high = mean_and_interval(np.array([1.0, 2.0, 3.0]))
    assert (mean, sd) == (2, 1)
    assert (low, high) == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5), abs=1e-3)
    values = np.random.default_rng(1).normal(size=40)
    other = t.interval(0.95, 39, values.mean(), values.std(ddof=1) / 40**0.5)
    assert mean_and_interval(values)[2:] == pytest.approx(other)
    drawn = bootstrap((values,), np.mean, rng=0).confidence_interval
    assert mean_and_interval(values)[2:] == pytest.approx((drawn.low, drawn.high), abs=0.1)


def test_few_seeds_are_warned_of_in_plain_lines():
    few = {name: {s: [0.5 + s / 100, 0.6] for s in range(3)} for name in ("random", "bald")}
    few["margin"] = {s: [0.5 + s / 50, 0.6] for s in range(5)}
    lines = warnings_about_seeds(summarise(rounds(few, (20, 30))))
    claim, ranking = lines
    assert claim.endswith(
        "fewer than 5 seeds paired with random: no claim about margin (3), bald (3)"
    )
    assert ranking.startswith(
        "default/digits/cnn: 3 seeds where it has fewest, 10 are needed to rank"
    )


@pytest.mark.parametrize(("n", "lines"), [(4, 2), (5, 1), (9, 1), (10, 0)])
def test_five_seeds_allow_a_claim_and_ten_a_ranking(n, lines):
    generator = np.random.default_rng(0)
    table = {name: dict(enumerate(generator.random((n, 3)))) for name in ("random", "bald")}
    assert len(warnings_about_seeds(summarise(rounds(table)))) == lines


def test_without_the_reference_no_claim_is_made():
    table = rounds({"bald": {s: [0.5, 0.6] for s in range(10)}})
    (line,) = warnings_about_seeds(summarise(table))
    assert "no random to compare with" in line
