"""Charts as inline SVG text: lines with axes, a reliability diagram, an interval.

Colours come from the page: marks carry the classes ``axis``, ``grid``, ``mark``, ``series-0`` … ``series-5``, and text
is drawn in ``currentColor``, so one chart serves light and dark pages. Labels are escaped; the same numbers give the
same text.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, NamedTuple

COLOURS: Final = 6
"""Series further on take the first colours again."""
_WIDTH: Final = 480.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 466.0, 12.0, 250.0
"""The plotting area."""
_STRIP_TOP, _STRIP_BOTTOM = 312.0, 352.0
"""Where a reliability diagram draws its counts."""
_PANEL_HEIGHT, _PANEL_HEAD = 130.0, 32.0
"""One of several panels, and the room above it for its label."""
_NAMES, _ROW = 190.0, 26.0
"""Where names of rows end, and how high a row is."""
_MOST_POINTS: Final = 400
_DOTS_UP_TO: Final = 30


class Series(NamedTuple):
    """A curve: points ``(x, y)`` by ascending x; a band ``(x, low, high)`` behind it; the number of its colour."""

    name: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()
    colour: int | None = None
    """By default its place among the others."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves over one vertical axis; the axis holds ``within`` in any case."""

    label: str
    series: Sequence[Series]
    within: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Bin:
    """Judgements whose scores are in ``[low, high]``: how many, their mean score and their mean target."""

    low: float
    high: float
    count: int
    mean_score: float
    mean_target: float


