import math
from collections import Counter
from itertools import combinations, permutations

import pytest
import torch

from dal.functional.geometry import k_center_greedy, kmeans_plus_plus, nearest_squared_distance


def gaussian(seed, *shape):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


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


def test_distance_without_centres_is_infinite():
    distance = nearest_squared_distance(gaussian(0, 3, 2), torch.empty(0, 2, dtype=torch.float64))
    assert distance.tolist() == [math.inf] * 3


def test_distance_is_the_square_of_the_distance_to_the_nearest_centre():
    points, centres = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[6.0, 8.0], [0.0, 1.0]])
    assert nearest_squared_distance(points, centres).tolist() == [1.0, 18.0]


@pytest.mark.parametrize(("rows", "centres"), [(4096, 256), (4097, 257), (9000, 600), (5, 700)])
def test_distances_across_tiles_agree_with_cdist(rows, centres, device):
    points, others = gaussian(0, rows, 4).to(device), gaussian(1, centres, 4).to(device)
    exact = torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist").square()
    distance = nearest_squared_distance(points, others)
    assert distance.device.type == device
    torch.testing.assert_close(distance, exact.amin(1), rtol=0, atol=1e-10)


def test_distance_to_a_coinciding_centre_is_never_negative():
    for dtype in (torch.float32, torch.float64):
        points = gaussian(2, 500, 16).to(dtype)
        distance = nearest_squared_distance(points, points)
        assert (distance >= 0).all()
        assert distance.max() < 500 * torch.finfo(dtype).eps


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


def test_kmeans_plus_plus_draws_by_its_law():
    rows = [[a * b for a in left for b in right] for left, right in zip(LEFT, RIGHT, strict=True)]
    law = seeding_law(rows, 4)
    assert len(law) == 120
    assert math.isclose(sum(law.values()), 1)
    left = torch.tensor(LEFT, dtype=torch.float64)
    right = torch.tensor(RIGHT, dtype=torch.float64)
    rng, draws = torch.Generator().manual_seed(0), 12000
    assert min(law.values()) * draws > 5  # chi-square asks for that many in every cell
    counts = Counter(tuple(kmeans_plus_plus(left, right, 4, rng).tolist()) for _ in range(draws))
    assert counts.keys() <= law.keys()
    statistic = sum((counts[key] - draws * p) ** 2 / (draws * p) for key, p in law.items())
    assert statistic < 172.4  # 119 degrees of freedom, 0.999


def test_kmeans_plus_plus_of_factors_is_that_of_their_products(device):
    for seed in range(10):
        left, right = gaussian(seed, 40, 3).to(device), gaussian(seed + 100, 40, 5).to(device)
        products = torch.einsum("nc,nd->ncd", left, right).flatten(1)
        ones = torch.ones_like(left[:, :1])
        pairs = [(left, right), (ones, products)]
        a, b = (kmeans_plus_plus(*p, 40, torch.Generator(device).manual_seed(7)) for p in pairs)
        assert a.device.type == device
        assert torch.equal(a, b)


@pytest.mark.parametrize("row", [[0.0, 0.0], [0.1, -7.3]])
def test_kmeans_plus_plus_of_coinciding_points_takes_each_once(row):
    for dtype in (torch.float32, torch.float64):
        same = torch.tensor([row], dtype=dtype).expand(6, -1)
        for seed in range(50):
            chosen = kmeans_plus_plus(same, same, 6, torch.Generator().manual_seed(seed))
            assert sorted(chosen.tolist()) == list(range(6))


def test_kmeans_plus_plus_covers_distinct_points_before_it_repeats_one():
    right = torch.tensor([[0.0, 1.0], [2.0, 0.0], [-1.0, 3.0]]).repeat(4, 1)
    for seed in range(50):
        rng = torch.Generator().manual_seed(seed)
        chosen = kmeans_plus_plus(torch.ones(12, 1), right, 5, rng)
        assert set((chosen[:3] % 3).tolist()) == {0, 1, 2}
        assert len(set(chosen.tolist())) == 5


def test_choosing_none_is_empty_and_long():
    points, rng = gaussian(0, 4, 2), torch.Generator()
    for chosen in (k_center_greedy(points, points, 0), kmeans_plus_plus(points, points, 0, rng)):
        assert chosen.dtype == torch.long
        assert chosen.shape == (0,)
