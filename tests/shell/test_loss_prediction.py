"""The loss prediction learns beside the classifier and leaves it alone."""

from functools import partial

import kit
import pytest
import torch
from torch import nn
from toys import ask, dropout_net, trainer

from dal.callbacks.acquire import Acquire
from dal.data.datamodule import ActiveDataModule
from dal.models.loss_prediction import LossPrediction, tapped_layers
from dal.posteriors.mc_dropout import MCDropout
from dal.quiet import quiet_lightning
from dal.strategies.bald import bald
from dal.strategies.learning_loss import learning_loss
from dal.strategies.mixture import mixture
from dal.strategies.random import random

BOTH = {"first": bald, "second": learning_loss}


def fitted(strategy, **options):
    torch.manual_seed(3)
    module, acquire = kit.toy_module(), Acquire(strategy, 5, **options)
    fit(module, acquire)
    return module, acquire


def fit(module, acquire):
    data = ActiveDataModule(kit.toy_data(), initial_size=30, steps=20, batch_size=16)
    with quiet_lightning():
        trainer(max_epochs=1, callbacks=[acquire]).fit(module, datamodule=data)


def test_the_classifier_is_the_one_that_other_strategies_train():
    with_it, acquire = fitted(learning_loss)
    without, _ = fitted(random)
    for name, value in without.state_dict().items():
        assert torch.equal(with_it.state_dict()[name], value), name
    assert acquire.losses.module is not None
    assert len(set(acquire.query.scores.tolist())) == 5


def test_nothing_is_learnt_for_a_strategy_that_does_not_ask():
    assert fitted(random)[1].losses is None


def test_the_same_seed_chooses_the_same_items():
    first, second = (fitted(learning_loss)[1] for _ in range(2))
    assert torch.equal(first.indices, second.indices)


def test_hooks_are_gone_after_training_and_after_a_failure():
    def hooks(module):
        return sum(
            len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules()
        )

    assert hooks(fitted(learning_loss)[0]) == 0

    module = kit.toy_module()
    module.validation_step = module.training_step = lambda batch, batch_idx: 1 / 0
    with pytest.raises(ZeroDivisionError):
        fit(module, Acquire(learning_loss, 5))
    assert hooks(module) == 0


def test_it_learns_which_items_have_the_larger_loss():
    generator = torch.Generator().manual_seed(0)
    model, learner = dropout_net().eval(), LossPrediction(seed=0)
    inputs = torch.randn(512, 4, generator=generator)
    targets = torch.where(inputs[:, 0] > 0, model(inputs).argmax(1), model(inputs).argmin(1))
    for start in range(0, 4096, 64):
        rows = torch.arange(start, start + 64) % 384
        with learner.watching(model):
            model(inputs[rows])
            learner.learn(targets[rows])
    predicted = learner.predict(model, inputs[384:])
    losses = nn.functional.cross_entropy(model(inputs), targets, reduction="none")[384:]
    order = (predicted[:, None] > predicted) == (losses[:, None] > losses)
    assert order.float().mean() > 0.75


def test_an_odd_batch_and_a_batch_of_one_are_taken():
    model, learner = dropout_net().eval(), LossPrediction(seed=0)
    for rows in (1, 3):
        with learner.watching(model):
            model(torch.randn(rows, 4))
            learner.learn(torch.zeros(rows, dtype=torch.long))
    assert learner.predict(model, torch.zeros(2, 4)).shape == (2,)


def test_global_generators_and_the_gradients_of_the_network_are_left_alone():
    model, learner = dropout_net().eval(), LossPrediction(seed=0)
    before = torch.get_rng_state()
    with learner.watching(model):
        model(torch.ones(4, 4))
        learner.learn(torch.tensor([0, 1, 2, 0]))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_before_anything_was_learnt_all_items_are_alike(toy):
    asked = ask(learning_loss, 3, toy(), dropout_net(), losses=LossPrediction(seed=0))
    assert asked.scores.tolist() == [0.0, 0.0, 0.0]


def test_without_a_loss_prediction_the_query_says_what_is_missing(toy):
    with pytest.raises(ValueError, match="LossPrediction"):
        ask(learning_loss, 3, toy(), dropout_net())


def test_it_shares_a_pool_pass_with_mc_dropout():
    both = partial(mixture, strategies=BOTH)
    _, alone = fitted(learning_loss)
    _, acquire = fitted(both, posterior=MCDropout(4))
    kept = [index for index in alone.indices.tolist() if index not in acquire.indices[:3].tolist()]
    assert acquire.indices[3:].tolist() == kept[:2]


def test_layers_are_spread_and_the_last_is_left_out():
    deep = nn.Sequential(*[nn.Linear(2, 2) for _ in range(9)])
    assert tapped_layers(deep) == [deep[1], deep[3], deep[5], deep[7]]
    with pytest.raises(ValueError, match="layers before the last"):
        tapped_layers(nn.Linear(2, 2))


def test_outputs_are_averaged_over_places_of_images_and_sequences():
    image = nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten(), nn.Linear(12, 2))
    words = nn.Sequential(nn.Linear(4, 5), nn.Flatten(), nn.Linear(15, 2))
    for model, inputs, width in (
        (image, torch.ones(2, 1, 3, 3), 3),
        (words, torch.ones(2, 3, 4), 5),
    ):
        learner = LossPrediction(seed=0)
        with learner.watching(model):
            model(inputs)
            learner.learn(torch.tensor([0, 1]))
        assert learner.module.maps[0].in_features == width
