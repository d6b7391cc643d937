"""k-centre and k-means++ on rows that several processes hold."""

import pytest
import torch
from point_sets import gaussian
from processes import answers_of
from torch import distributed

from dal.functional import k_center, kmeans_plus_plus
from dal.functional.factored import Factored
from dal.functional.shards import Shards

SHARES = [[150, 150], [0, 300], [1, 250, 49], [150, 0, 150]]
ROWS, N = 300, 60


def grid():
    """Whole numbers around 0, so that equal distances are exactly equal."""
    values = torch.arange(-3.0, 4.0, dtype=torch.float64)
    square = torch.cartesian_prod(values, values)  # [49, 2]
    return torch.cat([square.repeat(6, 1), torch.zeros(6, 2)])


POINTS = {
    "random": lambda: gaussian(0, ROWS, 6),
    "ties, and then none but equals": grid,
}


def choose(shards, candidates=None):
    """Picks of all cases, on the rows that a process holds."""
    if candidates:  # small cases take several looks at all points
        k_center.LARGEST = {"cpu": candidates}
        k_center.SMALLEST = candidates
    picks = {}
    for name, make in POINTS.items():
        points = make()
        own = points[shards.own]
        for labelled in (0, 5):
            picks["k-centre", name, labelled] = k_center.k_center_greedy(
                own, points[:labelled], N, shards=shards
            )
        left, weights = gaussian(4, ROWS, 3), gaussian(5, ROWS).clamp_min(0)
        picks["badge", name] = kmeans_plus_plus.kmeans_plus_plus(
            Factored(own, left[shards.own]), N, torch.Generator(), shards=shards
        )
        picks["weighted", name] = kmeans_plus_plus.kmeans_plus_plus(
            Factored(own), N, torch.Generator(), weights=weights[shards.own], shards=shards
        )
    return picks


def work(rank):
    groups = {2: distributed.new_group([0, 1]), 3: distributed.group.WORLD}
    picks = {}
    for shares in (shares for shares in SHARES if rank < len(shares)):
        shards = Shards(shares[rank], groups[len(shares)])
        picks[str(shares)] = choose(shards, candidates=16)
    return picks


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """Picks of every process, by its shares."""
    known = {}
    for answers in answers_of(work, 3, tmp_path_factory.mktemp("processes")):
        for shares, picks in answers.items():
            known.setdefault(shares, []).append(picks)
    return known


@pytest.fixture(scope="module")
def expected():
    return choose(Shards(ROWS))


@pytest.mark.parametrize("shares", SHARES, ids=str)
def test_shares_are_chosen_from_as_one_pool_is(shares, chosen, expected):
    for picks in chosen[str(shares)]:
        assert picks.keys() == expected.keys()
        for case, wanted in expected.items():
            assert torch.equal(picks[case], wanted), case


def test_one_process_may_be_a_group_of_its_own(tmp_path):
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1
    )
    try:
        points = gaussian(0, 50, 3)
        shards = Shards(50, distributed.group.WORLD)
        chosen = k_center.k_center_greedy(points, points[:0], 9, shards=shards)
    finally:
        distributed.destroy_process_group()
    assert torch.equal(chosen, k_center.k_center_greedy(points, points[:0], 9))
