"""The benchmark of the attack's strength, on a few synthetic faces."""

import sys

import pytest
import torch
from lab.benchmarks import power
from torch import nn
from toys import tiny_adversary

from advaug.training import Batch


@pytest.fixture(autouse=True)
def threads():
    """The benchmark sets the process's."""
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@pytest.mark.parametrize("regions", [[], ["--whole"]], ids=["regions", "whole"])
def test_a_row_for_every_detector_and_rate(regions, monkeypatch, capsys):
    monkeypatch.setattr(power, "SYNTHETIC_TRAIN", 6)
    monkeypatch.setattr(power, "SYNTHETIC_VAL", 4)
    small = ["--train-steps", "2", "--steps", "2", "--image-size", "32", "--batch-size", "4"]
    chosen = ["--detectors", "heatmap", "coordinate-appearance", "--rates", "1e-4", "1e-3"]
    monkeypatch.setattr(sys, "argv", ["power", *small, *regions, *chosen])
    assert power.main() == 0
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split("|")[1].strip() for row in rows] == chosen[1:2] * 2 + chosen[2:3] * 2
    assert all(row.count("|") == head.count("|") for row in rows)
    untrained = [float(row.split("|")[4].strip().rstrip("%")) for row in rows]
    assert max(map(abs, untrained)) < 1  # percent


class Brightness(nn.Module):
    """A detector whose landmarks are as far off as its picture is bright."""

    def forward(self, images):
        return images.mean(dim=(1, 2, 3)).view(-1, 1, 1).expand(-1, 68, 2) * 50


class Darker(nn.Module):
    def __init__(self):
        super().__init__()
        self.by = nn.Parameter(torch.tensor(0.25))

    def forward(self, images, structure, noise):
        return -self.by * images


def test_the_rise_is_that_over_the_same_appearance():
    """A quarter less light is a quarter less error, whatever light the appearance then draws."""
    torch.manual_seed(0)
    truth = torch.zeros(4, 68, 2)
    truth[:, 0] = 16  # a box that is not empty
    faces = Batch(torch.rand(4, 3, 32, 32), truth, torch.ones(4, 68, dtype=torch.bool))
    adversary = tiny_adversary(
        attacker=Darker(),
        structure="discriminator",
        appearance=lambda x: x * torch.rand(4, 1, 1, 1),
    )
    case = power.CASES["coordinate"]
    found = power.strength(case, Brightness(), adversary, faces)
    blank = power.strength(
        case, Brightness(), tiny_adversary(attacker=Zero(), structure="discriminator"), faces
    )
    assert found.rise < -0.1
    assert found.ssim < 0.999
    assert (blank.rise, blank.ssim) == (0.0, 1.0)


class Zero(Darker):
    def forward(self, images, structure, noise):
        return 0 * self.by * images
