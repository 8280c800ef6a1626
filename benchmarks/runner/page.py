"""The HTML page: a chart of ratios and a table for each series. It is self-contained (inline SVG, no network) and has a dark mode."""

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
LIMIT = 6.0  # a longer bar is shortened and marked


def chart_figure(series):
    """The figure of the bars: CPU; in an open loop, which has a given load, the median latency; without pinning, the rate."""
    if series["open_loop"]:
        return "p50_us", "median latency, ratio to the baseline: shorter is better"
    if not series["pinned"]:
        return "rate", "exchanges a second, ratio to the baseline: longer is better"
    return "cpu_us", "server CPU per exchange, ratio to the baseline: shorter is better"


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


def html(introduction, facts, skipped, sections):
    """facts: (what, value) of the machine; sections: as of render.sections."""
    text = "".join(f"<p>{escape(each)}</p>" for each in introduction)
    machine = "".join(f"<dt>{escape(what)}</dt><dd>{escape(str(value))}</dd>" for what, value in facts)
    skips = "".join(f"<li>skipped: {escape(line)}</li>" for line in skipped)
    parts = "".join(f"<h2>{escape(title)}</h2><p>{escape(about)}</p>{chart}{table(headings, rows)}" for title, about, chart, headings, rows, _ in sections)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>xchg: benchmarks</title><link rel="icon" href="data:,"><style>{STYLE}</style></head><body>
<h1>Benchmarks</h1>
{text}
<dl>{machine}</dl><ul>{skips}</ul>
{parts}
</body></html>
"""
