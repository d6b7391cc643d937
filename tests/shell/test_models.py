"""Networks split into features and head, and the weights that a round starts from."""

from functools import partial

import pytest
import torch
from torch import nn

from dal.models.classifier import build_network
from dal.models.networks import bayesian_cnn, cnn, linear, mlp
from dal.models.torchvision_models import resnet18, torchvision_model
from dal.models.weights import cold, shrink_perturb, warm

SMALL = [linear, mlp, cnn, bayesian_cnn]
BIG = ["resnet18", "torchvision vgg11", "torchvision resnet18"]
SHAPES = {"digits": (1, 8, 8), "MNIST": (1, 28, 28), "CIFAR": (3, 32, 32)}
vgg11 = partial(torchvision_model, name="vgg11", init_weights=False)
plain_resnet18 = partial(torchvision_model, name="resnet18")


def assert_split(network, shape, classes):
    network.eval()
    inputs = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    features, logits = network.features(inputs), network(inputs)
    assert features.dim() == 2
    assert logits.shape == (3, classes)
    assert torch.equal(network.head(features), logits)
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("factory", SMALL, ids=lambda f: f.__name__)
def test_a_small_network_is_its_head_on_its_features(factory, shape):
    assert_split(factory(shape, 7), shape, 7)


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 32, 32)], ids=str)
@pytest.mark.parametrize("factory", [resnet18, vgg11, plain_resnet18], ids=BIG)
def test_a_torchvision_network_is_its_head_on_its_features(factory, shape):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert_split(factory(shape, 5), shape, 5)


def test_the_bayesian_cnn_is_the_network_of_gal_2017():
    network = bayesian_cnn((1, 28, 28), 10)
    layers = [str(layer) for layer in [*network.trunk, network.head]]
    assert layers == [
        "Conv2d(1, 32, kernel_size=(4, 4), stride=(1, 1))",
        "ReLU()",
        "Conv2d(32, 32, kernel_size=(4, 4), stride=(1, 1))",
        "ReLU()",
        "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)",
        "Dropout(p=0.25, inplace=False)",
        "Flatten(start_dim=1, end_dim=-1)",
        "Linear(in_features=3872, out_features=128, bias=True)",
        "ReLU()",
        "Dropout(p=0.5, inplace=False)",
        "Linear(in_features=128, out_features=10, bias=True)",
    ]


def test_the_bayesian_cnn_has_as_many_parameters_as_by_hand():
    # 28 - 3 - 3 = 22 pixels a side, 11 after pooling
    convolutions = (4 * 4 * 1 * 32 + 32) + (4 * 4 * 32 * 32 + 32)
    dense = (32 * 11 * 11 * 128 + 128) + (128 * 10 + 10)
    network = bayesian_cnn((1, 28, 28), 10)
    assert sum(p.numel() for p in network.parameters()) == convolutions + dense == 513_994


def test_the_bayesian_cnn_starts_from_glorot_uniform_weights_and_zero_biases():
    network = bayesian_cnn((1, 28, 28), 10)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert not layer.bias.any()
            fan_out, fan_in = layer.weight.shape[:2]
            area = layer.weight[0, 0].numel()
            bound = (6 / (area * (fan_in + fan_out))) ** 0.5
            assert 0.9 * bound < float(layer.weight.detach().abs().max()) <= bound


def test_the_dropout_of_the_mlp_is_that_asked_for():
    rates = [layer.p for layer in mlp((4,), 2, dropout=0.3).modules() if type(layer) is nn.Dropout]
    assert rates == [0.3, 0.3]


def test_resnet18_has_a_3_by_3_stem_and_keeps_the_resolution():
    network = resnet18((3, 32, 32), 10, dropout=0.2)
    stem = network.trunk.conv1
    assert (stem.kernel_size, stem.stride, stem.padding) == ((3, 3), (1, 1), (1, 1))
    assert isinstance(network.trunk.maxpool, nn.Identity)
    with torch.no_grad():
        images = network.trunk.relu(network.trunk.bn1(stem(torch.zeros(2, 3, 32, 32))))
    assert images.shape == (2, 64, 32, 32)
    assert network.trunk.fc.p == 0.2
    assert network.head.in_features == 512


