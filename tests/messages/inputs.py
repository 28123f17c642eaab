"""Messages about pictures and targets of the paper's call."""

import torch
from messages.kit import HEATMAPS, IMAGES, NET, POINTS, SEEN, Case, augment, call
from toys import Calls, tiny_adversary

from advaug import HeatmapTask, PixelSpec, RandomAppearance, SampleAdaptiveAdversary
from advaug.base import checks


class PerPixel:
    """A task whose error is not one value for each sample."""

    def __init__(self, axes):
        self.axes = axes

    def error(self, output, target):
        return (output - target).square().mean(dim=self.axes)

    def landmark_heatmaps(self, target, size):
        return HeatmapTask().landmark_heatmaps(target, size)


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


CASES = {
    # step: the pictures and the target of both ways in
    "no tensor": Case(
        lambda: checks.check_images([1], IMAGES),
        "Stack the pictures as a tensor",
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
    "16 bits": Case(
        lambda: call((65535 * IMAGES).to(torch.uint16)),
        r"for 16 bits `images\.float\(\) / 65535`",
        lambda: call((65535 * IMAGES).to(torch.uint16).float() / 65535),
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
    "bfloat16 adversary": Case(
        lambda: augment(adversary=tiny_adversary(structure="discriminator").bfloat16()),
        r"Use `adversary\.float\(\)`; its pictures may be in half precision",
        lambda: augment(
            IMAGES.bfloat16(), adversary=tiny_adversary(structure="discriminator").float()
        ),
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
    "0..65535": Case(
        lambda: call(65535 * IMAGES),
        "Divide 16-bit pictures by 65535",
        lambda: call(65535 * IMAGES / 65535),
    ),
    "NaN in the pictures": Case(
        lambda: call(IMAGES * torch.nan, pixels=PixelSpec((0.0,), (1.0,))),
        "Look for the step that made it",
        lambda: call(IMAGES, pixels=PixelSpec((0.0,), (1.0,))),
    ),
    "appearance of bytes": Case(
        lambda: RandomAppearance()((255 * IMAGES).byte()),
        r"For 0\.\.255 use `images\.float\(\) / 255`",
        lambda: RandomAppearance()((255 * IMAGES).byte().float() / 255),
        TypeError,
    ),
    "appearance after the normalisation": Case(
        lambda: RandomAppearance()((IMAGES - 0.5) / 0.2),
        "Change pictures before you normalise them",
        lambda: (RandomAppearance()(IMAGES) - 0.5) / 0.2,
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
}
