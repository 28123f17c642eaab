"""Random occlusion: something in front of a part of each picture; landmarks do not change.

What covers a picture depends on one integer only, by hashing instead of a random generator. So an
evaluation hides the same pixels of a picture in every batch and on every device.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from advaug.augment._random import hash_integers, uniform
from advaug.base.checks import check_rgb, check_seeds

__all__ = ["RandomOcclusion", "occlude"]

_KINDS = ("noise", "flat", "stripes", "blob")
_COLUMNS = 17  # numbers drawn for each picture

# A hand of area 1 about the centre of its palm: lengths and radii of its limbs, and for the fingers
# the angle to the middle of the hand, in radians.
_PALM = (0.15, 0.32)
_FOREARM = (1.3, 0.2)
_FINGERS = ((-1.2, 0.62), (-0.5, 0.85), (-0.15, 0.95), (0.18, 0.9), (0.52, 0.75))
_FINGER_RADIUS = 0.085
_SKIN = ((0.98, 0.82, 0.72), (0.24, 0.15, 0.1))  # the lightest and the darkest


class RandomOcclusion(nn.Module):
    """Cover a part of each picture with another occluder on every call.

    The module draws from its own generator on the CPU: it neither reads nor changes the global
    random state, and `state_dict()` carries the generator for an exact resume.

    Args:
        coverage: Smallest and largest fraction of the picture's area that is covered.
        probability: Probability that a picture is covered at all.
        kinds: What to choose from: rectangles of `"noise"`, of one `"flat"` colour or of
            `"stripes"`, and a `"blob"`, the shape of a hand in a skin colour.
        seed: Start of the random generator.

    Raises:
        ValueError: If an argument is out of its range or names an unknown kind.

    Shape:
        - images: `(B, 3, H, W)` in `[0, 1]`
        - returns: the same shape
    """

    def __init__(
        self,
        *,
        coverage: tuple[float, float] = (0.1, 0.3),
        probability: float = 1.0,
        kinds: Sequence[str] = _KINDS,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_options(coverage, kinds)
        if not 0 <= probability <= 1:
            msg = f"`probability` must be from 0 to 1, but got {probability}. Choose 1 for always."
            raise ValueError(msg)
        self.coverage = coverage
        self.probability = probability
        self.kinds = tuple(kinds)
        self.generator = torch.Generator().manual_seed(seed)

    def get_extra_state(self) -> Tensor:
        """Return the state of the random generator, for `state_dict()`."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Put the random generator back to a state of `get_extra_state`."""
        self.generator.set_state(state.cpu())

    def forward(self, images: Tensor) -> Tensor:
        """Return `images` with their occluders.

        Raises:
            ShapeError: If `images` is not `(B, 3, H, W)`.
            TypeError: If `images` is not floating point.
        """
        batch = len(images)
        covered = torch.rand(batch, generator=self.generator) < self.probability
        seeds = torch.randint(2**62, (batch,), generator=self.generator)
        occluded = occlude(images, seeds, coverage=self.coverage, kinds=self.kinds)
        if covered.all():
            return occluded
        covered = covered.to(images.device, non_blocking=True)
        return torch.where(covered[:, None, None, None], occluded, images)


def occlude(
    images: Tensor,
    seeds: Tensor | Sequence[int],
    *,
    coverage: tuple[float, float] = (0.1, 0.3),
    kinds: Sequence[str] = _KINDS,
) -> Tensor:
    """Cover a part of each picture with the occluder that belongs to its seed.

    Args:
        images: `(B, 3, H, W)` in `[0, 1]`.
        seeds: `(B,)`, one integer per picture, such as its index in the dataset. A tensor should be
            on the CPU, because its values are read there.
        coverage: Smallest and largest fraction of the picture's area that is covered.
        kinds: What to choose from, as in `RandomOcclusion`.

    Returns:
        Same shape; a picture's occluder depends only on its seed and size.

    Raises:
        ShapeError: If `images` is not `(B, 3, H, W)` or `seeds` not `(B,)` integers.
        TypeError: If `images` is not floating point.
        ValueError: If an option is out of its range.
    """
    _check_options(coverage, kinds)
    seeds = torch.as_tensor(seeds).cpu()
    check_rgb(images, floating=True)
    check_seeds(seeds, len(images))
    keys = hash_integers(seeds)
    drawn = uniform(keys, _COLUMNS).double()
    kind = (drawn[:, 0] * len(kinds)).long()
    area = coverage[0] + (coverage[1] - coverage[0]) * drawn[:, 1]
    occluded = images.clone()
    for index, name in enumerate(kinds):
        chosen = (kind == index).nonzero().flatten()
        if len(chosen) == 0:
            continue
        on_device = chosen.to(images.device, non_blocking=True)
        pictures = images[on_device]
        mask = (_hand if name == "blob" else _rectangle)(pictures, area[chosen], drawn[chosen])
        texture = _texture(name, pictures, keys[chosen], drawn[chosen]).to(images.dtype)
        occluded[on_device] = torch.where(mask[:, None], texture, pictures)
    return occluded


