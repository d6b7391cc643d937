"""Last-layer Laplace against laplace-torch, a Hessian by autograd, and its own closed form."""

import inspect
import math
import warnings
from importlib import import_module

import kit
import pytest
import torch
from torch import nn

from dal.models.networks import Split
from dal.posteriors.deterministic import Deterministic
from dal.posteriors.laplace import (
    FULL_BYTES,
    PRECISIONS,
    Laplace,
    add_curvature,
    empty_curvature,
    likeliest_prior_precision,
    linear_head_of,
    parameters_of,
    with_bias,
)

M, D, C, K = 40, 4, 3, 6
P = D + 1
STRUCTURES = ["full", "diagonal"]
both = pytest.mark.parametrize("structure", STRUCTURES)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def batches(rows=M, size=16, dtype=torch.float32):
    inputs = torch.randn(rows, D, generator=generator(7)).to(dtype)
    return list(zip(inputs.split(size), (torch.arange(rows) % C).split(size), strict=True))


def network(*, bias=True, dtype=torch.float32, scale=1.0):
    """A network whose features are its inputs, so that they are exact in every type."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Split(nn.Flatten(), nn.Linear(D, C, bias=bias))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model.to(dtype)


def drawn(model=None, *, seed=0, labelled=None, rows=5, **options):
    model = network() if model is None else model
    posterior = Laplace(**{"samples": K, **options})
    known = batches() if labelled is None else labelled
    with posterior.draw(model, generator(seed), known) as predict:
        return predict(torch.randn(rows, D, generator=generator(99)))


def curvature_of(model, structure, known):
    head = linear_head_of(model)
    mean = parameters_of(head)
    curvature = empty_curvature(mean, structure)
    for inputs, _ in known:
        add_curvature(curvature, with_bias(inputs.double(), head), mean)
    return curvature, mean


def by_class(size=P):
    """Our order of the parameters, class by class with the bias last, in terms of torch's."""
    weights = torch.arange(C * D).view(C, D)
    return torch.cat([weights, C * D + torch.arange(C).unsqueeze(1)], 1)[:, :size].flatten()


@pytest.mark.parametrize("bias", [True, False])
def test_the_curvature_is_the_hessian_of_the_summed_loss(bias):
    model, known = network(bias=bias), batches(dtype=torch.float64)
    full, mean = curvature_of(model, "full", known)
    diagonal, _ = curvature_of(model, "diagonal", known)
    inputs, targets = (torch.cat(part) for part in zip(*known, strict=True))

    def loss(parameters):
        logits = inputs @ parameters[:, :D].T + (parameters[:, D] if bias else 0)
        return nn.functional.cross_entropy(logits, targets, reduction="sum")

    hessian = torch.autograd.functional.hessian(loss, mean).reshape(full.shape)
    torch.testing.assert_close(full, hessian, rtol=0, atol=1e-10)
    torch.testing.assert_close(diagonal, hessian.diagonal(), rtol=0, atol=1e-10)


