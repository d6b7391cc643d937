"""The command line inside the test process, in an empty folder, without W&B's machine probes."""

import json
import sys
from dataclasses import dataclass

import pytest
from cli import ROOT
from edge import train_module


@dataclass
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory, with W&B's caches inside it and no key."""
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_API_KEY", "WANDB_MODE", "DAL_DATA_DIR", "HYDRA_FULL_ERROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb-files"))
    return tmp_path


@pytest.fixture
def edge():
    """The module of the command line."""
    return train_module()


@pytest.fixture
def train(edge, folder, monkeypatch, capfd):
    """Call `train.py` with arguments, as a shell would."""
    monkeypatch.setenv("DAL_TRACEBACK", "0")

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", [str(ROOT / "train.py"), *arguments])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
        capfd.readouterr()
        code = 0
        try:
            edge.cli()
        except SystemExit as stop:
            if isinstance(stop.code, str):
                sys.stderr.write(f"{stop.code}\n")
            code = 0 if stop.code is None else stop.code if isinstance(stop.code, int) else 1
        out, err = capfd.readouterr()
        return Ended(code, out, err)

    return call


@pytest.fixture
def records(folder):
    """Read the rounds of a run by its place below `runs/`."""

    def read(run: str) -> list[dict]:
        text = (folder / "runs" / run / "rounds.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    return read
