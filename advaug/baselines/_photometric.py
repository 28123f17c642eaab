"""Changes of pictures that leave every landmark where it is, on kornia's augmentations.

All draw from the global random state, as kornia does: use them inside `private_randomness`.
"""

from collections.abc import Callable, Sequence

import torch
from kornia import augmentation
from kornia.augmentation.auto import AutoAugment
from kornia.augmentation.auto.autoaugment.autoaugment import imagenet_policy
from torch import Tensor
from torch.distributions import Dirichlet

from advaug.base.precision import full_precision

__all__ = ["CHAINS", "AugMix", "Erasing", "PhotometricAutoAugment", "PhotometricOperations"]

GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
CHAINS = 3
DEEPEST = 3  # operations of a chain
NONE = -1

Operation = Callable[[Tensor], Tensor]


class PhotometricOperations:
    """Some operations for each picture; each picture draws its own, and their strengths.

    The photometric ones of RandAugment (Cubuk et al., NeurIPS 2020), without the negative, in
    ranges that leave a face to be seen.

    Args:
        number: Operations for each picture, all different.
    """

    def __init__(self, number: int = 2) -> None:
        self.number = number
        self.operations = _operations()

    def __call__(self, images: Tensor) -> Tensor:
        """`(B, 3, H, W)` in `[0, 1]` to the same."""
        order = torch.rand(len(images), len(self.operations)).argsort(dim=1)
        for choice in order[:, : self.number].unbind(1):
            images = _to_each(images, choice, self.operations)
        return images


class AugMix:
    """The mix of AugMix (Hendrycks et al., ICLR 2020), of photometric operations only.

    Three chains of one to three operations, mixed with Dirichlet weights, and the mix with the
    picture by a uniform weight. Contrast, brightness, saturation and sharpness are among the
    operations, as in the paper's variant that uses all.

    Args:
        operations: What the chains are made of; None for these.
    """

    def __init__(self, operations: Sequence[Operation] | None = None) -> None:
        self.operations = _operations() if operations is None else operations

    def __call__(self, images: Tensor) -> Tensor:
        """`(B, 3, H, W)` in `[0, 1]` to the same."""
        chains = self.chains(images)
        weights = Dirichlet(torch.ones(CHAINS)).sample((len(images),)).T.to(images)
        mixed = (weights[..., None, None, None] * chains).sum(dim=0)
        share = torch.rand(len(images)).to(images)[:, None, None, None]
        return torch.lerp(images, mixed, share)

    def chains(self, images: Tensor) -> Tensor:
        """`(B, 3, H, W)` in `[0, 1]` to three changed versions of each, `(3, B, 3, H, W)`."""
        chains = images.repeat(CHAINS, 1, 1, 1)
        depth = torch.randint(1, DEEPEST + 1, (len(chains),))
        for level in range(DEEPEST):
            choice = torch.randint(len(self.operations), (len(chains),))
            choice[depth <= level] = NONE
            chains = _to_each(chains, choice, self.operations)
        return chains.unflatten(0, (CHAINS, -1))


class Erasing:
    """A rectangle of each picture replaced by noise (Zhong et al., AAAI 2020).

    In every picture: beside the caller's own pass over the whole ones, half of all pictures are
    erased, which is the paper's probability. Noise is the filling that it found best.
    """

    def __init__(self) -> None:
        self.erase = augmentation.RandomErasing(p=1.0)

    def __call__(self, images: Tensor) -> Tensor:
        """`(B, 3, H, W)` in `[0, 1]` to the same."""
        kept = self.erase(torch.ones_like(images[:, :1]))
        return torch.where(kept > 0, images, torch.rand_like(images))


class PhotometricAutoAugment:
    """AutoAugment's ImageNet policy (Cubuk et al., CVPR 2019) less its geometric operations.

    Each picture draws its own sub-policy.
    """

    def __init__(self) -> None:
        kept = [[part for part in parts if part[0] not in GEOMETRIC] for parts in imagenet_policy]
        self.operations = [AutoAugment(policy=[parts]) for parts in kept if parts]

    def __call__(self, images: Tensor) -> Tensor:
        """`(B, 3, H, W)` in `[0, 1]` to the same."""
        choice = torch.randint(len(self.operations), (len(images),))
        return _to_each(images, choice, self.operations)


def _operations() -> list[Operation]:
    return [
        augmentation.RandomAutoContrast(p=1.0),
        augmentation.RandomEqualize(p=1.0),
        augmentation.RandomPosterize((4.0, 8.0), p=1.0),
        augmentation.RandomSolarize((0.5, 1.0), additions=0.0, p=1.0),
        augmentation.RandomBrightness((0.6, 1.4), p=1.0),
        augmentation.RandomContrast((0.4, 1.6), p=1.0),
        augmentation.RandomSaturation((0.2, 1.8), p=1.0),
        augmentation.RandomSharpness((0.0, 2.0), p=1.0),
    ]


@full_precision
def _to_each(images: Tensor, choice: Tensor, operations: Sequence[Operation]) -> Tensor:
    """Change each picture by the operation that it has drawn, `(B,)` on the CPU, or by none.

    kornia draws one sequence of operations for a whole batch; this lets every picture have its own.
    """
    changed = images.clamp(0, 1)  # kornia's operations know nothing beyond
    for index in choice[choice != NONE].unique().tolist():
        rows = (choice == index).nonzero().squeeze(1).to(images.device)
        changed[rows] = operations[index](changed[rows]).clamp(0, 1)
    return changed
