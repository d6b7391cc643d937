"""`python train.py strategy=...` from end to end, on digits."""

import re
import subprocess
import sys

import pytest
import yaml
from cli import ROOT

STRATEGIES = sorted(file.stem for file in (ROOT / "conf/strategy").glob("*.yaml"))
SHORT = ["rounds=1", "steps=10", "logger=none"]
KEYS = {
    "round",
    "n_labelled",
    "test/accuracy",
    "test/nll",
    "test/ece",
    "train_seconds",
    "acquisition_seconds",
    "peak_memory_bytes",
    "acquired",
    "acquired_labels",
    "scores",
}


@pytest.mark.slow
def test_the_main_job_runs_as_a_newcomer_types_it(folder):
    command = [sys.executable, ROOT / "train.py", "strategy=bald", "rounds=2"]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert ended.returncode == 0
    assert ended.stderr == ""
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("bald digits-cnn seed=0  20 labelled, 1277 in the pool")
    expected = r"bald on 1,277 candidates \(C = 10, K = 20\): pool pass about [\d.]+ s, selection "
    assert re.match(expected + r"(about|under) [\d.]+ s, 5.1 kB of \d+ .B free", lines[1])
    assert [line.split()[:4] for line in lines[2:5]] == [
        ["round", str(number), str(20 + 10 * number), "labels"] for number in range(3)
    ]
    run = folder / "runs/default/digits-cnn/bald/seed=0"
    assert str(run.relative_to(folder)) in ended.stdout
    assert (run / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert yaml.safe_load((run / "config.yaml").read_text())["query_size"] == 10
    assert sorted(file.name for file in (run / "state").iterdir()) == [
        "complete.json",
        "data.json",
        "lock",
        "pool.json",
        "wandb.json",
        "weights-0002.pt",
    ]
    assert len(list((run / "wandb").glob("offline-run-*"))) == 1


def test_a_run_has_one_more_round_than_purchases_and_says_what_each_trained_on(train, records):
    assert train("strategy=margin", "rounds=2", "steps=10", "logger=none").code == 0
    rounds = records("default/digits-cnn/margin/seed=0")
    assert [record["n_labelled"] for record in rounds] == [20, 30, 40]
    assert [len(record["acquired"]) for record in rounds] == [10, 10, 0]
    assert all(record.keys() >= KEYS for record in rounds)
    bought = rounds[0]["acquired"] + rounds[1]["acquired"]
    assert len(set(bought)) == 20


def test_the_same_command_twice_buys_the_same_items(train, records):
    for name in ("first", "second"):
        assert train("strategy=badge", f"name={name}", "rounds=2", *SHORT[1:]).code == 0
    first, second = (records(f"{name}/digits-cnn/badge/seed=0") for name in ("first", "second"))
    assert [r["acquired"] for r in first] == [r["acquired"] for r in second]
    assert [r["test/nll"] for r in first] == [r["test/nll"] for r in second]


def test_another_seed_buys_other_items(train, records):
    for seed in (0, 1):
        assert train("strategy=margin", f"seed={seed}", *SHORT).code == 0
    first, second = (records(f"default/digits-cnn/margin/seed={seed}")[0] for seed in (0, 1))
    assert first["acquired"] != second["acquired"]


@pytest.fixture(scope="module")
def start():
    """Test metrics of round 0 by strategy, as the tests of this module go on."""
    return {}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_buys_for_two_rounds_from_the_start_that_all_share(
    train, records, start, strategy
):
    ended = train(f"strategy={strategy}", "rounds=2", *SHORT[1:])
    assert ended.code == 0, ended.err
    rounds = records(f"default/digits-cnn/{strategy}/seed=0")
    assert [record["n_labelled"] for record in rounds] == [20, 30, 40]
    bought = rounds[0]["acquired"] + rounds[1]["acquired"]
    assert len(set(bought)) == 20
    start[strategy] = (rounds[0]["test/accuracy"], rounds[0]["test/nll"])
    assert len(set(start.values())) == 1


def test_strategies_differ_in_what_they_buy(train, records):
    bought = set()
    for strategy in ("random", "margin", "coreset", "badge"):
        assert train(f"strategy={strategy}", *SHORT).code == 0
        bought.add(tuple(records(f"default/digits-cnn/{strategy}/seed=0")[0]["acquired"]))
    assert len(bought) == 4


def test_a_complete_run_says_so_and_changes_nothing(train, records):
    assert train(*SHORT).code == 0
    before = records("default/digits-cnn/random/seed=0")
    again = train(*SHORT)
    assert again.code == 0
    assert "already complete" in again.out
    assert records("default/digits-cnn/random/seed=0") == before


def test_another_configuration_in_the_directory_is_refused_with_the_keys(train, records):
    assert train(*SHORT).code == 0
    before = records("default/digits-cnn/random/seed=0")
    ended = train(*SHORT, "query_size=7", "optimizer.lr=0.1")
    assert ended.code == 1
    assert "optimizer.lr (0.001 -> 0.1), query_size (10 -> 7)" in ended.err
    assert records("default/digits-cnn/random/seed=0") == before


def test_the_run_stops_when_the_pool_is_empty(train, records):
    arguments = ["initial_size=1200", "query_size=60", "rounds=9", "steps=2", "logger=none"]
    assert train(*arguments).code == 0
    rounds = records("default/digits-cnn/random/seed=0")
    assert [record["n_labelled"] for record in rounds] == [1200, 1260, 1297]
    assert [len(record["acquired"]) for record in rounds] == [60, 37, 0]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_takes_the_last_items_of_a_pool_smaller_than_the_query(train, records, strategy):
    arguments = ["initial_size=1270", "query_size=20", "rounds=9", "steps=2", "logger=none"]
    ended = train(f"strategy={strategy}", *arguments)
    assert ended.code == 0, ended.err
    rounds = records(f"default/digits-cnn/{strategy}/seed=0")
    assert [record["n_labelled"] for record in rounds] == [1270, 1290, 1297]
    assert len({index for record in rounds for index in record["acquired"]}) == 27


def test_validation_rows_are_counted_as_labels_used(train, records):
    assert train(*SHORT, "val_size=30").code == 0
    first = records("default/digits-cnn/random/seed=0")[0]
    assert (first["n_labelled"], first["labels_used"]) == (20, 50)
    assert "val/accuracy" in first


def test_the_csv_log_has_a_row_per_round(train, folder):
    assert train(*SHORT[:2], "logger=csv").code == 0
    text = (folder / "runs/default/digits-cnn/random/seed=0/rounds.csv").read_text()
    rows = [line.split(",") for line in text.splitlines()]
    assert len(rows) == 3
    assert [row[rows[0].index("n_labelled")] for row in rows[1:]] == ["20", "30"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["weights=warm"],
        ["weights=shrink_perturb"],
        ["steps=null", "epochs=2", "batch_size=8"],
        ["posterior=deterministic", "strategy=entropy"],
        ["initial=random", "initial_size=7"],
        ["initial=[5,6,7]"],
        ["strategy@score=margin"],
        ["trainer.precision=bf16-mixed", "strategy=bald"],
        ["trainer.precision=bf16-true", "strategy=bald"],
        ["trainer.precision=bf16-true", "strategy=badge", "posterior=laplace"],
        ["model=torchvision", "model.name=resnet18", "strategy=coreset", "initial_size=40"],
        ["initial_size=0", "strategy=bald"],
        ["strategy@score=margin", "strategy=weighted_kmeans"],
        ["strategy=epsilon", "strategy@strategy.strategies.greedy=badge"],
        ["strategy=bald", "posterior=ensemble", "posterior.samples=3"],
        ["strategy=batch_bald", "posterior=ensemble", "posterior.bootstrap=true"],
        ["strategy=epig", "posterior=laplace", "target=test"],
        ["strategy=power_bald", "posterior=laplace", "posterior.structure=diagonal"],
        ["strategy=mean_std", "posterior=head_dropout"],
        ["model=mlp"],
        ["model=bayesian_cnn"],
        ["scheduler={_target_:torch.optim.lr_scheduler.StepLR,_partial_:true,step_size:5}"],
    ],
    ids=" ".join,
)
def test_an_option_runs(train, records, arguments):
    ended = train(*SHORT, *arguments)
    assert ended.code == 0, ended.err


def test_help_names_every_strategy(train):
    ended = train("--help")
    assert ended.code == 0
    assert all(strategy in ended.out for strategy in STRATEGIES)
    assert "query_size: 10" in ended.out
