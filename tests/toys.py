"""Tiny detectors, simple pictures with exact landmarks, and an adversary of their size."""

import contextlib
import functools
import warnings
from dataclasses import replace

import torch
from torch import nn

from advaug import (
    CoordinateTask,
    HeatmapTask,
    Objective,
    PatchDiscriminator,
    SampleAdaptiveAdversary,
    Schedule,
    UNetAttacker,
    View,
    encode_heatmaps,
)

SIDE = 32
MARKS = 3
COLOURS = torch.tensor([[0.95, 0.15, 0.1], [0.1, 0.9, 0.2], [0.15, 0.2, 0.95]])


class HeatmapToy(nn.Module):
    """Convolution, BatchNorm, ReLU, dropout, convolution: heatmaps as large as the picture."""

    def __init__(self, width=8, dropout=0.1):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 5, padding=2),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout2d(dropout),
        )
        self.head = nn.Conv2d(width, MARKS, 5, padding=2)

    def forward(self, images):
        return self.head(self.body(images))


class MultiStageToy(nn.Module):
    """Two stages; the second sees what the first has found."""

    def __init__(self):
        super().__init__()
        self.first = HeatmapToy()
        self.second = nn.Sequential(
            nn.Conv2d(3 + MARKS, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.head = nn.Conv2d(8, MARKS, 3, padding=1)

    def forward(self, images):
        early = self.first(images)
        late = self.head(self.second(torch.cat([images, early], dim=1)))
        return [early, late]


class CoordinateToy(nn.Module):
    """Heatmaps read by a soft argmax: `(B, N, 2)` in pixels of the picture."""

    def __init__(self, dropout=0.1):
        super().__init__()
        self.heatmaps = HeatmapToy(dropout=dropout)

    def forward(self, images):
        scores = self.heatmaps(images).flatten(2).softmax(dim=-1)
        scores = scores.unflatten(2, images.shape[-2:])
        rows = torch.arange(images.shape[-2], dtype=scores.dtype)
        columns = torch.arange(images.shape[-1], dtype=scores.dtype)
        x = (scores.sum(dim=2) * columns).sum(dim=-1)
        y = (scores.sum(dim=3) * rows).sum(dim=-1)
        return torch.stack([x, y], dim=-1)


class Calls(nn.Module):
    """A function of the pictures as a detector."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


def pictures(count=4, side=SIDE, seed=0):
    """Soft blobs, one colour a landmark, on blurred grey clutter: `(B, 3, H, W)`, `(B, N, 2)`."""
    draw = torch.Generator().manual_seed(seed)
    margin = 0.15 * side
    landmarks = margin + (side - 1 - 2 * margin) * torch.rand(count, MARKS, 2, generator=draw)
    coarse = torch.rand(count, 1, side // 4, side // 4, generator=draw)
    clutter = 0.2 + 0.4 * nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    images = clutter.expand(-1, 3, -1, -1)
    blobs = encode_heatmaps(landmarks, (side, side), sigma=side / 20)
    for n in range(MARKS):
        blob = blobs[:, n : n + 1]
        images = images * (1 - blob) + COLOURS[n].view(1, 3, 1, 1) * blob
    return images, landmarks


def heatmap_batch(count=4, side=SIDE, seed=0):
    """Pictures and their heatmaps."""
    images, landmarks = pictures(count, side, seed)
    return images, encode_heatmaps(landmarks, (side, side), sigma=side / 20)


def tiny_adversary(task=None, **options):
    """An adversary whose networks are a few thousand parameters large.

    The fields of its Objective, View and Schedule may be given one by one. It draws on the whole
    picture, which the detector sees as it is, unless it is asked for something else.
    """
    structure = options.setdefault("structure", True)
    options.setdefault("attacker", tiny_attacker(structure=structure is True))
    options.setdefault("discriminator", tiny_discriminator(structure=bool(structure)))
    return SampleAdaptiveAdversary(HeatmapTask() if task is None else task, **grouped(options))


def grouped(options):
    """The constructor's arguments, with single fields put into their groups."""
    groups = {"objective": Objective(), "view": View.paper(), "schedule": Schedule()}
    arguments = {}
    for name, value in options.items():
        owner = [key for key, group in groups.items() if hasattr(group, name)]
        if owner:
            groups[owner[0]] = replace(groups[owner[0]], **{name: value})
        else:
            arguments[name] = value
    return {**groups, **arguments}


def tiny_attacker(structure=True):
    """Three levels, eight channels."""
    return UNetAttacker(8, base_width=8, structure=structure, coarse=0)


def tiny_discriminator(structure=True):
    """Four channels to begin with."""
    return PatchDiscriminator(base_width=8, structure=structure)


def task_and_batch(kind, count=4, seed=0):
    """The task and a batch for a kind of detector: `"heatmap"` or `"coordinate"`."""
    if kind == "heatmap":
        return HeatmapTask(), *heatmap_batch(count, seed=seed)
    return CoordinateTask(), *pictures(count, seed=seed)


def once(train):
    """Train what several tests share when the first of them needs it.

    The global generator is left as it was. Else this test would draw other numbers than those that
    find it trained, and which one comes first depends on how the tests are shared out.
    """

    @functools.cache
    def trained(*arguments, **options):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return train(*arguments, **options)

    trained.__wrapped__ = train
    return trained


@contextlib.contextmanager
def in_double():
    """Float64, in which a training ends the same on every machine but for its last digits.

    In float32, rounding errors that differ between processors grow to parts over some ten steps.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def snapshot(state):
    """A deep copy of any nested state, with its tensors cloned."""
    if isinstance(state, torch.Tensor):
        return state.detach().clone()
    if isinstance(state, dict):
        return {key: snapshot(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [snapshot(value) for value in state]
    return state


def differences(before, after, path=""):
    """Where two nested states differ in any bit, as a list of paths."""
    if isinstance(before, torch.Tensor) and isinstance(after, torch.Tensor):
        same = (
            before.shape == after.shape
            and before.dtype == after.dtype
            and torch.equal(_bits(before), _bits(after))
        )
        return [] if same else [path]
    if isinstance(before, dict) and isinstance(after, dict):
        if list(before) != list(after):
            return [f"{path}: keys {sorted(set(map(str, before)) ^ set(map(str, after)))}"]
        return [d for key in before for d in differences(before[key], after[key], f"{path}.{key}")]
    if isinstance(before, list | tuple) and isinstance(after, list | tuple):
        if len(before) != len(after):
            return [f"{path}: length"]
        pairs = enumerate(zip(before, after, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{path}[{i}]")]
    return [] if before == after else [path]


def _bits(tensor):
    """Bytes, so that NaN equals NaN and -0 does not equal 0."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


@contextlib.contextmanager
def waiting_is_an_error():
    """Raise where anything inside waits for a CUDA device."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
        try:
            torch.cuda.set_sync_debug_mode("error")
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
