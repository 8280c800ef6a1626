"""Goal: the runner of the benchmarks decides its verdicts, shares its time and draws its pages as benchmarks/README.md says.

Servers, loads and the clock are simulated, so no figure here depends on the machine.
"""

import argparse
import contextlib
import html
import itertools
import json
import os
import re
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from importlib.machinery import SourceFileLoader
from unittest import mock

from test_bench_html import CHROMIUM, browse
from xchgd import TOP

sys.path.insert(0, os.path.join(TOP, "benchmarks", "runner"))
import limits  # noqa: E402
import load  # noqa: E402
import parts  # noqa: E402
import picture  # noqa: E402
import plots  # noqa: E402
import processes  # noqa: E402
import render  # noqa: E402
import series  # noqa: E402
import stats  # noqa: E402
from limits import Limit  # noqa: E402
from plan import LOOKS, Plan  # noqa: E402
from work import FAILURES_MAX  # noqa: E402

# By its path: the folder of the tests has a bench.py, too.
bench = SourceFileLoader("runner_bench", os.path.join(TOP, "benchmarks", "runner", "bench.py")).load_module()

MACHINE = {"date": "2026-01-01", "cpu": "a CPU <1>", "architecture": "x86_64", "cpus": 2, "cpus_usable": 2, "hypervisor": True, "governor": "unknown",
           "kernel": "6.1", "distribution": "a system & more", "memory_gib": 8.0, "descriptors": 20000, "somaxconn": "4096",
           "cpu_of_the_server": 0, "cpu_of_the_load": 1, "load_average_before": 0.1}


class Servers:
    """Simulated servers: each run takes its planned time, and its figures are base * of(server, number of the run)."""

    def __init__(self, of=lambda server, run: 1.0):
        self.of, self.now, self.log, self.counts = of, 0.0, [], {}

    def run(self, build, a_series, server, cpus, seconds, warmup, traffic=None, rate=None, **_):
        self.now += Plan(False, False).cost(a_series, server)
        number = self.counts[server.name] = self.counts.get(server.name, -1) + 1
        self.log.append((a_series.name, server.name, rate))
        factor = self.of(server.name, number)
        if factor is None:
            raise processes.Failure("the server ended by signal 9")
        figures = {"rate": rate or 1000 / factor, "cpu_us": 5.0 * factor, "p50_us": 100 * factor, "p90_us": 200 * factor, "p99_us": 400 * factor,
                   "p99_9_us": 800.0, "client_us": 5.0, "server_busy": 0.5, "client_busy": 0.5}
        return figures | {"client_bound": False, "exchanges": 1000, "calls": None}


def options(**changes):
    found = dict(build="build", output="/nonexistent", document=None, picture=None, resume=False, quick=False, group="core", short=False,
                 budget=100000.0, pairs=None, pairs_max=None, only=[], limits=False, part=True)
    return argparse.Namespace(**found | changes)


def run_bench(servers, writes=False, **changes):
    """A finished bench with simulated servers."""
    with simulated(servers, writes):
        found = bench.Bench(options(**changes))
        found.machine = dict(MACHINE)
        found.all()
        return found


def simulated(servers, writes):
    """Everything of the runner that touches the machine is replaced."""
    stack = contextlib.ExitStack()
    for target, name, value in ((load, "run", servers.run), (bench.time, "monotonic", lambda: servers.now), (bench.counts, "counter", lambda: None),
                                (bench.Bench, "say", lambda self, line: None), (bench.Bench, "wanted_singles", lambda self: []),
                                (bench.machine, "descriptors", lambda: 20000), (bench.Bench, "programs", lambda self: "the same")):
        stack.enter_context(mock.patch.object(target, name, value))
    for server in bench.servers.ALL:
        stack.enter_context(mock.patch.object(server, "missing", lambda build: None))
    if not writes:
        stack.enter_context(mock.patch.object(render, "write_json", lambda report, folder: None))
    return stack


def pairs_of(found, name):
    return {row.server.name: len(row.pairs) for row in found.works[name].rows}


