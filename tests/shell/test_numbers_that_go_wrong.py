"""NaN, constant predictions and exploding features end a round with the reason, never a choice."""

import inspect
import logging
import math
from functools import partial

import kit
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from processes import answers_of
from torch import distributed, nn
from toys import ask, dropout_net

from dal.acquisition import query
from dal.callbacks.loss_watch import LOOK_EVERY
from dal.data.data import Data, Normalise, TensorRows
from dal.data.datamodule import ActiveDataModule
from dal.metrics_check import check_metrics
from dal.models.classifier import Classifier
from dal.posteriors.deterministic import Deterministic
from dal.posteriors.head_dropout import HeadDropout
from dal.posteriors.mc_dropout import MCDropout
from dal.posteriors.posterior import log_softmax
from dal.strategies.badge import badge
from dal.strategies.bald import bald
from dal.strategies.coreset import coreset
from dal.strategies.entropy import entropy
from dal.strategies.margin import margin
from dal.strategies.mixture import mixture
from dal.strategies.random import random
from dal.strategies.schedule import schedule

# Training


class Breaks(Classifier):
    """Its loss is NaN in one step, and finite again after it."""

    def __init__(self, network, step, value=torch.nan):
        super().__init__(network, 3, partial(torch.optim.SGD, lr=0.0))
        self.step, self.value, self.steps = step, value, 0

    def training_step(self, batch, batch_idx):
        self.steps += 1
        loss = super().training_step(batch, batch_idx)
        return loss * self.value if self.steps == self.step else loss


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("step", [1, 7, LOOK_EVERY, LOOK_EVERY + 1])
def test_a_loss_that_is_no_number_is_named_by_round_and_step(run, module, step, value):
    said = rf"^round 0, step {step}: the training loss is {value}: training diverged; lower"
    with pytest.raises(ValueError, match=said):
        run(module(steps=80), model=lambda: Breaks(kit.toy_network(), step, value))


def test_a_training_that_diverged_stops_before_its_epoch_ends(run, module):
    made = []

    def model():
        made.append(Breaks(kit.toy_network(), 7))
        return made[-1]

    with pytest.raises(ValueError, match="step 7"):
        run(module(steps=10 * LOOK_EVERY), model=model, epochs=2)
    assert made[0].steps == LOOK_EVERY


def test_a_later_epoch_and_round_are_named(run, module):
    models = iter([Breaks(kit.toy_network(), step) for step in (-1, 12)])
    with pytest.raises(ValueError, match=r"^round 1, epoch 3, step 2: the training loss is nan"):
        run(module(steps=5), model=lambda: next(models), epochs=4, rounds=2)


# Predictions


@pytest.mark.parametrize("row", [[math.nan, 0, 0], [math.inf, 0, 0], [-math.inf] * 3])
def test_logits_without_probabilities_are_refused(row):
    with pytest.raises(ValueError, match="NaN or infinite logits: its training diverged"):
        log_softmax(torch.tensor([[0.0, 1.0, 2.0], row]))


def test_a_class_of_probability_0_is_legal():
    log_probs = log_softmax(torch.tensor([[-math.inf, 0.0, 0.0]]))
    assert log_probs.exp().tolist() == [[0.0, 0.5, 0.5]]


def broken_from(index):
    """A network that gives an infinite logit for the later rows of `index_data`."""

    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(1, 2)

        def forward(self, inputs):
            return self.head(inputs).masked_fill(inputs >= index, math.inf)

    return Broken()


@pytest.mark.parametrize("strategy", [margin, badge, coreset])
def test_an_infinite_logit_in_the_pool_stops_the_query(data, strategy):
    with pytest.raises(ValueError, match="infinite logits"):
        ask(strategy, 3, data, broken_from(25))


def test_an_infinite_logit_of_a_labelled_row_stops_the_query(data):
    def near(*, features, labelled_log_probs):
        return features[:, 0]

    with pytest.raises(ValueError, match="infinite logits"):
        ask(near, 3, data, broken_from(29))  # row 29 is labelled


# Metrics


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_no_number_is_named(value):
    with pytest.raises(ValueError, match=f"^round 3: test/nll is {value}; a metric must be a fin"):
        check_metrics(3, {"test/accuracy": 0.5, "test/nll": value})


def test_finite_metrics_pass():
    check_metrics(0, {"test/accuracy": 0.5, "test/nll": 1e30})
    check_metrics(0, {})


