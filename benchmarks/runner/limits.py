#!/usr/bin/env python3
"""What xchgd and libxchg must reach: every target, in one table. Each figure is printed with its verdict.

A limit of a series is about a ratio to the baseline, or to another row (`to`), or about the number of system calls (figure `calls`).
Other limits are about a figure of single_measurements.py, library.py or wrk.py. A figure without target is only shown.
benchmarks/README.md has the formulas.

    limits.py build/bench-limit/bench.json      print the table again, as Markdown
"""

import json
import sys
from dataclasses import dataclass, replace

import single_measurements
import stats
from series import ALIKE, LANGUAGES
from servers import Absent


@dataclass
class Limit:
    series: str            # of series.py, or the name of a single measurement; None: of another program
    figure: str            # of load.FIGURES, or "calls"; else the measurement's own name for it
    target: float = None
    stretch: float = None
    server: str = "xchgd"
    to: str = None         # compare with this row, not with the baseline
    least: bool = False    # the target is a minimum, not a maximum
    around: float = None   # the target is 1, and this the largest distance from it
    digits: int = 3        # decimals that are printed; a figure of a series is judged as it is printed
    unit: str = ""


def greet_free(server):
    """Exchanges a second on two cores, compared with servers that also use both."""
    return [
        Limit("greet-free", "rate", 0.90, 1.00, server=server, to="reuseport", least=True),
        Limit("greet-free", "rate", 4.5, server=server, to="lecture-fork", least=True),
        Limit("greet-free", "rate", 2.0, server=server, to="lecture-thread", least=True),
        Limit("greet-free", "rate", 2.5, server=server, to="lecture-iterative", least=True),
    ]


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
    Limit("greet-overload", "cpu_us"),
    Limit("greet-overload", "cpu_us", server="xchgd-linger-0"),
    Limit("greet-overload", "rate"),
    Limit("greet-overload", "rate", server="xchgd-linger-0"),
    *greet_free("xchgd"),
    *greet_free("xchgd-linger-0"),
    Limit("greet-1", "calls", 9, 7.1, server="xchgd-linger-0", digits=2),
    Limit("greet-64", "calls", 8.0, 7.1, server="xchgd-linger-0", digits=2),
    Limit("greet-overload", "calls", 8.0, 7.1, server="xchgd-linger-0", digits=2),
    Limit("greet-1", "calls", 10, 8.1, digits=2),
    Limit("greet-64", "calls", 9.0, 8.1, digits=2),
    Limit("greet-overload", "calls", 9.0, 8.1, digits=2),
    Limit("handoff", "p50_us", 3, 2, digits=2),
    Limit("handoff", "floor_p50_us", digits=2),
    Limit("handoff", "p99_us", 10, 4, digits=2),
    Limit("handoff", "floor_p99_us", digits=2),
    Limit("handoff-busy", "p90_us", 300, 100, digits=1),
    Limit("unfair", "p90_ratio", 3, 2, digits=2),
    Limit("arrivals", "longest_us", 2000, 500, digits=0),
    Limit("arrivals", "growing_longest_us", digits=0),
    Limit("idle", "silent", 176, 128, digits=0),
    Limit("idle", "spoken", 176, 128, digits=0),
    Limit("gone", "kib", 256, digits=0),
    Limit("mn-64", "cpu_us", 1.03, 1.00, to="memcached"),
    Limit("echo-64", "cpu_us", 1.03, 1.00, to="libuv"),
    Limit("echo-64", "cpu_us", 1.03, 1.00, to="libevent-raw"),
    Limit("echo-64", "cpu_us", 0.72, 0.68, to="libevent-bev"),
    Limit("ping-64", "cpu_us", 0.92, 0.88, to="redis"),
    Limit("mn-pipeline-16", "cpu_us", 0.125, to="memcached"),
    Limit("ping-pipeline-16", "cpu_us", 0.5, to="redis"),
    Limit("ping-resp-16", "cpu_us", to="redis"),
    Limit("mn-connect", "cpu_us", 0.80, 0.70, to="memcached"),
    Limit("open-half", "p50_us", 1.10, 1.00),
    Limit("open-half", "p90_us", 1.10, 1.00),
    Limit("shares", "least_share", 0.80, least=True, digits=2),
]



