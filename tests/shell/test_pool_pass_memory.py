"""Tensors of a query that no memory has room for, and how much room there is."""

import errno
import logging
import os
from contextlib import suppress
from functools import partial

import pytest
import torch
from torch import nn
from toys import ask, dropout_net

import dal.acquisition_storage
import dal.memory
from dal.acquisition_storage import SHARE, Storage
from dal.functional.shards import Shards
from dal.memory import free_bytes
from dal.posteriors.mc_dropout import MCDropout
from dal.strategies.badge import badge
from dal.strategies.batch_bald import batch_bald
from dal.strategies.coreset import coreset
from dal.strategies.mixture import mixture

LOG = "dal.acquisition_storage"
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def free(monkeypatch):
    """Set what is free, by the kind of device."""

    def free(**amounts):
        monkeypatch.setattr(
            dal.acquisition_storage, "free_bytes", lambda device: amounts[device.type]
        )

    return free


def mapped(tensor):
    return tensor.untyped_storage().filename is not None


def storage_of(device, folder=None):
    return Storage(device, Shards(0), folder)


# Where tensors go


@pytest.mark.parametrize(
    ("amounts", "where"),
    [
        ({"cuda": 10**4, "cpu": 10**4}, "cuda"),
        ({"cuda": 10**3, "cpu": 10**4}, "cpu"),
        ({"cuda": 10**3, "cpu": 10**3}, "file"),
    ],
)
def test_a_tensor_is_kept_in_the_fastest_place_with_room_for_it(
    free, monkeypatch, tmp_path, amounts, where
):
    free(**amounts)
    made = []
    empty = torch.empty

    def spy(*args, device, **options):
        made.append(device.type)
        return empty(*args, **options)

    monkeypatch.setattr(torch, "empty", spy)
    kept = storage_of(CUDA, tmp_path).empty("features", (100, 10), torch.float32)
    assert kept.shape == (100, 10)
    assert kept.dtype == torch.float32
    assert mapped(kept) == (where == "file")
    assert made == ([] if where == "file" else [where])


def test_a_share_of_what_is_free_is_left_to_others(free, tmp_path):
    for size, there in ((4000, False), (4000 / SHARE - 1, False), (4000 / SHARE + 1, True)):
        free(cpu=int(size))
        kept = storage_of(CPU, tmp_path).empty("features", (100, 10), torch.float32)
        assert mapped(kept) != there


def test_tensors_together_are_no_larger_than_the_room(free, tmp_path):
    free(cpu=13_000)  # room for two of 4000 bytes
    storage = storage_of(CPU, tmp_path)
    kept = [storage.empty("features", (100, 10), torch.float32) for _ in range(4)]
    assert [mapped(tensor) for tensor in kept] == [False, False, True, True]


def test_what_is_borrowed_is_free_again_afterwards(free, tmp_path):
    free(cpu=6_000)
    storage = storage_of(CPU, tmp_path)
    for _ in range(3):
        with storage.borrowed():
            assert not mapped(storage.empty("features", (100, 10), torch.float32))
    with suppress(ZeroDivisionError), storage.borrowed():
        storage.empty("features", (100, 10), torch.float32)
        _ = 1 / 0
    assert not mapped(storage.empty("features", (100, 10), torch.float32))


def test_one_number_per_item_stays_on_the_device(free, tmp_path):
    free(cpu=0)
    assert not mapped(storage_of(CPU, tmp_path).empty("scores", (100,), torch.float32))


@pytest.mark.parametrize("block", [1, 50, 2**26])
def test_rows_are_copied_block_by_block(free, tmp_path, monkeypatch, block):
    free(cpu=0)
    monkeypatch.setattr(dal.acquisition_storage, "BLOCK_BYTES", block)
    source = torch.arange(60.0).view(20, 3)
    positions = torch.tensor([3, 19, 0, 3, 7])
    kept = storage_of(CPU, tmp_path).rows_of("features", source, positions)
    assert mapped(kept)
    assert torch.equal(kept, source[positions])


