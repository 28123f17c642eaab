import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from advaug.datasets import LandmarkSample, SyntheticFaces
from advaug.datasets.synthetic.faces import dataset as synthetic_faces
from advaug.datasets.synthetic.faces.head import Pose
from advaug.datasets.synthetic.faces.parts import build_parts
from advaug.schemes import FACE_68

SPLITS = ("train", "val", "hard")


def equal(first: LandmarkSample, second: LandmarkSample) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def posed(index, yaw, *, pitch=0.0, split="train", seed=0):
    """A person as drawn, but in a given pose, in even light and with no camera effects."""
    person, rng = SyntheticFaces(1000, split=split, seed=seed)._draw_person(index)
    conditions = replace(
        person.conditions,
        pose=Pose(yaw, pitch, 0.0, 12.0),
        zoom=1.0,
        shift=np.zeros(2),
        lamp=0.0,
        ambient=1.0,
        blur=0.0,
        noise=0.0,
        jpeg=0,
        contrast=1.0,
        cast=np.ones(3),
        covers=(),
    )
    return person._replace(conditions=conditions), rng


@pytest.fixture
def bare_head(monkeypatch):
    """Draw nothing but the head, before black."""
    monkeypatch.setattr(
        synthetic_faces, "build_parts", lambda *arguments: build_parts(*arguments)[:1]
    )
    monkeypatch.setattr(
        synthetic_faces, "paint_background", lambda raster, rng: Image.new("RGB", (raster, raster))
    )


def paint_with(monkeypatch, *, dot=None):
    """Replace the skin: white all over, or black with a white dot at one frontal landmark."""

    def paint_atlas(frontal, look, expression, swatches, scale, rng):
        rows, columns = np.mgrid[: scale.size, : scale.size + scale.size // 2] + 0.5
        if dot is None:
            return Image.new("RGB", rows.shape[::-1], "white")
        x, y = scale.face(frontal[dot])
        inside = (columns - x) ** 2 + (rows - y) ** 2 < (0.035 * scale.texels) ** 2
        return Image.fromarray(np.repeat(255 * inside[..., None], 3, axis=2).astype(np.uint8))

    monkeypatch.setattr(synthetic_faces, "paint_atlas", paint_atlas)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("image_size", [64, 128, 256])
def test_sample_has_the_promised_shapes_types_and_ranges(split, image_size):
    faces = SyntheticFaces(3, split=split, image_size=image_size)
    assert len(faces) == 3
    assert faces.scheme is FACE_68
    for image, landmarks, visible in faces:
        assert image.shape == (3, image_size, image_size)
        assert image.dtype == landmarks.dtype == torch.float32
        assert image.is_contiguous()
        assert image.min() >= 0
        assert image.max() <= 1
        assert image.std() > 0.03
        assert landmarks.shape == (68, 2)
        assert visible.shape == (68,)
        assert visible.dtype == torch.bool


def test_a_picture_is_the_same_face_at_every_size():
    # A pixel centre at x in one picture lies at (x + 0.5) * 2 - 0.5 in the twice as large one.
    small, large = (SyntheticFaces(5, image_size=size)[3] for size in (64, 128))
    expected = (small.landmarks + 0.5) * 2 - 0.5
    torch.testing.assert_close(large.landmarks, expected, atol=1e-3, rtol=0)
    reduced = torch.nn.functional.avg_pool2d(large.image, 2)
    assert (reduced - small.image).abs().mean() < 0.06


def test_index_alone_decides_the_picture():
    faces = SyntheticFaces(20, seed=7)
    first = faces[11]
    _ = faces[3]
    assert equal(faces[11], first)
    assert equal(SyntheticFaces(500, seed=7)[11], first)
    assert equal(faces[-9], first)
    assert equal(faces[np.int64(11)], first)


def test_other_index_split_or_seed_gives_another_face():
    samples = [
        SyntheticFaces(4, split=split, seed=seed)[i]
        for split in SPLITS
        for seed in (0, 1)
        for i in (0, 1, 2)
    ]
    for i, first in enumerate(samples):
        for second in samples[:i]:
            assert not torch.allclose(first.landmarks, second.landmarks, atol=0.5)
            assert not torch.allclose(first.image, second.image, atol=0.05)


def test_global_random_state_is_neither_read_nor_written():
    faces = SyntheticFaces(4, split="hard")
    states = []
    pictures = []
    for seed in (0, 1):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())  # noqa: NPY002
        pictures.append(faces[2])
        after = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())  # noqa: NPY002
        states.append((before, after))
    assert equal(*pictures)
    for before, after in states:
        assert before[:2] == after[:2]
        assert torch.equal(before[2], after[2])


