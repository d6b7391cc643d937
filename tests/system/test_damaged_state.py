"""A full disk, a read-only folder, damaged files, changed data: one line, and nothing is lost."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import pytest
import torch
from cli import ROOT

COMMAND = ["logger=none", "strategy=margin", "rounds=2", "steps=5", "query_size=5"]
RUN = Path("runs/default/digits-cnn/margin/seed=0")
FONTS = mpl.get_configdir()  # found once, not anew in every empty home
CLOCKS = ("seconds", "bytes")


def started(folder, limit=None):
    """Run `train.py` in another process, with no file above `limit` blocks."""
    command = [sys.executable, str(ROOT / "train.py"), *COMMAND]
    if limit:
        command = ["sh", "-c", f'ulimit -f {limit} && exec "$@"', "sh", *command]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HYDRA_FULL_ERROR": "0"}
    environment |= {"MPLCONFIGDIR": FONTS}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def rounds(folder):
    lines = (folder / RUN / "rounds.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [{k: v for k, v in r.items() if not k.endswith(CLOCKS)} for r in records]


def line_of(code, err):
    """Give the one line that a refused run ends with."""
    assert code == 1
    (line,) = err.strip().splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture(scope="module")
def _kept(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.fixture
def whole(_kept, train, folder):
    """The folder of a run that nothing went wrong with, made once."""
    if not any(_kept.iterdir()):
        ended = train(*COMMAND)
        assert ended.code == 0, ended.err
        (folder / "runs").rename(_kept / "runs")
    return _kept


@contextmanager
def mounted(folder, options):
    """A small file system in memory."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if (
        not shutil.which("mount")
        or subprocess.run(command, capture_output=True, check=False).returncode
    ):
        pytest.skip("this user may not mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remounted(folder, options):
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def test_a_limit_on_the_size_of_files_ends_the_run_with_one_line_until_it_is_lifted(
    train, folder, whole
):
    ended = started(folder, limit=64)
    line = line_of(ended.returncode, ended.stderr)
    assert "weights-0000.pt cannot be written: File too large; free some space" in line
    assert line.endswith("which begins with round 0")
    assert train(*COMMAND).code == 0
    assert rounds(folder) == rounds(whole)


def test_a_disk_that_fills_up_ends_the_run_with_one_line_until_there_is_space(
    train, tmp_path, monkeypatch, whole
):
    disk = tmp_path / "disk"
    files = [file for file in whole.rglob("*") if file.is_file()]
    files = [file for file in files if file.name != "complete.json"]  # which is written last
    sizes = {file.name: file.stat().st_size // 4096 + 1 for file in files}  # in pages
    space = sum(sizes.values()) + sizes["weights-0002.pt"] // 2  # for one and a half weights
    with mounted(disk, f"size={4 * (space + 12)}k"):  # and the folders
        ended = started(disk)
        line = line_of(ended.returncode, ended.stderr)
        assert "weights-0001.pt cannot be written: No space left on device; free some" in line
        assert line.endswith("which continues after round 0")
        assert rounds(disk) == rounds(whole)[:1]
        remounted(disk, "size=64m")
        monkeypatch.chdir(disk)
        assert train(*COMMAND).code == 0
        assert rounds(disk) == rounds(whole)
        monkeypatch.chdir(tmp_path)


def test_a_folder_that_may_only_be_read_is_one_line_and_stays_as_it_was(
    train, tmp_path, monkeypatch, whole
):
    disk = tmp_path / "disk"
    with mounted(disk, "size=64m"):
        shutil.copytree(whole / "runs", disk / "runs")
        before = {file: file.read_bytes() for file in disk.rglob("*") if file.is_file()}
        remounted(disk, "ro")
        monkeypatch.chdir(disk)
        for arguments, place in (((), "seed=0"), (("name=new",), "runs")):
            ended = train(*COMMAND, *arguments)
            line = line_of(ended.code, ended.err)
            assert "Read-only file system" in line
            assert place in line
        monkeypatch.chdir(tmp_path)
        assert {file: file.read_bytes() for file in disk.rglob("*") if file.is_file()} == before


@pytest.fixture
def run(folder, whole):
    shutil.copytree(whole / "runs", folder / "runs")
    return folder / RUN


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rounds.jsonl", b"not json\n"),
        ("rounds.jsonl", b""),
        ("config.yaml", None),
        ("config.yaml", b"seed: !!python/object/apply:os.mkdir [canary]\n"),
        ("state/pool.json", b"{"),
        ("state/data.json", None),
        ("state/weights-0002.pt", b"PK\x03\x04"),
    ],
)
def test_a_damaged_file_of_a_run_is_named_and_the_run_stays_as_it_was(train, run, name, content):
    (run / name).unlink() if content is None else (run / name).write_bytes(content)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    ended = train(*COMMAND)
    line = line_of(ended.code, ended.err)
    assert f"{name} is damaged" in line
    assert "restore it, or delete" in line
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    assert not Path("canary").exists()


def test_data_that_changed_since_the_run_began_is_refused(train, folder):
    arguments = [*COMMAND, "model=mlp", "dataset=tensors", "dataset.path=data.pt"]
    inputs, targets = torch.randn(60, 3), torch.arange(60) % 2
    torch.save({"inputs": inputs, "targets": targets}, "data.pt")
    assert train(*arguments).code == 0
    torch.save({"inputs": inputs[:-5], "targets": targets[:-5]}, "data.pt")
    ended = train(*arguments)
    line = line_of(ended.code, ended.err)
    assert "the data set changed since the run in runs/" in line
    assert "train rows 48 then and 44 now" in line
    torch.save({"inputs": inputs, "targets": targets}, "data.pt")
    assert train(*arguments).code == 0


def test_a_second_process_in_the_folder_of_a_run_is_told_who_is_there(train, run):
    hold = (
        "import fcntl, os, sys, time\n"
        "file = open(sys.argv[1], 'w')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "time.sleep(600)"
    )
    holder = {"process": 7, "host": "node1", "since": "18:02", "command": "python train.py"}
    file = run / "state" / "lock"
    command = [sys.executable, "-c", hold, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        file.write_text(json.dumps(holder))
        ended = train(*COMMAND)
        process.kill()
    line = line_of(ended.code, ended.err)
    assert "is in use by process 7 on node1 since 18:02 (python train.py); wait for it" in line
    assert train(*COMMAND).code == 0
