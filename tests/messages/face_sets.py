"""Messages about the public sets of faces, followed in one folder each."""

import shutil

import numpy as np
import pytest
from messages.kit import InFolder
from PIL import Image
from small_sets import (
    COFW_COUNTS,
    add_picture,
    make_300vw,
    make_300w_lp,
    make_aflw2000,
    make_cofw,
    make_cofw68,
    make_merl_rav,
    make_wflw,
    points,
)

from advaug.datasets import MerlRav, Wflw, write_pts
from advaug.datasets.readers import aflw2000, cofw, faces_300w, lp_300w, videos_300vw, wflw
from advaug.datasets.readers.aflw2000 import Aflw2000
from advaug.datasets.readers.cofw import Cofw, Cofw68
from advaug.datasets.readers.faces_300w import Faces300W
from advaug.datasets.readers.lp_300w import Faces300WLP
from advaug.datasets.readers.videos_300vw import Videos300VW
from advaug.errors import DatasetError

# Small counts in the place of the published ones, by the reader that holds them.
SIZES = [
    (wflw, "COUNTS", {"train": 2, "test": 2} | dict.fromkeys(wflw.WFLW_ATTRIBUTES, 1)),
    (cofw, "COUNTS", COFW_COUNTS),
    (lp_300w, "PART_COUNTS", {"AFW": 1}),
    (aflw2000, "COUNT", 2),
    (faces_300w, "PART_COUNTS", dict.fromkeys(faces_300w.PART_COUNTS, 1)),
    (videos_300vw, "VIDEOS", {"train": ("001",)}),
]

ENTRY = "Correct it, or remove the entry"

# --- WFLW ---------------------------------------------------------------------------------------

LIST = "list_98pt_rect_attr_train.txt"


def wflw_list(root, change):
    """A list whose first line is changed."""
    make_wflw(root, {"train": 2, "test": 0})
    path = next(root.rglob(LIST))
    shutil.copy(path, root / LIST)
    first, rest = path.read_text().split("\n", 1)
    path.write_text("\n".join([change(first), rest]))
    return Wflw(root, image_size=16)


def wflw_restored(root):
    shutil.copy(root / LIST, next(root.rglob("WFLW_annotations/*/*train.txt")))
    assert len(Wflw(root, image_size=16)) == 2


# --- the others ---------------------------------------------------------------------------------


def without(make, path, *sets):
    """A set of which a part is missing."""

    def run(root):
        make(root)
        gone = root / path
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        return [each(root) for each in sets]

    return run


def whole_set(make, *sets):
    """The set again."""

    def run(root):
        shutil.rmtree(root)
        make(root)
        for each in sets:
            assert len(each(root)) > 0

    return run


def hdf5(change):
    """COFW's file of training pictures with something else in it."""

    def run(root):
        import h5py

        make_cofw(root, COFW_COUNTS)
        with h5py.File(root / "COFW_train_color.mat", "a") as file:
            change(file)
        return Cofw(root)

    return run


def other(name, values):
    def change(file):
        del file[name]
        file[name] = values

    return change


def grey_16(file):
    """The first picture with 16 bits."""
    del file["#refs#/0"]
    file["#refs#/0"] = np.zeros((3, 96, 72), np.uint16)
    references = file["IsTr"][()]
    references[0, 0] = file["#refs#/0"].ref
    file["IsTr"][...] = references


def wflw_of(root):
    return make_wflw(root, {"train": 2, "test": 0})


def cofw_of(root):
    return make_cofw(root, COFW_COUNTS)


def cofw68_of(root):
    return make_cofw68(root, COFW_COUNTS)


def lp_of(root):
    return make_300w_lp(root, {"AFW": 1})


def aflw_of(root):
    return make_aflw2000(root, 2)


def unseen(root):
    """None of the 21 points can be seen."""
    from scipy.io import savemat

    aflw_of(root)
    content = {"pt2d": np.full((2, 21), -1.0), "Pose_Para": np.zeros((1, 7))}
    savemat(root / "image00000.mat", content)
    return Aflw2000(root, num_landmarks=21)


def video_of(root):
    return make_300vw(root, ["001"], 2)


