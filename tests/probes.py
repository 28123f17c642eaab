"""What the tests of the adversary look through: recorders and fixed attackers."""

import torch
from torch import nn
from toys import (
    HeatmapToy,
)

from advaug import (
    PixelSpec,
)

IMAGENET = PixelSpec((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def sgd(parameters, lr=1.0):
    return torch.optim.SGD(parameters, lr=lr)


def deterministic_detector():
    return HeatmapToy(dropout=0.0)


def remember_attack(adversary, monkeypatch):
    """The batches that `attack` gives to the call."""
    batches, attack = [], adversary.attack

    def spy(*args, **kwargs):
        batches.append(attack(*args, **kwargs))
        return batches[-1]

    monkeypatch.setattr(adversary, "attack", spy)
    return batches


class Recorder(nn.Module):
    """A network that remembers what it was given and gave."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.calls = []

    def forward(self, *args):
        result = self.network(*args)
        self.calls.append((args, result))
        return result


class Noise(nn.Module):
    """An attacker of known strength that never learns (its optimizer's rate is zero)."""

    def __init__(self, strength):
        super().__init__()
        self.strength = nn.Parameter(torch.tensor(float(strength)))

    def forward(self, images, structure, noise):
        return self.strength * noise.expand_as(images)
