"""MC dropout with masks that the whole pool shares.

Gal and Ghahramani, Dropout as a Bayesian Approximation, ICML 2016. A mask fixes one network drawn
from the posterior; sharing it over all inputs is what makes joint quantities over several inputs
meaningful, and a score independent of the batch it was computed in.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from dal.posteriors.masks import Dropout, Masks
from dal.posteriors.posterior import Predict, Prediction, check_several, evaluating, tapped_features
from dal.posteriors.replay import replaying

PROBE = 32  # rows of the first batch that the shortcuts are proved on


class MCDropout:
    """K networks drawn by dropout; everything but the dropout layers stays in evaluation mode.

    What the network computes before its first dropout layer runs once per batch; the rest runs
    for several samples side by side in one wide batch.

    Args:
        samples: K, at least 2.
        memory_mb: bound in MiB on the input of a dropout layer in the wide batch.

    Raises:
        ValueError: if K is below 2. `draw` raises it where the network has no dropout layer, has
            dropout that switching layers cannot reach, or gives K identical passes.
    """

    def __init__(self, samples: int = 20, memory_mb: float = 64.0) -> None:
        check_several(samples, "MC dropout")
        if not memory_mb > 0:
            raise ValueError(f"posterior.memory_mb must be positive, got {memory_mb}")
        self.samples = samples
        self.memory_mb = memory_mb

    @contextmanager
    def draw(
        self,
        model: nn.Module,
        generator: torch.Generator,
        labelled: Iterable[tuple[Tensor, Tensor]] = (),
    ) -> Iterator[Predict]:
        """Yield a function that predicts a batch as [B, K, C] with K fixed masks per layer."""
        layers = dropout_layers(model)
        masks = Masks(self.samples, generator)
        with (
            evaluating(model),
            torch.no_grad(),
            tapped_features(model) as features_of,
            replaying(model, layers, masks) as replay,
        ):
            proved: set[tuple[int, ...]] = set()  # frontiers on which wide equals single passes
            differing = False  # the samples, on the first batch
            most = self.samples  # side by side; fewer rows must not mean more samples

            def prove(rows: Tensor) -> None:
                with replay.tracing(rows):
                    refuse_hidden_dropout(model, rows)
                replay.trace(rows)
                replay.prove(rows)
                proved.add(replay.frontier)

            def predict(inputs: Tensor) -> Prediction:
                nonlocal differing, most
                if not proved:
                    try:
                        prove(inputs[:PROBE])
                    except torch.OutOfMemoryError:
                        raise
                    except RuntimeError:  # a forward that fixes its batch size
                        prove(inputs)
                replay.trace(inputs)
                features = features_of(inputs)
                if replay.frontier not in proved:
                    replay.prove(inputs)
                    proved.add(replay.frontier)
                size = min(max(int(self.memory_mb * 2**20) // max(replay.widest, 1), 1), most)
                starts = range(0, self.samples, size)
                try:
                    blocks = [replay.run(inputs, k, min(k + size, self.samples)) for k in starts]
                except torch.OutOfMemoryError:
                    most = size
                    raise
                log_probs = torch.cat([block.transpose(0, 1) for block in blocks], 1)  # [B, K, C]
                if not differing and bool((log_probs == log_probs[:, :1]).all()):
                    raise ValueError(
                        "MC dropout: all passes are identical, so that disagreement is 0 for every "
                        "item; the dropout layers are not reached, or training diverged and left "
                        "the network constant"
                    )
                differing = True
                return Prediction(log_probs, features)

            yield predict


def dropout_layers(model: nn.Module) -> dict[str, Dropout]:
    """Dropout layers with p > 0 by name.

    Raises:
        ValueError: if there is none.
    """
    layers = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, Dropout) and layer.p > 0
    }
    if not layers:
        raise ValueError(
            "MC dropout needs a torch.nn.Dropout layer with p > 0 and the network has none; "
            "use a model with dropout or posterior=deterministic"
        )
    return layers


def refuse_hidden_dropout(model: nn.Module, inputs: Tensor) -> None:
    """Raise if the network drops units where switching its dropout layers cannot reach.

    That is `F.dropout(x, training=self.training)`, and dropout inside attention and between
    recurrent layers. A pass in training mode, on copies of the buffers, shows the first kind.

    Raises:
        ValueError: naming the function or layer.
    """
    remedy = "use torch.nn.Dropout layers instead, or set its dropout to 0"
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention | nn.RNNBase) and module.dropout > 0:
            raise ValueError(f"MC dropout cannot reach the dropout inside {name or 'it'}; {remedy}")
    modes = [(module, module.training) for module in model.modules()]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    devices = [inputs.device] if inputs.is_cuda else []
    try:
        for module in model.modules():
            module.training = "Norm" not in type(module).__name__  # one row has no statistics
        with torch.random.fork_rng(devices), _FunctionalDropout() as seen:
            functional_call(model, buffers, (inputs.clone(),))
    finally:
        for module, mode in modes:
            module.training = mode
    if seen.names:
        raise ValueError(f"MC dropout cannot reach the network's call of {seen.names[0]}; {remedy}")


class _FunctionalDropout(TorchFunctionMode):
    """Notes calls of dropout as a function; dropout layers are replaced and make none."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if _drops(getattr(func, "__name__", ""), args, kwargs or {}):
            self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


def _drops(name: str, args: tuple[Any, ...], options: dict[str, Any]) -> bool:
    if name == "scaled_dot_product_attention":
        return bool(options.get("dropout_p", args[4] if len(args) > 4 else 0.0))
    if "dropout" not in name:
        return False
    p = options.get("p", args[1] if len(args) > 1 else 0.5)
    default = args[2] if len(args) > 2 else True
    return p > 0 and bool(options.get("training", options.get("train", default)))