def boxes_of(root, text):
    if not (root / "001").exists():
        video_of(root)
    (root / "boxes.csv").write_text(text)
    return Videos300VW(root, image_size=16, boxes=root / "boxes.csv")


BOXES = "video,frame,x0,y0,x1,y1\n001,1,20,10,70,60\n"
ALL_BOXES = BOXES + "001,2,20,10,70,60\n"


def four_points(root):
    video_of(root)
    write_pts(root / "001" / "annot" / "000001.pts", points(4))
    return Videos300VW(root)


def ibug(root, *, boxes=False, keep=1):
    """The part of 300W that has one picture here, and the organisers' file of boxes."""
    path = add_picture(root / "ibug" / "image_1.jpg")
    write_pts(path.with_suffix(".pts"), points(68))
    if boxes:
        from scipy.io import savemat

        records = np.empty((1, keep), dtype=object)
        for number in range(keep):
            box = [[20.0, 10.0, 70.0, 60.0]]
            records[0, number] = {"imgName": "image_1.jpg", "bb_detector": box}
        (root / "Bounding Boxes").mkdir(exist_ok=True)
        savemat(root / "Bounding Boxes" / "bounding_boxes_ibug.mat", {"bounding_boxes": records})
    return root


def challenging(root, **options):
    assert len(Faces300W(root, "challenging", image_size=16, **options)) == 1


def no_box(root):
    ibug(root, boxes=True)
    for suffix in (".jpg", ".pts"):
        path = (root / "ibug" / "image_1").with_suffix(suffix)
        path.rename(path.with_name(f"image_2{suffix}"))
    challenging(root)


def no_mat(root):
    ibug(root, boxes=True)
    (root / "Bounding Boxes" / "bounding_boxes_ibug.mat").write_text("<html>")
    challenging(root)


def other_mat(root):
    from scipy.io import savemat

    ibug(root, boxes=True)
    content = {"bounding_boxes": np.ones((3, 4))}
    savemat(root / "Bounding Boxes" / "bounding_boxes_ibug.mat", content)
    challenging(root)


def no_scipy(root):
    ibug(root, boxes=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "scipy.io", None)
        challenging(root)


def moved_away(root):
    (root / "Bounding Boxes" / "bounding_boxes_ibug.mat").rename(root / "away.mat")
    challenging(root)


def without_boxes(root):
    challenging(root, boxes="landmarks")


def merl_of(root):
    return make_merl_rav(root)


def turn(root):
    """Give each picture an EXIF orientation: half a turn, so that landmarks stay in it."""
    for path in root.rglob("*.jpg"):
        with Image.open(path) as image:
            exif = image.getexif()
            exif[0x0112] = 3
            image.save(path, exif=exif)


# Readers of picture files, none of which had a choice of orientation at first.
TURNED = {
    "wflw": (wflw_of, Wflw),
    "300w-lp": (lp_of, Faces300WLP),
    "aflw2000": (aflw_of, Aflw2000),
    "merl-rav": (merl_of, MerlRav),
}

