"""One new file and one new YAML, outside the project, are a strategy: it runs and is tested."""

import os
import subprocess
import sys

import pytest
from cli import ROOT

CODE = '''
"""Take the items that lie farthest from the origin."""

from dal.functional.checks import check_tensor


def farthest(*, features, power=2.0):
    """Score |h|^power."""
    check_tensor("features", features, "N", "D")
    return features.norm(dim=1) ** power
'''
YAML = "_target_: my_strategies.farthest.farthest\n_partial_: true\npower: 1.0\n"


@pytest.fixture
def own(folder):
    for name, text in (
        ("my_strategies/farthest.py", CODE),
        ("my_conf/strategy/farthest.yaml", YAML),
    ):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return os.environ | {"PYTHONPATH": str(folder)}


def run(command, environment, cwd=None):
    command = [sys.executable, *command]
    return subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_it_runs_through_train_py(folder, own):
    arguments = ["--config-dir", "my_conf", "strategy=farthest", "strategy.power=3"]
    arguments += ["rounds=1", "steps=5", "logger=none"]
    ended = run([ROOT / "train.py", *arguments], own)
    assert ended.returncode == 0, ended.stderr
    assert (folder / "runs/default/digits-cnn/farthest/seed=0/rounds.jsonl").exists()


@pytest.mark.slow
def test_it_runs_through_the_contract_suite_and_a_faulty_one_fails(folder, own):
    suite = ["-m", "pytest", "-p", "no:cacheprovider", ROOT / "tests/contracts"]
    suite += ["--strategy-dir", folder / "my_conf/strategy", "-k", "farthest"]
    ended = run(suite, own, ROOT)
    assert ended.returncode == 0, ended.stdout
    assert "passed" in ended.stdout
    (folder / "my_strategies/farthest.py").write_text(
        CODE.replace("features.norm", "features.abs_().norm")
    )
    faulty = run(suite, own, ROOT)
    assert faulty.returncode == 1, faulty.stdout
