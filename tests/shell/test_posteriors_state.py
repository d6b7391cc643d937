"""A posterior leaves the model and the random generators as they were."""

import random

import kit
import numpy as np
import pytest
import torch
from torch import nn

from dal.models.networks import Split
from dal.posteriors.deterministic import Deterministic
from dal.posteriors.mc_dropout import MCDropout

K = 4
POSTERIORS = [MCDropout(K), Deterministic()]
every = pytest.mark.parametrize("posterior", POSTERIORS, ids=["mc_dropout", "deterministic"])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(seed=0):
    return torch.randn(5, 2, 6, 6, generator=generator(seed))


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(2, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
            nn.Dropout2d(0.5),
            nn.Flatten(),
            nn.Linear(64, 8),
            nn.BatchNorm1d(8),
            nn.Dropout(0.5),
            nn.Linear(8, 3),
        )
        network.train()
        network(torch.randn(8, 2, 6, 6))  # statistics of some training
    network[1].eval()  # a frozen layer
    return network


def snapshot(model):
    return {
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "modes": [module.training for module in model.modules()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "hooks": [len(module._forward_pre_hooks) for module in model.modules()],
        "grads": [parameter.requires_grad for parameter in model.parameters()],
    }


def fail_after(predict):
    predict(images())
    raise KeyError("halfway")


def assert_as_before(model, before):
    after = snapshot(model)
    for name, value in before.pop("state").items():
        assert torch.equal(value, after["state"][name]), name
    assert {name: after[name] for name in before} == before


@every
def test_buffers_modes_forwards_and_hooks_are_as_before(model, posterior):
    before = snapshot(model)
    with posterior.draw(model, generator()) as predict:
        for seed in range(3):
            predict(images(seed))
    assert_as_before(model, before)


@every
def test_they_are_as_before_after_an_exception_too(model, posterior):
    before = snapshot(model)
    with (
        pytest.raises(KeyError, match="halfway"),
        posterior.draw(model, generator()) as predict,
    ):
        fail_after(predict)
    assert_as_before(model, before)


@every
def test_they_are_as_before_after_an_exception_in_the_network(model, posterior):
    before = snapshot(model)
    with (
        pytest.raises(RuntimeError, match="channels"),
        posterior.draw(model, generator()) as predict,
    ):
        predict(torch.zeros(2, 7, 6, 6))
    assert_as_before(model, before)


class Restless(nn.Module):
    """Counts and adds noise while it trains."""

    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, inputs):
        if self.training:
            self.passes += 1
            return inputs + torch.randn_like(inputs)
        return inputs


def test_what_a_layer_does_in_training_leaves_no_trace(model):
    model = nn.Sequential(Restless(), model)
    before = snapshot(model)
    torch.manual_seed(0)
    rng = torch.get_rng_state()
    with MCDropout(K).draw(model, generator()) as predict:
        predict(images())
    assert torch.equal(torch.get_rng_state(), rng)
    assert_as_before(model, before)


def test_a_forward_put_on_the_object_is_put_back(model):
    linear = model[-1]
    plain = type(linear).forward
    linear.forward = lambda values: plain(linear, values)
    own = linear.forward
    with MCDropout(K).draw(model, generator()) as predict:
        predict(images())
    assert vars(linear)["forward"] is own


@every
def test_normalisation_runs_in_evaluation_mode_inside(model, posterior):
    modes = {}
    for layer in (model[1], model[3], model[7]):
        layer.register_forward_pre_hook(lambda m, _: modes.setdefault(m, []).append(m.training))
    with posterior.draw(model, generator()) as predict:
        predict(images())
    assert set(modes) == {model[1], model[3], model[7]}
    assert not any(mode for seen in modes.values() for mode in seen)


def test_without_dropout_in_force_normalisation_is_not_what_makes_samples_differ(model):
    model[4].p = 0.0
    model[8].p = 1e-12
    with (
        pytest.raises(ValueError, match="identical"),
        MCDropout(K).draw(model, generator()) as predict,
    ):
        predict(images())


@every
def test_no_gradient_is_recorded(model, posterior):
    with posterior.draw(model, generator()) as predict:
        prediction = predict(images())
    assert not prediction.log_probs.requires_grad
    assert not prediction.features.requires_grad


@every
def test_global_generators_are_left_alone(model, posterior):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)

    def states():
        numpys = np.random.get_state()[1].tolist()  # noqa: NPY002
        return torch.get_rng_state().tolist(), numpys, random.getstate()

    before = states()
    with posterior.draw(model, generator()) as predict:
        predict(images())
    assert states() == before


@every
def test_samples_do_not_depend_on_the_global_generator(model, posterior):
    seen = []
    for world in range(2):
        torch.manual_seed(world)
        with posterior.draw(model, generator()) as predict:
            seen.append(predict(images()).log_probs)
    assert torch.equal(*seen)


def test_deterministic_is_the_network_in_evaluation_mode(model):
    with Deterministic().draw(model, generator()) as predict:
        prediction = predict(images())
    model.eval()
    assert prediction.log_probs.shape == (5, 1, 3)
    assert torch.equal(prediction.log_probs[:, 0], model(images()).log_softmax(1))


@every
def test_features_of_a_plain_network_are_what_enters_its_last_linear_layer(model, posterior):
    with posterior.draw(model, generator()) as predict:
        features = predict(images()).features
    model.eval()
    assert torch.equal(features, model[:9](images()))


@every
def test_features_are_what_the_method_of_that_name_returns(model, posterior):
    split = Split(model[:-1], model[-1])

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.split = split

        def features(self, inputs):
            return 2 * self.split.features(inputs).unflatten(1, (2, 4))

        def forward(self, inputs):
            return self.split(inputs)

    for owner, factor in ((split, 1), (Twice(), 2)):
        with posterior.draw(owner, generator()) as predict:
            features = predict(images()).features
        model.eval()
        assert torch.equal(features, factor * model[:-1](images()))


@every
def test_features_of_the_network_inside_a_module_are_found(posterior):
    module = kit.toy_module()
    module.network = Split(module.network[:3], module.network[3])
    with posterior.draw(module, generator()) as predict:
        features = predict(torch.ones(2, 4)).features
    module.eval()
    assert torch.equal(features, module.network.features(torch.ones(2, 4)))


@every
def test_a_network_without_either_shows_no_features(posterior):
    model = nn.Sequential(nn.Conv2d(2, 3, 6), nn.Dropout(0.5), nn.Flatten())
    with posterior.draw(model, generator()) as predict:
        assert predict(images()).features is None


def test_deterministic_keeps_the_trained_dropout_off_for_plain_and_functional_calls():
    class Functional(nn.Module):
        def forward(self, inputs):
            return nn.functional.dropout(inputs, 0.5, training=self.training)

    with Deterministic().draw(nn.Sequential(nn.Dropout(0.5), Functional()), generator()) as predict:
        log_probs = predict(torch.tensor([[1.0, 2.0]])).log_probs
    assert torch.equal(log_probs[0, 0], torch.tensor([1.0, 2.0]).log_softmax(0))
