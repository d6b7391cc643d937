"""Scenarios: how many rows of which class are left, which rows, and what is refused."""

from dataclasses import replace

import kit
import pytest
import torch
from torch.nn.functional import interpolate

from dal.data.data import Data, Groups, ItemRows, Normalise, TensorRows
from dal.data.datamodule import ActiveDataModule
from dal.data.digits import digits
from dal.data.scenarios.corrupted import STRENGTHS, corrupted
from dal.data.scenarios.long_tail import long_tail
from dal.data.scenarios.missing_class import missing_class
from dal.data.scenarios.out_of_distribution import out_of_distribution
from dal.data.scenarios.redundant import redundant
from dal.pool import NO_CLASS


def counts(rows, classes=3):
    return rows.targets[rows.targets >= 0].bincount(minlength=classes).tolist()


def numbered(rows=90, classes=3):
    """Row i holds the number i and is of class i mod C, in both parts."""
    numbers = torch.arange(rows)
    part = TensorRows(numbers.float().unsqueeze(1), numbers % classes)
    return Data(part, part, tuple("abcdefghij"[:classes]), Normalise())


def inputs_of(rows):
    return rows[torch.arange(len(rows))].flatten()


def images(rows=12, side=16):
    """Smooth random textures, uint8, of two classes."""
    coarse = 200 * torch.rand(rows, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    inputs = interpolate(coarse, (side, side), mode="bilinear").to(torch.uint8)
    part = TensorRows(inputs, torch.arange(rows) % 2)
    return Data(part, part, ("a", "b"), Normalise(255.0))


def test_a_long_tail_is_the_exponential_profile():
    data = long_tail(numbered(3000), ratio=100)
    assert counts(data.train) == [1000, 100, 10]
    assert counts(data.test) == [1000, 1000, 1000]
    assert counts(long_tail(numbered(3000), ratio=1).train) == [1000, 1000, 1000]


def test_a_long_tail_keeps_its_ratio_where_the_classes_differ():
    whole = numbered(90)
    few = replace(whole, train=TensorRows(whole.train.inputs[12:], whole.train.targets[12:]))
    short = replace(few, train=TensorRows(few.train.inputs[::2], few.train.targets[::2]))
    for data, expected in ((few, [26, 13, 6]), (short, [13, 6, 3])):
        assert counts(long_tail(data, ratio=4).train) == expected


def test_a_long_tail_leaves_inputs_with_their_labels_and_follows_its_seed():
    first, again, other = (long_tail(numbered(300), ratio=10, seed=seed) for seed in (0, 0, 1))
    kept = inputs_of(first.train)
    assert torch.equal(kept.long() % 3, first.train.targets)
    assert torch.equal(kept, inputs_of(again.train))
    assert not torch.equal(kept, inputs_of(other.train))


@pytest.mark.parametrize("ratio", [0.5, 0, -1, float("inf"), 31])
def test_a_ratio_that_cannot_be_is_refused(ratio):
    with pytest.raises(ValueError, match="ratio must"):
        long_tail(numbered(90), ratio=ratio)


@pytest.mark.parametrize(("share", "left"), [(0.0, 0), (0.1, 3), (1.0, 30)])
def test_a_missing_class_has_its_share_of_train_rows_and_all_test_rows(share, left):
    data = missing_class(numbered(), classes=[1], share=share)
    assert counts(data.train) == [30, left, 30]
    assert counts(data.test) == [30, 30, 30]
    assert torch.equal(inputs_of(data.train).long() % 3, data.train.targets)
    assert data.classes == ("a", "b", "c")


@pytest.mark.parametrize("classes", [[], [3], [-1], [1, 1], [0, 1]])
@pytest.mark.parametrize("change", [missing_class, out_of_distribution])
def test_classes_that_are_none_or_too_many_are_refused(change, classes):
    with pytest.raises(ValueError, match="classes must"):
        change(numbered(), classes=classes)


def test_classes_moved_out_stay_in_the_pool_and_leave_the_test_set():
    data = out_of_distribution(numbered(), classes=[1])
    assert data.classes == ("a", "c")
    assert len(data.train) == 90
    assert torch.equal(inputs_of(data.train), torch.arange(90.0))
    assert data.train.targets[:6].tolist() == [0, NO_CLASS, 1, 0, NO_CLASS, 1]
    assert inputs_of(data.test)[:4].tolist() == [0, 2, 3, 5]
    assert data.test.targets[:4].tolist() == [0, 1, 0, 1]
    assert data.no_class


def test_another_dataset_joins_the_pool_without_classes():
    other = numbered(50)
    other = replace(other, train=TensorRows(other.train.inputs + 1000, other.train.targets))
    data = out_of_distribution(numbered(), other=other, rows=20)
    assert len(data.train) == 110
    assert (data.train.targets[90:] == NO_CLASS).all()
    assert torch.equal(inputs_of(data.train)[:90], torch.arange(90.0))
    joined = inputs_of(data.train)[90:]
    assert len(joined.unique()) == 20
    assert ((joined >= 1000) & (joined < 1050)).all()
    mixed = data.train[torch.tensor([95, 3, -1, 0])].flatten()
    assert mixed.tolist() == [joined[5], 3, joined[-1], 0]
    assert len(data.test) == 90
    assert len(out_of_distribution(numbered(), [1], other).train) == 140


def test_another_dataset_may_be_one_that_is_read_item_by_item():
    items = [(torch.full((1,), float(i)), i % 3) for i in range(9)]
    rows = ItemRows(items)
    data = Data(rows, rows, ("a", "b", "c"), Normalise())
    joined = out_of_distribution(data, other=data).train
    assert joined[[0, 4]].flatten().tolist() == [0, 4]
    assert sorted(joined[torch.arange(9, 18)].flatten().tolist()) == [*range(9)]


def test_another_dataset_of_another_shape_or_scale_is_refused():
    with pytest.raises(ValueError, match=r"shape \[1\] and scale 1.0, got \[4\] and 1.0"):
        out_of_distribution(numbered(), other=kit.toy_data())
    other = replace(numbered(), normalise=Normalise(255.0))
    with pytest.raises(ValueError, match=r"scale 1.0, got \[1\] and 255.0"):
        out_of_distribution(numbered(), other=other)


def test_groups_follow_the_test_rows_that_stay():
    groups = Groups(torch.arange(90) // 45, ("first", "second"))
    data = out_of_distribution(replace(numbered(), groups=groups), classes=[1])
    assert torch.equal(data.test_groups.of, inputs_of(data.test).long() // 45)


def test_scenarios_are_applied_one_after_the_other():
    data = out_of_distribution(numbered(3000, 4), classes=[3])
    data = redundant(long_tail(data, ratio=4), repeats=2, noise=0.0)
    assert counts(data.train) == [1500, 750, 374]
    assert (data.train.targets == NO_CLASS).sum() == 1500
    assert torch.equal(inputs_of(data.train)[::2], inputs_of(data.train)[1::2])
    data = missing_class(data, classes=[0])
    assert counts(data.train) == [0, 750, 374]
    assert counts(long_tail(data, ratio=2).train) == [0, 528, 374]


def test_each_corruption_hits_as_many_test_images_and_the_rest_are_clean():
    data = corrupted(images(100), severity=5, share=0.5)
    sizes = data.groups.of.bincount(minlength=6).tolist()
    assert dict(zip(data.groups.names, sizes, strict=True)) == dict.fromkeys(STRENGTHS, 10) | {
        "clean": 50
    }
    before, after = images(100).test, data.test
    changed = (before[torch.arange(100)] != after[torch.arange(100)]).flatten(1).any(1)
    assert torch.equal(changed, data.groups.of != 5)
    assert after[[0]].dtype == torch.uint8
    assert torch.equal(data.train[torch.arange(100)], before[torch.arange(100)])


def statistics(name, severity):
    data = corrupted(images(4, 32), [name], severity)
    image = data.test[torch.arange(4)].float() / 255
    still = images(4, 32).test[torch.arange(4)].float() / 255
    return image, still


def test_noise_has_its_standard_deviation_where_nothing_is_cut_off():
    grey = images(4, 64)
    grey.test.inputs.fill_(128)
    noise = corrupted(grey, ["noise"], severity=1).test[torch.arange(4)].float() / 255 - 128 / 255
    assert noise.std().item() == pytest.approx(0.08, rel=0.03)


def test_brightness_is_added_and_contrast_taken_away():
    image, still = statistics("brightness", 2)
    assert (image - (still + 0.2).clamp(max=1)).abs().max() < 1 / 255
    image, still = statistics("contrast", 3)
    after, before = (
        torch.stack([one.mean((1, 2, 3)), one.std((1, 2, 3))]) for one in (image, still)
    )
    torch.testing.assert_close(after[0], before[0], atol=1 / 255, rtol=0)
    torch.testing.assert_close(after[1], 0.3 * before[1], atol=0, rtol=0.03)


def test_blur_spreads_a_point_by_its_standard_deviation():
    point = images(2, 33)
    point.test.inputs.zero_()
    point.test.inputs[:, :, 16, 16] = 255
    floats = TensorRows(point.test.inputs.double() / 255, point.test.targets)
    data = corrupted(replace(point, test=floats, normalise=Normalise()), ["blur"], severity=4)
    spread = data.test[[0]][0, 0]
    place = torch.arange(33) - 16.0
    assert spread.sum().item() == pytest.approx(1, abs=1e-4)
    assert (spread.sum(0) * place**2).sum().item() ** 0.5 == pytest.approx(0.06 * 33, rel=0.05)


def test_pixelation_leaves_few_pixels():
    image, _ = statistics("pixelation", 5)
    blocks = image.view(4, 1, 8, 4, 8, 4)
    assert (blocks.amax((3, 5)) == blocks.amin((3, 5))).all()


@pytest.mark.parametrize("name", STRENGTHS)
def test_a_corruption_grows_with_its_severity(name):
    away = []
    for severity in range(1, 6):
        image, still = statistics(name, severity)
        away.append((image - still).square().mean().item())
        assert 0 <= image.min() <= image.max() <= 1
    assert away[0] > 0
    assert min(away[3:]) > max(away[:2])
    assert away[-1] > 1.5 * away[0]


def test_a_corrupted_row_is_the_same_whenever_it_is_read():
    data, again, other = (corrupted(images(), ["noise"], seed=seed) for seed in (0, 0, 1))
    whole = data.test[torch.arange(12)]
    assert torch.equal(data.test[[7, 2]], whole[[7, 2]])
    assert torch.equal(data.test[torch.tensor([-1])], whole[-1:])
    assert torch.equal(again.test[torch.arange(12)], whole)
    assert not torch.equal(other.test[torch.arange(12)], whole)


@pytest.mark.parametrize("name", STRENGTHS)
def test_small_images_can_be_corrupted(name):
    data = corrupted(digits(), [name], severity=5)
    assert data.test[[0, 1]].shape == (2, 1, 8, 8)
    assert (data.test[torch.arange(50)] != digits().test[torch.arange(50)]).any()
    assert data.test[torch.arange(50)].max() <= 16


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"corruptions": []}, "corruptions must be some of noise, .*got none"),
        ({"corruptions": ["fog"]}, "got fog"),
        ({"corruptions": ["blur", "blur"]}, "different names"),
        ({"severity": 0}, "severity must"),
        ({"severity": 6}, "severity must"),
        ({"share": 1.5}, "share must"),
    ],
)
def test_corruptions_that_mean_nothing_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        corrupted(images(), **options)


@pytest.mark.parametrize(("low", "high"), [(-0.5, 0.5), (0.0, 255.0)])
def test_floats_that_do_not_lie_between_0_and_1_are_not_corrupted(low, high):
    data = images()
    values = torch.linspace(low, high, 3 * data.test[[0]].numel()).reshape(
        3, *data.test[[0]].shape[1:]
    )
    test = TensorRows(values, torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match=f"from 0 to 1, got {low:g} to {high:g}; give bytes"):
        corrupted(replace(data, test=test, normalise=Normalise()))


def test_what_is_no_image_is_not_corrupted():
    with pytest.raises(ValueError, match="corruptions need images"):
        corrupted(kit.toy_data())


def test_a_balanced_start_is_of_the_classes_alone():
    data = out_of_distribution(numbered(), classes=[1])
    module = ActiveDataModule(data, initial="balanced", initial_size=10)
    assert module.pool.labels.bincount().tolist() == [5, 5]
    with pytest.raises(ValueError, match=r"at most the 60 rows of a class .*got 61"):
        ActiveDataModule(data, initial="balanced", initial_size=61)
