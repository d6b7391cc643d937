"""Claim 2: no label is bought twice, none is lost, and looking at the pool changes no network."""

import torch
from published.claim import FAILED, REPRODUCED, Finding, Options
from published.sweeps import sweep
from torch import nn

from dal.posteriors.mc_dropout import MCDropout

INITIAL = list(range(0, 200, 10))
QUERY_SIZE, ROUNDS = 10, 3
STRATEGIES = "bald,badge,coreset,batch_bald"


def kept(options: Options) -> Finding:
    """Count what is wrong in the records of real runs, and buffers that a pool pass changed."""
    runs = sweep(
        options,
        "claim_2",
        f"strategy={STRATEGIES}",
        f"initial={INITIAL}".replace(" ", ""),
        f"initial_size={len(INITIAL)}",
        f"query_size={QUERY_SIZE}",
        f"rounds={ROUNDS}",
        "steps=20",
    )
    wrong = bought = 0
    for key, purchases in runs.bought.items():
        rows = INITIAL + [index for purchase in purchases for index in purchase]
        bought += len(rows) - len(INITIAL)
        wrong += len(rows) - len(set(rows))
        of_run = runs.rounds[
            (runs.rounds["strategy"] == key.strategy) & (runs.rounds["seed"] == key.seed)
        ]
        wanted = len(INITIAL) + QUERY_SIZE * of_run["round"]
        wrong += int((of_run["n_labelled"] != wanted).sum()) + abs(len(of_run) - ROUNDS - 1)
    changed = changed_buffers()
    return Finding(
        f"{wrong} violations in {len(runs.bought)} runs, {bought} labels bought; "
        f"{changed} buffers changed by MC dropout",
        FAILED if wrong or changed or not bought else REPRODUCED,
    )


def changed_buffers() -> int:
    """Parameters and norm statistics that differ after a pool pass by MC dropout."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.5),
        nn.Flatten(), nn.Linear(144, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 3),
    )  # fmt: skip
    network(torch.randn(32, 1, 8, 8))  # statistics that are not those of a new network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with MCDropout(samples=5).draw(network, torch.Generator().manual_seed(0)) as predict:
        predict(torch.randn(32, 1, 8, 8) + 3)
    after = network.state_dict()
    return sum(not torch.equal(after[name], value) for name, value in before.items())
