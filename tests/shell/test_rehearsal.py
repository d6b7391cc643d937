"""What is wrong with a strategy shows before training, or as a ValueError."""

from functools import partial

import kit
import pytest
import torch
from torch import nn

from dal.acquisition import query
from dal.acquisition_signature import inputs_of, is_score, rehearse
from dal.data.datamodule import ActiveDataModule
from dal.models.networks import Split
from dal.posteriors.deterministic import Deterministic
from dal.posteriors.posterior import head_of
from dal.signatures import name_of
from dal.strategies.bald import bald
from dal.strategies.coreset import coreset
from dal.strategies.mean_std import mean_std
from dal.strategies.random import random
from dal.strategies.variation_ratios import variation_ratios

WRONG_SELECTIONS = {
    "duplicates": lambda *, features, n: torch.zeros(n, dtype=torch.long),
    "int32": lambda *, features, n: torch.arange(n, dtype=torch.int32),
    "float": lambda *, features, n: torch.arange(n).float(),
    "bool": lambda *, features, n: torch.arange(n) >= 0,
    "negative": lambda *, features, n: torch.arange(n) - 1,
    "past the end": lambda *, features, n: torch.arange(n) + len(features),
    "too few": lambda *, features, n: torch.arange(n - 1),
    "too many": lambda *, features, n: torch.arange(n + 1),
    "two-dimensional": lambda *, features, n: torch.arange(n)[:, None],
    "a list": lambda *, features, n: list(range(n)),
    "nothing": lambda *, features, n: None,
}
WRONG_SCORES = {
    "one number": lambda *, features: features.sum(),
    "a column": lambda *, features: features[:, :1],
    "one too few": lambda *, features: features[1:, 0],
    "a list": lambda *, features: features[:, 0].tolist(),
}


def crash(*, probs):
    raise KeyError("typo")


def over_scores(*, scores, n):
    return scores.topk(n).indices


def tried(strategy, score=None, samples=4):
    rehearse(strategy, score, samples=samples, num_classes=3)


@pytest.mark.parametrize("strategy", [bald, mean_std, variation_ratios])
def test_disagreement_of_one_sample_is_refused(strategy):
    tried(strategy)
    with pytest.raises(ValueError, match="K >= 2"):
        tried(strategy, samples=1)
    with pytest.raises(ValueError, match="K >= 2"):
        tried(over_scores, strategy, samples=1)


def test_a_crash_is_named_with_its_strategy():
    with pytest.raises(ValueError, match=r"strategy crash fails on a small example.*typo"):
        tried(crash)


@pytest.mark.parametrize("strategy", WRONG_SELECTIONS.values(), ids=WRONG_SELECTIONS)
def test_a_selection_that_gives_no_n_positions_is_refused_in_rehearsal(strategy):
    with pytest.raises(ValueError, match="must give"):
        tried(strategy)


@pytest.mark.parametrize("strategy", WRONG_SELECTIONS.values(), ids=WRONG_SELECTIONS)
def test_a_selection_that_gives_no_n_positions_is_refused_in_the_query(strategy):
    data = ActiveDataModule(kit.index_data(), initial=[0])
    before = data.state_dict()
    with pytest.raises(ValueError, match="must give"):
        query(strategy, 3, model=kit.Untracked(), data=data, posterior=Deterministic())
    assert data.state_dict() == before


@pytest.mark.parametrize("strategy", WRONG_SCORES.values(), ids=WRONG_SCORES)
def test_a_score_that_gives_not_one_number_per_item_is_refused(strategy):
    with pytest.raises(ValueError, match="one number per item"):
        tried(strategy)


def test_a_score_of_nan_is_refused_in_the_query():
    def broken(*, features):
        return features[:, 0].log().where(features[:, 0] != 5, torch.nan)

    data = ActiveDataModule(kit.index_data(), initial=[0])
    with pytest.raises(ValueError, match="NaN"):
        query(broken, 3, model=kit.Untracked(), data=data, posterior=Deterministic())


def test_an_argument_outside_the_vocabulary_is_named():
    def odd(*, probs, temperature):
        return probs[:, 0]

    with pytest.raises(ValueError, match="odd needs temperature"):
        tried(odd)
    tried(partial(odd, temperature=2.0))


def test_a_setting_that_the_strategy_does_not_have_is_named():
    with pytest.raises(ValueError, match=r"bald cannot take.*temperature"):
        tried(partial(bald, temperature=2.0))


def test_a_hyperparameter_with_a_default_needs_no_setting():
    def scaled(*, probs, temperature=2.0):
        return probs[:, 0] / temperature

    tried(scaled)
    assert inputs_of(scaled) == {"probs"}


def test_a_selection_over_scores_needs_a_score():
    tried(over_scores, bald)
    with pytest.raises(ValueError, match="under `score`"):
        tried(over_scores)
    with pytest.raises(ValueError, match="a selection"):
        tried(over_scores, coreset)


def test_a_crash_of_the_score_is_named():
    with pytest.raises(ValueError, match="crash"):
        tried(over_scores, crash)


def test_a_rehearsal_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for strategy in (bald, coreset, random):
        tried(strategy)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_takes_n_is_a_selection_and_the_rest_are_scores():
    assert [is_score(s) for s in (bald, coreset, random)] == [True, False, False]
    assert is_score(partial(over_scores, n=3))


def test_a_partial_and_an_object_have_a_name():
    class Greedy:
        def __call__(self, *, probs):
            return probs[:, 0]

    assert name_of(partial(bald)) == "bald"
    assert name_of(Greedy()) == "Greedy"
    tried(Greedy())


def test_the_head_is_the_models_or_its_networks_or_the_last_linear_layer():
    linear = nn.Linear(4, 3)
    split = Split(nn.Flatten(), linear)
    wrapped = nn.Module()
    wrapped.network = split
    for model in (split, wrapped, nn.Sequential(nn.Linear(4, 4), nn.ReLU(), linear)):
        assert head_of(model) is linear
    with pytest.raises(ValueError, match="last layer"):
        head_of(nn.Conv2d(1, 1, 1))
