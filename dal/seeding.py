"""Every random draw of round r comes from (seed, purpose, r), so any round can be redone alone."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Purpose = Literal[
    "split",
    "initial",
    "weights",
    "batches",
    "augmentation",
    "masks",
    "pool",
    "target",
    "stop",
    "query",
    "oracle",
]


def seed_for(seed: int, purpose: Purpose, round: int = 0, part: str = "") -> int:
    """Derive an independent 63-bit seed; equal arguments give equal seeds on every machine.

    Args:
        seed: of the run.
        purpose: what is drawn.
        round: number of purchases before.
        part: which of several draws, such as the member of an ensemble.

    >>> seed_for(0, "masks", 1) == seed_for(0, "masks", 1) != seed_for(0, "masks", 2)
    True
    """
    digest = hashlib.sha256(f"{seed}/{purpose}/{round}{part and '/' + part}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator_for(
    seed: int,
    purpose: Purpose,
    round: int = 0,
    device: torch.device | str = "cpu",
    part: str = "",
) -> torch.Generator:
    """Return a fresh generator for one purpose in one round."""
    return torch.Generator(device).manual_seed(seed_for(seed, purpose, round, part))


def child_of(generator: torch.Generator, part: str) -> torch.Generator:
    """Return a fresh generator that follows from another's initial seed and a name."""
    digest = hashlib.sha256(f"{generator.initial_seed()}/{part}".encode()).digest()
    seed = int.from_bytes(digest[:8], "big") >> 1
    return torch.Generator(generator.device).manual_seed(seed)


@contextmanager
def global_seed(seed: int, purpose: Purpose, round: int = 0, part: str = "") -> Iterator[None]:
    """Seed torch's global generators inside the block and restore them after it.

    For what cannot take a generator: weight initialisation, dropout while training, augmentation.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed_for(seed, purpose, round, part))
        yield
