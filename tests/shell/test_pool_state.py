"""LabelledPool's state: what it holds, and what is refused."""

import json

import pytest
import torch
from toys import deal

from dal.pool import LabelledPool
from dal.pool_file import PoolFile

START = ["label", [5, 2], [1, 0], "dataset"]
BAD_STATES = {
    "another size": {"size": 11},
    "a size that is true": {"size": True},
    "no list": {"held_out": 8},
    "held out twice": {"held_out": [8, 8]},
    "held out beyond the data": {"held_out": [10]},
    "a bool held out": {"held_out": [True]},
    "a history that is no list": {"history": 7},
    "a key too many": {"more": 1},
}
BAD_PURCHASES = {
    "no list": 7,
    "null": None,
    "a word": "label",
    "too short": ["label", [3], [0]],
    "too long": ["label", [3], [0], "x", 1],
    "of another kind": ["forget", [5], [0], "x"],
    "of a kind that is a list": [["label"], [3], [0], "x"],
    "a source that is no name": ["label", [3], [0], 7],
    "indices out of range": ["label", [99], [0], "x"],
    "an index past 64 bits": ["label", [2**64], [0], "x"],
    "a label past 64 bits": ["label", [3], [2**64], "x"],
    "an index twice": ["label", [3, 3], [0, 0], "x"],
    "an index that is labelled": ["label", [5], [0], "x"],
    "an index that is held out": ["label", [9], [0], "x"],
    "an index that is true": ["label", [True], [0], "x"],
    "an index that is no number": ["label", ["3"], [0], "x"],
    "an index that is a fraction": ["label", [3.0], [0], "x"],
    "nested indices": ["label", [[3]], [[0]], "x"],
    "indices by key": ["label", {"3": 1}, [0], "x"],
    "one label too few": ["label", [3, 4], [0], "x"],
    "a negative label": ["label", [3], [-1], "x"],
    "a label that is null": ["label", [3], [None], "x"],
    "a correction of the pool": ["relabel", [3], [0], "x"],
    "a correction of the held out": ["relabel", [9], [0], "x"],
    "a correction twice": ["relabel", [5, 5], [0, 0], "x"],
}


def test_a_state_stays_as_it_was_when_the_pool_goes_on(pool):
    state = pool.state_dict()
    before = json.dumps(state)
    pool.label([0], [1], "x")
    pool.relabel([5], [7], "x")
    assert json.dumps(state) == before
    state["history"].clear()
    assert pool.labelled.tolist() == [5, 2, 7, 0]


def test_the_state_survives_json(pool):
    pool.relabel([2], [9], "expert")
    other = LabelledPool(10)
    other.load_state_dict(json.loads(json.dumps(pool.state_dict())))
    assert other.state_dict() == pool.state_dict()
    assert torch.equal(other.unlabelled, pool.unlabelled)
    assert torch.equal(deal(other), deal(pool))
    assert (other.round, other.sources) == (pool.round, pool.sources)
    assert torch.equal(other.labels, pool.labels)
    assert torch.equal(other.rounds, pool.rounds)


def test_the_loaded_state_is_not_shared(pool):
    state = pool.state_dict()
    other = LabelledPool(10)
    other.load_state_dict(state)
    other.label([0], [1], "x")
    assert state == pool.state_dict()


def test_a_deal_before_loading_is_forgotten(pool):
    state = pool.state_dict()
    deal(pool)
    pool.load_state_dict(state)
    with pytest.raises(ValueError, match="deal"):
        pool.to_index(torch.tensor([0]))


def test_a_file_holds_the_pool_that_was_saved_last_even_if_it_is_another(pool, tmp_path):
    file, other = PoolFile(tmp_path / "pool.json"), LabelledPool(10, held_out=[1, 2])
    other.label([3, 4], [0, 0], "x")
    for saved in (pool, other, pool):
        file.save(saved.state_dict())
        loaded = LabelledPool(10)
        loaded.load_state_dict(file.read())
        assert loaded.state_dict() == saved.state_dict()


@pytest.mark.parametrize("change", BAD_STATES.values(), ids=BAD_STATES)
def test_a_contradictory_state_is_refused_and_changes_nothing(pool, change):
    refused(pool, {**pool.state_dict(), **change})


@pytest.mark.parametrize("purchase", BAD_PURCHASES.values(), ids=BAD_PURCHASES)
def test_a_bad_purchase_in_a_state_is_refused_and_changes_nothing(pool, purchase):
    refused(pool, {**pool.state_dict(), "history": [START, purchase]})


@pytest.mark.parametrize("state", [None, [], 7, "size"], ids=repr)
def test_what_is_no_state_is_refused(pool, state):
    refused(pool, state)


@pytest.mark.parametrize("key", ["size", "held_out", "history"])
def test_a_state_without_one_of_its_keys_is_refused(pool, key):
    state = pool.state_dict()
    del state[key]
    refused(pool, state)


def refused(pool, state):
    dealt, before = deal(pool), pool.state_dict()
    with pytest.raises(ValueError, match=r"state|index|indices|label"):
        pool.load_state_dict(state)
    assert pool.state_dict() == before
    assert torch.equal(pool.dealt, dealt)
