"""SAAT in lightning-pose's heatmap tracker: the two lines marked below. The data are synthetic.

Tried with lightning-pose 2.4.3, in a separate environment, on Lightning 2.6. It requires a
package that the index does not have; the page on trainers says how to install it all the same.

    python examples/trainers/lightning_pose_tracker.py
"""

import argparse
from typing import Any

import torch
from faces import faces
from lightning.pytorch import Trainer, seed_everything
from lightning_pose.data.heatmaps import generate_heatmaps
from lightning_pose.losses.factory import LossFactory
from lightning_pose.models.heatmap_tracker import HeatmapTracker
from torch.utils.data import DataLoader

from advaug.integrations.lightning_pose import IMAGENET, LightningPoseAdversaryCallback  # SAAT

SIDE = 128


def frames(count: int) -> list[dict[str, Any]]:
    """Faces in the form of lightning-pose's datasets."""
    images, points = faces(count, SIDE)
    maps = generate_heatmaps(points, SIDE, SIDE, (SIDE // 4, SIDE // 4))
    box = torch.tensor([0.0, 0.0, SIDE, SIDE])
    return [
        {"images": image, "keypoints": marks.flatten(), "heatmaps": heatmaps, "bbox": box}
        for image, marks, heatmaps in zip(IMAGENET.from_unit(images), points, maps, strict=True)
    ]


def main() -> None:
    """Train for a few steps and say what was logged."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    seed_everything(0)
    losses = LossFactory({"heatmap_mse": {"log_weight": 0.0}}, None)
    module = HeatmapTracker(68, loss_factory=losses, backbone="resnet18", pretrained=False)
    trainer = Trainer(
        max_steps=arguments.steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        callbacks=[LightningPoseAdversaryCallback()],  # SAAT
    )
    trainer.fit(module, DataLoader(frames(32), batch_size=4, shuffle=True))
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})


if __name__ == "__main__":
    main()
