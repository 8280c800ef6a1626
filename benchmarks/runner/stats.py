"""Medians and spreads of pairs of runs, and tables of text."""

import statistics


def spread(values):
    """Median, second lowest and second highest value; with fewer than five values the lowest and the highest. None without values."""
    ordered = sorted(v for v in values if v is not None)
    if not ordered:
        return None
    edge = 1 if len(ordered) >= 5 else 0
    return {"median": statistics.median(ordered), "low": ordered[edge], "high": ordered[-1 - edge], "count": len(ordered)}


def median(values):
    found = spread(values)
    return found["median"] if found else None


def ratios(pairs, figure):
    """The spread of peer / baseline over pairs of runs; a pair without one of the two values does not count."""
    return spread([peer[figure] / base[figure] for peer, base in pairs if peer.get(figure) is not None and base.get(figure)])


def columns(rows, right):
    """Rows of cells as aligned text; right(i): is column i aligned to the right?"""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.rjust(w) if right(i) else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip()
                     for row in rows)


def verdict(low, high, limit):
    """Of an interval that contains the true figure, against the highest that is allowed."""
    return "pass" if high <= limit else "FAIL" if low > limit else "undecided"


def markdown(headings, rows, right):
    """The same as a Markdown table."""
    rule = "|" + "".join("---:|" if right(i) else "---|" for i in range(len(headings)))
    return "\n".join(["| " + " | ".join(headings) + " |", rule, *("| " + " | ".join(row) + " |" for row in rows)])
