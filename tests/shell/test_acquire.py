"""Acquire in a plain Trainer, with a module of which only forward is known."""

from functools import partial

import kit
import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from dal.callbacks.acquire import Acquire
from dal.data.datamodule import ActiveDataModule
from dal.models.classifier import Classifier
from dal.posteriors.mc_dropout import MCDropout
from dal.seeding import global_seed
from dal.strategies.badge import badge
from dal.strategies.bald import bald
from dal.strategies.coreset import coreset
from dal.strategies.margin import margin
from dal.strategies.random import random

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no"),
    pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader` but have no"),
    pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero"),
]

plain = partial(
    pl.Trainer,
    accelerator="cpu",
    max_epochs=1,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)


@pytest.fixture
def make():
    return partial(ActiveDataModule, kit.toy_data(), initial_size=12, steps=5, batch_size=16)


def build(seed=0):
    with global_seed(seed, "weights"):
        return kit.PlainModule()


def fit(module, data, *callbacks, **options):
    trainer = plain(callbacks=list(callbacks), **options)
    with global_seed(0, "batches"):
        trainer.fit(module, datamodule=data)
    return trainer


@pytest.mark.parametrize("strategy", [random, margin, bald, badge, coreset])
def test_a_module_with_forward_alone_is_asked(make, strategy):
    data, acquire = make(), Acquire(strategy, n=7, posterior=MCDropout(4))
    trainer = fit(build(), data, acquire)
    assert trainer.global_step == 5
    assert len(acquire.indices) == len(acquire.indices.unique()) == 7
    assert set(acquire.indices.tolist()) <= set(data.pool.unlabelled.tolist())
    labels = data.label(acquire.indices)
    assert torch.equal(labels, data.data.train.targets[acquire.indices])
    assert (data.n_labelled, data.round) == (19, 1)


def test_the_loop_of_a_user_takes_as_many_rounds_as_it_likes(make):
    data = make()
    for number in range(3):
        acquire = Acquire(margin, n=5)
        fit(build(number), data, acquire)
        data.label(acquire.indices)
    assert data.n_labelled == 27 == len(data.pool.labelled.unique())


def test_one_callback_may_be_used_round_after_round(make):
    data, acquire = make(), Acquire(margin, n=5)
    for number in range(2):
        fit(build(number), data, acquire)
        data.label(acquire.indices)
    assert data.n_labelled == 22


def test_modes_and_buffers_of_the_module_are_as_training_left_them(make):
    fresh = [build(), build()]
    fit(fresh[0], make())
    fit(fresh[1], make(), Acquire(bald, n=5, posterior=MCDropout(4)))
    assert [m.training for m in fresh[0].modules()] == [m.training for m in fresh[1].modules()]
    assert not any("forward" in vars(module) for module in fresh[1].modules())


@pytest.mark.parametrize("strategy", [random, bald, coreset])
def test_weights_after_training_are_the_same_bits_with_and_without_acquire(make, strategy):
    without, with_it = build(), build()
    fit(without, make())
    fit(with_it, make(), Acquire(strategy, n=5, posterior=MCDropout(4)))
    state = with_it.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in without.state_dict().items())


def test_the_global_generator_is_where_training_left_it(make):
    states = []
    for callbacks in ([], [Acquire(bald, n=5, posterior=MCDropout(4))]):
        torch.manual_seed(0)
        plain(callbacks=callbacks).fit(build(), datamodule=make())
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_the_choice_is_made_with_the_weights_after_training(make):
    seen = []

    def spy(*, features, head, n):
        seen.append(head(features))
        return torch.arange(n)

    module, data = build(), make()
    fit(module, data, Acquire(spy, n=2))
    module.eval()
    logits = module(data.data.train.inputs[data.pool.dealt])
    torch.testing.assert_close(seen[-1], logits, atol=1e-6, rtol=1e-6)


def test_two_equal_trainings_choose_the_same(make):
    chosen = []
    for _ in range(2):
        acquire = Acquire(badge, n=6, posterior=MCDropout(4))
        fit(build(), make(), acquire)
        chosen.append(acquire.indices)
    assert torch.equal(*chosen)


def test_without_an_active_data_module_training_does_not_start():
    module, rows = (
        build(),
        torch.utils.data.TensorDataset(torch.zeros(4, 4), torch.arange(4) % 3),
    )
    before = module.last.weight.detach().clone()
    with pytest.raises(ValueError, match="ActiveDataModule"):
        plain(callbacks=[Acquire(margin, n=2)]).fit(module, DataLoader(rows))
    assert torch.equal(module.last.weight, before)


def no_dropout():
    return Classifier(nn.Linear(4, 3), 3)


def over_scores(*, scores, n):
    return scores.topk(n).indices


def unknown(*, probs, temperature):
    return probs[:, 0]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"strategy": bald}, "K >= 2"),
        ({"strategy": unknown}, "temperature"),
        ({"strategy": over_scores}, "under `score`"),
        ({"strategy": bald, "posterior": MCDropout(4)}, "has none"),
        ({"strategy": over_scores, "score": bald, "posterior": MCDropout(4)}, "has none"),
    ],
    ids=["one sample", "unknown argument", "no score", "no dropout", "no dropout for the score"],
)
def test_what_cannot_work_is_refused_before_the_first_step(make, settings, match):
    module = no_dropout()
    before = module.network.weight.detach().clone()
    with pytest.raises(ValueError, match=match):
        fit(module, make(), Acquire(n=2, **settings))
    assert torch.equal(module.network.weight, before)


def test_a_strategy_that_needs_no_samples_needs_no_dropout(make):
    acquire = Acquire(coreset, n=3, posterior=MCDropout(4))
    fit(no_dropout(), make(), acquire)
    assert len(acquire.indices) == 3


def test_before_training_has_ended_there_are_no_indices():
    with pytest.raises(ValueError, match="nothing is chosen yet"):
        _ = Acquire(margin, n=2).indices


@pytest.mark.parametrize("n", [0, -1, 2.5])
def test_n_below_1_is_refused(n):
    with pytest.raises(ValueError, match="query_size"):
        Acquire(margin, n=n)


def test_bfloat16_training_is_asked_in_its_precision(make):
    acquire = Acquire(bald, n=5, posterior=MCDropout(4))
    fit(build(), make(), acquire, precision="bf16-mixed")
    assert len(acquire.indices.unique()) == 5
    assert acquire.query.scores.dtype == torch.float32
