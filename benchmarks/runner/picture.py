"""The picture of README: server CPU an exchange, and p99 of the latency, of xchgd and its peers, with intervals.

Each group of series has one part, a row of panels. The parts of other groups are kept, as in parts.py.
"""

import re
from html import escape

import parts
import plots

PANEL, GAP, MARGIN = 400, 24, 16
TITLE = "Server CPU an exchange and p99 of the latency, of xchgd and its peers"

# The panels of each group: (series, figure, text in front of the caption).
PANELS = {
    "core": [("echo-64", "cpu_us", "Echo of 64 bytes, 64 connections, one core; "),
             ("open-half", "p99_us", "Echo, open loop at half of the server's best rate; ")],
    "languages": [("languages-echo-64-one-core", "cpu_us", "Echo of 64 bytes, 64 connections, one core; "),
                  ("languages-open-half-one-core", "p99_us", "Echo, open loop at half of the peer's best rate, both at this rate; ")],
    "http": [("http-64-wrk", "cpu_us", "HTTP by wrk, 64 connections, one core; "), ("http-64-wrk", "p99_us", "The same, a closed loop; ")],
}


def part(report):
    """The panels of a report side by side; None if it has none of their series."""
    series = {each["name"]: each for each in report["series"]}
    drawn = [plots.ratio_plot(series[name], figure, about) for name, figure, about in PANELS[report["group"]] if name in series]
    if not drawn:
        return None
    scale = PANEL / plots.WIDTH
    panels = "\n".join(f'<svg x="{i * (PANEL + GAP)}" width="{PANEL}" height="{height * scale:.0f}" viewBox="0 0 {plots.WIDTH} {height}">{elements}</svg>'
                       for i, (elements, height) in enumerate(drawn))
    return f'<svg class="part" x="{MARGIN}" y="0" width="{2 * PANEL + GAP}" height="{max(height for _, height in drawn) * scale:.0f}">\n{panels}\n</svg>'


def stack(found):
    """The whole picture from its parts, one below the other."""
    y, placed = MARGIN, []
    for name, each in found.items():
        height = int(re.search(r'height="(\d+)"', each).group(1))
        placed.append(parts.mark(name, re.sub(r' y="\d+"', f' y="{y}"', each, count=1)))
        y += height + GAP
    width, height = 2 * PANEL + GAP + 2 * MARGIN, y - GAP + MARGIN
    body = "\n".join(placed)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(TITLE)}">\n'
            f"<style>\n{plots.VARIABLES}{plots.STYLE}</style>\n"
            f'<rect width="{width}" height="{height}" rx="8" style="fill: var(--paper)"/>\n{body}\n</svg>\n')
