"""Every experiment of the configuration really runs, cut down to two rounds of a few steps."""

from types import SimpleNamespace

import numpy as np
import pytest
from edge import CONF, composed, train_module
from PIL import Image
from torchvision import datasets

NAMES = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))
OWN = {  # the strategies that they are about, and what suits little data
    "badge_mlp": ["strategy=badge"],
    "batchbald_mnist": ["strategy=batch_bald", "posterior.samples=3"],
    "batchbald_repeated_mnist": ["strategy=batch_bald", "posterior.samples=3"],
    "cdalbench_fashion_mnist": ["strategy=bald", "posterior.samples=3"],
    "coreset_cifar10": ["strategy=coreset"],
    "long_tail": ["scenario.long_tail.ratio=10"],
    "gal2017_mnist": ["strategy=bald", "posterior.samples=3"],
    "low_budget_digits": ["features.epochs=1"],
    "realistic_al_cifar10": ["strategy=badge"],
    "typiclust_cifar10": [
        "strategy=typiclust", "features.epochs=1", "features.batch_size=64",
        "features.encoder.width=2",
    ],
}  # fmt: skip
TRAIN, TEST = 400, 40


def digits(rows, side):
    """Pictures whose brightness is their class."""
    classes = np.arange(rows) % 10
    noise = np.random.default_rng(0).integers(0, 60, (rows, side, side))
    return (noise + 19 * classes[:, None, None]).astype(np.uint8), classes.astype(np.uint8)


def idx(array):
    header = bytes([0, 0, 8, array.ndim])
    return header + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Files as the published ones are laid out, and a folder of images."""
    root = tmp_path_factory.mktemp("data")
    for part, rows in (("train", TRAIN), ("t10k", TEST)):
        images, classes = digits(rows, 28)
        for name in ("MNIST", "FashionMNIST"):
            folder = root / name / "raw"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
            (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(classes))
    for number, (image, label) in enumerate(zip(*digits(TRAIN, 32), strict=True)):
        folder = root / ("test" if number % 10 == label and number > 350 else "train") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    return root


@pytest.fixture
def edge(monkeypatch):
    """The module of the command line, beside a CIFAR-10 that has no files."""
    monkeypatch.setattr(datasets, "CIFAR10", cifar10)
    return train_module()


def cifar10(root, *, train, download):
    images, classes = digits(TRAIN if train else TEST, 32)
    return SimpleNamespace(data=images[..., None].repeat(3, 3), targets=classes.tolist())


def cut(config):
    """Overrides that leave what an experiment is made of, in a size that takes seconds."""
    sizes = {"rounds": 1, "query_size": 4, "initial_size": 20, "val_size": 30, "steps": 2,
             "epochs": 2, "batch_size": 16, "pool_subset": 80, "num_workers": 0}  # fmt: skip
    whole = {name: config[name] for name in sizes} | {"pool_subset": TRAIN}
    return [f"{name}={min(size, whole[name])}" for name, size in sizes.items() if whole[name]]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_runs(edge, data_dir, name, tmp_path):
    chosen = [
        f"experiment={name}",
        *OWN.get(name.removesuffix("_high").removesuffix("_medium"), []),
    ]
    where = [f"data_dir={data_dir}", f"cache_dir={tmp_path}", "logger=none", "trainer=cpu"]
    config = composed(*chosen, *where, *cut(composed(*chosen, *where)))
    accuracy = edge.experiment(config, tmp_path / "run", name, sweep=False)
    assert 0 <= accuracy <= 1
    lines = (tmp_path / "run/rounds.jsonl").read_text().splitlines()
    assert len(lines) == config.rounds + 1


@pytest.mark.parametrize("name", NAMES)
def test_a_cosine_ends_with_the_training(name):
    config = composed(f"experiment={name}")
    for key in {"T_max", "total_steps"} & {*(config.scheduler or {})}:
        assert config.scheduler[key] == (config.steps or 1) * config.epochs
