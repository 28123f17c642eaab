"""SAAT in DeepLabCut 3. Needs deeplabcut, in a separate environment."""

# pyright: reportMissingImports=false

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deeplabcut.pose_estimation_pytorch.runners import train as runners

from advaug.adversary import SampleAdaptiveAdversary
from advaug.integrations.shared import IMAGENET, save_with, scalars, unwell

__all__ = ["adversarial_training"]


@contextmanager
def adversarial_training(
    adversary: SampleAdaptiveAdversary | None = None,
) -> Iterator[SampleAdaptiveAdversary]:
    """Within, DeepLabCut trains its pose models on batches of which a part is attacked.

    `with adversarial_training(): deeplabcut.train_network(config)`. Works wherever DeepLabCut
    builds its own runner. Evaluation sees its pictures as they are, and detectors of top-down
    models train as ever. The report is in the runner's log as `losses/train.adversary/...`. Where
    snapshots hold the optimizer (`save_optimizer_state: true`), they hold the adversary as well.

    Args:
        adversary: None for the default, with ImageNet's mean and deviation, as DeepLabCut's
            `normalize_images` has it.

    Yields:
        The adversary.
    """
    ours = SampleAdaptiveAdversary(pixels=IMAGENET) if adversary is None else adversary
    theirs = runners.PoseTrainingRunner
    runners.PoseTrainingRunner = type("Runner", (_AdversarialRunner,), {"adversary": ours})
    try:
        yield ours
    finally:
        runners.PoseTrainingRunner = theirs


class _AdversarialRunner(runners.PoseTrainingRunner):
    """DeepLabCut's runner, with a part of each training batch attacked."""

    adversary: SampleAdaptiveAdversary

    def __init__(self, model: Any, optimizer: Any, **options: Any) -> None:  # noqa: ANN401 # DeepLabCut's
        # Before a snapshot is read, which the runner does while it is made.
        self.adversary.to(options.get("device", "cpu"))
        save_with(optimizer, self.adversary)
        super().__init__(model, optimizer, **options)

    def step(self, batch: dict[str, Any], mode: str = "train") -> dict[str, Any]:
        """The runner's step, in training on a batch of which a part is attacked."""
        if mode != "train":
            return super().step(batch, mode)
        images = batch["image"].to(self.device).float()
        landmarks = batch["annotations"]["keypoints"].to(self.device)
        changed = self.adversary.augment(images, landmarks)
        losses = super().step({**batch, "image": changed}, mode)
        return {**losses, **scalars(self.adversary)}

    def fit(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 # DeepLabCut's
        """The runner's, and what is wrong with the run."""
        super().fit(*args, **options)
        finding = unwell(self.adversary)
        if finding:
            logging.warning(finding)
