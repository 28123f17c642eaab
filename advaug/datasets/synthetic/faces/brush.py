"""Paints the features of a face onto the atlas: spots, folds, nostrils, lips, brows, eyes."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from advaug.datasets.synthetic.faces.atlas import AtlasScale
from advaug.datasets.synthetic.faces.look import Look
from advaug.datasets.synthetic.faces.shape import Expression, Floats

__all__ = ["Brush", "beard_area", "mix", "smooth_curve", "spot"]

_SHADOW = np.array([0.55, 0.42, 0.38])
Colour = tuple[int, ...]


@dataclass(frozen=True)
class Brush:
    """Paints features onto the face's square of the atlas."""

    atlas: Image.Image
    draw: ImageDraw.ImageDraw
    scale: AtlasScale
    look: Look
    rng: np.random.Generator

    def spots(self) -> None:
        """Paint freckles and moles."""
        count = self.look.freckles
        freckles = self.rng.normal([0, 0.3], [0.35, 0.14], (count, 2))
        moles = self.rng.uniform([-0.6, -0.4], [0.6, 1.1], (int(self.rng.integers(0, 3)), 2))
        for points, dark, radius in ((freckles, 0.78, 0.008), (moles, 0.5, 0.013)):
            colour = mix(self.look.skin * dark, alpha=0.6)
            corners = np.concatenate([points - radius, points + radius], axis=1)
            for box in self.scale.face(corners.reshape(-1, 2, 2)).reshape(-1, 4).tolist():
                self.draw.ellipse(box, fill=colour)

    def folds(self, frontal: Floats) -> None:
        """Paint the folds beside the mouth, below the eyes and across the forehead."""
        look = self.look
        depth = 0.15 + 0.6 * look.age
        for wing, corner in ((31, 48), (35, 54)):
            out = np.sign(frontal[corner, 0]) * 0.07
            start = frontal[wing] + [out * 0.7, -0.05]
            end = frontal[corner] + [out, -0.02]
            bow = (start + end) / 2 + [out * 0.6, 0.0]
            self._soft_line(np.stack([start, bow, end]), 0.025, depth)
        for first, last in ((39, 36), (42, 45)):
            inner, outer = frontal[first], frontal[last]
            below = (inner + outer) / 2 + [0, 0.14]
            self._soft_line(np.stack([np.add(inner, [0, 0.05]), below]), 0.02, 0.7 * depth)
        for _ in range(int(3.5 * max(look.age - 0.3, 0))):
            y = self.rng.uniform(-0.6, -0.38)
            ends = np.array([[-0.35, y], [0.0, y - 0.02], [0.35, y]])
            self._soft_line(ends, 0.014, 0.5 * depth)

    def nostrils(self, frontal: Floats) -> None:
        """Paint the openings of the nose, its shadow and the creases around its wings."""
        dark = self.look.skin * [0.3, 0.2, 0.18]
        base = frontal[31:36]
        self._soft_line(np.add(base, [0, 0.005]), 0.03, 0.35)
        for near, far in ((1, 0), (3, 4)):
            centre = base[near] + (base[far] - base[near]) * 0.35 - [0, 0.012]
            self._ellipse(centre, (0.042, 0.02), mix(dark, alpha=0.85))
            wing = base[far]
            out = np.sign(wing[0]) * 0.025
            crease = wing + np.array([[out, -0.1], [out * 1.5, -0.045], [0.0, 0.0]])
            self._soft_line(crease, 0.016, 0.45)

    def lips(self, frontal: Floats) -> None:
        """Paint lips, teeth and the inside of the mouth along landmarks 48 to 67."""
        lips, shine = self.look.lips, self.look.make_up
        outer, inner = frontal[48:60], frontal[60:68]
        self._fill(smooth_curve(outer, closed=True), mix(lips))
        upper = np.concatenate([smooth_curve(outer[:7]), inner[4::-1]])
        self._fill(upper, mix(lips * [0.86, 0.8, 0.8]))
        gloss = (frontal[57] * 0.6 + frontal[66] * 0.4)[None] + [[-0.08, 0], [0.08, 0]]
        self._line(gloss, 0.025, (255, 235, 230, int(35 + 60 * shine)))
        opening = smooth_curve(inner, closed=True, steps=3)
        gap = frontal[66, 1] - frontal[62, 1]
        self._fill(opening, (62, 18, 20))
        if gap > 0.03:
            self._teeth(inner, gap)
        self._line(np.vstack([opening, opening[:1]]), 0.014, mix(lips * 0.4, alpha=0.8))
        for corner, step in ((48, -0.02), (54, 0.02)):
            self._soft_line(frontal[corner] + np.array([[0, 0], [step, 0.01]]), 0.02, 0.6)

    def _teeth(self, inner: Floats, gap: float) -> None:
        """Paint the upper teeth, and the tongue in a wide open mouth."""
        top, below = smooth_curve(inner[:5], steps=3), smooth_curve(inner[[0, 7, 6, 5, 4]], steps=3)
        # The edge of the teeth is straighter than the lip and never hangs below the lower one.
        edge = inner[2, 1] + min(0.08, 0.7 * gap) + 0.4 * (top[:, 1] - inner[2, 1])
        edge = np.clip(edge, top[:, 1], top[:, 1] + 0.85 * (below[:, 1] - top[:, 1]))
        teeth = np.concatenate([top, np.column_stack([top[:, 0], edge])[::-1]])
        if gap > 0.14:
            self._ellipse(inner[6] - [0, 0.2 * gap], (0.13, 0.22 * gap), (150, 66, 66))
        self._fill(teeth, (228, 220, 208))

    def brow(self, points: Floats) -> None:
        """Paint a brow as hairs along its landmarks, thinner towards the temple."""
        if points[0, 0] > 0:
            points = points[::-1]
        inward = np.sign(points[4, 0] - points[0, 0])
        line = smooth_curve(points)
        along = np.linspace(0, 1, len(line))[:, None]
        half = (0.014 + 0.026 * np.sqrt(along)) * self.look.brow_weight
        above, below = line - [0, 1.0] * half, line + [0, 1.0] * half
        self._fill(np.concatenate([above, below[::-1]]), mix(self.look.brows, alpha=0.7))
        tips = above - [inward * 0.035, 0.006]
        hairs = np.stack([below, tips], axis=1).reshape(-1, 2)
        self._line(hairs[2:], 0.01, mix(self.look.brows, alpha=0.3))

    def stubble(self, frontal: Floats) -> None:
        """Paint the moustache and the grain of a beard."""
        look = self.look
        if look.moustache:
            top = frontal[33, 1] * 0.45 + frontal[51, 1] * 0.55
            lip = smooth_curve(frontal[48:55])
            ends = lip[[0, -1]] + [[-0.05, 0.04], [0.05, 0.04]]
            upper = np.array([[frontal[52, 0] + 0.1, top], [frontal[50, 0] - 0.1, top]])
            shape = np.concatenate([ends[:1], lip - [0, 0.012], ends[1:], upper])
            self._fill(shape, mix(look.hair * 0.85, alpha=0.35 + 0.55 * look.moustache))
        if look.beard < 0.45:
            return
        mouth = frontal[[48, 54]].mean(axis=0)
        spots = self.rng.uniform([-0.75, mouth[1] - 0.2], [0.75, 1.5], (int(150 * look.beard), 2))
        area = beard_area(spots[:, 0], spots[:, 1], frontal, mouth)
        roots = spots[area > 0.7]
        hairs = np.stack([roots, roots * [1.02, 1.0] + [0, 0.06]], axis=1)
        texels = max(1, round(0.012 * self.scale.texels))
        colours = [mix(look.hair * shade, alpha=0.55) for shade in (0.6, 0.8, 1.0, 1.2)]
        for number, hair in enumerate(self.scale.face(hairs).reshape(-1, 4).tolist()):
            self.draw.line(hair, colours[number % 4], texels)

    def eye(self, points: Floats, side: int, expression: Expression) -> None:
        """Paint one eye inside its six landmarks: white, iris, pupil, glint, lids and lashes."""
        # Both eyes are painted from the left corner: the outer corner of one, the inner of the
        # other.
        upper, lower = smooth_curve(points[:4]), smooth_curve(np.vstack([points[3:], points[:1]]))
        opening = float(points[[4, 5], 1].mean() - points[[1, 2], 1].mean())
        look = self.look
        crease = upper - [0, 0.035 + 0.25 * opening * 0.4]
        self._fill(np.concatenate([crease, upper[::-1]]), mix(look.skin * 0.8, alpha=0.35))
        self._soft_line(crease[2:-2], 0.016, 0.5)
        if opening > 0.02:
            self._eyeball(points, upper, lower, expression)
        lash = 0.018 + 0.016 * look.make_up
        self._line(upper, lash, mix(np.array([32.0, 22, 18]), alpha=0.9))
        self._line(lower, 0.012, mix(look.skin * 0.45, alpha=0.5 + 0.4 * look.make_up))
        if look.make_up > 0.3:
            outer = points[0 if side < 0 else 3]
            wing = outer + np.array([[0, 0], [side * 0.035, -0.025]])
            self._line(wing, lash, (30, 22, 20, 220))

    def _eyeball(
        self, points: Floats, upper: Floats, lower: Floats, expression: Expression
    ) -> None:
        """Paint what the lids leave open, through a mask of their outline."""
        outline = self.scale.face(np.concatenate([upper, lower[1:]]))
        corner = np.floor(outline.min(axis=0)).astype(int)
        size = tuple((np.ceil(outline.max(axis=0)).astype(int) - corner + 1).tolist())
        mask, ball = Image.new("L", size), Image.new("RGB", size, (214, 206, 200))
        ImageDraw.Draw(mask).polygon(_pairs(outline - corner), fill=255)
        draw = ImageDraw.Draw(ball)
        width = points[3, 0] - points[0, 0]
        gaze = np.array(expression.gaze) * [width, 0.16 * width]
        centre = self.scale.face(points.mean(axis=0) + gaze - [0, 0.006]) - corner
        unit = self.scale.texels * width / 0.28
        iris, dark = self.look.iris, self.look.iris * 0.45
        for radius, colour in ((0.066, dark), (0.056, iris), (0.027, iris * 0.1)):
            draw.ellipse(_circle(centre, radius * unit), fill=mix(colour))
        shadow = np.add(upper, [0, 0.008])
        draw.line(_pairs(self.scale.face(shadow) - corner), (110, 92, 88), round(0.022 * unit))
        glint = centre + np.array([0.02, -0.022]) * unit
        draw.ellipse(_circle(glint, 0.011 * unit), fill=(250, 250, 250))
        self.atlas.paste(ball, tuple(corner.tolist()), mask)

    def _soft_line(self, points: Floats, width: float, depth: float) -> None:
        """A crease: a line in the colour of the skin's shadow."""
        self._line(points, 1.3 * width, mix(self.look.skin * _SHADOW, alpha=0.55 * depth))

    def _line(self, points: Floats, width: float, colour: Colour) -> None:
        texels = max(1, round(width * self.scale.texels))
        self.draw.line(_pairs(self.scale.face(points)), colour, texels)

    def _fill(self, points: Floats, colour: Colour) -> None:
        self.draw.polygon(_pairs(self.scale.face(points)), fill=colour)

    def _ellipse(self, centre: Floats, radius: tuple[float, float], colour: Colour) -> None:
        low, high = self.scale.face(centre - np.array(radius)), self.scale.face(centre + radius)
        self.draw.ellipse([*low.tolist(), *high.tolist()], fill=colour)


