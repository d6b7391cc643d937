"""The target set: where its inputs come from, and how a strategy gets its predictions."""

from functools import partial

import kit
import numpy as np
import pytest
import torch
from toys import ask, dropout_net

from dal.data.data import Data, Normalise, TensorRows
from dal.data.datamodule import ActiveDataModule
from dal.data.tensors import tensors
from dal.posteriors.ensemble import Ensemble
from dal.posteriors.mc_dropout import MCDropout
from dal.strategies.epig import epig
from dal.strategies.mixture import mixture
from dal.strategies.random import random

SOURCES = ["pool", "test", "given"]
OFFSETS = {"pool": 0, "test": 1000, "given": 2000}
every = pytest.mark.parametrize("source", SOURCES)


def numbered(*, train=30, test=20, given=25, kind=None):
    """Train rows hold 0, 1, ..., test rows 1000, 1001, ..., given target inputs 2000, ..."""
    kind = kind or kit.SpyRows

    def column(start, count):
        return torch.arange(start, start + count).float().unsqueeze(1)

    return Data(
        kind(column(0, train), torch.arange(train) % 2),
        kind(column(1000, test), torch.arange(test) % 2),
        ("a", "b"),
        Normalise(),
        target=None if given is None else column(2000, given),
    )


def targets_of(data):
    """Inputs of the target set, and the sizes of its batches."""
    batches = list(data.target_dataloader())
    assert all(isinstance(batch, torch.Tensor) for batch in batches)  # no labels
    return torch.cat(batches).flatten().long().tolist(), [len(batch) for batch in batches]


# Its rows


@every
def test_the_target_set_comes_from_where_it_was_asked_for(source):
    data = ActiveDataModule(numbered(), initial_size=4, target=source)
    rows, _ = targets_of(data)
    whole = {"pool": data.pool.unlabelled.tolist(), "test": range(20), "given": range(25)}
    assert sorted(rows) == [OFFSETS[source] + row for row in whole[source]]


@every
def test_it_is_drawn_without_replacement_and_capped(source):
    whole, _ = targets_of(ActiveDataModule(numbered(), initial_size=4, target=source))
    for size in (1, 7, 19):
        data = ActiveDataModule(numbered(), initial_size=4, target=source, target_size=size)
        rows, _ = targets_of(data)
        assert len(rows) == len(set(rows)) == size
        assert set(rows) <= set(whole)
        assert rows != sorted(whole)[:size]


@every
def test_it_is_drawn_anew_each_round_and_by_the_seed(source):
    def drawn(seed=0, rounds=0):
        data = ActiveDataModule(numbered(), initial=[0, 1], target=source, target_size=9, seed=seed)
        for _ in range(rounds):
            data.label([])  # a round that buys nothing: the pool is the same
        return targets_of(data)[0]

    assert drawn() == drawn()
    assert set(drawn()) != set(drawn(rounds=1)) != set(drawn(rounds=2))
    assert set(drawn()) != set(drawn(seed=1))


def test_bought_and_held_out_rows_are_no_targets_of_the_pool():
    data = ActiveDataModule(numbered(), initial_size=4, val_size=5)
    while data.pool.n_unlabelled > 3:
        rows, _ = targets_of(data)
        assert sorted(rows) == data.pool.unlabelled.tolist()
        data.label(data.deal()[:6])


def test_a_pool_subset_bounds_the_candidates_and_not_the_targets():
    data = ActiveDataModule(numbered(), initial_size=4, pool_subset=3)
    data.deal()
    assert len(targets_of(data)[0]) == 26


def test_dealing_the_pool_does_not_change_the_targets():
    data = ActiveDataModule(numbered(), initial_size=4, target_size=9)
    before = targets_of(data)
    data.deal()
    assert targets_of(data) == before


@every
def test_it_is_read_by_the_batch(source):
    data = ActiveDataModule(
        numbered(), initial_size=4, target=source, target_size=18, eval_batch_size=7
    )
    assert targets_of(data)[1] == [7, 7, 4]


@every
def test_it_is_normalised_and_not_augmented(source):
    def refuse(image):
        raise AssertionError("augmented")

    plain = numbered()
    data = Data(
        plain.train, plain.test, plain.classes, Normalise(2.0, (3.0,), (5.0,)), refuse, plain.target
    )
    data = ActiveDataModule(data, initial_size=4, target=source)
    inputs = torch.cat(list(data.target_dataloader())).flatten()
    raw = inputs * 5.0 * 2.0 + 3.0 * 2.0
    start = OFFSETS[source]
    assert all(start <= round(value) < start + 30 for value in raw.tolist())


