"""Goal: make lecture computes and draws right, and the servers that it compares serve whom they should.

What is asserted of a real run are counts, not times: beside a silent client, the iterative server ends no exchange, and the others do.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml

from test_bench_html import BACKGROUND, CHROMIUM, SCHEMES, browse, pixels
from xchgd import LIMIT, PLAIN, PROGRAM, TOP

RUNNER = os.path.join(TOP, "benchmarks", "runner")
sys.path.insert(0, RUNNER)
import curves  # noqa: E402
import lecture  # noqa: E402
import lecture_page  # noqa: E402

BUILD = os.path.dirname(PROGRAM)
DOCUMENT = os.path.join(TOP, "docs", "lecture.md")
MACHINE = {"date": "2026-11-30", "cpu": "a CPU", "architecture": "x86_64", "cpus": 2, "cpus_usable": 2, "hypervisor": True, "governor": "unknown",
           "kernel": "6.18.1", "distribution": "Debian", "memory_gib": 4.0, "descriptors": 20000, "somaxconn": "4096", "cpu_of_the_server": 0,
           "cpu_of_the_load": 1, "load_average_before": 0.1}
CLIENTS = [1, 10, 100, 1000]
MIB = 1 << 20


def run(number, exchanges=1000, cpu=20.0, *, bound=False, failed=0):
    """The figures of a made-up run."""
    served = exchanges > 0
    return {"round": number, "exchanges": exchanges, "failed": failed, "errors": {}, "client_bound": bound, "server_busy": 0.5, "client_busy": 0.5,
            "silent_greeted": 0, "rate": exchanges * 2.0, "cpu_us": cpu if served else None, "p50_us": 100.0 if served else None,
            "p90_us": 200.0 if served else None, "p99_us": 4000.0 if served else None}


def made_up(clients=CLIENTS, rounds=3):
    """A report with known figures: fork costs 100 us more than iterative, thread 30; iterative stops beside silent clients."""
    cost = {"iterative": 20.0, "fork": 120.0, "thread": 50.0, "pool": 22.0, "pool-again": 22.0}
    shown = [each for each in lecture.all_servers() if not each.textbook]
    points = []
    for scenario in lecture.SCENARIOS:
        for count in clients:
            for each in shown:
                stops = scenario == "silent" and each.name == "iterative"
                runs = [run(i, 0 if stops else 1000 + 10 * i, cost[each.name] + i, bound=each.name == "pool") for i in range(rounds)]
                place = {"scenario": scenario, "clients": count, "silent": lecture.silent_clients(scenario, count), "server": each.name, "runs": runs,
                         "failures": []}
                points.append(place | {"values": lecture_page.summary(place)})
    held = [{"server": name, "clients": count, "failure": None, "greeted": 1 if name == "iterative" else count, "bytes": 2 * MIB + each * count,
             "page_table_bytes": MIB, "processes": count + 1 if name == "fork" else 1, "threads": count + 2 if name in ("fork", "thread") else 3}
            for count in clients for name, each in (("iterative", 0), ("fork", 204800), ("thread", 51200), ("pool", 200))]
    return {"schema": lecture_page.SCHEMA, "complete": True, "command": "make lecture", "machine": MACHINE, "seconds": 300.0, "rounds": rounds,
            "window_s": 0.5, "warmup_s": 0.2, "timeout_s": 2.0, "clients": clients, "servers": [each.facts() for each in shown], "skipped": [],
            "points": points, "held": held}


class Arithmetic(unittest.TestCase):
    """Goal: the figures match figures worked out by hand."""

    def test_one_in_ten_is_silent_and_at_least_one(self):
        self.assertEqual([lecture.silent_clients("silent", count) for count in (1, 3, 10, 11, 1000)], [1, 1, 1, 2, 100])
        self.assertEqual(lecture.silent_clients("fast", 1000), 0)

    def test_medians_and_spreads_of_a_point(self):
        values = lecture_page.summary({"runs": [run(0, 900, 20), run(1, 1000, 21, bound=True), run(2, 1300, 25, bound=True)]})
        self.assertEqual(values["cpu_us"], {"median": 21, "low": 20, "high": 25, "count": 3})
        self.assertEqual(values["rate"]["median"], 2000)
        self.assertEqual((values["stops"], values["client_bound"], values["failed"]), (False, True, 0))

    def test_a_point_stops_if_the_median_run_served_nobody(self):
        self.assertTrue(lecture_page.summary({"runs": [run(0, 0), run(1, 0), run(2, 7)]})["stops"])
        self.assertFalse(lecture_page.summary({"runs": [run(0, 0), run(1, 3), run(2, 7)]})["stops"])
        self.assertFalse(lecture_page.summary({"runs": []})["stops"])

    def test_failed_exchanges_are_a_share(self):
        self.assertEqual(lecture_page.summary({"runs": [run(0, 75, failed=20), run(1, 0, failed=5)]})["failed"], 0.25)

    def test_a_silent_client_that_waits_is_no_failed_exchange(self):
        report = {"exchanges": 0, "rate": 0, "latency_us": {"p50": 4e5}, "idle_connected": 1, "client": {"cpu_us_per_exchange": None, "utilisation": 0.1},
                  "server": {"cpu_us_per_exchange": None, "utilisation": 0.0},
                  "errors": {"connect": 0, "reset": 0, "timeout": 4, "wrong": 0, "short": 0, "errno": {}}}
        found = lecture.run_figures(report, silent=3)
        self.assertEqual((found["failed"], found["rate"], found["cpu_us"], found["p50_us"], found["client_bound"]), (2, 0, None, None, False))
        self.assertEqual(lecture.run_figures(report | {"errors": {"timeout": 2}}, silent=3)["failed"], 0)

    def test_what_a_further_connection_costs(self):
        results = lecture_page.Results(made_up())
        self.assertEqual([results.bytes_per_connection(name) for name in ("fork", "thread", "pool")], [204800, 51200, 200])
        self.assertIsNone(results.bytes_per_connection("iterative"))  # it holds one
        self.assertEqual((lecture_page.per_connection(204800), lecture_page.per_connection(200)), ("200 KiB", "less than 1 KiB"))

    def test_the_double_is_compared_run_by_run(self):
        report = made_up()
        for place in report["points"]:
            if place["server"] == "pool":
                place["runs"] = [each | {"cpu_us": 2 * each["cpu_us"]} for each in place["runs"]]
        again = lecture_page.Results(report).again("cpu_us")
        self.assertEqual(again, {"median": 2, "low": 2, "high": 2, "count": 2 * len(CLIENTS) * 3 - 2})

    def test_the_order_of_a_round_is_reversed_in_the_next(self):
        seen = []
        options = lecture.parse(["--clients", "1", "--rounds", "2", "--no-textbook"])
        plan = lecture.Lecture(options)
        plan.servers, plan.clients = lecture.all_servers(textbook=False), [1]
        original, lecture.one_run = lecture.one_run, lambda options, shown, scenario, clients: seen.append(shown.name) or run(0)
        try:
            plan.one_place(0, "fast", 1)
            plan.one_place(1, "fast", 1)
        finally:
            lecture.one_run = original
        self.assertEqual(seen[5:], seen[4::-1])

    def test_the_command_says_how_to_repeat_it(self):
        self.assertEqual(lecture.command_line(["--build", "build", "--document", "x.md", "--output=y"]), "make lecture")
        self.assertEqual(lecture.command_line(["--build", "b", "--short", "--clients", "1,3"]), "make lecture BENCH_OPTIONS='--short --clients 1,3'")
        self.assertEqual(lecture.parse(["--clients", "10,1,10"]).clients, [1, 10])


class Sentences(unittest.TestCase):
    """Goal: the answers on the pages say what was measured."""

    def answers(self, report):
        return {heading: " ".join(sentences) for heading, sentences in lecture_page.findings(lecture_page.Results(report))}

    def test_answers(self):
        answers = self.answers(made_up())
        self.assertIn("not one exchange ended, whatever the number of clients", answers["Where the iterative server stops"])
        self.assertIn("Of 1,000 silent clients it has greeted 1.", answers["Where the iterative server stops"])
        self.assertIn("costs 121 us of server CPU. That is 100 us more than the 21.0 us", answers["What a fork costs"])
        self.assertIn("1,001 processes and 1,002 threads", answers["What a fork costs"])
        self.assertIn("takes 200 KiB", answers["What a fork costs"])
        self.assertIn("That is 30.0 us more", answers["What a thread costs"])
        self.assertIn("1 process and 3 threads", answers["Where the pool goes"])
        self.assertIn("2,020 exchanges a second for 100 fast clients, and 2,020 with silent ones", answers["Where the pool goes"])

    def test_a_server_that_does_not_stop_is_not_said_to_stop(self):
        report = made_up()
        for place in report["points"]:
            if place["scenario"] == "silent" and place["server"] == "iterative" and place["clients"] != 100:
                place["values"] = lecture_page.summary({"runs": [run(0)]})
        self.assertIn("not one exchange ended with 100 clients.", self.answers(report)["Where the iterative server stops"])

    def test_a_report_with_gaps_has_pages(self):
        report = made_up(clients=[1], rounds=1)
        report["points"] = [place for place in report["points"] if place["server"] == "pool" and place["scenario"] == "fast"]
        report["points"][0] |= {"runs": [], "failures": ["the server ended by signal 9"]}
        report["points"][0]["values"] = lecture_page.summary(report["points"][0])
        report["held"] = [row | {"failure": "no memory"} for row in report["held"]]
        for page in (lecture_page.text(report), lecture_page.markdown(report), lecture_page.html(report)):
            self.assertIn("the server ended by signal 9", page)
            self.assertNotRegex(page, r"\bnan\b|\binf\b|None")


class Curves(unittest.TestCase):
    """Goal: a plot has its points where they belong."""

    def test_ticks_are_round_and_enclose_the_values(self):
        self.assertEqual(curves.linear_ticks(23.0), [0, 5, 10, 15, 20, 25])
        self.assertEqual(curves.linear_ticks(100), [0, 20, 40, 60, 80, 100])
        self.assertEqual(curves.linear_ticks(0), [0, 1])
        self.assertEqual(curves.log_ticks(30, 4000), [10, 100, 1000, 10000])
        self.assertEqual(curves.log_ticks(10, 10), [10, 100])

    def test_the_x_axis_is_logarithmic(self):
        place = curves.scale_x([1, 10, 1000])
        self.assertEqual((place(1), place(1000)), (curves.LEFT, curves.WIDTH - curves.RIGHT))
        self.assertAlmostEqual(place(10) - place(1), (place(1000) - place(1)) / 3)
        self.assertEqual(curves.scale_x([10])(10), curves.LEFT)

    def test_a_cross_interrupts_the_line_and_lies_below_the_plot(self):
        points = [curves.Point(1, 5.0), curves.Point(10, 6.0), curves.Point(100), curves.Point(1000, 7.0)]
        svg = curves.chart([curves.Curve("<x>", 0, points=points)], curves.Axis(str), "a & b")
        root = xml.fromstring(svg)
        lines = [node.get("points").split() for node in root.iter("polyline")]
        self.assertEqual([len(line) for line in lines], [2, 1])
        crosses = [node for node in root.iter("path") if node.get("class") == "cross"]
        self.assertEqual(len(crosses), 1)
        self.assertGreater(float(crosses[0].get("d").split()[1].split("l")[0]), curves.TOP + curves.PLOT)
        self.assertIn("stops", [node.text for node in root.iter("text")])
        self.assertEqual(root.get("aria-label"), "a & b")

    def test_no_lane_without_a_cross(self):
        svg = curves.chart([curves.Curve("x", 1, points=[curves.Point(1, 5.0, 4.0, 6.0)])], curves.Axis(str, log=True), "x")
        self.assertNotIn("stops", svg)
        self.assertEqual(svg.count('class="whisker"'), 1)


class Pages(unittest.TestCase):
    """Goal: the page is complete and self-contained, and the document keeps its text."""

    def setUp(self):
        self.report = made_up()
        self.page = lecture_page.html(self.report)

    def test_the_page_needs_nothing_else(self):
        self.assertIsNone(re.search(r"https?://|src=|url\(|@import|<script", self.page))

    def test_every_plot_has_its_table(self):
        plots = 2 * len(lecture_page.PLOTS) + len(lecture_page.HELD_PLOTS)
        self.assertEqual((self.page.count("<figure>"), self.page.count("<details>"), self.page.count("<table>")), (plots, plots, plots + 1))
        silent = self.page.split('id="silent"')[1].split('id="held"')[0]
        self.assertEqual(silent.count('class="cross"'), len(lecture_page.PLOTS) * len(CLIENTS))
        self.assertEqual(silent.count("<td>stops</td>"), len(lecture_page.PLOTS) * len(CLIENTS))
        self.assertNotIn("pool-again", self.page)

    def test_what_the_load_limits_is_marked(self):
        self.assertEqual(self.page.count('class="mark hollow"'), 2 * len(CLIENTS))
        self.assertIn("2,020 (2,000-2,040)*", self.page)

    def test_only_the_block_of_a_document_is_replaced(self):
        document = f"before\n{lecture_page.BEGIN}\nold\n{lecture_page.END}\nafter\n"
        filled = lecture_page.fill(document, "new")
        self.assertEqual(filled, f"before\n{lecture_page.BEGIN}\n\nnew\n\n{lecture_page.END}\nafter\n")
        self.assertEqual(lecture_page.fill(filled, "new"), filled)
        for text in ("", lecture_page.BEGIN, lecture_page.END):
            with self.assertRaises(ValueError):
                lecture_page.fill(text, "new")

    def test_a_document_has_few_rows(self):
        rows = re.findall(r"^\| ([\d,]+) \|", lecture_page.markdown(made_up([1, 3, 10, 30, 100, 300, 1000])), re.M)
        self.assertEqual(rows, 5 * ["1", "10", "100", "1,000"])
        self.assertEqual(re.findall(r"^\| ([\d,]+) \|", lecture_page.markdown(made_up([2, 20])), re.M), 5 * ["2", "20"])

    def test_the_committed_figures_have_the_form_that_the_program_writes(self):
        def form(text):
            lines = text.split("\n")
            heads = [head for head, rule in zip(lines, lines[1:]) if rule.startswith("|---")]
            return [re.sub(r"\d[\d,]*", "N", line) for line in [*heads, *(line for line in lines if line.endswith(":"))]]
        with open(DOCUMENT) as stream:
            block = stream.read().split(lecture_page.BEGIN)[1].split(lecture_page.END)[0]
        report = made_up()
        report["servers"] = [each.facts() for each in lecture.all_servers()]
        self.assertEqual(form(block), form(lecture_page.markdown(report)))


@unittest.skipUnless(CHROMIUM, "chromium is not installed")
class Browser(unittest.TestCase):
    """Goal: a browser shows the page in light and dark, without console messages."""

    def test_light_and_dark(self):
        with tempfile.TemporaryDirectory() as folder:
            page, picture = os.path.join(folder, "lecture.html"), os.path.join(folder, "page.png")
            with open(page, "w") as stream:
                stream.write(lecture_page.html(made_up()))
            for scheme in SCHEMES:
                with self.subTest(scheme):
                    _, console = browse(folder, page, f"--screenshot={picture}", scheme=scheme)
                    seen = pixels(picture)
                    self.assertEqual(console, [])
                    self.assertGreater(seen.get(BACKGROUND[scheme], 0), 100000)
                    colours = re.findall(r"--c\d: #(\w{6});", lecture_page.STYLE)[0 if scheme == "light" else 4:][:4]
                    for colour in colours:
                        self.assertGreater(seen.get(tuple(bytes.fromhex(colour)), 0), 50, (scheme, colour))


class Measured(unittest.TestCase):
    """Goal: beside a silent client the iterative server ends no exchange, and the others end some; each holds what its model can hold."""

    def test_who_is_served(self):
        if not os.access(os.path.join(BUILD, "xchg-bench"), os.X_OK):
            self.skipTest("not built: xchg-bench")
        if not PLAIN:
            self.skipTest("measures a release build")
        with tempfile.TemporaryDirectory() as folder:
            document = os.path.join(folder, "page.md")
            with open(document, "w") as stream:
                stream.write(f"text\n{lecture_page.BEGIN}\n{lecture_page.END}\n")
            command = [sys.executable, os.path.join(RUNNER, "lecture.py"), "--build", BUILD, "--short", "--clients", "1,3", "--rounds", "1",
                       "--output", folder, "--document", document]
            ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=10 * LIMIT)
            self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)
            with open(os.path.join(folder, "lecture.json")) as stream:
                report = json.load(stream)
            with open(document) as stream:
                self.assertEqual(stream.read(), f"text\n{lecture_page.BEGIN}\n\n{lecture_page.markdown(report)}\n\n{lecture_page.END}\n")
        self.served(report)
        self.are_held(report)
        self.assertIn("not one exchange ended, whatever the number of clients", ended.stdout)

    def served(self, report):
        models = {each["name"]: each["model"] for each in report["servers"]}
        self.assertEqual(len(report["points"]), 2 * 2 * len(models))
        for place in report["points"]:
            with self.subTest(place["server"], scenario=place["scenario"], clients=place["clients"]):
                self.assertEqual(place["failures"], [])
                stops = place["scenario"] == "silent" and models[place["server"]] == "iterative"
                self.assertEqual([each["exchanges"] == 0 for each in place["runs"]], [stops])
                self.assertEqual(place["values"]["stops"], stops)
                self.assertEqual(place["runs"][0]["silent_greeted"], place["silent"])

    def are_held(self, report):
        for row in report["held"]:
            with self.subTest(row["server"], clients=row["clients"]):
                self.assertIsNone(row["failure"])
                self.assertEqual(row["greeted"], 1 if row["server"].endswith("iterative") else row["clients"])
                self.assertEqual(row["processes"], 1 + row["clients"] * row["server"].endswith("fork"))
                self.assertGreaterEqual(row["threads"], row["clients"] if row["server"].endswith(("fork", "thread")) else 1)
                self.assertGreater(row["bytes"], 0)
