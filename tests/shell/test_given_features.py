"""Features that were computed beforehand reach the strategies that take any representation."""

from functools import partial

import kit
import pytest
import torch
from torch import Tensor, nn
from toys import ask, dropout_net, largest, size

from dal.acquisition_signature import takes_given_features, wants_last_layer
from dal.callbacks.acquire import Acquire
from dal.data.datamodule import ActiveDataModule
from dal.functional.gradients import LastLayer
from dal.posteriors.mc_dropout import MCDropout
from dal.strategies.badge import badge
from dal.strategies.bald import bald
from dal.strategies.coreset import coreset
from dal.strategies.margin import margin
from dal.strategies.mixture import mixture
from dal.strategies.random import random


def numbered(rows, factor=-1.0):
    """Row i of the given features holds -i, the model's feature of row i is i."""
    return factor * torch.arange(rows).float().unsqueeze(1)


def last(*, features: LastLayer, n):
    """Select the largest of the model's own features."""
    return features[:, 0].topk(n).indices


def last_size(*, features: LastLayer):
    return features[:, 0]


def with_head(*, features, head, n):
    assert head(features).shape == (len(features), 2)
    return features[:, 0].topk(n).indices


def best(*, scores, n):
    return scores.sort(descending=True, stable=True).indices[:n]


class Refuse:
    """A posterior that must not be asked."""

    samples = 3

    def draw(self, *args):
        raise AssertionError("samples were drawn")


# What is handed over


@pytest.mark.parametrize("strategy", [largest, size])
def test_the_given_features_decide_instead_of_the_models(data, strategy):
    asked = ask(strategy, 4, data, kit.Untracked(), features=numbered(30))
    assert asked.indices.tolist() == [0, 1, 2, 4]  # 3 is labelled


def test_rows_are_handed_by_dataset_index_in_the_order_of_the_deal_and_the_purchases(data):
    seen = {}

    def spy(*, features, labelled_features, labels, n):
        seen.update(pool=features, labelled=labelled_features, labels=labels)
        return torch.arange(n)

    given = numbered(30, factor=10.0)
    for bought in ([29, 3, 12], [29, 3, 12, 17, 4]):
        ask(spy, 2, data, kit.Untracked(), features=given)
        assert seen["pool"].flatten().tolist() == [10.0 * row for row in data.pool.dealt.tolist()]
        assert seen["labelled"].flatten().tolist() == [10.0 * row for row in bought]
        assert seen["labels"].tolist() == [row % 2 for row in bought]
        if len(bought) == 3:
            data.label([17, 4])


