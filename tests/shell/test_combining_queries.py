"""query() and run_rounds() with strategies that are made of strategies."""

from functools import partial

import kit
import pytest
import torch
from toys import ask, dropout_net, largest, size

from dal.acquisition_signature import rehearse
from dal.data.datamodule import ActiveDataModule
from dal.posteriors.mc_dropout import MCDropout
from dal.strategies.badge import badge
from dal.strategies.bald import bald
from dal.strategies.coreset import coreset
from dal.strategies.dropout_disagreement import dropout_disagreement
from dal.strategies.epsilon import epsilon
from dal.strategies.margin import margin
from dal.strategies.mixture import mixture
from dal.strategies.random import random
from dal.strategies.schedule import schedule
from dal.strategies.tcm import tcm


def smallest(*, features):
    """Score the other way round than `size`."""
    return -features[:, 0]


def never(*, features, n):
    raise AssertionError("a part was asked whose turn it is not")


def never_scored(*, probs):
    raise AssertionError("a part was scored whose turn it is not")


def best(*, scores, n):
    return scores.sort(descending=True, stable=True).indices[:n]


def mixed(shares=None, **parts):
    return partial(mixture, strategies=parts, shares=shares)


def scheduled(until, **parts):
    return partial(schedule, strategies=parts, until=dict(zip(parts, until, strict=True)))


def rows_of(data, indices):
    return data.data.train.inputs[indices]


# Which parts are computed


@pytest.mark.parametrize("other", [never, never_scored])
def test_a_schedule_computes_only_the_part_whose_turn_it_is(data, other):
    early = scheduled([4, None], now=size, later=other)  # 3 labelled
    late = scheduled([3, None], before=other, now=size)
    for strategy in (early, late):
        assert ask(strategy, 3, data, kit.Untracked()).indices.tolist() == [28, 27, 26]
    assert data.data.train.read == 2 * data.pool.dealt.tolist()


def test_tcm_computes_one_part_before_the_switch_and_the_other_from_it_on(data):
    for switch_at, parts in (
        (4, {"typical": size, "uncertain": never}),
        (3, {"typical": never, "uncertain": size}),
    ):
        strategy = partial(tcm, strategies=parts, switch_at=switch_at)
        assert ask(strategy, 2, data, kit.Untracked()).indices.tolist() == [28, 27]


def test_no_pass_is_run_if_the_part_whose_turn_it_is_needs_none(data):
    model = kit.Untracked()
    asked = ask(scheduled([4, None], now=random, later=size), 3, data, model, MCDropout(5))
    assert (model.calls, data.data.train.read) == (0, [])
    assert len(asked.indices.unique()) == 3


@pytest.mark.parametrize("shares", [{"a": 1, "b": 0}, {"a": 9, "b": 1}])
def test_a_part_whose_share_is_no_item_is_not_computed(data, shares):
    asked = ask(mixed(shares, a=size, b=never), 3, data, kit.Untracked())
    assert asked.indices.tolist() == [28, 27, 26]


def test_a_strategy_at_share_1_of_random_picks_is_not_computed(data):
    model = kit.Untracked()
    ask(partial(epsilon, strategies={"greedy": never_scored}, share=1.0), 3, data, model)
    assert model.calls == 0


def test_samples_are_drawn_only_for_a_part_that_looks_at_them(toy):
    class Refuse:
        samples = 3

        def draw(self, *args):
            raise AssertionError("samples were drawn")

    strategy = scheduled([11, None], now=coreset, later=bald)
    assert len(ask(strategy, 3, toy(), dropout_net(), Refuse()).indices) == 3
    with pytest.raises(AssertionError, match="samples"):
        ask(mixed(a=coreset, b=bald), 4, toy(), dropout_net(), Refuse())


# One pass


def test_one_pass_over_the_pool_serves_all_parts(data):
    model = kit.Untracked()
    parts = {"a": margin, "b": size, "c": largest, "d": badge}
    ask(mixed(**parts), 8, data, model)
    assert model.calls == 4  # 27 rows in batches of 7
    assert data.data.train.read == data.pool.dealt.tolist()


def test_the_labelled_rows_are_read_once_for_all_parts(data):
    ask(mixed(a=coreset, b=coreset, c=size), 6, data, kit.Untracked())
    assert sorted(data.data.train.read) == list(range(30))


def test_a_score_in_a_mixture_is_streamed_by_the_batch(data):
    sizes = {"a": [], "b": []}

    def scoring(name):
        def score(*, features):
            sizes[name].append(len(features))
            return features[:, 0]

        return score

    def whole(*, features, n):
        sizes["whole"] = len(features)
        return torch.arange(n)

    parts = {"a": scoring("a"), "b": scoring("b"), "c": whole}
    ask(mixed(**parts), 9, data, kit.Untracked())
    assert sizes == {"a": [7, 7, 7, 6], "b": [7, 7, 7, 6], "whole": 27 - 6}


