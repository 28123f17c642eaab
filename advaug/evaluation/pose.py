"""How good predicted poses are: PCK, PCKh, OKS, and OKS-AP by pycocotools (the extra `pose`).

`pck` and `pckh` give 1, 0 or NaN for each landmark, so that `.nanmean()` is the score of a data set
and `.nanmean(dim=0)` that of each landmark. Scores are fractions; tables print percent.
"""

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advaug.datasets.readers.coco_json import CocoFile, Id, canonical_id, read_coco
from advaug.datasets.readers.people import shown
from advaug.errors import ShapeError
from advaug.evaluation.evaluate import Errors
from advaug.evaluation.metrics import landmark_errors
from advaug.evaluation.normalizers import Normalizer
from advaug.schemes import MPII_16

__all__ = [
    "COCO_SIGMAS",
    "PoseErrors",
    "oks",
    "oks_average_precision",
    "pck",
    "pckh",
    "require_pycocotools",
]

# How far annotators differ, relative to the person's size; from the COCO keypoint challenge.
_HEAD, _ARMS, _LEGS = (0.026, 0.025, 0.035), (0.079, 0.072, 0.062), (0.107, 0.087, 0.089)
COCO_SIGMAS = (_HEAD[0], *(s for s in (*_HEAD[1:], *_ARMS, *_LEGS) for _ in ("left", "right")))
"""OKS's sigma of each landmark of `COCO_17`."""

HEAD_FACTOR = 0.6  # from the diagonal of MPII's head boxes to the length of a head
NOT_IN_MPII_MEAN = [6, 7]  # pelvis and thorax
_SUMMARY = {"AP": 0, "AP50": 1, "AP75": 2, "AR": 5}  # where pycocotools keeps them


@dataclass(frozen=True)
class PoseErrors(Errors):
    """The errors of one detector of poses under one condition.

    Attributes:
        scores: Other measures, such as "PCK@0.1", as fractions.
    """

    scores: Mapping[str, float] = field(default_factory=dict)

    def summary(self) -> dict[str, float]:
        """NME and the scores, all as fractions."""
        return {"nme": self.values.nanmean().item(), **self.scores}


def pck(
    preds: Tensor,
    target: Tensor,
    *,
    normalizer: Normalizer,
    threshold: float = 0.2,
    visible: Tensor | None = None,
) -> Tensor:
    r"""Percentage of correct keypoints: which landmarks are near enough.

    Args:
        preds: Predicted landmarks, `(B, N, 2)`, in any unit.
        target: True landmarks, same shape and unit.
        normalizer: What distances are divided by, as for `nme`: for instance the pair of a shoulder
            and the opposite hip (torso), or `(B,)` distances.
        threshold: Largest distance that is correct, as a fraction of the normaliser.
        visible: `(B, N)` bool; landmarks that are False are NaN in the result.

    Returns:
        `(B, N)`: 1 where correct, 0 where not, NaN where not visible.

    Raises:
        ShapeError: If the shapes do not match.
        ValueError: As `nme`, or if `threshold` is not positive.
    """
    if not threshold > 0:
        message = f"`threshold` must be positive, but got {threshold}. Pass 0.2 for PCK@0.2."
        raise ValueError(message)
    errors = landmark_errors(preds, target, normalizer=normalizer, visible=visible)
    return torch.where(errors.isnan(), torch.nan, (errors <= threshold).to(errors.dtype))


def pckh(
    preds: Tensor,
    target: Tensor,
    *,
    head_sizes: Tensor,
    threshold: float = 0.5,
    visible: Tensor | None = None,
) -> Tensor:
    """PCK of MPII: distances in units of the head, pelvis and thorax left out of the mean.

    Args:
        preds: `(B, 16, 2)`, in any unit.
        target: Same shape and unit.
        head_sizes: `(B,)`: diagonals of the head boxes in the same unit; 0.6 of one is the unit 1.
        threshold: Largest distance that is correct, in these units.
        visible: `(B, 16)` bool.

    Returns:
        `(B, 16)` as `pck`; NaN for pelvis and thorax too, so that `.nanmean()` is MPII's mean.

    Raises:
        ShapeError: If the shapes do not match.
        ValueError: As `pck`.
    """
    if preds.ndim != 3 or preds.shape[1] != MPII_16.num_landmarks:
        message = f"`preds` must be (B, 16, 2), but got {tuple(preds.shape)}. Use `pck` for others."
        raise ShapeError(message)
    correct = pck(
        preds, target, normalizer=HEAD_FACTOR * head_sizes, threshold=threshold, visible=visible
    )
    correct[:, NOT_IN_MPII_MEAN] = torch.nan
    return correct


