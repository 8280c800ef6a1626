"""Goal: the text, JSON, CSV, HdrHistogram and HTML of one run of xchg-bench say the same, value by value."""

import contextlib
import csv
import html.parser
import json
import os
import re
import tempfile
import unittest

from bench import Fake, bench, echo
from clients import serve
from xchgd import reset, receive_exactly

UNITS = {"us": 1, "ms": 1e3, "s": 1e6, "m": 60e6}
PERCENTS = {"50": "p50", "75": "p75", "90": "p90", "99": "p99", "99.9": "p99_9", "99.99": "p99_99"}


def microseconds(text):
    """The value of "12.34ms", or None for "-"."""
    if text == "-":
        return None
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * UNITS[unit]


class Tables(html.parser.HTMLParser):
    """The rows of all tables of a page, and its text."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.text, self.cell = [], "", None
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.rows[-1].append(self.cell)
            self.cell = None

    def handle_data(self, data):
        self.text += data
        if self.cell is not None:
            self.cell += data

    def row(self, name):
        return next((row for row in self.rows if row and row[0] == name), None)


class Agree(unittest.TestCase):
    """Goal: the five outputs of one run agree, whatever the run was like."""

    def outputs(self, address, *options, codes=(0,)):
        """Run xchg-bench. Returns text, JSON, CSV rows, lines of the .hgrm and the page."""
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            paths = {kind: os.path.join(folder, kind) for kind in ("json", "csv", "hdr", "html")}
            ran = bench("-L", *options, *(word for kind, path in paths.items() for word in (f"--{kind}", path)), address)
            self.assertIn(ran.returncode, codes, ran.stdout + ran.stderr)
            files = {kind: stack.enter_context(open(path)) for kind, path in paths.items()}
            return (ran.stdout, json.load(files["json"]), list(csv.DictReader(files["csv"])), files["hdr"].read(),
                    Tables(files["html"].read()))

    def near(self, shown, exact, what, least=0.0051):
        """${shown} is ${exact} rounded to two decimals of its unit, or to ${least}; None stands for no value."""
        if shown is None or exact is None:
            self.assertEqual(shown, exact, what)
        else:
            self.assertAlmostEqual(shown, exact, delta=max(least, 0.0051 * abs(exact)), msg=what)

    def check_times(self, text, report, hgrm, page):
        times = report["latency_us"]
        for name, row_name in (("latency_us", "whole exchange"), ("connect_us", "connect"), ("first_byte_us", "first byte")):
            row, values = page.row(row_name), report[name]
            self.assertEqual(int(row[1]), values["count"])
            for shown, key in zip(row[2:], ("mean", "stddev", "min", *PERCENTS.values(), "max")):
                self.near(microseconds(shown), values[key], (name, key))
            line = re.search(rf"(?m)^    {row_name.replace('whole exchange', 'Latency').capitalize()} +(\S+) +(\S+) +(\S+) ", text)
            for shown, key in zip(line.groups(), ("mean", "stddev", "max")):
                self.near(microseconds(shown), values[key], (name, key))
        table = dict(re.findall(r"(?m)^ +([\d.]+)%  (\S+)$", text.split("uncorrected: ")[0]))
        for percent, key in {**PERCENTS, "100": "max"}.items():
            self.near(microseconds(table[f"{float(percent):.3f}"]), times[key], percent)
        for shown, key in zip(re.search(r"Mean +=\s+(\S+), StdDeviation +=\s+(\S+)\]\n#\[Max +=\s+(\S+),", hgrm).groups(),
                              ("mean", "stddev", "max")):
            self.near(None if shown == "-" else float(shown) * 1000, times[key], key, 0.51)  # ms with three decimals
        self.assertEqual(int(re.search(r"Total count +=\s+(\d+)", hgrm).group(1)), times["count"])

    def check_counts(self, text, report, rows, page):
        errors = report["errors"]
        kinds = {kind: count for kind, count in errors.items() if kind != "errno"}
        self.assertEqual(int(re.search(r"(?m)^  (\d+) requests in", text).group(1)), report["exchanges"])
        self.assertEqual(sum(int(row["exchanges"]) for row in rows), report["exchanges"])
        for key in ("bytes_in", "bytes_out"):
            self.assertEqual(sum(int(row[key]) for row in rows), report[key])
        listed = re.search(r"(?m)^  Errors: (.*)$", text)
        self.assertEqual({k: int(v) for k, v in re.findall(r"(\w+) (\d+)", listed.group(1))} if listed else dict.fromkeys(kinds, 0), kinds)
        for kind, count in kinds.items():
            self.assertIn([kind, str(count)], page.rows)
        for name, count in errors["errno"].items():
            self.assertIn([f"... {name}", str(count)], page.rows)
            self.assertIn(f"{name} {count}", text)
        self.assertIn(f"{sum(kinds.values())} errors", page.text)
        shown = re.search(r"(?m)^Requests/sec: +(\S+)$", text).group(1)
        self.assertEqual(shown, f"{report['rate']:.2f}")
        self.assertIn(f"{shown} exchanges a second", page.text)
        for row, interval in zip(rows, report["interval"], strict=True):
            for key in ("rate", "target_rate", "p50_us", "p90_us", "p99_us", "max_us"):
                self.near(float(row[key]) if row[key] else None, interval[key], key)
            for key in ("exchanges", "errors", "bytes_in", "bytes_out"):
                self.assertEqual(int(row[key]), interval[key])

    def check_rest(self, text, report, rows, hgrm, page):
        unfinished = report["unfinished"]["count"]
        self.assertIn(f"Unfinished: {unfinished} at the end", text)
        self.assertEqual(rows[-1]["unfinished"], str(unfinished))
        self.assertEqual(int(re.search(r"Unfinished = +(\d+)", hgrm).group(1)), unfinished)
        usage, row = report["client"], page.row("harness")
        per_exchange = usage["cpu_us_per_exchange"]
        self.near(microseconds(row[2]), per_exchange, "CPU per exchange")
        self.assertEqual("per exchange" in re.search(r"(?m)^  Harness: .*$", text).group(0), per_exchange is not None)
        self.near(float(row[1].split()[0]), 100 * usage["utilisation"], "utilisation", 0.051)
        if report["target_rate"] is None:
            self.assertNotIn("Target/sec:", text)
        else:
            self.assertIn(f"Target/sec:   {report['target_rate']:10.2f}", text)
            self.assertIn(f"of {report['target_rate']:.2f} wanted", page.text)
            self.assertIn(f"Schedule: {report['late']} begun more than 1ms late", text)
            self.assertIn(f"{report['dropped']} dropped", text)
            self.assertIn(f"{report['dropped']} were dropped", page.text)

    def check(self, *arguments, **keywords):
        text, report, rows, hgrm, page = self.outputs(*arguments, **keywords)
        self.check_times(text, report, hgrm, page)
        self.check_counts(text, report, rows, page)
        self.check_rest(text, report, rows, hgrm, page)
        return text, report, page

    def test_closed_loop(self):
        with serve(XCHG_EXCHANGE="echo") as server:
            self.check(server.addresses[0], "-x", "echo", "-d", "1200ms")

    def test_open_loop(self):
        with serve(XCHG_EXCHANGE="echo") as server:
            text, report, page = self.check(server.addresses[0], "-x", "echo", "-R", 300, "-d", "1500ms", "-U", "--pid", server.pid)
            uncorrected = report["latency_uncorrected_us"]
            table = dict(re.findall(r"(?m)^ +([\d.]+)%  (\S+)$", text.split("uncorrected: ")[1]))
            row = page.row("... uncorrected")
            self.assertEqual(int(row[1]), uncorrected["count"])
            for index, (percent, key) in enumerate(PERCENTS.items()):
                self.near(microseconds(table[f"{float(percent):.3f}"]), uncorrected[key], percent)
                self.near(microseconds(row[5 + index]), uncorrected[key], percent)
            self.near(microseconds(page.row("server")[2]), report["server"]["cpu_us_per_exchange"], "server")

    def test_errors(self):
        def one_in_three(connection, number):
            if number % 3 == 0:
                receive_exactly(connection, 64)
                reset(connection)
            echo(connection)

        with Fake(one_in_three) as fake:
            self.check(fake.address, "-x", "echo", "-d", "700ms", "-c", 6)

    def test_no_exchange(self):
        """Where nothing was measured, each output has no value: "-", null or nothing."""
        with Fake(lambda connection, _: None) as fake:
            text, report, page = self.check(fake.address, "-n", 1, codes=(1,))
        self.assertEqual(report["exchanges"], 0)
        self.assertIsNone(report["latency_us"]["p99"])
        self.assertNotRegex(text, r"%  0\.00us")

    def test_unfinished(self):
        with Fake(lambda connection, _: connection.recv(64) and connection.recv(1)) as fake:
            _, report, _ = self.check(fake.address, "-x", "echo", "-d", "400ms", "-R", 100, codes=(1,))
        self.assertGreater(report["unfinished"]["count"], 0)
