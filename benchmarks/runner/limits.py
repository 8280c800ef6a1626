#!/usr/bin/env python3
"""What xchgd and libxchg must reach: every target, in one table. Each figure is printed with its verdict.

A limit of a series is about a ratio to the baseline, or to another row (`to`), or about the number of system calls (figure `calls`).
Other limits are about a figure of single_measurements.py, library.py or wrk.py. A figure without target is only shown.

A floor is the lower bound of a figure: what a bare epoll loop, which does nothing else, reaches in the same series. The table has the
floor's own figure and the distance (the figure / the floor's). Where the floor misses the target, no epoll server reaches it on this
machine. Then the distance is judged, against `within`. benchmarks/README.md has the formulas.

    limits.py build/bench-limit/bench.json      print the table again, as Markdown
"""

import json
import sys
from dataclasses import dataclass, replace

import single_measurements
import stats
from series import LANGUAGES
from servers import Absent

BARE = ("bare", "bare-answer")  # a baseline of these names is the floor of its series
PAIRS_MIN = 5                   # fewer pairs have no interval of stats.LEVEL, so they decide nothing
UNDECIDED_PART = 4              # at most one row in four may stay undecided


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
    floor: str = None      # the row (of a single measurement: the figure) that is the floor; None: a bare baseline
    within: float = None   # the target of figure / floor's figure, if the floor itself misses the target

    @property
    def single(self):
        return self.series in single_measurements.BY_NAME

    @property
    def paired(self):
        """Is the figure a ratio of pairs of runs?"""
        return self.series is not None and not self.single and self.figure != "calls"

    @property
    def rows(self):
        """The rows of its series that it needs."""
        return [name for name in (self.server, self.to, self.floor) if name] if not self.single else []

    @property
    def judged(self):
        return self.target is not None or self.around is not None


def greet_free(server):
    """Exchanges a second on two cores, compared with servers that also use both."""
    return [
        Limit("greet-free", "rate", 0.90, 1.00, server=server, to="reuseport", least=True),
        *[Limit("greet-free", "rate", target, server=server, to=other, least=True, floor="reuseport", within=0.90)
          for other, target in (("lecture-fork", 4.5), ("lecture-thread", 2.0), ("lecture-iterative", 2.5))],
    ]


LIMITS = [
    Limit("echo-64", "cpu_us", 1.03, 1.01),
    Limit("echo-1000", "cpu_us", 1.03, 1.00),
    Limit("echo-10000", "cpu_us", 1.03, 1.00),
    Limit("pipeline-16", "cpu_us", 1.03, 1.00),
    Limit("pipeline-128", "cpu_us", 1.05, 1.00),
    Limit("echo-1", "calls", 3.0),
    Limit("echo-64", "calls", 2.10),
    Limit("pipeline-16", "calls", 0.14, within=1.00),
    Limit("greet-64", "cpu_us", 1.18, 1.10),
    Limit("greet-64", "cpu_us", 1.18, 1.10, server="xchgd-linger-0"),
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
    Limit("handoff", "p50_us", 3, 2, digits=2, floor="floor_p50_us", within=1.10),
    Limit("handoff", "floor_p50_us", digits=2),
    Limit("handoff", "p99_us", 10, 4, digits=2, floor="floor_p99_us"),
    Limit("handoff", "floor_p99_us", digits=2),
    Limit("handoff-busy", "p90_us", 300, 100, digits=1),
    Limit("unfair", "p90_ratio", 3, 2, digits=2),
    Limit("arrivals", "longest_us", 1000, digits=0),
    Limit("arrivals", "growing_longest_us", digits=0),
    Limit("idle", "silent", 176, 160, digits=0),
    Limit("idle", "spoken", 176, 160, digits=0),
    Limit("gone", "kib", 256, digits=0),
    Limit("mn-64", "cpu_us", 1.03, 1.00, to="memcached"),
    Limit("echo-64", "cpu_us", 1.03, 1.00, to="libuv"),
    Limit("echo-64", "cpu_us", 1.03, 1.00, to="libevent-raw"),
    Limit("echo-64", "cpu_us", 0.72, 0.68, to="libevent-bev"),
    Limit("ping-64", "cpu_us", 0.92, 0.88, to="redis"),
    Limit("mn-pipeline-16", "cpu_us", 0.125, to="memcached"),
    Limit("ping-pipeline-16", "cpu_us", 0.5, to="redis", within=1.10),
    Limit("ping-resp-16", "cpu_us", to="redis"),
    Limit("mn-connect", "cpu_us", 0.80, 0.70, to="memcached"),
    Limit("open-half", "p50_us", 1.10, 1.00),
    Limit("open-half", "p90_us", 1.10, 1.00),
    Limit("shares", "least_share", 0.80, least=True, digits=2),
]


