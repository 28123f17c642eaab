"""The handcrafted augmentation: pictures, landmarks, heatmaps and labels stay together."""

import colorsys
import copy
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from toys import waiting_is_an_error

from advaug.augment import HandcraftedAugmentation
from advaug.errors import ShapeError
from advaug.heatmaps import encode_heatmaps
from advaug.schemes import FACE_68

OFF = {
    "flip": 0.0,
    "rotation": 0.0,
    "scale": (1.0, 1.0),
    "translation": 0.0,
    "brightness": 0.0,
    "contrast": (1.0, 1.0),
    "saturation": (1.0, 1.0),
    "hue": 0.0,
}
GEOMETRY = {
    "flip": {"flip": 1.0},
    "rotation": {"rotation": 40.0, "rotation_probability": 1.0},
    "scale": {"scale": (0.7, 1.4)},
    "translation": {"translation": 0.1},
    "all": {
        "flip": 0.5,
        "rotation": 40.0,
        "rotation_probability": 0.7,
        "scale": (0.7, 1.3),
        "translation": 0.1,
    },
}
COLOURS = {
    "brightness": {"brightness": 0.2},
    "contrast": {"contrast": (0.3, 1.8)},
    "saturation": {"saturation": (0.2, 2.0)},
    "hue": {"hue": 0.5},
    "noise": {"noise": 0.1},
}
SWAP = (1, 0, 2)
HEIGHT, WIDTH = 72, 96


def augmentation(**options):
    return HandcraftedAugmentation(**({"flip_permutation": SWAP} | OFF | options))


def central_landmarks(batch, number=3):
    """Landmarks far enough from the border to stay in the picture."""
    generator = torch.Generator().manual_seed(5)
    uniform = torch.rand(batch, number, 2, generator=generator)
    return (0.35 + 0.3 * uniform) * torch.tensor([WIDTH, HEIGHT])


def centroids(maps):
    """Centre of mass of `(B, N, h, w)`, x then y, integers at pixel centres."""
    mass = maps.sum((2, 3))
    x = (maps.sum(2) * torch.arange(maps.shape[3])).sum(-1) / mass
    y = (maps.sum(3) * torch.arange(maps.shape[2])).sum(-1) / mass
    return torch.stack([x, y], dim=-1)


def to_grey(images):
    return (images * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)


def random_batch(batch=4, number=3):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(batch, 3, HEIGHT, WIDTH, generator=generator)
    return images, central_landmarks(batch, number)


@pytest.mark.parametrize("name", GEOMETRY)
def test_blobs_and_landmarks_move_together(name):
    landmarks = central_landmarks(16)
    images = encode_heatmaps(landmarks, (HEIGHT, WIDTH), sigma=2.5)  # one blob a colour
    moved_images, moved = augmentation(**GEOMETRY[name])(images, landmarks)
    # The colours know nothing of labels: undo the swap before comparing.
    swapped = (moved[:, SWAP] - centroids(moved_images)).norm(dim=-1)
    straight = (moved - centroids(moved_images)).norm(dim=-1)
    error = torch.minimum(swapped.amax(1), straight.amax(1))
    assert error.max() < 0.04
    assert not torch.equal(moved, landmarks)


@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize("stride", [(1, 1), (4, 4), (4, 8)])
def test_heatmaps_move_as_landmarks_do(name, stride):
    landmarks, size = central_landmarks(16), (HEIGHT // stride[0], WIDTH // stride[1])
    landmarks = 0.5 * landmarks + 0.25 * torch.tensor([WIDTH, HEIGHT])  # room for wide blobs
    images = torch.rand(16, 3, HEIGHT, WIDTH)
    heatmaps = encode_heatmaps(landmarks, size, image_size=(HEIGHT, WIDTH), sigma=1.2)
    _, moved = augmentation(**GEOMETRY[name])(images, landmarks)
    _, moved_heatmaps = augmentation(**GEOMETRY[name])(images, heatmaps)
    ratio = torch.tensor([WIDTH / size[1], HEIGHT / size[0]])
    found = (centroids(moved_heatmaps) + 0.5) * ratio - 0.5
    assert ((found - moved) / ratio).norm(dim=-1).max() < 0.05


def bilinear(picture, x, y):
    """Value of `(3, H, W)` between pixel centres, with zeros outside."""
    left, top = math.floor(x), math.floor(y)
    value = np.zeros(3)
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= row < picture.shape[1] and 0 <= column < picture.shape[2]:
            weight = (1 - abs(x - column)) * (1 - abs(y - row))
            value += weight * picture[:, row, column]
    return value


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_pictures_move_as_landmarks_do_pixel_by_pixel(flip):
    images = torch.rand(4, 3, 16, 21, dtype=torch.float64)
    corners = torch.tensor([[0.0, 0.0], [20.0, 0.0], [0.0, 15.0]], dtype=torch.float64)
    options = GEOMETRY["all"] | {"flip": flip, "flip_permutation": (0, 1, 2)}
    found, moved = augmentation(**options)(images, corners.expand(4, 3, 2))
    homogeneous = np.concatenate([moved.numpy(), np.ones((4, 3, 1))], axis=2)
    expected = np.zeros(images.shape)
    for sample in range(4):
        back = np.linalg.solve(homogeneous[sample], corners.numpy())  # (x, y, 1) @ back
        for y in range(16):
            for x in range(21):
                source = np.array([x, y, 1.0]) @ back
                expected[sample, :, y, x] = bilinear(images[sample].numpy(), *source)
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=1e-6, rtol=0)


