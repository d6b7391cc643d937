"""What W&B's offline file says of a run, read back record by record."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli import QUIET, ROOT
from wandb_files import inspect, wait_for_end

from dal.callbacks.wandb_log import default_mode

ARGUMENTS = ["rounds=2", "query_size=5", "steps=5", *QUIET]


@pytest.fixture
def segments(folder):
    def find(run):
        return sorted((folder / "runs" / run / "wandb").glob("offline-run-*/*.wandb"))

    return find


def test_every_round_is_in_the_offline_file_with_its_metrics(train, records, segments):
    ended = train("strategy=bald", *ARGUMENTS)
    assert ended.code == 0, ended.err
    rounds = records("default/digits-cnn/bald/seed=0")
    (file,) = segments("default/digits-cnn/bald/seed=0")
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


def test_the_query_table_holds_index_label_score_and_picture(train, records, segments):
    assert train("strategy=bald", *ARGUMENTS).code == 0
    first = records("default/digits-cnn/bald/seed=0")[0]
    (file,) = segments("default/digits-cnn/bald/seed=0")
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


def test_a_sweep_in_one_process_gives_each_job_its_own_run_in_its_group(train, segments):
    ended = train("-m", "strategy=random,margin", "seed=range(2)", *ARGUMENTS, "rounds=0")
    assert ended.code == 0, ended.err
    runs = []
    for strategy in ("random", "margin"):
        for seed in (0, 1):
            (file,) = segments(f"default/digits-cnn/{strategy}/seed={seed}")
            lines = inspect(file)
            runs += [line["run"] for line in lines if line["type"] == "run"][:1]
            assert sum(line["type"] == "exit" for line in lines) == 1
    assert len({run["run_id"] for run in runs}) == 4
    assert len({run["run_group"] for run in runs}) == 2


def test_a_failed_run_is_finished_too(train, segments):
    ended = train("model=linear", "strategy=entropy", *ARGUMENTS)
    assert ended.code == 1
    (file,) = segments("default/digits-linear/entropy/seed=0")
    assert [line["exit"]["exit_code"] for line in inspect(file) if line["type"] == "exit"] == [1]


def test_why_a_run_stopped_is_logged_with_its_last_round(train, records, segments):
    assert train("stopping=budget", "stopping.budget.limit=25", *ARGUMENTS).code == 0
    *_, last = records("default/digits-cnn/random/seed=0")
    assert last["stopped"].startswith("budget: ")
    (file,) = segments("default/digits-cnn/random/seed=0")
    rows = [line["history"]["item"] for line in inspect(file) if line["type"] == "history"]
    said = [row.get("stopped") for row in rows if "test/accuracy" in row]
    assert said == [None, last["stopped"]]


def test_a_run_that_is_asked_again_logs_nothing_twice(train, segments):
    assert train(*ARGUMENTS).code == 0
    (file,) = segments("default/digits-cnn/random/seed=0")
    wait_for_end(file)
    again = train(*ARGUMENTS)
    assert again.code == 0
    assert "wandb" not in again.out
    assert segments("default/digits-cnn/random/seed=0") == [file]


def test_a_run_without_wandb_that_is_asked_again_says_nothing_of_it(train, segments, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    for _ in range(2):
        ended = train(*ARGUMENTS, "rounds=0")
        assert ended.code == 0
        assert "wandb" not in ended.out
    assert segments("default/digits-cnn/random/seed=0") == []


def test_a_continued_run_keeps_its_id_and_says_how_to_upload_all_of_it(train, segments):
    run = "default/digits-cnn/random/seed=0"
    assert train(*ARGUMENTS).code == 0
    (first,) = segments(run)
    wait_for_end(first)
    first.write_bytes(first.read_bytes()[:-2000])  # as a kill leaves it
    ended = train(*ARGUMENTS)
    assert ended.code == 0, ended.err
    assert "logging the end of this run, which W&B does not have" in ended.out
    both = segments(run)
    assert len({file.name for file in both}) == 1
    assert f"wandb sync runs/{run}/wandb/offline-run-*-{both[0].stem.removeprefix('run-')}" in (
        ended.out
    )
    steps = [
        line["history"]["item"]["_step"]
        for file in both
        for line in inspect(file)
        if line["type"] == "history"
    ]
    assert sorted(steps) == [0, 1, 2, 3]


@pytest.mark.parametrize("content", ["", "[]", '{"id": 3}', '{"id": "../../x"}', "[" * 100_000])
def test_a_damaged_id_is_refused_with_its_file(train, folder, content):
    assert train(*ARGUMENTS, "rounds=0").code == 0
    file = Path("runs/default/digits-cnn/random/seed=0/state/wandb.json")
    file.write_text(content)
    ended = train(*ARGUMENTS, "rounds=0")
    assert ended.code == 1
    (line,) = ended.err.splitlines()
    assert line.startswith(f"error: {file} is damaged (")
    assert line.endswith("); delete it to log anew")
    assert file.read_text() == content


@pytest.mark.slow
def test_a_kill_loses_no_finished_round(folder, segments):
    command = [sys.executable, "-u", ROOT / "train.py", "steps=5", *QUIET]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("round   3"):
                time.sleep(1)
                process.kill()
                break
    (file,) = segments("default/digits-cnn/random/seed=0")
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