def beside_languages():
    """CPU time below every other language, a tail of the open loop not above any: their figure / xchgd's."""
    for suffix in ("", "-one-core"):
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
        Limit("http-64-wrk", "cpu_us", 0.85, 0.78, server="http-example", floor="bare-http", within=1.10),
        Limit("http-64-wrk", "cpu_us", server="bare-http"),
        Limit("http-1000-wrk", "cpu_us", 0.75, 0.70, server="http-example", floor="bare-http", within=1.10),
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
    rows = {each.series for each in LIMITS if each.single} | {f"{each.series}/{name}" for each in LIMITS for name in each.rows}
    return ",".join(sorted(rows))


def judged_rows():
    """(series, row) of every row that a verdict needs."""
    return {(each.series, name) for group in OF_GROUP.values() for each in group if each.judged and each.paired for name in each.rows}


# ---- figures -------------------------------------------------------------------------------------

def compared(own, other, figure):
    """The spread of own / other over the rounds that have both. Each value is first divided by that of the baseline in its own pair."""
    quotients = {}
    for row in (own, other):
        for run in row["runs"]:
            if run["peer"].get(figure) is not None and run["baseline"].get(figure):
                quotients.setdefault(run["round"], {})[row["server"]] = run["peer"][figure] / run["baseline"][figure]
    both = [(each[own["server"]], each[other["server"]]) for each in quotients.values() if len(each) == 2]
    return stats.spread([one / two for one, two in both if two])


def inverse(row, figure):
    """The spread of the baseline / the row."""
    return stats.ratios([(run["baseline"], run["peer"]) for run in row["runs"]], figure)


def value_of(limit, name, rows, series):
    """The figure of a limit for the row ${name}, or for the baseline: as from stats.spread; None if it was not measured."""
    row, other = rows.get(name), rows.get(limit.to)
    if limit.figure == "calls":
        return stats.spread([row["syscalls"] if row else series["baseline_syscalls"] if name == series["baseline"] else None])
    if limit.to is None:
        return row["ratios"][limit.figure] if row else stats.spread([1.0]) if name == series["baseline"] else None
    if other is None:
        return None
    return compared(row, other, limit.figure) if row else inverse(other, limit.figure) if name == series["baseline"] else None


def floor_name(limit, series):
    return limit.floor or (series["baseline"] if series["baseline"] in BARE else None)


def distance_of(limit, name, rows, series, values, floor):
    """The figure / that of the floor."""
    if limit.figure == "calls":
        return stats.spread([values["median"] / floor["median"]]) if values and floor and floor["median"] else None
    row, other = rows.get(limit.server), rows.get(name)
    if row is None:
        return None
    return compared(row, other, limit.figure) if other else row["ratios"][limit.figure] if name == series["baseline"] else None


def of_series(limit, series):
    """(figure, floor's name, its figure, distance) of a limit of a series, from the report of that series."""
    rows = {row["server"]: row for row in series["rows"]}
    if limit.server not in rows:
        return None, None, None, None
    values, name = value_of(limit, limit.server, rows, series), floor_name(limit, series)
    floor = value_of(limit, name, rows, series) if name else None
    return values, name, floor, distance_of(limit, name, rows, series, values, floor) if floor else None


def of_single(limit, figures):
    """The same of a single measurement."""
    values, lowest = stats.spread(figures.get(limit.figure, [])), figures.get(limit.floor, [])
    quotients = [own / low for own, low in zip(figures.get(limit.figure, []), lowest) if low]
    return values, limit.floor if lowest else None, stats.spread(lowest), stats.spread(quotients)


# ---- verdicts ------------------------------------------------------------------------------------

