"""Small copies of the public data sets, each in its exact format, by the usual library."""

import numpy as np
import torch
from PIL import Image

from advaug.datasets import write_pts

WIDTH, HEIGHT = 96, 72
COFW_COUNTS = {"train": 3, "test": 4}  # of a small COFW, in the place of the published ones


def points(count, number=0, *, seed=0):
    """Landmarks `(count, 2)`, 0-based, over the middle of a picture; another face a number."""
    drawn = np.random.default_rng(seed).uniform([24, 14], [70, 56], (count, 2))
    return np.round(drawn, 3) + 0.25 * number


def pixels(number=0, *, grey=False):
    """A picture that tells its number: red is 10 times it, and x and y grow to right and down."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    channels = [np.full_like(x, 10 * number), 2 * x, 3 * y]
    return (channels[1] if grey else np.stack(channels, axis=2)).astype(np.uint8)


def add_picture(path, number=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(number)).save(path)
    return path


def truncate(path, keep=0.6):
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])


def mirror(sample, scheme):
    """The landmarks of a mirrored sample, left and right back under their names."""
    landmarks = sample.landmarks.clone()
    landmarks[:, 0] = sample.image.shape[-1] - 1 - landmarks[:, 0]
    permutation = list(scheme.flip_permutation)
    return sample._replace(
        image=sample.image.flip(-1),
        landmarks=landmarks[permutation],
        visible=sample.visible[permutation],
    )


def assert_a_good_sample(dataset, index=0):
    """The contract of a sample, and that mirroring twice gives the start."""
    sample = dataset[index]
    count, size = dataset.scheme.num_landmarks, sample.image.shape[-1]
    assert (sample.image.shape, sample.image.dtype) == ((3, size, size), torch.float32)
    assert (sample.landmarks.shape, sample.landmarks.dtype) == ((count, 2), torch.float32)
    assert (sample.visible.shape, sample.visible.dtype) == ((count,), torch.bool)
    assert 0 <= sample.image.min() <= sample.image.max() <= 1
    back = mirror(mirror(sample, dataset.scheme), dataset.scheme)
    torch.testing.assert_close(back.landmarks, sample.landmarks, atol=1e-4, rtol=0)
    assert torch.equal(back.visible, sample.visible)
    assert torch.equal(back.image, sample.image)
    assert torch.equal(dataset.annotation(index)[0], sample.landmarks)
    assert dataset.cut(index).pixels.dtype == np.uint8


def first_landmark(dataset, index=0):
    """In pixels of the original picture, by the way back from the sample."""
    return dataset.crop(index).to_picture(dataset[index].landmarks)[0]


def make_wflw(root, counts):
    """`counts` has the number of faces of "train" and "test"; a picture holds two faces."""
    folder = root / "WFLW_annotations" / "list_98pt_rect_attr_train_test"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        lines = []
        for number in range(counts[split]):
            name = f"0--Parade {split}/{number // 2:03d}.jpg"  # one name has a space
            add_picture(root / "WFLW_images" / name, number // 2)
            numbers = [f"{value:.6f}" for value in points(98, number).ravel()]
            attributes = [str(int(number % 6 == column)) for column in range(6)]
            lines.append(" ".join([*numbers, "20", "10", "76", "60", *attributes, name]))
        (folder / f"list_98pt_rect_attr_{split}.txt").write_text("\n".join(lines) + "\n")
    return root


def make_cofw(root, counts, *, grey=()):
    """As MATLAB writes them: every axis in reverse, pictures behind references."""
    import h5py

    root.mkdir(parents=True, exist_ok=True)
    for split, suffix in (("train", "Tr"), ("test", "T")):
        count = counts[split]
        faces = np.zeros((count, 87))
        for number in range(count):
            x, y = (points(29, number) + 1).T
            faces[number] = [*x, *y, *(np.arange(29) % 4 == number % 4)]
        with h5py.File(root / f"COFW_{split}_color.mat", "w") as file:
            file[f"phis{suffix}"] = faces.T
            file[f"bboxes{suffix}"] = np.tile([[21.0], [11.0], [40.0], [30.0]], (1, count))
            references = np.empty((1, count), dtype=h5py.ref_dtype)
            for number in range(count):
                name = f"#refs#/{number}"
                file[name] = pixels(number, grey=number in grey).T
                references[0, number] = file[name].ref
            file.create_dataset(f"Is{suffix}", data=references, dtype=h5py.ref_dtype)
    return root


def make_cofw68(root, counts):
    from scipy.io import savemat

    make_cofw(root, counts)
    folder = root / "COFW68_Data" / "test_annotations"
    folder.mkdir(parents=True)
    for number in range(counts["test"]):
        occluded = (np.arange(68) % 5 == 0).astype(np.uint8)[None]
        content = {"Points": points(68, number) + 1, "Occ": occluded}
        savemat(folder / f"{number + 1}_points.mat", content)
    boxes = np.tile(np.array([[21, 11, 40, 30]], dtype=np.int16), (counts["test"], 1))
    savemat(root / "COFW68_Data" / "cofw68_test_bboxes.mat", {"bboxes": boxes})
    return root


def make_300w_lp(root, counts):
    from scipy.io import savemat

    for part, count in counts.items():
        (root / "landmarks" / part).mkdir(parents=True)
        for number in range(count):
            path = add_picture(root / part / f"{part}_{number}_0.jpg", number)
            content = {"pt2d": (points(68, number, seed=2) + 1).T, "Pose_Para": np.zeros((1, 7))}
            savemat(path.with_suffix(".mat"), content)
            content = {"pts_2d": points(68, number) + 1, "pts_3d": points(68, number, seed=1) + 1}
            savemat(root / "landmarks" / part / f"{part}_{number}_0_pts.mat", content)
    return root


def make_aflw2000(root, count):
    """Turned by 22 degrees more a face; every third of the 21 landmarks cannot be seen."""
    from scipy.io import savemat

    for number in range(count):
        path = add_picture(root / f"image{number:05d}.jpg", number)
        seen = np.where(np.arange(21)[:, None] % 3 == 1, -1, points(21, number) + 1)
        depth = np.zeros((68, 1))
        content = {
            "pt3d_68": np.hstack([points(68, number) + 1, depth]).T,
            "pt2d": seen.T,
            "Pose_Para": np.array([[0, -np.radians(22 * number), 0, 0, 0, 0, 1]]),
        }
        savemat(path.with_suffix(".mat"), content)
    return root


def make_merl_rav(root):
    """Landmark 0 has no place, landmark 1 is occluded; two pictures a folder."""
    for pose in ("frontal", "left", "lefthalf", "right", "righthalf"):
        for split in ("trainset", "testset"):
            for number in range(2):
                path = add_picture(root / pose / split / f"image{number:05d}.jpg", number)
                written = points(68, number) + 1
                written[0] = -1
                written[1] *= -1
                write_pts(path.with_suffix(".pts"), written - 1)  # which adds the 1 again
    return root


def make_video(path, num_frames, *, codec="mpeg4", size=(WIDTH, HEIGHT), options=None):
    """Frames whose grey level grows by 6 each."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.bit_rate = *size, 8_000_000
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(num_frames):
            level = np.full((size[1], size[0], 3), (6 * number) % 250, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(level, format="rgb24")))
        container.mux(stream.encode())
    return path


def make_300vw(root, videos, num_frames):
    for name in videos:
        (root / name / "annot").mkdir(parents=True)
        make_video(root / name / "vid.avi", num_frames)
        for number in range(num_frames):
            write_pts(root / name / "annot" / f"{number + 1:06d}.pts", points(68, number))
    return root
