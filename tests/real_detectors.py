"""Small detectors as people have them, for the contracts: ours, timm's, and those of others."""

import importlib
import sys
from pathlib import Path

import pytest
import torch
from toys import MARKS, pictures

from advaug import CoordinateTask, HeatmapTask, encode_heatmaps
from advaug.detectors import MDM, HourglassNet, TimmCoordinateNet, TimmHeatmapNet

IMAGE_SIDE = 64
EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name):
    """A module of `examples/third_party`; skips where the package that it needs is absent."""
    needs = {"vitpose": "transformers", "smp_unet": "segmentation_models_pytorch"}
    if name in needs:
        pytest.importorskip(needs[name])
    if str(EXAMPLES) not in sys.path:
        sys.path.insert(0, str(EXAMPLES))
    return importlib.import_module(f"third_party.{name}")


def batch(stride=None, count=3, seed=0):
    """Pictures, and heatmaps of a stride (or for None landmarks) with `visible`."""
    images, landmarks = pictures(count, IMAGE_SIDE, seed)
    visible = torch.ones(count, MARKS, dtype=torch.bool)
    if stride is None:
        return images, (landmarks, visible)
    size = (IMAGE_SIDE // stride, IMAGE_SIDE // stride)
    return images, (encode_heatmaps(landmarks, size, image_size=images.shape[-2:]), visible)


def hourglass(stacks):
    return HourglassNet(MARKS, stacks, width=16, depth=2, out_stride=4), HeatmapTask(), 4


def mdm():
    shape = IMAGE_SIDE * torch.tensor([[0.3, 0.3], [0.7, 0.3], [0.5, 0.7]])
    net = MDM(shape, hidden=8, patch_size=12, steps=2, reduce=4)
    return net, CoordinateTask(), None


def timm_heatmaps(backbone, **options):
    return TimmHeatmapNet(backbone, MARKS, width=16, **options), HeatmapTask(), 4


def timm_coordinates():
    return TimmCoordinateNet("test_resnet", MARKS, width=16), CoordinateTask(), None


def vitpose():
    module = example("vitpose")
    return module.make_detector(MARKS), HeatmapTask(output=module.maps), module.STRIDE


def smp_unet():
    return example("smp_unet").make_detector(MARKS), HeatmapTask(), 1


def simcc():
    module = example("simcc")
    return module.SimCC(MARKS), module.SimCCTask(), None


DETECTORS = {
    "hourglass": lambda: hourglass(1),
    "hourglass-2": lambda: hourglass(2),
    "mdm": mdm,
    "timm-resnet": lambda: timm_heatmaps("test_resnet"),
    "timm-convnext": lambda: timm_heatmaps("test_convnext"),
    "timm-vit": lambda: timm_heatmaps("test_vit", image_size=IMAGE_SIDE),
    "timm-coordinates": timm_coordinates,
    "vitpose": vitpose,
    "smp-unet": smp_unet,
    "simcc": simcc,
}
"""By name, what makes a detector, its task and the stride of its heatmaps (None for landmarks)."""
