"""Stopping criteria on records made by hand, and what decides between them."""

from functools import partial

import pytest
import torch

from dal.callbacks.agreement import kappa
from dal.stopping.budget import budget
from dal.stopping.criteria import VALUES, check_criteria, decide, values_of
from dal.stopping.max_score import max_score
from dal.stopping.plateau import plateau
from dal.stopping.stabilisation import stabilisation
from dal.stopping.target_accuracy import target_accuracy
from dal.strategies.coreset import coreset
from dal.strategies.entropy import entropy
from dal.strategies.power import power


def round_of(wanted=2, **fields):
    base = {"n_labelled": 5, "labels_used": 8, "acquired": [*range(wanted)], "scores": None}
    return base | fields


def measured(accuracy):
    """An accuracy as a training measures it, with the precision of float32."""
    return float(torch.tensor(accuracy))


def accuracies(*values):
    return [round_of(**{"val/accuracy": value}) for value in values]


def stopped(criterion, records):
    return decide([criterion], records).stopped


@pytest.mark.parametrize(
    ("limit", "bought"), [(100, 4), (12, 4), (11.5, 3), (11, 3), (9, 1), (8.9, 0), (8, 0), (2, 0)]
)
def test_a_budget_in_labels_buys_the_first_that_fit(limit, bought):
    n, why = decide([partial(budget, limit=limit)], [round_of(wanted=4)])
    assert n == bought
    assert (why is None) == (bought > 0)


def test_a_budget_in_costs_stops_at_the_first_that_does_not_fit_though_later_ones_would():
    wanted = round_of(wanted=3, acquired_costs=[2.0, 9.0, 0.5], cost_used=10.0)
    assert decide([partial(budget, limit=15)], [wanted]) == (1, None)
    n, why = decide([partial(budget, limit=11)], [wanted])
    assert (n, why) == (0, "budget: 10 of 11 is used and the next label costs 2")


def test_a_budget_can_be_used_up_to_the_last_tenth():
    wanted = round_of(wanted=10, acquired_costs=[0.1] * 10, cost_used=0.0)
    assert sum([0.1] * 3) > 0.3
    assert decide([partial(budget, limit=0.3)], [wanted]) == (3, None)
    assert decide([partial(budget, limit=0.299)], [wanted]) == (2, None)
    wanted["acquired_costs"] = [measured(0.1)] * 10  # costs are often float32
    assert decide([partial(budget, limit=1.0)], [wanted]) == (10, None)


@pytest.mark.parametrize(
    ("last", "stops"),
    [(0.89, False), (0.9, True), (measured(0.9), True), (measured(0.8999), False), (0.95, True)],
)
def test_a_target_is_reached_by_the_last_round(last, stops):
    reason = stopped(partial(target_accuracy, accuracy=0.9), accuracies(0.95, last))
    assert (reason is not None) == stops


@pytest.mark.parametrize(
    ("values", "min_delta", "stops"),
    [
        ([0.5, 0.5], 0.0, False),  # too few rounds
        ([0.5, 0.5, 0.5], 0.0, True),
        ([0.5, 0.4, 0.3], 0.0, True),
        ([0.5, 0.4, 0.51], 0.0, False),
        ([0.5, 0.51, 0.4], 0.0, False),
        ([0.5, 0.51, 0.51], 0.02, True),
        ([measured(0.8), measured(0.81), 0.5], 0.01, False),
        ([measured(0.8), measured(0.809), 0.5], 0.01, True),
        ([0.5, 0.51, 0.75], 0.25, False),
        ([0.1, 0.9, 0.5, 0.8], 0.0, True),
    ],
)
def test_a_plateau_is_two_rounds_that_were_no_better_than_the_best_before(values, min_delta, stops):
    reason = stopped(partial(plateau, patience=2, min_delta=min_delta), accuracies(*values))
    assert (reason is not None) == stops


def test_a_round_without_labels_has_no_accuracy_and_one_that_trained_must():
    untrained = round_of(n_labelled=0)
    criterion = partial(plateau, patience=1)
    assert stopped(criterion, [untrained, *accuracies(0.5)]) is None
    assert stopped(criterion, [untrained, *accuracies(0.5, 0.5)])
    with pytest.raises(ValueError, match=r"looks at val/accuracy.*did not measure"):
        stopped(criterion, [round_of()])


