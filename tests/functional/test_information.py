import math
from itertools import permutations

import pytest
import torch

from dal.functional.information import entropy, mean_log_probs, mutual_information

A = [[[1, 0], [0, 1]], [[1, 0], [0, 1]], [[0.5, 0.5], [0.5, 0.5]]]
B = [[[1, 0], [1, 0], [0, 1], [0, 1]], [[1, 0], [0, 1], [1, 0], [0, 1]]]
C = [
    [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]],
    [[0.7, 0.3], [0.5, 0.5], [0.1, 0.9]],
    [[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]],
]
D = [B[0], B[0], [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9]]]
LN2 = math.log(2)


def logs(probs):
    return torch.tensor(probs, dtype=torch.float64).log()


def close(actual, expected, atol=1e-10):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def random_samples(seed, items=4, samples=5, classes=3):
    """Log-probabilities [items, samples, classes], from flat ones to probabilities of 0."""
    rng = torch.Generator().manual_seed(seed)
    scale = torch.tensor([1.0, 5.0, 30.0, 400.0]).repeat(items)[:items, None, None]
    draws = torch.randn(items, samples, classes, generator=rng, dtype=torch.float64)
    return (scale * draws).log_softmax(2)


def slow_entropy(probs):
    return sum(-p * math.log(p) for p in probs if p > 0)


def slow_mean(samples):
    return [sum(column) / len(samples) for column in zip(*samples, strict=True)]


def slow_consensus_kl(samples):
    mean = slow_mean(samples)
    return sum(
        p * math.log(p / q)
        for sample in samples
        for p, q in zip(sample, mean, strict=True)
        if p > 0
    ) / len(samples)


def joint(log_probs, *items):
    """Samples [K, C^b] of the joint distribution of the labels of b items."""
    table = log_probs[items[0]]
    for item in items[1:]:
        table = (table[:, :, None] + log_probs[item][:, None, :]).flatten(1)
    return table


def test_entropy_of_a_certain_prediction_is_zero():
    for certain in ([1.0, 0.0], [0.0, 0.0, 1.0]):
        assert entropy(logs(certain)).item() == 0
        assert entropy(logs(certain).float()).item() == 0


def test_entropy_of_a_uniform_prediction_is_ln_of_the_number_of_classes():
    for classes in (2, 3, 10, 1000):
        close(entropy(logs([1 / classes] * classes)), math.log(classes))


def test_entropy_ignores_classes_of_probability_zero():
    close(entropy(logs([0.5, 0.0, 0.5, 0.0])), LN2)


def test_entropy_agrees_with_a_plain_sum():
    for seed in range(10):
        log_probs = random_samples(seed, items=8)
        expected = [[slow_entropy(p) for p in item] for item in log_probs.exp().tolist()]
        close(entropy(log_probs), expected)


def test_mean_log_probs_averages_probabilities():
    close(mean_log_probs(logs(C)).exp()[:, 0], [17 / 30, 13 / 30, 14 / 30])
    for seed in range(10):
        log_probs = random_samples(seed, items=8)
        expected = [slow_mean(item) for item in log_probs.exp().tolist()]
        close(mean_log_probs(log_probs).exp(), expected)


def test_mean_log_probs_does_not_average_logits():
    right = [0.684231765130, 0.684231765130, 0.690923309314]
    wrong = [0.673011667009, 0.668463904212, 0.684096486403]
    close(entropy(logs(C).mean(1).log_softmax(1)), wrong)
    close(entropy(mean_log_probs(logs(C))), right)


def test_mean_log_probs_of_a_class_that_no_sample_allows_is_minus_infinity():
    mean = mean_log_probs(logs([[1, 0, 0], [0.5, 0.5, 0]]))
    close(mean, [math.log(0.75), math.log(0.25), -math.inf])


def test_mean_log_probs_does_not_underflow():
    log_probs = torch.tensor([[-2000.0, 0.0], [-2000.0, 0.0]], dtype=torch.float64)
    close(mean_log_probs(log_probs), [-2000.0, 0.0])


