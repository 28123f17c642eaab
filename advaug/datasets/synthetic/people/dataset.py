"""The embedded default data set of poses: people that are drawn on access.

A skeleton takes a posture and is turned (`pose`). The body around it is drawn from the farthest
part to the nearest (`drawing`), in front of a background (the faces' `scene`).
"""

from typing import Literal, SupportsIndex, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

from advaug.datasets.sample import LandmarkSample
from advaug.datasets.synthetic.drawn import DrawnPictures
from advaug.datasets.synthetic.faces.look import Conditions, sample_conditions, sample_look
from advaug.datasets.synthetic.faces.scene import finish, paint_background
from advaug.datasets.synthetic.faces.shape import Floats
from advaug.datasets.synthetic.people.drawing import draw_person, sample_clothes
from advaug.datasets.synthetic.people.pose import Joints, sample_body
from advaug.schemes import COCO_17, COCO_NAMES

__all__ = ["SyntheticPeople"]

Split = Literal["train", "val"]
_MIN_IMAGE_SIZE = 32
_SUPERSAMPLING = 2.0  # drawn larger than requested and reduced, which smooths the edges
_BYSTANDERS = 0.3  # probability of another person behind
_ROOM = 0.12  # metres around the joints that the body fills


class SyntheticPeople(DrawnPictures):
    """Drawn people with COCO's 17 keypoints, exact, so that everything runs without a download.

    Every picture is a new person: proportions, posture, clothes, skin and hair vary, and so do the
    direction of view, size in the picture, background, light, blur and noise. Another person may
    stand behind. A picture depends only on `(seed, split, index)`: it is the same in every process
    and for every `count`, and no global random state is read or written. No person occurs in two
    splits.

    Keypoints are the projections of the joints themselves. One that the body hides stays `visible`,
    as COCO annotates it with v = 1: the detector has to guess. `visible` is False only outside the
    picture.

    Args:
        count: Number of pictures.
        split: `"train"` or `"val"`.
        image_size: Side of the pictures, in pixels; at least 32. Meant for 64 to 256.
        seed: Another seed gives other people.

    Raises:
        TypeError: If a number is not a whole number.
        ValueError: If a number is too small or there is no such split.

    Shape:
        - `image`: `(3, image_size, image_size)`, RGB in `[0, 1]`
        - `landmarks`: `(17, 2)`, x then y, in pixels of `image`, integers at pixel centres
        - `visible`: `(17,)`

    Examples:
        >>> people = SyntheticPeople(100, image_size=64)
        >>> image, landmarks, visible = people[0]
        >>> image.shape, landmarks.shape
        (torch.Size([3, 64, 64]), torch.Size([17, 2]))
    """

    scheme = COCO_17

    def __init__(
        self,
        count: int = 2000,
        *,
        split: Split = "train",
        image_size: int = 128,
        seed: int = 0,
    ) -> None:
        super().__init__(
            count, split, image_size, seed, splits=get_args(Split), least_size=_MIN_IMAGE_SIZE
        )

    def __getitem__(self, index: SupportsIndex) -> LandmarkSample:
        """Draw one picture; negative indices count from the end.

        Raises:
            IndexError: If there is no such picture.
        """
        return self._sample(*_photograph(self.image_size, self._generator(index)))


def _photograph(image_size: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], Floats]:
    """Draw a person.

    Returns:
        The picture `(3, image_size, image_size)` and the keypoints `(17, 2)` in its pixels.
    """
    conditions = sample_conditions(rng, hard=False)
    joints = sample_body(rng)
    corner, side = _frame(joints, rng)
    raster = round(image_size * _SUPERSAMPLING)
    canvas = paint_background(raster, rng)
    draw = ImageDraw.Draw(canvas)
    if rng.random() < _BYSTANDERS:
        away = side * np.array([rng.choice([-1, 1]) * rng.uniform(0.3, 0.55), rng.normal(0, 0.1)])
        _draw(draw, sample_body(rng), conditions, corner - away, raster / side, rng)
    _draw(draw, joints, conditions, corner, raster / side, rng)
    keypoints = np.array([joints[name][:2] for name in COCO_NAMES])
    landmarks = (keypoints - corner) * (image_size / side) - 0.5
    return finish(canvas, image_size, conditions, rng), landmarks


def _draw(
    draw: ImageDraw.ImageDraw,
    joints: Joints,
    conditions: Conditions,
    corner: Floats,
    scale: float,
    rng: np.random.Generator,
) -> None:
    look = sample_look(rng, hard=False)
    draw_person(draw, joints, look, sample_clothes(rng), conditions.light, corner, scale)


def _frame(joints: Joints, rng: np.random.Generator) -> tuple[Floats, float]:
    """Return the picture's top left corner and its side, in metres: roughly a person's box."""
    points = np.array([at[:2] for at in joints.values()])
    low, high = points.min(axis=0) - _ROOM, points.max(axis=0) + _ROOM
    side = float((high - low).max()) * rng.uniform(1.0, 1.35)
    return (low + high) / 2 - side * (0.5 + rng.normal(0, 0.03, 2)), side
