"""DCoM against plain lists: radii by purity, competence, and the mix of margin and degree."""

import math

import pytest
import torch

from dal.functional import coverage, pairs, purity
from dal.functional.purity import covered_by, pure_radii
from dal.strategies.dcom import _logistic, dcom


def data(rows=30, known=6, classes=3, seed=0):
    rng = torch.Generator().manual_seed(seed)
    draw = {"generator": rng, "dtype": torch.float64}
    middles = torch.randn(classes, 3, **draw)
    features = middles[torch.arange(rows + known) % classes]
    features = features + 0.4 * torch.randn(rows + known, 3, **draw)
    probs = (2 * torch.randn(rows, classes, **draw)).softmax(1)
    return {
        "probs": probs,
        "features": features[:rows],
        "labelled_features": features[rows:],
        "labels": (torch.arange(rows, rows + known) % classes),
    }


def unit(rows):
    return [[x / math.hypot(*row) for x in row] for row in rows.tolist()]


def slow_radii(nodes, classes, centres, *, share, largest, resolution):
    radii = []
    for i in centres:
        low, high = 0.0, largest
        while high - low > resolution:
            middle = (low + high) / 2
            ball = [classes[j] for j in range(len(nodes)) if math.dist(nodes[i], nodes[j]) < middle]
            low, high = (
                (middle, high) if ball.count(classes[i]) >= share * len(ball) else (low, middle)
            )
        radii.append((low + high) / 2)
    return radii


def slow_dcom(*, probs, features, labelled_features, labels, n, initial_radius=0.75):
    """One pick after the other, each degree counted anew."""
    pool, known = unit(features), unit(labelled_features)
    nodes, everything = pool + known, len(features) + len(labels)
    predicted = [row.index(max(row)) for row in probs.tolist()] + labels.tolist()

    def covered_at(radii):
        return {
            j
            for j in range(everything)
            if any(math.dist(c, nodes[j]) < r for c, r in zip(known, radii, strict=True))
        }

    share = 0.4 + 0.2 * len(covered_at([initial_radius] * len(known))) / everything
    centres = range(len(pool), everything)
    radii = slow_radii(nodes, predicted, centres, share=share, largest=1.1, resolution=0.05)
    covered = covered_at(radii)
    mean = sum(radii) / len(radii) if radii else initial_radius
    rate = len(covered) / everything
    competence = (1 + math.exp(-50 * 0.2)) / (1 + math.exp(-50 * (rate - 0.8)))
    ranked = [sorted(row) for row in probs.tolist()]
    doubt = [row[-2] - row[-1] for row in ranked]
    doubt = [d - min(doubt) for d in doubt]
    chosen = []
    for _ in range(n):
        free = [i for i in range(len(pool)) if i not in chosen]
        balls = {
            i: [
                j
                for j in range(len(pool))
                if j not in covered and math.dist(pool[i], pool[j]) < mean
            ]
            for i in free
        }
        most = max([*map(len, balls.values()), 1])
        worst = max(doubt[i] for i in free) or 1
        value = {
            i: competence * doubt[i] / worst + (1 - competence) * len(balls[i]) / most for i in free
        }
        best = max(value.values())
        equals = [i for i in free if value[i] > best - 1e-12]
        chosen.append(max(equals, key=lambda i: doubt[i]))
        covered |= set(balls[chosen[-1]])
    return chosen


@pytest.mark.parametrize("known", [0, 1, 6, 20])
def test_picks_are_those_of_plain_lists(known):
    for seed in range(4):
        given = data(known=known, seed=seed)
        for radius in (0.2, 0.75):
            chosen = dcom(**given, n=30, initial_radius=radius)
            assert chosen.tolist() == slow_dcom(**given, n=30, initial_radius=radius)


def test_radii_are_those_of_a_bisection_over_lists():
    for seed in range(3):
        given = data(rows=40, seed=seed)
        nodes = torch.cat([given["features"], given["labelled_features"]])
        nodes = torch.tensor(unit(nodes), dtype=torch.float64)
        classes = torch.cat([given["probs"].argmax(1), given["labels"]])
        centres = torch.arange(40, 46)
        for share in (0.3, 0.5, 0.9):
            options = {"largest": 1.1, "resolution": 0.02}
            radii = pure_radii(nodes, classes, centres, purity=share, **options)
            expected = slow_radii(
                nodes.tolist(), classes.tolist(), range(40, 46), share=share, **options
            )
            torch.testing.assert_close(radii, torch.tensor(expected).double())


