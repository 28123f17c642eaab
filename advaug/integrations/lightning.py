"""SAAT in a Lightning trainer whose module stays as it is. Needs the extra `lightning`."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from advaug.adversary import SampleAdaptiveAdversary
from advaug.base.checks import describe
from advaug.integrations.shared import known, unwell
from advaug.step.attach import put_back

__all__ = ["AdversaryCallback"]


class AdversaryCallback(Callback):
    """Attack a part of each training batch on its way into the LightningModule's `training_step`.

    The module's own backward teaches the attacker: nothing is computed twice, and accumulation,
    precision, clipping, manual optimization and the strategy stay what they are. Validation, test
    and prediction see their pictures as they are.

    The adversary is moved to the trainer's device, its state is part of Lightning's checkpoint, its
    report is logged as `adversary/...`, and a run that has left its operating point ends with a
    warning.

    Args:
        adversary: None for the default.
        batch: From a batch of the loader to the pictures and the target, as `augment` takes them.
            The pictures must be a part of the batch.
        normalized: As in `augment`.

    Raises:
        TypeError, ValueError: In the first step, if `batch` does not fit. Nothing has changed then.

    Examples:
        >>> trainer = Trainer(callbacks=[AdversaryCallback()])  # doctest: +SKIP
    """

    def __init__(
        self,
        adversary: SampleAdaptiveAdversary | None = None,
        batch: Callable[[Any], tuple[Any, Any]] = lambda b: (b[0], b[1]),
        *,
        normalized: bool = False,
    ) -> None:
        self.adversary = SampleAdaptiveAdversary() if adversary is None else adversary
        self.batch = batch
        self.normalized = normalized

    @property
    def state_key(self) -> str:
        """Name of the adversary's state in a checkpoint, wherever this class may move."""
        return "advaug.AdversaryCallback"

    def state_dict(self) -> dict[str, Any]:
        """The adversary's."""
        return self.adversary.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up the adversary where the checkpoint was written."""
        self.adversary.load_state_dict(state_dict)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Move the adversary, before a checkpoint is read: optimizers do not follow later."""
        self.adversary.to(trainer.strategy.root_device)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stand between the loader and `training_step`, which only the strategy calls."""
        # Of the strategy and not of the module, which others copy, compile and pickle.
        step = trainer.strategy.training_step

        @functools.wraps(step)
        def attacked_step(batch: Any, *rest: Any) -> Any:  # noqa: ANN401 # Lightning's
            with trainer.precision_plugin.train_step_context():
                batch = self.augmented(batch)
            return step(batch, *rest)

        trainer.strategy.training_step = attacked_step

    def augmented(self, batch: Any) -> Any:  # noqa: ANN401 # the loader's
        """The batch with a part of its pictures attacked; the given one stays as it is."""
        images, target = self._parts_of(batch)
        changed = self.adversary.augment(images, target, normalized=self.normalized)
        return put_back(batch, images, changed)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 # the module's
        batch: Any,  # noqa: ANN401 # the loader's
        batch_idx: int,
    ) -> None:
        """Log the report; the values are read when Lightning writes a point, and only then."""
        pl_module.log_dict(known(self.adversary), logger=bool(trainer.loggers), batch_size=1)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn of a run that has left its operating point."""
        finding = unwell(self.adversary)
        if finding:
            rank_zero_warn(finding)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the strategy as it was."""
        vars(trainer.strategy).pop("training_step", None)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave the strategy as it was."""
        vars(trainer.strategy).pop("training_step", None)

    def _parts_of(self, batch: Any) -> tuple[Any, Any]:  # noqa: ANN401 # the loader's
        try:
            images, target = self.batch(batch)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            msg = (
                f"`batch` must give (images, target), but raised {error!r} for "
                f"{describe(batch)}. Pass what fits your loader, such as "
                "`batch=lambda b: (b['image'], b['keypoints'])`."
            )
            raise ValueError(msg) from error
        return images, target