def test_mirror_is_exact_and_undoes_itself():
    images, landmarks = random_batch()
    mirror = augmentation(flip=1.0)
    mirrored_images, mirrored = mirror(images, landmarks)
    assert torch.equal(mirrored_images, images.flip(-1))
    assert torch.equal(mirrored[..., 0], WIDTH - 1 - landmarks[:, SWAP, 0])
    assert torch.equal(mirrored[..., 1], landmarks[:, SWAP, 1])
    back_images, back = mirror(mirrored_images, mirrored)
    assert torch.equal(back_images, images)
    torch.testing.assert_close(back, landmarks, atol=1e-5, rtol=0)


def test_mirror_swaps_labels_of_heatmaps_and_visible():
    images, landmarks = random_batch()
    heatmaps = encode_heatmaps(landmarks, (18, 24), image_size=(HEIGHT, WIDTH))
    visible = torch.tensor([[True, False, True]] * 4)
    _, (moved, moved_visible) = augmentation(flip=1.0)(images, (heatmaps, visible))
    assert torch.equal(moved, heatmaps[:, SWAP].flip(-1))
    assert torch.equal(moved_visible, visible[:, SWAP])


def test_mirrored_face_keeps_left_and_right():
    # The first 17 landmarks are the jaw, from the picture's left to its right.
    landmarks = torch.rand(1, 68, 2)
    landmarks[0, :17, 0] = torch.arange(17.0)
    mirror = augmentation(flip=1.0, flip_permutation=FACE_68.flip_permutation)
    _, mirrored = mirror(torch.rand(1, 3, 32, 32), landmarks)
    assert (mirrored[0, :17, 0].diff() > 0).all()


def test_landmarks_that_leave_the_picture_become_invisible():
    corners = torch.tensor([[0.0, 0.0], [WIDTH - 1, 0.0], [WIDTH / 2, HEIGHT / 2]])
    landmarks = corners.expand(32, 3, 2)
    visible = torch.ones(32, 3, dtype=torch.bool)
    images = torch.rand(32, 3, HEIGHT, WIDTH)
    _, (moved, now_visible) = augmentation(translation=0.2)(images, (landmarks, visible))
    x, y = moved.unbind(-1)
    inside = (x >= -0.5) & (x < WIDTH - 0.5) & (y >= -0.5) & (y < HEIGHT - 0.5)
    assert torch.equal(now_visible, inside)
    assert 0 < inside[:, :2].sum() < 64
    assert visible.all()  # the caller's tensor is untouched


def test_unknown_landmarks_stay_unknown():
    images, landmarks = random_batch()
    landmarks[:, 1] = torch.nan
    visible = torch.ones(4, 3, dtype=torch.bool)
    _, (moved, now_visible) = augmentation(rotation=20.0)(images, (landmarks, visible))
    assert moved[:, 1].isnan().all()
    assert moved[:, ::2].isfinite().all()
    assert not now_visible[:, 1].any()
    assert now_visible[:, ::2].all()


@pytest.mark.parametrize("options", [{}, {"probability": 0.0} | GEOMETRY["all"] | COLOURS["hue"]])
@pytest.mark.parametrize("kind", ["landmarks", "heatmaps"])
def test_nothing_to_do_changes_no_bit(options, kind):
    images, target = random_batch()
    if kind == "heatmaps":
        target = encode_heatmaps(target, (18, 24), image_size=(HEIGHT, WIDTH))
    visible = torch.ones(4, 3, dtype=torch.bool)
    found_images, (found, found_visible) = augmentation(**options)(images, (target, visible))
    assert torch.equal(found_images, images)
    assert torch.equal(found, target)
    assert torch.equal(found_visible, visible)


