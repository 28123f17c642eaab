"""Checkpoints that are whole, or are named and passed over; reading one never runs code."""

import errno
import hashlib
import json
import os
import pickle
import shutil
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from advaug.base.files import check_uncompressed, open_regular, write_whole
from advaug.errors import DatasetError

__all__ = ["last_whole", "load_checkpoint", "read_states", "save_checkpoint", "seal"]

KEPT = 2  # should the last one be damaged, there is the one before it
_SUMS, _STATES = "checksums.json", "own_states.pt"
_LITTLE = 1 << 20  # bytes that are left on a disk which is as good as full


def save_checkpoint(
    accelerator: Accelerator, folder: Path, step: int, parts: Sequence[Any]
) -> None:
    """Write a checkpoint, which gets its name once it is whole.

    Args:
        accelerator: Writes what it was given to prepare, and the random states.
        folder: Of all checkpoints.
        step: After which it is taken.
        parts: Whatever else has a `state_dict`, of tensors and plain values.

    Raises:
        OSError: If the disk is full.
    """
    partial = folder / "partial"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(partial))
        if accelerator.is_main_process:
            torch.save([part.state_dict() for part in parts], partial / _STATES)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            seal(partial, folder, step)
    except (OSError, RuntimeError) as error:  # torch's own writer raises the second
        if shutil.disk_usage(folder).free > _LITTLE:
            raise
        message = (
            "No space left on device: this checkpoint is not written, the one before it stays. "
            "Free some space, then go on with --resume"
        )
        raise OSError(errno.ENOSPC, message, os.fspath(folder)) from error


def seal(partial: Path, folder: Path, step: int) -> None:
    """Give a checkpoint its checksums and its name, and remove those that are no longer kept.

    Args:
        partial: Folder of the checkpoint's files.
        folder: Of all checkpoints.
        step: After which it was taken.
    """
    sums = {path.name: _sum(path) for path in sorted(partial.iterdir())}
    write_whole(partial / _SUMS, json.dumps(sums, indent=1).encode())
    whole = folder / f"step_{step:08d}"
    shutil.rmtree(whole, ignore_errors=True)  # a damaged one, which was passed over
    older = _checkpoints(folder)
    partial.rename(whole)
    for path in older[: len(older) + 1 - KEPT]:
        shutil.rmtree(path)


def load_checkpoint(accelerator: Accelerator, folder: Path, parts: Sequence[Any]) -> None:
    """Go on from the last whole checkpoint; from nothing where there is none at all.

    A damaged one is named in a warning, and the one before it is used.

    Raises:
        DatasetError: If there are checkpoints and all of them are damaged, or if the last whole
            one is of another run or would run code.
    """

    def warn(text: str) -> None:
        warnings.warn(text, stacklevel=6)

    path = last_whole(folder, (_STATES, "random_states_0.pkl"), warn)
    if path is not None:
        _load(accelerator, path, parts)


def last_whole(folder: Path, needed: Collection[str], tell: Callable[[str], None]) -> Path | None:
    """The last checkpoint that is as it was written; None where there is none at all.

    Args:
        folder: Of all checkpoints.
        needed: Names of files that each of them has.
        tell: Gets a line about each damaged one.

    Raises:
        DatasetError: If there are checkpoints and all of them are damaged.
    """
    found = _checkpoints(folder)
    for path in reversed(found):
        damage = _damage(path, needed)
        if damage is None:
            return path
        tell(f"`{path}` is damaged: {damage}. Going on without it.")
    if found:
        message = (
            f"`{folder}` must hold a whole checkpoint to go on from, but got {len(found)} damaged "
            "ones. Restore one, or remove the folder to start over."
        )
        raise DatasetError(message)
    return None


def read_states(path: Path, device: str = "cpu") -> Any:  # noqa: ANN401 # what was saved
    """Read a file of tensors and plain values. No code in it is run.

    Raises:
        DatasetError: If it holds anything else.
    """
    try:
        check_uncompressed(path)
        return torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, KeyError) as error:
        raise _foreign(path.parent, error) from error


def _foreign(path: Path, error: Exception) -> DatasetError:
    message = (
        f"`{path}` must be a checkpoint of this run, but got {type(error).__name__}: "
        f"{str(error).splitlines()[0]} Remove it to go on from the one before."
    )
    return DatasetError(message)


def _load(accelerator: Accelerator, path: Path, parts: Sequence[Any]) -> None:
    states = read_states(path / _STATES)
    try:
        accelerator.load_state(str(path), load_kwargs={"weights_only": True})
    except (pickle.UnpicklingError, RuntimeError, KeyError) as error:
        raise _foreign(path, error) from error
    for part, state in zip(parts, states, strict=True):
        part.load_state_dict(state)


def _checkpoints(folder: Path) -> list[Path]:
    """Checkpoints that have their name, oldest first."""
    return sorted(folder.glob("step_*"))


def _damage(path: Path, needed: Collection[str]) -> str | None:
    """Say what differs from what was written; None if nothing does."""
    try:
        with open_regular(path / _SUMS) as file:
            sums = json.loads(file.read())
        changed = [name for name, expected in sums.items() if _sum(path / name) != expected]
    except (OSError, ValueError, AttributeError) as error:
        return str(error)
    if changed or not set(needed) <= set(sums):
        return f"{', '.join(changed) or 'a state'} has changed or is missing"
    return None


def _sum(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
