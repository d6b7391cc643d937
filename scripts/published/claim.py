"""What a claim is, and what trying it gives."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REPRODUCED, DIRECTION, FAILED = "reproduced", "direction only", "not reproduced"
BROKEN = "failed"  # with the reason: it could be tried here, and the trial ended with an error


@dataclass(frozen=True)
class Options:
    """How claims are tried.

    Args:
        device: cpu or cuda; on cuda the full protocols run.
        quick: the smallest version that still has a verdict.
        out: folder of the runs.
        data: folder of the data sets.
        jobs: trainings side by side.
    """

    device: str = "cpu"
    quick: bool = False
    out: Path = Path("runs/claims")
    data: Path = Path("data")
    jobs: int = 2


@dataclass(frozen=True)
class Finding:
    """What came out: the numbers in words, and the verdict."""

    ours: str
    verdict: str


class NotRunError(Exception):
    """Why a claim cannot be tried here."""


@dataclass(frozen=True)
class Claim:
    """A published statement and the function that tries it.

    Args:
        number: in order of publication of the table.
        claim: in few words.
        published: the number, where it is from, and under which protocol.
        attempt: tries it; raises `NotRunError` where it cannot.
        devices: on which of cpu and cuda it runs in the time that the script promises.
    """

    number: int
    claim: str
    published: str
    attempt: Callable[[Options], Finding]
    devices: tuple[str, ...] = ("cpu", "cuda")


def judge(*, direction: bool, size: bool) -> str:
    """Name the verdict: the sign of an effect, and about its size."""
    if not direction:
        return FAILED
    return REPRODUCED if size else DIRECTION
