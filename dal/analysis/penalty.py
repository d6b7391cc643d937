"""How often one strategy beats another: the pairwise penalty matrix, over settings.

Source: Ash, Zhang, Krishnamurthy, Langford and Agarwal, ICLR 2020.
"""

from itertools import permutations
from typing import NamedTuple

import numpy as np
import pandas as pd

from dal.analysis.paired_tests import paired_p
from dal.analysis.statistics import ACCURACY, at_budget, curves, measured, settings_of

SATURATED = 0.99  # of the reference's last accuracy: beyond, all strategies are alike


class Penalty(NamedTuple):
    """Who beats whom, and how often.

    Attributes:
        matrix: strategies x strategies; [i, j] is in how many settings i beats j, a setting
            counting by the share of its checkpoints.
        column_mean: how often each is beaten, the mean of its column, the diagonal's 0 included;
            lower is better, ascending.
        settings: how many counted.
        left_out: why others did not, a line each.
    """

    matrix: pd.DataFrame
    column_mean: pd.Series
    settings: int
    left_out: list[str]


def checkpoints(reference: pd.DataFrame) -> list[float]:
    """Budgets L, L + B, L + 2B, L + 4B, ... until the reference is near its last accuracy.

    L is the first budget and B the first purchase. The end is the first budget at which the mean
    over seeds reaches 99 % of the last one's.

    Args:
        reference: [S, B]; curves.

    >>> checkpoints(pd.DataFrame({20: [0.5], 30: [0.6], 40: [0.7], 60: [0.895], 100: [0.9]}))
    [20, 30, 40, 60]
    """
    whole = reference.dropna(axis=1)
    mean = whole.mean()
    end = mean.index[mean >= SATURATED * mean.iloc[-1]][0]
    first, *others = mean.index.tolist()
    step = others[0] - first if others else 0
    budgets = [first]
    while step and first + step <= end:
        budgets.append(first + step)
        step *= 2
    return budgets


def penalty_matrix(
    rounds: pd.DataFrame,
    *,
    metric: str = ACCURACY,
    reference: str = "random",
    alpha: float = 0.05,
) -> Penalty:
    """Count at how many checkpoints each strategy is significantly above each other one.

    At a checkpoint i beats j if a two-sided paired t-test over their common seeds is significant
    and i's mean is above (for 5 seeds: t > 2.776). That adds 1 / checkpoints.

    Args:
        rounds: of any number of settings; a strategy may be missing in some.
        metric: the column to compare; higher is better.
        reference: whose curve sets the checkpoints.
        alpha: level of the tests.
    """
    names = sorted(rounds["strategy"].unique())
    matrix = pd.DataFrame(0.0, names, names)
    counted, left_out = 0, []
    for setting, rows in settings_of(measured(rounds, metric)):
        tables = {name: curves(runs, metric) for name, runs in rows.groupby("strategy")}
        fault = _fault(tables, reference)
        if fault:
            left_out.append(f"{'/'.join(setting)}: {fault}")
            continue
        counted += 1
        budgets = checkpoints(tables[reference])
        for budget in budgets:
            matrix = matrix.add(_wins(tables, budget, alpha) / len(budgets), fill_value=0.0)
    return Penalty(matrix, matrix.mean().sort_values(kind="stable"), counted, left_out)


def _fault(tables: dict[str, pd.DataFrame], reference: str) -> str:
    if reference not in tables:
        return f"no {reference}, which sets the checkpoints"
    if len(tables) == 1:
        return f"only {reference}"
    if len(tables[reference].dropna(axis=1).columns) == 0:
        return f"the seeds of {reference} have no budget in common"
    most = max(len(table) for table in tables.values())
    return "" if most > 1 else "one seed, and a test needs two"


def _wins(tables: dict[str, pd.DataFrame], budget: float, alpha: float) -> pd.DataFrame:
    """1 where the row's strategy is significantly above the column's."""
    heights = {name: at_budget(table, budget) for name, table in tables.items()}
    wins = pd.DataFrame(0.0, list(heights), list(heights))
    for ours, theirs in permutations(heights, 2):
        differences = (heights[ours] - heights[theirs]).dropna().to_numpy()
        above = len(differences) > 1 and differences.mean() > 0
        wins.loc[ours, theirs] = float(above and paired_p(differences) < alpha)
    return wins


def error_ratios(
    rounds: pd.DataFrame, *, metric: str = ACCURACY, reference: str = "random"
) -> pd.DataFrame:
    """Error of each strategy over the reference's, mean over seeds, at the same checkpoints.

    Args:
        rounds: of any number of settings; those without the reference are left out.
        metric: an accuracy; the error is 1 - metric.
        reference: the strategy whose error is 1.

    Returns:
        Columns strategy and ratio (below 1: fewer errors), ascending in each strategy.
    """
    found = []
    for _, rows in settings_of(measured(rounds, metric)):
        tables = {name: curves(runs, metric) for name, runs in rows.groupby("strategy")}
        if reference not in tables or tables[reference].dropna(axis=1).empty:
            continue
        for budget in checkpoints(tables[reference]):
            errors = {name: 1 - at_budget(table, budget).mean() for name, table in tables.items()}
            found += [(name, error / errors[reference]) for name, error in errors.items()]
    table = pd.DataFrame(found, columns=["strategy", "ratio"])
    table = table[np.isfinite(table["ratio"])]
    return table.sort_values(["strategy", "ratio"], ignore_index=True)
