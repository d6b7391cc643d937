"""Networks trained apart: how run_rounds trains the members, and what they predict."""

from functools import partial

import kit
import pytest
import torch
from torch import nn
from toys import ask, trainer
from trainer_log import TrainerLog

from dal.callbacks.acquire import Acquire
from dal.data.datamodule import ActiveDataModule
from dal.loop import run_rounds
from dal.models.classifier import Classifier
from dal.models.weights import warm
from dal.posteriors.deterministic import Deterministic
from dal.posteriors.ensemble import Ensemble
from dal.strategies.badge import badge
from dal.strategies.bald import bald
from dal.strategies.coreset import coreset
from dal.strategies.entropy import entropy
from dal.strategies.margin import margin
from dal.strategies.mixture import mixture
from dal.strategies.qbc_consensus_kl import qbc_consensus_kl
from dal.strategies.random import random

kinds = pytest.mark.parametrize("bootstrap", [False, True], ids=["full", "bootstrap"])
QUERIES = {"acquired", "acquired_labels", "scores"}


class Fits(TrainerLog):
    """Notes each training: round, seed, first inputs of all rows, weights at start and end."""

    def __init__(self):
        self.rounds, self.rows, self.starts, self.ends, self.tests = [], [], [], [], []
        self.seeds = []

    def on_train_start(self, trainer, pl_module):
        self.rounds.append(trainer.datamodule.round)
        self.seeds.append(torch.initial_seed())
        self.rows.append([])
        self.starts.append(state_of(pl_module))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rows[-1] += batch[0][:, 0].tolist()

    def on_train_end(self, trainer, pl_module):
        self.ends.append(state_of(pl_module))

    def on_test_start(self, trainer, pl_module):
        self.tests.append((len(self.rounds), state_of(pl_module)))


class Keeping(Ensemble):
    """An ensemble that remembers the members of each round."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.rounds = []

    def train(self, train_member):
        super().train(train_member)
        self.rounds.append(list(self.members))


def state_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def networks(count, width=4, classes=3, dropout=0.5):
    """Small networks that differ."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return [
            nn.Sequential(
                nn.Linear(width, 8),
                nn.BatchNorm1d(8),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Linear(8, classes),
            )
            for _ in range(count)
        ]


def ensemble_of(members, *, bootstrap=False):
    posterior = Ensemble(len(members) + (not bootstrap), bootstrap=bootstrap)
    posterior.members = members
    return posterior


def numbered_run(posterior, *, rows=60, initial_size=40, rounds=1, **options):
    """Train on rows that hold their number, one pass over the labelled rows a fit."""
    fits = Fits()
    data = ActiveDataModule(kit.index_data(rows=rows), initial_size=initial_size, batch_size=8)
    bought = data.pool.labelled.tolist()
    settings = {"strategy": margin, "model": lambda: Classifier(nn.Linear(1, 2), 2)} | options
    run_rounds(
        data, posterior=posterior, rounds=rounds, query_size=4, trainer=trainer, logs=[fits],
        **settings,
    )  # fmt: skip
    return fits, bought


def outputs(members, inputs):
    for member in members:
        member.eval()
    with torch.no_grad():
        return [member(inputs).log_softmax(1) for member in members]


# What is trained


@pytest.mark.parametrize(("bootstrap", "fits_a_round"), [(False, 3), (True, 4)])
def test_the_members_are_trained_anew_in_every_round_that_queries(run, bootstrap, fits_a_round):
    fits = Fits()
    run(strategy=bald, posterior=Ensemble(3, bootstrap=bootstrap), rounds=2, logs=[fits])
    assert fits.rounds == [0] * fits_a_round + [1] * fits_a_round + [2]  # the last buys nothing


@pytest.mark.parametrize("strategy", [margin, entropy, badge, qbc_consensus_kl])
def test_members_are_trained_for_whatever_looks_at_probabilities(run, strategy):
    fits = Fits()
    run(strategy=strategy, posterior=Ensemble(2), rounds=1, logs=[fits])
    assert fits.rounds == [0, 0, 1]


