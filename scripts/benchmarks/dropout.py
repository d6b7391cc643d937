"""MC dropout before the last layer of a ResNet-18, on images of 32 x 32, against one pass."""

from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from benchmarks.agreement import Agreement
from benchmarks.measuring import Call
from benchmarks.rows import Case, Goals, Plan
from benchmarks.sizes import short
from torch import Tensor, nn

from dal.models.torchvision_models import resnet18
from dal.posteriors.mc_dropout import MCDropout
from dal.strategies.bald import bald

CLASSES, DROPPED = 10, 0.5
ERRORS = 6.0  # standard errors, of many numbers at once


def plan(images: int, batch: int, passes: int, device: str, repeats: int) -> Plan:
    """The case; the first batch, on which shortcuts are proved, is not timed.

    Args:
        images: how many.
        batch: at once.
        passes: K.
        device: where.
        repeats: of both.
    """

    def build() -> Case:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            network = resnet18((3, 32, 32), CLASSES, DROPPED).eval().to(device)
        generator = torch.Generator(device).manual_seed(0)
        pixels = torch.randn(images, 3, 32, 32, generator=generator, device=device)
        return Case(
            ours=_sampled(network, pixels, batch, passes),
            goals=Goals(floor=1.3),
            sequential=_single(network, pixels, batch),
            floor="one deterministic pass",
            picks=passes,
            agree=lambda ours, _: _same_mean(ours[0], network, pixels, batch, passes),
            repeats=(repeats, repeats),
        )

    title = f"BALD, {short(images)} images, ResNet-18, K={passes}"
    return Plan("mc_dropout", title, "random", build)


def _sampled(network: nn.Module, pixels: Tensor, batch: int, passes: int) -> Call:
    """BALD and mean probabilities [N, 1 + C] by dropout masks that the whole pool shares."""

    def prepare() -> Any:
        open_until_the_end = ExitStack()
        posterior = MCDropout(passes).draw(network, torch.Generator().manual_seed(0))
        predict = open_until_the_end.enter_context(posterior)
        predict(pixels[:batch])
        return predict, open_until_the_end

    def run(state: Any, _seed: int) -> Tensor:
        out = []
        for part in pixels.split(batch):
            prediction = state[0](part)
            scores = bald(log_probs=prediction.log_probs)
            out.append(torch.cat([scores.unsqueeze(1), prediction.probs], 1))
        return torch.cat(out)

    return Call(run, prepare)


def _single(network: nn.Module, pixels: Tensor, batch: int) -> Call:
    """One pass without dropout."""

    def run(_state: Any, _seed: int) -> Tensor:
        with torch.no_grad():
            return torch.cat([network(part).softmax(1) for part in pixels.split(batch)])

    return Call(run, lambda: run(None, 0))


def _same_mean(ours: Any, network: nn.Module, pixels: Tensor, batch: int, passes: int) -> Agreement:
    """Compare mean probabilities with dropout masks drawn plainly on the network's features."""
    generator = torch.Generator(pixels.device).manual_seed(7)
    keep = 1 - DROPPED
    with torch.no_grad():
        features = network.features(pixels[:batch])
        shape = (passes, 1, features.shape[1])
        masks = torch.empty(shape, device=pixels.device).bernoulli_(keep, generator=generator)
        probs = network.head(features * masks / keep).softmax(2)  # [K, B, C]
    error = probs.std(0).mul_((2 / passes) ** 0.5).clamp_min_(1e-6).cpu().numpy()
    away = np.abs(ours[:batch, 1:] - probs.mean(0).cpu().numpy()) / error
    return Agreement(f"mean within {away.max():.1f} s.e.", bool(away.max() <= ERRORS))
