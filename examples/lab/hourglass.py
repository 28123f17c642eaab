"""The hourglass detector as the examples build it: small by default, or of the paper's size."""

import argparse

from torch import Tensor, nn

from advaug.detectors import HourglassNet
from lab.codecs import HeatmapCodec
from lab.experiment import MakeDetector

__all__ = ["add_hourglass_arguments", "hourglass_from"]


def add_hourglass_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of the detector."""
    parser.add_argument("--stacks", type=int, default=1, help="1 for HG*1, 2 for HG*2")
    parser.add_argument("--width", type=int, help="channels of the hourglass: 256 in the paper")


def hourglass_from(arguments: argparse.Namespace) -> tuple[MakeDetector, HeatmapCodec]:
    """What builds the detector, one heatmap a landmark, and what it learns from and gives.

    Args:
        arguments: Parsed; `--preset` decides what is not given.
    """
    paper = arguments.preset == "paper"
    width = arguments.width or (256 if paper else 64)
    depth, stride = (4, 1) if paper else (3, 2)

    def make_detector(mean_shape: Tensor) -> nn.Module:
        return HourglassNet(
            len(mean_shape), arguments.stacks, width=width, depth=depth, out_stride=stride
        )

    return make_detector, HeatmapCodec(stride)
