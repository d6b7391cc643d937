"""Read W&B's files back by its own command."""

import json
import subprocess
import sys
import time


def inspect(file):
    """Give the file's records, as far as a kill left them."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    out = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def wait_for_end(file, seconds=20):
    """Wait for what W&B's service writes shortly after a run was finished."""
    end = time.monotonic() + seconds
    while not any(record["type"] == "exit" for record in inspect(file)):
        assert time.monotonic() < end, f"{file} never ends"
