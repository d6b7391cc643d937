"""A run that was stopped anywhere ends like one that was not."""

import json
import shutil
import signal
from functools import partial

import pytest

from dal.callbacks.round_log import RoundLog
from dal.data.datamodule import ActiveDataModule
from dal.loop import PLAIN_TRAINER, run_rounds
from dal.models.weights import cold, shrink_perturb, warm
from dal.posteriors.mc_dropout import MCDropout
from dal.run_directory import RunDirectory
from dal.strategies.badge import badge

CONFIG = {"seed": 0, "model": {"width": 16, "shape": [1, 2]}, "name": "x"}
CLOCKS = {"train_seconds", "acquisition_seconds", "test_seconds", "peak_memory_bytes"}
ROUNDS = 3
STEPS = ["save_weights", "append", "save_pool", "forget_weights"]
every_start = pytest.mark.parametrize("weights", [cold, warm, shrink_perturb])


class KilledError(BaseException):
    """Stands for a kill: no handler of the package may catch it."""


class Snapshots(RoundLog):
    """Copies the directory after every round."""

    def __init__(self, to):
        self.to = to

    def on_round_end(self, run, record):
        shutil.copytree(run.directory, self.to / str(record["round"]))


class KillAt(RoundLog):
    """Dies in a hook of a round."""

    def __init__(self, hook, round):
        self.round, self.seen = round, 0
        setattr(self, hook, self.die)

    def die(self, *args):
        if self.seen == self.round:
            raise KilledError
        self.seen += 1


def timeless(records):
    return [{k: v for k, v in record.items() if k not in CLOCKS} for record in records]


def listing(folder):
    return {
        file.relative_to(folder): (file.stat().st_mtime_ns, file.read_bytes())
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture
def run(kit):
    def run(directory, weights=cold, config=CONFIG, **options):
        data = ActiveDataModule(kit.toy_data(), initial_size=6, val_size=4, steps=5, batch_size=16)
        records = run_rounds(
            data,
            model=kit.toy_module,
            strategy=badge,
            rounds=ROUNDS,
            query_size=4,
            posterior=MCDropout(4),
            trainer=partial(PLAIN_TRAINER, accelerator="cpu"),
            weights=weights,
            directory=directory,
            config=config,
            **options,
        )
        return timeless(records), data.state_dict()

    return run


@pytest.fixture(scope="module")
def known():
    return {}


@pytest.fixture
def expected(run, known):
    """Records and final state of a run that was not stopped, made once for each start."""

    def expected(weights):
        if weights not in known:
            known[weights] = run(None, weights)
        return known[weights]

    return expected


@pytest.fixture
def whole(run, tmp_path):
    """Records, final state, and the directory as it was after each round."""
    folder = tmp_path / "snapshots"
    records, state = run(tmp_path / "whole", logs=[Snapshots(folder)])
    return records, state, folder


def test_a_run_with_a_directory_is_the_same_as_one_without(run, whole):
    assert run(None) == whole[:2]


def test_the_file_of_rounds_holds_the_records(run, tmp_path):
    records, _ = run(tmp_path)
    lines = (tmp_path / "rounds.jsonl").read_text().splitlines()
    assert timeless(map(json.loads, lines)) == records


@every_start
def test_a_run_continues_after_its_last_round(run, expected, tmp_path, weights):
    run(tmp_path / "whole", weights, logs=[Snapshots(tmp_path)])
    for last in range(ROUNDS):
        assert run(tmp_path / str(last), weights) == expected(weights)


@pytest.mark.parametrize(("weights", "round"), [(cold, 0), (warm, 1), (cold, ROUNDS)])
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_before_any_write_of_a_round_loses_nothing(
    run, expected, tmp_path, monkeypatch, weights, step, round
):
    calls = []
    write = getattr(RunDirectory, step)

    def killed(self, *args):
        calls.append(step)
        if len(calls) == round + 1:
            raise KilledError
        write(self, *args)

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(RunDirectory, step, killed)
        run(tmp_path, weights)
    assert len(calls) == round + 1
    assert run(tmp_path, weights) == expected(weights)


@pytest.mark.parametrize("hook", ["on_train_start", "on_train_end", "on_test_start"])
def test_a_kill_inside_a_round_does_the_round_again(run, whole, tmp_path, hook):
    with pytest.raises(KilledError):
        run(tmp_path / "run", logs=[KillAt(hook, 2)])
    assert len((tmp_path / "run" / "rounds.jsonl").read_text().splitlines()) == 2
    assert run(tmp_path / "run") == whole[:2]


def test_an_interrupt_while_training_ends_the_run_and_records_nothing(run, whole, tmp_path):
    class Interrupt(RoundLog):
        def on_train_batch_end(self, trainer, *args):
            if trainer.datamodule.round == 1:
                raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run(tmp_path / "run", logs=[Interrupt()])
    finally:
        signal.signal(signal.SIGINT, handler)
    assert len((tmp_path / "run" / "rounds.jsonl").read_text().splitlines()) == 1
    assert run(tmp_path / "run") == whole[:2]


def test_a_kill_in_every_round_ends_like_none(run, whole, tmp_path):
    for _ in range(ROUNDS):
        with pytest.raises(KilledError):
            run(tmp_path / "run", logs=[KillAt("on_train_end", 1)])
    assert run(tmp_path / "run") == whole[:2]


@pytest.mark.parametrize("kept", [1, 30, -1])
def test_a_torn_last_line_is_a_round_that_did_not_happen(run, whole, kept):
    records, state, folder = whole
    before, after = folder / "1", folder / "2"
    *earlier, last = (after / "rounds.jsonl").read_bytes().splitlines(keepends=True)
    (before / "rounds.jsonl").write_bytes(b"".join([*earlier, last[:kept]]))
    shutil.copy(after / "state" / "weights-0002.pt", before / "state")
    assert run(before) == (records, state)


def test_a_torn_only_line_starts_again(run, whole):
    records, state, folder = whole
    (folder / "0" / "rounds.jsonl").write_bytes(b'{"round": 0, "n_lab')
    assert run(folder / "0") == (records, state)


def test_a_kill_between_the_line_and_the_pool_loses_no_label(run, whole):
    records, state, folder = whole
    shutil.copy(folder / "0" / "state" / "pool.json", folder / "1" / "state")
    assert run(folder / "1") == (records, state)


def test_half_written_files_beside_the_good_ones_do_no_harm(run, whole):
    records, state, folder = whole
    for name in ("pool.json.partial", "weights-0002.partial"):
        (folder / "1" / "state" / name).write_bytes(b"half")
    assert run(folder / "1") == (records, state)


def test_a_complete_run_does_nothing(run, whole, tmp_path):
    records, state, _ = whole
    before = listing(tmp_path / "whole")
    assert run(tmp_path / "whole", logs=[KillAt("on_train_start", 0)]) == (records, state)
    assert listing(tmp_path / "whole") == before


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"seed": 1}, r"seed \(0 -> 1\)"),
        ({"model": {"width": 32, "shape": [1, 2]}}, r"model\.width \(16 -> 32\)"),
        ({"model": {"width": 16, "shape": [1, 3]}}, r"model\.shape"),
        ({"extra": True}, r"extra \(None -> True\)"),
    ],
    ids=["a number", "a nested number", "a list", "a key more"],
)
def test_another_configuration_is_refused_by_the_name_of_its_key(run, whole, change, key):
    folder = whole[2] / "1"
    before = listing(folder)
    with pytest.raises(ValueError, match=key):
        run(folder, config={**CONFIG, **change})
    assert listing(folder) == before


