"""Splits, normalisation, rows and the refusals of Data."""

import math

import pytest
import torch

from dal.data.data import (
    Data,
    ItemRows,
    Normalise,
    TensorRows,
    channel_statistics,
    stratified_split,
)


def split(targets, n, seed=0):
    return stratified_split(torch.tensor(targets), n, torch.Generator().manual_seed(seed))


def test_a_split_keeps_the_shares_of_the_classes():
    targets = [0] * 60 + [1] * 30 + [2] * 10
    _, held = split(targets, 20)
    assert torch.tensor(targets)[held].bincount().tolist() == [12, 6, 2]


@pytest.mark.parametrize("n", range(11))
def test_a_split_is_within_one_row_of_the_shares(n):
    targets = [2, 0, 1, 0, 2, 0, 0, 1, 2, 0]
    keep, held = split(targets, n)
    assert len(held) == n
    assert torch.equal(torch.cat([keep, held]).sort().values, torch.arange(10))
    counts = torch.tensor(targets)[held].bincount(minlength=3)
    assert ((counts - n * torch.tensor([0.5, 0.2, 0.3])).abs() < 1).all()


def test_a_split_is_ascending_and_follows_its_generator():
    first, again, other = (split([0, 1] * 50, 20, seed)[1] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(first, first.sort().values)


@pytest.mark.parametrize("n", [-1, 5])
def test_a_split_larger_than_the_set_is_refused(n):
    with pytest.raises(ValueError, match=f"between 0 and 4 rows, got {n}"):
        split([0, 1, 0, 1], n)


def test_normalise_takes_mean_and_deviation_of_each_channel():
    images = torch.tensor([[[[0, 255]], [[51, 102]]]], dtype=torch.uint8)  # [1, 2, 1, 2]
    out = Normalise(255.0, (0.5, 0.2), (0.5, 0.1))(images)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, torch.tensor([[[[-1.0, 1.0]], [[0.0, 2.0]]]]))


def test_normalise_leaves_the_raw_batch_alone():
    for raw in (torch.tensor([[4, 8]], dtype=torch.uint8), torch.tensor([[4.0, 8.0]])):
        kept = raw.clone()
        assert Normalise(4.0)(raw).tolist() == [[1.0, 2.0]]
        assert torch.equal(raw, kept)


def test_normalise_without_settings_only_makes_floats():
    raw = torch.tensor([[0.25, -3.0]], dtype=torch.float64)
    assert torch.equal(Normalise()(raw), raw.float())


def test_channel_statistics_equal_float_maths():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (7, 3, 5, 4), generator=generator, dtype=torch.uint8)
    means, stds = channel_statistics(images)
    for channel in range(3):
        values = [v / 255 for v in images[:, channel].reshape(-1).tolist()]
        mean = math.fsum(values) / len(values)
        deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))
        assert means[channel] == pytest.approx(mean, abs=1e-12)
        assert stds[channel] == pytest.approx(deviation, abs=1e-12)


def test_a_constant_channel_is_not_divided_by_zero():
    images = torch.full((2, 1, 3, 3), 51, dtype=torch.uint8)
    means, stds = channel_statistics(images)
    assert Normalise(255.0, means, stds)(images).abs().max() < 1e-6
    assert stds == (1.0,)


def test_tensor_rows_give_the_rows_asked_for_in_their_order():
    held = TensorRows(torch.arange(6).view(3, 2), torch.tensor([2, 0, 1], dtype=torch.uint8))
    assert held[[2, 0, 2]].tolist() == [[4, 5], [0, 1], [4, 5]]
    assert len(held) == 3
    assert (held.targets.dtype, held.targets.tolist()) == (torch.long, [2, 0, 1])


@pytest.mark.parametrize(
    "targets",
    [torch.tensor([0]), torch.tensor([[0], [1]]), torch.tensor([0.0, 1.0]), torch.tensor([0, -1])],
    ids=["too few", "two-dimensional", "float", "negative"],
)
def test_tensor_rows_refuse_targets_that_are_no_class_numbers(targets):
    with pytest.raises(ValueError, match="target"):
        TensorRows(torch.zeros(2, 3), targets)


class Items:
    """A map-style dataset that counts how often an item is read."""

    def __init__(self, targets):
        self.labels = targets
        self.reads = 0

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        self.reads += 1
        return torch.tensor([float(index)]), self.labels[index]


def test_item_rows_read_targets_once_and_inputs_by_the_row():
    items = Items([1, 0, 1])
    held = ItemRows(items)
    assert (held.targets.tolist(), items.reads) == ([1, 0, 1], 3)
    assert held[[2, 0]].tolist() == [[2.0], [0.0]]
    assert (len(held), items.reads) == (3, 5)


def test_item_rows_take_targets_from_the_dataset_or_the_argument_without_reading_it():
    items = Items([0, 0])
    items.targets = [1, 0]
    assert ItemRows(items).targets.tolist() == [1, 0]
    assert ItemRows(items, torch.tensor([0, 1])).targets.tolist() == [0, 1]
    assert items.reads == 0


def test_data_knows_the_shape_of_an_input():
    images = TensorRows(torch.zeros(4, 3, 5, 6, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
    assert Data(images, images, ("a", "b"), Normalise(255.0)).input_shape == (3, 5, 6)


@pytest.mark.parametrize(
    ("train", "test", "classes", "rule"),
    [
        ([0, 0], [0], ("a", "b"), "at least 2 classes"),
        ([0, 0], [0], ("a",), "at least 2 classes"),
        ([0, 2], [0], ("a", "b"), "train target 2 is outside the 2 classes"),
        ([0, 1], [2], ("a", "b"), "test target 2 is outside the 2 classes"),
        ([], [0], ("a", "b"), "got 0 and 1"),
        ([0, 1], [], ("a", "b"), "got 2 and 0"),
    ],
)
def test_data_that_cannot_be_learned_from_is_refused(train, test, classes, rule):
    parts = [TensorRows(torch.zeros(len(t), 1), torch.tensor(t).long()) for t in (train, test)]
    with pytest.raises(ValueError, match=rule):
        Data(*parts, classes, Normalise())


def test_a_negative_target_is_outside_the_classes_for_any_kind_of_rows():
    with pytest.raises(ValueError, match="target"):
        ItemRows(Items([0, 1, -1]))


def test_a_thumbnail_is_the_raw_image_on_a_scale_of_255():
    images = torch.tensor([[[[0, 8, 16]]]] * 2, dtype=torch.uint8)
    held = TensorRows(images, torch.tensor([0, 1]))
    picture = Data(held, held, ("a", "b"), Normalise(16.0, (0.3,), (0.1,))).thumbnail(1)
    assert picture.dtype == torch.uint8
    assert picture.tolist() == [[[0, 127, 255]]]


@pytest.mark.parametrize("shape", [(4,), (2, 4, 4), (4, 4)])
def test_what_is_no_image_has_no_thumbnail(shape):
    held = TensorRows(torch.zeros(2, *shape), torch.tensor([0, 1]))
    assert Data(held, held, ("a", "b"), Normalise()).thumbnail(0) is None
