#!/usr/bin/env python3
"""Run the comparisons of series.py and write what came of them. benchmarks/README.md says what each figure means.

    bench.py --build build [--quick] [--short] [--limits] [--budget SECONDS] [--only SERIES[/SERVER],...]
             [--pairs N] [--document FILE]

Each series in turn: its rows' pairs of runs (row, baseline), in alternating order A B B A, so that what drifts meets both. Every run has a
server of its own, on core 0, its load on core 1. The budget is shared out over the series that are still to come by the runs that they
need, so that the whole stays within it; how many pairs a row got stands beside it. Measurements that are no series (single_measurements.py) come last.
"""

import argparse
import json
import os
import signal
import sys
import time

import single_measurements
import counts
import limits
import load
import machine
import render
import servers
import stats
from series import HTTP_REQUEST, SERIES, SERIES_BY_NAME
from servers import Failure

SCHEMA = 2
GIVE_UP = 3  # failures of a row in a row


class Plan:
    """How long and how often."""

    def __init__(self, quick, short):
        self.pairs = 2 if short else 3 if quick else 8
        self.seconds = 0.2 if short else 0.5 if quick else 0.6
        self.warmup = 0.1 if short else 0.2
        # Of single_measurements.py: runs of a measurement, their length, connections.
        self.repeats = 2 if short else 3 if quick else 5
        self.long_ms = 400 if short else 1500
        self.idle = 2000 if short else 18000
        self.gone = 2000 if short else 15000

    def window(self, series):
        """Many connections take longer to come round."""
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
        return self.failed_in_a_row >= GIVE_UP

    def fail(self, problem):
        self.failed_in_a_row += 1
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
        self.done = []        # what goes into the report, a series each
        self.singles = []       # and a measurement of single_measurements.py each
        self.live = sys.stderr.isatty()

    # ---- what is run -----------------------------------------------------------------------------

    def wanted(self):
        """The series with the rows that can be run here; what cannot is said once."""
        only = [tuple((part + "/").split("/")[:2]) for part in self.options.only.split(",")] if self.options.only else None
        chosen, missing = [], {}
        for series in SERIES:
            names = series.quick if self.options.quick and only is None else series.rows
            if only is not None:
                names = [n for n in names if any(s == series.name and peer in ("", n) for s, peer in only)]
            if not names:
                continue
            if series.connections + 100 > machine.descriptors():
                self.skip(f"{series.title}: the limit on descriptors is {machine.descriptors()} here")
                continue
            for name in [series.baseline, *names]:
                if name not in missing:
                    missing[name] = servers.BY_NAME[name].missing(self.options.build)
                    if missing[name]:
                        self.skip(f"{name}: {missing[name]}")
            if missing[series.baseline] is None:
                present = [n for n in names if missing[n] is None]
                if present:
                    chosen.append((series, [Row(series, servers.BY_NAME[n]) for n in present]))
        return chosen

    def skip(self, line):
        self.skipped.append(line)
        self.say(f"skipped: {line}")

    def say(self, line):
        self.clear()
        print(line, flush=True)

    def clear(self):
        if self.live:
            sys.stderr.write("\r\x1b[K")

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

    def wanted_singles(self):
        if self.options.only:
            return [each for each in single_measurements.ALL if each.name in self.options.only.split(",")]
        return [each for each in single_measurements.ALL if each.quick and self.options.quick]

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
        try:
            for row in rows:
                self.rows[series.name, row.server.name] = row
                self.prepare(row)
            # The counts first: they do not depend on the clock, and take no more than a quarter of the share.
            floor = Row(series, servers.BY_NAME[series.baseline])
            floor.traffic = rows[0].traffic
            if series.half_rate_of is None:
                for row in [floor, *rows]:
                    self.count_calls(row)
            for number in range(self.plan.pairs):
                for row in rows:
                    late = time.monotonic() + 2 * self.plan.cost(series) > deadline
                    if not row.given_up and not (late and number > 0):
                        self.progress(f"{series.name}: {row.server.name}, pair {number + 1} of {self.plan.pairs}")
                        self.one_pair(row, number)
        finally:  # an interrupted series is reported as far as it came
            if any(row.pairs or row.failures for row in rows):
                self.done.append(self.report_series(series, rows, floor))
                self.say("\n" + render.text_series(self.done[-1]))

    def prepare(self, row):
        series = row.series
        if series.exchange == "answer":
            if series.answer is not None:
                row.traffic = servers.Traffic(series.lines.get(row.server.name, series.request), series.answer)
            else:
                try:
                    row.traffic = load.learn(row.server, self.options.build, {self.cpus[0]}, series.request)
                except Failure as problem:
                    row.failed_in_a_row = GIVE_UP
                    row.failures.append(str(problem))
        if series.half_rate_of is not None:
            best = self.rows.get((series.half_rate_of, row.server.name))
            rate = stats.median([peer["rate"] for peer, _ in best.pairs]) if best else None
            if rate is None:
                row.rate = self.find_rate(row)
            else:
                row.rate = rate / 2

    def find_rate(self, row):
        """Half of what a row reaches in a closed loop, where its own series was not run."""
        closed = SERIES_BY_NAME[row.series.half_rate_of]
        try:
            return load.run(self.options.build, closed, row.server, self.cpus, self.plan.seconds, self.plan.warmup)["rate"] / 2
        except Failure as problem:
            row.failed_in_a_row = GIVE_UP
            row.failures.append(str(problem))
            return None

    def run(self, row, server):
        series = row.series
        return load.run(self.options.build, series, server, self.cpus if series.pinned else None, self.plan.window(series),
                        self.plan.warmup, rate=row.rate, traffic=row.traffic)

    def one_pair(self, row, number):
        """Row and baseline, or in odd pairs the baseline first."""
        order = [row.server, servers.BY_NAME[row.series.baseline]]
        values = {}
        try:
            for server in order if number % 2 == 0 else reversed(order):
                values[server.name] = self.run(row, server)
        except Failure as problem:
            row.fail(problem)
            return
        row.failed_in_a_row = 0
        row.pairs.append((values[order[0].name], values[order[1].name]))
        row.rounds.append(number)

    def count_calls(self, row):
        """Two short separate runs, in which the system calls of the server are counted."""
        series = row.series
        if self.counter is None or row.given_up:
            return
        self.progress(f"{series.name}: {row.server.name}, system calls")
        try:
            short, long = (load.run(self.options.build, series, row.server, self.cpus if series.pinned else None, 0, 0, traffic=row.traffic,
                                    count=count, counter=self.counter) for count in counts.exchanges(self.counter, series))
        except Failure:
            return  # the timed runs will say it
        row.syscalls = counts.per_exchange((short["calls"], short["exchanges"]), (long["calls"], long["exchanges"]))

    # ---- what came of it -------------------------------------------------------------------------

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
        """The rows of limits.py: all, or where a part was asked for those of the part."""
        return limits.check({"series": self.done, "single_measurements": self.singles}, self.options.limits and not self.options.part)

    def report(self, complete):
        return {
            "schema": SCHEMA, "kind": "quick" if self.options.quick else "full", "complete": complete, "machine": self.machine,
            "command": "make " + ("bench-limit" if self.options.limits else "bench-quick" if self.options.quick else "bench"), "budget_s": self.options.budget,
            "seconds": round(self.passed(), 1), "pairs_wanted": self.plan.pairs, "warmup_s": self.plan.warmup,
            "limits": self.verdicts() if self.options.limits or self.options.quick else None,
            "syscalls_by": self.counter.name if self.counter else None, "skipped": self.skipped, "series": self.done,
            "single_measurements": self.singles,
        }

    def main(self):
        self.machine = machine.describe()
        self.machine["load_average_before"] = machine.load_average()
        self.say(render.text_machine(self.machine))
        if machine.load_average() > 0.5:
            self.say(f"the machine is busy (load average {machine.load_average():.1f}): read the spreads; benchmarks/README.md says more")
        complete = False
        try:
            self.all()
            complete = True
        except KeyboardInterrupt:
            self.say("interrupted: what was measured so far is written")
        if self.done or self.singles:
            render.write_all(self.report(complete), self.options.output, self.options.document if complete else None)
            if (self.options.limits or self.options.quick) and self.verdicts():
                self.say("\n" + limits.text(self.verdicts()))
            self.say(f"\n{self.options.output}/bench.json and bench.html" +
                     (f", {self.options.document}" if self.options.document and complete else "") + f" ({self.passed():.0f} s)")
        if not complete:
            return 130
        if self.options.limits:
            return 1 if {row["verdict"] for row in self.verdicts()} & {"FAIL", "not measured"} else 0
        return 0 if self.done or self.singles else 1


