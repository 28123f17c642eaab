"""Train the coordinate regressor MDM plainly and with SAAT, and compare the two.

With no arguments: a small MDM on synthetic faces, in minutes on two CPU cores.

    python examples/train_300w_mdm.py
    python examples/train_300w_mdm.py --data pts --root FOLDER
    python examples/train_300w_mdm.py --data 300w --root FOLDER --preset paper --device cuda
"""

import argparse
import sys

from lab.arguments import Recipe, add_arguments, experiment_from
from lab.codecs import CoordinateCodec
from lab.experiment import run
from lab.faces import read_faces
from lab.stopped import unless_stopped
from torch import Tensor, nn

from advaug import CoordinateTask
from advaug.detectors import MDM
from advaug.schemes import FACE_68

# An attacker that has hundreds of steps instead of the paper's 200,000 must learn faster.
SMALL = Recipe(
    steps=1000, batch_size=8, image_size=64, learning_rate=1e-3, adversary_learning_rate=3e-4
)


def main() -> int:
    """Parse the arguments, train, measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--patch-size", type=int, help="side of a patch: 30 pixels in the paper")
    parser.add_argument("--hidden", type=int, help="size of the state: 512 in the paper")
    arguments = parser.parse_args()
    paper = arguments.preset == "paper"
    patch_size = arguments.patch_size or (30 if paper else 12)
    hidden = arguments.hidden or (512 if paper else 64)

    try:
        experiment = experiment_from(arguments, SMALL)
        side = experiment.recipe.image_size
        # The pictures are crops of faces: a shape that is known in their pixels keeps its place.
        whole = (-0.5, -0.5, side - 0.5, side - 0.5)

        def make_detector(mean_shape: Tensor) -> nn.Module:
            return MDM(mean_shape, mean_box=whole, hidden=hidden, patch_size=patch_size)

        eye_corners = CoordinateTask(normalizer=FACE_68.eye_corners)
        run(experiment, make_detector, CoordinateCodec(eye_corners), read_faces)
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(unless_stopped(main, go_on="Run the same command with `--resume` to go on."))
