"""LabelledPool against a dictionary, over random histories."""

import json

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dal.pool import LabelledPool

SIZE = 12


class PoolMachine(RuleBasedStateMachine):
    """Buys, refuses, deals, saves and loads; `bought` is what must be known afterwards."""

    def __init__(self):
        super().__init__()
        self.pool = LabelledPool(SIZE)
        self.held = []
        self.bought = {}
        self.purchases = 0
        self.dealt = None

    @initialize(held=st.lists(st.integers(0, SIZE - 1), unique=True, max_size=3))
    def hold_out(self, held):
        self.pool, self.held = LabelledPool(SIZE, held), held

    def free(self):
        return [i for i in range(SIZE) if i not in self.bought and i not in self.held]

    @rule(data=st.data())
    def buy(self, data):
        free = self.free()
        chosen = data.draw(st.lists(st.sampled_from(free), unique=True)) if free else []
        labels = data.draw(st.lists(st.integers(0, 9), min_size=len(chosen), max_size=len(chosen)))
        self.pool.label(chosen, labels, f"purchase {self.purchases}")
        for index, label in zip(chosen, labels, strict=True):
            self.bought[index] = (label, self.purchases)
        self.purchases += 1
        self.dealt = None

    @rule(data=st.data())
    def buy_with_one_bad_index(self, data):
        free = self.free()
        good = data.draw(st.lists(st.sampled_from(free), unique=True)) if free else []
        wrong = [-1, SIZE, *self.held, *self.bought, *good]
        chosen = [*good, data.draw(st.sampled_from(wrong))]
        with pytest.raises(ValueError, match="index"):
            self.pool.label(chosen, [0] * len(chosen), "bad")

    @precondition(lambda self: self.free())
    @rule(labels=st.sampled_from([[], [-1], [0, 0], [0.5]]))
    def buy_with_bad_labels(self, labels):
        with pytest.raises(ValueError, match="label"):
            self.pool.label(self.free()[:1], labels, "bad")

    @rule(seed=st.integers(0, 3), n=st.none() | st.integers(0, SIZE))
    def deal(self, seed, n):
        self.dealt = self.pool.deal(torch.Generator().manual_seed(seed), n).tolist()
        assert len(set(self.dealt)) == len(self.dealt)
        assert set(self.dealt) <= set(self.free())

    @rule()
    def save_and_load(self):
        state = json.loads(json.dumps(self.pool.state_dict()))
        self.pool = LabelledPool(SIZE)
        self.pool.load_state_dict(state)
        self.dealt = None

    @rule()
    def refuse_a_state_of_another_size(self):
        state = LabelledPool(SIZE + 1).state_dict()
        with pytest.raises(ValueError, match="rows"):
            self.pool.load_state_dict(state)

    @invariant()
    def knows_what_was_bought(self):
        assert self.pool.labelled.tolist() == list(self.bought)
        assert self.pool.labels.tolist() == [label for label, _ in self.bought.values()]
        assert self.pool.rounds.tolist() == [number for _, number in self.bought.values()]
        assert self.pool.sources == tuple(f"purchase {r}" for _, r in self.bought.values())
        assert self.pool.unlabelled.tolist() == self.free()
        assert self.pool.held_out.tolist() == self.held
        assert self.pool.round == max(self.purchases - 1, 0)

    @invariant()
    def positions_follow_the_last_deal(self):
        if self.dealt is None:
            with pytest.raises(ValueError, match="deal"):
                self.pool.to_index(torch.tensor([0]))
        else:
            assert self.pool.to_index(torch.arange(len(self.dealt))).tolist() == self.dealt


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(
    max_examples=30,
    stateful_step_count=20,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
