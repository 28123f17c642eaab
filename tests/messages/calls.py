"""Messages about the detector, and about how the adversary is called."""

import pytest
import torch
from messages.kit import HEATMAPS, IMAGES, NET, POINTS, Case, augment, call, grouped
from torch import nn
from toys import Calls, tiny_adversary

from advaug import HeatmapTask, ReconstructionController, SampleAdaptiveAdversary, UNetAttacker


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


def besides_twice(*, again):
    """Two calls, of which the first is told the caller's loss."""
    net, adversary = NET(), tiny_adversary()
    for told in (True, again):
        clean = HeatmapTask().error(net(IMAGES), HEATMAPS).mean()
        given = {"beside": clean} if told else {}
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


class Mixes(nn.Module):
    """Batch statistics that no class name tells of."""

    def forward(self, features):
        return nn.functional.batch_norm(features, None, None, training=True)


def mixing(norm):
    net = NET()
    net.body[1] = norm
    return net


CASES = {
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
        "one of isolated, running, shared, split, .* Choose one",
        lambda: tiny_adversary(batch_norm="split"),
    ),
    "second set": Case(
        lambda: split(own=False), "Use one adversary per detector", lambda: split(own=True)
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
    "beside, once only": Case(
        lambda: besides_twice(again=False),
        "Pass `beside=loss` here as well",
        lambda: besides_twice(again=True),
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
}