def test_bald_of_disagreeing_certain_samples_is_ln_two():
    close(mutual_information(logs(A)), [LN2, LN2, 0])
    close(mutual_information(logs(B)), [LN2, LN2])


def test_bald_of_unequally_informative_items_has_its_known_values():
    close(mutual_information(logs(C)), [0.184732743817, 0.141200279795, 0.184712450151])
    close(mutual_information(logs(D)), [LN2, LN2, 0.368064207168])


def test_mean_entropy_of_the_samples_has_its_known_values():
    expected = [0.499499021313, 0.543031485335, 0.506210859163]
    close(entropy(logs(C)).mean(1), expected)


def test_bald_of_a_joint_label_counts_shared_information_once():
    close(mutual_information(joint(logs(A), 0, 1)), LN2)
    close(mutual_information(joint(logs(B), 0, 1)), 2 * LN2)
    close(mutual_information(joint(logs(C), 0, 1)), 0.282967301103)
    close(mutual_information(joint(logs(C), 0, 2)), 0.355576084989)
    close(mutual_information(joint(logs(C), 1, 2)), 0.319058197498)
    close(mutual_information(joint(logs(C), 0, 1, 2)), 0.447242811010)
    close(mutual_information(joint(logs(D), 0, 1)), LN2)
    close(mutual_information(joint(logs(D), 0, 1, 2)), 1.061211387728)


def test_bald_is_the_mean_divergence_from_the_consensus():
    for seed in range(10):
        log_probs = random_samples(seed, items=8)
        expected = [slow_consensus_kl(item) for item in log_probs.exp().tolist()]
        close(mutual_information(log_probs), expected)


def test_bald_of_equal_samples_is_zero_and_never_below():
    for dtype in (torch.float32, torch.float64):
        log_probs = random_samples(0, items=400, samples=1, classes=7).to(dtype)
        score = mutual_information(log_probs.expand(-1, 20, -1))
        assert (score >= 0).all()
        assert score.max() < 8 * 20 * torch.finfo(dtype).eps


@pytest.mark.parametrize(("samples", "classes"), [(2, 10), (10, 2), (4, 4)])
def test_bald_is_at_most_ln_of_the_classes_and_of_the_samples(samples, classes):
    bound = min(math.log(classes), math.log(samples))
    for seed in range(20):
        score = mutual_information(random_samples(seed, 40, samples, classes))
        assert (score >= 0).all()
        assert (score <= bound + 1e-12).all()
    one_each = torch.eye(classes, dtype=torch.float64)[torch.arange(samples) % classes].log()
    close(mutual_information(one_each), bound)


def test_bald_is_at_most_the_entropy_of_the_mean():
    for seed in range(20):
        log_probs = random_samples(seed, items=40)
        total = entropy(mean_log_probs(log_probs))
        assert (mutual_information(log_probs) <= total + 1e-12).all()


def test_bald_does_not_depend_on_the_order_of_samples_or_classes():
    log_probs = random_samples(1, samples=4)
    expected = mutual_information(log_probs)
    for order in permutations(range(4)):
        close(mutual_information(log_probs[:, order]), expected, atol=1e-12)
    for order in permutations(range(3)):
        close(mutual_information(log_probs[:, :, order]), expected, atol=1e-12)


def test_bald_follows_the_order_of_the_items():
    log_probs = random_samples(2)
    expected = mutual_information(log_probs)
    for order in permutations(range(4)):
        close(mutual_information(log_probs[list(order)]), expected[list(order)], atol=1e-12)


def test_impossible_classes_never_give_nan(device):
    for dtype in (torch.float32, torch.float64):
        certain = logs(A).to(device, dtype)
        for result in (entropy(certain), mean_log_probs(certain), mutual_information(certain)):
            assert result.device.type == device
            assert not result.isnan().any()
