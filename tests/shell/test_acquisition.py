"""query(): the rows that it returns are those that the strategy meant."""

import kit
import pytest
import torch
from toys import ask, dropout_net, largest, size

from dal.data.datamodule import ActiveDataModule
from dal.posteriors.mc_dropout import MCDropout
from dal.strategies.badge import badge
from dal.strategies.bald import bald
from dal.strategies.coreset import coreset
from dal.strategies.entropy import entropy
from dal.strategies.random import random

both = pytest.mark.parametrize("strategy", [largest, size])


@both
def test_positions_become_the_rows_that_the_strategy_meant(data, strategy):
    asked = ask(strategy, 4, data, kit.Untracked())
    assert asked.indices.tolist() == [28, 27, 26, 25]  # 29 is labelled


@both
def test_the_rows_are_right_in_every_round(data, strategy):
    bought = []
    for _ in range(3):
        indices = ask(strategy, 3, data, kit.Untracked()).indices
        data.label(indices)
        bought += indices.tolist()
    assert bought == [28, 27, 26, 25, 24, 23, 22, 21, 20]


@both
def test_the_rows_of_a_subset_are_right(strategy):
    data = ActiveDataModule(
        kit.index_data(rows=200), initial=[0], pool_subset=11, eval_batch_size=4
    )
    asked = ask(strategy, 3, data, kit.Untracked())
    candidates = data.pool.dealt
    assert len(candidates) == 11
    assert torch.equal(asked.indices, candidates.sort(descending=True).values[:3])


def test_the_last_ragged_batch_takes_part():
    data = ActiveDataModule(kit.index_data(rows=30), initial=[0], eval_batch_size=7)
    for batch, count in enumerate(torch.tensor([7, 7, 7, 7, 1]).tolist()):
        data.deal()
        row = int(data.pool.dealt[7 * batch + count - 1])
        model = kit.Untracked()
        model.features = lambda inputs, row=row: (inputs == row).float()
        assert ask(size, 1, data, model).indices.tolist() == [row]


def test_scores_come_with_the_rows_in_the_order_of_choice(data):
    asked = ask(size, 3, data, kit.Untracked())
    assert asked.scores.tolist() == [28.0, 27.0, 26.0]
    assert asked.scores.dtype == torch.float32
    assert asked.seconds > 0


def test_ties_do_not_follow_the_order_of_the_dataset():
    data = ActiveDataModule(kit.index_data(rows=60), initial=[0])

    def same(*, features):
        return torch.zeros(len(features))

    first = ask(same, 20, data, kit.Untracked()).indices
    assert not torch.equal(first.sort().values, torch.arange(1, 21))
    assert torch.equal(first, data.pool.dealt[:20])


@pytest.mark.parametrize("size_", [1, 7, 64, 500])
@pytest.mark.parametrize("strategy", [bald, entropy, badge, coreset])
def test_several_batches_choose_what_one_batch_chooses(toy, strategy, size_):
    posterior, model = MCDropout(5), dropout_net()
    one = ask(strategy, 10, toy(eval_batch_size=1000), model, posterior)
    several = ask(strategy, 10, toy(eval_batch_size=size_), model, posterior)
    assert torch.equal(several.indices, one.indices)
    if one.scores is not None:
        torch.testing.assert_close(several.scores, one.scores, atol=1e-6, rtol=0)


@pytest.mark.parametrize("strategy", [largest, size, random, coreset])
def test_more_than_the_pool_holds_takes_all_of_it(data, strategy):
    indices = ask(strategy, 99, data, kit.Untracked()).indices
    assert torch.equal(indices.sort().values, data.pool.unlabelled)


@pytest.mark.parametrize("strategy", [largest, size, random, coreset])
def test_an_empty_pool_gives_nothing(strategy):
    data = ActiveDataModule(kit.index_data(), initial=range(30))
    assert ask(strategy, 3, data, kit.Untracked()).indices.tolist() == []


@pytest.mark.parametrize("strategy", [bald, badge, coreset, random])
def test_a_query_without_labelled_rows_works(toy, strategy):
    data = toy(initial_size=0)
    asked = ask(strategy, 5, data, dropout_net(), MCDropout(4))
    assert len(asked.indices.unique()) == 5


def test_progress_is_told_in_rows(data):
    seen = []
    ask(size, 3, data, kit.Untracked(), on_batch=lambda done, total: seen.append((done, total)))
    assert seen == [(7, 27), (14, 27), (21, 27), (27, 27)]
