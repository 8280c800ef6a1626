#!/usr/bin/env python3
"""Run the comparisons of series.py and write the results. benchmarks/README.md defines every figure.

    bench.py --build build [--quick] [--short] [--limits] [--budget SECONDS] [--only SERIES[/SERVER],...] [--resume]
             [--pairs N] [--pairs-max N] [--document FILE] [--picture FILE] [--group core|languages|http]

A series begins with pairs of its baseline with itself (A/A). Then each row gets alternating pairs (row, baseline) in the order A B B A,
so that drift affects both. Every run has its own server on core 0 and its load on core 1. plan.py has the order in which the budget is
spent. The report says how many pairs each row got. Single measurements (single_measurements.py) come last. The report is written
after each visit of a series; --resume continues it.
"""

import argparse
import hashlib
import json
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
from http_load import learn
from plan import Plan
from processes import Failure
from series import GROUPS, SERIES, SERIES_BY_NAME
from work import FAILURES_MAX, Row, Work

# A report is continued only with the same programs and peers.
PROGRAMS = ("xchgd", "xchg-bench", "examples/http")
PEERS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "peers")


class Bench:
    def __init__(self, options):
        self.options = options
        self.plan = Plan(options.quick, options.short, options.pairs, options.pairs_max)
        self.cpus = machine.cpus()
        self.counter = counts.counter()
        self.begin = time.monotonic()
        self.reserve = 0      # seconds for the single measurements
        self.earlier = 0      # seconds of the run that is continued
        self.works = {}       # name of a series -> Work
        self.skipped = []     # lines
        self.singles = []     # the report of each single measurement
        self.live = sys.stderr.isatty()
        self.judged_rows = limits.judged_rows()

    # ---- the work --------------------------------------------------------------------------------

    def wanted(self):
        """The works that can run here, with their rows. The others are skipped with one line each."""
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
                work = Work(series)
                work.rows = [Row(series, servers.BY_NAME[n]) for n in present]
                chosen.append(work)
        return chosen

    def wanted_singles(self):
        done = {each["name"] for each in self.singles if each["figures"]}
        return [each for each in single_measurements.ALL if each.name not in done and self.wants_single(each)]

    def wants_single(self, each):
        if self.options.only:
            return each.name in self.options.only
        if self.options.group != "core":
            return each.group == self.options.group
        return each.quick if self.options.quick else each.full

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

    def late(self, row):
        """Is there no time for another pair of this row?"""
        base = servers.BY_NAME[row.series.baseline]
        return self.passed() + self.plan.cost(row.series, row.server) + self.plan.cost(row.series, base) > self.options.budget - self.reserve

    def all(self):
        active = self.wanted()
        self.works = {work.series.name: work for work in active}
        if self.options.resume:
            self.resume()
        singles = self.wanted_singles()
        # Twice the time of what is judged, so that it can be repeated.
        self.reserve = min(sum(each.seconds(self.plan) * (2 if limits.judges(each.name) else 1) for each in singles), self.options.budget / 3)
        for judged, others in self.plan.passes():
            for work in active:
                self.visit(work, {row: judged if (work.series.name, row.server.name) in self.judged_rows else others for row in work.rows})
        for look in self.plan.looks():
            for work in active:
                self.visit(work, self.undecided(work, look))
        for each in singles:
            self.one_single(each)

    def undecided(self, work, look):
        """Row -> pairs: the rows that need up to ${look} pairs because a verdict is open."""
        goals = {}
        for names, pairs in limits.undecided(work.report(self.plan.window(work.series))) if work.measured else []:
            for row in work.rows:
                if row.server.name in names and pairs < look:
                    goals[row] = max(goals.get(row, 0), len(row.pairs) + look - pairs)
        return goals

    def one_single(self, each):
        if self.passed() + each.seconds(self.plan) > 1.1 * self.options.budget:
            self.skip(f"{each.name}: no time left")
            return
        begun, figures, note = time.monotonic(), {}, ""
        while True:
            self.progress(each.name)
            try:
                more, note = each.measure(self)
            except (Failure, OSError) as problem:
                more, note = {}, str(problem)
            for name, values in more.items():
                figures.setdefault(name, []).extend(values)
            if not more or not self.goes_on(each, figures):
                break
        self.singles.append({"name": each.name, "title": each.title, "seconds": round(time.monotonic() - begun, 1), "figures": figures, "note": note})
        self.say("\n" + render.text_single(self.singles[-1]))

    def goes_on(self, each, figures):
        """Is a verdict on a single measurement open, and is there time to repeat it?"""
        late = self.passed() + each.seconds(self.plan) > self.options.budget
        return not late and max(map(len, figures.values()), default=0) < self.plan.most and limits.undecided_single(each.name, figures)

    def visit(self, work, goals):
        """Bring the rows of a series to their numbers of pairs (row -> pairs). A visit begins with A/A pairs."""
        rows = [row for row, goal in goals.items() if row.wants(goal)]
        if not rows or self.late(rows[0]):
            return
        try:
            self.prepare_all(work, rows)
            again = max(len(work.again.pairs) + 1, self.plan.again)
            while work.again.wants(again) and not self.late(work.again):
                self.one_round(work, [work.again])
            while rows := [row for row in rows if row.wants(goals[row]) and not self.late(row)]:
                self.one_round(work, rows)
        finally:  # an interrupted visit counts, too
            work.visited = True
            self.tell(work)
            render.write_json(self.report(False), self.options.output)

    def tell(self, work):
        """One line about a visit."""
        figure = render.main_figure(work.report(0))
        pairs = ", ".join(f"{row.server.name} {len(row.pairs)}" for row in work.rows)
        self.say(f"{work.series.name}: A/A {render.ratio(stats.ratios(work.again.pairs, figure), True)}; pairs: {pairs} ({self.passed():.0f} s)")

    def prepare_all(self, work, rows):
        """What precedes the first pair of each row."""
        fresh = [row for row in rows if not row.prepared]
        for row in fresh:
            self.prepare(row)
        for row in (work.floor, work.again):
            row.traffic = row.traffic or rows[0].traffic
        if not work.again.prepared:
            self.prepare(work.again)
        # The counts come first, because they do not depend on the clock.
        if work.series.counted:
            for row in [work.floor, *fresh]:
                if row.syscalls is None:
                    self.count_calls(row)

    def prepare(self, row):
        """Learn a row's traffic and rate."""
        series, row.prepared = row.series, True
        try:
            if series.answer is not None:
                row.traffic = servers.Traffic(series.lines.get(row.server.name, series.request), series.answer)
            elif series.exchange == "answer" and row.traffic is None:
                running = row.server.start(self.options.build, "answer", {self.cpus[0]})
                try:
                    row.traffic = learn(running.port, series.request)
                finally:
                    running.stop()
            if series.half_rate_of is not None and row.rate is None:
                row.rate = self.best_rate(series.half_rate_of, row.server) / 2
        except (Failure, OSError) as problem:
            row.fail(problem, times=FAILURES_MAX)

    def best_rate(self, name, server):
        """The rate of a server in the series ${name}, a closed loop."""
        work = self.works.get(name)
        row = work and work.row(server.name)
        rate = max((peer["rate"] for peer, _ in row.pairs), default=None) if row else None
        if rate is None:  # that series was not run: one run of it
            cpus = self.cpus if SERIES_BY_NAME[name].pinned else None
            rate = load.run(self.options.build, SERIES_BY_NAME[name], server, cpus, self.plan.seconds, self.plan.warmup)["rate"]
        return rate

    def run(self, row, server, seconds, warmup, **more):
        cpus = self.cpus if row.series.pinned else None
        return load.run(self.options.build, row.series, server, cpus, seconds, warmup, traffic=row.traffic, **more)

    def one_round(self, work, rows):
        """One pair of each row, one after the other, while there is time."""
        for row in rows:
            if not self.late(row):
                self.progress(f"{row.series.name}: {row.server.name}, pair {len(row.pairs) + 1}")
                self.one_pair(row, work.rounds)
        work.rounds += 1

    def one_pair(self, row, number):
        """Run the row and the baseline, at the same rate if it is given; in odd pairs the baseline first."""
        order = [("peer", row.server), ("base", servers.BY_NAME[row.series.baseline])]
        row.attempts += 1
        values = {}
        try:
            for side, server in order if row.attempts % 2 else reversed(order):
                values[side] = self.run(row, server, self.plan.window(row.series), self.plan.warmup, rate=row.rate)
        except Failure as problem:
            row.fail(problem)
            return
        row.add(number, values["peer"], values["base"])

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

    def done(self):
        """The report of each series that was measured, in the order of the list."""
        found = [self.works[each.name] for each in SERIES if each.name in self.works and self.works[each.name].measured]
        return [work.report(self.plan.window(work.series)) for work in found]

    def verdicts(self):
        """The rows of limits.py: all of them with --limits, else those that were measured."""
        return limits.check({"series": self.done(), "single_measurements": self.singles}, self.options.limits and not self.options.part,
                            self.options.group)

    def command(self):
        """The target of make that runs this."""
        if self.options.group != "core":
            return f"bench-{self.options.group}"
        return "bench-limit" if self.options.limits else "bench-quick" if self.options.quick else "bench"

    def report(self, complete):
        return {
            "schema": render.SCHEMA, "kind": self.kind, "complete": complete, "machine": self.machine, "programs": self.programs(),
            "command": "make " + self.command(), "budget_s": self.options.budget,
            "seconds": round(self.passed() + self.earlier, 1), "pairs_wanted": self.plan.pairs, "pairs_max": self.plan.most,
            "seconds_of_a_run": self.plan.seconds, "warmup_s": self.plan.warmup,
            "group": self.options.group, "limits": self.verdicts(),
            "syscalls_by": self.counter.name if self.counter else None, "skipped": self.skipped, "series": self.done(),
            "single_measurements": self.singles,
        }

    @property
    def kind(self):
        return "short" if self.options.short else "quick" if self.options.quick else "full"

    def programs(self):
        """A digest of what is measured: xchg's programs and the sources of its peers."""
        paths = [os.path.join(self.options.build, name) for name in PROGRAMS]
        paths += sorted(os.path.join(folder, name) for folder, _, names in os.walk(PEERS) for name in names)
        digest = hashlib.sha256()
        for path in filter(os.path.isfile, paths):
            with open(path, "rb") as stream:
                digest.update(path.encode() + b"\0" + hashlib.sha256(stream.read()).digest())
        return digest.hexdigest()[:16]

    def resume(self):
        """Take over the report in the output folder, if there is one: its pairs and its single measurements."""
        path = os.path.join(self.options.output, "bench.json")
        if not os.path.exists(path):
            return
        with open(path) as stream:
            earlier = json.load(stream)
        for key, own in (("schema", render.SCHEMA), ("kind", self.kind), ("group", self.options.group), ("programs", self.programs()),
                         ("seconds_of_a_run", self.plan.seconds), ("warmup_s", self.plan.warmup)):
            if earlier.get(key) != own:
                raise Failure(f"{path} cannot be continued: its {key} is {earlier.get(key)}, not {own}")
        for key in ("cpu", "cpus_usable", "kernel", "memory_gib"):
            if earlier["machine"][key] != self.machine[key]:
                raise Failure(f"{path} is of another machine: {key} is {earlier['machine'][key]}, not {self.machine[key]}")
        for each in earlier["series"]:
            self.works.setdefault(each["name"], Work(SERIES_BY_NAME[each["name"]])).read(each)
        self.singles += [each for each in earlier["single_measurements"] if each["figures"]]
        self.earlier = earlier["seconds"]
        self.say(f"continued: {path}, {len(earlier['series'])} series")

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
        except Failure as problem:
            print(problem, file=sys.stderr)
            return 1
        done, verdicts = self.done(), self.verdicts()
        if done or self.singles:
            self.write(done, verdicts, complete)
        if not complete:
            return 130
        if self.options.limits:
            return 1 if limits.failed(verdicts) else 0
        return 0 if done or self.singles else 1

    def write(self, done, verdicts, complete):
        """The tables of text, and all files."""
        pages = [self.options.document, self.options.picture] if complete else []
        render.write_all(self.report(complete), self.options.output, *pages)
        for each in done:
            self.say("\n" + render.text_series(each))
        if verdicts:
            self.say("\n" + limits.text(verdicts) + "\n" + limits.LEGEND)
        if done:
            self.say("\n" + render.RATIO_NOTE)
        files = [f"{self.options.output}/bench.json and bench.html", *filter(None, pages)]
        self.say(f"\n{', '.join(files)} ({self.passed():.0f} s)")


