"""Pairs that may be near: none is lost by the sketch, by the order or between blocks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from point_sets import KINDS, points

from dal.functional import pairs
from dal.functional.coverage import greedy_cover, pure_radius
from dal.functional.pairs import OrderedPoints


def found(made, limits, labels=None):
    """All pairs of points in tiles, and how many products that took."""
    near = OrderedPoints(made, labels)
    limits, seen, work = limits[near.order], [], 0
    for number, rows in enumerate(near.blocks()):
        for columns in near.blocks()[number:]:
            tile = near.tile(rows, columns, limits)
            if tile is None:
                continue
            work += tile.squared.numel()
            most = torch.maximum(limits[tile.rows].unsqueeze(1), limits[tile.columns])
            row, column = (tile.squared < most).nonzero().T
            ends = torch.stack([near.order[tile.rows[row]], near.order[tile.columns[column]]], 1)
            seen += [tuple(sorted(pair)) for pair in ends.tolist()]
    return seen, work


def expected(made, limits, labels):
    squared = (made.unsqueeze(1) - made).square().sum(2)
    counts = squared < torch.maximum(limits.unsqueeze(1), limits)
    if labels is not None:
        counts &= labels.unsqueeze(1) != labels
    return [tuple(pair) for pair in counts.triu(1).nonzero().tolist()]


@pytest.mark.parametrize("share", [1, 2, 16])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labelled", [False, True])
def test_every_pair_below_its_limit_is_there_once(monkeypatch, kind, share, labelled):
    monkeypatch.setattr(pairs, "BLOCK", 16)
    monkeypatch.setattr(pairs, "SHARE", share)
    made = points(kind, 75, 16)
    labels = torch.arange(75) % 3 if labelled else None
    scale = (made - made.mean(0)).square().sum(1).median()
    rng = torch.Generator().manual_seed(1)
    limits = scale * 2 * torch.rand(75, generator=rng, dtype=torch.float64) + 1e-30
    if kind == "identical":
        limits = torch.full_like(limits, 1e-3)  # the expanded distance of equals is not quite 0
    seen, _ = found(made, limits, labels)
    assert sorted(seen) == expected(made, limits, labels)


def test_most_of_the_product_is_saved_where_points_stand_in_clusters(monkeypatch):
    monkeypatch.setattr(pairs, "BLOCK", 32)
    monkeypatch.setattr(pairs, "CELLS", 4)
    made = points("clusters", 256, 64)  # the order alternates between four clusters
    seen, work = found(made, torch.full((256,), 49.0, dtype=torch.float64))
    assert len(seen) == 4 * 64 * 63 / 2
    assert work < 0.4 * 256**2 / 2  # 0.375 is what lies within clusters


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_the_order_never_changes_a_cover(monkeypatch, kind, dtype):
    made = points(kind, 90, 16, dtype=dtype)
    gaps = torch.cdist(made.double(), made.double()).flatten().sort().values
    for place in (1000, 3000, 6000):
        around = gaps[place - 200 : place + 200]
        # in the widest gap nearby, so that rounding moves no pair over the radius
        wide = int(around.diff().argmax())
        radius = float(around[wide : wide + 2].mean()) + 1e-20
        plain = greedy_cover(made, made[:3], radius, 90, edges=0)  # keeps no graph
        with monkeypatch.context() as patch:
            patch.setattr(pairs, "BLOCK", 16)
            patch.setattr(pairs, "SHARE", 2)
            ordered = greedy_cover(made, made[:3], radius, 90)
        if kind != "identical":  # where distances are rounding alone
            assert torch.equal(ordered, plain)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_the_pure_radius_is_that_of_all_distances(data):
    rows, width = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 20))
    kind, purity = data.draw(st.sampled_from(KINDS)), data.draw(st.floats(0.05, 1.0))
    block, share = (
        data.draw(st.sampled_from([1, 7, 16, 64])),
        data.draw(st.sampled_from([1, 2, 16])),
    )
    made = points(kind, rows, width, seed=rows)
    labels = torch.arange(rows) % data.draw(st.integers(1, 4))
    squared = (made.unsqueeze(1) - made).square().sum(2)
    squared[labels.unsqueeze(1) == labels] = torch.inf
    count = max(1, -int(-(purity * rows - 1e-9) // 1))
    wanted = float(squared.amin(1).sort(descending=True).values[count - 1].sqrt())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "BLOCK", block)
        patch.setattr(pairs, "SHARE", share)
        radius = pure_radius(made, labels, purity)
    near = 1e-6 * float((made - made.mean(0)).norm(dim=1).max()) + 1e-20
    assert radius == wanted or abs(radius - wanted) <= near


def test_the_order_does_not_touch_the_global_generator():
    state = torch.random.get_rng_state()
    OrderedPoints(points("clusters", 3000, 32))
    assert torch.equal(torch.random.get_rng_state(), state)
