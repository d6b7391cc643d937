"""A run that is complete is known by what it ended with."""

import pytest

from dal.complete import find_end, keep_end

SETTINGS = {"seed": 0, "scenario": {"long_tail": {"ratio": 5}, "corrupted": {"severity": 3}}}


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "state").mkdir()
    for name in ("config.yaml", "rounds.jsonl"):
        (tmp_path / name).write_text("{}\n")
    keep_end(tmp_path, SETTINGS, n_labelled=30, value=0.5)
    return tmp_path


def test_a_complete_run_is_known_by_its_settings_and_files(directory):
    end = find_end(directory, SETTINGS)
    assert (end.n_labelled, end.value) == (30, 0.5)
    assert find_end(directory, SETTINGS | {"seed": 1}) is None


def test_another_order_of_scenarios_is_another_run(directory):
    swapped = dict(reversed(SETTINGS["scenario"].items()))
    assert find_end(directory, SETTINGS | {"scenario": swapped}) is None


def test_a_file_that_changed_since_is_looked_at_again(directory):
    (directory / "rounds.jsonl").write_text("{}\n{}\n")
    assert find_end(directory, SETTINGS) is None
