"""Sample-adaptive adversarial training, [SAAT]: one adversary, two ways to use it.

`augment` is the method as an augmentation: the caller's own pass over the detector and its own
backward teach the attacker. Calling the adversary is the paper's step to the letter, Eq. 8: it runs
the detector itself and gives a loss. Both draw, judge and learn in the same way.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer

from advaug.base.checks import check_kind, check_not_negative, describe
from advaug.networks.attacker import UNetAttacker
from advaug.networks.choice import Structure, choose_networks, seeded
from advaug.networks.discriminator import PatchDiscriminator
from advaug.options import Objective, Schedule, View
from advaug.pixels import PixelSpec
from advaug.report import Health, StepLosses
from advaug.step.attach import Attachment, Finder
from advaug.step.batch_norm import BatchNormPolicy, BatchNorms
from advaug.step.beside import Beside
from advaug.step.home import reduced
from advaug.step.in_batch import InBatch
from advaug.step.learner import adam
from advaug.step.neighbours import Neighbours
from advaug.step.paper_call import PaperCall
from advaug.step.verdict import AdversarialBatch
from advaug.tasks import LandmarkTask, check_task

__all__ = ["AdversarialBatch", "SampleAdaptiveAdversary", "StepLosses"]


class SampleAdaptiveAdversary(InBatch, PaperCall):
    """Attack a landmark detector, and learn from its failures, while it trains.

    The method of [SAAT]: C. Zhu et al., ICCV 2021. The detector is never a part of this module, and
    what the caller owns is the same after a call, bit for bit.

    Args:
        task: What the detector's output means: a `HeatmapTask`, a `CoordinateTask`, or any object
            with the two methods of `LandmarkTask`. Only the paper's call needs it.
        attacker: A(I, S, z); None for a light `UNetAttacker`.
        discriminator: D(I, S); by default a light `PatchDiscriminator`; None for none (Table 7,
            "w/o D").
        channels: Of the pictures.
        structure: Who is told S: `"discriminator"`, True for the attacker as well (Eq. 2), or False
            for neither (Table 7, "w/o S"). An attacker that knows where the landmarks are gives
            them away to the detector by what it paints.
        pixels: How the detector expects its pictures; `images` are passed in that form.
        objective: What the attacker learns, and how far its pictures are trusted.
        view: Where it may draw, and how the detector sees the result.
        schedule: Which pictures are attacked, and who learns when.
        batch_norm: For the paper's call only: `"isolated"`, `"running"`, `"shared"` (the literal
            paper) or `"split"`; see `advaug.step.batch_norm`.
        optimizer: Makes an optimizer for parameters; called for the attacker and for the
            discriminator; None for Adam, 1e-4, betas .5 and .999. PyTorch's `fused=True` kinds,
            like the default, skip a step that overflowed without waiting for the device.
        loss_weight: Scale of the loss that the paper's call returns. `HeatmapTask`'s error is 65536
            times a mean squared error, so beside `torch.nn.MSELoss()` use `1 / 65536`, or leave it
            and pass `beside=` to each call.
        seed: Of the initial weights and of everything random in here. The processes of a
            distributed run share it and draw different numbers.

    Attributes:
        attacked: Which pictures the last call of `augment` changed, `(B,)` bool.
        weights: What turns the mean of a loss per picture, after the last call of `augment`, into
            an estimate of Eq. 8's balance, `(B,)`: β over the probability with which a picture was
            shown for attacked pictures, 1 for the others.
        chosen_mode: How the last call of the paper's kind ran; None before the first.
        report: What the last step in which the attacker learned did; None before it.

    Raises:
        ValueError, TypeError: If an option is unknown or out of range.
    """

    def __init__(
        self,
        task: LandmarkTask | None = None,
        *,
        attacker: nn.Module | None = None,
        discriminator: nn.Module | Literal["default"] | None = "default",
        channels: int = 3,
        structure: Structure = "discriminator",
        pixels: PixelSpec = PixelSpec(),
        objective: Objective = Objective(),
        view: View = View(),
        schedule: Schedule = Schedule(),
        batch_norm: BatchNormPolicy = "isolated",
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
        loss_weight: float = 1.0,
        seed: int = 0,
    ) -> None:
        if task is not None:
            check_task(task)
        check_not_negative(loss_weight=loss_weight)
        for name, value, kind in (
            ("pixels", pixels, PixelSpec),
            ("objective", objective, Objective),
            ("view", view, View),
            ("schedule", schedule, Schedule),
        ):
            check_kind(name, value, kind)
        _check_optimizer(optimizer)
        pixels.check_channels(channels)
        if view.transform is not None and schedule.mode in ("shared", "fused"):
            msg = (
                "`mode` must be 'alternating' or 'auto' with a `transform`, after which attack and "
                f"defence see different pictures, but got {schedule.mode!r}. Leave one of the two "
                "out."
            )
            raise ValueError(msg)
        attacker, discriminator = choose_networks(
            attacker, discriminator, structure, channels, seed
        )
        make_optimizer = optimizer or adam
        super().__init__(
            attacker,
            discriminator,
            structure=structure,
            pixels=pixels,
            objective=objective,
            view=view,
            schedule=schedule,
            make_optimizer=make_optimizer,
            seed=seed,
        )
        self.task = task
        self.channels = channels
        self.batch_norms = BatchNorms(batch_norm, make_optimizer)
        self.beside = Beside()
        self._neighbours = Neighbours()
        self.loss_weight = loss_weight
        self._attachments: list[Attachment] = []

    @classmethod
    def paper(
        cls,
        task: LandmarkTask | None = None,
        image_size: int | tuple[int, int] = 256,
        **arguments: Any,  # noqa: ANN401 # the constructor's
    ) -> "SampleAdaptiveAdversary":
        """The literal method: every choice is that of [SAAT], or of pix2pix where it is silent.

        The ablations of Tables 6 and 7 are one replaced field each, for instance
        `objective=replace(Objective.paper(), beta=0.5)`, `discriminator=None` ("w/o D") or
        `structure=False` ("w/o S").

        Args:
            task: What the detector's output means.
            image_size: Side of the square pictures, or `(height, width)`, in pixels.
            arguments: The constructor's, to replace single choices.
        """
        structure, channels = arguments.get("structure", True), arguments.get("channels", 3)
        with seeded(arguments.get("seed", 0)):
            attacker = UNetAttacker.paper(
                image_size, structure=structure is True, channels=channels
            )
            discriminator = PatchDiscriminator.paper(structure=bool(structure), channels=channels)
        literal: dict[str, Any] = {
            "attacker": attacker,
            "discriminator": discriminator,
            "structure": True,
            "objective": Objective.paper(),
            "view": View.paper(),
            "schedule": Schedule.paper(),
            "batch_norm": "shared",
        }
        return cls(task, **{**literal, **arguments})

    def attach(
        self,
        module: nn.Module,
        *,
        images: Finder,
        target: Finder | None = None,
        normalized: bool = False,
        pickled: bool = False,
    ) -> Attachment:
        """Augment the pictures on their way into a module, if the loop cannot be changed.

        The module's forward, in training mode and with gradients on, gets what `augment` returns.

        Args:
            module: The detector, or the part of it that gets pictures and target first.
            images: Name of the argument of the module's forward, or a callable that gets the
                forward's arguments and returns the pictures among them.
            target: Likewise; None for no target. Where it finds None, nothing is attacked.
            normalized: As in `augment`.
            pickled: True pickles and copies the hook together with the module. By default copies
                and pickles of the module come without it.

        Returns:
            A handle, whose `remove()` ends this.

        Raises:
            TypeError, ValueError: If the module is attached already, or its forward has no argument
                of that name.
        """
        handle = Attachment(self, module, images, target, normalized=normalized, pickled=pickled)
        self._attachments.append(handle)
        return handle

    def health(self) -> Health:
        """What is wrong with the run, in words; waits for the device."""
        more = [finding for handle in self._attachments for finding in handle.findings()]
        more += self.scale_findings()
        if self._unanswered:
            more.append(
                f"No gradient came back to the pictures of the last {self._unanswered} calls, so "
                "the attacker has learned nothing from them. Do not detach the pictures, run the "
                "detector with gradients on, and call `loss.backward()` without `inputs=`."
            )
        constant = not isinstance(self.objective.beta, str)
        return self.running_means.health(more, constant_beta=constant)

    def __reduce_ex__(self, protocol: Any) -> Any:  # noqa: ANN401 # pickle's
        """A spawned process gets its own copy of the weights."""
        return reduced(self, lambda: super(SampleAdaptiveAdversary, self).__reduce_ex__(protocol))

    def __getstate__(self) -> dict[str, Any]:
        """Without the hooks, which belong to the modules that they are attached to."""
        return {**super().__getstate__(), "_attachments": []}


def _check_optimizer(optimizer: object) -> None:
    if optimizer is not None and not callable(optimizer):
        msg = (
            "`optimizer` must be a function from parameters to an optimizer, but got "
            f"{describe(optimizer)}. Pass a class such as `torch.optim.AdamW`, or "
            "`lambda parameters: torch.optim.AdamW(parameters, lr=1e-4)`."
        )
        raise TypeError(msg)
