"""Landmark-C: values, that only the inputs decide, that nothing moves, and what it adds up to."""

import io
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_masks import face
from torch import nn

from advaug.augment import add_masks
from advaug.augment.corruptions import CORRUPTIONS, GROUPS, SEVERITIES, UNLIKE, Square, corrupt
from advaug.datasets import SyntheticFaces
from advaug.errors import ShapeError
from advaug.evaluation import Errors, evaluate_corruptions
from advaug.evaluation.corruptions import CorruptionErrors

ALL = {**CORRUPTIONS, **UNLIKE}
KINDS = tuple(ALL)
BLURS = ("defocus_blur", "motion_blur", "zoom_blur")
PAGE = Path(__file__).parents[1] / "docs" / "corruptions_definition.md"


@pytest.fixture(scope="module")
def faces():
    """Six pictures of 64 pixels and their landmarks."""
    samples = [SyntheticFaces(6, split="val", image_size=64)[index] for index in range(6)]
    return torch.stack([s.image for s in samples]), torch.stack([s.landmarks for s in samples])


def grey(side=128, batch=4, value=0.5):
    return torch.full((batch, 3, side, side), value)


def distance(images, corrupted):
    return (images - corrupted).square().mean().sqrt().item()


def numbers(images, kind, severity, seed=0):
    """A batch's corruption with the seeds that follow `seed`."""
    return corrupt(images, kind, severity, seeds=range(seed, seed + len(images)))


# Every kind


