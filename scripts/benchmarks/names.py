"""What `--cases` may name; kept apart, so that a slip is told before anything heavy is loaded."""

import difflib
from pathlib import Path

CONF = Path(__file__).resolve().parents[2] / "conf"
DETAILED = (
    "badge", "coreset", "batch_bald", "bald", "entropy", "margin", "prob_cover", "typiclust",
    "mc_dropout",
)  # fmt: skip
EVERY = "selections"


def strategies() -> list[str]:
    """Names of the files of conf/strategy."""
    return sorted(file.stem for file in (CONF / "strategy").glob("*.yaml"))


def check_cases(asked: list[str]) -> None:
    """Raise ValueError, with the nearest name, unless all names are known."""
    known = sorted({*DETAILED, *strategies(), EVERY})
    for name in asked:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0)
            raise ValueError(f"--cases must name cases, got {name!r}; did you mean {near[0]}?")
