"""One purchase: what the stopping criteria let a round buy, bought."""

from collections.abc import Sequence

import torch

from dal.callbacks.round_log import Record
from dal.data.datamodule import ActiveDataModule
from dal.run_directory import RunDirectory
from dal.stopping.criteria import Criterion, decide


def buy_labels(
    data: ActiveDataModule,
    records: Sequence[Record],
    stopping: Sequence[Criterion],
    kept: RunDirectory | None,
) -> Record:
    """Ask the oracle for what a round may buy, and keep its answer before all else.

    Args:
        data: has the oracle and the costs.
        records: of the rounds so far; `acquired` of the last is what its query wants.
        stopping: criteria that may stop the run or cut the query.
        kept: where the answer is kept; None keeps nothing.

    Returns:
        What the purchase changes in the last record.

    Raises:
        ValueError: from a criterion or the oracle, or if the answer cannot be kept.
    """
    *earlier, record = records
    n, stopped = decide(stopping, [*earlier, record | costs_of_purchase(data, record)])
    if stopped:
        return {"acquired": [], "scores": None, "stopped": stopped}
    bought = {name: record[name] and record[name][:n] for name in ("acquired", "scores")}
    bought["acquired_labels"] = data.ask(bought["acquired"]).tolist()
    if kept:
        kept.paid(record["round"]).save(record | bought)
    return bought


def costs_of_purchase(data: ActiveDataModule, record: Record) -> Record:
    """What the labels wanted in a round cost, and those before them, where labels have costs."""
    if data.costs is None:
        return {}
    acquired = torch.tensor(record["acquired"], dtype=torch.long)
    return {"acquired_costs": data.costs_of(acquired).tolist(), "cost_used": data.cost_used}
