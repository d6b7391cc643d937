"""Rows that several processes hold together."""

import pytest
import torch
from processes import answers_of
from torch import distributed

from dal.functional.shards import Shards

LENGTHS = [[4, 4], [5, 2], [0, 3], [3, 0], [0, 0], [2, 3, 1], [0, 4, 0], [4, 0, 1], [1, 1, 1]]
DTYPES = [torch.float32, torch.float64, torch.long]


def whole(rows, dtype=torch.float32, width=3):
    generator = torch.Generator().manual_seed(rows)
    return torch.randint(-99, 99, (rows, width), generator=generator).to(dtype) / 1


def steps(rows):
    """Values of which several are the largest."""
    return (torch.arange(rows) % 2).double()


def positions_of(rows):
    """Some repeated, in no order, over the ends of the shares."""
    return torch.randint(rows, (2 * rows,), generator=torch.Generator().manual_seed(1))


def ask(lengths, rank, group):
    shards = Shards(lengths[rank], group)
    found = {"starts": shards.starts, "own": (shards.own.start, shards.own.stop)}
    found["rows"], found["rank"], found["count"] = shards.rows, shards.rank, shards.count
    for dtype in DTYPES:
        rows = whole(shards.rows, dtype).to(dtype)
        own = rows[shards.own]
        found["take", dtype] = shards.take(positions_of(max(shards.rows, 1))[: 2 * len(rows)], own)
        found["untouched", dtype] = torch.equal(own, rows[shards.own])
    found["strided"] = shards.take(
        torch.arange(shards.rows), whole(shards.rows)[:, ::2][shards.own]
    )
    if shards.rows:
        values = steps(shards.rows)[shards.own]
        found["first"] = shards.first_largest(values)
        found["largest"] = [shards.largest(values, count) for count in (1, 2, 9)]
    value = torch.tensor([0.1, 1e8, -1e8]) * (rank + 1)
    found["each"], found["total"] = shards.each(value), shards.total(value)
    return found


def work(rank):
    groups = {2: distributed.new_group([0, 1]), 3: distributed.group.WORLD}
    cases = [lengths for lengths in LENGTHS if rank < len(lengths)]
    return {str(lengths): ask(lengths, rank, groups[len(lengths)]) for lengths in cases}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Answers of each process to all cases."""
    return answers_of(work, 3, tmp_path_factory.mktemp("processes"))


@pytest.fixture(params=LENGTHS, ids=str)
def case(request, answers):
    lengths = request.param
    return lengths, [found[str(lengths)] for found in answers[: len(lengths)]]


def test_each_process_knows_its_rows_and_those_of_the_others(case):
    lengths, found = case
    ends = torch.tensor([0, *lengths]).cumsum(0).tolist()
    for rank, mine in enumerate(found):
        assert mine["starts"] == ends
        assert mine["own"] == (ends[rank], ends[rank + 1])
        assert (mine["rows"], mine["rank"], mine["count"]) == (sum(lengths), rank, len(lengths))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_are_taken_wherever_they_are(case, dtype):
    lengths, found = case
    rows = whole(sum(lengths), dtype).to(dtype)
    positions = positions_of(max(len(rows), 1))[: 2 * len(rows)]
    for mine in found:
        assert torch.equal(mine["take", dtype], rows[positions])
        assert mine["take", dtype].dtype == dtype
        assert mine["untouched", dtype]


def test_rows_of_any_stride_are_taken(case):
    lengths, found = case
    for mine in found:
        assert torch.equal(mine["strided"], whole(sum(lengths))[:, ::2])


def test_the_first_of_the_largest_values_is_found(case):
    lengths, found = case
    for mine in found if sum(lengths) else ():
        assert mine["first"].tolist() == [steps(sum(lengths)).argmax()]


def test_the_largest_values_are_found_with_their_positions(case):
    lengths, found = case
    values = steps(sum(lengths))
    for mine in found if sum(lengths) else ():
        for count, (best, positions) in zip((1, 2, 9), mine["largest"], strict=True):
            assert torch.equal(best, values.sort(descending=True).values[:count])
            assert torch.equal(values[positions], best)
            assert len(positions.unique()) == len(positions)


def test_values_of_each_process_are_known_to_all_and_summed_in_one_order(case):
    lengths, found = case
    values = torch.stack(
        [torch.tensor([0.1, 1e8, -1e8]) * (rank + 1) for rank in range(len(lengths))]
    )
    for mine in found:
        assert torch.equal(mine["each"], values)
        assert torch.equal(mine["total"], values.sum(0))


def test_one_process_alone_copies_nothing():
    rows = whole(5)
    shards = Shards(5)
    assert shards.total(rows) is rows
    assert (shards.own, shards.rows, shards.count) == (slice(0, 5), 5, 1)
    assert torch.equal(shards.take(torch.tensor([4, 0, 4]), rows), rows[[4, 0, 4]])
    assert torch.equal(shards.each(rows), rows.unsqueeze(0))
