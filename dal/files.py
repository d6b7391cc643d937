"""Files that a kill or a full disk leaves whole, and that are read as data, never executed."""

import errno
import json
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
import yaml

DEEPEST = 50  # levels of a configuration
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def replacing(file: Path) -> Iterator[BinaryIO]:
    """Open a new content for a file; the old one stays until the disk has the whole of the new.

    Args:
        file: its folder must be there. One process at a time may write it.

    Raises:
        ValueError: if it cannot be written, naming it.
    """
    partial = file.with_name(f"{file.name}.partial")
    try:
        with partial.open("wb") as stream:
            yield stream
        settle(partial, file)
    except (OSError, RuntimeError) as error:  # of torch where the disk is full
        raise unwritable(file, error) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def settle(partial: Path, file: Path) -> None:
    """Give a file that is written whole its name, once the disk has it."""
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(file)
    _sync_folder(file.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, if they are missing.

    Raises:
        ValueError: if that cannot be, naming it.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for made in missing:
            _sync_folder(made.parent)
    except OSError as error:
        raise unwritable(folder, error) from error


def write_atomically(file: Path, content: bytes) -> None:
    """Write a file so that a kill leaves either the old content or the new."""
    with replacing(file) as stream:
        stream.write(content)


def save_atomically(file: Path, content: Any) -> None:
    """Write tensors as `torch.save` does, so that a kill leaves the old content or the new."""
    with replacing(file) as stream:
        torch.save(content, stream)


def append(file: Path, content: bytes) -> None:
    """Add to the end of a file and wait until the disk has it; all of it or nothing.

    A kill may leave a part, which is for the reader to drop.

    Raises:
        ValueError: if it cannot be written, naming it. Nothing is added then.
    """
    try:
        with file.open("ab", buffering=0) as stream:  # a buffer would write again on closing
            end = stream.tell()
            try:
                rest = memoryview(content)
                while rest:
                    rest = rest[stream.write(rest) :]
                os.fsync(stream.fileno())
            except OSError:
                os.ftruncate(stream.fileno(), end)
                raise
        if not end:
            _sync_folder(file.parent)
    except OSError as error:
        raise unwritable(file, error) from error


def parse_json(text: bytes) -> Any:
    """Read JSON that has finite numbers alone.

    Raises:
        ValueError: if it is none, or nested too deeply to be one of ours.
    """
    try:
        return json.loads(text, parse_constant=_finite, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(file: Path) -> Any:
    """Read a file of JSON.

    Raises:
        ValueError: if it cannot be read or is no JSON with finite numbers.
    """
    try:
        return parse_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(reason(error)) from error


def parse_mapping(text: str) -> dict[Any, Any]:
    """Read YAML that can neither make objects nor grow when it is read.

    Raises:
        ValueError: if it holds no keys and values, has aliases or is nested too deeply.
        yaml.YAMLError: if it is no YAML.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, if it was built
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > DEEPEST:
            raise ValueError("it has aliases or is nested too deeply")
    loaded = yaml.load(text, Loader=loader)  # noqa: S506  # both are safe loaders
    if not isinstance(loaded, dict):
        raise ValueError(f"it must hold keys and values, got {type(loaded).__name__}")
    return loaded


def load_tensors(file: Path) -> Any:
    """Read what `torch.save` wrote, on the CPU; whatever is no tensor or plain value is refused.

    Raises:
        ValueError: if the file is missing or damaged, or holds objects, which are not made.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            wrong = archive.testzip()  # torch checks no sums
        if wrong is not None:
            raise ValueError(f"the sum of its part {wrong} is wrong")
        return torch.load(file, weights_only=True, map_location="cpu")
    except OSError as error:
        raise ValueError(reason(error)) from error
    except Exception as error:  # zip and pickle errors alike, with advice to trust the file
        raise ValueError("it is damaged, or holds more than tensors and plain values") from error


def unwritable(file: Path, error: Exception) -> ValueError:
    """Say which file could not be written, why, and what to do."""
    cause: BaseException | None = error
    while cause and not isinstance(cause, OSError):  # torch hides the system's own
        cause = cause.__cause__ or cause.__context__
    number = cause.errno if isinstance(cause, OSError) else None
    remedy = "free some space" if number in NO_SPACE else f"see that {file.parent} can be written"
    return ValueError(
        f"{file} cannot be written: {reason(cause or error)}; {remedy} and give the same command "
        f"again"
    )


def reason(error: BaseException) -> str:
    """Give what an error says, in one short line of printable characters."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    words = " ".join("".join(c if c.isprintable() else " " for c in said[:2000]).split())
    return (words if len(words) <= 300 else f"{words[:300]}…") or type(error).__name__


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"numbers must be finite, got {text[:20]}")
    return number


def _sync_folder(folder: Path) -> None:
    """Wait until the disk has the names of a folder's files."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of file systems where folders cannot be synced
            raise
    finally:
        os.close(handle)
