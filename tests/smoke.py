"""What a plain install must do. Not a pytest file: run it with an installed wheel, from elsewhere.

It stands on the package's own dependencies only, so that it runs where no extra is installed.
"""

import copy
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

import torch
from torch import nn

import advaug
from advaug import HeatmapTask, SampleAdaptiveAdversary

EXTRAS = ("accelerate", "lightning", "matplotlib", "onnx", "pycocotools", "pytest", "transformers")


def check_the_installation():
    """The wheel is what gets imported, and no extra is there to help it."""
    assert Path(advaug.__file__).is_relative_to(sys.prefix), advaug.__file__
    present = [name for name in EXTRAS if util.find_spec(name) is not None]
    assert not present, f"this is no plain environment: it holds {present}"


def check_the_command():
    command = Path(sys.executable).with_name("advaug")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"advaug {metadata.version('advaug')}\n", done.stdout


def moved(network, before):
    pairs = zip(network.state_dict().values(), before.values(), strict=True)
    return any(not torch.equal(new, old) for new, old in pairs)


def check_a_step(name, loss_of):
    """The step's backward reaches the detector, and the step teaches the attacker."""
    torch.manual_seed(0)
    detector = nn.Conv2d(3, 5, 3, padding=1)
    adversary = SampleAdaptiveAdversary(HeatmapTask())
    before = copy.deepcopy(adversary.attacker.state_dict())
    images = torch.rand(4, 3, 64, 64)
    landmarks = torch.rand(4, 5, 2) * 64
    loss = loss_of(adversary, detector, images, advaug.encode_heatmaps(landmarks, (64, 64)))
    loss.backward()
    assert loss.isfinite(), name
    assert detector.weight.grad is not None, name
    assert detector.weight.grad.any(), name
    assert moved(adversary.attacker, before), f"{name}: the attacker has learned nothing"


def augmented(adversary, detector, images, heatmaps):
    shown = adversary.augment(images, heatmaps)
    assert adversary.attacked.any()
    return nn.functional.mse_loss(detector(shown), heatmaps)


def papers_call(adversary, detector, images, heatmaps):
    return adversary(detector, images, heatmaps)


if __name__ == "__main__":
    check_the_installation()
    check_the_command()
    check_a_step("augment", augmented)
    check_a_step("the paper's call", papers_call)
    versions = [f"{name} {metadata.version(name)}" for name in ("torch", "kornia", "timm", "numpy")]
    print(f"advaug {advaug.__version__} works with {', '.join(versions)}")
