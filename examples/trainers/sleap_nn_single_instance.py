"""SAAT in sleap-nn's own LightningModule: one changed line, marked below.

Tried with sleap-nn 0.3.5 and Lightning 2.6. The callback is told what is sleap-nn's: the network is
`module.model` and gives a dict, and batches are dicts with one more axis. The data are synthetic.

    pip install sleap-nn
    python examples/trainers/sleap_nn_single_instance.py
"""

import argparse

import torch
from lightning.pytorch import Trainer, seed_everything
from omegaconf import OmegaConf
from sleap_nn.data.normalization import normalize_on_gpu
from sleap_nn.training.lightning_modules import SingleInstanceLightningModule
from torch.utils.data import DataLoader, Dataset

from advaug import HeatmapTask, SampleAdaptiveAdversary, encode_heatmaps
from advaug.datasets import SyntheticFaces
from advaug.integrations.lightning import AdversaryCallback

SIDE, STRIDE = 64, 2
HEAD = "SingleInstanceConfmapsHead"
UNET = {
    "in_channels": 3,
    "filters": 16,
    "filters_rate": 1.5,
    "max_stride": 8,
    "output_stride": STRIDE,
    "kernel_size": 3,
    "convs_per_block": 2,
    "stacks": 1,
    "stem_stride": None,
    "middle_block": True,
    "up_interpolate": True,
}
CONFMAPS = {"part_names": [f"point_{n}" for n in range(68)], "output_stride": STRIDE, "sigma": 2.0}


class Frames(Dataset[dict[str, torch.Tensor]]):
    """Synthetic faces in the form of sleap-nn's loaders."""

    def __init__(self, count: int) -> None:
        self.faces = SyntheticFaces(count, image_size=SIDE)

    def __len__(self) -> int:
        """How many frames there are."""
        return len(self.faces)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """A frame `(1, 3, H, W)` in bytes, and its confidence maps `(1, N, h, w)`."""
        image, landmarks, _ = self.faces[index]
        size = (SIDE // STRIDE, SIDE // STRIDE)
        maps = encode_heatmaps(landmarks[None], size, image_size=(SIDE, SIDE))
        return {"image": (255 * image[None]).byte(), "confidence_maps": maps}


def pictures_and_maps(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """What the adversary takes, from a batch of sleap-nn: pictures in `[0, 1]`, and maps."""
    return normalize_on_gpu(batch["image"].squeeze(1)), batch["confidence_maps"].squeeze(1)


def main() -> None:
    """Train for a few steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    steps = parser.parse_args().steps
    seed_everything(0)
    module = SingleInstanceLightningModule(
        model_type="single_instance",
        backbone_type="unet",
        backbone_config=OmegaConf.create({"unet": UNET}),
        head_configs=OmegaConf.create({"single_instance": {"confmaps": CONFMAPS}}),
    )
    loader = DataLoader(Frames(128), batch_size=8, shuffle=True, drop_last=True)
    adversary = SampleAdaptiveAdversary(
        HeatmapTask(output=lambda heads: heads[HEAD]), loss_weight=1 / 65536
    )
    trainer = Trainer(
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        callbacks=[AdversaryCallback(adversary, lambda m: m.model, pictures_and_maps)],  # SAAT
    )
    trainer.fit(module, loader)
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})


if __name__ == "__main__":
    main()
