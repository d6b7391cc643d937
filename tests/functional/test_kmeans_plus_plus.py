import math
from collections import Counter
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from point_sets import gaussian
from scipy.stats import chi2, ks_2samp

from dal.functional import kmeans_plus_plus as module
from dal.functional.factored import Factored
from dal.functional.kmeans_plus_plus import kmeans_plus_plus
from dal.functional.ranking import draw_proportional


def squared(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def products(left, right):
    return torch.einsum("nc,nd->ncd", left, right).flatten(1)


LOOKS = {"by the rule": {}, "rarely": {"LOOK": 1e5}, "after each block": {"LOOK": -1e12}}


@pytest.fixture(params=LOOKS)
def looks(request, monkeypatch):
    """When all points are compared with the picks, which must not change the law."""
    for name, value in LOOKS[request.param].items():
        monkeypatch.setattr(module, name, value)


@pytest.fixture(params=[1, 3, 32])
def proposals(request, monkeypatch):
    """How many points are proposed together, which must not change the law."""
    monkeypatch.setattr(module, "SMALLEST", request.param)
    monkeypatch.setattr(module, "LARGEST", {"cpu": request.param})


LEFT = [[1, 0], [0.5, 0.5], [-1, 1], [1, 1], [0, 1], [-0.5, 1], [1, 2]]
RIGHT = [[2, 1], [1, -2], [1, 1], [-1, 1], [2, 0], [0, 2], [1, -2]]


def seeding_law(rows, k):
    """Probability of each ordered outcome of k-means++ seeding, by its definition."""
    first = max(range(len(rows)), key=lambda i: squared(rows[i], [0] * len(rows[i])))
    law = {}
    for tail in permutations([i for i in range(len(rows)) if i != first], k - 1):
        probability, chosen = 1.0, [first]
        for position in tail:
            weights = [min(squared(row, rows[c]) for c in chosen) for row in rows]
            probability *= weights[position] / sum(weights)
            chosen.append(position)
        law[tuple(chosen)] = probability
    return law


def assert_drawn_by(law, counts):
    """Chi-square test of drawn outcomes against their probabilities."""
    draws = sum(counts.values())
    assert math.isclose(sum(law.values()), 1)
    assert min(law.values()) * draws > 5  # the statistic asks for that many in every cell
    assert counts.keys() <= law.keys()
    statistic = sum((counts[key] - draws * p) ** 2 / (draws * p) for key, p in law.items())
    assert statistic < chi2.ppf(0.999, len(law) - 1)


def assert_drawn_by_definition(k, draws):
    rows = [[a * b for a in left for b in right] for left, right in zip(LEFT, RIGHT, strict=True)]
    left, right = (torch.tensor(factor, dtype=torch.float64) for factor in (LEFT, RIGHT))
    points, rng = Factored(right, left), torch.Generator().manual_seed(0)
    counts = Counter(tuple(kmeans_plus_plus(points, k, rng).tolist()) for _ in range(draws))
    assert_drawn_by(seeding_law(rows, k), counts)


def test_draws_follow_the_law_of_the_definition():
    assert_drawn_by_definition(4, 6000)  # 120 outcomes


@pytest.mark.usefixtures("looks", "proposals")
def test_draws_follow_the_law_whatever_is_proposed_together():
    assert_drawn_by_definition(3, 1500)  # 30 outcomes


@pytest.mark.usefixtures("looks")
def test_weighted_draws_follow_the_law_of_the_definition():
    points, weights = [0.0, 1.0, 3.0, 4.0], [1.0, 2.0, 0.0, 4.0]
    law = {}
    for one, other in permutations([0, 1, 3], 2):
        mass = [w * (x - points[one]) ** 2 for w, x in zip(weights, points, strict=True)]
        law[one, other] = weights[one] / sum(weights) * mass[other] / sum(mass)
    rows = Factored(torch.tensor(points, dtype=torch.float64).unsqueeze(1))
    heavy, rng = torch.tensor(weights, dtype=torch.float64), torch.Generator().manual_seed(0)
    counts = Counter(
        tuple(kmeans_plus_plus(rows, 2, rng, weights=heavy).tolist()) for _ in range(2000)
    )
    assert_drawn_by(law, counts)


def sequential(points, n, generator):
    """One pick after the other, each drawn from the weights of all points."""
    chosen = [int(points.square().sum(1).argmax())]
    distance = torch.full((len(points),), torch.inf, dtype=points.dtype)
    free = torch.ones(len(points), dtype=torch.bool)
    while len(chosen) < n:
        free[chosen[-1]] = False
        distance = torch.minimum(distance, (points - points[chosen[-1]]).square().sum(1))
        chosen.append(draw_proportional(distance, free, generator))
    return chosen


def potential(points, chosen):
    return float(torch.cdist(points, points[chosen]).square().amin(1).sum())


@pytest.mark.usefixtures("looks")
def test_the_potential_is_that_of_sequential_seeding():
    left, right = gaussian(0, 600, 3), gaussian(1, 600, 4)
    rows, factors = products(left, right), Factored(right, left)
    fast, slow = [], []
    for seed in range(100):
        rng = torch.Generator().manual_seed(seed)
        fast.append(potential(rows, kmeans_plus_plus(factors, 30, rng)))
        slow.append(potential(rows, sequential(rows, 30, rng)))
    assert ks_2samp(fast, slow).pvalue > 0.01


def test_seeding_of_factors_is_that_of_their_products(device):
    for seed in range(10):
        left, right = gaussian(seed, 40, 3).to(device), gaussian(seed + 100, 40, 5).to(device)
        pairs = Factored(right, left), Factored(products(left, right))
        a, b = (kmeans_plus_plus(p, 40, torch.Generator(device).manual_seed(7)) for p in pairs)
        assert a.device.type == device
        assert torch.equal(a, b)


@pytest.mark.parametrize("row", [[0.0, 0.0], [0.1, -7.3]])
def test_coinciding_points_are_taken_once_each(row):
    for dtype in (torch.float32, torch.float64):
        same = torch.tensor([row], dtype=dtype).expand(6, -1)
        for seed in range(50):
            chosen = kmeans_plus_plus(Factored(same, same), 6, torch.Generator().manual_seed(seed))
            assert sorted(chosen.tolist()) == list(range(6))


def test_distinct_points_are_covered_before_one_is_repeated():
    right = torch.tensor([[0.0, 1.0], [2.0, 0.0], [-1.0, 3.0]]).repeat(4, 1)
    for seed in range(50):
        rng = torch.Generator().manual_seed(seed)
        chosen = kmeans_plus_plus(Factored(right), 5, rng)
        assert set((chosen[:3] % 3).tolist()) == {0, 1, 2}
        assert len(set(chosen.tolist())) == 5


POINTS = {
    "random": lambda: gaussian(0, 300, 5),
    "collinear": lambda: torch.outer(gaussian(1, 300), gaussian(2, 3)),
    "few distinct": lambda: gaussian(3, 5, 4).repeat(40, 1),
    "all at 0": lambda: gaussian(4, 100, 3) * 0,
    "tiny": lambda: gaussian(5, 300, 4) * 1e-75,
    "huge": lambda: gaussian(6, 300, 4) * 1e75,
    "one far away": lambda: torch.cat([gaussian(7, 200, 3), torch.full((1, 3), 1e9).double()]),
    "nearly certain": lambda: gaussian(8, 300, 2) * torch.logspace(0, -12, 300).unsqueeze(1),
}


@pytest.mark.parametrize("name", POINTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.usefixtures("looks")
def test_every_number_of_points_can_be_drawn_and_none_twice(name, dtype):
    right = POINTS[name]()
    scale = 1e-60 if name == "huge" and dtype == torch.float32 else 1.0
    rows = Factored((right * scale).to(dtype), gaussian(9, len(right), 3).to(dtype))
    for n in (1, 10, len(right) - 1, len(right)):
        chosen = kmeans_plus_plus(rows, n, torch.Generator().manual_seed(n))
        assert len(chosen) == len(chosen.unique()) == n
        assert 0 <= chosen.min() <= chosen.max() < len(right)
        assert chosen[0] == rows.norms.argmax()


@given(st.integers(1, 80), st.integers(1, 4), st.integers(1, 5), st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_any_shape_gives_distinct_points_and_a_seed_repeats_them(rows, classes, width, share):
    points = Factored(gaussian(rows, rows, width), gaussian(width, rows, classes))
    n = round(share * rows)
    first, second = (
        kmeans_plus_plus(points, n, torch.Generator().manual_seed(classes)) for _ in range(2)
    )
    assert torch.equal(first, second)
    assert len(first.unique()) == n


@pytest.mark.usefixtures("looks", "proposals")
def test_rounding_does_not_draw_a_point_twice():
    far = (gaussian(0, 100, 64) + 1e3).float()  # to itself a point is at 0 ± rounding
    for seed in range(10):
        chosen = kmeans_plus_plus(Factored(far), 100, torch.Generator().manual_seed(seed))
        assert len(chosen.unique()) == 100


def test_points_without_weight_come_last():
    weights = torch.tensor([0.0, 1.0, 0.0, 2.0, 0.0])
    for seed in range(30):
        rng = torch.Generator().manual_seed(seed)
        chosen = kmeans_plus_plus(Factored(gaussian(0, 5, 2).float()), 5, rng, weights=weights)
        assert set(chosen[:2].tolist()) == {1, 3}
        assert sorted(chosen.tolist()) == list(range(5))


def test_few_looks_at_all_points_are_needed(monkeypatch):
    looks = []
    settle = module._Seeding.settle
    monkeypatch.setattr(
        module._Seeding, "settle", lambda self, picks: (looks.append(picks), settle(self, picks))
    )
    points = Factored(gaussian(0, 20_000, 16), gaussian(1, 20_000, 3))
    kmeans_plus_plus(points, 300, torch.Generator())
    assert len(looks) <= 5


def test_choosing_none_is_empty_and_long():
    chosen = kmeans_plus_plus(Factored(gaussian(0, 4, 2)), 0, torch.Generator())
    assert chosen.dtype == torch.long
    assert chosen.shape == (0,)
