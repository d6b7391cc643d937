"""Start processes that work together, and end them if they wait for each other."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import distributed, multiprocessing

SECONDS = 300  # a process that waits for another one for ever must not stop the tests

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
SCRIPT = """
import sys
sys.path[:0] = {paths}
from {module} import *
{call}
"""


def answers_of(work, count, folder):
    """Run `work(rank)` in each of some processes of one group; what it returned, by rank."""
    processes = multiprocessing.spawn(_answer, (work, count, str(folder)), count, join=False)
    deadline = time.monotonic() + SECONDS
    try:
        while not processes.join(timeout=1):  # it returns whenever one of them ends
            assert time.monotonic() < deadline, "the processes wait for each other"
    finally:
        for process in processes.processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]


def _answer(rank, work, count, folder):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count
    )
    torch.save(work(rank), Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def script_of(module, folder, call):
    """Write a script that imports a test module and calls one of its functions."""
    paths = [str(Path(module).parent), str(Path(__file__).parent), str(Path(__file__).parents[1])]
    script = folder / "script.py"
    script.write_text(SCRIPT.format(paths=paths, module=Path(module).stem, call=call))
    return script


def environment():
    """Variables of processes that meet on a port of their own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return os.environ | address


def answers_of_script(script, folder, *, by=()):
    """Run a script that starts its second process itself, or by torchrun; the two files it left."""
    done = subprocess.run(
        [sys.executable, *by, str(script)], env=environment(), cwd=folder, timeout=SECONDS,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def train_by_two(module, folder):
    """Run `train(folder, devices=2, strategy="ddp")` of a test module; the two files it left."""
    script = script_of(module, folder, f'train({str(folder)!r}, devices=2, strategy="ddp")')
    return answers_of_script(script, folder)
