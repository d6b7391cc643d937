"""Features kept on disk under a name that says what they were computed from."""

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from dal.data.data import Rows
from dal.data.fingerprint import hash_inputs
from dal.functional.checks import check_features


def fingerprint(rows: Rows) -> str:
    """Hash of the inputs of a data set, read once in their order; labels have no part in it."""
    return hash_inputs(rows, torch.arange(len(rows)))


def weights_fingerprint(network: nn.Module) -> str:
    """Hash of the weights and buffers of a network."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def cached(
    folder: str | Path, kind: str, source: Mapping[str, Any], compute: Callable[[], Tensor]
) -> Tensor:
    """Read features from the cache, or compute and keep them.

    Args:
        folder: of the cache; made if missing.
        kind: first part of the file's name.
        source: all that the features depend on, as plain values; its hash is the rest of the name.
        compute: gives [N, D] float32.

    Returns:
        [N, D] float32 on the CPU.

    Raises:
        ValueError: if the kept file is damaged or the folder cannot be written, naming it.
    """
    text = json.dumps(source, sort_keys=True)
    file = Path(folder) / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.pt"
    if file.exists():
        return _read(file)
    with _locked(file, kind):
        if file.exists():  # by another process, for which this one waited
            return _read(file)
        _say(f"{kind}, computed once and kept as {file}")
        partial = _claim(file)  # before the work, which may take hours
        try:
            features = compute()
            check_features("features", features)
            try:
                torch.save({"features": features, "source": text}, partial)
                partial.replace(file)
            except (OSError, RuntimeError) as error:  # of torch where the disk is full
                raise _unwritable(file, error) from error
        finally:
            partial.unlink(missing_ok=True)
    return features


def _read(file: Path) -> Tensor:
    try:
        features: Tensor = torch.load(file, weights_only=True)["features"]
        check_features("features", features)
    except Exception as error:  # a damaged file has many kinds of error
        raise ValueError(f"{file} is damaged: {error}; remove it") from error
    return features


@contextmanager
def _locked(file: Path, kind: str) -> Iterator[None]:
    """Hold a lock beside the file, so that the jobs of a sweep compute its content once.

    The system gives the lock back when its holder dies. Where the file system has no locks,
    several jobs compute, and one file wins.
    """
    lock = file.with_name(f"{file.name}.lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        stream = lock.open("w")
    except OSError as error:
        raise _unwritable(file, error) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"{kind}: another process computes them; waiting")
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError:
            _say(f"{kind}: {file.parent} has no locks; other jobs may compute the same")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _claim(file: Path) -> Path:
    """An empty file beside it, of a name that no other process has."""
    try:
        handle, name = tempfile.mkstemp(".partial", f"{file.name}.", file.parent)
    except OSError as error:
        raise _unwritable(file, error) from error
    os.close(handle)
    return Path(name)


def _unwritable(file: Path, error: Exception) -> ValueError:
    return ValueError(f"cache_dir {file.parent} must be writable: {error}")


def _say(line: str) -> None:
    Console(highlight=False, soft_wrap=True).print(f"features  {line}")