def test_progress_is_told_once_for_all_parts(data):
    seen = []
    ask(
        mixed(a=size, b=smallest, c=largest), 3, data, kit.Untracked(),
        on_batch=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(7, 27), (14, 27), (21, 27), (27, 27)]


# Which rows are chosen


def test_parts_choose_in_turn_among_what_is_left(data):
    strategy = mixed({"a": 3, "b": 2, "c": 1}, a=size, b=largest, c=smallest)
    asked = ask(strategy, 6, data, kit.Untracked())
    assert asked.indices.tolist() == [28, 27, 26, 25, 24, 0]


@pytest.mark.parametrize("n", [1, 2, 7, 26, 27, 99])
def test_picks_of_a_mixture_are_distinct_rows_of_the_pool(data, n):
    strategy = mixed({"a": 2, "b": 1, "c": 3, "d": 1}, a=random, b=size, c=coreset, d=random)
    indices = ask(strategy, n, data, kit.Untracked()).indices
    assert len(indices.unique()) == len(indices) == min(n, 27)
    assert set(indices.tolist()) <= set(data.pool.unlabelled.tolist())


def test_picks_of_a_mixture_are_those_of_its_parts_by_hand(toy):
    data, model, posterior = toy(), dropout_net(), MCDropout(5)
    asked = ask(mixed({"a": 4, "b": 6}, a=bald, b=coreset), 10, data, model, posterior)
    first = ask(bald, 4, data, model, posterior).indices
    assert torch.equal(asked.indices[:4], first)

    model.eval()
    dealt = data.pool.dealt
    left = dealt[~torch.isin(dealt, first)]
    with torch.no_grad():
        pool, labelled = (model[:4](rows_of(data, rows)) for rows in (left, data.pool.labelled))
    second = left[coreset(features=pool, labelled_features=labelled, n=6)]
    assert torch.equal(asked.indices[4:], second)


def test_the_strategy_beside_random_picks_chooses_among_what_they_leave(data):
    counts = []

    def greedy(*, features, n):
        counts.append(n)
        return features[:, 0].topk(n).indices

    strategy = partial(epsilon, strategies={"greedy": greedy}, share=0.5)
    indices = ask(strategy, 10, data, kit.Untracked()).indices.tolist()
    (count,) = counts
    assert 0 < count < 10
    drawn = indices[count:]
    left = [row for row in range(28, -1, -1) if row not in {3, 12, *drawn}]
    assert indices[:count] == left[:count]


@pytest.mark.parametrize(
    "strategy",
    [
        mixed({"x": 4, "y": 2}, x=mixed({"a": 1, "b": 1}, a=size, b=smallest), y=largest),
        mixed({"x": 4, "y": 2}, x=scheduled([9], a=mixed(a=size, b=smallest)), y=size),
        scheduled([9], x=mixed({"x": 4, "y": 2}, x=mixed(a=largest, b=smallest), y=largest)),
    ],
    ids=["mixture in mixture", "schedule in mixture", "mixture in schedule"],
)
def test_nested_strategies_choose_the_rows_that_their_parts_mean(data, strategy):
    indices = ask(strategy, 6, data, kit.Untracked()).indices.tolist()
    assert indices == [28, 27, 0, 1, 26, 25]


def test_positions_are_mapped_right_where_the_nested_mixture_comes_second(data):
    inner = mixed({"a": 2, "b": 1}, a=largest, b=mixed(c=smallest))
    strategy = mixed({"x": 3, "y": 3}, x=size, y=inner)
    indices = ask(strategy, 6, data, kit.Untracked()).indices.tolist()
    assert indices == [28, 27, 26, 25, 24, 0]


def test_a_part_is_told_how_many_items_are_left_to_it(data):
    seen = []

    def told(*, n_pool, n, n_labelled, round, labels, features):
        seen.append((n_pool, n, n_labelled, round, len(labels), len(features)))
        return torch.arange(n)

    ask(mixed(x=size, y=mixed(a=told, b=told)), 8, data, kit.Untracked())
    assert seen == [(23, 2, 3, 0, 3, 23), (21, 2, 3, 0, 3, 21)]


def test_a_part_that_chooses_wrong_positions_is_named(data):
    def twice(*, features, n):
        return torch.zeros(n, dtype=torch.long)

    with pytest.raises(ValueError, match="strategy twice must give distinct"):
        ask(mixed(a=size, b=twice), 4, data, kit.Untracked())


