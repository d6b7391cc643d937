"""Your own arrays from one .npz or .pt file."""

from pathlib import Path

import torch
from torch import Tensor

from dal.data.data import Data, Normalise, TensorRows, channel_statistics, stratified_split
from dal.files import load_tensors, reason
from dal.settings import Inside, Number, checked

BLOCK_BYTES = 2**26  # that are looked at together


@checked
def tensors(
    path: str | Path,
    test_share: Inside = 0.2,
    split_seed: Number = 0,
    classes: list[str] | None = None,
) -> Data:
    """Read `inputs` [N, ...] and `targets` [N], and a test part and `target_inputs` if present.

    The test part is `test_inputs` and `test_targets`; `target_inputs` [J, ...] are unlabelled
    inputs from where the model will be used, for `target=given`.

    uint8 inputs [N, channels, height, width] are images and are normalised by their channel
    statistics; any other inputs enter the network as they are, in float32. The file is read
    without pickle: arrays of objects are refused, not executed.

    Args:
        path: file ending in .npz (numpy) or .pt (a dictionary saved by torch).
        test_share: stratified share held out for testing where the file has no test part.
        split_seed: fixes that split.
        classes: names; the numbers by default.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is of another kind, unreadable, or lacks an array.
    """
    arrays = _read(Path(path))
    inputs, targets = arrays["inputs"], arrays["targets"]
    if "test_inputs" in arrays:
        train = TensorRows(inputs, targets)
        test = TensorRows(arrays["test_inputs"], arrays["test_targets"])
    else:
        whole = TensorRows(inputs, targets)
        generator = torch.Generator().manual_seed(split_seed)
        keep, held = stratified_split(whole.targets, round(test_share * len(whole)), generator)
        train = TensorRows(inputs[keep], targets[keep])
        test = TensorRows(inputs[held], targets[held])
    if inputs.dtype == torch.uint8 and inputs.dim() == 4:
        normalise = Normalise(255.0, *channel_statistics(train.inputs))
    else:
        normalise = Normalise()
    if not len(train):
        raise ValueError(f"{path} must hold at least one row, got none")
    top = int(torch.cat([train.targets, test.targets]).max())
    names = classes or [str(number) for number in range(top + 1)]
    return Data(train, test, tuple(names), normalise, target=arrays.get("target_inputs"))


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"dataset.path: no file {path.absolute()}")
    if path.suffix not in (".npz", ".pt"):
        raise ValueError(f"dataset.path must end in .npz or .pt, got {path.name}")
    try:
        if path.suffix == ".npz":
            import numpy as np

            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: torch.from_numpy(archive[name]) for name in archive.files}
        else:
            loaded = load_tensors(path)
            arrays = {name: torch.as_tensor(value) for name, value in dict(loaded).items()}
    except Exception as error:  # every reader has its own kinds of error for damaged files
        raise ValueError(
            f"{path} cannot be read as plain arrays: {reason(error)}; save arrays of numbers with "
            f"numpy.savez or torch.save"
        ) from error
    missing = {"inputs", "targets"} - set(arrays)
    if missing:
        raise ValueError(
            f"{path} must hold inputs and targets, missing {sorted(missing)}, got {sorted(arrays)}"
        )
    if ("test_inputs" in arrays) != ("test_targets" in arrays):
        raise ValueError(
            f"{path} must hold both test_inputs and test_targets, or neither, got {sorted(arrays)}"
        )
    for name in ("inputs", "test_inputs", "target_inputs"):
        if name in arrays:
            _check_finite(name, arrays[name])
    return arrays


def _check_finite(name: str, inputs: Tensor) -> None:
    if inputs.dim() < 2 or not inputs.is_floating_point():
        return
    rows = max(BLOCK_BYTES // max(inputs[:1].nbytes, 1), 1)
    for start in range(0, len(inputs), rows):
        block = inputs[start : start + rows]
        if block.numel() and not all(bound.isfinite() for bound in block.aminmax()):
            wrong = (~block.isfinite()).flatten(1).any(1)
            row = start + int(wrong.nonzero()[0])
            raise ValueError(f"row {row} of the {name} holds NaN or infinity; leave it out")
