"""SAAT in transformers' Trainer. Needs transformers and accelerate, of the extra `transformers`."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import Trainer
from transformers.utils import logging

from advaug.adversary import SampleAdaptiveAdversary
from advaug.base.checks import describe
from advaug.integrations.shared import save_with, scalars, unwell

__all__ = ["AdversarialTrainer"]

logger = logging.get_logger(__name__)


class AdversarialTrainer(Trainer):
    """A `Trainer` that attacks a part of each training batch; to use or to derive from.

    The model's own backward teaches the attacker. Evaluation and prediction see their pictures as
    they are. The adversary's state is in the checkpoints, beside the optimizer's, and its report in
    the training logs as `adversary/...`.

    Args:
        args: Those of `Trainer`.
        adversary: None for the default.
        images: Name of the pictures in a batch.
        target: Name of the landmarks in a batch.
        normalized: As in `augment`.
        options: Those of `Trainer`.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 # Trainer's
        adversary: SampleAdaptiveAdversary | None = None,
        images: str = "pixel_values",
        target: str = "labels",
        normalized: bool = False,
        **options: Any,  # noqa: ANN401 # Trainer's
    ) -> None:
        self.adversary = SampleAdaptiveAdversary() if adversary is None else adversary
        self._names = (images, target)
        self._normalized = normalized
        super().__init__(*args, **options)

    def create_optimizer(self, *args: Any, **options: Any) -> Optimizer:  # noqa: ANN401 # Trainer's
        """The trainer's, with which the adversary is saved and loaded."""
        optimizer = super().create_optimizer(*args, **options)
        self.adversary.to(self.args.device)
        save_with(getattr(optimizer, "optimizer", optimizer), self.adversary)
        return optimizer

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        *args: Any,  # noqa: ANN401 # Trainer's
        **options: Any,  # noqa: ANN401 # Trainer's
    ) -> Tensor:
        """The trainer's step, on a batch of which a part is attacked."""
        prepared = self._prepare_inputs(inputs)
        with self.compute_loss_context_manager():
            attacked = self._augmented(prepared)
        return super().training_step(model, attacked, *args, **options)

    def log(self, logs: dict[str, float], *args: Any, **options: Any) -> None:  # noqa: ANN401 # Trainer's
        """Log the report where the trainer logs its loss, and what is wrong at the end."""
        if "loss" in logs:
            logs = {**logs, **scalars(self.adversary)}
        super().log(logs, *args, **options)
        finding = unwell(self.adversary) if "train_loss" in logs else None
        if finding:
            logger.warning(finding)

    def _augmented(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        images, target = self._names
        for argument, name in (("images", images), ("target", target)):
            if name not in inputs:
                msg = (
                    f"`{argument}` must name a part of the batch, but {name!r} is not in "
                    f"{describe(dict(inputs))}. Name one of these; with "
                    "`TrainingArguments(remove_unused_columns=False)` none is dropped, and the "
                    "model's forward must accept all of them."
                )
                raise ValueError(msg)
        changed = self.adversary.augment(
            inputs[images], inputs[target], normalized=self._normalized
        )
        return {**inputs, images: changed}
