"""What a run's folder writes is safe, and a write that fails loses nothing that was finished."""

import errno
import os
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
from kept_runs import contents, continued, play, weights


@pytest.fixture
def path(tmp_path):
    """A run's folder with two finished rounds."""
    path = tmp_path / "run"
    continued(path, 2)
    return path


@contextmanager
def full(operation):
    """Make the disk full at one of the times that it is asked to keep something."""
    calls, sync = [], os.fsync

    def fsync(handle):
        calls.append(handle)
        if len(calls) == operation + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield


SYNCS = [
    ("weights-0002.pt", 1),
    ("weights-0002.pt", 1),
    ("rounds.jsonl", 1),
    ("pool.json", 2),
    ("pool.json", 2),
]


@pytest.mark.parametrize("operation", range(len(SYNCS)))
def test_a_full_disk_is_one_line_and_the_run_continues_after_its_last_round(path, operation):
    name, done = SYNCS[operation]
    directory, data, records = continued(path)
    with full(operation), pytest.raises(ValueError, match=name) as error:
        play(directory, data, records)
    said = str(error.value)
    assert "cannot be written: No space left on device; free some space and give the same" in said
    assert said.endswith(f"continues after round {done}")
    assert "\n" not in said
    _, again, records = continued(path, 3 - done)
    assert [record["round"] for record in records] == [0, 1, 2, 3]
    assert again.n_labelled == 2 + 2 * 4


@contextmanager
def limited(size):
    """Let no file grow past `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_line_that_fits_in_part_is_taken_back(path, monkeypatch):
    monkeypatch.setattr("dal.run_directory.save_atomically", lambda *_: None)
    file = path / "rounds.jsonl"
    before = file.read_bytes()
    directory, data, records = continued(path)
    said = r"rounds\.jsonl cannot be written: File too large"
    with limited(len(before) + 20), pytest.raises(ValueError, match=said):
        play(directory, data, records)
    assert file.read_bytes() == before


def test_weights_that_fit_in_part_leave_the_old_ones(path):
    directory, data, records = continued(path)
    before = contents(path)
    said = r"weights-0002\.pt cannot be written: File too large"
    with limited(100), pytest.raises(ValueError, match=said):
        play(directory, data, records)
    assert contents(path) == before


def test_before_any_round_a_full_disk_says_that_the_run_begins_anew(tmp_path):
    directory, data, records = continued(tmp_path)
    with limited(100), pytest.raises(ValueError, match="which begins with round 0"):
        play(directory, data, records)


@pytest.mark.parametrize("metric", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_not_finite_is_refused_by_its_name_and_nothing_is_written(path, metric):
    directory, data, _ = continued(path)
    before = contents(path)
    record = {"round": 2, "test/nll": metric, "scores": [0.0], "acquired": [], "val/loss": None}
    with pytest.raises(ValueError, match="round 2: test/nll must be finite"):
        directory.commit(record, data, weights(2))
    assert contents(path) == before


def test_files_are_safe_before_they_take_the_place_of_the_old(path, monkeypatch):
    directory, data, records = continued(path)
    steps, sync, replace = [], os.fsync, Path.replace

    def fsync(handle):
        steps.append(("sync", Path(f"/proc/self/fd/{handle}").readlink().name))
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(
        Path, "replace", lambda a, b: (steps.append(("rename", b.name)), replace(a, b))
    )
    play(directory, data, records)
    assert steps == [
        ("sync", "weights-0002.pt.partial"),
        ("rename", "weights-0002.pt"),
        ("sync", "state"),
        ("sync", "rounds.jsonl"),
        ("sync", "pool.json.partial"),
        ("rename", "pool.json"),
        ("sync", "state"),
    ]


@pytest.fixture
def synced(monkeypatch):
    """The files and folders that the disk was asked to keep, in order."""
    paths, sync = [], os.fsync

    def fsync(handle):
        paths.append(Path(f"/proc/self/fd/{handle}").readlink())
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    return paths


def test_the_first_line_is_safe_with_the_name_of_its_new_file(tmp_path, synced):
    directory, data, records = continued(tmp_path)
    synced.clear()
    play(directory, data, records)
    line = synced.index(tmp_path / "rounds.jsonl")
    assert synced[line + 1] == tmp_path


def test_a_file_system_that_syncs_no_folders_is_written_all_the_same(tmp_path, monkeypatch):
    sync = os.fsync

    def fsync(handle):
        if Path(f"/proc/self/fd/{handle}").readlink().is_dir():
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    continued(tmp_path, 2)
    assert len(continued(tmp_path)[2]) == 2
