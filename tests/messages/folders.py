"""Messages about pictures, `.pts` files, and folders of copies, followed in one folder."""

import numpy as np
from messages.kit import InFolder
from PIL import Image
from small_sets import add_picture, points, truncate

from advaug.datasets import Decoding, PtsFolder, write_pts
from advaug.datasets.known import open_known
from advaug.datasets.pictures import read_picture
from advaug.datasets.preview import contact_sheet
from advaug.datasets.readers import merl_rav
from advaug.datasets.writers.corrupted import make_corrupted
from advaug.datasets.writers.masked import make_masked

FACES = ("a.png", "b.png")


def faces(root, *names):
    """A folder of faces, each with its `.pts` file."""
    for number, name in enumerate(names or FACES):
        path = add_picture(root / name, number)
        write_pts(path.with_suffix(".pts"), points(68, number))
    return root


def opened(root, count=2, **options):
    folder = PtsFolder(root, image_size=16, **options)
    assert len(folder) == count
    assert len({float(sample.image.sum()) for sample in folder}) == count
    return folder


def written(root, text, name="a.pts"):
    """A folder of faces, one of which has other text in its `.pts` file."""
    faces(root)
    (root / name).write_text(text)
    return opened(root)


def restored(root):
    """What `_FIX` of the `.pts` reader says first."""
    write_pts(root / "a.pts", points(68))
    opened(root)


def removed(root):
    """What it says second."""
    (root / "a.pts").unlink()
    (root / "a.png").unlink()
    opened(root, 1)


def renamed(root, old, new, count=2):
    (root / old).rename(root / new)
    opened(root, count)


def without_partner(root, name):
    faces(root)
    (root / name).unlink()
    return opened(root)


def truncated(root):
    faces(root)
    truncate(root / "a.png")
    return opened(root)


def replaced(root):
    """Another picture under the name of one, after the data set was made."""
    folder = opened(faces(root))
    Image.new("RGB", (90, 30)).save(root / "a.png")
    return folder[0]


def made_again(root):
    write_pts(root / "a.pts", points(68) * [0.9, 0.4])
    assert opened(root)[0].image.shape == (3, 16, 16)


def marked(root):
    """A face none of whose points has a position."""
    faces(root)
    (root / "a.pts").write_text("n_points: 68\n{\n" + 68 * "-1 -1\n" + "}\n")
    return opened(root, negative="occluded")


def merl(root):
    for pose in merl_rav.POSES:
        faces(root / pose / "trainset", *FACES)
    file = root / merl_rav.POSES[0] / "trainset" / "a.pts"
    file.write_text("n_points: 68\n{\n" + 68 * "-1 -1\n" + "}\n")
    return merl_rav.MerlRav(root)


def merl_removed(root):
    folder = root / merl_rav.POSES[0] / "trainset"
    (folder / "a.pts").unlink()
    (folder / "a.png").unlink()
    assert len(merl_rav.MerlRav(root)) == 2 * len(merl_rav.POSES) - 1


def merl_corrected(root):
    write_pts(root / merl_rav.POSES[0] / "trainset" / "a.pts", points(68))
    assert len(merl_rav.MerlRav(root)) == 2 * len(merl_rav.POSES)


def unboxed(root):
    faces(root)
    return opened(root, boxes={"a.png": (10, 10, 60, 60)})


def white(root, **options):
    """16 bits with a white of their own; `read_picture` looks at one file."""
    Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(root / "x.png")
    return read_picture(root / "x.png", Decoding(**options))


def masked(root, **options):
    source = faces(root / "source") if not (root / "source").exists() else root / "source"
    destination = options.pop("destination", root / "copy")
    assert make_masked(source, destination, style="cloth", **options) in (0, 2)
    assert len(list(destination.glob("*.png"))) == 2


def masked_twice(root, **options):
    masked(root)
    masked(root, **options)


def into_foreign(root):
    (root / "copy").mkdir()
    (root / "copy" / "theirs.txt").touch()
    masked(root)


def corrupted(root, **options):
    faces(root / "source")
    return make_corrupted(
        root / "source", root / "copy", kinds=("fog",), severities=(1,), **options
    )


def unit_of(root, factor):
    """Landmarks in parts of the picture span less than two pixels."""
    faces(root / "source", "a.png")
    write_pts(root / "source" / "a.pts", points(68) * factor)
    return make_masked(root / "source", root / "copy")


def no_pictures(root):
    (root / "empty").mkdir()
    faces(root / "full")
    return opened(root / "empty")


def unreadable(root):
    """A folder that cannot be listed, which no mode keeps from the superuser."""
    import os

    import pytest

    faces(root)
    with pytest.MonkeyPatch.context() as patch:

        def refuse(top, *, onerror, **_):
            onerror(PermissionError(13, "Permission denied", os.fspath(top)))

        patch.setattr(os, "walk", refuse)
        return opened(root)


RESTORE = "Restore the file from the data set, or remove the picture and its `.pts`"
TEXTS = {
    "no brace": "n_points: 68\n1 1\n}\n",
    "no end": "n_points: 68\n{\n1 1\n",
    "no number": "n_points: 68\n{\n1 one\n}\n",
}
DAMAGED = {
    f"pts, {fault}, {how.__name__}": InFolder(
        lambda root, text=text: written(root, text), RESTORE, how
    )
    for fault, text in TEXTS.items()
    for how in (restored, removed)
}

