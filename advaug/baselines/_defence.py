"""What the baselines share: the checks, the randomness, and the pass that trains the detector."""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from advaug.base.checks import (
    CUT_OFF,
    check_error,
    check_images,
    check_not_negative,
    check_rgb,
    check_target_tensors,
    check_values,
)
from advaug.base.distributed import broadcast
from advaug.base.precision import widen, without_graph
from advaug.functional import SEMANTIC_THRESHOLD
from advaug.pixels import PixelSpec
from advaug.step.batch_norm import BatchNormPolicy, BatchNorms
from advaug.step.loan import Detector, Forward, Loan, as_borrowed, private_randomness
from advaug.tasks import LandmarkTask, check_task, structure_of

__all__ = ["Call", "Defence", "DefenceOptions", "Example"]

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]


class DefenceOptions(TypedDict, total=False):
    """The options of every baseline; `Defence` says what they mean."""

    pixels: PixelSpec
    batch_norm: BatchNormPolicy
    weight: float
    loss_weight: float
    optimizer: MakeOptimizer
    seed: int


def adam(parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The adversary's own choice, so that a comparison is about the method."""
    return Adam(parameters, lr=1e-4, betas=(0.5, 0.999))


@dataclass(frozen=True)
class Call:
    """What all passes of one call share.

    Attributes:
        detector: The caller's, on loan.
        images: Clean pictures in `[0, 1]`, `(B, 3, H, W)`, float32 or wider.
        target: The task's.
        pixels: How the detector expects its pictures.
        dtype: Of the pictures that the caller gave.
        seed: Of what the detector draws.
    """

    detector: Loan
    images: Tensor
    target: Any
    pixels: PixelSpec
    dtype: torch.dtype
    seed: int

    def output(
        self, pictures: Tensor, *, network: Detector | None = None, exact: bool = False
    ) -> Any:  # noqa: ANN401 # the detector's
        """Output of the detector, or another network, for pictures in `[0, 1]`.

        Every pass draws the same dropout: an attack meets the very network that it was made for,
        and two outputs differ only by what was done to the pictures.

        Args:
            pictures: `(B, 3, H, W)`.
            network: Instead of the detector.
            exact: Leave the caller's autocast and compute in float32.
        """
        device = pictures.device
        exact = exact and torch.is_autocast_enabled(device.type)
        given = self.pixels.from_unit(pictures).to(torch.float32 if exact else self.dtype)
        draws = torch.Generator().manual_seed(self.seed)
        leave = torch.autocast(device.type, enabled=False) if exact else contextlib.nullcontext()
        with private_randomness(draws, device), leave:
            return self.detector(given) if network is None else as_borrowed(network)(given)

    def reference(
        self, pictures: Tensor, *, network: Detector | None = None, exact: bool = False
    ) -> Any:  # noqa: ANN401 # the detector's
        """As `output`, without a graph."""
        with without_graph(pictures.device):
            return self.output(pictures, network=network, exact=exact)


@dataclass(frozen=True)
class Example:
    """What the detector is to learn from.

    Attributes:
        images: In `[0, 1]`, `(B, 3, H, W)`, detached.
        target: The task's, for these pictures.
        reference: Another network output that this one should agree with, if any.
    """

    images: Tensor
    target: Any
    reference: Any = None


class Defence(nn.Module):
    """A loss on pictures made from the batch, added to the caller's own.

    Called like `SampleAdaptiveAdversary`, with the same promise: the detector's parameters,
    gradients, modes and statistics (but see `batch_norm`) and the global random states are the same
    after the call, also when it raises. `state_dict()` carries what an exact resume needs.

    Abstract: a baseline says what it makes of the batch in `_example`.

    Args:
        task: What the detector's output means.
        pixels: How the detector expects its pictures; `images` are given that way.
        batch_norm: `"isolated"`, `"running"`, `"shared"` or `"split"`; see
            `advaug.step.batch_norm`.
        weight: Weight of the loss beside the caller's, in the place of the adversary's β.
        loss_weight: Fits the task's error to the scale of the caller's criterion, as the
            adversary's: beside `torch.nn.MSELoss()` use `1 / 65536` for a `HeatmapTask`.
        optimizer: From parameters to an optimizer, for what a baseline learns itself and for the
            second BatchNorm set; by default Adam, 1e-4, betas .5 and .999.
        seed: Seed of everything random in here; the processes of a run differ by themselves.

    Raises:
        TypeError, ValueError: If the task is none or an option is out of range.
    """

    _anchor: Tensor

    def __init__(
        self,
        task: LandmarkTask,
        *,
        pixels: PixelSpec = PixelSpec(),
        batch_norm: BatchNormPolicy = "isolated",
        weight: float = 1.0,
        loss_weight: float = 1.0,
        optimizer: MakeOptimizer = adam,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_task(task)
        check_not_negative(weight=weight, loss_weight=loss_weight)
        self.task = task
        self.pixels = pixels
        self.weight = weight
        self.loss_weight = loss_weight
        self.batch_norms = BatchNorms(batch_norm, optimizer)
        self.register_buffer("_anchor", torch.empty(0), persistent=False)  # knows device and dtype
        self._generator = torch.Generator().manual_seed(seed)
        self._calls = 0

    def forward(
        self,
        detector: Detector,
        images: Tensor,
        target: Any,  # noqa: ANN401 # the task's
        *,
        forward: Forward | None = None,
    ) -> Tensor:
        """One step: make the pictures, and give the loss for the detector to learn from.

        Args:
            detector: An nn.Module that gives what the task understands; see
                `advaug.step.loan.as_borrowed` for what else can be passed.
            images: `(B, 3, H, W)`, as the detector expects them.
            target: What the task expects.
            forward: How the detector is called, if not as `detector(images)`: from the module and
                the pictures to its output.

        Returns:
            Scalar, whose graph reaches the detector's parameters and nothing else of the caller's.

        Raises:
            ValueError, TypeError: If an input is unfit, or gradients are disabled; nothing has
                changed then. `ShapeError` is a ValueError.
        """
        if not torch.is_grad_enabled():
            msg = (
                "the defence must be called with gradients enabled, but they are off. For its "
                "pictures without a loss use `defence.pictures(...)`."
            )
            raise ValueError(msg)
        loan = as_borrowed(detector, forward)
        self._check(images, target)
        if self._calls == 0:
            broadcast(self)  # all processes of a run start from the same weights
        with private_randomness(self._generator, images.device):
            call = self._open(loan, images, target)
            example = self._example(call, learn=True)
            self.batch_norms.step()
            with self.batch_norms.defence(loan):
                error = self._error(call.output(example.images), example)
                check_error(error, len(images), read=self._reads(images.device))
        self._calls += 1
        loss = self.loss_weight * self.weight * error.mean()
        return self.batch_norms.settled(loan, loss)

    @torch.enable_grad()
    def pictures(
        self,
        detector: Detector,
        images: Tensor,
        target: Any,  # noqa: ANN401 # the task's
        *,
        forward: Forward | None = None,
    ) -> Tensor:
        """The pictures that a step would train on, to look at; nothing is learned.

        Args:
            detector: As in the call.
            images: As in the call.
            target: As in the call.
            forward: As in the call.

        Returns:
            `(B, 3, H, W)`, as the detector expects them, detached.

        Raises:
            ValueError, TypeError: As the call itself.
        """
        loan = as_borrowed(detector, forward)
        self._check(images, target)
        with private_randomness(self._generator, images.device):
            example = self._example(self._open(loan, images, target), learn=False)
        return self.pixels.from_unit(example.images).to(images.dtype)

    def _example(self, call: Call, *, learn: bool) -> Example:
        """Make pictures from the batch, inside the private randomness."""
        raise NotImplementedError

    def _error(self, output: Any, example: Example) -> Tensor:  # noqa: ANN401 # the detector's
        """`(B,)`: what the detector has to lower on the example."""
        return self.task.error(output, example.target)

    @torch.no_grad()
    def _check(self, images: Tensor, target: Any) -> None:  # noqa: ANN401 # the task's
        """Raise on unfit inputs. No state moves."""
        if isinstance(images, Tensor) and images.ndim == 4 and images.shape[-1] != 3:
            check_rgb(images)  # there is no `channels=` here, which the next check names
        check_images(images, self._anchor)
        check_target_tensors(target, images)
        if self._reads(images.device):
            size = (images.shape[-2], images.shape[-1])
            structure = structure_of(self.task, target, size)
            check_values(widen(self.pixels.to_unit(images)), structure, SEMANTIC_THRESHOLD)

    def _open(self, detector: Loan, images: Tensor, target: Any) -> Call:  # noqa: ANN401 # the task's
        clean = widen(self.pixels.to_unit(images.detach().clone()))
        seed = int(torch.randint(2**62, ()))
        return Call(detector, clean, target, self.pixels, images.dtype, seed)

    def _gradient(
        self,
        call: Call,
        pictures: Tensor,
        measure: Callable[[Any], Tensor],
        *,
        exact: bool = False,
    ) -> Tensor:
        """Gradient at the pictures of what is measured, `(B,)`, at the detector's output.

        A float16 autocast is left in any case: small gradients would vanish in it, and there is no
        optimizer here whose steps could tune a loss scale.
        """
        pictures = pictures.detach().requires_grad_()
        exact = exact or torch.get_autocast_dtype(pictures.device.type) == torch.float16
        with self.batch_norms.feedback(call.detector):
            error = measure(call.output(pictures, exact=exact))
            check_error(error, len(pictures), read=self._reads(pictures.device))
            (gradient,) = torch.autograd.grad(error.sum(), pictures, allow_unused=True)
        if gradient is None:
            raise ValueError(CUT_OFF)
        return gradient

    def _reads(self, device: torch.device) -> bool:
        """Whether values may be read back: always on a CPU, elsewhere only in the first call."""
        return device.type == "cpu" or self._calls == 0

    def get_extra_state(self) -> dict[str, Any]:
        """What an exact resume needs beside weights and buffers."""
        return {"generator": self._generator.get_state(), "calls": self._calls}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Continue where the state was saved."""
        self._generator.set_state(state["generator"].cpu())
        self._calls = state["calls"]
