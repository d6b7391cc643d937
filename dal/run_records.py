"""Reading `rounds.jsonl`: what a run finished, checked before anything is built on it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dal.callbacks.round_log import Record
from dal.files import parse_json, reason

COUNTS = ("round", "n_labelled", "labels_used", "n_pool")
SCORES = {int, float, type(None)}  # null stands for minus infinity, which JSON lacks
LISTS = ("acquired", "acquired_labels", "scores")
COSTS = "acquired_costs"  # where labels have any, one each
GROUPS = "test/group_accuracy"  # {group: share of its test rows}


def read_lines(file: Path) -> list[bytes]:
    """Read the lines of a file that need not be there; the last is what follows the last newline.

    Raises:
        ValueError: if it cannot be read, naming it.
    """
    try:
        return file.read_bytes().split(b"\n")
    except FileNotFoundError:
        return [b""]
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {reason(error)}; restore it") from error


def read_records(
    file: Path, lines: list[bytes], *, rows: int, held_out: int, classes: int, least: int = 0
) -> list[Record]:
    """Turn the lines of the finished rounds into records.

    Args:
        file: where they are from.
        lines: one of JSON per round.
        rows: of the train set.
        held_out: rows of it that can never be bought.
        classes: labels lie below.
        least: the lowest label; -1 where rows may belong to no class.

    Raises:
        ValueError: if a line is damaged or contradicts those before, naming it.
    """
    records: list[Record] = []
    bought: set[int] = set()
    for number, line in enumerate(lines):
        try:
            record = _checked(parse_json(line), rows, classes, least)
            _follows(record, records)
            bought_now = record["n_labelled"] + (record["n_no_class"] if least < 0 else 0)
            if record["n_pool"] != rows - held_out - bought_now:
                raise ValueError(f"it counts {record['n_pool']} rows in the pool")
            if record["labels_used"] != bought_now + held_out:
                raise ValueError(f"it counts {record['labels_used']} labels used")
            _add(bought, record["acquired"])
        except ValueError as error:
            raise ValueError(
                f"{file} is damaged in line {number + 1} ({reason(error)}); restore it, or "
                f"delete {file.parent} to start again"
            ) from error
        records.append(record)
    return records


def _checked(record: Any, rows: int, classes: int, least: int) -> Record:
    """Return a record that has what a run needs, of the right types."""
    if not isinstance(record, dict):
        raise ValueError(f"a round must be an object, got {type(record).__name__}")
    counts = (*COUNTS, *(["n_no_class"] if least < 0 else []))
    missing = [name for name in (*counts, *LISTS) if name not in record]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing")
    for name in counts:
        if type(record[name]) is not int or record[name] < 0:
            raise ValueError(f"{name} must be a whole number from 0 up")
    check_purchase(*(record[name] for name in LISTS), rows=rows, classes=classes, least=least)
    groups = record.get(GROUPS, {})
    if not isinstance(groups, dict) or _kinds(groups.values()) - {int, float}:
        raise ValueError(f"{GROUPS} must hold numbers by name")
    _check_costs(record.get(COSTS), record)
    if "stopped" in record and (type(record["stopped"]) is not str or record["acquired"]):
        raise ValueError("stopped must be a text, in a round that bought nothing")
    known = {*counts, *LISTS, COSTS, GROUPS, "stopped"}
    other = [name for name in record.keys() - known if not _plain(record[name])]
    if other:
        raise ValueError(f"{', '.join(sorted(other))} must be a number, or null")
    return record


def _check_costs(costs: Any, record: Record) -> None:
    if costs is None:
        return
    if not isinstance(costs, list) or _kinds(costs) - {int, float}:
        raise ValueError(f"{COSTS} must be a list of numbers")
    if len(costs) != len(record["acquired"]):
        raise ValueError(f"acquired and {COSTS} must be of one length")


def check_purchase(
    acquired: Any, labels: Any, scores: Any, *, rows: int, classes: int, least: int = 0
) -> None:
    """Raise ValueError unless these are the rows, labels and scores of a purchase.

    Args:
        acquired: rows of the dataset.
        labels: one class number each.
        scores: one each, or None.
        rows: of the dataset.
        classes: how many there are.
        least: the lowest label.
    """
    for name, listed in (("acquired", acquired), ("acquired_labels", labels)):
        if not isinstance(listed, list) or _kinds(listed) - {int}:
            raise ValueError(f"{name} must be a list of whole numbers")
    if scores is not None and (not isinstance(scores, list) or _kinds(scores) - SCORES):
        raise ValueError("scores must be a list of numbers and nulls, or null")
    if len(labels) != len(acquired) or len(acquired if scores is None else scores) != len(acquired):
        raise ValueError("acquired, acquired_labels and scores must be of one length")
    if any(not least <= label < classes for label in labels):
        raise ValueError(f"labels must lie between {least} and {classes - 1}")
    outside = [index for index in acquired if not 0 <= index < rows]
    if outside:
        raise ValueError(f"acquired must lie between 0 and {rows - 1}, got {outside[0]}")


def _follows(record: Record, earlier: list[Record]) -> None:
    """Refuse a record that cannot come after those before it."""
    if record["round"] != len(earlier):
        raise ValueError(f"round {record['round']} where {len(earlier)} was expected")
    if not earlier:
        return
    last = earlier[-1]
    if not last["acquired"]:
        raise ValueError("the round before was the last, it bought nothing")
    of_a_class = sum(label >= 0 for label in last["acquired_labels"])
    if record["n_labelled"] != last["n_labelled"] + of_a_class:
        raise ValueError(f"it counts {record['n_labelled']} labelled rows")


def _add(bought: set[int], acquired: list[int]) -> None:
    for index in acquired:
        if index in bought:
            raise ValueError(f"row {index} is bought twice")
        bought.add(index)


def _kinds(listed: Iterable[Any]) -> set[type]:
    return set(map(type, listed))


def _plain(value: Any) -> bool:
    return value is None or type(value) in (int, float)
