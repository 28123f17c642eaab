"""Train the hourglass detector HG*1 plainly and with SAAT, and compare the two.

With no arguments: a small HG*1 on synthetic faces, in minutes on two CPU cores.

    python examples/train_300w_hg.py
    python examples/train_300w_hg.py --data pts --root FOLDER
    python examples/train_300w_hg.py --data 300w --root FOLDER --preset paper --device cuda
"""

import argparse
import sys

from torch import Tensor, nn

from advaug.detectors import HourglassNet
from advaug.training import HeatmapCodec
from advaug.training.experiment import Recipe, add_arguments, experiment_from, run

# An attacker that has hundreds of steps instead of the paper's 200,000 must learn faster.
SMALL = Recipe(
    steps=700, batch_size=16, image_size=64, learning_rate=1e-3, adversary_learning_rate=3e-4
)
NUM_LANDMARKS = 68


def main() -> int:
    """Parse the arguments, train, measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--stacks", type=int, default=1, help="1 for HG*1, 2 for HG*2")
    parser.add_argument("--width", type=int, help="channels of the hourglass: 256 in the paper")
    arguments = parser.parse_args()
    paper = arguments.preset == "paper"
    width = arguments.width or (256 if paper else 64)
    depth, stride = (4, 1) if paper else (3, 2)

    def make_detector(_mean_shape: Tensor) -> nn.Module:
        return HourglassNet(
            NUM_LANDMARKS, arguments.stacks, width=width, depth=depth, out_stride=stride
        )

    try:
        run(experiment_from(arguments, SMALL), make_detector, HeatmapCodec(stride))
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
