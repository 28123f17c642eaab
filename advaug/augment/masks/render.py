"""One mask on one picture: cut, woven, lit, blurred, and laid over the face."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from advaug.augment.masks.light import Grain, Light, form_shading, measure_grain, measure_light
from advaug.augment.masks.shape import Array, MaskShape, Sheet
from advaug.augment.masks.styles import STYLES as _STYLES
from advaug.augment.masks.styles import Cloth, Style
from advaug.base.checks import check_choice

__all__ = [
    "RENDERER_VERSION",
    "STYLES",
    "Patch",
    "draw_style",
    "mask_coverage",
    "render",
    "tailor",
]

STYLES = tuple(_STYLES)
"""Names of the styles."""

RENDERER_VERSION = 1
"""Raised whenever the same seed would give another picture."""

_OVERSAMPLING = 3
_SAMPLES = 24  # per side, for the statistics of a picture
_SHADOW = 0.45
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class Patch(NamedTuple):
    """What changes in a picture: `picture * keep + paint` in a window.

    Attributes:
        rows: The window's rows.
        columns: The window's columns.
        keep: `(h, w)` float32 in `[0, 1]`.
        paint: `(3, h, w)` float32 in `[0, 1]`.
    """

    rows: slice
    columns: slice
    keep: Array
    paint: Array


class Window(NamedTuple):
    """The part of a picture that a mask and its shadow can reach; pixels, ends excluded."""

    left: int
    top: int
    right: int
    bottom: int

    def pixels(self) -> tuple[Array, Array]:
        """X of the columns and y of the rows, float32."""
        columns = np.arange(self.left, self.right, dtype=np.float32)
        return columns, np.arange(self.top, self.bottom, dtype=np.float32)

    def within(self, box: tuple[int, int, int, int]) -> "Window":
        """The window of a box of this one: left, top, right, bottom, counted from its corner."""
        left, top, right, bottom = box
        return Window(self.left + left, self.top + top, self.left + right, self.top + bottom)

    def cover(self, polygons: Sequence[Array]) -> Image.Image:
        """Share of each pixel that lies in any of the polygons, 0 to 255."""
        size = (self.right - self.left, self.bottom - self.top)
        canvas = Image.new("L", (size[0] * _OVERSAMPLING, size[1] * _OVERSAMPLING))
        pen = ImageDraw.Draw(canvas)
        for polygon in polygons:
            # Integers are pixel centres, so the canvas begins half a pixel before pixel 0.
            points = (polygon - [self.left, self.top] + 0.5) * _OVERSAMPLING - 0.5
            pen.polygon([(x, y) for x, y in points.tolist()], fill=255)
        return canvas.reduce(_OVERSAMPLING)


def render(
    image: NDArray[np.uint8] | NDArray[np.float32],
    white: float,
    landmarks: Array,
    style: str | None,
    seed: int,
    top: float | None = None,
) -> Patch | None:
    """Make the mask for one picture.

    Args:
        image: `(H, W, 3)`, RGB, any strides.
        white: The largest value that `image` can have: 255 or 1.
        landmarks: `(68, 2)`, finite, pixels.
        style: A name of `STYLES`, or None to draw one.
        seed: 0 or more.
        top: Height of the upper edge, as in `Cut`; None for the style's own height.

    Returns:
        The change to the picture; None if the mask is outside it.

    Raises:
        ValueError: For an unknown style or a negative seed.
    """
    shape, material, rng = tailor(landmarks, style, seed, top)
    window = _window_of(shape, image.shape)
    if window is None:
        return None
    rows, columns = slice(window.top, window.bottom), slice(window.left, window.right)
    seen = image[rows, columns] @ (_LUMA / np.float32(white))
    grain = measure_grain(seen)
    cover = _blurred(window.cover([shape.outline]), max(0.5, grain.blur, 0.006 * shape.size))
    box = cover.getbbox()
    if box is None:
        return None
    alpha = _unit(cover)
    # The cloth fills little more than half of the window, which also holds its loops and shadow.
    tight = (slice(box[1], box[3]), slice(box[0], box[2]))
    sheet = shape.sheet(*window.within(box).pixels())
    stride = max(1, min(image.shape[:2]) // _SAMPLES)
    overall = image[::stride, ::stride].reshape(-1, 3) / np.float32(white)
    light = measure_light(overall, seen[tight], sheet, alpha[tight])
    cloth = material.weave(sheet, 1 / shape.size, rng)

    paint = np.zeros((3, *alpha.shape), np.float32)
    paint[:, *tight] = alpha[tight] * _lit_cloth(cloth, sheet, light, grain, rng)
    bare = 1 - alpha
    if shape.loops:
        cords = _ear_loops(shape, window, grain.blur)
        cover = ImageChops.lighter(cover, cords)
        over_skin = bare * _unit(cords)
        lit = np.clip(0.92 + light.sideways * shape.turn(*window.pixels()), 0.4, 1)
        paint += np.minimum(cloth.loops * light.gain, 1) * (over_skin * lit)
        bare -= over_skin
    return Patch(rows, columns, bare * (1 - _SHADOW * _contact_shadow(cover, shape.size)), paint)


def _lit_cloth(
    cloth: Cloth, sheet: Sheet, light: Light, grain: Grain, rng: np.random.Generator
) -> Array:
    """Colour of the cloth as the camera would have seen it, `(3, h, w)`."""
    lit = cloth.relief * form_shading(sheet, light, cloth.curvature)
    lit += 0.02 * _unevenness(rng, *lit.shape)
    colour = np.asarray(cloth.colour * light.gain) * lit
    colour += grain.noise * _white_noise(rng, *lit.shape)
    return np.clip(colour, 0, 1)


def _window_of(shape: MaskShape, image_shape: tuple[int, ...]) -> Window | None:
    points = np.concatenate([shape.outline, *shape.loops])
    margin = 0.08 * shape.size + 3  # three standard deviations of the shadow
    limit = np.array([image_shape[1], image_shape[0]])
    low = np.clip(np.floor(points.min(axis=0) - margin), 0, limit).astype(int)
    high = np.clip(np.ceil(points.max(axis=0) + margin) + 1, 0, limit).astype(int)
    return Window(*low.tolist(), *high.tolist()) if (low < high).all() else None


def _ear_loops(shape: MaskShape, window: Window, blur: float) -> Image.Image:
    """Coverage by the ear loops, 0 to 255."""
    width = max(0.017 * shape.size, 0.8)
    cords = window.cover([_ribbon(loop, width) for loop in shape.loops])
    # Beyond the contour of the face there is an ear, hair or nothing: no loop is seen there.
    cords = ImageChops.multiply(cords, window.cover([shape.face]))
    return _blurred(cords, 0.7 * blur) if blur > 0.6 else cords


def _ribbon(line: Array, width: float) -> Array:
    """The polygon around an open line, `width` pixels wide."""
    along = np.asarray(np.gradient(line, axis=0))
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    across *= 0.5 * width / np.maximum(np.hypot(*along.T), 1e-6)[:, None]
    return np.concatenate([line + across, (line - across)[::-1]])


def _contact_shadow(cover: Image.Image, size: float) -> Array:
    """The soft shadow of something slightly off the skin, `(h, w)` in `[0, 1]`."""
    # It has no detail, so a quarter of the size is enough.
    quarter = cover.reduce(4).filter(ImageFilter.GaussianBlur(0.025 * size / 4))
    return _unit(quarter.resize(cover.size, Image.Resampling.BILINEAR))


def _unevenness(rng: np.random.Generator, height: int, width: int) -> Array:
    """Slow random changes over the cloth, `(h, w)`, of standard deviation about 1."""
    coarse = Image.fromarray(rng.standard_normal((5, 6), dtype=np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def _white_noise(rng: np.random.Generator, height: int, width: int) -> Array:
    """Independent values of mean 0 and standard deviation 1, `(h, w)`.

    Uniformly distributed: the difference is invisible and a normal distribution takes six times
    longer.
    """
    levels = np.frombuffer(rng.bytes(height * width), np.uint8).reshape(height, width)
    return (levels - np.float32(127.5)) * np.float32(1 / 73.9)


def _blurred(picture: Image.Image, deviation: float) -> Image.Image:
    """Blur with a box of a Gaussian's standard deviation, in a third of the time."""
    return picture.filter(ImageFilter.BoxBlur(max(0.0, (12**0.5 * deviation - 1) / 2)))


