"""Medians and spreads of pairs."""

import statistics


def spread(values):
    """Median, second lowest and second highest; of fewer than five values the lowest and the highest. None of none."""
    ordered = sorted(v for v in values if v is not None)
    if not ordered:
        return None
    edge = 1 if len(ordered) >= 5 else 0
    return {"median": statistics.median(ordered), "low": ordered[edge], "high": ordered[-1 - edge], "count": len(ordered)}


def median(values):
    found = spread(values)
    return found["median"] if found else None


def ratios(pairs, figure):
    """The spread of peer / baseline over pairs of runs; a pair that lacks one of them does not count."""
    quotients = []
    for peer, baseline in pairs:
        if peer.get(figure) is not None and baseline.get(figure):
            quotients.append(peer[figure] / baseline[figure])
    return spread(quotients)