def library(structure, model, known, prior_precision):
    """laplace-torch; it multiplies by an identity of the default type, hence that is float64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its imports
        reference = import_module("laplace")
        inputs, targets = (torch.cat(part) for part in zip(*known, strict=True))
        data = torch.utils.data.TensorDataset(inputs.double(), targets)
        torch.set_default_dtype(torch.float64)
        try:
            fitted = reference.Laplace(
                nn.Sequential(nn.Identity(), model.head).double(),
                "classification",
                subset_of_weights="last_layer",
                hessian_structure={"full": "full", "diagonal": "diag"}[structure],
                prior_precision=prior_precision,
            )
            fitted.fit(torch.utils.data.DataLoader(data, 20))
        finally:
            torch.set_default_dtype(torch.float32)
    return fitted


@both
def test_the_posterior_precision_agrees_with_laplace_torch(structure):
    curvature, _ = curvature_of(network(), structure, batches())
    expected = library(structure, network(), batches(), 2.5).posterior_precision
    if structure == "full":
        expected = expected[by_class()][:, by_class()]
        ours = curvature + 2.5 * torch.eye(C * P, dtype=torch.float64)
    else:
        expected, ours = expected[by_class()], curvature + 2.5
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)


@both
@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_the_prior_precision_makes_the_labels_likeliest_for_laplace_torch(structure, scale):
    model = network(scale=scale)
    chosen = likeliest_prior_precision(*curvature_of(model, structure, batches()))
    fitted = library(structure, model, batches(), 1.0)

    def likelihood(precision):
        return fitted.log_marginal_likelihood(prior_precision=torch.tensor([precision])).item()

    best = likelihood(chosen)
    for factor in (0.01, 0.5, 0.98, 1.02, 2.0, 100.0):
        assert likelihood(chosen * factor) < best - 1e-5


@both
def test_the_log_marginal_likelihood_agrees_with_laplace_torch(structure):
    """Up to the likelihood of the labels, which no prior precision changes."""
    curvature, mean = curvature_of(network(), structure, batches())
    values = torch.linalg.eigvalsh(curvature) if structure == "full" else curvature
    fitted = library(structure, network(), batches(), 1.0)
    for precision in (0.1, 2.0, 30.0):
        own = 0.5 * (precision / (values + precision)).log().sum()
        own = own - 0.5 * precision * mean.square().sum() + fitted.log_likelihood
        expected = fitted.log_marginal_likelihood(
            prior_precision=torch.tensor([precision], dtype=torch.float64)
        )
        assert own.item() == pytest.approx(expected.item(), abs=1e-8)


@both
def test_the_mean_prediction_agrees_with_that_of_laplace_torch(structure):
    samples = 20_000
    log_probs = drawn(samples=samples, structure=structure, prior_precision=0.5).log_probs
    fitted = library(structure, network(), batches(), 0.5)
    inputs = torch.randn(5, D, generator=generator(99)).double()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = fitted.predictive_samples(inputs, pred_type="nn", n_samples=samples).mean(0)
    error = 0.5 / math.sqrt(samples) * math.sqrt(2)  # of two means of numbers from 0 to 1
    difference = (log_probs.exp().mean(1) - expected).abs()
    assert difference.max() < 4 * error


@both
@pytest.mark.parametrize("bias", [True, False])
def test_logits_have_the_covariance_of_the_inverse_precision(structure, bias):
    """Var(f_c - f_d) by a dense inverse, against the drawn layers' log-probabilities."""
    model = network(bias=bias)
    log_probs = drawn(model, samples=20_000, structure=structure, prior_precision=0.5).log_probs
    curvature, _ = curvature_of(model, structure, batches())
    precision = curvature if structure == "full" else curvature.diag()
    covariance = (precision + 0.5 * torch.eye(len(precision), dtype=torch.float64)).inverse()
    inputs = torch.randn(5, D, generator=generator(99))
    rows = with_bias(inputs, model.head).double()
    contrast = torch.tensor([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]], dtype=torch.float64)
    logits = model(inputs).detach().double() @ contrast.T
    for row, centre, got in zip(rows, logits, log_probs.double() @ contrast.T, strict=True):
        jacobian = torch.kron(contrast, row.unsqueeze(0))  # [2, C·P]
        expected = jacobian @ covariance @ jacobian.T
        scale = expected.diagonal().outer(expected.diagonal()).sqrt()
        assert ((got.T.cov() - expected) / scale).abs().max() < 0.05
        assert ((got.mean(0) - centre) / expected.diagonal().sqrt()).abs().max() < 0.03


@both
def test_the_chosen_prior_precision_solves_its_equation(structure):
    curvature, mean = curvature_of(network(), structure, batches())
    precision = likeliest_prior_precision(curvature, mean)
    values = torch.linalg.eigvalsh(curvature) if structure == "full" else curvature
    determined = (values / (values + precision)).sum()
    assert determined.item() == pytest.approx(precision * mean.square().sum().item(), rel=1e-9)


def test_a_prior_precision_outside_its_range_is_its_nearer_bound():
    curvature, mean = torch.eye(2).double(), torch.ones(2, 1).double()
    low, high = PRECISIONS
    assert likeliest_prior_precision(curvature * 0, mean) == pytest.approx(low)
    assert likeliest_prior_precision(curvature, mean * 0) == pytest.approx(high)


@both
def test_more_labels_bring_the_samples_closer(structure):
    few, many = (
        drawn(labelled=batches(rows), structure=structure, prior_precision=1.0).log_probs
        for rows in (10, 4000)
    )
    assert many.exp().std(1).mean() < 0.3 * few.exp().std(1).mean()


@both
def test_the_drawn_layers_are_shared_by_all_batches_and_follow_the_seed(structure):
    model, inputs = network(), torch.randn(23, D, generator=generator(3))
    posterior = Laplace(K, structure)
    results = []
    for seed in (0, 0, 1):
        with posterior.draw(model, generator(seed), batches()) as predict:
            whole = predict(inputs).log_probs
            parts = torch.cat([predict(part).log_probs for part in inputs.split(7)])
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)
        results.append(whole)
    assert torch.equal(results[0], results[1])
    assert (results[0] - results[2]).abs().max() > 1e-3


@both
def test_how_the_labelled_rows_are_batched_does_not_matter(structure):
    one, many = (
        drawn(labelled=batches(size=size), structure=structure).log_probs for size in (M, 3)
    )
    torch.testing.assert_close(one, many, rtol=0, atol=1e-5)


@both
def test_labelled_rows_that_can_be_read_once_are_enough(structure):
    once = drawn(labelled=iter(batches()), structure=structure).log_probs
    assert torch.equal(once, drawn(structure=structure).log_probs)