@every
def test_no_label_is_read(source):
    dataset = numbered(kind=kit.GuardedRows)
    data = ActiveDataModule(dataset, initial_size=4, target=source, target_size=9)
    dataset.train.sealed = dataset.test.sealed = True
    targets_of(data)
    asked = ask(epig, 3, data, dropout_net_of(1, 2), MCDropout(3))
    assert len(asked.indices) == 3


def dropout_net_of(width, classes):
    model = dropout_net(classes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model[0] = torch.nn.Linear(width, 16)
    return model


# What is refused


@pytest.mark.parametrize("given", [None, 0], ids=["none", "empty"])
def test_given_targets_need_a_data_set_that_brings_them(given):
    with pytest.raises(ValueError, match=r"target=given needs a dataset that brings") as error:
        ActiveDataModule(numbered(given=given), initial_size=4, target="given")
    assert "\n" not in str(error.value)
    ActiveDataModule(numbered(given=given), initial_size=4, target="test")


@pytest.mark.parametrize("source", ["train", "", None, "Pool"])
def test_another_source_is_refused(source):
    with pytest.raises(ValueError, match=f"target must be pool, test or given, got {source!r}"):
        ActiveDataModule(numbered(), target=source)


@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_a_target_size_below_1_is_refused(size):
    with pytest.raises(ValueError, match="target_size must be a whole number of at least 1"):
        ActiveDataModule(numbered(), target_size=size)


def test_given_targets_of_another_shape_than_the_inputs_are_refused():
    plain = numbered()
    with pytest.raises(ValueError, match=r"target.*shape|shape.*target"):
        Data(plain.train, plain.test, plain.classes, Normalise(), target=torch.zeros(5, 3))


def test_an_empty_pool_has_no_targets_and_says_what_to_use():
    data = ActiveDataModule(numbered(), initial=range(30))
    with pytest.raises(ValueError, match="the target set is empty, as the pool is; use target="):
        data.target_dataloader()
    for source in ("test", "given"):
        other = ActiveDataModule(numbered(), initial=range(30), target=source)
        assert len(targets_of(other)[0]) in {20, 25}


# Target inputs from a file


@pytest.mark.parametrize("kind", ["npz", "pt"])
def test_a_file_of_tensors_brings_target_inputs(tmp_path, kind):
    arrays = {
        "inputs": torch.rand(20, 3),
        "targets": torch.arange(20) % 2,
        "target_inputs": torch.arange(15).float().view(5, 3),
    }
    path = tmp_path / f"file.{kind}"
    if kind == "npz":
        np.savez(path, **{name: value.numpy() for name, value in arrays.items()})
    else:
        torch.save(arrays, path)
    dataset = tensors(path)
    assert torch.equal(dataset.target, arrays["target_inputs"])
    data = ActiveDataModule(dataset, initial_size=4, target="given")
    rows = torch.cat(list(data.target_dataloader()))
    assert torch.equal(rows[rows[:, 0].argsort()], arrays["target_inputs"])


def test_a_file_without_target_inputs_brings_none(tmp_path):
    torch.save({"inputs": torch.rand(20, 3), "targets": torch.arange(20) % 2}, tmp_path / "a.pt")
    assert tensors(tmp_path / "a.pt").target is None


def test_target_images_are_normalised_like_the_others(tmp_path):
    images = torch.randint(0, 256, (20, 1, 2, 2), dtype=torch.uint8)
    arrays = {"inputs": images, "targets": torch.arange(20) % 2, "target_inputs": images[:3]}
    torch.save(arrays, tmp_path / "images.pt")
    dataset = tensors(tmp_path / "images.pt")
    data = ActiveDataModule(dataset, initial_size=4, target="given", target_size=3)
    (batch,) = data.target_dataloader()
    expected = dataset.normalise(images[:3])
    assert torch.equal(batch.sort(dim=0).values, expected.sort(dim=0).values)


# What a strategy gets


@every
def test_the_predictions_on_the_targets_have_their_rows_samples_and_classes(toy, source):
    data = toy(target=source, target_size=9) if source != "given" else given_toy(toy, 9)
    seen = {}

    def spy(*, target_log_probs, n):
        seen["target"] = target_log_probs
        return torch.arange(n)

    model = dropout_net()
    ask(spy, 2, data, model, MCDropout(5))
    assert seen["target"].shape == (9, 5, 3)
    torch.testing.assert_close(seen["target"].exp().sum(-1), torch.ones(9, 5))


def given_toy(toy, size):
    plain = toy().data
    dataset = Data(
        plain.train,
        plain.test,
        plain.classes,
        plain.normalise,
        target=torch.randn(12, 4, generator=torch.Generator().manual_seed(0)),
    )
    return ActiveDataModule(dataset, initial_size=10, target="given", target_size=size)


@every
def test_the_targets_share_the_samples_with_the_pool_and_the_labelled_rows(toy, source):
    plain = toy().data
    ones = {"train": (240, 4), "test": (60, 4)}
    parts = {
        name: TensorRows(torch.ones(shape), getattr(plain, name).targets)
        for name, shape in ones.items()
    }
    dataset = Data(**parts, classes=plain.classes, normalise=Normalise(), target=torch.ones(8, 4))
    data = ActiveDataModule(dataset, initial_size=10, target=source, eval_batch_size=64)
    seen = {}

    def spy(*, log_probs, labelled_log_probs, target_log_probs, n):
        seen.update(pool=log_probs, labelled=labelled_log_probs, target=target_log_probs)
        return torch.arange(n)

    ask(spy, 1, data, dropout_net(), MCDropout(5))
    target = seen["target"]
    assert not torch.allclose(target[0, 0], target[0, 1])
    for rows in (seen["pool"], seen["labelled"], target):
        for row in (rows[0], rows[-1]):
            torch.testing.assert_close(row, target[0], atol=1e-6, rtol=0)


def test_the_predictions_are_those_on_the_rows_of_the_target_set(toy):
    data, model, seen = toy(target="test", target_size=9), dropout_net(), {}

    def spy(*, target_log_probs, n):
        seen["target"] = target_log_probs
        return torch.arange(n)

    ask(spy, 1, data, model)
    model.eval()
    with torch.no_grad():
        expected = model(torch.cat(list(data.target_dataloader()))).log_softmax(1)
    torch.testing.assert_close(seen["target"][:, 0], expected)


def test_a_score_sees_all_targets_with_every_batch_of_the_pool(toy):
    shapes = []

    def score(*, log_probs, target_log_probs):
        shapes.append((len(log_probs), len(target_log_probs)))
        return log_probs[:, 0, 0]

    ask(score, 2, toy(target_size=30), dropout_net(), MCDropout(3))
    assert shapes == [(64, 30), (64, 30), (64, 30), (38, 30)]


def test_the_targets_are_read_only_for_a_strategy_that_names_them():
    data = ActiveDataModule(numbered(), initial_size=4, target="test")

    def score(*, probs):
        return probs[:, 0]

    model = dropout_net_of(1, 2)
    data.data.test.read.clear()  # of its shape
    ask(score, 2, data, model)
    assert data.data.test.read == []
    ask(epig, 2, data, model, MCDropout(3))
    assert sorted(data.data.test.read) == list(range(20))


def test_a_target_set_of_the_pool_does_not_count_as_progress(toy):
    seen = []
    ask(
        epig, 2, toy(target_size=100), dropout_net(), MCDropout(3),
        on_batch=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(64, 230), (128, 230), (192, 230), (230, 230)]


def test_epig_chooses_the_best_scores_on_the_targets(toy):
    data, model, seen = toy(target="test", target_size=20), dropout_net(), {}

    def spy(*, log_probs, target_log_probs, n):
        seen["scores"] = epig(log_probs=log_probs, target_log_probs=target_log_probs)
        return torch.arange(n)

    ask(spy, 1, data, model, MCDropout(5))
    asked = ask(epig, 4, data, model, MCDropout(5))
    best = seen["scores"].argsort(descending=True)[:4]
    assert torch.equal(asked.indices, data.pool.dealt[best])
    torch.testing.assert_close(asked.scores, seen["scores"][best])


def test_an_empty_pool_asks_for_no_targets():
    data = ActiveDataModule(numbered(), initial=range(30))
    assert ask(epig, 3, data, dropout_net_of(1, 2), MCDropout(3)).indices.tolist() == []


# Whole runs


@every
def test_epig_runs_for_two_rounds(toy, run, source):
    data = given_toy(toy, 12) if source == "given" else toy(target=source, target_size=12)
    data.steps = 5
    records = run(data, strategy=epig, rounds=2)
    assert [len(record["acquired"]) for record in records] == [4, 4, 0]
    assert data.n_labelled == 18 == len(data.pool.labelled.unique())
    assert all(score >= 0 for record in records[:2] for score in record["scores"])


def test_two_runs_of_epig_are_equal_and_the_target_set_matters(module, run):
    def bought(**options):
        return kit.timeless(run(module(**options), strategy=epig, rounds=1))

    assert bought() == bought()
    assert bought()[0]["scores"] != bought(target="test")[0]["scores"]


def test_epig_works_with_an_ensemble_and_in_a_mixture(module, run):
    strategy = partial(mixture, strategies={"a": epig, "b": random})
    records = run(module(target_size=9), strategy=strategy, posterior=Ensemble(2), rounds=1)
    assert len(set(records[0]["acquired"])) == 4
