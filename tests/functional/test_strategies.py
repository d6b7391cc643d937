"""Each strategy against its reference: closed forms, and brute force by another road."""

import math
from collections import Counter
from contextlib import suppress
from itertools import permutations
from statistics import fmean, pstdev

import pytest
import torch

from dal.functional import information
from dal.functional.information import mean_log_probs
from dal.functional.ranking import top_n
from dal.strategies.badge import badge
from dal.strategies.bald import bald
from dal.strategies.coreset import coreset
from dal.strategies.entropy import entropy
from dal.strategies.least_confidence import least_confidence
from dal.strategies.margin import margin
from dal.strategies.mean_std import mean_std
from dal.strategies.random import random
from dal.strategies.variation_ratios import variation_ratios

A = [[[1, 0], [0, 1]], [[1, 0], [0, 1]], [[0.5, 0.5], [0.5, 0.5]]]
C = [
    [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]],
    [[0.7, 0.3], [0.5, 0.5], [0.1, 0.9]],
    [[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]],
]
TWICE = [[1, 0], [1, 0], [0, 1], [0, 1]]
D = [TWICE, TWICE, [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9]]]
LN2 = math.log(2)

BY_PROBS = [least_confidence, margin, entropy]
BY_SAMPLES = [bald, mean_std, variation_ratios]


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def close(actual, expected, atol=1e-10):
    torch.testing.assert_close(actual, tensor(expected), rtol=0, atol=atol)


def random_samples(seed, samples=5):
    rng = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(30, samples, 4, generator=rng, dtype=torch.float64)).log_softmax(2)


def mean_probs(samples):
    return mean_log_probs(tensor(samples).log()).exp()


def chi_square(counts, probabilities):
    total = sum(counts.values())
    return sum((counts[k] - total * p) ** 2 / (total * p) for k, p in probabilities.items())


@pytest.mark.parametrize("score", BY_PROBS)
def test_the_item_between_two_classes_comes_before_surer_ones(score):
    probs = tensor([[0.9, 0.08, 0.02], [0.5, 0.5, 0.0], [0.02, 0.28, 0.7], [0.0, 0.0, 1.0]])
    assert torch.equal(top_n(score(probs=probs), 4), torch.tensor([1, 2, 0, 3]))


@pytest.mark.parametrize("score", BY_SAMPLES)
def test_the_item_on_which_samples_disagree_comes_first(score):
    agreed, doubted, split = [[0.9, 0.1]] * 4, [[0.9, 0.1]] * 3 + [[0.3, 0.7]], TWICE
    log_probs = tensor([agreed, doubted, split]).log()
    assert torch.equal(top_n(score(log_probs=log_probs), 3), torch.tensor([2, 1, 0]))


@pytest.mark.parametrize("score", BY_SAMPLES)
def test_agreement_in_doubt_is_worth_less_than_certain_disagreement(score):
    log_probs = tensor([[[0.51, 0.49]] * 4, TWICE]).log()
    agreed, split = score(log_probs=log_probs).tolist()
    assert agreed == pytest.approx(0, abs=1e-12)
    assert split > 0.4


@pytest.mark.parametrize("score", BY_SAMPLES)
def test_a_single_sample_is_refused(score):
    with pytest.raises(ValueError, match=rf"{score.__name__} .*needs K >= 2 .*got K = 1"):
        score(log_probs=random_samples(0, samples=1))


@pytest.mark.parametrize("score", BY_PROBS)
def test_a_single_class_is_refused(score):
    with pytest.raises(ValueError, match="at least 2 classes, got C = 1"):
        score(probs=torch.ones(3, 1))


def test_least_confidence_is_one_less_the_best_probability():
    probs = tensor([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.0, 1.0, 0.0]])
    close(least_confidence(probs=probs), [0.4, 0.5, 0.0])
    close(least_confidence(probs=mean_probs(C)), [13 / 30, 13 / 30, 14 / 30])


def test_margin_is_the_gap_of_the_two_best_classes_below_zero():
    probs = tensor([[0.6, 0.3, 0.1], [0.1, 0.45, 0.45], [0.0, 1.0, 0.0], [0.25, 0.0, 0.75]])
    close(margin(probs=probs), [-0.3, 0.0, -1.0, -0.5])


