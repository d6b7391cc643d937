"""The samples of a posterior for the length of a query, from as many labelled rows as fit."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from dal.data.datamodule import ActiveDataModule
from dal.posteriors.posterior import Posterior, Predict
from dal.seeding import generator_for


@contextmanager
def drawing(
    posterior: Posterior, model: nn.Module, data: ActiveDataModule, like: Tensor
) -> Iterator[Predict]:
    """Fix the samples of a posterior; on smaller batches of labelled rows if memory runs out.

    Args:
        posterior: gives the samples, the same ones at each attempt.
        model: inputs [B, ...] -> logits [B, C].
        data: holds labelled rows, round and seed.
        like: a weight of the model.

    Raises:
        ValueError: from the posterior, or if there is no memory for them.
    """
    labelled, drawn = _Labelled(data), list[Predict]()
    with ExitStack() as stack:

        def enter() -> None:
            labelled.largest = 0
            masks = generator_for(data.seed, "masks", data.round)
            drawn.append(stack.enter_context(posterior.draw(model, masks, labelled)))

        while not data.pieces.attempt(enter, lambda: labelled.largest, like):
            pass
        yield drawn[0]


class _Labelled:
    """Batches of the labelled rows, as large as fit by now; notes the largest one."""

    def __init__(self, data: ActiveDataModule) -> None:
        self.data = data
        self.largest = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for inputs, labels in self.data.labelled_dataloader() if self.data.n_labelled else ():
            self.largest = max(self.largest, len(inputs))
            yield inputs, labels