def parse():
    parser = argparse.ArgumentParser(description="Compare xchgd with its peers; benchmarks/README.md explains every figure.")
    parser.add_argument("--build", default="build", help="where the programs are (build)")
    parser.add_argument("--output", help="the folder of bench.json and bench.html (BUILD/bench)")
    parser.add_argument("--document", help="the Markdown page to write as well")
    parser.add_argument("--quick", action="store_true", help="fewer rows, three pairs")
    parser.add_argument("--short", action="store_true", help="small numbers everywhere, two pairs: does it work, not how good is it")
    parser.add_argument("--budget", type=float, help="seconds that the whole may take (2640, quick 280)")
    parser.add_argument("--pairs", type=int, help="pairs a row (8, quick 3, short 2)")
    parser.add_argument("--only", help="SERIES or SERIES/SERVER, with commas")
    parser.add_argument("--limits", action="store_true", help="the rows that limits.py looks at, and their verdicts; exit 1 where one fails")
    parser.add_argument("--list", action="store_true", help="name series and servers, and exit")
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    options.output = options.output or os.path.join(options.build, "bench")
    options.part = options.only is not None
    if options.limits and not options.only:
        options.only = limits.only()
    options.budget = options.budget or (280 if options.quick else 2640)
    for part in options.only.split(",") if options.only else []:
        if part.split("/")[0] not in SERIES_BY_NAME and part not in single_measurements.BY_NAME:
            parser.error(f"there is no series {part.split('/')[0]!r}; --list names them")
    return options


def main():
    options = parse()
    if options.list:
        for series in SERIES:
            print(f"{series.name}: {series.title}\n    {' '.join(series.rows)}; beside {series.baseline}")
        for each in single_measurements.ALL:
            print(f"{each.name}: {each.title}")
        return 0
    if not os.access(os.path.join(options.build, "xchg-bench"), os.X_OK):
        print(f"{options.build}/xchg-bench is not built: make all", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    return Bench(options).main()


if __name__ == "__main__":
    sys.exit(main())
