"""What W&B's offline file says of a run, read back record by record."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli import QUIET, ROOT

from dal.callbacks.wandb_log import default_mode

ARGUMENTS = ["rounds=2", "query_size=5", "steps=5", *QUIET]


def inspect(file):
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def wandb_files(folder):
    def find(run):
        return sorted((folder / "runs" / run / "wandb").glob("offline-run-*/*.wandb"))

    return find


def test_every_round_is_in_the_offline_file_with_its_metrics(train, records, wandb_files):
    ended = train("strategy=bald", *ARGUMENTS)
    assert ended.code == 0, ended.err
    rounds = records("default/digits-cnn/bald/seed=0")
    (file,) = wandb_files("default/digits-cnn/bald/seed=0")
    lines = inspect(file)

    history = [line["history"]["item"] for line in lines if line["type"] == "history"]
    logged = [row for row in history if "test/accuracy" in row]
    assert [row["n_labelled"] for row in logged] == [20, 25, 30]
    for row, record in zip(logged, rounds, strict=True):
        for name in ("test/accuracy", "test/nll", "test/ece", "labels_used", "train_seconds"):
            assert row[name] == pytest.approx(record[name])
    assert [sum(row["query/classes.values"]) for row in logged[:2]] == [5, 5]
    assert any("curve.path" in row for row in history)

    (run,) = [line["run"] for line in lines if line["type"] == "run"][:1]
    assert (run["project"], run["run_group"]) == ("dal", "default/digits-cnn/bald")
    assert run["job_type"] == "bald"
    assert set(run["tags"]) == {"digits", "cnn", "bald"}
    steps = [line["metric"] for line in lines if line["type"] == "metric"]
    assert any(metric["step_metric"] == "n_labelled" for metric in steps)
    artifacts = {line["artifact"]["type"] for line in lines if line["type"] == "artifact"}
    assert "acquired" in artifacts
    assert [line["exit"]["exit_code"] for line in lines if line["type"] == "exit"] == [0]


def test_the_query_table_holds_index_label_score_and_picture(train, records, wandb_files):
    assert train("strategy=bald", *ARGUMENTS).code == 0
    first = records("default/digits-cnn/bald/seed=0")[0]
    (file,) = wandb_files("default/digits-cnn/bald/seed=0")
    (table,) = sorted(file.parent.glob("files/media/table/query/items_0_*.table.json"))
    content = json.loads(table.read_text())
    assert content["columns"] == ["index", "label", "score", "image"]
    assert [row[0] for row in content["data"]] == first["acquired"]
    assert [int(row[1]) for row in content["data"]] == first["acquired_labels"]
    assert [row[2] for row in content["data"]] == pytest.approx(first["scores"])
    tables = [
        line["artifact"]["manifest"]["contents"]
        for line in inspect(file)
        if line["type"] == "artifact" and line["artifact"]["type"] == "run_table"
    ]
    pictures = [entry for entry in tables[0] if entry["path"].endswith(".png")]
    assert len(pictures) == 5
    assert all(Path(entry["local_path"]).is_file() for entry in pictures)


def test_a_sweep_in_one_process_gives_each_job_its_own_run_in_its_group(train, wandb_files):
    ended = train("-m", "strategy=random,margin", "seed=range(2)", *ARGUMENTS, "rounds=0")
    assert ended.code == 0, ended.err
    runs = []
    for strategy in ("random", "margin"):
        for seed in (0, 1):
            (file,) = wandb_files(f"default/digits-cnn/{strategy}/seed={seed}")
            lines = inspect(file)
            runs += [line["run"] for line in lines if line["type"] == "run"][:1]
            assert sum(line["type"] == "exit" for line in lines) == 1
    assert len({run["run_id"] for run in runs}) == 4
    assert len({run["run_group"] for run in runs}) == 2


def test_a_failed_run_is_finished_too(train, wandb_files):
    ended = train("model=linear", "strategy=entropy", *ARGUMENTS)
    assert ended.code == 1
    (file,) = wandb_files("default/digits-linear/entropy/seed=0")
    assert [line["exit"]["exit_code"] for line in inspect(file) if line["type"] == "exit"] == [1]


def test_a_run_that_is_asked_again_logs_nothing_twice(train, wandb_files):
    assert train(*ARGUMENTS).code == 0
    assert train(*ARGUMENTS).code == 0
    assert len(wandb_files("default/digits-cnn/random/seed=0")) == 1


@pytest.mark.slow
def test_a_kill_loses_no_finished_round(folder, wandb_files):
    command = [sys.executable, "-u", ROOT / "train.py", "steps=5", *QUIET]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("round   3"):
                time.sleep(1)
                process.kill()
                break
    (file,) = wandb_files("default/digits-cnn/random/seed=0")
    history = [line["history"]["item"] for line in inspect(file) if line["type"] == "history"]
    assert {20, 30, 40, 50} <= {row["n_labelled"] for row in history}


def test_wandb_is_offline_without_a_key(folder):
    assert default_mode() == "offline"


def test_wandb_is_online_with_a_key_in_the_environment(folder, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert default_mode() == "online"


def test_wandb_is_online_with_a_key_for_its_own_server_only(folder, monkeypatch):
    (folder / ".netrc").write_text("machine wandb.example login user password secret\n")
    (folder / ".netrc").chmod(0o600)
    assert default_mode() == "offline"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example")
    assert default_mode() == "online"
