"""Batches that are loaded ahead are the same batches."""

import threading
from functools import partial

import kit
import pytest
import torch
from toys import ask, dropout_net

import dal.acquisition_batches
from dal.acquisition_batches import one_ahead
from dal.posteriors.mc_dropout import MCDropout
from dal.strategies.badge import badge
from dal.strategies.bald import bald
from dal.strategies.coreset import coreset
from dal.strategies.epig import epig
from dal.strategies.mixture import mixture


@pytest.fixture
def ahead(monkeypatch):
    monkeypatch.setattr(dal.acquisition_batches, "AHEAD", {"cpu", "cuda"})


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_items_come_in_their_order(count):
    assert list(one_ahead(range(count))) == list(range(count))


def test_items_that_are_false_are_items():
    assert list(one_ahead([0, None, (), 3])) == [0, None, (), 3]


def test_the_next_item_and_no_other_is_made_while_one_is_in_use():
    made = [threading.Event() for _ in range(4)]

    def items():
        for number, event in enumerate(made):
            event.set()
            yield number

    source = one_ahead(items())
    for number in range(3):
        assert next(source) == number
        assert made[number + 1].wait(10)
        assert not any(event.is_set() for event in made[number + 2 :])


def test_an_error_comes_where_the_item_would_have_come():
    def items():
        yield 0
        yield 1
        raise KeyError("third")

    source = one_ahead(items())
    assert [next(source), next(source)] == [0, 1]
    with pytest.raises(KeyError, match="third"):
        next(source)


def test_no_thread_is_left_of_items_that_were_not_taken():
    before = threading.active_count()
    source = one_ahead(range(100))
    next(source)
    assert threading.active_count() == before + 1
    source.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    "strategy",
    [bald, badge, coreset, epig, partial(mixture, strategies={"a": bald, "b": coreset})],
    ids=["bald", "badge", "coreset", "epig", "mixture"],
)
def test_a_query_on_batches_loaded_ahead_chooses_the_same_bit_for_bit(toy, ahead, strategy):
    model, posterior = dropout_net(), MCDropout(4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dal.acquisition_batches, "AHEAD", set())
        plain = ask(strategy, 10, toy(eval_batch_size=9), model, posterior)
    again = ask(strategy, 10, toy(eval_batch_size=9), model, posterior)
    assert torch.equal(again.indices, plain.indices)
    assert (again.scores is None) == (plain.scores is None)
    assert plain.scores is None or torch.equal(again.scores, plain.scores)


def test_each_row_is_read_once_ahead_or_not(data, ahead):
    ask(lambda *, features: features[:, 0], 3, data, kit.Untracked())
    assert data.data.train.read == data.pool.dealt.tolist()


def test_an_error_of_the_dataset_stops_the_query(data, ahead):
    class BrokenError(Exception):
        pass

    def broken(inputs):
        if (inputs == 20).any():
            raise BrokenError
        return inputs

    object.__setattr__(data.data, "normalise", broken)
    before = threading.active_count()
    with pytest.raises(BrokenError):
        ask(lambda *, features: features[:, 0], 3, data, kit.Untracked())
    assert threading.active_count() == before
