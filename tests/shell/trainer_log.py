"""A round log that sees each round's training too."""

import lightning.pytorch as pl

from dal.callbacks.round_log import RoundLog


class TrainerLog(RoundLog, pl.Callback):
    def trainer_callbacks(self):
        return [self]
