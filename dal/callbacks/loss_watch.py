"""The Lightning callback that looks after the training loss."""

import math
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from dal.data.datamodule import ActiveDataModule

LOOK_EVERY = 50  # steps; each look waits for the device


class LossWatch(pl.Callback):
    """Mean training loss of the last epoch; stops a training that diverged.

    Attributes:
        validated: optimiser steps before the last validation; None: there was none.

    Raises:
        ValueError: at most `LOOK_EVERY` steps after a loss that is no finite number, and before
            the model is asked.
    """

    def __init__(self) -> None:
        self.mean: float | None = None
        self.validated: int | None = None
        self._sum: Tensor | None = None
        self._steps = 0
        self._recent: list[Tensor] = []  # not looked at yet

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin anew."""
        self._sum, self._steps, self._recent = None, 0, []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Add the loss of a step, mostly without waiting for the device."""
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            loss = loss.detach()
            if pl_module.automatic_optimization:  # Lightning has divided it
                loss = loss * trainer.accumulate_grad_batches
            self._sum = loss if self._sum is None else self._sum + loss
            self._steps += 1
            self._recent.append(loss.reshape(()))
            if len(self._recent) == LOOK_EVERY:
                self.look(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note which weights were validated."""
        if not trainer.sanity_checking:
            self.validated = trainer.global_step

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the last steps of an epoch."""
        self.look(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the mean over steps and processes; raise ValueError if it is no number.

        The model is of no use then.
        """
        self.agree(trainer)
        if self._sum is None:
            return
        self.mean = float(self._sum) / self._steps
        if not math.isfinite(self.mean):
            raise _diverged(trainer, self._steps, self.mean)

    def agree(self, trainer: pl.Trainer) -> None:
        """Look, and let all processes that train together go on with the mean of their sums."""
        self.look(trainer)
        if self._sum is not None:
            self._sum = trainer.strategy.reduce(self._sum, reduce_op="mean")

    def state_dict(self) -> dict[str, Any]:
        """Return what a training that goes on in the middle has to know."""
        return {"sum": self._sum, "steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._sum, self._steps = state_dict["sum"], state_dict["steps"]

    def look(self, trainer: pl.Trainer) -> None:
        """Raise ValueError if a loss since the last look is no finite number."""
        if not self._recent:
            return
        losses = torch.stack(self._recent).tolist()
        self._recent = []
        for step, loss in enumerate(losses, self._steps - len(losses) + 1):
            if not math.isfinite(loss):
                raise _diverged(trainer, step, loss)


def _diverged(trainer: pl.Trainer, step: int, loss: float) -> ValueError:
    places = [f"epoch {trainer.current_epoch + 1}"] if trainer.current_epoch else []
    data = getattr(trainer, "datamodule", None)
    if isinstance(data, ActiveDataModule):
        places.insert(0, f"round {data.round}")
    return ValueError(
        f"{', '.join([*places, f'step {step}'])}: the training loss is {loss}: training diverged; "
        f"lower optimizer.lr or check the inputs"
    )
