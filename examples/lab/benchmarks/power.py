"""How far an attacker raises the error of fixed, trained detectors within 200 steps of `augment`.

Each detector learns plainly first. Then it is fixed, and only the adversary learns. Printed, on
held-back faces, all attacked: the task's error, over that on the same pictures in the same random
appearance without a perturbation; SSIM of Eq. 9; and the same two for an attacker that has learned
nothing.

    python examples/benchmark.py power --root FOLDER
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from advaug import RandomAppearance, SampleAdaptiveAdversary, View
from advaug.augment import HandcraftedAugmentation
from advaug.datasets import PtsFolder, SyntheticFaces
from advaug.detectors import HourglassNet
from advaug.errors import DatasetError
from advaug.evaluation import nme
from advaug.schemes import FACE_68
from advaug.training import Batch, InMemoryLandmarks
from lab.codecs import Codec, CoordinateCodec, HeatmapCodec

SYNTHETIC_TRAIN, SYNTHETIC_VAL = 800, 200
DETECTOR_RATE = 1e-3
COLUMNS = ("NME %", "rate", "untrained: error", "SSIM", "trained: error", "SSIM")


class Case(NamedTuple):
    """A detector, what it learns from and gives, and whether half of that was in the appearance."""

    make: Callable[[], nn.Module]
    codec: Codec
    appearance: bool = False


class Strength(NamedTuple):
    """What an attacker does to a detector: the error, relative to the appearance's, and SSIM."""

    rise: float
    ssim: float


def make_light_coordinate() -> nn.Module:
    """A regressor on the lightest ResNet of timm."""
    from advaug.detectors import TimmCoordinateNet

    return TimmCoordinateNet("test_resnet", 68, width=64)


def make_narrow_hourglass() -> nn.Module:
    """HG*1, an eighth as wide as the paper's."""
    return HourglassNet(68, 1, width=32, depth=3, out_stride=2)


CASES: Mapping[str, Case] = {
    "heatmap": Case(make_narrow_hourglass, HeatmapCodec(2)),
    "coordinate": Case(make_light_coordinate, CoordinateCodec()),
    "coordinate-appearance": Case(make_light_coordinate, CoordinateCodec(), appearance=True),
}


def trained(
    case: Case, data: InMemoryLandmarks, steps: int, batch_size: int, seed: int
) -> nn.Module:
    """A detector that has learned, in evaluation mode and without gradients for its weights."""
    torch.manual_seed(seed)
    detector = case.make().train()
    optimizer = Adam(detector.parameters(), lr=DETECTOR_RATE)
    schedule = CosineAnnealingLR(optimizer, steps)
    augmentation = HandcraftedAugmentation(flip_permutation=FACE_68.flip_permutation, seed=seed)
    appearance = RandomAppearance()
    for step in range(steps):
        batch = data.batch(step, batch_size, seed=seed)
        labels = (batch.landmarks, batch.visible)
        images, (landmarks, visible) = augmentation(batch.images, labels)
        if case.appearance:
            own = batch_size // 2
            images = torch.cat([appearance(images[:own]), images[own:]])
        _error(case, detector, images, landmarks, visible).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return detector.eval().requires_grad_(False)


@torch.no_grad()
def strength(
    case: Case, detector: nn.Module, adversary: SampleAdaptiveAdversary, faces: Batch
) -> Strength:
    """Attack all pictures, and show them again without the perturbation in the same appearance."""
    labels = (faces.landmarks, faces.visible)
    drawn = adversary.preview(faces.images, labels)
    blank = adversary.attacker.register_forward_hook(lambda _, __, out: torch.zeros_like(out))
    same = adversary.preview(faces.images, labels)
    blank.remove()
    attacked, plain = (
        _error(case, detector, images, *labels).mean() for images in (drawn.images, same.images)
    )
    return Strength((attacked / plain - 1).item(), drawn.ssim.mean().item())


