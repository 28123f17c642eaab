"""Landmarks to heatmaps and back: to a fraction of a pixel, by one pixel-centre rule."""

import math

import pytest
import torch

from advaug import ShapeError, decode_heatmaps, encode_heatmaps
from advaug.heatmaps import resize_heatmaps, resize_landmarks

SIDES = (64, 128, 256)
STRIDES = {1: 0.1, 4: 0.25}  # issue 2: how far decode(encode(x)) may be off, in picture pixels


def anywhere(side, count=60):
    """Landmarks all over the picture, at any fraction of a pixel."""
    draw = torch.Generator().manual_seed(side)
    return (side - 1) * torch.rand(1, count, 2, generator=draw)


def at_the_border(side):
    """Landmarks on and next to every border and corner, in picture pixels."""
    near = (0.0, 0.3, 0.5, 1.0, 1.7, 2.5, 3.9)
    ends = [*near, *(side - 1 - value for value in near)]
    return torch.tensor([[[x, y] for x in [*ends, side / 3] for y in [*ends, side / 3]]])


@pytest.mark.parametrize("place", [anywhere, at_the_border], ids=lambda f: f.__name__)
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("side", SIDES)
def test_decoding_gives_back_what_was_encoded(side, stride, place):
    landmarks = place(side)
    size = (side // stride, side // stride)
    heatmaps = encode_heatmaps(landmarks, size, image_size=(side, side))
    decoded = decode_heatmaps(heatmaps, image_size=(side, side))
    assert (decoded - landmarks).norm(dim=-1).max() < STRIDES[stride]


@pytest.mark.parametrize("sigma", [1.0, 1.5, 3.0, 5.12])
def test_decoding_takes_the_sigma_that_encoding_took(sigma):
    landmarks = anywhere(64)
    heatmaps = encode_heatmaps(landmarks, (64, 64), sigma=sigma)
    decoded = decode_heatmaps(heatmaps, sigma=sigma)
    assert (decoded - landmarks).norm(dim=-1).max() < 0.1


def test_pictures_need_not_be_square():
    landmarks = anywhere(32) * torch.tensor([3.0, 1.0])  # 96 wide, 32 high
    heatmaps = encode_heatmaps(landmarks, (16, 48), image_size=(32, 96))
    assert heatmaps.shape[-2:] == (16, 48)
    decoded = decode_heatmaps(heatmaps, image_size=(32, 96))
    assert (decoded - landmarks).norm(dim=-1).max() < 0.2


def test_a_heatmap_is_the_gaussian_of_its_definition():
    heatmaps = encode_heatmaps(torch.tensor([[[5.0, 9.25]]]), (16, 20), sigma=2.0)
    for y, x in [(9, 5), (0, 0), (10, 7), (15, 19)]:
        expected = math.exp(-((x - 5) ** 2 + (y - 9.25) ** 2) / (2 * 2.0**2))
        assert heatmaps[0, 0, y, x].item() == pytest.approx(expected, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(
    ("size", "sigma"), [((256, 256), 5.12), ((64, 64), 1.28), ((16, 16), 1.0), ((64, 128), 2.56)]
)
def test_the_default_sigma_is_two_percent_of_the_side_and_at_least_a_pixel(size, sigma):
    centre = torch.tensor([[[8.0, 8.0]]])
    heatmap = encode_heatmaps(centre, size)[0, 0]
    assert heatmap[8, 9].item() == pytest.approx(math.exp(-1 / (2 * sigma**2)), rel=1e-5)


def test_a_landmark_on_a_pixel_centre_has_its_peak_of_one_there():
    heatmaps = encode_heatmaps(torch.tensor([[[3.0, 7.0]]]), (16, 16))
    assert heatmaps[0, 0, 7, 3] == 1
    assert heatmaps.max() == 1
    assert heatmaps.min() >= 0


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_the_centroid_of_a_heatmap_is_the_landmark_at_every_stride(stride):
    landmarks = torch.tensor([[[30.0, 33.0], [31.3, 34.8]]])
    size = (64 // stride, 64 // stride)
    heatmaps = encode_heatmaps(landmarks, size, image_size=(64, 64)).double()
    # A heatmap pixel k has its centre at (k + 1/2) stride - 1/2 in the picture.
    centres = (torch.arange(64 // stride, dtype=torch.float64) + 0.5) * stride - 0.5
    mass = heatmaps.sum(dim=(2, 3))
    x = (heatmaps.sum(dim=2) * centres).sum(dim=-1) / mass
    y = (heatmaps.sum(dim=3) * centres).sum(dim=-1) / mass
    torch.testing.assert_close(torch.stack([x, y], dim=-1).float(), landmarks, atol=0.02, rtol=0)


def test_a_blob_painted_into_a_picture_is_found_where_its_landmark_says():
    """A blob drawn by a pixel loop, not by us: pixel (column, row) is the point (x, y)."""
    picture = torch.zeros(1, 1, 24, 24)
    for row in range(24):
        for column in range(24):
            away = (column - 13.5) ** 2 + (row - 6.0) ** 2
            picture[0, 0, row, column] = math.exp(-away / (2 * 1.5**2))
    decoded = decode_heatmaps(picture, sigma=1.5)
    torch.testing.assert_close(decoded, torch.tensor([[[13.5, 6.0]]]), atol=0.01, rtol=0)


def test_resizing_landmarks_follows_pixel_centres():
    # The outer edges of the picture, -1/2 and side - 1/2, stay edges.
    edges = torch.tensor([[-0.5, -0.5], [63.5, 31.5]])
    moved = resize_landmarks(edges, (32, 64), (8, 16))
    assert moved.tolist() == [[-0.5, -0.5], [15.5, 7.5]]


def test_resizing_landmarks_there_and_back_is_the_identity():
    landmarks = anywhere(64)
    there = resize_landmarks(landmarks, (64, 48), (20, 33))
    torch.testing.assert_close(resize_landmarks(there, (20, 33), (64, 48)), landmarks)


def test_resized_heatmaps_show_the_landmarks_where_resized_landmarks_are():
    landmarks = 8 + 0.75 * anywhere(64)
    small = encode_heatmaps(landmarks, (16, 16), image_size=(64, 64), sigma=1.5)
    large = resize_heatmaps(small, (64, 64))
    assert large.shape == (1, 60, 64, 64)
    decoded = decode_heatmaps(large, sigma=6.0)
    assert (decoded - landmarks).norm(dim=-1).max() < 0.5
    assert resize_heatmaps(large, (64, 64)) is large


@pytest.mark.parametrize(("noise", "within"), [(0.01, 0.15), (0.05, 0.6)])
def test_noise_moves_a_decoded_landmark_by_a_fraction_of_a_pixel(noise, within):
    landmarks = 6 + 0.8 * anywhere(64)
    heatmaps = encode_heatmaps(landmarks, (64, 64))
    noisy = heatmaps + noise * torch.randn(
        heatmaps.shape, generator=torch.Generator().manual_seed(3)
    )
    assert (decode_heatmaps(noisy) - landmarks).norm(dim=-1).max() < within


@pytest.mark.parametrize("scale", [0.05, 3.0])
def test_decoding_does_not_depend_on_the_height_of_the_peak(scale):
    landmarks = anywhere(64)
    heatmaps = scale * encode_heatmaps(landmarks, (64, 64))
    assert (decode_heatmaps(heatmaps) - landmarks).norm(dim=-1).max() < 0.1


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_a_map_without_a_peak_decodes_to_a_finite_point_in_the_picture(value):
    decoded = decode_heatmaps(torch.full((1, 2, 16, 16), value))
    assert ((decoded >= -0.5) & (decoded <= 15.5)).all()


def test_invisible_landmarks_have_empty_heatmaps_even_if_they_are_nan():
    landmarks = torch.tensor([[[5.0, 5.0], [torch.nan, torch.nan]]])
    visible = torch.tensor([[True, False]])
    heatmaps = encode_heatmaps(landmarks, (16, 16), visible=visible)
    assert heatmaps[0, 0].max() == 1
    assert not heatmaps[0, 1].any()


def test_landmarks_far_outside_have_empty_heatmaps():
    heatmaps = encode_heatmaps(torch.tensor([[[-40.0, 5.0], [5.0, 99.0]]]), (16, 16))
    assert heatmaps.max() < 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_float32(dtype):
    landmarks = torch.tensor([[[5.5, 6.25]]], dtype=dtype)
    heatmaps = encode_heatmaps(landmarks, (4, 4), image_size=(16, 16))
    assert heatmaps.dtype == torch.float32
    assert torch.equal(heatmaps, encode_heatmaps(landmarks.float(), (4, 4), image_size=(16, 16)))
    assert decode_heatmaps(heatmaps.to(dtype)).dtype == torch.float32


def test_integer_landmarks_are_drawn_where_they_are_or_refused():
    whole = torch.tensor([[[20, 40]]])
    try:
        drawn = encode_heatmaps(whole, (16, 16), image_size=(64, 64))
    except (TypeError, ValueError):
        return
    expected = encode_heatmaps(whole.float(), (16, 16), image_size=(64, 64))
    torch.testing.assert_close(drawn, expected)


ERRORS = {
    "landmarks-2d": (
        lambda: encode_heatmaps(torch.zeros(5, 2), (16, 16)),
        r"`landmarks` must be \(B, N, 2\), but got \(5, 2\)",
    ),
    "landmarks-3-coordinates": (
        lambda: encode_heatmaps(torch.zeros(1, 5, 3), (16, 16)),
        r"`landmarks` must be \(B, N, 2\), but got \(1, 5, 3\)",
    ),
    "visible": (
        lambda: encode_heatmaps(torch.zeros(1, 5, 2), (16, 16), visible=torch.ones(1, 4)),
        r"`visible` must be \(1, 5\), but got \(1, 4\)",
    ),
    "heatmaps-3d": (
        lambda: decode_heatmaps(torch.zeros(5, 16, 16)),
        r"`heatmaps` must be \(B, N, h, w\).* but got \(5, 16, 16\)",
    ),
    "heatmaps-tiny": (
        lambda: decode_heatmaps(torch.zeros(1, 5, 2, 16)),
        r"sides of at least 3 pixels, but got \(1, 5, 2, 16\)",
    ),
}


@pytest.mark.parametrize(("call", "message"), ERRORS.values(), ids=ERRORS)
def test_wrong_shapes_are_named(call, message):
    with pytest.raises(ShapeError, match=message):
        call()