@pytest.mark.parametrize(
    "strategy", [random, coreset, partial(mixture, strategies={"a": random, "b": coreset})]
)
def test_no_member_is_trained_for_a_strategy_that_needs_no_probabilities(run, strategy):
    fits = Fits()
    run(strategy=strategy, posterior=Ensemble(3), rounds=2, logs=[fits])
    assert fits.rounds == [0, 1, 2]


@pytest.mark.parametrize("over", [False, True], ids=["as a part", "as the score"])
def test_members_are_trained_if_a_part_or_the_score_needs_probabilities(run, over):
    def best(*, scores, n):
        return scores.topk(n).indices

    parts = {"a": coreset, "b": best if over else bald}
    fits = Fits()
    run(
        strategy=partial(mixture, strategies=parts), score=bald if over else None,
        posterior=Ensemble(2), rounds=1, logs=[fits],
    )  # fmt: skip
    assert fits.rounds == [0, 0, 1]


@pytest.mark.parametrize("rows", [0, 6])
@kinds
def test_all_networks_of_a_round_differ_from_the_start(module, run, bootstrap, rows):
    posterior = Keeping(3, bootstrap=bootstrap)
    run(module(initial_size=rows), strategy=bald, posterior=posterior, rounds=1)
    weights = [member.network[0].weight for member in posterior.rounds[0]]
    assert len(weights) == 2 + bootstrap
    assert all(not torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])


def test_members_start_from_other_weights_and_see_other_batches(run):
    fits = Fits()
    run(strategy=bald, posterior=Ensemble(3), rounds=1, logs=[fits])
    starts = [start["network.0.weight"] for start in fits.starts[:3]]
    assert all(not torch.equal(a, b) for i, a in enumerate(starts) for b in starts[:i])
    assert fits.rows[0] != fits.rows[1] != fits.rows[2] != fits.rows[0]


def test_every_fit_of_every_round_has_a_seed_of_its_own_for_dropout_and_augmentation(run):
    fits = Fits()
    run(strategy=bald, posterior=Ensemble(2), rounds=2, logs=[fits])
    assert len(set(fits.seeds)) == len(fits.seeds) == 5


def test_every_fit_takes_as_many_steps(run):
    fits = Fits()
    run(strategy=bald, posterior=Ensemble(3), rounds=1, logs=[fits], epochs=2)
    assert [len(rows) for rows in fits.rows] == [2 * 5 * 16] * 4


def test_without_bootstrap_every_member_trains_on_all_labelled_rows():
    fits, bought = numbered_run(Ensemble(3))
    assert len(fits.rows) == 4
    assert all(sorted(rows) == sorted(bought) for rows in fits.rows[:3])


def test_with_bootstrap_each_member_trains_on_rows_drawn_with_replacement():
    fits, bought = numbered_run(Ensemble(3, bootstrap=True), rows=300, initial_size=200)
    *members, tested, _last = fits.rows
    assert sorted(tested) == sorted(bought)
    for rows in members:
        assert len(rows) == 200
        assert set(rows) <= set(bought)
        assert 0.52 < len(set(rows)) / 200 < 0.75  # 1 - 1/e, within five standard deviations
    assert len({tuple(sorted(rows)) for rows in members}) == 3


def test_a_bootstrapped_member_trains_on_the_same_rows_in_every_epoch():
    fits, _ = numbered_run(Ensemble(2, bootstrap=True), epochs=2)
    rows = fits.rows[0]
    assert sorted(rows[:40]) == sorted(rows[40:])
    assert rows[:40] != rows[40:]


