"""What tells one data set from another: its sizes, its classes, and hashes."""

import hashlib
from typing import Any

import torch
from torch import Tensor

from dal.data.data import Data, Rows, TensorRows

ROWS = 1024
SMALL = 64 * 2**20  # bytes in memory that are hashed whole, in less than a tenth of a second
SAMPLE = 256  # rows of more than that
DECODED = 32  # rows that have to be read from files
PARTIAL = {"target rows", "target inputs", "test groups", "costs"}  # described where there are some


def hash_inputs(rows: Rows, indices: Tensor) -> str:
    """Hash the inputs of some rows, read once in the order given; labels have no part in it.

    Args:
        rows: the data set.
        indices: [n] long.
    """
    digest = hashlib.sha256()
    for block in indices.split(ROWS):
        batch = rows[block].contiguous()
        digest.update(f"{batch.dtype}{list(batch.shape)}".encode())
        digest.update(batch.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def facts(data: Data, costs: Tensor | None = None) -> dict[str, Any]:
    """Describe a data set so cheaply that every start of a run can compare it with the last.

    All labels are hashed. So are all inputs that lie in memory and are few; of more, a fixed
    sample evenly spread from the first row to the last.

    Args:
        data: the data set.
        costs: [train rows] of the labels; None if they have none.

    Returns:
        Plain values, by the words in which a difference is told.
    """
    described: dict[str, Any] = {"classes": list(data.classes)}
    for name, rows in (("train", data.train), ("test", data.test)):
        first = rows[torch.tensor([0])]
        described[f"{name} rows"] = len(rows)
        described[f"{name} input shape"] = list(first.shape[1:])
        described[f"{name} input type"] = str(first.dtype).removeprefix("torch.")
        described[f"{name} labels"] = _hash(rows.targets)
        described[f"{name} inputs"] = hash_inputs(rows, _sample(rows))
    if data.target is not None:
        target = TensorRows(data.target, torch.zeros(len(data.target), dtype=torch.long))
        described["target rows"] = len(target)
        described["target inputs"] = hash_inputs(target, _sample(target))
    if data.groups is not None:
        described["test groups"] = _hash(data.groups.of)
    if costs is not None:
        described["costs"] = hashlib.sha256(costs.double().numpy().tobytes()).hexdigest()
    return described


def _sample(rows: Rows) -> Tensor:
    held = isinstance(rows, TensorRows)
    if isinstance(rows, TensorRows) and rows.inputs.nbytes <= SMALL:
        return torch.arange(len(rows))
    count = min(len(rows), SAMPLE if held else DECODED)
    return torch.arange(count) * (len(rows) - 1) // max(count - 1, 1)


def _hash(numbers: Tensor) -> str:
    return hashlib.sha256(numbers.long().contiguous().numpy().tobytes()).hexdigest()
