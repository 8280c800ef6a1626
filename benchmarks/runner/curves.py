"""Curves over a number of clients, as SVG without scripts. The x axis is logarithmic.

The colours are classes (c0 to c3) of the page's style sheet. Each class also has a marker of its own, so that the curves differ without
colours. A point without a value is drawn as a cross in a lane below the plot: the server stops there.
"""

import math
from dataclasses import dataclass, field
from html import escape

WIDTH, LEFT, RIGHT, TOP, PLOT = 340, 56, 20, 10, 190
LANE, AXIS = 20, 34  # below the plot: the lane of the crosses, the labels of the x axis
MARK = 3.6           # half the size of a marker
LANE_STEP = 10       # between the crosses of two curves


@dataclass
class Point:
    x: float
    y: float = None       # None: no value, drawn as a cross
    low: float = None
    high: float = None
    hollow: bool = False  # something other than the server limits this value
    title: str = ""


@dataclass
class Curve:
    label: str
    kind: int             # colour and marker
    thin: bool = False    # a dashed line without markers
    points: list = field(default_factory=list)


@dataclass
class Axis:
    """The y axis. text(value): a tick's label."""
    text: object
    log: bool = False
    top: float = 0        # the range contains it


def linear_ticks(top):
    """0 and up to five round values; the last one is at least top."""
    if top <= 0:
        return [0, 1]
    power = 10 ** math.floor(math.log10(top / 5))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * 5 >= top * (1 - 1e-9))
    return [step * i for i in range(math.ceil(top / step - 1e-9) + 1)]


def log_ticks(low, high):
    """Powers of ten around the values, at least two."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    return [10.0 ** i for i in range(first, max(last, first + 1) + 1)]


def scale_x(xs):
    """A function from a number of clients to its place."""
    low, high = math.log10(min(xs)), math.log10(max(xs))
    span = high - low or 1
    return lambda x: LEFT + (math.log10(x) - low) / span * (WIDTH - LEFT - RIGHT)


def scale_y(axis, ticks):
    """A function from a value to its place; ticks: the first and the last one are the edges."""
    look = math.log10 if axis.log else float
    low, high = look(ticks[0]), look(ticks[-1])
    return lambda y: TOP + PLOT - (look(y) - low) / (high - low) * PLOT


def ticks_of(axis, curves):
    values = [v for curve in curves for p in curve.points if p.y is not None for v in (p.y, p.low, p.high) if v is not None]
    if axis.log:
        positive = [v for v in values if v > 0] or [1]
        return log_ticks(min(positive), max(*positive, axis.top))
    return linear_ticks(max([axis.top, *values]))


def marker(kind, x, y, extra=""):
    """The marker of a curve: circle, square, triangle, diamond."""
    m = MARK
    shapes = (f"M{x - m:.1f} {y:.1f}a{m} {m} 0 1 0 {2 * m} 0a{m} {m} 0 1 0 {-2 * m} 0z",
              f"M{x - m:.1f} {y - m:.1f}h{2 * m}v{2 * m}h{-2 * m}z",
              f"M{x:.1f} {y - 1.3 * m:.1f}l{1.2 * m:.2f} {2.2 * m:.2f}h{-2.4 * m:.2f}z",
              f"M{x:.1f} {y - 1.4 * m:.1f}l{1.4 * m:.2f} {1.4 * m:.2f}l{-1.4 * m:.2f} {1.4 * m:.2f}l{-1.4 * m:.2f} {-1.4 * m:.2f}z")
    return f'<path d="{shapes[kind % len(shapes)]}" class="mark{extra}">'


def cross(x, y):
    m = MARK
    return f'<path d="M{x - m:.1f} {y - m:.1f}l{2 * m} {2 * m}m0 {-2 * m}l{-2 * m} {2 * m}" class="cross">'


def runs_of(points):
    """The points with a value, in runs that a cross interrupts."""
    runs = [[]]
    for point in points:
        if point.y is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def one_curve(curve, x_of, y_of, lane_y):
    """lane_y: the height of this curve's crosses."""
    parts = []
    for run in runs_of(curve.points):
        places = " ".join(f"{x_of(p.x):.1f},{y_of(p.y):.1f}" for p in run)
        parts.append(f'<polyline points="{places}" class="line"/>')
    for p in curve.points:
        x, title = x_of(p.x), f"<title>{escape(p.title)}</title></path>"
        if p.y is None:
            parts.append(cross(x, lane_y) + title)
            continue
        if p.low is not None and p.high > p.low and not curve.thin:
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y_of(p.low):.1f}" y2="{y_of(p.high):.1f}" class="whisker"/>')
        if not curve.thin:
            parts.append(marker(curve.kind, x, y_of(p.y), " hollow" if p.hollow else "") + title)
    return f'<g class="c{curve.kind}{" thin" if curve.thin else ""}">{"".join(parts)}</g>'


def grid(axis, ticks, y_of):
    return "".join(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_of(tick):.1f}" y2="{y_of(tick):.1f}" class="grid"/>'
                   f'<text x="{LEFT - 9}" y="{y_of(tick) + 4:.1f}" text-anchor="end">{escape(axis.text(tick))}</text>' for tick in ticks)


def chart(curves, axis, label):
    """One plot. label: for people who do not see it."""
    xs = sorted({p.x for curve in curves for p in curve.points})
    ticks = ticks_of(axis, curves)
    x_of, y_of = scale_x(xs), scale_y(axis, ticks)
    stopped = [curve for curve in curves if any(p.y is None for p in curve.points)]
    bottom = TOP + PLOT
    foot = bottom + (LANE + LANE_STEP * len(stopped) if stopped else 0)
    lane = f'<text x="{LEFT - 9}" y="{bottom + 24}" text-anchor="end">stops</text>' if stopped else ""
    x_labels = "".join(f'<text x="{x_of(x):.1f}" y="{foot + 15}" text-anchor="middle">{x:,}</text>' for x in xs)
    drawn = "".join(one_curve(curve, x_of, y_of, bottom + LANE + (LANE_STEP * stopped.index(curve) if curve in stopped else 0))
                    for curve in sorted(curves, key=lambda curve: not curve.thin))
    return (f'<svg viewBox="0 0 {WIDTH} {foot + AXIS}" role="img" aria-label="{escape(label)}">'
            f'{grid(axis, ticks, y_of)}{lane}{x_labels}'
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{foot + 30}" text-anchor="middle" class="soft">clients</text>{drawn}</svg>')


def sample(curve):
    """The marker and the line of a curve, for a legend."""
    mark = "" if curve.thin else marker(curve.kind, 14, 8) + "</path>"
    return (f'<svg viewBox="0 0 28 16" class="sample" aria-hidden="true"><g class="c{curve.kind}{" thin" if curve.thin else ""}">'
            f'<polyline points="1,8 27,8" class="line"/>{mark}</g></svg>')
