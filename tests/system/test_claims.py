"""Published claims, tried again: the ones that minutes suffice for, and what a verdict is."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from cli import ROOT
from hydra import compose, initialize_config_dir

sys.path.insert(0, str(ROOT / "scripts"))  # where the script finds its package

from published import bookkeeping, exactness, learning, low_budget, power, speed, table
from published.claim import (
    DIRECTION,
    FAILED,
    REPRODUCED,
    Claim,
    Finding,
    NotRunError,
    Options,
    judge,
)

DATA = Path(os.environ.get("DAL_DATA_DIR", ROOT.parent / "shared" / "data"))
mnist = pytest.mark.skipif(not (DATA / "MNIST/raw").is_dir(), reason=f"no MNIST in {DATA}")


def claims(folder, *arguments):
    command = [sys.executable, ROOT / "scripts/claims.py", "--quick", "--jobs", "1"]
    command += ["--data-dir", DATA, "--out", folder, *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "300"},
    )


def verdicts(folder):
    with (folder / "claims.csv").open(newline="") as stream:
        return {int(row["number"]): row["verdict"] for row in csv.DictReader(stream)}


def test_claim_1_the_maths_is_exact():
    found = exactness.exact(Options())
    assert found.verdict == REPRODUCED, found.ours


def test_claim_1_fails_where_the_maths_is_wrong(monkeypatch):
    monkeypatch.setattr(exactness, "mutual_information", lambda p: p.exp().var(1).sum(1))
    assert exactness.exact(Options()).verdict == FAILED


def test_claim_2_the_books_are_kept(tmp_path):
    ended = claims(tmp_path, "--claims", "2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert verdicts(tmp_path) == {2: REPRODUCED}


def test_claim_2_fails_where_dropout_is_drawn_in_training_mode(monkeypatch):
    class Training(bookkeeping.MCDropout):
        def draw(self, network, generator):
            network.train()(torch.randn(32, 1, 8, 8))
            return super().draw(network, generator)

    assert bookkeeping.changed_buffers() == 0
    monkeypatch.setattr(bookkeeping, "MCDropout", Training)
    assert bookkeeping.changed_buffers() > 0


@mnist
def test_claim_3_typicality_wins_at_few_labels():
    found = low_budget.typicality_wins(Options(data=DATA))
    assert found.verdict == REPRODUCED, found.ours


@mnist
@pytest.mark.slow
def test_claim_4_uncertainty_beats_random(tmp_path):
    ended = claims(tmp_path, "--claims", "4")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert verdicts(tmp_path)[4] == REPRODUCED


@pytest.mark.parametrize(("place", "quick"), [("cpu", False), ("cpu", True), ("cuda", False)])
def test_the_protocols_of_claims_that_train_are_sound(place, quick, edge, monkeypatch):
    asked = []

    def ask(options, name, *overrides):
        asked.append(overrides)
        raise NotRunError("only asked")

    monkeypatch.setattr(learning, "finished", ask)
    monkeypatch.setattr(learning, "need", lambda *_: None)
    monkeypatch.setattr(learning, "cifar10", lambda _: ["dataset=image_folder"])
    training = [claim for claim in table.CLAIMS if claim.attempt.__module__ == learning.__name__]
    for claim in training:
        with pytest.raises(NotRunError, match="only asked"):
            claim.attempt(Options(device=place, quick=quick))
    assert len(asked) == len(training) == 7
    with initialize_config_dir(str(edge.CONF), version_base="1.3"):
        for overrides in asked:
            first = [re.sub(r"^((?:strategy|seed)=[^,]*),.*", r"\1", one) for one in overrides]
            first = ["seed=0" if one.startswith("seed=range") else one for one in first]
            edge.settings_of(compose("config", ["logger=none", *first]))


@pytest.mark.parametrize("size", ["small", "full"])
def test_a_speed_is_compared_with_its_share_of_the_reported_time(size, monkeypatch):
    monkeypatch.setattr(speed, "seconds", lambda *_: 3.0)
    options = Options(device="cpu" if size == "small" else "cuda")

    def verdict(reported):
        return speed.faster(options, 10, 2, lambda **_: torch.ones(2), reported).verdict

    assert verdict(2.0) == FAILED
    assert verdict(4.0) == DIRECTION
    assert verdict(40.0) == (DIRECTION if size == "small" else REPRODUCED)


def test_claims_7_and_8_look_at_the_same_runs_on_every_device(monkeypatch):
    asked = []

    def ask(options, *protocol):
        asked.append(protocol)
        raise NotRunError("only asked")

    monkeypatch.setattr(learning, "finished", ask)
    monkeypatch.setattr(learning, "need", lambda *_: None)
    monkeypatch.setattr(speed, "samples", lambda *_: None)
    monkeypatch.setattr(speed, "seconds", lambda *_: 1.0)
    for device in ("cpu", "cuda"):
        for attempt in (learning.repeated_images, speed.stochastic_batches):
            with pytest.raises(NotRunError):
                attempt(Options(device=device))
    assert asked[0] == asked[1] != asked[2] == asked[3]


def test_a_target_that_a_run_never_reaches_is_no_saving():
    table = pd.DataFrame({"saving_0.9": [0.5, 0.6], "saving_bound_0.9": ["at most", ""]})
    assert learning.saved(table, 0.75)
    assert not learning.saved(table, 0.55)
    assert not learning.saved(table.replace("at most", "at least"), 0.75)


@pytest.mark.parametrize("quick", [True, False])
def test_a_short_version_that_ends_before_the_target_refutes_nothing(quick, monkeypatch):
    names = {"experiment": "e", "dataset": "d", "model": "m", "seed": 0}
    rounds = [
        names | {"strategy": name, "n_labelled": labels, "test/accuracy": labels / 100}
        for name in ("random", "bald", "variation_ratios")
        for labels in (20, 30)
    ]
    monkeypatch.setattr(learning, "finished", lambda *_: pd.DataFrame(rounds))
    monkeypatch.setattr(learning, "need", lambda *_: None)
    claim = Claim(5, "a", "b", learning.dbal_table)
    said = table.attempt(claim, Options(quick=quick)).verdict
    assert said.startswith("not run: too short" if quick else FAILED)


def test_claim_10_three_seeds_do_not_rank_and_what_was_chosen_is_said():
    found = power.seeds_decide(Options())
    assert found.verdict == REPRODUCED, found.ours
    assert "chosen after the results were seen" in found.ours


def test_power_is_the_share_of_experiments_that_find_a_difference():
    generator = torch.Generator().manual_seed(0)
    drawn = 0.8 + power.SPREAD[0.8] * torch.randn(20_000, 5, generator=generator)
    t = drawn.mean(1) / (drawn.std(1) / 5**0.5)
    assert power.power(0.8, 5) == pytest.approx((t.abs() > 2.776).double().mean().item(), abs=0.01)


def test_a_verdict_asks_for_the_sign_and_then_for_the_size():
    assert judge(direction=True, size=True) == REPRODUCED
    assert judge(direction=True, size=False) == DIRECTION
    assert judge(direction=False, size=True) == FAILED


def test_what_hinders_a_claim_is_its_verdict_and_the_others_run_on(tmp_path):
    def missing(options):
        raise NotRunError("no data")

    def broken(options):
        raise KeyError("two\nlines")

    rows = [
        table.attempt(Claim(1, "a", "b", missing), Options()),
        table.attempt(Claim(2, "a", "b", broken), Options()),
        table.attempt(Claim(3, "a", "b", missing, ("cuda",)), Options()),
        table.attempt(Claim(4, "a|b", "c", lambda options: Finding("d", FAILED)), Options()),
    ]
    told = [
        "not run: no data",
        "failed: KeyError: 'two\\nlines'",
        "not run: needs --device cuda",
        FAILED,
    ]
    assert [row.verdict for row in rows] == told
    assert [row.bad for row in rows] == [False, True, False, True]
    table.write(rows, tmp_path)
    assert list(verdicts(tmp_path).values()) == told
    assert "| 4 | a/b | c | d | not reproduced | cpu |" in (tmp_path / "claims.md").read_text()
    table.write([table.attempt(Claim(3, "a", "b", missing), Options(quick=True))], tmp_path)
    table.write([table.attempt(Claim(4, "a", "b", missing), Options())], tmp_path)
    with (tmp_path / "claims.csv").open(newline="") as stream:
        kept = [(row["number"], row["version"], row["verdict"]) for row in csv.DictReader(stream)]
    assert kept == [
        ("1", "cpu", told[0]), ("2", "cpu", told[1]), ("3", "cpu", told[2]),
        ("3", "cpu quick", told[0]), ("4", "cpu", told[0]),
    ]  # fmt: skip


def test_a_claim_that_does_not_exist_is_refused_in_one_line(tmp_path):
    ended = claims(tmp_path, "--claims", "1,99")
    assert ended.returncode == 2
    assert "no claim 99; there are 1, 2, 3" in ended.stderr.splitlines()[-1]


def test_without_data_a_claim_is_not_run(tmp_path):
    ended = claims(tmp_path / "out", "--claims", "3,4", "--data-dir", tmp_path)
    assert ended.returncode == 0
    assert set(verdicts(tmp_path / "out").values()) == {f"not run: no MNIST/raw in {tmp_path}"}
