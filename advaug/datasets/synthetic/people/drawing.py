"""How a synthetic person is drawn: hulls of balls, from the farthest to the nearest, with shade."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import ImageDraw

from advaug.datasets.synthetic.faces.look import Look
from advaug.datasets.synthetic.faces.shape import Floats
from advaug.datasets.synthetic.people.pose import Joints

__all__ = ["Clothes", "draw_person", "sample_clothes"]

Ball = tuple[str, float]  # a joint and a radius in metres
_ARC = np.linspace(0, 2 * np.pi, 14, endpoint=False)
_CIRCLE = np.stack([np.cos(_ARC), np.sin(_ARC)], axis=1)
_SHADE, _LIT = 0.72, 0.68  # brightness of the dark side, and how much of a part is lit
_BRIM = 0.012


@dataclass(frozen=True)
class Clothes:
    """What a person wears; colours are `(3,)`, 0 to 255.

    Attributes:
        top: Colour of shirt or dress.
        bottom: Colour of trousers, shorts or skirt.
        shoes: Colour.
        sleeves: 0 none, 1 to the elbow, 2 to the wrist.
        legs: 0 shorts, 1 trousers, 2 a skirt.
        hair: "short", "long" or "none".
        weight: Thickness of trunk and limbs, a factor.
    """

    top: Floats
    bottom: Floats
    shoes: Floats
    sleeves: int
    legs: int
    hair: str
    weight: float


@dataclass(frozen=True)
class _Part:
    """The hull of some balls in one colour; `lift` draws it that much nearer, in metres."""

    balls: tuple[Ball, ...]
    colour: Floats
    lift: float = 0.0


def sample_clothes(rng: np.random.Generator) -> Clothes:
    """Draw what a person wears, in any colours."""
    top, bottom, shoes = rng.uniform(12, 245, (3, 3)) * rng.uniform(0.35, 1.0, (3, 1))
    if rng.random() < 0.5:  # most trousers are dull
        bottom = bottom.mean() + 0.35 * (bottom - bottom.mean())
    return Clothes(
        top,
        bottom,
        shoes,
        sleeves=int(rng.choice(3, p=[0.1, 0.45, 0.45])),
        legs=int(rng.choice(3, p=[0.25, 0.6, 0.15])),
        hair=str(rng.choice(["short", "long", "none"], p=[0.6, 0.32, 0.08])),
        weight=float(rng.uniform(0.82, 1.3)),
    )


def draw_person(
    draw: ImageDraw.ImageDraw,
    joints: Joints,
    look: Look,
    clothes: Clothes,
    light: Floats,
    corner: Floats,
    scale: float,
) -> None:
    """Draw a person on a raster.

    Args:
        draw: Draws on the raster.
        joints: In the camera's axes.
        look: Colours of skin and hair.
        clothes: What is worn.
        light: `(3,)`, unit vector to the lamp.
        corner: `(2,)`: what the raster's top left corner shows, in metres.
        scale: Raster pixels per metre.
    """
    parts = [*_legs(clothes, look), *_trunk(clothes), *_arms(clothes, look), *_head(clothes, look)]
    for part in sorted(parts, key=lambda part: _depth(part, joints)):
        names, radii = zip(*part.balls, strict=True)
        centres = (np.array([joints[name][:2] for name in names]) - corner) * scale
        sizes = np.array(radii) * scale
        _fill(draw, centres, sizes, _SHADE * part.colour)
        towards = (1 - _LIT) * sizes.min() * light[:2]
        _fill(draw, centres + towards, _LIT * sizes + 0.2, part.colour)
    _draw_features(draw, joints, look, corner, scale)


def _legs(clothes: Clothes, look: Look) -> list[_Part]:
    w = clothes.weight
    below = clothes.bottom if clothes.legs == 1 else look.skin
    parts: list[_Part] = []
    for side in ("left", "right"):
        knee, ankle = (f"{side}_knee", 0.058 * w), (f"{side}_ankle", 0.04 * w)
        above = look.skin if clothes.legs == 2 else clothes.bottom
        parts += [
            _Part((knee, ankle), below),
            _Part(((f"{side}_hip", 0.088 * w), knee), above, 0.01),
            _Part(((f"{side}_ankle", 0.045), (f"{side}_toe", 0.033)), clothes.shoes, 0.01),
        ]
    if clothes.legs == 2:
        hips = tuple((f"{side}_hip", 0.1 * w) for side in ("left", "right"))
        hem = tuple((f"{side}_knee", 0.07 * w) for side in ("left", "right"))
        parts.append(_Part(hips + hem, clothes.bottom, 0.04))
    return parts


def _trunk(clothes: Clothes) -> list[_Part]:
    w = clothes.weight
    shoulders = tuple((f"{side}_shoulder", 0.062) for side in ("left", "right"))
    hips = tuple((f"{side}_hip", 0.092 * w) for side in ("left", "right"))
    return [_Part(shoulders + hips, clothes.top, 0.03)]


def _arms(clothes: Clothes, look: Look) -> list[_Part]:
    w = 0.5 + 0.5 * clothes.weight
    upper = clothes.top * 0.96 if clothes.sleeves else look.skin
    lower = clothes.top * 0.96 if clothes.sleeves == 2 else look.skin
    parts: list[_Part] = []
    for side in ("left", "right"):
        elbow, wrist = (f"{side}_elbow", 0.042 * w), (f"{side}_wrist", 0.032 * w)
        parts += [
            _Part(((f"{side}_shoulder", 0.056 * w), elbow), upper, 0.02),
            _Part((elbow, wrist), lower, 0.02),
            _Part(((f"{side}_wrist", 0.03), (f"{side}_hand", 0.036)), look.skin, 0.02),
        ]
    return parts


def _head(clothes: Clothes, look: Look) -> list[_Part]:
    parts = [
        _Part((("neck", 0.05), ("head", 0.05)), 0.9 * look.skin),
        _Part((("head", 0.098), ("chin", 0.05)), look.skin, 0.05),
        *(_Part(((f"{side}_ear", 0.022),), 0.93 * look.skin, 0.05) for side in ("left", "right")),
    ]
    if clothes.hair != "none":
        # The crown is behind the face, so it covers a head that is seen from the back.
        parts.append(_Part((("crown", 0.112),), look.hair, 0.055))
    if clothes.hair == "long":
        parts.append(_Part((("crown", 0.1), ("neck", 0.085)), look.hair, -0.02))
    return parts


def _depth(part: _Part, joints: Joints) -> float:
    """How near a part is."""
    return float(np.mean([joints[name][2] for name, _ in part.balls])) + part.lift


def _draw_features(
    draw: ImageDraw.ImageDraw, joints: Joints, look: Look, corner: Floats, scale: float
) -> None:
    """Draw eyes, nose and mouth if they face the viewer."""
    mouth = 0.5 * (joints["nose"] + joints["chin"]) + 0.1 * (joints["nose"] - joints["head"])
    features = (
        (joints["left_eye"], 0.014, 0.25 * look.hair),
        (joints["right_eye"], 0.014, 0.25 * look.hair),
        (joints["nose"], 0.016, 0.78 * look.skin),
        (mouth, 0.019, 0.5 * look.skin + np.array([50.0, 0, 0])),
    )
    for at, radius, colour in features:
        outward = at - joints["head"]
        if outward[2] > 0.3 * np.linalg.norm(outward):
            centre = (at[:2] - corner) * scale
            _fill(draw, centre[None], np.array([radius * scale]), colour)


def _fill(draw: ImageDraw.ImageDraw, centres: Floats, radii: Floats, colour: Floats) -> None:
    """Fill the convex hull of circles `(K, 2)`."""
    around = (centres[:, None] + radii[:, None, None] * _CIRCLE).reshape(-1, 2)
    outline = _hull(around) if len(centres) > 1 else around.tolist()
    fill = tuple(np.clip(colour, 0, 255).astype(int).tolist())
    draw.polygon([tuple(point) for point in outline], fill=fill)


def _hull(points: Floats) -> Sequence[Sequence[float]]:
    """Convex hull of points `(K, 2)`, by Andrew's monotone chain."""
    ordered = points[np.lexsort((points[:, 1], points[:, 0]))].tolist()
    return _chain(ordered) + _chain(ordered[::-1])


def _chain(ordered: list[list[float]]) -> list[list[float]]:
    """One half of a hull."""
    chain: list[list[float]] = []
    for x, y in ordered:
        while len(chain) > 1:
            (ax, ay), (bx, by) = chain[-2], chain[-1]
            if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                break
            chain.pop()
        chain.append([x, y])
    return chain[:-1]
