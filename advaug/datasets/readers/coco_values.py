"""The values of COCO's JSON in whatever form a tool has written them.

Numbers are given as strings, triplets as nested lists, unknown values as null, areas as zero. What
has only one reading is read; everything else raises a `DatasetError` that names the annotation.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advaug.datasets.pictures import Box
from advaug.datasets.readers.people import require_numbers, shown
from advaug.errors import DatasetError

__all__ = ["read_area", "read_box", "read_keypoints", "read_size"]


def read_size(where: str, record: dict[str, Any]) -> tuple[int, int] | None:
    """(width, height), or None if a file leaves it open: missing, null or zero."""
    given = [record.get("width"), record.get("height")]
    if any(value in (None, 0, "", "0") for value in given):
        return None
    width, height = require_numbers(f"{where} `width` and `height`", given, 2).tolist()
    return round(width), round(height)


def read_keypoints(where: str, given: Any, count: int) -> NDArray[np.float64]:  # noqa: ANN401 # from json
    """`(N, 3)`, with zeros where nothing is annotated."""
    if given in (None, []):
        return np.zeros((count, 3))
    values = _flat(given) if isinstance(given, list) else given
    if isinstance(values, list) and len(values) == 3 * count:
        # Without a position there is no v, whatever the file says.
        values = [
            number
            for start in range(0, 3 * count, 3)
            for number in _triplet(values[start : start + 3])
        ]
    keypoints = require_numbers(f"{where} `keypoints`", values, 3 * count).reshape(-1, 3)
    flags = keypoints[:, 2]
    if not np.isin(flags, (0, 1, 2)).all():
        message = (
            f"{where} `keypoints` must have 0, 1 or 2 as every third number, but got "
            f"{sorted(set(flags.tolist()))[:10]}. Correct the visibility."
        )
        raise DatasetError(message)
    return np.where(flags[:, None] > 0, keypoints, 0.0)


def _flat(values: list[Any]) -> list[Any]:
    """Triplets that are nested lists, flattened into one."""
    return [
        number for value in values for number in (value if isinstance(value, list) else [value])
    ]


def _triplet(triplet: Sequence[Any]) -> Sequence[Any]:
    """Replace the marks for "not annotated" by zeros."""
    x, y, flag = triplet
    missing = (x is None and y is None) or (flag in (0, "0") and (x is None or y is None))
    return (0, 0, 0) if missing and not _positive(flag) else triplet


def _positive(flag: Any) -> bool:  # noqa: ANN401 # from json
    return flag not in (None, 0, "0")


def read_box(where: str, given: Any, *, needed: bool) -> Box | None:  # noqa: ANN401 # from json
    """x, y, width and height; None if there is none and none is needed."""
    if not needed and given in (None, []):
        return None
    x, y, width, height = require_numbers(f"{where} `bbox`", given, 4).tolist()
    if width < 0 or height < 0:
        message = (
            f"{where} `bbox` must be x, y, width and height, but got {shown(given)}. Write the "
            "size, not the other corner."
        )
        raise DatasetError(message)
    return x, y, width, height


def read_area(where: str, given: Any, box: Box | None, *, needed: bool) -> float:  # noqa: ANN401 # from json
    """The area, or the box's if the file has none above zero."""
    area = 0.0
    if given is not None:
        area = float(require_numbers(f"{where} `area`", given, 1)[0])
    if area > 0 or box is None:
        return max(area, 0.0)
    product = box[2] * box[3]
    return product if math.isfinite(product) or not needed else area
