"""Train a U-Net of segmentation_models_pytorch with SAAT: three lines, marked `# new`, in a loop.

    python examples/third_party/smp_unet.py 300

A segmentation network with one channel a landmark is a heatmap detector as it is. Here it starts
from random weights. An encoder with `encoder_weights="imagenet"` expects normalised pictures:
give it those, and the adversary `pixels=PixelSpec(mean, std)`.
"""

import sys

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from advaug import HeatmapTask, SampleAdaptiveAdversary  # new
from advaug.datasets import SyntheticFaces
from advaug.evaluation import evaluate
from advaug.heatmaps import decode_heatmaps, encode_heatmaps
from advaug.training import Batch, InMemoryLandmarks

SIDE, SIGMA, BATCH_SIZE = 64, 3.0, 16


def make_detector(num_landmarks: int = 68) -> nn.Module:
    """A U-Net four levels deep on a ResNet-18; its heatmaps are as large as the picture."""
    return smp.Unet(
        "resnet18",
        encoder_depth=4,
        encoder_weights=None,
        decoder_channels=(64, 64, 32, 16),
        classes=num_landmarks,
    )


def decode(output: Tensor, size: tuple[int, int]) -> Tensor:
    """Landmarks `(B, N, 2)` in pixels."""
    return decode_heatmaps(output, image_size=size, sigma=SIGMA)


def make_target(batch: Batch) -> Tensor:
    """The true heatmaps `(B, N, H, W)`."""
    return encode_heatmaps(batch.landmarks, batch.size, sigma=SIGMA, visible=batch.visible)


def main(steps: int = 300) -> None:
    """Train, then measure on clean, masked and occluded faces of other people."""
    torch.manual_seed(0)
    train = InMemoryLandmarks(SyntheticFaces(min(steps * BATCH_SIZE, 2000), image_size=SIDE))
    detector, criterion = make_detector(), nn.MSELoss()
    optimizer = torch.optim.Adam(detector.parameters(), lr=1e-3)
    adversary = SampleAdaptiveAdversary(HeatmapTask(), loss_weight=1 / 65536)  # new
    for step in range(steps):
        batch = train.batch(step, BATCH_SIZE)
        target = make_target(batch)
        loss = criterion(detector(batch.images), target)
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