CASES = {
    **DAMAGED,
    "pts, header": InFolder(
        lambda root: written(root, "n_points: many\n{\n1 1\n}\n"), "Correct the header", restored
    ),
    "pts, more than the header says": InFolder(
        lambda root: written(root, "n_points: 69\n{\n" + 68 * "30 30\n" + "}\n"),
        "Annotate what is missing or correct the header",
        restored,
    ),
    "no position": InFolder(
        marked,
        "Remove it and its picture",
        removed,
    ),
    "merl-rav, removed": InFolder(merl, "remove it and its picture", merl_removed),
    "merl-rav, corrected": InFolder(merl, "Correct it", merl_corrected),
    "no picture": InFolder(
        lambda root: without_partner(root, "a.png"),
        "Copy it there",
        lambda root: opened(faces(root)),
    ),
    "no pts, annotated": InFolder(
        lambda root: without_partner(root, "a.pts"), "Annotate or remove it", restored
    ),
    "no pts, removed": InFolder(
        lambda root: without_partner(root, "a.pts"),
        "Annotate or remove it",
        lambda root: ((root / "a.png").unlink(), opened(root, 1)),
    ),
    "ambiguous": InFolder(
        lambda root: (faces(root), add_picture(root / "a.jpg", 5), opened(root)),
        "ambiguous: rename or remove the others",
        lambda root: ((root / "a.jpg").unlink(), opened(root)),
    ),
    "case": InFolder(
        lambda root: (faces(root), (root / "a.pts").rename(root / "A.pts"), opened(root)),
        "differ in case. Rename one of them",
        lambda root: renamed(root, "A.pts", "a.pts"),
    ),
    "truncated": InFolder(truncated, "Copy or download it again", lambda root: opened(faces(root))),
    "replaced, made again": InFolder(replaced, "Make the data set again", made_again),
    "replaced, restored": InFolder(
        replaced, "or restore the file", lambda root: opened(faces(root))[0]
    ),
    "no box": InFolder(
        unboxed,
        "must have a box for 'b.png', but got none. Add it",
        lambda root: opened(root, boxes=dict.fromkeys(FACES, (10, 10, 60, 60))),
    ),
    "no pictures": InFolder(no_pictures, "Check the path", lambda root: opened(root / "full")),
    "no folder": InFolder(
        lambda root: opened(root / "absent"), "Check the path", lambda root: opened(faces(root))
    ),
    "no permission": InFolder(unreadable, "Change its permissions", lambda root: opened(root)),
    "a set of 68 only": InFolder(
        lambda root: (
            faces(root),
            write_pts(root / "a.pts", points(5)),
            open_known("pts", root),
        ),
        r"must have 68 points, but got 5\. Correct the file\.",
        restored,
    ),
    "white": InFolder(
        white,
        r"`decoding=Decoding\(white=...\)` \(`--white`\)",
        lambda root: white(root, white=4095),
    ),
    "no picture to show": InFolder(
        lambda root: contact_sheet(opened(faces(root)), columns=0),
        "`columns` must be 1 or more, but got 0. Pass a positive number",
        lambda root: contact_sheet(opened(root), columns=1),
        ValueError,
    ),
    # writers
    "copies, within": InFolder(
        lambda root: masked(root, destination=root / "source" / "copy"),
        "Choose a folder beside the source",
        lambda root: masked(root, destination=root / "beside"),
        ValueError,
    ),
    "copies, seed": InFolder(
        lambda root: masked(root, seed=-1),
        "`seed` must be 0 or more, but got -1. Choose another",
        lambda root: masked(root, seed=1),
        ValueError,
    ),
    "copies, grey": InFolder(
        lambda root: masked(root, decoding=Decoding(channels=1)),
        "but got 1. Leave them out",
        lambda root: masked(root, decoding=Decoding()),
        ValueError,
    ),
    "copies, other settings, another folder": InFolder(
        lambda root: masked_twice(root, seed=1),
        "Choose another folder, or the same settings",
        lambda root: masked(root, seed=1, destination=root / "another"),
    ),
    "copies, other settings, the same": InFolder(
        lambda root: masked_twice(root, seed=1), "or the same settings", masked
    ),
    "copies, foreign folder": InFolder(
        into_foreign,
        "no readable `manifest.json`.* Choose another folder",
        lambda root: masked(root, destination=root / "another"),
    ),
    "copies, unit": InFolder(
        lambda root: unit_of(root, 0.06),
        "Check their unit: pixels",
        lambda root: unit_of(root, 1.0),
    ),
    "corrupt, kind": InFolder(
        lambda root: make_corrupted(faces(root / "source"), root / "copy", kinds=("rain",)),
        "`kind` must be one of gaussian_noise",
        corrupted,
        ValueError,
    ),
    "corrupt, severity": InFolder(
        lambda root: make_corrupted(faces(root / "source"), root / "copy", severities=(6,)),
        "`severity` must be from 1 to 5, but got 6. Choose one of these",
        corrupted,
        ValueError,
    ),
}
