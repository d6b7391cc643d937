"""Learning curves of several seeds: area, values at budgets, and what the seeds suffice for.

Rounds are a table with one row per run and round: experiment, dataset, model, strategy, seed,
round, n_labelled and what was measured. A setting is one experiment, data set and model. Curves
are a table of one strategy in one setting: index seed, columns n_labelled, NaN where not measured.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy.integrate import trapezoid
from scipy.stats import t as student

SETTING = ["experiment", "dataset", "model"]
KEY = [*SETTING, "strategy", "seed"]  # of a run
ACCURACY = "test/accuracy"
FOR_A_CLAIM, FOR_A_RANKING = 5, 10  # paired seeds; with 5, half a point is found 3 times in 10
CONFIDENCE = 0.95

Range = tuple[float, float]


def settings_of(rounds: pd.DataFrame) -> Iterator[tuple[tuple[str, ...], pd.DataFrame]]:
    """Give each setting and its rows, in order of name."""
    return ((tuple(name), rows) for name, rows in rounds.groupby(SETTING, sort=True))


def measured(rounds: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Keep the rounds that have a metric, or raise that none has."""
    if metric not in rounds or rounds[metric].isna().all():
        raise ValueError(f"no round reports {metric} as a number")
    return rounds.dropna(subset=[metric])


def curves(rounds: pd.DataFrame, metric: str = ACCURACY) -> pd.DataFrame:
    """Arrange the rounds of one strategy in one setting as curves.

    Raises:
        ValueError: if no round has the metric, or a run has two rounds of one budget.
    """
    known = measured(rounds, metric)
    twice = known.duplicated(["seed", "n_labelled"])
    if twice.any():
        seed, budget = known.loc[twice, ["seed", "n_labelled"]].iloc[0]
        raise ValueError(f"a seed has one round per budget, seed {seed} has two at {budget} labels")
    return known.pivot(index="seed", columns="n_labelled", values=metric).sort_index(axis=1)


def label_range(rounds: pd.DataFrame, metric: str = ACCURACY) -> Range:
    """First and last budget that at least half of a setting's runs cover."""
    ends = measured(rounds, metric).groupby(["strategy", "seed"])["n_labelled"].agg(["min", "max"])
    middle = (len(ends) - 1) // 2
    low = ends["min"].sort_values().iloc[middle]
    high = ends["max"].sort_values(ascending=False).iloc[middle]
    return float(low), float(high)


def aubc(curves: pd.DataFrame, labels: Range | None = None, *, log: bool = False) -> pd.Series:
    """Area under each budget curve by trapezoids, over the label axis scaled to [0, 1].

    Args:
        curves: [S, B]; index seed, columns n_labelled.
        labels: first and last label of the area; None for those that all curves cover. A curve
            that has no point there is interpolated.
        log: scale the logarithm of the labels instead.

    Returns:
        [S]; the mean height, NaN for a curve that does not cover the range.

    Raises:
        ValueError: if the range is empty, or starts at 0 on a logarithmic axis.

    >>> aubc(pd.DataFrame({10: [0.5], 20: [0.75], 40: [1.0]})).tolist()
    [0.7916666666666666]
    """
    runs = [row.dropna() for _, row in curves.iterrows()]
    if labels is None:
        labels = max(run.index[0] for run in runs), min(run.index[-1] for run in runs)
    low, high = labels
    if low > high:
        raise ValueError(f"an area needs a range of labels, got {low:g} to {high:g}")
    if log and low <= 0:
        raise ValueError(f"a logarithmic axis needs labels above 0, got {low:g}")
    return pd.Series([_area(run, low, high, log=log) for run in runs], curves.index, dtype=float)


