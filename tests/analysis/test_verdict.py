"""The answer in words claims what the tests carry, and no more."""

import pytest
from made_runs import rounds, seeds

from dal.analysis.summary import summarise
from dal.analysis.verdict import verdict

BASE = seeds(*([0.5, 0.6 + 0.01 * seed, 0.7] for seed in range(5)))


def above(gain, wobble=0.0):
    """Runs above those of random at each seed, by turns a little more and less."""
    return {
        seed: [value + gain + wobble * (-1) ** seed for value in run] for seed, run in BASE.items()
    }


def said(**strategies):
    return verdict(summarise(rounds(strategies), targets=(0.75,)), targets=[0.75])


def test_a_difference_that_holds_at_every_seed_is_real():
    text = said(random=BASE, bald=above(0.1, 0.01), margin=above(0.0, 0.05))
    assert text.startswith("bald is ahead, +10.")
    assert "The difference from random is real." in text
    assert "It needs 40 labels for 0.75, random never gets there." in text
    assert text.endswith("Not told apart from random: margin.")


def test_a_difference_that_chance_may_explain_is_not_called_real():
    text = said(random=BASE, bald=above(0.02, 0.05), margin=above(-0.1, 0.01))
    assert text.startswith("bald is ahead")
    assert "chance may explain the difference" in text
    assert "Worse than random: margin." in text


def test_four_seeds_are_too_few_however_large_the_difference():
    few = {seed: run for seed, run in above(0.2, 0.01).items() if seed < 4}
    text = said(random=BASE, bald=few)
    assert "Fewer than 5 paired seeds" in text
    assert "is real" not in text


def test_where_random_is_best_that_is_said():
    assert said(random=BASE, bald=above(-0.1, 0.01)).startswith("No strategy is above random.")


@pytest.mark.parametrize("names", [["bald"], ["random"]])
def test_without_two_to_compare_nothing_was_tested(names):
    text = said(**dict.fromkeys(names, BASE))
    assert "nothing was tested" in text or "nothing to compare" in text
