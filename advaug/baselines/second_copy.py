"""The control: as many pictures as an adversary shows, and nothing adversarial in them."""

from collections.abc import Callable
from typing import Any, Self, Unpack

from torch import Tensor

from advaug.augment import HandcraftedAugmentation
from advaug.base.shapes import copied
from advaug.baselines._defence import Call, Defence, DefenceOptions, Example
from advaug.baselines._photometric import AugMix, Erasing, PhotometricOperations
from advaug.baselines.prime import PRIME
from advaug.tasks import LandmarkTask
from advaug.view.appearance import RandomAppearance

__all__ = ["SecondCopy"]

Transform = Callable[[Tensor, Any], tuple[Tensor, Any]]


class SecondCopy(Defence):
    """Train on a second copy of each picture, changed by hand.

    An adversary shows the detector twice as many pictures as plain training does. What a second
    handcrafted copy achieves by itself must be subtracted from what the adversary achieves.

    `SecondCopy(task)` is a second handcrafted copy; `SecondCopy.erasing(task)`,
    `SecondCopy.rand_augment(task)`, `SecondCopy.augmix(task)` and `SecondCopy.prime(task)` are the
    usual augmentations, `SecondCopy.appearance(task)` is SAAT without its attack, and `transform`
    takes any other. Give it the pictures from before your own augmentation where you have them: on
    augmented ones the two changes add up.

    BatchNorm statistics are shared by default. The copies are ordinary training pictures, and
    anyone who puts them into the batch by hand lets them move the running statistics; keeping them
    out would be another method.

    Cost: 3 F, beside the 3 F of the plain step.

    Args:
        task: What the detector's output means.
        transform: A callable `(images, target) -> (images, target)` on pictures in `[0, 1]`. By
            default a `HandcraftedAugmentation` without mirror, which needs the landmarks' scheme:
            `HandcraftedAugmentation(flip_permutation=...)`. What it draws from the global random
            states is private; the state of a module is part of `state_dict()`.
        options: Those of every baseline: `pixels`, `batch_norm`, `weight`, `loss_weight`,
            `optimizer`, `seed`; see `advaug.baselines.Defence`.

    Raises:
        TypeError, ValueError: If the task is none or an option is out of range.
    """

    def __init__(
        self,
        task: LandmarkTask,
        *,
        transform: Transform | None = None,
        **options: Unpack[DefenceOptions],
    ) -> None:
        options.setdefault("batch_norm", "shared")
        super().__init__(task, **options)
        if transform is None:
            transform = HandcraftedAugmentation(flip=0.0, seed=options.get("seed", 0))
        self.transform = transform

    @classmethod
    def erasing(cls, task: LandmarkTask, **options: Unpack[DefenceOptions]) -> Self:
        """A rectangle of noise in every copy: random erasing, Zhong et al., AAAI 2020."""
        return cls(task, transform=_to_pictures_alone(Erasing()), **options)

    @classmethod
    def rand_augment(cls, task: LandmarkTask, **options: Unpack[DefenceOptions]) -> Self:
        """Two photometric operations on every copy, after RandAugment, Cubuk et al., 2020.

        Where we differ: no geometric operation, which would move landmarks and which a handcrafted
        copy has anyway, and strengths drawn from ranges instead of one strength for all.
        """
        return cls(task, transform=_to_pictures_alone(PhotometricOperations()), **options)

    @classmethod
    def augmix(cls, task: LandmarkTask, **options: Unpack[DefenceOptions]) -> Self:
        """A mix of three chains of photometric operations, after AugMix, Hendrycks et al., 2020.

        Where we differ: no geometric operation, and no consistency between three outputs, which
        compares distributions of classes.
        """
        return cls(task, transform=_to_pictures_alone(AugMix()), **options)

    @classmethod
    def prime(cls, task: LandmarkTask, **options: Unpack[DefenceOptions]) -> Self:
        """A mix of random filters, colour maps and small warps, `PRIME`, Modas et al., 2022."""
        return cls(task, transform=_to_pictures_alone(PRIME()), **options)

    @classmethod
    def appearance(cls, task: LandmarkTask, **options: Unpack[DefenceOptions]) -> Self:
        """What the adversary does to its pictures beside the attack: `RandomAppearance`."""
        return cls(task, transform=_to_pictures_alone(RandomAppearance(clamp=False)), **options)

    def _example(self, call: Call, *, learn: bool) -> Example:
        images, target = self.transform(call.images.clone(), copied(call.target))
        return Example(images.detach(), target)


def _to_pictures_alone(change: Callable[[Tensor], Tensor]) -> Transform:
    """A transform that leaves landmarks where they are."""
    return lambda images, target: (change(images), target)
