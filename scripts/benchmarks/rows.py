"""A case: a call of ours, what it is measured against, and the row that comes of it."""

import inspect
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from benchmarks.agreement import Agreement
from benchmarks.floors import Floors, Work
from benchmarks.measuring import Call, Measured, Meter, over
from torch import Tensor

WARM_ROWS, WARM_PICKS = 512, 4
MARGIN = 1.1  # a peer gets this much more than the time at which the goal is met
LONGEST = 150.0  # seconds that a peer gets


@dataclass(frozen=True)
class Goals:
    """Least ratios to the sequential baseline and the best peer, and most of the others."""

    sequential: float | None = None
    peer: float | None = None
    floor: float | None = None
    extra_mb: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Case:
    """What is measured.

    Args:
        ours: the function of `dal`.
        goals: what it must reach.
        sequential: the baseline.
        peers: other libraries.
        work: the floor, by rates of the machine.
        floor: name of what the baseline does before it is extrapolated, where that is the floor.
        before: of ours and of the baseline, the part before the first pick; their ratio is then
            that of the picks alone.
        picks: of the baseline times this are those of ours; it is extrapolated if this is not 1.
        agree: compares results of ours with those of the baseline.
        random: the work depends on the seed, so that the median counts.
        repeats: of ours, and of the baseline.
    """

    ours: Call
    goals: Goals = Goals()
    sequential: Call | None = None
    peers: dict[str, Call] = field(default_factory=dict)
    work: Work | None = None
    floor: str = ""
    before: tuple[Call, Call] | None = None
    picks: float = 1.0
    agree: Callable[[list[Any], list[Any]], Agreement] | None = None
    random: bool = False
    repeats: tuple[int, int] = (5, 2)


@dataclass(frozen=True)
class Plan:
    """A case before its inputs are made.

    Args:
        name: by which `--cases` knows it.
        title: for the table, with the sizes.
        data: name of the data set.
        build: makes the inputs; None where the device is missing.
    """

    name: str
    title: str
    data: str
    build: Callable[[], Case] | None


@dataclass
class Row:
    """A line of the table; seconds and MiB, None where there is no such thing."""

    name: str
    title: str
    data: str
    seconds: float | None = None
    extra_mb: float | None = None
    stopped: str = ""
    sequential_seconds: float | None = None
    sequential_mb: float | None = None
    peers: dict[str, dict[str, Any]] = field(default_factory=dict)
    floor_seconds: float | None = None
    floor_of: str = ""
    ratios: dict[str, float] = field(default_factory=dict)
    at_least: bool = False  # the best peer was stopped, so that its ratio is a lower bound
    best_peer: str = ""
    goals: dict[str, float] = field(default_factory=dict)
    met: dict[str, bool] = field(default_factory=dict)
    agreement: str = ""
    agrees: bool | None = None
    notes: list[str] = field(default_factory=list)
    wall_seconds: float = 0.0  # of the whole row, inputs and all


def on(function: Callable[..., Any], **values: Any) -> Call:
    """A call of a function by keywords, warmed up on a few rows.

    Args:
        function: one that takes `generator` or `seed` gets the seed of the repeat.
        values: tensors, whose first rows serve to warm up, and numbers.
    """
    asked = inspect.signature(function).parameters
    tensors = [value for value in values.values() if isinstance(value, Tensor)]
    device = tensors[0].device if tensors else "cpu"

    def run(given: dict[str, Any], seed: int) -> Any:
        if "generator" in asked:
            given = given | {"generator": torch.Generator(device).manual_seed(seed)}
        if "seed" in asked:
            given = given | {"seed": seed}
        return function(**given)

    def prepare() -> dict[str, Any]:
        few = {
            name: value[:WARM_ROWS] if isinstance(value, Tensor) else value
            for name, value in values.items()
        }
        if "n" in values:
            few["n"] = min(values["n"], WARM_PICKS)
        run(few, 0)
        return values

    return Call(run, prepare)


