"""The Lightning callback that tells how far the models of two rounds say the same."""

from collections.abc import Mapping

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.func import functional_call

from dal.data.datamodule import ActiveDataModule


class PredictionAgreement(pl.Callback):
    """Compare the classes that a tested module gives the stop set with those of the round before.

    It works when the test has ended, on the module's device. Both predictions are made anew, so
    that a continued run sees what it saw before.

    Args:
        data: deals the stop set.
        previous: weights of the round before, None if there was none.

    Attributes:
        kappa: Cohen's, see `kappa`; None without a round before.
    """

    def __init__(self, data: ActiveDataModule, previous: Mapping[str, Tensor] | None) -> None:
        self.data = data
        self.previous = previous
        self.kappa: float | None = None

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Predict the stop set with both weights."""
        if self.previous is None:
            return
        like = next(pl_module.parameters())
        earlier = {name: value.to(like.device) for name, value in self.previous.items()}
        pairs: list[Tensor] = []

        def compare(inputs: Tensor, _: int) -> None:
            inputs = inputs.to(like)
            # What has two names in a module comes under both, as two tensors.
            before = functional_call(pl_module, earlier, (inputs,), tie_weights=False)
            pairs.append(torch.stack([logits.argmax(1) for logits in (pl_module(inputs), before)]))

        training = pl_module.training
        pl_module.eval()
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            for inputs in self.data.stop_dataloader():
                self.data.pieces.apply(compare, inputs, like)
        pl_module.train(training)
        if pairs:
            now, before = torch.cat(pairs, 1).cpu()
            self.kappa = kappa(now, before, len(self.data.data.classes))


def kappa(first: Tensor, second: Tensor, classes: int) -> float | None:
    """Cohen's kappa: (p_o - p_e) / (1 - p_e), agreement beyond that of chance.

    Source: Cohen, Educational and Psychological Measurement, 1960.

    Args:
        first: [N] long, from 0 to classes - 1.
        second: [N] long, the same.
        classes: C.

    Returns:
        At most 1; None where both name one and the same class throughout, which tells nothing.

    Half of the rows agree, as they would by chance.

    >>> kappa(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]), classes=2)
    0.0
    """
    table = torch.bincount(first * classes + second, minlength=classes**2).view(classes, classes)
    rows = len(first)
    chance = int((table.sum(0) * table.sum(1)).sum())  # of N² pairs
    if chance == rows**2:
        return None
    return (int(table.trace()) * rows - chance) / (rows**2 - chance)
