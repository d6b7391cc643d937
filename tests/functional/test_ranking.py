import math
from collections import Counter

import pytest
import torch

from dal.functional.ranking import draw_proportional, top_n


def test_top_n_takes_the_highest_best_first():
    scores = torch.tensor([0.1, 0.9, 0.4, -2.0])
    assert torch.equal(top_n(scores, 3), torch.tensor([1, 2, 0]))


def test_top_n_agrees_with_a_plain_sort(device):
    for seed in range(20):
        rng = torch.Generator().manual_seed(seed)
        scores = torch.randint(0, 9, (50,), generator=rng).to(device, torch.float32)
        listed = scores.tolist()
        expected = sorted(range(50), key=lambda i: (-listed[i], i))
        positions = top_n(scores, 20)
        assert positions.device.type == device
        assert positions.tolist() == expected[:20]


def test_top_n_keeps_the_order_of_tied_items():
    tied = torch.full((3000,), 0.5)
    assert torch.equal(top_n(tied, 3000), torch.arange(3000))
    assert torch.equal(top_n(torch.tensor([0.9, 0.4, 0.9, 0.4]), 4), torch.tensor([0, 2, 1, 3]))


def test_top_n_puts_infinities_where_they_belong():
    scores = torch.tensor([-math.inf, 0.0, math.inf, -math.inf])
    assert torch.equal(top_n(scores, 4), torch.tensor([2, 1, 0, 3]))


def test_top_n_of_none_is_empty():
    for scores in (torch.tensor([1.0, 2.0]), torch.tensor([])):
        positions = top_n(scores, 0)
        assert positions.dtype == torch.long
        assert positions.shape == (0,)


def test_top_n_refuses_nan_which_would_rank_first():
    scores = torch.tensor([0.1, math.nan, 0.4])
    assert scores.argmax() == 1
    with pytest.raises(ValueError, match="scores must not hold NaN, got 1 of them"):
        top_n(scores, 1)


@pytest.mark.parametrize("n", [-1, 4])
def test_top_n_refuses_n_outside_the_pool(n):
    with pytest.raises(ValueError, match=f"n must lie between 0 and the pool size 3, got {n}"):
        top_n(torch.tensor([0.1, 0.2, 0.3]), n)


@pytest.mark.parametrize(
    ("scores", "rule"),
    [
        (torch.zeros(3, 1), r"shape \[N\], got \[3, 1\]"),
        (torch.arange(3), r"floating point, got torch\.int64"),
    ],
)
def test_top_n_refuses_what_is_no_score(scores, rule):
    with pytest.raises(ValueError, match=rule):
        top_n(scores, 1)


def draws(weights, free, count=4000, seed=0, dtype=torch.float32):
    rng = torch.Generator().manual_seed(seed)
    weights, free = torch.tensor(weights, dtype=dtype), torch.tensor(free)
    return Counter(draw_proportional(weights, free, rng) for _ in range(count))


def chi_square(counts, probabilities):
    total = sum(counts.values())
    return sum((counts[k] - total * p) ** 2 / (total * p) for k, p in probabilities.items())


def test_draws_are_proportional_to_the_weights():
    counts = draws([1.0, 2.0, 3.0, 4.0], [True] * 4)
    assert chi_square(counts, {0: 0.1, 1: 0.2, 2: 0.3, 3: 0.4}) < 16.27  # 3 dof, 0.999


def test_positions_that_are_taken_or_weightless_are_never_drawn():
    counts = draws([1.0, 5.0, 0.0, 3.0, 0.0], [True, False, True, True, True])
    assert counts.keys() == {0, 3}
    assert chi_square(counts, {0: 0.25, 3: 0.75}) < 10.83  # 1 dof, 0.999


def test_draws_are_uniform_over_the_free_positions_where_none_has_weight():
    for weights in ([0.0] * 5, [0.0, 7.0, 0.0, 0.0, 0.0]):
        counts = draws(weights, [True, False, True, True, True])
        assert counts.keys() == {0, 2, 3, 4}
        assert chi_square(counts, dict.fromkeys(counts, 0.25)) < 16.27  # 3 dof, 0.999


def test_the_least_float32_weight_is_enough_to_be_drawn():
    assert draws([0.0, 1e-45, 0.0], [True] * 3, count=20).keys() == {1}


def test_draws_follow_the_generator_alone():
    weights, free = torch.arange(1.0, 50.0), torch.ones(49, dtype=torch.bool)

    def sequence(seed):
        rng = torch.Generator().manual_seed(seed)
        return [draw_proportional(weights, free, rng) for _ in range(10)]

    before = torch.get_rng_state()
    assert sequence(0) == sequence(0)
    assert sequence(0) != sequence(1)
    assert torch.equal(torch.get_rng_state(), before)
