"""Run a network under K dropout masks, computing what precedes the first dropout layer once."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dal.posteriors.masks import Dropout, Masks
from dal.posteriors.posterior import log_softmax

Mode = Literal["lean", "full", "single"]


class Replay:
    """Passes of one network under masks, wide over samples and without its deterministic prefix.

    `trace` runs the network with dropout off and keeps the outputs of the module calls that ended
    before any dropout layer was reached: nothing random has entered them. A container replaces
    its parts, so that the frontier lists the outermost such calls in order. Control flow cannot
    differ before the first random value, so a later pass meets the same calls in the same order
    and takes their outputs from the list, repeated once per sample.

    Mostly the last of them alone is used, the others only feed each other. So in the mode `lean`
    the input and the others are tensors on the meta device: they have a shape and no values, and
    whatever mixes them with values is an error. `prove` compares with full passes; where it or a
    later pass fails, all outputs are kept (`full`), and at last each sample has a full pass of its
    own (`single`), which needs no assumption.
    """

    def __init__(self, model: nn.Module, masks: Masks) -> None:
        self.model = model
        self.masks = masks
        self.mode: Mode = "lean"
        self.widest = 0  # bytes of the largest dropout input, for one sample
        self._state: Literal["idle", "trace", "replay"] = "idle"
        self._frontier: list[tuple[nn.Module, Tensor]] = []
        self._next = 0
        self._random = False  # a dropout layer was reached in this pass
        self._samples = (0, 0)
        self._batch = 0

    @property
    def frontier(self) -> tuple[int, ...]:
        """Which module calls the last trace kept, to tell whether that was proved."""
        return tuple(id(module) for module, _ in self._frontier)

    @contextmanager
    def tracing(self, inputs: Tensor) -> Iterator[None]:
        """Treat forward passes inside the block as traces: dropout is off."""
        self._state, self._batch = "trace", len(inputs)
        self._frontier, self._random, self.widest = [], False, 0
        try:
            yield
        finally:
            self._state = "idle"

    def trace(self, inputs: Tensor) -> None:
        """Run the deterministic network once.

        Raises:
            ValueError: if no dropout layer was reached.
        """
        with self.tracing(inputs):
            self.model(inputs.clone())  # a forward may change its input in place
        if not self._random:
            raise ValueError(
                "MC dropout: the network never calls its dropout layers in evaluation mode; "
                "call them as modules in forward, also when it is not training"
            )

    def prove(self, inputs: Tensor) -> None:
        """Choose the leanest mode that gives what single full passes give, after a trace."""
        wanted = torch.stack([self._single(inputs, sample) for sample in (0, 1)])
        tolerance = 0.1 if torch.is_autocast_enabled(inputs.device.type) else 1e-3
        while self.mode != "single":
            got = self.run(inputs, 0, 2)
            if torch.allclose(got, wanted, atol=tolerance, rtol=tolerance):
                return
            self._fall_back(inputs)

    def run(self, inputs: Tensor, start: int, stop: int) -> Tensor:
        """Log-probabilities [stop - start, B, C] of samples start to stop, after a trace."""
        if self.mode == "single":
            return torch.stack([self._single(inputs, sample) for sample in range(start, stop)])
        try:
            return self._wide(inputs, start, stop)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError):  # values used that are not there, or a fixed B
            self._fall_back(inputs)
            return self.run(inputs, start, stop)

    def _wide(self, inputs: Tensor, start: int, stop: int) -> Tensor:
        count = stop - start
        self._samples = (start, stop)
        if self.mode == "lean" and self._frontier:
            with _NoValues():
                logits = self._pass(_hollow(inputs, count), start, stop)
            if logits.is_meta:
                raise RuntimeError("the output was computed from values that were not kept")
        else:
            logits = self._pass(self._repeat(inputs), start, stop)
        wide: Tensor = log_softmax(logits).unflatten(0, (count, len(inputs)))
        return wide

    def _fall_back(self, inputs: Tensor) -> None:
        self.mode = "full" if self.mode == "lean" else "single"
        self.trace(inputs)

    def call(
        self, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Stand in for the forward of a module that is no dropout layer."""
        if self._state == "trace":
            before, depth = self._random, len(self._frontier)
            out = forward(*args, **kwargs)
            batched = isinstance(out, Tensor) and out.dim() > 0 and len(out) == self._batch
            if batched and not before and not self._random:
                self._frontier[depth:] = [(module, out)]
                if depth and self.mode == "lean":
                    earlier, value = self._frontier[depth - 1]
                    self._frontier[depth - 1] = (earlier, _hollow(value, 1))
            return out
        if self._state == "replay" and self._next < len(self._frontier):
            expected, value = self._frontier[self._next]
            if expected is module:
                self._next += 1
                return self._repeat(value)
        return forward(*args, **kwargs)

    def drop(self, name: str, layer: Dropout, inputs: Tensor) -> Tensor:
        """Stand in for the forward of a dropout layer."""
        if self._state != "replay":
            self._random = True
            self.widest = max(self.widest, inputs.numel() * inputs.element_size())
            return inputs.clone()  # a later in-place layer must not reach what was kept
        start, stop = self._samples
        if len(inputs) != (stop - start) * self._batch:
            raise ValueError(
                f"dropout layer {name} must see the batch of {self._batch} as its first dimension, "
                f"got inputs of shape {list(inputs.shape)}"
            )
        tall = inputs.unflatten(0, (stop - start, self._batch))  # [K, B, ...]
        return self.masks.apply(name, layer, tall, start, stop).flatten(0, 1)

    def _single(self, inputs: Tensor, sample: int) -> Tensor:
        frontier, self._frontier = self._frontier, []
        try:
            return log_softmax(self._pass(inputs.clone(), sample, sample + 1))
        finally:
            self._frontier = frontier

    def _pass(self, inputs: Tensor, start: int, stop: int) -> Tensor:
        self._state, self._samples, self._next = "replay", (start, stop), 0
        self.masks.start_pass()
        try:
            out: Tensor = self.model(inputs)
        finally:
            self._state = "idle"
        return out

    def _repeat(self, value: Tensor) -> Tensor:
        count = self._samples[1] - self._samples[0]
        return _hollow(value, count) if value.is_meta else _tiled(value, count)


