"""A log that holds up the training of the second round, so that a test can interrupt it there."""

import time
from pathlib import Path

import lightning.pytorch as pl

from dal.callbacks.wandb_log import WandbLog


class WaitingLog(WandbLog):
    """Waits for as long as `place` holds a file of the strategy's name."""

    def __init__(self, *, place: str, **settings):
        super().__init__(**settings)
        self.place = Path(place)

    def on_run_start(self, run):
        super().on_run_start(run)
        self.current = run

    def trainer_callbacks(self):
        return [*super().trainer_callbacks(), Wait(self)]


class Wait(pl.Callback):
    def __init__(self, log):
        self.own = log

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        run, place = self.own.current, self.own.place
        if len(run.records) == 1 and batch_idx == 3 and (place / run.strategy).exists():
            (place / f"{run.strategy} waits").touch()
            while (place / run.strategy).exists():
                time.sleep(0.05)
