"""Scores by blocks against whole tensors, by other formulas where there are any."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dal.functional import blocks
from dal.functional.blocks import block_elements, score_rows
from dal.functional.information import entropy as entropy_of_logs
from dal.functional.information import mean_log_probs, mutual_information
from dal.strategies.bald import bald
from dal.strategies.entropy import entropy
from dal.strategies.least_confidence import least_confidence
from dal.strategies.margin import margin
from dal.strategies.mean_std import mean_std
from dal.strategies.qbc_consensus_kl import qbc_consensus_kl
from dal.strategies.qbc_vote_entropy import qbc_vote_entropy
from dal.strategies.variation_ratios import variation_ratios
from dal.strategies.variation_ratios_mean import variation_ratios_mean

BY_PROBS = [entropy, margin, least_confidence]
BY_SAMPLES = [
    bald, mean_std, qbc_consensus_kl, qbc_vote_entropy, variation_ratios, variation_ratios_mean,
]  # fmt: skip


@pytest.fixture
def narrow(monkeypatch):
    """Blocks of a few rows, the last of them partly filled."""
    monkeypatch.setattr(blocks, "ELEMENTS", {"cpu": 64})


def logits(seed, *shape, dtype=torch.float64):
    """From flat rows to certain ones, in which all but one probability is 0."""
    rng = torch.Generator().manual_seed(seed)
    scale = torch.tensor([0.0, 1e-6, 1.0, 30.0, 1e4], dtype=torch.float64).repeat(shape[0])
    scale = scale[: shape[0]].view(-1, *[1] * (len(shape) - 1))
    return (scale * torch.randn(*shape, generator=rng, dtype=torch.float64)).to(dtype)


def topk_margin(probs):
    first, second = probs.topk(2, dim=1).values.unbind(1)
    return second - first


def whole_bald(log_probs):
    """From log-sum-exp and sums over the whole tensor."""
    return entropy_of_logs(mean_log_probs(log_probs)) - entropy_of_logs(log_probs).mean(1)


def refusal(score, **inputs):
    with pytest.raises(ValueError, match="must not hold NaN") as caught:
        score(**inputs)
    return str(caught.value)


def test_blocks_hold_as_many_rows_as_fit_and_at_least_one(monkeypatch):
    monkeypatch.setattr(blocks, "ELEMENTS", {"cpu": 12})
    for width, sizes in ((4, [3, 3, 1]), (12, [1] * 7), (99, [1] * 7), (1, [7])):
        seen = []

        def score(block, buffer, seen=seen):
            seen.append(len(block))
            assert buffer.shape == block.shape
            return buffer.copy_(block).sum(1)

        values = torch.arange(7.0 * width).view(7, width)
        assert torch.equal(score_rows(score, values, buffers=1), values.sum(1))
        assert seen == sizes


def test_every_device_has_a_block_size():
    assert block_elements(torch.device("cuda", 1)) > block_elements(torch.device("cpu"))
    assert block_elements(torch.device("meta")) == block_elements(torch.device("cpu"))


@given(
    rows=st.integers(0, 40), classes=st.integers(2, 130), levels=st.integers(1, 4),
    seed=st.integers(0, 99), single=st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_margin_is_that_of_topk_bit_for_bit(rows, classes, levels, seed, single):
    rng = torch.Generator().manual_seed(seed)
    few = torch.tensor([0.0, -0.0, 0.25, -torch.inf], dtype=torch.float64)[:levels]  # ties
    chosen = torch.randint(levels, (rows, classes), generator=rng)
    for values in (few[chosen], logits(seed, rows, classes).softmax(1) if rows else few[chosen]):
        probs = values.float() if single else values
        torch.testing.assert_close(
            margin(probs=probs), topk_margin(probs), rtol=0, atol=0, equal_nan=True
        )


@pytest.mark.parametrize("classes", [2, 3, 4, 5, 7, 8, 9, 15, 17, 100, 1000])
def test_margin_finds_both_best_classes_wherever_they_stand(classes):
    for first in range(min(classes, 20)):
        probs = torch.zeros(classes, classes)
        probs[:, first] = 0.5
        probs[range(classes), range(classes)] += 0.25
        expected = torch.full((classes,), -0.25)
        expected[first] = -0.75
        assert torch.equal(margin(probs=probs), expected)
        assert torch.equal(margin(probs=probs - 2), expected)  # of any numbers


@given(
    rows=st.integers(1, 40), classes=st.integers(2, 60), samples=st.integers(2, 9),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_entropy_and_bald_by_blocks_are_those_of_whole_tensors(rows, classes, samples, seed):
    probs = logits(seed, rows, classes).softmax(1)
    log_probs = logits(seed, rows, samples, classes).log_softmax(2)
    close = torch.testing.assert_close
    close(entropy(probs=probs), torch.special.entr(probs).sum(1), rtol=0, atol=1e-12)
    close(bald(log_probs=log_probs), whole_bald(log_probs), rtol=0, atol=1e-12)
    single = probs.float()
    close(
        entropy(probs=single).double(),
        torch.special.entr(single.double()).sum(1),
        rtol=0,
        atol=2e-6,
    )
    single = log_probs.float()
    close(bald(log_probs=single).double(), whole_bald(single.double()), rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("score", BY_PROBS + BY_SAMPLES)
def test_a_score_does_not_depend_on_the_blocks(score, dtype, monkeypatch):
    name, shape = ("probs", (600, 7)) if score in BY_PROBS else ("log_probs", (600, 5, 7))
    values = logits(0, *shape, dtype=dtype).log_softmax(-1)
    values = values.exp() if score in BY_PROBS else values
    expected = score(**{name: values})
    assert expected.dtype == dtype
    for size in (1, 64, 1000):
        monkeypatch.setattr(blocks, "ELEMENTS", {"cpu": size})
        atol = 8 * torch.finfo(dtype).eps
        torch.testing.assert_close(score(**{name: values}), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("score", BY_PROBS)
def test_nan_in_any_block_of_probabilities_is_refused(score, narrow):
    for row, column in ((0, 0), (17, 6), (39, 3)):
        probs = logits(1, 40, 7).softmax(1)
        probs[row, column] = math.nan
        assert refusal(score, probs=probs) == "probs must not hold NaN, got 1 of them"


@pytest.mark.parametrize("score", BY_SAMPLES)
def test_nan_in_any_block_of_samples_is_refused(score, narrow):
    for row, column in ((0, 0), (17, 6), (39, 3)):
        log_probs = logits(1, 40, 5, 7).log_softmax(2)
        log_probs[row, 4, column] = math.nan
        assert refusal(score, log_probs=log_probs) == "log_probs must not hold NaN, got 1 of them"
        log_probs[row] = math.nan
        assert refusal(score, log_probs=log_probs) == "log_probs must not hold NaN, got 35 of them"


def test_scores_of_no_rows_are_none():
    assert entropy(probs=torch.empty(0, 3)).shape == (0,)
    assert margin(probs=torch.empty(0, 3)).shape == (0,)
    assert bald(log_probs=torch.empty(0, 2, 3)).shape == (0,)


def test_inputs_stay_as_they_are_and_may_be_views_or_want_gradients(narrow):
    probs = logits(2, 40, 14).softmax(1)
    log_probs = logits(2, 40, 10, 7).log_softmax(2)
    kept = probs.clone(), log_probs.clone()
    halves, samples = probs[:, ::2], log_probs[:, ::2].transpose(0, 1).contiguous().transpose(0, 1)
    for view in (halves, halves.clone().requires_grad_()):
        for score in BY_PROBS:
            torch.testing.assert_close(score(probs=view), score(probs=halves.contiguous()))
    for view in (samples, samples.clone().requires_grad_()):
        for score in BY_SAMPLES:
            whole = score(log_probs=samples.contiguous())
            torch.testing.assert_close(score(log_probs=view), whole)
    assert torch.equal(probs, kept[0])
    assert torch.equal(log_probs, kept[1])


def test_information_keeps_leading_dimensions(narrow):
    log_probs = logits(3, 60, 4, 5).log_softmax(2)
    expected = mutual_information(log_probs)
    assert torch.equal(mutual_information(log_probs.view(3, 20, 4, 5)), expected.view(3, 20))
    assert torch.equal(mutual_information(log_probs[7]), expected[7])


def test_scores_are_computed_where_the_inputs_are(device):
    log_probs = logits(4, 300, 6, 9, dtype=torch.float32).log_softmax(2)
    probs = log_probs.exp().mean(1)
    for score in BY_PROBS:
        got = score(probs=probs.to(device))
        assert got.device.type == device
        torch.testing.assert_close(got.cpu(), score(probs=probs), rtol=0, atol=2e-6)
    for score in BY_SAMPLES:
        got = score(log_probs=log_probs.to(device))
        assert got.device.type == device
        torch.testing.assert_close(got.cpu(), score(log_probs=log_probs), rtol=0, atol=2e-6)
