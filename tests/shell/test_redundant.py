"""Train rows that come several times: which rows, which noise, and what is refused."""

import math
from dataclasses import replace
from pathlib import Path

import kit
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from dal.data.data import Data, Normalise, TensorRows
from dal.data.datamodule import ActiveDataModule
from dal.data.digits import digits
from dal.data.scenarios.redundant import redundant

ROOT = Path(__file__).parents[2]
MNIST = ROOT.parent / "shared" / "data"


def images(rows=6, classes=2):
    """Row i is a uint8 image of two channels full of 10 i and 10 i + 100."""
    levels = torch.arange(rows, dtype=torch.uint8).view(-1, 1, 1, 1) * 10
    inputs = torch.cat([levels, levels + 100], 1).expand(-1, -1, 40, 40).contiguous()
    targets = torch.arange(rows) % classes
    return Data(
        TensorRows(inputs, targets),
        TensorRows(inputs[:3], targets[:3]),
        tuple("ab"[:classes]),
        Normalise(255.0, (0.5, 0.5), (0.2, 0.4)),
    )


def test_each_row_comes_repeats_times_with_its_label():
    data = redundant(images(), repeats=3, noise=0.0)
    assert len(data.train) == 18
    levels = data.train[torch.arange(18)][:, 0, 0, 0]
    assert levels.tolist() == [10 * (row // 3) for row in range(18)]
    assert data.train.targets.tolist() == [row // 3 % 2 for row in range(18)]
    assert levels.dtype == torch.uint8


def test_noise_has_its_standard_deviation_in_units_of_the_network_input():
    data = redundant(images(), noise=0.1)
    plain = redundant(images(), noise=0.0)
    rows = torch.arange(18)
    noise = data.normalise(data.train[rows]) - data.normalise(plain.train[rows])
    assert noise.dtype == torch.float32
    for channel in noise.unbind(1):
        assert channel.std().item() == pytest.approx(0.1, rel=0.03)
        assert channel.mean().item() == pytest.approx(0, abs=0.002)


def test_copies_have_noise_of_their_own():
    data = redundant(images(), noise=0.1)
    noise = data.train[torch.arange(6)] - images().train[[0, 0, 0, 1, 1, 1]].float()
    noise = noise.flatten(1) / noise.flatten(1).norm(dim=1, keepdim=True)
    correlation = noise @ noise.T - torch.eye(6)
    assert correlation.abs().max() < 0.1


def test_the_noise_of_a_row_follows_from_the_seed_and_its_number_alone():
    data, again, other = (redundant(images(), seed=seed) for seed in (0, 0, 1))
    whole = data.train[torch.arange(18)]
    assert torch.equal(data.train[[17, 3, 3]], whole[[17, 3, 3]])
    assert torch.equal(data.train[torch.tensor([-1])], whole[-1:])
    assert torch.equal(again.train[torch.arange(18)], whole)
    different = (other.train[torch.arange(18)] != whole).flatten(1).float().mean(1)
    assert different.min() > 0.99
    fewer = redundant(images(), repeats=1)
    assert torch.equal(fewer.train[[0]], whole[:1])


def test_reading_draws_nothing_from_the_global_generator():
    data = redundant(images())
    state = torch.get_rng_state()
    data.train[torch.arange(18)]
    assert torch.equal(torch.get_rng_state(), state)


def test_the_rows_repeated_are_not_changed():
    data = images()
    before = data.train.inputs.clone()
    redundant(data).train[torch.arange(18)].add_(1)
    assert torch.equal(data.train.inputs, before)
    floats = replace(data, train=TensorRows(before.float(), data.train.targets))
    redundant(floats).train[torch.arange(18)].add_(1)
    assert torch.equal(floats.train.inputs, before.float())


def test_the_test_set_the_classes_and_the_transforms_are_as_they_were():
    inner = images()
    data = redundant(inner)
    assert data.test is inner.test
    assert data.classes == inner.classes
    assert data.normalise is inner.normalise
    assert data.input_shape == inner.input_shape
    shown = redundant(digits(), noise=0.05).thumbnail(5)
    assert (shown.float() - digits().thumbnail(1).float()).abs().max() < 0.3 * 255


def test_distinct_rows_keep_the_shares_of_the_classes():
    data, again, other = (redundant(digits(), 5, distinct=200, seed=seed) for seed in (0, 0, 1))
    assert len(data.train) == 1000
    counts = torch.bincount(data.train.targets)
    assert counts.min() >= 90
    assert counts.max() <= 110
    assert len(data.train.rows.sources.unique()) == 200
    assert torch.equal(data.train.rows.sources, again.train.rows.sources)
    assert not torch.equal(data.train.rows.sources, other.train.rows.sources)


def test_vectors_are_repeated_too():
    data = redundant(kit.toy_data(rows=30), repeats=2, noise=0.5)
    noise = data.train[torch.arange(60)] - kit.toy_data(rows=30).train[torch.arange(60) // 2]
    assert noise.shape == (60, 4)
    assert noise.std().item() == pytest.approx(0.5, rel=0.2)


def test_it_works_in_the_data_module():
    data = ActiveDataModule(redundant(digits(), 2, distinct=100), initial_size=10)
    inputs, labels = next(iter(data.labelled_dataloader()))
    assert inputs.shape == (10, 1, 8, 8)
    assert labels.tolist() == data.data.train.targets[data.pool.labelled].tolist()
    data.deal()
    assert sum(len(batch) for batch in data.pool_dataloader()) == 190


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 0}, "repeats must .*got 0"),
        ({"distinct": 0}, "distinct must .*got 0"),
        ({"distinct": 7}, "distinct must be at most the 6 train rows, got 7"),
        ({"noise": -0.1}, "noise must"),
        ({"noise": math.inf}, "noise must"),
        ({"noise": math.nan}, "noise must"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        redundant(images(), **options)


def test_a_dataset_with_a_transform_of_its_own_is_refused():
    with pytest.raises(ValueError, match="normalised by Normalise, got function"):
        redundant(replace(images(), normalise=lambda inputs: inputs.float()))


@pytest.mark.skipif(not (MNIST / "MNIST" / "raw").is_dir(), reason=f"needs MNIST in {MNIST}")
def test_redundant_mnist_holds_each_image_three_times():
    setting = ["dataset=mnist", "scenario=redundant"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", [*setting, f"data_dir={MNIST}"])
    data = instantiate(config.scenario.redundant)(instantiate(config.dataset, _convert_="all"))
    assert (len(data.train), len(data.test), data.input_shape) == (180_000, 10_000, (1, 28, 28))
    batch = data.normalise(data.train[[0, 1, 2, 3]])
    near, far = (batch[0] - batch[1]).square().mean(), (batch[0] - batch[3]).square().mean()
    assert near.sqrt().item() == pytest.approx(0.1 * math.sqrt(2), rel=0.1)
    assert far > 10 * near
