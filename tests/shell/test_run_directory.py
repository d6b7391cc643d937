"""RunDirectory: what a round leaves, and what a run is taken up from."""

import json

import pytest
import torch
from kept_runs import CONFIG, contents, continued, module, play, rows, toy_data

from dal.run_directory import RunDirectory


@pytest.fixture
def path(tmp_path):
    """A run's folder with two finished rounds."""
    path = tmp_path / "run"
    continued(path, 2)
    return path


def test_a_run_is_taken_up_with_its_rounds_its_pool_and_its_weights(path):
    directory, data, records = continued(path)
    assert [record["round"] for record in records] == [0, 1]
    start = module().pool.labelled.tolist()
    assert data.pool.labelled.tolist() == start + [i for r in records for i in r["acquired"]]
    assert data.round == 2
    assert directory.load_weights(1)["layer.weight"].tolist() == [[1.0] * 2] * 3


def test_nothing_is_made_before_the_folder_is_held(tmp_path):
    RunDirectory(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused(path):
    other = RunDirectory(path)
    with RunDirectory(path).hold(), pytest.raises(ValueError, match="in use"), other.hold():
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "run").write_bytes(b"")
    directory = RunDirectory(tmp_path / "run")
    with pytest.raises(ValueError, match=r"run/state cannot be written"), directory.hold():
        pass


def test_corrected_labels_survive_and_the_rounds_stay_as_they_were(path):
    directory, data, records = continued(path)
    data.pool.relabel(data.pool.labelled[[0, 2]], [2, 2], "expert")
    play(directory, data, records)
    _, again, _ = continued(path)
    assert again.pool.history == data.pool.history
    assert again.pool.labels[0] == again.pool.labels[2] == 2


def test_a_round_is_whole_once_its_line_is_written(path):
    before = (path / "state" / "pool.json").read_bytes()
    _, data, _ = continued(path, 1)
    (path / "state" / "pool.json").write_bytes(before)  # killed before it was replaced
    _, again, records = continued(path)
    assert len(records) == 3
    assert again.pool.history == data.pool.history


def test_a_finished_round_leaves_no_training_and_no_older_weights(path):
    directory, data, records = continued(path)
    for number in (1, 2):
        (directory.training_folder(number) / "deep").mkdir(parents=True)
    (path / "state" / "notes.txt").write_text("of a user")
    play(directory, data, records)
    left = sorted(file.name for file in (path / "state").iterdir())
    assert left == ["data.json", "lock", "notes.txt", "pool.json", "weights-0002.pt"]


def test_a_run_that_is_taken_up_keeps_the_training_of_its_next_round_alone(path):
    directory = RunDirectory(path)
    for number in (1, 2, 3):
        directory.training_folder(number).mkdir()
    (path / "state" / "weights-0000.pt").write_bytes(b"killed before it was removed")
    continued(path)
    left = {file.name for file in (path / "state").iterdir()}
    assert left == {"data.json", "lock", "pool.json", "weights-0001.pt", "round-0002"}


@pytest.mark.parametrize("same", [True, False], ids=["the same", "another"])
def test_the_first_training_is_kept_for_the_same_configuration_alone(tmp_path, same):
    directory, _, _ = continued(tmp_path)
    directory.training_folder(0).mkdir()
    continued(tmp_path, config=CONFIG if same else {"seed": 1})
    assert directory.training_folder(0).exists() == same


def test_the_first_training_is_not_kept_for_another_data_set(tmp_path):
    directory, _, _ = continued(tmp_path)
    directory.training_folder(0).mkdir()
    continued(tmp_path, data=toy_data(train=rows(40, 7)))
    assert not directory.training_folder(0).exists()


CHANGES = {
    "fewer train rows": ({"train": rows(39, 0)}, "train rows 40 then and 39 now"),
    "more test rows": ({"test": rows(10, 1)}, "test rows 9 then and 10 now"),
    "other train inputs": ({"train": rows(40, 5)}, "other train inputs"),
    "other test inputs": ({"test": rows(9, 5)}, "other test inputs"),
    "other classes": ({"classes": "abd"}, "other classes"),
    "more classes": ({"classes": "abcd"}, "other classes"),
    "target inputs": ({"target": torch.ones(2, 4)}, "target rows None then and 2 now"),
}


@pytest.mark.parametrize(("change", "said"), CHANGES.values(), ids=CHANGES)
def test_a_data_set_that_changed_is_refused_with_what_differs(path, change, said):
    refused(path, said, data=toy_data(**change))


def test_other_labels_of_the_data_set_are_refused(path):
    train = rows(40, 0)
    train.targets[-1] = (train.targets[-1] + 1) % 3
    refused(path, "other train labels; bring back", data=toy_data(train=train))


def test_one_changed_row_is_seen_in_a_small_data_set(path):
    test = rows(9, 1)
    test.inputs[4, 2] += 1e-6
    refused(path, "other test inputs; bring back", data=toy_data(test=test))


TWO_CLASSES = toy_data(rows(40, 0, classes=2), rows(9, 1, classes=2), classes="ab")


def test_a_data_set_of_fewer_classes_is_told_as_what_it_is_not_as_damage(path):
    refused(path, "other classes, other train labels", data=TWO_CLASSES)


@pytest.mark.parametrize("name", ["fewer rows", "fewer classes"])
def test_another_data_set_of_the_configuration_is_told_by_the_keys_that_differ(tmp_path, name):
    digits = {"seed": 0, "dataset": {"_target_": "dal.data.digits.digits"}}
    mine = {"seed": 0, "dataset": {"_target_": "dal.data.tensors.tensors", "path": "my.npz"}}
    data = {
        "fewer rows": toy_data(train=rows(12, 7)),
        "fewer classes": TWO_CLASSES,
    }
    continued(tmp_path / "run", 2, config=digits)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="another configuration") as error:
        continued(tmp_path / "run", config=mine, data=data[name])
    said = str(error.value)
    assert "dataset._target_ (dal.data.digits.digits -> dal.data.tensors.tensors)" in said
    assert "dataset.path (None -> my.npz)" in said
    assert "seed" not in said
    assert "damaged" not in said
    assert contents(tmp_path) == before


def refused(path, said, **given):
    before = contents(path)
    with pytest.raises(ValueError, match=r"data set changed since the run in .* began") as error:
        continued(path, **given)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert contents(path) == before


def test_a_configuration_is_the_same_however_its_values_are_held(path):
    shared = {}
    again = {**CONFIG, "nested": {**CONFIG["nested"], "shape": [1, 2]}, "same": [shared, shared]}
    assert len(continued(path, config=again)[2]) == 2


def test_the_pool_file_is_plain_json(path):
    state = json.loads((path / "state" / "pool.json").read_text())
    assert state["size"] == 40
    start = module().pool
    assert state["history"][0] == [
        "label",
        start.labelled.tolist(),
        start.labels.tolist(),
        "dataset",
    ]
