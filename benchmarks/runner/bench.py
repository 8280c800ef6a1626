#!/usr/bin/env python3
"""Run the comparisons of series.py and write the results. benchmarks/README.md defines every figure.

    bench.py --build build [--quick] [--short] [--limits] [--budget SECONDS] [--only SERIES[/SERVER],...]
             [--pairs N] [--document FILE] [--group core|languages|http]

Each series runs alternating pairs (row, baseline) in the order A B B A, so that drift affects both. Every run has its own server on
core 0 and its load on core 1. The budget is shared out over the remaining series by the runs that they need, so the whole stays within
it. The report says how many pairs each row got. Single measurements (single_measurements.py) come last.
"""

import argparse
import os
import signal
import sys
import time

import counts
import limits
import load
import machine
import render
import servers
import single_measurements
import stats
from processes import Failure
from http_load import learn
from series import GROUPS, HTTP_REQUEST, SERIES, SERIES_BY_NAME

FAILURES_MAX = 3  # consecutive failures after which a row is given up


class Plan:
    """How many runs, and how long."""

    def __init__(self, quick, short):
        self.pairs = 2 if short else 3 if quick else 8
        self.seconds = 0.2 if short else 0.5 if quick else 0.6
        self.warmup = 0.1 if short else 0.2
        # For single_measurements.py: runs of a measurement, their length, connections.
        self.repeats = 2 if short else 3 if quick else 5
        self.long_ms = 400 if short else 1500
        self.idle = 2000 if short else 18000
        self.gone = 2000 if short else 15000

    def window(self, series):
        """A round over 10,000 connections takes longer."""
        return self.seconds if series.connections < 10000 else max(self.seconds, 0.8)

    def cost(self, series):
        """Estimated seconds of a run."""
        return self.window(series) + self.warmup + 0.25 + series.connections / 8000


class Row:
    def __init__(self, series, server):
        self.series, self.server = series, server
        self.pairs, self.rounds, self.failures, self.failed_in_a_row = [], [], [], 0
        self.traffic = self.rate = self.syscalls = None

    @property
    def given_up(self):
        return self.failed_in_a_row >= FAILURES_MAX

    def fail(self, problem, times=1):
        self.failed_in_a_row += times
        if str(problem) not in self.failures:
            self.failures.append(str(problem))