def test_bootstrapped_rows_keep_their_own_labels():
    seen = []

    class Pairs(TrainerLog):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            seen.extend(zip(batch[0][:, 0].tolist(), batch[1].tolist(), strict=True))

    data = ActiveDataModule(kit.index_data(rows=60), initial_size=40, batch_size=8)
    run_rounds(
        data, model=lambda: Classifier(nn.Linear(1, 2), 2), strategy=margin, rounds=1,
        query_size=2, posterior=Ensemble(2, bootstrap=True), trainer=trainer, logs=[Pairs()],
    )  # fmt: skip
    assert len(seen) == 40 * 3 + 42
    assert all(label == row % 2 for row, label in seen)


def test_the_data_module_is_as_before_after_a_member():
    data = ActiveDataModule(kit.index_data(), initial_size=20, batch_size=5)
    before = [inputs.tolist() for inputs, _ in data.train_dataloader()]
    inside = []

    def fail():
        with data.as_member("member 1", bootstrap=True):
            inside.extend(inputs.tolist() for inputs, _ in data.train_dataloader())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert inside != before
    assert [inputs.tolist() for inputs, _ in data.train_dataloader()] == before


# The network that is tested


@kinds
def test_the_tested_network_is_the_one_of_a_run_without_the_ensemble(run, bootstrap):
    alone, beside = (
        run(strategy=margin, posterior=posterior, rounds=1)
        for posterior in (Deterministic(), Ensemble(3, bootstrap=bootstrap))
    )
    first, other = (kit.timeless(records)[0] for records in (alone, beside))
    assert {k: v for k, v in first.items() if k not in QUERIES} == {
        k: v for k, v in other.items() if k not in QUERIES
    }
    assert first["scores"] != other["scores"]


@kinds
def test_the_tested_network_is_trained_last_and_its_weights_are_tested(run, bootstrap):
    fits = Fits()
    run(strategy=bald, posterior=Ensemble(3, bootstrap=bootstrap), rounds=1, logs=[fits])
    per_round = 3 + bootstrap
    assert [count for count, _ in fits.tests] == [per_round, per_round + 1]
    for count, tested in fits.tests:
        trained = fits.ends[count - 1]
        assert all(torch.equal(tested[name], value) for name, value in trained.items())


def test_members_start_cold_also_where_the_network_starts_warm(run):
    fits = Fits()
    run(strategy=bald, posterior=Ensemble(2), rounds=2, logs=[fits], weights=warm)
    assert fits.rounds == [0, 0, 1, 1, 2]
    member, tested = fits.ends[0], fits.ends[1]
    assert equal(fits.starts[3], tested)
    assert not equal(fits.starts[2], member)
    assert not equal(fits.starts[2], tested)


def test_a_member_that_diverges_stops_the_run(run, tmp_path):
    rates = iter([0.05, 1e30])  # the tested network is made first

    def diverging():
        rate = next(rates)
        return Classifier(kit.toy_network(), 3, lambda p: torch.optim.Adam(p, lr=rate))

    with pytest.raises(ValueError, match="training diverged"):
        run(model=diverging, strategy=bald, posterior=Ensemble(2), directory=tmp_path)
    assert not (tmp_path / "rounds.jsonl").exists()


# Reproducible


@kinds
def test_two_runs_are_equal_and_another_seed_is_another(run, module, bootstrap):
    posterior = Ensemble(2, bootstrap=bootstrap)  # one for all of them

    def bought(seed=0):
        return kit.timeless(run(module(seed=seed), strategy=bald, posterior=posterior, rounds=2))

    torch.manual_seed(1)
    first = bought()
    torch.manual_seed(2)
    assert bought() == first
    assert bought(seed=1) != first


def test_every_round_has_other_members(run):
    posterior = Keeping(2)
    run(strategy=bald, posterior=posterior, rounds=3)
    weights = [members[0].network[0].weight for members in posterior.rounds]
    assert len(weights) == 3
    assert all(not torch.equal(a, b) for i, a in enumerate(weights) for b in weights[:i])