def test_a_file_holds_what_was_written_and_has_no_name_any_more(free, tmp_path):
    free(cpu=0)
    kept = storage_of(CPU, tmp_path).empty("features", (300, 70), torch.float64)
    values = torch.randn(300, 70, dtype=torch.float64)
    kept[:] = values
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(kept, values)


def test_a_full_disk_is_told_before_anything_is_computed(free, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    free(cpu=0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ValueError, match=r"features .*room.*No space left.*spill_dir"):
        storage_of(CPU, tmp_path).empty("features", (100, 10), torch.float32)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(free, tmp_path):
    free(cpu=0)
    with pytest.raises(ValueError, match="missing"):
        storage_of(CPU, tmp_path / "missing").empty("features", (100, 10), torch.float32)


# Queries


@pytest.mark.parametrize(
    "strategy",
    [badge, batch_bald, coreset, partial(mixture, strategies={"a": badge, "b": coreset})],
    ids=["badge", "batch_bald", "coreset", "mixture"],
)
def test_a_query_on_tensors_in_files_chooses_the_same(toy, free, tmp_path, strategy):
    model, posterior = dropout_net(), MCDropout(4)
    inside = ask(strategy, 10, toy(), model, posterior).indices
    free(cpu=0)
    outside = ask(strategy, 10, toy(), model, posterior, spill_dir=tmp_path).indices
    assert torch.equal(inside, outside)


def spying(seen):
    def spy(*, features, log_probs, probs, labelled_features, n):
        tensors = (features, log_probs, probs, labelled_features)
        seen.append([tensor.clone() for tensor in tensors])
        seen.append([mapped(tensor) for tensor in tensors])
        return torch.arange(n)

    return spy


def test_a_selection_gets_the_same_tensors_from_files(toy, free, tmp_path, caplog):
    seen, model = [], dropout_net()
    ask(spying(seen), 3, toy(), model, MCDropout(4))
    assert caplog.records == []
    free(cpu=0)
    ask(spying(seen), 3, toy(), model, MCDropout(4), spill_dir=tmp_path)
    (inside, in_memory), (outside, in_files) = seen[:2], seen[2:]
    assert in_memory == [False] * 4
    assert in_files == [True] * 4
    assert all(torch.equal(one, other) for one, other in zip(inside, outside, strict=True))
    assert list(tmp_path.iterdir()) == []


def test_each_tensor_outside_is_told_in_a_line_what_how_large_where_and_why(
    toy, free, tmp_path, caplog
):
    def needy(*, features, log_probs, n):
        return torch.arange(n)

    free(cpu=20_000)  # room for 14,000 bytes: log_probs take 11,040, features 14,720
    with caplog.at_level(logging.WARNING, LOG):
        ask(needy, 3, toy(), dropout_net(), MCDropout(4), spill_dir=tmp_path)
    (record,) = [record for record in caplog.records if record.name == LOG]
    line = record.getMessage()
    assert line.startswith("features [230, 16]")
    for part in ("1.37e-05 GiB", f"memory-mapped file in {tmp_path}", "1.3e-05 GiB of cpu"):
        assert part in line


def test_rows_of_a_part_s_tensors_are_outside_as_the_whole_is(toy, free, tmp_path):
    seen = []

    def second(*, features, n):
        seen.append((features.clone(), mapped(features)))
        return torch.arange(n)

    def first(*, features, n):
        return torch.arange(n) * 2

    both = partial(mixture, strategies={"a": first, "b": second})
    ask(both, 6, toy(), dropout_net())
    free(cpu=0)
    ask(both, 6, toy(), dropout_net(), spill_dir=tmp_path)
    (inside, no), (outside, yes) = seen
    assert (len(inside), no, yes) == (227, False, True)
    assert torch.equal(inside, outside)


def test_given_features_are_outside_too(toy, free, tmp_path):
    given, seen = torch.randn(240, 5), []

    def score(*, features):
        return features[:, 0]

    def selection(*, features, n):
        seen.append(mapped(features))
        return features[:, 0].topk(n).indices

    free(cpu=0)
    options = {"features": given, "spill_dir": tmp_path}
    wanted = ask(selection, 5, data := toy(), dropout_net(), **options).indices
    best = given[data.pool.unlabelled][:, 0].topk(5).indices
    assert torch.equal(wanted, data.pool.unlabelled[best])
    assert torch.equal(ask(score, 5, toy(), dropout_net(), **options).indices, wanted)
    assert seen == [True]


@pytest.mark.parametrize("where", ["selection", "score", "model"])
def test_nothing_is_left_of_a_query_that_failed(toy, free, tmp_path, where):
    def selection(*, features, n):
        return 1 / 0 if where == "selection" else torch.arange(n)

    def score(*, features):
        return 1 / 0 if where == "score" else features[:, 0]

    free(cpu=0)
    model = dropout_net()
    if where == "model":
        passes = iter(range(9))
        model.append(nn.Identity())
        model[-1].forward = lambda logits: logits if next(passes) < 2 else 1 / 0
    both = partial(mixture, strategies={"a": selection, "b": score})
    with pytest.raises(ZeroDivisionError):
        ask(both, 6, toy(), model, spill_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("strategy", [badge, batch_bald, coreset, None])
def test_a_selection_on_tensors_in_host_memory_runs_on_the_cpu(toy, free, strategy):
    seen = []

    def spy(*, features, labelled_features, head, generator, n):
        logits = head(features)
        seen.append([features.device, labelled_features.device, logits.device, generator.device])
        return torch.arange(n)

    free(cuda=0, cpu=2**40)
    asked = ask(strategy or spy, 5, toy(), dropout_net().cuda(), MCDropout(4))
    assert len(asked.indices.unique()) == 5
    assert bool(seen) == (strategy is None)
    assert all(device.type == "cpu" for devices in seen for device in devices)


# How much is free


@pytest.fixture
def system(monkeypatch, tmp_path):
    """A made-up /proc and /sys/fs/cgroup; the files are given by name."""
    monkeypatch.setattr(dal.memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(dal.memory, "CGROUPS", tmp_path / "cgroup")

    def system(files):
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    return system


MEMINFO = {"proc/meminfo": "MemTotal: 99 kB\nMemFree: 1 kB\nMemAvailable: 50 kB\n"}


def group(folder, limit, used, stat=None, version=2):
    names = ("memory.max", "memory.current")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    files = {f"cgroup/{folder}/{name}": f"{n}\n" for name, n in zip(names, (limit, used))}  # noqa: B905
    return files | ({f"cgroup/{folder}/memory.stat": stat} if stat else {})


V2 = MEMINFO | {"proc/self/cgroup": "0::/job/step\n"}
V1 = MEMINFO | {"proc/self/cgroup": "5:devices:/\n4:cpu,memory:/job/step\n0::/\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (MEMINFO, 51_200),
        (V2, 51_200),
        (V2 | group("job/step", "max", 10_000), 51_200),
        (V2 | group("job/step", 30_000, 10_000), 20_000),
        (V2 | group("job", 30_000, 10_000) | group("job/step", "max", 9_000), 20_000),
        (V2 | group("", 30_000, 10_000), 20_000),
        (V2 | group("job", 30_000, 28_000, "anon 9\ninactive_file 7000\n"), 9_000),
        (V2 | group("job", 30_000, 31_000), 0),
        (V2 | group("job", 90_000, 10_000), 51_200),
        (V1 | group("memory/job/step", 30_000, 10_000, version=1), 20_000),
        (V1 | group("memory", 2**63 - 4096, 10_000, version=1), 51_200),
        (
            V1
            | group("memory/job", 30_000, 28_000, "inactive_file 1\ntotal_inactive_file 7000\n", 1),
            9_000,
        ),
    ],
)
def test_what_is_free_is_the_least_that_the_system_and_the_groups_leave(system, files, expected):
    system(files)
    assert free_bytes(CPU) == expected


def test_without_such_files_all_of_the_machine_s_memory_counts(system):
    assert free_bytes(CPU) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_this_machine_has_some_memory_free():
    assert 2**20 < free_bytes(CPU) <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
