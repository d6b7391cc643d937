"""The dataset factories that read arrays: digits, .npz and .pt files, torchvision's sets."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dal.data.data import channel_statistics
from dal.data.digits import digits
from dal.data.tensors import tensors
from dal.data.torchvision_sets import _KNOWN, crop_and_flip, torchvision_set

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_mnist = pytest.mark.skipif(
    not (SHARED / "MNIST" / "raw").is_dir(), reason=f"needs MNIST in {SHARED}"
)


class Intruder:
    """Makes a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def arrays(rows=20, test=0, width=3):
    numbers = np.arange(rows * width, dtype=np.float64).reshape(rows, width)
    held = {"inputs": numbers, "targets": np.arange(rows) % 2}
    if test:
        held |= {"test_inputs": -numbers[:test], "test_targets": np.arange(test) % 2}
    return held


def write(file, content):
    if file.suffix == ".npz":
        np.savez(file, **content)
    else:
        torch.save({name: torch.from_numpy(value) for name, value in content.items()}, file)
    return file


both = pytest.mark.parametrize("suffix", [".npz", ".pt"])


def test_digits_are_1297_to_buy_and_500_to_test_on():
    data = digits()
    assert (len(data.train), len(data.test), len(data.classes)) == (1297, 500, 10)
    assert data.input_shape == (1, 8, 8)


def test_digits_enter_the_network_divided_by_16():
    data = digits()
    assert data.train.inputs.dtype == torch.uint8
    assert int(data.train.inputs.max()) == 16
    batch = data.normalise(data.train[[0, 1]])
    assert torch.equal(batch, data.train[[0, 1]].float() / 16)


def test_the_test_digits_have_the_shares_of_the_whole_and_are_other_images():
    data = digits()
    counts = data.test.targets.bincount()
    whole = counts + data.train.targets.bincount()
    assert ((counts - 500 / 1797 * whole).abs() < 1).all()
    both = torch.cat([data.train.inputs, data.test.inputs]).flatten(1)
    assert len(both.unique(dim=0)) == 1797


def test_the_split_of_the_digits_is_fixed_by_its_seed():
    first, again, other = (digits(split_seed=seed).test.inputs for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@both
def test_arrays_without_a_test_part_are_split_in_their_shares(tmp_path, suffix):
    data = tensors(write(tmp_path / f"a{suffix}", arrays()), test_share=0.2)
    assert (len(data.train), len(data.test)) == (16, 4)
    assert data.test.targets.bincount().tolist() == [2, 2]
    everything = torch.cat([data.train.inputs, data.test.inputs])
    assert everything[:, 0].sort().values.tolist() == list(range(0, 60, 3))
    assert torch.equal(data.train.inputs[:, 0].long() // 3 % 2, data.train.targets)
    assert data.normalise(data.train[[0]]).dtype == torch.float32


@both
def test_arrays_with_a_test_part_are_not_split(tmp_path, suffix):
    data = tensors(write(tmp_path / f"a{suffix}", arrays(test=4)))
    assert (len(data.train), len(data.test)) == (20, 4)
    assert (data.test.inputs[1:] < 0).all()
    assert data.classes == ("0", "1")


def test_uint8_images_are_normalised_by_their_own_statistics(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 4, 4), dtype=np.uint8)
    file = write(tmp_path / "a.npz", {"inputs": images, "targets": np.arange(40) % 2})
    data = tensors(file)
    batch = data.normalise(data.train.inputs)
    torch.testing.assert_close(batch.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(batch.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)


@both
def test_class_names_may_be_given(tmp_path, suffix):
    file = write(tmp_path / f"a{suffix}", arrays())
    assert tensors(file, classes=["cat", "dog", "owl"]).classes == ("cat", "dog", "owl")


def test_an_object_array_is_refused_and_not_executed(tmp_path):
    trap = tmp_path / "trap"
    objects = np.empty(1, dtype=object)
    objects[0] = Intruder(trap)
    np.savez(tmp_path / "a.npz", inputs=objects, targets=np.zeros(1, dtype=np.int64))
    with pytest.raises(ValueError, match=r"a\.npz cannot be read as plain arrays"):
        tensors(tmp_path / "a.npz")
    assert not trap.exists()
    np.load(tmp_path / "a.npz", allow_pickle=True)["inputs"]
    assert trap.exists()


def test_a_pickle_in_a_pt_file_is_refused_and_not_executed(tmp_path):
    trap = tmp_path / "trap"
    torch.save({"inputs": Intruder(trap), "targets": torch.zeros(1)}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Intruder(trap)))
    for name in ("a.pt", "b.pt"):
        with pytest.raises(ValueError, match="cannot be read as plain arrays"):
            tensors(tmp_path / name)
    assert not trap.exists()


@both
@pytest.mark.parametrize("key", ["inputs", "targets"])
def test_a_missing_array_is_named(tmp_path, suffix, key):
    content = arrays()
    del content[key]
    with pytest.raises(ValueError, match=rf"missing \['{key}'\]"):
        tensors(write(tmp_path / f"a{suffix}", content))


@both
def test_a_truncated_file_is_named(tmp_path, suffix):
    file = write(tmp_path / f"short{suffix}", arrays())
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ValueError, match="short"):
        tensors(file)


