"""The hourglass detectors HG*1 and HG*2 of the paper, in any width, depth and output stride.

Newell et al.'s stacked hourglass (2016) with the paper's head: two transposed convolutions bring
the maps back to the size of the picture, two 1 x 1 convolutions make the heatmaps.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from advaug.base.checks import check_at_least_one, check_divisible, check_rgb
from advaug.detectors._weights import SavedModule

__all__ = ["HourglassNet"]

_STEM_STRIDE = 4


class HourglassNet(SavedModule):
    """Predict one heatmap per landmark with one or more hourglasses.

    `HourglassNet(68)` is HG*1 (3.78 M parameters), `HourglassNet(68, stacks=2)` is HG*2 (7.30 M).
    Normalisation comes before the activations, as in Newell's code. Each stack has its own head.
    The next stack gets the features so far, those of this stack and its heatmaps, averaged down to
    the stride of the hourglass.

    Where we differ: the paper's text does not mention the residual and the 1 x 1 convolution that
    Newell puts behind every hourglass; `post=False` leaves them out.

    Args:
        num_landmarks: N, the number of heatmaps.
        stacks: How many hourglasses follow each other.
        width: Channels of the hourglass; divisible by 8. The stem has a quarter and then half of
            it.
        depth: How many times an hourglass halves the picture.
        out_stride: Pixels of the picture per pixel of the heatmaps: 1 (the paper), 2, or 4, which
            has no transposed convolutions and is by far the cheapest.
        post: Whether a residual and a 1 x 1 convolution follow each hourglass.

    Raises:
        ValueError: If an argument is out of its range.

    Shape:
        - images: `(B, 3, H, W)`, H and W divisible by `4 * 2**depth`
        - returns: `(B, N, H / out_stride, W / out_stride)`; with several stacks a list of them,
          the last one is the prediction

    Examples:
        >>> HourglassNet(68, width=32, depth=3, out_stride=4)(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 68, 16, 16])
    """

    def __init__(
        self,
        num_landmarks: int,
        stacks: int = 1,
        *,
        width: int = 256,
        depth: int = 4,
        out_stride: int = 1,
        post: bool = True,
    ) -> None:
        super().__init__()
        check_at_least_one(num_landmarks=num_landmarks, stacks=stacks, width=width, depth=depth)
        if width % 8:
            msg = f"`width` must be divisible by 8, but got {width}. Choose {-(-width // 8) * 8}."
            raise ValueError(msg)
        if out_stride not in (1, 2, _STEM_STRIDE):
            msg = f"`out_stride` must be 1, 2 or 4, but got {out_stride}. Choose one of them."
            raise ValueError(msg)
        self.arguments = {
            "num_landmarks": num_landmarks,
            "stacks": stacks,
            "width": width,
            "depth": depth,
            "out_stride": out_stride,
            "post": post,
        }
        self.size_divisor = _STEM_STRIDE * 2**depth
        self.pool = _STEM_STRIDE // out_stride
        self.stem = _stem(width)
        self.bodies = nn.ModuleList(_body(width, depth, post=post) for _ in range(stacks))
        self.heads = nn.ModuleList(_head(width, num_landmarks, out_stride) for _ in range(stacks))
        self.merges = nn.ModuleList(_Merge(width, num_landmarks) for _ in range(stacks - 1))

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """Return the heatmaps of `images`, or those of every stack.

        Raises:
            ShapeError: If `images` has another shape than the class requires.
        """
        check_rgb(images)
        check_divisible(images, self.size_divisor)
        carried = self.stem(images)
        stages: list[Tensor] = []
        for index, (body, head) in enumerate(zip(self.bodies, self.heads, strict=True)):
            features = body(carried)
            stages.append(head(features))
            if index < len(self.merges):
                coarse = F.avg_pool2d(stages[-1], self.pool)
                carried = self.merges[index](carried, features, coarse)
        return stages if len(stages) > 1 else stages[0]


class _Residual(nn.Module):
    """Pre-activation bottleneck: 1 x 1, 3 x 3, 1 x 1, and a sum with no activation after it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.branch = nn.Sequential(
            *(nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, half, 1)),
            *(nn.BatchNorm2d(half), nn.ReLU(), nn.Conv2d(half, half, 3, padding=1)),
            *(nn.BatchNorm2d(half), nn.ReLU(), nn.Conv2d(half, outputs, 1)),
        )
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.skip(features) + self.branch(features)


class _Hourglass(nn.Module):
    """Halve the picture `depth` times and come back, with a residual at every size."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.skip = _Residual(width, width)
        self.down = _Residual(width, width)
        self.inner = _Hourglass(width, depth - 1) if depth > 1 else _Residual(width, width)
        self.up = _Residual(width, width)

    def forward(self, features: Tensor) -> Tensor:
        low = self.up(self.inner(self.down(F.max_pool2d(features, 2))))
        return self.skip(features) + F.interpolate(low, scale_factor=2.0, mode="nearest")


class _Merge(nn.Module):
    """Give the next stack what came in, what this stack saw and what it predicted."""

    def __init__(self, width: int, num_landmarks: int) -> None:
        super().__init__()
        self.features = nn.Conv2d(width, width, 1)
        self.heatmaps = nn.Conv2d(num_landmarks, width, 1)

    def forward(self, carried: Tensor, features: Tensor, heatmaps: Tensor) -> Tensor:
        return carried + self.features(features) + self.heatmaps(heatmaps)


def _normalised(layer: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    """A layer without bias, followed by BatchNorm and ReLU."""
    return [layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU()]


def _stem(width: int) -> nn.Sequential:
    """Bring the picture to `width` channels at a quarter of its size."""
    return nn.Sequential(
        *_normalised(nn.Conv2d(3, width // 4, 7, stride=2, padding=3, bias=False)),
        _Residual(width // 4, width // 2),
        nn.MaxPool2d(2),
        _Residual(width // 2, width // 2),
        _Residual(width // 2, width),
    )


def _body(width: int, depth: int, *, post: bool) -> nn.Sequential:
    """One hourglass, with Newell's layers behind it."""
    layers: list[nn.Module] = [_Hourglass(width, depth)]
    if post:
        layers += [_Residual(width, width), *_normalised(nn.Conv2d(width, width, 1, bias=False))]
    return nn.Sequential(*layers)


def _head(width: int, num_landmarks: int, out_stride: int) -> nn.Sequential:
    """Heatmaps from features: one transposed convolution per doubling, then two 1 x 1."""
    layers: list[nn.Module] = []
    channels, stride = width, _STEM_STRIDE
    while stride > out_stride:
        layers += _normalised(
            nn.ConvTranspose2d(channels, num_landmarks, 4, stride=2, padding=1, bias=False)
        )
        channels, stride = num_landmarks, stride // 2
    layers += _normalised(nn.Conv2d(channels, num_landmarks, 1, bias=False))
    last = nn.Conv2d(num_landmarks, num_landmarks, 1)
    # Targets are zero nearly everywhere, and the loss sums over pixels. With PyTorch's own start it
    # is 30 to 80 times that of blank maps, and it takes a hundred steps until it is not.
    nn.init.normal_(last.weight, std=0.001)
    nn.init.zeros_(last.bias)  # pyright: ignore[reportArgumentType]
    return nn.Sequential(*layers, last)
