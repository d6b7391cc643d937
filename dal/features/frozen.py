"""Features of a pretrained network that is not trained, or from a file."""

from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

from dal.data.data import Data
from dal.features.cache import cached, fingerprint, weights_fingerprint
from dal.features.images import as_images
from dal.settings import Count, checked

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@checked
def frozen(
    data: Data,
    *,
    cache_dir: str | Path,
    backbone: str = "resnet18",
    weights: str | None = "DEFAULT",
    path: str | Path | None = None,
    size: Count = 224,
    batch_size: Count = 128,
) -> Tensor:
    """Compute features of all train rows once; later runs read them from the cache.

    Images are brought to the range and size that networks trained on ImageNet take.

    Args:
        data: the data set; its labels are not read.
        cache_dir: where features are kept, under a hash of the inputs, the weights and the size.
        backbone: a torchvision classifier such as `resnet50` or `vit_b_16`, or `timm/<name>` for
            one of timm's (`pip install timm`).
        weights: the name of torchvision's weights, or anything for timm's default ones; they are
            downloaded when missing. None: random weights, from seed 0.
        path: a file of embeddings instead: .npy, .npz with `features`, or .pt (a tensor or a
            dictionary with `features`), one row per train item in the data set's order.
        size: images are resized to size x size.
        batch_size: images of a forward pass.

    Returns:
        [rows of the train set, D] float32 on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file or the backbone does not fit, or the inputs are no images.
    """
    if path is not None:
        return _read(Path(path), len(data.train))
    as_images(data, data.train[[0]])
    network = _network(backbone, weights)
    source = {
        "inputs": fingerprint(data.train),
        "backbone": backbone,
        "weights": weights_fingerprint(network),
        "size": size,
    }
    return cached(
        cache_dir, "frozen", source, lambda: embed(network, data, size=size, batch_size=batch_size)
    )


def embed(
    network: nn.Module, data: Data, *, size: int | None, batch_size: int, imagenet: bool = True
) -> Tensor:
    """Run a network over all train rows with a bar, on the GPU if there is one.

    Args:
        network: images [B, 3, size, size] -> features [B, ...].
        data: the data set.
        size: images are resized to size x size; None leaves them.
        batch_size: images of a pass.
        imagenet: repeat grey images over three channels, and normalise as for ImageNet.

    Returns:
        [rows, D] float32 on the CPU.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device).eval()
    mean = torch.tensor(IMAGENET_MEAN, device=device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=device).view(3, 1, 1)
    parts = []
    with torch.no_grad():
        starts = range(0, len(data.train), batch_size)
        hidden = not Console().is_terminal
        for start in track(starts, "features", transient=True, disable=hidden):
            rows = torch.arange(start, min(start + batch_size, len(data.train)))
            images = as_images(data, data.train[rows].to(device))
            if size is not None:
                images = functional.interpolate(
                    images, (size, size), mode="bilinear", antialias=True, align_corners=False
                )
            if imagenet:
                images = (images.expand(-1, 3, -1, -1) - mean) / std
            parts.append(network(images).flatten(1).float().cpu())
    network.cpu()
    return torch.cat(parts)


def _network(backbone: str, weights: str | None) -> nn.Module:
    """Network without its last layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # for random weights alone
        if backbone.startswith("timm/"):
            return _timm(backbone.removeprefix("timm/"), pretrained=weights is not None)
        from dal.models.torchvision_models import torchvision_model

        try:
            return torchvision_model((3, 224, 224), 2, backbone, weights).trunk
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"features.backbone={backbone} with weights={weights} cannot be built: {error}"
            ) from error
        except OSError as error:
            raise ValueError(_offline(backbone, error)) from error


def _timm(name: str, *, pretrained: bool) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise ValueError(
            f"features.backbone=timm/{name} needs timm: pip install timm, or take a torchvision "
            f"backbone"
        ) from error
    try:
        network: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=0)
    except OSError as error:
        raise ValueError(_offline(f"timm/{name}", error)) from error
    except RuntimeError as error:
        raise ValueError(f"features.backbone: timm knows no {name}: {error}") from error
    return network


def _offline(backbone: str, error: Exception) -> str:
    return (
        f"the weights of {backbone} cannot be had: {error}; connect once, or give embeddings of "
        f"your own by features.path, or use features=self_supervised"
    )


def _read(path: Path, rows: int) -> Tensor:
    if not path.is_file():
        raise FileNotFoundError(f"features.path: no file {path.absolute()}")
    try:
        loaded: Any
        if path.suffix in (".npy", ".npz"):
            import numpy as np

            loaded = np.load(path, allow_pickle=False)
            loaded = torch.from_numpy(loaded if path.suffix == ".npy" else loaded["features"])
        elif path.suffix == ".pt":
            loaded = torch.load(path, weights_only=True)
            loaded = loaded if isinstance(loaded, Tensor) else loaded["features"]
        else:
            raise ValueError("its name must end in .npy, .npz or .pt")
    except Exception as error:  # every reader has its own kinds of error for damaged files
        raise ValueError(f"features.path {path} cannot be read: {error}") from error
    if not isinstance(loaded, Tensor):
        raise ValueError(f"features.path {path} must hold an array, got {type(loaded).__name__}")
    if loaded.dim() != 2 or len(loaded) != rows:
        raise ValueError(
            f"features.path {path} must hold one row per train item, [{rows}, D], got "
            f"{list(loaded.shape)}"
        )
    features: Tensor = loaded.float()
    return features
