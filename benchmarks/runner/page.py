"""The HTML page: a group of plots and a table for each series. It is self-contained (inline SVG, no script, no network) and has a dark mode."""

import re
from html import escape

import plots

STYLE = plots.VARIABLES + plots.STYLE + """
* { box-sizing: border-box; }
body { margin: 1.5rem auto; max-width: 92rem; padding: 0 clamp(.5rem, 3vw, 1.5rem); font: 15px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); overflow-wrap: anywhere; }
h2 { margin: 2.5rem 0 .2rem; font-size: 1.15rem; }
p, li, dd { color: var(--soft); } p { max-width: 62rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(21rem, 100%), 1fr)); gap: 1rem 2rem; margin: .8rem 0; }
.plots svg { display: block; width: 100%; max-width: 30rem; height: auto; }
.wide { overflow-x: auto; overflow-wrap: normal; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: .2rem .5rem; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; } .right { text-align: right; }
th { color: var(--soft); font-weight: 600; }
summary { cursor: pointer; color: var(--soft); }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: 0 1rem; } dt { color: var(--soft); } dd { margin: 0; color: var(--ink); }
"""


def prose(text):
    """A paragraph in which `code` is marked as in Markdown."""
    return "<p>" + re.sub("`([^`]*)`", r"<code>\1</code>", escape(text)) + "</p>"


def table(headings, rows, right):
    def line(cells, tag):
        return "<tr>" + "".join(f"<{tag}{' class=right' if right(i) else ''}>{escape(text)}</{tag}>" for i, text in enumerate(cells)) + "</tr>"
    return (f'<div class="wide"><table><thead>{line(headings, "th")}</thead><tbody>{"".join(line(row, "td") for row in rows)}</tbody>'
            "</table></div>")


def section(title, about, drawn, headings, rows, right):
    """drawn: [(name, plot)]. The table of a section with plots is folded."""
    figures = f'<div class="plots">{"".join(plots.svg(plot, name) for name, plot in drawn)}</div>' if drawn else ""
    cells = table(headings, rows, right)
    if drawn:
        cells = f"<details><summary>Table</summary>{cells}</details>"
    return f"<section><h2>{escape(title)}</h2>{''.join(map(prose, about))}{figures}{cells}</section>"


def html(introduction, facts, skipped, sections):
    """facts: (what, value) of the machine; sections: as of render.sections."""
    text = "".join(map(prose, introduction))
    machine = "".join(f"<dt>{escape(what)}</dt><dd>{escape(str(value))}</dd>" for what, value in facts)
    skips = "".join(f"<li>skipped: {escape(line)}</li>" for line in skipped)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>xchg: benchmarks</title><link rel="icon" href="data:,"><style>{STYLE}</style></head><body>
<h1>Benchmarks</h1>
{text}
<dl>{machine}</dl><ul>{skips}</ul>
{"".join(section(*each) for each in sections)}
</body></html>
"""
