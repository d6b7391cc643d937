"""The Lightning callback that ends a training once it gets no better, and keeps its best."""

from copy import deepcopy
from typing import Any

import lightning.pytorch as pl
from torch import distributed

from dal.callbacks.acquire import Acquire
from dal.models.loss_prediction import LossPrediction

JUDGE = "val/accuracy"


class KeepBest(pl.Callback):
    """Ends a training after some validations no better in `val/accuracy`, and takes the best back.

    It must stand before the callback that queries, which shall see the best weights, those of a
    loss prediction learnt beside the module included. What it knows is in Lightning's checkpoint,
    and all processes that train together decide the same.

    Args:
        patience: validations in a row, one an epoch if the Trainer is not told otherwise, that may
            be no better than the best; as good is no better.

    Attributes:
        metrics: what validation measured of the best weights, by name.

    Raises:
        ValueError: if there is no validation, or it does not measure `val/accuracy`.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.metrics: dict[str, float] = {}
        self._weights: dict[str, Any] = {}
        self._beside: list[dict[str, Any]] = []
        self._best = -1.0
        self._waited = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights if they are the best so far; end the training if that is long ago."""
        if trainer.sanity_checking:
            return
        measured = {
            name: value
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/")
        }
        if JUDGE not in measured:
            raise ValueError(
                f"patience needs a module that logs {JUDGE} for an epoch of validation, got "
                f"{', '.join(sorted(measured)) or 'nothing'}"
            )
        accuracy = float(trainer.strategy.reduce(measured[JUDGE].clone(), reduce_op="mean"))
        if accuracy > self._best:
            self._best, self._waited = accuracy, 0
            self.metrics = {name: float(value) for name, value in measured.items()}
            self._weights = deepcopy(pl_module.state_dict())
            self._beside = [deepcopy(losses.state_dict()) for losses in _beside(trainer)]
            return
        self._waited += 1
        if self._waited >= self.patience:
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the best weights back, in all processes those of the first."""
        if not self._weights:
            raise ValueError(
                "patience needs a validation after each epoch and there was none; see val_size, "
                "trainer.limit_val_batches and trainer.check_val_every_n_epoch"
            )
        pl_module.load_state_dict(self._weights)
        for losses, state in zip(_beside(trainer), self._beside, strict=True):
            losses.load_state_dict(state, pl_module.device)
        if trainer.world_size > 1:  # running averages of normalisation differ
            for value in pl_module.state_dict().values():
                distributed.broadcast(value, 0)

    def state_dict(self) -> dict[str, Any]:
        """Return what a training that goes on in the middle has to know."""
        return {
            "metrics": self.metrics,
            "weights": self._weights,
            "beside": self._beside,
            "best": self._best,
            "waited": self._waited,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.metrics, self._weights = state_dict["metrics"], state_dict["weights"]
        self._beside = state_dict["beside"]
        self._best, self._waited = state_dict["best"], state_dict["waited"]


def _beside(trainer: pl.Trainer) -> list[LossPrediction]:
    callbacks: list[Any] = getattr(trainer, "callbacks")  # noqa: B009 (Lightning declares none)
    losses = [one.losses for one in callbacks if isinstance(one, Acquire)]
    return [one for one in losses if one is not None]
