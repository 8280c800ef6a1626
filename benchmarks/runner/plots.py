"""Plots of a report, as SVG without script. Every plot is WIDTH units wide, so a telephone shows it at almost full size.

The classes of the elements take their colours from STYLE, which has a light and a dark scheme. Bars begin at zero. A whisker is the
interval of stats.spread. Rows are sorted by their value, and the baseline's whisker is that of its pairs with itself (A/A).
"""

import math
import textwrap
from dataclasses import dataclass, field
from html import escape

WIDTH, LEFT, BAR, STEP, TOP = 360, 116, 158, 19, 20
LINE = 14         # height of a line of the caption
COLUMNS = 62      # characters of a line of the caption
RATIO_MAX = 6.0   # a longer bar is cut and marked
QUANTILES = ("p50_us", "p90_us", "p99_us")

VARIABLES = """:root { color-scheme: light dark; --ink: #1c2127; --soft: #59636f; --line: #d8dde4; --paper: #ffffff; --own: #1f6feb; --peer: #9aa5b4;
  --base: #5f6b7a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ee; --soft: #a3adbb; --line: #363d47; --paper: #14171b; --own: #58a6ff; --peer: #66717f; --base: #aab4c2; }
}
"""
STYLE = """svg text { font: 11.5px system-ui, sans-serif; fill: var(--ink); } svg .soft { fill: var(--soft); } svg .title { font-weight: 600; font-size: 13px; }
svg .own { fill: var(--own); } svg .peer { fill: var(--peer); } svg .base { fill: var(--base); } svg text.own { fill: var(--own); font-weight: 600; }
svg .one { stroke: var(--ink); stroke-dasharray: 3 3; } svg .whisker { stroke: var(--ink); stroke-width: 1.2; fill: none; }
svg .grid { stroke: var(--line); }
"""


@dataclass
class Mark:
    """A row of a plot. values: [(what, median, low, high)]; without values it is named, with a word on why."""

    name: str
    kind: str                     # own, peer or base
    label: str = ""               # to the right of a bar
    values: list = field(default_factory=list)

    def tip(self):
        return escape("; ".join([self.name, *(f"{what} {median:.4g} [{low:.4g} to {high:.4g}]" for what, median, low, high in self.values)]))


def number(value, digits=3):
    """Three significant digits, thousands with a k."""
    if value is None:
        return "-"
    if value >= 100000:
        return f"{value / 1000:,.0f}k"
    if value >= 10000:
        return f"{value / 1000:.1f}k"
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.{digits - 1 if value < 10 else digits - 2}f}"


def kind_of(name, baseline=None):
    """An xchg server, the baseline (which is one, too, among other languages), or a peer."""
    return "own" if name.startswith("xchgd") or name == "http-example" else "base" if name == baseline else "peer"


# ---- drawing -------------------------------------------------------------------------------------

def head(title, caption):
    """Title and caption, and the y at which the rows begin."""
    lines = textwrap.wrap(caption, COLUMNS, break_on_hyphens=False)
    texts = [f'<text x="2" y="14" class="title">{escape(title)}</text>']
    texts += [f'<text x="2" y="{TOP + 11 + LINE * i}" class="soft">{escape(line)}</text>' for i, line in enumerate(lines)]
    return "".join(texts), TOP + LINE * len(lines) + 6


def row_head(mark, y):
    color = ' class="own"' if mark.kind == "own" else ""
    return f'<text x="{LEFT - 6}" y="{y + 13}" text-anchor="end"{color}>{escape(mark.name)}</text>'


def whisker(low, high, y):
    return f'<path class="whisker" d="M{low:.1f} {y - 3:.1f}v6m0 -3H{high:.1f}m0 -3v6"/>'


