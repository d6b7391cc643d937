"""query() by several processes takes what one process takes, bit for bit."""

from functools import partial
from pathlib import Path

import kit
import lightning.pytorch as pl
import pytest
import torch
from processes import answers_of, train_by_two
from torch import distributed, nn
from toys import dropout_net, largest

import dal.acquisition_storage
from dal.acquisition import query
from dal.acquisition_shares import share_of
from dal.callbacks.acquire import Acquire
from dal.data.datamodule import ActiveDataModule
from dal.models.classifier import Classifier
from dal.models.loss_prediction import LossPrediction
from dal.posteriors.deterministic import Deterministic
from dal.posteriors.laplace import Laplace
from dal.posteriors.mc_dropout import MCDropout
from dal.strategies.badge import badge
from dal.strategies.bald import bald
from dal.strategies.batch_bald import batch_bald
from dal.strategies.coreset import coreset
from dal.strategies.epig import epig
from dal.strategies.learning_loss import learning_loss
from dal.strategies.mixture import mixture
from dal.strategies.power import power
from dal.strategies.random import random
from dal.strategies.schedule import schedule

COUNTS = [2, 3]


def noisy(*, probs, generator):
    return probs[:, 0] + torch.rand(len(probs), generator=generator)


def near(*, features, labelled_features):
    return -torch.cdist(features, labelled_features).amin(1)


def mixed(**parts):
    return partial(mixture, strategies=parts)


ROOM = 229 * 4 * 12 / 0.7  # bytes for half of 229 rows of 16 to 19 numbers, and not for all
given = torch.randn(240, 3, generator=torch.Generator().manual_seed(3))
mc = partial(MCDropout, 4)
CASES = {
    "streamed score": {"strategy": bald, "posterior": mc},
    "score that draws": {"strategy": noisy},
    "score on given features": {"strategy": near, "features": given},
    "selection over scores": {"strategy": partial(power, beta=1.0), "score": bald, "posterior": mc},
    "badge": {"strategy": badge, "posterior": mc},
    "coreset": {"strategy": coreset},
    "coreset on given features": {"strategy": coreset, "features": given},
    "batch_bald": {"strategy": batch_bald, "posterior": mc},
    "epig": {"strategy": epig, "posterior": mc},
    "laplace": {"strategy": bald, "posterior": partial(Laplace, 4)},
    "mixture": {"strategy": mixed(a=bald, b=coreset, c=badge), "posterior": mc},
    "schedule": {
        "strategy": partial(
            schedule, strategies={"a": badge, "b": random}, until={"a": 50, "b": None}
        ),
    },
    "random": {"strategy": random},
    "several batches of labelled rows": {
        "strategy": mixed(a=near, b=coreset),
        "data": {"initial_size": 75},
    },
    "no labelled rows": {"strategy": coreset, "data": {"initial_size": 0}},
    "fewer rows than processes": {
        "strategy": badge,
        "data": {"initial_size": 238, "eval_batch_size": 1},
    },
    "empty pool": {"strategy": badge, "data": {"initial_size": 240}},
    "fewer batches than processes": {
        "strategy": mixed(a=bald, b=coreset),
        "posterior": mc,
        "data": {"eval_batch_size": 500},
    },
    "badge on shares": {"strategy": badge, "free": ROOM},
    "coreset on shares": {"strategy": coreset, "free": ROOM},
    "one of two on shares": {"strategy": mixed(a=badge, b=coreset), "free": ROOM},
    "tensors in files": {"strategy": mixed(a=badge, b=coreset), "free": 0},
}


def answer(case, group=None, **options):
    settings = {"initial_size": 11, "eval_batch_size": 16, **case.get("data", {})}
    posterior = case.get("posterior", Deterministic)()
    names = ("score", "features")
    options |= {name: case[name] for name in names if name in case}
    with pytest.MonkeyPatch.context() as patch:
        if "free" in case:
            free = int(case["free"]) * (group.size() if group else 1)  # they share the machine
            patch.setattr(dal.acquisition_storage, "free_bytes", lambda _: free)
        asked = query(
            case["strategy"],
            12,
            data=ActiveDataModule(kit.toy_data(test=6), **settings),
            posterior=posterior,
            group=group,
            **{"model": dropout_net(), **options},
        )
    return asked.indices, asked.scores