def test_margin_agrees_with_a_plain_sort():
    probs = random_samples(0).exp().mean(1)
    ranked = [sorted(row) for row in probs.tolist()]
    close(margin(probs=probs), [row[-2] - row[-1] for row in ranked], atol=1e-15)


def test_entropy_agrees_with_a_plain_sum():
    probs = random_samples(1).exp().mean(1)
    close(entropy(probs=probs), [-sum(p * math.log(p) for p in row) for row in probs.tolist()])
    close(entropy(probs=tensor([[1, 0, 0], [0, 0.5, 0.5]])), [0.0, LN2])


def test_entropy_of_several_samples_is_that_of_their_mean_probability_not_logit():
    right = [0.684231765130, 0.684231765130, 0.690923309314]
    wrong = [0.673011667009, 0.668463904212, 0.684096486403]
    close(entropy(probs=tensor(C).log().mean(1).softmax(1)), wrong)
    close(entropy(probs=mean_probs(C)), right)


def test_entropy_and_its_form_in_log_probabilities_agree():
    log_probs = mean_log_probs(random_samples(2))
    expected = information.entropy(log_probs).tolist()
    close(entropy(probs=log_probs.exp()), expected, atol=1e-12)


def test_mean_std_divides_by_the_number_of_samples():
    close(mean_std(log_probs=tensor(C).log()), [0.286744175568, 0.249443825785, 0.286744175568])
    close(mean_std(log_probs=tensor(A).log()), [0.5, 0.5, 0.0])


def test_mean_std_agrees_with_the_population_standard_deviation():
    log_probs = random_samples(3)
    items = [zip(*item, strict=True) for item in log_probs.exp().tolist()]
    close(mean_std(log_probs=log_probs), [fmean(pstdev(c) for c in item) for item in items])


def test_variation_ratio_of_two_votes_to_one_is_a_third():
    a, b = [0.6, 0.3, 0.1], [0.1, 0.2, 0.7]
    votes = tensor([[a, a, b], [b, b, b], [a, b, b], [a, [0.2, 0.8, 0.0], b]]).log()
    close(variation_ratios(log_probs=votes), [1 / 3, 0.0, 1 / 3, 2 / 3])


def test_variation_ratio_agrees_with_a_plain_count():
    log_probs = random_samples(4)
    votes = [Counter(row.index(max(row)) for row in item) for item in log_probs.tolist()]
    expected = [1 - max(count.values()) / 5 for count in votes]
    close(variation_ratios(log_probs=log_probs), expected, atol=1e-15)


def test_bald_of_disagreeing_certain_samples_is_ln_two():
    close(bald(log_probs=tensor(A).log()), [LN2, LN2, 0.0])
    close(bald(log_probs=tensor(A).float().log()).double(), [LN2, LN2, 0.0], atol=1e-6)


def test_bald_has_its_known_values():
    close(bald(log_probs=tensor(C).log()), [0.184732743817, 0.141200279795, 0.184712450151])
    close(bald(log_probs=tensor(D).log()), [LN2, LN2, 0.368064207168])


def test_the_top_two_of_bald_are_redundant():
    best = top_n(bald(log_probs=tensor(D).log()), 2)
    assert torch.equal(best, torch.tensor([0, 1]))


P = [[0.6, 0.3, 0.1], [0.9, 0.05, 0.05], [0.2, 0.5, 0.3]]
H = [[1, 0], [3, 4], [0, 2]]


def explicit_badge_law(probs, features, n):
    """Probability of each outcome of k-means++ on the gradients [N, C·D] as plain lists."""
    rows = []
    for p, h in zip(probs, features, strict=True):
        error = [x - (c == p.index(max(p))) for c, x in enumerate(p)]
        rows.append([e * x for e in error for x in h])
    first = max(range(len(rows)), key=lambda i: sum(x * x for x in rows[i]))
    law = {(first,): 1.0}
    for _ in range(n - 1):
        longer = {}
        for chosen, probability in law.items():
            weights = [min(math.dist(row, rows[c]) ** 2 for c in chosen) for row in rows]
            for position in set(range(len(rows))) - set(chosen):
                share = weights[position] / sum(weights)
                longer[(*chosen, position)] = probability * share
        law = longer
    return law