def beside_languages():
    """CPU time below every other language, a tail of the open loop not above any: their figure / xchgd's."""
    for suffix in ("", "-one-core"):
        yield Limit(f"languages-echo-64{suffix}", "cpu_us", server=ALIKE)
        for name in LANGUAGES:
            stretch = 2.00 if name == "go-net" else None
            yield Limit(f"languages-echo-64{suffix}", "cpu_us", 1.00, stretch, server=name, least=True)
            yield Limit(f"languages-echo-1000{suffix}", "cpu_us", 1.00, stretch, server=name, least=True)
            yield Limit(f"languages-open-half{suffix}", "p90_us", 1.00, server=name, least=True)


# The targets of each group of series.py.
OF_GROUP = {
    "core": LIMITS,
    "languages": list(beside_languages()),
    "http": [
        Limit("http-64-wrk", "cpu_us", server="nginx-again"),
        Limit("http-64-wrk", "cpu_us", 0.85, 0.78, server="http-example"),
        Limit("http-64-wrk", "cpu_us", server="bare-http"),
        Limit("http-1000-wrk", "cpu_us", 0.75, 0.70, server="http-example"),
        Limit("http-1000-wrk", "cpu_us", server="bare-http"),
    ],
}

# The figures of library.py and wrk.py. of(name) makes a limit with a target that depends on the options.
OTHERS = {limit.figure: limit for limit in [
    Limit(None, "memory", 256, digits=2, unit="bytes"),
    Limit(None, "kv", 1.00),
    Limit(None, "copies", 1, digits=0),
    Limit(None, "allocations", 1, digits=0),
    Limit(None, "wakes", digits=0),                       # target: the number of workers
    Limit(None, "eventfd writes", digits=2),              # target: the number of workers
    Limit(None, "publish time", digits=1, unit="ms"),
    Limit(None, "growth", 2 * 1024, digits=0, unit="KiB"),  # and 1 KiB per member
    Limit(None, "instructions", around=0.03),
    Limit(None, "wrk", 0.80),
    Limit(None, "runs at the limit", 0, digits=0),
]}


def of(name, **changes):
    return replace(OTHERS[name], **changes)


def only():
    """The value of bench.py's --only that runs every row of the table."""
    rows = {each.series if each.series in single_measurements.BY_NAME else f"{each.series}/{name}"
            for each in LIMITS for name in (each.server, each.to) if name}
    return ",".join(sorted(rows))


def compared(own, other, figure):
    """The spread of own / other over the rounds that have both. Each value is first divided by that of the baseline in its own pair."""
    quotients = {}
    for row in (own, other):
        for run in row["runs"]:
            if run["peer"].get(figure) is not None and run["baseline"].get(figure):
                quotients.setdefault(run["round"], {})[row["server"]] = run["peer"][figure] / run["baseline"][figure]
    both = [(each[own["server"]], each[other["server"]]) for each in quotients.values() if len(each) == 2]
    return stats.spread([one / two for one, two in both if two])


def spread_of(limit, rows):
    """The figure of a limit, as from stats.spread; None if it was not measured."""
    row, other = rows[limit.server], rows.get(limit.to)
    if limit.figure == "calls":
        return stats.spread([row["syscalls"]])
    if limit.to is None:
        return row["ratios"][limit.figure]
    return compared(row, other, limit.figure) if other else None


def keeps(limit, value, bound):
    if limit.around is not None:
        return abs(value - 1) <= limit.around
    return value >= bound if limit.least else value <= bound


def verdict(limit, values):
    """The verdict of (median, low, high): undecided if the target lies between low and high."""
    if values is None:
        return "not measured"
    if limit.target is limit.around is None:
        return "shown"
    kept = [keeps(limit, value, limit.target) for value in values]
    if not all(kept):
        return "undecided" if any(kept) else "FAIL"
    if limit.around is None and limit.stretch is not None and keeps(limit, values[0], limit.stretch):
        return "pass, stretch too"
    return "pass"


