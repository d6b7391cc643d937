"""A training that was killed goes on from its checkpoint and ends with the same bits."""

from dataclasses import replace
from functools import partial

import kit
import lightning.pytorch as pl
import pytest
import torch

from dal.data.datamodule import ActiveDataModule
from dal.loop import PLAIN_TRAINER, run_rounds
from dal.models.classifier import Classifier
from dal.posteriors.ensemble import Ensemble
from dal.posteriors.mc_dropout import MCDropout
from dal.strategies.bald import bald
from dal.strategies.learning_loss import learning_loss


class KillAfter(pl.Callback):
    """Dies after so many steps of all trainings, from a round on."""

    def __init__(self, steps, round=0):
        self.left, self.round = steps, round

    def on_train_batch_end(self, trainer, *_):
        self.left -= trainer.datamodule.round >= self.round
        if self.left == 0:
            raise kit.KilledError


class Steps(pl.Callback):
    """Counts the steps that are taken."""

    taken = 0

    def on_train_batch_end(self, *_):
        self.taken += 1


def jitter(image):
    return image + torch.rand(1)


def module(scheduler):
    schedule = partial(torch.optim.lr_scheduler.StepLR, step_size=3, gamma=0.9)
    adam = partial(torch.optim.Adam, lr=0.05)
    return Classifier(kit.toy_network(), 3, adam, schedule if scheduler else None)


def buy(directory, *own, steps=12, epochs=1, every=3, accumulate=1, rounds=1, strategy=bald,
        posterior=None, scheduler=True, workers=0, validate=None, **ends):  # fmt: skip
    data = replace(kit.toy_data(), augment=jitter)
    data = ActiveDataModule(
        data, initial_size=50, val_size=20, steps=steps, batch_size=16, num_workers=workers
    )

    def trainer(callbacks=(), **options):
        return PLAIN_TRAINER(
            accelerator="cpu", callbacks=[*callbacks, *own], **options,
            accumulate_grad_batches=accumulate, **(validate or {}),
        )  # fmt: skip

    records = run_rounds(
        data,
        model=partial(module, scheduler),
        strategy=strategy,
        posterior=posterior or MCDropout(4),
        rounds=rounds,
        query_size=5,
        trainer=trainer,
        epochs=epochs,
        directory=directory,
        checkpoint_every_n_steps=every,
        config={"x": 1},
        **ends,
    )
    weights = torch.load(directory / f"state/weights-{rounds:04d}.pt")
    return kit.timeless(records), weights


def check_same(answer, wanted):
    assert answer[0] == wanted[0]
    assert all(torch.equal(answer[1][name], value) for name, value in wanted[1].items())


