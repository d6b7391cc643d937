"""Real MNIST and a part of CIFAR-10 as a folder, where the shared data is present."""

import tarfile

import pytest
from cli import ROOT

DATA = ROOT.parent / "shared" / "data"
SHORT = ["rounds=1", "steps=5", "logger=none", "pool_subset=300"]


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "MNIST/raw").is_dir(), reason=f"no MNIST in {DATA}")
def test_mnist_runs_from_torchvision_files(train, records):
    ended = train("experiment=mnist_200", "strategy=bald", f"data_dir={DATA}", *SHORT)
    assert ended.code == 0, ended.err
    first = records("mnist_200/mnist-lenet/bald/seed=0")[0]
    assert (first["n_labelled"], first["n_pool"]) == (20, 59_980)
    assert len(first["acquired"]) == 10


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "cifar10.tar.xz").is_file(), reason=f"no CIFAR-10 in {DATA}")
def test_an_image_folder_runs_with_resnet18(train, folder, records):
    wanted: dict[str, int] = {}
    with tarfile.open(DATA / "cifar10.tar.xz") as archive:
        for member in archive:
            place = member.name.rpartition("/")[0]
            if member.isfile() and wanted.setdefault(place, 0) < 40:
                wanted[place] += 1
                file = folder / member.name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(archive.extractfile(member).read())
    arguments = ["query_size=20", "initial_size=20", "strategy=entropy", "steps=3"]
    ended = train("experiment=cifar10_folder", "data_dir=cifar10", *SHORT, *arguments)
    assert ended.code == 0, ended.err
    rounds = records("cifar10_folder/image_folder-resnet18/entropy/seed=0")
    assert [record["n_labelled"] for record in rounds] == [20, 40]
    assert all(record["peak_memory_bytes"] > 0 for record in rounds)
