"""The tables of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from dal.analysis.gaps import unmeasured
from dal.analysis.labels_to_target import SLACK, labels_to_targets
from dal.analysis.penalty import Penalty, error_ratios, penalty_matrix
from dal.analysis.purchases import overlap, purchases
from dal.analysis.ranks import scores_table, wilcoxon_over_settings
from dal.analysis.row_figures import PARTS
from dal.analysis.runs import Runs
from dal.analysis.statistics import SETTING, at_budgets, measured, settings_of
from dal.analysis.summary import summarise

LESS_IS_BETTER = ("nll", "ece", "loss", "seconds", "bytes", "epochs")  # ends of names
CANDIDATES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99)


@dataclass(frozen=True)
class Tables:
    """What a report shows and writes, each over all settings.

    Args:
        summary: a row per setting and strategy, see `dal.analysis.summary.summarise`.
        curves: mean curves, see `dal.analysis.statistics.at_budgets`.
        labels_to_target: see `dal.analysis.labels_to_target.labels_to_targets`.
        penalty: who beats whom, or why there is no such table.
        timings: mean seconds per round.
        overlap: see `dal.analysis.purchases.overlap`.
        class_balance: see `dal.analysis.purchases.purchases`.
        error_ratios: see `dal.analysis.penalty.error_ratios`.
        wilcoxon: see `dal.analysis.ranks.wilcoxon_over_settings`; empty without two settings.
        problems: a line for each thing that is missing, damaged or unlike.
        targets: of each setting, the values that labels are counted to.
    """

    summary: pd.DataFrame
    curves: pd.DataFrame
    labels_to_target: pd.DataFrame
    penalty: Penalty
    timings: pd.DataFrame
    overlap: pd.DataFrame
    class_balance: pd.DataFrame
    error_ratios: pd.DataFrame
    wilcoxon: pd.DataFrame
    problems: Sequence[str]
    targets: Mapping[tuple[str, ...], Sequence[float]]

    def of(self, setting: Sequence[str]) -> "Tables":
        """Give the tables of one setting; what is over all settings stays."""
        kept = {
            name: value[(value[SETTING] == [*setting]).all(axis=1)]
            for name, value in vars(self).items()
            if isinstance(value, pd.DataFrame) and {*SETTING} <= {*value}
        }
        targets = {names: self.targets[names] for names in self.targets if names == tuple(setting)}
        return replace(self, targets=targets, **kept)

    def files(self) -> dict[str, pd.DataFrame]:
        """Give the tables by the names of their files."""
        penalty = self.penalty.matrix.rename_axis("strategy").reset_index()
        return {
            "summary": self.summary,
            "curves": self.curves,
            "labels_to_target": self.labels_to_target.drop(columns="per_seed"),
            "pairwise_penalty": penalty,
            "timings": self.timings,
            "overlap": self.overlap,
            "class_balance": self.class_balance,
            "error_ratios": self.error_ratios,
            "wilcoxon": self.wilcoxon,
            "problems": pd.DataFrame({"problem": [*self.problems]}),
        }


def make_tables(
    runs: Runs, *, metric: str, reference: str = "random", targets: Sequence[float] | None = None
) -> Tables:
    """Make the tables of the finished runs.

    Args:
        runs: at least one of them finished.
        metric: the column to compare; higher is better.
        reference: the strategy to compare with.
        targets: values that labels are counted to; None for two of each setting.

    Raises:
        ValueError: if no round has the metric, less of it is better, or a target is above 1 and
            the metric is not.
    """
    if metric.replace("_", "/").rpartition("/")[2] in LESS_IS_BETTER:
        raise ValueError(f"strategies are compared by what is better the higher, got {metric}")
    rounds = measured(runs.finished, metric)
    settings = settings_of(rounds)
    alike = {f"{target:g}": target for target in targets or ()}  # are one column
    chosen = {names: [*alike.values()] or reachable(of_it, metric) for names, of_it in settings}
    every = sorted({target for some in chosen.values() for target in some})
    given: dict[str, Any] = {"metric": metric, "reference": reference}
    best = rounds[metric].max()
    if every[-1] > 1 >= best:
        raise ValueError(f"targets are values of {metric}, {best:.3f} at best, got {every[-1]:g}")
    summary = summarise(rounds, targets=every, **given)
    return Tables(
        summary=summary,
        curves=at_budgets(rounds, metric=metric),
        labels_to_target=labels_to_targets(rounds, every, **given),
        penalty=penalty_matrix(rounds, **given),
        timings=timings(runs.finished),
        overlap=overlap(runs),
        class_balance=purchases(runs),
        error_ratios=error_ratios(rounds, **given),
        wilcoxon=_over_settings(summary, reference),
        problems=[*runs.problems, *unmeasured(runs.finished, metric)],
        targets=chosen,
    )


def reachable(rounds: pd.DataFrame, metric: str) -> list[float]:
    """Choose the two highest usual targets that half of a strategy's runs reach, of one setting.

    Those that are reached at the start are left out, if there are others. If none is reached, the
    lowest of all is chosen.

    >>> rounds = pd.DataFrame({"strategy": ["a", "a"], "seed": [0, 1], "f1": [0.86, 0.93]})
    >>> reachable(rounds.assign(n_labelled=10), "f1")
    [0.8, 0.85]
    >>> reachable(rounds.assign(n_labelled=10, f1=0.1), "f1")
    [0.3]
    >>> reachable(rounds.assign(n_labelled=10, f1=0.8999999762), "f1")  # .9 in float32
    [0.85, 0.9]
    """
    first = rounds.loc[rounds["n_labelled"] == rounds["n_labelled"].min(), metric].mean()
    best = rounds.groupby(["strategy", "seed"])[metric].max().groupby("strategy").median().max()
    within = [target for target in CANDIDATES if target <= best + SLACK]
    above = [target for target in within if target > first + SLACK]
    return (above or within or [CANDIDATES[0]])[-2:]


def _over_settings(summary: pd.DataFrame, reference: str) -> pd.DataFrame:
    scores, _ = scores_table(summary.dropna(subset=["aubc_mean"]))
    if len(scores) < 2 or reference not in scores:
        return pd.DataFrame(columns=["strategy", "n", "median_difference", "p", "p_holm"])
    return wilcoxon_over_settings(scores, reference)


def timings(rounds: pd.DataFrame) -> pd.DataFrame:
    """Average the seconds of a round's parts; rounds that bought nothing had no acquisition."""
    parts = [name for name in PARTS if name in rounds]
    times = rounds[[*SETTING, "strategy", "seed", *parts]].copy()
    if "acquisition_seconds" in parts:
        times["acquisition_seconds"] = times["acquisition_seconds"].where(
            rounds["acquisition_seconds"] > 0
        )
    groups = times.groupby([*SETTING, "strategy"])
    table = groups[parts].mean()
    return table.assign(n_seeds=groups["seed"].nunique(), n_rounds=groups.size()).reset_index()
