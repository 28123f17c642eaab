"""Masks on faces: what they cover, what they leave alone, and that only the inputs decide."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from advaug.augment.masks import STYLES, add_masks, draw_style, render_mask
from advaug.augment.masks.render import mask_coverage
from advaug.errors import ShapeError
from advaug.schemes import FACE_68

REAL_FACES = Path(__file__).parents[2] / "shared/data/ytf68"

# The right half of a frontal face in inter-ocular units, origin between the eyes; y down.
RIGHT_HALF = {
    16: (0.84, 0.02),
    15: (0.82, 0.24),
    14: (0.78, 0.43),
    13: (0.74, 0.63),
    12: (0.68, 0.83),
    11: (0.56, 1.01),
    10: (0.44, 1.13),
    9: (0.26, 1.23),
    8: (0, 1.3),
    22: (0.21, -0.22),
    23: (0.31, -0.25),
    24: (0.43, -0.26),
    25: (0.56, -0.24),
    26: (0.66, -0.18),
    27: (0, 0.01),
    28: (0, 0.16),
    29: (0, 0.29),
    30: (0, 0.41),
    33: (0, 0.53),
    34: (0.08, 0.51),
    35: (0.14, 0.49),
    42: (0.22, 0.01),
    43: (0.32, -0.03),
    44: (0.42, -0.03),
    45: (0.5, 0),
    46: (0.42, 0.04),
    47: (0.31, 0.04),
    51: (0, 0.68),
    52: (0.07, 0.66),
    53: (0.19, 0.7),
    54: (0.29, 0.77),
    55: (0.19, 0.85),
    56: (0.1, 0.9),
    57: (0, 0.91),
    62: (0, 0.73),
    63: (0.09, 0.74),
    64: (0.27, 0.76),
    65: (0.08, 0.8),
    66: (0, 0.81),
}


def face(io=85.0, centre=(128.0, 100.0), roll=0.0, yaw=0.0):
    """68 landmarks of a mean face, turned about the vertical axis of a simple head, then rolled."""
    points = np.zeros((68, 2))
    for index, (x, y) in RIGHT_HALF.items():
        points[index] = x, y
        points[FACE_68.flip_permutation[index]] = -x, y
    depth = 0.9 * np.sqrt(np.clip(1 - (points[:, 0] / 0.85) ** 2, 0, 1))
    depth[27:36] += [0.1, 0.15, 0.22, 0.3, 0.1, 0.15, 0.18, 0.15, 0.1]
    points[:, 0] = points[:, 0] * np.cos(yaw) + depth * np.sin(yaw)
    turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    return points @ turn * io + centre


def picture(side=256, light=0.0):
    """A grey ramp with a drawn head: something to read light from."""
    ramp = np.linspace(110 - 80 * light, 110 + 80 * light, side)
    array = np.broadcast_to(ramp[None, :, None], (side, side, 3))
    image = Image.fromarray(array.astype(np.uint8))
    pen = ImageDraw.Draw(image)
    pen.ellipse((side * 0.2, side * 0.1, side * 0.8, side * 0.9), outline=(90, 60, 50), width=2)
    return np.asarray(image)


def covered(coverage, landmarks):
    x, y = np.rint(landmarks).astype(int).T
    return coverage[y, x] > 0.5


def luminance(image):
    return image.astype(float).mean(axis=-1)


# Coverage


@pytest.mark.parametrize("style", STYLES)
def test_nose_tip_and_mouth_are_covered_eyes_and_brows_never(style):
    rng = np.random.default_rng(0)
    seen, area = [], []
    for seed in range(60):
        # Faces differ from the mean one by a few percent.
        landmarks = face(yaw=rng.uniform(-0.15, 0.15)) + rng.normal(0, 1, (68, 2))
        coverage = mask_coverage((256, 256), landmarks, style=style, seed=seed)
        seen.append(covered(coverage, landmarks))
        area.append(coverage.sum() / 85**2)
    share = np.mean(seen, axis=0)

    assert (share[[*range(30, 36), *range(48, 68)]] >= 0.95).all()
    assert (share[[*range(17, 28), *range(36, 48), 0, 16]] == 0).all()
    assert share[29] >= 0.7
    assert np.mean(share[3:7]) == pytest.approx(0.5, abs=0.25)
    assert np.mean(share[7:14]) == pytest.approx(0.5, abs=0.25)
    assert share[[2, 14]].max() < 0.4
    assert np.median(area) == pytest.approx(1.04, abs=0.2)
    assert np.quantile(area, 0.1) > 0.75
    assert np.quantile(area, 0.9) < 1.47


@pytest.mark.parametrize("style", STYLES)
def test_upper_and_lower_edge_lie_where_masks_end(style):
    tops, bottoms = [], []
    landmarks = face()
    column, io = round(landmarks[27, 0]), 85
    for seed in range(60):
        on_axis = mask_coverage((256, 256), landmarks, style=style, seed=seed)[:, column] > 0.5
        first, last = np.flatnonzero(on_axis)[[0, -1]]
        tops.append((first - landmarks[27, 1]) / (landmarks[30, 1] - landmarks[27, 1]))
        bottoms.append((last - landmarks[8, 1]) / io)
    low, middle, high = np.quantile(tops, [0.1, 0.5, 0.9])
    assert middle == pytest.approx(0.56, abs=0.07)
    assert low > 0.41
    assert high < 0.7
    assert np.abs(np.quantile(bottoms, [0.1, 0.9])).max() < 0.1


def test_a_mask_can_be_worn_anywhere_on_the_nose():
    images, landmarks = batch(2)
    masked = {
        top: add_masks(images, landmarks, styles="black", seeds=[0, 1], top=top)
        for top in (0.3, 0.6, 1.4)
    }
    x, y = landmarks[0].round().long().T
    covered_at = {
        top: (picture[0] - images[0]).abs().amax(0)[y, x] > 0.2 for top, picture in masked.items()
    }
    assert covered_at[0.3][28]
    assert not covered_at[0.6][28]
    assert covered_at[0.6][30]
    assert not covered_at[1.4][30]
    assert covered_at[1.4][57]
    assert not any(found[36:48].any() for found in covered_at.values())


def test_a_blue_surgical_mask_is_as_blue_as_those_of_masked_300w():
    """Their 10 and 90 % quantiles; the brighter the picture, the brighter the mask."""
    landmarks = face()
    inside = mask_coverage((256, 256), landmarks, style="surgical_blue", seed=0) == 1
    found = []
    for light in np.linspace(1, 2, 6):
        image = np.clip(picture() * light, 0, 255).astype(np.uint8)
        masked = render_mask(image, landmarks, style="surgical_blue", seed=0)
        found.append(np.median(masked[inside], axis=0))
    assert (np.array(found) >= [50, 101, 152]).all()
    assert (np.array(found) <= [144, 196, 247]).all()
    assert (np.diff(found, axis=0) > 0).all()


@pytest.mark.parametrize("roll", [0.7, np.pi / 2, np.pi, -2.0])
def test_a_rolled_face_wears_the_same_mask(roll):
    upright = mask_coverage((256, 256), face(io=60, centre=(128, 128)), style="n95", seed=3)
    landmarks = face(io=60, centre=(128, 128), roll=roll)
    rolled = mask_coverage((256, 256), landmarks, style="n95", seed=3)
    assert rolled.sum() == pytest.approx(upright.sum(), rel=0.01)
    assert covered(rolled, landmarks)[48:].all()
    assert not covered(rolled, landmarks)[36:48].any()


def test_under_yaw_the_far_half_is_narrower():
    landmarks = face(yaw=0.6)
    coverage = mask_coverage((256, 256), landmarks, style="surgical_blue", seed=0)
    row = coverage[round(landmarks[30, 1])]
    nose = round(landmarks[30, 0])
    assert row[nose:].sum() < 0.6 * row[:nose].sum()
    assert covered(coverage, landmarks)[30:36].all()


@pytest.mark.skipif(not REAL_FACES.exists(), reason="no real faces here")
@pytest.mark.parametrize("style", STYLES)
def test_coverage_on_real_faces_that_look_at_the_camera(style):
    from advaug.datasets import read_pts

    seen, area = [], []
    for seed, path in enumerate(sorted(REAL_FACES.glob("val/*.pts"))):
        landmarks = read_pts(path)
        io = np.hypot(*(landmarks[36] - landmarks[45]))
        left, right = landmarks[30, 0] - landmarks[2, 0], landmarks[14, 0] - landmarks[30, 0]
        if io < 30 or min(left, right) < 0.75 * max(left, right):
            continue
        landmarks = (landmarks - landmarks.mean(axis=0)) * 85 / io + 128
        coverage = mask_coverage((256, 256), landmarks, style=style, seed=seed)
        seen.append(covered(coverage, landmarks))
        area.append(coverage.sum() / 85**2)
    share = np.mean(seen, axis=0)
    assert len(seen) > 50
    assert (share[[*range(30, 36), *range(48, 68)]] >= 0.95).all()
    assert (share[[*range(17, 28), *range(36, 48)]] <= 0.02).all()
    assert 0.75 < np.median(area) < 1.47


# Only the mask changes, and only the inputs decide


@pytest.mark.parametrize("style", STYLES)
def test_the_picture_changes_under_the_mask_and_stays_away_from_it(style):
    image, landmarks = picture(), face(io=60)
    before = image.copy(), landmarks.copy()
    masked = render_mask(image, landmarks, style=style, seed=5)
    assert masked.shape == image.shape
    assert masked.dtype == np.uint8
    assert (image == before[0]).all()
    assert (landmarks == before[1]).all()
    changed = (masked != image).any(axis=-1)
    coverage = mask_coverage((256, 256), landmarks, style=style, seed=5)
    assert changed[coverage == 1].mean() > 0.98
    away = np.ones_like(changed)
    low, high = np.floor(landmarks.min(axis=0)) - 16, np.ceil(landmarks.max(axis=0)) + 16
    away[int(low[1]) : int(high[1]), int(low[0]) : int(high[0])] = False
    assert not changed[away].any()
    eyes = np.rint(landmarks[36:48]).astype(int)
    assert (masked[eyes[:, 1], eyes[:, 0]] == image[eyes[:, 1], eyes[:, 0]]).all()


def test_the_seed_decides():
    image, landmarks = picture(), face()
    first = render_mask(image, landmarks, style="cloth", seed=1)
    assert (first == render_mask(image, landmarks, style="cloth", seed=1)).all()
    assert (first != render_mask(image, landmarks, style="cloth", seed=2)).any()


def test_a_style_drawn_from_the_seed_is_that_style():
    image, landmarks = picture(), face()
    assert {draw_style(seed) for seed in range(60)} == set(STYLES)
    for seed in range(4):
        drawn = render_mask(image, landmarks, style=None, seed=seed)
        named = render_mask(image, landmarks, style=draw_style(seed), seed=seed)
        assert (drawn == named).all()


def test_a_pillow_picture_comes_back_as_one():
    image, landmarks = picture(), face()
    masked = render_mask(Image.fromarray(image), landmarks, seed=1)
    assert isinstance(masked, Image.Image)
    assert (np.asarray(masked) == render_mask(image, landmarks, seed=1)).all()


@pytest.mark.parametrize("centre", [(0.0, 100.0), (250.0, 240.0), (128.0, -60.0), (900.0, 900.0)])
def test_a_face_may_leave_the_picture(centre):
    image = picture()
    masked = render_mask(image, face(centre=centre), seed=1)
    coverage = mask_coverage((256, 256), face(centre=centre), style="surgical_blue", seed=1)
    assert ((masked != image).any()) == bool(coverage.any())


@pytest.mark.parametrize("style", STYLES)
def test_strange_landmarks_give_a_picture(style):
    rng = np.random.default_rng(1)
    line = np.repeat(np.linspace(20, 200, 68)[:, None], 2, axis=1)
    mirrored = face() * [-1, 1] + [256, 0]
    strange = [line, mirrored, face(yaw=1.5), face(io=3), *rng.uniform(0, 256, (20, 68, 2))]
    for landmarks in strange:
        assert render_mask(picture(), landmarks, style=style, seed=0).shape == (256, 256, 3)


# It looks like a mask in this picture


@pytest.mark.parametrize("side", [-1, 1])
def test_light_from_one_side_falls_on_the_mask(side):
    image, landmarks = picture(light=side * 0.8), face()
    masked = luminance(render_mask(image, landmarks, style="surgical_white", seed=0))
    y = round(landmarks[57, 1])
    left = masked[y - 6 : y + 6, 85:105].mean()
    right = masked[y - 6 : y + 6, 151:171].mean()
    assert side * (right - left) > 15


def test_a_mask_is_darker_in_a_darker_picture():
    landmarks = face()
    inside = mask_coverage((256, 256), landmarks, style="surgical_blue", seed=0) == 1
    bright, dark = (
        luminance(render_mask((picture() * gain).astype(np.uint8), landmarks, seed=0))[inside]
        for gain in (1.0, 0.4)
    )
    assert dark.mean() < 0.8 * bright.mean()


def test_edges_are_soft_and_shadowed():
    image = np.full((256, 256, 3), 160, np.uint8)
    landmarks = face()
    masked = luminance(render_mask(image, landmarks, style="black", seed=0))
    column = masked[:, round(landmarks[27, 0])]
    edge = column[round(landmarks[27, 1]) : round(landmarks[33, 1])]
    assert (np.diff(edge) < 3).all()
    between = (edge < 130) & (edge > 70)
    assert 1 <= between.sum() <= 4
    assert ((edge < 158) & (edge > 130)).sum() >= 2


def test_pleats_run_across_a_surgical_mask():
    image = np.full((256, 256, 3), 160, np.uint8)
    landmarks = face()
    masked = luminance(render_mask(image, landmarks, style="surgical_blue", seed=0))
    column = masked[round(landmarks[33, 1]) : round(landmarks[8, 1]), 80:86].mean(axis=1)
    slope = np.diff(column)
    assert (slope < -4).sum() >= 2


# Batches


def batch(count=4, dtype=torch.float32):
    images = [picture(96, light) for light in np.linspace(-0.8, 0.8, count)]
    images = torch.stack([torch.tensor(i).permute(2, 0, 1) for i in images]).to(dtype) / 255
    landmarks = [face(io=32, centre=(48, 36), yaw=yaw) for yaw in np.linspace(-0.6, 0.6, count)]
    return images, torch.tensor(np.stack(landmarks), dtype=torch.float32)


def test_a_batch_is_its_pictures():
    images, landmarks = batch()
    seeds = torch.tensor([3, 1, 4, 1])
    masked = add_masks(images, landmarks, seeds=seeds)
    order = [2, 0, 3, 1]
    again = add_masks(images[order], landmarks[order], seeds=seeds[order])
    assert torch.equal(again, masked[order])
    for index, seed in enumerate(seeds.tolist()):
        array = (images[index].permute(1, 2, 0) * 255).round().byte().numpy()
        alone = render_mask(array, landmarks[index].numpy(), style=None, seed=seed)
        expected = torch.tensor(alone).permute(2, 0, 1) / 255
        assert (masked[index] - expected).abs().max() < 1.1 / 255


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_batch_keeps_dtype_range_and_what_no_mask_covers(dtype):
    images, landmarks = batch(dtype=dtype)
    before = images.clone()
    masked = add_masks(images, landmarks, styles="black", seeds=range(4))
    assert masked.dtype == dtype
    assert masked.min() >= 0
    assert masked.max() <= 1
    assert torch.equal(images, before)
    assert torch.equal(masked[:, :, :20], images[:, :, :20])
    assert not torch.equal(masked, images)


def test_styles_may_be_given_one_a_picture():
    images, landmarks = batch(2)
    both = add_masks(images, landmarks, styles=["black", "n95"], seeds=[0, 1])
    assert torch.equal(both[:1], add_masks(images[:1], landmarks[:1], styles="black", seeds=[0]))
    assert torch.equal(both[1:], add_masks(images[1:], landmarks[1:], styles="n95", seeds=[1]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_batch_stays_on_its_device():
    images, landmarks = batch()
    masked = add_masks(images.cuda(), landmarks.cuda(), seeds=range(4))
    assert masked.is_cuda
    torch.testing.assert_close(masked.cpu(), add_masks(images, landmarks, seeds=range(4)))


# Errors


@pytest.mark.parametrize(
    ("landmarks", "kind", "match"),
    [
        (np.zeros((67, 2)), ShapeError, r"must be \(68, 2\), but got \(67, 2\)"),
        (np.full((68, 2), np.nan), ValueError, "must be finite, but got 136 values"),
        (np.full((68, 2), 9.0), ValueError, "must span at least 4 pixels in x and in y, but got 0"),
        (face() / 256, ValueError, "Check their unit"),
    ],
)
def test_landmarks_that_are_no_face_are_refused(landmarks, kind, match):
    with pytest.raises(kind, match=match):
        render_mask(picture(), landmarks)


def test_other_arguments_are_checked():
    with pytest.raises(ValueError, match=r"`style` must be one of surgical_blue, .* got 'scarf'"):
        render_mask(picture(), face(), style="scarf")
    with pytest.raises(ValueError, match="`seed` must be 0 or more, but got -1"):
        render_mask(picture(), face(), seed=-1)
    with pytest.raises(ShapeError, match=r"`image` must be \(H, W, 3\)"):
        render_mask(picture()[..., 0], face())
    with pytest.raises(TypeError, match="`image` must be uint8, but got float64"):
        render_mask(picture() / 255, face())
    images, landmarks = batch(2)
    with pytest.raises(ShapeError, match=r"`images` must be \(B, 3, H, W\)"):
        add_masks(images[0], landmarks, seeds=[0, 1])
    with pytest.raises(TypeError, match="`images` must be floating point"):
        add_masks((images * 255).byte(), landmarks, seeds=[0, 1])
    with pytest.raises(ShapeError, match=r"`landmarks` must be \(2, 68, 2\)"):
        add_masks(images, landmarks[:1], seeds=[0, 1])
    with pytest.raises(ShapeError, match="`seeds` must have 2 entries, but got 1"):
        add_masks(images, landmarks, seeds=[0])
    with pytest.raises(ShapeError, match="`styles` must have 2 entries, but got 3"):
        add_masks(images, landmarks, styles=["n95"] * 3, seeds=[0, 1])