def test_default_collation_in_workers_gives_the_same_pictures():
    faces = SyntheticFaces(6, image_size=64)
    loader = DataLoader(faces, batch_size=3, num_workers=2)
    batches = list(loader)
    assert len(batches) == 2
    assert isinstance(batches[0], LandmarkSample)
    assert batches[0].image.shape == (3, 3, 64, 64)
    assert batches[1].landmarks.shape == (3, 68, 2)
    assert torch.equal(batches[1].image[2], faces[5].image)
    assert torch.equal(batches[1].landmarks[2], faces[5].landmarks)


@pytest.mark.parametrize("split", SPLITS)
def test_landmarks_are_framed_like_a_crop_of_300w(split):
    samples = list(SyntheticFaces(60, split=split))
    landmarks = torch.stack([sample.landmarks for sample in samples])
    visible = torch.stack([sample.visible for sample in samples])
    inside = ((landmarks >= -0.5) & (landmarks < 127.5)).all(dim=2)
    assert torch.equal(visible, inside)
    assert visible.float().mean() > 0.99
    extent = landmarks.amax(dim=1) - landmarks.amin(dim=1)
    diagonals = extent.norm(dim=1) / 128
    assert 0.85 < diagonals.min() < diagonals.max() < 1.15
    assert abs(landmarks.mean(dim=(0, 1)) - 63.5).max() < 8


def test_visible_is_false_exactly_outside_the_picture(monkeypatch):
    faces = SyntheticFaces(1)
    person, rng = faces._draw_person(0)
    conditions = replace(person.conditions, zoom=0.7)
    monkeypatch.setattr(
        faces, "_draw_person", lambda _: (person._replace(conditions=conditions), rng)
    )
    _, landmarks, visible = faces[0]
    outside = (landmarks < -0.5).any(dim=1) | (landmarks >= 127.5).any(dim=1)
    assert outside.any()
    assert torch.equal(visible, ~outside)


def test_labels_have_the_order_of_300w():
    for index in range(8):
        person, rng = posed(index, yaw=0.0)
        _, points = synthetic_faces._photograph(person, 128, rng)
        x, y = points.T
        for chain in (
            range(2, 15),
            range(17, 27),
            range(31, 36),
            (36, 37, 38, 39),
            (42, 43, 44, 45),
        ):
            assert (np.diff(x[list(chain)]) > 0).all()
        assert (np.diff(y[27:31]) > 0).all()
        assert y[19] < y[37] < y[30] < y[33] < y[51] < y[57] < y[8]
        assert (y[[37, 38, 43, 44]] <= y[[41, 40, 47, 46]]).all()
        assert x[48] < x[60] < x[62] < x[64] < x[54]


def test_mirroring_the_head_is_the_schemes_flip_permutation():
    # A symmetric head turned left is the mirror image of the same head turned right.
    person, _ = posed(0, yaw=0.0)
    frontal = person.head.frontal
    mirrored = frontal[list(FACE_68.flip_permutation)] * [-1, 1]
    head = synthetic_faces.build_head((frontal + mirrored) / 2, np.random.default_rng(0))
    left, right = (
        synthetic_faces.project_landmarks(head, Pose(yaw, 5.0, 0.0, 10.0)) for yaw in (-50, 50)
    )
    mirrored = right[list(FACE_68.flip_permutation)] * [-1, 1]
    np.testing.assert_allclose(left, mirrored, atol=1e-5)


@pytest.mark.parametrize(("split", "least", "most"), [("train", 55, 66), ("hard", 65, 76)])
def test_yaw_is_spread_to_both_sides(split, least, most):
    faces = SyntheticFaces(400, split=split)
    yaws = np.array([faces._draw_person(i)[0].conditions.pose.yaw for i in range(400)])
    assert least < yaws.max() < most
    assert -most < yaws.min() < -least
    near = np.mean(np.abs(yaws) < 35)
    assert near > 0.75 if split == "train" else near < 0.35
    assert 0.4 < np.mean(yaws > 0) < 0.6


def test_positive_yaw_turns_the_nose_to_the_right():
    person, rng = posed(0, yaw=30.0)
    _, points = synthetic_faces._photograph(person, 128, rng)
    assert points[30, 0] - points[[36, 45], 0].mean() > 5


def test_looks_vary():
    faces = SyntheticFaces(200)
    looks = [faces._draw_person(i)[0].look for i in range(200)]
    assert {look.style for look in looks} >= {"bald", "short", "long", "curly", "fringe", "bob"}
    assert {look.glasses for look in looks} == {None, "clear", "dark"}
    assert min(look.skin.mean() for look in looks) < 90
    assert max(look.skin.mean() for look in looks) > 200
    assert any(look.beard > 0.5 for look in looks)


