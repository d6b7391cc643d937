"""TypiClust, ProbCover and the graph of balls, each against its definition in plain Python."""

import math
import warnings
from importlib import import_module

import pytest
import torch

from dal.functional import coverage, pairs
from dal.functional.clustering import kmeans
from dal.functional.coverage import Balls, ball_graph, greedy_cover, members, pure_radius
from dal.functional.pairs import BLOCK
from dal.strategies.prob_cover import prob_cover
from dal.strategies.typiclust import typiclust

LINE = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0], [11.0]])


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def blobs(sizes, seed=0):
    """Tight clusters of the given sizes, far apart."""
    centres = 20 * draw(len(sizes), 4, seed=seed)
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return centres[labels] + 0.3 * draw(sum(sizes), 4, seed=seed + 1), labels


def typical(pool, labelled=None, n=1, seed=0, **some):
    labelled = pool[:0] if labelled is None else labelled
    return typiclust(
        features=pool, labelled_features=labelled, n=n, generator=rng(seed), **some
    ).tolist()


def follow(chosen, pool, labelled, *, seed, neighbours, max_clusters, smallest):
    """Walk the definition on plain lists along the choice; only the k-means is shared.

    Of two items that are each other's neighbours either may come first: hence no list to equal.
    """
    k = min(len(labelled) + len(chosen), max_clusters)
    assignment = kmeans(torch.cat([pool, labelled]), k, rng(seed)).assignment.tolist()
    rows, rest = pool.tolist(), list(chosen)
    free = {c: [i for i in range(len(rows)) if assignment[i] == c] for c in range(k)}
    held = {c: assignment[len(rows) :].count(c) for c in range(k)}
    order = sorted(range(k), key=lambda c: (held[c], -assignment.count(c)))
    for large in (True, False):
        turns = [c for c in order if (assignment.count(c) > smallest) is large]
        while rest and any(free[c] for c in turns):
            for c in turns:
                if free[c] and rest:
                    pick = rest.pop(0)
                    assert pick in free[c]
                    distances = {i: mean_distance(rows, i, free[c], neighbours) for i in free[c]}
                    assert distances[pick] <= min(distances.values()) + 1e-9
                    free[c].remove(pick)
    assert not rest