def line(limit, what, spread, note=""):
    """A row of the table. spread: as from stats.spread, or one value, or None."""
    if isinstance(spread, (int, float)):
        spread = stats.spread([spread])
    value = spread["median"] if spread else None
    shown = [spread[key] if limit.series is None else round(spread[key], limit.digits) for key in ("median", "low", "high")] if spread else None
    return {"what": what, "value": value, "low": spread["low"] if spread else None, "high": spread["high"] if spread else None,
            "count": spread["count"] if spread else 0, "target": limit.target, "stretch": limit.stretch, "least": limit.least,
            "around": limit.around, "digits": limit.digits, "unit": limit.unit, "verdict": verdict(limit, shown), "note": note}


def missing(limit, what, problem):
    """The row of a figure that could not be measured. It fails if it has a target and what it needs is installed."""
    skipped = isinstance(problem, Absent) or limit.target is limit.around is None
    return line(limit, what, None, str(problem)) | {"verdict": "skipped" if skipped else "FAIL"}


def notes_of(limit, rows, spread, series):
    """What a reader must know about a figure of a series."""
    if limit.figure != "calls":
        notes = [f"{spread['count']} pairs"] if spread else []
        ratio = limit.to in rows and rows[limit.to]["ratios"][limit.figure]
        notes += [f"{series['baseline']}: {1 / ratio['median']:.{limit.digits}f}"] if ratio and ratio["median"] else []
    else:
        calls = series and series["baseline_syscalls"]
        notes = [f"{series['baseline']}: {calls:.{limit.digits}f}"] if calls else []
    for name in filter(None, (limit.server, limit.to)):
        row = rows.get(name)
        notes += [f"no {name}"] if row is None else [f"{name}: {failure}" for failure in row["failures"]]
    return "; ".join(notes)


def check(report, everything=True, group="core"):
    """The rows of a report of bench.py; without everything, only those that were measured."""
    series = {each["name"]: each for each in report["series"]}
    measured = {each["name"]: each for each in report.get("single_measurements", [])}
    found = []
    for limit in OF_GROUP[group]:
        if limit.series in single_measurements.BY_NAME:
            each = measured.get(limit.series)
            spread = stats.spread(each["figures"].get(limit.figure, [])) if each else None
            run, what, note = each is not None, f"{limit.series}: {limit.figure}", each["note"] if each else ""
        else:
            rows = {row["server"]: row for row in series[limit.series]["rows"]} if limit.series in series else {}
            spread = spread_of(limit, rows) if limit.server in rows else None
            run, note = limit.server in rows and (limit.to is None or limit.to in rows), notes_of(limit, rows, spread, series.get(limit.series))
            other = limit.to or (series[limit.series]["baseline"] if rows else "the baseline")
            what = f"{limit.series}: {limit.server}'s {limit.figure}" + ("" if limit.figure == "calls" else f" / {other}")
        if run or everything:
            found.append(line(limit, what, spread, note))
    return found


HEADINGS = ("figure", "reached", "[2nd lowest-2nd highest]", "target", "stretch", "verdict", "notes")


LEGEND = "undecided: the target lies between the lowest and the highest pairs, so more pairs or a quieter machine must decide"


def right(column):
    return 0 < column < 5


def cells(rows):
    """The table as rows of text."""
    for r in rows:
        def number(value):
            return f"{value:,.{r['digits']}f}"
        sign = ">= " if r["least"] else "<= "
        target, stretch = ("" if r[key] is None else sign + number(r[key]) for key in ("target", "stretch"))
        if r["around"] is not None:
            target = f"{1 - r['around']:.2f}..{1 + r['around']:.2f}"
        yield [r["what"], "-" if r["value"] is None else f"{number(r['value'])} {r['unit']}".rstrip(),
               f"[{number(r['low'])}-{number(r['high'])}]" if r["count"] > 1 else "", target, stretch, r["verdict"], r["note"]]


def text(rows):
    return stats.columns([("figure", "reached", "[low-high]", "target", "stretch", "", ""), *cells(rows)], right)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1]) as stream:
        report = json.load(stream)
    print(stats.markdown(HEADINGS, cells(check(report, everything=False, group=report.get("group", "core"))), right))


if __name__ == "__main__":
    main()