class Intervals(unittest.TestCase):
    """Goal: an interval contains the true median as often as it says."""

    def test_the_level_is_that_of_all_possible_orders(self):
        for count in range(1, 13):
            k, level = stats.rank(count)
            # Each value is below the median or above it. The interval misses the median if fewer than k are on one of its sides.
            holds = sum(k <= sum(above) <= count - k for above in itertools.product((0, 1), repeat=count))
            self.assertAlmostEqual(level, holds / 2 ** count, msg=count)

    def test_it_is_the_narrowest_one_of_its_level(self):
        for count in range(limits.PAIRS_MIN, 33):
            k, level = stats.rank(count)
            self.assertGreaterEqual(level, stats.LEVEL, count)
            next_level = 1 - sum(2 * stats.math.comb(count, i) for i in range(k + 1)) / 2 ** count
            self.assertLess(next_level, stats.LEVEL, count)
        self.assertEqual([stats.rank(count)[0] for count in (1, 4, 5, 7, 8, 12, 16, 24, 32)], [1, 1, 1, 1, 2, 3, 5, 8, 11])
        self.assertLess(stats.rank(limits.PAIRS_MIN - 1)[1], stats.LEVEL)

    def test_more_pairs_make_it_narrower(self):
        few, many = stats.spread(range(8)), stats.spread([value / 4 for value in range(32)])
        self.assertLess(many["high"] - many["low"], 0.6 * (few["high"] - few["low"]))


class Verdicts(unittest.TestCase):
    """Goal: a verdict is given only if the whole interval is on one side of the target."""

    def judged(self, limit, values, floor=None, distance=None):
        spreads = [each and stats.spread(each) for each in (values, floor, distance)]
        return limits.line(limit, "a row", spreads[0], "", "floor", spreads[1], spreads[2])

    def test_an_interval_that_crosses_the_target_is_undecided(self):
        limit = Limit("echo-64", "cpu_us", 1.03, 1.01)
        for low, high, verdict in ((1.02, 1.03, "pass"), (1.02, 1.031, "undecided"), (1.031, 1.05, "FAIL"), (0.99, 1.0, "pass, stretch too"),
                                   (0.99, 1.011, "pass"), (1.03, 1.0304, "pass"), (1.0, 1.2, "undecided")):
            self.assertEqual(self.judged(limit, [low] * 4 + [high] * 4)["verdict"], verdict, (low, high))

    def test_least_turns_it_round(self):
        limit = Limit("greet-free", "rate", 0.9, 1.0, least=True)
        for low, high, verdict in ((0.9, 0.95, "pass"), (0.89, 0.95, "undecided"), (0.8, 0.89, "FAIL"), (1.0, 1.1, "pass, stretch too")):
            self.assertEqual(self.judged(limit, [low] * 4 + [high] * 4)["verdict"], verdict, (low, high))

    def test_too_few_pairs_decide_nothing(self):
        limit = Limit("echo-64", "cpu_us", 1.03)
        for count in range(1, 8):
            for value, verdict in ((0.5, "pass"), (2.0, "FAIL")):
                self.assertEqual(self.judged(limit, [value] * count)["verdict"], verdict if count >= 5 else "undecided", count)
        self.assertEqual(self.judged(limit, None)["verdict"], "not measured")

    def test_a_count_needs_no_pairs(self):
        self.assertEqual(self.judged(Limit("echo-1", "calls", 3.0), [3.0])["verdict"], "pass")
        self.assertEqual(self.judged(Limit("gone", "kib", 256), [300])["verdict"], "FAIL")

    def test_a_target_that_the_floor_misses_becomes_a_distance(self):
        limit = Limit("ping-pipeline-16", "cpu_us", 0.5, to="redis", within=1.1)
        for floor, distance, verdict in (([0.55] * 8, [1.05] * 8, "pass"), ([0.55] * 8, [1.2] * 8, "FAIL"), ([0.55] * 8, [1.0, 1.2] * 4, "undecided"),
                                         ([0.4, 0.6] * 4, [1.05] * 8, "FAIL"), ([0.4] * 8, [1.05] * 8, "FAIL"), (None, None, "FAIL")):
            row = self.judged(limit, [0.6] * 8, floor, distance)
            self.assertEqual(row["verdict"], verdict, (floor, distance))
            self.assertEqual(row["by_distance"], floor == [0.55] * 8)
        unbound = Limit("mn-connect", "cpu_us", 0.5, to="memcached")
        self.assertEqual(self.judged(unbound, [0.6] * 8, [0.55] * 8, [1.0] * 8)["verdict"], "FAIL")

    def test_exit_code(self):
        def rows(*verdicts):
            return [{"what": f"row {i}", "verdict": verdict} for i, verdict in enumerate(verdicts)]
        for verdicts, failed in ((["pass"], False), (["pass", "FAIL"], True), (["not measured"] + ["pass"] * 8, True), (["undecided"] + ["pass"] * 3, False),
                                 (["undecided"] * 2 + ["pass"] * 3, True), (["undecided"] + ["pass"] * 2 + ["shown"] * 9, True), ([], False)):
            self.assertEqual(limits.failed(rows(*verdicts)), failed, verdicts)
        found = limits.conclusion(rows("undecided", "pass", "undecided"))
        self.assertIn("row 0; row 2", found)
        self.assertIn("More than a quarter", found)
        self.assertEqual(limits.conclusion(rows("pass", "shown")), "")


