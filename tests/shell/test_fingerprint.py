"""What a run keeps of its data set: cheap to find, the same each time, other with other data."""

import pytest
import torch

from dal.data import fingerprint
from dal.data.data import Data, ItemRows, Normalise, TensorRows
from dal.data.fingerprint import facts, hash_inputs


class Items:
    """A data set that is read item by item, and notes which."""

    def __init__(self, count, width=2):
        self.inputs = torch.arange(count * width, dtype=torch.float).view(count, width)
        self.targets = torch.arange(count) % 2
        self.read = []

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, row):
        self.read.append(row)
        return self.inputs[row], self.targets[row]


class Spy(TensorRows):
    """Rows in memory that note which of them are read."""

    def __init__(self, items):
        super().__init__(items.inputs, items.targets)
        self.read = []

    def __getitem__(self, indices):
        self.read += torch.as_tensor(indices).tolist()
        return super().__getitem__(indices)


def data(train, test=None):
    return Data(
        train, test or TensorRows(torch.ones(4, 2), torch.arange(4) % 2), ("a", "b"), Normalise()
    )


@pytest.mark.parametrize("count", [2, 31, 32, 33, 5000])
def test_few_rows_are_decoded_and_the_ends_are_among_them(count):
    items = Items(count)
    described = data(ItemRows(items))
    items.read.clear()
    facts(described)
    assert len(items.read) <= 1 + fingerprint.DECODED
    assert {0, count - 1} <= set(items.read)
    assert len(set(items.read)) == min(count, fingerprint.DECODED)


@pytest.mark.parametrize("count", [255, 256, 257, 5000])
def test_of_large_inputs_in_memory_a_sample_is_read(monkeypatch, count):
    monkeypatch.setattr(fingerprint, "SMALL", 1000)
    rows = Spy(Items(count))
    described = data(rows)
    rows.read.clear()
    facts(described)
    assert len(set(rows.read)) == min(count, fingerprint.SAMPLE)
    assert {0, count - 1} <= set(rows.read)


def test_small_inputs_are_read_whole():
    rows = Spy(Items(5000))
    described = data(rows)
    rows.read.clear()
    facts(described)
    assert sorted(rows.read) == sorted([0, *range(5000)])


def test_equal_data_is_described_equally_and_no_randomness_is_used():
    state = torch.get_rng_state()
    assert facts(data(ItemRows(Items(500)))) == facts(data(ItemRows(Items(500))))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_changed_label_is_seen_wherever_it_is():
    items = Items(5000)
    before = facts(data(ItemRows(items)))
    items.targets[1234] ^= 1
    after = facts(data(ItemRows(items)))
    assert [key for key in before if before[key] != after[key]] == ["train labels"]


@pytest.mark.parametrize("indices", [[1, 0], [0], [0, 1, 2]])
def test_a_hash_of_rows_follows_which_and_in_what_order(indices):
    rows = TensorRows(*(Items(5).inputs, Items(5).targets))
    assert hash_inputs(rows, torch.tensor([0, 1])) != hash_inputs(rows, torch.tensor(indices))
    assert hash_inputs(rows, torch.tensor(indices)) == hash_inputs(rows, torch.tensor(indices))
