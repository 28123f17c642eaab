"""SAAT in sleap-nn's own Lightning modules. Needs sleap-nn, in a separate environment."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from advaug.adversary import SampleAdaptiveAdversary
from advaug.integrations.lightning import AdversaryCallback
from advaug.pixels import PixelSpec

__all__ = ["SleapAdversaryCallback"]

CROPPED = "instance_image"  # of top-down models, beside "instance"
MAPS = ("confidence_maps", "centroids_confidence_maps")


class SleapAdversaryCallback(AdversaryCallback):
    """`AdversaryCallback` for the batches of sleap-nn: all models that train on pictures.

    Frames come as bytes, `(B, 1, C, H, W)`, and the module divides them by 255 itself. They go on
    as floats of 0 to 255, of which it makes the same. Landmarks are the batch's own instances, and
    its confidence maps where it has none.

    Args:
        adversary: None for the default, with `PixelSpec.from_255()`.
        channels: Of the frames, for the default; 1 for grey ones.
    """

    def __init__(
        self, adversary: SampleAdaptiveAdversary | None = None, *, channels: int = 3
    ) -> None:
        if adversary is None:
            adversary = SampleAdaptiveAdversary(pixels=PixelSpec.from_255(), channels=channels)
        super().__init__(adversary)

    def augmented(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The batch with a part of its frames attacked; the given one stays as it is."""
        name = CROPPED if CROPPED in batch else "image"
        frames = batch[name]
        changed = self.adversary.augment(frames.flatten(0, 1).float(), _landmarks(batch, name))
        return {**batch, name: changed.view_as(frames)}


def _landmarks(batch: Mapping[str, Any], name: str) -> Tensor | None:
    """`(B, people, N, 2)`, NaN where there is none; else heatmaps; else nothing is known."""
    instances = batch.get("instance" if name == CROPPED else "instances")
    if instances is not None:
        return instances.reshape(len(instances), -1, *instances.shape[-2:])
    maps = [batch[key] for key in MAPS if key in batch]
    return maps[0].flatten(0, 1) if maps else None
