import numpy as np
import pandas as pd
import pytest
from made_runs import rounds, seeds

from dal.analysis.penalty import checkpoints, error_ratios, penalty_matrix

BUDGETS = (100, 200, 300, 500, 900, 1700)


def shifted(curve, *shifts):
    return seeds(*[[height + shift for height in curve] for shift in shifts])


def test_checkpoints_double_until_random_is_near_its_last_accuracy():
    mean = [0.1, 0.3, 0.5, 0.7, 0.892, 0.9]
    assert checkpoints(pd.DataFrame([mean], columns=BUDGETS)) == [100, 200, 300, 500, 900]
    mean = [0.1, 0.3, 0.5, 0.892, 0.895, 0.9]
    assert checkpoints(pd.DataFrame([mean], columns=BUDGETS)) == [100, 200, 300, 500]
    even = pd.DataFrame([[0.1, 0.3, 0.5, 0.7, 0.8, 0.9]], columns=range(20, 80, 10))
    assert checkpoints(even) == [20, 30, 40, 60]
    assert checkpoints(pd.DataFrame({100: [0.9, 0.8]})) == [100]


# Five seeds. Random's checkpoints: 20, 30, 40, 60 (it is at its last accuracy at 60 alone).
# a is above random by 1, 2, 3, 4, 5 hundredths from 30 on: mean 3, sd 1.58, t = √5 * 3 / 1.58 =
# 4.24 > 2.776, a win at three checkpoints of four. b is above by -1, 0, 1, 2, 3: t = 1.41, none.
# a - b is .02 in every seed: t is infinite, three wins of four.
def test_the_matrix_by_hand():
    budgets = (20, 30, 40, 50, 60)
    base = [0.3, 0.4, 0.5, 0.6, 0.7]
    spread = [0.00, 0.05, 0.01, 0.08, 0.03]

    def above(*points):
        return {
            seed: [base[0] + spread[seed], *(h + spread[seed] + point / 100 for h in base[1:])]
            for seed, point in enumerate(points)
        }

    runs = rounds(
        {"random": above(0, 0, 0, 0, 0), "a": above(1, 2, 3, 4, 5), "b": above(-1, 0, 1, 2, 2.5)},
        budgets,
    )
    found = penalty_matrix(runs)
    assert found.settings == 1
    wanted = {"a": [0, 0, 0], "b": [0.75, 0, 0], "random": [0.75, 0, 0]}
    for column, values in wanted.items():
        assert found.matrix[column].tolist() == pytest.approx(values)
    assert found.column_mean.to_dict() == pytest.approx({"a": 0, "b": 0.25, "random": 0.25})


@pytest.mark.parametrize(("gap", "wins"), [(2.75, 0), (2.80, 1)])
def test_five_seeds_win_beyond_2_776(gap, wins):
    """Differences m + {-2, -1, 0, 1, 2} / 10 have sd √2.5 / 10: t = m √5 / sd."""
    mean = gap * (2.5**0.5 / 10) / 5**0.5
    runs = {
        "random": seeds(*[[0.0]] * 5),
        "a": seeds(*[[mean + step / 10] for step in range(-2, 3)]),
    }
    assert penalty_matrix(rounds(runs)).matrix.loc["a", "random"] == wins


@pytest.mark.parametrize(("gap", "wins"), [(2.25, 0), (2.27, 1)])
def test_ten_seeds_win_beyond_2_262(gap, wins):
    steps = [-2, -1, 0, 1, 2] * 2  # sd = √(20 / 9)
    mean = gap * (20 / 9) ** 0.5 / 10**0.5
    runs = {"random": seeds(*[[0.0]] * 10), "a": seeds(*[[mean + step] for step in steps])}
    assert penalty_matrix(rounds(runs)).matrix.loc["a", "random"] == wins


def test_settings_add_up_and_a_strategy_may_miss_one():
    curve = [0.3, 0.4, 0.5]
    one = {"random": shifted(curve, 0, 0.1, 0.2), "a": shifted(curve, 0.5, 0.61, 0.7)}
    two = one | {"b": shifted(curve, 0.9, 1.0, 1.11)}
    both = pd.concat([rounds(one), rounds(two, setting=("default", "mnist", "cnn"))])
    found = penalty_matrix(both)
    assert found.settings == 2
    assert found.matrix.loc["a", "random"] == pytest.approx(2)
    assert found.matrix.loc["b", "random"] == pytest.approx(1)
    assert found.matrix.loc["b", "a"] == pytest.approx(1)
    assert found.column_mean.index.tolist() == ["b", "a", "random"]


def test_a_setting_that_cannot_count_is_told():
    curve = [0.3, 0.4]
    alone = rounds({"a": shifted(curve, 0, 0.1), "b": shifted(curve, 0, 0.1)})
    single = rounds({"random": seeds(curve), "a": seeds(curve)}, setting=("x", "y", "z"))
    found = penalty_matrix(pd.concat([alone, single]))
    assert found.settings == 0
    assert found.left_out == [
        "default/digits/cnn: no random, which sets the checkpoints",
        "x/y/z: one seed, and a test needs two",
    ]


# Errors at 20 and 30: random .5 and .4 (its end), a .25 and .3: ratios .5 and .75.
def test_the_same_number_of_images_ahead_at_each_seed_is_no_tiny_spread():
    """Metrics are float32: differences of one image of 360 differ by 3e-8."""
    known = np.float32([[k / 360, (k + 1) / 360] for k in (70, 150, 170, 251, 277)]).tolist()
    runs = {"random": {s: [low, low] for s, (low, _) in enumerate(known)},
            "a": {s: [high, high] for s, (_, high) in enumerate(known)}}  # fmt: skip
    assert not penalty_matrix(rounds(runs, (20, 30))).matrix.to_numpy().any()


def test_error_ratios_are_of_mean_errors_at_the_checkpoints():
    runs = {"random": seeds([0.4, 0.6], [0.6, 0.6]), "a": seeds([0.7, 0.7], [0.8, 0.7])}
    table = error_ratios(rounds(runs, (20, 30)))
    assert table[table["strategy"] == "a"]["ratio"].tolist() == pytest.approx([0.5, 0.75])
    assert table[table["strategy"] == "random"]["ratio"].tolist() == pytest.approx([1, 1])
