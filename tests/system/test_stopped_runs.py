"""A run that is asked to stop closes and continues; sweeps by submitit without a cluster."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cli import QUIET, ROOT
from slurm_cluster import wait_until

SMALL = ["strategy=margin", "rounds=2", "steps=10"]
MARGIN = "default/digits-cnn/margin/seed=0"


def waiting(folder: Path, monkeypatch) -> list[str]:
    """Options with which a run waits in its second round for the file `margin` to go."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    place, logger = folder / "waiting", folder / "conf" / "logger"
    place.mkdir()
    (place / "margin").touch()
    logger.mkdir(parents=True)
    text = f"defaults: [wandb]\n_target_: waiting_log.WaitingLog\nplace: {place}\n"
    (logger / "waiting.yaml").write_text(text)
    return [f"--config-dir={folder / 'conf'}", "logger=waiting", *QUIET]


@pytest.mark.slow
def test_sigterm_ends_a_run_in_one_line_and_the_same_command_ends_as_if_without(
    train, folder, records, monkeypatch
):
    options = waiting(folder, monkeypatch)

    def interrupt():
        wait_until((folder / "waiting" / "margin waits").exists, "the second round")
        os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    ended = train(*options, *SMALL)
    watcher.join()
    assert ended.code == 143
    assert ended.err.splitlines() == [
        "stopped by SIGTERM; the same command continues after the last finished round"
    ]
    assert len(records(MARGIN)) == 1
    (folder / "waiting" / "margin").unlink()
    ended = train(*options, *SMALL)
    assert ended.code == 0, ended.err
    assert "continuing after round 0" in ended.out
    assert train(*SMALL, "name=whole", "logger=none").code == 0
    whole = records(MARGIN.replace("default", "whole"))
    assert [r["acquired"] for r in records(MARGIN)] == [r["acquired"] for r in whole]
    assert [r["test/nll"] for r in records(MARGIN)] == [r["test/nll"] for r in whole]


@pytest.mark.slow
def test_submitits_local_launcher_gives_what_the_basic_one_gives(train, folder, records):
    jobs = ["-m", "strategy=margin,random", "rounds=1", "steps=5", "logger=none"]
    assert train(*jobs, "name=basic").code == 0
    local = [*jobs, "name=local", "hydra/launcher=submitit_local"]
    command = [sys.executable, ROOT / "train.py", *local]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    for strategy in ("margin", "random"):
        basic, local = (records(f"{n}/digits-cnn/{strategy}/seed=0") for n in ("basic", "local"))
        assert [r["acquired"] for r in basic] == [r["acquired"] for r in local]
        assert [r["test/nll"] for r in basic] == [r["test/nll"] for r in local]