def measure_row(plan: Plan, meter: Meter, floors: Floors, least_limit: float) -> Row:
    """Measure a case and everything that it is compared with.

    Args:
        plan: which case.
        meter: measures.
        floors: of this machine.
        least_limit: seconds that a peer gets at least.
    """
    row, started = Row(plan.name, plan.title, plan.data), time.perf_counter()
    if plan.build is None:
        row.stopped = "not measured"
        return row
    case = plan.build()
    row.goals = {name: goal for name, goal in asdict(case.goals).items() if goal is not None}
    ours = meter.measure(case.ours, case.repeats[0])
    row.stopped, row.extra_mb = ours.stopped, ours.extra_mb
    if not ours.stopped:
        row.seconds = _seconds(ours, case)
        _against_sequential(row, case, meter, ours)
        _against_peers(row, case, meter, least_limit, ours)
        _against_floor(row, case, floors)
    _judge(row)
    row.wall_seconds = time.perf_counter() - started
    return row


def _seconds(measured: Measured, case: Case) -> float:
    return max(measured.median if case.random else measured.best, 1e-9)


def _against_sequential(row: Row, case: Case, meter: Meter, ours: Measured) -> None:
    if case.sequential is None or row.seconds is None:
        return
    theirs = meter.measure(case.sequential, case.repeats[1])
    if theirs.stopped:
        row.notes.append(f"sequential: {theirs.stopped}")
        return
    mine, other, first = row.seconds, _seconds(theirs, case), 0.0
    if case.before is not None:
        pairs = zip(case.before, case.repeats, strict=True)
        ready = [meter.measure(call, repeats) for call, repeats in pairs]
        if not any(one.stopped for one in ready):
            first = min(ready[1].best, other)
            mine = max(mine - ready[0].best, 0.02 * mine)
            other -= first
            row.notes.append(f"picks alone: {mine:.3g} s, sequential {other * case.picks:.3g} s")
    other *= case.picks
    row.sequential_seconds, row.sequential_mb = first + other, theirs.extra_mb
    row.ratios["sequential"] = other / mine
    if case.picks != 1:
        row.notes.append(f"sequential is extrapolated from 1/{case.picks:.3g} of the work")
    if case.agree is not None:
        found = case.agree(ours.results, theirs.results)
        row.agreement, row.agrees = found.said, found.holds


def _against_peers(row: Row, case: Case, meter: Meter, least_limit: float, ours: Measured) -> None:
    """Stop a peer once it is clear that the goal is met; the bound is then its figure."""
    if meter.device != "cpu" or row.seconds is None:
        return
    shows = MARGIN * (case.goals.peer or 0) * row.seconds
    limit = max(least_limit, min(shows, LONGEST))
    figures: dict[str, tuple[float, bool]] = {}  # seconds, and whether it was stopped
    for name, call in case.peers.items():
        found = meter.measure(call, case.repeats[1], limit)
        seconds = None if found.stopped else _seconds(found, case)
        row.peers[name] = {
            "seconds": seconds, "extra_mb": found.extra_mb, "stopped": found.stopped
        }  # fmt: skip
        if seconds is not None:
            figures[name] = seconds, False
            if not case.random and ours.results[0].dtype.kind == "i":
                same = (ours.results[0] == found.results[0]).sum()
                row.notes.append(f"{name}: {same} of {len(ours.results[0])} picks")
        elif found.stopped == over(limit):
            figures[name] = limit, True
    if figures:
        row.best_peer = min(figures, key=lambda name: figures[name][0])
        seconds, row.at_least = figures[row.best_peer]
        row.ratios["peer"] = seconds / row.seconds


def _against_floor(row: Row, case: Case, floors: Floors) -> None:
    if row.seconds is None:
        return
    if case.floor and row.sequential_seconds:
        row.floor_seconds, row.floor_of = row.sequential_seconds / case.picks, case.floor
    elif case.work is not None:
        row.floor_seconds, row.floor_of = case.work.seconds(floors), case.work.what
    if row.floor_seconds:
        row.ratios["floor"] = row.seconds / row.floor_seconds
    work = case.work
    if work is not None and work.flops:
        rate = work.flops / row.seconds
        row.notes.append(f"{rate / 1e9:,.0f} GFLOP/s, {rate / floors.flops:.0%} of a product")
    if work is not None and work.bytes:
        rate = work.bytes / row.seconds
        row.notes.append(f"{rate / 1e9:,.1f} GB/s, {rate / floors.bytes:.0%} of a read")


def _judge(row: Row) -> None:
    """Which goals are met; one that was not measured counts neither way."""
    reached = row.ratios | {"extra_mb": row.extra_mb, "seconds": row.seconds}
    for name, goal in row.goals.items():
        value = reached.get(name)
        if value is not None:
            row.met[name] = value >= goal if name in {"sequential", "peer"} else value <= goal
