"""ActiveDataModule: the start, the purchases and what they ask of the oracle."""

import kit
import numpy as np
import pytest
import torch

from dal.data.data import Data, Normalise, TensorRows
from dal.data.datamodule import ActiveDataModule


class Liar:
    """Gives every row the class after its own, and notes what it was asked."""

    name = "liar"

    def __init__(self, data):
        self.targets = data.train.targets
        self.classes = len(data.classes)
        self.asked = []

    def __call__(self, indices):
        self.asked += indices.tolist()
        return (self.targets[indices] + 1) % self.classes


@pytest.fixture
def data():
    return kit.index_data(rows=30, classes=3)


def skewed(counts):
    targets = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    rows = TensorRows(torch.zeros(len(targets), 1), targets)
    return Data(rows, rows, tuple("abcdef"[: len(counts)]), Normalise())


def start_counts(data, size, seed=0):
    module = ActiveDataModule(data, initial="balanced", initial_size=size, seed=seed)
    return module.pool.labels.bincount(minlength=len(data.classes)).tolist()


@pytest.mark.parametrize("size", [0, 3, 9, 30])
def test_a_balanced_start_has_as_many_of_each_class(data, size):
    assert start_counts(data, size) == [size // 3] * 3


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_the_remainder_of_a_balanced_start_goes_to_different_classes(data, size):
    counts = start_counts(data, size)
    assert sum(counts) == size
    assert max(counts) - min(counts) == 1


def test_a_balanced_start_fills_up_from_the_classes_that_have_more():
    assert start_counts(skewed([2, 20, 20]), 12) == [2, 5, 5]
    assert sorted(start_counts(skewed([1, 20, 20]), 4)) == [1, 1, 2]


def test_a_balanced_start_is_drawn_at_random_within_a_class(data):
    starts = [
        ActiveDataModule(data, initial="balanced", initial_size=6, seed=seed).pool.labelled
        for seed in range(4)
    ]
    assert len({tuple(start.sort().values.tolist()) for start in starts}) == 4


def test_a_random_start_is_of_the_size_asked_for_and_follows_the_seed(data):
    first, again, other = (
        ActiveDataModule(data, initial_size=10, seed=seed).pool.labelled for seed in (0, 0, 1)
    )
    assert len(first.unique()) == 10
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_longer_random_start_begins_with_the_shorter_one(data):
    short, long = (ActiveDataModule(data, initial_size=n).pool.labelled for n in (5, 12))
    assert torch.equal(long[:5], short)


@pytest.mark.parametrize(
    "given", [[7, 2, 11], (7, 2, 11), torch.tensor([7, 2, 11]), np.array([7, 2, 11])]
)
def test_given_indices_are_the_start_in_their_order(data, given):
    module = ActiveDataModule(data, initial=given, initial_size=20)
    assert module.pool.labelled.tolist() == [7, 2, 11]
    assert module.pool.labels.tolist() == [1, 2, 2]


@pytest.mark.parametrize("given", [[30], [-1], [2, 2]])
def test_given_indices_that_are_no_rows_are_refused(data, given):
    with pytest.raises(ValueError, match="index"):
        ActiveDataModule(data, initial=given)


@pytest.mark.parametrize("initial", ["random", "balanced"])
@pytest.mark.parametrize(("size", "val_size"), [(31, 0), (26, 5)])
def test_a_start_larger_than_what_may_be_bought_is_refused(data, initial, size, val_size):
    with pytest.raises(ValueError, match=f"initial_size.*{30 - val_size} rows.*got {size}"):
        ActiveDataModule(data, initial=initial, initial_size=size, val_size=val_size)


def test_an_unknown_start_is_refused(data):
    with pytest.raises(ValueError, match=r"initial must be random, balanced.*'best'"):
        ActiveDataModule(data, initial="best")


@pytest.mark.parametrize(
    "setting",
    [
        {"initial_size": -1},
        {"initial_size": 2.5},
        {"batch_size": 0},
        {"eval_batch_size": 0},
        {"steps": 0},
        {"steps": -1},
        {"pool_subset": 0},
        {"val_size": -1},
        {"val_size": 30},
    ],
    ids=str,
)
def test_a_size_out_of_range_is_named(data, setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        ActiveDataModule(data, **setting)


def test_validation_rows_are_paid_for_and_never_bought(data):
    module = ActiveDataModule(data, initial_size=4, val_size=7)
    held = set(module.pool.held_out.tolist())
    assert (len(held), module.n_labelled, module.labels_used) == (7, 4, 11)
    while module.pool.n_unlabelled:
        dealt = module.deal()
        assert not held & set(dealt.tolist())
        module.label(dealt[:5])
    assert not held & set(module.pool.labelled.tolist())
    assert (module.n_labelled, module.labels_used) == (23, 30)
    trained = torch.cat([inputs for inputs, _ in module.train_dataloader()]).flatten()
    assert not held & set(trained.long().tolist())


def test_validation_rows_do_not_change_with_the_start(data):
    held = [
        ActiveDataModule(data, initial=initial, initial_size=n, val_size=5).pool.held_out
        for initial, n in (("random", 3), ("balanced", 9))
    ]
    assert torch.equal(*held)


def test_labels_are_what_the_oracle_says(data):
    module = ActiveDataModule(data, Liar, initial=[0, 1], steps=2, batch_size=8)
    labels = module.label([5, 3])
    assert labels.tolist() == [(5 + 1) % 3, (3 + 1) % 3]
    assert module.pool.labels.tolist() == [1, 2, 0, 1]
    assert module.pool.sources == ("liar",) * 4
    for inputs, targets in [*module.train_dataloader(), *module.labelled_dataloader()]:
        assert torch.equal(targets, (inputs.flatten().long() + 1) % 3)


def test_validation_labels_are_what_the_oracle_says(data):
    module = ActiveDataModule(data, Liar, initial_size=3, val_size=7)
    (inputs, targets), *more = module.val_dataloader()
    assert not more
    assert torch.equal(inputs.flatten().long(), module.pool.held_out)
    assert torch.equal(targets, (module.pool.held_out + 1) % 3)


def test_the_oracle_is_asked_for_what_is_paid_for_and_nothing_else(data):
    module = ActiveDataModule(data, Liar, initial=[4], val_size=3)
    free = module.pool.unlabelled[:2].flip(0)
    module.deal()
    module.label(free)
    assert module.oracle.asked == [4, *module.pool.held_out.tolist(), *free.tolist()]


@pytest.mark.parametrize("indices", [[1, 1], [0], [-1], [30], [1, 99], [1.0], [True], [[1]]])
def test_wrong_indices_ask_the_oracle_nothing_and_change_nothing(data, indices):
    module = ActiveDataModule(data, Liar, initial=[0])
    dealt, before, asked = module.deal(), module.state_dict(), list(module.oracle.asked)
    with pytest.raises(ValueError, match=r"ind(ex|ices)"):
        module.label(indices)
    assert module.oracle.asked == asked
    assert module.state_dict() == before
    assert torch.equal(module.pool.dealt, dealt)


@pytest.mark.parametrize("answer", [[0], [0, -1], [0.5, 0.5], [0, 3]], ids=str)
def test_a_wrong_answer_of_the_oracle_changes_nothing(data, answer):
    module = ActiveDataModule(data, initial=[0])
    before = module.state_dict()
    module.oracle = lambda indices: torch.tensor(answer)
    module.oracle.name = "wrong"
    with pytest.raises(ValueError, match="label"):
        module.label([1, 2])
    assert module.state_dict() == before


def test_the_state_brings_another_module_to_the_same_round(data):
    module = ActiveDataModule(data, initial_size=4, val_size=3, seed=1)
    module.label(module.deal()[:5])
    other = ActiveDataModule(data, initial_size=4, val_size=3, seed=1)
    other.load_state_dict(module.state_dict())
    assert (other.round, other.n_labelled) == (1, 9)
    assert torch.equal(other.deal(), module.deal())


def test_rounds_deal_different_orders_and_a_round_deals_one(data):
    module = ActiveDataModule(data, initial_size=4)
    first = module.deal()
    assert torch.equal(module.deal(), first)
    module.label([int(first[0])])
    second = module.deal()
    assert not torch.equal(second, first[1:])
    assert torch.equal(second.sort().values, first[1:].sort().values)


def test_the_order_changes_with_the_round_and_not_only_with_the_pool(data):
    module = ActiveDataModule(data, initial_size=4)
    first = module.deal()
    module.label([])
    assert not torch.equal(module.deal(), first)


def test_a_pool_subset_is_dealt_anew_each_round(data):
    module = ActiveDataModule(data, initial_size=4, pool_subset=6)
    first = module.deal()
    assert len(first) == 6
    module.label(first[:1])
    second = module.deal()
    assert len(second) == 6
    assert set(second.tolist()) != set(first.tolist())


def test_a_subset_larger_than_the_pool_deals_all_of_it(data):
    assert len(ActiveDataModule(data, initial_size=4, pool_subset=99).deal()) == 26
