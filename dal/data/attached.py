"""The data module that a Trainer works with."""

import lightning.pytorch as pl

from dal.data.datamodule import ActiveDataModule


def data_of(trainer: pl.Trainer) -> ActiveDataModule:
    """Return a Trainer's data module; raise ValueError if it has no pool."""
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, ActiveDataModule):
        raise ValueError(
            "Acquire needs the pool: call trainer.fit(model, datamodule=ActiveDataModule(...)), "
            f"got {type(data).__name__}"
        )
    return data