def _unit(picture: Image.Image) -> Array:
    """A grey picture as `(h, w)` float32 in `[0, 1]`."""
    return np.asarray(picture, np.float32) * np.float32(1 / 255)


def tailor(
    landmarks: Array, style: str | None, seed: int, top: float | None = None
) -> tuple[MaskShape, Style, np.random.Generator]:
    """Give a mask's shape and material, and the generator that goes on to its surface."""
    rng = _generator(seed)
    # Drawn even if named, so that naming the style that would be drawn gives the same mask.
    drawn = STYLES[rng.integers(len(STYLES))]
    name = drawn if style is None else style
    check_choice("style", name, STYLES)
    chosen = _STYLES[name]
    cut = chosen.cut(rng)
    return MaskShape(landmarks, cut if top is None else cut.worn_at(top)), chosen, rng


def _generator(seed: int) -> np.random.Generator:
    if seed < 0:
        message = f"`seed` must be 0 or more, but got {seed}. Give its absolute value."
        raise ValueError(message)
    return np.random.default_rng(seed)


def draw_style(seed: int) -> str:
    """Return the style that `style=None` draws from a seed."""
    return STYLES[_generator(seed).integers(len(STYLES))]


def mask_coverage(
    size: tuple[int, int], landmarks: Array, *, style: str | None, seed: int
) -> Array:
    """Share of each pixel under the cloth, `(H, W)`; for tests."""
    shape, _, _ = tailor(landmarks, style, seed)
    return _unit(Window(0, 0, size[1], size[0]).cover([shape.outline]))
