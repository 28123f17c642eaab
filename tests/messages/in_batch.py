"""Messages of `augment` and `attach`."""

import torch
from messages.kit import IMAGES, NET, POINTS, SEEN, Case, augment
from torch import nn
from toys import SIDE, tiny_adversary


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


FIVE = POINTS[:, [0, 1, 2, 0, 1]]
PEOPLE = {"keypoints": POINTS, "batch_idx": torch.arange(4)}

CASES = {
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
        "Bring them to one number of channels, one dtype and one device",
        lambda: augment([IMAGES[0], *IMAGES[1:].double().float()]),
    ),
    "unknown target": Case(
        lambda: augment(target="face"),
        "for no landmarks pass None",
        lambda: augment(target=None),
        TypeError,
    ),
    "parts of the picture": Case(
        lambda: augment(target=POINTS / SIDE),
        "pass `normalized=True`",
        lambda: augment(target=POINTS / SIDE, normalized=True),
    ),
    "from -1 to 1": Case(
        lambda: augment(target=2 * POINTS / SIDE - 1),
        r"pass `\(target \+ 1\) / 2` and `normalized=True`",
        lambda: augment(target=(2 * POINTS / SIDE - 1 + 1) / 2, normalized=True),
    ),
    "from -1 to 1, called fractions": Case(
        lambda: augment(target=2 * POINTS / SIDE - 1, normalized=True),
        r"pass `\(target \+ 1\) / 2` and `normalized=True`",
        lambda: augment(target=(2 * POINTS / SIDE - 1 + 1) / 2, normalized=True),
    ),
    "rows of coordinates": Case(
        lambda: augment(target=POINTS.flatten(1)),
        r"pass `target\.unflatten\(1, \(-1, 2\)\)`",
        lambda: augment(target=POINTS.flatten(1).unflatten(1, (-1, 2))),
    ),
    "x and y first": Case(
        lambda: augment(target=FIVE.mT),
        "Put x and y last",
        lambda: augment(target=FIVE.mT.mT),
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
}
