"""image_folder on a few small pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from dal.data.image_folder import FileRows, decode, image_folder

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def paint(file, colour=RED, size=(8, 8), mode="RGB"):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(file)
    return file


def folder(root, **counts):
    """`<root>/<class>/<number>.png`, each class in a colour of its own."""
    for colour, (name, count) in zip((RED, GREEN, BLUE), counts.items(), strict=False):
        for number in range(count):
            paint(root / name / f"{number}.png", colour)
    return root


def noise(file, seed):
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (11, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)


both = pytest.mark.parametrize("memory_gb", [4.0, 0.0], ids=["in memory", "lazily"])


@both
def test_train_and_test_folders_are_read_as_they_are(tmp_path, memory_gb):
    folder(tmp_path / "train", cat=3, dog=2, owl=1)
    folder(tmp_path / "test", cat=1, dog=2)
    data = image_folder(tmp_path, size=8, memory_gb=memory_gb)
    assert data.classes == ("cat", "dog", "owl")
    assert data.train.targets.tolist() == [0, 0, 0, 1, 1, 2]
    assert data.test.targets.tolist() == [0, 1, 1]
    for part in (data.train, data.test):
        images = part[list(range(len(part)))]
        assert (images.dtype, images.shape[1:]) == (torch.uint8, (3, 8, 8))
        assert torch.equal(images.flatten(2).amax(2).argmax(1), part.targets)


def test_test_folders_count_by_the_classes_of_the_train_folders(tmp_path):
    folder(tmp_path / "train", cat=2, dog=2, owl=2)
    paint(tmp_path / "test" / "owl" / "0.png", BLUE)
    assert image_folder(tmp_path, size=8).test.targets.tolist() == [2]


def test_a_test_class_that_train_lacks_is_named(tmp_path):
    folder(tmp_path / "train", cat=2, dog=2)
    folder(tmp_path / "test", bee=1)
    with pytest.raises(ValueError, match="bee"):
        image_folder(tmp_path, size=8)


@both
def test_a_single_folder_is_split_in_the_shares_of_its_classes(tmp_path, memory_gb):
    folder(tmp_path, cat=10, dog=5)
    data = image_folder(tmp_path, size=8, test_share=0.2, memory_gb=memory_gb)
    assert data.train.targets.bincount().tolist() == [8, 4]
    assert data.test.targets.bincount().tolist() == [2, 1]
    images = data.test[[0, 1, 2]]
    assert torch.equal(images.flatten(2).amax(2).argmax(1), data.test.targets)


def test_lazily_decoded_equals_in_memory(tmp_path):
    for number in range(12):
        noise(tmp_path / "ab"[number % 2] / f"{number}.png", seed=number)
    held, lazy = (image_folder(tmp_path, size=8, memory_gb=gb) for gb in (4.0, 0.0))
    assert isinstance(lazy.train, FileRows)
    assert not isinstance(held.train, FileRows)
    for name in ("train", "test"):
        a, b = getattr(held, name), getattr(lazy, name)
        order = list(reversed(range(len(a))))
        assert torch.equal(a[order], b[order])
        assert torch.equal(a.targets, b.targets)
    assert held.normalise == lazy.normalise


def test_a_corrupt_image_is_named_when_the_set_is_held_in_memory(tmp_path):
    folder(tmp_path, cat=4, dog=4)
    (tmp_path / "dog" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.png"):
        image_folder(tmp_path, size=8)


def test_a_corrupt_image_is_named_when_it_is_decoded_lazily(tmp_path):
    folder(tmp_path / "train", cat=4, dog=4)
    folder(tmp_path / "test", cat=1)
    whole = (tmp_path / "test" / "cat" / "0.png").read_bytes()
    (tmp_path / "test" / "cat" / "1.png").write_bytes(whole[:-30])
    data = image_folder(tmp_path, size=8, memory_gb=0)
    assert data.test[[0]].shape == (1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"test.cat.1\.png"):
        data.test[[0, 1]]


@pytest.mark.parametrize("where", ["", "train"])
def test_an_empty_class_folder_is_named(tmp_path, where):
    for part in {where, where and "test"}:
        folder(tmp_path / part, cat=2, dog=2)
    (tmp_path / where / "owl").mkdir()
    (tmp_path / where / "owl" / "notes.txt").write_text("no picture")
    with pytest.raises(FileNotFoundError, match="owl"):
        image_folder(tmp_path, size=8)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        image_folder(tmp_path / "nowhere")


def test_a_folder_without_class_folders_is_named(tmp_path):
    paint(tmp_path / "0.png")
    with pytest.raises(FileNotFoundError, match="one folder per class"):
        image_folder(tmp_path)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_test_share_of_nothing_or_all_is_refused(tmp_path, share):
    with pytest.raises(ValueError, match="test_share"):
        image_folder(folder(tmp_path, cat=2, dog=2), test_share=share)


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "CMYK"])
def test_every_mode_is_turned_to_rgb(tmp_path, mode):
    suffix = "tif" if mode == "CMYK" else "png"
    white = paint(tmp_path / f"white.{suffix}", (255, 255, 255), mode=mode)
    black = paint(tmp_path / f"black.{suffix}", (0, 0, 0), mode=mode)
    assert torch.equal(decode(white, 4), torch.full((3, 4, 4), 255, dtype=torch.uint8))
    assert torch.equal(decode(black, 4), torch.zeros(3, 4, 4, dtype=torch.uint8))


def test_a_grey_image_has_its_grey_in_every_channel(tmp_path):
    file = paint(tmp_path / "grey.png", (100, 100, 100), mode="L")
    assert torch.equal(decode(file, 4), torch.full((3, 4, 4), 100, dtype=torch.uint8))


def test_a_palette_image_has_its_colours(tmp_path):
    file = paint(tmp_path / "green.png", GREEN, mode="P")
    assert decode(file, 4)[:, 0, 0].tolist() == [0, 255, 0]


def test_a_16_bit_grey_image_keeps_its_greys(tmp_path):
    pixels = np.full((4, 4), 0x8000, dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    assert int(decode(tmp_path / "deep.png", 4).float().mean()) in (127, 128)


def test_the_short_side_is_scaled_and_the_centre_cut_out(tmp_path):
    pixels = np.zeros((4, 12, 3), dtype=np.uint8)
    pixels[:, 4:8] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert torch.equal(decode(tmp_path / "wide.png", 4), torch.full((3, 4, 4), 255).byte())


def test_augmentation_is_asked_for(tmp_path):
    folder(tmp_path, cat=2, dog=2)
    assert image_folder(tmp_path, size=8, test_share=0.5).augment is None
    augment = image_folder(tmp_path, size=8, test_share=0.5, augment=True).augment
    assert augment(torch.zeros(3, 8, 8, dtype=torch.uint8)).shape == (3, 8, 8)