def bars(title, caption, marks, limit=None, one=False, longer=False):
    """A horizontal bar for each mark, the best one first: (SVG elements, height).

    limit: a longer bar is cut; one: draw a line at 1; longer: longer bars are better.
    """
    marks = sorted(marks, key=lambda mark: mark.values[0][1] * (-1 if longer else 1) if mark.values else math.inf)
    found, y = head(title, caption)
    tops = [min(mark.values[0][3], limit or math.inf) for mark in marks if mark.values]
    scale, bottom = BAR / max([1.2 if one else 0, *tops, 1e-9]), y + STEP * len(marks)
    for mark in marks:
        found += f"<g><title>{mark.tip()}</title>{row_head(mark, y)}"
        if mark.values:
            _, median, low, high = mark.values[0]
            end, low, high = (LEFT + min(value * scale, BAR) for value in (median, low, high))
            found += f'<rect x="{LEFT}" y="{y + 3}" width="{max(end - LEFT, 1):.1f}" height="{STEP - 6}" rx="2" class="{mark.kind}"/>'
            found += whisker(low, high, y + STEP / 2)
            if median * scale > BAR + 0.05:  # the bar is cut
                found += f'<path class="whisker" d="M{LEFT + BAR - 8} {y + 1}l-4 {STEP - 2}m5 0l4 {2 - STEP}"/>'
        soft = "" if mark.values else ' class="soft"'
        found += f'<text x="{WIDTH - 2}" y="{y + 13}" text-anchor="end"{soft}>{escape(mark.label)}</text></g>'
        y += STEP
    if one:
        at = LEFT + scale
        found += f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{bottom - STEP * len(marks)}" y2="{bottom}" class="one"/>'
    return found, bottom + 6


def ticks(low, high):
    """Powers of ten from low to high, and 2 and 5 times them within three decades."""
    steps = (1, 2, 5) if high / low < 1000 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0 ** power for power in powers for step in steps if low <= step * 10.0 ** power <= high]


def shape(index, x, y, kind):
    """A circle, a square or a triangle: the quantiles differ by more than their place."""
    if index == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="{kind}"/>'
    if index == 1:
        return f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" class="{kind}"/>'
    return f'<path d="M{x:.1f} {y - 4.5:.1f}l4.8 8.5h-9.6z" class="{kind}"/>'


def time_text(us):
    return f"{us:g} us" if us < 1000 else f"{us / 1000:g} ms" if us < 1e6 else f"{us / 1e6:g} s"


def dots(title, caption, marks):
    """Up to three values of each mark on a logarithmic axis of microseconds: (SVG elements, height)."""
    marks = sorted(marks, key=lambda mark: mark.values[-1][1] if mark.values else math.inf)
    found, y = head(title, caption)
    numbers = [value for mark in marks for _, *values in mark.values for value in values if value > 0]
    low, high = (min(numbers) / 1.15, max(numbers) * 1.15) if numbers else (1, 10)
    right, bottom = WIDTH - 12, y + STEP * len(marks)

    def place(value):
        return LEFT + (right - LEFT) * math.log(max(value, low) / low) / math.log(high / low)
    last = -math.inf
    for tick in ticks(low, high):
        at = place(tick)
        found += f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y}" y2="{bottom}" class="grid"/>'
        if at - last > 42:
            found += f'<text x="{at:.1f}" y="{bottom + 13}" text-anchor="middle" class="soft">{time_text(tick)}</text>'
            last = at
    for mark in marks:
        middle = y + STEP / 2
        found += f"<g><title>{mark.tip()}</title>{row_head(mark, y)}"
        if mark.values:
            found += "".join(whisker(place(least), place(most), middle) for _, _, least, most in mark.values)
            found += "".join(shape(i, place(median), middle, mark.kind) for i, (_, median, _, _) in enumerate(mark.values))
        else:
            found += f'<text x="{LEFT + 4}" y="{y + 13}" class="soft">{escape(mark.label)}</text>'
        found += "</g>"
        y += STEP
    return found, bottom + 20


def svg(plot, name):
    """A plot as an element of a page."""
    elements, height = plot
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(name)}">{elements}</svg>'


# ---- the plots of a series -----------------------------------------------------------------------

NO_FIGURE = "no figure"