@dataclass(frozen=True, slots=True)
class _Axis:
    """Maps data to pixels."""

    ticks: Sequence[float]
    start: float
    end: float

    def __call__(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def line_chart(series: Sequence[Series], x_label: str, y_label: str) -> str:
    """Curves over common axes; long ones are thinned by ``thinned``.

    Args:
        series: At least one, each with at least one point, all finite.
        x_label: What the horizontal axis counts.
        y_label: What the vertical axis measures.
    """
    x = _axis((x for each in series for x, _ in each.points), _LEFT, _RIGHT)
    y = _axis(_heights(series), _BOTTOM, _TOP)
    return _svg(296, f"{y_label} against {x_label}", _axes(x, y, x_label, y_label) + _curves(series, x, y))


def panel_chart(panels: Sequence[Panel], x_label: str, marks: Sequence[float] = ()) -> str:
    """Panels below one another over a common horizontal axis, so that what happens at the same time can be compared.

    A panel's label stands above it. One panel alone is as high as any other chart.

    Args:
        panels: At least one, from the top; each with at least one point.
        x_label: What the horizontal axis counts.
        marks: Where to draw a dashed line through all panels.
    """
    height, ticks = (_BOTTOM - _TOP, 6) if len(panels) == 1 else (_PANEL_HEIGHT, 4)
    x = _axis((x for panel in panels for each in panel.series for x, _ in each.points), _LEFT, _RIGHT)
    parts, bottom = [], 0.0
    for number, panel in enumerate(panels, 1):
        top = bottom + _PANEL_HEAD
        bottom = top + height
        y = _axis((*_heights(panel.series), *panel.within), bottom, top, ticks)
        parts.append(_text(x.start, top - 10, panel.label, "start"))
        parts.append(_axes(x, y, x_label if number == len(panels) else None))
        parts += [_line(x(mark), bottom, x(mark), top, "diagonal") for mark in marks]
        parts.append(_curves(panel.series, x, y))
    return _svg(round(bottom + 46), f"{', '.join(panel.label for panel in panels)} against {x_label}", "".join(parts))


def interval_chart(rows: Sequence[tuple[str, float, float, float]]) -> str:
    """Shares with their intervals below one another.

    Args:
        rows: At least one ``(name, low, share, high)``, from the top.
    """
    x = _Axis([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], _NAMES, _RIGHT - 20)  # room for the last label
    bottom = _TOP + _ROW * len(rows)
    parts = []
    for tick in x.ticks:
        parts.append(_line(x(tick), bottom, x(tick), _TOP, "grid"))
        parts.append(_text(x(tick), bottom + 19, f"{100 * tick:.0f} %"))
    for number, (name, low, share, high) in enumerate(rows):
        y = _TOP + _ROW * (number + 0.5)
        parts.append(_text(_NAMES - 8, y + 4, name, "end"))
        parts.append(_line(x(low), y, x(high), y, "range"))
        title = f"{name}: {100 * share:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
        parts.append(
            f'<circle class="mark" cx="{x(share):.1f}" cy="{y:.1f}" r="5"><title>{escape(title)}</title></circle>'
        )
    return _svg(round(bottom + 28), "success with its 95 % interval", "".join(parts))


def reliability_diagram(bins: Sequence[Bin]) -> str:
    """Mean target against mean score with the diagonal of perfect calibration; below, how many judgements a bin holds.

    Args:
        bins: At least one; empty ones show as a count of 0.
    """
    filled = [each for each in bins if each.count]
    values = [0.0, 1.0, *(value for each in bins for value in (each.low, each.high))]
    values += [value for each in filled for value in (each.mean_score, each.mean_target)]
    x, y = _axis(values, _LEFT, _RIGHT), _axis(values, _BOTTOM, _TOP)
    diagonal = _line(x.start, y.start, x.end, y.end, "diagonal")
    curve = _curve([(each.mean_score, each.mean_target) for each in filled], x, y, "series-0") if filled else ""
    body = _axes(x, y, "mean score", "mean target") + diagonal + curve + _counts(bins, x)
    return _svg(382, "mean target against mean score, with the number of judgements in each bin", body)


def interval_bar(low: float, centre: float, high: float) -> str:
    """A share with its interval on a line from 0 to 1."""
    axis = _Axis((0.0, 1.0), 4.0, 116.0)
    ticks = "".join(_line(axis(share), 4, axis(share), 12, "axis") for share in (0.0, 0.5, 1.0))
    return (
        f'<svg class="interval" viewBox="0 0 120 16" role="img" aria-label="{low:.3f} to {high:.3f}">'
        f"{_line(4, 8, 116, 8, 'axis')}{ticks}{_line(axis(low), 8, axis(high), 8, 'range')}"
        f'<circle class="mark" cx="{axis(centre):.1f}" cy="8" r="4"></circle></svg>'
    )


def nice_ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers, evenly spaced, from at most ``low`` to at least ``high``; at least two.

    >>> nice_ticks(0.13, 0.92)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> nice_ticks(7, 7)
    [6.0, 8.0]
    """
    span = (high - low) or abs(high) or 1.0
    magnitude = 10.0 ** math.floor(math.log10(span / (about - 1)))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude * (about - 1) >= span * (1 - 1e-9))
    first = math.floor(low / step + 1e-6)  # a rounding error below 0 is no reason for a tick below 0
    last = max(math.ceil(high / step - 1e-6), first + 1)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def thinned(points: Sequence[tuple[float, float]], most: int = _MOST_POINTS) -> list[tuple[float, float]]:
    """At most ``most`` points, each the mean of as many consecutive ones as that takes.

    >>> thinned([(1, 10), (2, 20), (3, 30)], most=2)
    [(1.5, 15.0), (3.0, 30.0)]
    """
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / most)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _axis(values: Iterable[float], start: float, end: float, about: int = 6) -> _Axis:
    known = list(values)
    return _Axis(nice_ticks(min(known), max(known), about), start, end)


def _heights(series: Iterable[Series]) -> list[float]:
    """Everything that a vertical axis has to hold."""
    return [
        y
        for each in series
        for y in (*(y for _, y in each.points), *(end for _, low, high in each.band for end in (low, high)))
    ]


def _axes(x: _Axis, y: _Axis, x_label: str | None, y_label: str | None = None) -> str:
    """Grid, ticks and labels; without ``x_label`` the horizontal axis is labelled in a panel further down."""
    parts = []
    for tick in y.ticks:
        parts.append(_line(x.start, y(tick), x.end, y(tick), "grid"))
        parts.append(_text(x.start - 7, y(tick) + 4, f"{tick:g}", "end"))
    for tick in x.ticks:
        parts.append(_line(x(tick), y.start, x(tick), y.start + 5, "axis"))
        if x_label is not None:
            parts.append(_text(x(tick), y.start + 19, f"{tick:g}"))
    parts.append(_line(x.start, y.start, x.end, y.start, "axis"))
    parts.append(_line(x.start, y.start, x.start, y.end, "axis"))
    if x_label is not None:
        parts.append(_text((x.start + x.end) / 2, y.start + 38, x_label))
    if y_label is not None:
        place = f"translate(13 {(y.start + y.end) / 2:.1f}) rotate(-90)"
        parts.append(f'<text transform="{place}" text-anchor="middle">{escape(y_label)}</text>')
    return "".join(parts)


def _curves(series: Sequence[Series], x: _Axis, y: _Axis) -> str:
    """Bands first, so that they hide no curve."""
    styles = [
        f"series-{(number if each.colour is None else each.colour) % COLOURS}" for number, each in enumerate(series)
    ]
    pairs = list(zip(series, styles, strict=True))
    bands = [_band(each.band, x, y, style) for each, style in pairs if each.band]
    return "".join([*bands, *(_curve(thinned(each.points), x, y, style, each.name) for each, style in pairs)])


def _band(band: Sequence[tuple[float, float, float]], x: _Axis, y: _Axis, style: str) -> str:
    upper = [f"{x(a):.1f},{y(high):.1f}" for a, _, high in band]
    lower = [f"{x(a):.1f},{y(low):.1f}" for a, low, _ in reversed(band)]
    return f'<g class="{style}"><polygon points="{" ".join(upper + lower)}"></polygon></g>'


def _curve(points: Sequence[tuple[float, float]], x: _Axis, y: _Axis, style: str, name: str = "") -> str:
    """A line; where points are few, each is a dot that tells its numbers."""
    pixels = [(f"{x(a):.1f}", f"{y(b):.1f}") for a, b in points]
    path = " ".join(f"{a},{b}" for a, b in pixels)
    circles = ""
    if len(pixels) <= _DOTS_UP_TO:
        titles = [escape(f"{name} {value:.4g} at {place:g}".strip()) for place, value in points]
        circles = "".join(
            f'<circle cx="{a}" cy="{b}" r="3"><title>{title}</title></circle>'
            for (a, b), title in zip(pixels, titles, strict=True)
        )
    return f'<g class="{style}"><polyline points="{path}"></polyline>{circles}</g>'


def _counts(bins: Sequence[Bin], x: _Axis) -> str:
    most = max(each.count for each in bins) or 1
    parts = [_line(x.start, _STRIP_BOTTOM, x.end, _STRIP_BOTTOM, "axis")]
    for each in bins:
        left, right = x(each.low) + 1, x(each.high) - 1
        top = _STRIP_BOTTOM - (_STRIP_BOTTOM - _STRIP_TOP) * each.count / most
        parts.append(
            f'<rect class="mark" x="{left:.1f}" y="{top:.1f}" width="{max(0.0, right - left):.1f}" '
            f'height="{_STRIP_BOTTOM - top:.1f}"><title>{each.count} judgements</title></rect>'
        )
        parts.append(_text((left + right) / 2, _STRIP_BOTTOM + 14, _short(each.count), "middle", "small"))
    parts.append(_text(x.start - 7, _STRIP_BOTTOM + 14, "count", "end", "small"))
    return "".join(parts)


def _short(count: int) -> str:
    """A count in at most five characters, as bins are narrow."""
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k"


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"></line>'


def _text(x: float, y: float, text: str, anchor: str = "middle", style: str = "label") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: int, description: str, body: str) -> str:
    attributes = f'viewBox="0 0 {_WIDTH:.0f} {height}" role="img" aria-label="{escape(description)}"'
    return f'<svg class="chart" {attributes}>{body}</svg>'