@pytest.mark.parametrize("strategy", [random, margin])
def test_a_test_set_that_gives_nan_fails_the_round_before_it_is_kept(run, tmp_path, strategy):
    whole = kit.toy_data()
    inputs = whole.test.inputs.clone()
    inputs[5] = math.nan
    test = TensorRows(inputs, whole.test.targets)
    data = ActiveDataModule(Data(whole.train, test, whole.classes, whole.normalise), steps=5)
    with pytest.raises(ValueError, match=r"^round 0: test/nll is nan"):
        run(data, strategy=strategy, directory=tmp_path)
    assert not (tmp_path / "rounds.jsonl").exists()
    assert data.round == 0


def test_a_metric_of_a_users_own_module_must_be_a_number_too(run, tmp_path):
    class Own(kit.PlainModule):
        def test_step(self, batch, batch_idx):
            self.log("test/own", torch.tensor(math.inf if seen else 0.5))

        def validation_step(self, batch, batch_idx):
            pass

        def on_test_end(self):
            seen.append(1)

    seen = []
    with pytest.raises(ValueError, match=r"^round 1: test/own is inf"):
        run(model=Own, strategy=random, directory=tmp_path)
    assert len((tmp_path / "rounds.jsonl").read_text().splitlines()) == 1


# Constant predictions


def dead():
    """A network whose hidden units are 0 for every input."""
    network = dropout_net()
    with torch.no_grad():
        network[1].bias -= 1e6
    return network


def saturated():
    """A network that is certain of class 0 whatever the input, by logits that differ."""
    network = dropout_net()
    with torch.no_grad():
        network[4].bias[0] += 1e4
    return network


def blind():
    """A network whose last layer gives the same for features that differ."""
    network = dropout_net()
    with torch.no_grad():
        network[4].weight.zero_()
    return network


def mixed(**parts):
    return partial(mixture, strategies=parts)


PROBABILITIES = (
    r"^round 0: the model gives exactly the same probabilities for all 230 candidates though "
    r"their inputs differ.*: its units died or its outputs are saturated; lower optimizer.lr"
)
REFUSED = {
    "dead units": (margin, dead, PROBABILITIES),
    "saturated outputs": (margin, saturated, PROBABILITIES),
    "a blind last layer": (entropy, blind, PROBABILITIES),
    "a selection on both": (badge, blind, PROBABILITIES),
    "features alone": (coreset, dead, "exactly the same features for all 230"),
    "both": (badge, dead, "exactly the same probabilities and features for all 230"),
    "one part of several": (mixed(a=coreset, b=margin), blind, PROBABILITIES),
}


@pytest.mark.parametrize("size", [1, 7, 64, 512])
@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_says_the_same_of_all_candidates_is_refused(toy, name, size):
    strategy, network, said = REFUSED[name]
    with pytest.raises(ValueError, match=said):
        ask(strategy, 3, toy(eval_batch_size=size), network())


@pytest.mark.parametrize("posterior", [MCDropout(4), HeadDropout(4)])
def test_samples_that_are_the_same_for_all_candidates_are_refused(toy, posterior):
    network = dropout_net()
    with torch.no_grad():
        network[0].weight.zero_()  # the bias alone reaches the dropout layer
    with pytest.raises(ValueError, match="exactly the same probabilities"):
        ask(bald, 3, toy(), network, posterior)


LEGAL = {
    "features that differ": (coreset, blind),
    "no look at the model": (random, dead),
    "a part that is not asked": (
        partial(schedule, strategies={"a": random, "b": margin}, until={"a": 50, "b": None}),
        dead,
    ),
    "a model that differs": (margin, dropout_net),
}


@pytest.mark.parametrize("size", [1, 64])
@pytest.mark.parametrize("name", LEGAL)
def test_what_tells_candidates_apart_is_not_refused(toy, name, size):
    strategy, network = LEGAL[name]
    assert len(ask(strategy, 3, toy(eval_batch_size=size), network()).indices) == 3


def data_of(inputs, **options):
    targets = torch.arange(len(inputs)) % 3
    data = Data(TensorRows(inputs, targets), TensorRows(inputs[:3], targets[:3]), tuple("abc"),
                Normalise())  # fmt: skip
    return ActiveDataModule(data, **{"initial": [0], "eval_batch_size": 4, **options})


