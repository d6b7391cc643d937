"""What a stopping criterion asks for by the names of its arguments, and what all of them decide.

A criterion is a function of the records so far. It is asked in every round that would buy labels,
when the query is made and before anything is bought, and answers None to go on, a reason to stop,
or how many of the wanted labels may be bought. So a continued run decides as it did before.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from dal.acquisition_signature import Strategy, is_score, needs_of
from dal.callbacks.round_log import Record
from dal.signatures import asked_by, name_of

Criterion = Callable[..., str | int | None]


class Decision(NamedTuple):
    """What the criteria say about a purchase.

    Args:
        n: how many of the wanted labels may be bought, the first ones.
        stopped: why none is; None to go on.
    """

    n: int
    stopped: str | None


def _val_accuracy(records: Sequence[Record]) -> list[float]:
    """One number for each round that trained; a model without labels measures nothing."""
    known = [record.get("val/accuracy") for record in records if record["n_labelled"]]
    if None in known:
        raise ValueError(
            "a stopping criterion looks at val/accuracy, which the training did not measure; log "
            "it in validation_step, and see trainer.limit_val_batches"
        )
    return [value for value in known if value is not None]


def _costs(record: Record) -> list[float]:
    costs: list[float] = record.get("acquired_costs", [1] * len(record["acquired"]))
    return costs


VALUES: Mapping[str, Callable[[Sequence[Record]], Any]] = {
    "records": lambda records: records,
    "val_accuracy": _val_accuracy,
    "prediction_agreement": lambda records: [
        record.get("prediction_agreement") for record in records[1:]
    ],
    "scores": lambda records: records[-1]["scores"],
    "cost_used": lambda records: records[-1].get("cost_used", records[-1]["labels_used"]),
    "acquired_costs": lambda records: _costs(records[-1]),
}
"""What a criterion may ask for: records so far -> value."""


def decide(criteria: Sequence[Criterion], records: Sequence[Record]) -> Decision:
    """Ask all criteria about the last of the records, whose labels are not bought yet.

    Args:
        criteria: functions of values named in `VALUES`.
        records: of the rounds so far; `acquired` of the last is what the query wants.

    Raises:
        ValueError: if a value is missing or a criterion gives anything but its three answers.

    >>> round = {"labels_used": 20, "acquired": [3, 1, 4]}
    >>> decide([lambda *, cost_used: 22 - cost_used], [round])
    Decision(n=2, stopped=None)
    """
    n, reasons = len(records[-1]["acquired"]), list[str]()
    for criterion in criteria:
        said = criterion(**{name: VALUES[name](records) for name in values_of(criterion)})
        if isinstance(said, str):
            reasons.append(f"{name_of(criterion)}: {said}")
        elif said is not None and (type(said) is not int or said < 1):
            raise ValueError(
                f"stopping criterion {name_of(criterion)} must give None, a reason as text, or a "
                f"whole number of at least 1, got {said!r}"
            )
        n = min(n, said) if isinstance(said, int) else n
    return Decision(0 if reasons else n, "; ".join(reasons) or None)


def values_of(criterion: Criterion) -> tuple[str, ...]:
    """Names of `VALUES` that a criterion asks for.

    Raises:
        ValueError: if it needs another name that its YAML does not set.
    """
    return asked_by(criterion, VALUES, kind="stopping criterion")


def asks(criteria: Sequence[Criterion], name: str) -> bool:
    """Whether one of the criteria looks at a value."""
    return any(name in values_of(criterion) for criterion in criteria)


def check_criteria(
    criteria: Sequence[Criterion], strategy: Strategy, score: Strategy | None, val_size: int
) -> None:
    """Raise ValueError if a criterion looks at what this run will not have."""
    for criterion in criteria:
        names, name = values_of(criterion), name_of(criterion)
        if "val_accuracy" in names and not val_size:
            raise ValueError(
                f"stopping={name} looks at the accuracy on validation rows and there are none; "
                f"set val_size higher"
            )
        if "scores" in names and not (is_score(strategy) or "scores" in needs_of(strategy, score)):
            raise ValueError(
                f"stopping={name} looks at scores and strategy {name_of(strategy)} gives none; use "
                f"one that scores items, such as entropy"
            )
