"""Each torchvision set arrives as [N, channels, height, width] uint8, whatever its own layout."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision import datasets

from dal.data.torchvision_sets import torchvision_set


def idx(array):
    header = bytes([0, 0, 8, array.ndim])
    return header + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
def test_idx_files_are_read_by_torchvision_itself(name, tmp_path):
    folder = tmp_path / name / "raw"
    folder.mkdir(parents=True)
    images = np.arange(4 * 28 * 28, dtype=np.uint8).reshape(4, 28, 28)
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.array([1, 0, 9, 3], np.uint8)))
    data = torchvision_set(name, tmp_path)
    assert torch.equal(data.train.inputs, torch.from_numpy(images).unsqueeze(1))
    assert data.test.targets.tolist() == [1, 0, 9, 3]
    assert len(data.classes) == 10


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100", "SVHN"])
def test_colour_sets_have_their_channels_first(name, monkeypatch):
    images = np.arange(2 * 3 * 32 * 32, dtype=np.uint8).reshape(2, 3, 32, 32)
    stored = images if name == "SVHN" else images.transpose(0, 2, 3, 1)
    asked = []

    def stand_in(root, *, download, **part):
        asked.append((download, part))
        key = "labels" if name == "SVHN" else "targets"
        return SimpleNamespace(data=stored, **{key: [0, 1]})

    monkeypatch.setattr(datasets, name, stand_in)
    data = torchvision_set(name, "anywhere", augment=True)
    assert torch.equal(data.train.inputs, torch.from_numpy(images))
    assert data.train.targets.tolist() == [0, 1]
    key, values = ("split", ["train", "test"]) if name == "SVHN" else ("train", [True, False])
    assert asked == [(False, {key: value}) for value in values]
    assert data.augment(data.train[[0]][0]).shape == (3, 32, 32)
