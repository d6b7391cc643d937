"""Torchvision's classifiers as networks with features and a head."""

from typing import Any

from torch import Tensor, nn

from dal.models.networks import Split
from dal.settings import Share, checked


@checked
def resnet18(input_shape: tuple[int, ...], num_classes: int, dropout: Share = 0.5) -> Split:
    """ResNet-18 with a 3 x 3 stem and no stem pooling, for images of about 32 x 32 pixels.

    He, Zhang, Ren and Sun, CVPR 2016. Dropout stands before the last layer.
    """
    from torchvision.models import resnet18 as build

    body = build(weights=None)
    body.conv1 = nn.Conv2d(_channels(input_shape), 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(body.conv1.weight, mode="fan_out", nonlinearity="relu")
    body.maxpool = nn.Identity()
    width = body.fc.in_features
    body.fc = nn.Dropout(dropout)
    return Split(body, nn.Linear(width, num_classes))


@checked
def vgg16(input_shape: tuple[int, ...], num_classes: int, dropout: Share = 0.5) -> Split:
    """VGG-16 with batch normalisation and one hidden layer of 512, for images of 32 x 32 and more.

    Simonyan and Zisserman, ICLR 2015. Dropout stands before the last layer.
    """
    from torchvision.models import vgg16_bn

    body = vgg16_bn(weights=None).features
    if _channels(input_shape) == 1:
        body[0] = nn.Conv2d(1, 64, 3, padding=1)
        nn.init.kaiming_normal_(body[0].weight, mode="fan_out", nonlinearity="relu")
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    hidden = [nn.Linear(512, 512), nn.ReLU(), nn.Dropout(dropout)]
    return Split(nn.Sequential(body, *pool, *hidden), nn.Linear(512, num_classes))


@checked
def torchvision_model(
    input_shape: tuple[int, ...],
    num_classes: int,
    name: str,
    weights: str | None = None,
    dropout: Share | None = None,
    **options: Any,
) -> Split:
    """Build a torchvision classifier by name; its last linear layer becomes the head.

    Args:
        input_shape: of one input; grey images are repeated over three channels.
        num_classes: C.
        name: as torchvision lists it, for instance `resnet50` or `vit_b_16`.
        weights: a torchvision weights name such as `DEFAULT`, downloaded when missing; none if
            None.
        dropout: put before the last layer, for MC dropout on networks that have none.
        **options: further keywords of the torchvision builder.

    Raises:
        ValueError: if the name is unknown or the network does not end in a linear layer.
    """
    from torchvision.models import get_model

    _channels(input_shape)
    body = get_model(name, weights=weights, **options)
    layers = [(path, layer) for path, layer in body.named_modules() if isinstance(layer, nn.Linear)]
    if not layers:
        raise ValueError(f"{name} has no linear layer to use as its head; use another model")
    path, last = layers[-1]
    parent, _, child = path.rpartition(".")
    setattr(
        body.get_submodule(parent), child, nn.Identity() if dropout is None else nn.Dropout(dropout)
    )
    grey = [_Repeat()] if input_shape[0] == 1 else []
    return Split(nn.Sequential(*grey, body), nn.Linear(last.in_features, num_classes))


class _Repeat(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.expand(-1, 3, -1, -1)


def _channels(shape: tuple[int, ...]) -> int:
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(
            f"this network takes images [1 or 3, height, width], got inputs of shape {list(shape)}"
        )
    return shape[0]