def test_the_rows_are_right_in_every_round(data):
    bought = []
    for _ in range(3):
        indices = ask(largest, 3, data, kit.Untracked(), features=numbered(30)).indices
        data.label(indices)
        bought += indices.tolist()
    assert bought == [0, 1, 2, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("strategy", [largest, size])
def test_a_pool_subset_gets_the_rows_of_its_candidates(strategy):
    data = ActiveDataModule(kit.index_data(200), initial=[0], pool_subset=11, eval_batch_size=4)
    asked = ask(strategy, 3, data, kit.Untracked(), features=numbered(200))
    assert len(data.pool.dealt) == 11
    assert torch.equal(asked.indices, data.pool.dealt.sort().values[:3])


def test_rows_held_out_for_validation_are_skipped():
    data = ActiveDataModule(kit.index_data(), initial_size=2, val_size=9)
    asked = ask(largest, 30, data, kit.Untracked(), features=numbered(30))
    assert asked.indices.tolist() == data.pool.unlabelled.tolist()


def test_without_labelled_rows_their_features_are_empty_and_of_the_given_width():
    seen = {}

    def spy(*, features, labelled_features, n):
        seen.update(pool=features, labelled=labelled_features)
        return torch.arange(n)

    data, model = ActiveDataModule(kit.index_data(), initial_size=0), kit.Untracked()
    ask(spy, 2, data, model, features=torch.rand(30, 5))
    assert (seen["pool"].shape, seen["labelled"].shape) == ((30, 5), (0, 5))
    assert model.calls == 0


def test_the_given_features_are_not_changed(data):
    given = torch.rand(30, 4)
    before = given.clone()
    ask(partial(mixture, strategies={"a": coreset, "b": size}), 8, data, kit.Untracked(),
        features=given)  # fmt: skip
    assert torch.equal(given, before)


# What is not computed


@pytest.mark.parametrize(
    "strategy",
    [
        largest,
        size,
        coreset,
        partial(mixture, strategies={"a": coreset, "b": size, "c": random}),
    ],
    ids=["selection", "score", "with labelled rows", "mixture"],
)
def test_a_strategy_that_needs_given_features_alone_runs_no_pass(data, strategy):
    model = kit.Untracked()
    asked = ask(strategy, 5, data, model, Refuse(), features=numbered(30))
    assert (model.calls, data.data.train.read) == (0, [])
    assert len(asked.indices.unique()) == 5


def test_a_selection_over_a_score_of_given_features_runs_no_pass(data):
    model = kit.Untracked()
    asked = ask(best, 2, data, model, Refuse(), score=size, features=numbered(30))
    assert asked.indices.tolist() == [0, 1]
    assert asked.scores.tolist() == [0.0, -1.0]
    assert model.calls == 0


def test_the_scores_of_given_features_come_with_the_rows(data):
    asked = ask(size, 3, data, kit.Untracked(), features=numbered(30))
    assert asked.scores.tolist() == [0.0, -1.0, -2.0]


def test_a_score_of_probabilities_and_given_features_gets_the_rows_of_each_batch(data):
    seen = []

    def weighted(*, probs, features):
        seen.append((probs.clone(), features.clone()))
        return features[:, 0] + 0 * probs[:, 0]

    model = kit.Untracked()
    asked = ask(weighted, 3, data, model, features=numbered(30))
    assert asked.indices.tolist() == [0, 1, 2]
    assert [len(features) for _, features in seen] == [7, 7, 7, 6]
    rows = -torch.cat([features for _, features in seen]).flatten()
    assert rows.tolist() == data.pool.dealt.tolist()
    with torch.no_grad():
        logits = model(rows.unsqueeze(1))
    torch.testing.assert_close(torch.cat([probs for probs, _ in seen]), logits.softmax(1))


def test_the_labelled_rows_are_not_read_if_only_their_given_features_are_needed(data):
    def near(*, probs, labelled_features):
        return probs[:, 0] + labelled_features.sum()

    ask(near, 3, data, kit.Untracked(), features=numbered(30))
    assert data.data.train.read == data.pool.dealt.tolist()


# Strategies that want the last layer


@pytest.mark.parametrize("strategy", [last, last_size, with_head])
def test_strategies_that_want_the_last_layer_get_the_models_features(data, strategy):
    asked = ask(strategy, 3, data, kit.Untracked(), features=numbered(30))
    assert asked.indices.tolist() == [28, 27, 26]


def test_badge_chooses_the_same_with_and_without_given_features(toy):
    posterior, model = MCDropout(4), dropout_net()
    without = ask(badge, 6, toy(), model, posterior)
    given = ask(badge, 6, toy(), model, posterior, features=torch.rand(240, 3))
    assert torch.equal(given.indices, without.indices)


@pytest.mark.parametrize("wanting", [last, last_size, with_head])
@pytest.mark.parametrize("taking", [largest, size])
def test_both_kinds_of_features_serve_the_parts_of_one_mixture(data, wanting, taking):
    strategy = partial(mixture, strategies={"a": wanting, "b": taking, "c": wanting})
    model = kit.Untracked()
    asked = ask(strategy, 6, data, model, features=numbered(30))
    assert asked.indices.tolist() == [28, 27, 0, 1, 26, 25]
    assert data.data.train.read == data.pool.dealt.tolist()


def test_labelled_features_of_both_kinds_serve_one_mixture(data):
    seen = {}

    def own(*, features: LastLayer, labelled_features: LastLayer, n):
        seen.update(own=labelled_features.flatten().tolist())
        return torch.arange(n)

    def any_(*, features, labelled_features, n):
        seen.update(any=labelled_features.flatten().tolist())
        return torch.arange(n)

    strategy = partial(mixture, strategies={"a": own, "b": any_})
    for start, rows in (([29, 3, 12], [29.0, 3.0, 12.0]), ([], [])):
        data = ActiveDataModule(kit.index_data(), initial=start, eval_batch_size=7)
        ask(strategy, 4, data, kit.Untracked(), features=numbered(30))
        assert seen == {"own": rows, "any": [-row for row in rows]}


def test_a_score_of_the_last_layer_under_a_selection_on_given_features(data):
    def both(*, scores, features, n):
        assert torch.equal(scores, -features[:, 0])
        return best(scores=scores, n=n)

    asked = ask(both, 3, data, kit.Untracked(), score=last_size, features=numbered(30))
    assert asked.indices.tolist() == [28, 27, 26]


class Marked:
    def __call__(self, *, features: LastLayer, n: int) -> Tensor:
        return features[:, 0].topk(n).indices


class Plain:
    def __call__(self, *, features: Tensor, n: int) -> Tensor:
        return features[:, 0].topk(n).indices


def quoted(*, features: "LastLayer", n: "int") -> "Tensor":
    return features[:, 0].topk(n).indices


def shaped(*, features: "N D", n: "int"):  # noqa: F722
    return features[:, 0].topk(n).indices


def unknown(*, features: "Nowhere", n):  # noqa: F821
    return features[:, 0].topk(n).indices


def half_unknown(*, features: LastLayer, n: "Nowhere"):  # noqa: F821
    return features[:, 0].topk(n).indices


def optional(*, features: LastLayer | None = None, n):
    return features[:, 0].topk(n).indices


def bound(*, features: LastLayer, probs, temperature=1.0, n):
    return features[:, 0].topk(n).indices


WANT = {
    "a marked function": last,
    "badge": badge,
    "what names head": with_head,
    "a partial": partial(last),
    "a partial with settings": partial(bound, temperature=2.0),
    "a partial of a partial": partial(partial(bound), temperature=2.0),
    "a lambda that names head": lambda *, features, head, n: torch.arange(n),
    "a callable": Marked(),
    "a partial of a callable": partial(Marked()),
    "a method": Marked().__call__,
    "annotations in quotes": quoted,
    "another annotation that names nothing": half_unknown,
    "an optional argument": optional,
    "marked labelled features": lambda *, labelled_features, head: labelled_features[:, 0],
}
DO_NOT = {
    "a plain function": largest,
    "coreset": coreset,
    "a lambda": lambda *, features: features[:, 0],
    "a partial of a plain function": partial(largest),
    "a plain callable": Plain(),
    "an annotation that names nothing": unknown,
    "an annotation that is no Python": shaped,
}
LOOK_AT_NONE = {
    "random": random,
    "bald": bald,
    "head without features": lambda *, probs, head: probs[:, 0],
    "bound features": partial(last, features=torch.zeros(6, 1)),
}


@pytest.mark.parametrize("strategy", WANT.values(), ids=WANT)
def test_these_want_what_enters_the_last_layer(strategy):
    assert wants_last_layer(strategy)
    assert not takes_given_features(strategy, None)


@pytest.mark.parametrize("strategy", DO_NOT.values(), ids=DO_NOT)
def test_these_take_any_features(strategy):
    assert not wants_last_layer(strategy)
    assert takes_given_features(strategy, None)


@pytest.mark.parametrize("strategy", LOOK_AT_NONE.values(), ids=LOOK_AT_NONE)
def test_these_look_at_no_features(strategy):
    assert not wants_last_layer(strategy)
    assert not takes_given_features(strategy, None)


def test_given_features_are_taken_if_any_part_takes_them():
    def of(**parts):
        return partial(mixture, strategies=parts)

    assert takes_given_features(of(a=badge, b=of(c=margin, d=coreset)), None)
    assert not takes_given_features(of(a=badge, b=of(c=margin, d=random)), None)


def test_given_features_are_taken_by_the_score_that_a_part_works_on():
    over = partial(mixture, strategies={"a": best})
    assert takes_given_features(over, size)
    assert takes_given_features(best, size)
    assert not takes_given_features(best, last_size)
    assert not takes_given_features(random, size)  # the score is not asked


# What cannot work


def faulty(rows=240, where=None):
    features = torch.rand(rows, 3)
    if where is not None:
        features[7, 1] = where
    return features


WRONG = {
    "too few": (faulty(239), "one row per train item, 240, got 239"),
    "too many": (faulty(241), "one row per train item, 240, got 241"),
    "none": (faulty(0), "one row per train item, 240, got 0"),
    "one dimension": (torch.rand(240), r"must have the shape \[N, D\], got \[240\]"),
    "whole numbers": (torch.ones(240, 3).long(), "floating point"),
    "NaN": (faulty(where=torch.nan), "must not hold NaN, got 1"),
    "infinite": (faulty(where=torch.inf), "finite"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_wrong_features_are_refused_before_anything_is_written(run, tmp_path, case):
    features, said = case
    with pytest.raises(ValueError, match=f"given features.*{said}"):
        run(strategy=coreset, features=lambda: features, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_wrong_features_are_refused_by_the_callback_before_it_trains(module):
    with pytest.raises(ValueError, match="one row per train item"):
        Acquire(coreset, n=2, features=faulty(9)).check(module())


# Whole runs


def test_features_are_not_computed_for_a_strategy_that_does_not_look_at_them(run):
    run(strategy=margin, features=lambda: 1 / 0)


def test_a_run_buys_by_the_given_features(run, module):
    data = module()
    records = run(data, strategy=size, features=lambda: numbered(240))
    free = [row for row in range(240) if row not in data.pool.labelled[:6].tolist()]
    assert [index for record in records for index in record["acquired"]] == free[:12]
    assert records[0]["scores"] == [-float(row) for row in free[:4]]


def test_equal_features_choose_the_same_whatever_the_model_is(run):
    def other():
        return type(kit.toy_module())(nn.Linear(4, 3), 3)

    given = torch.rand(240, 3, generator=torch.Generator().manual_seed(0))
    records = [
        run(strategy=coreset, features=lambda: given, **model) for model in ({}, {"model": other})
    ]
    bought = [[record["acquired"] for record in run_] for run_ in records]
    assert bought[0] == bought[1]
    assert records[0][0]["test/nll"] != records[1][0]["test/nll"]
