"""SimCLR: features learned from the pool's images without labels."""

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import lightning.pytorch as pl
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler

from dal.data.data import Data
from dal.features.cache import cached, fingerprint
from dal.features.encoders import small_resnet
from dal.features.frozen import embed
from dal.features.images import as_images, random_views
from dal.functional.checks import check_count, check_positive, check_share
from dal.settings import Count, NotNegative, Number, Positive, checked

Pair = Annotated[int, partial(check_count, least=2)]
Area = Annotated[float, check_positive, check_share]


@checked
def self_supervised(
    data: Data,
    *,
    cache_dir: str | Path,
    encoder: Callable[..., nn.Module] = small_resnet,
    epochs: Count = 100,
    batch_size: Pair = 256,
    learning_rate: Positive = 1e-3,
    temperature: Positive = 0.5,
    crop: Area = 0.4,
    rotate: NotNegative = 10.0,
    flip: bool = False,
    colour: NotNegative = 0.4,
    seed: Number = 0,
) -> Tensor:
    """Train SimCLR on the train inputs and embed them; later runs read them from the cache.

    Chen, Kornblith, Norouzi and Hinton, ICML 2020. Two random views of each image are drawn
    towards each other and away from those of all others; features are what enters the projection.

    Args:
        data: the data set; its labels are not read.
        cache_dir: where features are kept, under a hash of the inputs and of all settings here.
        encoder: makes the network; `input_shape` and `num_classes` are passed if it names them. If
            it has `features(x)`, those are taken.
        epochs: passes over the images.
        batch_size: images of a step, each in two views.
        learning_rate: of Adam, falling to 0 by a cosine.
        temperature: of the contrastive loss.
        crop: smallest share of the area that a view keeps.
        rotate: largest angle of a view, in degrees.
        flip: mirror half of the views; only where a mirrored picture means the same.
        colour: strength of the changes of brightness, contrast and channels.
        seed: of weights, batches and views. One for all runs, so that they share the features.

    Returns:
        [rows of the train set, D] float32 on the CPU, of unit length.

    Raises:
        ValueError: if the inputs are no images or a setting is out of range.
    """
    as_images(data, data.train[[0]])
    views = {"crop": crop, "rotate": rotate, "flip": flip, "colour": colour}
    source = {
        "inputs": fingerprint(data.train),
        "encoder": _identity(encoder),
        "training": [epochs, batch_size, learning_rate, temperature, seed],
        "views": views,
    }

    def compute() -> Tensor:
        devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            module = SimCLR(
                _encoder(encoder, tuple(data.train[[0]].shape[1:])),
                data,
                learning_rate=learning_rate,
                temperature=temperature,
                views=views,
                seed=seed,
            )
            _train(module, data, epochs, min(batch_size, len(data.train)), seed)
        return embed(module.encode, data, size=None, batch_size=512, imagenet=False)

    return functional.normalize(cached(cache_dir, "simclr", source, compute), dim=1)


class SimCLR(pl.LightningModule):
    """An encoder and a projection, trained to recognise two views of one image.

    Args:
        encoder: images [B, ...] -> features [B, D].
        data: says how raw images are scaled.
        learning_rate: of Adam.
        temperature: of the loss.
        views: settings of `random_views`.
        seed: of the views.
    """

    def __init__(
        self,
        encoder: nn.Module,
        data: Data,
        *,
        learning_rate: float,
        temperature: float,
        views: dict[str, Any],
        seed: int,
    ) -> None:
        super().__init__()
        self.encode = encoder
        with torch.no_grad():
            shape = data.train[[0]].shape[1:]
            width = encoder.eval()(torch.zeros(2, *shape)).shape[1]
        self.project = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 128, bias=False)
        )
        self.data = data
        self.learning_rate = learning_rate
        self.temperature = temperature
        self.views = views
        self.seed = seed
        self.draws: torch.Generator | None = None

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Return the contrastive loss of a batch of raw images."""
        if self.draws is None:
            self.draws = torch.Generator(self.device).manual_seed(self.seed)
        images = as_images(self.data, batch)
        pair = [random_views(images, self.draws, **self.views) for _ in range(2)]
        return contrastive_loss(self.project(self.encode(torch.cat(pair))), self.temperature)

    def configure_optimizers(self) -> Any:
        """Adam with a cosine schedule over all steps."""
        optimizer = torch.optim.Adam(self.parameters(), self.learning_rate, weight_decay=1e-6)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def contrastive_loss(projections: Tensor, temperature: float) -> Tensor:
    """NT-Xent: mean of -log softmax of the similarity to the other view, among all others.

    Args:
        projections: [2 B, D]; row i and row B + i are views of one image.
        temperature: divides the cosine similarities.

    >>> apart = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    >>> contrastive_loss(apart, 0.1) < contrastive_loss(apart.flip(0)[[0, 1, 3, 2]], 0.1)
    tensor(True)
    """
    count = len(projections) // 2
    unit = functional.normalize(projections, dim=1)
    similar = unit @ unit.T / temperature  # [2 B, 2 B]
    own = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    other = torch.arange(len(unit), device=unit.device).roll(count)
    return functional.cross_entropy(similar.masked_fill(own, -torch.inf), other)


class _Raw(Dataset[Tensor]):
    def __init__(self, data: Data) -> None:
        self.rows = data.train

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: list[int]) -> Tensor:
        return self.rows[torch.tensor(indices)]


class _Bar(pl.Callback):
    """One bar over the steps of the whole training."""

    def __init__(self) -> None:
        self.progress = Progress(transient=True, disable=not Console().is_terminal)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.progress.start()
        total = int(trainer.estimated_stepping_batches)
        self.task = self.progress.add_task("SimCLR", total=total)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.progress.update(self.task, completed=trainer.global_step)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.progress.stop()


def _train(module: SimCLR, data: Data, epochs: int, batch_size: int, seed: int) -> None:
    from dal.loop import PLAIN_TRAINER
    from dal.quiet import quiet_lightning
    from dal.round import fit

    rows = _Raw(data)
    order = RandomSampler(rows, generator=torch.Generator().manual_seed(seed))
    batches = BatchSampler(order, batch_size, drop_last=True)
    loader = DataLoader(rows, sampler=batches, batch_size=None)
    module.train()
    with quiet_lightning():
        trainer = PLAIN_TRAINER(max_epochs=epochs, callbacks=[_Bar()], devices=1)
        fit(trainer, module, train_dataloaders=loader)


def _identity(encoder: Callable[..., nn.Module]) -> str:
    """Where an encoder is defined and what is set; another one must not find its features."""
    function = encoder.func if isinstance(encoder, partial) else encoder
    name = getattr(function, "__qualname__", "<object>")
    if "<" in name:
        raise ValueError(f"features.encoder must be a function or class of a module, got {name}")
    settings = encoder.keywords if isinstance(encoder, partial) else {}
    return f"{function.__module__}.{name} {sorted(settings.items())!r}"


def _encoder(factory: Callable[..., nn.Module], input_shape: tuple[int, ...]) -> nn.Module:
    given = {"input_shape": input_shape, "num_classes": 2}
    named = inspect.signature(factory).parameters
    network = factory(**{name: value for name, value in given.items() if name in named})
    return _Features(network) if hasattr(network, "features") else network


class _Features(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        features: Callable[[Tensor], Tensor] = self.network.features  # type: ignore[assignment]
        return features(images)
