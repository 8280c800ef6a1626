"""What xchgd must reach: figures of rows, each with a target and a stretch, printed with pass or fail.

A limit is a ratio to the baseline, or to another row of the same series (`to`), or, of `calls`, the count itself.
"""

from dataclasses import dataclass


@dataclass
class Limit:
    series: str
    figure: str            # of load.FIGURES, or "calls"
    target: float
    stretch: float = None
    server: str = "xchgd"
    to: str = None         # another row, in place of the baseline: ratio of the two ratios to it
    least: bool = False    # at least, not at most


LIMITS = [
    Limit("echo-64", "cpu_us", 1.05, 1.02),
    Limit("echo-1000", "cpu_us", 1.05, 1.00),
    Limit("echo-10000", "cpu_us", 0.90, 0.85),
    Limit("pipeline-16", "cpu_us", 1.10, 1.05),
    Limit("pipeline-128", "cpu_us", 1.20, 1.10),
    Limit("echo-1", "calls", 3.0),
    Limit("echo-64", "calls", 2.10),
    Limit("pipeline-16", "calls", 0.14),
    Limit("greet-64", "cpu_us", 1.30, 1.20),
    Limit("greet-64", "cpu_us", 1.30, 1.20, server="xchgd-linger-0"),
    Limit("greet-free", "rate", 0.90, 1.00, to="reuseport", least=True),
    Limit("greet-free", "rate", 4.5, to="lecture-fork", least=True),
    Limit("greet-free", "rate", 2.0, to="lecture-thread", least=True),
    Limit("greet-free", "rate", 2.5, to="lecture-iterative", least=True),
    Limit("greet-1", "calls", 9, 7.1, server="xchgd-linger-0"),
    Limit("greet-64", "calls", 8.0, 7.1, server="xchgd-linger-0"),
    Limit("greet-1", "calls", 10, 8.1),
    Limit("greet-64", "calls", 9.0, 8.1),
    Limit("mn-64", "cpu_us", 1.03, 1.00, to="memcached"),
    Limit("echo-64", "cpu_us", 1.03, 1.00, to="libuv"),
    Limit("echo-64", "cpu_us", 1.03, 1.00, to="libevent-raw"),
    Limit("echo-64", "cpu_us", 0.72, 0.68, to="libevent-bev"),
    Limit("mn-pipeline-16", "cpu_us", 0.125, to="memcached"),
    Limit("mn-connect", "cpu_us", 0.80, 0.70, to="memcached"),
    Limit("open-half", "p50_us", 1.10, 1.00),
    Limit("open-half", "p90_us", 1.10, 1.00),
]


def only():
    """The --only of bench.py that runs every row a limit looks at."""
    rows = {f"{each.series}/{name}" for each in LIMITS for name in (each.server, each.to) if name}
    return ",".join(sorted(rows))


def value_of(limit, rows):
    """The figure that a limit is about, or None where it was not measured."""
    row, other = rows.get(limit.server), rows.get(limit.to)
    if row is None or (limit.to is not None and other is None):
        return None
    if limit.figure == "calls":
        return row["syscalls"]
    own = row["ratios"][limit.figure]
    if own is None:
        return None
    if limit.to is None:
        return own["median"]
    theirs = other["ratios"][limit.figure]
    return own["median"] / theirs["median"] if theirs and theirs["median"] else None


def verdict(limit, value):
    if value is None:
        return "not measured"
    within = (lambda bound: value >= bound) if limit.least else (lambda bound: value <= bound)
    if not within(limit.target):
        return "FAIL"
    return "pass, stretch too" if limit.stretch is not None and within(limit.stretch) else "pass"


def check(report):
    """A list of rows (what, value, target, stretch, verdict) for a report of bench.py."""
    series = {each["name"]: {row["server"]: row for row in each["rows"]} for each in report["series"]}
    baselines = {each["name"]: each["baseline"] for each in report["series"]}
    found = []
    for limit in LIMITS:
        value = value_of(limit, series.get(limit.series, {}))
        beside = "" if limit.figure == "calls" else f" / {limit.to or baselines.get(limit.series, 'the baseline')}"
        found.append({"what": f"{limit.series}: {limit.server}'s {limit.figure}{beside}", "value": value, "target": limit.target,
                      "stretch": limit.stretch, "least": limit.least, "verdict": verdict(limit, value)})
    return found


def text(rows):
    def bound(row, key):
        return "" if row[key] is None else (">= " if row["least"] else "<= ") + f"{row[key]:.3f}"
    lines = [("figure", "reached", "target", "stretch", "")]
    lines += [(r["what"], "-" if r["value"] is None else f"{r['value']:.3f}", bound(r, "target"), bound(r, "stretch"), r["verdict"]) for r in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(4)]
    return "\n".join(("  ".join([line[0].ljust(widths[0]), *(line[i].rjust(widths[i]) for i in (1, 2, 3)), line[4]])).rstrip() for line in lines)
