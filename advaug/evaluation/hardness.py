"""Which real test pictures are hard, by rules that use no detector under test.

Rendered hardness is limited to what a program can invent. These subsets depend on the pictures
themselves: heads turned far to the side, pictures of low quality, and the pictures that a committee
of detectors finds hardest. The committee is trained plainly, with other seeds than those under
test. A subset is a mask over the test pictures, so every detector is measured on the same ones.

Errors on turned heads should be divided by the size of the box. The distance between the eyes
shrinks as a head turns, so the inter-ocular error grows although nothing has become worse.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from advaug.base.checks import check_rgb, require_axes
from advaug.errors import ShapeError

__all__ = [
    "blockiness",
    "hardest",
    "large_pose",
    "low_quality",
    "sharpness",
    "turn_of_head",
]

NOSE_TIP, LEFT_CORNER, RIGHT_CORNER = 30, 36, 45  # of the 68 landmarks of 300W
GREY = (0.299, 0.587, 0.114)
CELL = 8  # pixels, of JPEG


def turn_of_head(landmarks: Tensor) -> Tensor:
    """How far a head is turned to the side, independent of its tilt and size.

    The position of the tip of the nose between the outer corners of the eyes, measured along the
    line through them.

    Args:
        landmarks: `(B, 68, 2)`, x then y, in any unit.

    Returns:
        `(B,)`: 0 for a frontal face, 1 if the tip is level with a corner, more beyond it.

    Raises:
        ShapeError: If these are not 68 landmarks.
    """
    require_axes("landmarks", landmarks, "(B, N, 2)")
    if landmarks.shape[1:] != (68, 2):
        msg = (
            f"`landmarks` must be (B, 68, 2), but got {tuple(landmarks.shape)}. The turn of a head "
            "is read from the nose and the eyes of the 300W scheme: give its 68 landmarks."
        )
        raise ShapeError(msg)
    left, right = landmarks[:, LEFT_CORNER], landmarks[:, RIGHT_CORNER]
    axis = right - left
    place = ((landmarks[:, NOSE_TIP] - left) * axis).sum(dim=1) / axis.square().sum(dim=1)
    return (2 * place - 1).abs()


def sharpness(images: Tensor) -> Tensor:
    """Standard deviation of the Laplacian of the grey pictures; small for blurred ones.

    Compare crops of one size only: a small original that was scaled up is blurred too.

    Args:
        images: `(B, 3, H, W)` in `[0, 1]`.

    Returns:
        `(B,)`.
    """
    check_rgb(images, floating=True)
    grey = _grey(images)[:, None]
    kernel = grey.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return F.conv2d(grey, kernel).flatten(1).std(dim=1)


def blockiness(image: Tensor) -> float:
    """How much steeper a picture is across the borders of JPEG's 8 x 8 blocks than elsewhere.

    Args:
        image: `(3, H, W)` in `[0, 1]`, as in its file: neither scaled nor cropped.

    Returns:
        Ratio of the mean steps; about 1 without visible blocks. 1 for a picture that is smaller
        than two blocks or has no steps at all.
    """
    require_axes("image", image, "(3, H, W)")
    grey = _grey(image[None])[0]
    at_borders, elsewhere = [], []
    for steps in (grey.diff(dim=1), grey.diff(dim=0).T):
        borders = torch.arange(steps.shape[1], device=grey.device) % CELL == CELL - 1
        at_borders.append(steps[:, borders].abs().flatten())
        elsewhere.append(steps[:, ~borders].abs().flatten())
    across, within = torch.cat(at_borders), torch.cat(elsewhere)
    if not across.numel() or not within.numel() or not within.any():
        return 1.0
    return (across.mean() / within.mean()).item()


def large_pose(landmarks: Tensor, *, share: float = 0.2) -> Tensor:
    """The given share of the faces, those whose heads are turned farthest, `(B,)` bool.

    Args:
        landmarks: `(B, 68, 2)`.
        share: Fraction of the pictures.
    """
    return _highest(turn_of_head(landmarks), share)


def low_quality(sides: Tensor, sharp: Tensor, blocks: Tensor, *, share: float = 0.2) -> Tensor:
    """The given share of the pictures, the small, blurred and compressed ones, `(B,)` bool.

    Each of the three measures ranks every picture; the sum of the ranks decides.

    Args:
        sides: `(B,)`: side of the face in pixels of the file. NaN if unknown, which counts as
            medium size.
        sharp: `(B,)`: `sharpness` of the crops.
        blocks: `(B,)`: `blockiness` of the files.
        share: Fraction of the pictures.

    Raises:
        ShapeError: If the three differ in length.
    """
    if not sides.shape == sharp.shape == blocks.shape or sides.ndim != 1:
        msg = (
            "`sides`, `sharp` and `blocks` must be one value a picture, but got "
            f"{tuple(sides.shape)}, {tuple(sharp.shape)} and {tuple(blocks.shape)}. Measure the "
            "same pictures for all three."
        )
        raise ShapeError(msg)
    known = torch.where(sides.isnan(), sides.nanmedian(), sides).nan_to_num(0.0)
    return _highest(_ranks(-known) + _ranks(-sharp) + _ranks(blocks), share)


def hardest(errors: Tensor, *, share: float = 0.1) -> Tensor:
    """The given share of the pictures, those a committee of detectors finds hardest, `(B,)` bool.

    The mean of each picture's rank among the members' errors decides, so that no member outweighs
    the others.

    Args:
        errors: `(K, B)`: of each member on every picture, NaN if it cannot be measured. Members
            are trained plainly, with seeds that no detector under test has.
        share: Fraction of the pictures.
    """
    require_axes("errors", errors, "(K, B)")
    ranks = torch.stack([_ranks(row.nan_to_num(-math.inf)) for row in errors])
    return _highest(ranks.mean(dim=0), share)


def _highest(scores: Tensor, share: float) -> Tensor:
    """Of equal scores the earlier picture counts as the higher one."""
    if not 0 < share < 1:
        msg = f"`share` must be between 0 and 1, but got {share}. Pass 0.1 for a tenth."
        raise ValueError(msg)
    count = int(share * len(scores))
    if count == 0:
        msg = (
            f"the set must have at least {math.ceil(1 / share)} pictures for a subset of "
            f"{share:g} of it, but got {len(scores)}. Use more pictures or a larger `share`."
        )
        raise ValueError(msg)
    chosen = torch.zeros(len(scores), dtype=torch.bool)
    chosen[scores.cpu().argsort(descending=True, stable=True)[:count]] = True
    return chosen


def _ranks(values: Tensor) -> Tensor:
    """0 for the lowest value; equal values share the mean of their ranks."""
    values = values.double().cpu()
    below = (values[None] < values[:, None]).sum(dim=1)
    equal = (values[None] == values[:, None]).sum(dim=1)
    return below + (equal - 1) / 2


def _grey(images: Tensor) -> Tensor:
    return (images * images.new_tensor(GREY)[:, None, None]).sum(dim=1)
