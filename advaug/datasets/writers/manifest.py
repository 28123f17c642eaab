"""What is known of a folder of copies: its manifest, and the journal of a call that has not ended.

`manifest.json` holds the settings and, for each picture, what was done to it, its length and its
checksum. Until a call ends, length and checksum are kept in a journal, so that the next call can
tell whole pictures from damaged ones however the first one ended.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from advaug.base.files import is_own, open_regular, write_whole
from advaug.errors import DatasetError

__all__ = [
    "JOURNAL",
    "checks_in",
    "checks_of",
    "journal",
    "known_pictures",
    "read_journal",
    "without_checks",
    "write_manifest",
]

MANIFEST = "manifest.json"
JOURNAL = ".written.tmp"
CHECKS = ("bytes", "sha256")


def known_pictures(destination: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the pictures of an earlier call's manifest; none for a new or empty folder.

    Raises:
        DatasetError: If the folder holds anything but pictures made with the same settings.
    """
    is_new = not destination.exists()
    if is_new or (destination.is_dir() and all(is_own(path) for path in destination.iterdir())):
        return {}
    found, pictures = _read_manifest(destination)
    if found != settings:
        message = (
            f"`destination` must be new, empty or made with {settings}, but got `{destination}`, "
            f"made with {found}. Choose another folder, or the same settings."
        )
        raise DatasetError(message)
    return pictures


def _read_manifest(destination: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        with open_regular(destination / MANIFEST) as file:
            manifest = json.loads(file.read())
        pictures = manifest.pop("pictures")
        if all(isinstance(entry, dict) for entry in pictures.values()):
            return manifest, pictures
        fact = "names no pictures"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        fact = type(error).__name__
    message = (
        f"`destination` must be new, empty or an earlier call's, but got `{destination}`, "
        f"which has no readable `{MANIFEST}` ({fact}). Choose another folder."
    )
    raise DatasetError(message)


def write_manifest(
    destination: Path, settings: dict[str, Any], pictures: dict[str, Any], checks: dict[str, Any]
) -> None:
    """Write the settings, and what is said of each picture, with its length and its checksum."""
    entries = {
        name: without_checks(entry) | checks.get(name, {})
        for name, entry in sorted(pictures.items())
    }
    text = json.dumps(settings | {"pictures": entries}, indent=1) + "\n"
    write_whole(destination / MANIFEST, text.encode())


@contextmanager
def journal(destination: Path) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """Note the checks of each picture once it has its name; deleted when a manifest has them."""
    with (destination / JOURNAL).open("a", encoding="utf-8") as file:

        def note(name: str, checks: dict[str, Any]) -> None:
            file.write(json.dumps({"name": name, **checks}) + "\n")
            file.flush()

        yield note


def read_journal(destination: Path) -> dict[str, dict[str, Any]]:
    """The checks of what a killed call has written."""
    checks: dict[str, dict[str, Any]] = {}
    try:
        lines = (destination / JOURNAL).read_bytes().splitlines()
    except OSError:
        return checks
    for line in lines:
        try:
            entry = json.loads(line)
            checks[entry.pop("name")] = checks_in(entry)
        except (ValueError, KeyError, TypeError, AttributeError):  # the line that was cut off
            continue
    return checks


def checks_in(entry: dict[str, Any]) -> dict[str, Any]:
    """Length and checksum, where an entry has them."""
    return {name: entry[name] for name in CHECKS if name in entry}


def without_checks(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry but for its length and checksum."""
    return {name: value for name, value in entry.items() if name not in CHECKS}


def checks_of(data: bytes) -> dict[str, Any]:
    """Length and checksum of a file's content."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
