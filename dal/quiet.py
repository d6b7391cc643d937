"""Lightning without its tips."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.fabric.utilities.warnings import PossibleUserWarning


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep back Lightning's tips, which speak of choices that the loop makes on purpose."""
    names = ("lightning.pytorch", "lightning.fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)
            warnings.filterwarnings("ignore", "Total length of `list` across ranks is zero")
            warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`")
            warnings.filterwarnings(
                "ignore", r"`isinstance\(treespec, LeafSpec\)`"
            )  # Lightning's own
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
