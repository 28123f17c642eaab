"""Train a pose detector plainly and with SAAT, and compare the two.

With no arguments: a small HG*1 on synthetic people, in minutes on two CPU cores.

    python examples/train_pose.py
    python examples/train_pose.py --data coco --root PICTURES --annotations FILE.json
    python examples/train_pose.py --data mpii --root FOLDER --preset paper --device cuda
    python examples/train_pose.py --data mouse --root openfield_mouse
"""

import argparse
import csv
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from lab.arguments import Experiment, Recipe, add_arguments, experiment_from
from lab.experiment import run
from lab.hourglass import add_hourglass_arguments, hourglass_from
from lab.pose import POSE_DATA, read_pose
from lab.stopped import unless_stopped
from lab.trainer import write_json

from advaug.errors import DatasetError

# An attacker that has hundreds of steps instead of the paper's 200,000 must learn faster.
SMALL = Recipe(
    steps=400, batch_size=16, image_size=64, learning_rate=1e-3, adversary_learning_rate=3e-4
)
MOUSE = ("snout", "leftear", "rightear", "tailbase")
# The keypoints end at the snout and at the tail, the body goes on at its sides. The whole arena,
# reduced to 64 pixels, would leave a mouse of ten.
MOUSE_MARGIN = 30


def main() -> int:
    """Parse the arguments, train, measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_arguments(parser, (*POSE_DATA, "mouse"))
    parser.add_argument("--annotations", type=Path, help="json of the keypoints, for --data coco")
    add_hourglass_arguments(parser)
    arguments = parser.parse_args()
    try:
        experiment = experiment_from(arguments, SMALL)
        if experiment.data == "mouse":
            experiment = as_coco(experiment)
        run(experiment, *hourglass_from(arguments), read_pose)
    except (ValueError, OSError, ImportError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


def as_coco(experiment: Experiment) -> Experiment:
    """Convert DeepLabCut's example mouse to COCO's format, beside the output."""
    assert experiment.root is not None  # asked for with the arguments
    annotations = mouse_annotations(experiment.root)
    path = experiment.output.with_name(f"{experiment.output.name}_mouse.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, annotations)
    return replace(experiment, data="coco", root=experiment.root / "images", annotations=path)


def mouse_annotations(root: Path) -> dict[str, Any]:
    """The mouse's `keypoints.csv`, 0-based pixels, as a json of COCO keypoints.

    Raises:
        DatasetError: If the table is not the mouse's.
    """
    with open(root / "keypoints.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [f"{name}_{axis}" for name in MOUSE for axis in "xy"]
    if not rows or not {"image", *columns} <= set(rows[0]):
        msg = (
            f"`{root}` must hold a `keypoints.csv` with image, {', '.join(columns)}, but does not."
        )
        raise DatasetError(msg)
    images, annotations = [], []
    for number, row in enumerate(rows, start=1):
        points = np.array([float(row[column]) for column in columns]).reshape(-1, 2)
        # Boxes count from the picture's edges, points from the first pixel's centre.
        low, high = points.min(axis=0) + 0.5 - MOUSE_MARGIN, points.max(axis=0) + 0.5 + MOUSE_MARGIN
        images.append({"id": number, "file_name": row["image"]})
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "bbox": [*low.tolist(), *(high - low).tolist()],
                "keypoints": np.column_stack([points, np.full(len(points), 2)]).ravel().tolist(),
            }
        )
    category = {"id": 1, "name": "mouse", "keypoints": list(MOUSE)}
    return {"images": images, "annotations": annotations, "categories": [category]}


if __name__ == "__main__":
    sys.exit(unless_stopped(main, go_on="Run the same command with `--resume` to go on."))
