"""How the caller's detector wants its pictures."""

from dataclasses import dataclass

from torch import Tensor

from advaug.base.shapes import vector

__all__ = ["PixelSpec"]


@dataclass(frozen=True)
class PixelSpec:
    """The normalisation between `[0, 1]` pictures and the detector's input.

    `detector input = (picture - mean) / std`, per channel. The library computes in `[0, 1]`, where
    the similarity of Eq. 9 and the strength of a perturbation mean something, and converts.

    Attributes:
        mean: One value a channel; none for the identity.
        std: Likewise.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Raise where mean and std do not belong together."""
        if len(self.mean) != len(self.std):
            msg = (
                f"`std` must have one value for each of the {len(self.mean)} of `mean`, but got "
                f"{len(self.std)}."
            )
            raise ValueError(msg)
        if any(value <= 0 for value in self.std):
            msg = f"`std` must be positive, but got {self.std}."
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
