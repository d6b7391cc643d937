"""One process at a time in a run's folder, and no lock outlives its holder."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from dal.run_lock import locked

HOLD = """
import os, sys, time
from pathlib import Path
from dal.run_lock import locked
with locked(Path(sys.argv[1]), Path("runs/x")):
    {then}
    print("held", flush=True)
    time.sleep(600)
"""
FORK = """
    if not os.fork():
        print(os.getpid(), flush=True)
        time.sleep(600)
    time.sleep(0.1)
"""


@contextmanager
def holder(file, then=""):
    """Another process that holds the lock; gives it and the first line that it prints."""
    script = HOLD.format(then=then.strip())
    command = [sys.executable, "-c", script, str(file)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "lock"


def test_a_second_process_is_told_who_holds_the_folder_until_that_one_dies(file):
    with holder(file) as (process, said):
        assert said == "held"
        with pytest.raises(ValueError, match="is in use") as error, locked(file, "runs/x"):
            pass
        expected = f"runs/x is in use by process {process.pid} on {socket.gethostname()} since 20"
        assert str(error.value).startswith(expected)
        assert "-c" in str(error.value)
        assert str(error.value).endswith("; wait for it, or choose another name=...")
        assert "\n" not in str(error.value)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with locked(file, "runs/x"):
            assert json.loads(file.read_text())["process"] == os.getpid()


def test_a_worker_that_was_forked_does_not_keep_a_dead_holders_lock(file):
    with holder(file, then=FORK) as (process, said):
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.kill(int(said), 0)  # it lives
        with locked(file, "runs/x"):
            pass
        os.kill(int(said), signal.SIGKILL)


def test_the_same_process_is_refused_too_and_its_lock_stays(file):
    take = (
        "import fcntl, sys\n"
        "try: fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except OSError: print('refused')"
    )
    with locked(file, "runs/x"):
        with pytest.raises(ValueError, match="in use by this process"), locked(file, "runs/x"):
            pass
        other = subprocess.run(
            [sys.executable, "-c", take, str(file)], capture_output=True, text=True, check=True
        )
        assert other.stdout == "refused\n"
    with locked(file, "runs/x"):
        pass


def test_the_file_stays_and_is_empty_when_the_lock_is_given_back(file):
    with locked(file, "runs/x"):
        assert json.loads(file.read_text())["host"] == socket.gethostname()
    assert file.read_bytes() == b""


def test_a_failure_gives_the_lock_back(file):
    with pytest.raises(ZeroDivisionError), locked(file, "runs/x"):
        1 / 0  # noqa: B018
    with locked(file, "runs/x"):
        pass


def test_a_file_system_without_locks_is_said_once_and_the_run_goes_on(file, monkeypatch, caplog):
    def fail(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", fail)
    with locked(file, "runs/x"):
        pass
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("runs/x has no locks (No locks available)")


@pytest.mark.parametrize(
    "facts", [b"", b"nonsense", b"[]", b"{}", b"7", b"\xff\xfe", b'{"process": 1}', b"[" * 10**6]
)
def test_facts_that_cannot_be_read_are_another_process(file, monkeypatch, facts):
    assert "in use by another process;" in told(file, monkeypatch, facts)


def test_facts_with_control_characters_are_one_printable_line(file, monkeypatch):
    facts = {"process": 1, "host": "a\nb", "since": "\x1b[31m", "command": "x" * 5000}
    said = told(file, monkeypatch, json.dumps(facts).encode())
    assert said.isprintable()
    assert len(said) < 500


def told(file, monkeypatch, facts):
    def fail(*_):
        raise BlockingIOError(errno.EAGAIN, "held")

    file.write_bytes(facts)
    monkeypatch.setattr(fcntl, "lockf", fail)
    with pytest.raises(ValueError, match="in use") as error, locked(file, "runs/x"):
        pass
    assert file.read_bytes() == facts
    return str(error.value)


def test_a_lock_that_cannot_be_written_is_named(file):
    file.mkdir()
    with (
        pytest.raises(ValueError, match=r"lock cannot be written: Is a directory"),
        locked(file, "x"),
    ):
        pass
