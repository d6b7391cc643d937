"""BatchBALD against closed forms, sums over all outcomes, and batchbald_redux."""

import logging
import math
from collections import Counter
from functools import partial
from importlib import import_module
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dal.functional import blocks, joint_entropy
from dal.functional.joint_entropy import JointLabels, greedy_joint_information, joint_information
from dal.strategies.bald import bald
from dal.strategies.batch_bald import batch_bald

LN2 = math.log(2)
SPLIT, EVEN = [[1, 0], [0, 1]], [[0.5, 0.5], [0.5, 0.5]]
A = [SPLIT, SPLIT, EVEN]
B = [[[1, 0], [1, 0], [0, 1], [0, 1]], [[1, 0], [0, 1], [1, 0], [0, 1]]]
C = [
    [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]],
    [[0.7, 0.3], [0.5, 0.5], [0.1, 0.9]],
    [[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]],
]
D = [B[0], B[0], [[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [0.1, 0.9]]]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def logs(probs):
    return torch.tensor(probs, dtype=torch.float64).log()


def random_samples(items, samples, classes, seed=0, scale=2.0):
    logits = torch.randn(items, samples, classes, generator=rng(seed), dtype=torch.float64)
    return (scale * logits).log_softmax(2)


def choose(log_probs, n, seed=0, **options):
    return batch_bald(log_probs=log_probs, n=n, generator=rng(seed), **options).tolist()


def greedy(log_probs, n, seed=0, *, configurations=10_000, slack=0.0):
    positions, gains = greedy_joint_information(
        log_probs, n, rng(seed), configurations=configurations, slack=slack
    )
    return positions.tolist(), gains


def information(log_probs, *items, **options):
    return joint_information(log_probs[list(items)], rng(), **options).item()


def entropy(masses):
    return -math.fsum(p * math.log(p) for p in masses if p > 0)


def summed_information(probs):
    """H(y_1, ..., y_B) - mean_k Σ_i H(p_k(y_i)) by a sum over all outcomes of lists [B][K][C]."""
    samples = range(len(probs[0]))
    outcomes = product(*(range(len(item[0])) for item in probs))
    joint = [
        math.fsum(
            math.prod(item[k][y] for item, y in zip(probs, outcome, strict=True)) for k in samples
        )
        / len(samples)
        for outcome in outcomes
    ]
    within = math.fsum(entropy(item[k]) for item in probs for k in samples) / len(samples)
    return entropy(joint) - within


def summed_greedy(probs, n):
    chosen, values = [], []
    for _ in range(n):
        value_of = {
            i: summed_information([probs[j] for j in [*chosen, i]])
            for i in range(len(probs))
            if i not in chosen
        }
        best = max(value_of, key=value_of.get)
        chosen.append(best)
        values.append(value_of[best])
    return chosen, values


@pytest.mark.parametrize(
    ("probs", "items", "expected"),
    [
        (A, [0], LN2),
        (A, [0, 1], LN2),
        (A, [2], 0.0),
        (B, [0, 1], 2 * LN2),
        (C, [0, 1], 0.282967301103),
        (C, [0, 2], 0.355576084989),
        (C, [1, 2], 0.319058197498),
        (C, [0, 1, 2], 0.447242811010),
        (D, [0, 1], LN2),
        (D, [0, 2], 1.061211387728),
        (D, [0, 1, 2], 1.061211387728),
    ],
)
def test_joint_information_has_its_known_values(probs, items, expected):
    assert information(logs(probs), *items) == pytest.approx(expected, abs=1e-10)
    single = information(logs(probs).float(), *items)
    assert single == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("probs", "expected"), [(A, [0, 1, 2]), (B, [0, 1]), (C, [0, 2, 1]), (D, [0, 2, 1])]
)
def test_the_greedy_order_of_the_known_cases(probs, expected):
    assert choose(logs(probs), len(expected)) == expected


