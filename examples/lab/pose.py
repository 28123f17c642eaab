"""The problem of the examples on poses: what `train_pose.py` reads, and how it measures."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from advaug.datasets.readers.coco_keypoints import CocoKeypoints
from advaug.datasets.readers.mpii import Mpii
from advaug.datasets.readers.people import ENLARGEMENT
from advaug.datasets.synthetic.people.dataset import SyntheticPeople
from advaug.evaluation.evaluate import CONDITIONS, Errors
from advaug.evaluation.metrics import nme
from advaug.evaluation.pose import (
    COCO_SIGMAS,
    PoseErrors,
    oks_average_precision,
    pck,
    pckh,
    require_pycocotools,
)
from advaug.schemes import COCO_17, MPII_16, scheme_from_names
from advaug.training.loading import Batch
from lab.arguments import Experiment
from lab.faces import hold_back
from lab.problem import Problem

__all__ = ["POSE_DATA", "read_pose"]

POSE_DATA = ("synthetic", "coco", "mpii")
_UNIT = "longer side of the person's box"
# Masks are for faces: poses are measured without them.
_CONDITIONS = {name: CONDITIONS[name] for name in ("clean", "occluded")}
_TRAIN, _VAL = 2000, 300  # synthetic people
_THRESHOLDS = (0.05, 0.1)  # of PCK
_SIGMA = 0.05  # of OKS, for keypoints that are not COCO's


def read_pose(experiment: Experiment) -> Problem:
    """Read people, or animals, of one of the kinds of `POSE_DATA`.

    Raises:
        DatasetError: If the pictures cannot be used.
        ImportError: If pycocotools is needed and not installed.
        ValueError: If an argument is missing.
    """
    kinds = {"synthetic": _synthetic, "coco": _coco, "mpii": _mpii}
    return kinds[experiment.data](experiment)


def _synthetic(experiment: Experiment) -> Problem:
    size, seed = experiment.recipe.image_size, experiment.seed
    train = SyntheticPeople(_TRAIN, split="train", image_size=size, seed=seed)
    test = SyntheticPeople(_VAL, split="val", image_size=size, seed=seed)

    def measure(preds: Tensor, batch: Batch) -> Errors:
        low, high = batch.landmarks.amin(dim=1), batch.landmarks.amax(dim=1)
        sides = (high - low).amax(dim=1)
        return _pose_errors(preds, batch, sides, _pck_scores(preds, batch, sides))

    return Problem(train, test, COCO_17, _CONDITIONS, measure, _UNIT)


def _coco(experiment: Experiment) -> Problem:
    if experiment.annotations is None:
        msg = "`--annotations` must name the json of the keypoints for `--data coco`."
        raise ValueError(msg)
    require_pycocotools()
    dataset = CocoKeypoints(
        _root(experiment),
        experiment.annotations,
        image_size=experiment.recipe.image_size,
        skip_broken=experiment.skip_broken,
    )
    train, test = hold_back(dataset)
    scheme = scheme_from_names(dataset.names)
    sigmas = COCO_SIGMAS if scheme is COCO_17 else [_SIGMA] * scheme.num_landmarks

    def measure(preds: Tensor, batch: Batch) -> Errors:
        results = dataset.results(preds.cpu(), indices=test.indices)
        found = oks_average_precision(dataset.annotations, results, sigmas=sigmas)
        sides = _box_sides(batch)
        scores = _pck_scores(preds, batch, sides) | {"OKS-AP": found["AP"]}
        return _pose_errors(preds, batch, sides, scores)

    return Problem(train, test, scheme, _CONDITIONS, measure, _UNIT)


def _mpii(experiment: Experiment) -> Problem:
    root, size, skip = _root(experiment), experiment.recipe.image_size, experiment.skip_broken
    train = Mpii(root, "train", image_size=size, skip_broken=skip)
    test = Mpii(root, "valid", image_size=size, skip_broken=skip)
    heads = torch.from_numpy(test.head_sizes())

    def measure(preds: Tensor, batch: Batch) -> Errors:
        correct = pckh(preds, batch.landmarks, head_sizes=heads.to(preds), visible=batch.visible)
        scores = {"PCKh@0.5": correct.nanmean().item()}
        return _pose_errors(preds, batch, _box_sides(batch), scores)

    return Problem(train, test, MPII_16, _CONDITIONS, measure, _UNIT)


def _root(experiment: Experiment) -> Path:
    assert experiment.root is not None  # asked for with the arguments
    return experiment.root


def _box_sides(batch: Batch) -> Tensor:
    """Longer side of each person's box: the readers crop to so many times of it."""
    side = batch.size[0] / ENLARGEMENT
    return torch.full((len(batch.images),), side, device=batch.images.device)


def _pck_scores(preds: Tensor, batch: Batch, sides: Tensor) -> dict[str, float]:
    found = {}
    for threshold in _THRESHOLDS:
        correct = pck(
            preds,
            batch.landmarks,
            normalizer=sides,
            threshold=threshold,
            visible=batch.visible,
        )
        found[f"PCK@{threshold:g}"] = correct.nanmean().item()
    return found


def _pose_errors(
    preds: Tensor, batch: Batch, sides: Tensor, scores: Mapping[str, float]
) -> PoseErrors:
    """NME by the sides `(B,)`, in pixels, with what else was measured."""
    errors = nme(preds, batch.landmarks, normalizer=sides, visible=batch.visible)
    return PoseErrors(errors.cpu(), scores=scores)