def test_there_are_enough_kinds_of_five_severities():
    assert len(CORRUPTIONS) == 20
    assert len(UNLIKE) >= 5
    assert len(ALL) == len(CORRUPTIONS) + len(UNLIKE)
    for corruption in ALL.values():
        steps = np.diff(corruption.strengths)
        assert len(steps) == 4
        assert (steps > 0).all() or (steps < 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_stay_pictures_and_the_input_stays_as_it_was(kind, faces):
    images, landmarks = (part.clone() for part in faces)
    corrupted = corrupt(images, kind, 5, seeds=range(6), landmarks=landmarks)
    assert corrupted.shape == images.shape
    assert corrupted.isfinite().all()
    assert corrupted.min() >= 0
    assert corrupted.max() <= 1
    assert torch.equal(images, faces[0])
    assert torch.equal(landmarks, faces[1])


@pytest.mark.parametrize("kind", KINDS)
def test_severities_lead_further_and_further_away(kind, faces):
    images, landmarks = faces
    away = [
        distance(images, corrupt(images, kind, severity, seeds=range(6), landmarks=landmarks))
        for severity in SEVERITIES
    ]
    assert away[0] > 0.005
    assert all(nearer < further for nearer, further in itertools.pairwise(away))


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_the_same_in_every_batch_and_order(kind, faces):
    images, landmarks = faces
    seeds = torch.tensor([3, 2**40 + 3, 2**61, 0, 7, 100])
    together = corrupt(images, kind, 4, seeds=seeds, landmarks=landmarks)
    order = torch.tensor([4, 0, 5])
    some = corrupt(images[order], kind, 4, seeds=seeds[order], landmarks=landmarks[order])
    alone = corrupt(images[2:3], kind, 4, seeds=seeds[2:3], landmarks=landmarks[2:3])
    assert torch.equal(some, together[order])
    assert torch.equal(alone, together[2:3])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_dtype_is_kept(kind, dtype, faces):
    images, landmarks = faces
    corrupted = corrupt(images[:2].to(dtype), kind, 3, seeds=[0, 1], landmarks=landmarks[:2])
    expected = corrupt(images[:2].to(dtype).float(), kind, 3, seeds=[0, 1], landmarks=landmarks[:2])
    assert corrupted.dtype == dtype
    off = (corrupted.float() - expected).abs()
    # Rounding decides at a few edges and block borders.
    assert off.mean() < 0.002


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_a_picture_hardly_matters(kind):
    """Corrupted and reduced, a large picture looks like a reduced and corrupted one."""
    samples = [SyntheticFaces(6, split="val", image_size=256)[index] for index in range(6)]
    large = torch.stack([sample.image for sample in samples])
    landmarks = torch.stack([sample.landmarks for sample in samples])
    small = nn.functional.avg_pool2d(large, 4)
    args = {"kind": kind, "severity": 3, "seeds": range(6)}
    there = corrupt(large, landmarks=landmarks, **args)
    here = corrupt(small, landmarks=(landmarks + 0.5) / 4 - 0.5, **args)
    reduced = nn.functional.avg_pool2d(there, 4)
    change = distance(small, here)
    assert distance(small, reduced) == pytest.approx(change, rel=0.35)
    if "noise" not in kind and kind not in ("low_light", "patch", "mask"):  # other random pixels
        assert distance(reduced, here) < 0.6 * change


def test_no_global_random_state_is_read_or_moved(faces):
    images, landmarks = faces
    before = torch.get_rng_state()
    first = [corrupt(images, k, 2, seeds=range(6), landmarks=landmarks) for k in KINDS]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    again = [corrupt(images, k, 2, seeds=range(6), landmarks=landmarks) for k in KINDS]
    assert all(map(torch.equal, first, again))


@pytest.mark.parametrize("kind", ["gaussian_noise", "motion_blur", "fog", "patch", "bar"])
def test_the_seed_decides(kind, faces):
    images = faces[0][:1].expand(2, -1, -1, -1)
    first, second = numbers(images, kind, 3)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("kind", KINDS)
def test_any_shape_of_picture_will_do(kind):
    images = torch.rand(2, 3, 40, 57, generator=torch.Generator().manual_seed(0))
    landmarks = torch.from_numpy(face(io=15, centre=(28, 14))).float().expand(2, -1, -1)
    assert corrupt(images, kind, 5, seeds=[0, 1], landmarks=landmarks).shape == images.shape
    none = corrupt(images[:0], kind, 5, seeds=torch.arange(0), landmarks=landmarks[:0])
    assert none.shape == (0, 3, 40, 57)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_gives_the_same_picture(kind, faces):
    images, landmarks = faces
    here = corrupt(images, kind, 3, seeds=range(6), landmarks=landmarks)
    there = corrupt(images.cuda(), kind, 3, seeds=range(6), landmarks=landmarks.cuda())
    assert there.is_cuda
    assert (there.cpu() - here).abs().gt(1e-3).float().mean() < 1e-3


# Nothing moves


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("kind", BLURS)
def test_blur_leaves_the_centre_of_a_blob_where_it_is(kind, severity):
    side = 128
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    centre = torch.tensor([80.3, 51.8])
    blob = (-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * 3.0**2)).exp()
    blurred = numbers(blob.expand(6, 3, -1, -1), kind, severity)[:, 0]
    weight = blurred.sum((1, 2))
    found = torch.stack([(blurred * x).sum((1, 2)) / weight, (blurred * y).sum((1, 2)) / weight], 1)
    assert (found - centre).abs().max() < 0.1


@pytest.mark.parametrize("kind", ["jpeg", "pixelation"])
def test_blocks_leave_the_centre_of_a_blob_within_a_block(kind):
    side = 128
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    blob = (-((x - 63.5) ** 2 + (y - 63.5) ** 2) / (2 * 12.0**2)).exp()
    found = numbers(blob.expand(1, 3, -1, -1), kind, 1)[0, 0]
    assert (found * x).sum() / found.sum() == pytest.approx(63.5, abs=0.6)
    assert (found * y).sum() / found.sum() == pytest.approx(63.5, abs=0.6)


# Values of single kinds


