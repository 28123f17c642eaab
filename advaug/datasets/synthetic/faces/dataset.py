"""The embedded default data set: faces that are drawn on access, with exact landmarks.

A head is a surface around the 68 landmarks of its frontal view (`shape`, `head`), with hair, ears,
clothes and glasses (`parts`). Its skin is painted in the frontal plane (`texture`), turned, lit and
drawn (`renderer`) in front of a background (`scene`).
"""

from typing import Literal, NamedTuple, SupportsIndex, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from advaug.datasets.sample import LandmarkSample
from advaug.datasets.synthetic.drawn import DrawnPictures
from advaug.datasets.synthetic.faces.atlas import AtlasScale
from advaug.datasets.synthetic.faces.head import Head, build_head, project_landmarks
from advaug.datasets.synthetic.faces.look import Conditions, Look, sample_conditions, sample_look
from advaug.datasets.synthetic.faces.parts import build_parts
from advaug.datasets.synthetic.faces.renderer import View, render_parts
from advaug.datasets.synthetic.faces.scene import draw_covers, finish, paint_background
from advaug.datasets.synthetic.faces.shape import (
    Expression,
    Floats,
    sample_expression,
    sample_frontal_landmarks,
)
from advaug.datasets.synthetic.faces.texture import paint_atlas, sample_swatches
from advaug.schemes import FACE_68

__all__ = ["SyntheticFaces"]

Split = Literal["train", "val", "hard"]
_SPLITS: tuple[Split, ...] = get_args(Split)
# Below this an eye has less than two pixels.
_MIN_IMAGE_SIZE = 32
# Faces are drawn larger than requested and reduced, which smooths their edges. Small pictures need
# this more, and it costs less for them.
_SUPERSAMPLING, _SUPERSAMPLING_SMALL, _SMALL = 1.25, 2.0, 128
# The skin is painted a little finer than it is seen.
_TEXELS_PER_RASTER_PIXEL = 1.1


class SyntheticFaces(DrawnPictures):
    """Drawn faces with exact landmarks, so that everything runs without a download.

    Every picture is a new person: shape, skin, hair, beard, make-up and glasses vary, and so do
    expression, pose, light, background, blur and noise. A picture depends only on
    `(seed, split, index)`: it is the same in every process and for every `count`, and no global
    random state is read or written. No face occurs in two splits.

    `"train"` and `"val"` are mostly turned by up to 35 degrees, and by at most 65. `"hard"` is
    mostly turned by 40 to 75 degrees, lit from a side, often blurred, and partly hidden by masks,
    scarves, sunglasses, hands, objects and hair.

    A picture is framed like a crop of 300W: a square about as wide as the diagonal of the
    landmarks' box, slightly scaled, shifted and rolled.

    Landmarks that cannot be seen follow 300W's convention. Behind a mask, a hand, hair or glasses,
    a landmark stays where it is and stays `visible`: the detector has to guess. The jaw, 0 to 16,
    follows the visible outline. On the side turned away, a jaw point is the outermost point of the
    face at its own height, as an annotator would put it, and not the point of the skin that marks
    the jaw when seen from the front. All others are points of the skin, projected even where the
    head itself hides them, such as the outer corner of the far eye behind the nose. `visible` is
    False only outside the picture, which is rare.

    Args:
        count: Number of pictures.
        split: `"train"`, `"val"` or `"hard"`.
        image_size: Side of the pictures, in pixels; at least 32. Meant for 64 to 256.
        seed: Another seed gives other people.

    Raises:
        TypeError: If a number is not a whole number.
        ValueError: If a number is too small or there is no such split.

    Shape:
        - `image`: `(3, image_size, image_size)`, RGB in `[0, 1]`
        - `landmarks`: `(68, 2)`, x then y, in pixels of `image`, integers at pixel centres
        - `visible`: `(68,)`

    Examples:
        >>> faces = SyntheticFaces(100, image_size=64)
        >>> image, landmarks, visible = faces[0]
        >>> image.shape, landmarks.shape
        (torch.Size([3, 64, 64]), torch.Size([68, 2]))
    """

    scheme = FACE_68

    def __init__(
        self,
        count: int = 2000,
        *,
        split: Split = "train",
        image_size: int = 128,
        seed: int = 0,
    ) -> None:
        super().__init__(count, split, image_size, seed, splits=_SPLITS, least_size=_MIN_IMAGE_SIZE)

    def __getitem__(self, index: SupportsIndex) -> LandmarkSample:
        """Draw one picture; negative indices count from the end.

        Raises:
            IndexError: If there is no such picture.
        """
        person, rng = self._draw_person(index)
        image, landmarks = _photograph(person, self.image_size, rng)
        return self._sample(image, landmarks)

    def _draw_person(self, index: SupportsIndex) -> tuple["_Person", np.random.Generator]:
        """Draw all but the pixels, and return the generator that draws the rest."""
        rng = self._generator(index)
        return _sample_person(rng, hard=self.split == "hard"), rng


class _Person(NamedTuple):
    """Everything about one picture except its pixels."""

    head: Head
    expression: Expression
    look: Look
    conditions: Conditions


def _sample_person(rng: np.random.Generator, *, hard: bool) -> _Person:
    """Draw a person, and how the picture is taken."""
    expression = sample_expression(rng)
    head = build_head(sample_frontal_landmarks(rng, expression), rng)
    look = sample_look(rng, hard=hard)
    return _Person(head, expression, look, sample_conditions(rng, hard=hard))


def _photograph(
    person: _Person, image_size: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], Floats]:
    """Draw a person.

    Returns:
        The picture `(3, image_size, image_size)` and the landmarks `(68, 2)` in its pixels.
    """
    head, expression, look, conditions = person
    supersampling = _SUPERSAMPLING if image_size >= _SMALL else _SUPERSAMPLING_SMALL
    raster = round(image_size * supersampling)
    flat = project_landmarks(head, conditions.pose)
    corner, side = _frame(flat, conditions)
    view = View(conditions.pose, corner, raster / side)
    scale = AtlasScale.of(_TEXELS_PER_RASTER_PIXEL * raster / side)
    swatches = sample_swatches(look, rng)
    atlas = paint_atlas(head.frontal, look, expression, swatches, scale, rng)
    parts = build_parts(head, look, scale, conditions.covers, rng)
    canvas = np.array(paint_background(raster, rng).convert("RGBX"))
    render_parts(canvas, parts, np.asarray(atlas), view, conditions)
    picture = Image.frombuffer("RGBX", (raster, raster), canvas, "raw", "RGBX", 0, 1).convert("RGB")
    draw_covers(picture, view.flat_to_raster(flat), look, conditions.covers, rng)
    landmarks = (flat - corner) * (image_size / side) - 0.5
    return finish(picture, image_size, conditions, rng), landmarks


def _frame(flat: Floats, conditions: Conditions) -> tuple[Floats, float]:
    """Return the picture's top left corner and its side, in the picture plane."""
    low, high = flat.min(axis=0), flat.max(axis=0)
    side = float(np.linalg.norm(high - low)) * conditions.zoom
    return (low + high) / 2 - side * (0.5 + conditions.shift), side
