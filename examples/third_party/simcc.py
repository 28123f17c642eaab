"""Train a SimCC detector with SAAT: three lines, marked `# new`, in a plain loop.

SimCC (Li et al., ECCV 2022) classifies the column and the row of every landmark. Its loss is no
distance, so it needs its own task: any object with `error` and `landmark_heatmaps` is a task.
Run it for 300 steps by `python examples/third_party/simcc.py 300`.
"""

import sys

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from advaug import SampleAdaptiveAdversary  # new
from advaug.datasets import SyntheticFaces
from advaug.evaluation import evaluate
from advaug.tasks import CoordinateTask
from advaug.training import InMemoryLandmarks

SIDE, BINS, BATCH_SIZE = 64, 2, 16  # bins a pixel


class SimCC(nn.Module):
    """A ResNet-18 down to stride 8, a small map for each landmark, a linear layer for each axis."""

    def __init__(self, num_landmarks: int = 68) -> None:
        super().__init__()
        body = list(resnet18().children())[:6]
        self.body = nn.Sequential(*body, nn.Conv2d(128, num_landmarks, 1), nn.Flatten(2))
        self.columns, self.rows = (nn.Linear((SIDE // 8) ** 2, BINS * SIDE) for _ in range(2))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores `(B, N, bins)` of the columns and of the rows."""
        features = self.body(images)
        return self.columns(features), self.rows(features)


class SimCCTask(CoordinateTask):
    """How far the scores are from a Gaussian around the landmark, on both axes."""

    def error(self, output: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]) -> Tensor:
        """Kullback-Leibler divergence `(B,)`, the mean over the visible landmarks."""
        visible = target[1]
        landmarks = torch.where(visible[..., None], target[0], 0.0)  # the others may be NaN
        centres = (torch.arange(BINS * SIDE) + 0.5) / BINS - 0.5
        labels = (-((centres - landmarks[..., None]) ** 2) / 2).softmax(dim=-1)  # (B, N, 2, bins)
        scores = torch.stack(output, dim=2).log_softmax(dim=-1)
        divergence = nn.functional.kl_div(scores, labels, reduction="none").sum(dim=(2, 3))
        return (divergence * visible).sum(dim=1) / visible.sum(dim=1).clamp(min=1)


def decode(output: tuple[Tensor, Tensor], size: tuple[int, int]) -> Tensor:
    """Landmarks `(B, N, 2)` in pixels: the centres of the best bins."""
    return (torch.stack(output, dim=2).argmax(dim=-1) + 0.5) / BINS - 0.5


def main(steps: int = 300) -> None:
    """Train, then measure on clean, masked and occluded faces of other people."""
    torch.manual_seed(0)
    train = InMemoryLandmarks(SyntheticFaces(min(steps * BATCH_SIZE, 2000), image_size=SIDE))
    detector, task = SimCC(), SimCCTask()
    optimizer = torch.optim.Adam(detector.parameters(), lr=1e-3)
    adversary = SampleAdaptiveAdversary(task)  # new
    for step in range(steps):
        batch = train.batch(step, BATCH_SIZE)
        target = (batch.landmarks, batch.visible)
        loss = task.error(detector(batch.images), target).mean()
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
