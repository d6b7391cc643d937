"""Which cases there are, and one after the other through the meter."""

import argparse
import os
import sys

import torch
from benchmarks import cases, dropout, imagenet, selections
from benchmarks.floors import Floors, measure_floors
from benchmarks.measuring import Meter
from benchmarks.names import DETAILED, EVERY, strategies
from benchmarks.rows import Plan, Row, measure_row
from benchmarks.sizes import IMAGENET, SIZES


def prepare(options: argparse.Namespace) -> Floors:
    """Check the machine and measure what it can do at most.

    Raises:
        ValueError: if the machine cannot run what is asked for.
    """
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda needs a CUDA device and torch sees none")
    if options.device == "cpu" and not hasattr(os, "fork"):
        raise ValueError("--device cpu measures in forked processes, which this system lacks")
    torch.set_num_threads(options.threads if options.device == "cuda" else 1)
    return measure_floors(options.device, quick=options.quick)


def plans(options: argparse.Namespace) -> tuple[list[Plan], list[Plan]]:
    """Cases with goals, and one for each selection; without `--cases` all of both."""
    asked, device = set(options.cases), options.device
    scale = "quick" if options.quick else "default"
    if options.size == "imagenet":
        return _asked(imagenet.plans(IMAGENET[scale], device, measured=True), asked), []
    size = SIZES["quick" if options.quick else options.size]
    found = cases.plans(size, device)
    found.append(dropout.plan(size.images, 32, size.passes, device, max(size.repeats // 2, 1)))
    found += imagenet.plans(IMAGENET["default"], device, measured=False)
    every = not asked or EVERY in asked
    listed = [name for name in strategies() if every or name in asked - set(DETAILED)]
    return _asked(found, asked), selections.plans(listed, size, device)


def _asked(plans_of: list[Plan], names: set[str]) -> list[Plan]:
    return [plan for plan in plans_of if not names or plan.name in names]


def run(
    wanted: tuple[list[Plan], list[Plan]], options: argparse.Namespace, floors: Floors
) -> tuple[list[Row], list[Row]]:
    """Measure all, or until interrupted, with a line on the error stream that says where it is."""
    meter = Meter(options.device, options.threads, 0.01 if options.quick else 0.1)
    total, done = sum(map(len, wanted)), 0
    out: tuple[list[Row], list[Row]] = ([], [])
    try:
        for plans_of, rows in zip(wanted, out, strict=True):
            for plan in plans_of:
                done += 1
                _say(f"[{done}/{total}] {plan.title}, {plan.data}")
                row = measure_row(plan, meter, floors, options.peer_seconds)
                if options.quick:  # sizes at which goals mean nothing
                    row.goals, row.met = {}, {}
                rows.append(row)
    except KeyboardInterrupt:
        _say(f"interrupted in case {done} of {total}; what was measured follows\n")
    _say("")
    return out


def _say(text: str) -> None:
    """Write over the last line of a terminal; a file gets line by line."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
    elif text:
        sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
