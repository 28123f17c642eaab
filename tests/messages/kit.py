"""What the tables of messages share: a case, the two calls, and things to call with."""

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from toys import MARKS, HeatmapToy, heatmap_batch, pictures, tiny_adversary

from advaug import SampleAdaptiveAdversary
from advaug.errors import DatasetError

NET = functools.partial(HeatmapToy, dropout=0.0)
IMAGES, HEATMAPS = heatmap_batch()
POINTS = pictures()[1]
SEEN = torch.ones(4, MARKS, dtype=torch.bool)


@dataclass
class Case:
    """How to get a message, what it says to do, and the call that does exactly that."""

    wrong: Callable[[], Any]
    says: str
    fixed: Callable[[], Any]
    kind: type[Exception] = ValueError


@dataclass
class InFolder:
    """The same with files: what makes the fault, and what mends it, in one folder."""

    wrong: Callable[[Path], Any]
    says: str
    fixed: Callable[[Path], Any]
    kind: type[Exception] = DatasetError


def call(images=IMAGES, target=HEATMAPS, net=None, adversary=None, **options):
    """The paper's call and its backward."""
    adversary = tiny_adversary(**options) if adversary is None else adversary
    loss = adversary(NET() if net is None else net, images, target)
    loss.backward()
    assert loss.isfinite()


def augment(images=IMAGES, target=POINTS, adversary=None, **options):
    adversary = tiny_adversary(structure="discriminator") if adversary is None else adversary
    changed = adversary.augment(images, target, **options)
    assert len(changed) == len(images)
    adversary._pending = None  # its backward is not what is tried here
    return changed


def adversary_of(**options):
    return functools.partial(SampleAdaptiveAdversary, **options)


GROUP = nn.GroupNorm(2, 8)


def grouped():
    net = NET()
    net.body[1] = copy.deepcopy(GROUP)
    return net