@pytest.mark.parametrize("network", [dead, saturated, dropout_net])
def test_candidates_that_are_all_the_same_may_be_told_the_same(network):
    data = data_of(torch.ones(30, 4))
    assert len(ask(margin, 3, data, network()).indices) == 3


def test_one_candidate_that_differs_is_enough():
    inputs = torch.ones(30, 4)
    inputs[17] = 2
    assert len(ask(margin, 1, data_of(inputs), dropout_net()).indices) == 1


def test_where_all_candidates_are_taken_nothing_is_arbitrary():
    data = data_of(torch.randn(4, 4))
    assert sorted(ask(margin, 3, data, dead()).indices.tolist()) == [1, 2, 3]
    alone = data_of(torch.randn(2, 4))
    assert ask(margin, 5, alone, dead()).indices.tolist() == [1]


def test_a_pool_that_is_empty_is_not_refused(toy):
    data = toy(initial_size=240)
    assert not len(ask(margin, 3, data, dead()).indices)


def test_an_untrained_model_that_is_constant_is_told_so(toy):
    with pytest.raises(ValueError, match=r"it was not trained yet.*initial_size"):
        ask(entropy, 3, toy(initial_size=0), blind())
    assert len(ask(entropy, 3, toy(initial_size=0), dropout_net()).indices) == 3


def test_the_trial_before_a_training_may_meet_a_last_layer_of_0(run, module):
    def fresh():
        network = kit.toy_network()
        nn.init.zeros_(network[3].weight)
        nn.init.zeros_(network[3].bias)
        return Classifier(network, 3, lambda p: torch.optim.Adam(p, lr=0.05))

    kept = run(module(initial_size=20), model=fresh, posterior=Deterministic(), rounds=1)
    assert len(kept[0]["acquired"]) == 4


def rows(count=240):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 4, generator=generator)


def tried(rank, network):
    with torch.no_grad():
        network[4].bias[1] += rank  # constant in each process, another constant in the next
    try:
        return query(
            margin, 3, model=network, data=data_of(rows()), posterior=Deterministic(),
            group=distributed.group.WORLD,
        ).indices.tolist()  # fmt: skip
    except ValueError as error:
        return str(error)


def work(rank):
    return tried(0, dead()), tried(rank, dead()), tried(0, dropout_net())


def test_processes_refuse_what_is_the_same_in_all_of_them(tmp_path):
    first, second = answers_of(work, 2, tmp_path)
    assert first == second
    same, other, differing = first
    assert same.startswith("round 0: the model gives exactly the same probabilities for all 239")
    assert len(other) == len(differing) == 3


# Exploding features


class Scaled(nn.Module):
    """Features on any scale, with logits that do not depend on it."""

    def __init__(self, scale):
        super().__init__()
        torch.manual_seed(0)
        self.scale = scale
        self.head = nn.Linear(4, 3)
        with torch.no_grad():
            self.head.weight /= scale

    def features(self, inputs):
        return inputs * self.scale

    def forward(self, inputs):
        return self.head(self.features(inputs))


def answer(strategy, power):
    data = data_of(rows(120), initial=list(range(9)), eval_batch_size=50)
    model, posterior = Scaled(2.0**power), HeadDropout(4)
    try:
        return tuple(ask(strategy, 6, data, model, posterior, score=margin).indices.tolist())
    except ValueError as error:
        return str(error)


def test_features_too_large_are_refused_or_chosen_from_as_on_another_scale(own_strategy_file):
    settings = OmegaConf.load(own_strategy_file)
    settings.pop("defaults", None)
    strategy = instantiate(settings, _convert_="all")
    if not any(name.endswith("features") for name in inspect.signature(strategy).parameters):
        return
    answers = {power: answer(strategy, power) for power in (33, 52, 56, 60, 66, 120)}
    chosen = {answer for answer in answers.values() if isinstance(answer, tuple)}
    said = {answer for answer in answers.values() if isinstance(answer, str)}
    assert len(chosen) <= 1
    assert all("must" in line and "got" in line and "\n" not in line for line in said)
    assert isinstance(answers[66], str)
    assert isinstance(answers[120], str)


def test_nothing_is_said_of_sound_numbers(run, caplog):
    with caplog.at_level(logging.WARNING, "dal"):
        run(strategy=bald, rounds=1)
    assert not caplog.records
