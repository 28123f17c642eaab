"""Train ViTPose, from transformers, with SAAT: three lines, marked `# new`, in a plain loop.

    python examples/third_party/vitpose.py 300

ViTPose returns an object; `HeatmapTask(output=...)` is told how to pick the heatmaps out of it.
The model here is small and starts from random weights. The published ones come from
`VitPoseForPoseEstimation.from_pretrained(...)` and expect normalised pictures: give them those, and
the adversary `pixels=PixelSpec(mean, std)`.
"""

import sys

import torch
from torch import Tensor, nn
from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation
from transformers.utils import ModelOutput

from advaug import HeatmapTask, SampleAdaptiveAdversary  # new
from advaug.datasets import SyntheticFaces
from advaug.evaluation import evaluate
from advaug.heatmaps import decode_heatmaps, encode_heatmaps
from advaug.training import Batch, InMemoryLandmarks

SIDE, STRIDE, SIGMA, BATCH_SIZE = 64, 2, 2.0, 16


def make_detector(num_landmarks: int = 68) -> nn.Module:
    """A small ViTPose: patches of 8 pixels, four layers, heatmaps of half the picture's size."""
    backbone = VitPoseBackboneConfig(
        image_size=(SIDE, SIDE),
        patch_size=(8, 8),
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        out_indices=[4],
    )
    config = VitPoseConfig(backbone_config=backbone, num_labels=num_landmarks)
    return VitPoseForPoseEstimation(config)


def maps(output: ModelOutput) -> Tensor:
    """The heatmaps in the model's output."""
    return output.heatmaps


def decode(output: ModelOutput, size: tuple[int, int]) -> Tensor:
    """Landmarks `(B, N, 2)` in pixels."""
    return decode_heatmaps(maps(output), image_size=size, sigma=SIGMA)


def make_target(batch: Batch) -> Tensor:
    """The true heatmaps `(B, N, h, w)`."""
    size, seen = (SIDE // STRIDE, SIDE // STRIDE), batch.visible
    return encode_heatmaps(batch.landmarks, size, image_size=batch.size, sigma=SIGMA, visible=seen)


def main(steps: int = 300) -> None:
    """Train, then measure on clean, masked and occluded faces of other people."""
    torch.manual_seed(0)
    train = InMemoryLandmarks(SyntheticFaces(min(steps * BATCH_SIZE, 2000), image_size=SIDE))
    detector, criterion = make_detector(), nn.MSELoss()
    optimizer = torch.optim.Adam(detector.parameters(), lr=1e-3)
    adversary = SampleAdaptiveAdversary(HeatmapTask(output=maps), loss_weight=1 / 65536)  # new
    for step in range(steps):
        batch = train.batch(step, BATCH_SIZE)
        target = make_target(batch)
        loss = criterion(maps(detector(batch.images)), target)
        loss = loss + adversary(detector, batch.images, target)  # new
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    test = InMemoryLandmarks(SyntheticFaces(100, split="val", image_size=SIDE))[:]
    truth = (test.images, test.landmarks, test.visible)
    for name, errors in evaluate(detector, decode, *truth, normalizer="inter_ocular").items():
        print(f"{name}: NME {errors.summary()['nme']:.1%} of the inter-ocular distance")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
