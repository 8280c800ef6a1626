#!/usr/bin/env python3
"""Draws an SVG from a text drawing: docs/picture.py FILE.txt >FILE.svg

Boxes and lines consist of `+`, `-` and `|`; a line may end in `v`, `^`, `<` or `>`.  Everything else is text.  The colours follow
the reader's light or dark colour scheme.
"""

import html
import re
import sys

X, Y, MARGIN = 8, 18, 16  # size of a character cell, and the space around the drawing
STYLE = """
  .line { stroke-width: 1.5; stroke-linecap: round; fill: none; }
  text { font: 13.33px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
  .back { fill: #ffffff; } .box { fill: #eaf0fa; } .line { stroke: #4d6391; } .head { fill: #4d6391; } text { fill: #1f2937; }
  @media (prefers-color-scheme: dark) {
    .back { fill: #0d1117; } .box { fill: #1b2536; } .line { stroke: #8ba3d0; } .head { fill: #8ba3d0; } text { fill: #e2e8f0; }
  }
"""
HEADS = {"v": (0, 1, "l-5 -9h10z"), "^": (0, -1, "l-5 9h10z"), ">": (1, 0, "l-9 -5v10z"), "<": (-1, 0, "l9 -5v10z")}


def center(x, y):
    return MARGIN + x * X + X / 2, MARGIN + y * Y + Y / 2


def find_strokes(rows):
    """The cells (x, y) that are drawn as lines: each `|`, runs of `-`, and `v` and `^` at the end of a `|`."""
    cells = set()
    for y, row in enumerate(rows):
        for match in re.finditer(r"[-+<>]*--[-+<>]*|\|", row):
            cells.update((x, y) for x in range(*match.span()))
        cells.update((x, y) for x, cell in enumerate(row) if cell == "v" and rows[y - 1][x] == "|")
        cells.update((x, y) for x, cell in enumerate(row) if cell == "^" and rows[y + 1][x] == "|")
    return cells


def boxes(rows):
    """(left, top, right, bottom) of each rectangle with closed sides."""
    for top, row in enumerate(rows):
        for match in re.finditer(r"\+-+\+", row):
            left, right, bottom = match.start(), match.end() - 1, top + 1
            while rows[bottom][left] == rows[bottom][right] == "|":
                bottom += 1
            if bottom > top + 1 and rows[bottom][left:right + 1] == match.group(0):
                yield left, top, right, bottom


def lines(rows, strokes):
    """((x, y), (x, y)): the two cells at the ends of each straight line; a line that meets another one ends on it."""
    for dx, dy, parts in ((1, 0, "-+<>"), (0, 1, "|+v^")):
        def is_part(x, y):
            return (x, y) in strokes and rows[y][x] in parts
        for x, y in sorted(strokes):
            if is_part(x, y) and not is_part(x - dx, y - dy):
                first, last = 0, 0
                while is_part(x + dx * (last + 1), y + dy * (last + 1)):
                    last += 1
                if last > 0:
                    first -= (x - dx, y - dy) in strokes
                    last += (x + dx * (last + 1), y + dy * (last + 1)) in strokes
                    yield (x + dx * first, y + dy * first), (x + dx * last, y + dy * last)


def draw(drawing):
    rows = drawing.rstrip("\n").split("\n")
    width = max(map(len, rows))
    rows = [row.ljust(width) for row in rows] + [" " * width]  # so that there is a row below each
    strokes = find_strokes(rows)
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width * X + 2 * MARGIN} {(len(rows) - 1) * Y + 2 * MARGIN}">'
    yield f'<style>{STYLE}</style>\n<rect class="back" width="100%" height="100%" rx="8"/>'
    for left, top, right, bottom in boxes(rows):
        (x, y), (end_x, end_y) = center(left, top), center(right, bottom)
        yield f'<rect class="box" x="{x:g}" y="{y:g}" width="{end_x - x:g}" height="{end_y - y:g}"/>'
    for begin, end in lines(rows, strokes):
        yield '<path class="line" d="M{:g} {:g}L{:g} {:g}"/>'.format(*center(*begin), *center(*end))
    for x, y in sorted(strokes):
        if rows[y][x] in HEADS:
            dx, dy, shape = HEADS[rows[y][x]]
            tip = center(x + dx, y + dy) if (x + dx, y + dy) in strokes else center(x, y)
            yield '<path class="head" d="M{:g} {:g}{}"/>'.format(*tip, shape)
    for y, row in enumerate(rows):
        for match in re.finditer(r"\S+(?: \S+)*", "".join(" " if (x, y) in strokes else cell for x, cell in enumerate(row))):
            yield f'<text x="{MARGIN + match.start() * X}" y="{MARGIN + y * Y + 13}">{html.escape(match.group(0))}</text>'
    yield "</svg>"


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as source:
        print("\n".join(draw(source.read())))
