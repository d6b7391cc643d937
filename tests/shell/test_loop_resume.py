"""A run that was stopped anywhere ends like one that was not."""

import json
import shutil
import signal
from itertools import product

import pytest
from trainer_log import TrainerLog

from dal.models.weights import cold, shrink_perturb, warm
from dal.run_directory import RunDirectory

STEPS = ["save_weights", "append", "save_pool", "forget_weights"]


def lines_of(folder):
    return [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]


def n_lines(folder):
    return len(lines_of(folder))


def test_a_run_with_a_directory_is_the_same_as_one_without(kept_run, expected, tmp_path):
    assert kept_run(tmp_path) == expected()


def test_the_file_of_rounds_holds_the_records(kit, after, expected):
    assert kit.timeless(lines_of(after(3))) == expected()[0]


@pytest.mark.parametrize("weights", [cold, warm, shrink_perturb])
def test_a_run_continues_after_its_last_round(kit, kept_run, expected, tmp_path, weights):
    kept_run(tmp_path / "whole", weights, logs=[kit.Snapshots(tmp_path)])
    for last in range(3):
        assert kept_run(tmp_path / str(last), weights) == expected(weights)


@pytest.mark.parametrize("moment", list(product(STEPS, [(cold, 0), (warm, 1), (cold, 3)])))
def test_a_kill_before_any_write_of_a_round_loses_nothing(
    kit, kept_run, expected, tmp_path, moment
):
    step, (weights, round_) = moment
    calls, write = [], getattr(RunDirectory, step)

    def killed(self, *args):
        calls.append(step)
        if len(calls) == round_ + 1:
            raise kit.KilledError
        write(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunDirectory, step, killed)
        with pytest.raises(kit.KilledError):
            kept_run(tmp_path, weights)
    assert kept_run(tmp_path, weights) == expected(weights)


@pytest.mark.parametrize("hook", ["on_train_start", "on_train_end", "on_test_start"])
def test_a_kill_inside_a_round_does_the_round_again(kit, kept_run, expected, tmp_path, hook):
    with pytest.raises(kit.KilledError):
        kept_run(tmp_path, logs=[kit.KillAt(hook, 2)])
    assert n_lines(tmp_path) == 2
    assert kept_run(tmp_path) == expected()


def test_a_kill_in_every_round_ends_like_none(kit, kept_run, expected, tmp_path):
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
def test_a_torn_last_line_is_a_round_that_did_not_happen(kit, kept_run, expected, after, kept):
    *earlier, last = (after(2) / "rounds.jsonl").read_bytes().splitlines(keepends=True)
    (after(1) / "rounds.jsonl").write_bytes(b"".join([*earlier, last[:kept]]))
    shutil.copy(after(2) / "state" / "weights-0002.pt", after(1) / "state")
    assert kept_run(after(1)) == expected()
    assert kit.timeless(lines_of(after(1))) == expected()[0]


def test_a_torn_only_line_starts_again(kept_run, expected, after):
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
