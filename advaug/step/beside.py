"""Scale the paper's loss automatically, by comparison with the caller's own loss."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from advaug.base.checks import describe
from advaug.base.distributed import average
from advaug.base.precision import without_graph
from advaug.step.loan import Loan, borrowed
from advaug.step.randomness import private_randomness

__all__ = ["Beside", "relaxation_findings"]

EVERY = 50  # calls from one pass of measuring to the next
MEASURES = 10  # passes that the running ratio covers
HORIZON = 100  # calls that the running share covers
LEAST_SHARE, LARGEST_SHARE = 0.05, 5.0  # of the defence, relative to the caller's loss
LEAST_RELAXATION, LARGEST_RELAXATION = 1e-3, 10.0  # relative to the running error
Measured = tuple[Tensor, Tensor]


class Beside(nn.Module):
    """The running ratio of the caller's loss to the task's error, on the same clean pictures.

    The error is measured in the first call and in every 50th, by a forward of the detector on loan
    and without a graph. `loss_weight` is a factor on top of the ratio.
    """

    means: Tensor
    share: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("means", torch.full((2,), torch.nan))  # of the loss, of the error
        self.register_buffer("share", torch.full((), torch.nan))
        self._calls = 0

    def check_given(self, beside: object) -> None:
        """Raise where the caller's loss was passed before and is not now.

        Raises:
            ValueError: The defence's loss would change its scale from one call to the next.
        """
        if beside is None and self._calls > 0:
            msg = (
                "`beside` must be passed in every call or in none, but is missing after "
                f"{self._calls} calls with it. Pass `beside=loss` here as well."
            )
            raise ValueError(msg)

    @property
    def ratio(self) -> Tensor:
        """What the task's error is multiplied by, a scalar."""
        return self.means[0] / self.means[1]

    def measure(
        self, beside: Tensor, loan: Loan, images: Tensor, error_of: Callable[[Any], Tensor]
    ) -> Measured | None:
        """The caller's loss and the task's error, if a pass is due. No state changes.

        Args:
            beside: The caller's loss on these pictures, a scalar.
            loan: The detector.
            images: Clean pictures, as the detector expects them, `(B, C, H, W)`.
            error_of: From the detector's output to the task's error, `(B,)`.

        Raises:
            TypeError, ValueError: If the loss is no scalar tensor; or if the first one is not
                finite and above zero, or the error beside it.
        """
        if not isinstance(beside, Tensor) or beside.numel() != 1 or not beside.is_floating_point():
            msg = (
                "`beside` must be your loss on these pictures as a scalar tensor, but got "
                f"{describe(beside)}. Pass what you call `backward` on."
            )
            raise TypeError(msg)
        if self._calls % EVERY:
            return None
        draws = torch.Generator().manual_seed(self._calls)
        with borrowed(loan), without_graph(images.device), private_randomness(draws, images.device):
            error = error_of(loan(images)).float().mean()
        loss, error = average([beside.detach().float().reshape(()), error])
        if self._calls == 0:
            _check_usable(loss, error)
        return loss, error

    @torch.no_grad()
    def scaled(self, defence: Tensor, beside: Tensor, measured: Measured | None) -> Tensor:
        """The defence's loss in the caller's scale, after adding a measurement to the means."""
        if measured is not None:
            latest = torch.stack(measured).to(self.means)
            usable = (latest.isfinite() & (latest > 0)).all()
            weight = 1 / min(self._calls // EVERY + 1, MEASURES)
            moved = torch.where(self.means.isnan(), latest, self.means.lerp(latest, weight))
            self.means.copy_(torch.where(usable, moved, self.means))
        self._calls += 1
        ratio = self.ratio.to(defence)
        with torch.enable_grad():
            loss = defence * ratio
        latest = (loss.detach() / beside.detach().reshape(())).to(self.share)
        weight = 1 / min(self._calls, HORIZON)
        moved = torch.where(self.share.isnan(), latest, self.share.lerp(latest, weight))
        self.share.copy_(torch.where(latest.isfinite(), moved, self.share))
        return loss

    def findings(self) -> list[str]:
        """Whether the defence is far from the caller's loss, in words; waits for the device."""
        share = float(self.share)
        if self._calls < HORIZON or math.isnan(share) or LEAST_SHARE <= share <= LARGEST_SHARE:
            return []
        way = "Raise" if share < LEAST_SHARE else "Lower"
        return [
            f"The adversary's loss is {share:.3g} times the loss that it is added to: one of the "
            f"two hardly counts. {way} `loss_weight`, and pass as `beside` the loss of the same "
            "pictures."
        ]

    def get_extra_state(self) -> dict[str, Any]:
        """The number of calls, which is no buffer."""
        return {"calls": self._calls}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state of `get_extra_state`."""
        self._calls = state["calls"]


def relaxation_findings(relaxation: float, error: float) -> list[str]:
    """Whether λ of Eq. 3 is far from the running error, in words.

    Args:
        relaxation: λ.
        error: Running mean of the task's error on adversarial pictures; NaN where it is unknown.
    """
    if math.isnan(error) or LEAST_RELAXATION * error <= relaxation <= LARGEST_RELAXATION * error:
        return []
    effect = (
        "the attacker pushes every picture alike"
        if relaxation > error
        else "the few pictures with small errors get all of the attacker's push"
    )
    return [
        f"λ is {relaxation:.3g} and the detector's error on adversarial pictures {error:.3g}: "
        f"{effect}. Choose `Objective(relaxation=...)` near the error of a trained detector."
    ]


def _check_usable(loss: Tensor, error: Tensor) -> None:
    values = {"`beside`": float(loss), "the task's error beside it": float(error)}
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            msg = (
                f"{name} must be finite and above zero in the first call, but is {value:.4g}. "
                "Leave `beside` out and choose `loss_weight` yourself."
            )
            raise ValueError(msg)
