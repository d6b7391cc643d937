"""The Lightning callback that leaves SIGTERM to the handler that was there before Lightning's."""

import signal
import threading
from typing import Any

import lightning.pytorch as pl

from dal.signals import stop_if_asked


class StopAtOnce(pl.Callback):
    """Puts the handler back that Lightning covers with its own while a trainer works.

    Where several processes train together, Lightning's lets them talk to each other from within
    the handler; a signal that comes while they do so anyway would leave all of them waiting.
    """

    def __init__(self) -> None:
        self.handler: Any = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Remember the handler, before Lightning takes its place."""
        self.handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put it back."""
        self._put_back()

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop, if a signal came while Python could raise nothing."""
        stop_if_asked()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put it back."""
        self._put_back()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put it back."""
        self._put_back()

    def _put_back(self) -> None:
        if callable(self.handler) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)
