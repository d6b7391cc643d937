"""What queries will take is told once, before anything is trained, and refused if it cannot fit."""

import re
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import kit
import lightning.pytorch as pl
import pytest
import torch
from processes import train_by_two
from torch import nn
from toys import dropout_net, trainer

import dal.acquisition_storage
import dal.preflight_times
from dal.acquisition_storage import Storage
from dal.callbacks.acquire import Acquire
from dal.callbacks.round_log import RoundLog
from dal.data.data import Data, Normalise, TensorRows
from dal.data.datamodule import ActiveDataModule
from dal.functional.costs import Cost, costs
from dal.functional.shards import Shards
from dal.models.classifier import Classifier
from dal.posteriors.deterministic import Deterministic
from dal.posteriors.ensemble import Ensemble
from dal.posteriors.laplace import Laplace
from dal.posteriors.mc_dropout import MCDropout
from dal.preflight import Preflight, candidates
from dal.preflight_times import pass_seconds
from dal.seeding import global_seed
from dal.strategies.badge import badge
from dal.strategies.bald import bald
from dal.strategies.coreset import coreset
from dal.strategies.epig import epig
from dal.strategies.learning_loss import learning_loss
from dal.strategies.margin import margin
from dal.strategies.mixture import mixture
from dal.strategies.power import power
from dal.strategies.random import random
from dal.strategies.schedule import schedule

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
PLENTY = 10**12
HIDDEN = 16  # D of `dropout_net`


@costs(lambda s: Cost(elements=s.N, steps=s.n, numbers=100 * s.N))
def hungry(*, features, n):
    """Select the first; holds 400 bytes an item."""
    return torch.arange(n)


@costs(lambda s: Cost(numbers=7))
def modest(*, features, log_probs, n):
    return torch.arange(n)


def silent(*, features, n):
    return torch.arange(n)


def compared(*, features, labelled_features, n):
    return torch.arange(n)


def by_size(*, strategies, n_pool, n):
    """Take the part that is meant for so many items."""
    return strategies["few" if n_pool < 50 else "many"](torch.arange(n_pool), n)


def data_of(rows=240, **options):
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(rows + 6) % 3
    inputs = torch.randn(rows + 6, 4, generator=generator) + targets[:, None]
    train = TensorRows(inputs[:rows], targets[:rows])
    test = TensorRows(inputs[rows:], targets[rows:])
    return ActiveDataModule(
        Data(train, test, tuple("abc"), Normalise()), **{"initial_size": 20, **options}
    )


@pytest.fixture
def free(monkeypatch):
    """Set what is free, by the kind of device, and on the disk."""

    def free(disk=PLENTY, **amounts):
        storage = dal.acquisition_storage
        monkeypatch.setattr(storage, "free_bytes", lambda device: amounts[device.type])
        usage = type("Usage", (), {"free": disk})
        monkeypatch.setattr("dal.preflight_memory.shutil.disk_usage", lambda folder: usage)

    return free


def leaves(strategy):
    return [{"": strategy}]


def preflight(strategy, rounds=None, *, data=None, n=10, device=CPU, folder=None, **options):
    settings = {"posterior": MCDropout(5), "score": None, "features": None, **options}
    return Preflight(
        strategy,
        n,
        rounds or leaves(strategy),
        model=dropout_net(),
        data=data or data_of(),
        storage=Storage(device, Shards(0), folder),
        **settings,
    )


def memory(strategy, *args, **options):
    check = preflight(strategy, *args, **options)
    (memory,) = check.memories(check.sizes.N)
    return memory


def line(check):
    return check.line(dropout_net(), nullcontext)


# Memory


def test_a_selection_keeps_the_pool_and_takes_what_it_declares(free):
    free(cpu=PLENTY)
    kept = memory(modest)  # 220 candidates, D = 16, K = 5, C = 3
    assert kept.kept == {CPU: 220 * (16 + 5 * 3) * 4}
    assert (kept.work, kept.where) == (7 * 4, CPU)
    assert kept.free == PLENTY - kept.kept[CPU]


def test_labelled_and_target_rows_count_too(free):
    free(cpu=PLENTY)
    assert memory(coreset).kept == {CPU: (220 + 20) * HIDDEN * 4}
    scores_and_targets = 220 * 4 + 50 * 5 * 3 * 4
    assert memory(epig, data=data_of(target_size=50)).kept == {CPU: scores_and_targets}


