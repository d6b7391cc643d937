"""A module that learns, beside a classifier, which of two items it will get wrong by more."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

TAPS = 4  # layers that are looked at
HIDDEN = 128


class LossPrediction:
    """Predicts an item's loss from what the network computes on the way.

    Yoo and Kweon, Learning Loss for Active Learning, CVPR 2019: the outputs of several layers, each
    averaged over the image and mapped to 128 numbers, enter one linear layer; it learns by a
    ranking loss over pairs of items. There its gradient enters the network at first; here the
    network's outputs are detached, so that the classifier is the one that every other strategy
    trains.

    Args:
        seed: of its weights; torch's global generators are left alone.
        margin: by how much the predictions of a pair shall differ at least.
        learning_rate: of Adam.
    """

    def __init__(self, seed: int, margin: float = 1.0, learning_rate: float = 1e-3) -> None:
        self.seed = seed
        self.margin = margin
        self.learning_rate = learning_rate
        self.module: _Heads | None = None
        self.optimizer: torch.optim.Optimizer | None = None
        self._outputs: list[Tensor] = []
        self._logits: Tensor | None = None

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Catch the outputs of the tapped layers in every forward pass inside the block."""

        def clear(_module: nn.Module, _args: Any) -> None:
            self._outputs = []

        def catch(layer: nn.Module, _args: Any, output: Tensor) -> None:
            self._outputs.append(_averaged(layer, output.detach()))

        def finish(_module: nn.Module, _args: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.dim() == 2:  # DDP passes losses through, too
                self._logits = output.detach()

        hooks = [layer.register_forward_hook(catch) for layer in tapped_layers(model)]
        hooks += [model.register_forward_pre_hook(clear), model.register_forward_hook(finish)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def learn(self, targets: Tensor) -> None:
        """Make one step from the last forward pass of the classifier.

        Args:
            targets: [B] long; of the batch that was passed.
        """
        count = len(targets) // 2
        if self._logits is None or count == 0:
            return
        losses = functional.cross_entropy(self._logits.float(), targets, reduction="none")
        with torch.inference_mode(mode=False), torch.enable_grad():
            predicted = self._heads()(self._outputs)
            sign = (losses[:count] - losses[count : 2 * count]).sign()
            gap = predicted[:count] - predicted[count : 2 * count]
            ranking = functional.relu(self.margin - sign * gap).mean()
            optimizer = self._optimizer()
            optimizer.zero_grad()
            ranking.backward()
            optimizer.step()

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Predicted losses [B] float32; 0 for all before anything was learnt."""
        if self.module is None:
            return torch.zeros(len(inputs), device=inputs.device)
        with self.watching(model), torch.no_grad():
            model(inputs)
            predicted: Tensor = self.module(self._outputs)
        return predicted

    def state_dict(self) -> dict[str, Any]:
        """Return what was learnt, empty before anything was."""
        if self.module is None:
            return {}
        widths = [layer.in_features for layer in self.module.maps]
        states = {"module": self.module.state_dict(), "optimizer": self._optimizer().state_dict()}
        return {"widths": widths, **states}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from `state_dict()`.

        Args:
            state: as returned there.
            device: where the network is.
        """
        if state:
            self.module = _Heads(state["widths"]).to(device)
            self.module.load_state_dict(state["module"])
            self.optimizer = None
            self._optimizer().load_state_dict(state["optimizer"])

    def _heads(self) -> "_Heads":
        if self.module is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                module = _Heads([output.shape[1] for output in self._outputs])
            self.module = module.to(self._outputs[0].device)
        return self.module

    def _optimizer(self) -> torch.optim.Optimizer:
        if self.optimizer is None:
            self.optimizer = torch.optim.Adam(self._heads().parameters(), self.learning_rate)
        return self.optimizer


class _Heads(nn.Module):
    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(width, HIDDEN) for width in widths)
        self.last = nn.Linear(HIDDEN * len(widths), 1)

    def forward(self, outputs: list[Tensor]) -> Tensor:
        pairs = zip(self.maps, outputs, strict=True)
        predicted: Tensor = self.last(torch.cat([step(out).relu() for step, out in pairs], 1))
        return predicted.squeeze(1)


def tapped_layers(model: nn.Module) -> list[nn.Module]:
    """At most four convolutions and linear layers, evenly spread, the last layer left out.

    Raises:
        ValueError: if the network has no such layer before its last.
    """
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    layers = [module for module in model.modules() if isinstance(module, kinds)][:-1]
    if not layers:
        raise ValueError(
            "learning_loss looks at layers before the last and the model has none; use a deeper one"
        )
    count = min(TAPS, len(layers))
    return [layers[(number + 1) * len(layers) // count - 1] for number in range(count)]


def _averaged(layer: nn.Module, output: Tensor) -> Tensor:
    """Mean over places: [B, ..., D] of a linear layer, [B, D, ...] of a convolution -> [B, D]."""
    if output.dim() == 2:
        return output.float()
    if isinstance(layer, nn.Linear):
        return output.float().flatten(1, -2).mean(1)
    return output.float().flatten(2).mean(2)
