"""Which figures a report has, and what is said beside each."""

from collections.abc import Iterator
from functools import partial

import pandas as pd

from dal.analysis.curve_figures import bought_curves, learning_curves
from dal.analysis.look import Look
from dal.analysis.ranks import critical_difference, friedman, groups, scores_table
from dal.analysis.rendering import Drawing
from dal.analysis.row_figures import areas, at_few_budgets, differences, show_p, targets, times
from dal.analysis.square_figures import critical_differences, overlaps, penalties
from dal.analysis.statistics import aubc, curves, measured
from dal.analysis.tables import Tables

BUDGETS = 3  # at which accuracies are set side by side
BOUGHT = {  # column of Tables.class_balance -> title, axis, note
    "balance": (
        "Class balance of what was bought",
        "class balance",
        (
            "Entropy of the labels bought so far, over the largest that as many labels can have; "
            "1: all classes alike. Labels of the start are not counted."
        ),
    ),
    "classes_per_query": (
        "Variety of a query",
        "effective classes per query",
        (
            "Exponential of the entropy of one query's labels: as many classes as equal shares "
            "would make."
        ),
    ),
    "novelty": (
        "Novelty of the queries",
        "novelty",
        "Share of a query that no other strategy had bought by then at the same seed.",
    ),
}


def figures_of(
    rounds: pd.DataFrame, tables: Tables, look: Look, *, metric: str, folder: str
) -> Iterator[Drawing]:
    """List the figures of one setting.

    Args:
        rounds: of its runs, unfinished ones included.
        tables: of this setting.
        look: of the strategies.
        metric: the column that is compared; higher is better.
        folder: for the files.
    """
    open_runs = rounds[~rounds["finished"]].dropna(subset=[metric])
    for log in (False, True):
        yield Drawing(
            folder,
            "learning_curves_log" if log else "learning_curves",
            "Learning curves, logarithmic labels" if log else "Learning curves",
            "Mean over the finished seeds that reach a budget, with its 95 % interval (t) as a "
            "band. Thin and dashed: unfinished runs, in no mean.",
            partial(learning_curves, tables.curves, open_runs, look, metric=metric, log=log),
        )
    if tables.summary["aubc_mean"].notna().any():
        yield from _comparisons(rounds[rounds["finished"]], tables, look, metric, folder)
    if len(tables.timings):
        yield Drawing(
            folder,
            "time",
            "Time per round",
            "Seconds as measured: other machines, and other work on them, change these.",
            partial(times, _ordered(tables.timings, tables.summary), look),
        )
    if len(tables.overlap):
        names = [*_ordered(tables.overlap, tables.summary)["strategy"].unique()]
        yield Drawing(
            folder,
            "overlap",
            "Overlap of what was bought",
            "Shared items over all items of two runs of one seed, up to the last purchase that "
            "all made; the diagonal compares a strategy's own seeds.",
            partial(overlaps, tables.overlap, names),
        )
    for column, (title, axis, note) in BOUGHT.items():
        if tables.class_balance[column].notna().any():
            draw = partial(bought_curves, tables.class_balance, look, column, axis)
            yield Drawing(folder, column, title, note, draw)


def _comparisons(
    finished: pd.DataFrame, tables: Tables, look: Look, metric: str, folder: str
) -> Iterator[Drawing]:
    summary = tables.summary
    low, high = summary[["labels_low", "labels_high"]].iloc[0]
    area, gain = _areas(finished, (low, high), look.reference, metric)
    yield Drawing(
        folder,
        "aubc",
        "Area under the learning curve",
        f"From {low:g} to {high:g} labels on a linear axis, over its width. Small dots: seeds. "
        f"Large: their mean with its 95 % interval (t).",
        partial(areas, summary, area, look),
    )
    if summary["aubc_diff"].notna().any():
        yield Drawing(
            folder,
            "differences",
            f"Paired differences from {look.reference}",
            "Small dots: two runs of one seed. Large: their mean with its 95 % interval; p of the "
            "paired t-test by Holm over the strategies.",
            partial(differences, summary, gain, look),
        )
    points = _ordered(tables.curves, summary)
    few = points[points["n_labelled"].isin(few_budgets(points, low, high))]
    yield Drawing(
        folder,
        "budgets",
        "At fixed budgets",
        "Mean over seeds with its 95 % interval (t).",
        partial(at_few_budgets, few, look, metric),
    )
    wanted = {target for some in tables.targets.values() for target in some}
    labels = tables.labels_to_target[tables.labels_to_target["target"].isin(wanted)]
    if len(labels):
        yield Drawing(
            folder,
            "labels_to_target",
            "Labels to a target",
            "The first measured budget that reaches it. Small dots: seeds. Large: median, with a "
            "line between quartiles.",
            partial(targets, _ordered(labels, summary), look),
        )


