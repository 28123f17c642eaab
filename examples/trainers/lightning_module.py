"""SAAT in a Lightning trainer: the two lines marked below; the module knows nothing of it.

python examples/trainers/lightning_module.py
torchrun --nproc-per-node 2 examples/trainers/lightning_module.py --processes 2
"""

import argparse

import torch
from faces import faces_and_heatmaps
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader

from advaug.detectors import HourglassNet
from advaug.integrations.lightning import AdversaryCallback  # SAAT


class Landmarks(LightningModule):
    """A module as anyone would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = HourglassNet(68, width=32, depth=3, out_stride=2)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Mean squared error of the heatmaps."""
        images, heatmaps = batch
        loss = nn.functional.mse_loss(self.net(images), heatmaps)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main() -> None:
    """Train for a few steps and say what the adversary did."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--accelerator", default="auto", help="cpu, gpu or auto")
    arguments = parser.parse_args()
    seed_everything(0)
    loader = DataLoader(faces_and_heatmaps(128), batch_size=8, shuffle=True, drop_last=True)
    trainer = Trainer(
        max_steps=arguments.steps,
        devices=arguments.processes,
        accelerator=arguments.accelerator,
        gradient_clip_val=1.0,
        accumulate_grad_batches=2,
        logger=False,
        enable_checkpointing=False,
        callbacks=[AdversaryCallback()],  # SAAT
    )
    trainer.fit(Landmarks(), loader)
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})


if __name__ == "__main__":
    main()