def test_a_grey_image_is_shown_to_a_torchvision_network_in_three_channels():
    network = torchvision_model((1, 32, 32), 4, "resnet18").eval()
    grey = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    _, body = network.trunk
    with torch.no_grad():
        assert torch.equal(network.features(grey), body(grey.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize("name", ["vgg11", "resnet18"])
@pytest.mark.parametrize("dropout", [None, 0.3])
def test_dropout_is_put_before_the_last_layer_where_asked_for(name, dropout):
    network = torchvision_model((3, 32, 32), 4, name, dropout=dropout)
    own = {"vgg11": [0.5, 0.5], "resnet18": []}[name]
    rates = [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)]
    assert rates == own + ([] if dropout is None else [dropout])


def test_the_last_linear_layer_of_a_torchvision_network_becomes_the_head():
    network = vgg11((3, 32, 32), 4)
    assert (network.head.in_features, network.head.out_features) == (4096, 4)
    widths = [m.out_features for m in network.trunk.modules() if isinstance(m, nn.Linear)]
    assert widths == [4096, 4096]


def test_a_torchvision_network_without_a_linear_layer_is_refused():
    with pytest.raises(ValueError, match="squeezenet1_1 has no linear layer"):
        torchvision_model((3, 64, 64), 4, "squeezenet1_1")


@pytest.mark.parametrize("factory", [resnet18, vgg11], ids=BIG[:2])
@pytest.mark.parametrize("shape", [(4,), (2, 32, 32), (28, 28)])
def test_inputs_that_are_no_images_are_refused(factory, shape):
    with pytest.raises(ValueError, match=r"\[1 or 3, height, width\]"):
        factory(shape, 4)


@pytest.mark.parametrize(("factory", "side"), [(cnn, 5), (bayesian_cnn, 7)])
def test_an_image_that_is_too_small_is_refused(factory, side):
    build_network(factory, (1, side + 1, side + 1), 3)
    with pytest.raises(ValueError, match=f"at least {side + 1} x {side + 1} pixels"):
        build_network(factory, (1, side, side), 3)


def test_an_image_too_small_for_a_torchvision_network_is_refused():
    with pytest.raises(ValueError, match=r"\[1, 8, 8\]"):
        build_network(vgg11, (1, 8, 8), 10)


def test_a_network_with_another_number_of_logits_is_refused():
    with pytest.raises(ValueError, match=r"shape \[2, 3\] for 2 inputs of shape \[4\], got \[2, 5"):
        build_network(partial(nn.Linear, 4, 5), (4,), 3)


def test_build_network_passes_the_shapes_that_a_factory_names():
    class Own(nn.Linear):
        def __init__(self, num_classes, wide=4):
            super().__init__(wide, num_classes)

    assert build_network(Own, (4,), 3).out_features == 3
    assert build_network(partial(nn.Linear, 4, 3), (4,), 3).out_features == 3
    assert build_network(mlp, (4,), 3).head.out_features == 3


def test_trying_a_network_leaves_its_modes_and_buffers():
    def own():
        network = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))
        network[0].eval()
        return network

    network = build_network(own, (4,), 3)
    assert [module.training for module in network] == [False, True, True]
    assert int(network[0].num_batches_tracked) == 0


def two_networks():
    networks = [nn.Sequential(nn.Linear(30, 40), nn.BatchNorm1d(40)) for _ in range(2)]
    with torch.no_grad():
        networks[1][1].running_mean.fill_(3.0)
    return networks


def copy_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_a_cold_start_keeps_the_fresh_weights():
    fresh, trained = two_networks()
    before = copy_of(fresh)
    cold(fresh, trained.state_dict())
    assert all(torch.equal(value, before[name]) for name, value in fresh.state_dict().items())


def test_a_warm_start_has_the_old_weights_and_buffers_as_a_copy():
    fresh, trained = two_networks()
    previous = copy_of(trained)
    warm(fresh, previous)
    assert all(torch.equal(value, previous[name]) for name, value in fresh.state_dict().items())
    with torch.no_grad():
        fresh[0].weight.zero_()
    assert previous["0.weight"].any()


def test_shrink_perturb_shrinks_the_old_weights_and_adds_noise():
    fresh, trained = two_networks()
    previous = copy_of(trained)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shrink_perturb(fresh, previous, shrink=0.5, noise=0.1)
    added = fresh[0].weight.detach() - 0.5 * previous["0.weight"]
    assert float(added.mean()) == pytest.approx(0, abs=0.01)
    assert float(added.std()) == pytest.approx(0.1, rel=0.1)
    assert torch.equal(fresh[1].running_mean, previous["1.running_mean"])


def test_shrinking_by_1_without_noise_is_a_warm_start_and_by_0_forgets_all():
    fresh, trained = two_networks()
    shrink_perturb(fresh, trained.state_dict(), shrink=1.0, noise=0.0)
    assert torch.equal(fresh[0].weight, trained[0].weight)
    shrink_perturb(fresh, trained.state_dict(), shrink=0.0, noise=0.0)
    assert not fresh[0].weight.any()


@pytest.mark.parametrize("setting", [{"shrink": -0.1}, {"shrink": 1.1}, {"noise": -1.0}], ids=str)
def test_factors_out_of_range_are_refused(setting):
    fresh, trained = two_networks()
    with pytest.raises(ValueError, match=f"{next(iter(setting))} must"):
        shrink_perturb(fresh, trained.state_dict(), **setting)
