"""query(): what a strategy is handed, and what it costs."""

from functools import partial

import kit
import pytest
import torch
from torch import nn
from toys import ask, dropout_net, largest, size

from dal.data.datamodule import ActiveDataModule
from dal.posteriors.mc_dropout import MCDropout
from dal.strategies.badge import badge
from dal.strategies.bald import bald
from dal.strategies.coreset import coreset
from dal.strategies.random import random

both = pytest.mark.parametrize("strategy", [largest, size])


def test_a_strategy_gets_the_tensors_that_it_names_and_no_others(toy):
    data, model, seen = toy(), dropout_net(), {}
    data.label(data.deal()[:6])

    def spy(
        *, log_probs, probs, features, labelled_log_probs, labelled_probs, labelled_features,
        labels, head, round, n_labelled, n_pool, n, generator,
    ):  # fmt: skip
        seen.update(locals())
        return torch.arange(n)

    ask(spy, 4, data, model, MCDropout(5))
    assert seen["log_probs"].shape == (224, 5, 3)
    assert seen["labelled_log_probs"].shape == (16, 5, 3)
    assert (seen["round"], seen["n_labelled"], seen["n_pool"], seen["n"]) == (1, 16, 224, 4)
    assert torch.equal(seen["labels"], data.pool.labels)
    model.eval()
    for prefix, rows in (("", data.pool.dealt), ("labelled_", data.pool.labelled)):
        inputs = data.data.train.inputs[rows]
        torch.testing.assert_close(seen[f"{prefix}features"], model[:4](inputs))
        mean = seen[f"{prefix}log_probs"].exp().mean(1)
        torch.testing.assert_close(seen[f"{prefix}probs"], mean)
    torch.testing.assert_close(
        seen["head"](seen["features"]), model(data.data.train.inputs[data.pool.dealt])
    )


def test_pool_and_labelled_set_share_the_samples(toy):
    data, model = toy(), dropout_net()
    with torch.no_grad():
        data.data.train.inputs[:] = 1.0
    seen = {}

    def spy(*, log_probs, labelled_log_probs, n):
        seen.update(pool=log_probs, labelled=labelled_log_probs)
        return torch.arange(n)

    ask(spy, 1, data, model, MCDropout(5))
    torch.testing.assert_close(seen["pool"][0], seen["labelled"][0], atol=1e-6, rtol=0)


def test_rounds_and_seeds_have_other_samples_and_a_round_has_one_set(toy):
    seen = []

    def spy(*, log_probs, n):
        seen.append(log_probs[0].clone())
        return torch.arange(n)

    data, model = toy(), dropout_net()
    data.data.train.inputs[:] = 1.0
    for _ in range(2):
        ask(spy, 1, data, model, MCDropout(5))
    data.label(data.deal()[:1])
    ask(spy, 1, data, model, MCDropout(5))
    ask(spy, 1, toy(seed=1), model, MCDropout(5))
    first, again, later, other = seen
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert not torch.equal(first, other)


def test_a_selection_over_scores_gets_the_scores_of_the_whole_pool(data):
    seen = {}

    def second_best(*, scores, n):
        seen["scores"] = scores
        return scores.argsort(descending=True)[1 : n + 1]

    asked = ask(second_best, 2, data, kit.Untracked(), score=size)
    assert asked.indices.tolist() == [27, 26]
    assert asked.scores.tolist() == [27.0, 26.0]
    assert torch.equal(seen["scores"].long(), data.pool.dealt)


def test_a_score_under_a_selection_has_the_samples_of_the_posterior(toy):
    def best(*, scores, n):
        return scores.sort(descending=True, stable=True).indices[:n]

    model, posterior = dropout_net(), MCDropout(5)
    over = ask(best, 5, toy(), model, posterior, score=bald)
    assert torch.equal(over.indices, ask(bald, 5, toy(), model, posterior).indices)


def test_a_score_under_a_selection_may_name_head_and_labelled_tensors(data):
    def far(*, features, labelled_features, head):
        return (features - labelled_features.T).abs().amin(1) + 0 * head(features)[:, 0]

    def best(*, scores, n):
        return scores.sort(descending=True, stable=True).indices[:n]

    alone = ask(far, 3, data, kit.Untracked())
    assert torch.equal(ask(best, 3, data, kit.Untracked(), score=far).indices, alone.indices)


def test_random_runs_no_forward_pass(data):
    model = kit.Untracked()
    asked = ask(random, 5, data, model, MCDropout(5))
    assert (model.calls, data.data.train.read) == (0, [])
    assert len(asked.indices.unique()) == 5
    assert asked.scores is None


def test_random_follows_the_seed_and_the_round():
    def draw(seed, rounds=0):
        data = ActiveDataModule(kit.index_data(200), initial=[0], seed=seed)
        for row in range(rounds):
            data.label([row + 1])
        return ask(random, 10, data, kit.Untracked()).indices

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))
    assert not torch.equal(draw(0), draw(0, rounds=1))


def test_a_strategy_on_features_alone_runs_one_pass_without_samples(toy):
    data, model = toy(), nn.Sequential(nn.Dropout(0.5), kit.Counting(nn.Linear(4, 3)))
    ask(coreset, 5, data, model, MCDropout(50))
    assert model[1].rows == 230 + 10


def test_the_pool_is_read_once_and_the_labelled_rows_only_where_named(data):
    ask(size, 3, data, kit.Untracked())
    assert data.data.train.read == data.pool.dealt.tolist()
    data.data.train.read.clear()
    ask(coreset, 3, data, kit.Untracked())
    assert sorted(data.data.train.read) == list(range(30))


@pytest.mark.parametrize("strategy", [bald, badge, coreset, random])
def test_no_strategy_can_read_a_target_of_the_dataset(strategy):
    data = ActiveDataModule(kit.index_data(kind=kit.GuardedRows), initial_size=4)
    data.data.train.sealed = True
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    assert len(ask(strategy, 3, data, model, MCDropout(4)).indices) == 3


def test_a_query_leaves_model_and_global_generator_alone(toy):
    model = dropout_net().train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(0)
    before = torch.get_rng_state()
    ask(badge, 5, toy(), model, MCDropout(4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


def test_the_pool_is_scored_without_augmentation():
    def refuse(image):
        raise AssertionError("augmented")

    plain = kit.index_data()
    augmented = type(plain)(plain.train, plain.test, plain.classes, plain.normalise, refuse)
    data = ActiveDataModule(augmented, initial=[0])
    assert ask(size, 2, data, kit.Untracked()).indices.tolist() == [29, 28]


def test_a_score_is_computed_in_float32_where_the_network_is_not(toy):
    seen = set()

    def spy(*, features, head):
        seen.update([(features @ features.T).dtype, head(features).dtype])
        return features[:, 0]

    ask(spy, 1, toy(), dropout_net(), context=partial(torch.autocast, "cpu", torch.bfloat16))
    assert seen == {torch.float32}
