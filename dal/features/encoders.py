"""A small network to learn representations with where a ResNet-18 would take hours."""

from torch import Tensor, nn

from dal.settings import Count, checked


class _Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, padding=1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.short = nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.path(inputs) + self.short(inputs)
        return out.relu()


@checked
def small_resnet(input_shape: tuple[int, ...], width: Count = 32) -> nn.Module:
    """Three residual blocks of width, 2 and 4 times it, then the mean over the image: 4 · width.

    He, Zhang, Ren and Sun, CVPR 2016, cut down.
    """
    return nn.Sequential(
        nn.Conv2d(input_shape[0], width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        _Block(width, width, 1),
        _Block(width, 2 * width, 2),
        _Block(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
