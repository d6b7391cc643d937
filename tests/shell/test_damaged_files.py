"""A damaged file of a run is named with what to do, and the run is left alone."""

import json
import re
import shutil

import pytest
import torch
from kept_runs import contents, continued

ABSENT, FOLDER = object(), object()
GARBAGE = bytes(range(256)) * 4
DEEP = b"[" * 3_000_000


@pytest.fixture(scope="module")
def _whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    continued(path, 3)
    return path


@pytest.fixture
def path(_whole, tmp_path):
    return shutil.copytree(_whole, tmp_path / "run")


def damaged(path, name, content):
    """Put something else in the place of a file."""
    file = path / name
    old = file.read_bytes()
    file.unlink()
    if content is FOLDER:
        file.mkdir()
    elif content is not ABSENT:
        file.write_bytes(content(old) if callable(content) else content)


def refused(path, name):
    """Take the run up and return the line that it is refused with."""
    before = contents(path)
    with pytest.raises(ValueError, match=name) as error:
        continued(path)
    assert contents(path) == before
    said = str(error.value)
    assert said.isprintable()
    assert len(said) < 1500
    assert str(path / name) in said
    assert "restore it" in said
    return said


ANY_FILE = {
    "absent": ABSENT,
    "empty": b"",
    "a folder": FOLDER,
    "garbage": GARBAGE,
    "garbage with a line's end": GARBAGE + b"\n",
    "zeros": bytes(4096),
    "zeros with a line's end": bytes(100) + b"\n",
    "a number": b"7\n",
    "null": b"null\n",
    "a list": b"[]\n",
    "a word": b'"round"\n',
    "no keys": b"{}\n",
    "nested deeply": DEEP,
    "nested deeply, with a line's end": DEEP + b"\n",
    "nested mappings": b'{"a":' * 100_000 + b"\n",
    "half": lambda old: old[: len(old) // 2],
    "twice": lambda old: old * 2,
    "a byte in the middle": lambda old: old[: len(old) // 2] + b"\xff" + old[len(old) // 2 :],
}
FILES = ["rounds.jsonl", "config.yaml", "state/data.json", "state/pool.json"]


CASES = [
    pytest.param(name, content, id=f"{name} {kind}")
    for name in FILES
    for kind, content in ANY_FILE.items()
    if name != "config.yaml" or kind not in ("no keys", "half", "twice")  # they are YAML
]


@pytest.mark.parametrize(("name", "content"), CASES)
def test_a_file_that_is_something_else_is_named(path, name, content):
    damaged(path, name, content)
    refused(path, name)


def of_round(number, **changes):
    """Change a line of `rounds.jsonl`; None takes the key away."""

    def change(old):
        lines = [json.loads(line) for line in old.splitlines()]
        lines[number] = {k: v for k, v in {**lines[number], **changes}.items() if v is not None}
        return b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    return change


ROUNDS = {
    "another number": (of_round(1, round=7), r"line 2 \(round 7 where 1 was expected"),
    "a number that is true": (of_round(1, round=True), "round must be a whole number"),
    "a number with a fraction": (of_round(1, round=1.0), "round must be a whole number"),
    "a negative count": (of_round(1, n_pool=-1), "n_pool must be a whole number from 0 up"),
    "a round lost": (
        lambda old: b"".join(old.splitlines(keepends=True)[::2]),
        r"line 2 \(round 2 where 1 was expected",
    ),
    "rounds that changed places": (
        lambda old: b"".join(reversed(old.splitlines(keepends=True))),
        r"line 1 \(round 2 where 0 was expected",
    ),
    "an empty line": (lambda old: b"\n" + old, r"line 1 \(Expecting value"),
    "no index": (of_round(1, acquired=None), "acquired missing"),
    "no labels": (of_round(1, acquired_labels=None), "acquired_labels missing"),
    "no count": (of_round(1, n_labelled=None), "n_labelled missing"),
    "an index past the data": (of_round(1, acquired=[30, 40]), "between 0 and 39, got 40"),
    "a negative index": (of_round(1, acquired=[30, -1]), "between 0 and 39, got -1"),
    "an index past 64 bits": (of_round(1, acquired=[30, 2**70]), f"39, got {2**70}"),
    "an index that is a word": (
        of_round(1, acquired=[30, "31"]),
        "acquired must be a list of whole",
    ),
    "an index that is true": (of_round(1, acquired=[30, True]), "acquired must be a list of whole"),
    "an index twice": (of_round(1, acquired=[30, 30]), "row 30 is bought twice"),
    "rows of another round": (
        lambda old: of_round(1, acquired=json.loads(old.splitlines()[0])["acquired"])(old),
        r"line 2 \(row \d+ is bought twice",
    ),
    "indices by key": (of_round(1, acquired={"30": 31}), "acquired must be a list of whole"),
    "nested indices": (of_round(1, acquired=[[30], [31]]), "acquired must be a list of whole"),
    "a label too few": (of_round(1, acquired_labels=[1]), "must be of one length"),
    "a label that is no class": (
        of_round(1, acquired_labels=[0, 3]),
        "labels must lie between 0 and 2",
    ),
    "a negative label": (of_round(1, acquired_labels=[0, -1]), "labels must lie between 0 and 2"),
    "a score too many": (of_round(1, scores=[1, 2, 3]), "must be of one length"),
    "scores that are words": (of_round(1, scores=["a", "b"]), "scores must be a list of numbers"),
    "nothing bought before the end": (
        of_round(0, acquired=[], acquired_labels=[], scores=[]),
        r"line 2 \(the round before was the last",
    ),
    "another count of labels": (
        of_round(1, n_labelled=5, labels_used=10, n_pool=30),
        r"line 2 \(it counts 5 labelled rows",
    ),
    "another count of labels used": (of_round(1, labels_used=5), "it counts 5 labels used"),
    "another count of the pool": (of_round(1, n_pool=5), "it counts 5 rows in the pool"),
    "a metric that is a word": (
        of_round(1, **{"test/accuracy": "high"}),
        "test/accuracy must be a number, or null",
    ),
    "a metric that is an object": (
        of_round(1, **{"test/accuracy": {"_target_": "os.system"}}),
        "test/accuracy must be a number, or null",
    ),
    "NaN": (lambda old: old.replace(b"0.5", b"NaN"), "finite, got NaN"),
    "infinity": (lambda old: old.replace(b"0.5", b"-Infinity"), "finite, got -Infinity"),
    "infinity in digits": (lambda old: old.replace(b"0.5", b"1e999"), "finite, got 1e999"),
    "digits without end": (lambda old: old.replace(b"0.5", b"9" * 10_000), "digits"),
}


@pytest.mark.parametrize(("content", "said"), ROUNDS.values(), ids=ROUNDS)
def test_a_round_that_cannot_have_been_is_refused_with_the_reason(path, content, said):
    damaged(path, "rounds.jsonl", content)
    assert re.search(said, refused(path, "rounds.jsonl"))


AGAINST_THE_POOL = {
    "the last round lost": lambda old: b"".join(old.splitlines(keepends=True)[:-1]),
    "other rows": of_round(1, acquired=[37, 38]),
    "other labels": lambda old: of_round(
        1, acquired_labels=[(n + 1) % 3 for n in json.loads(old.splitlines()[1])["acquired_labels"]]
    )(old),
}


@pytest.mark.parametrize("content", AGAINST_THE_POOL.values(), ids=AGAINST_THE_POOL)
def test_a_round_that_the_pool_does_not_know_is_refused(path, content):
    damaged(path, "rounds.jsonl", content)
    assert "rounds.jsonl says was bought" in refused(path, "state/pool.json")


def of_pool(**changes):
    return lambda old: json.dumps({**json.loads(old), **changes}).encode()


def of_purchase(number, place, value):
    def change(old):
        state = json.loads(old)
        state["history"][number][place] = value
        return json.dumps(state).encode()

    return change


BOUGHT = "it does not hold what .* says was bought"
POOLS = {
    "of other data": (of_pool(size=41), "of 41 rows, the dataset has 40"),
    "other rows held out": (of_pool(held_out=[]), "starts from or holds out"),
    "no history": (of_pool(history=[]), "starts from or holds out"),
    "other rows at the start": (of_purchase(0, 1, [38, 39]), "starts from or holds out"),
    "other rows bought": (of_purchase(2, 1, [37, 38]), BOUGHT),
    "other labels bought": (of_purchase(2, 2, [2, 2]), BOUGHT),
    "a label at the start that is no class": (
        of_purchase(0, 2, [0, 3]),
        "labels must lie between 0 and 2",
    ),
    "a kind that is none": (of_purchase(1, 0, "forget"), "needs a history of"),
    "a purchase as a correction": (of_purchase(3, 0, "relabel"), "is not labelled"),
    "purchases lost": (lambda old: of_pool(history=json.loads(old)["history"][:-2])(old), BOUGHT),
    "a purchase twice": (
        lambda old: of_pool(history=json.loads(old)["history"] * 2)(old),
        "is labelled or held out already",
    ),
    "a correction to no class": (
        lambda old: of_pool(
            history=[
                *json.loads(old)["history"],
                ["relabel", json.loads(old)["history"][0][1], [0, 9], ""],
            ]
        )(old),
        "labels must lie between 0 and 2",
    ),
}


@pytest.mark.parametrize(("content", "said"), POOLS.values(), ids=POOLS)
def test_a_pool_that_cannot_be_is_refused_with_the_reason(path, content, said):
    damaged(path, "state/pool.json", content)
    assert re.search(said, refused(path, "state/pool.json"))


BOMB = b"a0: &a0 {k: v}\n" + b"".join(
    b"a%d: &a%d {" % (n, n) + b", ".join(b"k%d: *a%d" % (k, n - 1) for k in range(9)) + b"}\n"
    for n in range(1, 30)
)
CONFIGS = {
    "aliases that grow": BOMB,
    "a tag that executes": b"seed: !!python/object/apply:os.mkdir [canary]\n",
    "a tag that imports": b"seed: !!python/name:os.system\n",
    "no YAML": b"seed: [1\n",
    "a tab": b"seed:\n\t1\n",
    "keys that are lists": b"? [1, 2]\n: 3\n",
    "two documents": b"seed: 0\n---\nseed: 1\n",
}


@pytest.mark.parametrize("content", CONFIGS.values(), ids=CONFIGS)
def test_a_configuration_that_is_none_is_refused_and_not_executed(path, monkeypatch, content):
    monkeypatch.chdir(path.parent)
    damaged(path, "config.yaml", content)
    refused(path, "config.yaml")
    assert not (path.parent / "canary").exists()


@pytest.mark.parametrize("kind", ["no keys", "half"])
def test_a_configuration_that_lost_keys_is_another_one(path, kind):
    damaged(path, "config.yaml", ANY_FILE[kind])
    with pytest.raises(ValueError, match=r"config\.yaml is that of .*same \(None"):
        continued(path)


WEIGHTS = {name: ANY_FILE[name] for name in ("absent", "empty", "a folder", "garbage", "half")}


@pytest.mark.parametrize("content", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_that_are_damaged_are_named(path, content):
    damaged(path, "state/weights-0002.pt", content)
    directory, _, _ = continued(path)
    with pytest.raises(ValueError, match=r"weights-0002\.pt is damaged .*; restore it, or delete"):
        directory.load_weights(2)


@pytest.mark.parametrize("content", [[torch.ones(1)], {"a": 1}, {1: torch.ones(1)}, "weights"])
def test_a_file_that_holds_no_weights_by_name_is_refused(path, content):
    torch.save(content, path / "state" / "weights-0002.pt")
    directory, _, _ = continued(path)
    with pytest.raises(ValueError, match="it holds no weights by name"):
        directory.load_weights(2)


def test_all_files_gone_but_the_state_is_no_new_run(path):
    (path / "rounds.jsonl").unlink()
    (path / "config.yaml").unlink()
    said = refused(path, "rounds.jsonl")
    assert "pool.json has some" in said