# What differs between the processes


def other_buffers(rank, group):
    model = dropout_net()
    model[1].running_mean += rank
    return answer(CASES["badge"], group, model=model)


def other_losses(rank, group):
    return answer({"strategy": learning_loss}, group, losses=learnt(rank))


def learnt(rank):
    losses = LossPrediction(seed=rank)
    model = dropout_net()
    with losses.watching(model):
        model(torch.ones(4, 4) + rank)
        losses.learn(torch.tensor([0, 1, 2, 0]))
    return losses


def other_choice(rank, group):
    def stubborn(*, features, n):
        return torch.arange(n) + rank

    return answer({"strategy": stubborn}, group)


def less_memory(rank, group):
    """Only the last process is short of memory: all keep what they keep in the same place."""
    seen = []

    def spy(*, features, n):
        seen.append(features.untyped_storage().filename is not None)
        return largest(features=features, n=n)

    answer({"strategy": spy, "free": 10 if rank else 2**40}, group)
    return seen


def shares(rank, group):
    """What a strategy that works on shares is handed where there is no room for the whole."""
    seen = []

    def spy(*, features, n, shards):
        if n and shards is not None:
            whole = shards.take(torch.arange(shards.rows), features)
            assert torch.equal(whole[shards.own], features)
            seen.append((shards.starts, len(features)))
        return torch.arange(n)

    answer({"strategy": spy, "free": ROOM}, group)
    return seen


def nan_in_one_share(rank, group):
    model = dropout_net()
    if rank:
        model[0].weight.data[0] *= 1e30  # too large to square, in this process alone
    return answer({"strategy": coreset, "free": ROOM}, group, model=model)


def other_pool(rank, group):
    return answer({"strategy": badge, "data": {"seed": rank}}, group)


def failing_pass(rank, group):
    model = dropout_net()
    model.append(nn.Identity())
    if rank:
        model[-1].forward = lambda _: 1 / 0
    return answer(CASES["badge"], group, model=model)


def failing_choice(rank, group):
    def fails(*, features, n):
        return torch.arange(n) if rank else 1 / 0

    return answer({"strategy": fails}, group)


def progress(rank, group):
    seen = []
    answer(CASES["coreset"], group, on_batch=lambda *counts: seen.append(counts))
    return seen


DIFFERENCES = [
    other_buffers, other_losses, other_choice, less_memory, shares, nan_in_one_share, other_pool,
    failing_pass, failing_choice, progress,
]  # fmt: skip


