"""Files that are written completely or not at all, and files that are safe to open."""

import errno
import os
import re
import stat
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from advaug.errors import DatasetError

__all__ = [
    "check_uncompressed",
    "is_own",
    "locked_folder",
    "open_regular",
    "remove_leftovers",
    "require_writable",
    "whole_file",
    "write_whole",
]

LOCK = ".advaug.lock"
_LEFTOVER = re.compile(r"\.[0-9a-f]{32}\.tmp")
_MORE_SPACE = "Free some space or choose another disk, then run the same again to go on"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write in place of `path`, which takes its name only when all is written.

    It lies in the same folder, since a rename is atomic only within one. An older file stays until
    then; if writing fails, only that one is left. The name ends in `.tmp`, so an encoder has to be
    told the format.

    Raises:
        OSError: Where the disk is full, with what to do about it.
    """
    # Not made of the name itself, which may be as long as the file system allows.
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with _explained(path):
            yield temporary
            _flush(temporary)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def require_writable(option: str, folder: Path) -> None:
    """Make a folder, and raise before anything long begins if nothing can be written there.

    Raises:
        OSError: Of the class that the system gives.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        msg = (
            f"`{option}` must lead to a folder that can be written, but got {type(error).__name__} "
            f"for {folder}: {error.strerror}. Choose another one."
        )
        raise type(error)(msg) from error


def write_whole(path: Path, data: bytes) -> None:
    """Write bytes to a file that takes its name only when all of them are on the disk.

    What an encoder writes to a file itself may be cut off without an error: let it write to memory.

    Raises:
        OSError: If the file cannot be written, or holds less than `data`.
    """
    with whole_file(path) as temporary:
        temporary.write_bytes(data)
        written = temporary.stat().st_size
        if written != len(data):
            fact = f"{written} of {len(data)} bytes were written"
            raise OSError(errno.ENOSPC, fact, os.fspath(path))


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading, unless it is a pipe, a device or a folder, which may never end.

    Raises:
        OSError: If it cannot be opened or is no regular file.
        ValueError: If the path holds a zero byte.
    """
    # Without O_NONBLOCK, opening a pipe waits for somebody to write into it.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        fact = "it is a folder, a pipe or a device, not a regular file"
        raise OSError(errno.EINVAL, fact, os.fspath(path))
    return os.fdopen(descriptor, "rb")


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Make a folder and keep every other process of the library from writing to it.

    The operating system releases the lock when the process ends, however that happens.

    Raises:
        DatasetError: If another process holds the lock.
        OSError: If the disk is full, with what to do about it.
    """
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    release = _lock(folder)
    if release is None:
        message = (
            f"`{folder}` must be written by one process at a time, but got a second one. Wait "
            "until the first has ended, or choose another folder."
        )
        raise DatasetError(message)
    try:
        with _explained(folder):
            yield
    finally:
        release()


def check_uncompressed(path: str | os.PathLike[str]) -> None:
    """Raise if PyTorch would decompress a file: a few kilobytes may become gigabytes.

    `torch.save` compresses nothing.

    Raises:
        RuntimeError: As `torch.load` does for what it cannot read.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as parts:
            kinds = {part.compress_type for part in parts.infolist()}
    except zipfile.BadZipFile:  # PyTorch reports it
        return
    if kinds - {zipfile.ZIP_STORED}:
        msg = "its parts are compressed. Write it with `torch.save`, which compresses nothing."
        raise RuntimeError(msg)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process was writing; only under a lock, or a running one loses it."""
    for parent, _, names in os.walk(folder):
        for name in filter(_LEFTOVER.fullmatch, names):
            Path(parent, name).unlink(missing_ok=True)


def is_own(path: Path) -> bool:
    """Whether a file is a lock or a leftover of this library."""
    return path.name == LOCK or _LEFTOVER.fullmatch(path.name) is not None


_BINARY = getattr(os, "O_BINARY", 0)  # of Windows


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say what to do if the disk is full; only once, even where these are nested."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE or _MORE_SPACE in str(error):
            raise
        message = f"{error.strerror}: nothing was written under this name. {_MORE_SPACE}"
        raise OSError(error.errno, message, os.fspath(path)) from error


def _lock(folder: Path) -> Callable[[], None] | None:
    """Lock a folder, and return what unlocks it; None if another process holds it."""
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):  # Windows
        return _lock_file(folder / LOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:  # NFS locks no folders
        os.close(descriptor)
        return _lock_file(folder / LOCK)
    return lambda: os.close(descriptor)


def _lock_file(path: Path) -> Callable[[], None] | None:
    """Lock a hidden file, which stays: whoever removed it could let two processes in."""
    from filelock import FileLock, Timeout  # torch brings it

    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock.release


def _flush(path: Path) -> None:
    """Flush a file to the disk, which may report only now that it is full."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
