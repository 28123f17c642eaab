"""The arms of `benchmark_step.py`: the same training step, plain and with what can be added to it.

Every arm has its own detector. Pictures and landmarks are random numbers: what a step costs
does not depend on them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from literal_saat import LiteralSAAT
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Adam

from advaug import (
    CoordinateTask,
    HeatmapTask,
    PatchDiscriminator,
    SampleAdaptiveAdversary,
    Schedule,
    UNetAttacker,
    encode_heatmaps,
)
from advaug.baselines import PGDAdversary
from advaug.detectors import MDM, HourglassNet
from advaug.training import CapturedStep

NUM_LANDMARKS = 68
COARSE_STRIDE = 4
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Settings:
    """What all arms of a run share.

    Attributes:
        detector: `"hg1"`, `"hg2"`, `"mdm"`, `"vitpose"` or `"timm:NAME"`.
        image_size: Side of the pictures.
        batch_size: Pictures a step.
        device: Where everything runs.
        precision: Of autocast; `"float32"` for none.
        compile: Whether detector, attacker and discriminator are compiled.
        channels_last: Whether pictures and weights are laid out so.
    """

    detector: str
    image_size: int
    batch_size: int
    device: torch.device
    precision: str = "float32"
    compile: bool = False
    channels_last: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """Of autocast."""
        return DTYPES[self.precision]

    def place(self, module: nn.Module) -> nn.Module:
        """The module on the device, in the layout of the run."""
        module = module.to(self.device)
        return module.to(memory_format=torch.channels_last) if self.channels_last else module


class Extra(NamedTuple):
    """What an arm adds to a plain step.

    Attributes:
        loss: A loss beside the detector's own.
        adversary: The one behind it, if it is ours.
        change: From the pictures to those that the detector gets.
    """

    loss: Callable[[nn.Module, Tensor, Any], Tensor] | None = None
    adversary: SampleAdaptiveAdversary | None = None
    change: Callable[[Tensor], Tensor] | None = None


class Arm(NamedTuple):
    """One row of the table.

    Attributes:
        title: What the table says.
        add: Makes what is added to the plain step, from the settings and the detector.
        period: Steps after which the arm repeats itself.
        captured: Whether the whole step is replayed as a CUDA graph.
    """

    title: str
    add: Callable[[Settings, nn.Module], Extra | None]
    period: int = 1
    captured: bool = False


class Step:
    """A whole training step of an arm, from detector to optimizer, on one batch."""

    def __init__(self, arm: Arm, settings: Settings) -> None:
        self.settings = settings
        self.detector = settings.place(make_detector(settings.detector, settings.image_size))
        self.task = task_of(settings.detector)
        self.batch = make_batch(settings)
        self.extra = arm.add(settings, self.detector)
        self.optimizer = Adam(self.detector.parameters(), lr=1e-4, fused=True)
        half = settings.precision == "float16"
        self.scaler = torch.amp.GradScaler(settings.device.type, enabled=half)
        adversary = None if self.extra is None else self.extra.adversary
        if settings.compile:
            self.detector.compile()
            if adversary is not None:
                adversary.compile()
        self._run: Callable[..., Tensor] = self.step
        if arm.captured:
            self._run = CapturedStep(self.step, adversary, [self.optimizer])

    def __call__(self) -> Tensor:
        """Run it."""
        return self._run(*self.batch)

    @property
    def uncaptured(self) -> str | None:
        """Why the last step of an arm that is to be captured was not."""
        return self._run.reason if isinstance(self._run, CapturedStep) else None

    def step(self, images: Tensor, target: Tensor) -> Tensor:
        """The loss of one step, after it."""
        kind, dtype = self.settings.device.type, self.settings.dtype
        with torch.autocast(kind, dtype=dtype, enabled=dtype != torch.float32):
            if self.extra is not None and self.extra.change is not None:
                images = self.extra.change(images)
            loss = self.task.error(self.detector(images), target).mean()
            if self.extra is not None and self.extra.loss is not None:
                loss = loss + self.extra.loss(self.detector, images, target)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return loss.detach()


def make_detector(name: str, image_size: int) -> nn.Module:
    """A detector of 68 landmarks.

    Raises:
        ValueError: If there is none of this name.
    """
    if name in ("hg1", "hg2"):
        return HourglassNet(NUM_LANDMARKS, stacks=int(name[-1]))
    if name == "mdm":
        return MDM(_landmarks(1, image_size)[0])
    if name.startswith("timm:"):
        from advaug.detectors import TimmHeatmapNet  # loads timm and torchvision

        return TimmHeatmapNet(name.removeprefix("timm:"), NUM_LANDMARKS, out_stride=COARSE_STRIDE)
    if name == "vitpose":
        return ViTPose(image_size)
    msg = f"`--detector` must be hg1, hg2, mdm, vitpose or timm:NAME, but got {name!r}."
    raise ValueError(msg)


class ViTPose(nn.Module):
    """ViTPose of transformers, small and not trained: patches of 16, six layers of 192 channels."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation

        backbone = VitPoseBackboneConfig(
            image_size=[image_size, image_size],
            patch_size=[16, 16],
            hidden_size=192,
            num_hidden_layers=6,
            num_attention_heads=3,
            mlp_ratio=4,
        )
        config = VitPoseConfig(
            backbone_config=backbone,
            num_labels=NUM_LANDMARKS,
            # Plain products of matrices, which are counted; PyTorch's attention on a CPU is not.
            attn_implementation="eager",
        )
        self.network = VitPoseForPoseEstimation(config)

    def forward(self, images: Tensor) -> Tensor:
        """Heatmaps `(B, 68, H / 4, W / 4)`."""
        return self.network(images).heatmaps


