"""Files from elsewhere are data: what would be executed, or fill the memory, is refused by name."""

import json
import os
import pickle
import shutil
import struct
import warnings
import zipfile
import zlib
from contextlib import suppress

import numpy as np
import pytest
import torch
from kept_runs import continued
from PIL import Image

from dal.data.image_folder import decode, image_folder
from dal.data.tensors import tensors
from dal.data.torchvision_sets import torchvision_set

CANARY = "canary"


class Executes:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (CANARY,)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in an empty folder, and see that nothing was executed."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Executes()))
    (tmp_path / CANARY).rmdir()  # so it would be seen
    yield tmp_path
    assert not (tmp_path / CANARY).exists()


def refused(name, read, *arguments, **options):
    with pytest.raises((ValueError, FileNotFoundError), match=name) as error:
        read(*arguments, **options)
    said = str(error.value)
    assert said.isprintable()
    assert len(said) < 1000
    assert "weights_only" not in said  # torch's own advice is to execute it
    return said


def zipped(file):
    torch.save({"inputs": torch.ones(2, 3), "targets": Executes()}, file)


def before_zip(file):
    torch.save(Executes(), file, _use_new_zipfile_serialization=False)


def pickled(file):
    file.write_bytes(pickle.dumps(Executes()))


def scripted(file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(file))


def objects(file):
    np.savez(file, inputs=np.ones((2, 3)), targets=np.array([Executes(), 1], dtype=object))


def one_object_array(file):
    with file.open("wb") as stream:
        np.save(stream, np.array([Executes()], dtype=object))


def text(file):
    file.write_text("inputs,targets\n1,2\n")


def of_an_archive(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("inputs.npy", pickle.dumps(Executes()))
        archive.writestr("targets.npy", pickle.dumps(Executes()))


@pytest.mark.parametrize(
    ("suffix", "make"),
    [
        *[(".pt", make) for make in (zipped, before_zip, pickled, scripted, objects, text)],
        *[(".npz", make) for make in (objects, pickled, one_object_array, of_an_archive, text)],
        (".npz", zipped),
    ],
)
def test_a_data_file_that_holds_more_than_arrays_is_refused(folder, suffix, make):
    file = folder / f"data{suffix}"
    made = folder / "made.npz"
    make(made)
    shutil.move(made, file)
    refused(rf"data\{suffix} cannot be read as plain arrays", tensors, file)


@pytest.mark.parametrize("make", [zipped, before_zip, pickled, scripted, objects, text])
def test_weights_that_hold_more_than_tensors_are_refused(folder, make):
    directory, _, _ = continued(folder / "run", 1)
    file = folder / "run" / "state" / "weights-0000.pt"
    file.unlink()
    make(folder / "made.npz")
    shutil.move(folder / "made.npz", file)
    refused(r"weights-0000\.pt is damaged", directory.load_weights, 0)


@pytest.mark.parametrize(
    "name", ["rounds.jsonl", "config.yaml", "state/pool.json", "state/data.json"]
)
@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Executes()),
        pickle.dumps(Executes()) + b"\n",
        json.dumps({"_target_": "os.mkdir", "_args_": [CANARY]}).encode() + b"\n",
        f"!!python/object/apply:os.mkdir [{CANARY}]\n".encode(),
        f"!!python/object/apply:os.mkdir\n- {CANARY}\n".encode(),
    ],
    ids=["pickle", "pickle with a line's end", "target", "tag", "tag in a block"],
)
def test_a_run_whose_files_hold_code_is_refused(folder, name, content):
    continued(folder / "run", 2)
    (folder / "run" / name).write_bytes(content)
    refused(name.rpartition("/")[2], continued, folder / "run")


@pytest.mark.parametrize("make", [pickled, text])
@pytest.mark.parametrize("name", ["MNIST", "CIFAR10", "CIFAR100"])
def test_published_data_sets_whose_files_hold_code_are_refused(folder, name, make):
    files = {
        "MNIST": ("MNIST/raw", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"]),
        "CIFAR10": ("cifar-10-batches-py", [f"data_batch_{n}" for n in range(1, 6)]),
        "CIFAR100": ("cifar-100-python", ["train"]),
    }
    inner, names = files[name]
    more = ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", "test", "test_batch"]
    (folder / inner).mkdir(parents=True)
    for file in [*names, *more, "meta", "batches.meta"]:
        make(folder / inner / file)
    refused(f"{name} is (damaged|not complete).*{inner}", torchvision_set, name, folder)


def bomb(file):
    """A PNG of a few kilobytes whose header asks for 40 gigapixels."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)
    image = (
        chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    )
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + image)


def truncated(file):
    Image.effect_noise((64, 64), 90).save(file, "PNG")
    file.write_bytes(file.read_bytes()[:-500])


def postscript(file):
    """What Pillow would hand to Ghostscript, whatever its suffix."""
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")


def archive(file):
    """A picture's first bytes, and a zip archive."""
    with zipfile.ZipFile(file, "w") as zipped_file:
        zipped_file.writestr("x", "y")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + file.read_bytes())


def empty(file):
    file.write_bytes(b"")


IMAGES = [bomb, truncated, postscript, archive, empty, pickled, text]


@pytest.mark.parametrize("memory_gb", [4.0, 0.0], ids=["in memory", "lazily"])
@pytest.mark.parametrize("make", IMAGES)
def test_a_file_that_is_no_picture_to_trust_is_named(folder, monkeypatch, make, memory_gb):
    programs = folder / "programs"
    programs.mkdir()
    for name in ("gs", "gswin64c", "convert", "djpeg"):
        (programs / name).write_text(f"#!/bin/sh\nmkdir {folder / CANARY}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # looked for once
    for name in ("cat", "dog"):
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8)).save(folder / "pictures" / name / f"{number}.png")
    file = folder / "pictures" / "dog" / "1.png"
    make(file)

    def read_all():
        data = image_folder(folder / "pictures", size=8, memory_gb=memory_gb, test_share=0.34)
        for rows in (data.train, data.test):
            rows[torch.arange(len(rows))]

    refused(r"cannot decode the image .*dog/1\.png", read_all)


def test_a_picture_with_the_suffix_of_another_kind_is_read_as_what_it_is(folder):
    Image.new("RGB", (8, 8), (255, 0, 0)).save(folder / "photo.png", "JPEG")
    assert decode(folder / "photo.png", 4)[0].min() > 250


def test_the_reader_of_postscript_is_what_the_canary_would_catch(folder, monkeypatch):
    (folder / "gs").write_text(f"#!/bin/sh\nmkdir {folder / 'called'}\nexit 0\n")
    (folder / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    postscript(folder / "a.png")
    with suppress(OSError, ValueError), Image.open(folder / "a.png") as image:
        image.load()
    assert (folder / "called").exists()
