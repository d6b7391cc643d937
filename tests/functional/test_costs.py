"""What selections say they cost."""

import math
from functools import partial
from inspect import signature
from pathlib import Path

import pytest
import torch
from hydra.utils import get_method, instantiate
from omegaconf import OmegaConf

from dal.acquisition_signature import is_score
from dal.functional.costs import Cost, Sizes, cost_of, costs
from dal.strategies.bait import bait
from dal.strategies.batch_bald import batch_bald
from dal.strategies.entropy import entropy
from dal.strategies.kmeans import kmeans
from dal.strategies.typiclust import typiclust

STRATEGIES = Path(__file__).parents[2] / "conf" / "strategy"
SIZES = Sizes(N=5000, n=100, M=1000, D=64, C=10, K=20, J=0)


@costs(lambda s, rounds, width: Cost(products=rounds * width * s.N, numbers=s.D))
def walk(*, features, n, rounds=2, width, step=0.1):
    return features[:n]


def test_a_formula_gets_sizes_defaults_and_settings_of_its_own_names_alone():
    cost = cost_of(partial(walk, width=3, step=0.5), SIZES)
    assert cost == Cost(products=2 * 3 * 5000, numbers=64)
    assert cost_of(partial(walk, width=3, rounds=7), SIZES).products == 7 * 3 * 5000


def test_a_partial_of_a_partial_has_the_settings_of_both():
    assert cost_of(partial(partial(walk, width=3), rounds=1), SIZES).products == 3 * 5000


def test_a_selection_without_a_formula_has_no_cost():
    assert cost_of(lambda *, features, n: features[:n], SIZES) is None
    assert cost_of(partial(entropy), SIZES) is None


def test_telling_a_cost_leaves_the_selection_as_it_is():
    def choose(*, n):
        return n

    assert costs(lambda s: Cost())(choose) is choose


def test_seconds_are_amounts_over_speeds_and_memory_takes_none():
    speeds = Cost(products=100.0, elements=10.0, steps=5.0)
    assert Cost(products=200, elements=30, steps=10, numbers=1e9).seconds(speeds) == 2 + 3 + 2


def test_costs_of_two_calls_add_up():
    both = Cost(1, 2, 3, 4).plus(Cost(10, 20, 30, 40))
    assert both == Cost(11, 22, 33, 44)
    assert isinstance(both, Cost)


def shipped_selections():
    """Selections by name, with the settings of their files; scores cost nothing beyond the pass."""
    found = {}
    for file in sorted(STRATEGIES.glob("*.yaml")):
        config = OmegaConf.load(file)
        config.pop("defaults", None)  # the score that it works on
        if "_target_" in config:  # no other name of one
            combines = "strategies" in signature(get_method(config._target_)).parameters
            strategy = None if combines else instantiate(config, _convert_="all")
            if strategy is not None and not is_score(strategy):
                found[file.stem] = strategy
    return found


SELECTIONS = shipped_selections()


@pytest.fixture(params=SELECTIONS)
def selection(request):
    return SELECTIONS[request.param]


def test_selections_are_found():
    assert {"badge", "batch_bald", "coreset", "power", "random"} <= SELECTIONS.keys()


def test_each_selection_tells_its_cost(selection):
    cost = cost_of(selection, SIZES)
    assert cost is not None
    assert all(math.isfinite(amount) and amount >= 0 for amount in cost)
    assert cost.products + cost.elements > 0
    assert cost.numbers > 0


@pytest.mark.parametrize("letter", ["N", "n", "D", "M"])
def test_more_to_do_never_costs_less(selection, letter):
    some = cost_of(selection, SIZES)
    more = cost_of(selection, SIZES._replace(**{letter: 2 * getattr(SIZES, letter)}))
    assert all(amount >= before for amount, before in zip(more, some, strict=True))
    if letter == "N":
        assert sum(more[:2]) > sum(some[:2])


@pytest.mark.parametrize("empty", ["n", "M"])
def test_a_cost_is_finite_where_nothing_is_chosen_or_labelled(selection, empty):
    cost = cost_of(selection, SIZES._replace(**{empty: 0}))
    assert all(math.isfinite(amount) and amount >= 0 for amount in cost)


def test_no_selection_holds_pairs_of_items_or_gradients_of_all_classes(selection):
    classes = 10 if getattr(selection, "func", None) is bait else 1000  # it refuses more
    large = Sizes(N=10**6, n=100, M=10**4, D=512, C=classes, K=20, J=0)
    assert cost_of(selection, large).numbers < 8 * large.N * (large.D + large.C)


def test_memory_of_batch_bald_follows_its_configurations():
    few, many = (
        cost_of(partial(batch_bald, configurations=count), SIZES) for count in (10**4, 10**6)
    )
    assert many.numbers - few.numbers > (10**6 - 10**4) * SIZES.K
    assert many.products > few.products


def test_dimensions_and_candidates_make_bait_cheaper():
    whole = cost_of(bait, SIZES)
    assert cost_of(partial(bait, dimensions=16), SIZES).products < whole.products / 4
    assert cost_of(partial(bait, dimensions=16), SIZES).numbers < whole.numbers
    assert cost_of(partial(bait, candidates=500), SIZES).elements == pytest.approx(
        whole.elements / 10
    )
    assert cost_of(partial(bait, dimensions=999, candidates=10**6), SIZES) == whole


def test_clusters_of_typiclust_are_at_most_as_many_as_set():
    capped = cost_of(partial(typiclust, max_clusters=50), SIZES)
    assert capped.products < cost_of(typiclust, SIZES).products


def test_kmeans_holds_one_copy_of_the_features():
    large = SIZES._replace(N=10**6, D=512)
    assert cost_of(kmeans, large).numbers / (large.N * large.D) == pytest.approx(1, abs=0.1)


def test_a_cost_needs_no_tensor():
    @costs(lambda s: Cost(products=s.N))
    def none_asked(*, n):
        return torch.arange(n)

    assert cost_of(none_asked, SIZES).products == SIZES.N
    assert torch.equal(none_asked(n=2), torch.arange(2))
