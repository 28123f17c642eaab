"""Synthetic people: the same everywhere, keypoints where the body is, bodies that are possible."""

import functools
import random
import tracemalloc

import numpy as np
import pytest
import torch
from counted import calls
from PIL import Image

from advaug.datasets import SyntheticPeople
from advaug.datasets.synthetic.people import dataset as room
from advaug.datasets.synthetic.people.pose import sample_body
from advaug.schemes import COCO_17, COCO_NAMES

INDEX = {name: number for number, name in enumerate(COCO_NAMES)}


def bodies(count):
    return [sample_body(np.random.default_rng(seed)) for seed in range(count)]


def test_a_sample_keeps_the_contract():
    image, landmarks, visible = SyntheticPeople(3, image_size=48)[-1]
    assert (image.shape, image.dtype) == ((3, 48, 48), torch.float32)
    assert 0 <= image.min() <= image.max() <= 1
    assert (landmarks.shape, landmarks.dtype) == ((17, 2), torch.float32)
    assert visible.dtype == torch.bool
    assert visible.all()
    assert SyntheticPeople(3).scheme is COCO_17


def test_a_picture_depends_on_seed_split_and_index_alone():
    before = (torch.get_rng_state(), random.getstate(), repr(np.random.get_state()))  # noqa: NPY002
    first = SyntheticPeople(10, image_size=32, seed=4)[3]
    again = SyntheticPeople(5, image_size=32, seed=4)[3]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (
        SyntheticPeople(10, image_size=32, seed=5)[3],
        SyntheticPeople(10, image_size=32, seed=4, split="val")[3],
        SyntheticPeople(10, image_size=32, seed=4)[4],
    ):
        assert not torch.equal(first.landmarks, other.landmarks)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), repr(np.random.get_state()))  # noqa: NPY002


def test_keypoints_are_the_same_at_every_size():
    small, large = (SyntheticPeople(2, image_size=size)[1].landmarks for size in (48, 96))
    torch.testing.assert_close((small + 0.5) * 2 - 0.5, large, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["left_wrist", "right_knee", "left_ankle"])
def test_keypoints_are_where_the_body_is_drawn(monkeypatch, name):
    """With everything black but a white dot at one joint, the dot is at the keypoint."""
    monkeypatch.setattr(room, "_BYSTANDERS", 0.0)

    def only_a_dot(draw, joints, look, clothes, light, corner, scale):
        x, y = (joints[name][:2] - corner) * scale
        draw.rectangle([0, 0, 999, 999], fill=(0, 0, 0))
        draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=(255, 255, 255))

    monkeypatch.setattr(room, "draw_person", only_a_dot)
    plain = SyntheticPeople(4, image_size=96)
    errors = []
    for index in range(4):
        image, landmarks, _ = plain[index]
        weights = (image.mean(dim=0) - 0.5).clamp(min=0)
        rows, columns = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
        centre = torch.stack([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum()
        errors.append((centre - landmarks[INDEX[name]]).norm().item())
    assert np.median(errors) < 0.5


def test_the_body_covers_its_joints(monkeypatch):
    """Before black, elbows and knees lie on the person, not beside."""
    monkeypatch.setattr(room, "_BYSTANDERS", 0.0)
    monkeypatch.setattr(
        room, "paint_background", lambda raster, rng: Image.new("RGB", (raster, raster))
    )
    for index in range(12):
        image, landmarks, _ = SyntheticPeople(12, image_size=96)[index]
        seen = image.amax(dim=0)
        for name in ("left_elbow", "right_knee", "left_hip", "right_shoulder"):
            x, y = landmarks[INDEX[name]].round().long().tolist()
            assert seen[y - 1 : y + 2, x - 1 : x + 2].max() > 0.02, (index, name)


def test_a_person_faces_the_viewer_with_the_left_side_to_the_right():
    fronts = [body for body in bodies(200) if body["nose"][2] - body["head"][2] > 0.1]
    assert len(fronts) > 40
    right = [body["left_shoulder"][0] > body["right_shoulder"][0] for body in fronts]
    assert np.mean(right) > 0.9  # heads turn on their own, so not all


def test_bones_keep_their_lengths_in_every_posture():
    for body in bodies(60):
        for side in ("left", "right"):
            joints = [body[f"{side}_{name}"] for name in ("hip", "knee", "ankle")]
            thigh, shin = np.linalg.norm(np.diff(joints, axis=0), axis=1)
            assert 0.36 < thigh < 0.54
            assert 0.34 < shin < 0.52
            forearm = np.linalg.norm(body[f"{side}_wrist"] - body[f"{side}_elbow"])
            assert 0.18 < forearm < 0.36


def test_people_are_seen_from_all_sides():
    facing = np.array([body["nose"][2] - body["head"][2] for body in bodies(300)])
    assert (facing > 0.05).mean() > 0.4
    assert (facing < -0.05).mean() > 0.1


def test_a_picture_is_drawn_with_little_work():
    """A core draws hundreds a second, since no loop goes over pixels and few arrays are made."""
    counts = {}
    for side in (64, 256):
        people = SyntheticPeople(20, image_size=side)
        people[0]
        counts[side] = [calls(functools.partial(people.__getitem__, index)) for index in range(20)]
    assert max(counts[64]) < 30_000
    assert max(counts[256]) < 1.5 * max(counts[64])
    tracemalloc.start()
    for index in range(20):
        people[index]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60 * 256**2  # bytes; the picture itself is 12 a pixel


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"count": 0}, ValueError, "`count` must be at least 1"),
        ({"image_size": 16}, ValueError, "`image_size` must be at least 32"),
        ({"split": "hard"}, ValueError, "`split` must be one of train, val"),
        ({"seed": 0.5}, TypeError, "`seed` must be a whole number"),
    ],
)
def test_arguments_are_checked(arguments, error, message):
    with pytest.raises(error, match=message):
        SyntheticPeople(**arguments)


def test_there_is_no_picture_beyond_the_last():
    with pytest.raises(IndexError, match="must be below 2, but got 2"):
        SyntheticPeople(2)[2]
