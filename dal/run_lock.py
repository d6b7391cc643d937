"""One process at a time in a run's folder."""

import errno
import fcntl
import json
import logging
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from dal.files import parse_json, reason, unwritable

logger = logging.getLogger(__name__)

_held: set[tuple[int, Path]] = set()  # by this process, which the system would let in again


@contextmanager
def locked(file: Path, what: Path) -> Iterator[None]:
    """Hold the lock of a file inside the block.

    It is a POSIX record lock: forked workers do not inherit it, and the system, that of an NFS
    server included, gives it back when the holder dies. The file says who holds it and stays,
    since a file that is removed could be locked by two. Where the file system has no locks, a
    warning says so and nothing is held.

    Args:
        file: the lock's; made if missing, in a folder that is there.
        what: the folder that it guards, for the message.

    Raises:
        ValueError: if another holds it, saying who, or the file cannot be written.
    """
    key = (os.getpid(), file.resolve())
    if key in _held:  # opening and closing the file again would give the lock back
        raise ValueError(
            f"{what} is in use by this process ({os.getpid()}); choose another name=..."
        )
    try:
        stream = os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0)
    except OSError as error:
        raise unwritable(file, error) from error
    with stream:
        _take(stream, what)
        _held.add(key)
        try:
            _write(stream, file, _own())
            yield
        finally:
            _held.discard(key)
            with suppress(OSError):  # the disk may be what ended the run
                stream.truncate(0)


def _take(stream: BinaryIO, what: Path) -> None:
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            logger.warning(
                "%s has no locks (%s): see that no second process runs there", what, reason(error)
            )
            return
        raise ValueError(
            f"{what} is in use by {_holder(stream)}; wait for it, or choose another name=..."
        ) from None


def _own() -> dict[str, str | int]:
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
    }


def _write(stream: BinaryIO, file: Path, holder: dict[str, str | int]) -> None:
    try:
        stream.truncate(0)
        stream.write(json.dumps(holder).encode())
    except OSError as error:
        raise unwritable(file, error) from error


def _holder(stream: BinaryIO) -> str:
    """Who says to hold the lock; any text may stand there."""
    try:
        holder = parse_json(stream.read(10_000))
        said = "process {process} on {host} since {since} ({command})".format(**holder)
    except (ValueError, TypeError, KeyError, LookupError, AttributeError):
        return "another process"
    return reason(ValueError(said))
