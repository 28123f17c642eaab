"""How the detector wants its pictures: there and back, and what is refused."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from advaug import PixelSpec

IMAGENET = PixelSpec((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_the_default_is_the_identity_and_copies_nothing():
    images = torch.rand(2, 3, 4, 4)
    assert PixelSpec().to_unit(images) is images
    assert PixelSpec().from_unit(images) is images


def test_from_unit_is_picture_minus_mean_over_std_per_channel():
    images = torch.rand(2, 3, 4, 5)
    wanted = IMAGENET.from_unit(images)
    for channel, (mean, std) in enumerate(zip(IMAGENET.mean, IMAGENET.std, strict=True)):
        torch.testing.assert_close(wanted[:, channel], (images[:, channel] - mean) / std)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_there_and_back_is_the_identity(dtype):
    images = torch.rand(2, 3, 4, 4, dtype=dtype)
    back = IMAGENET.to_unit(IMAGENET.from_unit(images))
    torch.testing.assert_close(back, images)
    assert back.dtype == dtype


def test_the_gradient_is_one_over_std():
    images = torch.rand(1, 3, 2, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(IMAGENET.from_unit(images).sum(), images)
    torch.testing.assert_close(gradient[0, :, 0, 0], 1 / torch.tensor(IMAGENET.std))


def test_a_mean_of_255_scaled_pictures_works():
    spec = PixelSpec((0.0,) * 3, (1 / 255,) * 3)
    torch.testing.assert_close(
        spec.from_unit(torch.ones(1, 3, 1, 1)), torch.full((1, 3, 1, 1), 255.0)
    )


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (
            (0.5,) * 3,
            (0.5,) * 2,
            "`std` must have one value for each of the 3 of `mean`, but got 2",
        ),
        ((0.5,) * 3, (), "`std` must have one value for each"),
        ((0.5,) * 3, (0.5, 0.0, 0.5), "`std` must be positive, but got"),
        ((0.5,) * 3, (0.5, -1.0, 0.5), "`std` must be positive, but got"),
    ],
    ids=["lengths", "no-std", "zero", "negative"],
)
def test_mean_and_std_that_do_not_belong_together_are_refused(mean, std, message):
    with pytest.raises(ValueError, match=message):
        PixelSpec(mean, std)


def test_no_constant_is_carried_to_the_device():
    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    images = torch.rand(2, 3, 4, 4, device="meta")
    with Watch():
        IMAGENET.to_unit(IMAGENET.from_unit(images))
    assert torch.ops.aten.new_full.default in seen
    assert not {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default} & set(seen)
