"""Some rows of a data set as batches."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

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

    def __getitem__(self, positions: list[int] | slice) -> Tensor | tuple[Tensor, Tensor]:
        inputs = self.rows[self.indices[positions]]
        if self.augment is not None:
            inputs = torch.stack([self.augment(image) for image in inputs])
        batch = self.normalise(inputs)
        return batch if self.labels is None else (batch, self.labels[positions])