class Pairs(unittest.TestCase):
    """Goal: pairs go on until the verdict is decided, at most to the limit, and begin with A/A pairs."""

    def ratio(self, *ratios):
        """A bench of echo-64/xchgd whose pairs have these ratios in turn."""
        return run_bench(Servers(lambda name, run: ratios[run % len(ratios)] if name == "xchgd" else 1.0), only=["echo-64/xchgd"])

    def test_a_decided_row_stops(self):
        for ratio, verdict in ((1.0, "pass, stretch too"), (1.2, "FAIL")):
            found = self.ratio(ratio)
            self.assertEqual(pairs_of(found, "echo-64"), {"xchgd": 8})
            self.assertEqual(found.verdicts()[0]["verdict"], verdict)

    def test_a_row_on_its_target_goes_on_to_the_end(self):
        found = self.ratio(1.0, 1.06)
        self.assertEqual(pairs_of(found, "echo-64"), {"xchgd": 32})
        self.assertEqual((found.verdicts()[0]["verdict"], found.verdicts()[0]["count"]), ("undecided", 32))

    def test_a_row_stops_at_the_look_that_decides_it(self):
        found = self.ratio(1.0, 1.2, 1.0, 1.2, *[1.0] * 100)  # two high values of eight, two of twelve
        self.assertEqual(pairs_of(found, "echo-64"), {"xchgd": 12})
        self.assertIn(12, LOOKS)

    def test_both_rows_of_a_comparison_go_on_in_the_same_rounds(self):
        servers = Servers(lambda name, run: [1.0, 1.06][run % 2] if name == "xchgd" else 1.0)
        found = run_bench(servers, only=["echo-64/xchgd", "echo-64/libuv", "echo-64/libevent-bev"])
        self.assertEqual(pairs_of(found, "echo-64"), {"xchgd": 32, "libuv": 32, "libevent-bev": 8})
        rounds = {row.server.name: row.rounds for row in found.works["echo-64"].rows}
        self.assertEqual(rounds["xchgd"], rounds["libuv"])
        self.assertEqual({row["what"]: row["count"] for row in found.verdicts()}["echo-64: xchgd's cpu_us / libuv"], 32)

    def test_a_series_begins_with_its_baseline_against_itself(self):
        for group, only in (("core", "echo-64/xchgd"), ("languages", "languages-echo-64/go-net"), ("http", "http-64-wrk/http-example")):
            servers = Servers()
            found = run_bench(servers, only=[only], group=group)
            work, = found.works.values()
            base = work.series.baseline
            self.assertEqual([name for _, name, _ in servers.log[:8]], [base] * 8)
            self.assertIn(work.rows[0].server.name, [name for _, name, _ in servers.log[8:10]])
            again = found.report(True)["series"][0]["again"]
            self.assertGreaterEqual(again["pairs"], 4)
            self.assertEqual(again["ratios"]["cpu_us"]["median"], 1.0)

    def test_the_order_alternates(self):
        servers = Servers()
        run_bench(servers, only=["echo-64/xchgd"], pairs=4)
        firsts = [a for (_, a, _), (_, b, _) in zip(servers.log[::2], servers.log[1::2]) if a != b]
        self.assertEqual(firsts, ["xchgd", "bare"] * 2)

    def test_an_open_loop_gives_both_servers_half_of_the_rows_best_rate(self):
        servers = Servers(lambda name, run: {"go-net": 2.0}.get(name, 1.0) * (1.0 + 0.1 * (run % 3)))
        found = run_bench(servers, only=["languages-echo-64/go-net", "languages-open-half/go-net"], group="languages")
        best = max(peer["rate"] for peer, _ in found.works["languages-echo-64"].rows[0].pairs)
        rates = {name: {rate for series_name, server, rate in servers.log if series_name == "languages-open-half" and server == name} for name in ("go-net", "xchgd")}
        self.assertEqual(rates["go-net"], {best / 2})
        self.assertIn(best / 2, rates["xchgd"])
        self.assertEqual(len(rates["xchgd"]), 2)  # the other one is half of xchgd's own rate, in its A/A pairs
        self.assertEqual(found.works["languages-open-half"].rows[0].late_runs(), 0)

    def test_runs_that_fall_behind_their_rate_are_counted(self):
        servers = Servers()
        slow = servers.run
        servers.run = lambda *a, **more: slow(*a, **more) | ({"rate": 0.9 * more["rate"]} if more.get("rate") else {})
        found = run_bench(servers, only=["open-half/xchgd"], pairs=2)
        row, = found.report(True)["series"][0]["rows"]
        self.assertEqual(row["late_runs"], 4)
        self.assertIn("4 of 4 runs below 98 % of this rate", render.notes(row))

    def test_a_server_that_always_fails_is_given_up(self):
        servers = Servers(lambda name, run: None if name == "libuv" else 1.0)
        found = run_bench(servers, only=["echo-64/libuv", "echo-64/xchgd"])
        self.assertEqual([name for _, name, _ in servers.log].count("libuv"), FAILURES_MAX)
        self.assertEqual(pairs_of(found, "echo-64")["libuv"], 0)
        verdicts = {row["what"]: row["verdict"] for row in found.verdicts()}
        self.assertEqual(verdicts["echo-64: xchgd's cpu_us / libuv"], "not measured")
        self.assertTrue(limits.failed(found.verdicts()))

    def test_a_server_that_fails_now_and_then_ends(self):
        servers = Servers(lambda name, run: None if name == "xchgd" and run % 3 else 1.0)
        found = run_bench(servers, only=["echo-64/xchgd"])
        self.assertLessEqual([name for _, name, _ in servers.log].count("xchgd"), 8 + 2 * FAILURES_MAX)
        self.assertEqual(found.works["echo-64"].rows[0].failures, ["the server ended by signal 9"])


