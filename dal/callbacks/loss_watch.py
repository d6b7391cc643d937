"""The Lightning callback that looks after the training loss."""

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from torch import Tensor


class LossWatch(pl.Callback):
    """Mean training loss of the last epoch; refuses a diverged model before it is asked."""

    def __init__(self) -> None:
        self.mean: float | None = None
        self._sum: Tensor | None = None
        self._steps = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin anew."""
        self._sum, self._steps = None, 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Add the loss of a step, without waiting for the device."""
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            self._sum = loss.detach() if self._sum is None else self._sum + loss.detach()
            self._steps += 1

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the mean; raise ValueError if it is no number, as the model is of no use then."""
        if self._sum is None:
            return
        self.mean = float(self._sum) / self._steps
        if not abs(self.mean) < float("inf"):
            raise ValueError(
                f"the training loss is {self.mean}: training diverged; lower optimizer.lr or "
                f"check the inputs"
            )
