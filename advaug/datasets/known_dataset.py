"""What is needed to open a data set by its name."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from torch.utils.data import ConcatDataset, Dataset

from advaug.base.checks import check_choice
from advaug.datasets.decoding import Decoding
from advaug.datasets.pictures import CroppedPictures
from advaug.datasets.sample import LandmarkSample
from advaug.schemes import LandmarkScheme

__all__ = ["EvaluationPictures", "KnownDataset", "Open"]

Open = Callable[..., CroppedPictures]
"""From root and subset, and the keyword arguments `image_size`, `skip_broken` and `decoding`."""


class EvaluationPictures(NamedTuple):
    """Pictures to measure on.

    Attributes:
        dataset: Gives each picture once.
        subsets: Indices of the pictures of each subset, by its name; they may overlap.
        names: Where each picture is.
        scheme: What the landmarks mean; None if unknown.
    """

    dataset: Dataset[LandmarkSample]
    subsets: Mapping[str, Sequence[int]]
    names: Sequence[str]
    scheme: LandmarkScheme | None


@dataclass(frozen=True)
class KnownDataset:
    """A data set that can be opened by its name.

    Attributes:
        name: By which commands call it.
        title: What it is.
        reader: Opens one of its subsets.
        subsets: Their names, each with the number of samples that was published, or None where it
            is not fixed. The first is the default.
        ask: Where to ask for the data, which only its makers may give.
        parts: Subsets that share no sample and make up all that there is.
        tests: Subsets that share no sample and are measured on.
        unions: Subsets that are made of some of `tests`.
        within: Subsets inside the only one of `tests`, each with a function from the opened one to
            their indices.
        num_landmarks: N of each sample; None where only the files say.
        decodes: Whether its pictures are files of their own, which a `Decoding` is for.
    """

    name: str
    title: str
    reader: Open
    subsets: Mapping[str, int | None]
    ask: str
    parts: tuple[str, ...]
    tests: tuple[str, ...]
    unions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    within: Mapping[str, Callable[[Any], Sequence[int]]] = field(default_factory=dict)
    num_landmarks: int | None = 68
    decodes: bool = True

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of all subsets that `open_tests` gives; no file is read."""
        return tuple(dict.fromkeys((*self.tests, *self.unions, *self.within)))

    def open(
        self,
        root: str | os.PathLike[str],
        subset: str | None = None,
        *,
        image_size: int = 256,
        skip_broken: bool = False,
        decoding: Decoding | None = None,
    ) -> CroppedPictures:
        """Open a subset.

        Args:
            root: The folder of the data set, as its reader describes it.
            subset: One of `subsets`; None for the first.
            image_size: Side of the square samples, in pixels.
            skip_broken: Leave broken files out, with one warning, instead of raising.
            decoding: What the picture files do not settle; None is the reader's default.

        Raises:
            DatasetError: If anything is missing or broken; `problems` lists it.
            ImportError: If a package that reads it is not installed.
            ValueError: If there is no such subset, or `decoding` is given for a set without picture
                files.
        """
        subset = self.require_subset(subset)
        self.check_decoding(decoding)
        more = {} if decoding is None else {"decoding": decoding}
        return self.reader(root, subset, image_size=image_size, skip_broken=skip_broken, **more)

    def check_decoding(self, decoding: Decoding | None) -> None:
        """Raise `ValueError` if a set without picture files gets a `decoding`; no file is read."""
        if decoding is not None and not self.decodes:
            message = (
                f"`decoding` must be left out for {self.name}, whose pictures lie in a video or an "
                f"archive, but got {decoding}. Leave it out (`--orientation`, `--white`)."
            )
            raise ValueError(message)

    def open_tests(
        self,
        root: str | os.PathLike[str],
        *,
        image_size: int = 256,
        skip_broken: bool = False,
        decoding: Decoding | None = None,
    ) -> EvaluationPictures:
        """Open all that is measured on, each picture once, whatever subsets it is in.

        Raises:
            DatasetError: As `open`.
            ImportError: As `open`.
        """
        opened = [
            self.open(
                root, subset, image_size=image_size, skip_broken=skip_broken, decoding=decoding
            )
            for subset in self.tests
        ]
        ends = list(accumulate(map(len, opened), initial=0))
        subsets: dict[str, Sequence[int]] = {
            name: range(start, end)
            for name, (start, end) in zip(self.tests, pairwise(ends), strict=True)
        }
        for name, members in self.unions.items():
            subsets[name] = [index for member in members for index in subsets[member]]
        names = [dataset.name(index) for dataset in opened for index in range(len(dataset))]
        for name, inside in self.within.items():
            subsets[name] = inside(opened[0])
        return EvaluationPictures(ConcatDataset(opened), subsets, names, opened[0].scheme)

    def require_subset(self, subset: str | None) -> str:
        """Give the name of a subset, the first for None.

        Raises:
            ValueError: If there is no such subset; the message names those there are.
        """
        if subset is None:
            return next(iter(self.subsets))
        check_choice("subset", subset, self.subsets, f" for {self.name}")
        return subset
