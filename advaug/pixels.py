"""How the caller's detector expects its pictures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from advaug.base.shapes import vector

__all__ = ["PixelSpec"]

LARGEST = 1.5  # of a mean or std of pictures in [0, 1]


@dataclass(frozen=True)
class PixelSpec:
    """The normalisation between `[0, 1]` pictures and the detector's input.

    `detector input = (picture - mean) / std`, per channel. The library computes in `[0, 1]`, where
    the similarity of Eq. 9 and the strength of a perturbation mean something, and converts.

    Attributes:
        mean: One value per channel, or one for all; none for the identity.
        std: Likewise.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Raise where mean and std do not belong together or are in 0..255."""
        _check_listed(mean=self.mean, std=self.std)
        if len(self.mean) != len(self.std):
            msg = (
                f"`std` must have one value for each of the {len(self.mean)} of `mean`, but got "
                f"{len(self.std)}. Use 0 for no mean and 1 for no std."
            )
            raise ValueError(msg)
        if not all(0 < value < math.inf for value in self.std):
            msg = f"`std` must be positive, but got {self.std}. Leave both out for the identity."
            raise ValueError(msg)
        if any(abs(value) > LARGEST for value in (*self.mean, *self.std)):
            msg = (
                f"`mean` and `std` must be those of pictures in [0, 1], but got {self.mean} and "
                f"{self.std}, which are in 0..255. Pass PixelSpec.from_255({self.mean}, "
                f"{self.std})."
            )
            raise ValueError(msg)

    @classmethod
    def from_255(cls, mean: Sequence[float] = (), std: Sequence[float] = ()) -> "PixelSpec":
        """For a detector whose input comes from values of 0 to 255.

        `detector input = (255 picture - mean) / std`, per channel, in the order of the
        pictures' channels: RGB, BGR or any other.

        Args:
            mean: One value per channel, in 0 to 255; none for 0.
            std: Likewise; none for 1.
        """
        _check_listed(mean=mean, std=std)
        count = max(len(mean), len(std), 1)
        means = tuple(mean) or (0.0,) * count
        deviations = tuple(std) or (1.0,) * count
        return cls(tuple(m / 255 for m in means), tuple(s / 255 for s in deviations))

    def check_channels(self, channels: int) -> None:
        """Raise unless there is one value for all channels, or one for each."""
        if len(self.mean) not in (0, 1, channels):
            msg = (
                f"`pixels` must have one mean and std for each of the {channels} channels, but has "
                f"{len(self.mean)}. For other pictures than RGB pass `channels=` as well."
            )
            raise ValueError(msg)

    def to_unit(self, images: Tensor) -> Tensor:
        """Detector input to `[0, 1]`; the same tensor under the identity."""
        if not self.mean:
            return images
        mean, std = self._broadcast(images)
        return images * std + mean

    def from_unit(self, images: Tensor) -> Tensor:
        """`[0, 1]` to detector input; the same tensor under the identity."""
        if not self.mean:
            return images
        mean, std = self._broadcast(images)
        return (images - mean) / std

    def _broadcast(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (vector(values, images).view(-1, 1, 1) for values in (self.mean, self.std))
        return mean, std


def _check_listed(**values: object) -> None:
    for name, value in values.items():
        if isinstance(value, int | float):
            msg = (
                f"`{name}` must be a sequence, one value for each channel, but got {value}. For "
                f"the same value in all channels pass `({value},)`."
            )
            raise TypeError(msg)
