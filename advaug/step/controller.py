"""Keep the semantic reconstruction loss at its operating point."""

import math

import torch
from torch import Tensor, nn

__all__ = ["ReconstructionController"]

START = 0.08


class ReconstructionController(nn.Module):
    r"""Weigh L_R so that the SSIM of the semantic regions stays near a target.

    Not in the paper, which adds L_R with weight 1. With too small a weight the attacker paints a
    second face over the first, with too large a one it does nothing, and what lies between depends
    on the detector and moves over orders of magnitude as it learns, because the pull of L_F does.
    So L_R is measured by the pull that it has to balance, sample by sample:

    $$ w_i = \frac{\lVert \partial L_F / \partial I_{adv} \rVert_i}
                  {\lVert \partial L_R / \partial I_{adv} \rVert_i}
             \exp(k (s^* - s_i) + u) $$

    A sample that strays from the target s* is pulled back harder at once, one that is hardly
    changed is let go. This needs no memory, so nothing winds up; `u`, slow and bounded, takes away
    what deviation is left on average. It starts at ln 0.08, near where it settles: L_R pulls every
    pixel the same way in every picture, and so outweighs a much stronger L_F that pulls here and
    there.

    Args:
        target: The similarity s* to hold, in `(0, 1)`.
        gain: k, the answer to the sample's own deviation.
        drift: Step of `u` per unit of mean deviation below the target; above it a quarter, so that
            a lazy phase of the attacker hardly lets go of it.
        bounds: Smallest and largest `u`.

    Attributes:
        offset: u, a buffer, and so part of `state_dict()`.

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
            `(B,)`; 0 for a sample that L_R does not pull at all, since nothing in it has changed.
        """
        answer = (self.gain * (self.target - similarity) + self.offset).exp()
        return torch.where(pull > 0, answer * push / pull.clamp(min=1e-20), 0.0)

    @torch.no_grad()
    def update(self, similarity: Tensor) -> None:
        """Move the offset by the mean similarity of one batch, over all processes."""
        deviation = (self.target - similarity).nan_to_num()
        step = self.drift * torch.where(deviation > 0, deviation, deviation / 4)
        self.offset.copy_((self.offset + step).clamp(*self.bounds))
