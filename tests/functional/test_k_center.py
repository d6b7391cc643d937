import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from point_sets import gaussian

from dal.functional import k_center
from dal.functional.k_center import k_center_greedy


def squared(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def radius(points, centres):
    return max(min(math.dist(point, centre) for centre in centres) for point in points)


def slow_k_center(points, centres, n):
    chosen, centres = [], list(centres)
    if not centres and n:
        mean = [sum(column) / len(points) for column in zip(*points, strict=True)]
        chosen.append(min(range(len(points)), key=lambda i: squared(points[i], mean)))
    while len(chosen) < n:
        all_centres = centres + [points[i] for i in chosen]
        rest = [i for i in range(len(points)) if i not in chosen]
        chosen.append(max(rest, key=lambda i: min(squared(points[i], c) for c in all_centres)))
    return chosen


def test_k_center_of_a_line_is_known_by_hand():
    pool, labelled = torch.tensor([[0.0], [1.2], [2.5], [10.0]]), torch.tensor([[0.5]])
    for dtype in (torch.float32, torch.float64):
        for n in range(5):
            chosen = k_center_greedy(pool.to(dtype), labelled.to(dtype), n)
            assert torch.equal(chosen, torch.tensor([3, 2, 1, 0])[:n])


def test_k_center_without_centres_starts_nearest_to_the_mean():
    pool = torch.tensor([[0.0], [1.2], [2.5], [10.0]])
    assert torch.equal(k_center_greedy(pool, torch.empty(0, 1), 4), torch.tensor([2, 3, 0, 1]))


@pytest.mark.parametrize("labelled", [0, 1, 4])
def test_k_center_agrees_with_a_plain_greedy(labelled, device):
    for seed in range(10):
        points, centres = gaussian(seed, 30, 3), gaussian(seed + 100, labelled, 3)
        expected = slow_k_center(points.tolist(), centres.tolist(), 30)
        chosen = k_center_greedy(points.to(device), centres.to(device), 30)
        assert chosen.device.type == device
        assert chosen.tolist() == expected


@pytest.mark.parametrize("labelled", [0, 2])
def test_k_center_is_within_twice_the_optimal_radius(labelled):
    for seed in range(40):
        size, n = 6 + seed % 5, 2 + seed % 2
        points, centres = gaussian(seed, size, 2), gaussian(seed + 100, labelled, 2)
        chosen = k_center_greedy(points, centres, n)
        points, centres = points.tolist(), centres.tolist()
        best = min(radius(points, [*centres, *some]) for some in combinations(points, n))
        assert radius(points, [*centres, *(points[i] for i in chosen)]) <= 2 * best + 1e-12


@pytest.mark.parametrize("labelled", [0, 3])
def test_k_center_of_coinciding_points_takes_each_once(labelled):
    for dtype in (torch.float32, torch.float64):
        points = torch.tensor([[0.1, -7.3, 2.9]], dtype=dtype).expand(6 + labelled, -1)
        chosen = k_center_greedy(points[labelled:], points[:labelled], 6)
        assert sorted(chosen.tolist()) == list(range(6))


def test_k_center_breaks_ties_by_the_lowest_position():
    square = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    chosen = k_center_greedy(square, torch.zeros(1, 2), 4)
    assert torch.equal(chosen, torch.tensor([0, 1, 2, 3]))


def test_k_center_in_float32_does_not_cancel_far_from_the_origin():
    points, centres = (
        torch.rand(50, 3, generator=torch.Generator().manual_seed(0)),
        torch.zeros(1, 3),
    )
    shift = 4096.0
    moved = (points * 64).round() / 64
    chosen = k_center_greedy(moved + shift, centres + shift, 10)
    assert torch.equal(chosen, k_center_greedy(moved, centres, 10))


def sequential(points, centres, n):
    """One pick after the other, each compared with all points, by differences."""
    chosen = []
    distance = torch.full((len(points),), torch.inf, dtype=points.dtype)
    for centre in centres:
        distance = torch.minimum(distance, (points - centre).square().sum(1))
    if not len(centres):
        chosen.append(int((points - points.mean(0)).square().sum(1).argmin()))
        distance = (points - points[chosen[0]]).square().sum(1)
    distance[chosen] = -torch.inf
    while len(chosen) < n:
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (points - points[chosen[-1]]).square().sum(1))
        distance[chosen] = -torch.inf
    return chosen


