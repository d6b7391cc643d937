"""Bad input ends with one line that says what was wanted and what came, and loses nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from dal.models.classifier import Classifier

CASES = {
    "unknown strategy": (["strategy=bal"], "did you mean bald?"),
    "unknown model": (["model=resnet81"], "did you mean resnet18?"),
    "unknown key": (["querysize=3"], "did you mean query_size?"),
    "unknown nested key": (["posterior.sample=3"], "posterior.sample is unknown"),
    "unreadable override": (["foo=("], "is no key=value"),
    "query size zero": (["query_size=0"], "query_size must be a whole number of at least 1, got 0"),
    "query size negative": (["query_size=-5"], "at least 1, got -5"),
    "query size a word": (["query_size=ten"], "got 'ten'"),
    "rounds negative": (["rounds=-1"], "rounds must be a whole number of at least 0, got -1"),
    "initial over the data": (["initial_size=5000"], "at most the 1297 rows"),
    "initial unknown": (["initial=diverse"], "random, balanced or a list"),
    "initial twice": (["initial=[3,3]"], "index 3 is given twice"),
    "initial outside": (["initial=[3,1297]"], "must lie between 0 and 1296, got 1297"),
    "validation takes all": (["val_size=1297"], "val_size must leave rows to buy"),
    "no steps": (["steps=0"], "steps must be a whole number of at least 1, got 0"),
    "no epochs": (["epochs=0"], "epochs must be a whole number of at least 1, got 0"),
    "seed a word": (["seed=abc"], "seed must be a whole number"),
    "one sample for bald": (["strategy=bald", "posterior=deterministic"], "K >= 2"),
    "one sample for dropout": (["strategy=bald", "posterior.samples=1"], "at least 2"),
    "no dropout layer": (["strategy=bald", "model=linear"], "the network has none"),
    "subset below query": (["pool_subset=5"], "pool_subset 5 is below query_size 10"),
    "missing mnist": (["dataset=mnist"], "images-idx3"),
    "missing cifar": (["dataset=cifar10"], "cifar-10-batches-py"),
    "no path": (["dataset=tensors"], "dataset.path has no value"),
    "missing file": (["dataset=tensors", "dataset.path=absent.npz"], "no file"),
    "missing folder": (["dataset=image_folder", "data_dir=absent"], "no folder"),
    "empty test set": (["dataset.test_size=0"], "dataset.test_size must be a whole number of at"),
    "spawned processes": (
        ["trainer=cpu", "trainer.strategy=ddp_spawn", "trainer.devices=2"],
        "trainer.strategy must be ddp",
    ),
    "diverged": (["strategy=margin", "optimizer.lr=1e30", "steps=20"], "diverged"),
    "shrink out of range": (
        ["weights=shrink_perturb", "weights.shrink=2", "rounds=1", "steps=1"],
        "weights.shrink must lie between 0 and 1, got 2",
    ),
}


STRATEGY_CASES = {
    "one sample for a joint score": (["strategy=batch_bald", "posterior=deterministic"], "K >= 2"),
    "one sample for a committee": (
        ["strategy=qbc_vote_entropy", "posterior=deterministic"],
        "K >= 2",
    ),
    "one sample below power": (["strategy=power_bald", "posterior=deterministic"], "K >= 2"),
    "one member": (["strategy=bald", "posterior=ensemble", "posterior.samples=1"], "at least 2"),
    "unknown structure": (["posterior=laplace", "posterior.structure=kron"], "structure must be"),
    "no target set": (["strategy=epig", "target=given"], "needs a dataset that brings target"),
    "unknown target": (["strategy=epig", "target=train"], "target must be pool, test or given"),
    "no features": (
        ["strategy=coreset", "model=bare"],
        "the strategy needs features and the model shows none",
    ),
    "no last layer": (
        ["strategy=drop_query", "model=bare"],
        "the strategy needs features and the model shows none",
    ),
    "a Fisher matrix too large": (
        ["strategy=bait", "model.width=2000"],
        "C·D must be at most 9000, got 10 x 2000",
    ),
    "radius of 0": (["strategy=prob_cover", "strategy.radius=0"], "radius must be a finite number"),
    "bandwidth of 0": (["strategy=max_herding", "strategy.bandwidth=0"], "bandwidth must be"),
    "negative temperature": (["strategy=power", "strategy.beta=-1"], "beta must be a finite"),
    "more clusters than items": (
        ["strategy=prob_cover", "strategy.clusters=5000"],
        "strategy.clusters must be at most the pool's 1277 items, got 5000",
    ),
    "a schedule that ends early": (
        ["strategy=schedule", "strategy.until.second=70", "rounds=9"],
        "the schedule must cover every query but ends at 70 labels, got one at 70",
    ),
    "a schedule that goes back": (
        ["strategy=schedule", "strategy.until.first=90", "strategy.until.second=70"],
        "until must ascend",
    ),
    "a share above 1": (["strategy=epsilon", "strategy.share=1.5"], "share must lie between 0"),
    "a share without a part": (["strategy=mixture", "+strategy.shares.x=1"], "shares must have"),
    "a score that selects": (["strategy=power", "strategy@score=badge"], "score must be a score"),
    "no file of features": (
        ["strategy=coreset", "features=frozen", "features.path=absent.npy"],
        "features.path: no file",
    ),
    "features of no images": (
        [
            "strategy=coreset",
            "features=self_supervised",
            "dataset=tensors",
            "dataset.path=rows.pt",
            "model=mlp",
        ],
        "takes images",
    ),
}


@pytest.mark.parametrize(("arguments", "said"), STRATEGY_CASES.values(), ids=STRATEGY_CASES.keys())
def test_a_strategy_that_cannot_run_says_so_before_any_training(
    train, folder, monkeypatch, arguments, said
):
    model = folder / "conf/model/bare.yaml"
    model.parent.mkdir(parents=True)
    model.write_text("_target_: bare_network.Bare\n_partial_: true\n")
    (folder / "bare_network.py").write_text(
        "import torch\nclass Bare(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.conv = torch.nn.Conv2d(1, 10, 8)\n"
        "    def forward(self, x):\n        return self.conv(x).flatten(1)\n"
    )
    monkeypatch.syspath_prepend(folder)
    torch.save({"inputs": torch.randn(60, 3), "targets": torch.arange(60) % 2}, "rows.pt")
    trained = []
    monkeypatch.setattr(Classifier, "training_step", lambda *_: trained.append(1))
    ended = train("--config-dir", "conf", "logger=none", *arguments)
    assert ended.code == 1
    lines = ended.err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert not trained


@pytest.mark.parametrize(("arguments", "said"), CASES.values(), ids=CASES.keys())
def test_bad_input_ends_with_one_line(train, folder, arguments, said):
    ended = train("logger=none", *arguments)
    assert ended.code == 1
    lines = ended.err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert "Traceback" not in ended.out + ended.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="the error is that there is no CUDA device")
def test_asking_for_an_absent_gpu_says_what_to_use_instead(train):
    ended = train("logger=none", "trainer=gpu")
    assert ended.code == 1
    assert "Use trainer=cpu" in ended.err


def test_a_corrupt_image_is_named(train, folder):
    for number in range(4):
        for name in ("cat", "dog"):
            file = folder / "data" / name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number, 9, 9)).save(file)
    (folder / "data" / "dog" / "2.png").write_bytes(b"not a picture")
    ended = train("logger=none", "dataset=image_folder", "dataset.size=8")
    assert ended.code == 1
    assert "dog/2.png" in ended.err.strip().splitlines()[-1]


def test_a_data_set_of_one_class_is_refused(train, folder):
    torch.save({"inputs": torch.randn(40, 3), "targets": torch.zeros(40).long()}, "one.pt")
    ended = train("logger=none", "model=mlp", "dataset=tensors", "dataset.path=one.pt")
    assert ended.code == 1
    assert "at least 2 classes" in ended.err


def test_nan_inputs_stop_the_run_and_are_named_as_nan(train, folder):
    inputs = torch.randn(60, 3)
    inputs[30:] = torch.nan
    torch.save({"inputs": inputs, "targets": torch.arange(60) % 2}, "nan.pt")
    ended = train("logger=none", "model=mlp", "dataset=tensors", "dataset.path=nan.pt")
    assert ended.code == 1
    assert "nan" in ended.err.lower()


def test_a_traceback_comes_when_it_is_asked_for(folder):
    script = Path(__file__).parents[2] / "train.py"
    environment = os.environ | {"HYDRA_FULL_ERROR": "1"}
    command = [sys.executable, script, "logger=none", "query_size=0"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
    assert ended.stderr.strip().endswith("at least 1, got 0")


def test_a_query_that_cannot_fit_is_refused_before_any_training(train, monkeypatch):
    monkeypatch.setattr("dal.acquisition_storage.free_bytes", lambda device: 10**6)
    monkeypatch.setattr(Classifier, "training_step", lambda *_: 1 / 0)
    ended = train("strategy=badge", "logger=none")
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1
    assert ended.err.startswith("error: badge on 1,277 candidates (D = 128, C = 10, K = 20) needs")
    assert "another strategy" in ended.err
    assert "round" not in ended.out.split("rounds of 10", 1)[1]
