"""A small detector, small pictures and their evaluation, for the tests of measuring."""

from types import SimpleNamespace

import torch
from torch import nn
from torch.utils.data import Dataset

from advaug.cli.main import main
from advaug.detectors import HourglassNet

SIDE = 32
COUNT = 5  # pictures of each of the two splits


def hourglass(num_landmarks=68):
    """An hourglass whose maps have clear peaks, though it has learnt nothing."""
    torch.manual_seed(0)
    network = HourglassNet(num_landmarks, width=8, depth=1, out_stride=4)
    nn.init.normal_(network.heads[0][-1].weight)
    return network.eval()


def make_hourglass():
    """What `--detector measured:make_hourglass` names."""
    return hourglass(), "heatmaps"


class HalfHidden(Dataset):
    """Faces of a set that knows which landmarks are occluded: here those to the right."""

    def __init__(self, faces):
        self.faces = faces

    def __len__(self):
        return len(self.faces)

    def __getitem__(self, index):
        image, landmarks, visible = self.faces[index]
        occluded = landmarks[:, 0] > landmarks[:, 0].median()
        return SimpleNamespace(image=image, landmarks=landmarks, visible=visible, occluded=occluded)


def evaluate(output, *words, count=COUNT, detector=("--detector", "measured:make_hourglass")):
    """Run the command in this process on synthetic faces; give its exit status."""
    data = ("--data", "synthetic", "--count", str(count), "--image-size", str(SIDE))
    shared = ("--workers", "0", "--device", "cpu", "--output", str(output))
    return main(["evaluate", *detector, *data, *shared, *words])
