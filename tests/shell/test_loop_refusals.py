"""A directory that a run cannot continue from is refused, naming file or key, and left alone."""

import json
import shutil

import kit
import pytest
import torch
from torch import nn

from dal.models.classifier import Classifier
from dal.models.weights import cold, shrink_perturb, warm

CHANGES = {
    "a number": ({"seed": 1}, r"seed \(0 -> 1\)"),
    "a nested number": ({"model": {"width": 32, "shape": [1, 2]}}, r"model\.width \(16 -> 32\)"),
    "a list": ({"model": {"width": 16, "shape": [1, 3]}}, r"model\.shape"),
    "a key more": ({"extra": True}, r"extra \(None -> True\)"),
}
DAMAGED_LINES = {
    "no round": b"{}",
    "another round": b'{"round": 7}',
    "a list": b"[]",
    "no JSON": b"nonsense",
    "empty": b"",
}
DAMAGED_POOLS = {
    "empty": b"",
    "torn": b"{",
    "a list": b"[]",
    "no state": b"{}",
    "part of a state": b'{"size": 240}',
    "a number": b"7",
}


def listing(folder):
    return {
        file.relative_to(folder): (file.stat().st_mtime_ns, file.read_bytes())
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "lock"  # it is taken to look
    }


def refused(kept_run, folder, match, **options):
    before = listing(folder)
    with pytest.raises(ValueError, match=match):
        kept_run(folder, **options)
    assert listing(folder) == before


def test_a_complete_run_does_nothing(kept_run, expected, after):
    before = listing(after(3))
    assert kept_run(after(3), logs=[kit.KillAt("on_train_start", 0)]) == expected()
    assert listing(after(3)) == before


@pytest.mark.parametrize("case", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("last", [1, 3], ids=["begun", "complete"])
def test_another_configuration_is_refused_by_the_name_of_its_key(kept_run, after, last, case):
    change, key = case
    refused(kept_run, after(last), key, config={**kit.CONFIG, **change})


def test_a_configuration_with_a_key_less_is_refused(kept_run, after):
    config = {key: value for key, value in kit.CONFIG.items() if key != "name"}
    refused(kept_run, after(1), r"name \(x -> None\)", config=config)


def test_before_a_round_has_finished_the_configuration_may_change(kept_run, expected, tmp_path):
    with pytest.raises(kit.KilledError):
        kept_run(tmp_path, config={"seed": 5}, logs=[kit.KillAt("on_train_start", 0)])
    assert kept_run(tmp_path) == expected()


@pytest.mark.parametrize("line", DAMAGED_LINES.values(), ids=DAMAGED_LINES)
def test_a_damaged_line_is_refused_with_file_and_line(kept_run, after, line):
    file = after(2) / "rounds.jsonl"
    lines = file.read_bytes().split(b"\n")
    lines[1] = line
    file.write_bytes(b"\n".join(lines))
    refused(kept_run, after(2), r"rounds\.jsonl is damaged in line 2")


@pytest.mark.parametrize("content", DAMAGED_POOLS.values(), ids=DAMAGED_POOLS)
def test_a_damaged_pool_is_refused_with_its_file(kept_run, after, content):
    (after(1) / "state" / "pool.json").write_bytes(content)
    refused(kept_run, after(1), r"pool\.json is damaged")


def test_a_missing_pool_is_refused_with_its_file(kept_run, after):
    (after(2) / "state" / "pool.json").unlink()
    refused(kept_run, after(2), r"pool\.json is damaged")


def test_a_pool_two_rounds_behind_the_lines_is_refused(kept_run, after):
    shutil.copy(after(0) / "state" / "pool.json", after(2) / "state")
    refused(kept_run, after(2), r"pool\.json is damaged")


def test_a_pool_ahead_of_the_lines_is_refused(kept_run, after):
    shutil.copy(after(2) / "state" / "pool.json", after(1) / "state")
    refused(kept_run, after(1), r"pool\.json is damaged")


def test_a_pool_that_holds_other_rows_than_the_lines_is_refused(kept_run, after):
    file = after(1) / "state" / "pool.json"
    state = json.loads(file.read_text())
    used = {index for _, indices, _, _ in state["history"] for index in indices}
    state["history"][-1][1][-1] = min(set(range(240)) - used - set(state["held_out"]))
    file.write_text(json.dumps(state))
    refused(kept_run, after(1), r"pool\.json is damaged")


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_lost_weights_are_refused_with_their_file(kept_run, after, damage):
    file = after(1) / "state" / "weights-0001.pt"
    content = file.read_bytes()
    file.unlink()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    refused(kept_run, after(1), r"weights-0001\.pt is damaged", weights=warm)


OTHER_NETWORKS = {
    "wider": (
        [nn.Linear(4, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 3)],
        r"network\.0\.bias is \[16\] there and \[32\] here",
    ),
    "a layer less": ([nn.Linear(4, 16)], r"network\.3\.bias is \[3\] there and absent here"),
    "a layer more": (
        [nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.Linear(16, 3)],
        r"network\.2\.bias is absent there and \[16\] here",
    ),
}


@pytest.fixture
def begun(run, tmp_path):
    """The folder of a run that was killed in its second round."""
    with pytest.raises(kit.KilledError):
        run(directory=tmp_path / "run", logs=[kit.KillAt("on_train_start", 1)])
    return tmp_path / "run"


@pytest.mark.parametrize("weights", [warm, shrink_perturb])
@pytest.mark.parametrize(("layers", "said"), OTHER_NETWORKS.values(), ids=OTHER_NETWORKS)
def test_weights_of_another_network_are_refused_by_what_differs(run, begun, weights, layers, said):
    before = listing(begun)
    with pytest.raises(ValueError, match=said) as error:
        run(directory=begun, model=lambda: other(layers), weights=weights)
    assert str(error.value).startswith("the last round's weights are of another network: ")
    assert "restore state/weights-*.pt of the run's folder" in str(error.value)
    assert listing(begun) == before


def test_weights_of_another_network_do_no_harm_where_none_are_taken_over(run, begun):
    layers, _ = OTHER_NETWORKS["wider"]
    assert len(run(directory=begun, model=lambda: other(layers), weights=cold)) == 4


def other(layers):
    return Classifier(nn.Sequential(*layers), 3, lambda p: torch.optim.Adam(p, lr=0.05))
