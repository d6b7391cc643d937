"""What the loaders of ActiveDataModule yield."""

import random

import kit
import numpy as np
import pytest
import torch

from dal.data.data import Data, Normalise
from dal.data.datamodule import ActiveDataModule


def numbers(batches):
    return torch.cat([batch[0] if isinstance(batch, list | tuple) else batch for batch in batches])


def refuse(image):
    raise AssertionError("augmented")


@pytest.fixture
def data():
    return kit.index_data(rows=30, classes=3)


@pytest.fixture
def unaugmentable(data):
    return Data(data.train, data.test, data.classes, data.normalise, augment=refuse)


def test_the_pool_loader_yields_inputs_alone_in_the_order_dealt(data):
    module = ActiveDataModule(data, initial_size=4, eval_batch_size=7)
    dealt = module.deal()
    batches = list(module.pool_dataloader())
    assert all(isinstance(batch, torch.Tensor) for batch in batches)
    assert [len(batch) for batch in batches] == [7, 7, 7, 5]
    assert torch.equal(torch.cat(batches).flatten().long(), dealt)


def test_the_pool_loader_needs_a_deal(data):
    with pytest.raises(ValueError, match="deal"):
        ActiveDataModule(data).pool_dataloader()


def test_the_pool_loader_reads_no_target():
    data = kit.index_data(kind=kit.GuardedRows)
    module = ActiveDataModule(data, initial_size=4)
    data.train.sealed = True
    module.deal()
    assert len(numbers(module.pool_dataloader())) == 26


@pytest.mark.parametrize(
    ("part", "sizes"),
    [
        (slice(0, 14), [7, 7]),
        (slice(7, 20), [7, 6]),
        (slice(14, None), [7, 5]),
        (slice(3, 5), [2]),
        (slice(5, 5), []),
        (slice(21, 99), [5]),
    ],
)
@pytest.mark.parametrize("name", ["pool", "labelled", "target"])
def test_a_part_of_a_loader_yields_those_rows_in_batches(data, name, part, sizes):
    initial = range(26) if name == "labelled" else range(4)
    module = ActiveDataModule(data, initial=initial, eval_batch_size=7)
    module.deal()
    loader = getattr(module, f"{name}_dataloader")
    batches = list(loader(part))
    assert [len(numbers([batch])) for batch in batches] == sizes
    read = numbers(batches) if batches else torch.empty(0, 1)
    assert torch.equal(read, numbers(loader())[part])


def test_the_labelled_loader_keeps_the_order_of_purchase(data):
    module = ActiveDataModule(data, initial=[9, 4], eval_batch_size=2)
    module.label([20, 1, 7])
    batches = list(module.labelled_dataloader())
    assert [len(targets) for _, targets in batches] == [2, 2, 1]
    assert numbers(batches).flatten().tolist() == [9, 4, 20, 1, 7]
    assert torch.cat([targets for _, targets in batches]).tolist() == [0, 1, 2, 1, 1]


def test_validation_and_test_rows_come_with_the_labels_of_the_dataset(data):
    module = ActiveDataModule(data, initial_size=4, val_size=6, eval_batch_size=4)
    batches = list(module.val_dataloader())
    assert torch.equal(numbers(batches).flatten().long(), module.pool.held_out)
    for inputs, targets in batches:
        assert torch.equal(targets, inputs.flatten().long() % 3)
    assert torch.cat([targets for _, targets in module.test_dataloader()]).tolist() == [0, 1, 2]


def test_without_validation_rows_there_is_nothing_to_validate(data):
    assert list(ActiveDataModule(data).val_dataloader()) == []


def test_only_training_batches_are_augmented(unaugmentable):
    module = ActiveDataModule(unaugmentable, initial_size=4, val_size=3)
    module.deal()
    names = ("pool", "labelled", "val", "test")
    assert [len(numbers(getattr(module, f"{n}_dataloader")())) for n in names] == [23, 4, 3, 3]
    with pytest.raises(AssertionError, match="augmented"):
        next(iter(module.train_dataloader()))


