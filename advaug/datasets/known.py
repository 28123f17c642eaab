"""The public data sets by name: how to open one, its subsets, and where to ask for it."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from advaug.base.checks import check_choice
from advaug.datasets.decoding import Decoding
from advaug.datasets.known_dataset import EvaluationPictures, KnownDataset, Open
from advaug.datasets.pictures import CroppedPictures
from advaug.datasets.readers import (
    aflw2000,
    coco_keypoints,
    cofw,
    faces_300w,
    lp_300w,
    merl_rav,
    mpii,
    pts_folder,
    videos_300vw,
    wflw,
)

__all__ = ["KNOWN", "EvaluationPictures", "KnownDataset", "find_known", "open_known"]


def find_known(name: str) -> KnownDataset:
    """Find a data set by its name, in any case of the letters.

    Raises:
        ValueError: If there is none; the message names those that are known.
    """
    check_choice("dataset", name.lower(), KNOWN)
    return KNOWN[name.lower()]


def open_known(
    name: str,
    root: str | os.PathLike[str],
    subset: str | None = None,
    *,
    image_size: int = 256,
    skip_broken: bool = False,
    decoding: Decoding | None = None,
) -> CroppedPictures:
    """Open a subset of a data set by its name; as `KnownDataset.open`."""
    return find_known(name).open(
        root, subset, image_size=image_size, skip_broken=skip_broken, decoding=decoding
    )


def _only(reader: Open) -> Open:
    """A reader without subsets, opened as if it had one."""
    return lambda root, subset, **options: reader(root, **options)


def _open_coco(
    root: str | os.PathLike[str],
    subset: str,
    **options: Any,  # noqa: ANN401 # of the reader
) -> CroppedPictures:
    pictures = Path(root) / subset
    annotations = Path(root) / "annotations" / f"person_keypoints_{subset}.json"
    return coco_keypoints.CocoKeypoints(pictures, annotations, **options)


def _with_attribute(column: int, dataset: wflw.Wflw) -> list[int]:
    return dataset.attributes[:, column].nonzero().ravel().tolist()


def _turned(low: float, high: float, dataset: aflw2000.Aflw2000) -> list[int]:
    turns = dataset.yaws.abs()
    return ((low <= turns) & (turns < high)).nonzero().ravel().tolist()


_CATEGORIES = ("category-1", "category-2", "category-3")
_DATASETS = (
    KnownDataset(
        "300w",
        "300W, 68 landmarks",
        faces_300w.Faces300W,
        {
            split: sum(faces_300w.PART_COUNTS[part] for part in parts)
            for split, parts in faces_300w.SPLIT_PARTS.items()
        }
        | {"helen-811": faces_300w.HELEN_811},
        "https://ibug.doc.ic.ac.uk/resources/300-W/",
        parts=("train", "common", "challenging"),
        tests=("common", "challenging"),
        unions={"full": ("common", "challenging")},
    ),
    KnownDataset(
        "300vw",
        "300VW, videos with 68 landmarks",
        videos_300vw.Videos300VW,
        dict.fromkeys(videos_300vw.VIDEOS),
        "https://ibug.doc.ic.ac.uk/resources/300-VW/",
        parts=("train", *_CATEGORIES),
        tests=_CATEGORIES,
        decodes=False,
    ),
    KnownDataset(
        "300vw-every-10th",
        "300VW, every tenth frame",
        partial(videos_300vw.Videos300VW, every=10),
        dict.fromkeys(videos_300vw.VIDEOS),
        "https://ibug.doc.ic.ac.uk/resources/300-VW/",
        parts=("train", *_CATEGORIES),
        tests=_CATEGORIES,
        decodes=False,
    ),
    KnownDataset(
        "wflw",
        "WFLW, 98 landmarks",
        wflw.Wflw,
        wflw.COUNTS,
        "https://wywu.github.io/projects/LAB/WFLW.html",
        parts=("train", "test"),
        tests=("test",),
        within={
            name: partial(_with_attribute, column)
            for column, name in enumerate(wflw.WFLW_ATTRIBUTES)
        },
        num_landmarks=98,
    ),
    KnownDataset(
        "cofw",
        "COFW, 29 landmarks with occlusion",
        cofw.Cofw,
        {**cofw.COUNTS},
        "https://data.caltech.edu/records/bc0bf-nc666",
        parts=("train", "test"),
        tests=("test",),
        num_landmarks=29,
        decodes=False,
    ),
    KnownDataset(
        "cofw68",
        "COFW's test pictures, 68 landmarks with occlusion",
        _only(cofw.Cofw68),
        {"test": cofw.COUNTS["test"]},
        "https://github.com/golnazghiasi/cofw68-benchmark, and the pictures at "
        "https://data.caltech.edu/records/bc0bf-nc666",
        parts=("test",),
        tests=("test",),
        decodes=False,
    ),
    KnownDataset(
        "300w-lp",
        "300W-LP, 68 landmarks in large poses",
        lp_300w.Faces300WLP,
        {
            "all": sum(lp_300w.PART_COUNTS.values()),
            "without-ibug": sum(lp_300w.PART_COUNTS.values()) - lp_300w.PART_COUNTS["IBUG"],
        },
        "http://www.cbsr.ia.ac.cn/users/xiangyuzhu/projects/3DDFA/main.htm",
        parts=("all",),
        tests=("all",),
    ),
    KnownDataset(
        "aflw2000",
        "AFLW2000-3D, 68 landmarks in all poses",
        aflw2000.Aflw2000,
        {**dict.fromkeys(aflw2000.YAWS), "all": aflw2000.COUNT},
        "http://www.cbsr.ia.ac.cn/users/xiangyuzhu/projects/3DDFA/main.htm",
        parts=("all",),
        tests=("all",),
        within={name: partial(_turned, *turns) for name, turns in aflw2000.YAWS.items()},
    ),
    KnownDataset(
        "merl-rav",
        "MERL-RAV, 68 landmarks with occlusion in all poses",
        merl_rav.MerlRav,
        {"train": None, "test": None, "all": None},
        "https://github.com/abhi1kumar/MERL-RAV_dataset",
        parts=("train", "test"),
        tests=("test",),
    ),
    KnownDataset(
        "mpii",
        "MPII Human Pose, 16 joints",
        mpii.Mpii,
        {"train": None, "valid": None},
        "http://human-pose.mpi-inf.mpg.de",
        parts=("train", "valid"),
        tests=("valid",),
        num_landmarks=16,
    ),
    KnownDataset(
        "coco",
        "COCO, 17 keypoints of people",
        _open_coco,
        {"val2017": None, "train2017": None},
        "https://cocodataset.org",
        parts=("train2017", "val2017"),
        tests=("val2017",),
        num_landmarks=None,
    ),
    KnownDataset(
        "pts",
        "any folder of pictures with a .pts file of 68 landmarks beside each",
        _only(pts_folder.FixedPtsFolder),
        {"all": None},
        "from whoever made it",
        parts=("all",),
        tests=("all",),
        num_landmarks=None,
    ),
)

KNOWN: Mapping[str, KnownDataset] = {known.name: known for known in _DATASETS}
"""By name."""
