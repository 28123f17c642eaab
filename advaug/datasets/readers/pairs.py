"""Pictures and their `.pts` files under a folder, matched by name."""

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from advaug.datasets.pictures import Box
from advaug.errors import DatasetError

__all__ = ["PICTURE_SUFFIXES", "FilePair", "find_pairs", "match_key"]

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class FilePair:
    """A picture and its `.pts` file; `box` is None for the tight box of the landmarks."""

    picture: Path
    pts: Path
    box: Box | None = None


def match_key(name: str) -> str:
    """Return what a picture, its `.pts` file and its box have in common: the stem without spaces.

    300W has one file whose name carries a stray space ("image_092 _01.jpg").
    """
    return Path(name).stem.replace(" ", "")


def find_pairs(root: Path) -> tuple[list[FilePair], list[str]]:
    """Match the pictures under a folder with their `.pts` files.

    Returns:
        The pairs, sorted by path, and one message per file without a partner or with several.

    Raises:
        DatasetError: If `root` is not a folder or cannot be listed.
    """
    stems: defaultdict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in _list_files(root):
        stems[path.parent.as_posix(), path.stem].append(path)
    pairs = [_pair(files) for files in stems.values() if _is_pair(files)]
    # A file without an exact partner may have one that differs only in spaces.
    loose: defaultdict[tuple[str, str], list[Path]] = defaultdict(list)
    for (folder, _), files in stems.items():
        if not _is_pair(files):
            loose[folder, match_key(files[0].name)] += files
    pairs += [_pair(files) for files in loose.values() if _is_pair(files)]
    unpaired = [files for files in loose.values() if not _is_pair(files)]
    by_case: defaultdict[str, list[Path]] = defaultdict(list)
    for path in (path for files in unpaired for path in files):
        by_case[path.with_suffix("").as_posix().casefold()].append(path)
    problems = [_pairing_problem(files, by_case) for files in unpaired]
    return sorted(pairs, key=lambda pair: pair.picture.as_posix()), problems


def _is_pts(path: Path) -> bool:
    return path.suffix.lower() == ".pts"


def _list_files(root: Path) -> list[Path]:
    """List pictures and `.pts` files under `root`, through links but no folder twice, sorted."""
    if not root.is_dir():
        message = f"`root` must be a folder, but got `{root}`, which is not one. Check the path."
        raise DatasetError(message)
    files: list[Path] = []
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=_refuse_folder):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        # Archives made on a Mac contain "._name.jpg" and a folder "__MACOSX", which are not
        # pictures.
        subfolders[:] = sorted(n for n in subfolders if not n.startswith((".", "__MACOSX")))
        paths = [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        files += [p for p in paths if p.suffix.lower() in (*PICTURE_SUFFIXES, ".pts")]
    return files


def _refuse_folder(error: OSError) -> None:
    """Raise for a folder that `os.walk` would skip silently."""
    message = (
        f"`{error.filename}` must be a folder that can be listed, but got: {error.strerror}. "
        "Change its permissions."
    )
    raise DatasetError(message) from error


def _is_pair(files: list[Path]) -> bool:
    return len(files) == 2 and sum(map(_is_pts, files)) == 1


def _pair(files: list[Path]) -> FilePair:
    picture, pts = sorted(files, key=_is_pts)
    return FilePair(picture, pts)


def _pairing_problem(files: list[Path], by_case: Mapping[str, list[Path]]) -> str:
    """Say why the files of one stem are not one picture and one `.pts` file."""
    names = ", ".join(f"`{path.name}`" for path in files)
    first = files[0]
    if len(files) > 1:
        return (
            f"`{first.parent}` must have one picture and one `.pts` file of a name, but got "
            f"{names}. Which belong together is ambiguous: rename or remove the others."
        )
    partner = "picture" if _is_pts(first) else "`.pts` file"
    alike = by_case[first.with_suffix("").as_posix().casefold()]
    others = [path.name for path in alike if _is_pts(path) != _is_pts(first)]
    if others:
        return (
            f"`{first}` must have a {partner} of the same name beside it, but got `{others[0]}`, "
            "whose letters differ in case. Rename one of them."
        )
    fix = "Copy it there." if _is_pts(first) else "Annotate or remove it."
    return f"`{first}` must have a {partner} beside it, but got none. {fix}"
