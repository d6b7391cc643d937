"""Data files that are no data, written by the name of what is wrong with them."""

import pickle
import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image

CANARY = "executed"


class Malicious:
    """Executes on unpickling."""

    def __reduce__(self):
        return Path.mkdir, (Path(CANARY),)


def arrays(**changes):
    """Arrays of a sound file with some replaced; those that are None are left out."""
    sound = {"inputs": torch.randn(60, 3), "targets": torch.arange(60) % 2} | changes
    return {name: value for name, value in sound.items() if value is not None}


def tensors(**changes):
    """What writes `rows.pt` with some arrays replaced."""
    return lambda: torch.save(arrays(**changes), "rows.pt")


def rows_with(value):
    """Inputs one of which holds a value."""
    inputs = torch.randn(60, 3)
    inputs[7, 1] = value
    return inputs


def truncated():
    torch.save(arrays(), "rows.pt")
    whole = Path("rows.pt").read_bytes()
    Path("rows.pt").write_bytes(whole[: len(whole) // 2])


def empty():
    Path("rows.npz").touch()


def objects():
    np.savez("rows.npz", inputs=np.array([{}] * 60), targets=np.arange(60) % 2)


def words():
    np.savez("rows.npz", inputs=np.array(["a"] * 60), targets=np.arange(60) % 2)


def executable():
    Path("rows.pt").write_bytes(pickle.dumps({"inputs": Malicious(), "targets": [0, 1]}))


def no_dictionary():
    torch.save(torch.zeros(3), "rows.pt")


def pictures(*places):
    """What writes a small picture at each place."""

    def write():
        for number, place in enumerate(places):
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number % 256, 9, 9)).save(place)

    return write


def broken_picture():
    pictures(*(f"data/{name}/{n}.png" for name in ("cat", "dog") for n in range(4)))()
    Path("data/dog/2.png").write_bytes(b"no picture")


def empty_class():
    pictures("data/cat/0.png", "data/cat/1.png")()
    Path("data/dog").mkdir()


def mnist(*, images=20, labels=20, cut=0):
    """What writes idx files of MNIST, with other counts or cut short."""

    def write():
        raw = Path("data/MNIST/raw")
        raw.mkdir(parents=True)
        pixels = struct.pack(">iiii", 2051, images, 28, 28) + bytes(images * 784)
        numbers = struct.pack(">ii", 2049, labels) + bytes(n % 10 for n in range(labels))
        for part in ("train", "t10k"):
            (raw / f"{part}-images-idx3-ubyte").write_bytes(pixels[: len(pixels) - cut])
            (raw / f"{part}-labels-idx1-ubyte").write_bytes(numbers)

    return write


def cifar_of_another():
    folder = Path("data/cifar-10-batches-py")
    folder.mkdir(parents=True)
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickle.dumps(Malicious()))


def embeddings(features, name="embeddings.npy"):
    """What writes a file for `features.path`."""

    def write():
        if name.endswith(".pt"):
            torch.save(features, name)
        else:
            np.save(name, features)

    return write