def parse():
    parser = argparse.ArgumentParser(description="Compare xchgd with its peers. benchmarks/README.md explains every figure.")
    parser.add_argument("--build", default="build", help="where the programs are (build)")
    parser.add_argument("--output", help="the folder of bench.json and bench.html (BUILD/bench)")
    parser.add_argument("--document", help="a Markdown page whose part of this group is written as well")
    parser.add_argument("--picture", help="a picture (SVG) whose part of this group is written as well")
    parser.add_argument("--resume", action="store_true", help="continue the report in the output folder: more rows, or more pairs of its rows")
    parser.add_argument("--quick", action="store_true", help="fewer rows, three pairs")
    parser.add_argument("--group", choices=GROUPS, default="core", help="the series to run without --only (core)")
    parser.add_argument("--short", action="store_true", help="small numbers, two pairs: a test of the runner, not a measurement")
    parser.add_argument("--budget", type=float, help="seconds for everything (2640, quick 280)")
    parser.add_argument("--pairs", type=int, help="pairs per row (8, quick 3, short 2)")
    parser.add_argument("--pairs-max", type=int, help="pairs of a row whose verdict is open (32, quick 8, short 2; with --pairs, the same number)")
    parser.add_argument("--only", help="SERIES, SERIES/SERVER or a single measurement, separated by commas")
    parser.add_argument("--limits", action="store_true", help="run the rows of limits.py; exit code 1 if one fails or too many are undecided")
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
    groups = {SERIES_BY_NAME.get(part.split("/")[0], single_measurements.BY_NAME.get(part)).group for part in options.only}
    options.group = groups.pop() if len(groups) == 1 else options.group
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
