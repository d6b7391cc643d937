"""Any folder of class folders of images."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import torch
from torch import Tensor

from dal.data.data import (
    Data,
    Normalise,
    Rows,
    TensorRows,
    Transform,
    channel_statistics,
    stratified_split,
)
from dal.data.torchvision_sets import augmentation
from dal.files import reason
from dal.settings import Count, Inside, NotNegative, Number, checked

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")  # none that runs a program
SAMPLE = 10_000  # images that the channel statistics are taken from
BLOCK = 512  # images decoded at a time


@checked
def image_folder(
    root: str | Path,
    *,
    size: Count = 32,
    test_share: Inside = 0.2,
    split_seed: Number = 0,
    augment: bool | Transform = False,
    memory_gb: NotNegative = 4.0,
) -> Data:
    """Read `root/train/<class>/*` and `root/test/<class>/*`, or split `root/<class>/*`.

    Images are turned to RGB, their short side scaled to `size` and the centre cut out. A set that
    fits in `memory_gb` is decoded once and held as uint8; a larger one is decoded when read.

    Args:
        root: the folder.
        size: side of the square images, in pixels.
        test_share: stratified share held out for testing where there is no test folder.
        split_seed: fixes that split.
        augment: random crops and horizontal flips in training, or what to do instead.
        memory_gb: how much may be held in memory, in GiB.

    Raises:
        FileNotFoundError: if the folder or its class folders are missing.
        ValueError: if an image cannot be decoded, naming the file, or the classes differ.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"dataset.root: no folder {root.absolute()}")
    if (root / "train").is_dir() and (root / "test").is_dir():
        classes, train_files, train_targets = _scan(root / "train")
        test_classes, test_files, test_targets = _scan(root / "test")
        if not set(test_classes) <= set(classes):
            unknown = sorted(set(test_classes) - set(classes))
            raise ValueError(f"{root / 'test'} has classes that train lacks: {unknown[:5]}")
        lookup = torch.tensor([classes.index(name) for name in test_classes])
        test_targets = lookup[test_targets]
    else:
        classes, files, targets = _scan(root)
        generator = torch.Generator().manual_seed(split_seed)
        keep, held = stratified_split(targets, round(test_share * len(files)), generator)
        train_files, test_files = ([files[i] for i in part] for part in (keep, held))
        train_targets, test_targets = targets[keep], targets[held]

    total = (len(train_files) + len(test_files)) * 3 * size * size
    on_disk = (
        FileRows(train_files, train_targets, size),
        FileRows(test_files, test_targets, size),
    )
    train: Rows = on_disk[0]
    test: Rows = on_disk[1]
    if total <= memory_gb * 2**30:
        train, test = (TensorRows(rows.decode_all(), rows.targets) for rows in on_disk)
    sample = torch.linspace(0, len(train) - 1, min(len(train), SAMPLE)).long()
    return Data(
        train=train,
        test=test,
        classes=tuple(classes),
        normalise=Normalise(255.0, *channel_statistics(train[sample])),
        augment=augmentation(augment, size),
    )


class FileRows:
    """Images that are decoded when they are read.

    Args:
        files: one image file per row.
        targets: [N]; class numbers.
        size: side of the square images, in pixels.
    """

    def __init__(self, files: Sequence[Path], targets: Tensor, size: int) -> None:
        self.files = list(files)
        self.targets = targets.long()
        self.size = size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, indices: Tensor | Sequence[int]) -> Tensor:
        rows = torch.as_tensor(indices).tolist()
        return torch.stack([decode(self.files[row], self.size) for row in rows])

    def decode_all(self) -> Tensor:
        """Decode every image into one uint8 tensor [N, 3, size, size], with a progress bar."""
        from rich.progress import track

        images = torch.empty(len(self), 3, self.size, self.size, dtype=torch.uint8)
        blocks = range(0, len(self), BLOCK)
        with ThreadPoolExecutor() as threads:
            for start in track(blocks, "reading images", transient=True):
                files = self.files[start : start + BLOCK]
                for row, image in enumerate(threads.map(decode, files, repeat(self.size)), start):
                    images[row] = image
        return images


def decode(file: Path, size: int) -> Tensor:
    """Read one image as uint8 RGB [3, size, size], whatever its suffix says it is.

    Raises:
        ValueError: if the file is not a readable image of the kinds that are read, or more pixels
            than any photograph has, naming it.
    """
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(file, formats=FORMATS) as image:
            grey = image.mode.startswith("I")  # 16 bits, which convert() would clip to white
            whole = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if grey else image
            square = ImageOps.fit(whole.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
    except Exception as error:  # every format has its own kinds of error for damaged files
        raise ValueError(
            f"cannot decode the image {file}: {reason(error)}; repair or remove it"
        ) from error
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)


def _scan(folder: Path) -> tuple[list[str], list[Path], Tensor]:
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if not classes:
        raise FileNotFoundError(f"{folder.absolute()} must hold one folder per class, got none")
    files: list[Path] = []
    targets: list[int] = []
    for number, name in enumerate(classes):
        found = sorted(
            file for file in (folder / name).rglob("*") if file.suffix.lower() in SUFFIXES
        )
        if not found:
            raise FileNotFoundError(f"the class folder {folder / name} holds no image")
        files += found
        targets += [number] * len(found)
    return classes, files, torch.tensor(targets)