class Singles(unittest.TestCase):
    """Goal: a single measurement with an open verdict is repeated while there is time."""

    def measured(self, values, budget=1000.0, pairs_max=None):
        """The figures of `handoff`, each run of which takes 10 s and gives two values."""
        servers, values = Servers(), iter(values)

        def measure(_):
            servers.now += 10
            return {"p50_us": [1.0], "p99_us": [next(values), next(values)]}, "a note"
        single = mock.Mock(measure=measure, seconds=lambda plan: 10, title="hand-off")
        single.name = "handoff"
        with simulated(servers, False):
            found = bench.Bench(options(budget=budget, pairs_max=pairs_max))
            found.one_single(single)
        return found.singles[0]["figures"]["p99_us"] if found.singles else None

    def test_it_stops_when_it_is_decided(self):
        self.assertEqual(self.measured([9, 8]), [9, 8])
        self.assertEqual(self.measured([11, 12]), [11, 12])
        self.assertEqual(len(self.measured([9, 11] + [9] * 20)), 8)  # then the highest of eight is left out

    def test_it_stops_without_time_and_at_the_limit(self):
        self.assertEqual(len(self.measured([9, 11] * 100, budget=35.0)), 6)
        self.assertEqual(len(self.measured([9, 11] * 100)), 32)
        self.assertIsNone(self.measured([9, 11], budget=5.0))


