"""Say in words what a comparison found, no more than its tests carry."""

from collections.abc import Sequence

import pandas as pd

from dal.analysis.labels_to_target import show_labels
from dal.analysis.row_figures import show_p
from dal.analysis.statistics import FOR_A_CLAIM


def verdict(summary: pd.DataFrame, reference: str = "random", targets: Sequence[float] = ()) -> str:
    """Judge one setting: which strategy is ahead, and is its difference from the reference real?

    Args:
        summary: its rows, see `dal.analysis.summary.summarise`.
        reference: the strategy that the others are compared with.
        targets: those of the summary.
    """
    known = summary.dropna(subset=["aubc_mean"])
    if known.empty:
        return "No strategy has a finished run that covers the budgets yet."
    if reference not in set(known["strategy"]):
        best = known.iloc[0]
        return (
            f"{best.strategy} has the largest area under the curve, {best.aubc_mean:.3f}. There is "
            f"no finished run of {reference} to compare with, so nothing was tested."
        )
    others = known[(known["strategy"] != reference) & known["aubc_diff"].notna()]
    if others.empty:
        return (
            f"No other strategy has a finished run at a seed of {reference} that covers the "
            "budgets: nothing to compare."
        )
    best = others.sort_values("aubc_diff", ascending=False, kind="stable").iloc[0]
    parts = [
        _best(best, reference),
        *_labels(best, known, reference, targets),
        *_others(others, best.strategy, reference),
    ]
    return " ".join(parts)


def _best(best: pd.Series, reference: str) -> str:
    points = 100 * best.aubc_diff
    gain = (
        f"{points:+.1f} points of area under the curve against {reference} "
        f"({best.aubc_mean:.3f}{_interval(best)}; {best.n_paired} paired seeds"
    )
    p = show_p(best.p_holm)
    gain += f"; Holm {p})" if p else ")"
    if best.aubc_diff <= 0:
        return f"No strategy is above {reference}. The nearest is {best.strategy}, {gain}."
    if best.n_paired < FOR_A_CLAIM:
        return (
            f"{best.strategy} is ahead, {gain}. Fewer than {FOR_A_CLAIM} paired seeds are too "
            f"few to call the difference real."
        )
    if best.p_holm < 0.05:
        return f"{best.strategy} is ahead, {gain}. The difference from {reference} is real."
    return f"{best.strategy} is ahead, {gain}, but chance may explain the difference."


def _interval(best: pd.Series) -> str:
    if pd.isna(best.ci_low):
        return ""
    return f"; 95 % interval {100 * best.ci_low:+.1f} to {100 * best.ci_high:+.1f}"


def _labels(
    best: pd.Series, known: pd.DataFrame, reference: str, targets: Sequence[float]
) -> list[str]:
    base = known[known["strategy"] == reference].iloc[0]
    reached = [t for t in targets if show_labels(best[f"labels_to_{t:g}"]) not in ("never", "")]
    return [
        f"It needs {show_labels(best[f'labels_to_{target:g}'])} labels for {target:g}, {reference} "
        f"{show_labels(base[f'labels_to_{target:g}']).replace('never', 'never gets there')}."
        for target in reached[-1:]
    ]


def _others(others: pd.DataFrame, best: str, reference: str) -> list[str]:
    rest = others[others["strategy"] != best]
    sure = (rest["n_paired"] >= FOR_A_CLAIM) & (rest["p_holm"] < 0.05)
    groups = {
        f"Better than {reference}": rest[sure & (rest["aubc_diff"] > 0)],
        f"Not told apart from {reference}": rest[~sure],
        f"Worse than {reference}": rest[sure & (rest["aubc_diff"] < 0)],
    }
    return [f"{title}: {_names(found)}." for title, found in groups.items() if len(found)]


def _names(found: pd.DataFrame) -> str:
    names = [*found["strategy"]]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