class _NoValues(TorchFunctionMode):
    """Refuses every operation that would turn a tensor without values into one with values."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(tensor.is_meta for tensor in _tensors((args, kwargs))) and (
            out is None or not all(tensor.is_meta for tensor in _tensors(out))
        ):
            raise RuntimeError(f"{func.__name__} uses values that were not kept")
        return out


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _tiled(value: Tensor, count: int) -> Tensor:
    return value.repeat(count, *[1] * (value.dim() - 1))


def _hollow(value: Tensor, count: int) -> Tensor:
    """Shape and type of `value` repeated, without values or memory."""
    return torch.empty((count * len(value), *value.shape[1:]), dtype=value.dtype, device="meta")


@contextmanager
def replaying(model: nn.Module, layers: dict[str, Dropout], masks: Masks) -> Iterator[Replay]:
    """Route the forward of every module through a `Replay` inside the block.

    Args:
        model: the network.
        layers: its dropout layers by name.
        masks: what they drop.
    """
    replay = Replay(model, masks)
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if name in layers:
                stack.enter_context(_replaced(module, _bind(replay.drop, name, layers[name])))
            elif module is not model:
                stack.enter_context(_replaced(module, _bind(replay.call, module, module.forward)))
        yield replay


def _bind(function: Callable[..., Any], *first: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: function(*first, *args, **kwargs)


@contextmanager
def _replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    own = module.__dict__.get("forward")
    module.forward = forward  # on the object, in front of the class's method
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own
