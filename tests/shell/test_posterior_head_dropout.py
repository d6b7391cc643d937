"""Dropout on the features alone: its masks, its law, and what it refuses."""

import math

import kit
import pytest
import torch
from torch import nn

from dal.models.networks import Split, cnn
from dal.posteriors import head_dropout
from dal.posteriors.deterministic import Deterministic
from dal.posteriors.head_dropout import HeadDropout
from dal.posteriors.mc_dropout import MCDropout

K, D, C = 6, 8, 3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(rows=5, width=4, seed=1):
    return torch.randn(rows, width, generator=generator(seed))


def network(dropout=None):
    """A trunk without dropout, or with some at its end."""
    end = [] if dropout is None else [nn.Dropout(dropout)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Split(nn.Sequential(nn.Linear(4, D), nn.ReLU(), *end), nn.Linear(D, C))


def drawn(model=None, inputs=None, *, seed=0, **options):
    model = network() if model is None else model
    with HeadDropout(**{"samples": K, **options}).draw(model, generator(seed)) as predict:
        return predict(batch() if inputs is None else inputs)


def test_dropping_a_feature_by_hand():
    model = Split(nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        model.head.weight[:] = torch.tensor([[1.0], [0.0]])
        model.head.bias[:] = 0
    log_probs = drawn(model, torch.tensor([[1.0]]), samples=40, dropout=0.2).log_probs[0, :, 0]
    kept, dropped = math.log(1 / (1 + math.exp(-1 / 0.8))), math.log(0.5)
    values = sorted({round(value, 5) for value in log_probs.tolist()})
    assert values == pytest.approx([dropped, kept], abs=1e-5)
    assert 2 <= (log_probs < -0.6).sum() <= 16  # about a fifth


@pytest.mark.parametrize("dropout", [0.3, 0.5])
def test_it_is_mc_dropout_where_the_only_dropout_stands_before_the_head(dropout):
    model = network(dropout)
    with MCDropout(K).draw(model, generator(4)) as predict:
        expected = predict(batch())
    got = drawn(model, seed=4, dropout=dropout)
    torch.testing.assert_close(got.log_probs, expected.log_probs, rtol=0, atol=1e-5)
    assert torch.equal(got.features, expected.features)


def test_dropout_elsewhere_in_the_network_stays_off():
    model = nn.Sequential(nn.Dropout(0.9), network(0.9))
    torch.testing.assert_close(drawn(model).log_probs, drawn(model[1]).log_probs, rtol=0, atol=1e-6)


def test_the_share_of_dropped_features_is_as_asked():
    class Seen(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(D, C)
            self.seen = []

        def forward(self, features):
            self.seen.append(features)
            return self.last(features)

    model = Split(nn.Flatten(), Seen())
    drawn(model, torch.ones(2, D), samples=2000, dropout=0.3)
    values = model.head.seen[-1]  # the calls before: the network itself, and the check
    assert {round(value, 5) for value in values.unique().tolist()} == {0, round(1 / 0.7, 5)}
    assert values.mean() == pytest.approx(1, abs=4 * math.sqrt(0.3 / 0.7 / (2000 * D)))


def test_masks_are_shared_by_all_batches_and_follow_the_seed():
    model, inputs = network(), batch(23)
    results = []
    for seed in (0, 0, 1):
        with HeadDropout(K).draw(model, generator(seed)) as predict:
            whole = predict(inputs).log_probs
            parts = torch.cat([predict(part).log_probs for part in inputs.split(7)])
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)
        results.append(whole)
    assert torch.equal(results[0], results[1])
    assert (results[0] - results[2]).abs().max() > 1e-3


def test_blocks_of_samples_change_no_result(monkeypatch):
    whole = drawn().log_probs
    for size in (1, 4 * 5 * D * 4):  # one sample, and four of the six, at a time
        monkeypatch.setattr(head_dropout, "WIDE_BYTES", size)
        torch.testing.assert_close(drawn().log_probs, whole, rtol=0, atol=1e-6)


def test_features_and_shapes_are_those_of_the_protocol():
    for model in (network(), kit.toy_network(), kit.PlainModule()):
        with Deterministic().draw(model, generator()) as predict:
            expected = predict(batch())
        got = drawn(model)
        assert got.log_probs.shape == (5, K, C)
        assert got.log_probs.dtype == torch.float32
        assert (got.log_probs.exp().sum(-1) - 1).abs().max() < 1e-6
        assert torch.equal(got.features, expected.features)


def test_the_mean_of_many_samples_is_near_the_network_itself():
    model = network()
    with Deterministic().draw(model, generator()) as predict:
        expected = predict(batch()).log_probs.exp().squeeze(1)
    mean = drawn(model, samples=4000, dropout=0.05).log_probs.exp().mean(1)
    torch.testing.assert_close(mean, expected, rtol=0, atol=0.02)


def test_it_works_on_images_too():
    model = cnn((1, 8, 8), 10)
    inputs = torch.randn(4, 1, 8, 8, generator=generator())
    assert drawn(model, inputs).log_probs.shape == (4, K, 10)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_as_it_was_and_drew_nothing(fails):
    model = kit.PlainModule().train()
    model.body.eval()  # a frozen part
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attributes = [sorted(vars(module)) for module in model.modules()]
    state = torch.get_rng_state()
    if fails:
        with pytest.raises(RuntimeError, match="shapes"):
            drawn(model, torch.ones(2, 9))
    else:
        assert not drawn(model).log_probs.requires_grad
    assert [module.training for module in model.modules()] == modes
    assert [sorted(vars(module)) for module in model.modules()] == attributes
    assert all(not module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_log_probabilities_are_float32_whatever_the_network_computes_in(dtype):
    prediction = drawn(network().to(dtype), batch().to(dtype))
    assert prediction.log_probs.dtype == prediction.features.dtype == torch.float32
    torch.testing.assert_close(prediction.log_probs, drawn().log_probs, rtol=0, atol=0.1)


def test_under_autocast_log_probabilities_are_float32():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prediction = drawn()
    assert prediction.log_probs.dtype == prediction.features.dtype == torch.float32
    torch.testing.assert_close(prediction.log_probs, drawn().log_probs, rtol=0, atol=0.1)


class Hidden(nn.Module):
    """Shows neither features nor a last layer."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, C))

    def forward(self, inputs):
        return inputs @ self.weight


class HeadAlone(Hidden):
    def head(self, features):
        return features @ self.weight


class Widening(nn.Module):
    """Features as wide as the input, and a head that takes any."""

    def features(self, inputs):
        return inputs

    def head(self, features):
        return torch.stack([features.sum(1), features[:, 0]], 1)

    def forward(self, inputs):
        return self.head(self.features(inputs))


@pytest.mark.parametrize(
    ("model", "message"), [(Hidden(), "last layer"), (HeadAlone(), "shows none")]
)
def test_networks_without_features_or_a_head_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        drawn(model)


def test_features_of_two_widths_are_refused():
    with HeadDropout(K).draw(Widening(), generator()) as predict:
        predict(batch(width=4))
        with pytest.raises(ValueError, match=r"one width, got 6 after 4"):
            predict(batch(width=6))


def test_samples_that_are_all_the_same_are_refused():
    model = network()
    nn.init.zeros_(model.head.weight)
    with pytest.raises(ValueError, match="identical"):
        drawn(model)


def test_nan_is_not_hidden_by_other_rows():
    inputs = batch()
    with HeadDropout(K).draw(network(), generator()) as predict:
        predict(inputs)
        inputs[1, 2] = torch.nan
        with pytest.raises(ValueError, match="NaN"):
            predict(inputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 1}, "samples must be at least 2"),
        ({"samples": True}, "samples must"),
        ({"dropout": 0.0}, "dropout must lie between 0 and 1, got 0.0"),
        ({"dropout": 1.0}, "dropout must"),
        ({"dropout": math.nan}, "dropout must"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        HeadDropout(**options)
