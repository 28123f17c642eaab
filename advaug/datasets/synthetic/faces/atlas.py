"""Where things are in the atlas: one RGB picture with a face's skin and the head's other colours.

Its left square is the frontal plane of `shape`: what is at `(x, y)` there is painted at
`AtlasScale.face((x, y))`, so a feature sits exactly where its landmarks are. The strip on its right
holds hair and plain colours for the other parts of the head.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from advaug.datasets.synthetic.faces.shape import Floats

__all__ = ["CORNER", "EXTENT", "SWATCHES", "AtlasScale", "enlarge"]

# The square of the frontal plane that the atlas shows.
CORNER = np.array([-1.3, -1.0])
EXTENT = 2.7
SWATCHES = ("skin", "inner_ear", "cloth", "frame", "lens", "cap", "clothes", "collar")


@dataclass(frozen=True)
class AtlasScale:
    """Where things are in an atlas whose face takes up `size` by `size` texels."""

    size: int

    @classmethod
    def of(cls, texels: float) -> "AtlasScale":
        """Scale so that an outer eye-corner distance spans about this many texels."""
        return cls(round(EXTENT * texels))

    @property
    def texels(self) -> float:
        """Texels per outer eye-corner distance."""
        return self.size / EXTENT

    def face(self, points: Floats) -> Floats:
        """Texel of points `(..., 2)` of the frontal plane.

        Pillow paints, and the renderer reads, at these numbers rounded down.
        """
        return (points - CORNER) * self.texels + 0.5

    def hair(self, unit: Floats) -> Floats:
        """Texel of points `(..., 2)` in the unit square of the hair, roots at the top."""
        half = self.size / 2
        return np.clip(unit, 0, 1) * (half - 2) + [self.size + 1, 1]

    def swatch(self, name: str) -> Floats:
        """Texel in the middle of a plain colour, `(2,)`."""
        row = SWATCHES.index(name) + 0.5
        return np.array([1.25 * self.size, self.size / 2 * (1 + row / len(SWATCHES))])


def enlarge(small: Image.Image, size: int) -> Image.Image:
    """Enlarge to a square smoothly, except for the last factor of 2, which is invisible."""
    half = small.resize((size // 2, size // 2), Image.Resampling.BILINEAR)
    return half.resize((size, size), Image.Resampling.NEAREST)
