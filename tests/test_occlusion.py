"""Occluders: what they cover, that a seed fixes them, and that nothing else changes."""

import copy

import pytest
import torch

from advaug.augment import RandomOcclusion, occlude
from advaug.errors import ShapeError

KINDS = ("noise", "flat", "stripes", "blob")


def grey(batch, height=48, width=64):
    return torch.full((batch, 3, height, width), 0.5)


def covered(images, occluded):
    return (images != occluded).any(1).float().mean((1, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_covers_the_part_asked_for(kind):
    images = grey(64)
    part = covered(images, occlude(images, range(64), coverage=(0.2, 0.25), kinds=(kind,)))
    # Whole pixels make a rectangle larger or smaller by up to half a row.
    assert part.min() > 0.19
    assert part.max() < 0.26


@pytest.mark.parametrize("coverage", [(1e-4, 1e-4), (1.0, 1.0)])
@pytest.mark.parametrize("kind", KINDS)
def test_covers_from_one_pixel_to_all_of_it(kind, coverage):
    images = grey(8, 16, 16)
    pixels = 256 * covered(images, occlude(images, range(8), coverage=coverage, kinds=(kind,)))
    assert (pixels == (256 if coverage[0] == 1 else 1)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_stays_in_range_and_leaves_the_rest_alone(kind):
    images = torch.rand(8, 3, 32, 32)
    before = images.clone()
    occluded = occlude(images, range(8), kinds=(kind,))
    assert torch.equal(images, before)
    assert occluded.min() >= 0
    assert occluded.max() <= 1
    assert ((occluded == images).all(1).float().mean((1, 2)) >= 0.65).all()


def test_seed_alone_decides_whatever_the_batch():
    images = torch.rand(16, 3, 32, 32)
    seeds = [3, 2**40 + 3, 2**61, 0, -5, *range(100, 111)]
    together = occlude(images, seeds)
    for index, seed in enumerate(seeds):
        alone = occlude(images[index : index + 1], torch.tensor([seed]))
        assert torch.equal(alone[0], together[index])
    assert torch.equal(occlude(images.flip(0), seeds[::-1]).flip(0), together)
    different = occlude(grey(16), seeds)
    assert all(not torch.equal(different[0], other) for other in different[1:])


def test_every_kind_is_drawn_about_as_often():
    images = grey(400, 16, 16)
    mixed = occlude(images, range(400))
    counts = []
    for kind in KINDS:
        only = occlude(images, range(400), kinds=(kind,))
        counts.append(int((mixed == only).all(dim=(1, 2, 3)).sum()))
    assert sum(counts) == 400
    assert min(counts) > 75


def test_noise_is_uniform():
    images = grey(16, 64, 64)
    noise = occlude(images, range(16), coverage=(1.0, 1.0), kinds=("noise",))
    counts = torch.histc(noise, 10, 0, 1) / noise.numel()
    torch.testing.assert_close(counts, torch.full((10,), 0.1), atol=0.005, rtol=0)
    neighbours = torch.stack([noise[..., 1:].flatten(), noise[..., :-1].flatten()])
    assert torch.corrcoef(neighbours)[0, 1].abs() < 0.02


def test_gradient_flows_through_what_is_seen():
    images = torch.rand(4, 3, 32, 32, requires_grad=True)
    occluded = occlude(images, range(4))
    (gradient,) = torch.autograd.grad(occluded.sum(), images)
    assert torch.equal(gradient, (occluded == images).float())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_keeps_the_dtype_and_the_shape_of_the_occluder(dtype):
    images = grey(8)
    mask = occlude(images, range(8)) == images
    occluded = occlude(images.to(dtype), range(8))
    assert occluded.dtype == dtype
    assert ((occluded == 0.5) == mask).float().mean() > 0.99


def test_empty_batch_stays_empty():
    assert occlude(grey(0), torch.empty(0, dtype=torch.long)).shape == (0, 3, 48, 64)
    assert RandomOcclusion()(grey(0)).shape == (0, 3, 48, 64)


def test_module_covers_as_often_as_asked():
    images = grey(200, 16, 16)
    part = covered(images, RandomOcclusion(probability=0.5)(images)) > 0
    assert 70 < part.sum() < 130
    assert torch.equal(RandomOcclusion(probability=0.0)(images), images)


def test_module_resumes_exactly_and_leaves_the_global_random_state_alone(tmp_path):
    images = torch.rand(4, 3, 32, 32)
    before = torch.get_rng_state()
    occlusion = RandomOcclusion(seed=3)
    first = occlusion(images)
    torch.save(occlusion.state_dict(), tmp_path / "state.pt")
    twin = copy.deepcopy(occlusion)
    second = occlusion(images)
    assert not torch.equal(first, second)
    assert torch.equal(twin(images), second)
    resumed = RandomOcclusion(seed=99)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(resumed(images), second)
    assert torch.equal(RandomOcclusion(seed=3)(images), first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8)])
def test_refuses_pictures_of_a_wrong_shape(shape):
    with pytest.raises(ShapeError, match=r"`images` must have shape \(B, 3, H, W\)"):
        occlude(torch.rand(shape), [0])
    with pytest.raises(ShapeError):
        RandomOcclusion()(torch.rand(shape))


def test_refuses_integer_pictures():
    with pytest.raises(TypeError, match="floating point"):
        occlude(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), [0])


@pytest.mark.parametrize("seeds", [[0], torch.zeros(2, 1, dtype=torch.long), [0.0, 1.0]])
def test_refuses_seeds_that_are_not_one_integer_a_picture(seeds):
    with pytest.raises(ShapeError, match="`seeds` must be 2 integers"):
        occlude(grey(2), seeds)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coverage": (0.0, 0.5)}, "`coverage` must be"),
        ({"coverage": (0.5, 0.2)}, "`coverage` must be"),
        ({"coverage": (0.5, 1.2)}, "`coverage` must be"),
        ({"kinds": ("noise", "banana")}, "`kinds` must be some of"),
        ({"kinds": ()}, "`kinds` must be some of"),
        ({"probability": 1.5}, "`probability` must be"),
    ],
)
def test_refuses_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        RandomOcclusion(**options)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_occluder_on_a_gpu():
    images = torch.rand(16, 3, 64, 64)
    there = occlude(images.cuda(), range(16)).cpu()
    assert (there != occlude(images, range(16))).float().mean() < 1e-3
