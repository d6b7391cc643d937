"""run_rounds: what a round trains, from which weights, and how it is tested."""

import math

import kit
import pytest
import torch
from torch import nn
from toys import STRATEGIES
from trainer_log import TrainerLog

from dal.data.data import Data, TensorRows
from dal.data.datamodule import ActiveDataModule
from dal.models.classifier import Classifier
from dal.models.weights import cold, shrink_perturb, warm
from dal.strategies.bald import bald
from dal.strategies.random import random


class Spy(TrainerLog):
    """Notes each round's module, Trainer, steps and the rows trained on."""

    def __init__(self):
        self.modules, self.trainers, self.steps, self.weights, self.moved = [], [], [], [], []
        self.labelled, self.tests = [], []

    def on_train_start(self, trainer, pl_module):
        self.modules.append(pl_module)
        self.trainers.append(trainer)
        self.weights.append({k: v.clone() for k, v in pl_module.state_dict().items()})
        self.labelled.append(trainer.datamodule.n_labelled)

    def on_train_end(self, trainer, pl_module):
        self.steps.append(trainer.global_step)
        after, before = pl_module.state_dict(), self.weights[-1]
        self.moved.append(any(not torch.equal(after[name], before[name]) for name in before))

    def on_test_start(self, trainer, pl_module):
        self.tests.append((len(self.steps), pl_module.training))


def test_the_test_metrics_of_a_round_are_those_of_its_model(module, run):
    spy, data = Spy(), module()
    records = run(data, logs=[spy])
    test = data.data.test
    for network, record in zip(spy.modules, records, strict=True):
        network.eval()
        with torch.no_grad():
            logits = network(test.inputs)
        right = (logits.argmax(1) == test.targets).float().mean()
        assert record["test/accuracy"] == pytest.approx(float(right), abs=1e-6)
        nll = nn.functional.cross_entropy(logits, test.targets)
        assert record["test/nll"] == pytest.approx(float(nll), abs=1e-5)


def test_what_was_bought_is_what_the_next_round_trains_on(module, run):
    spy = Spy()
    records = run(logs=[spy])
    assert spy.labelled == [record["n_labelled"] for record in records]


@pytest.mark.parametrize("epochs", [1, 3])
def test_every_round_trains_a_fresh_model_for_as_many_steps(run, epochs):
    spy = Spy()
    run(logs=[spy], epochs=epochs)
    assert spy.steps == [5 * epochs] * 4
    assert spy.moved == [True] * 4
    assert len(set(map(id, spy.modules))) == len(set(map(id, spy.trainers))) == 4


def test_the_test_set_is_looked_at_once_a_round_after_training(run):
    spy = Spy()
    run(logs=[spy])
    assert [rounds for rounds, _ in spy.tests] == [1, 2, 3, 4]
    assert not any(training for _, training in spy.tests)


def test_every_strategy_starts_from_the_same_labels_and_weights(module, run):
    starts = []
    for strategy in STRATEGIES:
        data = module()
        spy = Spy()
        record = run(data, strategy=strategy, rounds=1, logs=[spy])[0]
        metrics = tuple(record[f"test/{name}"] for name in ("accuracy", "nll", "ece"))
        starts.append((metrics, record["train/loss"], data.pool.labelled[:6].tolist()))
    assert starts == [starts[0]] * len(STRATEGIES)


def test_rounds_start_from_different_weights_when_cold(run):
    spy = Spy()
    run(logs=[spy])
    first = [weights["network.0.weight"] for weights in spy.weights]
    assert all(not torch.equal(a, b) for i, a in enumerate(first) for b in first[:i])


def test_a_warm_round_starts_from_where_the_last_one_ended(run):
    spy = Spy()
    run(logs=[spy], weights=warm)
    for module, weights in zip(spy.modules, spy.weights[1:], strict=False):
        assert all(torch.equal(v, weights[k]) for k, v in module.state_dict().items())


def test_the_first_round_is_the_same_whatever_the_later_ones_start_from(run):
    firsts = [
        kit.timeless(run(rounds=1, weights=weights)) for weights in (cold, warm, shrink_perturb)
    ]
    assert firsts[0][0] == firsts[1][0] == firsts[2][0]
    assert firsts[0][1] != firsts[1][1] != firsts[2][1]


def test_a_model_whose_loss_is_nan_stops_the_run(run, tmp_path):
    rates = iter([0.05, 0.05, 1e30])

    def diverging():
        rate = next(rates)
        return Classifier(kit.toy_network(), 3, lambda p: torch.optim.Adam(p, lr=rate))

    with pytest.raises(ValueError, match=r"loss is nan: training diverged"):
        run(model=diverging, directory=tmp_path)
    lines = (tmp_path / "rounds.jsonl").read_text().splitlines()
    assert len(lines) == 2
    kept = run(directory=tmp_path)
    assert kit.timeless(kept) == kit.timeless(run())


def test_an_infinite_loss_stops_the_run_too(run):
    data = kit.toy_data()
    inputs = data.train.inputs.clone()
    inputs[:] = math.inf
    data = Data(TensorRows(inputs, data.train.targets), data.test, data.classes, data.normalise)
    with pytest.raises(ValueError, match="diverged"):
        run(ActiveDataModule(data, initial_size=6, steps=2), strategy=random)


def test_a_users_own_module_needs_no_test_metrics_of_ours(run):
    class Own(kit.PlainModule):
        def test_step(self, batch, batch_idx):
            inputs, targets = batch
            self.log("test/right", (self(inputs).argmax(1) == targets).float().mean())

        def validation_step(self, batch, batch_idx):
            self.log("val/nothing", 0.0)

    records = run(model=Own, strategy=bald)
    assert len(records) == 4
    assert all(0 <= record["test/right"] <= 1 for record in records)


def test_a_scheduler_and_an_optimiser_begin_anew_each_round(run):
    rates = []

    class Watch(TrainerLog):
        def on_train_end(self, trainer, pl_module):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def model():
        return Classifier(
            kit.toy_network(),
            3,
            lambda p: torch.optim.SGD(p, lr=1.0),
            lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5),
        )

    run(model=model, logs=[Watch()])
    assert rates == [0.5**5] * 4
