"""Detectors of landmarks: ordinary modules that do not depend on the adversary."""

from typing import TYPE_CHECKING, Any

from advaug.detectors.hourglass import HourglassNet
from advaug.detectors.mdm import MDM

if TYPE_CHECKING:
    from advaug.detectors.timm_backbone import TimmCoordinateNet, TimmHeatmapNet

__all__ = ["MDM", "HourglassNet", "TimmCoordinateNet", "TimmHeatmapNet"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 # any name of a module
    """Load timm, which imports torchvision, only when one of its detectors is used."""
    if name in ("TimmCoordinateNet", "TimmHeatmapNet"):
        from advaug.detectors import timm_backbone

        return getattr(timm_backbone, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
