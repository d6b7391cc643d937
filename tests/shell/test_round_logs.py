"""What watches a run: hooks, lines, tables, the CSV file and the picture."""

import csv
import io
import re
from functools import partial

import kit
import pytest
import torch
from PIL import Image
from rich.console import Console
from trainer_log import TrainerLog

from dal.callbacks.csv_log import CsvLog
from dal.callbacks.curve import Curve
from dal.callbacks.progress import ProgressLog
from dal.callbacks.round_log import RoundLog, Run
from dal.data.datamodule import ActiveDataModule
from dal.loop import PLAIN_TRAINER, run_rounds
from dal.strategies.margin import margin

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def run():
    def run(*logs, directory=None, rounds=2, strategy=margin, **options):
        data = ActiveDataModule(
            kit.toy_data(), initial_size=6, steps=3, batch_size=8, eval_batch_size=100, **options
        )
        return run_rounds(
            data,
            model=kit.toy_module,
            strategy=strategy,
            rounds=rounds,
            query_size=4,
            trainer=partial(PLAIN_TRAINER, accelerator="cpu"),
            directory=directory,
            logs=logs,
        )

    return run


class Diary(TrainerLog):
    """Writes down its hooks in order."""

    def __init__(self, lines, fail=""):
        self.lines, self.fail = lines, fail

    def note(self, line):
        self.lines.append(line)
        if line == self.fail:
            raise KeyError(line)

    def on_run_start(self, run):
        self.note(f"start {len(run.records)} of {run.rounds}")

    def on_train_end(self, trainer, pl_module):
        self.note("trained")

    def on_pool_batch_end(self, done, total):
        self.note(f"pool {done} of {total}")

    def on_round_end(self, run, record):
        assert run.records[-1] is record
        self.note(f"round {record['round']}")

    def on_run_end(self, run):
        self.note("end")

    def close(self):
        self.note("close")


def test_hooks_come_in_order(run):
    lines = []
    run(Diary(lines), rounds=1)
    pool = ["pool 100 of 234", "pool 200 of 234", "pool 234 of 234"]
    assert sorted(lines[1:5]) == sorted(["trained", *pool])
    assert [line for line in lines if "pool" not in line] == [
        "start 0 of 1", "trained", "round 0", "trained", "round 1", "end", "close",
    ]  # fmt: skip


@pytest.mark.parametrize("fail", ["start 0 of 2", "trained", "pool 100 of 234", "round 0", "end"])
def test_every_log_is_closed_after_a_failure(run, fail):
    before, after = [], []
    with pytest.raises(KeyError, match=fail):
        run(Diary(before), Diary([], fail=fail), Diary(after))
    assert before[-1] == after[-1] == "close"


def test_one_log_that_cannot_be_closed_does_not_keep_the_others_open(run):
    before, after = [], []
    with pytest.raises(KeyError, match="close"):
        run(Diary(before), Diary([], fail="close"), Diary(after))
    assert before[-1] == after[-1] == "close"


def shown(run, terminal=False, log=None, **options):
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=terminal, soft_wrap=True)
    records = run(ProgressLog("my run", console=console, **(log or {})), **options)
    return out.getvalue(), records


def table_of(folder):
    return list(csv.DictReader((folder / "rounds.csv").read_text().splitlines()))


def rounds_of(text):
    return [line for line in text.splitlines() if re.search(r"\bround +\d+ ", line)]


def test_progress_is_a_title_a_line_per_round_and_a_table(run):
    text, records = shown(run)
    assert text.splitlines()[0].startswith("my run  6 labelled, 234 in the pool; 2 rounds of 4")
    lines = rounds_of(text)
    assert len(lines) == len(records) == 3
    for line, record in zip(lines, records, strict=True):
        assert f"round   {record['round']}" in line
        assert f"{record['n_labelled']} labels" in line
        assert f"accuracy {record['test/accuracy']:.3f}" in line
    table = text[text.index(lines[-1]) + len(lines[-1]) :].strip().splitlines()
    assert table[0].split()[:5] == ["round", "labels", "accuracy", "NLL", "ECE"]
    rows = [row.split() for row in table[1:4]]
    assert [row[:2] for row in rows] == [["0", "6"], ["1", "10"], ["2", "14"]]
    assert [row[3] for row in rows] == [f"{record['test/nll']:.3f}" for record in records]


def test_progress_says_what_validation_costs(run):
    text, _ = shown(run, val_size=5)
    assert "229 in the pool, 5 for validation" in text.splitlines()[0]


def test_progress_names_the_run_and_its_curve(run, tmp_path):
    text, _ = shown(lambda log, **options: run(Curve(), log, **options), directory=tmp_path)
    assert text.splitlines()[-2:] == [f"run    {tmp_path}", f"curve  {tmp_path / 'curve.png'}"]


def test_runs_that_share_a_terminal_print_a_line_each_at_their_beginning_and_end(run):
    text, records = shown(run, log={"shared": True})
    first, last = text.splitlines()
    assert first.startswith("my run  6 labelled")
    accuracy = records[-1]["test/accuracy"]
    assert last.startswith(f"my run  done  14 labels  accuracy {accuracy:.3f}  ")


