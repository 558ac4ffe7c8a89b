"""Lines over steps as geometry for inline SVG: where the axes' ticks, the lines and their points lie."""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

WIDTH, HEIGHT = 380, 220  # of a chart, in the units of its SVG
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 36  # margins, in which the axes' numbers stand
FEW_POINTS = 30  # up to which each is marked
LOG_RATIO = 30  # of the largest to the smallest value, from which the axis of values is logarithmic


class Line(NamedTuple):
    """A line of a chart."""

    label: str
    steps: Sequence[int]  # ascending, at least one
    values: Sequence[float]  # finite, as many
    colour: str  # of CSS
    dashed: bool = False
    bounds: Sequence[tuple[float, float] | None] = ()  # of each value, where they are known


class Path(NamedTuple):
    """A line as it lies in a chart."""

    d: str  # of an SVG path
    points: list[tuple[float, float]]  # to be marked; [] where there are too many
    band: str  # of an SVG path round the bounds; "" where there are none
    line: Line


class Chart(NamedTuple):
    title: str
    x_label: str
    x_ticks: list[tuple[float, str]]  # where, and what stands there
    y_ticks: list[tuple[float, str]]
    logarithmic: bool  # the axis of values
    paths: list[Path]


class Axis(NamedTuple):
    """From numbers to places on the paper."""

    low: float
    high: float
    start: float  # the place of `low`
    end: float
    logarithmic: bool

    def place(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.logarithmic:
            low, high, at = math.log(low), math.log(high), math.log(value)
        return round(self.start + (at - low) / (high - low) * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            factors = (1, 2, 5) if self.high / self.low < 200 else (1,)
            apart = max(1, round(len(powers) / 6))
            found = [factor * 10.0**power for power in powers[::apart] for factor in factors]
        else:
            step = nice_step(self.high - self.low)
            found = [i * step for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        tolerance = 1e-9 * (self.high - self.low)
        return [value for value in found if self.low - tolerance <= value <= self.high + tolerance]


def draw_chart(title: str, lines: Sequence[Line]) -> Chart:
    """Lines over training steps, which begin at 0. Nothing is smoothed."""
    last = max(line.steps[-1] for line in lines)
    return _draw(title, "step", Axis(0, max(last, 1), LEFT, WIDTH - RIGHT, False), None, lines)


def draw_ladder(title: str, lines: Sequence[Line]) -> Chart:
    """Draw a chart over numbers of codes, which double from tick to tick."""
    counts = sorted({step for line in lines for step in line.steps})
    axis = Axis(counts[0], max(counts[-1], counts[0] + 1), LEFT + 8, WIDTH - RIGHT - 8, True)
    return _draw(title, "codes", axis, counts, lines)


def _draw(title: str, x_label: str, x: Axis, x_ticks: list[int] | None, lines: Sequence[Line]) -> Chart:
    bounds = [value for line in lines for both in line.bounds if both for value in both]
    y = _axis_of_values([value for line in lines for value in line.values] + bounds)
    paths = []
    for line in lines:
        places = thinned([(x.place(step), y.place(value)) for step, value in zip(line.steps, line.values, strict=True)])
        known = [(step, both) for step, both in zip(line.steps, line.bounds, strict=bool(line.bounds)) if both]
        edges = [(x.place(step), y.place(low)) for step, (low, _) in known]
        edges += [(x.place(step), y.place(high)) for step, (_, high) in reversed(known)]
        paths.append(Path(_d(places), places if len(line.steps) <= FEW_POINTS else [], _d(edges), line))
    return Chart(
        title,
        x_label,
        [(x.place(value), short(value)) for value in x_ticks or x.ticks()],
        [(y.place(value), short(value)) for value in y.ticks()],
        y.logarithmic,
        paths,
    )


def _d(places: list[tuple[float, float]]) -> str:
    """A line through places as the d of an SVG path; "" through none."""
    return "M" + " L".join(f"{right:g} {down:g}" for right, down in places) if places else ""


def _axis_of_values(values: list[float]) -> Axis:
    low, high = min(values), max(values)
    logarithmic = low > 0 and high / low >= LOG_RATIO
    if logarithmic:
        margin = (high / low) ** 0.04
        low, high = low / margin, high * margin
    else:
        margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0  # of a flat line, too
        low, high = low - margin, high + margin
    return Axis(low, high, HEIGHT - BOTTOM, TOP, logarithmic)


def thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Thin a line so that it looks alike on paper: in each unit of width the first, highest, lowest and last."""
    kept = []
    for _, group in groupby(points, key=lambda point: int(point[0])):
        column = list(group)
        ends = {0, len(column) - 1}
        by_height = sorted(range(len(column)), key=lambda i: column[i][1])
        kept += [column[i] for i in sorted(ends | {by_height[0], by_height[-1]})]
    return kept


def nice_step(span: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that divides `span` into at most five parts."""
    power = 10.0 ** math.floor(math.log10(span / 5))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span / 5 * (1 - 1e-9))


def short(value: float) -> str:
    """A number for the eye, in few characters: 15.95, 20k, 1.5M, 2e-05."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return "0" if abs(value) < 1e-12 else f"{value:.4g}"
