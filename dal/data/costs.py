"""What the label of each row costs: from numbers, a file of them, or a function."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dal.files import load_tensors, reason

Costs = str | Path | Sequence[float] | Tensor | Callable[[Tensor], Tensor]

KINDS = (".npy", ".npz", ".pt", ".csv")


def costs_of_rows(given: Costs, rows: int) -> Tensor:
    """Give every row its cost.

    Args:
        given: [rows] numbers, or a file of them: .npy, .npz or .pt with one array, or .csv with
            one number a line. Or a function of dataset indices [rows] long that gives [rows].
        rows: of the train set.

    Returns:
        [rows] float64, on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file cannot be read, or there is not one finite cost above 0 per row.

    >>> costs_of_rows(lambda indices: 1 + indices % 2, rows=3)
    tensor([1., 2., 1.], dtype=torch.float64)
    """
    if callable(given) and not isinstance(given, Tensor):
        given = given(torch.arange(rows))
    elif isinstance(given, str | Path):
        given = _read(Path(given))
    try:
        costs = torch.as_tensor(given, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"costs must be numbers, got {given!r:.80}") from error
    if costs.shape != (rows,):
        raise ValueError(
            f"costs must be one number per train row (of those a scenario leaves or makes), shape "
            f"[{rows}], got {list(costs.shape)}"
        )
    wrong = (~(costs > 0) | costs.isinf()).nonzero().squeeze(1)
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(f"costs must be finite and above 0, got {float(costs[row])} in row {row}")
    return costs


def _read(path: Path) -> Tensor:
    if not path.is_file():
        raise FileNotFoundError(f"costs: no file {path.absolute()}")
    if path.suffix not in KINDS:
        raise ValueError(f"costs must end in {', '.join(KINDS)}, got {path.name}")
    try:
        if path.suffix == ".csv":
            return torch.tensor([float(x) for x in path.read_text().split()], dtype=torch.float64)
        if path.suffix == ".pt":
            loaded = load_tensors(path)
            arrays = [*loaded.values()] if isinstance(loaded, dict) else [loaded]
        else:
            arrays = _arrays(path)
        (costs,) = arrays
        return torch.as_tensor(costs)
    except Exception as error:  # every reader has its own kinds of error for damaged files
        raise ValueError(
            f"{path} cannot be read as one array of numbers: {reason(error)}"
        ) from error


def _arrays(path: Path) -> list[Tensor]:
    import numpy as np

    with path.open("rb") as file:
        loaded = np.load(file, allow_pickle=False)
        if path.suffix == ".npy":
            return [torch.from_numpy(loaded)]
        return [torch.from_numpy(loaded[name]) for name in loaded.files]