def test_long_runs_that_share_a_terminal_print_rounds_now_and_then(run, monkeypatch):
    monkeypatch.setattr("dal.callbacks.progress.PAUSE", 0.0)
    text, _ = shown(run, log={"shared": True})
    assert [line.split()[2:4] for line in rounds_of(text)] == [["round", "0"], ["round", "1"]]
    assert all(line.startswith("my run  ") for line in text.splitlines())


def test_a_continued_run_says_so_and_shows_all_of_it_in_the_table(run, tmp_path):
    class Stop(TrainerLog):
        def on_train_end(self, trainer, pl_module):
            if trainer.datamodule.round == 1:
                raise KeyError("stop")

    with pytest.raises(KeyError):
        run(Stop(), directory=tmp_path)
    text, _ = shown(run, directory=tmp_path)
    assert "continuing after round 0" in text
    assert len(rounds_of(text)) == 2
    table = text[text.index("ECE") :].splitlines()
    assert [row.split()[0] for row in table[1:4]] == ["0", "1", "2"]
    text, _ = shown(run, directory=tmp_path)
    assert "already complete, nothing to do" in text
    assert rounds_of(text) == []


def test_a_terminal_shows_bars_and_gets_its_cursor_back(run):
    text, _ = shown(run, terminal=True)
    for name in ("rounds", "training", "pool"):
        assert name in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_a_terminal_gets_its_cursor_back_after_a_failure(run):
    def fails(*, probs, n):
        if len(probs) > 10:
            raise KeyError("failed")
        return torch.arange(n)

    out = io.StringIO()
    with pytest.raises(KeyError):
        run(ProgressLog(console=Console(file=out, force_terminal=True)), strategy=fails)
    assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().rindex("\x1b[?25l")


def test_the_csv_file_has_a_row_per_round_and_no_lists(run, tmp_path):
    records = run(CsvLog(), directory=tmp_path)
    rows = table_of(tmp_path)
    assert len(rows) == 3
    for row, record in zip(rows, records, strict=True):
        assert float(row["test/accuracy"]) == record["test/accuracy"]
        assert int(row["n_labelled"]) == record["n_labelled"]
        assert float(row["train/loss"]) == record["train/loss"]
        assert not {"acquired", "acquired_labels", "scores"} & set(row)


def test_the_csv_file_of_a_continued_run_has_every_round_once(run, tmp_path):
    with pytest.raises(KeyError):
        run(CsvLog(), Diary([], fail="round 1"), directory=tmp_path)
    run(CsvLog(), directory=tmp_path)
    rows = table_of(tmp_path)
    assert [row["round"] for row in rows] == ["0", "1", "2"]


def test_a_number_that_some_rounds_lack_has_a_column(tmp_path):
    records = [{"round": n, "kappa": kappa} for n, kappa in enumerate((None, 0.5, None))]
    for log, last in ((CsvLog(), 2), (CsvLog(), 3)):
        run = Run(None, "random", 3, 1, tmp_path, records[:last])
        log.on_round_end(run, records[last - 1])
    assert [row["kappa"] for row in table_of(tmp_path)] == ["", "0.5", ""]


def test_a_round_without_training_leaves_its_loss_empty(run, tmp_path):
    data = ActiveDataModule(kit.toy_data(), initial_size=0, steps=3)
    run_rounds(
        data, model=kit.toy_module, strategy=margin, rounds=1, query_size=4,
        trainer=partial(PLAIN_TRAINER, accelerator="cpu"), directory=tmp_path, logs=[CsvLog()],
    )  # fmt: skip
    first, second = table_of(tmp_path)
    assert first["train/loss"] == ""
    assert float(second["train/loss"]) > 0


class Look(RoundLog):
    def __init__(self):
        self.pictures = []

    def on_round_end(self, run, record):
        self.pictures.append((run.directory / "curve.png").read_bytes())


def test_the_curve_is_a_picture_that_grows_with_every_round(run, tmp_path, monkeypatch):
    monkeypatch.setattr("dal.callbacks.curve.SHARE", float("inf"))
    look = Look()
    run(Curve(), look, directory=tmp_path)
    assert [content[:8] for content in look.pictures] == [PNG] * 3
    assert len(set(look.pictures)) == 3
    with Image.open(tmp_path / "curve.png") as picture:
        picture.load()
    assert list(tmp_path.glob("*.partial*")) == []


def test_rounds_too_short_to_draw_share_a_picture_until_the_end(run, tmp_path, monkeypatch):
    monkeypatch.setattr("dal.callbacks.curve.SHARE", 1e-9)
    look = Look()
    run(Curve(), look, directory=tmp_path)
    assert len(set(look.pictures)) == 1
    assert (tmp_path / "curve.png").read_bytes() not in look.pictures


def test_without_a_directory_nothing_is_written(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(Curve(), CsvLog())
    assert list(tmp_path.iterdir()) == []
