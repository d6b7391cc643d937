"""The Lightning callback that ends a training once it fits its labels."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor


class UntilAccuracy(pl.Callback):
    """Ends a training with the first epoch of which a share of the rows was predicted right.

    A row counts as it is trained on, in its batch's forward pass: augmented and with dropout.
    Ash, Zhang, Krishnamurthy, Langford and Agarwal (BADGE), ICLR 2020, train so. The state is in
    Lightning's checkpoint, and all processes that train together decide the same.

    Args:
        share: of the rows, from 0 to 1.

    Raises:
        ValueError: if training steps do not call the module for one row of logits per label.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._agreed = (0, 0)  # rows of this epoch, those right and all, of all processes
        self._right: Tensor | None = None  # since then, of this process
        self._rows = 0
        self._logits: Tensor | None = None
        self._hook: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to watch what the module predicts."""
        self._hook = pl_module.register_forward_hook(self._keep)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin anew."""
        self._agreed, self._right, self._rows = (0, 0), None, 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count the rows of a batch, without waiting for the device."""
        labels, logits, self._logits = batch[1], self._logits, None
        if logits is None or logits.shape[:-1] != labels.shape:
            raise ValueError(
                "until_train_accuracy needs a module whose training step calls it for logits "
                "[B, C] of the batch"
            )
        right = (logits.argmax(1) == labels).sum()
        self._right = right if self._right is None else self._right + right
        self._rows += len(labels)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the training if the epoch was good enough."""
        self.agree(trainer)
        right, rows = self._agreed
        if not rows or right / rows >= self.share:
            trainer.should_stop = True

    def agree(self, trainer: pl.Trainer) -> None:
        """Add the counts of all processes that train together; a checkpoint keeps the sum."""
        if self._right is None:
            return
        counts = torch.stack([self._right, torch.full_like(self._right, self._rows)])
        right, rows = trainer.strategy.reduce(counts, reduce_op="sum").tolist()
        self._agreed = (self._agreed[0] + right, self._agreed[1] + rows)
        self._right, self._rows = None, 0

    def on_train_end(self, *_: Any) -> None:
        """Take the hook off."""
        self._close()

    def on_exception(self, *_: Any) -> None:
        """Take the hook off a module whose training failed."""
        self._close()

    def state_dict(self) -> dict[str, Any]:
        """Return what a training that goes on in the middle has to know."""
        return {"right": self._agreed[0], "rows": self._agreed[1]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._agreed = (state_dict["right"], state_dict["rows"])

    def _keep(self, module: Any, inputs: Any, output: Any) -> None:
        # Among several processes the whole training step is a call too, whose output is the loss.
        if isinstance(output, Tensor) and output.dim() > 1:
            self._logits = output.detach()

    def _close(self) -> None:
        if self._hook is not None:
            self._hook.remove()
