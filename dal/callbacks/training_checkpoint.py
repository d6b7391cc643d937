"""The Lightning callback from which a long training goes on where it was killed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, distributed

from dal.data.datamodule import ActiveDataModule
from dal.files import load_tensors, reason, settle, unwritable
from dal.functional.shards import Shards


class TrainingCheckpoint(pl.Callback):
    """Keeps Lightning's checkpoint of a training, every so many steps.

    A training that goes on from it ends with the same weights, bit for bit on a CPU: the next
    batch and the state of torch's random generators are kept too, of each process its own.

    Args:
        file: where it is kept; the folder is made.
        every_n_steps: optimiser steps from one to the next.
        check: called before a checkpoint is kept; what it raises ends the training, so that none
            is kept of weights that are of no use.
    """

    def __init__(self, file: Path, every_n_steps: int, check: Callable[[pl.Trainer], None]) -> None:
        self.file = file
        self.check = check
        self.every = every_n_steps
        self.saved = 0
        self.state: dict[str, Any] = {}
        self.loaded: dict[str, Any] = {}

    def found(self) -> Path | None:
        """Return the checkpoint of an interrupted training, or None.

        Raises:
            ValueError: if it is damaged, or holds more than plain tensors and numbers.
        """
        if not self.file.exists():
            return None
        try:
            self.saved = int(load_tensors(self.file)["callbacks"][self.state_key]["step"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.file} cannot be read ({reason(error)}); remove it, and the training of "
                f"this round begins anew"
            ) from error
        return self.file

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the loader begin with the batch after the last."""
        data = getattr(trainer, "datamodule", None)
        if self.loaded and isinstance(data, ActiveDataModule):
            data.continue_training(self.loaded["epoch"], self.loaded["batches"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Bring the random generators to where they were."""
        if not self.loaded:
            return
        rank, device = trainer.global_rank, trainer.strategy.root_device
        torch.set_rng_state(self.loaded["cpu"][rank].cpu().clone())  # torch reads no views
        if device.type == "cuda":
            torch.cuda.set_rng_state(self.loaded["cuda"][rank].cpu().clone(), device)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        number: int,
    ) -> None:
        """Save, if it is time and no validation comes first, which would be left out."""
        if not (trainer.is_last_batch or _validates_after(trainer, number)):
            self._save(trainer, trainer.current_epoch, number + 1)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, if it is time in the middle of an epoch."""
        if trainer.state.fn == "fit" and not (trainer.sanity_checking or trainer.is_last_batch):
            self._save(trainer, trainer.current_epoch, trainer.fit_loop.batch_idx + 1)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, if it is time: an epoch cannot begin from a checkpoint of the step before."""
        self._save(trainer, trainer.current_epoch + 1, 0)

    def _save(self, trainer: pl.Trainer, epoch: int, batches: int) -> None:
        step, device = trainer.global_step, trainer.strategy.root_device
        if step // self.every == self.saved // self.every:
            return
        self.saved = step
        if step >= trainer.estimated_stepping_batches or trainer.should_stop:
            return  # the training is over
        self.check(trainer)
        self.state = {"step": step, "epoch": epoch, "batches": batches}
        self.state["cpu"] = _of_each(trainer, torch.get_rng_state())
        if device.type == "cuda":
            self.state["cuda"] = _of_each(trainer, torch.cuda.get_rng_state(device))
        unfinished = self.file.with_name(f"{self.file.name}.partial")
        try:
            trainer.save_checkpoint(unfinished)
            if trainer.is_global_zero:
                settle(unfinished, self.file)
        except (OSError, RuntimeError) as error:  # of torch where the disk is full
            unfinished.unlink(missing_ok=True)
            raise unwritable(self.file, error) from error

    def state_dict(self) -> dict[str, Any]:
        """Return what Lightning's checkpoint lacks."""
        return self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what Lightning's checkpoint lacks."""
        self.loaded = state_dict


def _validates_after(trainer: pl.Trainer, number: int) -> bool:
    """Whether a validation follows a batch; a save that waited in vain would split a step."""
    every, epochs = trainer.val_check_batch, trainer.check_val_every_n_epoch
    if every is None or not sum(trainer.num_val_batches):
        return False
    if epochs is None:
        return (trainer.fit_loop.total_batch_idx + 1) % every == 0
    return (trainer.current_epoch + 1) % epochs == 0 and (number + 1) % every == 0


def _of_each(trainer: pl.Trainer, state: Tensor) -> Tensor:
    """States of all processes [count, bytes], the same in each."""
    device = trainer.strategy.root_device
    group = distributed.group.WORLD if trainer.world_size > 1 else None
    return Shards(0, group, device).each(state.to(device)).cpu()
