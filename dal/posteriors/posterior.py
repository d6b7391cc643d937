"""What a posterior is: K predictions for a batch, from one set of K models for the whole pool."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dal.functional.checks import check_count


@dataclass(frozen=True)
class Prediction:
    """Predictions for a batch of B inputs.

    Args:
        log_probs: [B, K, C] float32; one distribution per posterior sample.
        features: [B, D] float32; what enters the last layer with dropout off, or None if the
            network shows no such thing.
        predicted_losses: [B] float32; of a loss-prediction module, or None without one.
    """

    log_probs: Tensor
    features: Tensor | None
    predicted_losses: Tensor | None = None

    @cached_property
    def probs(self) -> Tensor:
        """[B, C] float32: mean of the samples, however many strategies look at it."""
        return self.log_probs.exp().mean(1)


Predict = Callable[[Tensor], Prediction]


class Posterior(Protocol):
    """A distribution over predictions, of which `samples` are drawn."""

    samples: int

    def draw(
        self,
        model: nn.Module,
        generator: torch.Generator,
        labelled: Iterable[tuple[Tensor, Tensor]] = (),
    ) -> AbstractContextManager[Predict]:
        """Fix the K samples; inside the block they predict any number of batches.

        The model is in evaluation mode inside, and as it was before after the block.

        Args:
            model: inputs [B, ...] -> logits [B, C].
            generator: on the CPU; the only source of randomness.
            labelled: batches of the inputs [B, ...] and labels [B] that the model was trained on,
                on any device, for a posterior that is conditioned on them.
        """
        ...


def check_several(samples: int, what: str) -> None:
    """Raise ValueError unless a posterior of this kind draws at least two samples."""
    check_count("posterior.samples", samples, 1)
    if samples < 2:
        raise ValueError(
            f"posterior.samples must be at least 2 for {what}, got {samples}; "
            f"one sample is posterior=deterministic"
        )


def log_softmax(logits: Tensor) -> Tensor:
    """Log-probabilities in float32 whatever the training precision.

    Raises:
        ValueError: if a logit is NaN or inf, or not one row of C >= 2 logits comes per input. A
            logit of -inf stands for a probability of 0 and is legal beside finite ones.
    """
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise ValueError(f"the model must give logits [B, C >= 2], got shape {list(logits.shape)}")
    log_probs = logits.float().log_softmax(1)
    if log_probs.isnan().any():  # of NaN, of inf, and where all logits are -inf
        raise ValueError(
            "the model gives NaN or infinite logits: its training diverged; lower optimizer.lr or "
            "check the inputs"
        )
    return log_probs


def head_of(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Last layer of a model: its (or its network's) `head`, or its last linear layer.

    Raises:
        ValueError: if it has neither.
    """
    owner = model if hasattr(model, "head") else getattr(model, "network", model)
    head = getattr(owner, "head", None)
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if head is None and not linear:
        raise ValueError("the model shows no last layer: give the model a head(z)")
    found: Callable[[Tensor], Tensor] = head if head is not None else linear[-1]
    return found


def check_head(head: Callable[[Tensor], Tensor], features: Tensor | None, logits: Tensor) -> Tensor:
    """Raise ValueError unless the last layer makes these logits of these features.

    Args:
        head: features [B, D] -> logits [B, C].
        features: [B, D], or None if the network shows none.
        logits: [B, C]; what the model gave, perhaps in half precision.

    Returns:
        The features.
    """
    remedy = "give the model features(x) and head(z) so that model(x) = head(features(x))"
    if features is None:
        raise ValueError(f"the posterior needs features and the model shows none: {remedy}")
    try:
        again = head(features.to(logits.dtype)).float()
        close = torch.allclose(again, logits.float(), rtol=0.05, atol=0.05)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ValueError(f"the model's last layer does not take its features: {remedy}") from error
    if not close:
        raise ValueError(f"the model's logits must be its last layer's, got others: {remedy}")
    return features


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode and restore each one's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def tapped_features(model: nn.Module) -> Iterator[Callable[[Tensor], Tensor | None]]:
    """Catch the features of each forward pass on its way.

    They are what `features(x)` returns, of the model or of its `network`, if there is such a
    method; otherwise what enters the last linear layer that the pass calls.

    Yields:
        A function that takes the inputs of the last forward pass and returns their features
        [B, D] in float32, or None if nothing was caught.
    """
    owner: Any = model if hasattr(model, "features") else getattr(model, "network", model)
    method = getattr(owner, "features", None)
    caught: list[Tensor] = []

    def keep(features: Tensor) -> None:
        caught[:] = [features]

    if callable(method) and not isinstance(method, nn.Module):

        def features(*args: Any, **kwargs: Any) -> Tensor:
            out: Tensor = method(*args, **kwargs)
            keep(out)
            return out

        owner.features = features  # on the object, in front of the class's method
        try:
            yield lambda inputs: _flat(caught[0] if caught else method(inputs))
        finally:
            del owner.features
        return
    hooks = [
        module.register_forward_pre_hook(lambda _module, args: keep(args[0]))
        for module in model.modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        yield lambda _inputs: _flat(caught[0]) if caught else None
    finally:
        for hook in hooks:
            hook.remove()


def _flat(features: Tensor) -> Tensor:
    return features.flatten(1).float()
