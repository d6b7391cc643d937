"""What strategies bought: how far purchases overlap, how balanced, varied and new they are."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from dal.analysis.runs import Key, Runs
from dal.analysis.statistics import KEY, SETTING


def overlap(runs: Runs) -> pd.DataFrame:
    """Jaccard overlap of all that two strategies bought, the mean over their common seeds.

    The finished runs of a seed are cut at the last purchase that all of them made. A strategy
    beside itself stands for its own runs at different seeds.

    Returns:
        `experiment`, `dataset`, `model`, `strategy`, `other`, `jaccard`, `expected` (of two
        independent random choices: b / (2 N - b) for b items each from a pool of N), `n_bought`
        (b), `n_pairs` (of runs).
    """
    pools = _pools(runs)
    found: dict[tuple[str, ...], list[tuple[float, float, float]]] = {}
    for group in _groups(runs):
        rounds = min(len(runs.bought[key]) for key in group)
        bought = [np.unique(_flat(runs.bought[key][:rounds])) for key in group]
        shared = _shared(bought)
        for i, j in combinations(range(len(group)), 2):
            size = (len(bought[i]) + len(bought[j])) / 2
            if not size:
                continue
            jaccard = shared[i, j] / (2 * size - shared[i, j])
            expected = size / (2 * pools[group[i]] - size)
            one, other = group[i].strategy, group[j].strategy
            for names in {(one, other), (other, one)}:
                values = found.setdefault((*group[i][:3], *names), [])
                values.append((jaccard, expected, size))
    rows = [[*names, *np.mean(found[names], axis=0), len(found[names])] for names in sorted(found)]
    columns = [*SETTING, "strategy", "other", "jaccard", "expected", "n_bought", "n_pairs"]
    return pd.DataFrame(rows, columns=columns)


def purchases(runs: Runs) -> pd.DataFrame:
    """Describe what strategies had bought after each purchase, the mean over finished runs.

    Returns:
        One row per setting, strategy and number of labels after a purchase: `experiment`,
        `dataset`, `model`, `strategy`, `n_labelled`, `n_seeds` and, of the rows that belong to a
        class,
        `balance`: entropy of the labels bought so far over the largest that as many labels can
        have, 0 to 1;
        `classes_per_query`: exponential of the entropy of the labels of this one query, that is
        as many classes as equal shares would have;
        `novelty`: share of this query that no other strategy had bought by then at the same seed
        (NaN where there is no other).
    """
    finished = _finished(runs)
    classes = _classes(runs, finished)
    buyers = _buyers(runs, finished)
    rivals = Counter((key[:3], key.seed) for key in finished)
    started = runs.rounds.groupby(KEY)["n_labelled"].first()
    rows = []
    for key in finished:
        seen, n_labelled = np.zeros(classes[key[:3]]), started[key]
        queries = zip(runs.bought[key], runs.labels[key], strict=True)
        for number, (indices, labels) in enumerate(queries):
            if not indices:
                continue
            known = np.array([label for label in labels if label >= 0], dtype=np.int64)
            query = np.bincount(known, minlength=len(seen))
            seen, n_labelled = seen + query, n_labelled + len(indices)
            most = math.log(max(min(len(seen), seen.sum()), 2))
            alone = rivals[key[:3], key.seed] == 1
            buyers_of_seed = buyers[key[:3], key.seed]
            novelty = math.nan if alone else _novelty(buyers_of_seed, key.strategy, indices, number)
            variety = math.exp(_entropy(query)) if len(known) else 0.0
            spread = _entropy(seen) / most, variety
            rows.append([*key, n_labelled, *spread, novelty])
    columns = [*KEY, "n_labelled", "balance", "classes_per_query", "novelty"]
    table = pd.DataFrame(rows, columns=columns)
    groups = table.groupby([*SETTING, "strategy", "n_labelled"], as_index=False)
    return groups.agg(
        n_seeds=("seed", "nunique"),
        balance=("balance", "mean"),
        classes_per_query=("classes_per_query", "mean"),
        novelty=("novelty", "mean"),
    )


def _finished(runs: Runs) -> list[Key]:
    return [Key(*row) for row in runs.finished[KEY].drop_duplicates().itertuples(index=False)]


def _groups(runs: Runs) -> Iterator[list[Key]]:
    """Give the runs of each setting and seed, then those of each setting and strategy."""
    finished = _finished(runs)
    for same in ("seed", "strategy"):
        groups: dict[tuple[object, ...], list[Key]] = {}
        for key in finished:
            groups.setdefault((*key[:3], getattr(key, same)), []).append(key)
        yield from groups.values()


def _pools(runs: Runs) -> Mapping[Key, float]:
    """Count the rows of each run's pool before its first purchase; NaN where it is not told."""
    first = runs.rounds.groupby(KEY).first()
    sizes = first["n_pool"] if "n_pool" in first else first["n_labelled"] * math.nan
    return {Key(*names): float(size) for names, size in sizes.items()}


def _classes(runs: Runs, keys: Iterable[Key]) -> dict[tuple[str, ...], int]:
    """Count the classes of each setting that any of its runs bought."""
    counts: dict[tuple[str, ...], int] = {}
    for key in keys:
        highest = max(_flat(runs.labels[key]), default=0)
        counts[key[:3]] = max(counts.get(key[:3], 0), int(highest) + 1)
    return counts


Buyers = dict[int, list[tuple[int, str]]]


def _buyers(runs: Runs, keys: Iterable[Key]) -> dict[tuple[tuple[str, ...], int], Buyers]:
    """Note who bought each row, and in which round, for each setting and seed."""
    found: dict[tuple[tuple[str, ...], int], Buyers] = {}
    for key in keys:
        buyers = found.setdefault((key[:3], key.seed), {})
        for number, indices in enumerate(runs.bought[key]):
            for index in indices:
                buyers.setdefault(index, []).append((number, key.strategy))
    return found


def _novelty(buyers: Buyers, strategy: str, indices: Sequence[int], number: int) -> float:
    known = sum(
        any(name != strategy and when <= number for when, name in buyers[index])
        for index in indices
    )
    return 1 - known / len(indices)


def _flat(rounds: Iterable[Sequence[int]]) -> np.ndarray:
    return np.array([index for bought in rounds for index in bought], dtype=np.int64)


def _shared(bought: Sequence[np.ndarray]) -> np.ndarray:
    """Count for each pair of sets what is in both."""
    rows, places = np.unique(np.concatenate(bought), return_inverse=True)
    member = np.zeros((len(bought), len(rows)), dtype=np.float32)
    member[np.repeat(np.arange(len(bought)), [len(one) for one in bought]), places] = 1
    return member @ member.T


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
