"""Run directories become one table, and what is wrong with them is said."""

import os

import pytest
import yaml
from run_folders import finished, record, sweep, write

from dal.analysis.runs import Key, read_runs

PLACE = "default/digits-cnn/bald/seed=0"


def test_names_come_from_the_folders_wherever_one_begins(tmp_path):
    write(tmp_path / "runs/default/digits-small-cnn/bald/seed=3", finished(0.5, 0.6, 0.7))
    key = Key("default", "digits-small", "cnn", "bald", 3)
    for root in ("", "runs", "runs/default", "runs/default/digits-small-cnn/bald/seed=3"):
        runs = read_runs(tmp_path / root)
        assert list(runs.bought) == [key]
        assert list(runs.rounds["strategy"]) == ["bald"] * 3
        assert list(runs.rounds["test/accuracy"]) == [0.5, 0.6, 0.7]
    assert runs.bought[key] == [[10, 11], [12, 13], []]
    assert runs.labels[key] == [[0, 0], [0, 0], []]
    assert runs.problems == []


def test_a_run_that_lies_elsewhere_is_named_by_its_configuration(tmp_path):
    run = write(tmp_path / "a/b/c/seed=1", finished(0.5, 0.6))
    nodes = {"dataset": "dal.data.digits.digits", "model": "x.mlp", "strategy": "x.margin"}
    config = {"name": "mine", "seed": 7} | {k: {"_target_": v} for k, v in nodes.items()}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    run.rename(tmp_path / "alone")
    assert list(read_runs(tmp_path / "alone").bought) == [Key("mine", "digits", "mlp", "margin", 7)]


def test_a_torn_last_line_is_not_read_and_is_said(tmp_path):
    write(tmp_path / PLACE, finished(0.5, 0.6), tail='{"round": 2, "n_la')
    runs = read_runs(tmp_path)
    assert len(runs.rounds) == 2
    assert runs.problems == [
        "default/digits-cnn/bald/seed=0: the last line of rounds.jsonl is torn and was not read"
    ]


def test_an_unfinished_run_is_kept_apart_and_said(tmp_path):
    write(tmp_path / PLACE, finished(0.5, 0.6, 0.7)[:2])
    write(tmp_path / "default/digits-cnn/bald/seed=1", finished(0.5, 0.6, 0.7))
    runs = read_runs(tmp_path)
    assert set(runs.rounds["seed"]) == {0, 1}
    assert set(runs.finished["seed"]) == {1}
    assert (runs.begun, runs.n_finished) == (2, 1)
    (problem,) = runs.problems
    assert problem == (
        "default/digits-cnn/bald/seed=0: unfinished, 2 of 3 rounds (crashed, or still running); "
        "not in the statistics"
    )


def test_a_run_that_stopped_by_itself_is_finished(tmp_path):
    rounds = [record(0, 0.5, (1, 2)), record(1, 0.9, (), stopped="the target is reached")]
    write(tmp_path / PLACE, rounds, config={"rounds": 9})
    runs = read_runs(tmp_path)
    assert runs.n_finished == 1
    assert runs.problems == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('{"round": 0}\n', "line 1: n_labelled must be a whole number"),
        ("[1]\n", "a round must be an object, got list"),
        ('{"round": 1, "n_labelled": 1}\n', "round 1 where 0 was expected"),
        ('{"round": 0, "n_labelled": NaN}\n', "numbers must be finite"),
        ("x\n", "damaged in line 1"),
        ("[" * 100_000 + "\n", "nested too deeply"),
        ('{"round": 0, "n_labelled": 1, "acquired": [0.5], "acquired_labels": [1]}\n', "acquired"),
        ('{"round": 0, "n_labelled": 1, "acquired": [5], "acquired_labels": []}\n', "one length"),
        ('{"round": 0, "n_labelled": 1, "acquired": [-5], "acquired_labels": [1]}\n', "acquired"),
        (
            '{"round": 0, "n_labelled": 1, "acquired": [5], "acquired_labels": [99999999999]}\n',
            "acquired_labels must lie between -1 and 1048575",
        ),
        ("", "no finished round"),
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_read_is_left_out_in_one_line(lines, said, tmp_path):
    write(tmp_path / "default/digits-cnn/random/seed=0", finished(0.5, 0.6))
    write(tmp_path / PLACE, [], tail=lines)
    runs = read_runs(tmp_path)
    assert set(runs.rounds["strategy"]) == {"random"}
    assert runs.begun == 2
    (problem,) = runs.problems
    assert str(tmp_path / PLACE) in problem
    assert said in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1]\nb: *a\n",
        "!!python/object/apply:os.getcwd []\n",
        "- 1\n",
        "\tx",
        "a: " + "[" * 99,
    ],
)
def test_a_configuration_that_is_no_plain_one_is_refused(text, tmp_path):
    write(tmp_path / "default/digits-cnn/random/seed=0", finished(0.5, 0.6))
    (write(tmp_path / PLACE, finished(0.5, 0.6)) / "config.yaml").write_text(text)
    runs = read_runs(tmp_path)
    assert set(runs.rounds["strategy"]) == {"random"}
    assert len(runs.problems) == 1


def test_files_that_would_block_or_hide_are_refused(tmp_path):
    write(tmp_path / "default/digits-cnn/random/seed=0", finished(0.5, 0.6))
    pipe = write(tmp_path / PLACE, []) / "rounds.jsonl"
    pipe.unlink()
    os.mkfifo(pipe)
    write(tmp_path / "default/digits-cnn/a\x1b[31m/seed=0", finished(0.5, 0.6))
    problems = read_runs(tmp_path).problems
    assert sorted("plain file" in line or "printable" in line for line in problems) == [True] * 2
    assert all("\x1b" not in line for line in problems)


def test_missing_seeds_other_budgets_and_other_settings_are_said(tmp_path):
    sweep(tmp_path, {"random": [0.5, 0.6, 0.7], "bald": [0.5, 0.6, 0.8]}, seeds=3)
    write(tmp_path / "default/digits-cnn/random/seed=3", finished(0.5, 0.6), config={"steps": 9})
    assert read_runs(tmp_path).problems == [
        "default/digits-cnn/bald: seed 3 is missing, other strategies have it",
        "default/digits-cnn/random/seed=3: measured at 4, 6 labels, most of its setting at 4, 6, 8",
        "default/digits-cnn: steps differs, 5 in 6 runs, 9 in 1 run",
    ]


def test_the_seed_of_a_part_is_unlike_only_where_it_does_not_follow_the_runs(tmp_path):
    for seed in range(3):
        config = {"oracle": {"seed": seed}, "features": {"seed": 0}, "dataset": {"seed": seed // 2}}
        write(tmp_path / f"e/d-m/random/seed={seed}", finished(0.5, 0.6), config=config)
    assert read_runs(tmp_path).problems == ["e/d-m: dataset.seed differs, 0 in 2 runs, 1 in 1 run"]


def test_without_a_run_the_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"no run with a finished round below {tmp_path}"):
        read_runs(tmp_path)
