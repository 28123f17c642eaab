"""Train the hourglass detector HG*1 plainly and with SAAT, and compare the two.

With no arguments: a small HG*1 on synthetic faces, in minutes on two CPU cores.

    python examples/train_300w_hg.py
    python examples/train_300w_hg.py --data pts --root FOLDER
    python examples/train_300w_hg.py --data 300w --root FOLDER --preset paper --device cuda
"""

import argparse
import sys

from lab.arguments import Recipe, add_arguments, experiment_from
from lab.experiment import run
from lab.faces import read_faces
from lab.hourglass import add_hourglass_arguments, hourglass_from
from lab.stopped import unless_stopped

# An attacker that has hundreds of steps instead of the paper's 200,000 must learn faster.
SMALL = Recipe(
    steps=700, batch_size=16, image_size=64, learning_rate=1e-3, adversary_learning_rate=3e-4
)


def main() -> int:
    """Parse the arguments, train, measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_arguments(parser)
    add_hourglass_arguments(parser)
    arguments = parser.parse_args()
    try:
        run(experiment_from(arguments, SMALL), *hourglass_from(arguments), read_faces)
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(unless_stopped(main, go_on="Run the same command with `--resume` to go on."))