class Budget(unittest.TestCase):
    """Goal: a short budget gives few pairs to all rows, and more to the important ones."""

    def languages(self, budget):
        servers = Servers(lambda name, run: 1.0 if name == "xchgd" else 2.0)
        return servers, run_bench(servers, group="languages", part=False, budget=budget)

    def test_1500_seconds(self):
        servers, found = self.languages(1500.0)
        self.assertLess(servers.now, 1510)
        self.assertGreater(servers.now, 1450)
        counts = {name: pairs_of(found, name) for name in found.works}
        self.assertEqual(len(counts), 14)
        self.assertGreaterEqual(min(min(each.values()) for each in counts.values()), 1)
        judged = limits.judged_rows()
        needed = [count for name, each in counts.items() for server, count in each.items() if (name, server) in judged]
        self.assertEqual(len(needed), 6 * len(series.LANGUAGES))
        self.assertGreaterEqual(min(needed), limits.PAIRS_MIN)
        self.assertTrue(all(row["verdict"] in ("pass", "pass, stretch too") for row in found.verdicts()))

    def test_the_first_series_come_first(self):
        servers, found = self.languages(200.0)
        self.assertLess(servers.now, 210)
        names = list(found.works)
        self.assertEqual(names[:2], ["languages-echo-64", "languages-echo-64-one-core"])
        self.assertEqual(set(pairs_of(found, names[0]).values()), {2})
        self.assertEqual(set(pairs_of(found, names[-1]).values()), {0})

    def test_the_passes_are_bounded_by_the_pairs(self):
        for plan in (Plan(False, False), Plan(True, False), Plan(False, True), Plan(False, False, 1), Plan(False, False, 12), Plan(False, False, 8, 9)):
            self.assertEqual(max(plan.passes()), (plan.pairs, plan.pairs))
            self.assertEqual(plan.passes(), sorted(plan.passes()))
            self.assertEqual(max([plan.pairs, *plan.looks()]), plan.most)
        self.assertEqual(Plan(False, False).looks(), [12, 16, 24, 32])
        self.assertEqual(Plan(True, False).looks(), [5, 8])
        self.assertEqual((Plan(False, False, 1).looks(), Plan(False, True).looks()), ([], []))