def test_probability_is_that_of_a_sample():
    images, landmarks = random_batch(200)
    options = GEOMETRY["all"] | COLOURS["brightness"] | COLOURS["noise"]
    found_images, found = augmentation(**options, probability=0.3)(images, landmarks)
    same = (found_images == images).all(dim=(1, 2, 3))
    assert torch.equal(same, (found == landmarks).all(dim=(1, 2)))
    assert 110 < same.sum() < 170


@pytest.mark.parametrize("name", COLOURS)
def test_colours_stay_in_range_and_leave_landmarks_alone(name):
    images, landmarks = random_batch(16)
    found, same = augmentation(**COLOURS[name])(images, landmarks)
    assert torch.equal(same, landmarks)
    assert found.min() >= 0
    assert found.max() <= 1
    assert ((found - images).abs().amax(dim=(1, 2, 3)) > 0.01).sum() > 12


def test_brightness_adds_and_contrast_scales_about_the_mean_grey():
    images, landmarks = random_batch(8)
    images = 0.4 + 0.2 * images  # far from the clamp
    brighter, _ = augmentation(brightness=0.1)(images, landmarks)
    shift = (brighter - images).mean((1, 2, 3), keepdim=True)
    assert shift.abs().max() <= 0.1
    torch.testing.assert_close(brighter, images + shift)
    contrasted, _ = augmentation(contrast=(1.5, 1.5))(images, landmarks)
    grey = to_grey(images).mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(contrasted, grey + 1.5 * (images - grey))


def test_saturation_keeps_the_grey():
    images, landmarks = random_batch(8)
    images = 0.45 + 0.1 * images
    found, _ = augmentation(**COLOURS["saturation"])(images, landmarks)
    torch.testing.assert_close(to_grey(found), to_grey(images), atol=1e-6, rtol=0)


def test_hue_turns_every_pixel_by_one_angle():
    images, landmarks = random_batch()
    images = images[:, :, :8, :9]
    found, _ = augmentation(hue=0.3)(images, landmarks)
    turns = []
    for before, after in zip(images, found, strict=True):
        pairs = zip(before.flatten(1).T.tolist(), after.flatten(1).T.tolist(), strict=True)
        before, after = np.transpose(
            [(colorsys.rgb_to_hsv(*old), colorsys.rgb_to_hsv(*new)) for old, new in pairs],
            (1, 0, 2),
        )
        np.testing.assert_allclose(before[:, 1:], after[:, 1:], atol=1e-5)
        turn = (after - before + 0.5)[:, 0] % 1 - 0.5
        np.testing.assert_allclose(turn, turn[0], atol=1e-4)
        turns.append(turn[0])
    assert max(map(abs, turns)) <= 0.3
    assert min(map(abs, turns)) > 0.01
    assert len({round(turn, 3) for turn in turns}) == 4  # one for each sample


@pytest.mark.parametrize("options", [COLOURS["saturation"], COLOURS["hue"]])
def test_saturation_and_hue_leave_grey_pictures_alone(options):
    images, landmarks = random_batch(8)
    uniform = images[:, :1].expand(-1, 3, -1, -1)
    found, _ = augmentation(**options)(uniform, landmarks)
    torch.testing.assert_close(found, uniform, atol=1e-6, rtol=0)


def test_only_recoloured_samples_are_clamped():
    images, landmarks = random_batch(32)
    images = images * 1.6 - 0.3
    moved, _ = augmentation(flip=0.5)(images, landmarks)
    assert torch.equal(moved.amax((1, 2, 3)), images.amax((1, 2, 3)))
    found, _ = augmentation(hue=0.1, contrast=(0.5, 1.5), probability=0.5)(images, landmarks)
    same = (found == images).all(dim=(1, 2, 3))
    assert 8 < same.sum() < 24
    assert found[~same].min() >= 0
    assert found[~same].max() <= 1


def test_no_saturation_is_grey():
    images, landmarks = random_batch()
    found, _ = augmentation(saturation=(1e-9, 1e-9))(images, landmarks)
    expected = to_grey(images).expand_as(images)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_gradient_is_finite_at_pixels_without_a_hue():
    images, landmarks = random_batch()
    images[0], images[1] = 0.0, 1.0
    images[2] = images[2, :1]
    images = (1.4 * images - 0.2).requires_grad_()
    every = HandcraftedAugmentation(flip_permutation=SWAP, noise=0.05)
    found, _ = every(images, landmarks)
    (gradient,) = torch.autograd.grad(found.square().sum(), images)
    assert gradient.isfinite().all()


