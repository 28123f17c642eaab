"""SAAT in a Lightning trainer whose module stays as it is. Needs the extra `lightning`."""

from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torch.optim import LBFGS

from advaug.adversary import SampleAdaptiveAdversary
from advaug.base.checks import describe
from advaug.step.loan import Detector, as_borrowed

__all__ = ["AdversaryCallback"]


class AdversaryCallback(Callback):
    """Train the detector of a LightningModule with the loss of Eq. 8 beside the module's own.

    The adversary sees every batch before `training_step` does, learns from it, and takes the
    defence loss backward into gradients of its own. They join `.grad` just before the module's
    backward, and so everything behind it treats the sum: the averaging of DDP, unscaling, clipping,
    the step. Each batch of an accumulation window counts as Lightning counts the module's loss.

    The adversary is moved to the trainer's device, its state is part of Lightning's checkpoint, its
    report is logged as `adversary/...`, and a run that has left its operating point ends with a
    warning.

    Args:
        adversary: Its `loss_weight` fits the scale of the module's loss.
        detector: From the LightningModule to its detector.
        batch: From a batch of the loader to the pictures and the target, as the adversary takes
            them.

    Raises:
        TypeError, ValueError: When the fit starts, if the module, the trainer's strategy or
            `detector` is unfit; before the first step, if `batch` is. Nothing has changed then.

    Examples:
        >>> from advaug import HeatmapTask
        >>> adversary = SampleAdaptiveAdversary(HeatmapTask(), loss_weight=1 / 65536)
        >>> trainer = Trainer(callbacks=[AdversaryCallback(adversary)])  # doctest: +SKIP
    """

    def __init__(
        self,
        adversary: SampleAdaptiveAdversary,
        detector: Callable[[Any], Detector] = lambda module: module.net,
        batch: Callable[[Any], tuple[Tensor, Any]] = lambda b: (b[0], b[1]),
    ) -> None:
        self.adversary = adversary
        self.detector = detector
        self.batch = batch
        self._gradients: list[tuple[nn.Parameter, Tensor]] = []

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

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse what cannot work."""
        _check_optimization(pl_module)
        _check_strategy(trainer)
        self._detector_of(pl_module)

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401 # the loader's
        batch_idx: int,
    ) -> None:
        """Attack, learn, and keep the gradients of the defence until the module's backward."""
        images, target = self._parts_of(batch)
        with trainer.precision_plugin.train_step_context():
            loss = self.adversary(self._detector_of(pl_module), images, target)
        loss = loss / trainer.accumulate_grad_batches  # in the last, shorter window too
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self._gradients = _gradients_of(loss if scaler is None else scaler.scale(loss), pl_module)

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Hand the gradients over; the module's backward adds its own."""
        for parameter, gradient in self._gradients:
            held = parameter.grad
            parameter.grad = gradient if held is None else held.add_(gradient)
        self._gradients = []

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 # the module's
        batch: Any,  # noqa: ANN401 # the loader's
        batch_idx: int,
    ) -> None:
        """Log the report; the values are read when Lightning writes a point, and only then."""
        report = self.adversary.report
        if report is not None:
            scalars = {f"adversary/{name}": value for name, value in vars(report).items()}
            pl_module.log_dict(scalars, logger=bool(trainer.loggers), batch_size=1)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn of a run that has left its operating point."""
        health = self.adversary.health()
        if not health.ok:
            rank_zero_warn(f"adversary.health(): {health}")

    def _detector_of(self, module: LightningModule) -> Detector:
        parts = (
            f"The parts of {type(module).__name__} are {[n for n, _ in module.named_children()]}."
        )
        try:
            detector = self.detector(module)
        except AttributeError as error:
            msg = f"`detector` must find the detector in the module, but raised: {error}. {parts}"
            raise ValueError(msg) from error
        if not callable(detector):
            msg = f"`detector` must give something to call, but gave {describe(detector)}. {parts}"
            raise TypeError(msg)
        trained = {id(parameter) for parameter in module.parameters() if parameter.requires_grad}
        network = as_borrowed(detector).module  # of a black box nothing is known
        held = [] if network is None else network.parameters()
        if network is not None and not any(id(parameter) in trained for parameter in held):
            msg = (
                f"`detector` must give what the module trains, but that has no part in it. {parts}"
            )
            raise ValueError(msg)
        return detector

    def _parts_of(self, batch: Any) -> tuple[Tensor, Any]:  # noqa: ANN401 # the loader's
        try:
            images, target = self.batch(batch)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            msg = (
                f"`batch` must give (images, target), but raised {error!r} for "
                f"{describe(batch)}. Pass what fits your loader, such as "
                "`batch=lambda b: (b['image'], b['heatmaps'])`."
            )
            raise ValueError(msg) from error
        return images, target


def _gradients_of(loss: Tensor, module: LightningModule) -> list[tuple[nn.Parameter, Tensor]]:
    """Gradients of a loss, by a plain backward that leaves every `.grad` as it is."""
    parameters = list(module.parameters())
    held = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        loss.backward()
        return [(each, each.grad) for each in parameters if each.grad is not None]
    finally:
        for parameter, gradient in zip(parameters, held, strict=True):
            parameter.grad = gradient


def _check_optimization(module: LightningModule) -> None:
    if not module.automatic_optimization:
        msg = (
            "the LightningModule must use automatic optimization, but its "
            "`automatic_optimization` is False. Leave this callback out and call the adversary in "
            "`training_step`: `self.manual_backward(loss + adversary(self.net, images, target))`."
        )
        raise ValueError(msg)
    if any(isinstance(optimizer, LBFGS) for optimizer in module.trainer.optimizers):
        msg = (
            "the optimizer must take one backward a step, but LBFGS takes several. Use another one."
        )
        raise ValueError(msg)


def _check_strategy(trainer: Trainer) -> None:
    """Gradients must be found in `.grad`, and a backward before DDP's forward be nobody else's."""
    strategy = trainer.strategy
    known = isinstance(strategy, SingleDeviceStrategy | DDPStrategy)
    if not known or isinstance(strategy, DeepSpeedStrategy):
        msg = (
            "the trainer's strategy must be a single device or DDP, which keep gradients in "
            f"`.grad`, but got {type(strategy).__name__}. Use `Trainer(strategy='ddp')`."
        )
        raise ValueError(msg)
    if getattr(strategy.model, "static_graph", False):
        msg = (
            "DDP must not use `static_graph=True`, which counts one backward a step, but it does. "
            "Leave the option out."
        )
        raise ValueError(msg)
