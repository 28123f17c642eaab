"""Messages of the networks and of what the detector sees."""

import functools

from messages.kit import HEATMAPS, IMAGES, NET, Case, adversary_of, call
from torch import nn
from toys import SIDE, Calls, tiny_attacker

from advaug import PatchDiscriminator, RandomAppearance, RandomRegions, UNetAttacker
from advaug.networks import MixingAttacker


def shown_as(appearance):
    return lambda: call(appearance=appearance)


def limits(**options):
    return functools.partial(RandomAppearance, **options)


MIXER = functools.partial(MixingAttacker, base_width=4)

CASES = {
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
}
