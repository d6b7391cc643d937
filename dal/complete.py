"""A run that came to its end, recognised before torch is loaded.

What is left by the end of a run says of which settings and of which files it was the end. Of other
settings, or with a file that changed since, the run is looked at in full.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILES = ("config.yaml", "rounds.jsonl")


@dataclass(frozen=True)
class Complete:
    """What a complete run is said to be.

    Args:
        n_labelled: labels that its last model was trained on.
        value: how well it did, see `keep_end`.
    """

    n_labelled: int
    value: float | None


def keep_end(
    directory: Path, settings: Mapping[str, Any], *, n_labelled: int, value: float | None
) -> None:
    """Keep that a run is complete, after its logs were closed.

    Args:
        directory: of the run.
        settings: of the run, plain.
        n_labelled: labels that its last model was trained on.
        value: what a search over settings shall maximise.

    Raises:
        ValueError: if it cannot be written.
    """
    from dal.files import write_atomically

    content = {"end_of": _digest(directory, settings), "n_labelled": n_labelled, "value": value}
    write_atomically(_file(directory), json.dumps(content).encode())


def find_end(directory: Path, settings: Mapping[str, Any]) -> Complete | None:
    """Say how a run ended, or None if it has to be looked at.

    Args:
        directory: of the run; it need not be there.
        settings: of the run, plain.
    """
    try:
        content = json.loads(_file(directory).read_bytes())
        if content["end_of"] == _digest(directory, settings):
            return Complete(content["n_labelled"], content["value"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    return None


def _file(directory: Path) -> Path:
    return directory / "state" / "complete.json"


def _digest(directory: Path, settings: Mapping[str, Any]) -> str:
    parts = [json.dumps(settings, default=str).encode()]
    parts += [(directory / name).read_bytes() for name in FILES]
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