def mean_distance(rows, i, items, neighbours):
    count = min(neighbours, len(items) // 2)
    distances = sorted(math.dist(rows[i], rows[j]) for j in items if j != i)
    return sum(distances[:count]) / count if count else 0


@pytest.mark.parametrize("labelled", [0, 7])
@pytest.mark.parametrize(
    ("n", "neighbours", "max_clusters", "smallest"),
    [(12, 20, 500, 5), (30, 3, 8, 5), (60, 4, 2, 0), (90, 5, 500, 5), (90, 2, 30, 4)],
)
def test_typiclust_agrees_with_its_definition(labelled, n, neighbours, max_clusters, smallest):
    pool, held = draw(90, 3), draw(labelled, 3, seed=1)
    limits = {"neighbours": neighbours, "max_clusters": max_clusters, "smallest": smallest}
    chosen = typical(pool, held, n, 5, **limits)
    assert len(chosen) == len(set(chosen)) == n
    follow(chosen, pool, held, seed=5, **limits)


def test_the_middle_of_the_largest_cluster_without_labels_comes_first():
    left, right = [0.0, 1.0, 1.5, 2.2, 3.0], [20.0, 21.0, 21.9, 23.0]
    pool = torch.tensor(left + right).unsqueeze(1)
    assert typical(pool, n=2, neighbours=2, smallest=0) == [2, 6]
    assert typical(pool, torch.tensor([[1.2]]), n=1, smallest=0) == [6]


def test_typicality_averages_distances_not_their_squares():
    # 0: distances .1 and 1.8, mean .95 and 1.63 squared; 3: 1 and 1 in both.
    pool = torch.tensor([[0.0], [0.1], [-1.8], [100.0], [99.0], [101.0]])
    assert typical(pool, neighbours=2, max_clusters=1) == [0]


def test_labelled_items_are_no_neighbours():
    pool = torch.tensor([[0.0], [1.0], [2.1], [50.0], [50.9], [53.0]])
    labelled = torch.tensor([[53.0]] * 4)  # makes the last item the densest, were they counted
    assert typical(pool, labelled, neighbours=2, max_clusters=1) == [1]


def test_small_clusters_wait_for_the_large_ones_to_be_used_up():
    pool, labels = blobs([9, 8, 5])
    chosen = typical(pool, n=3)
    assert [labels[i].item() for i in chosen] == [0, 1, 0]
    everything = typical(pool, n=22, max_clusters=3)
    assert [labels[i].item() for i in everything[:17]] == [0, 1] * 8 + [0]
    assert [labels[i].item() for i in everything[17:]] == [2] * 5


def test_clusters_with_fewer_labels_come_first_whatever_their_size():
    pool, labels = blobs([20, 15, 10, 8])
    labelled = pool[[0, 1, 21]] + 0.01  # two in the largest, one in the second
    chosen = typical(pool, labelled, n=4, max_clusters=4)
    assert [labels[i].item() for i in chosen] == [2, 3, 1, 0]


def test_typiclust_agrees_with_scikit_activeml_where_each_cluster_gives_one_item():
    # Theirs gives a cluster one item at most, divides a sum of k + 1 distances that holds the item
    # itself, knows no smallest cluster, and halves no k: here none of this makes a difference.
    pool_strategies = import_module("skactiveml.pool")
    pool, _ = blobs([40, 35, 30, 25, 20])
    points = torch.cat([pool, pool[[0, 41]] + 0.05])
    labels = torch.full((len(points),), torch.nan, dtype=torch.float64)
    labels[-2:] = 0
    theirs = pool_strategies.TypiClust(k=5, random_state=0, cluster_algo_dict={"n_init": 20}).query(
        points.numpy(), labels.numpy(), batch_size=3
    )
    assert typical(pool, points[-2:], n=3, neighbours=5) == theirs.tolist()


def test_typiclust_takes_every_item_of_a_pool_that_coincides():
    assert sorted(typical(torch.full((50, 2), 3.0), n=50)) == list(range(50))


@pytest.mark.parametrize(
    ("some", "message"),
    [
        ({"neighbours": 0}, "neighbours must be a whole number of at least 1, got 0"),
        ({"max_clusters": 0}, "max_clusters must be .* got 0"),
        ({"smallest": -1}, "smallest must be .* got -1"),
        ({"n": 7}, "n must lie between 0 and the pool size 6, got 7"),
    ],
)
def test_typiclust_refuses_what_it_cannot_use(some, message):
    with pytest.raises(ValueError, match=message):
        typical(LINE, **some)


def neighbours_of(graph, size):
    return [sorted(members(graph, torch.tensor([i])).tolist()) for i in range(size)]


@pytest.mark.parametrize("block", [1, 7, 16, 64])
def test_the_graph_joins_all_pairs_below_the_radius(monkeypatch, block):
    monkeypatch.setattr(pairs, "BLOCK", block)
    monkeypatch.setattr(pairs, "SHARE", 2)
    points = draw(33, 2) + 100
    rows = points.tolist()
    near = [
        [j for j in range(33) if j != i and math.dist(rows[i], rows[j]) < 0.8] for i in range(33)
    ]
    assert neighbours_of(ball_graph(points, 0.8), 33) == near


def test_balls_are_open():
    assert neighbours_of(ball_graph(LINE, 1.0), 6) == [[]] * 6
    assert neighbours_of(ball_graph(LINE, 1.01), 6) == [[1], [0, 2], [1, 3], [2], [5], [4]]


def test_a_graph_beyond_its_edges_is_refused():
    assert len(ball_graph(LINE, 1.5, edges=8).neighbours) == 8
    with pytest.raises(
        ValueError, match=r"at most 7 edges.* 6 points at radius 1.5; .*pool_subset"
    ):
        ball_graph(LINE, 1.5, edges=7)


def test_graphs_of_no_and_of_one_point_are_empty():
    assert ball_graph(LINE[:0], 1.0).offsets.tolist() == [0]
    assert ball_graph(LINE[:1], 1.0).offsets.tolist() == [0, 0]


@pytest.mark.parametrize("block", [5, 2048])
@pytest.mark.parametrize("radius", [0.5, 1.2, math.inf])
def test_balls_are_the_same_with_and_without_their_graph(monkeypatch, block, radius):
    for module in (coverage, pairs):
        monkeypatch.setattr(module, "BLOCK", block)
    points, nodes = draw(40, 2), torch.tensor([3, 0, 17, 39])
    kept, computed = Balls(points, radius), Balls(points, radius, edges=0)
    assert kept.graph is not None
    assert computed.graph is None
    for some in (nodes, torch.arange(1, 40), torch.arange(40), nodes[:0]):
        assert torch.equal(kept.counts(some), computed.counts(some))
    for node in nodes.split(1):
        assert set(kept.around(node).tolist()) == set(computed.around(node).tolist())


def slow_cover(rows, centres, radius, n):
    """Greedy maximum coverage on sets."""
    balls = [{j for j, y in enumerate(rows) if math.dist(x, y) < radius} for x in rows]
    covered = {j for j, y in enumerate(rows) if any(math.dist(c, y) < radius for c in centres)}
    chosen = []
    while len(chosen) < n and len(covered) < len(rows):
        best = max(range(len(rows)), key=lambda i: (len(balls[i] - covered), -i))
        chosen.append(best)
        covered |= balls[best]
    return chosen


@pytest.mark.parametrize("edges", [0, 10**6])
@pytest.mark.parametrize("radius", [0.3, 0.7, 1.5])
@pytest.mark.parametrize("labelled", [0, 5])
def test_the_cover_agrees_with_greedy_sets(monkeypatch, edges, radius, labelled):
    for module in (coverage, pairs):
        monkeypatch.setattr(module, "BLOCK", 16)
    monkeypatch.setattr(pairs, "SHARE", 2)
    points, centres = draw(70, 2), draw(labelled, 2, seed=1)
    chosen = greedy_cover(points, centres, radius, 70, edges=edges)
    assert chosen.tolist() == slow_cover(points.tolist(), centres.tolist(), radius, 70)


def cover(pool, n, labelled=None, *, normalise=False, **some):
    labelled = pool[:0] if labelled is None else labelled
    return prob_cover(
        features=pool, labelled_features=labelled, n=n, generator=rng(),
        normalise=normalise, **some,
    ).tolist()  # fmt: skip


def test_probcover_takes_one_then_four():
    # Removing only edges that touch the pick, not those into what it covers, gives 1 then 2.
    assert cover(LINE, 2, radius=1.5) == [1, 4]


def test_balls_of_labelled_items_are_covered():
    assert cover(LINE, 2, torch.tensor([[1.0]]), radius=1.5) == [4, 2]  # 2 and 3 cover 3
    assert cover(LINE, 1, torch.tensor([[1.0], [10.5]]), radius=1.5) == [2]


def test_once_all_is_covered_the_farthest_item_follows():
    pool = torch.tensor([[0.0], [0.1], [0.2], [10.0]])
    assert cover(pool, 4, radius=1.0) == [0, 3, 2, 1]
    assert cover(pool, 2, torch.tensor([[0.0], [10.0]]), radius=1.0) == [2, 1]


def test_the_last_item_of_a_block_and_a_row_can_be_chosen():
    # A graph that drops the rows after the last full block can never choose the last item.
    pool = 10 * torch.arange(BLOCK + 1).double().unsqueeze(1)
    pool[100], pool[101], pool[-1] = -20, -18, -19
    assert cover(pool, 1, radius=1.5) == [BLOCK]


def test_features_are_scaled_to_norm_one_first_if_asked():
    pool = torch.tensor([[1.0, 0.0], [50.0, 1.0], [0.0, 1.0], [0.1, 9.0], [0.0, 30.0]])
    assert cover(pool, 2, radius=0.2, normalise=True) == [2, 0]
    assert cover(pool, 2, radius=0.2) == [0, 1]


def test_the_pure_radius_is_the_largest_with_enough_pure_balls():
    points, labels = draw(60, 2), torch.arange(60) % 3
    distances = torch.cdist(points, points)
    for purity in (0.01, 0.3, 0.5, 0.95, 1.0):
        radius = pure_radius(points, labels, purity)

        def pure(radius):
            mixed = (distances < radius) & (labels.unsqueeze(1) != labels)
            return 1 - mixed.any(1).double().mean().item()

        assert pure(radius - 1e-9) >= purity - 1e-12
        assert pure(radius + 1e-9) < purity


@pytest.mark.parametrize("block", [1, 7, 20])
def test_the_pure_radius_does_not_depend_on_blocks(monkeypatch, block):
    points, labels = draw(45, 3), torch.arange(45) % 4
    expected = pure_radius(points, labels, 0.8)
    monkeypatch.setattr(pairs, "BLOCK", block)
    monkeypatch.setattr(pairs, "SHARE", 2)
    assert pure_radius(points, labels, 0.8) == pytest.approx(expected, abs=1e-12)


def test_balls_of_a_single_label_are_pure_at_any_radius():
    assert pure_radius(LINE, torch.zeros(6, dtype=torch.long), 0.9) == math.inf
    assert cover(torch.zeros(5, 2), 5) == [0, 1, 2, 3, 4]


def test_probcover_without_a_radius_covers_one_cluster_after_the_other():
    pool, labels = blobs([30, 20, 10])
    chosen = cover(pool, 3, clusters=3, purity=1.0)
    assert labels[chosen].tolist() == [0, 1, 2]


@pytest.mark.parametrize("seed", range(3))
def test_every_pick_has_the_highest_utility_of_scikit_activeml(seed):
    # Theirs breaks ties at random, hence utilities; its balls are closed, ours open.
    pool_strategies = import_module("skactiveml.pool")
    points = draw(60, 2, seed=seed)
    labels = torch.full((60,), torch.nan, dtype=torch.float64)
    labels[50:] = 0
    for pick in cover(points[:50], 8, points[50:], radius=0.5):
        strategy = pool_strategies.ProbCover(deltas=[0.5], random_state=0)
        with warnings.catch_warnings():  # of the purity that a single delta does not need
            warnings.filterwarnings("ignore", "The maximum purity was -1", UserWarning)
            _, utilities = strategy.query(
                points.numpy(), labels.numpy(), batch_size=1, return_utilities=True
            )
        best = torch.from_numpy(utilities[0])
        if best.nan_to_num().max() == 0:
            break
        assert best[pick] == best.nan_to_num().max()
        labels[pick] = 0
    assert labels.isfinite().sum() > 13


@pytest.mark.parametrize(
    ("some", "message"),
    [
        ({"radius": 0}, "radius must be a finite number above 0, got 0"),
        ({"radius": -1.5}, "radius must be a finite number above 0, got -1.5"),
        ({"radius": math.nan}, "radius must be .* got nan"),
        ({"purity": 1.5}, "purity must lie between 0 and 1, got 1.5"),
        ({"clusters": 1}, "clusters must be a whole number of at least 2, got 1"),
    ],
)
def test_probcover_refuses_what_it_cannot_use(some, message):
    with pytest.raises(ValueError, match=message):
        cover(LINE, 1, **some)