def ratio_marks(series, figure):
    """A mark for the baseline, with the interval of its A/A pairs, and for each row. In an open loop the baseline has each row's rate."""
    again, base = series["again"], series["baseline_values"]
    spread = again and again["ratios"][figure]
    low, high = (spread["low"], spread["high"]) if spread else (1, 1)
    label = f"{number(base[figure])} · 1" if base and base[figure] else "1"
    marks = [Mark(series["baseline"], kind_of(series["baseline"], series["baseline"]), label, [("A/A", 1, low, high)])]
    for row in series["rows"]:
        found = row["ratios"][figure]
        if found is None:
            marks.append(Mark(row["server"], kind_of(row["server"]), NO_FIGURE))
        else:
            marks.append(Mark(row["server"], kind_of(row["server"]), f"{number(row['values'][figure])} · {found['median']:.2f}",
                              [("ratio", found["median"], found["low"], found["high"])]))
    return marks


def latency_marks(series):
    """p50, p90 and p99 of the baseline, if all rows share one, and of each row: absolute, with their intervals over all runs."""
    def mark(name, intervals):
        values = [(figure[:3], *(intervals[figure][key] for key in ("median", "low", "high"))) for figure in QUANTILES if intervals[figure]]
        return Mark(name, kind_of(name, series["baseline"]), "" if values else NO_FIGURE, values)
    base = [mark(series["baseline"], series["baseline_intervals"])] if series["baseline_intervals"] else []
    return base + [mark(row["server"], row["intervals"]) for row in series["rows"]]


CAPTIONS = {
    "cpu_us": ("Server CPU an exchange", "us · ratio to {baseline}: shorter is better"),
    "rate": ("Exchanges a second", "ratio to {baseline}: longer is better"),
    "p90_us": ("p90 of the latency", "us · ratio to {baseline} at the same rate: shorter is better"),
    "p99_us": ("p99 of the latency", "us · ratio to {baseline}: shorter is better"),
}


def ratio_plot(series, figure, about=""):
    title, caption = CAPTIONS[figure]
    return bars(title, about + caption.format(baseline=series["baseline"]), ratio_marks(series, figure), RATIO_MAX, one=True, longer=figure == "rate")


def main_figure(series):
    """The figure that compares servers best: CPU; in an open loop, which has a given load, the p90; without pinning, the rate."""
    return "p90_us" if series["open_loop"] else "cpu_us" if series["pinned"] or series["baseline"] not in ("bare", "bare-answer") else "rate"


def of_series(series):
    """The plots of a series: [(name, (elements, height))]. CPU, latency and, in a closed loop, the rate."""
    figures = ["cpu_us", "p90_us"] if series["open_loop"] else ["cpu_us", "rate"]
    plots = [(f"{series['title']}: {CAPTIONS[figure][0]}", ratio_plot(series, figure)) for figure in figures]
    latency = dots("Latency", "circle p50, square p90, triangle p99: to the left is better", latency_marks(series))
    return [plots[0], (f"{series['title']}: latency", latency), *plots[1:]]


def of_single(each):
    """The plot of the memory of idle connections: figures `NAME: silent` and `NAME: spoken`; none of other measurements."""
    names = {}
    for name, values in each["figures"].items():
        server, separator, what = name.partition(": ")
        if separator and values:
            names.setdefault(what, []).append((server, values))
    found = []
    for what, rows in names.items():
        marks = [Mark(server, kind_of(server), number(values[0]), [(what, values[0], min(values), max(values))]) for server, values in rows]
        title = {"silent": "Idle connection that never spoke", "spoken": "Idle connection that spoke once"}.get(what, what)
        own = [values[0] for server, values in rows if server == "xchgd"]  # a thread for each connection has a hundred times as much
        drawn = bars(title, "resident bytes of the server: shorter is better", marks, limit=RATIO_MAX * own[0] if own and own[0] > 0 else None)
        found.append((f"{each['title']}: {what}", drawn))
    return found