def test_features_are_those_of_the_deterministic_network():
    model, inputs = kit.toy_network(), torch.randn(5, 4, generator=generator(1))
    with Deterministic().draw(model, generator()) as predict:
        expected = predict(inputs)
    with Laplace(400).draw(model, generator(), batches()) as predict:
        got = predict(inputs)
    assert torch.equal(got.features, expected.features)
    assert got.log_probs.shape == (5, 400, 3)
    assert got.log_probs.dtype == torch.float32


def test_a_very_sure_prior_gives_the_network_itself():
    model = network()
    log_probs = drawn(model, prior_precision=1e12).log_probs
    with Deterministic().draw(model, generator()) as predict:
        expected = predict(torch.randn(5, D, generator=generator(99))).log_probs
    torch.testing.assert_close(log_probs, expected.expand(-1, K, -1), rtol=0, atol=1e-4)


@both
def test_without_labelled_rows_the_prior_alone_is_drawn(structure):
    options = {"labelled": [], "structure": structure, "samples": 20_000}
    log_probs = drawn(prior_precision=4.0, rows=1, **options).log_probs[0].double()
    row = torch.randn(1, D, generator=generator(99))
    variance = 2 * (row.square().sum() + 1) / 4.0  # of f_0 - f_1
    got = (log_probs[:, 0] - log_probs[:, 1]).var()
    assert got.item() == pytest.approx(variance.item(), rel=0.05)
    with pytest.raises(ValueError, match=r"labelled rows.* got 0; set posterior.prior_precision"):
        drawn(**options)


@both
def test_the_model_is_as_it_was_and_drew_nothing(structure):
    model = kit.toy_network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    with Laplace(K, structure).draw(model, generator(), batches()) as predict:
        prediction = predict(torch.ones(2, 4))
        assert not model.training
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not prediction.log_probs.requires_grad
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_log_probabilities_are_float32_whatever_the_network_computes_in(dtype):
    model = network(dtype=dtype)
    known = [(inputs.to(dtype), targets) for inputs, targets in batches()]
    inputs = torch.randn(5, D, generator=generator(99)).to(dtype)
    with Laplace(K).draw(model, generator(), known) as predict:
        log_probs = predict(inputs).log_probs
    assert log_probs.dtype == torch.float32
    assert (log_probs.exp().sum(-1) - 1).abs().max() < 1e-6


def test_under_autocast_the_drawn_layers_stay_in_float32():
    model, inputs = kit.toy_network(), torch.randn(5, 4, generator=generator(1))
    posterior = Laplace(K, prior_precision=1.0)
    with posterior.draw(model, generator(), batches()) as predict:
        plain = predict(inputs).log_probs
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = predict(inputs)
    assert half.log_probs.dtype == half.features.dtype == torch.float32
    torch.testing.assert_close(half.log_probs, plain, rtol=0, atol=0.1)
    assert not torch.equal(half.log_probs.bfloat16().float(), half.log_probs)


def test_a_full_curvature_that_does_not_fit_is_refused_and_a_diagonal_one_is_not():
    model = Split(nn.Flatten(), nn.Linear(D, 1200))
    with pytest.raises(ValueError, match=r"6000 .*at most 1 GiB, got 1.1 .*structure=diagonal"):
        drawn(model, prior_precision=1.0)
    assert drawn(model, structure="diagonal", prior_precision=1.0).log_probs.shape == (5, K, 1200)
    assert FULL_BYTES == 2**30


class Scaled(Split):
    def forward(self, inputs):
        return 3 * super().forward(inputs)


class Sees(nn.Module):
    """Its head takes other features than it shows."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2, C)

    def features(self, inputs):
        return inputs

    def forward(self, inputs):
        return self.head(self.features(inputs)[:, :2])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Split(nn.Flatten(), nn.Sequential(nn.Linear(D, C))), "Linear .*got Sequential"),
        (nn.Sequential(nn.Flatten(), nn.Bilinear(1, 1, 1)), "last layer"),
        (Scaled(nn.Flatten(), nn.Linear(D, C)), "logits must be its last layer's"),
        (Sees(), "does not take its features"),
    ],
    ids=["a block", "none", "logits changed", "other features"],
)
def test_networks_without_a_linear_last_layer_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        drawn(model)


def test_nan_logits_are_refused():
    model = network()
    with torch.no_grad():
        model.head.bias[1] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        drawn(model)
    with pytest.raises(ValueError, match="NaN"):
        drawn(model, labelled=[], prior_precision=1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 1}, "samples must be at least 2"),
        ({"samples": 2.5}, "samples must"),
        ({"structure": "kron"}, "structure must be full or diagonal, got 'kron'"),
        ({"prior_precision": 0.0}, "prior_precision must"),
        ({"prior_precision": math.nan}, "prior_precision must"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Laplace(**options)


def test_the_third_argument_of_every_posterior_may_be_left_out():
    assert inspect.signature(Laplace.draw).parameters["labelled"].default == ()