@pytest.mark.parametrize(
    ("agreements", "stops"),
    [
        ([1.0, 1.0], False),
        ([0.99, 0.985, 0.996], True),
        ([1.0, 1.0, 0.96], False),
        ([0.1, 1.0, 1.0, 1.0], True),
        ([1.0, 1.0, None], False),
        ([None, 1.0, 1.0], False),
    ],
)
def test_predictions_are_stable_by_the_mean_of_the_last_three(agreements, stops):
    records = [round_of(prediction_agreement=value) for value in (None, *agreements)]
    assert (stopped(stabilisation, records) is not None) == stops


@pytest.mark.parametrize(
    ("scores", "stops"),
    [([0.3, 0.6], False), ([0.3, 0.5], False), ([0.49, None], True), (None, False)],
)
def test_the_largest_score_must_reach_the_threshold(scores, stops):
    reason = stopped(partial(max_score, threshold=0.5), [round_of(scores=scores)])
    assert (reason is not None) == stops


def test_all_reasons_are_told_and_the_smallest_purchase_counts():
    def first(*, records):
        return len(records[-1]["acquired"]) - 1

    records = accuracies(0.9, 0.9)
    assert decide([first, partial(budget, limit=100)], records) == (1, None)
    both = [partial(plateau, patience=1), first, partial(target_accuracy, accuracy=0.5)]
    n, why = decide(both, records)
    assert n == 0
    assert why.startswith("plateau: ")
    assert "; target_accuracy: " in why
    assert decide([], records) == (2, None)


@pytest.mark.parametrize("allowed", [(2, 3), (3, 2)])
def test_of_two_that_let_some_be_bought_the_stricter_counts(allowed):
    first, second = ((lambda *, records, n=n: n) for n in allowed)
    assert decide([first, second], [round_of(wanted=4)]) == (2, None)


@pytest.mark.parametrize("answer", [True, 0, -1, 0.5, [1]])
def test_any_other_answer_is_refused(answer):
    with pytest.raises(ValueError, match="must give None, a reason as text, or a whole number"):
        decide([lambda *, records: answer], [round_of()])


def test_a_criterion_may_ask_for_what_is_known_alone():
    with pytest.raises(
        ValueError, match=r"needs odd, which is neither set in its YAML nor one of .*records"
    ):
        values_of(lambda *, records, odd: None)
    assert values_of(partial(lambda *, records, odd: None, odd=1)) == ("records",)
    settings = {"limit": budget, "accuracy": target_accuracy, "threshold": max_score}
    for name, criterion in settings.items():
        assert set(values_of(partial(criterion, **{name: 1}))) <= VALUES.keys()


def test_what_a_criterion_will_not_find_is_refused():
    with pytest.raises(ValueError, match=r"stopping=plateau looks at .* set val_size higher"):
        check_criteria([plateau], entropy, None, 0)
    check_criteria([plateau], entropy, None, 1)
    with pytest.raises(ValueError, match=r"stopping=max_score looks at scores and .* coreset"):
        check_criteria([partial(max_score, threshold=1)], coreset, None, 0)
    check_criteria([partial(max_score, threshold=1)], power, entropy, 0)
    check_criteria([partial(budget, limit=1), stabilisation], coreset, None, 0)


@pytest.mark.parametrize(
    ("criterion", "settings"),
    [
        (budget, {"limit": 0}),
        (target_accuracy, {"accuracy": 1.1}),
        (plateau, {"patience": 0}),
        (plateau, {"min_delta": -0.1}),
        (stabilisation, {"windows": 0}),
        (stabilisation, {"kappa": 2}),
        (max_score, {"threshold": float("nan")}),
    ],
)
def test_a_setting_out_of_range_is_named(criterion, settings):
    records = [round_of(prediction_agreement=None, **{"val/accuracy": 0.5})]
    with pytest.raises(ValueError, match=rf"^{next(iter(settings))} must"):
        decide([partial(criterion, **settings)], records)


def test_kappa_of_hand_worked_tables():
    def of(*cells, classes=2):
        pairs = [(i, j) for i, j, count in cells for _ in range(count)]
        return kappa(*torch.tensor(pairs).T, classes)

    # 20 and 15 of 50 agree; one says yes in 25 of them, the other in 30: (.7 - .5) / (1 - .5)
    assert of((0, 0, 20), (0, 1, 5), (1, 0, 10), (1, 1, 15)) == pytest.approx(0.4, abs=1e-15)
    assert of((0, 0, 3), (2, 2, 4), classes=3) == 1
    assert of((0, 1, 3), (1, 0, 3)) == -1
    assert of((1, 1, 9)) is None  # nothing could have differed
