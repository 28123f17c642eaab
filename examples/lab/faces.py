"""The problem of the examples on faces: what `train_300w_*.py` read, and how they measure."""

from torch import Tensor
from torch.utils.data import Dataset, Subset

from advaug.datasets import Faces300W, LandmarkSample, PtsFolder, SyntheticFaces
from advaug.datasets.pictures import CroppedPictures
from advaug.errors import DatasetError
from advaug.evaluation.evaluate import CONDITIONS, Errors
from advaug.evaluation.metrics import nme
from advaug.schemes import FACE_68
from advaug.training.loading import Batch
from lab.arguments import Experiment
from lab.problem import Problem

__all__ = ["hold_back", "read_faces"]

SYNTHETIC_TRAIN, SYNTHETIC_VAL = 2000, 300
HELD_BACK = 5  # a folder without a split: every fifth part of it, the last, is for measuring


def read_faces(experiment: Experiment) -> Problem:
    """The problem of the examples on faces: 68 landmarks, clean, masked and occluded.

    Raises:
        DatasetError: If the pictures cannot be used.
    """
    train, test = _faces(experiment)
    return Problem(train, test, FACE_68, CONDITIONS, _measure_faces, "inter-ocular distance")


def _measure_faces(preds: Tensor, batch: Batch) -> Errors:
    errors = nme(preds, batch.landmarks, normalizer="inter_ocular", visible=batch.visible)
    return Errors(errors.cpu())


def _faces(
    experiment: Experiment,
) -> tuple[Dataset[LandmarkSample], Dataset[LandmarkSample]]:
    """Training and test pictures."""
    size, root, skip = experiment.recipe.image_size, experiment.root, experiment.skip_broken
    if experiment.data == "synthetic":
        return (
            SyntheticFaces(SYNTHETIC_TRAIN, split="train", image_size=size, seed=experiment.seed),
            SyntheticFaces(SYNTHETIC_VAL, split="val", image_size=size, seed=experiment.seed),
        )
    assert root is not None
    if experiment.data == "300w":
        return (
            Faces300W(root, "train", image_size=size, skip_broken=skip),
            Faces300W(root, "full", image_size=size, skip_broken=skip),
        )
    if (root / "train").is_dir() and (root / "val").is_dir():
        return (
            PtsFolder(root / "train", image_size=size, skip_broken=skip),
            PtsFolder(root / "val", image_size=size, skip_broken=skip),
        )
    return hold_back(PtsFolder(root, image_size=size, skip_broken=skip))


def hold_back(dataset: CroppedPictures) -> tuple[Subset[LandmarkSample], Subset[LandmarkSample]]:
    """Hold back the last fifth by path, so that samples that belong together stay on one side.

    Those of one picture do in any case.

    Raises:
        DatasetError: If nothing would be left on a side.
    """
    border = len(dataset) - len(dataset) // HELD_BACK
    while 0 < border < len(dataset) and dataset.paths[border] == dataset.paths[border - 1]:
        border -= 1
    if border in (0, len(dataset)):
        msg = f"`--root` must hold at least {HELD_BACK} pictures, but got {len(dataset)} samples."
        raise DatasetError(msg)
    held_back = len(dataset) - border
    print(f"no split: the last {held_back} of {len(dataset)} samples are for measuring")
    return Subset(dataset, range(border)), Subset(dataset, range(border, len(dataset)))
