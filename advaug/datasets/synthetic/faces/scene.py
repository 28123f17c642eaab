"""What surrounds a face: the background, what covers the face, and the camera."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from advaug.datasets.synthetic.faces.atlas import enlarge
from advaug.datasets.synthetic.faces.brush import smooth_curve
from advaug.datasets.synthetic.faces.look import Conditions, Look
from advaug.datasets.synthetic.faces.shape import Floats

__all__ = ["draw_covers", "finish", "paint_background"]

# Backgrounds are out of focus: painted small, then enlarged.
_SMALL = 32
# Standard deviation of the sum of two numbers drawn from 0 to 255.
_DICE_DEVIATION = 104.5


def paint_background(raster: int, rng: np.random.Generator) -> Image.Image:
    """Paint a wall, a room, foliage or lights, mostly out of focus, RGB."""
    kind = rng.random()
    base, other = rng.uniform(20, 235, (2, 3)) * rng.uniform(0.4, 1.0, (2, 1))
    if rng.random() < 0.6:
        # Most walls are nearly grey.
        base, other = (colour.mean() + 0.2 * (colour - colour.mean()) for colour in (base, other))
    ramp = np.linspace(0, 1, _SMALL)
    tilt = rng.uniform(-1, 1, 2)
    mix = np.clip(0.5 + tilt[0] * (ramp - 0.5) + tilt[1] * (ramp[:, None] - 0.5), 0, 1)
    field = base + (other - base) * (mix * (0.35 if kind < 0.3 else 1.0))[..., None]
    if kind > 0.65:
        grid = int(rng.integers(4, 12))
        blotches = rng.normal(1, 0.35, (grid, grid, 1)) * rng.normal(1, 0.1, (grid, grid, 3))
        factor = np.repeat(np.repeat(blotches, 12, axis=0), 12, axis=1)
        field *= factor[:_SMALL, :_SMALL] if grid > 3 else 1
    small = Image.fromarray(np.clip(field, 0, 255).astype(np.uint8))
    if kind > 0.3:
        _draw_clutter(ImageDraw.Draw(small, "RGBA"), rng)
        small = small.filter(ImageFilter.BoxBlur(float(rng.choice([0.3, 1.0, 2.0]))))
    return enlarge(small, raster)


def _draw_clutter(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """Draw shelves, windows, lamps and the like."""
    for _ in range(int(rng.integers(2, 9))):
        left, top = rng.uniform(-10, _SMALL, 2).tolist()
        wide, high = rng.uniform(2, 24, 2).tolist()
        grey = rng.uniform(15, 235)
        colour = (*np.clip(rng.normal(grey, 28, 3), 0, 255).astype(int).tolist(), 190)
        box = [left, top, left + wide, top + high]
        if rng.random() < 0.65:
            draw.rectangle(box, fill=colour)
        else:
            draw.ellipse(box, fill=colour)


def draw_covers(
    canvas: Image.Image,
    landmarks: Floats,
    look: Look,
    covers: tuple[str, ...],
    rng: np.random.Generator,
) -> None:
    """Draw what covers the face in the picture plane: a hand, an object, loose hair.

    Args:
        canvas: The raster, drawn on in place.
        landmarks: `(68, 2)` in raster pixels.
        look: For the colours.
        covers: Names; those that are meshes are skipped.
        rng: Places them.
    """
    if not covers:
        return
    draw = ImageDraw.Draw(canvas, "RGBA")
    unit = float(np.linalg.norm(landmarks[8] - landmarks[27])) / 1.28
    if "hand" in covers:
        _draw_hand(draw, landmarks, unit, look.skin, rng)
    if "patch" in covers:
        _draw_object(draw, landmarks, unit, rng)
    if "strands" in covers:
        _draw_strands(draw, landmarks, unit, look.hair, rng)


def _draw_hand(
    draw: ImageDraw.ImageDraw,
    landmarks: Floats,
    unit: float,
    skin: Floats,
    rng: np.random.Generator,
) -> None:
    """Draw four fingers and the back of a hand that comes from below or the side."""
    target = landmarks[rng.choice([33, 48, 54, 57, 4, 12])] + rng.normal(0, 0.1 * unit, 2)
    angle = rng.uniform(0.15, np.pi - 0.15)
    reach = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-reach[1], reach[0]])
    skin = skin * rng.uniform(0.75, 1.0)
    thick = 0.19 * unit
    spread = rng.uniform(0.95, 1.25)
    palm = target + reach * 0.75 * unit
    for width, shade in ((1.0, 0.82), (0.9, 1.0)):
        for finger, length in enumerate((0.05, -0.06, -0.02, 0.14)):
            side = across * (finger - 1.5) * thick * 1.05
            tip = target + side * spread + reach * length * unit
            _capsule(draw, tip, palm + side, thick * width, skin * shade)
        wrist = palm + reach * 2.0 * unit
        _capsule(draw, palm, wrist, thick * (3.3 + width), skin * shade)


def _capsule(
    draw: ImageDraw.ImageDraw, start: Floats, end: Floats, width: float, colour: Floats
) -> None:
    """A thick line with round ends."""
    fill = tuple(np.clip(colour, 0, 255).astype(int).tolist())
    draw.line([*start.tolist(), *end.tolist()], fill, max(1, round(width)))
    for x, y in (start.tolist(), end.tolist()):
        draw.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], fill=fill)


def _draw_object(
    draw: ImageDraw.ImageDraw, landmarks: Floats, unit: float, rng: np.random.Generator
) -> None:
    """Draw a card, a telephone or a microphone somewhere over the face."""
    centre = landmarks[rng.integers(68)] + rng.normal(0, 0.12 * unit, 2)
    dark, light = rng.uniform(10, 120, 3), rng.uniform(60, 240, 3)
    if rng.random() < 0.4:
        handle = centre + np.array([rng.uniform(-0.6, 0.6), 1.8]) * unit
        _capsule(draw, centre, handle, 0.16 * unit, dark * 0.6)
        _capsule(draw, centre, np.add(centre, [0, 0.06 * unit]), 0.36 * unit, dark)
        _capsule(draw, centre - 0.05 * unit, centre - 0.05 * unit, 0.2 * unit, dark * 1.4)
        return
    half = rng.uniform(0.18, 0.5, 2) * unit
    angle = rng.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    box = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    for scale, colour in ((1.0, light), (0.86, dark)):
        corners = centre + (box * half * scale) @ turn
        fill = tuple(colour.astype(int).tolist())
        draw.polygon(corners.ravel().tolist(), fill=fill)


def _draw_strands(
    draw: ImageDraw.ImageDraw,
    landmarks: Floats,
    unit: float,
    hair: Floats,
    rng: np.random.Generator,
) -> None:
    """Draw locks that fall from the forehead across an eye and a cheek."""
    up = landmarks[27] - landmarks[8]
    up /= np.linalg.norm(up)
    side = np.array([-up[1], up[0]]) * rng.choice([-1, 1])
    root = landmarks[27] + up * 0.95 * unit + side * rng.uniform(-0.3, 0.2) * unit
    for _ in range(int(rng.integers(14, 36))):
        start = root + side * rng.normal(0, 0.12) * unit
        middle = root - up * 0.7 * unit + side * (0.25 + rng.normal(0, 0.1)) * unit
        end = middle - up * rng.uniform(0.3, 0.9) * unit + side * rng.normal(0.12, 0.1) * unit
        colour = np.clip(hair * rng.uniform(0.7, 1.3), 0, 255).astype(int).tolist()
        curve = smooth_curve(np.stack([start, middle, end]))
        draw.line(curve.ravel().tolist(), (*colour, 225), max(1, round(0.022 * unit)))


def finish(
    canvas: Image.Image, image_size: int, conditions: Conditions, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Reduce the raster to the picture and apply the camera.

    Returns:
        `(3, image_size, image_size)` float32 in `[0, 1]`.
    """
    picture = canvas.resize((image_size, image_size), Image.Resampling.HAMMING)
    if conditions.blur:
        radius = conditions.blur * image_size / 128
        picture = picture.filter(ImageFilter.BoxBlur(radius))
    if conditions.jpeg:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=conditions.jpeg)
        picture = Image.open(file)
    pixels = np.asarray(picture).transpose(2, 0, 1).astype(np.float32, order="C")
    gain = (conditions.contrast * conditions.cast / 255).astype(np.float32)[:, None, None]
    pixels *= gain
    pixels += 0.5 * (1 - conditions.contrast)
    if conditions.noise:
        # The sum of two dice resembles the normal distribution and costs a quarter of it.
        dice = rng.integers(0, 256, (2, *pixels.shape), dtype=np.uint8)
        grain = np.add(dice[0], dice[1], dtype=np.float32)
        grain -= 255
        grain *= np.float32(conditions.noise / _DICE_DEVIATION / 255)
        pixels += grain
    return np.clip(pixels, 0, 1, out=pixels)