def few_budgets(points: pd.DataFrame, low: float, high: float) -> list[float]:
    """Choose budgets at which to set strategies side by side, of those that most of them have.

    >>> points = {"strategy": list("aaabbb"), "n_labelled": [2, 4, 6, 2, 5, 6], "mean": 0.5}
    >>> few_budgets(pd.DataFrame(points), 2, 6)
    [6, 2]
    """
    within = points[points["n_labelled"].between(low, high)].dropna(subset=["mean"])
    having = within.groupby("n_labelled")["strategy"].nunique()
    budgets = [*having.index[2 * having > having.max()]]
    return budgets[::-1][:: max(len(budgets) // BUDGETS, 1)][:BUDGETS]


def figures_over_settings(tables: Tables, look: Look) -> tuple[list[Drawing], list[str]]:
    """List the figures over all settings, and why one of them is not there."""
    drawings, lines = [], [*tables.penalty.left_out]
    if tables.penalty.settings and len(tables.penalty.matrix):
        drawings.append(
            Drawing(
                "",
                "pairwise_penalty",
                "Who beats whom",
                f"Pairwise penalty, settings: {tables.penalty.settings}. The share of checkpoints "
                "(budgets that double, until the reference saturates) at which a paired t-test "
                "at 5 % puts the row above the column, summed over settings. Low column means are "
                "good.",
                partial(penalties, tables.penalty.matrix, tables.penalty.column_mean),
            )
        )
    scores, left_out = scores_table(tables.summary.dropna(subset=["aubc_mean"]))
    if min(scores.shape) < 2 or scores.shape[1] < 3:
        lines.append(
            f"No critical-difference diagram: it takes 2 settings that share 3 strategies, there "
            f"are {scores.shape[0]} that share {scores.shape[1]}."
        )
        return drawings, lines
    test = friedman(scores)
    width = critical_difference(scores.shape[1], scores.shape[0])
    drawings.append(
        Drawing(
            "",
            "critical_difference",
            "Ranks over settings",
            f"Mean rank of the area under the curve over {scores.shape[0]} settings; a bar joins "
            f"what Nemenyi's test at 5 % does not tell apart. Friedman: {show_p(test.p)}.",
            partial(critical_differences, test.ranks, width, groups(test.ranks, width), look),
        )
    )
    return drawings, lines + left_out


def _areas(
    rounds: pd.DataFrame, labels: tuple[float, float], reference: str, metric: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give the area of every run, and its difference from the reference's at the same seed."""
    every = {
        name: aubc(curves(of_it, metric), labels).dropna()
        for name, of_it in measured(rounds, metric).groupby("strategy")
    }
    base = every.get(reference, pd.Series(dtype=float))
    gains = {name: (area - base).dropna() for name, area in every.items() if name != reference}
    return _long(every), _long(gains)


def _long(values: dict[str, pd.Series]) -> pd.DataFrame:
    rows = [(name, value) for name, of_it in values.items() for value in of_it]
    return pd.DataFrame(rows, columns=["strategy", "value"])


def _ordered(table: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Sort the rows of a table by the strategies of a summary."""
    place = {name: i for i, name in enumerate(summary["strategy"])}
    return table.sort_values("strategy", key=lambda names: names.map(place), kind="stable")
