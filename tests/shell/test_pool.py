"""LabelledPool: which rows are labelled, and positions against indices."""

import json

import pytest
import torch

from dal.pool import LabelledPool

BAD_INDICES = {
    "past the end": [10],
    "negative": [-1],
    "given twice": [1, 1],
    "labelled": [5],
    "held out": [9],
    "good then bad": [0, 1, 2],
    "bool": [True],
    "float": [1.0],
    "float tensor": torch.tensor([1.0]),
    "two-dimensional": [[0], [1]],
    "a bare number": 1,
}
BAD_LABELS = {
    "none": [],
    "one too many": [0, 0, 0],
    "one too few": [0],
    "negative": [0, -1],
    "float": [0.0, 1.0],
    "bool": [True, False],
    "two-dimensional": [[0], [1]],
}
BAD_STATES = {
    "another size": {"size": 11},
    "indices out of range": {"indices": [2, 5, 99]},
    "an index twice": {"indices": [2, 5, 5]},
    "an index that is held out": {"indices": [2, 5, 9]},
    "held out twice": {"held_out": [8, 8]},
    "one label too few": {"labels": [1, 0]},
    "one source too many": {"sources": ["a"] * 4},
    "one round too few": {"rounds": [0, 0]},
    "a negative label": {"labels": [1, 0, -1]},
    "rounds out of order": {"rounds": [0, 1, 0]},
    "rounds that end before they begin": {"rounds": [1, 0, 0]},
    "a round that never was": {"rounds": [0, 0, 2]},
    "a negative round": {"rounds": [-1, 0, 0]},
    "fewer purchases than rounds": {"purchases": 1},
    "a key too many": {"more": 1},
}


@pytest.fixture
def pool():
    pool = LabelledPool(10, held_out=[9, 8])
    pool.label([5, 2], [1, 0], "dataset")
    pool.label([7], [3], "person")
    return pool


def deal(pool, seed=0, n=None):
    return pool.deal(torch.Generator().manual_seed(seed), n)


@pytest.mark.parametrize("indices", BAD_INDICES.values(), ids=BAD_INDICES)
def test_a_bad_index_raises_and_changes_nothing(pool, indices):
    dealt, before = deal(pool), pool.state_dict()
    labels = [0] * len(indices) if not isinstance(indices, int) else [0]
    with pytest.raises(ValueError, match=r"ind(ex|ices)"):
        pool.label(indices, labels, "x")
    assert pool.state_dict() == before
    assert torch.equal(pool.dealt, dealt)
    assert torch.equal(pool.unlabelled, torch.tensor([0, 1, 3, 4, 6]))


@pytest.mark.parametrize("labels", BAD_LABELS.values(), ids=BAD_LABELS)
def test_a_bad_label_raises_and_changes_nothing(pool, labels):
    dealt, before = deal(pool), pool.state_dict()
    with pytest.raises(ValueError, match="label"):
        pool.label([0, 1], labels, "x")
    assert pool.state_dict() == before
    assert torch.equal(pool.dealt, dealt)


@pytest.mark.parametrize("held_out", [[5], [-1], [0, 0], [0.5], [True]])
def test_a_bad_held_out_row_is_refused(held_out):
    with pytest.raises(ValueError, match=r"ind(ex|ices)"):
        LabelledPool(5, held_out)


@pytest.mark.parametrize("size", [0, -3])
def test_a_pool_without_rows_is_refused(size):
    with pytest.raises(ValueError, match="at least 1 row"):
        LabelledPool(size)


def test_labelled_held_out_and_pool_part_the_rows(pool):
    parts = torch.cat([pool.labelled, pool.held_out, pool.unlabelled])
    assert torch.equal(parts.sort().values, torch.arange(10))
    assert (pool.n_labelled, len(pool.held_out), pool.n_unlabelled) == (3, 2, 5)


def test_the_order_of_purchase_is_kept_with_its_labels_rounds_and_sources(pool):
    assert pool.labelled.tolist() == [5, 2, 7]
    assert pool.labels.tolist() == [1, 0, 3]
    assert pool.rounds.tolist() == [0, 0, 1]
    assert pool.sources == ("dataset", "dataset", "person")
    assert pool.labelled.dtype == pool.labels.dtype == pool.rounds.dtype == torch.long


