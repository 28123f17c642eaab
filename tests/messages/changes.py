"""Messages of what changes pictures, of the other defences, and of the drawn sets."""

import numpy as np
import torch
from messages.kit import HEATMAPS, IMAGES, NET, POINTS, SEEN, Case
from small_sets import points
from toys import MARKS, CoordinateToy

from advaug import CoordinateTask, HeatmapTask
from advaug.augment import (
    HandcraftedAugmentation,
    RandomOcclusion,
    add_masks,
    occlude,
    render_mask,
)
from advaug.augment.corruptions import CORRUPTIONS, UNLIKE, Square, corrupt
from advaug.baselines import (
    AugMax,
    HardestAppearance,
    HardestGeometry,
    PGDAdversary,
    SecondCopy,
    VirtualAdversary,
)
from advaug.datasets import SyntheticFaces, SyntheticPeople
from advaug.errors import ShapeError
from advaug.schemes import FACE_68
from advaug.training import StreamedLandmarks

FACE = torch.from_numpy(points(68)).float()
FACES = FACE.expand(4, 68, 2)
ALL_SEEN = torch.ones(4, MARKS, dtype=torch.bool)
MIRROR = (1, 0, 2)


def changed(images=IMAGES, target=POINTS, flip=0.0, **options):
    """Changed by hand."""
    return HandcraftedAugmentation(flip=flip, **options)(images, target)


def corrupted(images=IMAGES, kind="fog", severity=1, **options):
    seeds = options.pop("seeds", torch.arange(4))
    assert corrupt(images, kind, severity, seeds=seeds, **options).shape == images.shape


def every_kind_without_landmarks():
    """All that the message lists need none."""
    for kind, corruption in {**CORRUPTIONS, **UNLIKE}.items():
        if not corruption.face:
            corrupted(kind=kind)


def masked(images=IMAGES, landmarks=FACES, seeds=(0, 1, 2, 3), **options):
    assert add_masks(images, landmarks, seeds=seeds, **options).shape == (4, 3, 32, 32)


PICTURE = np.zeros((96, 96, 3), np.uint8)


def rendered(image=PICTURE, landmarks=FACE, **options):
    assert (render_mask(image, landmarks, **options) != image).any()


def as_batch(image):
    """What is no picture for `render_mask`, as a batch for `add_masks`."""
    images = torch.as_tensor(image).permute(2, 0, 1)[None]
    assert add_masks(images, FACE[None], seeds=[0]).shape == images.shape


def defended(defence, net=None, target=HEATMAPS, *, enabled=True):
    with torch.set_grad_enabled(enabled):
        loss = defence(NET() if net is None else net, IMAGES, target)
        assert loss.isfinite()
        loss.backward()


def looked_at():
    """What the message says to use where gradients are off."""
    with torch.no_grad():
        assert SecondCopy(HeatmapTask()).pictures(NET(), IMAGES, HEATMAPS).shape == IMAGES.shape


class OwnTask:
    """A task of one's own, for targets that ours do not know."""

    def error(self, output, target):
        return HeatmapTask().error(output, target["maps"])

    def landmark_heatmaps(self, target, size):
        return HeatmapTask().landmark_heatmaps(target["maps"], size)


def as_dict(images, target):
    """A transform of pictures whose target is a task's own."""
    return images.flip(1), target


def compared(output, reference, target):
    return (output - reference).square().mean(dim=(1, 2, 3))


def streamed(dataset, workers=0):
    assert len(StreamedLandmarks(dataset, workers=workers).batch(0, 1).images) == 1


class Wide(SyntheticFaces):
    """Pictures that are not square."""

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return sample._replace(image=sample.image[:, 1:])


OWN = {"maps": HEATMAPS}

