"""Medians and spreads of pairs of runs, and tables of text."""

import math
import statistics


LEVEL = 0.90  # the least probability with which an interval contains the true median


def rank(count):
    """(k, level): the k-th lowest and the k-th highest of count independent values contain their true median with this probability.

    Each value is above the median with probability 1/2, whatever its distribution. So the number of values below the median is
    binomial. k is the largest one with at least LEVEL; 1 if there is none. 8 values: k = 2, level 0.93. 32 values: k = 11, level 0.95.
    """
    found, outside = (1, 1 - 2 / 2 ** count), 0
    for k in range(1, count // 2 + 1):
        outside += 2 * math.comb(count, k - 1) / 2 ** count
        if outside > 1 - LEVEL:
            break
        found = k, 1 - outside
    return found


def spread(values):
    """Median, and the interval of rank() around it. The level of the interval is below LEVEL if there are fewer than five values."""
    ordered = sorted(v for v in values if v is not None)
    if not ordered:
        return None
    k, level = rank(len(ordered))
    return {"median": statistics.median(ordered), "low": ordered[k - 1], "high": ordered[-k], "count": len(ordered), "level": round(level, 3)}


def median(values):
    found = spread(values)
    return found["median"] if found else None


def ratios(pairs, figure):
    """The spread of peer / baseline over pairs of runs; a pair without one of the two values does not count."""
    return spread([peer[figure] / base[figure] for peer, base in pairs if peer.get(figure) is not None and base.get(figure)])


def count(number, word):
    return f"{number} {word}{'' if number == 1 else 's'}"


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
