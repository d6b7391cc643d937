"""run_rounds by two processes, started by Lightning or by torchrun."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import kit
import lightning.pytorch as pl
import pytest
import torch
from processes import SECONDS, TORCHRUN, answers_of_script, environment, script_of

from dal.callbacks.round_log import RoundLog
from dal.data.datamodule import ActiveDataModule
from dal.loop import PLAIN_TRAINER, run_rounds
from dal.models.classifier import Classifier
from dal.oracles.dataset import DatasetOracle
from dal.posteriors.ensemble import Ensemble
from dal.posteriors.mc_dropout import MCDropout
from dal.run_directory import RunDirectory
from dal.strategies.badge import badge
from dal.strategies.bald import bald
from dal.strategies.coreset import coreset
from dal.strategies.learning_loss import learning_loss
from dal.strategies.random import random

STRATEGIES = [badge, bald, coreset, random]
DDP = {"devices": 2, "strategy": "ddp"}


class Oracle(DatasetOracle):
    """Counts how often it is asked."""

    asked = 0

    def __call__(self, indices):
        self.asked += 1
        return super().__call__(indices)


class Hooks(RoundLog):
    """Notes what it is told, and dies in a step of a round."""

    def __init__(self, die=None):
        self.told, self.die = [], die

    def on_round_end(self, run, record):
        self.told.append(record["round"])

    def on_run_end(self, run):
        self.told.append("end")


class DieAt(pl.Callback):
    """Ends a process in the middle of a round's training."""

    def __init__(self, round, step, how):
        self.round, self.step, self.how = round, step, how

    def on_train_batch_start(self, trainer, *_):
        if trainer.datamodule.round == self.round and trainer.global_step == self.step:
            self.how(trainer)


def kill_both(_):
    raise kit.KilledError


def module(lr, dropout):
    return Classifier(kit.toy_network(dropout=dropout), 3, lambda p: torch.optim.SGD(p, lr=lr))


def buy(directory=None, *, strategy=bald, lr=0.05, dropout=0.5, die=None, logs=(), where=None,
        every=None, posterior=None, rounds=2, steps=6, batch_size=16, **ends):  # fmt: skip
    """Run some rounds on 61 test rows, which two processes cannot share evenly."""
    data = ActiveDataModule(
        kit.toy_data(test=61), Oracle, initial_size=9, val_size=7, steps=steps,
        batch_size=batch_size, eval_batch_size=32,
    )  # fmt: skip
    callbacks = [die] if die else []

    def trainer(callbacks=(), **options):
        return PLAIN_TRAINER(accelerator="cpu", callbacks=[*callbacks, *extra], **options)

    extra = callbacks
    records = run_rounds(
        data,
        model=partial(module, lr, dropout),
        strategy=strategy,
        rounds=rounds,
        query_size=5,
        posterior=posterior or MCDropout(4),
        trainer=partial(trainer, **(DDP if where is None else where)),
        directory=directory,
        checkpoint_every_n_steps=every,
        config={"x": 1},
        logs=logs,
        **ends,
    )
    return kit.timeless(records), data


def everything(folder):
    """All that two processes are asked, in one start of them."""
    folder, known = Path(folder), {}
    for strategy in STRATEGIES:
        known[strategy.__name__] = buy(strategy=strategy, lr=0.0)[0]
    known["exact"] = buy(dropout=0.0, strategy=random)[0]
    known["odd batches"] = buy(dropout=0.0, strategy=random, batch_size=15)[0]
    log = Hooks()
    known["kept"], data = buy(folder / "kept", logs=[log], every=2)
    known["asked"], known["told"] = data.oracle.asked, log.told
    known["pool"] = data.state_dict()
    try:
        buy(folder / "killed", every=2, die=DieAt(1, 5, kill_both))
    except kit.KilledError:
        known["lines"] = (folder / "killed/rounds.jsonl").read_text().count("\n")
        known["step"] = (folder / "killed/state/round-0001/training.ckpt").exists()
    known["killed"] = buy(folder / "killed", every=2)[0]
    for name, options in KINDS.items():
        known[name] = buy(folder / f"{name} whole", every=2, **options)[0]
        try:
            buy(folder / name, every=2, die=DieAt(1, 5, kill_both), **options)
        except kit.KilledError:
            known[f"{name} killed"] = buy(folder / name, every=2, **options)[0]
    known["full disk"] = full_disk(folder)
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    torch.save(known, folder / f"{rank}.pt")


KINDS = {
    "ensemble": {"posterior": Ensemble(3), "strategy": bald},
    "losses": {"strategy": learning_loss},
    "best": {"patience": 1, "steps": 3, "epochs": 4, "test_posterior": True},
    "fitted": {"until_train_accuracy": 0.7, "steps": 3, "epochs": 4},
}


