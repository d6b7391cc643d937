"""How long a pass over the pool and a selection will take, from a trial on this machine."""

import copy
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from dal.acquisition_batches import AHEAD
from dal.acquisition_pass import Pass
from dal.acquisition_storage import Storage
from dal.data.datamodule import WHOLE, ActiveDataModule
from dal.functional.costs import Cost
from dal.functional.shards import Shards
from dal.models.loss_prediction import LossPrediction
from dal.posteriors.posterior import evaluating

PART = 32  # the batch of the trial is at most the pool over this
CHOICES = 16  # made one after the other to time one


def pass_seconds(
    plan: Pass,
    rows: int,
    *,
    model: nn.Module,
    context: Callable[[], AbstractContextManager[Any]],
) -> float | None:
    """Time of a pass over the pool, from two batches of it; nothing is changed by the trial.

    Args:
        plan: what the pass computes.
        rows: N.
        model: on its device.
        context: autocast of the training precision.

    Returns:
        Seconds of a process, or None if no pass is needed.
    """
    data = _part_of(plan.data, rows)
    run = partial(_marks, plan, data=data, model=model, context=context)
    if len(run()) == 1:  # the model is asked nothing; otherwise it is warm now
        return None
    data.pool_subset = min(2 * data.eval_batch_size, rows)
    data.deal()
    started = time.perf_counter()
    batches = [*data.pool_dataloader()]
    loading = (time.perf_counter() - started) / len(batches)
    loading /= max(plan.data.num_workers, 1)
    data.pool_dataloader = partial(_read_before, batches)  # type: ignore[method-assign,assignment]
    marks = run()
    computing = marks[-1] - marks[-2]
    fixed = max(marks[1] - marks[0] - computing, 0.0)  # labelled rows, targets, the posterior's own
    overlap = plan.data.num_workers or plan.device.type in AHEAD
    batch = max(loading, computing) if overlap else loading + computing
    own = -(-rows // plan.storage.processes.count)
    return fixed + batch * own / min(data.eval_batch_size, data.pieces.most)


def _part_of(data: ActiveDataModule, rows: int) -> ActiveDataModule:
    """The data with one batch of its pool, a smaller one if it has only a few."""
    part = copy.copy(data)
    part.pool = copy.copy(data.pool)
    part.num_workers = 0
    part.eval_batch_size = part.pool_subset = max(min(data.eval_batch_size, rows // PART), 1)
    part.deal()
    return part


def _marks(
    plan: Pass,
    *,
    data: ActiveDataModule,
    model: nn.Module,
    context: Callable[[], AbstractContextManager[Any]],
) -> list[float]:
    """Make a pass over the data; times of its start and of the end of each batch of the pool."""
    marks: list[float] = []

    def mark(_done: int, _total: int) -> None:
        if plan.device.type == "cuda":
            torch.cuda.synchronize(plan.device)
        marks.append(time.perf_counter())

    trial = Pass(
        plan.leaves,
        data=data,
        posterior=plan.posterior,
        features=plan.features,
        like=plan.like,
        given=plan.values,
        storage=Storage(plan.device, Shards(0), plan.storage.folder),
    )
    losses = _losses(plan, data, model)
    mark(0, 0)
    with torch.no_grad():
        trial.compute(model, losses, context, mark)
    return marks


def _read_before(batches: list[Tensor], _part: slice = WHOLE) -> list[Tensor]:
    """Stands for the loader of the pool."""
    return batches


def _losses(plan: Pass, data: ActiveDataModule, model: nn.Module) -> LossPrediction | None:
    """A loss prediction of the size that will have been trained, if one is asked for."""
    if not any("predicted_losses" in names for names in plan.keys.values()):
        return None
    inputs = next(iter(data.pool_dataloader()))[:2].to(plan.like)  # a pair
    losses = LossPrediction(0)
    with evaluating(model), torch.no_grad(), losses.watching(model):
        model(inputs)
    losses.learn(torch.zeros(len(inputs), dtype=torch.long, device=inputs.device))
    return losses


@cache
def speeds_of(device: torch.device) -> Cost:
    """Measure how many of each kind of work a device does in a second, once, in milliseconds."""
    rows, width, columns = (2**16 if device.type == "cuda" else 2**12), 512, 64
    left, right = torch.ones(rows, width, device=device), torch.ones(width, columns, device=device)
    out = torch.empty_like(left)

    def go_over_twice() -> None:
        torch.mul(left, left, out=out)
        torch.log(left, out=out)

    def choose() -> None:
        nearest, row = left[0], 0
        for _ in range(CHOICES):
            nearest = torch.minimum(nearest, left[row])
            row = int(nearest.argmax())

    with torch.no_grad():
        return Cost(
            products=rows * width * columns / _seconds(partial(torch.mm, left, right), device),
            elements=2 * left.numel() / _seconds(go_over_twice, device),
            steps=CHOICES / _seconds(choose, device),
        )


def _seconds(work: Callable[[], object], device: torch.device, times: int = 3) -> float:
    """Least time of a call, the first one left out."""
    least = float("inf")
    for number in range(times):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number:
            least = min(least, time.perf_counter() - started)
    return max(least, 1e-9)
