"""Batches of a training, shared by processes and begun in the middle."""

import pickle
from functools import partial
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DistributedSampler

from dal.data.batches import Batch, FixedBatches, TrainBatches, share_of_rows

draw = partial(TrainBatches, seed=3, round=1)


def positions(batches):
    return [batch.positions for batch in batches]


def test_a_pass_without_steps_takes_every_row_once():
    drawn = positions(draw(10, 4, steps=None))
    assert [len(batch) for batch in drawn] == [4, 4, 2]
    assert sorted([*chain(*drawn)]) == list(range(10))


def test_an_epoch_of_steps_has_so_many_whole_batches():
    drawn = positions(draw(3, 4, steps=5))
    assert [len(batch) for batch in drawn] == [4] * 5
    assert {*chain(*drawn)} <= {0, 1, 2}


def test_batches_follow_from_seed_round_part_and_epoch_alone():
    known = positions(draw(50, 8, steps=4))
    assert positions(draw(50, 8, steps=4)) == known
    others = draw(50, 8, steps=4)
    others.set_epoch(1)
    for other in (
        TrainBatches(50, 8, steps=4, seed=4, round=1),
        TrainBatches(50, 8, steps=4, seed=3, round=2),
        draw(50, 8, steps=4, part="member 1"),
        others,
    ):
        assert positions(other) != known


def test_a_second_pass_is_the_next_epoch():
    batches, second = draw(50, 8, steps=4), draw(50, 8, steps=4)
    second.set_epoch(1)
    assert positions(batches) != positions(batches) == positions(second)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 40),
    size=st.integers(3, 9),
    steps=st.none() | st.integers(1, 6),
    processes=st.integers(1, 3),
)
def test_shares_of_a_batch_are_as_large_and_cover_it(rows, size, steps, processes):
    whole = positions(draw(rows, size, steps=steps))
    shares = [
        positions(draw(rows, size, steps=steps, rank=rank, processes=processes))
        for rank in range(processes)
    ]
    for number, batch in enumerate(whole):
        parts = [share[number] for share in shares]
        assert len({len(part) for part in parts}) == 1
        taken = [*chain(*parts)]
        assert set(taken) == set(batch)
        if len(batch) % processes == 0:
            assert sorted(taken) == sorted(batch)


@pytest.mark.parametrize(
    ("rows", "sizes"), [(1, [1]), (8, [8]), (9, [9]), (10, [8, 2]), (17, [8, 9])]
)
def test_no_pass_ends_with_a_single_row_unless_it_is_the_only_one(rows, sizes):
    batches = draw(rows, 8, steps=None)
    assert [len(batch) for batch in positions(batches)] == sizes
    assert len(batches) == len(sizes)
    assert sorted(chain(*positions(draw(rows, 8, steps=None)))) == [*range(rows)]


@settings(deadline=None, max_examples=60)
@given(
    epoch=st.integers(0, 3),
    done=st.integers(0, 5),
    steps=st.sampled_from([None, 5]),
    rank=st.integers(0, 1),
)
def test_batches_go_on_in_the_middle(epoch, done, steps, rank):
    make = partial(draw, 17, 4, steps=steps, rank=rank, processes=2)
    whole, rest = make(), make(start=(epoch, done))
    for number in range(epoch, epoch + 2):
        whole.set_epoch(number)
        assert list(rest) == list(whole)[done if number == epoch else 0 :]
    assert len(rest) == len(whole)  # of an epoch, as Lightning counts on from where it was


def test_each_batch_of_each_process_has_a_seed_of_its_own():
    seeds = set()
    for rank in range(2):
        batches = draw(50, 8, steps=4, rank=rank, processes=2)
        seeds |= {batch.seed for _ in range(2) for batch in batches}
    assert len(seeds) == 2 * 2 * 4


def test_a_batch_reaches_a_worker_as_it_is():
    batch = next(iter(draw(5, 2, steps=1)))
    assert isinstance(batch, Batch)
    assert pickle.loads(pickle.dumps(batch)) == batch


def test_lightning_takes_the_batches_for_distributed_ones():
    assert isinstance(draw(5, 2, steps=1), DistributedSampler)
    assert isinstance(FixedBatches([slice(0, 2)]), DistributedSampler)
    assert list(FixedBatches([slice(0, 2)])) == [slice(0, 2)]


def test_more_processes_than_rows_of_a_batch_are_refused():
    with pytest.raises(ValueError, match="batch_size must be at least the 3 processes"):
        draw(9, 2, steps=1, processes=3)


def test_rows_to_measure_are_shared_without_loss_or_repetition():
    rows = torch.arange(11)
    shares = [share_of_rows(rows, rank, 3) for rank in range(3)]
    assert torch.equal(torch.cat(shares), rows)
    assert {len(share) for share in shares} == {3, 4}


def test_rows_that_are_fewer_than_the_processes_are_refused():
    with pytest.raises(ValueError, match="3 processes cannot share 2 rows"):
        share_of_rows(torch.arange(2), 0, 3)