CASES = {
    "wflw, numbers": InFolder(
        lambda root: wflw_list(root, lambda line: line[:90]),
        "Restore the list from the data set",
        wflw_restored,
    ),
    "wflw, attributes": InFolder(
        lambda root: wflw_list(root, lambda line: line.replace(" 1 0 0 0 0 0 ", " 2 0 0 0 0 0 ")),
        "0 or 1, .* Restore the list from the data set",
        wflw_restored,
    ),
    "wflw, no list": InFolder(
        without(wflw_of, "WFLW_annotations", Wflw),
        "Unpack WFLW's annotations",
        whole_set(wflw_of, Wflw),
    ),
    "wflw, too few": InFolder(
        lambda root: Wflw(make_wflw(root, {"train": 1, "test": 0})),
        "Unpack that part of the data set again",
        whole_set(wflw_of, Wflw),
    ),
    "300w-lp, no landmarks": InFolder(
        without(lp_of, "landmarks/AFW/AFW_0_0_pts.mat", Faces300WLP),
        "Copy it there",
        whole_set(lp_of, Faces300WLP),
    ),
    "aflw2000, no mat": InFolder(
        without(aflw_of, "image00000.mat", Aflw2000), "Copy it there", whole_set(aflw_of, Aflw2000)
    ),
    "aflw2000, unseen": InFolder(unseen, "Copy or download it again", whole_set(aflw_of, Aflw2000)),
    "cofw, no file": InFolder(
        without(cofw_of, "COFW_train_color.mat", Cofw), "Unpack it there", whole_set(cofw_of, Cofw)
    ),
    "cofw68, no annotations": InFolder(
        without(cofw68_of, "COFW68_Data/test_annotations", Cofw68),
        "Unpack it there",
        whole_set(cofw68_of, Cofw68),
    ),
    "cofw, another file": InFolder(
        hdf5(lambda file: file.pop("phisTr")), "Download COFW's own file", whole_set(cofw_of, Cofw)
    ),
    "cofw, columns": InFolder(
        hdf5(other("phisTr", np.zeros((5, 3)))),
        "Copy or download it again",
        whole_set(cofw_of, Cofw),
    ),
    "cofw, rows": InFolder(
        hdf5(other("bboxesTr", np.ones((4, 2)))),
        "as many faces as pictures .*Copy or download it again",
        whole_set(cofw_of, Cofw),
    ),
    "cofw, bits": InFolder(
        hdf5(grey_16), "a picture of 8 bits, .*Copy or download it again", whole_set(cofw_of, Cofw)
    ),
    "300vw, no video": InFolder(
        without(video_of, "001", Videos300VW),
        "Unpack that video there",
        whole_set(video_of, Videos300VW),
    ),
    "300vw, no annotation": InFolder(
        without(video_of, "001/annot/000002.pts", Videos300VW),
        "Unpack that video again",
        whole_set(video_of, Videos300VW),
    ),
    "300vw, points": InFolder(
        four_points, "Restore the file from the data set", whole_set(video_of, Videos300VW)
    ),
    "300vw, every": InFolder(
        lambda root: Videos300VW(root, every=0),
        "Pass 1 for all frames",
        lambda root: Videos300VW(video_of(root), every=1),
        ValueError,
    ),
    "300vw, columns": InFolder(
        lambda root: boxes_of(root, "video,frame\n001,1\n"),
        "none for x0, y0, x1, y1. Add them",
        lambda root: boxes_of(root, ALL_BOXES),
    ),
    "300vw, no box, added": InFolder(
        lambda root: boxes_of(root, BOXES), "Add it", lambda root: boxes_of(root, ALL_BOXES)
    ),
    "300vw, no box, none": InFolder(
        lambda root: boxes_of(root, BOXES),
        "or pass `boxes=None`",
        lambda root: Videos300VW(root, boxes=None),
    ),
    "300vw, box": InFolder(
        lambda root: boxes_of(root, BOXES + "001,2,20,10,70,wide\n"),
        "Correct it",
        lambda root: boxes_of(root, ALL_BOXES),
    ),
    "300vw, no csv": InFolder(
        lambda root: Videos300VW(root, boxes=root / "boxes.csv"),
        "Check the path",
        lambda root: boxes_of(root, ALL_BOXES),
    ),
    "300w, part": InFolder(
        lambda root: challenging(root),
        "Unpack that part of 300W there",
        lambda root: challenging(ibug(root)),
    ),
    "300w, boxes that must be there": InFolder(
        lambda root: challenging(ibug(root), boxes="detector"),
        "Unpack the organisers' boxes there",
        lambda root: challenging(ibug(root, boxes=True), boxes="detector"),
    ),
    "300w, boxes, landmarks": InFolder(
        lambda root: challenging(ibug(root), boxes="detector"),
        'or pass `boxes="landmarks"`',
        without_boxes,
    ),
    **{
        f"300w, {wrong.__name__}, {how.__name__}": InFolder(
            wrong, 'Pass `boxes="landmarks"` to do without that file, or move it away', how, kind
        )
        for wrong, kind in (
            (no_box, DatasetError),
            (no_mat, DatasetError),
            (other_mat, DatasetError),
            (no_scipy, ImportError),
        )
        for how in (without_boxes, moved_away)
    },
}