def test_the_global_generator_is_left_alone(run):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    run(strategy=bald, posterior=Ensemble(2, bootstrap=True), rounds=1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("bootstrap", "fit"), [(False, 2), (False, 3), (True, 4)])
def test_a_run_that_was_stopped_ends_like_one_that_was_not(run, tmp_path, bootstrap, fit):
    settings = {"strategy": bald, "rounds": 2, "config": kit.CONFIG}

    def posterior():
        return Ensemble(2, bootstrap=bootstrap)

    whole = run(posterior=posterior(), **settings)
    with pytest.raises(kit.KilledError):
        run(
            posterior=posterior(), directory=tmp_path,
            logs=[kit.KillAt("on_train_end", fit)], **settings,
        )  # fmt: skip
    continued = run(posterior=posterior(), directory=tmp_path, **settings)
    assert kit.timeless(continued) == kit.timeless(whole)


@kinds
def test_a_run_without_a_start_asks_untrained_members_first(module, run, bootstrap):
    data, posterior = module(initial_size=0), Keeping(3, bootstrap=bootstrap)
    fits = Fits()
    first, second, _ = run(data, strategy=bald, posterior=posterior, rounds=2, logs=[fits])
    assert (first["n_labelled"], len(first["acquired"])) == (0, 4)
    assert (second["n_labelled"], len(second["acquired"])) == (4, 4)
    assert fits.rounds == [1] * (3 + bootstrap) + [2]
    assert len(posterior.rounds[0]) == 2 + bootstrap
    assert max(first["scores"]) > 0


# What is predicted


@kinds
def test_samples_are_the_members_own_log_probabilities(bootstrap):
    tested, *members = networks(4)
    inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    posterior = ensemble_of(members, bootstrap=bootstrap)
    with posterior.draw(tested, torch.Generator()) as predict:
        prediction = predict(inputs)
    expected = outputs(members if bootstrap else [tested, *members], inputs)
    assert prediction.log_probs.shape == (5, 3 + (not bootstrap), 3)
    assert prediction.log_probs.dtype == torch.float32
    assert torch.equal(prediction.log_probs, torch.stack(expected, dim=1))
    tested.eval()
    with torch.no_grad():
        assert torch.equal(prediction.features, tested[:4](inputs))


@kinds
def test_disagreement_of_the_members_decides(toy, bootstrap):
    tested, *members = networks(4)
    data = toy()
    posterior = ensemble_of(members, bootstrap=bootstrap)
    asked = ask(bald, 6, data, tested, posterior)
    inputs = data.data.train.inputs[data.pool.dealt]
    kept = members if bootstrap else [tested, *members]
    scores = bald(log_probs=torch.stack(outputs(kept, inputs), dim=1))
    assert torch.equal(asked.indices, data.pool.dealt[scores.argsort(descending=True)[:6]])


def test_members_that_agree_show_no_disagreement(toy):
    (tested,) = networks(1)
    asked = ask(bald, 6, toy(), tested, ensemble_of([tested, tested]))
    assert asked.scores.abs().max() < 1e-6


def test_a_strategy_on_features_alone_needs_no_members(toy):
    assert len(ask(coreset, 3, toy(), networks(1)[0], Ensemble(3)).indices) == 3


@pytest.mark.parametrize(
    ("bootstrap", "members", "got"), [(False, 0, 1), (True, 0, 0), (False, 1, 2), (True, 4, 4)]
)
def test_too_few_or_too_many_members_are_refused_in_one_line(toy, bootstrap, members, got):
    tested, *others = networks(members + 1)
    posterior = Ensemble(3, bootstrap=bootstrap)
    posterior.members = others
    with pytest.raises(ValueError, match=f"needs 3 trained networks, got {got}; train ") as error:
        ask(bald, 2, toy(), tested, posterior)
    assert "\n" not in str(error.value)