class Bench:
    def __init__(self, options):
        self.options = options
        self.plan = Plan(options.quick, options.short)
        if options.pairs:
            self.plan.pairs = options.pairs
        self.cpus = machine.cpus()
        self.counter = counts.counter()
        self.begin = time.monotonic()
        self.rows = {}        # (series, server) -> Row
        self.skipped = []     # lines
        self.done = []        # the report of each series
        self.singles = []     # and of each single measurement
        self.live = sys.stderr.isatty()

    # ---- the work --------------------------------------------------------------------------------

    def wanted(self):
        """The series and their rows that can run here. The others are skipped with one line each."""
        only = [tuple((part + "/").split("/")[:2]) for part in self.options.only] if self.options.only else None
        chosen, missing = [], {}
        for series in SERIES:
            if only is None and series.group != self.options.group:
                continue
            names = series.quick if self.options.quick and only is None and series.group == "core" else series.rows
            if only is not None:
                names = [n for n in names if any(s == series.name and peer in ("", n) for s, peer in only)]
            if not names:
                continue
            if series.connections + 100 > machine.descriptors():
                self.skip(f"{series.title}: the limit on descriptors is {machine.descriptors()} here")
                continue
            for name in {series.baseline: None, **dict.fromkeys(names)}:
                if name not in missing:
                    missing[name] = servers.BY_NAME[name].missing(self.options.build)
                    if missing[name]:
                        self.skip(f"{name}: {missing[name]}")
            present = [n for n in names if missing[n] is None]
            if present and missing[series.baseline] is None:
                chosen.append((series, [Row(series, servers.BY_NAME[n]) for n in present]))
        return chosen

    def wanted_singles(self):
        if self.options.only:
            return [each for each in single_measurements.ALL if each.name in self.options.only]
        if self.options.group != "core":
            return [each for each in single_measurements.ALL if each.group == self.options.group]
        return [each for each in single_measurements.ALL if each.quick and self.options.quick]

    def skip(self, line):
        self.skipped.append(line)
        self.say(f"skipped: {line}")

    def say(self, line):
        if self.live:
            sys.stderr.write("\r\x1b[K")
        print(line, flush=True)

    def progress(self, line):
        if self.live:
            left = max(self.options.budget - self.passed(), 0)
            sys.stderr.write(f"\r\x1b[K{line}; at most {left / 60:.0f} min left"[:120])
            sys.stderr.flush()

    def passed(self):
        return time.monotonic() - self.begin

    def all(self):
        todo, singles = self.wanted(), self.wanted_singles()
        reserve = sum(each.seconds(self.plan) for each in singles)
        while todo:
            series, rows = todo.pop(0)
            own = len(rows) * self.plan.cost(series)
            others = sum(len(r) * self.plan.cost(s) for s, r in todo)
            share = max(self.options.budget - reserve - self.passed(), 0) * own / (own + others)
            self.one_series(series, rows, time.monotonic() + share)
        for each in singles:
            self.one_single(each)

    def one_single(self, each):
        self.progress(each.name)
        begun = time.monotonic()
        try:
            figures, note = each.measure(self)
        except (Failure, OSError) as problem:
            figures, note = {}, str(problem)
        self.singles.append({"name": each.name, "title": each.title, "seconds": round(time.monotonic() - begun, 1), "figures": figures, "note": note})
        self.say("\n" + render.text_single(self.singles[-1]))

    def one_series(self, series, rows, deadline):
        floor = Row(series, servers.BY_NAME[series.baseline])
        try:
            for row in rows:
                self.rows[series.name, row.server.name] = row
                self.prepare(row)
            floor.traffic = rows[0].traffic
            # The counts come first: they do not depend on the clock, and take at most a quarter of the share.
            if series.counted:
                for row in [floor, *rows]:
                    self.count_calls(row)
            for number in range(self.plan.pairs):
                for row in rows:
                    late = time.monotonic() + 2 * self.plan.cost(series) > deadline
                    if not row.given_up and not (late and number > 0):
                        self.progress(f"{series.name}: {row.server.name}, pair {number + 1} of {self.plan.pairs}")
                        self.one_pair(row, number)
        finally:  # an interrupted series is reported too
            if any(row.pairs or row.failures for row in rows):
                self.done.append(self.report_series(series, rows, floor))
                self.say("\n" + render.text_series(self.done[-1]))

    def prepare(self, row):
        """Learn a row's traffic and rate."""
        series = row.series
        try:
            if series.answer is not None:
                row.traffic = servers.Traffic(series.lines.get(row.server.name, series.request), series.answer)
            elif series.exchange == "answer":
                running = row.server.start(self.options.build, "answer", {self.cpus[0]})
                try:
                    row.traffic = learn(running.port, series.request)
                finally:
                    running.stop()
            if series.half_rate_of is not None:
                best = self.rows.get((series.half_rate_of, row.server.name))
                rate = stats.median([peer["rate"] for peer, _ in best.pairs]) if best else None
                if rate is None:  # that series was not run: one run of it in a closed loop
                    closed = SERIES_BY_NAME[series.half_rate_of]
                    rate = load.run(self.options.build, closed, row.server, self.cpus, self.plan.seconds, self.plan.warmup)["rate"]
                row.rate = rate / 2
        except (Failure, OSError) as problem:
            row.fail(problem, times=FAILURES_MAX)

    def run(self, row, server, seconds, warmup, **more):
        cpus = self.cpus if row.series.pinned else None
        return load.run(self.options.build, row.series, server, cpus, seconds, warmup, traffic=row.traffic, **more)

    def one_pair(self, row, number):
        """Run the row and the baseline; in odd pairs the baseline first."""
        order = [row.server, servers.BY_NAME[row.series.baseline]]
        values = {}
        try:
            for server in order if number % 2 == 0 else reversed(order):
                values[server.name] = self.run(row, server, self.plan.window(row.series), self.plan.warmup, rate=row.rate)
        except Failure as problem:
            row.fail(problem)
            return
        row.failed_in_a_row = 0
        row.pairs.append((values[order[0].name], values[order[1].name]))
        row.rounds.append(number)

    def count_calls(self, row):
        """Count the server's system calls in two short runs of their own."""
        if self.counter is None or row.given_up:
            return
        self.progress(f"{row.series.name}: {row.server.name}, system calls")
        try:
            short, long = (self.run(row, row.server, 0, 0, count=count, counter=self.counter) for count in counts.exchanges(self.counter, row.series))
        except Failure:
            return  # the timed runs will report it
        row.syscalls = counts.per_exchange((short["calls"], short["exchanges"]), (long["calls"], long["exchanges"]))

    # ---- the results -----------------------------------------------------------------------------

    def report_series(self, series, rows, floor):
        return {
            "name": series.name, "title": series.title, "exchange": series.exchange, "connections": series.connections,
            "pipeline": series.pipeline, "pinned": series.pinned, "overload": series.overload, "open_loop": series.half_rate_of is not None,
            "window_s": self.plan.window(series), "baseline": series.baseline,
            "baseline_syscalls": floor.syscalls,
            "baseline_values": {f: stats.median([b[f] for r in rows for _, b in r.pairs]) for f in load.FIGURES}
            if series.half_rate_of is None and series.request != HTTP_REQUEST else None,
            "rows": [self.report_row(row) for row in rows],
        }

    @staticmethod
    def report_row(row):
        bound = sum(peer["client_bound"] for peer, _ in row.pairs)
        return {
            "server": row.server.name, "about": row.server.about, "pairs": len(row.pairs), "failures": row.failures,
            "given_up": row.given_up, "client_bound": bound, "target_rate": row.rate, "syscalls": row.syscalls,
            "values": {f: stats.median([peer[f] for peer, _ in row.pairs]) for f in load.FIGURES},
            "baseline_values": {f: stats.median([base[f] for _, base in row.pairs]) for f in load.FIGURES},
            "ratios": {f: stats.ratios(row.pairs, f) for f in load.FIGURES},
            "server_busy": stats.median([peer["server_busy"] for peer, _ in row.pairs]),
            "client_busy": stats.median([peer["client_busy"] for peer, _ in row.pairs]),
            "runs": [{"round": number, "peer": peer, "baseline": base} for number, (peer, base) in zip(row.rounds, row.pairs)],
        }

    def verdicts(self):
        """The rows of limits.py; with --only, those that were measured."""
        return limits.check({"series": self.done, "single_measurements": self.singles}, self.options.limits and not self.options.part,
                            self.options.group)

    @property
    def judged(self):
        """Are verdicts a part of the report?"""
        return self.options.limits or self.options.quick or self.options.group != "core"

    def command(self):
        """The target of make that runs this."""
        if self.options.group != "core":
            return f"bench-{self.options.group}"
        return "bench-limit" if self.options.limits else "bench-quick" if self.options.quick else "bench"

    def report(self, complete):
        return {
            "schema": render.SCHEMA, "kind": "quick" if self.options.quick else "full", "complete": complete, "machine": self.machine,
            "command": "make " + self.command(), "budget_s": self.options.budget,
            "seconds": round(self.passed(), 1), "pairs_wanted": self.plan.pairs, "warmup_s": self.plan.warmup,
            "group": self.options.group, "limits": self.verdicts() if self.judged else None,
            "syscalls_by": self.counter.name if self.counter else None, "skipped": self.skipped, "series": self.done,
            "single_measurements": self.singles,
        }

    def main(self):
        self.machine = machine.describe()
        self.machine["load_average_before"] = machine.load_average()
        self.say(render.text_machine(self.machine))
        if machine.load_average() > 0.5:
            self.say(f"the machine is busy (load average {machine.load_average():.1f}): read the spreads, and benchmarks/README.md, section 4")
        complete = False
        try:
            self.all()
            complete = True
        except KeyboardInterrupt:
            self.say("interrupted: the results so far are written")
        if self.done or self.singles:
            render.write_all(self.report(complete), self.options.output, self.options.document if complete else None)
            if self.judged and self.verdicts():
                self.say("\n" + limits.text(self.verdicts()) + "\n" + limits.LEGEND)
            if self.done:
                self.say("\n" + render.RATIO_NOTE)
            self.say(f"\n{self.options.output}/bench.json and bench.html" +
                     (f", {self.options.document}" if self.options.document and complete else "") + f" ({self.passed():.0f} s)")
        if not complete:
            return 130
        if self.options.limits:
            return 1 if {row["verdict"] for row in self.verdicts()} & {"FAIL", "not measured"} else 0
        return 0 if self.done or self.singles else 1