def test_a_configuration_with_a_key_less_is_refused(run, whole):
    with pytest.raises(ValueError, match=r"name \(x -> None\)"):
        run(whole[2] / "1", config={"seed": 0, "model": CONFIG["model"]})


def test_before_a_round_has_finished_the_configuration_may_change(run, whole, tmp_path):
    with pytest.raises(KilledError):
        run(tmp_path / "run", config={"seed": 5}, logs=[KillAt("on_train_start", 0)])
    assert run(tmp_path / "run") == whole[:2]


@pytest.mark.parametrize(
    "line",
    [b"{}", b'{"round": 7}', b"[]", b"nonsense", b""],
    ids=["no round", "another round", "a list", "no JSON", "empty"],
)
def test_a_damaged_line_is_refused_with_file_and_line(run, whole, line):
    folder = whole[2] / "2"
    lines = (folder / "rounds.jsonl").read_bytes().split(b"\n")
    lines[1] = line
    (folder / "rounds.jsonl").write_bytes(b"\n".join(lines))
    before = listing(folder)
    with pytest.raises(ValueError, match=r"rounds\.jsonl is damaged in line 2"):
        run(folder)
    assert listing(folder) == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"size": 3}', b"7"], ids=str)
def test_a_damaged_pool_is_refused_with_its_file(run, whole, content):
    folder = whole[2] / "1"
    (folder / "state" / "pool.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"pool\.json is damaged"):
        run(folder)


def test_a_pool_two_rounds_behind_the_lines_is_refused(run, whole):
    folder = whole[2]
    shutil.copy(folder / "0" / "state" / "pool.json", folder / "2" / "state")
    with pytest.raises(ValueError, match=r"pool\.json is damaged"):
        run(folder / "2")


def test_a_pool_ahead_of_the_lines_is_refused(run, whole):
    folder = whole[2]
    shutil.copy(folder / "2" / "state" / "pool.json", folder / "1" / "state")
    with pytest.raises(ValueError, match=r"pool\.json"):
        run(folder / "1")


def test_a_pool_that_holds_other_rows_than_the_lines_is_refused(run, whole):
    folder = whole[2] / "1"
    state = json.loads((folder / "state" / "pool.json").read_text())
    free = set(range(240)) - set(state["indices"]) - set(state["held_out"])
    state["indices"][-1] = min(free)
    (folder / "state" / "pool.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match=r"pool\.json"):
        run(folder)


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_lost_weights_are_refused_with_their_file(run, whole, damage):
    file = whole[2] / "1" / "state" / "weights-0001.pt"
    content = file.read_bytes()
    file.unlink()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"weights-0001\.pt cannot be read"):
        run(whole[2] / "1", warm)


def test_only_the_last_weights_are_kept(whole):
    for round in range(ROUNDS + 1):
        files = [file.name for file in (whole[2] / str(round) / "state").glob("*.pt")]
        assert set(files) <= {f"weights-{round:04d}.pt", f"weights-{round - 1:04d}.pt"}
        assert f"weights-{round:04d}.pt" in files
