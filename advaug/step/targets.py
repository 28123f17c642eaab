"""The structure map S, Eq. 2, from any target that holds landmarks.

`augment` knows no task, so the target's own shape says what it is:

| target | meaning |
|---|---|
| `(B, N, 2)`, `(B, N, 3)` | one person per picture; visible if a third column is above 0 |
| `(landmarks, visible)` | the same, and `(B, N)` bool, for several people `(B, P, N)` |
| `(B, N, h, w)` | heatmaps with peak 1 |
| `(B, P, N, 2)`, `(B, P, N, 3)` | several people per picture |
| a list of `(P_i, N, 2 or 3)` | the same, with any number of people |
| a list of dicts with `"keypoints"` | torchvision's detection targets |
| a dict with `"keypoints"` and `"batch_idx"` | Ultralytics' flat people |

Landmarks are x then y, in pixels of the picture, or as fractions `[0, 1]` of its sides if the
caller says `normalized`. All people in a picture share one map.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from advaug.base.checks import describe
from advaug.base.precision import widen
from advaug.errors import ShapeError
from advaug.heatmaps import default_sigma, resize_heatmaps

__all__ = ["Landmarks", "check_units", "read_target", "structure_of"]

MOST_NEGATIVE = 1 / 3  # of fractions; more than a third of a batch cannot be out of its pictures
FROM_MINUS_ONE = "pass `(target + 1) / 2` and `normalized=True`."
TOGETHER = 8  # landmarks drawn at once; each of them needs memory for a whole map
FORMS = (
    "landmarks (B, N, 2), with or without visible, heatmaps (B, N, h, w), people (B, P, N, 2 or "
    "3), a list with (P, N, 2 or 3) or a dict with 'keypoints' for each picture, or a dict with "
    "'keypoints' and 'batch_idx'"
)


class Landmarks(NamedTuple):
    """All landmarks of each picture, as many as the fullest picture has.

    Attributes:
        points: `(B, K, 2)`, x then y, in pixels.
        visible: `(B, K)` bool; also False for the padding of pictures that have fewer.
    """

    points: Tensor
    visible: Tensor


def read_target(
    target: Any,  # noqa: ANN401 # that is what it checks
    sizes: Sequence[tuple[int, int]],
    *,
    normalized: bool,
) -> Landmarks | Tensor:
    """A target's `Landmarks`, or its heatmaps `(B, N, h, w)` as they are.

    Args:
        target: Any form of the table above.
        sizes: `(height, width)` of each picture.
        normalized: Whether landmarks are fractions of the picture's sides.

    Raises:
        TypeError, ShapeError, ValueError: If the target has none of these forms, the wrong number
            of pictures, or units that make no sense.
    """
    batch = len(sizes)
    if isinstance(target, Mapping):
        found = _of_mapping(target, batch)
    elif isinstance(target, Tensor):
        found = _of_tensor(target, batch)
    elif _is_pair(target):
        found = _of_pair(target[0], target[1], batch)
    elif isinstance(target, list | tuple):
        found = _of_list(target, batch)
    else:
        msg = (
            f"`target` must be {FORMS}, but got {describe(target)}. Arrays must be tensors, "
            "`torch.as_tensor(target)`; for no landmarks pass None."
        )
        raise TypeError(msg)
    if isinstance(found, Tensor):
        return found
    if found.points.shape[1] == 0:  # nobody in any picture
        found = Landmarks(found.points.new_zeros(batch, 1, 2), found.visible.new_zeros(batch, 1))
    points = widen(found.points.detach())
    shown = found.visible & points.isfinite().all(dim=-1)
    points = torch.where(shown[..., None], points, 0.0)  # a NaN would spread over S
    if normalized:
        # Fractions are counted from edge to edge, pixels between their centres.
        sides = points.new_tensor([(width, height) for height, width in sizes])
        points = points * sides[:, None] - 0.5
    return Landmarks(points, shown)


def check_units(landmarks: Landmarks, size: tuple[int, int], *, normalized: bool) -> None:
    """Raise if the visible landmarks cannot be where the caller says; reads their values.

    Args:
        landmarks: In pixels.
        size: `(height, width)` of the pictures.
        normalized: Whether the caller gave them as fractions.
    """
    points = landmarks.points[landmarks.visible]
    if len(points) < 2:
        return
    height, width = size
    if normalized:
        _check_fractions((points + 0.5) / points.new_tensor([width, height]))
    low, high = float(points.amin()), float(points.amax())
    if not normalized and min(size) > 8 and low >= -1 and high <= 1:
        fix = "For fractions of its sides pass `normalized=True`."
        if low < 0:
            fix = f"As they are in [-1, 1], {FROM_MINUS_ONE}"
        msg = (
            f"`target` must be in pixels of the picture, {width} x {height}, but all of its "
            f"landmarks lie from {low:.3g} to {high:.3g}. {fix}"
        )
        raise ValueError(msg)
    x, y = points.unbind(dim=-1)
    inside = (x > -0.5 * width) & (x < 1.5 * width) & (y > -0.5 * height) & (y < 1.5 * height)
    if not bool(inside.any()):
        msg = (
            f"`target` must lie in the picture, {width} x {height}, but all of its landmarks are "
            f"far outside, from {low:.4g} to {high:.4g}. Scale them with the picture."
        )
        raise ValueError(msg)


def _check_fractions(points: Tensor) -> None:
    """Raise on coordinates in [-1, 1], of which about a half is negative."""
    negative = float((points < 0).float().mean())
    if negative > MOST_NEGATIVE and bool((points.abs() <= 1).all()):
        msg = (
            "`target` must be in fractions of the picture's sides, from 0 to 1, but "
            f"{negative:.0%} of its coordinates are negative. As they are in [-1, 1], "
            f"{FROM_MINUS_ONE}"
        )
        raise ValueError(msg)


@torch.no_grad()
def structure_of(
    target: Landmarks | Tensor | None, size: tuple[int, int], chosen: Tensor | slice = slice(None)
) -> Tensor | None:
    """S of the chosen pictures, `(k, 1, H, W)`, from landmarks or heatmaps; None from None."""
    if target is None:
        return None
    if isinstance(target, Landmarks):
        return _of_landmarks(Landmarks(*(values[chosen] for values in target)), size)
    return resize_heatmaps(widen(target[chosen].detach()).amax(dim=1, keepdim=True), size)


def _of_landmarks(landmarks: Landmarks, size: tuple[int, int]) -> Tensor:
    """S: `(B, 1, H, W)`, the maximum over a Gaussian of peak 1 for every visible landmark.

    A running maximum: it never holds one map per landmark at the same time.
    """
    sigma = default_sigma(size)
    # An invisible landmark may lie at NaN, which a product with 0 would not take away.
    points = torch.where(landmarks.visible[..., None], landmarks.points, 0.0)
    columns = _profile(points[..., 0], size[1], sigma)
    rows = _profile(points[..., 1], size[0], sigma)
    rows = torch.where(landmarks.visible[..., None], rows, 0.0)
    structure = rows.new_zeros((len(rows), *size))
    for part_of_rows, part_of_columns in zip(
        rows.split(TOGETHER, dim=1), columns.split(TOGETHER, dim=1), strict=True
    ):
        maps = part_of_rows[..., :, None] * part_of_columns[..., None, :]
        structure = torch.maximum(structure, maps.amax(dim=1))
    return structure[:, None]


def _profile(centres: Tensor, length: int, sigma: float) -> Tensor:
    pixels = torch.arange(length, dtype=centres.dtype, device=centres.device)
    values = torch.exp(-((pixels - centres[..., None]) ** 2) / (2 * sigma**2))
    return torch.where(values < 1e-8, 0.0, values)  # subnormal numbers make a CPU crawl


def _is_pair(target: object) -> bool:
    """Whether this is (landmarks or heatmaps, visible), and not a list of two pictures."""
    if not isinstance(target, tuple) or len(target) != 2 or not isinstance(target[0], Tensor):
        return False
    visible = target[1]
    if not isinstance(visible, Tensor):
        return visible is None
    return visible.ndim == 2 or visible.shape == target[0].shape[:-1]


def _of_tensor(target: Tensor, batch: int) -> Landmarks | Tensor:
    fits = (target.ndim == 3 and target.shape[-1] in (2, 3)) or target.ndim == 4
    if not fits or target.shape[0] != batch:
        msg = (
            f"`target` must be {FORMS}, for {batch} pictures, but got a tensor "
            f"{tuple(target.shape)}. {_shape_fix(target, batch)}"
        )
        raise ShapeError(msg)
    if target.ndim == 4 and target.shape[-1] not in (2, 3):
        return target
    return _flat(target)


def _shape_fix(target: Tensor, batch: int) -> str:
    """What to do about a tensor of another shape."""
    if target.ndim == 0 or len(target) != batch:
        return "Give as many targets as pictures."
    if target.ndim == 2 and target.shape[1] % 2 == 0:
        return "For rows of x, y, x, y, ... pass `target.unflatten(1, (-1, 2))`."
    return "Put x and y last."


def _flat(target: Tensor) -> Landmarks:
    """`(B, ..., 2 or 3)` to all landmarks of each picture."""
    points = target.flatten(1, -2)
    shown = points[..., 2] > 0 if points.shape[-1] == 3 else points[..., 0].isfinite()
    return Landmarks(points[..., :2].float(), shown)


def _of_pair(values: Tensor, visible: Tensor | None, batch: int) -> Landmarks | Tensor:
    found = _of_tensor(values, batch)
    if visible is None:
        return found
    if visible.is_floating_point():
        msg = (
            f"`visible` must be bool or whole numbers, but got {visible.dtype}. If these are "
            "weights, say which of them count: `visible > 0`."
        )
        raise TypeError(msg)
    axes = values.shape[:2] if isinstance(found, Tensor) else values.shape[:-1]
    if visible.shape != axes:
        msg = (
            f"`visible` must be {tuple(axes)}, one value per landmark, but got "
            f"{tuple(visible.shape)}. Give one for each."
        )
        raise ShapeError(msg)
    shown = visible.to(torch.bool)
    if isinstance(found, Tensor):
        return torch.where(shown[..., None, None], found, 0.0)
    return Landmarks(found.points, found.visible & shown.flatten(1))


def _of_list(target: Sequence[Any], batch: int) -> Landmarks:
    if len(target) != batch:
        msg = (
            f"`target` must have an entry for each of the {batch} pictures, but got a "
            f"{type(target).__name__} of {len(target)}. A pair of landmarks and visible is a tuple."
        )
        raise ShapeError(msg)
    return _padded([_people(entry, index) for index, entry in enumerate(target)])


def _people(entry: Any, index: int) -> Tensor:  # noqa: ANN401 # that is what it checks
    """The landmarks of one picture: `(K, 3)`, the last column above 0 where visible."""
    keypoints = entry.get("keypoints") if isinstance(entry, Mapping) else entry
    if not isinstance(keypoints, Tensor):
        fact = f"the keys {sorted(map(str, entry))}" if isinstance(entry, Mapping) else None
        msg = (
            f"`target[{index}]` must be a tensor (P, N, 2 or 3) or a dict with such 'keypoints', "
            f"but got {fact or describe(entry)}. Pick the keypoints out."
        )
        raise TypeError(msg)
    if keypoints.shape[-1:] not in ((2,), (3,)):
        msg = (
            f"`target[{index}]` must be (P, N, 2 or 3), but got {tuple(keypoints.shape)}. Put x, "
            "y and visibility last."
        )
        raise ShapeError(msg)
    keypoints = keypoints.reshape(-1, keypoints.shape[-1]).float()
    if keypoints.shape[-1] == 3:
        return keypoints
    return torch.cat([keypoints, keypoints[:, :1].isfinite().float()], dim=1)


def _padded(pictures: Sequence[Tensor]) -> Landmarks:
    most = max(1, *(len(points) for points in pictures))
    padded = torch.stack(
        [torch.nn.functional.pad(points, (0, 0, 0, most - len(points))) for points in pictures]
    )
    return _flat(padded)


def _of_mapping(target: Mapping[str, Any], batch: int) -> Landmarks | Tensor:
    keypoints, owner = target.get("keypoints"), target.get("batch_idx")
    if not isinstance(keypoints, Tensor):
        msg = (
            "`target` must have the key 'keypoints', but has the keys "
            f"{sorted(map(str, target))}. Pick the landmarks out: `target=batch['...']`."
        )
        raise TypeError(msg)
    if owner is None:
        return _of_tensor(keypoints, batch)
    owner = owner.reshape(-1).long()
    if len(owner) != len(keypoints):
        msg = (
            f"`batch_idx` must name a picture for each of the {len(keypoints)} people, but has "
            f"{len(owner)} entries. Give one for each person."
        )
        raise ShapeError(msg)
    counts = torch.bincount(owner, minlength=batch).tolist()  # the only wait for the device
    if len(counts) > batch:
        msg = (
            f"`batch_idx` must be from 0 to {batch - 1}, as there are {batch} pictures, but goes "
            f"up to {len(counts) - 1}. Number the people's pictures within the batch."
        )
        raise ShapeError(msg)
    people = keypoints[owner.argsort(stable=True)].split(counts)
    return _padded([_people(each, index) for index, each in enumerate(people)])
