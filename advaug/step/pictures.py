"""The caller's pictures as one batch, and the changed ones back in their places."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from advaug.errors import ShapeError

__all__ = ["Pictures"]


class Pictures(NamedTuple):
    """A batch of pictures, or a list of pictures of several sizes, padded to one size.

    Attributes:
        images: `(B, C, H, W)`, as the detector expects them; padded with 0 below and to the right.
        sizes: `(height, width)` of each picture.
        given: The pictures of a list; None where they are a batch.
    """

    images: Tensor
    sizes: list[tuple[int, int]]
    given: Sequence[Tensor] | None

    @classmethod
    def of(cls, given: Any) -> "Pictures":  # noqa: ANN401 # that is what it checks
        """Stack what the caller gave.

        Raises:
            TypeError, ShapeError: If a list holds anything but pictures `(C, H, W)` with the same
                number of channels, on one device.
        """
        if isinstance(given, Tensor) or not isinstance(given, list | tuple):
            whole = isinstance(given, Tensor) and given.ndim == 4
            sizes = [(given.shape[-2], given.shape[-1])] * len(given) if whole else []
            return cls(given, sizes, None)
        _check_list(given)
        sizes = [(picture.shape[-2], picture.shape[-1]) for picture in given]
        height, width = (max(side) for side in zip(*sizes, strict=True))
        padded = [
            torch.nn.functional.pad(picture.detach(), (0, width - w, 0, height - h))
            for picture, (h, w) in zip(given, sizes, strict=True)
        ]
        return cls(torch.stack(padded), sizes, given)

    def inside(self, chosen: Tensor) -> Tensor | None:
        """`(k, 1, H, W)`: 1 in each chosen picture and 0 in its padding; None for no padding."""
        if len(set(self.sizes)) == 1:
            return None
        height, width = self.images.shape[-2:]
        sides = torch.tensor(self.sizes, device=self.images.device)[chosen]
        rows = torch.arange(height, device=sides.device).view(-1, 1) < sides[:, :1, None]
        columns = torch.arange(width, device=sides.device) < sides[:, 1:, None]
        return (rows & columns)[:, None].float()

    def replaced(self, chosen: Tensor, changed: Tensor) -> Tensor | list[Tensor]:
        """What the caller gave, with the changed pictures `(k, C, H, W)` in their places."""
        if self.given is None:
            replaced = self.images.clone()  # in the caller's memory layout
            replaced[chosen] = changed
            return replaced
        pictures = list(self.given)
        for place, picture in zip(chosen.tolist(), changed, strict=True):
            height, width = self.sizes[place]
            # Not a view: a detector may normalise its pictures where they lie.
            pictures[place] = picture[:, :height, :width].clone()
        return pictures


def _check_list(given: Sequence[Tensor]) -> None:
    kinds = [isinstance(picture, Tensor) and picture.ndim == 3 for picture in given]
    if not given or not all(kinds):
        fact = f"entry {kinds.index(False)} is not a picture" if given else "the list is empty"
        msg = (
            "`images` must be a batch (B, C, H, W) or a list of pictures (C, H, W), but "
            f"{fact}. Take the pictures out of their containers."
        )
        raise TypeError(msg)
    kinds_found = {(len(picture), picture.dtype, picture.device) for picture in given}
    if len(kinds_found) > 1:
        facts = sorted(
            f"{count} channels of {dtype} on {device}" for count, dtype, device in kinds_found
        )
        msg = (
            f"`images` must be pictures of one kind, but got {'; '.join(facts)}. Bring them to one "
            "number of channels, one dtype and one device."
        )
        raise ShapeError(msg)