def test_a_resolution_wider_than_the_range_gives_its_middle():
    nodes, classes = torch.eye(3), torch.arange(3)
    options = {"purity": 0.5, "largest": 1.0, "resolution": 2.0}
    assert pure_radii(nodes, classes, torch.tensor([1]), **options).tolist() == [0.5]


def test_a_point_at_the_radius_is_outside():
    points = torch.tensor([[0.0], [2.0], [3.0]])
    assert covered_by(points, points[:1], torch.tensor([2.0])).tolist() == [True, False, False]
    assert covered_by(points, points[:0], torch.empty(0)).tolist() == [False] * 3


def test_competence_rises_from_nothing_to_one():
    assert _logistic(1.0, 0.8, 50.0) == pytest.approx(1)
    assert _logistic(0.8, 0.8, 50.0) == pytest.approx((1 + math.exp(-10)) / 2)
    assert _logistic(0.0, 0.8, 50.0) < 1e-15
    assert _logistic(0.0, 0.8, 1e9) == 0
    values = [_logistic(c / 20, 0.8, 50.0) for c in range(21)]
    assert values == sorted(values)


def test_an_incompetent_model_covers_and_a_competent_one_doubts():
    angles = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 1.6])
    features = torch.stack([angles.cos(), angles.sin()], 1)
    doubtful = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.7, 0.55])
    given = {"probs": torch.stack([doubtful, 1 - doubtful], 1), "features": features}
    none = {"labelled_features": features[:0], "labels": torch.empty(0, dtype=torch.long)}
    assert dcom(**given, **none, n=2, initial_radius=0.25).tolist() == [2, 5]
    known = {"labelled_features": features, "labels": torch.zeros(6, dtype=torch.long)}
    assert dcom(**given, **known, n=3).tolist()[:2] == [5, 4]  # all is covered, and of class 0


def test_a_hub_in_a_last_block_of_one_row_is_found(monkeypatch):
    monkeypatch.setattr(pairs, "BLOCK", 8)
    monkeypatch.setattr(purity, "ROWS", 8)
    spokes = [[math.cos(t), math.sin(t), 2.0] for t in range(16)]
    features = torch.tensor([*spokes, [0.0, 0.0, 1.0]], dtype=torch.float64)
    probs = torch.tensor([[0.8, 0.2]]).double().expand(17, -1)
    none = {"labelled_features": features[:0], "labels": torch.empty(0, dtype=torch.long)}
    chosen = dcom(probs=probs, features=features, **none, n=1, initial_radius=0.5)
    assert chosen.tolist() == [16]


def test_blocks_do_not_change_the_picks(monkeypatch):
    given = data(rows=33, known=9)
    expected = dcom(**given, n=20)
    for size in (4, 8, 11):
        monkeypatch.setattr(coverage, "BLOCK", size)
        monkeypatch.setattr(pairs, "BLOCK", size)
        monkeypatch.setattr(purity, "ROWS", size)
        monkeypatch.setattr(purity, "CENTRES", 2)
        assert torch.equal(dcom(**given, n=20), expected)


def test_labelled_points_that_coincide_count_once_each():
    given = data(known=4)
    twice = given | {
        "labelled_features": given["labelled_features"].repeat(2, 1),
        "labels": given["labels"].repeat(2),
    }
    assert dcom(**twice, n=10).tolist() == slow_dcom(**twice, n=10)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"initial_radius": 0}, "initial_radius must be a finite number above 0, got 0"),
        ({"max_radius": -1.0}, "max_radius must be a finite number above 0, got -1.0"),
        ({"resolution": 0.0}, "resolution must be a finite number above 0, got 0.0"),
        ({"steepness": math.inf}, "steepness must be a finite number above 0, got inf"),
        ({"centre": 2}, "centre must lie between 0 and 1, got 2"),
        ({"labels": torch.tensor([1, 2])}, "labels must be whole numbers of shape"),
    ],
)
def test_bad_input_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        dcom(**(data() | changed), n=2)
