"""An attacker that paints nothing itself: it mixes random changes into each picture."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from advaug.base.checks import check_at_least_one
from advaug.base.precision import widen
from advaug.errors import ShapeError
from advaug.networks.layers import initialise_like_pix2pix, norm_layer
from advaug.view.changes import CHANGES, Change

__all__ = ["MixingAttacker", "lowering_of"]

WIDEST = 4  # the deepest layers are 4 times as wide as the first
START = -3.0  # score of all changes together, so that an untrained attacker barely perturbs
SPAN = 6.0  # of a score to either side: enough to choose, too little for gradients to vanish
LOWEST = -20.0
HALVINGS = 18


class MixingAttacker(nn.Module):
    r"""Choose how much of each random change every part of a picture gets.

    $$ I_{adv} = I + \sum_k w_k(I, S, z) (T_k(I) - I) $$

    The changes T_k are drawn for each picture: light, colour, blur, noise, a cover, the
    texture of another picture. The network outputs only their maps w_k, on a coarse grid. So the
    pictures are as diverse as the changes and as hard as the maps make them.

    Not in [SAAT], whose attacker paints the perturbation; the form is that of Eq. 2. At each pixel
    the picture itself is one more choice, and all weights add up to 1. So the adversarial picture
    lies between the picture and its changes, in `[0, 1]` as they do, and shows no landmark that
    none of them shows.

    Two things must be limited. An attacker without a budget learns to hide everything, so the
    scores of a picture are lowered by one number until its changes use at most `budget` of it. And
    one change soon becomes the hardest for every picture, so each picture is offered only a few,
    drawn at random, and the attacker has to learn them all.

    Args:
        changes: T_k, each from `(B, C, H, W)` in `[0, 1]` to the same. They draw from PyTorch's
            global random state, which the adversary swaps for its own.
        budget: How much of a picture may change, as the mean of the maps' sum, in (0, 1].
        offered: How many of the changes each picture may get, at most.
        base_width: Channels of the first layer.
        coarse: How many times the picture is halved to reach the grid of the maps.
        structure: Whether the network gets S; False is the adversary's default.
        channels: Of the pictures.

    Raises:
        ValueError: If there are no changes, or a number is out of its range.
    """

    def __init__(
        self,
        changes: Sequence[Change] = CHANGES,
        *,
        budget: float = 0.25,
        offered: int = 2,
        base_width: int = 16,
        coarse: int = 3,
        structure: bool = False,
        channels: int = 3,
    ) -> None:
        super().__init__()
        check_at_least_one(changes=len(changes), base_width=base_width, coarse=coarse)
        check_at_least_one(channels=channels, offered=offered)
        if not 0 < budget <= 1:
            msg = f"`budget` must be within (0, 1], but got {budget}. Use 1 for no limit."
            raise ValueError(msg)
        self.changes = tuple(changes)
        self.budget = budget
        self.offered = offered
        self.structure = structure
        self.channels = channels
        self.smallest = 2 ** (coarse + 1)
        widths = [base_width * min(2**level, WIDEST) for level in range(coarse)]
        layers: list[nn.Module] = [
            nn.Conv2d(channels + int(structure), base_width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        ]
        for narrow, width in pairwise(widths):
            layers += _halve(narrow, width)
        wide = widths[-1]
        self.encoder = nn.Sequential(*layers)
        self.context = nn.Sequential(*_halve(wide, wide))
        self.head = nn.Sequential(
            nn.Conv2d(2 * wide + 1, wide, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(wide, len(self.changes), 3, padding=1),
        )
        self.apply(initialise_like_pix2pix)
        last = self.head[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.constant_(last.bias, START - math.log(len(self.changes)))

    def forward(self, images: Tensor, structure: Tensor | None, noise: Tensor) -> Tensor:
        """Perturbation for each picture, the second term of Eq. 2.

        Args:
            images: I, `(B, C, H, W)` in `[0, 1]`.
            structure: S, `(B, 1, H, W)`; None for an attacker built with `structure=False`.
            noise: z, `(B, 1, H, W)`, standard normal.

        Returns:
            `(B, C, H, W)`, to be added to the pictures.

        Raises:
            ShapeError: If the pictures are too small, or S is missing.
        """
        weights = self.weights(images, structure, noise)
        clean = widen(images)
        perturbation = torch.zeros_like(clean)
        for weight, change in zip(weights.split(1, dim=1), self.changes, strict=True):
            perturbation = perturbation + weight * (change(clean) - clean)
        return perturbation

    def weights(self, images: Tensor, structure: Tensor | None, noise: Tensor) -> Tensor:
        """The maps w_k, `(B, K, H, W)` in [0, 1]; 0 for changes that a picture is not offered.

        Their sum is at most 1 at each pixel, and at most about `budget` on average over a picture.

        Arguments and errors are those of the call.
        """
        size = (images.shape[-2], images.shape[-1])
        guides = self._guides(size, structure)
        features = self.encoder(torch.cat([images, *guides], dim=1))
        grid = (features.shape[-2], features.shape[-1])
        around = interpolate(self.context(features), grid, mode="bilinear")
        # Of unit variance in each cell of the grid.
        scale = math.sqrt(math.prod(size) / math.prod(grid))
        drawn = (scale * adaptive_avg_pool2d(noise, grid)).to(features.dtype)
        scores = widen(self.head(torch.cat([features, around, drawn], dim=1)))
        scores = SPAN * torch.tanh(scores / SPAN)
        scores = scores.masked_fill(~self._offer(scores), -torch.inf)
        together = scores.logsumexp(dim=1, keepdim=True)  # against 0, the score of the picture
        share = torch.sigmoid(together + lowering_of(together.flatten(1), self.budget))
        return interpolate(share * scores.softmax(dim=1), size, mode="bilinear")

    def _offer(self, scores: Tensor) -> Tensor:
        """Which changes each picture may get, `(B, K, 1, 1)` bool."""
        drawn = torch.rand(scores.shape[:2], device=scores.device)
        return (drawn.argsort(dim=1).argsort(dim=1) < self.offered)[..., None, None]

    def _guides(self, size: tuple[int, int], structure: Tensor | None) -> list[Tensor]:
        """The network's input besides the picture, after the checks."""
        if min(size) < self.smallest:
            msg = (
                f"`images` must have sides of at least {self.smallest} pixels for this attacker, "
                f"but got {size}. Use larger pictures, or a smaller `coarse`."
            )
            raise ShapeError(msg)
        if not self.structure:
            return []
        if structure is None:
            msg = (
                "`structure` must be a map (B, 1, H, W) for an attacker built with "
                "`structure=True`, but got None. Build the adversary with `structure=True` too."
            )
            raise ShapeError(msg)
        return [structure]


def lowering_of(scores: Tensor, budget: float) -> Tensor:
    """What to add to scores `(B, P)` so that the mean of their sigmoids is at most `budget`.

    Returns:
        `(B, 1, 1, 1)`, at most 0, with its gradient.
    """
    low = scores.new_full((len(scores), 1), LOWEST)
    high = torch.zeros_like(low)
    with torch.no_grad():
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            above = (scores + middle).sigmoid().mean(dim=1, keepdim=True) > budget
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    # A Newton step from the root: it barely changes the value and gives the right gradient.
    spent = (scores + low).sigmoid()
    slope = (spent * (1 - spent)).mean(dim=1, keepdim=True).detach()
    exact = low - (spent.mean(dim=1, keepdim=True) - budget) / slope.clamp(min=1e-4)
    return exact.clamp(max=0)[..., None, None]


def _halve(channels: int, width: int) -> list[nn.Module]:
    """Half the size, with each sample normalised separately."""
    return [
        nn.Conv2d(channels, width, 4, stride=2, padding=1, bias=False),
        norm_layer("group", width),
        nn.LeakyReLU(0.2),
    ]