def test_hard_hides_faces_and_keeps_their_landmarks_visible():
    faces = SyntheticFaces(60, split="hard")
    people = [faces._draw_person(i)[0] for i in range(60)]
    covers = {cover for person in people for cover in person.conditions.covers}
    assert covers == {"mask", "scarf", "hand", "patch", "strands"}
    masked = next(i for i, p in enumerate(people) if "mask" in p.conditions.covers)
    assert faces[masked].visible[48:].all()
    assert not any(SyntheticFaces(40)._draw_person(i)[0].conditions.covers for i in range(40))


@pytest.mark.usefixtures("bare_head")
@pytest.mark.parametrize(
    ("yaw", "points"), [(0.0, range(17, 68)), (35.0, (36, 39, 48, 57, 19, 30))]
)
def test_what_is_painted_at_a_landmark_is_seen_at_the_landmark(monkeypatch, yaw, points):
    rows, columns = np.mgrid[:128, :128]
    offsets = []
    for landmark in points:
        paint_with(monkeypatch, dot=landmark)
        person, rng = posed(landmark % 5, yaw=yaw)
        image, landmarks = synthetic_faces._photograph(person, 128, rng)
        weight = image[0]
        seen = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
        assert np.abs(seen - landmarks[landmark]).max() < 0.75, landmark
        offsets.append(seen - landmarks[landmark])
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.2


@pytest.mark.usefixtures("bare_head")
@pytest.mark.parametrize("yaw", [-70.0, -45.0, 0.0, 45.0, 70.0])
def test_jaw_on_the_far_side_lies_on_the_visible_outline(monkeypatch, yaw):
    paint_with(monkeypatch)
    for index in range(3):
        person, rng = posed(index, yaw=yaw)
        image, landmarks = synthetic_faces._photograph(person, 128, rng)
        far = range(10, 16) if yaw > 0 else range(1, 7)
        for x, y in landmarks[far]:
            row = image[0, round(y)] > 0.3
            outline = np.flatnonzero(row)[-1 if yaw > 0 else 0]
            assert abs(outline - x) < 1.5


def test_far_eye_behind_the_nose_is_projected_where_it_is():
    # The outer corner of the far eye is hidden, yet it moves as a rigid point of the head.
    person, _ = posed(0, yaw=70.0)
    pose = person.conditions.pose
    flat = synthetic_faces.project_landmarks(person.head, pose)
    corner = person.head.at(person.head.frontal[45:46]) @ pose.rotation()
    np.testing.assert_allclose(flat[45], pose.rolled(pose.project(corner))[0], atol=1e-6)


def test_eyes_and_lips_have_their_own_colours():
    # Drawn in full: the mouth is redder, and the eye more varied, than the cheek beside it.
    redder = varied = total = 0
    for index in range(30):
        person, rng = posed(index, yaw=0.0)
        if person.look.glasses or person.look.beard:
            continue
        image, points = synthetic_faces._photograph(person, 128, rng)
        cheek, lip = (points[31] + points[2]) / 2, points[[57, 66]].mean(axis=0)

        def patch(centre, image=image):
            x, y = np.round(centre).astype(int)
            return image[:, y - 2 : y + 3, x - 2 : x + 3]

        cheek, lip, eye = patch(cheek), patch(lip), patch(points[36:42].mean(axis=0))
        redness = [part[0].mean() / part[1:].mean() for part in (lip, cheek)]
        redder += redness[0] > redness[1]
        varied += eye.std(axis=(1, 2)).mean() > 2 * cheek.std(axis=(1, 2)).mean()
        total += 1
    assert redder >= 0.9 * total
    assert varied >= 0.8 * total


def test_iteration_ends_and_a_missing_index_is_refused():
    faces = SyntheticFaces(2, image_size=32)
    assert len(list(faces)) == 2
    for index in (2, -3):
        with pytest.raises(IndexError, match="`index` must be"):
            faces[index]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"split": "test"}, ValueError, "train, val, hard, but got 'test'"),
        ({"count": 0}, ValueError, "`count` must be at least 1, but got 0"),
        ({"count": 2.5}, TypeError, "`count` must be a whole number, but got 2.5"),
        ({"image_size": 31}, ValueError, "`image_size` must be at least 32, but got 31"),
        ({"image_size": "128"}, TypeError, "`image_size` must be a whole number"),
        ({"seed": -1}, ValueError, "`seed` must be at least 0, but got -1"),
    ],
)
def test_bad_arguments_are_refused_by_the_constructor(arguments, error, message):
    with pytest.raises(error, match=message):
        SyntheticFaces(**arguments)
