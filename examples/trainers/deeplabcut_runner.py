"""SAAT in DeepLabCut 3: the two lines marked below. Synthetic faces stand for a project.

With a project it is `with adversarial_training(): deeplabcut.train_network(config)`. Tried with
DeepLabCut 3.0.2, in a separate environment.

    pip install deeplabcut
    python examples/trainers/deeplabcut_runner.py
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from deeplabcut.pose_estimation_pytorch.models import PoseModel
from deeplabcut.pose_estimation_pytorch.runners import build_training_runner
from deeplabcut.pose_estimation_pytorch.task import Task
from faces import faces
from torch.utils.data import DataLoader

from advaug.integrations.deeplabcut import IMAGENET, adversarial_training  # SAAT

HEAD = {"type": "HeatmapHead", "heatmap_config": {"channels": [512, 68], "kernel_size": [3]}}
HEAD["heatmap_config"]["strides"] = [2]
HEAD["predictor"] = {"type": "HeatmapPredictor", "location_refinement": False}
HEAD["target_generator"] = {"type": "HeatmapGaussianGenerator", "num_heatmaps": 68}
HEAD["target_generator"] |= {"pos_dist_thresh": 8, "generate_locref": False}
HEAD["criterion"] = {"heatmap": {"type": "WeightedMSECriterion", "weight": 1.0}}
MODEL = {"backbone": {"type": "ResNet", "model_name": "resnet18", "output_stride": 16}}
MODEL |= {"backbone_output_channels": 512, "heads": {"bodypart": HEAD}}
SNAPSHOTS = {"max_snapshots": 5, "save_epochs": 1, "save_optimizer_state": True}
RUNNER = {"optimizer": {"type": "AdamW", "params": {"lr": 1e-3}}, "snapshots": SNAPSHOTS}
RUNNER |= {"eval_interval": 1, "key_metric": "test.mAP"}


def samples(count: int) -> list[dict[str, Any]]:
    """Faces in the form of DeepLabCut's datasets."""
    images, points = faces(count)
    images, marks = IMAGENET.from_unit(images), torch.cat([points, points[..., :1] * 0 + 2], dim=2)
    rest = {"context": {}, "offsets": torch.zeros(2), "scales": torch.ones(2)}
    labels = {"with_center_keypoints": False}
    return [
        {"image": image, "annotations": {"keypoints": people[None], **labels}, **rest}
        for image, people in zip(images, marks, strict=True)
    ]


def main() -> None:
    """Train for a few epochs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("runs/deeplabcut"))
    parser.add_argument("--snapshot", type=Path, help="to go on from")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    model = PoseModel.build(MODEL, pretrained_backbone=False)
    place = (RUNNER, options.output, Task.BOTTOM_UP, model, "cpu", None, options.snapshot)
    with adversarial_training():  # SAAT
        runner = build_training_runner(*place)
    train, test = DataLoader(samples(32), batch_size=8), DataLoader(samples(4))
    runner.fit(train, test, epochs=options.epochs, display_iters=4)


if __name__ == "__main__":
    main()
