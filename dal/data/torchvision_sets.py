"""Data sets that torchvision knows: MNIST and its kin, CIFAR, SVHN."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from dal.data.data import Data, Normalise, TensorRows, Transform
from dal.files import reason

Name = Literal["MNIST", "FashionMNIST", "KMNIST", "CIFAR10", "CIFAR100", "SVHN"]


class _Known(NamedTuple):
    folder: str  # inside data_dir
    files: str
    mean: tuple[float, ...]  # per channel of the train images, on a scale of 0 to 1
    std: tuple[float, ...]
    by_split: bool = False  # SVHN names its parts split="train", the others train=True
    flips: bool = False  # pictures that mean the same mirrored


_IDX = "{train,t10k}-{images-idx3,labels-idx1}-ubyte"
_KNOWN = {
    "MNIST": _Known("MNIST/raw", _IDX, (0.1307,), (0.3081,)),
    "FashionMNIST": _Known("FashionMNIST/raw", _IDX, (0.2860,), (0.3530,), flips=True),
    "KMNIST": _Known("KMNIST/raw", _IDX, (0.1918,), (0.3483,)),
    "CIFAR10": _Known(
        "cifar-10-batches-py",
        "{data_batch_1..5,test_batch,batches.meta}",
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
        flips=True,
    ),
    "CIFAR100": _Known(
        "cifar-100-python",
        "{train,test,meta}",
        (0.5071, 0.4865, 0.4409),
        (0.2673, 0.2564, 0.2762),
        flips=True,
    ),
    "SVHN": _Known(
        ".",
        "{train,test}_32x32.mat",
        (0.4377, 0.4438, 0.4728),
        (0.1980, 0.2010, 0.1970),
        by_split=True,
    ),
}


def torchvision_set(
    name: Name,
    data_dir: str | Path,
    *,
    download: bool = False,
    augment: bool | Transform = False,
) -> Data:
    """Read a torchvision dataset from `data_dir` into memory as uint8.

    Args:
        name: the torchvision class, one of MNIST, FashionMNIST, KMNIST, CIFAR10, CIFAR100, SVHN.
        data_dir: folder that holds the dataset's own folder.
        download: fetch missing files from the network. Nothing is fetched unless this is set.
        augment: random crops, and flips where they keep the meaning, in training; or what to do
            instead.

    Raises:
        ValueError: if the name is unknown or a file is damaged.
        FileNotFoundError: if files are missing, naming the folder and the files wanted.
    """
    from torchvision import datasets

    if name not in _KNOWN:
        raise ValueError(f"name must be one of {', '.join(_KNOWN)}, got {name!r}")
    known = _KNOWN[name]
    parts: list[Any] = []
    try:
        for train in (True, False):
            part = {"split": "train" if train else "test"} if known.by_split else {"train": train}
            parts.append(getattr(datasets, name)(str(data_dir), download=download, **part))
        train_set, test_set = (_rows(part) for part in parts)
    except ImportError:
        raise
    except Exception as error:  # damaged files have many kinds of error
        raise _unreadable(name, Path(data_dir) / known.folder, error, download=download) from error
    classes = getattr(parts[0], "classes", None) or [str(digit) for digit in range(10)]
    return Data(
        train=train_set,
        test=test_set,
        classes=tuple(classes),
        normalise=Normalise(255.0, known.mean, known.std),
        augment=augmentation(augment, train_set.inputs.shape[-1], flip=known.flips),
    )


def _unreadable(name: str, folder: Path, error: Exception, *, download: bool) -> Exception:
    """Tell files that are missing, or not those that were published, from damaged ones."""
    files = _KNOWN[name].files
    absent = isinstance(error, OSError) or "not found" in str(error)
    if download or absent:
        tried = f"the download failed ({reason(error)})" if download else "download=false"
        return FileNotFoundError(
            f"{name} is not complete: wanted {files} in the folder "
            f"{folder.resolve()}, {tried}; put the files there, set data_dir "
            f"(or DAL_DATA_DIR) to their parent folder, or pass dataset.download=true"
        )
    return ValueError(
        f"{name} is damaged: the files {files} in the folder {folder.resolve()} cannot be read "
        f"({reason(error)}); put the published ones there"
    )


def augmentation(given: bool | Transform, size: int, *, flip: bool = True) -> Transform | None:  # noqa: FBT001 (or a transform)
    """What is done to a raw image in training: nothing, `crop_and_flip`, or what is given."""
    if isinstance(given, bool):
        return crop_and_flip(size, flip=flip) if given else None
    return given


def crop_and_flip(size: int, *, flip: bool = True) -> Transform:
    """Random crop after padding by an eighth, and a random horizontal flip, for one image."""
    from torchvision.transforms import v2

    steps: list[Any] = [v2.RandomCrop(size, padding=max(size // 8, 1))]
    transform: Transform = v2.Compose([*steps, v2.RandomHorizontalFlip()] if flip else steps)
    return transform


def _rows(dataset: Any) -> TensorRows:
    images = torch.as_tensor(dataset.data)
    if images.dim() == 3:  # [N, height, width]
        images = images.unsqueeze(1)
    elif images.shape[-1] == 3:  # [N, height, width, 3]
        images = images.permute(0, 3, 1, 2).contiguous()
    targets = dataset.targets if hasattr(dataset, "targets") else dataset.labels
    return TensorRows(images, torch.as_tensor(targets))