CASES = {
    # augment
    "handcrafted, axes": Case(
        lambda: changed(target=torch.cat([POINTS, ALL_SEEN[..., None]], dim=2)),
        "Pass `visible` as the second of a pair",
        lambda: changed(target=(POINTS, ALL_SEEN)),
        ShapeError,
    ),
    "handcrafted, count": Case(
        lambda: changed(flip=1.0, flip_permutation=FACE_68.flip_permutation),
        "Use the permutation of the data's own landmark scheme",
        lambda: changed(flip=1.0, flip_permutation=MIRROR),
        ShapeError,
    ),
    "handcrafted, whole numbers": Case(
        lambda: changed(target=POINTS.long()),
        r"Convert it with `.float\(\)`",
        lambda: changed(target=POINTS.long().float()),
        TypeError,
    ),
    "handcrafted, visible": Case(
        lambda: changed(target=(POINTS, ALL_SEEN[:, 0])),
        "Give one value per landmark",
        lambda: changed(target=(POINTS, ALL_SEEN)),
        ShapeError,
    ),
    "handcrafted, no bool": Case(
        lambda: changed(target=(POINTS, ALL_SEEN.int())),
        r"Convert it with `.bool\(\)`",
        lambda: changed(target=(POINTS, ALL_SEEN.int().bool())),
        TypeError,
    ),
    "handcrafted, no permutation": Case(
        HandcraftedAugmentation,
        "such as `advaug.schemes.FACE_68.flip_permutation`",
        lambda: changed(
            torch.rand(4, 3, 96, 96), FACES, 1.0, flip_permutation=FACE_68.flip_permutation
        ),
    ),
    "handcrafted, no flip": Case(
        HandcraftedAugmentation, "or `flip=0`", lambda: HandcraftedAugmentation(flip=0)
    ),
    "handcrafted, another permutation": Case(
        lambda: changed(flip=1.0, flip_permutation=(1, 2, 0)),
        "Give for every landmark the index of its mirror image",
        lambda: changed(flip=1.0, flip_permutation=MIRROR),
    ),
    "occlusion, probability": Case(
        lambda: RandomOcclusion(probability=2.0),
        "Choose 1 for always",
        lambda: RandomOcclusion(probability=1)(IMAGES),
    ),
    "occlusion, coverage": Case(
        lambda: RandomOcclusion(coverage=(0.0, 0.0)),
        "Use a `probability` of 0 to cover nothing",
        lambda: torch.testing.assert_close(RandomOcclusion(probability=0)(IMAGES), IMAGES),
    ),
    "occlusion, kinds": Case(
        lambda: occlude(IMAGES, torch.arange(4), kinds=("noise", "hat")),
        "Leave out the others",
        lambda: occlude(IMAGES, torch.arange(4), kinds=("noise",)),
    ),
    "corruption, kind": Case(lambda: corrupted(kind="rain"), "Choose one of them", corrupted),
    "corruption, severity": Case(
        lambda: corrupted(severity=0), "Choose one of these; severity 0 is the picture", corrupted
    ),
    "corruption, landmarks": Case(
        lambda: corrupted(kind="mask"),
        "Pass the faces' landmarks",
        lambda: corrupted(kind="mask", landmarks=FACES),
        ShapeError,
    ),
    "corruption, another kind": Case(
        lambda: corrupted(kind="mask"),
        "or choose a kind that needs none: gaussian_noise",
        every_kind_without_landmarks,
        ShapeError,
    ),
    "corruption, not finite": Case(
        lambda: corrupted(kind="mask", landmarks=FACES / 0),
        "Leave out faces with missing points",
        lambda: corrupted(kind="mask", landmarks=FACES),
    ),
    "corruption, square": Case(
        lambda: corrupted(square=Square(40.0, 0.0, 8.0)),
        "Give left, top and side in pixels",
        lambda: corrupted(square=Square(4.0, 4.0, 20.0)),
    ),
    "masks, landmarks": Case(
        lambda: rendered(landmarks=FACE[:5]), "Give the 68 points", rendered, ShapeError
    ),
    "masks, not finite": Case(
        lambda: rendered(landmarks=FACE / 0), "Leave out faces with missing points", rendered
    ),
    "masks, unit": Case(
        lambda: rendered(landmarks=FACE / 96),
        "Check their unit: pixels",
        lambda: rendered(landmarks=FACE / 96 * 96),
    ),
    "masks, grey": Case(
        lambda: rendered(PICTURE[..., :1]),
        "Give one RGB picture",
        lambda: rendered(PICTURE[..., :1].repeat(3, axis=2)),
        ShapeError,
    ),
    "masks, floating": Case(
        lambda: rendered(PICTURE / 255),
        r"Scale it to 0 ... 255",
        lambda: rendered((PICTURE / 255 * 255).astype(np.uint8)),
        TypeError,
    ),
    "masks, floating, as a batch": Case(
        lambda: rendered(PICTURE / 255),
        "or call `add_masks` for floating point",
        lambda: as_batch(PICTURE / 255),
        TypeError,
    ),
    "masks, one picture": Case(
        lambda: masked(IMAGES[0]),
        "Stack pictures",
        lambda: masked(torch.stack([*IMAGES])),
        ShapeError,
    ),
    "masks, bytes": Case(
        lambda: masked((255 * IMAGES).byte()),
        "Divide by 255",
        lambda: masked((255 * IMAGES).byte() / 255),
        TypeError,
    ),
    "masks, faces": Case(
        lambda: masked(landmarks=FACES[:2]), "Give one face a picture", masked, ShapeError
    ),
    "masks, seeds": Case(lambda: masked(seeds=[0]), "Give one a picture", masked, ShapeError),
    "masks, negative seed": Case(
        lambda: masked(seeds=(-1, 0, 1, 2)),
        "Give its absolute value",
        lambda: masked(seeds=(abs(-1), 0, 1, 2)),
    ),
    "masks, style": Case(
        lambda: masked(styles="scarf"),
        "surgical_blue, .*Choose one",
        lambda: masked(styles="cloth"),
    ),
    # baselines
    "defence, no gradients": Case(
        lambda: defended(SecondCopy(HeatmapTask()), enabled=False),
        r"use `defence.pictures\(...\)`",
        looked_at,
    ),
    "defence, distance": Case(
        lambda: VirtualAdversary(OwnTask()),
        r"Pass a callable `\(output, reference, target\) -> \(B,\)`",
        lambda: defended(VirtualAdversary(OwnTask(), distance=compared), target=OWN),
        TypeError,
    ),
    "geometry, task": Case(
        lambda: HardestGeometry(OwnTask()),
        "For a task of your own use SecondCopy with a transform",
        lambda: defended(SecondCopy(OwnTask(), transform=as_dict), target=OWN),
        TypeError,
    ),
    "geometry, hidden": Case(
        lambda: HardestGeometry(HeatmapTask(), hidden=(0.0, 0.0)),
        "Use None to hide nothing",
        lambda: defended(HardestGeometry(HeatmapTask(), hidden=None)),
    ),
    "geometry, scale": Case(
        lambda: HardestGeometry(CoordinateTask(), scale=(0, 1)),
        r"Choose \(1, 1\) to turn it off",
        lambda: defended(
            HardestGeometry(CoordinateTask(), scale=(1, 1)), CoordinateToy(), (POINTS, SEEN)
        ),
    ),
    "hardest, draws": Case(
        lambda: HardestAppearance(HeatmapTask(), draws=0),
        "Choose 2 or another",
        lambda: defended(HardestAppearance(HeatmapTask(), draws=2)),
    ),
    "steps": Case(
        lambda: PGDAdversary(HeatmapTask(), steps=0),
        "from 1 to inf, but got 0. Choose one in between",
        lambda: defended(PGDAdversary(HeatmapTask(), steps=1)),
    ),
    "steps of AugMax": Case(
        lambda: AugMax(HeatmapTask(), steps=0),
        "Choose one in between",
        lambda: defended(AugMax(HeatmapTask(), steps=1)),
    ),
    # drawn sets and loading
    "drawn, index": Case(
        lambda: SyntheticFaces(1, image_size=32)[1],
        "Pass a larger `count` for more pictures",
        lambda: SyntheticFaces(2, image_size=32)[1],
        IndexError,
    ),
    "drawn, whole": Case(
        lambda: SyntheticPeople(1.5), "Pass an int", lambda: SyntheticPeople(1), TypeError
    ),
    "drawn, least": Case(
        lambda: SyntheticFaces(1, seed=-1), "Pass 0 or more", lambda: SyntheticFaces(1, seed=0)
    ),
    "streamed, workers": Case(
        lambda: streamed(SyntheticFaces(1, image_size=32), workers=-1),
        "Pass 0 to read without any",
        lambda: streamed(SyntheticFaces(1, image_size=32), workers=0),
    ),
    "streamed, square": Case(
        lambda: streamed(Wide(1, image_size=32)),
        "Crop them",
        lambda: streamed(SyntheticFaces(1, image_size=31 + 1)),
        ShapeError,
    ),
}