def test_a_combining_strategy_that_chooses_wrong_positions_is_named(data):
    def doubled(*, strategies, n_pool, n):
        half = strategies["a"](torch.arange(n_pool), n // 2)
        return torch.cat([half, half])

    with pytest.raises(ValueError, match="strategy doubled must give distinct"):
        ask(partial(doubled, strategies={"a": size}), 4, data, kit.Untracked())


def test_an_empty_pool_gives_nothing():
    data, model = ActiveDataModule(kit.index_data(), initial=range(30)), kit.Untracked()
    for strategy in (
        mixed(a=size, b=coreset, c=random),
        scheduled([None], a=margin),
        partial(epsilon, strategies={"greedy": size}, share=0.5),
    ):
        assert ask(strategy, 3, data, model).indices.tolist() == []
    assert model.calls == 0


@pytest.mark.parametrize("strategy", [mixed(a=bald, b=coreset, c=badge), mixed(a=coreset)])
def test_a_query_without_labelled_rows_works(toy, strategy):
    asked = ask(strategy, 6, toy(initial_size=0), dropout_net(), MCDropout(4))
    assert len(asked.indices.unique()) == 6


# Randomness


def test_each_part_has_a_generator_of_its_own(data):
    def greedy(*, generator, n_pool, n):
        torch.rand(999, generator=generator)
        return torch.arange(n)

    def modest(*, n_pool, n):
        return torch.arange(n)

    drawn = [
        ask(mixed(a=first, b=random), 6, data, kit.Untracked()).indices[3:]
        for first in (greedy, modest)
    ]
    assert torch.equal(*drawn)


def test_two_parts_that_are_the_same_strategy_draw_differently():
    seen = []

    def drawing(*, generator, n):
        seen.append(torch.rand(3, generator=generator).tolist())
        return torch.arange(n)

    data = ActiveDataModule(kit.index_data(), initial=[0])
    ask(mixed(a=drawing, b=mixed(a=drawing, b=drawing)), 4, data, kit.Untracked())
    assert len({tuple(draw) for draw in seen}) == len(seen) == 3


def test_a_query_is_reproducible_and_differs_by_seed_and_round():
    def chosen(seed, rounds=0):
        data = ActiveDataModule(kit.index_data(200), initial=[0], seed=seed)
        for row in range(rounds):
            data.label([row + 1])
        inner = partial(epsilon, strategies={"greedy": random}, share=0.5)
        return ask(mixed(a=random, b=inner), 12, data, kit.Untracked()).indices

    first, again, other, later = chosen(0), chosen(0), chosen(1), chosen(0, rounds=1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, later)


@pytest.mark.parametrize("strategy", [dropout_disagreement, mixed(a=dropout_disagreement)])
def test_a_score_that_draws_does_not_depend_on_the_size_of_batches(toy, strategy):
    several, one = (
        ask(strategy, 12, toy(eval_batch_size=size_), dropout_net()).indices for size_ in (50, 999)
    )
    assert torch.equal(several, one)


# Shared scores


def test_parts_over_scores_work_with_the_shared_score(data):
    calls = []

    def counted(*, features):
        calls.append(len(features))
        return features[:, 0]

    def worst(*, scores, n):
        return scores.argsort()[:n]

    strategy = mixed({"a": 1, "b": 2, "c": 1}, a=best, b=worst, c=best)
    asked = ask(strategy, 4, data, kit.Untracked(), score=counted)
    assert asked.indices.tolist() == [28, 0, 1, 27]
    assert asked.scores.tolist() == [28.0, 0.0, 1.0, 27.0]
    assert calls == [7, 7, 7, 6]


def test_the_shared_score_is_not_computed_if_no_part_that_is_asked_works_on_it(data):
    strategy = scheduled([9, None], now=largest, later=best)
    asked = ask(strategy, 2, data, kit.Untracked(), score=never_scored)
    assert asked.indices.tolist() == [28, 27]
    assert asked.scores is None


@pytest.mark.parametrize("strategy", [best, mixed(a=size, b=best)], ids=["alone", "as a part"])
def test_a_query_over_scores_without_a_score_says_what_is_missing(data, strategy):
    with pytest.raises(ValueError, match="score"):
        ask(strategy, 2, data, kit.Untracked())


def test_a_score_that_works_on_scores_gets_them(data):
    def opposite(*, scores):
        return -scores

    for strategy in (opposite, mixed(a=opposite)):
        rehearse(strategy, size, samples=1, num_classes=2)
        asked = ask(strategy, 3, data, kit.Untracked(), score=size)
        assert asked.indices.tolist() == [0, 1, 2]


# What a combining strategy may ask


def test_a_part_that_is_asked_only_when_the_pool_is_seen_is_refused(data):
    def curious(*, strategies, n_pool, n):
        everything = torch.arange(n_pool)
        first = strategies["a"](everything, n)
        return strategies["b"](everything, n) if int(first[0]) else first

    with pytest.raises(ValueError, match=r"asked its part /b only when it saw the pool"):
        ask(partial(curious, strategies={"a": largest, "b": size}), 2, data, kit.Untracked())


def test_a_combining_strategy_may_name_what_is_known_without_a_pass(run, module):
    seen = []

    def turning(*, strategies, labels, round, n_labelled, n_pool, n, generator):
        seen.append((len(labels), round, n_labelled))
        return strategies["a"](torch.arange(n_pool), n)

    run(module(), strategy=partial(turning, strategies={"a": random}), rounds=2)
    assert {seen[-1], *seen} >= {(6, 0, 6), (10, 1, 10)}
    assert all(len_labels == n_labelled for len_labels, _, n_labelled in seen)


@pytest.mark.parametrize("name", ["features", "probs", "scores", "labelled_features", "head"])
def test_a_combining_strategy_that_asks_for_tensors_is_refused_before_training(run, tmp_path, name):
    namespace = {"torch": torch}
    source = f"def seeing(*, strategies, {name}, n):\n    return torch.arange(n)"
    exec(source, namespace)
    strategy = partial(namespace["seeing"], strategies={"a": size})
    with pytest.raises(ValueError, match=f"seeing.*{name}"):
        run(strategy=strategy, score=margin, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


WRONG_PARTS = {
    "none": {},
    "a list": [size],
    "no function": {"a": 3},
    "a part that needs a setting": {"a": lambda *, probs, odd: probs[:, 0]},
    "a part that fails": {"a": lambda *, probs: probs[:, 99]},
    "a part over scores": {"a": best},
    "a nested part that fails": {"a": mixed(b=lambda *, probs: probs[:, 99])},
}


@pytest.mark.parametrize("parts", WRONG_PARTS.values(), ids=WRONG_PARTS)
def test_parts_that_cannot_work_are_refused_before_anything_is_written(run, tmp_path, parts):
    strategy = partial(mixture, strategies=parts)
    with pytest.raises(ValueError, match=r"must|needs|fails|score"):
        run(strategy=strategy, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_bald_as_a_part_needs_samples_before_training(run, tmp_path):
    with pytest.raises(ValueError, match="K >= 2"):
        run(strategy=mixed(a=size, b=bald), posterior=None, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Whole runs


def test_a_schedule_changes_strategy_in_the_round_that_it_names(module, run):
    rounds = {"early": [], "late": []}

    def noting(name):
        def strategy(*, round, n_pool, n):
            if n_pool > 6:  # not the rehearsal
                rounds[name].append(round)
            return torch.arange(n)

        return strategy

    run(strategy=scheduled([11, None], early=noting("early"), late=noting("late")))
    assert rounds == {"early": [0, 1], "late": [2]}  # at 6 and 10 labels, then at 14


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: mixed(a=s), lambda s: mixed(b=random, a=s)]
)
def test_a_schedule_that_ends_early_is_refused_before_anything_is_written(run, tmp_path, wrap):
    strategy = wrap(scheduled([8, 14], first=random, second=margin))
    with pytest.raises(ValueError, match=r"ends at 14 labels, got one at 14"):
        run(strategy=strategy, rounds=3, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_schedule_that_ends_with_the_last_query_runs(run):
    strategy = scheduled([8, 15], first=random, second=margin)
    assert [len(record["acquired"]) for record in run(strategy=strategy)] == [4, 4, 4, 0]


def test_a_schedule_need_not_outlast_the_pool(module, run):
    strategy = scheduled([240], only=random)
    records = run(module(initial_size=231), strategy=strategy, rounds=9)
    assert [len(record["acquired"]) for record in records] == [4, 4, 1, 0]


@pytest.mark.parametrize(
    "strategy",
    [
        mixed(a=margin, b=random, c=coreset),
        partial(epsilon, strategies={"greedy": bald}, share=0.4),
        scheduled([10, None], a=coreset, b=mixed(a=badge, b=bald)),
    ],
    ids=["mixture", "epsilon", "schedule"],
)
def test_two_runs_are_equal_and_no_row_is_bought_twice(run, module, strategy):
    data = module()
    records = run(data, strategy=strategy)
    assert data.n_labelled == 18 == len(data.pool.labelled.unique())
    assert kit.timeless(run(strategy=strategy)) == kit.timeless(records)