class Resume(unittest.TestCase):
    """Goal: a run continues an earlier one of the same programs on the same machine."""

    def setUp(self):
        self.folder = self.enterContext(tempfile.TemporaryDirectory())

    def run_one(self, resume=True, **changes):
        servers = Servers()
        return servers, run_bench(servers, True, output=self.folder, resume=resume, **changes)

    def saved(self):
        with open(os.path.join(self.folder, "bench.json")) as stream:
            return json.load(stream)

    def test_pairs_and_series_are_added(self):
        self.run_one(resume=False, only=["echo-64/xchgd"], pairs=3)
        self.run_one(only=["echo-64/libuv", "echo-1/xchgd"], pairs=3)
        servers, found = self.run_one(only=["echo-64/xchgd"], pairs=5)
        self.assertEqual([name for _, name, _ in servers.log].count("xchgd"), 2)
        report = self.saved()
        self.assertEqual({each["name"]: {row["server"]: row["pairs"] for row in each["rows"]} for each in report["series"]},
                         {"echo-64": {"xchgd": 5, "libuv": 3}, "echo-1": {"xchgd": 3}})
        rounds = [run["round"] for row in report["series"][0]["rows"] for run in row["runs"] if row["server"] == "xchgd"]
        self.assertEqual((len(rounds), rounds), (5, sorted(set(rounds))))
        others = [run["round"] for row in report["series"][0]["rows"] for run in row["runs"] if row["server"] == "libuv"]
        self.assertGreater(rounds[3], max(others))
        self.assertEqual(report["seconds"], round(sum([servers.now, found.earlier]), 1))

    def test_without_it_a_run_begins_anew(self):
        self.run_one(resume=False, only=["echo-64/xchgd"], pairs=3)
        self.run_one(resume=False, only=["echo-1/xchgd"], pairs=3)
        self.assertEqual([each["name"] for each in self.saved()["series"]], ["echo-1"])

    def test_what_is_not_alike_is_refused(self):
        self.run_one(resume=False, only=["echo-64/xchgd"], pairs=3)
        report = self.saved()
        for key, value in (("programs", "other"), ("kind", "short"), ("warmup_s", 5), ("machine", MACHINE | {"kernel": "1.0"})):
            with self.subTest(key):
                render.write_json(report | {key: value}, self.folder)
                with self.assertRaisesRegex(processes.Failure, "cannot be continued|another machine"):
                    self.run_one(only=["echo-64/xchgd"], pairs=5)

    def test_a_changed_program_is_noticed(self):
        os.mkdir(os.path.join(self.folder, "examples"))
        found, digests = bench.Bench(options(build=self.folder)), set()
        for name in ("", *bench.PROGRAMS, "xchgd"):
            if name:
                with open(os.path.join(self.folder, name), "a") as stream:
                    stream.write("another program")
            digests.add(found.programs())
        self.assertEqual(len(digests), 2 + len(bench.PROGRAMS))
        self.assertEqual(found.programs(), bench.Bench(options(build=self.folder)).programs())

    def test_a_report_is_there_after_each_visit(self):
        seen, write = [], render.write_json
        with mock.patch.object(render, "write_json", lambda report, folder: seen.append(report) or write(report, folder)):
            self.run_one(resume=False, only=["echo-64/xchgd", "echo-1/xchgd"], pairs=2)
        self.assertGreaterEqual(len(seen), 2)
        self.assertEqual(len(seen[0]["series"]), 1)
        self.assertFalse(seen[0]["complete"])


