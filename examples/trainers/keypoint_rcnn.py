"""SAAT in a loop around torchvision's Keypoint R-CNN: the two lines marked below, and one to log.

python examples/trainers/keypoint_rcnn.py
"""

import argparse
from pathlib import Path

import torch
from torchvision.models.detection import keypointrcnn_resnet50_fpn

from advaug.datasets import SyntheticPeople
from advaug.integrations.torchvision import attach_to_rcnn  # SAAT


def pictures_and_people(count: int, side: int) -> list[tuple[torch.Tensor, dict]]:
    """Pictures with one person each, and targets in torchvision's form."""
    pairs = []
    for image, points, visible in SyntheticPeople(count, image_size=side):
        corners = torch.cat([points[visible].amin(dim=0), points[visible].amax(dim=0) + 1])
        people = torch.cat([points, visible[:, None].float()], dim=1)[None]
        labels = torch.ones(1, dtype=torch.int64)
        pairs.append((image, {"boxes": corners[None], "labels": labels, "keypoints": people}))
    return pairs


def main() -> None:
    """Train for a few steps and say what the adversary did."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--output", type=Path, help="file for a checkpoint at the end")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = keypointrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=arguments.side, box_detections_per_img=10
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    handle = attach_to_rcnn(model, optimizer)  # SAAT: its state is in optimizer.state_dict()
    data = pictures_and_people(2 * arguments.steps, arguments.side)
    for step in range(arguments.steps):
        images, targets = zip(*data[2 * step : 2 * step + 2], strict=True)
        loss = sum(model(list(images), list(targets)).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"{step} loss {loss.item():.3f}", handle.adversary.report.read())  # SAAT
    if arguments.output is not None:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(state, arguments.output)


if __name__ == "__main__":
    main()