def test_the_start_is_round_0_and_each_purchase_adds_one():
    pool = LabelledPool(4)
    rounds = [pool.round]
    for index in range(3):
        pool.label([index], [0], "x")
        rounds.append(pool.round)
    assert rounds == [0, 0, 1, 2]


def test_an_empty_start_is_a_purchase_too():
    pool = LabelledPool(3)
    pool.label([], [], "x")
    pool.label([1], [0], "x")
    assert (pool.round, pool.rounds.tolist()) == (1, [1])


def test_deal_gives_each_row_of_the_pool_once(pool):
    assert torch.equal(deal(pool).sort().values, pool.unlabelled)


def test_deal_follows_its_generator_and_nothing_else():
    pool, state = LabelledPool(100), torch.get_rng_state()
    first = deal(pool, seed=0)
    assert torch.equal(deal(pool, seed=0), first)
    assert not torch.equal(deal(pool, seed=1), first)
    assert not torch.equal(first, pool.unlabelled)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("n", "rows"), [(0, 0), (2, 2), (5, 5), (50, 5), (None, 5)])
def test_deal_of_n_gives_n_different_rows_of_the_pool(pool, n, rows):
    dealt = deal(pool, n=n)
    assert len(dealt) == len(dealt.unique()) == rows
    assert set(dealt.tolist()) <= set(pool.unlabelled.tolist())


def test_positions_become_the_rows_that_were_dealt_there(pool):
    dealt = deal(pool, n=3)
    assert torch.equal(pool.to_index(torch.tensor([2, 0])), dealt[[2, 0]])
    assert torch.equal(pool.to_index(torch.arange(3)), dealt)
    assert pool.to_index(torch.empty(0, dtype=torch.long)).tolist() == []


@pytest.mark.parametrize("position", [-1, 3, 4])
def test_a_position_outside_the_deal_raises(pool, position):
    deal(pool, n=3)
    with pytest.raises(ValueError, match="between 0 and 2"):
        pool.to_index(torch.tensor([0, position]))


@pytest.mark.parametrize(
    "positions",
    [torch.tensor([0.0]), torch.tensor([True] * 5), torch.tensor([[0], [1]])],
    ids=["float", "bool", "two-dimensional"],
)
def test_positions_that_are_no_list_of_whole_numbers_raise(pool, positions):
    deal(pool)
    with pytest.raises(ValueError, match="position"):
        pool.to_index(positions)


def test_positions_have_no_meaning_before_a_deal_and_after_a_purchase(pool):
    with pytest.raises(ValueError, match="deal"):
        pool.to_index(torch.tensor([0]))
    pool.label(deal(pool)[:1], [0], "x")
    with pytest.raises(ValueError, match="deal"):
        pool.to_index(torch.tensor([0]))


def test_what_deal_returns_can_be_changed_without_harm(pool):
    dealt = deal(pool)
    kept = dealt.clone()
    dealt.zero_()
    assert torch.equal(pool.dealt, kept)


def test_the_state_is_a_copy(pool):
    state = pool.state_dict()
    before = json.dumps(state)
    pool.label([0], [1], "x")
    assert json.dumps(state) == before
    for column in ("held_out", "indices", "labels", "rounds", "sources"):
        state[column].clear()
    assert pool.labelled.tolist() == [5, 2, 7, 0]
    assert len(pool.held_out) == 2


def test_the_state_survives_json(pool):
    other = LabelledPool(10)
    other.load_state_dict(json.loads(json.dumps(pool.state_dict())))
    assert other.state_dict() == pool.state_dict()
    assert torch.equal(other.unlabelled, pool.unlabelled)
    assert torch.equal(deal(other), deal(pool))
    assert (other.round, other.sources) == (pool.round, pool.sources)


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


@pytest.mark.parametrize("change", BAD_STATES.values(), ids=BAD_STATES)
def test_a_contradictory_state_is_refused_and_changes_nothing(pool, change):
    dealt, before = deal(pool), pool.state_dict()
    with pytest.raises(ValueError, match=r"state|index|held|label"):
        pool.load_state_dict({**before, **change})
    assert pool.state_dict() == before
    assert torch.equal(pool.dealt, dealt)


@pytest.mark.parametrize(
    "key", ["size", "held_out", "purchases", "indices", "labels", "rounds", "sources"]
)
def test_a_state_without_one_of_its_keys_is_refused(pool, key):
    state = pool.state_dict()
    del state[key]
    with pytest.raises(ValueError, match="keys"):
        pool.load_state_dict(state)
