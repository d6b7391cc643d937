"""A run that was stopped anywhere ends like one that was not."""

import json
import os
import shutil
import signal
from itertools import product
from pathlib import Path

import kit
import pytest
from trainer_log import TrainerLog

from dal.models.weights import cold, shrink_perturb, warm
from dal.run_directory import RunDirectory

OPERATIONS = [(os, "fsync"), (Path, "replace"), (Path, "unlink")]


def lines_of(folder):
    return [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]


def n_lines(folder):
    return len(lines_of(folder))


def test_a_run_with_a_directory_is_the_same_as_one_without(kept_run, expected, tmp_path):
    assert kept_run(tmp_path) == expected()


def test_the_file_of_rounds_holds_the_records(after, expected):
    assert kit.timeless(lines_of(after(3))) == expected()[0]


@pytest.mark.parametrize("weights", [cold, warm, shrink_perturb])
def test_a_run_continues_after_its_last_round(kept_run, expected, tmp_path, weights):
    kept_run(tmp_path / "whole", weights, logs=[kit.Snapshots(tmp_path)])
    for last in range(3):
        assert kept_run(tmp_path / str(last), weights) == expected(weights)


@pytest.mark.parametrize(
    "moment",
    [(cold, 0, 0), *product([warm], [1], range(9)), (cold, 3, 8)],
)
def test_a_kill_before_any_step_of_the_writing_of_a_round_loses_nothing(
    kept_run, expected, tmp_path, moment
):
    weights, round_, operation = moment
    calls = []
    commit = RunDirectory.commit

    def watched(self, record, *args):
        with pytest.MonkeyPatch.context() as patch:
            for owner, name in OPERATIONS if record["round"] == round_ else []:
                patch.setattr(owner, name, dying(getattr(owner, name)))
            commit(self, record, *args)

    def dying(do):
        def killed(*args, **options):
            calls.append(do.__name__)
            if len(calls) == operation + 1:
                raise kit.KilledError
            return do(*args, **options)

        return killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunDirectory, "commit", watched)
        with pytest.raises(kit.KilledError):
            kept_run(tmp_path, weights)
    assert kept_run(tmp_path, weights) == expected(weights)


@pytest.mark.parametrize("hook", ["on_train_start", "on_train_end", "on_test_start"])
def test_a_kill_inside_a_round_does_the_round_again(kept_run, expected, tmp_path, hook):
    with pytest.raises(kit.KilledError):
        kept_run(tmp_path, logs=[kit.KillAt(hook, 2)])
    assert n_lines(tmp_path) == 2
    assert kept_run(tmp_path) == expected()


def test_a_kill_in_every_round_ends_like_none(kept_run, expected, tmp_path):
    for done in range(3):
        with pytest.raises(kit.KilledError):
            kept_run(tmp_path, logs=[kit.KillAt("on_train_end", 1)])
        assert n_lines(tmp_path) == done + 1
    assert kept_run(tmp_path) == expected()


def test_an_interrupt_while_training_ends_the_run_and_records_nothing(kept_run, expected, tmp_path):
    class Interrupt(TrainerLog):
        def on_train_batch_end(self, trainer, *args):
            if trainer.datamodule.round == 1:
                raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            kept_run(tmp_path, logs=[Interrupt()])
    finally:
        signal.signal(signal.SIGINT, handler)
    assert n_lines(tmp_path) == 1
    assert kept_run(tmp_path) == expected()


@pytest.mark.parametrize("kept", [1, 30, -1])
def test_a_torn_last_line_is_a_round_that_did_not_happen(kept_run, expected, after, kept):
    *earlier, last = (after(2) / "rounds.jsonl").read_bytes().splitlines(keepends=True)
    (after(1) / "rounds.jsonl").write_bytes(b"".join([*earlier, last[:kept]]))
    shutil.copy(after(2) / "state" / "weights-0002.pt", after(1) / "state")
    assert kept_run(after(1)) == expected()
    assert kit.timeless(lines_of(after(1))) == expected()[0]


def test_a_torn_only_line_starts_again(kept_run, expected, after):
    (after(0) / "state" / "pool.json").unlink()
    (after(0) / "rounds.jsonl").write_bytes(b'{"round": 0, "n_lab')
    assert kept_run(after(0)) == expected()


@pytest.mark.parametrize("last", [1, 2, 3])
def test_a_kill_between_the_line_and_the_pool_loses_no_label(kept_run, expected, after, last):
    shutil.copy(after(last - 1) / "state" / "pool.json", after(last) / "state")
    assert kept_run(after(last)) == expected()


def test_half_written_files_beside_the_good_ones_do_no_harm(kept_run, expected, after):
    for name in ("pool.json.partial", "weights-0002.partial"):
        (after(1) / "state" / name).write_bytes(b"half")
    assert kept_run(after(1)) == expected()


def test_only_the_last_weights_are_kept(after):
    for number in range(4):
        files = [file.name for file in (after(number) / "state").glob("*.pt")]
        assert files == [f"weights-{number:04d}.pt"]


def lowest(*, probs):
    """Score half of the pool minus infinity."""
    return probs[:, 0].where(probs[:, 0] > probs[:, 0].median(), -float("inf"))


def test_a_score_of_minus_infinity_is_kept_as_null(module, run, tmp_path):
    records = run(module(), strategy=lowest, query_size=150, rounds=1, directory=tmp_path)
    assert None in records[0]["scores"]
    assert kit.timeless(lines_of(tmp_path)) == kit.timeless(records)
    again = run(module(), strategy=lowest, query_size=150, rounds=1, directory=tmp_path)
    assert kit.timeless(again) == kit.timeless(records)