def test_gradient_reaches_the_images():
    images, landmarks = random_batch()
    images = (0.4 + 0.2 * images).requires_grad_()
    mixed = HandcraftedAugmentation(flip_permutation=SWAP, brightness=0.05, contrast=(0.9, 1.1))
    found, _ = mixed(images, landmarks)
    (gradient,) = torch.autograd.grad(found.square().sum(), images)
    assert gradient.isfinite().all()
    assert (gradient.abs().amax(dim=(1, 2, 3)) > 0).all()


def test_autocast_does_not_round_coordinates():
    images, landmarks = random_batch()
    expected_images, expected = augmentation(**GEOMETRY["all"])(images, landmarks)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found_images, found = augmentation(**GEOMETRY["all"])(images, landmarks)
    assert torch.equal(found, expected)
    assert torch.equal(found_images, expected_images)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_keeps_the_dtype(dtype):
    images, landmarks = random_batch()
    every = HandcraftedAugmentation(flip_permutation=SWAP, noise=0.05)
    found_images, found = every(images.to(dtype), landmarks.double())
    assert found_images.dtype == dtype
    assert found.dtype == torch.float64
    heatmaps = torch.rand(4, 3, 18, 24, dtype=dtype)
    assert every(images, heatmaps)[1].dtype == dtype


def test_same_seed_same_result_and_exact_resume(tmp_path):
    images, landmarks = random_batch()
    before = torch.get_rng_state()
    one, twin = (
        HandcraftedAugmentation(flip_permutation=SWAP, noise=0.1, seed=7) for _ in range(2)
    )
    first = one(images, landmarks)
    assert torch.equal(first[0], twin(images, landmarks)[0])
    torch.save(one.state_dict(), tmp_path / "state.pt")
    copied = copy.deepcopy(one)
    second = one(images, landmarks)
    assert not torch.equal(first[0], second[0])
    assert torch.equal(copied(images, landmarks)[0], second[0])
    resumed = HandcraftedAugmentation(flip_permutation=SWAP, noise=0.1, seed=8)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    found = resumed(images, landmarks)
    assert torch.equal(found[0], second[0])
    assert torch.equal(found[1], second[1])
    assert torch.equal(torch.get_rng_state(), before)


def test_turning_one_change_off_leaves_the_others():
    images, landmarks = random_batch()
    _, with_colour = augmentation(**GEOMETRY["all"], hue=0.3)(images, landmarks)
    _, without = augmentation(**GEOMETRY["all"])(images, landmarks)
    assert torch.equal(with_colour, without)


def test_kinds_of_target_come_back():
    images, landmarks = random_batch()
    visible = torch.ones(4, 3, dtype=torch.bool)
    assert isinstance(augmentation()(images, landmarks)[1], torch.Tensor)
    for pair in ((landmarks, visible), [landmarks, visible]):
        assert [type(part) for part in augmentation()(images, pair)[1]] == [torch.Tensor] * 2


def test_import_brings_neither_timm_nor_torchvision():
    program = "import sys, advaug.augment.handcrafted; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    assert not {"timm", "torchvision"} & set(run.stdout.split())


def test_no_mirror_needs_no_permutation():
    images, landmarks = random_batch(4, number=5)
    unknown = HandcraftedAugmentation(flip=0.0)
    assert unknown(images, landmarks)[1].shape == (4, 5, 2)


@pytest.mark.parametrize(
    ("images", "target", "error", "message"),
    [
        ((3, 8, 8), (1, 3, 2), ShapeError, r"`images` must have shape \(B, 3, H, W\)"),
        ((1, 1, 8, 8), (1, 3, 2), ShapeError, r"`images` must have shape \(B, 3, H, W\)"),
        ((2, 3, 8, 8), (2, 3, 3), ShapeError, "`target` must be landmarks"),
        ((2, 3, 8, 8), (2, 3), ShapeError, "`target` must be landmarks"),
        ((2, 3, 8, 8), (1, 3, 2), ShapeError, "`target` must have 2 samples of 3 landmarks"),
        ((2, 3, 8, 8), (2, 4, 2), ShapeError, "`target` must have 2 samples of 3 landmarks"),
        ((2, 3, 8, 8), (2, 4, 8, 8), ShapeError, "`target` must have 2 samples of 3 landmarks"),
    ],
)
def test_refuses_wrong_shapes(images, target, error, message):
    with pytest.raises(error, match=message):
        augmentation()(torch.rand(images), torch.rand(target))


