"""Charts as SVG with the page's colours: curves, scattered errors, a face of errors.

Drawn here and not by matplotlib, whose colours would be fixed. This way a page shows them light or
dark, their text stays text, and nothing has to be installed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

__all__ = ["COLOURS", "curve_chart", "face_chart", "scatter_chart"]

COLOURS = 8  # that the page defines, as the classes c0 to c7
WIDTH, HEIGHT = 360, 240
LEFT, RIGHT, TOP, BOTTOM = 40, 8, 8, 36
LOG_TICKS = (0.01, 0.1, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000)  # percent

Scale = Callable[[float], float]
Points = Sequence[tuple[float, float]]


def curve_chart(curves: Mapping[str, Points], *, label: str, x_end: float, threshold: float) -> str:
    """Draw curves of percent over percent, from 0 to `x_end` and from 0 to 100.

    Args:
        curves: Points of each, by its name, in percent.
        label: What the chart shows, for screen readers.
        x_end: Where the x axis ends.
        threshold: In percent; a line shows it.
    """
    x, y = _linear(0, x_end, LEFT, WIDTH - RIGHT), _linear(0, 100, HEIGHT - BOTTOM, TOP)
    parts = [_axes(_steps(x_end), x, [0, 25, 50, 75, 100], y, "NME %", "pictures %")]
    parts.append(f'<path class="limit" d="M{x(threshold):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
    for number, points in enumerate(curves.values()):
        line = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
        parts.append(f'<polyline class="line c{number % COLOURS}" points="{line}"/>')
    return _svg(parts, label)


def scatter_chart(groups: Mapping[str, Points], *, label: str, threshold: float) -> str:
    """Draw one dot per picture: its number to the right, its error upwards on a logarithmic axis.

    Args:
        groups: Number and error in percent of each picture, by the name of its group.
        label: What the chart shows, for screen readers.
        threshold: In percent; a line shows it.
    """
    errors = [max(error, 0.01) for points in groups.values() for _, error in points]
    numbers = [number for points in groups.values() for number, _ in points]
    low, high = min([*errors, threshold]) / 1.2, max([*errors, threshold]) * 1.2
    ticks = [tick for tick in LOG_TICKS if low <= tick <= high]
    last = max([*numbers, 1])
    x = _linear(0, last, LEFT, WIDTH - RIGHT)
    log_y = _linear(math.log(low), math.log(high), HEIGHT - BOTTOM, TOP)

    def y(error: float) -> float:
        return log_y(math.log(max(error, low)))

    parts = [_axes(_steps(last), x, ticks, y, "picture", "NME %")]
    limit = y(threshold)
    parts.append(f'<path class="limit" d="M{LEFT} {limit:.1f}H{WIDTH - RIGHT}"/>')
    for number, points in enumerate(groups.values()):
        dots = "".join(f"M{x(a):.1f} {y(b):.1f}h0" for a, b in points)
        parts.append(f'<path class="dots c{number % COLOURS}" d="{dots}"/>')
    return _svg(parts, label)


def face_chart(
    places: Sequence[tuple[float, float] | None],
    errors: Sequence[float | None],
    names: Sequence[str],
    groups: Sequence[int],
    *,
    label: str,
) -> str:
    """Draw every landmark at its mean position, as a disc whose radius grows with its error.

    Args:
        places: x and y of each, in any unit; None if it is visible in no picture.
        errors: In percent.
        names: What a disc shows under the pointer.
        groups: Colour number of each.
        label: What the chart shows, for screen readers.
    """
    shown = [place for place in places if place is not None]
    worst = max([error for error in errors if error is not None], default=1) or 1
    xs, ys = [place[0] for place in shown], [place[1] for place in shown]
    side = max(max(xs) - min(xs), max(ys) - min(ys)) or 1
    margin = 24
    unit = (HEIGHT - 2 * margin) / side
    left = WIDTH / 2 - unit * (min(xs) + max(xs)) / 2
    top = HEIGHT / 2 - unit * (min(ys) + max(ys)) / 2
    parts = []
    for place, error, name, group in zip(places, errors, names, groups, strict=True):
        if place is None or error is None:
            continue
        at = f'cx="{left + unit * place[0]:.1f}" cy="{top + unit * place[1]:.1f}"'
        radius = 1.5 + 10 * error / worst
        told = f"<title>{escape(name)}: {error:.2f} %</title>"
        parts.append(
            f'<circle class="disc c{group % COLOURS}" {at} r="{radius:.1f}">{told}</circle>'
        )
    return _svg(parts, label)


def _axes(
    x_ticks: Sequence[float], x: Scale, y_ticks: Sequence[float], y: Scale, across: str, up: str
) -> str:
    """Lines, numbers and titles of both axes."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [
        f'<path class="grid" d="M{LEFT} {y(tick):.1f}H{right}"/>'
        f'<text x="{LEFT - 5}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in y_ticks
    ]
    parts += [
        f'<path class="grid" d="M{x(tick):.1f} {TOP}V{bottom}"/>'
        f'<text x="{x(tick):.1f}" y="{bottom + 14}" text-anchor="middle">{tick:g}</text>'
        for tick in x_ticks
    ]
    middle = (TOP + bottom) / 2
    parts.append(
        f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 5}" text-anchor="middle">{across}</text>'
        f'<text transform="translate(11 {middle}) rotate(-90)" text-anchor="middle">{up}</text>'
    )
    return "".join(parts)


def _svg(parts: Sequence[str], label: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _linear(low: float, high: float, start: float, end: float) -> Scale:
    """From values between `low` and `high` to pixels between `start` and `end`."""
    return lambda value: start + (value - low) / ((high - low) or 1) * (end - start)


def _steps(end: float) -> list[float]:
    """Four to eight round numbers from 0 to `end`."""
    size = 10 ** math.floor(math.log10(end))
    step = next(size * part for part in (0.1, 0.2, 0.25, 0.5, 1, 2) if end / (size * part) <= 8)
    return [number * step for number in range(int(end / step + 1e-9) + 1)]
