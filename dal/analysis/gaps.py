"""Say what keeps runs of one setting from being compared: seeds, budgets and settings."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from dal.analysis.statistics import KEY

# Parts of a configuration in which the runs of a setting may differ: what is compared, what says
# where files are, and what watches.
FREE = {
    *("name", "seed", "strategy", "score", "posterior", "stop", "stopping"),
    *("data_dir", "cache_dir", "spill_dir", "logger", "checkpoint", "num_workers"),
}
SHOWN = 5  # settings that differ, of one setting; runs of other lengths


def missing_seeds(runs: Iterable[tuple[str, str, int]]) -> list[str]:
    """Name the seeds that some strategies of a setting have and others lack.

    Args:
        runs: (setting, strategy, seed) each.

    Returns:
        One line per strategy that lacks any.

    >>> missing_seeds([("a", "bald", 0), ("a", "random", 0), ("a", "random", 1)])
    ['a/bald: seed 1 is missing, other strategies have it']
    """
    seeds: dict[str, dict[str, set[int]]] = {}
    for setting, strategy, seed in runs:
        seeds.setdefault(setting, {}).setdefault(strategy, set()).add(seed)
    lines = []
    for setting, strategies in sorted(seeds.items()):
        every = set().union(*strategies.values())
        for strategy, there in sorted(strategies.items()):
            lost = sorted(every - there)
            if lost:
                are, them = ("s {} are", "them") if len(lost) > 1 else (" {} is", "it")
                named = are.format(ranges(lost))
                lines.append(
                    f"{setting}/{strategy}: seed{named} missing, other strategies have {them}"
                )
    return lines


def unequal_labels(runs: Mapping[str, tuple[str, tuple[int, ...]]]) -> list[str]:
    """Name the finished runs whose budgets are not those of most runs of their setting.

    Args:
        runs: name of a run -> its setting and the number of labels of each round.
    """
    axes: dict[str, dict[tuple[int, ...], list[str]]] = {}
    for name, (setting, labels) in sorted(runs.items()):
        axes.setdefault(setting, {}).setdefault(labels, []).append(name)
    lines = []
    for found in axes.values():
        usual = max(found, key=lambda axis: (len(found[axis]), axis))
        others = [(axis, name) for axis, names in found.items() if axis != usual for name in names]
        for axis, name in others[:SHOWN]:
            lines.append(
                f"{name}: measured at {_axis(axis)} labels, most of its setting at {_axis(usual)}"
            )
        if len(others) > SHOWN:
            lines.append(
                f"{others[0][1].rpartition('/')[0]} and others: so do "
                f"{len(others) - SHOWN} more runs"
            )
    return lines


def differing_settings(runs: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Name the settings, other than those compared, that differ between runs of one setting.

    Args:
        runs: (setting, configuration) each.
    """
    values: dict[str, dict[str, Counter[str]]] = {}
    following: Counter[tuple[str, str]] = Counter()  # seeds that are the run's
    counts: Counter[str] = Counter()
    for setting, config in runs:
        counts[setting] += 1
        kept = values.setdefault(setting, {})
        for name, value in _flat({k: v for k, v in config.items() if k not in FREE}):
            kept.setdefault(name, Counter())[value] += 1
            if name.endswith(".seed") and value == str(config.get("seed")):
                following[setting, name] += 1
    lines = []
    for setting, kept in sorted(values.items()):
        for counter in kept.values():
            if absent := counts[setting] - counter.total():
                counter["absent"] += absent
        unlike = {
            name: counter
            for name, counter in sorted(kept.items())
            if len(counter) > 1 and following[setting, name] < counts[setting]
        }
        lines += [
            f"{setting}: {name} differs, {_spread(unlike[name])}" for name in [*unlike][:SHOWN]
        ]
        if len(unlike) > SHOWN:
            lines.append(f"{setting}: {len(unlike) - SHOWN} more settings differ")
    return lines


def unmeasured(rounds: pd.DataFrame, metric: str) -> list[str]:
    """Name the seeds of each strategy whose rounds lack a metric, all of them or some.

    Args:
        rounds: a row per run and round, as `dal.analysis.runs.Runs` has them.
        metric: the column that is compared; a model without labels measures nothing.
    """
    trained = rounds[rounds["n_labelled"] > 0]
    lacking = trained[metric].isna().groupby([trained[name] for name in KEY]).agg(["all", "any"])
    lines = []
    for (experiment, dataset, model, strategy), runs in lacking.groupby(level=KEY[:-1]):
        name = f"{experiment}/{dataset}-{model}/{strategy}"
        none, some = (
            sorted(runs.index[mark].get_level_values("seed"))
            for mark in (runs["all"], runs["any"] & ~runs["all"])
        )
        lines += [f"{name}: no round of seed {ranges(none)} has {metric}; left out"] * bool(none)
        lines += [f"{name}: rounds of seed {ranges(some)} lack {metric}"] * bool(some)
    return lines


def ranges(numbers: Sequence[int]) -> str:
    """Write ascending whole numbers, neighbours as one range.

    >>> ranges([0, 1, 2, 5, 7, 8])
    '0-2, 5, 7-8'
    """
    groups: list[list[int]] = []
    for number in numbers:
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ", ".join(f"{g[0]}-{g[-1]}" if len(g) > 1 else str(g[0]) for g in groups)


def _axis(labels: tuple[int, ...]) -> str:
    if len(labels) < 4:
        return ", ".join(map(str, labels))
    return f"{labels[0]}, {labels[1]}, ..., {labels[-1]}"


def _spread(counter: Counter[str]) -> str:
    shown = [f"{value:.40} in {n} run{'s' * (n > 1)}" for value, n in counter.most_common(3)]
    return ", ".join(shown) + (", and others" if len(counter) > 3 else "")


def _flat(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _flat(part, f"{name}.{key}" if name else str(key))
    else:
        yield name, str(value)
