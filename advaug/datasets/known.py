"""The public data sets by name: how to open one, its subsets, and where to ask for it."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

__all__ = ["KNOWN", "KnownDataset", "find_known", "open_known"]

Open = Callable[..., CroppedPictures]
"""From root and subset, and the keyword arguments `image_size` and `skip_broken`."""


@dataclass(frozen=True)
class KnownDataset:
    """A data set that can be opened by its name.

    Attributes:
        name: By which commands call it.
        title: What it is.
        reader: Opens one of its subsets.
        subsets: Their names, each with the number of samples that was published, or None where it
            is not fixed. The first is the default.
        ask: Where to ask for the data; they are nobody's to pass on.
    """

    name: str
    title: str
    reader: Open
    subsets: Mapping[str, int | None]
    ask: str

    def open(
        self,
        root: str | os.PathLike[str],
        subset: str | None = None,
        *,
        image_size: int = 256,
        skip_broken: bool = False,
    ) -> CroppedPictures:
        """Open a subset.

        Args:
            root: The folder of the data set, as its reader describes it.
            subset: One of `subsets`; None for the first.
            image_size: Side of the square samples, in pixels.
            skip_broken: Leave broken files out, with one warning, instead of raising.

        Raises:
            DatasetError: If anything is missing or broken; `problems` lists it.
            ImportError: If a package that reads it is not installed.
            ValueError: If there is no such subset.
        """
        subset = self.require_subset(subset)
        return self.reader(root, subset, image_size=image_size, skip_broken=skip_broken)

    def require_subset(self, subset: str | None) -> str:
        """Give the name of a subset, the first for None.

        Raises:
            ValueError: If there is no such subset; the message names those there are.
        """
        if subset is None:
            return next(iter(self.subsets))
        if subset not in self.subsets:
            message = (
                f"`subset` must be one of {', '.join(self.subsets)} for {self.name}, but got "
                f"{subset!r}. Pass one."
            )
            raise ValueError(message)
        return subset


def find_known(name: str) -> KnownDataset:
    """Find a data set by its name, in any case of the letters.

    Raises:
        ValueError: If there is none; the message names those that are known.
    """
    known = KNOWN.get(name.lower())
    if known is None:
        message = f"`dataset` must be one of {', '.join(KNOWN)}, but got {name!r}. Pass one."
        raise ValueError(message)
    return known


def open_known(
    name: str, root: str | os.PathLike[str], subset: str | None = None, **options: Any
) -> CroppedPictures:
    """Open a subset of a data set by its name; as `KnownDataset.open`."""
    return find_known(name).open(root, subset, **options)


def _open_cofw68(root: str | os.PathLike[str], subset: str, **options: Any) -> CroppedPictures:
    return cofw.Cofw68(root, **options)


def _open_every_tenth(root: str | os.PathLike[str], subset: str, **options: Any) -> CroppedPictures:
    return videos_300vw.Videos300VW(root, subset, every=10, **options)  # type: ignore[reportArgumentType] # checked


def _open_folder(root: str | os.PathLike[str], subset: str, **options: Any) -> CroppedPictures:
    return pts_folder.PtsFolder(root, **options)


def _open_coco(root: str | os.PathLike[str], subset: str, **options: Any) -> CroppedPictures:
    root = Path(root)
    annotations = root / "annotations" / f"person_keypoints_{subset}.json"
    return coco_keypoints.CocoKeypoints(root / subset, annotations, **options)


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
    ),
    KnownDataset(
        "300vw",
        "300VW, videos with 68 landmarks",
        videos_300vw.Videos300VW,
        dict.fromkeys(videos_300vw.VIDEOS),
        "https://ibug.doc.ic.ac.uk/resources/300-VW/",
    ),
    KnownDataset(
        "300vw-every-10th",
        "300VW, every tenth frame",
        _open_every_tenth,
        dict.fromkeys(videos_300vw.VIDEOS),
        "https://ibug.doc.ic.ac.uk/resources/300-VW/",
    ),
    KnownDataset(
        "wflw",
        "WFLW, 98 landmarks",
        wflw.Wflw,
        wflw.COUNTS,
        "https://wywu.github.io/projects/LAB/WFLW.html",
    ),
    KnownDataset(
        "cofw",
        "COFW, 29 landmarks with occlusion",
        cofw.Cofw,
        {**cofw.COUNTS},
        "https://data.caltech.edu/records/bc0bf-nc666",
    ),
    KnownDataset(
        "cofw68",
        "COFW's test pictures, 68 landmarks with occlusion",
        _open_cofw68,
        {"test": cofw.COUNTS["test"]},
        "https://github.com/golnazghiasi/cofw68-benchmark, and the pictures at "
        "https://data.caltech.edu/records/bc0bf-nc666",
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
    ),
    KnownDataset(
        "aflw2000",
        "AFLW2000-3D, 68 landmarks in all poses",
        aflw2000.Aflw2000,
        {**dict.fromkeys(aflw2000.YAWS), "all": aflw2000.COUNT},
        "http://www.cbsr.ia.ac.cn/users/xiangyuzhu/projects/3DDFA/main.htm",
    ),
    KnownDataset(
        "merl-rav",
        "MERL-RAV, 68 landmarks with occlusion in all poses",
        merl_rav.MerlRav,
        {"train": None, "test": None, "all": None},
        "https://github.com/abhi1kumar/MERL-RAV_dataset",
    ),
    KnownDataset(
        "mpii",
        "MPII Human Pose, 16 joints",
        mpii.Mpii,
        {"train": None, "valid": None},
        "http://human-pose.mpi-inf.mpg.de",
    ),
    KnownDataset(
        "coco",
        "COCO, 17 keypoints of people",
        _open_coco,
        {"val2017": None, "train2017": None},
        "https://cocodataset.org",
    ),
    KnownDataset(
        "pts",
        "any folder of pictures with a .pts file of 68 landmarks beside each",
        _open_folder,
        {"all": None},
        "whoever made it",
    ),
)

KNOWN: Mapping[str, KnownDataset] = {known.name: known for known in _DATASETS}
"""By name."""
