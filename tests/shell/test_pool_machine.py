"""LabelledPool and its file against a dictionary, over random histories with crashes."""

import io
import os
import tempfile
from functools import partial, wraps
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dal.pool import LabelledPool
from dal.pool_file import PoolFile

SIZE = 12
STEPS = 50
EXAMPLES = 290  # some end before all of their steps
labels_of = st.integers(-1, 9)  # -1: of no class
open_pool = partial(LabelledPool, no_class=True)


class CrashedError(BaseException):
    """Stands for a kill: no handler runs to its end."""


class Half(io.FileIO):
    """A file that takes half of what is written, and then the process dies."""

    def write(self, content):
        super().write(content[: len(content) // 2])
        raise CrashedError


def die(*args, **options):
    raise CrashedError


def second(operation):
    """Let the first call pass: the file is synced, its folder is not."""
    calls = []

    def call(*args):
        calls.append(args)
        return operation(*args) if len(calls) == 1 else die()

    return call


# Where the save dies, what dies there, and whether the file holds the new state then.
MOMENTS = {
    "before": (Path, "open", die, False),
    "half way": (Path, "open", Half, False),
    "before the sync": (os, "fsync", die, False),
    "before the rename": (Path, "replace", die, False),
    "after the rename": (os, "fsync", second(os.fsync), True),
}


def step(**given):
    """Make a rule whose runs are counted."""

    def count(do):
        @wraps(do)
        def counted(self, **options):
            do(self, **options)
            PoolMachine.steps += 1

        return rule(**given)(counted)

    return count


class PoolMachine(RuleBasedStateMachine):
    """Buys, corrects, refuses, deals, saves, crashes and loads.

    `bought` is what must be known: by index, its label, purchase and source; `saved` is what the
    file must hold.
    """

    steps = 0

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.file = PoolFile(Path(self.folder.name) / "pool.json")
        self.pool = open_pool(SIZE)
        self.held, self.bought, self.history, self.dealt = [], {}, [], None
        self.saved = None

    def teardown(self):
        self.folder.cleanup()

    @initialize(held=st.lists(st.integers(0, SIZE - 1), unique=True, max_size=3))
    def hold_out(self, held):
        self.pool, self.held = open_pool(SIZE, held), held

    def free(self):
        return [i for i in range(SIZE) if i not in self.bought and i not in self.held]

    def purchases(self):
        return sum(kind == "label" for kind, *_ in self.history)

    @step(data=st.data(), n=st.integers(0, 3))
    def buy(self, data, n):
        free = self.free()[:6]
        chosen = data.draw(st.permutations(free))[:n]
        labels = [data.draw(labels_of) for _ in chosen]
        source = f"source {len(self.history)}"
        self.pool.label(chosen, labels, source)
        for index, label in zip(chosen, labels, strict=True):
            self.bought[index] = (label, self.purchases(), source)
        self.history.append(("label", tuple(chosen), tuple(labels), source))
        self.dealt = None

    @precondition(lambda self: self.bought)
    @step(data=st.data(), label=labels_of)
    def correct(self, data, label):
        index = data.draw(st.sampled_from(list(self.bought)))
        source = f"source {len(self.history)}"
        self.pool.relabel([index], [label], source)
        self.bought[index] = (label, self.bought[index][1], source)
        self.history.append(("relabel", (index,), (label,), source))

    @step(data=st.data())
    def buy_with_one_bad_index(self, data):
        good = self.free()[:2]
        wrong = [-1, SIZE, *self.held, *self.bought, *good]
        chosen = [*good, data.draw(st.sampled_from(wrong))]
        with pytest.raises(ValueError, match="index"):
            self.pool.label(chosen, [0] * len(chosen), "bad")

    @step(data=st.data())
    def correct_with_one_bad_index(self, data):
        good = list(self.bought)[:2]
        chosen = [*good, data.draw(st.sampled_from([-1, SIZE, *self.held, *self.free(), *good]))]
        with pytest.raises(ValueError, match="index"):
            self.pool.relabel(chosen, [0] * len(chosen), "bad")

    @precondition(lambda self: self.free() or self.bought)
    @step(labels=st.sampled_from([[], [-2], [0, 0], [0.5]]))
    def give_bad_labels(self, labels):
        add, rows = (self.pool.label, self.free()) if self.free() else (self.pool.relabel, [])
        with pytest.raises(ValueError, match="label"):
            add((rows or list(self.bought))[:1], labels, "bad")

    @step(seed=st.integers(0, 3), n=st.none() | st.integers(0, SIZE))
    def deal(self, seed, n):
        self.dealt = self.pool.deal(torch.Generator().manual_seed(seed), n).tolist()
        assert len(set(self.dealt)) == len(self.dealt)
        assert set(self.dealt) <= set(self.free())

    def known(self):
        return dict(self.bought), list(self.history)

    @step()
    def save(self):
        self.file.save(self.pool.state_dict())
        self.saved = self.known()

    @step(moment=st.sampled_from(list(MOMENTS)))
    def crash_while_saving(self, moment):
        owner, name, dying, new = MOMENTS[moment]
        dying = second(os.fsync) if new else dying
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, dying)
            patch.setattr(Path, "unlink", die)  # the dead tidy nothing
            with pytest.raises(CrashedError):
                self.file.save(self.pool.state_dict())
        self.saved = self.known() if new else self.saved
        self.start_again()

    @step()
    def crash(self):
        self.start_again()

    def start_again(self):
        """Be a new process: all that is known is what the file holds."""
        self.file = PoolFile(self.file.path)
        self.pool = open_pool(SIZE, self.held)
        bought, history = self.saved or ({}, [])
        self.bought, self.history, self.dealt = dict(bought), list(history), None
        if self.saved:
            self.pool.load_state_dict(self.file.read())

    @precondition(lambda self: self.saved)
    @step(data=st.data())
    def find_the_tail_of_the_file_damaged(self, data):
        content = self.file.path.read_bytes()
        cut = data.draw(st.integers(0, len(content) - 3))
        damaged = data.draw(st.sampled_from([content[:cut], content + b"\0\xff", content * 2]))
        self.file.path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"line|nothing|Expecting|JSON|data|decode|Extra"):
            self.pool.load_state_dict(self.file.read())
        self.file.path.write_bytes(content)

    @step(bad=st.sampled_from([("label", [0, 0], [1, 1], "x"), ("relabel", [0], [1], "x"), 7]))
    def refuse_a_bad_state(self, bad):
        state = {"size": SIZE, "held_out": [], "history": [bad]}
        with pytest.raises(ValueError, match=r"index|history"):
            self.pool.load_state_dict(state)

    @invariant()
    def labelled_and_held_out_and_pool_part_the_data(self):
        pool = self.pool
        parts = torch.cat([pool.labelled, pool.no_class, pool.held_out, pool.unlabelled])
        assert parts.sort().values.tolist() == list(range(SIZE))

    @invariant()
    def knows_what_was_bought(self):
        of_a_class = {index: known for index, known in self.bought.items() if known[0] >= 0}
        none = [index for index in self.bought if index not in of_a_class]
        assert self.pool.labelled.tolist() == list(of_a_class)
        assert self.pool.no_class.tolist() == none
        assert (self.pool.n_labelled, self.pool.n_no_class) == (len(of_a_class), len(none))
        columns = (self.pool.labels.tolist(), self.pool.rounds.tolist(), self.pool.sources)
        assert list(zip(*columns, strict=True)) == list(of_a_class.values())
        assert self.pool.unlabelled.tolist() == self.free()
        assert self.pool.held_out.tolist() == self.held
        assert self.pool.round == max(self.purchases() - 1, 0)

    @invariant()
    def the_history_is_whole(self):
        assert list(self.pool.history) == self.history

    @invariant()
    def the_file_holds_what_was_saved(self):
        if self.saved:
            loaded = open_pool(SIZE)
            loaded.load_state_dict(self.file.read())
            assert list(loaded.history) == self.saved[1]
            assert loaded.held_out.tolist() == self.held
            assert self.history[: len(self.saved[1])] == self.saved[1]
        else:
            assert not self.file.path.exists()

    @invariant()
    def positions_follow_the_last_deal(self):
        if self.dealt is None:
            with pytest.raises(ValueError, match="deal"):
                self.pool.to_index(torch.tensor([0]))
        else:
            assert self.pool.to_index(torch.arange(len(self.dealt))).tolist() == self.dealt


def test_ten_thousand_steps_of_buying_and_crashing_lose_nothing(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # what dies is a process, not the disk
    PoolMachine.steps = 0
    run_state_machine_as_test(
        PoolMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert PoolMachine.steps >= 10_000