def _area(run: pd.Series, low: float, high: float, *, log: bool) -> float:
    x, y = run.index.to_numpy(float), run.to_numpy(float)
    if not len(x) or x[0] > low or x[-1] < high:
        return np.nan
    inside = x[(x > low) & (x < high)]
    grid = np.array([low, *inside, high])
    if log:
        x, grid = np.log(x[x > 0]), np.log(grid)
        y = y[-len(x) :]
    heights = np.interp(grid, x, y)
    width = grid[-1] - grid[0]
    return float(trapezoid(heights, grid) / width) if width else float(heights[0])


def at_budget(curves: pd.DataFrame, budget: float) -> pd.Series:
    """Read each curve at a budget, linearly between the two measured budgets around it.

    Returns:
        [S]; NaN for a curve that starts after the budget or ends before it.

    >>> at_budget(pd.DataFrame({10: [0.5, 0.5], 20: [0.75, None]}), 12).tolist()
    [0.55, nan]
    """
    return _read(curves, [budget])[budget]


def _read(curves: pd.DataFrame, budgets: Sequence[float]) -> pd.DataFrame:
    rows = []
    for _, run in curves.iterrows():
        known = run.dropna()
        x = known.index.to_numpy(float)
        rows.append(np.interp(budgets, x, known.to_numpy(float), left=np.nan, right=np.nan))
    return pd.DataFrame(rows, curves.index, budgets)


def at_budgets(
    rounds: pd.DataFrame, budgets: Sequence[float] | None = None, *, metric: str = ACCURACY
) -> pd.DataFrame:
    """Mean and spread over seeds of every strategy of every setting at each budget.

    Args:
        rounds: of any number of settings.
        budgets: labels; None for all that some run of the strategy has.
        metric: the column to read.

    Returns:
        One row per setting, strategy and budget: n_labelled, n_seeds (that reach it), mean, sd,
        and the 95 % interval of the mean (Student's t), ci_low and ci_high; NaN with one seed.
    """
    rows = []
    for names, strategy in measured(rounds, metric).groupby([*SETTING, "strategy"]):
        table = curves(strategy, metric)
        wanted = list(table.columns) if budgets is None else budgets
        for budget, values in _read(table, wanted).items():
            known = values.dropna().to_numpy()
            rows.append((*names, budget, len(known), *mean_and_interval(known)))
    columns = [*SETTING, "strategy", "n_labelled", "n_seeds", "mean", "sd", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=columns)


def mean_and_interval(values: np.ndarray) -> tuple[float, float, float, float]:
    """Mean, sample standard deviation, and the 95 % interval of the mean; NaN where unknown."""
    n = len(values)
    mean = float(values.mean()) if n else np.nan
    sd = float(values.std(ddof=1)) if n > 1 else np.nan
    half = student.ppf((1 + CONFIDENCE) / 2, n - 1) * sd / np.sqrt(n) if n > 1 else np.nan
    return mean, sd, mean - half, mean + half


def warnings_about_seeds(summary: pd.DataFrame, reference: str = "random") -> list[str]:
    """Say in plain lines which claims the number of seeds does not allow.

    Args:
        summary: of `dal.analysis.summary.summarise`.
        reference: what the strategies were compared with.
    """
    lines = []
    for names, rows in settings_of(summary):
        place = "/".join(names)
        others = rows[rows["strategy"] != reference]
        if len(others) == len(rows):
            lines.append(f"{place}: no {reference} to compare with: no claim about any strategy")
        elif (few := others[others["n_paired"] < FOR_A_CLAIM]).size:
            counts = ", ".join(f"{row.strategy} ({row.n_paired})" for row in few.itertuples())
            lines.append(
                f"{place}: fewer than {FOR_A_CLAIM} seeds paired with {reference}: "
                f"no claim about {counts}"
            )
        least = rows["n_seeds"].min()
        if len(rows) > 1 and least < FOR_A_RANKING:
            lines.append(
                f"{place}: {least} seeds where it has fewest, {FOR_A_RANKING} are needed to rank: "
                "no claim about the order of strategies"
            )
    return lines