class Pages(unittest.TestCase):
    """Goal: every row is drawn and the pages are valid, for each group, with failures and with odd values."""

    @classmethod
    def setUpClass(cls):
        cls.reports = {group: cls.make_report(group) for group in series.GROUPS}

    @staticmethod
    def make_report(group):
        def of(name, run):
            factors = {"libuv": None, "node": 9.0, "go-http": None, "xchgd": 1.0 + run % 5 / 50}
            return factors.get(name, 1.1 + run % 7 / 30)
        only = ["echo-64", "open-half", "greet-free", "mn-64", "pipeline-128"] if group == "core" else []
        found = run_bench(Servers(of), group=group, part=False, pairs=1, only=only)
        found.singles = [{"name": "peers-idle", "title": "memory <of> an idle connection", "seconds": 1, "note": "18,000 connections & more",
                          "figures": {"xchgd: silent": [150.0], "libuv & co: silent": [271.0], "xchgd: spoken": [152.0], "empty: spoken": []}}]
        return found.report(True)

    def test_every_plot_is_valid_and_has_every_row(self):
        for group, report in self.reports.items():
            for each in report["series"]:
                drawn = plots.of_series(each)
                self.assertEqual(len(drawn), 3, each["name"])
                for name, plot in drawn:
                    with self.subTest(name):
                        root = ElementTree.fromstring(plots.svg(plot, name))
                        texts = [text.text for text in root.iter("text")]
                        servers = [row["server"] for row in each["rows"]]
                        self.assertTrue(set(servers) <= set(texts), set(servers) - set(texts))
                        if "latency" not in name.split(": ")[-1] or each["baseline_values"]:
                            self.assertIn(each["baseline"], texts)
                        measured = [row for row in each["rows"] if row["pairs"]]
                        self.assertEqual(texts.count(plots.NO_FIGURE), len(each["rows"]) - len(measured))
                        self.assertGreaterEqual(len(root.findall(".//*[@class='whisker']")), len(measured))
                        self.check_places(root)

    def check_places(self, root):
        """Nothing is drawn outside of the plot."""
        _, _, width, height = map(float, root.get("viewBox").split())
        for element in root.iter():
            for key, value in element.attrib.items():
                if key in ("x", "x1", "x2", "cx"):
                    self.assertTrue(0 <= float(value) <= width, element.attrib)
                if key in ("y", "y1", "y2", "cy"):
                    self.assertTrue(0 <= float(value) <= height, element.attrib)
                self.assertNotRegex(value, r"\b(nan|inf|None)\b")

    def test_a_bar_is_as_long_as_its_value(self):
        marks = [plots.Mark(name, "peer", "", [("ratio", value, value, value)]) for name, value in (("a", 1.0), ("b", 0.5), ("c", 2.0), ("d", 60.0))]
        root = ElementTree.fromstring(plots.svg(plots.bars("t", "c", marks, limit=4.0, one=True), "t"))
        widths = {group.find("text").text: float(group.find("rect").get("width")) for group in root.iter("g")}
        self.assertEqual(list(widths), ["b", "a", "c", "d"])
        self.assertAlmostEqual(widths["a"] / widths["b"], 2, delta=0.01)
        self.assertAlmostEqual(widths["c"] / widths["a"], 2, delta=0.01)
        self.assertAlmostEqual(widths["d"], plots.BAR)  # cut, and marked
        paths = {group.find("text").text: len(group.findall("path")) for group in root.iter("g")}
        self.assertEqual(paths, {"a": 1, "b": 1, "c": 1, "d": 2})
        line = [element for element in root.iter("line") if element.get("class") == "one"]
        self.assertAlmostEqual(float(line[0].get("x1")), plots.LEFT + widths["a"], delta=0.1)

    def test_memory_of_threads_does_not_hide_the_others(self):
        figures = {"xchgd: silent": [100.0], "libuv: silent": [300.0], "lecture-thread: silent": [12000.0]}
        (name, plot), = plots.of_single({"title": "memory", "figures": figures})
        widths = {group.find("text").text: float(group.find("rect").get("width")) for group in ElementTree.fromstring(plots.svg(plot, name)).iter("g")}
        self.assertAlmostEqual(widths["libuv"], plots.BAR / 2, delta=0.1)
        self.assertAlmostEqual(widths["lecture-thread"], plots.BAR)
        self.assertEqual(plots.of_single({"title": "handoff", "figures": {"p50_us": [1.0]}}), [])

    def test_the_best_bar_is_on_top(self):
        marks = [plots.Mark(name, "peer", "", [("", value, value, value)]) for name, value in (("low", 1.0), ("high", 3.0))] + [plots.Mark("none", "peer")]
        for longer, order in ((False, ["low", "high", "none"]), (True, ["high", "low", "none"])):
            root = ElementTree.fromstring(plots.svg(plots.bars("t", "c", marks, longer=longer), "t"))
            self.assertEqual([group.find("text").text for group in root.iter("g")], order)

    def test_the_page_is_complete_and_fetches_nothing(self):
        for group, report in self.reports.items():
            with tempfile.TemporaryDirectory() as folder:
                render.write_all(report, folder)
                with open(os.path.join(folder, "bench.html")) as stream:
                    page = stream.read()
            self.assertEqual(page.count("<svg "), 3 * len(report["series"]) + 2)
            self.assertIsNone(re.search(r"https?://|src=|url\(|@import|<script", page))
            self.assertIsNone(re.search(r"\bnan\b|\binf\b|\bNone\b", page))
            self.assertIn("a CPU &lt;1&gt;", page)
            for each in report["series"]:
                for row in each["rows"]:
                    self.assertIn(f"<td>{row['server']}</td>", page)
            for text in re.findall(r"<svg.*?</svg>", page, re.S):
                ElementTree.fromstring(text)

    def test_the_table_of_targets(self):
        report = self.reports["core"]
        page = render.markdown(report)
        for row in report["limits"]:
            self.assertIn(f"| {row['what']} |", page)
        self.assertIn("Undecided, ", page)
        for line in render.document("", report, "docs.svg").split("\n"):
            self.assertTrue(len(line) <= 100 or line.startswith(("|", "#", "!")), line)

    def test_each_group_keeps_the_parts_of_the_others(self):
        with tempfile.TemporaryDirectory() as folder:
            document, drawing = os.path.join(folder, "docs.md"), os.path.join(folder, "docs.svg")
            for group in ("http", "core", "languages", "core", "http"):
                render.write_all(self.reports[group], folder, document, drawing)
            with open(document) as stream:
                text = stream.read()
            with open(drawing) as stream:
                image = stream.read()
        self.assertEqual(list(parts.read(text)), ["core", "languages", "http"])
        self.assertIn("](docs.svg)", text)
        self.assertEqual({group: parts.read(text)[group] for group in series.GROUPS}, {g: render.markdown(r) for g, r in self.reports.items()})
        self.assertEqual(render.document(text, self.reports["core"], "docs.svg"), text)
        self.assertEqual(text.count("# Benchmarks\n"), 1)
        self.check_picture(image)

    def check_picture(self, image):
        """Two panels for each group, each with all its rows, one below the other."""
        root = ElementTree.fromstring(image)
        name = "{http://www.w3.org/2000/svg}"
        found = [each for each in root if each.get("class") == "part"]
        self.assertEqual(len(found), 3)
        bottom = 0
        for each, group in zip(found, ("core", "languages", "http")):
            panels = each.findall(f"{name}svg")
            self.assertEqual(len(panels), 2)
            self.assertGreaterEqual(int(each.get("y")), bottom)
            bottom = int(each.get("y")) + int(each.get("height"))
            for panel, (series_name, _, _) in zip(panels, picture.PANELS[group]):
                texts = [text.text for text in panel.iter(f"{name}text")]
                rows, = [s["rows"] for s in self.reports[group]["series"] if s["name"] == series_name]
                self.assertTrue({row["server"] for row in rows} <= set(texts))
        self.assertLessEqual(bottom, float(root.get("viewBox").split()[3]))
        self.assertIn("prefers-color-scheme: dark", image)

    def test_every_panel_is_about_a_series(self):
        for group, panels in picture.PANELS.items():
            for name, figure, _ in panels:
                self.assertEqual(series.SERIES_BY_NAME[name].group, group)
                self.assertIn(figure, plots.CAPTIONS)

    def test_a_report_without_the_series_of_the_picture_leaves_it(self):
        with tempfile.TemporaryDirectory() as folder:
            drawing = os.path.join(folder, "docs.svg")
            render.write_all(self.reports["core"], folder, None, drawing)
            with open(drawing) as stream:
                before = stream.read()
            render.write_all(self.reports["core"] | {"series": []}, folder, None, drawing)
            with open(drawing) as stream:
                self.assertEqual(stream.read(), before)


