"""The square crop: where its edges are, that pixels and landmarks move alike, and back again."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from advaug.datasets.crop import SquareCrop, crop_sample, landmark_box


def blob_picture(center, sigma, size=(900, 700)):
    """A black picture with one bright Gaussian blob."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    blob = np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * sigma**2))
    return Image.fromarray((blob * 255).round().astype(np.uint8)).convert("RGB")


def centroid(pixels):
    weights = pixels[..., 0].astype(np.float64)
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    return np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()


def test_the_square_is_as_wide_as_the_diagonal_around_the_same_centre():
    crop = SquareCrop.from_box((10, 20, 40, 60), 100)
    assert crop.side == 50  # 3-4-5
    # The centre (25, 40) is a pixel's centre, 25.5 and 40.5 from the edges of the picture.
    assert (crop.left, crop.top) == (0.5, 15.5)
    np.testing.assert_allclose(crop.to_crop([25, 40]), [49.5, 49.5])


def test_the_half_pixel_rule_by_hand():
    crop = SquareCrop(left=2, top=0, side=4, image_size=8)
    # Pixel 2 of the picture covers pixels 0 and 1 of the crop, whose common edge is at 0.5.
    np.testing.assert_allclose(crop.to_crop([[2, 0], [5, 3]]), [[0.5, 0.5], [6.5, 6.5]])


def test_a_crop_of_whole_pixels_copies_them():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    crop = SquareCrop(left=7, top=3, side=12, image_size=12)
    np.testing.assert_array_equal(crop.resample(Image.fromarray(pixels)), pixels[3:15, 7:19])


def test_outside_the_picture_is_zero():
    white = Image.new("RGB", (10, 10), (255, 255, 255))
    pixels = SquareCrop(left=-5, top=-5, side=20, image_size=40).resample(white)
    # The picture's edge lies between pixels 9 and 10, and between 29 and 30; it blends over two.
    assert pixels[11:29, 11:29].min() == 255
    for outside in (pixels[:9], pixels[31:], pixels[:, :9], pixels[:, 31:]):
        assert outside.max() == 0


def test_scaling_down_averages_instead_of_dropping_pixels():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = SquareCrop(left=0, top=0, side=256, image_size=32).resample(Image.fromarray(stripes))
    assert abs(pixels.astype(int) - 127.5).max() < 8


@settings(max_examples=30, deadline=None)
@given(
    x=st.floats(250, 600),
    y=st.floats(200, 500),
    half=st.tuples(st.floats(40, 200), st.floats(40, 200)),
    offset=st.tuples(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4)),
    image_size=st.sampled_from([64, 128, 256]),
)
def test_a_blob_at_a_landmark_is_found_at_the_mapped_landmark(x, y, half, offset, image_size):
    box = (
        x - half[0] * (1 + offset[0]),
        y - half[1] * (1 + offset[1]),
        x + half[0] * (1 - offset[0]),
        y + half[1] * (1 - offset[1]),
    )
    side = math.hypot(2 * half[0], 2 * half[1])
    picture = blob_picture((x, y), sigma=max(0.02 * side, 1.5))
    pixels, landmarks = crop_sample(picture, [[x, y]], box, image_size)
    assert pixels.shape == (image_size, image_size, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(centroid(pixels) - landmarks[0]).max() < 0.1


@settings(max_examples=50, deadline=None)
@given(
    left=st.floats(-500, 500),
    top=st.floats(-500, 500),
    side=st.floats(2, 3000),
    points=st.lists(
        st.tuples(st.floats(-1000, 1000), st.floats(-1000, 1000)), min_size=1, max_size=5
    ),
)
def test_to_picture_undoes_to_crop(left, top, side, points):
    crop = SquareCrop(left, top, side, image_size=256)
    np.testing.assert_allclose(crop.to_picture(crop.to_crop(points)), points, atol=1e-8)


def test_mapping_takes_a_batch():
    crop = SquareCrop.from_box((0, 0, 30, 40), 256)
    points = np.random.default_rng(0).random((3, 5, 2))
    assert crop.to_picture(points).shape == (3, 5, 2)


def test_landmark_box_is_tight():
    assert landmark_box(np.array([[3.0, 9.0], [-1.0, 4.0], [2.0, 5.0]])) == (-1, 4, 3, 9)


@pytest.mark.parametrize(
    "box", [(5, 5, 5, 5), (9, 0, 1, 8), (0, 0, math.nan, 8), (0, 0, 1, math.inf)]
)
def test_an_impossible_box_is_refused(box):
    with pytest.raises(ValueError, match="`box` must be"):
        SquareCrop.from_box(box, 256)


def test_an_impossible_size_is_refused():
    with pytest.raises(ValueError, match="`image_size` must be at least 1, but got 0"):
        SquareCrop.from_box((0, 0, 5, 5), 0)
