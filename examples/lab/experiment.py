"""Train a detector plainly and with SAAT under one seed and budget, and compare: the examples."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.optim import Adam

from advaug.adversary import SampleAdaptiveAdversary
from advaug.augment import HandcraftedAugmentation
from advaug.base.files import require_writable
from advaug.evaluation.evaluate import Errors, predict_under
from advaug.evaluation.report import format_table, plot_ced, plot_curves, plot_gallery
from advaug.schemes import FACE_68
from advaug.training.loading import InMemoryLandmarks, TrainingPictures
from advaug.training.streaming import hold_or_stream
from lab.arguments import Experiment
from lab.codecs import Codec
from lab.problem import Problem
from lab.trainer import Trainer, TrainingConfig, write_json

__all__ = ["MakeDetector", "check_same_settings", "claim", "run", "trainer_for"]

MakeDetector = Callable[[Tensor], nn.Module]
"""From the mean shape `(N, 2)` of the training pictures, in their pixels, to a detector."""


def run(
    experiment: Experiment,
    make_detector: MakeDetector,
    codec: Codec,
    read: Callable[[Experiment], Problem],
) -> dict[str, dict[str, dict[str, float]]]:
    """Train every arm, measure it, and write everything to the output folder.

    Args:
        experiment: What to do.
        make_detector: Builds the detector, with fresh weights from the global random state. Gets
            the mean shape `(N, 2)` of the training pictures, which most detectors need not know.
        codec: What the detector learns from and gives.
        read: Gives what is to be learnt.

    Returns:
        Arm, condition, and measures such as the NME as fractions; also in `metrics.json`.

    Raises:
        DatasetError: If the pictures cannot be used.
        ValueError: If the output folder holds a run with other settings.
    """
    _rehearse(experiment, make_detector, codec)
    engine = _accelerator(experiment)
    problem = read(experiment)
    if engine.is_main_process:
        claim(experiment)
    engine.wait_for_everyone()
    train = hold_or_stream(
        problem.train,
        experiment.recipe.image_size,
        engine.device,
        stream=experiment.stream,
        workers=experiment.workers,
        title="training pictures",
    )
    test = InMemoryLandmarks(
        problem.test, engine.device, workers=experiment.workers, title="test pictures"
    )
    engine.print(
        f"{len(train)} pictures to train on, {len(test)} to measure on, device {engine.device}"
    )
    errors: dict[str, dict[str, Errors]] = {}
    histories = {}
    for arm in experiment.arms:
        trainer = trainer_for(experiment, arm, make_detector, codec, train, problem)
        detector = trainer.fit(title=f"{arm:5}", resume=experiment.resume)
        histories[arm] = trainer.progress.history
        errors[arm] = _measure(detector, codec, test, problem)
        if engine.is_main_process:
            _save_weights(detector, experiment.output / arm / "detector.safetensors")
            if isinstance(trainer.adversary, SampleAdaptiveAdversary):
                _show_attack(trainer.adversary, test, experiment.output / "gallery.png")
                engine.print(trainer.adversary.health())
    results = {
        arm: {name: found.summary() for name, found in conditions.items()}
        for arm, conditions in errors.items()
    }
    if engine.is_main_process:
        write_json(experiment.output / "metrics.json", results)
        plot_ced(errors, experiment.output / "ced.png")
        plot_curves(histories, experiment.output / "curves.png")
    engine.print(
        f"\n{format_table(results)}\n\nNME by {problem.unit}; everything is in {experiment.output}/"
    )
    return results


def _measure(
    detector: nn.Module, codec: Codec, data: InMemoryLandmarks, problem: Problem
) -> dict[str, Errors]:
    batch = data[slice(None)]
    found = predict_under(
        detector, codec.decode, batch.images, batch.landmarks, conditions=problem.conditions
    )
    return {name: problem.measure(preds, batch) for name, preds in found.items()}


@torch.no_grad()
def _rehearse(experiment: Experiment, make_detector: MakeDetector, codec: Codec) -> None:
    """Try the networks on an empty picture, before any file is read or written."""
    side = experiment.recipe.image_size
    size = (side, side)
    # The true mean shape is known once the files are read: any that is no single point will do.
    stand_in = (side - 1) * torch.rand(FACE_68.num_landmarks, 2)
    codec.decode(make_detector(stand_in).eval()(torch.zeros(1, 3, *size)), size)


def claim(experiment: Experiment) -> None:
    """Make the output folder this experiment's: never mix two, never overwrite one."""
    settings = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(experiment).items()
        if name not in ("output", "resume", "device", "arms", "workers")
    }
    path = experiment.output / "settings.json"
    if path.exists():
        held = json.loads(path.read_text())
        if not experiment.resume:
            aside = _free_name(experiment.output)
            experiment.output.rename(aside)
            print(f"kept the earlier run as {aside}")
        else:
            check_same_settings(experiment.output, held, settings)
    require_writable("--output", experiment.output)
    write_json(path, settings)


def check_same_settings(output: Path, held: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raise unless a folder's settings are those of the run that is to continue in it."""
    differing = [name for name in settings if held.get(name) != settings[name]]
    if differing:
        msg = (
            f"`--output` {output} must hold a run with the same settings to be resumed, but "
            "differs in "
            + ", ".join(f"{n}: {held.get(n)} there, {settings[n]} here" for n in differing)
            + ". Give the same arguments, or another `--output`."
        )
        raise ValueError(msg)


def _free_name(folder: Path) -> Path:
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    return aside


def _accelerator(experiment: Experiment) -> Accelerator:
    if experiment.device == "cuda" and not torch.cuda.is_available():
        msg = "`--device cuda` needs a CUDA device, but PyTorch finds none. Use `--device cpu`."
        raise ValueError(msg)
    return Accelerator(cpu=experiment.device == "cpu")


def trainer_for(
    experiment: Experiment,
    arm: str,
    make_detector: MakeDetector,
    codec: Codec,
    data: TrainingPictures,
    problem: Problem,
) -> Trainer:
    """One arm's trainer; both arms start from the same weights and see the same pictures."""
    recipe = experiment.recipe
    set_seed(experiment.seed)
    detector = make_detector(data.mean_shape().cpu())
    adversary = None
    if arm == "saat":
        make = SampleAdaptiveAdversary
        if recipe.literal:
            make = partial(SampleAdaptiveAdversary.paper, image_size=recipe.image_size)
        adversary = make(
            codec.task,
            optimizer=lambda parameters: Adam(
                parameters, lr=recipe.adversary_learning_rate, betas=(0.5, 0.999)
            ),
            seed=experiment.seed,
        )
    config = TrainingConfig(
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        decay=recipe.decay,
        seed=experiment.seed,
        checkpoint_every=max(500, recipe.steps // 50),
    )
    augmentation = HandcraftedAugmentation(
        flip_permutation=problem.scheme.flip_permutation, seed=experiment.seed
    )
    return Trainer(
        detector,
        codec,
        data,
        config,
        experiment.output / arm,
        augmentation=augmentation,
        adversary=adversary,
        adversary_sees=recipe.adversary_sees,
        accelerator=_accelerator(experiment),
    )


def _show_attack(adversary: SampleAdaptiveAdversary, data: InMemoryLandmarks, path: Path) -> None:
    """Draw the gallery: what the trained attacker does to test pictures."""
    batch = data[torch.linspace(0, len(data) - 1, 8).long()]
    attack = adversary.preview(batch.images, (batch.landmarks, batch.visible))
    plot_gallery(batch.images, attack, path)


def _save_weights(detector: nn.Module, path: Path) -> None:
    save = getattr(detector, "save", None)
    if save is not None:
        save(path)