@unittest.skipUnless(CHROMIUM, "chromium is not installed")
class Browser(unittest.TestCase):
    """Goal: a telephone of 320 px shows the whole width of the page, without console messages."""

    def test_a_telephone(self):
        report = Pages.make_report("languages")
        with tempfile.TemporaryDirectory() as folder:
            render.write_all(report, folder)
            with open(os.path.join(folder, "bench.html")) as stream:
                page = stream.read()
            with open(os.path.join(folder, "frame.html"), "w") as stream:
                stream.write(f'<iframe width="320" height="600" style="border: 0" srcdoc="{html.escape(page)}"></iframe><p id="found"></p><script>'
                             'onload = () => { const page = frames[0].document, plots = [...page.querySelectorAll(".plots svg")];'
                             'found.textContent = [page.documentElement.scrollWidth, plots.length,'
                             'Math.min(...plots.map((svg) => svg.getBoundingClientRect().width))].map(Math.floor).join(" "); };</script>')
            dom, console = browse(folder, os.path.join(folder, "frame.html"), "--dump-dom")
        self.assertEqual(console, [])
        width, count, narrowest = map(int, re.search(r'<p id="found">([\d ]+)</p>', dom).group(1).split())
        self.assertLessEqual(width, 320)
        self.assertEqual(count, 3 * len(report["series"]) + 2)
        self.assertGreater(narrowest, 0.8 * plots.WIDTH)  # so a letter of 11.5 units has at least 9 px
