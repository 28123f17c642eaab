"""SAAT in a loop on Accelerate: the lines marked below, three, and a fourth for checkpoints.

Accumulation, clipping and any number of processes; nothing in here depends on how many.

    python examples/trainers/accelerate_loop.py
    accelerate launch --num_processes 2 examples/trainers/accelerate_loop.py
"""

import argparse
import itertools
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from faces import faces_and_heatmaps
from torch import nn
from torch.utils.data import DataLoader

from advaug import SampleAdaptiveAdversary  # SAAT
from advaug.detectors import HourglassNet


def main() -> None:
    """Train for a few steps and say what the adversary did."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, help="batches a process")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--output", type=Path, help="folder for a checkpoint at the end")
    arguments = parser.parse_args()
    set_seed(0)
    accelerator = Accelerator(cpu=arguments.cpu, gradient_accumulation_steps=2)
    detector = HourglassNet(68, width=32, depth=3, out_stride=2)
    optimizer = torch.optim.Adam(detector.parameters(), lr=1e-3)
    loader = DataLoader(faces_and_heatmaps(128), batch_size=8, shuffle=True, drop_last=True)
    detector, optimizer, loader = accelerator.prepare(detector, optimizer, loader)
    adversary = SampleAdaptiveAdversary().to(accelerator.device)  # SAAT
    accelerator.register_for_checkpointing(adversary)  # SAAT
    epochs = itertools.chain.from_iterable(itertools.repeat(loader))
    for images, heatmaps in itertools.islice(epochs, arguments.steps):
        with accelerator.accumulate(detector):
            images = adversary.augment(images, heatmaps)  # SAAT
            loss = nn.functional.mse_loss(detector(images), heatmaps)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(detector.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    if arguments.output is not None:
        accelerator.save_state(str(arguments.output))
    accelerator.print(f"loss {loss.item():.4f} on the last of {arguments.steps} batches")
    accelerator.print(adversary.report.read())
    accelerator.end_training()


if __name__ == "__main__":
    main()
