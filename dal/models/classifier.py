"""The LightningModule that trains and tests a classification network."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Scheduler = Callable[[torch.optim.Optimizer], Any]


class Classifier(pl.LightningModule):
    """A network with cross-entropy loss, and accuracy, NLL and ECE on validation and test sets.

    Args:
        network: inputs [B, ...] -> logits [B, C].
        num_classes: C.
        optimizer: makes the optimiser from the parameters.
        scheduler: makes a learning-rate scheduler, stepped once per optimiser step.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        optimizer: Optimizer = torch.optim.Adam,
        scheduler: Scheduler | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.val_metrics = _metrics(num_classes)
        self.test_metrics = _metrics(num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits: [B, ...] -> [B, C]."""
        logits: Tensor = self.network(inputs)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the mean cross-entropy of a batch."""
        inputs, targets = batch
        return functional.cross_entropy(self(inputs), targets)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Measure a validation batch."""
        self._measure("val", self.val_metrics, batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Measure a test batch and return the classes predicted, [B]."""
        return self._measure("test", self.test_metrics, batch).argmax(dim=1)

    def configure_optimizers(self) -> Any:
        """Make the optimiser, and the scheduler if there is one."""
        optimizer = self.optimizer(self.parameters())
        if self.scheduler is None:
            return optimizer
        schedule = {"scheduler": self.scheduler(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _measure(
        self, part: str, metrics: MetricCollection, batch: tuple[Tensor, Tensor]
    ) -> Tensor:
        inputs, targets = batch
        log_probs = functional.log_softmax(self(inputs).float(), dim=1)
        metrics["accuracy"].update(log_probs, targets)
        metrics["nll"].update(functional.nll_loss(log_probs, targets, reduction="none"))
        metrics["ece"].update(log_probs.exp(), targets)
        for name, metric in metrics.items():
            self.log(f"{part}/{name}", metric, on_step=False, on_epoch=True)
        return log_probs


def build_network(
    factory: Callable[..., nn.Module], input_shape: tuple[int, ...], num_classes: int
) -> nn.Module:
    """Call a network factory with the shapes that it asks for, and try it on one batch.

    Args:
        factory: a function or class, or a partial of one; `input_shape` and `num_classes` are
            passed if it names them.
        input_shape: of one input, without the batch.
        num_classes: C.

    Raises:
        ValueError: if the network does not turn [2, ...] inputs into [2, C] logits.
    """
    shapes = {"input_shape": input_shape, "num_classes": num_classes}
    named = inspect.signature(factory).parameters
    network = factory(**{name: value for name, value in shapes.items() if name in named})
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            logits = network(torch.zeros(2, *input_shape))
    except RuntimeError as error:
        raise ValueError(
            f"the model cannot take inputs of shape {list(input_shape)}: {error}"
        ) from error
    for module, mode in modes.items():
        module.training = mode
    if logits.shape != (2, num_classes):
        raise ValueError(
            f"the model must give logits of shape [2, {num_classes}] for 2 inputs of shape "
            f"{list(input_shape)}, got {list(logits.shape)}"
        )
    return network


def _metrics(num_classes: int) -> MetricCollection:
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
            "nll": MeanMetric(nan_strategy="disable"),  # a diverged model must show as NaN
            "ece": MulticlassCalibrationError(num_classes, n_bins=15, validate_args=False),
        },
        compute_groups=False,
    )
