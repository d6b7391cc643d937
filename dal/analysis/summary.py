"""One row per strategy and setting: the area under its curve, and is it above the reference's?"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from dal.analysis.labels_to_target import labels_to_targets
from dal.analysis.paired_tests import holm, paired_test
from dal.analysis.statistics import (
    ACCURACY,
    SETTING,
    Range,
    at_budget,
    aubc,
    curves,
    label_range,
    measured,
    settings_of,
)


def summarise(
    rounds: pd.DataFrame,
    *,
    metric: str = ACCURACY,
    reference: str = "random",
    targets: Sequence[float] = (0.9, 0.95),
    labels: Range | None = None,
    log: bool = False,
    interpolate: bool = False,
) -> pd.DataFrame:
    """Compare every strategy of every setting with a reference, over paired seeds.

    Areas of a setting are over one range of labels. A run that does not cover it has no area: it
    counts in n_runs, and nowhere else but in labels to a target, if it reached that.

    Args:
        rounds: of any number of settings.
        metric: the column to compare; higher is better.
        reference: the strategy to compare with.
        targets: values of the metric for the labels to reach them.
        labels: first and last label of the areas; None for what at least half of a setting's
            runs cover.
        log: areas over the logarithm of the labels.
        interpolate: labels to a target between measured budgets.

    Returns:
        One row per setting and strategy, best area first: n_seeds (with an area), n_runs,
        n_paired, labels_low, labels_high, aubc_mean, aubc_sd, aubc_diff (mean paired difference),
        ci_low, ci_high (95 %), effect_size (Cohen's d_z), p (paired t), p_holm (over the
        setting's strategies), p_permutation (sign flips), final_mean, final_sd (at labels_high);
        and for a target t: labels_to_t (median, inf is never), reached_t (seeds), saving_t,
        saving_bound_t. See `dal.analysis.labels_to_target.Saving`.

    Raises:
        ValueError: if no round has the metric, or a run has two rounds of one budget.
    """
    rows: list[dict[str, Any]] = []
    for names, setting in settings_of(measured(rounds, metric)):
        compared = _setting(setting, metric, reference, labels, log=log)
        for row, p in zip(compared, holm([row["p"] for row in compared]), strict=True):
            rows.append(dict(zip(SETTING, names, strict=True)) | row | {"p_holm": p})
    summary = pd.DataFrame(rows)
    last = ["p_permutation", "final_mean", "final_sd"]  # behind p_holm
    summary = summary[[*(name for name in summary if name not in last), *last]]
    needed = labels_to_targets(
        rounds, targets, metric=metric, reference=reference, interpolate=interpolate
    )
    for target, part in needed.groupby("target"):
        renamed = part.rename(
            columns={
                "median": f"labels_to_{target:g}",
                "n_reached": f"reached_{target:g}",
                "saving": f"saving_{target:g}",
                "bound": f"saving_bound_{target:g}",
            }
        )
        wanted = [name for name in renamed if name.endswith(f"_{target:g}")]
        summary = summary.merge(renamed[[*SETTING, "strategy", *wanted]], on=[*SETTING, "strategy"])
    order = [*SETTING, "aubc_mean"]
    return summary.sort_values(order, ascending=[True] * 3 + [False], ignore_index=True)


def _setting(
    setting: pd.DataFrame, metric: str, reference: str, labels: Range | None, *, log: bool
) -> list[dict[str, Any]]:
    low, high = labels or label_range(setting, metric)
    tables = {name: curves(runs, metric) for name, runs in setting.groupby("strategy")}
    areas = {name: aubc(table, (low, high), log=log).dropna() for name, table in tables.items()}
    others = areas.get(reference, pd.Series(dtype=float))
    rows = []
    for name, area in areas.items():
        final = at_budget(tables[name], high)[area.index]
        pairs = [] if name == reference else (area - others).dropna().tolist()
        test = paired_test(pairs)
        rows.append(
            {
                "strategy": name,
                "n_seeds": len(area),
                "n_runs": len(tables[name]),
                "n_paired": test.n,
                "labels_low": low,
                "labels_high": high,
                "aubc_mean": area.mean(),
                "aubc_sd": area.std(),
                "aubc_diff": test.mean,
                "ci_low": test.ci_low,
                "ci_high": test.ci_high,
                "effect_size": test.effect_size,
                "p": test.p,
                "p_permutation": test.p_permutation,
                "final_mean": final.mean(),
                "final_sd": final.std(),
            }
        )
    return rows
