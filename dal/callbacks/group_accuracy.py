"""Accuracy on each group of the test rows, so that a biased selection shows."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from dal.data.datamodule import ActiveDataModule


class GroupAccuracy(pl.Callback):
    """Count, while a model is tested, how many rows of each group it gets right.

    A module takes part if its `test_step` returns [B] long, the classes that it predicts. Counts
    are kept on its device and added over the processes, so that the shares are exact.

    Args:
        data: has the test rows and their groups.
    """

    def __init__(self, data: ActiveDataModule) -> None:
        self.data = data
        self.names = data.data.test_groups.names
        self.counts = torch.zeros(2, len(self.names), dtype=torch.long)  # rows, and those right

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the groups of the rows that this process tests."""
        device = trainer.strategy.root_device
        self.own = self.data.test_groups().to(device)
        self.counts = torch.zeros_like(self.counts, device=device)
        self.seen = 0

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count a batch."""
        _, targets = batch
        first, self.seen = self.seen, self.seen + len(targets)
        if not isinstance(outputs, Tensor) or outputs.dtype != torch.long:
            return
        if outputs.shape != targets.shape:
            return
        right = (outputs == targets).long()
        values = torch.stack([torch.ones_like(right), right])  # [2, B]
        self.counts.index_add_(1, self.own[first : self.seen], values)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the counts of all processes."""
        self.counts = trainer.strategy.reduce(self.counts, reduce_op="sum").cpu()

    @property
    def metrics(self) -> dict[str, Any]:
        """`test/group_accuracy` of each group that has rows, and `test/worst_group_accuracy`."""
        counted = zip(self.names, *self.counts.tolist(), strict=True)
        shares = {name: right / rows for name, rows, right in counted if rows}
        if not shares:
            return {}
        worst = min(shares.values())
        return {"test/worst_group_accuracy": worst, "test/group_accuracy": shares}