@pytest.fixture(params=[(2, 2, 1), (3, 8, 2), None], ids=["2", "3 to 8", "default"])
def candidates(request, monkeypatch):
    """Blocks of few candidates, so that small cases take many looks at all points."""
    if request.param:
        smallest, largest, steps = request.param
        monkeypatch.setattr(k_center, "SMALLEST", smallest)
        monkeypatch.setattr(k_center, "LARGEST", {"cpu": largest})
        monkeypatch.setattr(k_center, "STEPS", steps)


def line(size):
    """Whole numbers around 0, so that equal distances are exactly equal."""
    steps = torch.arange(-size, size + 1, dtype=torch.float64)
    return torch.outer(steps[torch.randperm(len(steps))], torch.tensor([3.0, 0.0, -4.0]).double())


def grid():
    values = torch.arange(-3.0, 4.0, dtype=torch.float64)
    return torch.cartesian_prod(values, values)


POINTS = {
    "random": lambda: gaussian(0, 400, 5),
    "collinear": lambda: line(150),
    "a grid of ties": grid,
    "a grid thrice": lambda: grid().repeat(3, 1),
    "tiny": lambda: gaussian(1, 300, 4) * 1e-150,
    "huge": lambda: gaussian(2, 300, 4) * 1e150,
    "one far away": lambda: torch.cat([gaussian(3, 200, 3), torch.full((1, 3), 1e6).double()]),
    "clusters": lambda: gaussian(4, 10, 6).repeat(30, 1) + 1e-3 * gaussian(5, 300, 6),
}


@pytest.mark.parametrize("name", POINTS)
@pytest.mark.parametrize("labelled", [0, 3])
@pytest.mark.usefixtures("candidates")
def test_blocks_pick_what_one_pick_after_the_other_does(name, labelled):
    torch.manual_seed(0)
    points = POINTS[name]()
    for n in (1, 7, len(points) // 2):
        expected = sequential(points, points[:labelled], n)
        assert k_center_greedy(points, points[:labelled], n).tolist() == expected


@given(
    st.integers(1, 60), st.integers(1, 6), st.integers(0, 4), st.floats(0, 1), st.integers(0, 999)
)
@settings(deadline=None, max_examples=60)
def test_blocks_of_any_shape_pick_what_one_pick_after_the_other_does(rows, width, m, share, seed):
    points, centres = gaussian(seed, rows, width), gaussian(seed + 1000, m, width)
    n = round(share * rows)
    expected = sequential(points, centres, n)[:n]
    assert k_center_greedy(points, centres, n).tolist() == expected


def test_float32_picks_those_of_float64_where_distances_differ(device):
    points = gaussian(6, 3000, 8).float()
    chosen = k_center_greedy(points.to(device), points[:50].to(device), 300)
    exact = k_center_greedy(points.double(), points[:50].double(), 300)
    assert chosen.tolist() == exact.tolist()


def test_a_second_look_at_all_points_is_rarely_needed(monkeypatch):
    looks = []
    settle = k_center._settle
    monkeypatch.setattr(k_center, "_settle", lambda *args: (looks.append(args), settle(*args)))
    k_center_greedy(gaussian(7, 5000, 16), gaussian(8, 10, 16), 500)
    assert len(looks) <= 2


def test_inputs_are_left_as_they_were():
    points, centres = gaussian(0, 100, 3), gaussian(1, 5, 3)
    kept = points.clone(), centres.clone()
    k_center_greedy(points, centres, 50)
    assert torch.equal(points, kept[0])
    assert torch.equal(centres, kept[1])


def test_choosing_none_is_empty_and_long():
    chosen = k_center_greedy(gaussian(0, 4, 2), gaussian(1, 4, 2), 0)
    assert chosen.dtype == torch.long
    assert chosen.shape == (0,)
