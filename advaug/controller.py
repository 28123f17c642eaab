"""Keep the semantic reconstruction loss at its operating point."""

import torch
from torch import Tensor, nn

__all__ = ["ReconstructionController"]


class ReconstructionController(nn.Module):
    r"""Weigh L_R so that the SSIM of the semantic regions stays near a target.

    Not in the paper, which adds L_R with weight 1. With too small a weight the attacker paints a
    second face over the first, with too large a one it does nothing, and what lies between depends
    on the detector and moves as it learns. So the weight follows the similarity:

    $$ \log w_i = u + k (s^* - s_i) $$

    where `u` integrates the batch's mean deviation. A sample that strays is pulled back at once,
    which a common weight cannot do; and `u` rises faster than it falls, within bounds, so that a
    lazy phase of the attacker does not wind it up and let the next batches go.

    Args:
        target: The similarity s* to hold, in `(0, 1)`.
        initial: Weight to start from.
        gain: k, the answer to the sample's own deviation.
        rise: Step of `u` per unit of deviation below the target.
        fall: Step of `u` per unit of deviation above it.
        bounds: Smallest and largest common weight.

    Attributes:
        log_weight: u, a buffer, and so part of `state_dict()`.
    """

    log_weight: Tensor

    def __init__(
        self,
        *,
        target: float = 0.9,
        initial: float = 30.0,
        gain: float = 10.0,
        rise: float = 0.2,
        fall: float = 0.05,
        bounds: tuple[float, float] = (1.0, 1e4),
    ) -> None:
        super().__init__()
        if not 0 < target < 1:
            msg = f"`target` must be between 0 and 1, but got {target}. The default is 0.9."
            raise ValueError(msg)
        if not 0 < bounds[0] <= initial <= bounds[1]:
            msg = f"`initial` must be within `bounds` {bounds}, but got {initial}."
            raise ValueError(msg)
        self.target = target
        self.gain = gain
        self.rise = rise
        self.fall = fall
        self.bounds = bounds
        self.register_buffer("log_weight", torch.tensor(initial).log())

    @torch.no_grad()
    def weights(self, similarity: Tensor) -> Tensor:
        """Weight of L_R for samples `(B,)` whose semantic regions have this SSIM."""
        return (self.log_weight + self.gain * (self.target - similarity)).exp()

    @torch.no_grad()
    def update(self, similarity: Tensor) -> None:
        """Move the common weight by the mean similarity of one batch, over all processes."""
        deviation = (self.target - similarity).nan_to_num()
        step = deviation * torch.where(deviation > 0, self.rise, self.fall)
        low, high = torch.tensor(self.bounds).log().tolist()
        self.log_weight.copy_((self.log_weight + step).clamp(low, high))