@pytest.mark.parametrize("side", [64, 128, 200, 256])
def test_noise_has_the_power_that_it_should(side):
    deviation = CORRUPTIONS["gaussian_noise"].strengths[1]
    found = numbers(grey(side), "gaussian_noise", 2) - 0.5
    pixels = max(1, round(side / 128))
    assert found.std().item() == pytest.approx(deviation * side / (128 * pixels), rel=0.02)
    assert found.mean().item() == pytest.approx(0, abs=0.002)
    if pixels > 1:
        assert torch.equal(found[..., 0::2, 0::2], found[..., 1::2, 1::2])


@pytest.mark.parametrize("value", [0.0, 0.02, 0.3, 0.7])
def test_photons_have_the_mean_and_variance_of_a_poisson_variable(value):
    photons = CORRUPTIONS["shot_noise"].strengths[0]
    found = numbers(grey(value=value), "shot_noise", 1)
    assert found.mean().item() == pytest.approx(value, abs=0.003)
    expected = math.sqrt((value + 0.125 / photons) / photons)
    assert found.std().item() == pytest.approx(expected, rel=0.06, abs=0.004)


def test_impulses_hit_the_share_that_they_should():
    found = numbers(grey(), "impulse_noise", 3)
    share = CORRUPTIONS["impulse_noise"].strengths[2]
    assert (found == 0).float().mean().item() == pytest.approx(share / 2, rel=0.05)
    assert (found == 1).float().mean().item() == pytest.approx(share / 2, rel=0.05)
    assert ((found == 0.5) | (found == 0) | (found == 1)).all()


def test_defocus_spreads_a_point_over_a_disk():
    point = torch.zeros(1, 3, 101, 101)
    point[..., 50, 50] = 1
    radius = 101 * CORRUPTIONS["defocus_blur"].strengths[4]
    disk = numbers(point, "defocus_blur", 5)[0, 0]
    assert disk.sum().item() == pytest.approx(1, abs=1e-4)
    assert disk[50, 50].item() == pytest.approx(1 / (math.pi * radius**2), rel=0.05)
    assert (disk[50] > 1e-6).sum() == 2 * math.floor(radius + 0.5) + 1


def test_motion_spreads_a_point_over_a_line():
    point = torch.zeros(5, 3, 101, 101)
    point[..., 50, 50] = 1
    length = 101 * CORRUPTIONS["motion_blur"].strengths[4]
    y, x = torch.meshgrid(*2 * [torch.arange(101.0) - 50], indexing="ij")
    for line in numbers(point, "motion_blur", 5)[:, 0]:
        moments = torch.stack([torch.stack([x * x, x * y]), torch.stack([x * y, y * y])])
        thin, long = torch.linalg.eigvalsh((line * moments).sum((2, 3)))
        assert long.item() == pytest.approx(length**2 / 12, rel=0.1)
        assert thin < 0.5


def test_zoom_reaches_as_far_as_it_should():
    point = torch.zeros(1, 3, 257, 257)
    point[..., 128, 228] = 1
    reach = CORRUPTIONS["zoom_blur"].strengths[2]
    ray = numbers(point, "zoom_blur", 3)[0, 0, 128].nonzero().flatten() - 128
    assert ray.min().item() == pytest.approx(100 * (1 - reach), abs=4)
    assert ray.max().item() == pytest.approx(100 * (1 + reach), abs=4)


def test_light_and_colour_follow_their_formulas():
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    luma = torch.tensor([0.299, 0.587, 0.114])
    mean = (images.mean((2, 3)) * luma).sum(1)[:, None, None, None]
    share = CORRUPTIONS["brightness"].strengths[0]
    gain = (mean + share * (1 - mean)) / mean
    torch.testing.assert_close(numbers(images, "brightness", 1), (gain * images).clamp(0, 1))
    factor = CORRUPTIONS["contrast"].strengths[4]
    torch.testing.assert_close(numbers(images, "contrast", 5), mean + factor * (images - mean))
    gains = numbers(images, "colour_cast", 2) / images
    strength = CORRUPTIONS["colour_cast"].strengths[1]
    unclipped = (numbers(images, "colour_cast", 2) < 1).all(1, keepdim=True).expand_as(gains)
    for gain, free in zip(gains, unclipped, strict=True):
        red, green, blue = (gain[c][free[c]].mean().item() for c in range(3))
        assert red + green + blue == pytest.approx(3, abs=1e-3)
        deviation = np.array([red, green, blue]) - 1
        assert np.sqrt((deviation**2).sum() * 2 / 3) == pytest.approx(strength, abs=1e-3)