@pytest.mark.parametrize("seed", range(6))
def test_joint_information_agrees_with_a_sum_over_all_outcomes(seed):
    log_probs = random_samples(5, samples=4, classes=3, seed=seed)
    if seed % 2:
        log_probs[1] = logs([[0, 1, 0]] * 2 + [[0.5, 0.5, 0]] * 2)
    expected = summed_information(log_probs.exp().tolist())
    assert information(log_probs, *range(5)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_picks_and_gains_agree_with_greedy_sums_over_all_outcomes(seed):
    log_probs = random_samples(9, samples=6, classes=2 + seed % 2, seed=seed)
    chosen, values = summed_greedy(log_probs.exp().tolist(), 5)
    positions, gains = greedy(log_probs, 5)
    assert positions == chosen
    torch.testing.assert_close(gains.cumsum(0).tolist(), values, rtol=0, atol=1e-12)
    assert choose(log_probs.float(), 5) == chosen


def test_one_pick_is_the_best_of_bald_with_its_score():
    for seed in range(5):
        log_probs = random_samples(50, samples=4, classes=3, seed=seed)
        scores = bald(log_probs=log_probs)
        positions, gains = greedy(log_probs, 1)
        assert positions == choose(log_probs, 1) == [scores.argmax().item()]
        assert gains.item() == scores.max().item()
        single = information(log_probs, 7)
        assert single == pytest.approx(scores[7].item(), abs=1e-12)


def test_a_duplicate_adds_nothing_only_if_every_sample_is_certain_of_it():
    certain, noisy = logs([SPLIT, SPLIT]), logs([C[0], C[0]])
    assert information(certain, 0, 1) == pytest.approx(information(certain, 0), abs=1e-12)
    assert information(noisy, 0, 1) > information(noisy, 0) + 0.05
    assert information(noisy, 0, 1) < 2 * information(noisy, 0)


def test_information_rises_with_the_batch_up_to_ln_k_and_the_sum_of_bald():
    for seed in range(5):
        log_probs = random_samples(6, samples=3, classes=3, seed=seed, scale=3.0)
        values = [information(log_probs, *range(count)) for count in range(7)]
        assert values[0] == 0
        assert values == sorted(values)
        assert values[6] <= min(math.log(3), bald(log_probs=log_probs).sum().item()) + 1e-12


def test_the_order_of_samples_and_classes_does_not_matter():
    log_probs = random_samples(20, samples=5, classes=4)
    chosen = choose(log_probs, 4)
    assert choose(log_probs[:, torch.randperm(5, generator=rng(1))], 4) == chosen
    assert choose(log_probs[:, :, torch.randperm(4, generator=rng(2))], 4) == chosen


def test_drawn_configurations_have_the_law_of_the_labels():
    log_probs = random_samples(2, samples=3, classes=2)
    listed = JointLabels(log_probs, 100, rng())
    drawn = JointLabels(log_probs, 3 * 4000, rng())
    drawn._start_drawing(3)
    for item in log_probs:
        listed.add(item)
        drawn._draw(item.exp())
    assert listed.exact
    assert not drawn.exact
    distances = (drawn.given.unsqueeze(1) - listed.given).abs().amax(2)  # [drawn, listed]
    assert distances.amin(1).max() < 1e-12  # each row is the posterior of some configuration
    counts = Counter(distances.argmin(1).tolist())
    expected = {m: 12_000 * share for m, share in enumerate(listed.shares.tolist())}
    assert sum((counts[m] - e) ** 2 / e for m, e in expected.items()) < 16.3  # 3 degrees, 0.999


def test_information_from_drawn_labels_agrees_with_that_from_all():
    log_probs = random_samples(6, samples=5, classes=3, scale=1.0)
    exact = joint_information(log_probs, rng())
    drawn = torch.stack(
        [joint_information(log_probs, rng(seed), configurations=60) for seed in range(300)]
    )
    error = drawn.std() / 300**0.5
    assert 0 < error < 0.004
    assert (drawn.mean() - exact).abs() < 4 * error


def test_labels_are_listed_while_they_fit_and_drawn_from_each_sample_afterwards():
    log_probs = random_samples(3, samples=4, classes=3)
    joint = JointLabels(log_probs, 26, rng())
    shapes = []
    for item in log_probs:
        joint.add(item)
        shapes.append((joint.exact, len(joint.given), joint.shares.sum().item()))
    assert [shape[:2] for shape in shapes] == [(True, 3), (True, 9), (False, 24)]
    assert [shape[2] for shape in shapes] == pytest.approx([1, 1, 1], abs=1e-12)
    few = JointLabels(log_probs, 1, rng())
    few.add(log_probs[0])
    assert few.given.shape == (4, 4)  # at least one from each sample


def test_impossible_labels_take_no_place_in_the_list():
    certain = logs([B[0]] * 20)
    joint = JointLabels(certain, 4, rng())
    for item in certain:
        joint.add(item)
    assert joint.exact
    assert joint.shares.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    "options", [{"configurations": 4096, "n": 5}, {"configurations": 10_000, "n": 8}]
)
@pytest.mark.parametrize("seed", range(2))
def test_bounds_change_no_pick_and_save_evaluations(monkeypatch, options, seed):
    log_probs = random_samples(1500, samples=20, classes=5, seed=seed, scale=1.0)
    evaluated = []
    plain = JointLabels.conditional_entropy

    def counting(self, items):
        evaluated.append(len(items))
        return plain(self, items)

    monkeypatch.setattr(JointLabels, "conditional_entropy", counting)
    lazy = choose(log_probs, seed=seed, **options)
    count, evaluated[:] = sum(evaluated), []
    monkeypatch.setattr(joint_entropy, "MERGED", 10**9)  # no ceilings
    full = choose(log_probs, seed=seed, slack=1.0, **options)
    assert lazy == full
    drawn = sum(5 ** (i + 1) > options["configurations"] for i in range(options["n"] - 1))
    assert sum(evaluated) >= drawn * (1500 - options["n"])
    assert 0 < count < 0.4 * (options["n"] - 1) * 1500