def _rectangle(pictures: Tensor, area: Tensor, drawn: Tensor) -> Tensor:
    """Draw upright rectangles of `area`, between twice as wide and twice as high: `(B, H, W)`."""
    height, width = pictures.shape[-2:]
    wide = (area * 2 ** (2 * drawn[:, 2] - 1)).sqrt().clamp(area, torch.ones_like(area))
    columns = (wide * width).round().clamp(1, width)
    rows = (area * height * width / columns).round().clamp(1, height)
    left = (drawn[:, 3] * (width - columns + 1)).floor()
    top = (drawn[:, 4] * (height - rows + 1)).floor()
    x, y = _pixels(pictures)
    inside_x = (x >= _send(left, x)) & (x < _send(left + columns, x))
    return inside_x & (y >= _send(top, x)) & (y < _send(top + rows, x))


def _hand(pictures: Tensor, area: Tensor, drawn: Tensor) -> Tensor:
    """Draw left and right hands of `area`: `(B, H, W)`."""
    height, width = pictures.shape[-2:]
    pixels = area * height * width
    unit = pixels.sqrt()
    x, y = _pixels(pictures)
    aside, below = 0.6 * drawn[:, 2] - 0.3, 0.6 * drawn[:, 3] - 0.3  # of the picture's centre
    x = (x - _send((0.5 + aside) * width, x)) / _send(unit, x)
    y = (y - _send((0.5 + below) * height, y)) / _send(unit, y)
    # The fingers point inwards, more or less, since the arm comes from outside.
    turn = torch.atan2(-below, -aside) + 2 * drawn[:, 4] - 1
    spread = torch.where(drawn[:, 5] < 0.5, -1, 1) * (0.7 + 0.5 * drawn[:, 6])
    distance = torch.minimum(_limb(x, y, turn, *_PALM), _limb(x, y, turn + math.pi, *_FOREARM))
    for finger, (direction, length) in enumerate(_FINGERS):
        reach = length * (0.7 + 0.3 * drawn[:, 7 + finger])
        limb = _limb(x, y, turn + spread * direction, reach, _FINGER_RADIUS)
        distance = torch.minimum(distance, limb)
    # Scaled to exactly the area, even if a part of the hand is outside the picture.
    rank = pixels.round().long().clamp(1, height * width) - 1
    ordered = distance.flatten(1).sort(dim=1).values
    rank = rank[:, None].to(x.device, non_blocking=True)
    return distance <= ordered.gather(1, rank)[:, :, None]


def _limb(x: Tensor, y: Tensor, angle: Tensor, length: Tensor | float, radius: float) -> Tensor:
    """Return each pixel's distance to a stick with round ends that starts at the origin."""
    cosine, sine = _send(angle.cos(), x), _send(angle.sin(), x)
    along, across = cosine * x + sine * y, cosine * y - sine * x
    extent = _send(torch.as_tensor(length).expand_as(angle), x)
    beyond = along - torch.minimum(along.clamp(min=0), extent)
    return (beyond.square() + across.square()).sqrt() - radius


def _texture(name: str, pictures: Tensor, keys: Tensor, drawn: Tensor) -> Tensor:
    """Return what fills an occluder: `(B, 3, H, W)` or something that expands to it."""
    x, y = _pixels(pictures)
    colour = _send(drawn[:, 12:15], x)
    if name == "noise":
        return uniform(keys.to(x.device, non_blocking=True), pictures[0].numel()).view_as(pictures)
    if name == "blob":
        light, dark = _send(torch.tensor(_SKIN), x)
        return dark + (light - dark) * colour[:, :1]
    if name == "flat":
        return colour
    angle = drawn[:, 15] * math.pi
    waves = (8 + 24 * drawn[:, 16]) * (2 * math.pi / max(pictures.shape[-2:]))
    phase = _send(waves * angle.cos(), x) * x + _send(waves * angle.sin(), x) * y
    return torch.where(phase.sin()[:, None] > 0, colour, 1 - colour)


def _pixels(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates of columns, `(1, W)`, and of rows, `(H, 1)`, in float32 for exactness."""
    height, width = pictures.shape[-2:]
    x = torch.arange(width, dtype=torch.float32, device=pictures.device)
    y = torch.arange(height, dtype=torch.float32, device=pictures.device)
    return x[None, :], y[:, None]


def _send(values: Tensor, like: Tensor) -> Tensor:
    """Bring numbers of each picture to the device of `like`, ready to meet `(H, W)` maps."""
    return values.to(like.dtype).to(like.device, non_blocking=True)[..., None, None]


def _check_options(coverage: tuple[float, float], kinds: Sequence[str]) -> None:
    low, high = coverage
    if not 0 < low <= high <= 1:
        msg = (
            "`coverage` must be a pair from above 0 to 1, the smaller one first, but got "
            f"{(low, high)}. Use a `probability` of 0 to cover nothing."
        )
        raise ValueError(msg)
    unknown = [kind for kind in kinds if kind not in _KINDS]
    if unknown or not kinds:
        msg = f"`kinds` must be some of {_KINDS}, but got {tuple(kinds)}. Leave out the others."
        raise ValueError(msg)
