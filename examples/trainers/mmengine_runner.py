"""SAAT in a Runner of mmengine, as mmpose trains: the two lines marked below. Synthetic faces.

With mmpose it is the same hook; `AdversaryHook` finds the landmarks in its data samples. Tried with
mmengine 0.10.7, in a separate environment.

    pip install mmengine
    python examples/trainers/mmengine_runner.py
"""

import argparse
from typing import Any

import torch
from faces import faces_and_heatmaps
from mmengine.model import BaseModel, ImgDataPreprocessor
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch import Tensor, nn

from advaug.detectors import HourglassNet
from advaug.integrations.mmengine import AdversaryHook  # SAAT


class Landmarks(BaseModel):
    """A model in the form of mmpose's: bytes go in, normalised by its preprocessor."""

    def __init__(self) -> None:
        super().__init__(ImgDataPreprocessor(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4]))
        self.net = HourglassNet(68, width=32, depth=3, out_stride=2)

    def forward(self, inputs: Tensor, data_samples: list[Any], mode: str) -> dict[str, Tensor]:
        """Mean squared error of the heatmaps."""
        heatmaps = torch.stack([sample.gt_fields.heatmaps for sample in data_samples])
        return {"loss": nn.functional.mse_loss(self.net(inputs), heatmaps.to(inputs.device))}


def samples(count: int) -> list[dict[str, Any]]:
    """Pictures in bytes, and data samples like those of mmpose."""
    return [
        {
            "inputs": (255 * image).byte(),
            "data_samples": BaseDataElement(
                gt_instances=InstanceData(), gt_fields=PixelData(heatmaps=heatmaps)
            ),
        }
        for image, heatmaps in faces_and_heatmaps(count)
    ]


def main() -> None:
    """Train for a few epochs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--output", default="runs/mmengine")
    arguments = parser.parse_args()
    shuffled = {"type": "DefaultSampler", "shuffle": True}
    loader = {"dataset": samples(32), "batch_size": 8, "sampler": shuffled}
    runner = Runner(
        Landmarks(),
        work_dir=arguments.output,
        train_dataloader={**loader, "collate_fn": {"type": "pseudo_collate"}},
        train_cfg={"by_epoch": True, "max_epochs": arguments.epochs},
        optim_wrapper={"optimizer": {"type": "Adam", "lr": 1e-3}},
        custom_hooks=[AdversaryHook(interval=2)],  # SAAT
        default_hooks={"logger": {"type": "LoggerHook", "interval": 2}},
    )
    runner.train()


if __name__ == "__main__":
    main()
