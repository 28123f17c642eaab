"""SAAT in transformers' Trainer: the two lines marked below.

python examples/trainers/transformers_trainer.py
"""

import argparse

from faces import faces_and_heatmaps
from torch import Tensor, nn
from transformers import TrainingArguments

from advaug.detectors import HourglassNet
from advaug.integrations.transformers import AdversarialTrainer  # SAAT


class Landmarks(nn.Module):
    """A model that gives its loss, as transformers' own do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = HourglassNet(68, width=32, depth=3, out_stride=2)

    def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Mean squared error of the heatmaps."""
        heatmaps = self.net(pixel_values)
        return {"loss": nn.functional.mse_loss(heatmaps, labels), "logits": heatmaps}


def main() -> None:
    """Train for a few steps and say what was logged."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--output", default="runs/transformers")
    parser.add_argument("--resume", action="store_true", help="from the last checkpoint")
    arguments = parser.parse_args()
    data = [{"pixel_values": image, "labels": maps} for image, maps in faces_and_heatmaps(128)]
    options = TrainingArguments(
        output_dir=arguments.output,
        max_steps=arguments.steps,
        per_device_train_batch_size=8,
        learning_rate=1e-3,
        logging_steps=max(1, arguments.steps // 6),
        save_steps=max(1, arguments.steps // 2),
        use_cpu=arguments.cpu,
        report_to="none",
    )
    trainer = AdversarialTrainer(Landmarks(), options, train_dataset=data)  # SAAT
    trainer.train(resume_from_checkpoint=arguments.resume)
    print(trainer.state.log_history[-2])


if __name__ == "__main__":
    main()
