"""What the tests of query() and run_rounds share."""

from functools import partial

import torch
from torch import nn

from dal.acquisition import query
from dal.loop import PLAIN_TRAINER
from dal.posteriors.deterministic import Deterministic
from dal.strategies.badge import badge
from dal.strategies.bald import bald
from dal.strategies.coreset import coreset
from dal.strategies.margin import margin
from dal.strategies.random import random

STRATEGIES = [random, margin, bald, badge, coreset]
trainer = partial(PLAIN_TRAINER, accelerator="cpu")


def largest(*, features, n):
    """Select the largest feature: in `index_data` the last rows of the dataset."""
    return features[:, 0].topk(n).indices


def size(*, features):
    """Score the same."""
    return features[:, 0]


def dropout_net(classes=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, classes)
        )


def ask(strategy, n, data, model, posterior=None, **options):
    return query(
        strategy, n, model=model, data=data, posterior=posterior or Deterministic(), **options
    )


def deal(pool, seed=0, n=None):
    return pool.deal(torch.Generator().manual_seed(seed), n)
