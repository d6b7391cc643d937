"""Distances by way of a sketch: those of all pairs, from few of them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from point_sets import KINDS, points

from dal.functional import sketch
from dal.functional.factored import Factored
from dal.functional.k_center import k_center_greedy
from dal.functional.sketch import Sketched, leading_axes


def small(patch, **sizes):
    """A sketch whatever it costs, in small tiles."""
    few = {"SHARE": 4, "SAMPLE": 16, "CELL": 16, "TILE": 24, "AXES": 1, "CENTRES": 1, "SEEDS": 3}
    for name, size in {**few, "LEFT": 2.0, "TRIALS": 1000, **sizes}.items():
        patch.setattr(sketch, name, size)


def nearest(kind, made, centres, start=None):
    """Squared distances to the nearest centre, and pairs that were compared."""
    mean = made.mean(0)
    distance = made.new_full((len(made),), torch.inf) if start is None else start.clone()
    compared = 0
    lower_to = sketch._lower_to

    def counted(best, moved, others, some, room):
        nonlocal compared
        compared += len(moved) * len(some)
        lower_to(best, moved, others, some, room)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sketch, "_lower_to", counted)
        kind(made, offset=mean).lower(distance, Factored(centres - mean))
    return distance, compared


def rounding(made, centres):
    """Four units in the last place of the largest squared distance there can be."""
    norms = torch.cat([made, centres]).sub(made.mean(0)).square().sum(1)
    return 16 * torch.finfo(made.dtype).eps * norms.amax().item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 7, 90])
@pytest.mark.parametrize("known", [False, True])
def test_the_sketch_loses_no_nearest_centre(monkeypatch, kind, count, known, dtype):
    small(monkeypatch)
    drawn = points(kind, 290, 32, dtype=dtype)
    made, centres = drawn[:200], drawn[200 : 200 + count]
    start = torch.full_like(made[:, 0], torch.inf)
    if known:
        start = (made - made[0]).square().sum(1)
        start[5] = -torch.inf  # a centre already
    found, compared = nearest(Sketched, made, centres, start)
    assert compared > 0
    expected, _ = nearest(Factored, made, centres, start)
    torch.testing.assert_close(found, expected, rtol=0, atol=rounding(made, centres))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_sketch_loses_no_nearest_centre_of_any_shape(data):
    rows, count = data.draw(st.integers(8, 120)), data.draw(st.integers(1, 60))
    width, kind = data.draw(st.integers(4, 40)), data.draw(st.sampled_from(KINDS))
    sizes = {
        "SAMPLE": data.draw(st.sampled_from([2, 5, 8])),
        "CELL": data.draw(st.sampled_from([1, 7, 500])),
        "TILE": data.draw(st.sampled_from([1, 10, 512])),
        "SEEDS": data.draw(st.sampled_from([1, 16])),
    }
    made, centres = points(kind, rows, width, seed=rows), points(kind, count, width, seed=rows)
    with pytest.MonkeyPatch.context() as patch:
        small(patch, **sizes)
        found, compared = nearest(Sketched, made, centres)
    assert compared > 0
    expected, _ = nearest(Factored, made, centres)
    torch.testing.assert_close(found, expected, rtol=0, atol=rounding(made, centres))


def test_most_pairs_are_left_out_where_points_stand_in_clusters(monkeypatch):
    small(monkeypatch)
    made = points("clusters", 600, 64)
    found, compared = nearest(Sketched, made[:400], made[400:])
    assert compared < 0.35 * 400 * 200  # a quarter lies within clusters
    expected, _ = nearest(Factored, made[:400], made[400:])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_a_sketch_that_leaves_most_pairs_is_given_up(monkeypatch):
    small(monkeypatch, TRIALS=2)
    made = points("random", 400, 64)
    rows, centres = Sketched(made[:300], made.mean(0)), Factored(made[300:] - made.mean(0))
    distance = made.new_full((300,), torch.inf)
    rows.lower(distance, centres)
    assert rows.cells is None
    assert torch.isfinite(distance).all()


def test_noise_has_no_sketch_and_clusters_have_one(monkeypatch):
    small(monkeypatch, SAMPLE=128, SHARE=16, LEFT=0.4)
    for kind, kept in (("random", False), ("clusters", True)):
        made = points(kind, 400, 64)
        assert (Sketched(made, made.mean(0)).cells is not None) is kept


def test_few_centres_make_no_sketch(monkeypatch):
    small(monkeypatch, CENTRES=10)
    made = points("clusters", 200, 64)
    assert nearest(Sketched, made, made[:9])[1] == 0
    assert nearest(Sketched, made, made[:10])[1] > 0


def test_axes_are_orthonormal_and_those_of_the_largest_spread():
    spread = torch.tensor([1.0, 9.0, 1.0, 7.0, 1.0, 0.1]).double()
    axes = leading_axes(points("random", 500, 6) * spread, 2)
    torch.testing.assert_close(axes.T @ axes, torch.eye(2).double())
    assert axes[[1, 3]].square().sum() > 1.99
    assert leading_axes(axes[:0], 2).shape == (2, 0)


def test_k_center_picks_the_same_with_a_sketch(monkeypatch):
    made = points("clusters", 500, 32)
    expected = k_center_greedy(made[90:], made[:90], 120)
    small(monkeypatch)
    monkeypatch.setattr("dal.functional.k_center.LARGEST", {"cpu": 32})
    assert torch.equal(k_center_greedy(made[90:], made[:90], 120), expected)
