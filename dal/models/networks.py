"""Small networks for images, each split into `features(x)` [B, D] and `head(z)` [B, C]."""

from math import prod

from torch import Tensor, nn

from dal.settings import Count, Share, checked


class Split(nn.Module):
    """A network that is `head(features(x))`; the head is the last layer alone.

    Args:
        trunk: inputs [B, ...] -> features [B, D], its dropout included.
        head: features [..., D] -> logits [..., C].
    """

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head

    def features(self, inputs: Tensor) -> Tensor:
        """Return what enters the last layer: [B, ...] -> [B, D]."""
        out: Tensor = self.trunk(inputs)
        return out

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits: [B, ...] -> [B, C]."""
        logits: Tensor = self.head(self.features(inputs))
        return logits


def linear(input_shape: tuple[int, ...], num_classes: int) -> Split:
    """Logistic regression on the flattened input; it has no dropout."""
    return Split(nn.Flatten(), nn.Linear(prod(input_shape), num_classes))


@checked
def mlp(
    input_shape: tuple[int, ...],
    num_classes: int,
    width: Count = 256,
    dropout: Share = 0.5,
    layers: Count = 2,
) -> Split:
    """Hidden layers, each followed by dropout."""
    trunk = nn.Sequential(nn.Flatten())
    for inputs in [prod(input_shape), *[width] * (layers - 1)]:
        trunk.extend([nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout)])
    return Split(trunk, nn.Linear(width, num_classes))


@checked
def cnn(
    input_shape: tuple[int, ...], num_classes: int, channels: Count = 32, width: Count = 128
) -> Split:
    """Two 3 x 3 convolutions, pooling, and a hidden layer, with dropout 0.25 and 0.5.

    Fits images from 8 x 8 (digits) to about 32 x 32.
    """
    depth, height, breadth = _image(input_shape, smallest=6)
    trunk = nn.Sequential(
        nn.Conv2d(depth, channels, 3),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(channels * ((height - 4) // 2) * ((breadth - 4) // 2), width),
        nn.ReLU(),
        nn.Dropout(0.5),
    )
    return Split(trunk, nn.Linear(width, num_classes))


@checked
def lenet(
    input_shape: tuple[int, ...], num_classes: int, channels: Count = 16, width: Count = 128
) -> Split:
    """Two 5 x 5 convolutions, each pooled, and a hidden layer, with dropout 0.25 and 0.5.

    A fifth of `cnn`'s work on MNIST, after LeCun, Bottou, Bengio and Haffner, 1998. The second
    convolution has twice the channels.
    """
    depth, height, breadth = _image(input_shape, smallest=16)
    trunk = nn.Sequential(
        nn.Conv2d(depth, channels, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(channels, 2 * channels, 5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(2 * channels * _pooled_twice(height) * _pooled_twice(breadth), width),
        nn.ReLU(),
        nn.Dropout(0.5),
    )
    return Split(trunk, nn.Linear(width, num_classes))


def bayesian_cnn(input_shape: tuple[int, ...], num_classes: int) -> Split:
    """Build the network of Gal, Islam and Ghahramani, ICML 2017.

    conv 32 4x4 - relu - conv 32 4x4 - relu - max-pool 2x2 - dropout 0.25 - dense 128 - relu -
    dropout 0.5 - dense, without padding, with Glorot-uniform weights and zero biases. Their weight
    decay is the optimiser's: `optimizer.weight_decay`.
    """
    depth, height, breadth = _image(input_shape, smallest=8)
    trunk = nn.Sequential(
        nn.Conv2d(depth, 32, 4),
        nn.ReLU(),
        nn.Conv2d(32, 32, 4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(32 * ((height - 6) // 2) * ((breadth - 6) // 2), 128),
        nn.ReLU(),
        nn.Dropout(0.5),
    )
    network = Split(trunk, nn.Linear(128, num_classes))
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def batchbald_cnn(input_shape: tuple[int, ...], num_classes: int) -> Split:
    """Build the MNIST network of Kirsch, van Amersfoort and Gal, NeurIPS 2019.

    conv 32 5x5 - dropout of channels 0.5 - max-pool 2x2 - relu - conv 64 5x5 - dropout of channels
    0.5 - max-pool 2x2 - relu - dense 128 - dropout 0.5 - relu - dense, without padding.
    """
    depth, height, breadth = _image(input_shape, smallest=16)
    trunk = nn.Sequential(
        nn.Conv2d(depth, 32, 5),
        nn.Dropout2d(0.5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(32, 64, 5),
        nn.Dropout2d(0.5),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * _pooled_twice(height) * _pooled_twice(breadth), 128),
        nn.Dropout(0.5),
        nn.ReLU(),
    )
    return Split(trunk, nn.Linear(128, num_classes))


def _pooled_twice(side: int) -> int:
    return ((side - 4) // 2 - 4) // 2  # what two 5 x 5 convolutions with pooling leave


def _image(shape: tuple[int, ...], smallest: int) -> tuple[int, int, int]:
    if len(shape) != 3 or min(shape[1:]) < smallest:
        raise ValueError(
            f"this network takes images [channels, height, width] of at least {smallest} x "
            f"{smallest} pixels, got inputs of shape {list(shape)}; use model=mlp or model=linear"
        )
    return shape[0], shape[1], shape[2]
