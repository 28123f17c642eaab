"""SAAT in sleap-nn's own LightningModule: the two lines marked below. The data are synthetic.

Tried with sleap-nn 0.3.5 and Lightning 2.6, in a separate environment.

    pip install sleap-nn
    python examples/trainers/sleap_nn_single_instance.py
"""

import argparse

import torch
from faces import faces
from lightning.pytorch import Trainer, seed_everything
from omegaconf import OmegaConf
from sleap_nn.training.lightning_modules import SingleInstanceLightningModule
from torch.utils.data import DataLoader

from advaug import encode_heatmaps
from advaug.integrations.sleap_nn import SleapAdversaryCallback  # SAAT

SIDE, STRIDE = 64, 2
UNET = {"in_channels": 3, "filters": 16, "filters_rate": 1.5, "max_stride": 8}
UNET |= {"output_stride": STRIDE, "kernel_size": 3, "convs_per_block": 2, "stacks": 1}
UNET |= {"stem_stride": None, "middle_block": True, "up_interpolate": True}
CONFMAPS = {"part_names": [f"point_{n}" for n in range(68)], "output_stride": STRIDE, "sigma": 2.0}


def frames(count: int) -> list[dict[str, torch.Tensor]]:
    """Faces in the form of sleap-nn's datasets: bytes, instances and confidence maps."""
    images, points = faces(count, SIDE)
    size = (SIDE // STRIDE, SIDE // STRIDE)
    maps = encode_heatmaps(points, size, image_size=(SIDE, SIDE))
    return [
        {
            "image": (255 * image[None]).byte(),
            "instances": marks[None, None],
            "confidence_maps": heatmaps[None],
        }
        for image, marks, heatmaps in zip(images, points, maps, strict=True)
    ]


def main() -> None:
    """Train for a few steps and say what was logged."""
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
    trainer = Trainer(
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        callbacks=[SleapAdversaryCallback()],  # SAAT
    )
    trainer.fit(module, DataLoader(frames(64), batch_size=8, shuffle=True))
    print({name: round(float(value), 4) for name, value in trainer.callback_metrics.items()})


if __name__ == "__main__":
    main()
