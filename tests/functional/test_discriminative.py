"""Selections that train a small network: what it learns, and that it is the network stated."""

import pytest
import torch
from torch import nn

from dal.functional.k_center import k_center_greedy
from dal.strategies import core_gcn as gcn
from dal.strategies import discriminative as classifier
from dal.strategies.core_gcn import core_gcn
from dal.strategies.discriminative import discriminative


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def unlabelled(pool, labelled, n, seed=0, **some):
    return discriminative(
        features=pool, labelled_features=labelled, n=n, generator=rng(seed), **some
    )


def test_items_where_there_are_no_labels_are_chosen():
    labelled, inside, outside = draw(40, 3), draw(200, 3, seed=1), draw(20, 3, seed=2) + 6
    pool = torch.cat([inside, outside])
    for seed in range(3):
        assert (unlabelled(pool, labelled, 12, seed, sub_rounds=1) >= 200).all()


def test_the_order_is_that_of_the_density_ratio():
    # Labelled normal, pool uniform: the ratio of their densities rises with |x|.
    labelled, pool = draw(500, 1), torch.linspace(-4, 4, 401, dtype=torch.float64).unsqueeze(1)
    for seed in range(2):
        chosen = unlabelled(pool, labelled, 60, seed, sub_rounds=1, steps=400)
        assert (pool[chosen].abs() > 2.5).all()


def test_items_of_earlier_sub_rounds_count_as_labelled():
    labelled = draw(30, 2)
    pool = torch.cat([draw(60, 2, seed=1) + torch.tensor([20, 0]), draw(60, 2, seed=2) - 20])
    groups = unlabelled(pool, labelled, 20) < 60
    assert 4 <= groups.sum() <= 16


@pytest.mark.parametrize(("n", "sizes"), [(23, [3, 3, 3, 2, 2, 2, 2, 2, 2, 2]), (4, [1] * 4)])
def test_sub_rounds_share_the_items_out(monkeypatch, n, sizes):
    masks = []
    real = classifier._train

    def spy(points, labelled, *rest):
        masks.append(labelled.clone())
        return real(points, labelled, *rest)

    monkeypatch.setattr(classifier, "_train", spy)
    pool, labelled = draw(50, 3), draw(5, 3, seed=1)
    chosen = unlabelled(pool, labelled, n, steps=10)
    assert [mask.sum().item() for mask in masks] == [5 + sum(sizes[:i]) for i in range(len(sizes))]
    for mask, taken in zip(masks, torch.tensor(sizes).cumsum(0) - torch.tensor(sizes), strict=True):
        assert set(mask[:50].nonzero().squeeze(1).tolist()) == set(chosen[:taken].tolist())
        assert mask[50:].all()


def test_without_labels_the_item_nearest_to_the_mean_comes_first():
    pool = torch.tensor([[0.0], [4.0], [5.0], [11.0]])
    for seed in range(3):
        assert unlabelled(pool, pool[:0], 3, seed, steps=20)[0] == 2
    assert unlabelled(pool, pool[:0], 1).tolist() == [2]


def test_the_network_is_two_relu_layers_and_a_logit():
    points = draw(30, 4)
    layers = classifier._train(points, torch.arange(30) < 10, 8, 1, rng())
    network = nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)
    ).double()
    for module, layer in zip(network[::2], layers, strict=True):
        module.weight.data, module.bias.data = layer[:, :-1], layer[:, -1]
    torch.testing.assert_close(classifier._forward(layers, points), network(points).squeeze(1))


def test_training_stops_once_the_two_are_told_apart():
    points = torch.cat([draw(50, 2), draw(50, 2, seed=1) + 30])
    few = classifier._train(points, torch.arange(100) < 50, 16, 200, rng())
    many = classifier._train(points, torch.arange(100) < 50, 16, 20_000, rng())
    for layer, other in zip(few, many, strict=True):
        assert torch.equal(layer, other)
    logits = classifier._forward(few, points)
    assert (logits[:50] < 0).double().mean() > 0.9
    assert (logits[50:] > 0).double().mean() > 0.9


def test_items_that_coincide_are_not_trained_on(monkeypatch):
    monkeypatch.setattr(torch.autograd, "grad", None)
    pool = torch.full((9, 3), 0.1)
    assert unlabelled(pool, pool[:4], 9).tolist() == list(range(9))


def test_a_constant_offset_and_scale_of_a_feature_do_not_matter():
    pool, labelled, scale = draw(60, 3), draw(8, 3, seed=1), torch.tensor([2.0, 64.0, 0.25])
    expected = unlabelled(pool, labelled, 5, steps=30)
    assert torch.equal(unlabelled(scale * pool, scale * labelled, 5, steps=30), expected)


@pytest.mark.parametrize("name", ["sub_rounds", "hidden", "steps"])
def test_discriminative_refuses_what_it_cannot_use(name):
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1, got 0"):
        unlabelled(draw(5, 2), draw(3, 2), 1, **{name: 0})


def dense_graph(points):
    """A as its formula reads, with every pair of items."""
    similar = points @ points.T
    similar = similar - similar.diag().diag()
    return similar / similar.sum(1, keepdim=True) + torch.eye(len(points), dtype=points.dtype)


def unit(points):
    return nn.functional.normalize(points)


