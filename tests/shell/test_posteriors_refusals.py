"""What a posterior refuses rather than giving samples that mean nothing."""

import kit
import pytest
import torch
from torch import nn
from torch.nn import functional

from dal.posteriors.deterministic import Deterministic
from dal.posteriors.mc_dropout import MCDropout

K = 4
POSTERIORS = [MCDropout(K), Deterministic()]
every = pytest.mark.parametrize("posterior", POSTERIORS, ids=["mc_dropout", "deterministic"])


class Calls(nn.Module):
    """A network whose middle is `function(module, values)`."""

    def __init__(self, function, *, visible=True, **modules):
        super().__init__()
        self.function = function
        self.first = nn.Linear(4, 4)
        self.drop = nn.Dropout(0.5) if visible else nn.Identity()
        self.head = nn.Linear(4, 3)
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, inputs):
        return self.head(self.drop(self.function(self, self.first(inputs))))


def refused(model, match, inputs=None):
    inputs = torch.ones(2, 4) if inputs is None else inputs
    with (
        pytest.raises(ValueError, match=match),
        MCDropout(K).draw(model, torch.Generator()) as predict,
    ):
        predict(inputs)


FUNCTIONAL = {
    "of the mode": lambda m, x: functional.dropout(x, 0.5, training=m.training),
    "positional": lambda m, x: functional.dropout(x, 0.5, m.training),
    "always on": lambda m, x: functional.dropout(x),
    "torch.dropout": lambda m, x: torch.dropout(x, 0.5, m.training),
    "in place": lambda m, x: functional.dropout(x, 0.5, m.training, inplace=True),
    "alpha": lambda m, x: functional.alpha_dropout(x, 0.5, training=m.training),
    "of channels": lambda m, x: functional.dropout1d(x[None], 0.5, training=m.training)[0],
}


@pytest.mark.parametrize("visible", [True, False], ids=["beside a layer", "alone"])
@pytest.mark.parametrize("function", FUNCTIONAL.values(), ids=FUNCTIONAL)
def test_dropout_as_a_function_is_refused(function, visible):
    refused(Calls(function, visible=visible), "dropout")


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: functional.dropout(x, 0.0, training=m.training),
        lambda m, x: functional.dropout(x, 0.5, training=False),
    ],
    ids=["p = 0", "never on"],
)
def test_dropout_as_a_function_that_drops_nothing_is_accepted(function):
    with MCDropout(K).draw(Calls(function), torch.Generator()) as predict:
        assert predict(torch.ones(2, 4)).log_probs.shape == (2, K, 3)


def attend(module, values):
    return module.attention(values[:, None], values[:, None], values[:, None])[0][:, 0]


def test_dropout_inside_attention_is_refused():
    for dropout in (0.1, 0.0):
        attention = nn.MultiheadAttention(4, 2, dropout=dropout, batch_first=True)
        model = Calls(attend, attention=attention)
        if dropout:
            refused(model, "inside attention")
        else:
            with MCDropout(K).draw(model, torch.Generator()) as predict:
                predict(torch.ones(2, 4))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_dropout_between_recurrent_layers_is_refused(kind):
    layers = kind(4, 4, num_layers=2, dropout=0.1, batch_first=True)
    model = Calls(lambda m, x: m.layers(x[:, None])[0][:, -1], layers=layers)
    refused(model, "inside layers")


def test_dropout_of_scaled_dot_product_attention_is_refused():
    def attend(module, values):
        p = 0.1 if module.training else 0.0
        values = values[:, None]
        return functional.scaled_dot_product_attention(values, values, values, dropout_p=p)[:, 0]

    refused(Calls(attend), "scaled_dot_product_attention")


def test_hidden_dropout_is_refused_for_a_batch_of_one_under_batch_norm():
    model = Calls(
        lambda m, x: functional.dropout(m.norm(x), 0.5, training=m.training),
        norm=nn.BatchNorm1d(4),
    )
    refused(model, "dropout", torch.ones(1, 4))


def test_a_network_without_dropout_is_refused():
    refused(nn.Linear(4, 3), "has none")


@pytest.mark.parametrize("layers", [1, 2])
def test_dropout_that_drops_nothing_is_none(layers):
    refused(nn.Sequential(*[nn.Dropout(0.0)] * layers, nn.Linear(4, 3)), "has none")


def test_dropout_that_is_never_called_is_refused():
    model = nn.Linear(4, 3)
    model.add_module("unused", nn.Dropout(0.5))
    refused(model, "never calls")


def test_dropout_that_is_called_in_training_alone_is_refused():
    class Shy(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, inputs):
            return self.drop(inputs) if self.training else inputs

    refused(nn.Sequential(Shy(), nn.Linear(4, 3)), "never calls")


def test_samples_that_are_all_the_same_are_refused():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3))
    nn.init.zeros_(model[1].weight)
    refused(model, "identical")


def test_a_dropout_layer_that_meets_inputs_of_two_sizes_is_refused():
    model = nn.Sequential(nn.Dropout(0.5), nn.AdaptiveAvgPool1d(3), nn.Flatten())
    with MCDropout(K).draw(model, torch.Generator()) as predict:
        predict(torch.randn(2, 1, 5))
        with pytest.raises(ValueError, match=r"one size"):
            predict(torch.randn(2, 1, 6))


def test_a_dropout_layer_that_does_not_see_the_batch_first_is_refused():
    model = Calls(lambda m, x: x, drop=nn.Dropout(0.5))
    model.function = lambda m, x: m.over(x.T).T
    model.over = nn.Dropout(0.5)
    refused(model, "first dimension")


@pytest.mark.parametrize("samples", [1, 0, -2, 2.5, True])
def test_fewer_than_two_samples_are_refused(samples):
    with pytest.raises(ValueError, match="samples"):
        MCDropout(samples)


@pytest.mark.parametrize("memory", [0.0, -1.0, float("nan")])
def test_memory_that_is_not_positive_is_refused(memory):
    with pytest.raises(ValueError, match="memory_mb"):
        MCDropout(K, memory_mb=memory)


@every
def test_nan_logits_are_refused(posterior):
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 3))
    with torch.no_grad():
        model[2].bias[1] = torch.nan
    with (
        pytest.raises(ValueError, match="NaN"),
        posterior.draw(model, torch.Generator()) as predict,
    ):
        predict(torch.ones(2, 4))


@every
def test_one_nan_input_is_not_hidden_by_the_others(posterior):
    inputs = torch.ones(3, 4)
    with posterior.draw(kit.toy_network(), torch.Generator()) as predict:
        predict(inputs)
        inputs[1, 2] = torch.nan
        with pytest.raises(ValueError, match="NaN"):
            predict(inputs)


@every
@pytest.mark.parametrize("shape", [(), (1,), (2, 2)], ids=["no class", "one class", "a map"])
def test_logits_of_another_shape_are_refused(posterior, shape):
    class Wrong(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, inputs):
            width = torch.Size(shape).numel()
            return self.drop(inputs)[:, :width].reshape(-1, *shape)

    with (
        pytest.raises(ValueError, match=r"logits \[B, C >= 2\]"),
        posterior.draw(Wrong(), torch.Generator()) as predict,
    ):
        predict(torch.ones(3, 4))


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_log_probabilities_are_float32_whatever_the_network_computes_in(posterior, dtype):
    model = kit.toy_network().to(dtype)
    batch = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    with posterior.draw(model, torch.Generator()) as predict:
        prediction = predict(batch)
    assert prediction.log_probs.dtype == prediction.features.dtype == torch.float32
    assert (prediction.log_probs.exp().sum(-1) - 1).abs().max() < 1e-6