def test_refuses_wrong_kinds_of_tensor():
    images, landmarks = random_batch()
    with pytest.raises(TypeError, match="`images` must be floating point"):
        augmentation()(images.to(torch.uint8), landmarks)
    for pair in (landmarks.long(), (landmarks.long(), torch.ones(4, 3, dtype=torch.bool))):
        with pytest.raises(TypeError, match="`target` must be floating point"):
            augmentation()(images, pair)
    with pytest.raises(TypeError, match="`visible` must be bool"):
        augmentation()(images, (landmarks, torch.ones(4, 3)))
    with pytest.raises(ShapeError, match=r"`visible` must have shape \(4, 3\)"):
        augmentation()(images, (landmarks, torch.ones(4, 2, dtype=torch.bool)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip_permutation": None, "flip": 0.5}, "`flip_permutation` must be given"),
        ({"flip_permutation": (1, 2, 0)}, "`flip_permutation` must be a permutation that undoes"),
        ({"flip_permutation": (0, 0, 2)}, "`flip_permutation` must be a permutation that undoes"),
        ({"flip_permutation": (0, 1, 3)}, "`flip_permutation` must be a permutation that undoes"),
        ({"flip": 1.5}, "`flip` must be from 0 to 1, but got 1.5"),
        ({"flip": float("nan")}, "`flip` must be from 0 to 1"),
        ({"rotation": -3.0}, "`rotation` must be from 0 to 180"),
        ({"rotation_probability": 2.0}, "`rotation_probability` must be"),
        ({"translation": -0.1}, "`translation` must be"),
        ({"brightness": 2.0}, "`brightness` must be"),
        ({"hue": 0.6}, "`hue` must be from 0 to 0.5"),
        ({"noise": -1.0}, "`noise` must be"),
        ({"probability": -1.0}, "`probability` must be"),
        ({"scale": (0.0, 1.0)}, "`scale` must be a pair of factors above 0"),
        ({"scale": (1.2, 1.0)}, "`scale` must be a pair"),
        ({"contrast": (-1.0, 1.0)}, "`contrast` must be a pair"),
        ({"saturation": (1.0, float("inf"))}, "`saturation` must be a pair"),
    ],
)
def test_refuses_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        augmentation(**options)


@pytest.mark.parametrize("target", [(4, 3, 2), (4, 3, 18, 24)])
def test_reads_no_value_back_from_the_device(target):
    images, target = torch.rand(4, 3, HEIGHT, WIDTH, device="meta"), torch.rand(target).to("meta")
    visible = torch.ones(4, 3, dtype=torch.bool, device="meta")
    partly = HandcraftedAugmentation(flip_permutation=SWAP, probability=0.7)
    found, (moved, now_visible) = partly(images, (target, visible))  # reading would raise
    assert found.shape == images.shape
    assert moved.shape == target.shape
    assert now_visible.shape == visible.shape


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_changes_on_a_gpu_without_waiting_for_it():
    images, landmarks = random_batch()
    options = {"flip_permutation": SWAP, "seed": 3}
    expected_images, expected = HandcraftedAugmentation(**options)(images, landmarks)
    there, points = images.cuda(), landmarks.cuda()
    with waiting_is_an_error():
        found_images, found = HandcraftedAugmentation(**options)(there, points)
    torch.testing.assert_close(found.cpu(), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(found_images.cpu(), expected_images, atol=1e-3, rtol=0)


def test_the_processes_of_a_run_draw_different_changes_and_keep_one_state(monkeypatch):
    images, landmarks = torch.rand(4, 3, 16, 16), 15 * torch.rand(4, 5, 2)
    seen, states = [], []
    for number in range(3):
        monkeypatch.setattr("advaug.base.distributed.rank", lambda number=number: number)
        monkeypatch.setattr("advaug.augment.handcrafted.rank", lambda number=number: number)
        augmentation = HandcraftedAugmentation(noise=0.1, flip=0.0)
        seen.append(augmentation(images, landmarks))
        states.append(augmentation.generator.get_state())
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(seen[one][0], seen[other][0])
        assert not torch.equal(seen[one][1], seen[other][1])
        assert torch.equal(states[one], states[other])
