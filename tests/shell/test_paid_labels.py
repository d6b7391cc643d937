"""A label that an oracle gave is never asked for again, nor lost."""

import json
import os
import signal
from functools import partial
from pathlib import Path

import kit
import pytest
import torch

from dal.data.datamodule import ActiveDataModule
from dal.loop import PLAIN_TRAINER, run_rounds
from dal.oracles.dataset import DatasetOracle
from dal.run_directory import RunDirectory
from dal.signals import Stopped, stopping
from dal.strategies.random import random

FIRST = "state/round-0000/paid.json"


class Oracle(DatasetOracle):
    """Notes what it is asked for beyond the start."""

    def __init__(self, data):
        super().__init__(data)
        self.asked = []

    def __call__(self, indices):
        self.asked.append(indices.tolist())
        return super().__call__(indices)


def wavering(*, n_pool, n):
    """Choose other rows each time, as sums do that vary from run to run."""
    return torch.randperm(n_pool)[:n]


def buy(folder, strategy=random, config=None, **options):
    data = ActiveDataModule(kit.toy_data(), Oracle, initial_size=6, steps=5, batch_size=16)
    records = run_rounds(
        data,
        model=kit.toy_module,
        strategy=strategy,
        rounds=2,
        query_size=4,
        trainer=partial(PLAIN_TRAINER, accelerator="cpu"),
        directory=folder,
        config=config or {},
        **options,
    )
    return records, data


@pytest.fixture
def killed(monkeypatch):
    """Run until a round has its labels, and die before anything else is written."""

    def killed(folder, round, **options):
        commit = RunDirectory.commit

        def die(self, record, *args):
            if record["round"] == round:
                raise kit.KilledError
            commit(self, record, *args)

        with monkeypatch.context() as patch:
            patch.setattr(RunDirectory, "commit", die)
            with pytest.raises(kit.KilledError):
                buy(folder, **options)

    return killed


@pytest.mark.parametrize("round", [0, 1])
def test_what_was_answered_is_not_asked_again(tmp_path, killed, round):
    wanted, data = buy(tmp_path / "whole")
    killed(tmp_path / "run", round)
    records, later = buy(tmp_path / "run")
    assert kit.timeless(records) == kit.timeless(wanted)
    assert later.state_dict() == data.state_dict()
    assert later.oracle.asked[1:] == data.oracle.asked[2 + round :]


def test_rows_that_were_paid_for_are_bought_though_another_query_would_choose_others(
    tmp_path, killed
):
    killed(tmp_path, 0, strategy=wavering)
    paid = json.loads((tmp_path / FIRST).read_text())
    records, data = buy(tmp_path, strategy=wavering)
    assert records[0]["acquired"] == paid["acquired"] == data.pool.labelled[6:10].tolist()
    assert records[0]["acquisition_seconds"] == paid["acquisition_seconds"]


def test_the_query_is_not_made_again(tmp_path, killed):
    def once(*, n_pool, n):
        queries.append(n)
        return torch.arange(n)

    queries = []
    killed(tmp_path, 1, strategy=once)
    queries.clear()
    buy(tmp_path, strategy=once)
    assert 4 not in queries  # a rehearsal asks for fewer


def test_labels_that_were_paid_for_hold_the_folder_for_their_configuration(tmp_path, killed):
    killed(tmp_path, 0, config={"x": 1})
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.json")}
    with pytest.raises(ValueError, match=r"another configuration: x \(1 -> 2\)"):
        buy(tmp_path, config={"x": 2})
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.json")} == before
    buy(tmp_path, config={"x": 1})


def test_the_file_is_gone_once_the_round_is_kept(tmp_path, killed):
    killed(tmp_path, 1)
    buy(tmp_path)
    assert not list(tmp_path.rglob("paid.json"))


def change(**fields):
    return lambda paid: json.dumps({**paid, **fields})


DAMAGE = {
    "cut short": lambda paid: json.dumps(paid)[:-5],
    "empty": lambda _: "",
    "no object": lambda _: "[1]",
    "a field less": lambda paid: json.dumps({"acquired": paid["acquired"]}),
    "a row outside": change(acquired=[0, 1, 2, 240]),
    "a row as text": change(acquired=[0, 1, 2, "3"]),
    "a label outside": change(acquired_labels=[0, 1, 2, 3]),
    "a label less": change(acquired_labels=[0, 1, 2]),
    "time as text": change(acquisition_seconds="1"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_is_refused_with_what_to_do(tmp_path, killed, damage):
    killed(tmp_path, 0)
    file = tmp_path / FIRST
    file.write_text(damage(json.loads(file.read_text())))
    with pytest.raises(ValueError, match=r"paid\.json is damaged .*remove it to ask again"):
        buy(tmp_path)
    file.unlink()
    buy(tmp_path)


START = ActiveDataModule(kit.toy_data(), initial_size=6).pool.labelled[:4].tolist()


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([0, 1, 2, 2], "index 2 is given twice"),
        (START, "is labelled or held out already"),
        ([], "1 to 4 rows were wanted, it has 0"),
    ],
)
def test_rows_that_cannot_be_bought_are_refused_before_any_training(
    tmp_path, killed, monkeypatch, rows, reason
):
    killed(tmp_path, 0)
    file = tmp_path / FIRST
    labels = change(acquired=rows, acquired_labels=[0] * len(rows), scores=None)
    file.write_text(labels(json.loads(file.read_text())))
    monkeypatch.setattr("dal.loop.run_round", lambda *_: 1 / 0)
    with pytest.raises(ValueError, match=rf"paid\.json is damaged .*{reason}"):
        buy(tmp_path)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_signal_waits_until_the_labels_are_kept(tmp_path, monkeypatch, signum):
    fsync = os.fsync

    def signalled(handle):
        if "paid" in str(Path(f"/proc/self/fd/{handle}").readlink()):
            signal.raise_signal(signum)
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", signalled)
        with pytest.raises((Stopped, KeyboardInterrupt)), stopping():
            buy(tmp_path)
    assert len(json.loads((tmp_path / FIRST).read_text())["acquired"]) == 4
