"""SAAT in Ultralytics' pose trainer: the two lines marked below. Synthetic people; no download.

Ultralytics is under the AGPL 3.0; install it yourself. Tried with 8.4.190.

    pip install ultralytics
    python examples/trainers/ultralytics_pose.py
"""

import argparse
from pathlib import Path

import torch
import yaml
from torchvision.utils import save_image
from ultralytics import YOLO

from advaug.datasets import SyntheticPeople
from advaug.integrations.ultralytics import AdversarialPoseTrainer  # SAAT


def write_data(folder: Path, count: int, side: int) -> Path:
    """Pictures and labels in Ultralytics' format, and the file that names them."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for n, (image, points, visible) in enumerate(SyntheticPeople(count, image_size=side)):
        save_image(image, folder / "images" / f"{n}.png")
        low, high = points[visible].amin(dim=0) / side, (points[visible].amax(dim=0) + 1) / side
        marks = torch.cat([(points + 0.5) / side, 2.0 * visible[:, None]], dim=1) * visible[:, None]
        row = torch.cat([(low + high) / 2, high - low, marks.flatten()]).clamp(0, 2)
        line = " ".join(f"{value:.5f}" for value in row.tolist())
        (folder / "labels" / f"{n}.txt").write_text(f"0 {line}\n")
    facts = {"path": str(folder.resolve()), "train": "images", "val": "images"}
    facts |= {"names": {0: "person"}, "kpt_shape": [17, 3], "flip_idx": [*range(17)]}
    (folder / "data.yaml").write_text(yaml.safe_dump(facts))
    return folder / "data.yaml"


def main() -> None:
    """Train for a few epochs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--output", type=Path, default=Path("runs/ultralytics"))
    arguments = parser.parse_args()
    data = write_data(arguments.output / "data", arguments.pictures, side=128)
    YOLO("yolo11n-pose.yaml").train(
        trainer=AdversarialPoseTrainer,  # SAAT
        data=str(data),
        epochs=arguments.epochs,
        imgsz=128,
        batch=8,
        project=str(arguments.output.resolve()),
        name="run",
        fliplr=0.0,
        amp=False,
    )


if __name__ == "__main__":
    main()