@pytest.mark.parametrize("score", [bald, margin, random])
def test_of_a_score_only_one_number_an_item_is_kept(free, score):
    free(cpu=PLENTY)
    assert memory(score).kept.get(CPU, 0) == (0 if score is random else 220 * 4)


def test_the_shared_score_is_kept_once(free):
    free(cpu=PLENTY)
    assert memory(power, score=margin).kept == {CPU: 220 * 4}


def test_what_two_parts_ask_is_kept_once(free):
    free(cpu=PLENTY)
    both = partial(mixture, strategies={"a": hungry, "b": modest})
    for asked in ({"/a": hungry, "/b": modest}, {"/b": modest, "/a": hungry}):
        kept = memory(both, [asked])
        assert kept.kept == {CPU: 220 * (16 + 5 * 3) * 4}
        assert kept.work == 220 * 400  # of the part that takes most, as they take turns


def test_given_features_have_a_width_and_a_type_of_their_own(free):
    free(cpu=PLENTY)
    given = torch.zeros(240, 50, dtype=torch.float64)
    assert memory(coreset, features=given).kept == {CPU: (220 + 20) * 50 * 8}
    own = memory(badge, features=given).kept  # takes the last layer's
    assert own == {CPU: 220 * (HIDDEN + 3) * 4}


def test_what_has_no_room_on_the_device_goes_to_the_host_and_the_selection_with_it(free):
    free(cuda=1000, cpu=PLENTY)
    kept = memory(hungry, device=CUDA)
    assert (kept.kept, kept.where) == ({CPU: 220 * HIDDEN * 4}, CPU)
    assert kept.work == 220 * 400


def test_what_only_a_file_has_room_for_is_told_with_its_folder(free, tmp_path):
    free(cpu=20_000)
    check = preflight(compared, folder=tmp_path)
    kept = check.memories(220)[0].kept
    assert kept == {CPU: 20 * HIDDEN * 4, None: 220 * HIDDEN * 4}
    free(cpu=PLENTY)
    assert f"14 kB in a memory-mapped file in {tmp_path}" in line(check)


def test_several_parts_count_by_the_round_that_takes_most(free):
    free(cpu=PLENTY)
    turns = partial(schedule, strategies={"a": random, "b": hungry})
    check = preflight(turns, [{"/a": random}, {"/b": hungry}])
    assert "at most over its rounds" in line(check)
    assert re.search(r", 102 kB of", line(check))  # 220 * (16 * 4 + 400)


# Refusals


def test_a_selection_that_cannot_fit_is_refused_with_a_subset_that_can(free):
    free(cpu=30_000)
    said = r"hungry on 220 candidates \(D = 16\) needs about 88 kB of host memory to select, and "
    with pytest.raises(ValueError, match=said + ".*pool_subset=.* another strategy") as refusal:
        preflight(hungry)
    subset = int(re.search(r"pool_subset=(\d+)", str(refusal.value)).group(1))
    assert 10 <= subset < 220
    accepted = preflight(hungry, data=data_of(pool_subset=subset))
    assert accepted.memories(subset)[0].fits
    assert not accepted.memories(subset + 10)[0].fits  # the largest, in two digits


def test_where_no_subset_holds_a_purchase_only_another_strategy_helps(free):
    free(cpu=3_000)
    with pytest.raises(ValueError, match="take another strategy") as refusal:
        preflight(hungry, n=50)
    assert "pool_subset" not in str(refusal.value)


def test_a_declared_cost_is_a_guess_and_not_refused_within_a_factor_of_two(free):
    free(cpu=75_000)  # 14 kB kept, 88 kB to select
    assert line(preflight(hungry)).endswith("which may not fit")
    free(cpu=50_000)
    with pytest.raises(ValueError, match="hungry"):
        preflight(hungry)


def test_a_disk_without_room_is_refused_before_training(free, tmp_path):
    free(cpu=10_000, disk=9_000)
    said = f"keeps 14 kB that no memory has room for, and {tmp_path} has 9 kB free; set spill_dir"
    with pytest.raises(ValueError, match=re.escape(said)) as refusal:
        preflight(silent, folder=tmp_path)
    subset = int(re.search(r"pool_subset=(\d+)", str(refusal.value)).group(1))
    preflight(silent, data=data_of(pool_subset=subset), folder=tmp_path)