@both
def test_a_missing_file_is_named(tmp_path, suffix):
    with pytest.raises(FileNotFoundError, match="gone"):
        tensors(tmp_path / f"gone{suffix}")


def test_another_kind_of_file_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("1,2\n")
    with pytest.raises(ValueError, match=r"\.npz or \.pt, got a\.csv"):
        tensors(tmp_path / "a.csv")


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 2.0])
def test_a_test_share_outside_0_and_1_is_refused(tmp_path, share):
    with pytest.raises(ValueError, match="test_share"):
        tensors(write(tmp_path / "a.npz", arrays()), test_share=share)


@needs_mnist
def test_mnist_is_60000_and_10000_uint8_images_with_the_known_statistics():
    data = torchvision_set("MNIST", SHARED)
    assert (data.train.inputs.shape, data.train.inputs.dtype) == ((60_000, 1, 28, 28), torch.uint8)
    assert data.test.inputs.shape == (10_000, 1, 28, 28)
    assert len(data.classes) == 10
    assert data.train.targets[:5].tolist() == [5, 0, 4, 1, 9]
    means, stds = channel_statistics(data.train.inputs)
    assert means == pytest.approx(data.normalise.mean, abs=1e-3)
    assert stds == pytest.approx(data.normalise.std, abs=1e-3)
    assert data.augment is None


@pytest.mark.parametrize("name", sorted(_KNOWN))
def test_missing_files_are_named_and_nothing_is_fetched(tmp_path, monkeypatch, name):
    def refuse(*args, **kwargs):
        raise AssertionError("a download was attempted")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    folder = tmp_path / _KNOWN[name].folder
    with pytest.raises(FileNotFoundError) as caught:
        torchvision_set(name, tmp_path)
    assert str(folder) in str(caught.value)
    assert _KNOWN[name].files in str(caught.value)
    assert list(tmp_path.rglob("*.gz")) == []


def test_an_unknown_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"MNIST, FashionMNIST.*got 'ImageNet'"):
        torchvision_set("ImageNet", tmp_path)


def test_digits_of_text_are_never_mirrored_and_pictures_are():
    assert [name for name, known in _KNOWN.items() if known.flips] == [
        "FashionMNIST",
        "CIFAR10",
        "CIFAR100",
    ]


def test_a_crop_without_flip_shifts_the_image_by_at_most_an_eighth():
    image = torch.arange(1, 65, dtype=torch.uint8).view(1, 8, 8)
    torch.manual_seed(0)
    crop = crop_and_flip(8, flip=False)
    padded = nn.functional.pad(image, (1, 1, 1, 1))
    shifts = [padded[:, y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
    crops = [crop(image) for _ in range(99)]
    found = [[torch.equal(shift, one) for shift in shifts].index(True) for one in crops]
    assert len(set(found)) == 9


def test_a_flip_mirrors_about_half_of_the_images():
    image = torch.arange(1, 65, dtype=torch.uint8).view(1, 8, 8)
    torch.manual_seed(0)
    crop = crop_and_flip(8)
    draws = [crop(image) for _ in range(200)]
    rising = sum(bool(draw[0, 4, 2] < draw[0, 4, 3]) for draw in draws)
    assert 60 < rising < 140