def tried(case, rank, group):
    try:
        return case(rank, group)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def work(rank):
    groups = {count: distributed.new_group(list(range(count))) for count in COUNTS}
    known = {}
    for count, group in groups.items():
        if rank < count:
            known[count] = {name: answer(case, group) for name, case in CASES.items()}
            known[count] |= {case.__name__: tried(case, rank, group) for case in DIFFERENCES}
    return known


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Run all cases in some processes, once; give the answers of each of so many."""
    known = answers_of(work, max(COUNTS), tmp_path_factory.mktemp("processes"))
    return lambda count: [answers[count] for answers in known[:count]]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", CASES)
def test_several_processes_choose_what_one_chooses_bit_for_bit(answers, name, count):
    indices, scores = answer(CASES[name])
    for others in answers(count):
        assert torch.equal(others[name][0], indices)
        assert (others[name][1] is None) == (scores is None)
        assert scores is None or torch.equal(others[name][1], scores)


@pytest.mark.parametrize("count", COUNTS)
def test_statistics_of_normalisation_layers_are_the_first_process_s(answers, count):
    for others in answers(count):
        assert torch.equal(others["other_buffers"][0], answer(CASES["badge"])[0])


@pytest.mark.parametrize("count", COUNTS)
def test_predicted_losses_are_the_first_process_s(answers, count):
    indices, scores = answer({"strategy": learning_loss}, losses=learnt(0))
    assert not torch.equal(scores, answer({"strategy": learning_loss}, losses=learnt(1))[1])
    for others in answers(count):
        assert torch.equal(others["other_losses"][0], indices)
        assert torch.equal(others["other_losses"][1], scores)


@pytest.mark.parametrize("count", COUNTS)
def test_where_the_choices_differ_the_first_process_s_counts(answers, count):
    first = answers(count)[0]["other_choice"][0]
    assert torch.equal(first, other_choice(0, None)[0])
    assert all(torch.equal(others["other_choice"][0], first) for others in answers(count))


@pytest.mark.parametrize("count", COUNTS)
def test_the_process_with_least_memory_decides_where_tensors_are_kept(answers, count):
    assert [others["less_memory"] for others in answers(count)] == [[True]] * count


@pytest.mark.parametrize("count", COUNTS)
def test_a_pool_too_large_for_one_device_is_handed_out_in_shares(answers, count):
    starts = [0, 128, 229] if count == 2 else [0, 80, 160, 229]
    for rank, others in enumerate(answers(count)):
        assert others["shares"] == [(starts, starts[rank + 1] - starts[rank])]


@pytest.mark.parametrize("count", COUNTS)
def test_no_process_waits_for_one_that_refuses_its_share(answers, count):
    first, *others = [seen["nan_in_one_share"] for seen in answers(count)]
    assert first.startswith("RuntimeError: the query failed in process 1")
    assert all(told.startswith("ValueError: features must") for told in others)


@pytest.mark.parametrize("count", COUNTS)
def test_different_pools_are_refused_by_all_processes(answers, count):
    for others in answers(count):
        assert others["other_pool"].startswith("ValueError: processes that query together")


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("name", "failed"), [("failing_pass", 1), ("failing_choice", 0)])
def test_no_process_waits_for_one_that_failed(answers, name, failed, count):
    for rank, others in enumerate(answers(count)):
        own = others[name].startswith("ZeroDivisionError")
        told = others[name].startswith(f"RuntimeError: the query failed in process {failed}")
        assert own or told
        if name == "failing_choice":
            assert own == (rank == 0)
        else:
            assert own == (rank > 0)


@pytest.mark.parametrize("count", COUNTS)
def test_progress_is_told_by_the_first_process_over_all_of_them(answers, count):
    first, *others = [seen["progress"] for seen in answers(count)]
    assert others == [[]] * (count - 1)
    assert len(first) == -(-15 // count)  # 229 rows in 15 batches
    assert first == sorted(first)
    assert first[0] == (229 * 16 // (len(first) * 16), 229)
    assert first[-1] == (229, 229)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize(("rows", "size"), [(0, 4), (1, 4), (23, 4), (24, 4), (24, 1), (5, 9)])
def test_shares_are_whole_batches_that_cover_all_rows_in_order(rows, size, count):
    shares = [share_of(rows, size, rank, count) for rank in range(count)]
    ends = [0, *(share.stop for share in shares)]
    assert [share.start for share in shares] == ends[:-1]
    assert ends[-1] == rows
    assert all(end % size == 0 or end == rows for end in ends)
    batches = [-(-(share.stop - share.start) // size) for share in shares]
    assert max(batches) - min(batches) <= 1


def train(folder, **options):
    data = ActiveDataModule(
        kit.toy_data(test=6), initial_size=20, steps=4, batch_size=8, eval_batch_size=16
    )
    told = []
    acquire = Acquire(
        mixed(a=bald, b=coreset), 10, posterior=mc(), on_batch=lambda *rows: told.append(rows)
    )
    module = Classifier(dropout_net(), 3)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[acquire], **options,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    state = {"weights": module.state_dict(), "chosen": acquire.indices, "told": told}
    torch.save(state, Path(folder) / f"{trainer.global_rank}.pt")


def test_acquire_in_a_trainer_of_two_processes_chooses_what_one_would(tmp_path):
    first, second = train_by_two(__file__, tmp_path)
    assert torch.equal(first["chosen"], second["chosen"])
    assert (len(first["told"]), second["told"]) == (7, [])  # of 14 batches
    model = Classifier(dropout_net(), 3)
    model.load_state_dict(first["weights"])
    data = ActiveDataModule(kit.toy_data(test=6), initial_size=20, eval_batch_size=16)
    alone = query(mixed(a=bald, b=coreset), 10, model=model, data=data, posterior=mc())
    assert torch.equal(first["chosen"], alone.indices)