def test_any_round_to_come_is_looked_at(free):
    free(cpu=30_000)
    turns = partial(schedule, strategies={"a": random, "b": hungry}, until={"a": 40, "b": 999})
    for ahead in (1, 2):
        Acquire(turns, 10, preflight=ahead).expect(trainer(), dropout_net(), data_of())
    with pytest.raises(ValueError, match="needs about"):
        Acquire(turns, 10, preflight=3).expect(trainer(), dropout_net(), data_of())


# The line


def test_the_line_names_sizes_times_and_memory(free):
    free(cpu=21 * 10**9)
    assert re.fullmatch(
        r"badge on 220 candidates \(D = 16, C = 3, K = 5\): pool pass (about|under) [\d.]+ s, "
        r"selection (about|under) [\d.]+ s, [\d.]+ [kM]B of 21 GB free",
        line(preflight(badge)),
    )


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        (random, "random on 220 candidates: no pool pass, "),
        (silent, "selection unknown, 14 kB of"),
        (bald, "selection under 0.01 s, 0.88 kB of"),
    ],
)
def test_the_line_says_what_is_not_needed_and_what_is_unknown(free, strategy, said):
    free(cpu=PLENTY)
    assert said in line(preflight(strategy))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("processes", [1, 4])
def test_the_time_of_the_pass_is_that_of_its_batches(monkeypatch, workers, processes):
    clock = iter(range(1000))
    monkeypatch.setattr(dal.preflight_times.time, "perf_counter", lambda: float(next(clock)))
    data = data_of(rows=20 + 640, eval_batch_size=20, num_workers=workers)
    check = preflight(margin, data=data, posterior=Deterministic())
    monkeypatch.setattr(check.storage.processes, "count", processes)
    took = pass_seconds(check.plans[0], 640, model=dropout_net(), context=nullcontext)
    loading = 0.5  # a tick for two batches; computing one takes a tick
    batch = 1 + loading if not workers else 1
    assert took == 640 / 20 / processes * batch


# A run


class Lines(RoundLog):
    def __init__(self):
        self.seen = []

    def on_preflight(self, line):
        self.seen.append(line)

    def on_round_end(self, run, record):
        self.seen.append(record["round"])


def test_a_run_tells_once_before_its_first_round(run):
    lines = Lines()
    run(logs=[lines], strategy=badge)
    assert lines.seen[0].startswith("badge on 234 candidates (D = 16, C = 3, K = 4): pool pass")
    assert lines.seen[1:] == [0, 1, 2, 3]


def test_a_run_without_labels_tells_before_its_first_query(run, module):
    lines = Lines()
    data = ActiveDataModule(kit.toy_data(), initial_size=0, steps=5, batch_size=16)
    run(data, logs=[lines], strategy=coreset, rounds=1)
    assert lines.seen[0].startswith("coreset on 240 candidates (D = 16): pool pass")
    assert lines.seen[1:] == [0, 1]


def test_a_continued_run_tells_again(run, module, tmp_path):
    class Stop(Lines):
        def on_round_end(self, run, record):
            raise KeyError

    with pytest.raises(KeyError):
        run(logs=[Stop()], directory=tmp_path)
    lines = Lines()
    run(logs=[lines], directory=tmp_path)
    assert lines.seen[0].startswith("margin on 230 candidates")
    assert lines.seen[1:] == [1, 2, 3]


def test_an_ensemble_that_cannot_fit_is_refused_before_its_members_are_trained(run, free):
    made = []

    def model():
        made.append(1)
        return kit.toy_module()

    free(cpu=10_000)
    with pytest.raises(ValueError, match="needs about"):
        run(model=model, strategy=badge, posterior=Ensemble(2))
    assert len(made) == 1
    free(cpu=PLENTY)
    lines = Lines()
    turns = partial(schedule, strategies={"a": coreset, "b": badge}, until={"a": 10, "b": 999})
    run(logs=[lines], strategy=turns, posterior=Ensemble(2), rounds=2)  # no members at first
    assert "pool pass" in lines.seen[0]