def oks(
    preds: Tensor,
    target: Tensor,
    *,
    area: Tensor,
    sigmas: Sequence[float] = COCO_SIGMAS,
    visible: Tensor | None = None,
) -> Tensor:
    r"""Object keypoint similarity of each sample.

    $$ \mathrm{OKS}_i = \frac{1}{N_i} \sum_n \exp \frac{-d_n^2}{2 A_i (2 \sigma_n)^2} $$

    Args:
        preds: Predicted landmarks, `(B, N, 2)`, in pixels.
        target: True landmarks, same shape and unit.
        area: `(B,)`: A, the person's area in square pixels.
        sigmas: σ, one per landmark.
        visible: `(B, N)` bool; landmarks that are False do not count.

    Returns:
        `(B,)` in `[0, 1]`; NaN for a sample without any visible landmark.

    Raises:
        ShapeError: If the shapes do not match.
        ValueError: If an area is not positive, or a visible landmark is NaN.
    """
    errors = landmark_errors(preds, target, normalizer=area.sqrt(), visible=visible)
    if len(sigmas) != errors.shape[1]:
        message = (
            f"`sigmas` must be one for each of the {errors.shape[1]} landmarks, but got "
            f"{len(sigmas)}. Pass those of this scheme."
        )
        raise ShapeError(message)
    scale = 2 * torch.tensor(sigmas, dtype=errors.dtype, device=errors.device)
    return torch.exp(-((errors / scale) ** 2) / 2).nanmean(dim=1)


def oks_average_precision(
    annotations: Path,
    results: Sequence[Mapping[str, Any]],
    *,
    sigmas: Sequence[float] = COCO_SIGMAS,
) -> dict[str, float]:
    """OKS-AP over the pictures that have a result, by pycocotools.

    Args:
        annotations: A JSON of COCO keypoints.
        results: In COCO's format, as `CocoKeypoints.results` gives them.
        sigmas: One per keypoint.

    Returns:
        "AP" (mean over OKS .50:.05:.95), "AP50", "AP75" and "AR", as fractions.

    Raises:
        DatasetError: If the file cannot be read.
        ImportError: If pycocotools is not installed.
        ValueError: If there are no results, if they name a picture or category that the file does
            not have, or if the number of `sigmas` is not that of the keypoints.
    """
    coco, evaluation = require_pycocotools()
    if not results:
        message = (
            "`results` must hold at least one prediction, but got none. Pass those of "
            "`CocoKeypoints.results`."
        )
        raise ValueError(message)
    file = read_coco(Path(annotations))
    numbered = _numbered(file, results)
    if len(sigmas) != len(file.names):
        message = (
            f"`sigmas` must be one for each of the {len(file.names)} keypoints of `{annotations}`, "
            f"but got {len(sigmas)}. Pass those of this scheme."
        )
        raise ValueError(message)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints as it goes
        truth = coco()
        truth.dataset = _dataset(file)
        truth.createIndex()
        run = evaluation(truth, truth.loadRes(numbered), "keypoints")
        run.params.kpt_oks_sigmas = np.array(sigmas)
        run.params.imgIds = sorted({each["image_id"] for each in numbered})
        run.evaluate()
        run.accumulate()
        run.summarize()
    return {name: float(run.stats[index]) for name, index in _SUMMARY.items()}


def _numbers(keys: Iterable[Id]) -> dict[Id, int]:
    """Number ids from 1: pycocotools reads 0 as "no match", and accepts no strings."""
    return {key: number for number, key in enumerate(keys, start=1)}


def _dataset(file: CocoFile) -> dict[str, Any]:
    """What the reader has read, with every field that pycocotools requires."""
    images, categories = _numbers(file.images), _numbers(file.categories)
    annotations = [
        {
            "id": number,
            "image_id": images[each.image],
            "category_id": categories[each.category],
            "iscrowd": int(each.crowd),
            "keypoints": each.keypoints.ravel().tolist(),
            "num_keypoints": int((each.keypoints[:, 2] > 0).sum()),
            "area": each.area,
            "bbox": list(each.box or (0, 0, 0, 0)),
        }
        for number, each in enumerate(file.annotations, start=1)
    ]
    return {
        "images": [{"id": number} for number in images.values()],
        "categories": [{"id": number} for number in categories.values()],
        "annotations": annotations,
    }


def _numbered(file: CocoFile, results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The results with the numbers of `_dataset` instead of their ids.

    Raises:
        ValueError: If a result names a picture or category that the file does not have.
    """
    known = {"image_id": _numbers(file.images), "category_id": _numbers(file.categories)}
    numbered: list[dict[str, Any]] = []
    for index, result in enumerate(results):
        changed = dict(result)
        for name, numbers in known.items():
            key = canonical_id(result.get(name))
            if key is None or key not in numbers:
                message = (
                    f"`results` must have a `{name}` of the annotations, but got "
                    f"{shown(result.get(name))} at index {index}. Evaluate against the file that "
                    "the data set was made from."
                )
                raise ValueError(message)
            changed[name] = numbers[key]
        numbered.append(changed)
    return numbered


def require_pycocotools() -> tuple[Any, Any]:
    """Return pycocotools' classes of annotations and of evaluations.

    Raises:
        ImportError: If pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        message = (
            f"pycocotools must be installed for OKS-AP, but got: {error}. Run "
            '`pip install "advaug[pose]"`.'
        )
        raise ImportError(message) from error
    return COCO, COCOeval