def test_the_factorised_graph_is_the_dense_one():
    points, values = unit(draw(40, 6).abs()), draw(40, 3, seed=1)
    actual = gcn._propagate(points, gcn._divisor(points), values)
    torch.testing.assert_close(actual, dense_graph(points) @ values, rtol=0, atol=1e-12)


def test_rows_without_negative_similarities_are_divided_by_their_sums():
    points = unit(draw(40, 6).abs())
    torch.testing.assert_close(gcn._divisor(points), (points @ points.T).sum(1) - 1)


def test_negative_similarities_do_not_let_a_row_grow():
    points = unit(draw(300, 5) - draw(300, 5).mean(0))  # row sums near 0, of either sign
    similar = points @ points.T - torch.eye(300, dtype=torch.float64)
    assert (similar.sum(1) < 0).any()
    divisor = gcn._divisor(points)
    norms = similar.square().sum(1).sqrt()
    assert (divisor >= norms - 1e-9).all()
    torch.testing.assert_close(divisor, torch.maximum(norms, similar.sum(1)))
    rows = gcn._propagate(points, divisor, torch.eye(300, dtype=torch.float64))
    rows -= torch.eye(300, dtype=torch.float64)
    torch.testing.assert_close(rows, similar / divisor.unsqueeze(1), rtol=0, atol=1e-12)


def test_items_without_features_or_neighbours_keep_their_values():
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    values = torch.tensor([[3.0], [5.0]])
    assert torch.equal(gcn._propagate(points, gcn._divisor(points), values), values)


def slow_core_gcn(pool, labelled, n, seed, *, hidden, epochs, loss_weight):
    """The same training by modules on the dense graph, with probabilities in its loss."""
    points, size, generator = unit(torch.cat([pool, labelled])), len(pool), rng(seed)
    graph = dense_graph(points)
    first, second = nn.Linear(points.shape[1], hidden).double(), nn.Linear(hidden, 1).double()
    for layer in (first, second):
        bound = layer.out_features**-0.5
        weight = torch.empty(layer.in_features, layer.out_features, dtype=torch.float64)
        layer.weight.data = weight.uniform_(-bound, bound, generator=generator).T.contiguous()
        layer.bias.data.uniform_(-bound, bound, generator=generator)
    parameters = [*first.parameters(), *second.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-3, weight_decay=5e-4)
    for _ in range(epochs):
        encoded = (graph @ (points @ first.weight.T) + first.bias).relu()
        kept = torch.rand(len(points), hidden, generator=generator) >= 0.3
        inner = (encoded * kept / 0.7) @ second.weight.T
        known = torch.sigmoid(graph @ inner + second.bias)
        loss = -known[size:].log().mean() - loss_weight * (1 - known[:size]).log().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        encoded = (graph @ (points @ first.weight.T) + first.bias).relu()
    return k_center_greedy(encoded[:size], encoded[size:], n)


@pytest.mark.parametrize("seed", range(3))
def test_core_gcn_agrees_with_modules_on_the_dense_graph(seed):
    pool, labelled = draw(60, 5, seed=seed).abs(), draw(9, 5, seed=seed + 50).abs()
    some = {"hidden": 16, "epochs": 60, "loss_weight": 1.2}
    with torch.no_grad():
        chosen = core_gcn(
            features=pool, labelled_features=labelled, n=15, generator=rng(seed), **some
        )
    assert torch.equal(chosen, slow_core_gcn(pool, labelled, 15, seed, **some))


def test_the_graph_network_learns_which_items_are_labelled():
    pool, labelled = draw(80, 4).abs(), draw(20, 4, seed=1).abs() * torch.tensor([9.0, 1, 1, 1])
    points = unit(torch.cat([pool, labelled]))

    def gap(epochs):
        weights = gcn._weights(points, 32, rng())
        encoded = gcn._train(weights, points, 80, 1.2, epochs=epochs, generator=rng(1))
        logits = gcn._propagate(points, gcn._divisor(points), encoded @ weights[2].detach())
        return (logits[80:].mean() - logits[:80].mean()).item()

    assert gap(600) > gap(1) + 0.5


def test_the_direction_without_a_label_is_taken():
    pool = torch.cat([draw(30, 2).abs() * torch.tensor([5.0, 0.1]), torch.tensor([[0.0, 3.0]])])
    labelled = torch.tensor([[1.0, 0.0], [2.0, 0.1]], dtype=torch.float64)
    for seed in range(3):
        chosen = core_gcn(
            features=pool, labelled_features=labelled, n=1, generator=rng(seed), epochs=50
        )
        assert chosen.tolist() == [30]


def test_without_labels_core_gcn_is_the_core_set_of_unit_features():
    pool = draw(30, 4)
    chosen = core_gcn(features=pool, labelled_features=pool[:0], n=8, generator=rng())
    assert torch.equal(chosen, k_center_greedy(unit(pool), pool[:0], 8))


@pytest.mark.parametrize(
    ("some", "message"),
    [
        ({"hidden": 0}, "hidden must be a whole number of at least 1, got 0"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"loss_weight": -1}, "loss_weight must be a finite number above 0, got -1"),
    ],
)
def test_core_gcn_refuses_what_it_cannot_use(some, message):
    with pytest.raises(ValueError, match=message):
        core_gcn(features=draw(5, 2), labelled_features=draw(3, 2), n=1, generator=rng(), **some)
