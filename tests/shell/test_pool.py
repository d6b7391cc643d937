"""LabelledPool: which rows are labelled, and positions against indices."""

import pytest
import torch
from toys import deal

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


def test_a_correction_changes_the_label_and_its_source_alone(pool):
    pool.relabel([7, 5], [4, 9], "expert")
    assert pool.labelled.tolist() == [5, 2, 7]
    assert pool.labels.tolist() == [9, 0, 4]
    assert pool.rounds.tolist() == [0, 0, 1]
    assert pool.sources == ("expert", "dataset", "expert")
    assert (pool.round, pool.n_labelled, pool.n_unlabelled) == (1, 3, 5)


def test_the_history_keeps_every_label_in_order(pool):
    pool.relabel([5], [9], "expert")
    pool.relabel([5], [1], "expert")
    assert pool.history == (
        ("label", (5, 2), (1, 0), "dataset"),
        ("label", (7,), (3,), "person"),
        ("relabel", (5,), (9,), "expert"),
        ("relabel", (5,), (1,), "expert"),
    )


def test_a_correction_leaves_the_deal_as_it_is(pool):
    dealt = deal(pool)
    pool.relabel([5], [9], "expert")
    assert torch.equal(pool.dealt, dealt)


BAD_CORRECTIONS = {
    "of the pool": ([5, 0], [1, 1], "index 0 is not labelled"),
    "of the held out": ([9], [1], "index 9 is not labelled"),
    "past the end": ([10], [1], "between 0 and 9"),
    "given twice": ([5, 5], [1, 1], "twice"),
    "without a label": ([5, 2], [1], "one label"),
    "with a negative label": ([5, 2], [1, -1], "from 0 up"),
    "with a fraction": ([5], [0.5], "labels must be whole numbers, got torch.float32"),
}


@pytest.mark.parametrize(
    ("indices", "labels", "said"), BAD_CORRECTIONS.values(), ids=BAD_CORRECTIONS
)
def test_a_bad_correction_raises_and_changes_nothing(pool, indices, labels, said):
    before, known = pool.state_dict(), pool.labels
    with pytest.raises(ValueError, match=said):
        pool.relabel(indices, labels, "x")
    assert pool.state_dict() == before
    assert torch.equal(pool.labels, known)