def keeps(limit, value, bound):
    if limit.around is not None:
        return abs(value - 1) <= limit.around
    return value >= bound if limit.least else value <= bound


def rounded(limit, spread):
    """(median, low, high) as they are printed."""
    return [spread[key] if limit.series is None else round(spread[key], limit.digits) for key in ("median", "low", "high")]


def verdict(limit, values, target=None):
    """The verdict of (median, low, high): undecided if the target lies between low and high. target: another one than the limit's."""
    if values is None:
        return "not measured"
    if not limit.judged:
        return "shown"
    stretch = limit.stretch if target is None and limit.around is None else None
    kept = [keeps(limit, value, limit.target if target is None else target) for value in values]
    if not all(kept):
        return "undecided" if any(kept) else "FAIL"
    return "pass, stretch too" if stretch is not None and all(keeps(limit, value, stretch) for value in values) else "pass"


def unreachable(limit, floor):
    """Does the floor itself miss the target, with its whole interval?"""
    return limit.within is not None and floor is not None and not any(keeps(limit, value, limit.target) for value in rounded(limit, floor))


def line(limit, what, spread, note="", floor_named=None, floor=None, distance=None):
    """A row of the table. spread: as from stats.spread, or one value, or None. floor, distance: as from stats.spread, or None."""
    if isinstance(spread, (int, float)):
        spread = stats.spread([spread])
    by_distance = unreachable(limit, floor)
    judged = distance if by_distance else spread
    found = verdict(limit, judged and rounded(limit, judged), limit.within if by_distance else None)
    if limit.paired and limit.judged and judged and judged["count"] < PAIRS_MIN:
        found = "undecided"
    return {"what": what, "value": spread["median"] if spread else None, "low": spread["low"] if spread else None,
            "high": spread["high"] if spread else None, "count": spread["count"] if spread else 0, "target": limit.target,
            "stretch": limit.stretch, "least": limit.least, "around": limit.around, "digits": limit.digits, "unit": limit.unit,
            "floor": floor and {"name": floor_named, **floor}, "distance": distance, "within": limit.within, "by_distance": by_distance,
            "pairs": judged["count"] if limit.paired and judged else None, "verdict": found, "note": note}


def missing(limit, what, problem):
    """The row of a figure that could not be measured. It fails if it has a target and what it needs is installed."""
    skipped = isinstance(problem, Absent) or not limit.judged
    return line(limit, what, None, str(problem)) | {"verdict": "skipped" if skipped else "FAIL"}


def notes_of(limit, rows, spread):
    """What a reader must know about a figure of a series."""
    notes = [stats.count(spread["count"], "pair")] if spread and limit.figure != "calls" else []
    for name in filter(None, (limit.server, limit.to)):
        row = rows.get(name)
        notes += [f"no {name}"] if row is None else [f"{name}: {failure}" for failure in row["failures"]]
    if not spread and limit.to in rows and limit.server in rows and not notes:
        notes = ["no round has both rows"]  # of two runs with --only
    return "; ".join(notes)


def title(limit, series):
    if limit.single:
        return f"{limit.series}: {limit.figure}"
    other = limit.to or (series["baseline"] if series else "the baseline")
    return f"{limit.series}: {limit.server}'s {limit.figure}" + ("" if limit.figure == "calls" else f" / {other}")


def row_of(limit, series, measured):
    """The row of a limit and whether it was measured. series: the report of its series, or None; measured: of its single measurement."""
    if limit.single:
        values, name, floor, distance = of_single(limit, measured["figures"] if measured else {})
        return line(limit, title(limit, None), values, measured["note"] if measured else "", name, floor, distance), measured is not None
    if series is None:
        return line(limit, title(limit, None), None, notes_of(limit, {}, None)), False
    rows = {row["server"]: row for row in series["rows"]}
    values, name, floor, distance = of_series(limit, series)
    return (line(limit, title(limit, series), values, notes_of(limit, rows, values), name, floor, distance),
            limit.server in rows and (limit.to is None or limit.to in rows))


def check(report, everything=True, group="core"):
    """The rows of a report of bench.py; without everything, only those that were measured."""
    series = {each["name"]: each for each in report["series"]}
    measured = {each["name"]: each for each in report.get("single_measurements", [])}
    found = [row_of(limit, series.get(limit.series), measured.get(limit.series)) for limit in OF_GROUP[group]]
    return [row for row, run in found if run or everything]


