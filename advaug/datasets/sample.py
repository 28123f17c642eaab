"""What every dataset of the library gives."""

from typing import Any, NamedTuple

from torch import Tensor

__all__ = ["LandmarkSample"]


class _Sample(NamedTuple):
    image: Tensor
    landmarks: Tensor
    visible: Tensor


class LandmarkSample(_Sample):
    """One picture with its landmarks; PyTorch's default collation makes a batch of them.

    It unpacks into `image, landmarks, visible`, whatever else is known. `occluded` is an additional
    attribute, which the default collation drops; `CroppedPictures.occluded` has it for all samples
    of a dataset.

    Attributes:
        image: `(3, H, W)` float32, RGB, or `(1, H, W)`, grey, if the reader was asked for it; in
            `[0, 1]`.
        landmarks: `(N, 2)` float32, x then y, in pixels of `image`; 0-based, integers at pixel
            centres.
        visible: `(N,)` bool; False where a landmark is not annotated or outside the picture.
        occluded: `(N,)` bool; True where something hides a landmark. Its position may still be
            annotated. None if the dataset does not say.
    """

    occluded: Tensor | None = None

    def __new__(
        cls, image: Tensor, landmarks: Tensor, visible: Tensor, *, occluded: Tensor | None = None
    ) -> "LandmarkSample":
        """Make a sample."""
        sample = super().__new__(cls, image, landmarks, visible)
        sample.occluded = occluded
        return sample

    def _replace(self, **changes: Any) -> "LandmarkSample":  # noqa: ANN401 # type: ignore[reportIncompatibleMethodOverride] # NamedTuple's drops `occluded`
        occluded = changes.pop("occluded", self.occluded)
        return LandmarkSample(*super()._replace(**changes), occluded=occluded)
