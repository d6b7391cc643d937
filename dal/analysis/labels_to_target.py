"""How many labels a strategy needs to reach an accuracy, and what that saves.

A run that covers the range of its setting without reaching the target counts as never (inf): a
number would be an invention, and to leave the run out would flatter the strategy.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from dal.analysis.statistics import ACCURACY, SETTING, curves, label_range, measured, settings_of

NEVER = math.inf
SLACK = 1e-6  # metrics are float32: 324 of 360 right is below 0.9 by 2e-8


class Saving(NamedTuple):
    """Labels needed in units of the reference's.

    Attributes:
        n_paired: seeds of which at least one of both reaches the target.
        ratio: geometric mean of the pairs' ratios, below 1 where labels are saved; NaN if in half
            of the pairs or more neither reaches it.
        bound: "" if exact, "at most" where the reference never reached it in some pair, "at
            least" where the strategy did not, "mixed" (and no ratio) for both.
    """

    n_paired: int
    ratio: float
    bound: str


def labels_to_target(
    curves: pd.DataFrame, target: float, last: float, *, interpolate: bool = False
) -> pd.Series:
    """Labels at which each curve first reaches a target.

    Args:
        curves: [S, B]; index seed, columns n_labelled.
        target: the height to reach.
        last: labels up to which a run must have gone to count as never reaching it.
        interpolate: between the measured budgets, linearly; else the first that was measured.

    Returns:
        [S]; inf is never, NaN is unknown: the run ended before `last`.

    >>> labels_to_target(pd.DataFrame({10: [0.5, 0.5], 20: [0.8, 0.6]}), 0.7, 20).tolist()
    [20.0, inf]
    """
    found = [_first(row.dropna(), target, last, interpolate) for _, row in curves.iterrows()]
    return pd.Series(found, curves.index, dtype=float)


def _first(run: pd.Series, target: float, last: float, interpolate: bool) -> float:  # noqa: FBT001
    labels, heights = run.index.to_numpy(float), run.to_numpy(float)
    reached = np.flatnonzero(heights >= target - SLACK)
    if not len(reached):
        return NEVER if len(labels) and labels[-1] >= last else math.nan
    at = int(reached[0])
    if at == 0 or not interpolate:
        return float(labels[at])
    share = min((target - heights[at - 1]) / (heights[at] - heights[at - 1]), 1.0)
    return float(labels[at - 1] + share * (labels[at] - labels[at - 1]))


def quartiles(labels: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of labels of which some are never (inf).

    Quartiles are observed values; of an even number the median is the middle two's mean, and
    never if the upper one is.

    >>> quartiles([90, 100, 120, math.inf])
    (90, 110.0, 120)
    """
    known = sorted(label for label in labels if not math.isnan(label))
    if not known:
        return math.nan, math.nan, math.nan
    low, high = (known[math.ceil(share * len(known)) - 1] for share in (0.25, 0.75))
    return low, statistics.median(known), high


def saving(labels: pd.Series, reference: pd.Series, last: float) -> Saving:
    """Compare the labels that two strategies need, seed by seed.

    A pair of which one never reaches the target bounds its ratio: that one needs more than `last`.

    >>> saving(pd.Series([100.0, 120.0]), pd.Series([200.0, math.inf]), 240)
    Saving(n_paired=2, ratio=0.5, bound='at most')
    """
    both = pd.concat([labels, reference], axis=1, keys=["ours", "theirs"]).dropna()
    known = both[np.isfinite(both).any(axis=1)]
    if 2 * len(known) <= len(both):
        return Saving(len(known), math.nan, "")
    never = np.isinf(known)
    bound = ""
    if never["ours"].any() and never["theirs"].any():
        return Saving(len(known), math.nan, "mixed")
    if never["theirs"].any():
        bound = "at most"
    elif never["ours"].any():
        bound = "at least"
    finite = known.mask(never, last)
    ratio = math.exp(np.log(finite["ours"] / finite["theirs"]).mean())
    return Saving(len(known), ratio, bound)


def labels_to_targets(
    rounds: pd.DataFrame,
    targets: Sequence[float] = (0.9, 0.95),
    *,
    metric: str = ACCURACY,
    reference: str = "random",
    interpolate: bool = False,
) -> pd.DataFrame:
    """Labels to each target, of every strategy of every setting, and the saving.

    Returns:
        One row per setting, strategy and target: n_seeds (known), n_reached, median, q25, q75
        (inf is never), n_paired, saving and bound as in `Saving` (NaN for the reference itself),
        and per_seed, {seed: labels}.

    Raises:
        ValueError: if no round has the metric, or a run has two rounds of one budget.
    """
    rows = []
    for names, setting in settings_of(measured(rounds, metric)):
        last = label_range(setting, metric)[1]
        tables = {name: curves(runs, metric) for name, runs in setting.groupby("strategy")}
        for target in targets:
            needed = {
                name: labels_to_target(table, target, last, interpolate=interpolate)
                for name, table in tables.items()
            }
            for name in needed:
                row = _row(name, needed, reference, last)
                rows.append(dict(zip(SETTING, names, strict=True)) | row | {"target": target})
    first = [*SETTING, "strategy", "target"]
    table = pd.DataFrame(rows)
    return table[[*first, *(column for column in table if column not in first)]]


def _row(
    name: str, needed: Mapping[str, pd.Series], reference: str, last: float
) -> dict[str, object]:
    labels = needed[name].dropna()
    q25, median, q75 = quartiles(labels.tolist())
    compared = reference in needed and name != reference
    save = saving(labels, needed[reference], last) if compared else Saving(0, math.nan, "")
    return {
        "strategy": name,
        "n_seeds": len(labels),
        "n_reached": int(np.isfinite(labels).sum()),
        "median": median,
        "q25": q25,
        "q75": q75,
        "n_paired": save.n_paired,
        "saving": save.ratio,
        "bound": save.bound,
        "per_seed": labels.to_dict(),
    }


def show_labels(labels: float) -> str:
    """Write labels to a target: "never" for inf, nothing for NaN.

    >>> show_labels(120.0), show_labels(math.inf), show_labels(math.nan)
    ('120', 'never', '')
    """
    if math.isnan(labels):
        return ""
    return "never" if math.isinf(labels) else f"{labels:g}"
