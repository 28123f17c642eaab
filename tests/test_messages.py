"""Every message of the core names a fix, and the fix works when it is followed literally.

Each case gives the message, what it says to do, and the call that does so. A last test looks at all
`raise` statements of the core: none may be left without a case.
"""

import ast
import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from toys import (
    MARKS,
    SIDE,
    Calls,
    HeatmapToy,
    heatmap_batch,
    pictures,
    tiny_adversary,
    tiny_attacker,
)

import advaug
from advaug import (
    CoordinateTask,
    HeatmapTask,
    Objective,
    PatchDiscriminator,
    PixelSpec,
    RandomAppearance,
    RandomRegions,
    ReconstructionController,
    SampleAdaptiveAdversary,
    Schedule,
    UNetAttacker,
    View,
    decode_heatmaps,
    encode_heatmaps,
)
from advaug import functional as saat
from advaug.base import checks
from advaug.base.files import locked_folder, open_regular, whole_file, write_whole
from advaug.networks import MixingAttacker
from advaug.schemes import scheme_from_names
from advaug.tasks import check_task

CORE = Path(advaug.__file__).parent
ROOMS = ("base", "networks", "view", "step")
# Tried by tests that start processes, fixes included: `test_processes`, `test_distributed`.
ELSEWHERE = ("a worker of a DataLoader", "copy.deepcopy(adversary)", "`fully_shard`")
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


class Detached(nn.Module):
    """A frozen backbone, cut off or frozen as the message says."""

    def __init__(self, *, cut):
        super().__init__()
        self.toy, self.cut = NET(), cut
        self.toy.body.requires_grad_(cut)

    def forward(self, images):
        features = self.toy.body(images)
        return self.toy.head(features.detach() if self.cut else features)


class Unmoved(nn.Module):
    """Its output has a graph, which does not reach the pictures."""

    def __init__(self, *, cut):
        super().__init__()
        self.toy, self.cut = grouped(), cut

    def forward(self, images):
        return self.toy(images.detach() if self.cut else images)


class Checkpoints(nn.Module):
    """Saves memory, in the way that a message names or in the other."""

    def __init__(self, **options):
        super().__init__()
        self.toy, self.options = NET(), options

    def forward(self, images):
        again = torch.utils.checkpoint.checkpoint
        return self.toy.head(again(self.toy.body, images, **self.options))


class Later(nn.Module):
    """Begins to checkpoint its activations after the first step."""

    def __init__(self):
        super().__init__()
        self.toy, self.saves = NET(), False

    def forward(self, images):
        if not self.saves:
            return self.toy(images)
        return self.toy.head(
            torch.utils.checkpoint.checkpoint(self.toy.body, images, use_reentrant=False)
        )


class PerPixel:
    """A task whose error is not one value for each sample."""

    def __init__(self, axes):
        self.axes = axes

    def error(self, output, target):
        return (output - target).square().mean(dim=self.axes)

    def landmark_heatmaps(self, target, size):
        return HeatmapTask().landmark_heatmaps(target, size)


class OfDicts(HeatmapTask):
    """A task of one's own, for targets that ours do not know."""

    def error(self, output, target):
        return super().error(output, target["maps"])

    def landmark_heatmaps(self, target, size):
        return super().landmark_heatmaps(target["maps"], size)