def test_a_plain_trainer_refuses_an_ensemble_without_members_before_it_trains(module):
    (network,) = networks(1)
    before = state_of(network)
    acquire = Acquire(bald, n=2, posterior=Ensemble(3))
    with pytest.raises(ValueError, match="needs 3 trained networks"):
        trainer(max_epochs=1, callbacks=[acquire]).fit(Classifier(network, 3), datamodule=module())
    assert equal(state_of(network), before)


def test_the_members_of_a_failed_training_are_not_those_of_the_last(toy):
    posterior = Ensemble(3)
    posterior.train(lambda name: networks(1)[0])
    assert len(posterior.members) == 2

    def fail(name):
        raise KeyError(name)

    with pytest.raises(KeyError, match="member 1"):
        posterior.train(fail)
    with pytest.raises(ValueError, match="got 1"):
        ask(bald, 2, toy(), networks(1)[0], posterior)


@pytest.mark.parametrize("samples", [1, 0, -1, 2.5, True, "5"])
def test_fewer_than_two_members_are_refused(samples):
    with pytest.raises(ValueError, match=r"posterior\.samples must be"):
        Ensemble(samples)


# What is left behind


class Moved(nn.Module):
    """Notes where it is sent."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.sent = []

    def to(self, device):
        self.sent.append(("to", torch.device(device).type))
        return super().to(device)

    def cpu(self):
        self.sent.append(("cpu", "cpu"))
        return super().cpu()

    def forward(self, inputs):
        if inputs.sum() > 1e6:
            raise KeyError("halfway")
        self.sent.append(("mode", self.training))
        return self.network(inputs)


@pytest.mark.parametrize("fails", [False, True], ids=["well", "with an exception"])
@kinds
def test_members_are_on_the_cpu_and_in_their_modes_after_the_block(bootstrap, fails):
    tested, *others = networks(4)
    members = [Moved(network) for network in others]
    members[1].eval()
    members[2].network[1].eval()  # a frozen layer
    every = [tested, *members]
    modes = [[part.training for part in network.modules()] for network in every]
    before = [state_of(network) for network in every]
    hooks = [len(part._forward_pre_hooks) for part in tested.modules()]
    posterior = ensemble_of(members, bootstrap=bootstrap)
    inputs = torch.full((3, 4), 1e9 if fails else 1.0)

    def predicted():
        with posterior.draw(tested, torch.Generator()) as predict:
            predict(torch.zeros(3, 4))
            predict(inputs)

    if fails:
        with pytest.raises(KeyError, match="halfway"):
            predicted()
    else:
        predicted()
    assert [[part.training for part in network.modules()] for network in every] == modes
    assert all(map(equal, [state_of(network) for network in every], before))
    assert [len(part._forward_pre_hooks) for part in tested.modules()] == hooks
    for member in members:
        assert member.sent[:2] == [("to", "cpu"), ("mode", False)]
        assert member.sent[-1] == ("cpu", "cpu")


def test_no_gradient_is_recorded_and_no_generator_is_used():
    tested, *members = networks(3)
    drawn, whole = torch.Generator().manual_seed(3), torch.get_rng_state()
    with ensemble_of(members).draw(tested, drawn) as predict:
        prediction = predict(torch.zeros(2, 4))
    assert not prediction.log_probs.requires_grad
    assert not prediction.features.requires_grad
    assert torch.equal(drawn.get_state(), torch.Generator().manual_seed(3).get_state())
    assert torch.equal(torch.get_rng_state(), whole)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@kinds
def test_members_are_on_the_networks_device_inside_the_block_alone(bootstrap):
    tested, *members = networks(3)
    tested.cuda()
    with ensemble_of(members, bootstrap=bootstrap).draw(tested, torch.Generator()) as predict:
        assert all(next(member.parameters()).is_cuda for member in members)
        log_probs = predict(torch.zeros(2, 4, device="cuda")).log_probs
    assert log_probs.is_cuda
    assert not any(next(member.parameters()).is_cuda for member in members)
