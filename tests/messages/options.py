"""Messages of the options, the tasks and the equations."""

import torch
from messages.kit import HEATMAPS, IMAGES, NET, POINTS, SEEN, Case, adversary_of, call, grouped
from torch import nn
from toys import SIDE, Calls

import advaug
from advaug import (
    CoordinateTask,
    HeatmapTask,
    Objective,
    PixelSpec,
    RandomRegions,
    Schedule,
    View,
    decode_heatmaps,
    encode_heatmaps,
)
from advaug import functional as saat
from advaug.schemes import scheme_from_names
from advaug.tasks import check_task


class OfDicts(HeatmapTask):
    """A task of one's own, for targets that ours do not know."""

    def error(self, output, target):
        return super().error(output, target["maps"])

    def landmark_heatmaps(self, target, size):
        return super().landmark_heatmaps(target["maps"], size)


def bent(images, heatmaps):
    """A transform, which mode shared cannot have."""
    return images, heatmaps


def with_transform(mode):
    return lambda: call(mode=mode, transform=bent)


CASES = {
    # adversary.py, options.py, pixels.py
    "transform": Case(with_transform("shared"), "Leave one of the two out", with_transform("auto")),
    "transform, the other": Case(
        with_transform("fused"), "Leave one", lambda: call(net=grouped(), mode="fused")
    ),
    "adversarial_form": Case(
        lambda: Objective(adversarial_form="other"),
        "Choose one",
        lambda: Objective(adversarial_form="minimax"),
    ),
    "beta": Case(lambda: Objective(beta="none"), "or a number", lambda: call(beta=0.5)),
    "reconstruction_weight": Case(
        lambda: Objective(reconstruction_weight=[1]), "Leave it out", Objective, TypeError
    ),
    "reconstruction_weight, a word": Case(
        lambda: Objective(reconstruction_weight="auto"),
        "Leave it out",
        Objective,
        TypeError,
    ),
    "relaxation": Case(
        lambda: Objective(relaxation=-1.0), "Choose 0 or a larger", lambda: call(relaxation=0.0)
    ),
    "regions, a count": Case(
        lambda: View(regions=3),
        r"For 3 regions use `RandomRegions\(3\)`",
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
    "pixels, one number": Case(
        lambda: PixelSpec(0.5, 0.5),
        r"pass `\(0\.5,\)`",
        lambda: PixelSpec((0.5,), (0.5,)),
        TypeError,
    ),
    "view of another type": Case(
        lambda: call(adversary=adversary_of(view=None)()),
        r"Leave it out, or pass `View\(\.\.\.\)`",
        lambda: [adversary_of()(), adversary_of(view=View(regions=None))()],
        TypeError,
    ),
    "optimizer, built": Case(
        lambda: adversary_of(optimizer=torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))]))(),
        r"Pass a class such as `torch\.optim\.AdamW`, or `lambda parameters: ",
        lambda: [
            adversary_of(optimizer=torch.optim.AdamW)(),
            adversary_of(optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-4))(),
        ],
        TypeError,
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
    "task, a class": Case(
        lambda: adversary_of(task=HeatmapTask)(),
        r"Pass HeatmapTask\(\) or CoordinateTask\(\)",
        lambda: adversary_of(task=HeatmapTask())(),
        TypeError,
    ),
    "task, landmarks for heatmaps": Case(
        lambda: HeatmapTask().error(HEATMAPS, POINTS),
        r"Draw landmarks with `advaug\.encode_heatmaps\(landmarks, size\)`",
        lambda: HeatmapTask().error(HEATMAPS, encode_heatmaps(POINTS, HEATMAPS.shape[-2:])),
    ),
    "task, heatmaps for landmarks": Case(
        lambda: CoordinateTask().error(POINTS, HEATMAPS),
        r"For heatmaps use HeatmapTask\(\)",
        lambda: HeatmapTask().error(HEATMAPS, HEATMAPS),
    ),
    "task, kind of target": Case(
        lambda: call(target={"maps": HEATMAPS}),
        "Write your own task",
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
    "a size of one number": Case(
        lambda: encode_heatmaps(POINTS, 32),
        r"For a square pass `\(32, 32\)`",
        lambda: encode_heatmaps(POINTS, (32, 32)),
        TypeError,
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
}
