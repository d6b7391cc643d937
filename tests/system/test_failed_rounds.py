"""A round whose numbers go wrong ends the run with the reason; the same command continues it."""

import os
import subprocess
import sys

import pytest
from cli import ROOT

NETWORK = """
import math
from pathlib import Path
import torch
from torch import nn

class Fragile(nn.Module):
    def __init__(self, input_shape, num_classes):
        super().__init__()
        self.body = nn.Linear(math.prod(input_shape), 16)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(16, num_classes)
        cause, rounds = Path("cause"), Path("runs/broken/rounds.jsonl")
        kept = len(rounds.read_text().splitlines()) if rounds.exists() else 0
        self.wrong = cause.read_text() if cause.exists() and kept >= 2 else ""

    def features(self, inputs):
        hidden = self.body(inputs.flatten(1)).relu()
        if self.training or self.wrong not in ("dead", "exploding"):
            return hidden
        return hidden * (1e25 if self.wrong == "exploding" else 0)

    def forward(self, inputs):
        logits = self.head(self.drop(self.features(inputs)))
        if self.wrong == "loss" and self.training:
            return logits * math.nan
        if self.wrong == "tested" and not self.training:
            return logits * math.nan
        if self.wrong == "infinite" and not self.training:
            return logits + math.inf
        if Path("cause").exists() and Path("cause").read_text() == "narrow" and not self.training:
            if len(inputs) > 100:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return logits
"""
ARGUMENTS = [
    "--config-dir", "conf", "model=fragile", "logger=none", "posterior=deterministic", "rounds=3",
    "steps=5", "name=broken", "hydra.run.dir=runs/broken",
]  # fmt: skip
CLOCKS = {"train_seconds", "acquisition_seconds", "test_seconds", "peak_memory_bytes"}
CAUSES = {
    "loss": ("margin", "error: round 2, step 1: the training loss is nan: training diverged"),
    "tested": ("random", "error: round 2: test/nll is nan; a metric must be a finite number"),
    "infinite": ("margin", "error: the model gives NaN or infinite logits"),
    "dead": ("margin", "error: round 2: the model gives exactly the same probabilities for all"),
    "exploding": ("coreset", "error: features must have finite distances"),
}


@pytest.fixture
def fragile(train, folder, monkeypatch):
    """Run a network that goes wrong, from its third round on, while the file `cause` says so."""
    model = folder / "conf/model/fragile.yaml"
    model.parent.mkdir(parents=True)
    model.write_text("_target_: fragile_network.Fragile\n_partial_: true\n")
    (folder / "fragile_network.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(folder)

    def call(name, strategy):
        return train(*ARGUMENTS[:-1], f"strategy={strategy}", f"hydra.run.dir=runs/{name}")

    return call


def timeless(records):
    return [{k: v for k, v in record.items() if k not in CLOCKS} for record in records]


@pytest.mark.parametrize("cause", CAUSES)
def test_a_round_that_fails_keeps_what_was_bought_and_is_made_again(
    fragile, folder, records, cause
):
    strategy, said = CAUSES[cause]
    assert fragile("whole", strategy).code == 0
    whole = timeless(records("whole"))
    (folder / "cause").write_text(cause)
    ended = fragile("broken", strategy)
    assert ended.code == 1
    (line,) = ended.err.strip().splitlines()
    assert line.startswith(said)
    assert timeless(records("broken")) == whole[:2]
    again = fragile("broken", strategy)  # nothing has changed
    assert (again.code, again.err) == (1, ended.err)
    assert timeless(records("broken")) == whole[:2]
    (folder / "cause").unlink()
    ended = fragile("broken", strategy)
    assert (ended.code, ended.err) == (0, "")
    assert "continuing after round 1" in ended.out
    assert timeless(records("broken")) == whole


def test_a_pool_pass_out_of_memory_goes_on_and_says_so_once_on_the_terminal(
    fragile, folder, records
):
    assert fragile("whole", "margin").code == 0
    (folder / "cause").write_text("narrow")
    ended = subprocess.run(  # pytest's own handlers would take the line
        [sys.executable, ROOT / "train.py", *ARGUMENTS, "strategy=margin"],
        env=os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    line = "out of memory on cpu at batches of 512 rows; going on with 64"
    assert (ended.returncode, ended.stderr.strip()) == (0, line)
    assert line not in ended.stdout
    whole, halved = records("whole"), records("broken")
    assert [record["acquired"] for record in halved] == [record["acquired"] for record in whole]
