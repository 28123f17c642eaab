"""Messages of the checks that other rooms use, and of files."""

import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import torch
from messages.kit import IMAGES, Case

from advaug.base import checks
from advaug.base.files import (
    check_uncompressed,
    locked_folder,
    open_regular,
    require_writable,
    whole_file,
    write_whole,
)
from advaug.base.user_code import load_object


def files(check):
    """In a folder of its own."""

    def run():
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            check(Path(folder))

    return run


def weights(folder, compression):
    """A file of tensors as PyTorch writes it, or with its parts compressed."""
    torch.save(torch.zeros(1000), folder / "a.pt")
    if compression != zipfile.ZIP_STORED:
        with zipfile.ZipFile(folder / "a.pt") as given:
            parts = [(part.filename, given.read(part)) for part in given.infolist()]
        with zipfile.ZipFile(folder / "a.pt", "w", compression) as file:
            for name, data in parts:
                file.writestr(name, data)
    check_uncompressed(folder / "a.pt")


def user_object(folder, *, here):
    """One of a module that lies in a folder, asked for in that folder or elsewhere."""
    (folder / "their_counters.py").write_text("from collections import Counter")
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "their_counters", raising=False)
        patch.chdir(folder if here else folder.parent)
        load_object("their_counters:Counter", "--detector")
        patch.delitem(sys.modules, "their_counters")


def written(folder, name):
    (folder / "a file").touch()
    require_writable("--output", folder / name)


def wrapped():
    return list(Counter("abc"))


def lock(folder):
    with locked_folder(folder), locked_folder(folder):
        pass


def lock_in_turn(folder):
    for _ in range(2):
        with locked_folder(folder):
            pass
    with locked_folder(folder), locked_folder(folder / "another"):
        pass


def opened(folder, name):
    (folder / "a.txt").write_text("a")
    with open_regular(folder / name) as file:
        assert file.read() == b"a"


def full(folder, *, room):
    """A disk that is full, or is not any more."""
    import errno
    import os

    with pytest.MonkeyPatch.context() as patch:
        if not room:

            def no_space(*_):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            patch.setattr(os, "replace", no_space)
        with whole_file(folder / "a") as path:
            path.write_bytes(b"a")
    assert (folder / "a").read_bytes() == b"a"


def cut_short(folder, *, room):
    """A file system that takes less than it was given."""
    with pytest.MonkeyPatch.context() as patch:
        if not room:
            patch.setattr(Path, "write_bytes", lambda path, _: open(path, "wb").close())
        write_whole(folder / "a", b"abc")
    assert (folder / "a").read_bytes() == b"abc"


CASES = {
    # base: what the rooms around the core ask
    "floating": Case(
        lambda: checks.check_rgb((255 * IMAGES).byte(), floating=True),
        "Divide them by 255",
        lambda: checks.check_rgb((255 * IMAGES).byte() / 255, floating=True),
        TypeError,
    ),
    "range": Case(
        lambda: checks.check_ranges(scale=(0, 2)),
        r"Choose \(1, 1\) to turn it off",
        lambda: checks.check_ranges(scale=(1, 1)),
    ),
    "seeds": Case(
        lambda: checks.check_seeds(torch.rand(4), 4),
        "Use the pictures' indices",
        lambda: checks.check_seeds(torch.arange(4), 4),
    ),
    "RGB": Case(
        lambda: checks.check_rgb(IMAGES[0]),
        "Give a batch of RGB pictures",
        lambda: checks.check_rgb(IMAGES[:1]),
    ),
    "divisible": Case(
        lambda: checks.check_divisible(torch.zeros(1, 3, 250, 256), 64),
        r"Pad or resize to \(256, 256\)",
        lambda: checks.check_divisible(torch.zeros(1, 3, 256, 256), 64),
    ),
    "locked": Case(files(lock), "or choose another folder", files(lock_in_turn)),
    "no file": Case(
        files(lambda folder: opened(folder, ".")),
        "not a regular file",
        files(lambda folder: opened(folder, "a.txt")),
        OSError,
    ),
    "compressed": Case(
        files(lambda folder: weights(folder, zipfile.ZIP_DEFLATED)),
        "Write it with `torch.save`",
        files(lambda folder: weights(folder, zipfile.ZIP_STORED)),
        RuntimeError,
    ),
    "full disk": Case(
        files(lambda folder: full(folder, room=False)),
        "Free some space or choose another disk, then run the same again",
        files(lambda folder: full(folder, room=True)),
        OSError,
    ),
    "cut short": Case(
        files(lambda folder: cut_short(folder, room=False)),
        "Free some space or choose another disk, then run the same again",
        files(lambda folder: cut_short(folder, room=True)),
        OSError,
    ),
    "no folder": Case(
        files(lambda folder: written(folder, "a file/within")),
        "Choose another one",
        files(lambda folder: written(folder, "another/within")),
        OSError,
    ),
    # base: a user's own objects
    "no name": Case(
        lambda: load_object("collections", "--detector"),
        "Put a colon between the module and the name",
        lambda: load_object("collections:Counter", "--detector"),
    ),
    "a file for a module": Case(
        lambda: load_object("collections.py:Counter", "--detector"),
        "Leave the .py out: collections:Counter",
        lambda: load_object("collections:Counter", "--detector"),
    ),
    "no such module": Case(
        files(lambda folder: user_object(folder, here=False)),
        "Run this in the folder that holds it",
        files(lambda folder: user_object(folder, here=True)),
    ),
    "no such name": Case(
        lambda: load_object("collections:Kounter", "--detector"),
        "It has .*Counter.* Name one of them",
        lambda: load_object("collections:Counter", "--detector"),
    ),
    "with arguments": Case(
        lambda: load_object(f"{__name__}:user_object", "--detector"),
        "Wrap it in a function that passes them",
        lambda: load_object(f"{__name__}:wrapped", "--detector"),
    ),
    "another type": Case(
        lambda: load_object("collections:Counter", "--detector", list),
        "Wrap what makes one in a function",
        lambda: load_object(f"{__name__}:wrapped", "--detector", list),
    ),
}