class TwoArguments(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = NET()

    def forward(self, images, marks):
        return self.net(images)


def attached(images="images", target="marks", net=None, parts=lambda: (IMAGES, POINTS)):
    adversary, net = tiny_adversary(structure="discriminator"), net or TwoArguments()
    adversary.attach(net, images=images, target=target)
    net(*parts()).sum().backward()
    assert adversary._calls == 1


def replica(marked):
    """A module as DataParallel runs its copies."""
    net = TwoArguments()
    net._is_replica = marked
    return net


def attached_twice(*, removed):
    net, adversary = TwoArguments(), tiny_adversary(structure="discriminator")
    handle = adversary.attach(net, images="images")
    if removed:
        handle.remove()
    adversary.attach(net, images="images")


def later(*, again):
    net, adversary = Later(), tiny_adversary(mode="shared")
    call(net=net, adversary=adversary)
    net.saves = True
    if again:
        with pytest.raises(ValueError, match="Call again"):
            call(net=net, adversary=adversary)
    call(net=net, adversary=adversary)


def told(errors):
    adversary = tiny_adversary(structure="discriminator")
    changed = adversary.augment(IMAGES, POINTS)
    found = HeatmapTask().error(NET()(changed), HEATMAPS)
    adversary.tell(errors(found))
    found.mean().backward()


def split(*, own):
    adversary, wider = tiny_adversary(batch_norm="split"), nn.Sequential(NET(), nn.BatchNorm2d(3))
    call(adversary=adversary)
    call(net=wider, adversary=tiny_adversary(batch_norm="split") if own else adversary)


def resumed(base_width):
    adversary = tiny_adversary()
    other = tiny_adversary(attacker=UNetAttacker(8, base_width=base_width, coarse=0))
    adversary.load_state_dict(other.state_dict())


def besides(loss, **options):
    net, adversary = NET(), tiny_adversary(**options)
    clean = HeatmapTask().error(net(IMAGES), HEATMAPS).mean()
    given = {} if loss is None else {"beside": loss(clean)}
    (clean + adversary(net, IMAGES, HEATMAPS, **given)).backward()


def on_loan(inference):
    """A backbone under `inference_mode`, or frozen as the message says."""
    net = NET()
    net.body.requires_grad_(inference)

    def forward(net, images):
        if not inference:
            return net(images)
        with torch.inference_mode():
            features = net.body(images)
        return net.head(features)

    adversary = tiny_adversary(mode="alternating")
    adversary(net, IMAGES, HEATMAPS, forward=forward).backward()


def in_255(**options):
    spec = PixelSpec((0.5,), (0.25,))
    adversary = tiny_adversary(pixels=spec)
    images = (255 * IMAGES).round()
    call(options["fix"](adversary, images), adversary=adversary)
    torch.testing.assert_close(
        adversary.pixels.to_unit(options["fix"](adversary, images)), images / 255
    )


def moved_to(device):
    adversary = tiny_adversary()
    images = IMAGES.to("meta")
    if device:
        adversary.to(images.device)
    checks.check_images(images, adversary.reference)


def files(check):
    """In a folder of its own."""

    def run():
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            check(Path(folder))

    return run


def lock(folder):
    with locked_folder(folder), locked_folder(folder):
        pass


def lock_in_turn(folder):
    for _ in range(2):
        with locked_folder(folder):
            pass
    with locked_folder(folder), locked_folder(folder / "another"):
        pass


def opened(folder, name):
    (folder / "a.txt").write_text("a")
    with open_regular(folder / name) as file:
        assert file.read() == b"a"


def full(folder, *, room):
    """A disk that is full, or is not any more."""
    import errno
    import os

    with pytest.MonkeyPatch.context() as patch:
        if not room:

            def no_space(*_):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            patch.setattr(os, "replace", no_space)
        with whole_file(folder / "a") as path:
            path.write_bytes(b"a")
    assert (folder / "a").read_bytes() == b"a"


def cut_short(folder, *, room):
    """A file system that takes less than it was given."""
    with pytest.MonkeyPatch.context() as patch:
        if not room:
            patch.setattr(Path, "write_bytes", lambda path, _: open(path, "wb").close())
        write_whole(folder / "a", b"abc")
    assert (folder / "a").read_bytes() == b"abc"


def adversary_of(**options):
    return functools.partial(SampleAdaptiveAdversary, **options)


def bent(images, heatmaps):
    """A transform, which mode shared cannot have."""
    return images, heatmaps


def with_transform(mode):
    return lambda: call(mode=mode, transform=bent)


def shown_as(appearance):
    return lambda: call(appearance=appearance)


def limits(**options):
    return functools.partial(RandomAppearance, **options)


GROUP = nn.GroupNorm(2, 8)


def grouped():
    net = NET()
    net.body[1] = copy.deepcopy(GROUP)
    return net


class Mixes(nn.Module):
    """Batch statistics that no class name tells of."""

    def forward(self, features):
        return nn.functional.batch_norm(features, None, None, training=True)


def mixing(norm):
    net = NET()
    net.body[1] = norm
    return net


FIVE = POINTS[:, [0, 1, 2, 0, 1]]
PEOPLE = {"keypoints": POINTS, "batch_idx": torch.arange(4)}
MIXER = functools.partial(MixingAttacker, base_width=4)

CASES = {
    # adversary.py, options.py, pixels.py
    "transform": Case(with_transform("shared"), "Leave one of the two out", with_transform("auto")),
    "transform, the other": Case(
        with_transform("fused"), "Leave one", lambda: call(net=grouped(), mode="fused")
    ),
    "adversarial_form": Case(
        lambda: Objective(adversarial_form="other"),
        "Choose one of them",
        lambda: Objective(adversarial_form="minimax"),
    ),
    "beta": Case(lambda: Objective(beta="none"), "or a number", lambda: call(beta=0.5)),
    "reconstruction_weight": Case(
        lambda: Objective(reconstruction_weight=[1]), "Leave it out", Objective, TypeError
    ),
    "reconstruction_weight, a word": Case(
        lambda: checks.check_not_negative(reconstruction_weight="auto"),
        "Leave it out",
        Objective,
        TypeError,
    ),
    "relaxation": Case(
        lambda: Objective(relaxation=-1.0), "Choose 0 or a larger", lambda: call(relaxation=0.0)
    ),
    "regions, a count": Case(
        lambda: View(regions=3),
        r"For three regions use `RandomRegions\(3\)`",
        lambda: call(regions=RandomRegions(3)),
        TypeError,
    ),
    "regions, no callable": Case(
        lambda: View(regions=[3]), "Leave it out for the default", View, TypeError
    ),
    "transform, no callable": Case(
        lambda: View(transform="flip"), "Leave it out for none", View, TypeError
    ),
    "attacker_every": Case(
        lambda: Schedule(attacker_every=0),
        "a whole number of steps from 1",
        lambda: call(attacker_every=1),
    ),
    "share": Case(
        lambda: Schedule(share=0.0), "For plain training leave the adversary out", lambda: NET()
    ),
    "pixels, one std": Case(
        lambda: PixelSpec((0.5, 0.5)),
        "Use 0 for no mean and 1 for no std",
        lambda: PixelSpec((0.5, 0.5), (1, 1)).check_channels(2),
    ),
    "pixels, no scale": Case(
        lambda: PixelSpec((0.5,), (0.0,)), "Leave both out", lambda: call(pixels=PixelSpec())
    ),
    "pixels, 255": Case(
        lambda: PixelSpec((123.0,), (58.0,)),
        r"Pass PixelSpec\.from_255\(\(123\.0,\), \(58\.0,\)\)",
        lambda: PixelSpec.from_255((123.0,), (58.0,)),
    ),
    "pixels, channels": Case(
        adversary_of(pixels=PixelSpec((0.5,) * 4, (0.5,) * 4)),
        "For other pictures than RGB pass `channels=` as well",
        adversary_of(pixels=PixelSpec((0.5,) * 4, (0.5,) * 4), channels=4),
    ),
    # tasks.py
    "task, unit": Case(
        lambda: CoordinateTask().landmark_heatmaps(POINTS / SIDE, (SIDE, SIDE)),
        r"Pass `landmarks \* torch\.tensor\(\[32, 32\], device=landmarks\.device\)`",
        lambda: CoordinateTask().landmark_heatmaps(
            POINTS / SIDE * torch.tensor([32, 32], device=POINTS.device), (SIDE, SIDE)
        ),
    ),
    "task, kind of target": Case(
        lambda: call(target={"maps": HEATMAPS}),
        "Write a task of your own",
        lambda: call(target={"maps": HEATMAPS}, task=OfDicts()),
        TypeError,
    ),
    "task, kind of output": Case(
        lambda: call(net=Calls(lambda x: {"maps": NET()(x)})),
        r"Pick it out with `HeatmapTask\(output=lambda o: \.\.\.\)`",
        lambda: call(
            net=Calls(lambda x: {"maps": NET()(x)}), task=HeatmapTask(output=lambda o: o["maps"])
        ),
        TypeError,
    ),
    "task, shape of output": Case(
        lambda: call(net=Calls(lambda x: NET()(x)[:, :2])),
        r"Pick it out with `HeatmapTask\(output=lambda o: \.\.\.\)`",
        lambda: call(net=Calls(lambda x: (NET()(x), x)), task=HeatmapTask(output=lambda o: o[0])),
    ),
    "task, visible": Case(
        lambda: HeatmapTask().landmark_heatmaps((HEATMAPS, SEEN[:, :1]), (SIDE, SIDE)),
        "Give one value for each landmark",
        lambda: HeatmapTask().landmark_heatmaps((HEATMAPS, SEEN), (SIDE, SIDE)),
    ),
    "task, no task": Case(
        lambda: check_task(nn.MSELoss()),
        r"Pass HeatmapTask\(\) or CoordinateTask\(\)",
        lambda: [check_task(HeatmapTask()), check_task(CoordinateTask())],
        TypeError,
    ),
    "task, landmarks as heatmaps": Case(
        lambda: call(target=POINTS),
        r"Draw landmarks with `advaug\.encode_heatmaps\(landmarks, size\)`, or use CoordinateTask",
        lambda: call(target=advaug.encode_heatmaps(POINTS, (SIDE, SIDE))),
    ),
    "task, heatmaps as landmarks": Case(
        lambda: call(target=HEATMAPS, task=CoordinateTask()),
        r"For heatmaps use HeatmapTask\(\)",
        lambda: call(target=HEATMAPS, task=HeatmapTask()),
    ),
    "task, normalizer": Case(
        lambda: CoordinateTask(normalizer="eyes"),
        "must be 'box' or a pair of landmarks such as",
        lambda: [CoordinateTask(normalizer="box"), CoordinateTask(normalizer=(36, 45))],
    ),
    "task, normalizer of another scheme": Case(
        lambda: CoordinateTask(normalizer=(36, 45)).error(POINTS, POINTS),
        "Use 'box', or a pair of this scheme",
        lambda: [CoordinateTask(normalizer=pair).error(POINTS, POINTS) for pair in ("box", (0, 1))],
    ),
    # functional.py, heatmaps.py
    "axes": Case(
        lambda: saat.structure_map(HEATMAPS[0]),
        r"Add the batch: `heatmaps\[None\]`",
        lambda: saat.structure_map(HEATMAPS[0][None]),
    ),
    "same shape": Case(
        lambda: saat.heatmap_error(HEATMAPS, HEATMAPS[:, :2]),
        "Bring one to the shape of the other",
        lambda: saat.heatmap_error(HEATMAPS[:, :2], HEATMAPS[:, :2]),
    ),
    "form": Case(
        lambda: saat.attacker_adversarial_loss(torch.zeros(2), form="lsgan"),
        "Choose one of them",
        lambda: saat.attacker_adversarial_loss(torch.zeros(2), form="minimax"),
    ),
    "negative relaxation": Case(
        lambda: saat.feedback_loss(torch.ones(2), relaxation=-1),
        r"The paper's value is 0\.1",
        lambda: saat.feedback_loss(torch.ones(2), relaxation=0.1),
    ),
    "mask": Case(
        lambda: saat.adaptive_beta(IMAGES, IMAGES, HEATMAPS),
        r"Make it with `semantic_mask\(structure\)`",
        lambda: saat.adaptive_beta(
            IMAGES, IMAGES, saat.semantic_mask(saat.structure_map(HEATMAPS))
        ),
    ),
    "small pictures in SSIM": Case(
        lambda: saat.ssim(IMAGES[..., :8], IMAGES[..., :8]),
        "Use larger pictures",
        lambda: saat.ssim(IMAGES[..., :11], IMAGES[..., :11]),
    ),
    "landmarks": Case(
        lambda: encode_heatmaps(POINTS[0], (8, 8)),
        r"Add the batch: `landmarks\[None\]`",
        lambda: encode_heatmaps(POINTS[0][None], (8, 8)),
    ),
    "visible": Case(
        lambda: encode_heatmaps(POINTS, (8, 8), visible=SEEN[:, :2]),
        "Give one value for each landmark",
        lambda: encode_heatmaps(POINTS, (8, 8), visible=SEEN),
    ),
    "heatmaps to decode": Case(
        lambda: decode_heatmaps(HEATMAPS[0]),
        r"must be \(B, N, h, w\)",
        lambda: decode_heatmaps(HEATMAPS),
    ),
    # schemes.py
    "names twice": Case(
        lambda: scheme_from_names(["left eye", "right eye", "Right eye"]),
        "Rename the repeated",
        lambda: scheme_from_names(["left eye", "right eye", "nose"]),
    ),
    "pairs unknown": Case(
        lambda: scheme_from_names(["a", "b"], pairs=[("a", "c")]),
        r"Correct \['c'\]",
        lambda: scheme_from_names(["a", "b"], pairs=[("a", "b")]),
    ),
    "side alone": Case(
        lambda: scheme_from_names(["left_eye", "nose"]),
        "Add it, rename 'left_eye', or give `pairs`",
        lambda: [
            scheme_from_names(["left_eye", "nose", "right_eye"]),
            scheme_from_names(["left_eye", "nose"], pairs=[]),
            scheme_from_names(["eye", "nose"], pairs=[("eye", "nose")]),
        ],
    ),
    # networks
    "channels": Case(adversary_of(channels=0), "RGB has 3", adversary_of(channels=3)),
    "attacker class": Case(
        adversary_of(attacker=UNetAttacker),
        "Build it first",
        adversary_of(attacker=UNetAttacker(structure=False)),
        TypeError,
    ),
    "structure": Case(
        adversary_of(structure=None),
        "must be 'discriminator', True or False",
        lambda: [adversary_of(structure=each)() for each in ("discriminator", True, False)],
        TypeError,
    ),
    "structure, a word": Case(
        adversary_of(structure="attacker"), "True or False", adversary_of(structure=True)
    ),
    "structure of a network": Case(
        adversary_of(attacker=tiny_attacker()),
        "Change either",
        lambda: [
            adversary_of(attacker=tiny_attacker(structure=False))(),
            adversary_of(attacker=tiny_attacker(), structure=True)(),
        ],
    ),
    "head": Case(
        lambda: PatchDiscriminator(head="image"),
        "Choose one of them",
        lambda: PatchDiscriminator(head="patch"),
    ),
    "global head": Case(
        lambda: PatchDiscriminator(head="global", image_size=30),
        "Resize the pictures, or use `head='patch'`",
        lambda: [
            PatchDiscriminator(head="global", image_size=32),
            PatchDiscriminator(head="patch"),
        ],
    ),
    "global head, other pictures": Case(
        lambda: PatchDiscriminator(head="global", image_size=64)(IMAGES, HEATMAPS[:, :1]),
        "Pass that `image_size` to PatchDiscriminator",
        lambda: PatchDiscriminator(head="global", image_size=32)(IMAGES, HEATMAPS[:, :1]),
    ),
    "norm": Case(
        lambda: UNetAttacker(norm="layer"), "Choose one of them", lambda: UNetAttacker(norm="group")
    ),
    "image_size": Case(
        lambda: UNetAttacker(100),
        "Choose a multiple of 32",
        lambda: [UNetAttacker(size) for size in (32, 96, 224, (64, 96))],
    ),
    "image_size, coarser": Case(
        lambda: UNetAttacker(96, base_width=4, coarse=4),
        "Choose a multiple of 64",
        lambda: [UNetAttacker(size, base_width=4, coarse=4) for size in (64, 192)],
    ),
    "coarse": Case(
        lambda: UNetAttacker(coarse=5), "Choose one in between", lambda: UNetAttacker(coarse=3)
    ),
    "budget": Case(lambda: MIXER(budget=0.0), "Use 1 for no limit", lambda: MIXER(budget=1)),
    "offered": Case(lambda: MIXER(offered=0), "Choose a positive number", lambda: MIXER(offered=1)),
    "mixer, small pictures": Case(
        lambda: MIXER(coarse=5)(IMAGES, None, IMAGES[:, :1]),
        "Use larger pictures, or a smaller `coarse`",
        lambda: MIXER(coarse=4)(IMAGES, None, IMAGES[:, :1]),
    ),
    "mixer, no S": Case(
        lambda: MIXER(structure=True)(IMAGES, None, IMAGES[:, :1]),
        "Build the adversary with `structure=True` too",
        lambda: call(attacker=MIXER(structure=True), structure=True),
    ),
    # view
    "probability": Case(limits(probability=2), "Use 0 for none", limits(probability=0)),
    "cover": Case(limits(cover=(0.5, 2)), "For no cover use None", limits(cover=None)),
    "exposure": Case(limits(exposure=(0, 1)), r"Use \(1, 1\) for none", limits(exposure=(1, 1))),
    "noise": Case(limits(noise=-1), "Use 0 for none", limits(noise=0)),
    "appearance": Case(
        shown_as(lambda images: images[..., ::2]),
        "Resize in the detector instead",
        lambda: call(
            net=Calls(lambda x: nn.functional.interpolate(NET()(x[..., ::2]), (SIDE, SIDE)))
        ),
    ),
    "count": Case(
        lambda: RandomRegions(0), "For the whole picture use None", lambda: call(regions=None)
    ),
    "size": Case(
        lambda: RandomRegions(size=(10, 50)),
        "Give fractions of the picture's side",
        lambda: call(regions=RandomRegions(size=(10 / SIDE, 20 / SIDE))),
    ),
    "regions": Case(
        lambda: call(regions=lambda images: images),
        "Give one map for each picture",
        lambda: call(regions=lambda images: images[:, :1]),
    ),
    # step: the pictures and the target of both ways in
    "no tensor": Case(
        lambda: checks.check_images([1], IMAGES),
        "make a tensor of them",
        lambda: checks.check_images(torch.stack([*IMAGES]), IMAGES),
        TypeError,
    ),
    "volumes": Case(
        lambda: call(IMAGES[:, :, None]),
        "move the depth into the batch",
        lambda: call(IMAGES[:, :, None].movedim(2, 1).flatten(0, 1)),
    ),
    "one picture": Case(
        lambda: call(IMAGES[0], HEATMAPS[0]),
        r"Add the batch: `images\[None\]`",
        lambda: call(IMAGES[0][None], HEATMAPS[:1]),
    ),
    "one channel": Case(
        lambda: call(IMAGES[:, :1]),
        "build the adversary with `channels=1`",
        lambda: call(
            IMAGES[:, :1],
            net=Calls(lambda x: NET()(x.expand(-1, 3, -1, -1))),
            adversary=SampleAdaptiveAdversary(HeatmapTask(), channels=1),
        ),
    ),
    "no pictures": Case(lambda: call(IMAGES[:0], HEATMAPS[:0]), "Leave out batches", call),
    "bytes": Case(
        lambda: call((255 * IMAGES).byte()),
        r"For 0\.\.255 use `images\.float\(\) / 255`",
        lambda: call((255 * IMAGES).byte().float() / 255),
        TypeError,
    ),
    "device": Case(
        lambda: moved_to(None), r"Move one: `adversary\.to\(images\.device\)`", lambda: moved_to(1)
    ),
    "small pictures": Case(
        lambda: call(IMAGES[..., :8, :8], HEATMAPS[..., :8, :8]),
        "Use larger pictures",
        lambda: call(IMAGES[..., :16], HEATMAPS[..., :16]),
    ),
    "float64": Case(
        lambda: call(IMAGES.double(), HEATMAPS.double()),
        r"Use `images\.float\(\)`",
        lambda: call(IMAGES.double().float(), HEATMAPS.double().float()),
        TypeError,
    ),
    "float64 adversary": Case(
        lambda: call(adversary=tiny_adversary().double()),
        "and an adversary in float32",
        lambda: call(adversary=tiny_adversary().double().float()),
        TypeError,
    ),
    "float64 target": Case(
        lambda: call(target=HEATMAPS.double()),
        r"Use `target\.float\(\)`",
        lambda: call(target=HEATMAPS.double().float()),
        TypeError,
    ),
    "target device": Case(
        lambda: call(target=HEATMAPS.to("meta")),
        r"Use `target\.to\(images\.device\)`",
        lambda: call(target=HEATMAPS.to(IMAGES.device)),
    ),
    "target device of augment": Case(
        lambda: augment(target=POINTS.to("meta")),
        r"Use `target\.to\(images\.device\)`",
        lambda: augment(target=POINTS.to(IMAGES.device)),
    ),
    "target size": Case(
        lambda: call(target=HEATMAPS[:2]), "Give a target for each picture", lambda: call()
    ),
    "0..255": Case(
        lambda: call(255 * IMAGES),
        r"Divide 0\.\.255 pictures by 255",
        lambda: call(255 * IMAGES / 255),
    ),
    "0..255 with a PixelSpec": Case(
        lambda: in_255(fix=lambda _, images: images),
        r"pass `adversary\.pixels\.from_unit\(images / 255\)`",
        lambda: in_255(fix=lambda adversary, images: adversary.pixels.from_unit(images / 255)),
    ),
    "another PixelSpec": Case(
        lambda: call(
            PixelSpec((0.5,), (0.25,)).from_unit(IMAGES), pixels=PixelSpec((0.1,), (0.3,))
        ),
        "Build the adversary with the PixelSpec that these pictures were made with",
        lambda: call(
            PixelSpec((0.5,), (0.25,)).from_unit(IMAGES), pixels=PixelSpec((0.5,), (0.25,))
        ),
    ),
    "normalised": Case(
        lambda: call((IMAGES - 0.5) / 0.25),
        r"pass `pixels=PixelSpec\(mean, std\)`",
        lambda: call((IMAGES - 0.5) / 0.25, pixels=PixelSpec((0.5,), (0.25,))),
    ),
    "too bright": Case(
        lambda: call(IMAGES * 1.5), "Look for the step that made it", lambda: call(IMAGES)
    ),
    "NaN in the target": Case(
        lambda: call(target=HEATMAPS.index_fill(1, torch.tensor(0), torch.nan)),
        r"Say which landmarks are visible: `\(target, visible\)`",
        lambda: call(
            target=(
                HEATMAPS.index_fill(1, torch.tensor(0), torch.nan),
                SEEN.index_fill(1, torch.tensor(0), False),
            )
        ),
    ),
    "peak": Case(
        lambda: call(target=10 * HEATMAPS),
        "Divide by the peak",
        lambda: call(target=10 * HEATMAPS / (10 * HEATMAPS).amax()),
    ),
    "nothing visible": Case(
        lambda: call(target=(HEATMAPS, ~SEEN)), "Leave such batches out", lambda: call()
    ),
    "error": Case(
        lambda: call(adversary=tiny_adversary(PerPixel((0, 1)))),
        "Take the mean over everything except the batch",
        lambda: call(adversary=tiny_adversary(PerPixel((1, 2, 3)))),
    ),
    "broken output": Case(
        lambda: call(net=Calls(lambda x: NET()(x) * torch.nan), mode="alternating"),
        "Lower its learning rate or clip its gradients",
        lambda: call(net=NET(), mode="alternating"),
    ),
    # step: the detector
    "cut off": Case(
        lambda: call(net=Detached(cut=True), mode="alternating"),
        r"to freeze a part use `requires_grad_\(False\)`",
        lambda: call(net=Detached(cut=False), mode="alternating"),
    ),
    "cut off, tried": Case(
        lambda: call(net=Unmoved(cut=True)),
        "Do not detach them on the way",
        lambda: call(net=Unmoved(cut=False)),
    ),
    "cut off, all of it": Case(
        lambda: call(net=Calls(lambda x: NET().requires_grad_(False)(x.detach()))),
        "Do not detach them on the way",
        lambda: call(net=NET()),
    ),
    "cut off, whole": Case(
        lambda: call(
            net=Calls(lambda x: NET().requires_grad_(False)(x.detach())), mode="alternating"
        ),
        "Do not detach them on the way",
        lambda: call(mode="alternating"),
    ),
    "inference_mode": Case(
        lambda: on_loan(True),
        r"to freeze it use `requires_grad_\(False\)`",
        lambda: on_loan(False),
    ),
    "no module": Case(
        lambda: tiny_adversary()(lambda x: x, IMAGES, HEATMAPS, forward=lambda net, x: net(x)),
        r"as `forward=lambda net, x: \.\.\.`",
        lambda: tiny_adversary()(NET(), IMAGES, HEATMAPS, forward=lambda net, x: net(x)).backward(),
        TypeError,
    ),
    "fused, BatchNorm": Case(
        lambda: call(mode="fused"),
        "Use `batch_norm='running'`, or `mode='shared'`",
        lambda: [call(mode="fused", batch_norm="running"), call(mode="shared")],
    ),
    "fused, mixing": Case(
        lambda: call(net=mixing(Mixes()), mode="fused"),
        "such as GroupNorm, or `mode='shared'`",
        lambda: [
            call(net=mixing(nn.GroupNorm(2, 8)), mode="fused"),
            call(net=mixing(Mixes()), mode="shared"),
        ],
    ),
    "reentrant": Case(
        lambda: call(net=Checkpoints(use_reentrant=True)),
        "Pass `use_reentrant=False`",
        lambda: call(net=Checkpoints(use_reentrant=False)),
    ),
    "checkpoints later": Case(lambda: later(again=False), "Call again", lambda: later(again=True)),
    "batch_norm": Case(
        lambda: tiny_adversary(batch_norm="frozen"),
        "Leave it out for the default, 'isolated'",
        tiny_adversary,
    ),
    "second set": Case(
        lambda: split(own=False), "Use one adversary a detector", lambda: split(own=True)
    ),
    # step: the calls
    "no gradients": Case(
        lambda: torch.no_grad()(call)(),
        r"use `adversary\.attack\(\.\.\., update=False\)`",
        torch.no_grad()(lambda: tiny_adversary().attack(NET(), IMAGES, HEATMAPS, update=False)),
    ),
    "inference": Case(
        lambda: torch.inference_mode()(tiny_adversary().attack)(NET(), IMAGES, HEATMAPS),
        r"use `adversary\.attack\(\.\.\., update=False\)`",
        lambda: torch.inference_mode()(tiny_adversary().attack)(
            NET(), IMAGES, HEATMAPS, update=False
        ),
    ),
    "no task": Case(
        lambda: call(adversary=SampleAdaptiveAdversary()),
        r"Pass HeatmapTask\(\) or CoordinateTask\(\), or use `adversary\.augment`",
        lambda: [
            call(adversary=SampleAdaptiveAdversary(HeatmapTask())),
            augment(adversary=SampleAdaptiveAdversary()),
        ],
        TypeError,
    ),
    "controller": Case(
        lambda: ReconstructionController(target=1.5),
        r"The default is 0\.9",
        lambda: ReconstructionController(target=0.9),
    ),
    "beside": Case(
        lambda: besides(lambda clean: clean.item()),
        "Pass what you call `backward` on",
        lambda: besides(lambda c: c),
        TypeError,
    ),
    "beside, broken": Case(
        lambda: besides(lambda clean: clean * 0),
        "Leave `beside` out and choose `loss_weight` yourself",
        lambda: besides(None, loss_weight=0.5),
    ),
    "another checkpoint": Case(
        lambda: resumed(16), "Build the adversary with the arguments of the run", lambda: resumed(8)
    ),
    "told too late": Case(
        lambda: told(lambda errors: errors.mean()),
        "Tell them before they are reduced to a loss",
        lambda: told(lambda errors: errors),
    ),
    "told without a graph": Case(
        lambda: told(lambda errors: errors.detach()),
        "Tell the errors that the loss is made from",
        lambda: told(lambda errors: errors),
    ),
    # step: the forms of augment
    "no S": Case(
        lambda: augment(target=None, adversary=tiny_adversary()),
        "Pass the landmarks, or build the adversary with `structure='discriminator'`",
        lambda: [augment(adversary=tiny_adversary()), augment(target=None)],
    ),
    "list of pictures": Case(
        lambda: augment([{"image": each} for each in IMAGES]),
        "Take the pictures out of their containers",
        lambda: augment([*IMAGES]),
        TypeError,
    ),
    "pictures of two kinds": Case(
        lambda: augment([IMAGES[0], *IMAGES[1:].double()]),
        "Convert them",
        lambda: augment([IMAGES[0], *IMAGES[1:].double().float()]),
    ),
    "unknown target": Case(
        lambda: augment(target="face"),
        "Pass None for no landmarks",
        lambda: augment(target=None),
        TypeError,
    ),
    "parts of the picture": Case(
        lambda: augment(target=POINTS / SIDE),
        "pass `normalized=True`",
        lambda: augment(target=POINTS / SIDE, normalized=True),
    ),
    "far outside": Case(
        lambda: augment(target=1000 + POINTS),
        "Scale them with the picture",
        lambda: augment(target=POINTS),
    ),
    "too few targets": Case(
        lambda: augment(target=POINTS[:2]),
        "Give as many targets as pictures",
        lambda: augment(target=POINTS),
    ),
    "weights for visible": Case(
        lambda: augment(target=(POINTS, SEEN.float())),
        "say which of them count: `visible > 0`",
        lambda: augment(target=(POINTS, SEEN.float() > 0)),
        TypeError,
    ),
    "visible of augment": Case(
        lambda: augment(target=(POINTS, SEEN[:, :2])),
        "Give one for each",
        lambda: augment(target=(POINTS, SEEN)),
    ),
    "a pair as a list": Case(
        lambda: augment(target=[POINTS, SEEN]),
        "A pair of landmarks and visible is a tuple",
        lambda: augment(target=(POINTS, SEEN)),
    ),
    "list of dicts": Case(
        lambda: augment(target=[{"points": each} for each in POINTS]),
        "Pick the keypoints out",
        lambda: augment(target=[*POINTS[:, None]]),
        TypeError,
    ),
    "list of shapes": Case(
        lambda: augment(target=[each.T for each in FIVE]),
        "Put x, y and visibility last",
        lambda: augment(target=[*FIVE]),
    ),
    "dict": Case(
        lambda: augment(target={"marks": POINTS}),
        r"Pick the landmarks out: `target=batch\['\.\.\.'\]`",
        lambda: augment(target={"marks": POINTS}["marks"]),
        TypeError,
    ),
    "people": Case(
        lambda: augment(target={**PEOPLE, "batch_idx": torch.arange(3)}),
        "Give one for each person",
        lambda: augment(target=PEOPLE),
    ),
    "people of other pictures": Case(
        lambda: augment(target={**PEOPLE, "batch_idx": 4 + torch.arange(4)}),
        "Number the people's pictures within the batch",
        lambda: augment(target={**PEOPLE, "batch_idx": torch.arange(4)}),
    ),
    # step: attach
    "attach to no module": Case(
        lambda: tiny_adversary().attach(TwoArguments, images="images"),
        "Pass the detector",
        lambda: tiny_adversary().attach(TwoArguments(), images="images"),
        TypeError,
    ),
    "attached twice": Case(
        lambda: attached_twice(removed=False),
        r"Call `remove\(\)` on its handle first",
        lambda: attached_twice(removed=True),
    ),
    "unknown argument": Case(
        lambda: attached(images="pixels"),
        "Pass one of these names, or a callable",
        lambda: [attached(images="images"), attached(images=lambda images, marks: images)],
    ),
    "finds None": Case(
        lambda: attached(images=lambda images, marks: None),
        "Name the argument that holds them",
        lambda: attached(images="images"),
    ),
    "cannot find": Case(
        lambda: attached(target=lambda images, marks: marks["points"]),
        "Name one of these arguments, or take them all and return a part of them",
        lambda: [attached(target="marks"), attached(target=lambda *given: given[1])],
    ),
    "a replica": Case(
        lambda: attached(net=replica(True)),
        "Attach the adversary to the DataParallel itself",
        lambda: attached(net=nn.DataParallel(TwoArguments())),
    ),
    "something new": Case(
        lambda: attached(images=lambda images, marks: images * 1.0),
        "Return the pictures themselves",
        lambda: attached(images=lambda images, marks: images),
    ),
    # base: what the rooms around the core ask
    "floating": Case(
        lambda: checks.check_rgb((255 * IMAGES).byte(), floating=True),
        "Divide them by 255",
        lambda: checks.check_rgb((255 * IMAGES).byte() / 255, floating=True),
        TypeError,
    ),
    "range": Case(
        lambda: checks.check_ranges(scale=(0, 2)),
        r"Choose \(1, 1\) to turn it off",
        lambda: checks.check_ranges(scale=(1, 1)),
    ),
    "seeds": Case(
        lambda: checks.check_seeds(torch.rand(4), 4),
        "Use the pictures' indices",
        lambda: checks.check_seeds(torch.arange(4), 4),
    ),
    "RGB": Case(
        lambda: checks.check_rgb(IMAGES[0]),
        "Give a batch of RGB pictures",
        lambda: checks.check_rgb(IMAGES[:1]),
    ),
    "divisible": Case(
        lambda: checks.check_divisible(torch.zeros(1, 3, 250, 256), 64),
        r"Pad or resize to \(256, 256\)",
        lambda: checks.check_divisible(torch.zeros(1, 3, 256, 256), 64),
    ),
    "locked": Case(files(lock), "or choose another folder", files(lock_in_turn)),
    "no file": Case(
        files(lambda folder: opened(folder, ".")),
        "not a regular file",
        files(lambda folder: opened(folder, "a.txt")),
        OSError,
    ),
    "full disk": Case(
        files(lambda folder: full(folder, room=False)),
        "Free some space or choose another disk, then run the same again",
        files(lambda folder: full(folder, room=True)),
        OSError,
    ),
    "cut short": Case(
        files(lambda folder: cut_short(folder, room=False)),
        "Free some space or choose another disk, then run the same again",
        files(lambda folder: cut_short(folder, room=True)),
        OSError,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_fix_that_a_message_names_works(name):
    case = CASES[name]
    with pytest.raises(case.kind, match=case.says):
        case.wrong()
    case.fixed()


def place_of(case):
    """File and line of the core's `raise` that a case meets."""
    with pytest.raises(case.kind) as caught:
        case.wrong()
    places = set()
    error = caught.value
    while error is not None:
        frames = []
        trace = error.__traceback__
        while trace is not None:
            frames.append((Path(trace.tb_frame.f_code.co_filename), trace.tb_lineno))
            trace = trace.tb_next
        places |= {frame for frame in frames if frame[0].is_relative_to(CORE)}
        error = error.__cause__
    return places


def raises_of(path):
    """Lines of the `raise` statements of a file that make an error of their own, tried here."""
    text = path.read_text()
    blocks = [
        getattr(node, name, None)
        for node in ast.walk(ast.parse(text))
        for name in ("body", "orelse", "finalbody")
    ]
    lines = set()
    for body in filter(lambda block: isinstance(block, list), blocks):
        for before, node in zip([None, *body], body, strict=False):
            if not isinstance(node, ast.Raise) or node.exc is None:
                continue
            words = ast.get_source_segment(text, before or node)
            if not any(each in words for each in ELSEWHERE):
                lines.add(node.lineno)
    return lines


def test_every_message_of_the_core_has_a_case():
    paths = [*CORE.glob("*.py"), *(path for room in ROOMS for path in (CORE / room).glob("*.py"))]
    assert sum(len(raises_of(path)) for path in paths) > 80
    met = set().union(*map(place_of, CASES.values()))
    left = [
        f"{path.relative_to(CORE)}:{line}"
        for path in paths
        for line in sorted(raises_of(path))
        if (path, line) not in met
    ]
    assert "\n".join(left) == ""
