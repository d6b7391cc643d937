"""Some rows of a data set as batches."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from dal.data.batches import Batch
from dal.data.data import Rows, Transform


class View(Dataset[Any]):
    """Batches of some rows under one transform: inputs, or (inputs, labels).

    Args:
        rows: [rows, ...]; images, or tensors.
        normalise: of a batch.
        indices: [N] long; which rows, in which order.
        labels: [N] long, or None where they are not known.
        augment: of one image, before `normalise`.
    """

    def __init__(
        self,
        rows: Rows | Tensor,
        normalise: Transform,
        indices: Tensor,
        labels: Tensor | None = None,
        augment: Transform | None = None,
    ) -> None:
        self.rows = rows
        self.normalise = normalise
        self.indices = indices
        self.labels = labels
        self.augment = augment

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, batch: Batch | slice) -> Tensor | tuple[Tensor, Tensor]:
        positions = batch.positions if isinstance(batch, Batch) else batch
        inputs = self.rows[self.indices[positions]]
        if self.augment is not None and isinstance(batch, Batch):
            inputs = _augmented(inputs, self.augment, batch.seed)
        inputs = self.normalise(inputs)
        return inputs if self.labels is None else (inputs, self.labels[positions])


def _augmented(images: Tensor, augment: Transform, seed: int) -> Tensor:
    """Augment the images of a batch alike, whichever process or worker loads it."""
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)
        return torch.stack([augment(image) for image in images])