def attacked_at(
    rate: float,
    case: Case,
    detector: nn.Module,
    data: InMemoryLandmarks,
    held_back: Batch,
    arguments: argparse.Namespace,
) -> tuple[Strength, Strength]:
    """What an attacker does to the detector before it has learned and after."""
    adversary = SampleAdaptiveAdversary(
        view=View(regions=None) if arguments.whole else View(),
        optimizer=lambda weights: Adam(weights, lr=rate, betas=(0.5, 0.999), fused=True),
        seed=arguments.seed,
    )
    before = strength(case, detector, adversary, held_back)
    for step in range(arguments.steps):
        batch = data.batch(step, arguments.batch_size, seed=arguments.seed)
        shown = adversary.augment(batch.images, (batch.landmarks, batch.visible))
        _error(case, detector, shown, batch.landmarks, batch.visible).mean().backward()
    return before, strength(case, detector, adversary, held_back)


@torch.no_grad()
def accuracy(case: Case, detector: nn.Module, faces: Batch) -> float:
    """NME on clean faces, as a fraction of the inter-ocular distance."""
    size = (faces.images.shape[-2], faces.images.shape[-1])
    found = case.codec.decode(detector(faces.images), size)
    errors = nme(found, faces.landmarks, normalizer="inter_ocular", visible=faces.visible)
    return errors.nanmean().item()


def _error(case: Case, detector: nn.Module, images: Tensor, *labels: Tensor) -> Tensor:
    target: Any = case.codec.encode(labels[0], labels[1], (images.shape[-2], images.shape[-1]))
    return case.codec.task.error(detector(images), target)


def row(name: str, rate: float, accuracy: float, before: Strength, after: Strength) -> str:
    """One row of the table."""
    parts = [f"{each.rise:+.1%} | {each.ssim:.3f}" for each in (before, after)]
    return f"| {name} | {100 * accuracy:.2f} | {rate:g} | {' | '.join(parts)} |"


def read(root: Path | None, side: int, pictures: int) -> tuple[InMemoryLandmarks, Batch]:
    """Faces to train on, and held-back ones; synthetic without a folder."""
    if root is None:
        train: Any = SyntheticFaces(SYNTHETIC_TRAIN, split="train", image_size=side)
        test: Any = SyntheticFaces(SYNTHETIC_VAL, split="val", image_size=side)
    else:
        train, test = (PtsFolder(root / name, image_size=side) for name in ("train", "val"))
    held_back = InMemoryLandmarks(test, workers=0)
    return InMemoryLandmarks(train, workers=0), held_back[slice(0, pictures)]


def main() -> int:
    """Parse the arguments, train, attack, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--root", type=Path, help="folder with `train` and `val`; synthetic faces without it")
    add("--detectors", nargs="+", choices=tuple(CASES), default=list(CASES))
    add("--train-steps", type=int, default=1500, help="of each detector")
    add("--steps", type=int, default=200, help="of the attacker")
    add("--rates", type=float, nargs="+", default=[1e-4], help="of attacker and discriminator")
    add("--whole", action="store_true", help="attack the whole picture, not random regions")
    add("--batch-size", type=int, default=16)
    add("--image-size", type=int, default=64)
    add("--pictures", type=int, default=474, help="that the strength is measured on")
    add("--threads", type=int, default=1, help="threads of PyTorch")
    add("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        data, held_back = read(arguments.root, arguments.image_size, arguments.pictures)
    except (DatasetError, OSError) as error:
        parser.error(str(error))
    print(f"| detector | {' | '.join(COLUMNS)} |")
    print("|---|" + "---:|" * len(COLUMNS), flush=True)
    for name in arguments.detectors:
        case = CASES[name]
        detector = trained(case, data, arguments.train_steps, arguments.batch_size, arguments.seed)
        nme_of_clean = accuracy(case, detector, held_back)
        for rate in arguments.rates:
            found = attacked_at(rate, case, detector, data, held_back, arguments)
            print(row(name, rate, nme_of_clean, *found), flush=True)
    return 0