def test_refused_before_the_first_step(run, free):
    free(cpu=10_000)

    class Untrainable(Classifier):
        def training_step(self, *args):
            raise AssertionError

    with pytest.raises(ValueError, match="another strategy"):
        run(model=lambda: Untrainable(dropout_net(), 3), strategy=badge)


TRACED = [badge, bald, coreset, margin, epig, learning_loss, partial(power, beta=2.0)]


@pytest.mark.parametrize(
    ("strategy", "posterior"),
    [(strategy, posterior) for strategy in TRACED for posterior in (MCDropout(4), Laplace(4))]
    + [(strategy, Deterministic()) for strategy in TRACED if strategy not in (bald, epig)],
)
def test_the_trial_leaves_no_trace(run, monkeypatch, strategy, posterior):
    def model():
        return Classifier(dropout_net(), 3)

    options = {"model": model, "strategy": strategy, "posterior": posterior, "rounds": 2}
    options |= {"score": margin}
    told = Lines()
    with_it = run(logs=[told], **options)
    assert "pool pass" in told.seen[0]
    monkeypatch.setattr(Acquire, "expect", lambda *_: None)
    assert kit.timeless(run(**options)) == kit.timeless(with_it)


def test_module_and_global_generator_are_as_they_were(free):
    free(cpu=PLENTY)
    model, data = dropout_net(), data_of()
    model[3].eval()  # modes that differ
    check = Preflight(
        badge, 5, leaves(badge), model=model, data=data, posterior=MCDropout(4), score=None,
        features=None, storage=Storage(CPU, Shards(0)),
    )  # fmt: skip
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    before = torch.random.get_rng_state()
    check.line(model, nullcontext)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert torch.is_grad_enabled()
    assert all(value.grad is None for value in model.parameters())
    assert data.eval_batch_size == 512
    assert data.pool_subset is None
    with pytest.raises(ValueError, match="deal"):
        data.pool.dealt  # noqa: B018 (raises)


def test_of_a_pool_of_a_few_batches_a_small_part_is_tried():
    counting = kit.Counting(nn.Linear(4, 3))
    check = preflight(margin, data=data_of(rows=1300), posterior=Deterministic())
    check.line(nn.Sequential(counting), nullcontext)
    assert counting.rows <= 1280 / 8


# A subset of the pool


def test_a_subset_of_the_pool_is_what_is_told(free):
    free(cpu=PLENTY)
    assert candidates(data_of(pool_subset=30)) == 30
    assert candidates(data_of(pool_subset=3000)) == 220
    assert "on 30 candidates" in line(preflight(badge, data=data_of(pool_subset=30)))


def test_parts_that_depend_on_the_size_of_the_pool_are_told_that_of_the_subset():
    chosen = partial(by_size, strategies={"few": margin, "many": bald})
    acquire = Acquire(chosen, 4, posterior=Ensemble(2))
    assert set(acquire._asked(data_of(), 0)) == {"/many"}
    assert set(acquire._asked(data_of(pool_subset=30), 0)) == {"/few"}


@pytest.mark.parametrize("name", ["mixture", "schedule"])
def test_strategies_of_strategies_choose_within_the_subset(run, module, name):
    parts = {"a": coreset, "b": margin}
    strategies = {
        "mixture": partial(mixture, strategies=parts),
        "schedule": partial(schedule, strategies=parts, until={"a": 10, "b": 999}),
    }
    records = run(module(pool_subset=9), strategy=strategies[name], rounds=2)
    again = module(pool_subset=9)
    for record in records[:2]:
        dealt = again.deal().tolist()
        assert len(dealt) == 9
        assert set(record["acquired"]) <= set(dealt)
        again.label(record["acquired"])


# Several processes


def train(folder, **options):
    told = []
    acquire = Acquire(badge, 10, posterior=MCDropout(4), on_preflight=told.append)
    fitted = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[acquire],
        **options,
    )  # fmt: skip
    with global_seed(0, "weights"):
        fitted.fit(Classifier(dropout_net(), 3), datamodule=data_of(steps=4))
    torch.save(told, Path(folder) / f"{fitted.global_rank}.pt")


def test_of_two_processes_the_first_tells(tmp_path):
    first, second = train_by_two(__file__, tmp_path)
    assert len(first) == 1
    assert first[0].startswith("badge on 220 candidates")
    assert second == []
