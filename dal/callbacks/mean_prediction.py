"""The Lightning callback that tests a module by the mean prediction of a posterior's samples."""

import math
from contextlib import ExitStack
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from dal.acquisition_draws import drawing
from dal.data.datamodule import ActiveDataModule
from dal.posteriors.posterior import Posterior


class MeanPrediction(pl.Callback):
    """Lets a module answer with the logarithm of the mean probability while it is tested.

    The samples are those that the round's query looks at. Whatever metrics the module measures in
    its `test_step` are then those of the mean: its softmax changes nothing more.

    Args:
        posterior: gives the samples.
        data: holds labelled rows, round and seed.
    """

    def __init__(self, posterior: Posterior, data: ActiveDataModule) -> None:
        self.posterior = posterior
        self.data = data
        self._drawn = ExitStack()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the samples and put their mean in front of the module's own forward."""
        module: Any = pl_module
        like = next(module.parameters())
        predict = self._drawn.enter_context(drawing(self.posterior, module, self.data, like))

        def mean(inputs: Tensor) -> Tensor:
            del module.forward  # the samples are passes of the module itself
            try:
                log_probs = predict(inputs).log_probs  # [B, K, C]
            finally:
                module.forward = mean
            return log_probs.logsumexp(1) - math.log(log_probs.shape[1])

        module.forward = mean  # on the object, in front of the class's method
        self._drawn.callback(delattr, module, "forward")

    def on_test_end(self, *_: Any) -> None:
        """Give the module its own forward back."""
        self._close()

    def on_exception(self, *_: Any) -> None:
        """Give it back to a module whose test failed."""
        self._close()

    def _close(self) -> None:
        with torch.set_grad_enabled(torch.is_grad_enabled()):  # a failed test has ended its own
            self._drawn.close()