def undecided(series):
    """(rows that are needed, pairs so far) of each limit of a series that its pairs have not decided. series: the report of the series."""
    found = []
    for limit in [each for group in OF_GROUP.values() for each in group if each.paired and each.series == series["name"]]:
        row, run = row_of(limit, series, None)
        if run and row["verdict"] in ("undecided", "not measured"):
            found.append((limit.rows, row["pairs"] or 0))
    return found


def judges(name):
    """Has a single measurement a target?"""
    return any(limit.judged for group in OF_GROUP.values() for limit in group if limit.series == name)


def undecided_single(name, figures):
    """Is a verdict on a single measurement open?"""
    found = {"figures": figures, "note": ""}
    return any(row_of(limit, None, found)[0]["verdict"] == "undecided" for group in OF_GROUP.values() for limit in group if limit.series == name)


def summary(rows):
    """How many rows were judged, the names of those that are undecided, and whether these are too many."""
    judged = [row for row in rows if row["verdict"] not in ("shown", "skipped")]
    names = [row["what"] for row in judged if row["verdict"] == "undecided"]
    return {"judged": len(judged), "undecided": names, "too_many": len(names) * UNDECIDED_PART > len(judged)}


def failed(rows):
    """Does the table call for exit code 1?"""
    return any(row["verdict"] in ("FAIL", "not measured") for row in rows) or summary(rows)["too_many"]


# ---- the table -----------------------------------------------------------------------------------

HEADINGS = ("figure", "reached", "[interval]", "target", "stretch", "verdict", "floor", "distance to the floor", "notes")

LEGEND = ("undecided: the target lies within the interval, or there are fewer than five pairs. More pairs or a quieter machine must decide. "
          "(distance): the floor misses the target too, so the distance to the floor is judged.")


def right(column):
    return 0 < column < 5


def cells(rows):
    """The table as rows of text."""
    for r in rows:
        def number(value, digits=r["digits"]):
            return f"{value:,.{digits}f}"
        sign = ">= " if r["least"] else "<= "
        target, stretch = ("" if r[key] is None else sign + number(r[key]) for key in ("target", "stretch"))
        if r["around"] is not None:
            target = f"{1 - r['around']:.2f}..{1 + r['around']:.2f}"
        floor, distance = r["floor"], r["distance"]
        apart = "" if distance is None else f"{distance['median']:.2f}"
        apart += f" [{distance['low']:.2f}-{distance['high']:.2f}]" if distance and distance["count"] > 1 else ""
        yield [r["what"], "-" if r["value"] is None else f"{number(r['value'])} {r['unit']}".rstrip(),
               f"[{number(r['low'])}-{number(r['high'])}]" if r["count"] > 1 else "", target, stretch,
               r["verdict"] + (" (distance)" if r["by_distance"] else ""),
               f"{floor['name']}: {number(floor['median'])}" if floor else "", apart + (f", {sign}{r['within']:.2f}" if r["by_distance"] else ""), r["note"]]


def conclusion(rows):
    """One sentence, or two, on the undecided rows; empty if all are decided."""
    found = summary(rows)
    if not found["undecided"]:
        return ""
    many = " More than a quarter is too many." if found["too_many"] else ""
    return f"Undecided, {len(found['undecided'])} of {found['judged']} rows with a target: {'; '.join(found['undecided'])}.{many}"


def text(rows):
    lines = [("figure", "reached", "[interval]", "target", "stretch", "", "floor", "distance", ""), *cells(rows)]
    used = [i for i in range(len(lines[0])) if any(line[i] for line in lines[1:])]  # other tables have no floors
    table = stats.columns([[line[i] for i in used] for line in lines], lambda i: right(used[i]))
    return "\n".join(filter(None, [table, conclusion(rows)]))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1]) as stream:
        report = json.load(stream)
    rows = check(report, everything=False, group=report.get("group", "core"))
    print("\n\n".join(filter(None, [stats.markdown(HEADINGS, cells(rows), right), conclusion(rows)])))


if __name__ == "__main__":
    main()
