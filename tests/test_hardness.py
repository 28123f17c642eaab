"""Real hard subsets: what the rules rank, and what they refuse."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from advaug.errors import ShapeError
from advaug.evaluation.hardness import (
    blockiness,
    hardest,
    large_pose,
    low_quality,
    sharpness,
    turn_of_head,
)


def face(tip, *, angle=0.0, scale=1.0):
    """68 landmarks with eye corners at 0 and 10 on the x axis and the nose's tip at `tip`."""
    landmarks = torch.rand(1, 68, 2, generator=torch.Generator().manual_seed(0))
    landmarks[0, 36] = torch.tensor([0.0, 0.0])
    landmarks[0, 45] = torch.tensor([10.0, 0.0])
    landmarks[0, 30] = torch.tensor([tip, 6.0])
    c, s = math.cos(angle), math.sin(angle)
    return scale * landmarks @ torch.tensor([[c, s], [-s, c]])


@pytest.mark.parametrize(("tip", "turn"), [(5.0, 0.0), (10.0, 1.0), (0.0, 1.0), (12.5, 1.5)])
@pytest.mark.parametrize(("angle", "scale"), [(0.0, 1.0), (0.7, 3.0)])
def test_the_turn_of_a_head_knows_neither_tilt_nor_size(tip, turn, angle, scale):
    found = turn_of_head(face(tip, angle=angle, scale=scale))
    assert found.item() == pytest.approx(turn, abs=1e-5)


def test_large_pose_holds_the_heads_turned_farthest():
    faces = torch.cat([face(tip) for tip in (5, 6, 9, 4.5, 5.2, 0.5, 5, 5, 5, 5)])
    assert large_pose(faces).nonzero().flatten().tolist() == [2, 5]


def test_other_schemes_have_no_turn():
    with pytest.raises(ShapeError, match=r"must be \(B, 68, 2\)"):
        turn_of_head(torch.rand(2, 29, 2))


def noise(side=64):
    return torch.rand(3, side, side, generator=torch.Generator().manual_seed(1))


def test_blurred_pictures_are_less_sharp():
    sharp = noise()[None]
    blurred = torch.nn.functional.avg_pool2d(sharp, 3, stride=1, padding=1)
    assert sharpness(blurred).item() < 0.5 * sharpness(sharp).item()


def smooth(side=64):
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    return torch.stack([x, y, (x + y) / 2])


def as_jpeg(image, quality):
    pixels = Image.fromarray((255 * image.permute(1, 2, 0).numpy()).round().astype(np.uint8))
    file = io.BytesIO()
    pixels.save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255


def test_strong_compression_shows_blocks():
    picture = (smooth() + 0.1 * noise()).clamp(0, 1)
    assert blockiness(as_jpeg(picture, 5)) > 1.5
    assert blockiness(as_jpeg(picture, 95)) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("image", [torch.zeros(3, 64, 64), torch.rand(3, 4, 4)])
def test_a_picture_without_blocks_has_none(image):
    assert blockiness(image) == 1


def test_low_quality_adds_up_size_blur_and_compression():
    sides = torch.tensor([50.0, 200, 200, 200, 50])
    sharp = torch.tensor([0.01, 0.2, 0.01, 0.2, 0.2])
    blocks = torch.tensor([2.0, 1, 1, 2, 2])
    assert low_quality(sides, sharp, blocks).tolist() == [True, False, False, False, False]


def test_a_picture_of_unknown_size_counts_as_middling():
    sides = torch.tensor([10.0, torch.nan, 30, 40, 50])
    same = torch.ones(5)
    assert low_quality(sides, same, same).tolist() == [True, False, False, False, False]
    nobody_knows = low_quality(torch.full((5,), torch.nan), same, torch.tensor([1.0, 1, 3, 1, 1]))
    assert nobody_knows.tolist() == [False, False, True, False, False]


def test_no_member_of_the_committee_outweighs_the_others():
    errors = torch.full((2, 10), 0.1)
    errors[0, 3], errors[1, 3] = 0.2, 0.2
    errors[0, 5] = 100.0
    assert hardest(errors).nonzero().flatten().tolist() == [3]


def test_a_picture_that_cannot_be_measured_is_not_hard():
    errors = torch.tensor([[torch.nan, *range(9)]], dtype=torch.float32)
    assert hardest(errors).nonzero().flatten().tolist() == [9]


def test_a_set_too_small_for_a_subset_is_told_so():
    with pytest.raises(ValueError, match="must have at least 10 pictures"):
        hardest(torch.rand(2, 9))


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_a_share_must_be_a_part(share):
    with pytest.raises(ValueError, match="`share` must be between 0 and 1"):
        large_pose(torch.rand(20, 68, 2), share=share)


def test_qualities_must_be_of_one_length():
    with pytest.raises(ShapeError, match="one value a picture"):
        low_quality(torch.ones(3), torch.ones(4), torch.ones(3))