def parse():
    parser = argparse.ArgumentParser(description="Compare xchgd with its peers. benchmarks/README.md explains every figure.")
    parser.add_argument("--build", default="build", help="where the programs are (build)")
    parser.add_argument("--output", help="the folder of bench.json and bench.html (BUILD/bench)")
    parser.add_argument("--document", help="a Markdown page to write as well")
    parser.add_argument("--quick", action="store_true", help="fewer rows, three pairs")
    parser.add_argument("--group", choices=GROUPS, default="core", help="the series to run without --only (core)")
    parser.add_argument("--short", action="store_true", help="small numbers, two pairs: a test of the runner, not a measurement")
    parser.add_argument("--budget", type=float, help="seconds for everything (2640, quick 280)")
    parser.add_argument("--pairs", type=int, help="pairs per row (8, quick 3, short 2)")
    parser.add_argument("--only", help="SERIES, SERIES/SERVER or a single measurement, separated by commas")
    parser.add_argument("--limits", action="store_true", help="run the rows of limits.py and print their verdicts; exit code 1 if one fails")
    parser.add_argument("--list", action="store_true", help="list the series, servers and single measurements")
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    options.output = options.output or os.path.join(options.build, "bench")
    options.part = options.only is not None
    only = options.only or (limits.only() if options.limits else None)
    options.only = only.split(",") if only else []
    options.budget = options.budget or (280 if options.quick else 2640)
    for part in options.only:
        if part.split("/")[0] not in SERIES_BY_NAME and part not in single_measurements.BY_NAME:
            parser.error(f"there is no series {part.split('/')[0]!r}; --list names them")
    return options


def main():
    options = parse()
    if options.list:
        for series in SERIES:
            print(f"{series.name}: {series.title}\n    {' '.join(series.rows)}; baseline {series.baseline}")
        for each in single_measurements.ALL:
            print(f"{each.name}: {each.title}")
        return 0
    if not os.access(os.path.join(options.build, "xchg-bench"), os.X_OK):
        print(f"{options.build}/xchg-bench is not built; run make all", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # runs the finally blocks, which end all processes
    return Bench(options).main()


if __name__ == "__main__":
    sys.exit(main())
