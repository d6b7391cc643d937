"""What a run directory holds in the end, compared with that of a run that nobody disturbed."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMES = ("train_seconds", "acquisition_seconds", "test_seconds", "peak_memory_bytes")


@dataclass(frozen=True)
class Outcome:
    """What must be equal: the rounds without their times, and what W&B has."""

    rounds: list[dict[str, Any]]
    ids: int  # of W&B runs
    logged: dict[int, int]  # W&B's step -> how often
    ended: bool  # exit code 0


def outcome(folder: Path) -> Outcome:
    """Read a run directory."""
    lines = (folder / "rounds.jsonl").read_text().splitlines()
    rounds = [
        {key: value for key, value in json.loads(line).items() if key not in TIMES}
        for line in lines
    ]
    found = [entry for file in folder.glob("wandb/*run-*/*.wandb") for entry in inspect(file)]
    steps = [e["history"]["item"]["_step"] for e in found if e["type"] == "history"]
    return Outcome(
        rounds,
        len({entry["run"]["run_id"] for entry in found if entry["type"] == "run"}),
        dict(sorted(Counter(steps).items())),
        any(e["type"] == "exit" and not e["exit"].get("exit_code") for e in found),
    )


def inspect(file: Path) -> list[dict[str, Any]]:
    """Read a file of W&B's by its own command; one that was torn is read as far as it goes."""
    line = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)  # noqa: S603
    return [json.loads(text) for text in ended.stdout.splitlines() if text.startswith("{")]


def differences(wanted: Outcome, got: Outcome) -> list[str]:
    """Say in a line each what is not equal."""
    found = []
    if len(got.rounds) != len(wanted.rounds):
        found.append(f"{len(got.rounds)} lines in rounds.jsonl instead of {len(wanted.rounds)}")
    for ours, theirs in zip(wanted.rounds, got.rounds, strict=False):
        keys = [key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)]
        if keys:
            found.append(f"round {ours['round']}: {', '.join(sorted(keys))} differ")
    for name in ("ids", "logged", "ended"):
        ours, theirs = getattr(wanted, name), getattr(got, name)
        if ours != theirs:
            found.append(f"W&B's {name}: {theirs} instead of {ours}")
    return found


def n_rounds(folder: Path) -> int:
    """Count the finished rounds."""
    file = folder / "rounds.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def phase(folder: Path, said: str) -> str:
    """Tell from its files and its output where a run was killed."""
    if not said:
        return "before it spoke"
    file, done = folder / "rounds.jsonl", n_rounds(folder)
    content = file.read_bytes() if file.exists() else b""
    if any(folder.rglob("*.partial")) or content[-1:] not in (b"", b"\n"):
        return "in a file"
    rounds = [int(weights.stem.rpartition("-")[2]) for weights in folder.glob("state/weights-*.pt")]
    if rounds and (max(rounds) >= done or len(rounds) > 1):
        return "between two files"
    if done and not json.loads(content.splitlines()[-1])["acquired"]:
        return "after the last round"
    return "in a later round" if done else "in the first round"
