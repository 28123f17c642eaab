"""The skin of a face with everything drawn on it, as a picture of the frontal view."""

import numpy as np
from PIL import Image, ImageDraw

from advaug.datasets.synthetic.faces.atlas import CORNER, EXTENT, SWATCHES, AtlasScale, enlarge
from advaug.datasets.synthetic.faces.brush import Brush, beard_area, mix, spot
from advaug.datasets.synthetic.faces.look import Look
from advaug.datasets.synthetic.faces.shape import BROWS, EYES, Expression, Floats

__all__ = ["paint_atlas", "sample_swatches"]

# Skin colours vary smoothly, so they are computed on a coarse grid and enlarged.
_SKIN_GRID = 30


def paint_atlas(
    frontal: Floats,
    look: Look,
    expression: Expression,
    swatches: dict[str, Floats],
    scale: AtlasScale,
    rng: np.random.Generator,
) -> Image.Image:
    """Paint the atlas of one person, RGB, one and a half times as wide as high.

    Args:
        frontal: `(68, 2)`, the landmarks in the frontal plane.
        look: Colours and what grows where.
        expression: For the gaze.
        swatches: The plain colours, `(3,)` each.
        scale: Size of the atlas.
        rng: Draws spots, hairs and strands.
    """
    size = scale.size
    atlas = Image.new("RGB", (size + size // 2, size))
    skin = Image.fromarray(_skin(frontal, look, rng))
    atlas.paste(enlarge(skin, size))
    brush = Brush(atlas, ImageDraw.Draw(atlas, "RGBA"), scale, look, rng)
    brush.spots()
    brush.folds(frontal)
    brush.nostrils(frontal)
    brush.lips(frontal)
    for brow in BROWS:
        brush.brow(frontal[brow])
    brush.stubble(frontal)
    for eye, side in zip(EYES, (-1, 1), strict=True):
        brush.eye(frontal[eye], side, expression)
    _paint_strip(atlas, scale, look, swatches, rng)
    return atlas


def sample_swatches(look: Look, rng: np.random.Generator) -> dict[str, Floats]:
    """Draw the plain colours of the parts that are not painted, `(3,)` each."""
    # Light blue, white and black masks are common; others have any colour.
    cloths = np.array([(150, 190, 215), (235, 238, 240), (40, 40, 46), rng.uniform(20, 220, 3)])
    return {
        "skin": look.skin * [1.0, 0.97, 0.96],
        "inner_ear": look.skin * [0.8, 0.66, 0.62],
        "cloth": cloths[rng.integers(len(cloths))],
        "frame": rng.uniform(10, 90, 3),
        "lens": rng.uniform(8, 40, 3),
        "cap": rng.uniform(20, 200, 3),
        "clothes": look.clothes[0],
        "collar": look.clothes[1],
    }


def _skin(frontal: Floats, look: Look, rng: np.random.Generator) -> np.ndarray:
    """Colour the skin: blush, shadows of beard and age, blotches; `(grid, grid, 3)` uint8."""
    axis = (np.arange(_SKIN_GRID) + 0.5) / _SKIN_GRID * EXTENT
    x, y = axis + CORNER[0], (axis + CORNER[1])[:, None]
    skin = np.ones((_SKIN_GRID, _SKIN_GRID, 1)) * look.skin
    skin *= 1 + rng.normal(0, 0.012, (_SKIN_GRID, _SKIN_GRID, 1))
    red = np.array([0.02, -0.1, -0.09])
    mouth, nose = frontal[[48, 54]].mean(axis=0), frontal[30]
    left, right = frontal[36:40].mean(axis=0), frontal[42:46].mean(axis=0)
    blush = spot(x, y, nose, (0.16, 0.14)) * 0.8
    hollows = np.zeros_like(blush)
    for eye in (left, right):
        blush += spot(x, y, np.add(eye, [0.0, 0.36]), (0.24, 0.17))
        hollows += spot(x, y, np.add(eye, [0.0, 0.08]), (0.17, 0.06)) * (0.05 + 0.1 * look.age)
        hollows += spot(x, y, np.subtract(eye, [0.0, 0.07]), (0.18, 0.06)) * (
            0.04 + 0.22 * look.make_up
        )
    skin *= 1 + (0.3 + look.blush) * blush[..., None] * red
    skin *= 1 - hollows[..., None] * [0.8, 1.0, 0.95]
    grown = beard_area(x, y, frontal, mouth) * max(look.beard, 0.12 * (look.brow_weight > 1))
    skin += grown[..., None] * 0.75 * (look.hair * 0.9 - skin)
    return np.clip(skin, 0, 255).astype(np.uint8)


def _paint_strip(
    atlas: Image.Image,
    scale: AtlasScale,
    look: Look,
    swatches: dict[str, Floats],
    rng: np.random.Generator,
) -> None:
    """Paint hair (streaks from the roots down) and the plain colours beside the face."""
    half = scale.size // 2
    # Streaks: many columns, few rows; enlarging smears them along the strand.
    streaks = rng.normal(1.0, 0.24, (5, 64, 1)) * np.linspace(0.88, 1.1, 5)[:, None, None]
    hair = np.clip(look.hair * streaks, 0, 255).astype(np.uint8)
    atlas.paste(enlarge(Image.fromarray(hair), half), (scale.size, 0))
    draw = ImageDraw.Draw(atlas)
    for name in SWATCHES:
        _, y = scale.swatch(name).tolist()
        reach = scale.size / len(SWATCHES) / 4
        box = [scale.size, y - reach, scale.size + half, y + reach]
        draw.rectangle(box, fill=mix(swatches[name]))
