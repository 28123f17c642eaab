"""Messages of the functions that readers are made of, followed in one folder each."""

import numpy as np
import pytest
from messages.kit import Case, InFolder
from messages.people import coco, heads, mpii, person
from PIL import Image
from small_sets import add_picture, make_aflw2000, make_cofw, make_video, points, truncate

from advaug.datasets import CocoKeypoints, Decoding, read_pts, write_pts
from advaug.datasets.crop import SquareCrop
from advaug.datasets.pictures import read_picture
from advaug.datasets.readers.aflw2000 import Aflw2000
from advaug.datasets.readers.cofw import Cofw
from advaug.datasets.readers.mpii import Mpii
from advaug.datasets.readers.video_frames import FrameReader, VideoIndex, index_video
from advaug.datasets.writers import copies
from advaug.datasets.writers.masked import make_masked
from advaug.errors import ShapeError

POINTS = points(68)


def floating(root, **options):
    """Values up to 200 in a format whose white is 1."""
    Image.fromarray(np.full((8, 8), 200, np.float32)).save(root / "x.tif")
    return read_picture(root / "x.tif", Decoding(**options))


def small(root, side, **options):
    add_picture(root / "x.png")
    with Image.open(root / "x.png") as image:
        image.resize((side, side)).save(root / "x.png")
    assert read_picture(root / "x.png", Decoding(**options)).size == (side, side)


def pts(root, content):
    (root / "a.pts").write_bytes(content)
    return read_pts(root / "a.pts")


def again(root):
    write_pts(root / "a.pts", POINTS)
    assert len(read_pts(root / "a.pts")) == 68


def written(root, landmarks):
    write_pts(root / "a.pts", landmarks)
    np.testing.assert_allclose(read_pts(root / "a.pts"), landmarks)


UNKNOWN = POINTS.copy()
UNKNOWN[3] = np.nan


def one_side(root, **options):
    """Names with a left and no right."""
    category = {"id": 1, "keypoints": ["nose", "left_ear", "tail"]}
    if not options:
        coco(root, person(), categories=[category])
    assert len(CocoKeypoints(root, root / "people.json", **options)) == 1


def renamed(root):
    names = ["right_ear", "left_ear", "tail"]
    assert len(coco(root, person(), categories=[{"id": 1, "keypoints": names}])) == 1


def aflw(root, *, change=None):
    make_aflw2000(root, 2)
    if change is not None:
        change(root / "image00000.mat")
    assert len(Aflw2000(root)) == 2


def not_finite(path):
    from scipy.io import savemat

    content = {"pt3d_68": np.full((3, 68), np.nan), "Pose_Para": np.zeros((1, 7))}
    savemat(path, content)


def no_hdf5(root):
    make_cofw(root, {"train": 3, "test": 4})
    (root / "COFW_train_color.mat").write_text("<html>")
    return Cofw(root)


def hdf5(root):
    make_cofw(root, {"train": 3, "test": 4})
    assert len(Cofw(root)) == 3


def ragged(root):
    """Boxes of heads that are text."""
    from scipy.io import savemat

    mpii(root, {})
    savemat(root / "annot" / "gt_valid.mat", {"headboxes_src": "none"})
    return Mpii(root, "valid").head_sizes()


def frame(root, *, copied):
    """The last frame of a video of which the index was made before it was damaged."""
    index = index_video(make_video(root / "a.avi", 12))
    if not copied:
        truncate(root / "a.avi", 0.5)
    assert FrameReader().read(index, 11).size == index.size


def beyond(root, number):
    index = index_video(make_video(root / "a.avi", 2))
    more = VideoIndex(index.path, index.size, 3, (), ())
    return FrameReader().read(more, number)


def no_video(root):
    (root / "a.avi").write_text("<html>")
    return index_video(root / "a.avi")


def gone(root, *, stays):
    """A `.pts` file that somebody removes while pictures are copied."""
    write_pts(add_picture(root / "source" / "a.png").with_suffix(".pts"), POINTS)
    read = copies._read_faces

    def remove(*arguments):
        found = read(*arguments)
        if not stays:
            (root / "source" / "a.pts").unlink()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "_read_faces", remove)
        assert make_masked(root / "source", root / "copy") == 1


IN_FOLDERS = {
    "white of floating point": InFolder(
        floating,
        r"Pass `decoding=Decoding\(white=...\)` \(`--white`\)",
        lambda root: floating(root, white=200),
    ),
    "too large, smaller": InFolder(
        lambda root: small(root, 64, max_pixels=1000),
        "Make it smaller",
        lambda root: small(root, 30, max_pixels=1000),
    ),
    "too large, allowed": InFolder(
        lambda root: small(root, 64, max_pixels=1000),
        r"in Python pass `decoding=Decoding\(max_pixels=...\)`",
        lambda root: small(root, 64, max_pixels=4096),
    ),
    "pts, bytes": InFolder(
        lambda root: pts(root, b"\xff\xfe\x00"), "Restore the file from the data set", again
    ),
    "pts, none": InFolder(
        lambda root: read_pts(root / "a.pts"), "Restore the file from the data set", again
    ),
    "pts, long": InFolder(
        lambda root: pts(root, b" " * 1_000_001), "Restore the file from the data set", again
    ),
    "pts, pictures": InFolder(
        lambda root: written(root, POINTS[None]),
        "Write one picture a file",
        lambda root: written(root, POINTS),
        ShapeError,
    ),
    "pts, unknown": InFolder(
        lambda root: [written(root, each) for each in (UNKNOWN, POINTS)],
        "leave the picture out",
        lambda root: [written(root, each) for each in (UNKNOWN, POINTS) if np.isfinite(each).all()],
        ValueError,
    ),
    "names, renamed": InFolder(one_side, "Add it, rename", renamed),
    "names, pairs": InFolder(
        one_side, "or give `pairs`", lambda root: one_side(root, pairs=[("left_ear", "nose")])
    ),
    "mat, broken": InFolder(
        lambda root: aflw(root, change=lambda path: path.write_text("<html>")),
        "Copy or download it again",
        aflw,
    ),
    "mat, not finite": InFolder(
        lambda root: aflw(root, change=not_finite), "Copy or download it again", aflw
    ),
    "mat, no hdf5": InFolder(no_hdf5, "Copy or download it again", hdf5),
    "mat, no heads": InFolder(ragged, "put it next to that file", heads),
    "video, cut": InFolder(
        lambda root: frame(root, copied=False),
        "Copy or download it again",
        lambda root: frame(root, copied=True),
    ),
    "video, shorter": InFolder(
        lambda root: beyond(root, 2), "Copy or download it again", lambda root: beyond(root, 1)
    ),
    "video, none": InFolder(
        no_video,
        "Copy or download it again",
        lambda root: index_video(make_video(root / "a.avi", 2)),
    ),
    "pts, gone": InFolder(
        lambda root: gone(root, stays=False), "Restore it", lambda root: gone(root, stays=True)
    ),
}

CASES = {
    "box": Case(
        lambda: SquareCrop.from_box((60, 50, 20, 10), 64),
        "Check the order of the numbers",
        lambda: SquareCrop.from_box((20, 10, 60, 50), 64),
    ),
    "image_size": Case(
        lambda: SquareCrop.from_box((20, 10, 60, 50), 0),
        "Pass 256",
        lambda: SquareCrop.from_box((20, 10, 60, 50), 256),
    ),
    "channels": Case(lambda: Decoding(channels=2), "Pass 3 for RGB", lambda: Decoding(channels=3)),
    "white and max_pixels": Case(
        lambda: Decoding(white=0), "Leave them out for the usual ones", Decoding
    ),
}