def beard_area(x: Floats, y: Floats, frontal: Floats, mouth: Floats) -> Floats:
    """Where a beard grows, 0 to 1: below a line from the ears to under the nose."""
    jaw = np.abs(frontal[[3, 13], 0]).mean()
    line = mouth[1] - 0.02 - 0.5 * np.clip(np.abs(x) / jaw - 0.45, 0, 1)
    area = np.clip((y - line) / 0.12, 0, 1)
    bare = spot(x, y, np.add(mouth, [0, 0.03]), (0.3, 0.11))
    return np.clip(area - 0.9 * bare, 0, 1)


def spot(x: Floats, y: Floats, centre: Floats, radius: tuple[float, float]) -> Floats:
    """A soft spot on the grid, 1 in its middle."""
    across, down = ((x - centre[0]) / radius[0]) ** 2, ((y - centre[1]) / radius[1]) ** 2
    return np.exp(-across) * np.exp(-down)


def smooth_curve(points: Floats, *, closed: bool = False, steps: int = 4) -> Floats:
    """Draw a smooth curve through points `(N, 2)`, `steps` samples from each to the next."""
    return _curve_weights(len(points), closed, steps) @ points


@cache
def _curve_weights(count: int, closed: bool, steps: int) -> Floats:
    """Catmull-Rom weights `(samples, count)` of a curve through `count` points."""
    rows: list[Floats] = []
    for start in range(count if closed else count - 1):
        for t in np.arange(steps) / steps:
            basis = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3)
            row = np.zeros(count)
            for offset, weight in zip(range(-1, 3), (*basis, t**3 - t**2), strict=True):
                index = start + offset
                row[index % count if closed else min(max(index, 0), count - 1)] += weight / 2
            rows.append(row)
    if not closed:
        rows.append(np.eye(count)[-1])
    return np.stack(rows)


def mix(colour: Floats, alpha: float = 1.0) -> Colour:
    """Return a colour in Pillow's form."""
    red, green, blue = colour.tolist()
    return min(int(red), 255), min(int(green), 255), min(int(blue), 255), int(255 * min(alpha, 1.0))


def _pairs(points: Floats) -> list[float]:
    """Flatten points to Pillow's form."""
    return points.ravel().tolist()


def _circle(centre: Floats, radius: float) -> list[float]:
    """Box of a circle."""
    x, y = centre.tolist()
    return [x - radius, y - radius, x + radius, y + radius]
