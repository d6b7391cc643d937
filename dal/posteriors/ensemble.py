"""Networks trained apart, each on its own: the committee of query by committee."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from dal.posteriors.posterior import (
    Predict,
    Prediction,
    check_several,
    evaluating,
    log_softmax,
    tapped_features,
)


class Ensemble:
    """K networks that differ in their weights at the start, their batches, and perhaps their rows.

    Lakshminarayanan, Pritzel and Blundell, NeurIPS 2017; with bootstrapped rows the query by
    bagging of Abe and Mamitsuka, ICML 1998. `run_rounds` trains the members anew each round, from
    fresh weights whatever `weights` says, with the network's own trainer and optimiser; that is K
    trainings a round. The network that is tested is trained on every labelled row; without
    bootstrap it is the first of the K.

    Args:
        samples: K, at least 2.
        bootstrap: train each member on as many labelled rows as there are, drawn with replacement.

    Raises:
        ValueError: if K is below 2. `draw` raises it where the members were not trained.
    """

    def __init__(self, samples: int = 5, *, bootstrap: bool = False) -> None:
        check_several(samples, "an ensemble")
        self.samples = samples
        self.bootstrap = bootstrap
        self.members: Sequence[nn.Module] = ()

    def train(self, train_member: Callable[[str], nn.Module]) -> None:
        """Train the members beside the network that is tested.

        Args:
            train_member: makes and trains the member of this name.
        """
        self.members = ()  # not the last round's, should this fail
        extra = self.samples if self.bootstrap else self.samples - 1
        self.members = [train_member(f"member {number + 1}") for number in range(extra)]

    @contextmanager
    def draw(
        self,
        model: nn.Module,
        generator: torch.Generator,
        labelled: Iterable[tuple[Tensor, Tensor]] = (),
    ) -> Iterator[Predict]:
        """Yield a function that predicts a batch as [B, K, C]; features are the tested network's.

        The members are on the network's device inside the block and on the CPU after it.
        """
        networks = [*self.members] if self.bootstrap else [model, *self.members]
        if len(networks) != self.samples:
            raise ValueError(
                f"the ensemble needs {self.samples} trained networks, got {len(networks)}; train "
                f"with run_rounds, or set `members` to networks of your own"
            )
        device = next(model.parameters()).device
        with ExitStack() as stack, torch.no_grad():
            features_of = stack.enter_context(tapped_features(model))
            stack.enter_context(evaluating(model))
            for member in self.members:
                stack.callback(member.cpu)  # also of a member that found no room
                stack.enter_context(evaluating(member.to(device)))

            def predict(inputs: Tensor) -> Prediction:
                own = log_softmax(model(inputs))
                features = features_of(inputs)
                others = [log_softmax(member(inputs)) for member in self.members]
                kept = others if self.bootstrap else [own, *others]
                return Prediction(torch.stack(kept, 1), features)  # K of [B, C] -> [B, K, C]

            yield predict
