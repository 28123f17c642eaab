"""How a synthetic face looks: skin, hair, beard, glasses, what covers it, and its light."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from advaug.datasets.synthetic.faces.head import Pose
from advaug.datasets.synthetic.faces.shape import Floats

__all__ = ["Conditions", "Look", "sample_conditions", "sample_look"]

# sRGB, from very light to very dark; a person's skin is between two neighbours.
_SKINS = np.array(
    [
        *((252, 216, 194), (246, 200, 168), (232, 180, 142), (212, 158, 116)),
        *((180, 128, 92), (144, 98, 68), (108, 72, 50), (78, 52, 38)),
    ],
    dtype=np.float64,
)
_HAIRS = np.array(
    [
        *((24, 20, 20), (44, 32, 26), (74, 50, 34), (110, 76, 46), (124, 62, 34)),
        *((176, 136, 84), (214, 182, 130), (138, 136, 134), (214, 210, 204), (150, 60, 90)),
    ],
    dtype=np.float64,
)
_HAIR_SHARES = np.array([0.22, 0.18, 0.15, 0.1, 0.05, 0.09, 0.06, 0.09, 0.05, 0.01])
# Fair hair is rare on dark skin: black, brown, grey.
_DARK_SKIN_HAIR_SHARES = np.array([0.6, 0.2, 0.05, 0.0, 0.0, 0.01, 0.01, 0.09, 0.04, 0.0])
_EYES = np.array(
    [(58, 36, 22), (88, 58, 32), (110, 92, 50), (86, 108, 120), (94, 112, 84), (120, 130, 136)],
    dtype=np.float64,
)
_LIPS = np.array([(188, 92, 88), (168, 40, 58), (150, 70, 96), (204, 110, 104)], dtype=np.float64)

HairStyle = Literal["bald", "cropped", "short", "fringe", "bob", "long", "curly"]
_STYLES: tuple[HairStyle, ...] = ("bald", "cropped", "short", "fringe", "bob", "long", "curly")
_STYLE_SHARES = np.array([0.07, 0.13, 0.28, 0.13, 0.11, 0.17, 0.11])


@dataclass(frozen=True)
class Look:
    """What a person looks like, beyond the shape.

    Attributes:
        skin: `(3,)` sRGB, 0 to 255, as all colours here.
        hair: `(3,)`.
        brows: `(3,)`.
        iris: `(3,)`.
        lips: `(3,)`.
        style: The haircut.
        hairline: y of the hairline above the nose.
        volume: Thickness of the hair.
        beard: 0 shaven, up to 1.
        moustache: 0 shaven, up to 1.
        make_up: 0 none, up to 1.
        age: 0 young, 1 wrinkled.
        freckles: How many.
        brow_weight: Thickness of the brows, a factor.
        blush: Redness of cheeks and nose, 0 to 1.
        glasses: None, "clear" or "dark".
        cap: Whether a cap is worn.
        clothes: `(2, 3)`, two colours.
    """

    skin: Floats
    hair: Floats
    brows: Floats
    iris: Floats
    lips: Floats
    style: HairStyle
    hairline: float
    volume: float
    beard: float
    moustache: float
    make_up: float
    age: float
    freckles: int
    brow_weight: float
    blush: float
    glasses: Literal["clear", "dark"] | None
    cap: bool
    clothes: Floats


@dataclass(frozen=True)
class Conditions:
    """How the picture was taken.

    Attributes:
        pose: The head's pose.
        light: `(3,)`, unit vector from the face to the lamp: x right, y down, z to the viewer.
        lamp: The lamp's strength.
        ambient: Strength of the light from everywhere.
        zoom: Side of the picture over the diagonal of the landmarks' box.
        shift: `(2,)`, offset of the box's centre from the picture's, in sides of the picture.
        blur: Radius in pixels at 128 px; 0 is sharp.
        noise: Standard deviation, 0 to 255.
        jpeg: Quality of the compression, 1 to 95; 0 is none.
        contrast: Factor about mid-grey.
        cast: `(3,)`, factor for each channel.
        covers: Names of the things that hide parts of the face, back to front.
    """

    pose: Pose
    light: Floats
    lamp: float
    ambient: float
    zoom: float
    shift: Floats
    blur: float
    noise: float
    jpeg: int
    contrast: float
    cast: Floats
    covers: tuple[str, ...]


def sample_look(rng: np.random.Generator, *, hard: bool) -> Look:
    """Draw the look of one person."""
    darkness = (len(_SKINS) - 1) * rng.beta(1.0, 1.5)
    skin = _between(_SKINS, darkness) * rng.normal(1.0, [0.02, 0.025, 0.04])
    shares = _DARK_SKIN_HAIR_SHARES if darkness > 4 else _HAIR_SHARES
    hair = _HAIRS[_pick(rng, shares)] * rng.uniform(0.8, 1.15)
    grey = float(hair.min() > 125)
    masculine = rng.random() < 0.5
    style = _pick(rng, _STYLE_SHARES)
    if masculine and _STYLES[style] in ("bob", "long"):
        style = rng.integers(0, 4)
    make_up = 0.0 if masculine else float(rng.uniform(0.3, 1)) * (rng.random() < 0.5)
    natural_lips = skin * [0.84, 0.64, 0.64]
    painted = _LIPS[rng.integers(len(_LIPS))] * rng.uniform(0.7, 1.0)
    bearded = masculine and rng.random() < 0.4
    glasses_share = 0.35 if hard else 0.2
    glasses = None if rng.random() > glasses_share else "clear"
    if glasses and rng.random() < (0.5 if hard else 0.12):
        glasses = "dark"
    return Look(
        skin=np.clip(skin, 0, 255),
        hair=np.clip(hair, 8, 250),
        brows=hair * 0.75 if grey else np.clip(hair * 0.8, 10, 150),
        iris=_EYES[rng.choice(2)] if darkness > 4 else _EYES[rng.integers(len(_EYES))],
        lips=natural_lips + (painted - natural_lips) * make_up * 0.8,
        style="bald" if style == 0 and not masculine and rng.random() < 0.8 else _STYLES[style],
        hairline=float(rng.normal(-0.72, 0.07) - 0.15 * (masculine and rng.random() < 0.25)),
        volume=float(rng.uniform(0.05, 0.16)),
        beard=float(rng.uniform(0.3, 1.0)) if bearded else 0.0,
        moustache=float(rng.uniform(0.3, 1.0)) if bearded and rng.random() < 0.8 else 0.0,
        make_up=make_up,
        age=float(np.clip(rng.beta(1.3, 2.0) + 0.3 * grey, 0, 1)),
        freckles=int(rng.integers(10, 50)) if darkness < 3 and rng.random() < 0.15 else 0,
        brow_weight=float(rng.uniform(0.7, 1.5) if masculine else rng.uniform(0.5, 1.1)),
        blush=float(rng.uniform(0, 1)),
        glasses=glasses,
        cap=bool(rng.random() < 0.05),
        clothes=rng.uniform(15, 240, 3) * rng.uniform(0.6, 1.0, (2, 3)),
    )


def sample_conditions(rng: np.random.Generator, *, hard: bool) -> Conditions:
    """Draw pose, light, framing and camera; `hard` turns far, lights sharply and covers."""
    azimuth = np.deg2rad(rng.uniform(30, 80) * rng.choice([-1, 1]) if hard else rng.normal(0, 40))
    height = np.deg2rad(rng.uniform(0, 55))
    light = [np.sin(azimuth) * np.cos(height), -np.sin(height), np.cos(azimuth) * np.cos(height)]
    ambient = rng.uniform(0.18, 0.45) if hard else rng.uniform(0.35, 0.68)
    exposure = rng.uniform(0.85, 1.12)
    warmth = rng.normal(0.02, 0.05)
    return Conditions(
        pose=_sample_pose(rng, hard=hard),
        light=np.array(light),
        lamp=float((1.12 - ambient) * exposure * rng.uniform(0.9, 1.15)),
        ambient=float(ambient * exposure),
        zoom=float(rng.uniform(0.93, 1.1)),
        shift=rng.normal(0, 0.022, 2),
        blur=_sample_blur(rng, hard=hard),
        noise=_sample_noise(rng),
        jpeg=int(rng.integers(25, 80)) if rng.random() < 0.15 else 0,
        contrast=float(rng.uniform(0.8, 1.15)),
        cast=rng.normal([1 + warmth, 1.0, 1 - warmth], 0.02),
        covers=_sample_covers(rng) if hard else (),
    )


def _sample_pose(rng: np.random.Generator, *, hard: bool) -> Pose:
    """Mostly frontal with a tail to either side; `hard` is three quarters to profile."""
    turned = rng.uniform(35, 65) if rng.random() < 0.14 else abs(rng.normal(0, 17))
    yaw = rng.uniform(40, 75) if hard and rng.random() < 0.7 else turned
    return Pose(
        yaw=float(min(yaw, 75.0) * rng.choice([-1, 1])),
        pitch=float(np.clip(rng.normal(0, 7), -20, 20)),
        roll=float(rng.normal(0, 10 if hard else 6)),
        distance=float(rng.uniform(7, 20)),
    )


def _sample_blur(rng: np.random.Generator, *, hard: bool) -> float:
    """Sharp in most pictures."""
    if rng.random() < (0.5 if hard else 0.3):
        return float(rng.uniform(0.4, 1.8 if hard else 1.1))
    return 0.0


def _sample_noise(rng: np.random.Generator) -> float:
    """None in a third of the pictures, little in most others."""
    kind = rng.random()
    if kind < 0.3:
        return 0.0
    return float(rng.uniform(0.5, 4) if kind < 0.85 else rng.uniform(4, 11))


def _sample_covers(rng: np.random.Generator) -> tuple[str, ...]:
    """Something hides a part of the face in most hard pictures."""
    covers: list[str] = []
    kind = rng.random()
    if kind < 0.3:
        covers.append("mask")
    elif kind < 0.42:
        covers.append("scarf")
    elif kind < 0.62:
        covers.append("hand")
    elif kind < 0.78:
        covers.append("patch")
    if rng.random() < 0.25:
        covers.append("strands")
    return tuple(covers)


def _pick(rng: np.random.Generator, shares: Floats) -> int:
    """Draw an index, each with the frequency of its share."""
    return min(int(np.searchsorted(shares.cumsum(), rng.random())), len(shares) - 1)


def _between(colours: Floats, position: float) -> Floats:
    """Interpolate a list of colours."""
    lower = min(int(position), len(colours) - 2)
    return colours[lower] + (colours[lower + 1] - colours[lower]) * (position - lower)
