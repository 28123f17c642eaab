"""Train many defences over many seeds at an equal budget, and compare them.

    python examples/study.py --arms plain second-copy saat --seeds 0 1 2
    python examples/study.py --data pts --root FOLDER --steps 2000 --budget both
    python examples/study.py --variant "mild:beta=semantic,target=0.95" --arms plain mild
    python examples/study.py report --output runs/study --control second-copy

FOLDER holds `train` and `val`. Start the same command twice to share the work between two
processes; start it again after a stop to go on. `--variant` makes an arm from another one (SAAT,
unless `base=ARM` says otherwise) with options of its method, and `saat` takes beside those of
`SampleAdaptiveAdversary`: attacker_lr, target, gain, drift (of the controller), colour (of I_adv,
after the attack), erasing (another copy), over (erasing, photometric or augmix: the change that
comes before the attack), width (of both networks), coarse (of the attacker). The arms `appearance`
and `saat-bare` are the two halves of `saat`: its random appearance, and its attack.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from lab.codecs import Codec, CoordinateCodec, HeatmapCodec
from lab.experiment import Experiment, Recipe
from lab.faces import read_faces
from lab.problem import Problem
from lab.study import (
    Arm,
    Study,
    StudySettings,
    check_arms,
    parse_variant,
    write_report,
)
from lab.study.arms import Over, Together
from lab.study.runs import Run
from torch import Tensor, nn
from torch.optim import Adam

from advaug import (
    PatchDiscriminator,
    ReconstructionController,
    SampleAdaptiveAdversary,
    UNetAttacker,
)
from advaug.augment import HandcraftedAugmentation
from advaug.augment.corruptions import SEVERITIES, check_severities
from advaug.baselines import (
    AdvMix,
    HardestAppearance,
    PGDAdversary,
    SecondCopy,
    StabilityTraining,
    VirtualAdversary,
)
from advaug.detectors import HourglassNet
from advaug.schemes import FACE_68
from advaug.tasks import LandmarkTask

WEIGHT = 0.4  # of every other defence: the most that β gives
ATTACKER_RATE = 1e-3  # ten times the default: runs are short

COPIES = {
    "erasing": SecondCopy.erasing,
    "photometric": SecondCopy.rand_augment,
    "augmix": SecondCopy.augmix,
    "appearance": SecondCopy.appearance,
}

# Builders: `make(task, seed, **options)`.


def plain(task: LandmarkTask, seed: int) -> None:
    """Nothing is added."""


def saat(
    task: LandmarkTask,
    seed: int,
    *,
    attacker_lr: float = ATTACKER_RATE,
    target: float = 0.9,
    gain: float = 20.0,
    drift: float = 0.05,
    colour: bool = False,
    erasing: bool = False,
    over: str | None = None,
    width: int = 8,
    coarse: int = 1,
    structure: bool | Literal["discriminator"] = "discriminator",
    **options: Any,  # noqa: ANN401 # the adversary's
) -> nn.Module:
    """The library's own method; options that are not given are its defaults.

    But for the width of its networks, a quarter of theirs, as the detectors here are small.
    """
    attacker = UNetAttacker(base_width=width, structure=structure is True, coarse=coarse)
    critic = PatchDiscriminator(base_width=width, structure=bool(structure))
    options.setdefault("discriminator", critic)
    controller = ReconstructionController(target=target, gain=gain, drift=drift)
    options.setdefault("reconstruction_weight", controller)
    if colour:
        options["transform"] = recolour(seed)
    adversary = SampleAdaptiveAdversary(
        task,
        attacker=attacker,
        structure=structure,
        optimizer=optimizer(attacker_lr),
        seed=seed,
        **options,
    )
    if over is not None:
        return Over(usual_copy("over", over)(task).transform, adversary)
    if erasing:
        return Together(adversary, SecondCopy.erasing(task, weight=WEIGHT, seed=seed))
    return adversary


def copy(task: LandmarkTask, seed: int, *, kind: str, weight: float = WEIGHT) -> nn.Module:
    """A second copy of every picture: handcrafted, or changed by a usual augmentation."""
    if kind == "handcrafted":
        again = HandcraftedAugmentation(flip_permutation=FACE_68.flip_permutation, seed=seed + 1)
        return SecondCopy(task, transform=again, weight=weight, seed=seed)
    return usual_copy("kind", kind)(task, weight=weight, seed=seed)


def usual_copy(name: str, kind: str) -> Callable[..., SecondCopy]:
    """One of the usual augmentations.

    Raises:
        ValueError: If there is none of this kind.
    """
    if kind not in COPIES:
        msg = f"`{name}` must be one of {', '.join(COPIES)}, but got {kind!r}."
        raise ValueError(msg)
    return COPIES[kind]


def baseline(method: type[nn.Module]) -> Callable[..., nn.Module]:
    """A builder of one of `advaug.baselines`."""

    def make(task: LandmarkTask, seed: int, **options: Any) -> nn.Module:  # noqa: ANN401 # its own
        given = {"weight": WEIGHT, "optimizer": optimizer(ATTACKER_RATE), **options}
        return method(task, seed=seed, **given)

    make.__name__ = method.__name__
    return make


def optimizer(rate: float) -> Callable[..., Adam]:
    """Of attacker, discriminator and whatever else a defence learns."""
    return partial(Adam, lr=rate, betas=(0.5, 0.999), fused=True)


def recolour(seed: int) -> HandcraftedAugmentation:
    """The colours of the handcrafted augmentation, without its geometry."""
    still = {"flip": 0.0, "rotation": 0.0, "scale": (1.0, 1.0), "translation": 0.0}
    return HandcraftedAugmentation(**still, seed=seed + 2)


LITERAL = {
    "structure": True,
    "regions": None,
    "appearance": None,
    "coarse": 0,
    "reconstruction_weight": 1.0,
    "adversarial_limit": None,
    "batch_norm": "shared",
    "beta": "adaptive",
    "mode": "alternating",
}
SPARING = {"attacker_every": 2, "discriminator_every": 2, "batch_norm": "shared"}
# Weight: an adversarial picture that is still whole (β = .4) counts as much as a clean one.
REST = {**SPARING, "loss_weight": 2.5}
PGD, VAT = baseline(PGDAdversary), baseline(VirtualAdversary)
HARDEST = baseline(HardestAppearance)

Again: Any = partial(Arm, sees="again")

ARMS: Mapping[str, Arm] = {
    "plain": Arm(plain),
    # What others do to the detector's own pictures, and what SAAT does beside its attack.
    "plain-erasing": Arm(plain, own="erasing"),
    "plain-appearance": Arm(plain, own="appearance"),
    # Whatever adds a copy of each picture adds one that was augmented anew, so that all of them see
    # the same number of pictures; the first does nothing else to it.
    "second-copy": Arm(copy, {"kind": "handcrafted"}, sees="original"),
    "erasing": Again(copy, {"kind": "erasing"}),
    "photometric": Again(copy, {"kind": "photometric"}),
    "augmix": Again(copy, {"kind": "augmix"}),
    # What SAAT does beside its attack.
    "appearance": Again(copy, {"kind": "appearance"}),
    "appearance-1": Again(copy, {"kind": "appearance", "weight": 1.0}),
    # What others do against perturbations.
    "stability": Again(baseline(StabilityTraining)),
    "vat": Again(VAT),
    "pgd1": Again(PGD, {"steps": 1}),
    "pgd3": Again(PGD, {"steps": 3}),
    "advprop": Again(PGD, {"steps": 1, "batch_norm": "split"}),
    "advmix": Again(baseline(AdvMix)),
    # The method: as the library has it, on top of others, on the very pictures of the detector,
    # and as the paper has it, which says the latter.
    "saat": Again(saat),
    "saat+erasing": Again(saat, {"erasing": True}),
    "saat-over-erasing": Again(saat, {"over": "erasing"}),
    "saat-over-photometric": Again(saat, {"over": "photometric"}),
    "saat-same": Arm(saat),
    "saat-literal": Arm(saat, LITERAL),
    "saat-isolated-literal": Arm(saat, {**LITERAL, "batch_norm": "isolated"}),
    # On half of each batch instead of on a copy of it: as many pictures as plain training.
    "saat-rest": Arm(saat, REST, sees="rest"),
    "appearance-rest": Arm(copy, {"kind": "appearance", "weight": 1.0}, sees="rest"),
    "hardest-rest": Arm(HARDEST, {"draws": 2, "weight": 1.0}, sees="rest"),
    # On top of changes of the detector's own pictures.
    "saat+plain-erasing": Again(saat, own="erasing"),
    "saat-lazy+plain-erasing": Again(saat, SPARING, own="erasing"),
    "appearance+plain-erasing": Again(copy, {"kind": "appearance", "weight": 1.0}, own="erasing"),
    "saat-rest+plain-erasing": Arm(saat, REST, sees="rest", own="erasing"),
    "saat-rest+plain-appearance": Arm(saat, REST, sees="rest", own="appearance"),
    # Table 6.
    "saat-beta-1": Again(saat, {"beta": 1.0}),
    "saat-beta-0.5": Again(saat, {"beta": 0.5}),
    "saat-beta-0.1": Again(saat, {"beta": 0.1}),
    "saat-beta-0": Again(saat, {"beta": 0.0}),
    "saat-relaxation-1": Again(saat, {"relaxation": 1.0}),
    "saat-relaxation-0.5": Again(saat, {"relaxation": 0.5}),
    "saat-relaxation-0": Again(saat, {"relaxation": 0.0}),
    # Table 7.
    "saat-no-structure": Again(saat, {"structure": False}),
    "saat-structure": Again(saat, {"structure": True}),
    "saat-no-reconstruction": Again(saat, {"reconstruction_weight": 0.0}),
    "saat-no-discriminator": Again(saat, {"discriminator": None}),
    # What the paper leaves open, and what it does not have.
    "saat-everywhere": Again(saat, {"regions": None}),
    "saat-bare": Again(saat, {"appearance": None}),
    "saat-semantic-beta": Again(saat, {"beta": "semantic"}),
    "saat-target-0.8": Again(saat, {"target": 0.8}),
    "saat-target-0.85": Again(saat, {"target": 0.85}),
    "saat-target-0.95": Again(saat, {"target": 0.95}),
    "saat-colour": Again(saat, {"colour": True}),
    "saat-lr-1e-4": Again(saat, {"attacker_lr": 1e-4}),
    "saat-lr-3e-4": Again(saat, {"attacker_lr": 3e-4}),
    "saat-running": Again(saat, {"batch_norm": "running"}),
    "saat-shared": Again(saat, {"batch_norm": "shared"}),
    "saat-lazy": Again(saat, SPARING),
    "saat-split": Again(saat, {"batch_norm": "split"}),
}
CONTROL = "plain"
DEFAULT_ARMS = ("plain", "second-copy", "erasing", "saat", "saat-literal", "saat+erasing")


def make_hourglass(mean_shape: Tensor) -> nn.Module:
    """A small HG*1."""
    return HourglassNet(len(mean_shape), 1, width=64, depth=3, out_stride=2)


def make_narrow_hourglass(mean_shape: Tensor) -> nn.Module:
    """The same at half the width, for a CPU."""
    return HourglassNet(len(mean_shape), 1, width=32, depth=3, out_stride=2)


def make_coordinate(mean_shape: Tensor) -> nn.Module:
    """A small ResNet of timm under a soft-argmax, from random weights."""
    from advaug.detectors import TimmCoordinateNet

    return TimmCoordinateNet("resnet10t", len(mean_shape), width=64)


def make_light_coordinate(mean_shape: Tensor) -> nn.Module:
    """The same on the lightest ResNet of timm, for a CPU."""
    from advaug.detectors import TimmCoordinateNet

    return TimmCoordinateNet("test_resnet", len(mean_shape), width=64)


def make_tiny(mean_shape: Tensor) -> nn.Module:
    """An hourglass of no use but to try things out."""
    return HourglassNet(len(mean_shape), 1, width=8, depth=2, out_stride=4)


DETECTORS: Mapping[str, tuple[Callable[[Tensor], nn.Module], Callable[[], Codec]]] = {
    "hg1": (make_hourglass, lambda: HeatmapCodec(2)),
    "hg1-narrow": (make_narrow_hourglass, lambda: HeatmapCodec(2)),
    "coordinate": (make_coordinate, CoordinateCodec),
    "coordinate-light": (make_light_coordinate, CoordinateCodec),
    "tiny": (make_tiny, lambda: HeatmapCodec(4)),
}


def parse(words: list[str] | None) -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("command", nargs="?", choices=("run", "report"), default="run")
    add("--output", type=Path, default=Path("runs/study"))
    add("--arms", nargs="+", default=list(DEFAULT_ARMS), metavar="ARM", help=", ".join(ARMS))
    add("--variant", action="append", default=[], metavar="NAME:OPTION=VALUE,...")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--budget", choices=("steps", "time", "both"), default="steps")
    add("--time-factor", type=float, help="cost of a run at equal time, in plain runs; by default\n"
        "that of the dearest arm")  # fmt: skip
    add("--control", default=CONTROL, help="the arm that the report compares the others with")
    add("--data", choices=("synthetic", "pts", "300w"), default="synthetic")
    add("--root", type=Path, help="folder of the pictures")
    add("--pictures", nargs=2, type=int, metavar=("TRAIN", "TEST"), help="use so many alone")
    add("--detector", choices=tuple(DETECTORS), default="hg1")
    add("--image-size", type=int, default=64)
    add("--steps", type=int, default=1200, help="of a run at an equal number of steps")
    add("--head-start", type=int, default=0, metavar="STEPS", help="of plain training that all\n"
        "runs of a seed go on from; 0 for fresh weights")  # fmt: skip
    add("--batch-size", type=int, default=16)
    add("--learning-rate", type=float, default=1e-3)
    add("--severities", nargs="+", type=int, default=list(SEVERITIES))
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--precision", choices=("no", "bf16", "fp16"), default="no")
    add("--threads", type=int, help="of the CPU; 1 is best where several processes share it")
    add("--workers", type=int, default=2, help="processes that read pictures")
    return parser.parse_args(words)


def settings_from(arguments: argparse.Namespace) -> StudySettings:
    """What all runs share.

    Raises:
        ValueError: If arguments are out of range.
    """
    counts = ("steps", "batch_size", "image_size", "threads")
    for name in counts:
        value = getattr(arguments, name)
        if value is not None and value < 1:
            msg = f"`--{name.replace('_', '-')}` must be at least 1, but got {value}."
            raise ValueError(msg)
    if arguments.pictures is not None and min(arguments.pictures) < 1:
        msg = f"`--pictures` must be at least 1, but got {arguments.pictures}."
        raise ValueError(msg)
    if arguments.head_start < 0:
        msg = f"`--head-start` must be at least 0, but got {arguments.head_start}."
        raise ValueError(msg)
    if arguments.time_factor is not None and not arguments.time_factor > 0:
        msg = f"`--time-factor` must be above 0, but got {arguments.time_factor}."
        raise ValueError(msg)
    if arguments.data != "synthetic" and arguments.root is None:
        msg = f"`--root` must name the folder of the pictures for `--data {arguments.data}`."
        raise ValueError(msg)
    check_severities(arguments.severities)
    return StudySettings(
        data=arguments.data,
        root=arguments.root,
        pictures=None if arguments.pictures is None else tuple(arguments.pictures),
        detector=arguments.detector,
        image_size=arguments.image_size,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        severities=tuple(sorted(set(arguments.severities))),
        precision=arguments.precision,
        head_start=arguments.head_start,
    )


def read(settings: StudySettings, output: Path) -> Problem:
    """The faces; the same in every run."""
    recipe = Recipe(
        settings.steps, settings.batch_size, settings.image_size, settings.learning_rate
    )
    experiment = Experiment(
        data=settings.data,
        root=settings.root,
        recipe=recipe,
        seed=0,
        device="auto",
        output=output,
        resume=True,
        arms=(),
        skip_broken=False,
    )
    return read_faces(experiment).thinned(settings.pictures)


def run(arguments: argparse.Namespace, arms: Mapping[str, Arm]) -> int:
    """Train what is missing; 1 if something is missing still."""
    settings = settings_from(arguments)
    check_arms(arguments.arms, arms)
    chosen = {name: arms[name] for name in (CONTROL, *arguments.arms)}
    make_detector, make_codec = DETECTORS[settings.detector]
    study = Study(
        settings,
        chosen,
        control=CONTROL,
        read=lambda: read(settings, arguments.output),
        make_detector=make_detector,
        codec=make_codec(),
        output=arguments.output,
        device=arguments.device,
        workers=arguments.workers,
        say=lambda text: print(text, flush=True),
    )
    timed = arguments.budget != "steps"
    costs = study.costs(timed=timed, factor=arguments.time_factor)
    for name, rate in costs.pictures_per_second.items():
        print(f"plain training, {name}: {rate:.0f} pictures a second")
    runs = []
    for seed in arguments.seeds:  # whole seeds first: what is there can be compared
        for name in dict.fromkeys(arguments.arms):
            if arguments.budget != "time":
                runs.append(Run(name, settings.steps, seed))
            if timed:
                runs.append(Run(name, costs.steps(name, settings.steps), seed))
    missing = study.run(list(dict.fromkeys(runs)))
    if missing:
        names = ", ".join(f"{run.arm} (seed {run.seed})" for run in missing)
        print(f"{len(missing)} of {len(runs)} runs have no result yet: {names}")
    return 1 if missing else 0


def main(words: list[str] | None = None) -> int:
    """Train, or report on what has been trained."""
    arguments = parse(words)
    try:
        arms = dict(ARMS)
        for text in arguments.variant:
            name, arm = parse_variant(text, arms)
            arms[name] = arm
            arguments.arms.append(name)
        if arguments.threads is not None:
            torch.set_num_threads(arguments.threads)
        code = run(arguments, arms) if arguments.command == "run" else 0
        if arguments.command == "report" or code == 0:
            print(write_report(arguments.output, control=arguments.control, order=list(arms)))
    except (ValueError, OSError) as error:
        print(f"study.py: {error}", file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