def task_of(name: str) -> HeatmapTask | CoordinateTask:
    """What a detector gives."""
    return CoordinateTask() if name == "mdm" else HeatmapTask()


def make_batch(settings: Settings) -> tuple[Tensor, Tensor]:
    """Pictures, `(B, 3, side, side)`, and what the task expects, from a fixed seed."""
    side, count = settings.image_size, settings.batch_size
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, side, side, generator=draw)
    target = _landmarks(count, side)
    if settings.detector != "mdm":
        coarse = settings.detector.startswith("timm:") or settings.detector == "vitpose"
        stride = COARSE_STRIDE if coarse else 1
        size = (side // stride, side // stride)
        target = encode_heatmaps(target, size, image_size=(side, side))
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    return images.to(settings.device, memory_format=layout), target.to(settings.device)


def _landmarks(count: int, side: int) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return side * (0.2 + 0.6 * torch.rand(count, NUM_LANDMARKS, 2, generator=draw))


def _nothing(settings: Settings, detector: nn.Module) -> None:
    return None


def _copy(settings: Settings, detector: nn.Module) -> Extra:
    task = task_of(settings.detector)
    return Extra(lambda detector, images, target: task.error(detector(images), target).mean())


def _pgd(steps: int, **options: Any) -> Callable[[Settings, nn.Module], Extra]:  # noqa: ANN401 # PGDAdversary's
    def add(settings: Settings, detector: nn.Module) -> Extra:
        defence = PGDAdversary(task_of(settings.detector), steps=steps, **options)
        return Extra(defence.to(settings.device))

    return add


def _literal(settings: Settings, detector: nn.Module) -> Extra:
    networks = (settings.place(network) for network in _paper_networks(settings))
    return Extra(LiteralSAAT(task_of(settings.detector), *networks))


def _augment(**schedule: Any) -> Callable[[Settings, nn.Module], Extra]:  # noqa: ANN401 # a Schedule's
    def add(settings: Settings, detector: nn.Module) -> Extra:
        adversary = settings.place(SampleAdaptiveAdversary(schedule=Schedule(**schedule)))
        landmarks = _landmarks(settings.batch_size, settings.image_size).to(settings.device)
        return Extra(None, adversary, lambda images: adversary.augment(images, landmarks))

    return add


def _saat(
    mode: str,
    *,
    paper: bool = False,
    **options: Any,  # noqa: ANN401 # the schedule's
) -> Callable[[Settings, nn.Module], Extra]:
    def add(settings: Settings, detector: nn.Module) -> Extra:
        attacker, discriminator = _paper_networks(settings)
        paper_sized = {"attacker": attacker, "discriminator": discriminator, "structure": True}
        adversary = SampleAdaptiveAdversary(
            task_of(settings.detector),
            batch_norm="running" if mode == "fused" else "isolated",
            schedule=Schedule(mode=mode, **options),  # type: ignore[reportArgumentType] # one of the three, below
            **paper_sized if paper else {},
        )
        settings.place(adversary)
        return Extra(adversary, adversary)

    return add


def _paper_networks(settings: Settings) -> tuple[nn.Module, nn.Module]:
    return UNetAttacker.paper(settings.image_size), PatchDiscriminator.paper()


ARMS = {
    "plain": Arm("plain", _nothing),
    "two-copies": Arm("two clean copies", _copy),
    "pgd-1": Arm("PGD-1", _pgd(1)),
    "pgd-3": Arm("PGD-3", _pgd(3)),
    "pgd-7": Arm("PGD-7", _pgd(7)),
    "advprop": Arm("AdvProp-style, PGD-1", _pgd(1, batch_norm="split")),
    "literal": Arm("literal, paper-sized", _literal),
    "alternating-paper": Arm("alternating, paper-sized", _saat("alternating", paper=True)),
    "shared-paper": Arm("shared, paper-sized", _saat("shared", paper=True)),
    "fused-paper": Arm("fused, paper-sized", _saat("fused", paper=True)),
    "alternating": Arm("alternating, light", _saat("alternating")),
    "shared": Arm("shared, light", _saat("shared")),
    "fused": Arm("fused, light", _saat("fused")),
    "attacker-every-2": Arm("shared, attacker_every=2", _saat("shared", attacker_every=2), 2),
    "discriminator-every-2": Arm(
        "shared, discriminator_every=2", _saat("shared", discriminator_every=2), 2
    ),
    "fraction-half": Arm("shared, share=0.5", _saat("shared", share=0.5)),
    "augment": Arm("augment, light", _augment()),
    "augment-every-2": Arm("augment, attacker_every=2", _augment(attacker_every=2), 2),
    "augment-captured": Arm("augment, light, captured", _augment(), captured=True),
    "plain-captured": Arm("plain, captured", _nothing, captured=True),
    "shared-captured": Arm("shared, light, captured", _saat("shared"), captured=True),
    "fused-captured": Arm("fused, light, captured", _saat("fused"), captured=True),
}


def title_of(name: str, detector: nn.Module) -> str:
    """What the table says of an arm, with what BatchNorm does where fused changes it."""
    title = ARMS[name].title
    mixes = any(isinstance(module, _BatchNorm) for module in detector.modules())
    return f"{title} (BatchNorm: running)" if title.startswith("fused") and mixes else title