def test_badge_takes_the_largest_gradient_first():
    for seed in range(10):
        rng = torch.Generator().manual_seed(seed)
        first = badge(probs=tensor(P), features=tensor(H), n=1, generator=rng)
        assert torch.equal(first, torch.tensor([2]))


def test_badge_draws_its_second_pick_by_squared_distance():
    rng = torch.Generator().manual_seed(0)
    chosen = (badge(probs=tensor(P), features=tensor(H), n=2, generator=rng) for _ in range(3000))
    counts = Counter(tuple(positions.tolist()) for positions in chosen)
    law = {(2, 0): 1.78 / 4.155, (2, 1): 2.375 / 4.155}
    assert counts.keys() == law.keys()
    assert chi_square(counts, law) < 10.83  # 1 degree of freedom, 0.999


def test_badge_draws_by_the_law_of_explicit_gradients():
    probs, features = random_samples(0).exp().mean(1)[:7], random_samples(50)[:7, 0]
    law = explicit_badge_law(probs.tolist(), features.tolist(), 3)
    rng = torch.Generator().manual_seed(0)
    draws = (badge(probs=probs, features=features, n=3, generator=rng) for _ in range(4000))
    counts = Counter(tuple(positions.tolist()) for positions in draws)
    assert len(law) == 30
    assert min(law.values()) * 4000 > 5
    assert counts.keys() <= law.keys()
    assert chi_square(counts, law) < 58.3  # 29 degrees of freedom, 0.999


def test_badge_refuses_rows_that_do_not_match():
    with pytest.raises(ValueError, match="same rows, got 3 and 2"):
        badge(probs=tensor(P), features=tensor(H)[:2], n=1, generator=torch.Generator())


def test_coreset_treats_labelled_items_as_centres():
    pool = tensor([[0], [1.2], [2.5], [10]])
    near, far = tensor([[0.5]]), tensor([[0.5], [9.8]])
    chosen = coreset(features=pool, labelled_features=near, n=4)
    assert torch.equal(chosen, torch.tensor([3, 2, 1, 0]))
    chosen = coreset(features=pool, labelled_features=far, n=4)
    assert torch.equal(chosen, torch.tensor([2, 1, 0, 3]))


def test_coreset_without_labelled_items_starts_nearest_to_the_mean():
    pool = tensor([[0], [1.2], [2.5], [10]])
    chosen = coreset(features=pool, labelled_features=pool[:0], n=4)
    assert torch.equal(chosen, torch.tensor([2, 3, 0, 1]))


def test_coreset_refuses_features_of_another_width():
    with pytest.raises(ValueError, match="same last dimension, got 2 and 3"):
        coreset(features=torch.zeros(4, 2), labelled_features=torch.zeros(1, 3), n=1)


def test_features_without_a_distance_are_refused():
    probs, features = tensor(P), tensor([[math.inf, 0], [3, 4], [0, 2]])
    with pytest.raises(ValueError, match=r"features must .* got"):
        coreset(features=features, labelled_features=features[:0], n=3)
    with pytest.raises(ValueError, match=r"labelled_features must .* got"):
        coreset(features=features[1:], labelled_features=features, n=2)
    with pytest.raises(ValueError, match=r"features must .* got"):
        badge(probs=probs, features=features, n=3, generator=torch.Generator())


def test_coreset_repeats_no_position_where_squares_overflow():
    features = tensor([[1, 0], [3, 4], [0, 2], [-5, 1]]).float() * 1e20
    with suppress(ValueError):
        assert len(coreset(features=features, labelled_features=features[:1], n=4).unique()) == 4


def test_random_draws_every_ordered_choice_equally_often():
    rng = torch.Generator().manual_seed(0)
    draws = (random(n_pool=5, n=2, generator=rng) for _ in range(6000))
    counts = Counter(tuple(positions.tolist()) for positions in draws)
    law = dict.fromkeys(permutations(range(5), 2), 1 / 20)
    assert counts.keys() == law.keys()
    assert chi_square(counts, law) < 43.8  # 19 degrees of freedom, 0.999


def test_random_of_the_whole_pool_is_a_permutation_of_the_seed():
    a, b, c = (
        random(n_pool=50, n=50, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)
    )
    assert sorted(a.tolist()) == list(range(50))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