def full_disk(folder):
    with pytest.MonkeyPatch.context() as patch:

        def fails(*_):
            raise ValueError("no space")

        patch.setattr(RunDirectory, "commit", fails)
        try:
            buy(folder / "full")
        except (ValueError, ConnectionError) as error:
            return str(error)


@pytest.fixture(scope="module", params=["lightning", "torchrun"])
def answers(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    script = script_of(__file__, folder, f"everything({str(folder)!r})")
    by = TORCHRUN if request.param == "torchrun" else ()
    return folder, answers_of_script(script, folder, by=by)


ALONE = {"devices": 1}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_with_the_same_weights_two_processes_buy_what_one_buys(answers, strategy):
    alone, _ = buy(strategy=strategy, lr=0.0, where=ALONE)
    for known in answers[1]:
        together = known[strategy.__name__]
        assert [r["acquired"] for r in together] == [r["acquired"] for r in alone]
        assert [r["scores"] for r in together] == [r["scores"] for r in alone]


def test_test_and_validation_rows_are_counted_once_each(answers):
    alone, _ = buy(strategy=random, lr=0.0, where=ALONE)
    for record, one in zip(answers[1][0]["random"], alone, strict=True):
        for part, rows in (("test", 61), ("val", 7)):
            name = f"{part}/accuracy"
            assert record[name] * rows == pytest.approx(round(record[name] * rows), abs=1e-4)
            for metric in ("accuracy", "nll", "ece"):
                name = f"{part}/{metric}"
                assert record[name] == pytest.approx(one[name], rel=1e-5, abs=1e-6)
        assert record["test/group_accuracy"] == one["test/group_accuracy"]


def test_two_processes_take_the_training_steps_that_one_takes(answers):
    alone, _ = buy(dropout=0.0, strategy=random, where=ALONE)
    assert alone[-1]["test/nll"] < 0.99 * alone[0]["test/nll"]
    for record, one in zip(answers[1][0]["exact"], alone, strict=True):
        assert record["test/nll"] == pytest.approx(one["test/nll"], rel=1e-4)
        assert record["train/loss"] == pytest.approx(one["train/loss"], rel=1e-4)


def test_a_batch_that_cannot_be_halved_is_shared_all_the_same(answers):
    assert len(answers[1][0]["odd batches"]) == 3


def test_all_processes_end_with_the_same_records_and_pool(answers):
    first, second = answers[1]
    assert first["kept"] == second["kept"]
    assert first["pool"] == second["pool"]


def test_only_the_first_process_writes_and_speaks(answers):
    folder, (first, second) = answers
    assert [record["told"] for record in (first, second)] == [[0, 1, 2, "end"], []]
    lines = (folder / "kept/rounds.jsonl").read_text().splitlines()
    assert kit.timeless([json.loads(line) for line in lines]) == first["kept"]


def test_only_the_first_process_asks_the_oracle_for_what_is_bought(answers):
    first, second = answers[1]
    assert [first["asked"], second["asked"]] == [1 + 2, 1]  # both for the start


@pytest.mark.parametrize("kind", ["kept", *KINDS])
def test_a_training_that_both_processes_left_goes_on_from_its_checkpoint(answers, kind):
    for known in answers[1]:
        if kind == "kept":
            assert (known["lines"], known["step"]) == (1, True)
        assert known["killed" if kind == "kept" else f"{kind} killed"] == known[kind]


def test_where_the_first_process_cannot_write_all_end(answers):
    first, second = answers[1]
    assert first["full disk"] == "no space"
    assert "process 0 failed" in second["full disk"]


def dies(folder, rank):
    """A run in which one process is killed in the second round, after a short while."""

    def how(trainer):
        (Path(folder) / f"pid {trainer.global_rank}").write_text(str(os.getpid()))
        if trainer.global_rank == rank:
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGKILL)

    buy(Path(folder) / "run", die=DieAt(1, 3, how))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_ends_the_run_and_leaves_what_was_finished(tmp_path, rank):
    script = script_of(__file__, tmp_path, f"dies({str(tmp_path)!r}, {rank})")
    done = subprocess.run(
        [sys.executable, str(script)], env=environment(), cwd=tmp_path, timeout=SECONDS,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    if rank:
        assert "another process of this run ended" in done.stderr
    for name in ("pid 0", "pid 1"):
        deadline = time.monotonic() + 60
        while Path(f"/proc/{(tmp_path / name).read_text()}").exists():
            assert time.monotonic() < deadline, "a process outlives the run"
            time.sleep(0.1)
    assert (tmp_path / "run/rounds.jsonl").read_text().count("\n") == 1
