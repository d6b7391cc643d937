"""Ranks over data sets: Friedman's test, Nemenyi's critical difference, Wilcoxon's test.

Source: Demšar, Journal of Machine Learning Research 7, 2006.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import f as fisher
from scipy.stats import friedmanchisquare, rankdata, studentized_range, wilcoxon

from dal.analysis.paired_tests import holm
from dal.analysis.statistics import SETTING


class Friedman(NamedTuple):
    """Do strategies differ over settings?

    Attributes:
        n: settings.
        ranks: average rank of each strategy, 1 is best, ascending.
        chi2: Friedman's statistic, corrected for ties.
        p: of chi2, k - 1 degrees of freedom.
        f: Iman and Davenport's statistic, less conservative; inf if all settings agree.
        p_f: of f, k - 1 and (k - 1)(n - 1) degrees of freedom.
    """

    n: int
    ranks: pd.Series
    chi2: float
    p: float
    f: float
    p_f: float


def scores_table(summary: pd.DataFrame, value: str = "aubc_mean") -> tuple[pd.DataFrame, list[str]]:
    """Arrange a summary as settings x strategies, for tests over settings.

    Returns:
        The strategies that every setting has, and a line for each that is left out.
    """
    table = summary.pivot(index=SETTING, columns="strategy", values=value)
    missing = table.isna().sum()
    left_out = [
        f"{name} is left out: {count} of {len(table)} settings do not have it"
        for name, count in missing[missing > 0].items()
    ]
    return table.dropna(axis=1), left_out


def friedman(table: pd.DataFrame) -> Friedman:
    """Rank the strategies in each setting, and test whether the ranks are drawn alike.

    Args:
        table: [n, k]; settings x strategies, higher is better. Ties share their mean rank.

    Raises:
        ValueError: with fewer than two settings or three strategies, or a value missing.
    """
    n, k = table.shape
    if n < 2 or k < 3 or table.isna().any(axis=None):
        raise ValueError(
            "ranks over settings need 2 settings and 3 strategies, none missing, "
            f"got {n} settings and {k} strategies"
        )
    ranks = rankdata(-table.to_numpy(), axis=1)
    average = pd.Series(ranks.mean(0), table.columns).sort_values(kind="stable")
    if (ranks == ranks[0, 0]).all():  # all tied everywhere
        return Friedman(n, average, 0.0, 1.0, 0.0, 1.0)
    statistic, p = map(float, friedmanchisquare(*table.to_numpy().T))
    rest = n * (k - 1) - statistic
    f = (n - 1) * statistic / rest if rest > 1e-12 * n * k else np.inf
    p_f = float(fisher.sf(f, k - 1, (k - 1) * (n - 1)))
    return Friedman(n, average, statistic, p, f, p_f)


def critical_difference(n_strategies: int, n_settings: int, alpha: float = 0.05) -> float:
    """Difference of two average ranks beyond which Nemenyi's test tells them apart.

    q_α √(k (k + 1) / 6n), where q_α is the studentized range's quantile over √2.

    >>> round(critical_difference(4, 14), 2)
    1.25
    """
    q = studentized_range.ppf(1 - alpha, n_strategies, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(n_strategies * (n_strategies + 1) / (6 * n_settings)))


def groups(ranks: pd.Series, difference: float) -> list[list[str]]:
    """Give the bars of a critical-difference diagram: strategies that are not told apart.

    Args:
        ranks: average ranks.
        difference: the critical one; ranks exactly that far apart are not told apart.

    Returns:
        The largest sets of two or more, best first.

    >>> groups(pd.Series({"a": 1.0, "b": 2.0, "c": 3.0, "d": 5.0}), 1.5)
    [['a', 'b'], ['b', 'c']]
    """
    ordered = ranks.sort_values(kind="stable")
    bars: list[list[str]] = []
    for start, first in enumerate(ordered):
        rest = ordered.iloc[start:]
        bar = list(rest.index[rest - first <= difference])
        if len(bar) > 1 and not (bars and set(bar) <= set(bars[-1])):
            bars.append(bar)
    return bars


def wilcoxon_over_settings(table: pd.DataFrame, reference: str = "random") -> pd.DataFrame:
    """Test each strategy against a reference by signed ranks of the differences over settings.

    Args:
        table: [n, k]; settings x strategies.
        reference: one of them.

    Returns:
        strategy, n, median_difference, p (two-sided; 1 if no setting differs), p_holm. With n
        settings p is at least 2 / 2ⁿ: fewer than 6 cannot show a difference at the 5 % level.

    Raises:
        ValueError: if the table lacks the reference.
    """
    if reference not in table:
        raise ValueError(f"no {reference} to compare with, there are: {', '.join(table)}")
    rows = []
    for name in table.columns.drop(reference):
        differences = (table[name] - table[reference]).to_numpy()
        p = float(wilcoxon(differences).pvalue) if differences.any() else 1.0
        rows.append((name, len(differences), float(np.median(differences)), p))
    tested = pd.DataFrame(rows, columns=["strategy", "n", "median_difference", "p"])
    return tested.assign(p_holm=holm(tested["p"].to_numpy()))
