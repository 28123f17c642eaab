"""Keep the semantic reconstruction loss at its operating point."""

import math

import torch
from torch import Tensor, nn

__all__ = ["ReconstructionController"]

START = 0.08


class ReconstructionController(nn.Module):
    r"""Weigh L_R so that the SSIM of the semantic regions stays near a target.

    Not in the paper, which adds L_R with weight 1. If the weight is too small, the attacker paints
    a second face over the first; if it is too large, the attacker does nothing. What lies between
    depends on the detector, and moves over orders of magnitude as it learns, because the pull of
    L_F does. So each sample's L_R is weighted by the pull that it has to balance:

    $$ w_i = \frac{\lVert \partial L_F / \partial I_{adv} \rVert_i}
                  {\lVert \partial L_R / \partial I_{adv} \rVert_i}
             \exp(k (s^* - s_i) + u) $$

    A sample that strays from the target s* is pulled back harder at once; one that has hardly
    changed is let go. This needs no memory, so nothing winds up. The slow, bounded `u` removes the
    average deviation that remains. It starts at ln 0.08, near where it settles: L_R pulls every
    pixel the same way in every picture, and so outweighs a much stronger L_F whose pulls are
    scattered.

    Args:
        target: The similarity s* to hold, in `(0, 1)`.
        gain: k, the response to the sample's own deviation.
        drift: Step of `u` per unit of mean deviation below the target. Above the target the step is
            a quarter of this, so that a lazy phase of the attacker hardly relaxes it.
        bounds: Smallest and largest `u`.

    Attributes:
        offset: u, a buffer, and therefore part of `state_dict()`.

    Raises:
        ValueError: If `target` is out of its range.
    """

    offset: Tensor

    def __init__(
        self,
        *,
        target: float = 0.9,
        gain: float = 20.0,
        drift: float = 0.05,
        bounds: tuple[float, float] = (-4.0, 2.0),
    ) -> None:
        super().__init__()
        if not 0 < target < 1:
            msg = f"`target` must be between 0 and 1, but got {target}. The default is 0.9."
            raise ValueError(msg)
        self.target = target
        self.gain = gain
        self.drift = drift
        self.bounds = bounds
        self.register_buffer("offset", torch.tensor(math.log(START)))

    @torch.no_grad()
    def weights(self, similarity: Tensor, push: Tensor, pull: Tensor) -> Tensor:
        """Weight of L_R for each sample.

        Args:
            similarity: SSIM of the semantic regions, `(B,)`.
            push: Norm of L_F's gradient at I_adv, `(B,)`.
            pull: Norm of L_R's gradient at I_adv, `(B,)`.

        Returns:
            `(B,)`; 0 for a sample that L_R does not pull at all, because nothing in it has changed.
        """
        answer = (self.gain * (self.target - similarity) + self.offset).exp()
        return torch.where(pull > 0, answer * push / pull.clamp(min=1e-20), 0.0)

    @torch.no_grad()
    def update(self, similarity: Tensor) -> None:
        """Move the offset by the mean similarity of one batch, over all processes."""
        deviation = (self.target - similarity).nan_to_num()
        step = self.drift * torch.where(deviation > 0, deviation, deviation / 4)
        self.offset.copy_((self.offset + step).clamp(*self.bounds))