def test_side_light_darkens_one_cheek_and_shadow_one_part():
    depth = CORRUPTIONS["side_light"].strengths[3]
    lit = numbers(grey(batch=40), "side_light", 4)[:, 0]
    left, right = lit[:, 60:68, :12].mean((1, 2)), lit[:, 60:68, -12:].mean((1, 2))
    dark, bright = torch.minimum(left, right), torch.maximum(left, right)
    assert dark.max() < 0.5 * (1 - 0.7 * depth)
    assert bright.min() > 0.5
    assert 10 < (left < right).sum() < 30
    depth = CORRUPTIONS["cast_shadow"].strengths[3]
    shadow = numbers(grey(batch=40), "cast_shadow", 4)[:, 0]
    inside = shadow < 0.5 * (1 - depth) + 1e-4
    outside = shadow > 0.5 - 1e-4
    assert 0.3 < inside.float().mean() < 0.6
    assert (inside | outside).float().mean() > 0.85


def test_fog_is_as_dense_as_it_should_be():
    density = CORRUPTIONS["fog"].strengths[2]
    foggy = numbers(grey(batch=40, value=0.0), "fog", 3)
    assert foggy.mean().item() == pytest.approx(0.88 * density, rel=0.05)
    assert foggy.std(dim=(2, 3)).mean() > 0.02


@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_is_nearly_that_of_a_library(severity, faces):
    images, _ = faces
    quality = int(CORRUPTIONS["jpeg"].strengths[severity - 1])
    ours = numbers(images, "jpeg", severity)
    theirs = torch.stack([through_pillow(image, quality) for image in images])
    assert distance(ours, theirs) < 0.45 * distance(images, theirs)


