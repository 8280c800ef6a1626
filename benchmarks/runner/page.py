"""The report as one self-contained page: a chart of ratios and a table for each series; inline SVG, light and dark, no network."""

from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1c2127; --soft: #5f6b7a; --line: #d8dde4; --paper: #ffffff; --own: #1f6feb; --peer: #9aa5b4; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ee; --soft: #98a3b3; --line: #363d47; --paper: #14171b; --own: #58a6ff; --peer: #66717f; --bad: #ff8a80; }
}
body { margin: 2rem auto; max-width: 92rem; padding: 0 1rem; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
h2 { margin: 2.5rem 0 .2rem; font-size: 1.15rem; }
p, li, dd, dt { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: .2rem .5rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } td:first-child, th:first-child, td:last-child, th:last-child { text-align: left; }
svg { display: block; width: 100%; max-width: 56rem; height: auto; margin: .6rem 0; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); } svg .soft { fill: var(--soft); }
.own { fill: var(--own); } .peer { fill: var(--peer); } .one { stroke: var(--ink); stroke-dasharray: 3 3; } .whisker { stroke: var(--ink); }
dl { display: grid; grid-template-columns: max-content auto; gap: 0 1rem; } dd { margin: 0; }
"""

LEFT, BAR, RIGHT, STEP = 150, 560, 110, 22
LIMIT = 6.0  # a longer bar is cut and marked


def chart_figure(series):
    """What the bars show: CPU; in an open loop, whose load is given, the median latency; unpinned, where CPU time moves to and fro, the rate."""
    if series["open_loop"]:
        return "p50_us", "median latency / the baseline's: shorter is better"
    if not series["pinned"]:
        return "rate", "exchanges a second / the baseline's: longer is better"
    return "cpu_us", "server CPU per exchange / the baseline's: shorter is better"


def bar(y, row, spread, scale):
    name = escape(row["server"])
    label = f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{name}</text>'
    if spread is None:
        return label + f'<text x="{LEFT + 4}" y="{y + 14}" class="soft">no figure</text>'
    kind = "own" if row["server"].startswith("xchgd") else "peer"
    end = LEFT + min(spread["median"] * scale, BAR)
    low, high = (LEFT + min(spread[k] * scale, BAR) for k in ("low", "high"))
    title = f"{name}: {spread['median']:.3f}, {spread['low']:.3f} to {spread['high']:.3f}, {spread['count']} pairs"
    cut = "+" if spread["median"] * scale > BAR else ""
    return (label + f'<rect x="{LEFT}" y="{y + 3}" width="{end - LEFT:.1f}" height="{STEP - 8}" rx="2" class="{kind}"><title>{title}</title></rect>'
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + STEP / 2 - 1}" y2="{y + STEP / 2 - 1}" class="whisker"/>'
            f'<text x="{max(end, high) + 6:.1f}" y="{y + 14}">{spread["median"]:.2f}{cut}</text>')


def chart(series):
    figure, caption = chart_figure(series)
    spreads = [row["ratios"][figure] for row in series["rows"]]
    top = max([1.2, *[min(s["high"], LIMIT) for s in spreads if s]])
    scale = BAR / top
    height = STEP * (len(spreads) + 1) + 8
    bars = "".join(bar(STEP * (i + 1), row, spread, scale) for i, (row, spread) in enumerate(zip(series["rows"], spreads)))
    one = LEFT + scale
    return (f'<svg viewBox="0 0 {LEFT + BAR + RIGHT} {height}" role="img" aria-label="{escape(series["title"])}: {caption}">'
            f'<text x="{LEFT}" y="13" class="soft">{caption}</text>{bars}'
            f'<line x1="{one:.1f}" x2="{one:.1f}" y1="{STEP}" y2="{height - 4}" class="one"/></svg>')


def table(headings, rows):
    head = "".join(f"<th>{escape(text)}</th>" for text in headings)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def html(report, headings, cells, facts, limits=None):
    """facts: (what, value) of the machine; cells(series): the rows of its table; limits: headings and rows of what must be reached."""
    machine = "".join(f"<dt>{escape(what)}</dt><dd>{escape(str(value))}</dd>" for what, value in facts)
    skipped = "".join(f"<li>skipped: {escape(line)}</li>" for line in report["skipped"])
    parts = [f"<h2>{escape(s['title'])}</h2>{chart(s)}{table(headings, cells(s))}" for s in report["series"]]
    if limits:
        parts.insert(0, f"<h2>What xchgd must reach</h2>{table(*limits)}")
    complete = "" if report["complete"] else " It was interrupted: not all rows are here."
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>xchg: benchmarks of {report['machine']['date']}</title><link rel="icon" href="data:,"><style>{STYLE}</style></head><body>
<h1>xchg beside its peers</h1>
<p>{escape(report['command'])}, {report['machine']['date']}, {report['seconds'] / 60:.0f} minutes.{complete} Ratios are medians of
alternating pairs of runs to the baseline of the series; the thin line is the second lowest to the second highest. benchmarks/README.md defines every figure.</p>
<dl>{machine}</dl><ul>{skipped}</ul>
{''.join(parts)}
</body></html>
"""