@given(
    rows=st.integers(1, 40),
    merged=st.sampled_from([1, 3, 1024]),
    samples=st.integers(2, 6),
    classes=st.integers(2, 4),
    scale=st.sampled_from([0.0, 1.0, 1e4]),
    doubled=st.booleans(),
    seed=st.integers(0, 999),
)
@settings(deadline=None, max_examples=60)
def test_no_item_that_bounds_left_out_would_have_added_more(
    *, rows, merged, samples, classes, scale, doubled, seed
):
    log_probs = random_samples(rows, samples=samples, classes=classes, seed=seed, scale=scale)
    log_probs = log_probs.repeat(2, 1, 1) if doubled else log_probs  # scale 0: all alike
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joint_entropy, "MERGED", merged)
        positions, gains = greedy_joint_information(
            log_probs, min(4, len(log_probs)), rng(), configurations=10_000, slack=0.0
        )
    joint, free = JointLabels(log_probs, 10_000, rng()), set(range(len(log_probs)))
    alone = joint_entropy.entropy(log_probs).mean(1)
    for position, gain in zip(positions.tolist(), gains.tolist(), strict=True):
        added = joint.conditional_entropy(log_probs) - alone
        assert gain == pytest.approx(max(added[i].item() for i in free), abs=1e-9)
        assert gain == pytest.approx(added[position].item(), abs=1e-9)
        free.remove(position)
        joint.add(log_probs[position])