SHAPES = {
    "one epoch": {"steps": 12},
    "no scheduler": {"steps": 12, "scheduler": False},
    "short passes": {"steps": None, "epochs": 5},
    "epochs of steps": {"steps": 3, "epochs": 4},
    "epochs of one step": {"steps": 1, "epochs": 9},
    "several batches a step": {"steps": 12, "epochs": 2, "accumulate": 3},
    "several batches a step, no validation where it would be": {
        "steps": 6, "epochs": 2, "accumulate": 2,
        "validate": {"val_check_interval": 2, "check_val_every_n_epoch": 2},
    },
    "several batches a step, nothing to validate": {
        "steps": 6, "epochs": 2, "accumulate": 2,
        "validate": {"val_check_interval": 2, "limit_val_batches": 0},
    },
    "uneven batches a step": {"steps": None, "epochs": 7, "accumulate": 4},
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_killed_training_ends_with_the_same_bits(tmp_path, shape):
    count = Steps()
    wanted = buy(tmp_path / "whole", count, **shape)
    batches = count.taken // 2  # of each of two rounds
    for every, kill in ((1, 2), (1, batches - 1), (2, batches // 2), (3, 7), (2, batches + 5)):
        if kill > 2 * batches - 2:
            continue
        folder = tmp_path / f"{every} {kill}"
        with pytest.raises(kit.KilledError):
            buy(folder, KillAfter(kill), every=every, **shape)
        check_same(buy(folder, every=every, **shape), wanted)


ENDS = {
    "no better": {"patience": 2},
    "no better within epochs": {"patience": 3, "steps": 7, "validate": {"val_check_interval": 3}},
    "no better in two epochs": {"patience": 1, "validate": {"check_val_every_n_epoch": 2}},
    "fitted": {"until_train_accuracy": 0.75},
    "fitted in passes": {"until_train_accuracy": 0.62, "steps": None},
    "members no better": {"patience": 2, "posterior": Ensemble(2), "test_posterior": True},
}


@pytest.mark.parametrize("ends", ENDS.values(), ids=ENDS.keys())
def test_a_killed_training_ends_in_the_same_epoch_with_the_same_bits(tmp_path, ends):
    options = {"steps": 3, "epochs": 12, **ends}
    count = Steps()
    wanted = buy(tmp_path / "whole", count, **options)
    assert any(1 < record["train/epochs"] < 12 for record in wanted[0])
    for kill in range(2, count.taken, count.taken // 5):
        folder = tmp_path / str(kill)
        with pytest.raises(kit.KilledError):
            buy(folder, KillAfter(kill), every=1 + kill % 2, **options)
        check_same(buy(folder, every=1 + kill % 2, **options), wanted)


def test_steps_before_the_checkpoint_are_not_taken_again(tmp_path):
    with pytest.raises(kit.KilledError):
        buy(tmp_path, KillAfter(10))
    count = Steps()
    buy(tmp_path, count)
    assert count.taken == (12 - 9) + 12


def test_a_training_killed_again_and_again_ends_with_the_same_bits(tmp_path):
    wanted = buy(tmp_path / "whole")
    for _ in range(7):
        with pytest.raises(kit.KilledError):
            buy(tmp_path / "run", KillAfter(4))
    check_same(buy(tmp_path / "run"), wanted)


@pytest.mark.parametrize(
    ("strategy", "posterior"), [(bald, Ensemble(3)), (learning_loss, None)], ids=["members", "loss"]
)
@pytest.mark.parametrize("kill", [5, 17, 29, 34])
def test_members_and_predicted_losses_go_on_as_well(tmp_path, strategy, posterior, kill):
    options = {"strategy": strategy, "posterior": posterior, "rounds": 2}
    wanted = buy(tmp_path / "whole", **options)
    with pytest.raises(kit.KilledError):
        buy(tmp_path / "run", KillAfter(kill), **options)
    check_same(buy(tmp_path / "run", **options), wanted)


def test_members_that_were_trained_are_not_trained_again(tmp_path):
    options = {"posterior": Ensemble(3), "rounds": 1}
    with pytest.raises(kit.KilledError):
        buy(tmp_path, KillAfter(12 + 12 + 5), **options)
    names = {file.name for file in (tmp_path / "state/round-0000").iterdir()}
    assert {"member-1.pt", "member-2.pt", "training.ckpt"} <= names
    count = Steps()
    buy(tmp_path, count, **options)
    assert count.taken == (12 - 3) + 12  # nothing of the members; the last round asks nobody


@pytest.mark.parametrize("workers", [0, 1])
def test_augmentation_does_not_depend_on_who_loads_a_batch(tmp_path, workers):
    wanted = buy(tmp_path / "whole", rounds=0)
    check_same(buy(tmp_path / "other", rounds=0, workers=workers), wanted)
    with pytest.raises(kit.KilledError):
        buy(tmp_path / "killed", KillAfter(5), rounds=0, workers=workers)
    check_same(buy(tmp_path / "killed", rounds=0, workers=workers), wanted)


def test_checkpoints_are_gone_once_the_round_is_kept(tmp_path):
    buy(tmp_path)
    assert not list((tmp_path / "state").glob("round-*"))


def test_without_a_directory_or_steps_nothing_is_kept_of_a_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kit.KilledError):
        buy(tmp_path / "run", KillAfter(5), every=None)
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize("content", [b"", b"rubbish", None], ids=["empty", "rubbish", "half"])
def test_a_damaged_checkpoint_is_refused_with_what_to_do(tmp_path, content):
    with pytest.raises(kit.KilledError):
        buy(tmp_path, KillAfter(5))
    file = tmp_path / "state/round-0000/training.ckpt"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ValueError, match=r"training\.ckpt cannot be read .*; remove it"):
        buy(tmp_path)
    file.unlink()
    check_same(buy(tmp_path), buy(tmp_path.with_name("whole")))


def test_a_damaged_member_is_refused_with_what_to_do(tmp_path):
    options, run = {"posterior": Ensemble(3)}, tmp_path / "run"
    with pytest.raises(kit.KilledError):
        buy(run, KillAfter(12 + 5), **options)
    file = run / "state/round-0000/member-1.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"member-1\.pt cannot be read .*; remove it"):
        buy(run, **options)
    file.unlink()
    check_same(buy(run, **options), buy(tmp_path / "whole", **options))


def test_the_mean_loss_counts_batches_that_make_a_step_together_in_full(tmp_path):
    options = {"rounds": 0, "scheduler": False, "every": None}
    (one,), _ = buy(tmp_path / "one", steps=1, **options)
    (two,), _ = buy(tmp_path / "two", steps=2, accumulate=2, **options)
    assert two["train/loss"] == pytest.approx(one["train/loss"], rel=0.3)


class Canary:
    def __reduce__(self):
        return (open, ("executed", "w"))


def test_code_in_a_checkpoint_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kit.KilledError):
        buy(tmp_path / "run", KillAfter(5))
    file = tmp_path / "run/state/round-0000/training.ckpt"
    torch.save({**torch.load(file), "more": Canary()}, file)
    with pytest.raises(ValueError, match="cannot be read"):
        buy(tmp_path / "run")
    assert not (tmp_path / "executed").exists()


def test_no_checkpoint_is_kept_of_weights_that_are_of_no_use(tmp_path):
    class Spoil(pl.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            if trainer.global_step == 5:
                torch.nn.init.constant_(module.network[0].weight, torch.nan)

    with pytest.raises(ValueError, match="diverged"):
        buy(tmp_path, Spoil(), every=2)
    kept = torch.load(tmp_path / "state/round-0000/training.ckpt")
    assert kept["global_step"] == 4
    check_same(buy(tmp_path, every=2), buy(tmp_path.with_name("whole")))