def test_each_training_row_is_augmented_by_itself_before_it_is_normalised(data):
    seen = []

    def augment(image):
        seen.append(image.clone())
        return image + 100

    data = Data(data.train, data.test, data.classes, Normalise(10.0), augment)
    module = ActiveDataModule(data, initial=[3, 8], steps=1, batch_size=5)
    ((inputs, _),) = module.train_dataloader()
    assert len(seen) == 5
    assert torch.equal(inputs, (torch.stack(seen) + 100) / 10)


@pytest.mark.parametrize("size", [1, 3, 20])
def test_a_training_epoch_is_as_many_full_batches_as_asked_for(data, size):
    module = ActiveDataModule(data, initial_size=size, steps=7, batch_size=8)
    loader = module.train_dataloader()
    batches = list(loader)
    assert len(loader) == len(batches) == 7
    assert all(len(inputs) == len(targets) == 8 for inputs, targets in batches)
    drawn, labelled = numbers(batches).flatten().long(), module.pool.labelled
    assert set(drawn.tolist()) <= set(labelled.tolist())
    assert len(drawn.unique()) > 0.75 * len(labelled)


def test_rows_of_a_training_epoch_are_drawn_with_replacement(data):
    module = ActiveDataModule(data, initial_size=20, steps=1, batch_size=20)
    assert len(numbers(module.train_dataloader()).unique()) < 20


@pytest.mark.parametrize(("labelled", "sizes"), [(3, [3]), (8, [8]), (9, [9]), (20, [8, 8, 4])])
def test_without_steps_an_epoch_is_one_shuffled_pass(data, labelled, sizes):
    module = ActiveDataModule(data, initial_size=labelled, batch_size=8)
    batches = list(module.train_dataloader())
    assert [len(targets) for _, targets in batches] == sizes
    seen = numbers(batches).flatten().long()
    assert torch.equal(seen.sort().values, module.pool.labelled.sort().values)


def test_two_epochs_of_a_round_are_in_different_orders_and_a_new_loader_repeats_them(data):
    module = ActiveDataModule(data, initial_size=20)
    loader = module.train_dataloader()
    first, second = numbers(loader), numbers(loader)
    assert not torch.equal(first, second)
    again = module.train_dataloader()
    assert torch.equal(numbers(again), first)
    assert torch.equal(numbers(again), second)


def test_the_training_loader_grows_with_the_labelled_set(data):
    module = ActiveDataModule(data, initial_size=4)
    for labelled in (4, 9, 14):
        assert len(numbers(module.train_dataloader())) == labelled
        module.label(module.deal()[:5])


def test_training_without_labels_is_refused(data):
    with pytest.raises(ValueError, match="at least 1 labelled row, got 0"):
        ActiveDataModule(data, initial_size=0).train_dataloader()


def test_no_loader_touches_a_global_generator(data):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    module = ActiveDataModule(data, initial_size=4, val_size=3, steps=3)
    module.deal()
    for name in ("train", "pool", "labelled", "val", "test"):
        list(getattr(module, f"{name}_dataloader")())
    module.label(module.pool.unlabelled[:2])
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_loaders_follow_the_seed_and_not_the_global_generator(data):
    seen = []
    for world in (0, 1):
        torch.manual_seed(world)
        module = ActiveDataModule(data, initial_size=10, steps=2, seed=3)
        seen.append(torch.cat([numbers(module.train_dataloader()).flatten(), module.deal()]))
    assert torch.equal(*seen)
    other = ActiveDataModule(data, initial_size=10, steps=2, seed=4)
    assert not torch.equal(other.deal(), seen[0][-20:].long())


def test_a_loader_reads_each_row_once(data):
    module = ActiveDataModule(data, initial_size=5, val_size=4, eval_batch_size=6)
    wanted = {
        "pool": module.deal(),
        "labelled": module.pool.labelled,
        "val": module.pool.held_out,
    }
    for name, rows in wanted.items():
        data.train.read.clear()
        list(getattr(module, f"{name}_dataloader")())
        assert data.train.read == rows.tolist()


@pytest.mark.parametrize("initial", ["random", "balanced"])
def test_neither_the_start_nor_a_purchase_reads_an_input(data, initial):
    module = ActiveDataModule(data, initial=initial, initial_size=6, val_size=4)
    module.label(module.deal()[:3])
    assert data.train.read == []