@pytest.mark.parametrize("scale", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("merged", [1, 8, 100])
def test_merged_configurations_give_a_ceiling(monkeypatch, scale, merged):
    monkeypatch.setattr(joint_entropy, "MERGED", merged)
    log_probs = random_samples(50, samples=7, classes=3, scale=scale)
    for configurations in (2187, 100):  # listed, drawn
        joint = JointLabels(log_probs, configurations, rng())
        for item in log_probs[:6]:
            joint.add(item)
            exact, ceiling = joint.conditional_entropy(log_probs), joint.entropy_ceiling(log_probs)
            assert (ceiling >= exact - 1e-12).all()
            if len(joint.given) <= merged:
                torch.testing.assert_close(ceiling, exact, rtol=0, atol=1e-9)


def test_tiles_and_blocks_change_no_result(monkeypatch):
    log_probs = random_samples(300, samples=6, classes=3, scale=1.0)
    run = partial(greedy, log_probs, 8, configurations=500, slack=0.05)
    positions, gains = run()
    for module, name, value in (
        (joint_entropy, "CONFIGURATIONS", 7), (blocks, "ELEMENTS", {"cpu": 64}),
        (joint_entropy, "BLOCK", 1), (joint_entropy, "BLOCK", 299), (joint_entropy, "MERGED", 20),
        (joint_entropy, "CEILINGS", 7),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
        other, other_gains = run()
        assert other == positions
        torch.testing.assert_close(other_gains, gains, rtol=0, atol=1e-12)


def test_few_configurations_still_choose_almost_the_best_batch():
    log_probs = random_samples(60, samples=10, classes=4, scale=1.0)
    exact = joint_information(log_probs[greedy(log_probs, 5)[0]], rng())
    drawn = joint_information(log_probs[greedy(log_probs, 5, configurations=1000)[0]], rng())
    assert drawn > 0.98 * exact


def test_a_batch_is_never_cut_short_and_equal_items_are_taken_in_order():
    pool = logs([EVEN, EVEN, SPLIT, EVEN, SPLIT])
    assert choose(pool, 5) == [2, 0, 1, 3, 4]
    assert choose(logs([SPLIT] * 6), 6) == list(range(6))
    assert choose(logs([EVEN] * 6).float(), 4) == list(range(4))
    assert choose(random_samples(1, samples=3, classes=3).expand(700, -1, -1), 5) == list(range(5))


def test_drawn_labels_of_certain_samples_give_no_nan():
    probs = torch.eye(3, dtype=torch.float64)[torch.arange(40).view(10, 4) * 7 % 3]
    for dtype in (torch.float32, torch.float64):
        positions, gains = greedy(probs.to(dtype).log(), 10, configurations=2)
        assert sorted(positions) == list(range(10))
        assert gains.isfinite().all()
        assert gains.sum() <= math.log(4) + 1e-5


def test_a_label_that_rounding_had_ruled_out_leaves_the_weights_as_they_are():
    joint = JointLabels(logs([SPLIT]), 2, rng())
    joint.add(logs(SPLIT))
    joint._start_drawing(2)
    joint.given = torch.tensor([[0, 1], [0, 1]], dtype=torch.float64)
    joint.add(logs(SPLIT))
    assert joint.given.tolist() == [[0, 1], [0, 1]]


def test_saturation_before_the_last_pick_is_one_line_of_the_log(caplog):
    with caplog.at_level(logging.INFO):
        choose(logs(B), 2)  # the cap is reached by the last pick
        choose(random_samples(30, samples=50, classes=3), 2)
        assert not caplog.records
        choose(logs([*B, *B]), 4)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("dal.strategies.batch_bald", "WARNING")
    line = record.getMessage()
    assert "after pick 2 of 4" in line
    assert "ln K = 1.39" in line
    assert "\n" not in line


def test_what_cannot_be_computed_is_refused():
    log_probs = random_samples(4, samples=3, classes=2)
    with pytest.raises(ValueError, match=r"batch_bald .*needs K >= 2 .*got K = 1"):
        choose(log_probs[:, :1], 1)
    with pytest.raises(ValueError, match=r"configurations must .*got 0"):
        choose(log_probs, 1, configurations=0)
    for slack in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"slack must .*got"):
            choose(log_probs, 1, slack=slack)


def test_picks_and_scores_agree_with_batchbald_redux():
    """It keeps the joint table of the paper, and draws labels for its seventh pick."""
    reference = import_module("batchbald_redux.batchbald")
    log_probs = random_samples(200, samples=20, classes=4, scale=0.7)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = reference.get_batchbald_batch(
            log_probs, 7, 2000, dtype=torch.double, device="cpu"
        )
    positions, gains = greedy(log_probs, 7, configurations=2000)
    scores = gains.cumsum(0).tolist()
    assert positions[:6] == expected.indices[:6]
    assert scores[:6] == pytest.approx(expected.scores[:6], abs=1e-10)
    assert scores[6] == pytest.approx(expected.scores[6], abs=0.1)


def test_batchbald_redux_fails_where_samples_are_certain_and_this_does_not():
    """It multiplies 0 by log 0: NaN, which then ranks first, so that pick 0 is arbitrary."""
    reference = import_module("batchbald_redux.batchbald")
    pool = logs([EVEN, SPLIT, SPLIT])
    wrong = reference.get_batchbald_batch(pool, 1, 100, dtype=torch.double, device="cpu")
    assert math.isnan(wrong.scores[0])
    assert choose(pool, 1) == [1]