def through_pillow(image, quality):
    file = io.BytesIO()
    levels = (255 * image).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(levels).save(file, format="JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255


def test_pixelation_has_as_many_cells_as_it_should():
    images = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    cells = CORRUPTIONS["pixelation"].strengths[0]
    found = numbers(images, "pixelation", 1)[0, 0]
    assert len(found[0].unique()) == cells
    assert found[:4, :4].unique().item() == pytest.approx(images[0, 0, :4, :4].mean().item())


@pytest.mark.parametrize("kind", ["patch", "hand"])
def test_an_occluder_hides_the_share_that_it_should(kind):
    images = grey(value=0.5003)
    hidden = (numbers(images, kind, 4) != images).any(1).float().mean((1, 2))
    assert (hidden - CORRUPTIONS[kind].strengths[3]).abs().max() < 0.01


def test_a_bar_is_as_wide_as_it_should_be():
    images = grey(batch=20, value=0.5003)
    width = CORRUPTIONS["bar"].strengths[3]
    hidden = (numbers(images, "bar", 4) != images).any(1).float().mean((1, 2))
    # From a short one at a corner to one along the diagonal.
    assert hidden.min() > 0.8 * width
    assert hidden.max() < 1.5 * width


@pytest.mark.parametrize("yaw", [0.0, 0.6])
def test_sunglasses_cover_the_eyes_and_not_the_mouth(yaw):
    landmarks = torch.from_numpy(face(io=85, yaw=yaw)).float()[None]
    images = grey(256, batch=1, value=0.8)
    dark = (corrupt(images, "sunglasses", 3, seeds=[0], landmarks=landmarks) < 0.3).all(1)[0]
    x, y = landmarks[0].round().long().T
    assert dark[y[36:48], x[36:48]].all()
    assert not dark[y[48:68], x[48:68]].any()
    assert dark[y[27] - 14 : y[27], x[27]].any()
    assert dark.float().mean() < 0.2


def test_a_mask_is_worn_higher_and_higher():
    landmarks = torch.from_numpy(face(io=85)).float()[None]
    images = grey(256, batch=1)
    tops = []
    for severity in SEVERITIES:
        masked = corrupt(images, "mask", severity, seeds=[3], landmarks=landmarks)
        on_nose = (masked - images).abs().amax(1)[0, :, 128] > 0.1
        tops.append(on_nose.nonzero()[0].item())
    nose = landmarks[0, 27, 1] + (landmarks[0, 30, 1] - landmarks[0, 27, 1]) * torch.tensor(
        CORRUPTIONS["mask"].strengths
    )
    assert (torch.tensor(tops) - nose).abs().max() < 6
    assert not torch.equal(masked, add_masks(images, landmarks, seeds=[3]))


# Kinds unlike what the library trains on


def test_snow_and_frost_lighten_a_dark_picture_and_leave_parts_of_it():
    dark = grey(batch=20, value=0.1)
    for kind in ("snow", "frost"):
        found = numbers(dark, kind, 3)
        assert (found >= dark - 0.05).all()
        assert found.mean() > 0.2
        least = found.mean(dim=1).flatten(1).quantile(0.05, dim=1)
        assert (least < found.mean(dim=(1, 2, 3)) - 0.04).all()
    flakes = (numbers(dark, "snow", 5) > 0.9).all(dim=1).float().mean()
    assert 0.05 < flakes < 0.4


def test_frost_is_thicker_towards_the_border():
    ice = numbers(grey(batch=40, value=0.0), "frost", 5).mean(dim=1)
    assert ice[:, :16].mean() > 1.4 * ice[:, 48:80, 48:80].mean()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_spatter_covers_the_share_that_it_should_with_mud_or_water(severity):
    images = grey(batch=30)
    found = numbers(images, "spatter", severity)
    share = UNLIKE["spatter"].strengths[severity - 1]
    # Half of a drop's edge lies within the cover.
    covered = (found - images).abs().amax(dim=1)
    half = covered.amax(dim=(1, 2), keepdim=True) / 2
    assert ((covered > half).float().mean(dim=(1, 2)) - share).abs().max() < 0.005
    muddy = found.amin(dim=(1, 2, 3)) < 0.2
    assert 5 < muddy.sum() < 25


@pytest.mark.parametrize("severity", SEVERITIES)
def test_rough_glass_scatters_a_blob_about_its_centre(severity):
    side = 128
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    blob = (-((x - 80.3) ** 2 + (y - 51.8) ** 2) / (2 * 5.0**2)).exp()
    found = numbers(blob.expand(40, 3, -1, -1), "glass_blur", severity)[:, 0]
    weight = found.sum((1, 2))
    centre = torch.stack([(found * line).sum((1, 2)) / weight for line in (x, y)], dim=1)
    off = centre - torch.tensor([80.3, 51.8])
    assert off.mean(dim=0).abs().max() < 0.15
    assert off.norm(dim=1).max() < 1.2  # pixels, of 128
    assert (
        distance(blob.expand(40, 3, -1, -1), numbers(blob.expand(40, 3, -1, -1), "glass_blur", 1))
        > 0.01
    )


def test_saturation_and_waves_follow_their_formulas():
    images = 0.4 + 0.2 * torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    luma = (images * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(dim=1, keepdim=True)
    factor = UNLIKE["saturation"].strengths[1]
    expected = (luma + factor * (images - luma)).clamp(0, 1)
    torch.testing.assert_close(numbers(images, "saturation", 2), expected)
    plain = grey(batch=20)
    torch.testing.assert_close(numbers(plain, "saturation", 5), plain)
    amplitude = UNLIKE["waves"].strengths[3]
    wave = numbers(plain, "waves", 4) - plain
    assert wave.abs().amax(dim=(1, 2, 3)) == pytest.approx(amplitude, rel=0.02)
    assert wave.square().mean().sqrt().item() == pytest.approx(amplitude / math.sqrt(2), rel=0.03)
    spectrum = torch.fft.rfft2(wave[:, 0]).abs().flatten(1)
    assert (spectrum.topk(8, dim=1).values.square().sum(1) > 0.6 * spectrum.square().sum(1)).all()


# The square


@pytest.mark.parametrize("kind", KINDS)
def test_around_a_face_in_a_larger_picture_the_same_happens_as_in_its_crop(kind, faces):
    images, landmarks = faces
    border = (16, 16, 16, 16)
    larger = nn.functional.pad(images, border, mode="replicate")
    square = Square(16, 16, 64)
    there = corrupt(larger, kind, 3, seeds=range(6), landmarks=landmarks + 16, square=square)
    here = corrupt(images, kind, 3, seeds=range(6), landmarks=landmarks)
    inner = there[..., 16:-16, 16:-16]
    if "noise" in kind or kind in ("low_light", "pixelation"):  # their cells begin at the corner
        assert distance(inner, images) == pytest.approx(distance(here, images), rel=0.1)
    else:
        assert distance(inner, here) < 0.25 * distance(here, images)


@pytest.mark.parametrize("kind", KINDS)
def test_the_smallest_square_at_the_last_pixel_will_do(kind, faces):
    images, landmarks = faces
    for square in (Square(62.5, 62.5, 1), Square(-0.25, 9.5, 1)):
        found = corrupt(images, kind, 3, seeds=range(6), landmarks=landmarks, square=square)
        assert found.isfinite().all()


# Errors


def test_unknown_names_are_answered_with_the_known_ones(faces):
    images, landmarks = faces
    with pytest.raises(ValueError, match="`kind` must be one of gaussian_noise, .*got 'rain'"):
        corrupt(images, "rain", 1, seeds=range(6))
    for severity in (0, 6, 1.5):
        with pytest.raises(ValueError, match="`severity` must be from 1 to 5"):
            corrupt(images, "fog", severity, seeds=range(6))
    with pytest.raises(ShapeError, match=r"\(6, 68, 2\) for 'mask', but got None.* fog"):
        corrupt(images, "mask", 1, seeds=range(6))
    with pytest.raises(ShapeError, match=r"for 'sunglasses', but got \(6, 29, 2\)"):
        corrupt(images, "sunglasses", 1, seeds=range(6), landmarks=landmarks[:, :29])
    with pytest.raises(ValueError, match="`landmarks` must be finite for 'sunglasses'"):
        corrupt(images, "sunglasses", 1, seeds=range(6), landmarks=landmarks * math.nan)


def test_other_arguments_are_checked(faces):
    images, _ = faces
    with pytest.raises(ShapeError, match="`seeds` must be 6 integers"):
        corrupt(images, "fog", 1, seeds=[0])
    with pytest.raises(ShapeError, match=r"`images` must have shape \(B, 3, H, W\)"):
        corrupt(images[0], "fog", 1, seeds=[0])
    with pytest.raises(TypeError, match="`images` must be floating point"):
        corrupt(images.byte(), "fog", 1, seeds=range(6))
    for square in (Square(0, 0, 0.5), Square(64, 0, 9), Square(0, -9, 9), Square(0, 0, math.nan)):
        with pytest.raises(ValueError, match="`square` must be a pixel or more and overlap"):
            corrupt(images, "fog", 1, seeds=range(6), square=square)


# What it adds up to


class Brightest(nn.Module):
    """Finds every landmark at the mean brightness of its picture, in pixels."""

    def forward(self, images):
        return images.mean((1, 2, 3))[:, None, None].expand(-1, 68, 2)


def measured(landmarks, images, **options):
    visible = torch.ones(landmarks.shape[:2], dtype=torch.bool)
    return evaluate_corruptions(
        Brightest(),
        lambda output, size: output,
        images,
        landmarks,
        visible,
        normalizer="box",
        batch_size=4,
        **options,
    )


def test_one_call_measures_clean_masked_occluded_and_the_benchmark(faces):
    images, landmarks = faces
    found = measured(landmarks, images, severities=(2, 5))
    assert set(found.conditions) == {"clean", "masked", "occluded"}
    assert list(found.corruptions) == list(CORRUPTIONS)
    assert all(list(errors) == [2, 5] for errors in found.corruptions.values())
    corrupted = corrupt(images, "fog", 5, seeds=range(6))
    preds = Brightest()(corrupted)
    size = (landmarks.amax(1) - landmarks.amin(1)).prod(1).sqrt()
    expected = (preds - landmarks).norm(dim=2).mean(1) / size
    torch.testing.assert_close(found.corruptions["fog"][5].values, expected)


def test_the_second_group_is_measured_apart(faces):
    images, landmarks = faces
    found = measured(landmarks, images, group="unlike", severities=(1,))
    assert list(found.corruptions) == list(UNLIKE)
    one = measured(landmarks, images, group="unlike", kinds=("snow",), severities=(1,))
    expected = found.corruptions["snow"][1].values
    assert torch.equal(one.corruptions["snow"][1].values, expected)
    assert set(GROUPS) == {"akin", "unlike"}


def test_other_landmarks_than_a_face_are_measured_without_glasses_and_masks(faces):
    images, landmarks = faces

    class Five(Brightest):
        def forward(self, images):
            return super().forward(images)[:, :5]

    found = evaluate_corruptions(
        Five(),
        lambda output, size: output,
        images,
        landmarks[:, :5],
        torch.ones(6, 5, dtype=torch.bool),
        normalizer="box",
        severities=(1,),
        conditions={"clean": lambda images, landmarks, numbers: images},
    )
    assert set(CORRUPTIONS) - set(found.corruptions) == {"sunglasses", "mask"}


def test_the_summary_of_a_hand_worked_case():
    def errors(value):
        return Errors(torch.tensor([value, math.nan, value]))

    found = CorruptionErrors(
        conditions={"clean": errors(0.04)},
        corruptions={
            "fog": {1: errors(0.05), 5: errors(0.07)},
            "hand": {1: errors(0.09), 5: errors(0.13)},
        },
    )
    assert found.by_kind() == pytest.approx({"fog": 0.06, "hand": 0.11})
    summary = found.summary()
    assert summary["corrupted"] == pytest.approx(0.085)
    assert summary["ratio"] == pytest.approx(2.125)
    assert summary["worst"] == pytest.approx(0.11)
    assert summary["worst_kind"] == "hand"


def test_a_measurement_of_nothing_known_is_refused(faces):
    images, landmarks = faces
    with pytest.raises(ValueError, match="`kind` must be one of .*'rain'"):
        measured(landmarks, images, kinds=("fog", "rain"))
    with pytest.raises(ValueError, match="`kind` must be one of snow, .* got 'fog'"):
        measured(landmarks, images, group="unlike", kinds=("fog",))
    for kinds in (None, ("fog",)):
        with pytest.raises(ValueError, match="`group` must be one of akin, unlike, but got 'new'"):
            measured(landmarks, images, group="new", kinds=kinds)
    with pytest.raises(ValueError, match="but got none"):
        measured(landmarks, images, severities=())
    with pytest.raises(ValueError, match="`conditions` must have 'clean'"):
        measured(landmarks, images, conditions={})


# What the documents say


def test_the_page_has_the_parameters_of_the_code():
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    found = {kind: [cell.strip() for cell in cells.split("|")] for kind, cells in rows}
    assert list(found)[: len(CORRUPTIONS)] == list(CORRUPTIONS)
    for kind, (unit, *strengths) in found.items():
        corruption = ALL[kind]
        assert unit == corruption.unit
        assert tuple(map(float, strengths)) == corruption.strengths
