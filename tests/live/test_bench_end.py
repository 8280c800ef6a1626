"""Goal: xchg-bench reports the end of a run as it was: what was cut off, what came too late, what was never reached, and
what the load generator itself has caused."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

from bench import BENCH, RUN_LIMIT, Fake, bench, kinds, measure, wait_for_line
from clients import serve
from xchgd import receive_exactly


class Frozen:
    """A server that echoes ${count} messages of a connection and then reads on without an answer."""

    def __init__(self, count):
        self.count = count
        self.fake = Fake(self._serve)

    def _serve(self, connection, _):
        for _ in range(self.count):
            connection.sendall(receive_exactly(connection, 64))
        while connection.recv(65536):
            pass

    def __enter__(self):
        return self.fake.address

    def __exit__(self, *exception):
        self.fake.die()


class Unfinished(unittest.TestCase):
    """Goal: what is in flight or due at the end of the window is in every report, and conditions count it."""

    def run_frozen(self, count, *options):
        """Run against a server that freezes; return the text, the JSON report and the texts of the other files."""
        with Frozen(count) as address, tempfile.TemporaryDirectory() as folder:
            paths = {kind: os.path.join(folder, kind) for kind in ("json", "csv", "hdr", "html")}
            files = [word for kind, path in paths.items() for word in (f"--{kind}", path)]
            ran = bench("-x", "echo", "-t", 1, "-T", "30s", *files, *options, address)
            self.assertEqual(ran.returncode, 99, ran.stdout + ran.stderr)
            texts = {}
            for kind, path in paths.items():
                with open(path) as stream:
                    texts[kind] = stream.read()
            return ran.stdout, json.loads(texts["json"]), texts

    def check(self, text, report, texts, count):
        oldest = report["unfinished"]["oldest_us"]
        self.assertEqual(report["unfinished"]["count"], count)
        self.assertGreater(oldest, 500e3)
        self.assertEqual(report["latency_us"]["max"], oldest)
        self.assertLess(report["latency_us"]["mean"], oldest / 2)
        self.assertEqual(report["latency_us"]["count"], report["exchanges"])
        self.assertEqual(report["histogram"]["unfinished"]["latency"]["count"], count)
        self.assertRegex(text, rf"(?m)^  Unfinished: {count} at the end, the oldest after \d")
        self.assertRegex(text, r"(?m)^Objective max<500ms: .*, missed$")
        self.assertIn(f"{count} exchanges were unfinished at the end", texts["html"])
        self.assertRegex(texts["hdr"], rf"#\[Unfinished = +{count}, Oldest")
        rows = list(csv.DictReader(texts["csv"].split("\n")))
        self.assertEqual([row["unfinished"] for row in rows], [""] * (len(rows) - 1) + [str(count)])
        self.assertEqual(float(rows[-1]["unfinished_oldest_us"]), round(oldest, 3))
        self.assertEqual(max(float(row["max_us"] or 0) for row in rows), round(oldest, 3))
        self.assertEqual([row["unfinished"] for row in report["interval"]], [None] * (len(rows) - 1) + [count])

    def test_open_loop(self):
        text, report, texts = self.run_frozen(300, "-c", 1, "-R", 1000, "-d", "2s", "--slo", "max<500ms")
        self.assertEqual(report["exchanges"], 300)
        self.check(text, report, texts, 1700)
        self.assertEqual(report["dropped"], 1699)
        self.assertGreater(report["latency_us"]["p99"], 500e3)
        self.assertEqual(report["histogram"]["unfinished"]["uncorrected"]["count"], 1)

    def test_closed_loop(self):
        text, report, texts = self.run_frozen(5, "-c", 3, "-d", "1200ms", "--slo", "max<500ms")
        self.assertEqual(report["exchanges"], 15)
        self.check(text, report, texts, 3)
        self.assertEqual(report["dropped"], 0)

    def test_conditions_about_the_end(self):
        with Frozen(300) as address:
            for slo, code in (("unfinished<1000", 99), ("unfinished<=1700,dropped<=1699", 0), ("dropped<50%", 99),
                              ("errors<1%,unfinished<90%", 0)):
                with self.subTest(slo):
                    ran = bench("-x", "echo", "-c", 1, "-t", 1, "-R", 1000, "-d", "2s", "-T", "30s", "--slo", slo, address)
                    self.assertEqual(ran.returncode, code, ran.stdout)

    def test_a_lost_condition_ends_the_run(self):
        with Frozen(300) as address:
            report = measure(address, "-x", "echo", "-c", 1, "-t", 1, "-R", 1000, "-d", "10m", "-T", "5m", "--fail-fast",
                             "--slo", "max<500ms", expect=99)
        self.assertIs(report["aborted"], True)
        self.assertLess(report["seconds"], 600)
        self.assertGreater(report["unfinished"]["count"], 0)

    def test_a_healthy_run_is_not_biased(self):
        with serve(XCHG_EXCHANGE="echo") as server:
            report = measure(server.addresses[0], "-x", "echo", "-c", 20, "-n", 2000)
            self.assertEqual(report["unfinished"], {"count": 0, "oldest_us": None})
            report = measure(server.addresses[0], "-x", "echo", "-c", 20, "-d", "500ms", "--reconnect", 3)
            self.assertLessEqual(report["unfinished"]["count"], 20)

    def test_merged(self):
        with Frozen(1) as address, tempfile.TemporaryDirectory() as folder:
            paths = [os.path.join(folder, name) for name in ("a", "b")]
            runs = [subprocess.Popen([BENCH, "-x", "echo", "-c", "2", "-d", "1s", "-T", "30s", "--json", path, address],
                                     stdout=subprocess.DEVNULL) for path in paths]
            self.assertEqual([run.wait(RUN_LIMIT) for run in runs], [0, 0])
            ran = bench("merge", *paths)
            self.assertRegex(ran.stdout, r"(?m)^  Unfinished: 4 at the end, the oldest after ")


class TooLate(unittest.TestCase):
    """Goal: an answer after the time limit is an error, whenever xchg-bench looks."""

    def test_an_answer_shortly_after_the_limit(self):
        def answer_late(connection, _):
            data = receive_exactly(connection, 64)
            threading.Event().wait(0.515)  # 15 ms after the limit
            connection.sendall(data)
            connection.recv(1)

        with Fake(answer_late) as fake:
            report = measure(fake.address, "-x", "echo", "-n", 1, "-c", 1, "-t", 1, "-T", "500ms", expect=1)
        self.assertEqual((report["exchanges"], kinds(report)), (0, {"timeout": 1}))
        self.assertGreaterEqual(report["latency_us"]["min"], 500e3)


class NeverReached(unittest.TestCase):
    """Goal: a run costs nothing for what never happened, and Ctrl-C ends every phase."""

    def test_a_rate_that_no_machine_reaches(self):
        with serve(XCHG_EXCHANGE="echo") as server:
            report = measure(server.addresses[0], "-x", "echo", "-R", "1G", "-d", "300ms", "-c", 3, "-t", 1)
        self.assertEqual(report["exchanges"] + report["unfinished"]["count"], 300_000_000)
        self.assertEqual(kinds(report), {})

    def interrupt(self, address, *options, line="connections"):
        process = subprocess.Popen([BENCH, "-x", "echo", "-T", "5m", *options, address], stdout=subprocess.PIPE, text=True)
        wait_for_line(process.stdout, line)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=RUN_LIMIT)
        self.assertEqual(process.returncode, 130, out)
        self.assertIn("Interrupted", out)
        return out

    def test_interrupt_while_connecting(self):
        """The backlog is full, so handshakes are not answered."""
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
            with socket.create_connection(listener.getsockname()):
                self.interrupt("127.0.0.1:%d" % listener.getsockname()[1], "-d", "10m")

    def test_interrupt_in_every_phase(self):
        with serve(XCHG_EXCHANGE="echo") as server:
            for options, line in ((("-d", "10m"), "connections"), (("-d", "10m", "-w", "10m"), "connections"),
                                  (("-d", "10m", "-R", "1G"), "connections"), (("-n", "1G"), "connections"),
                                  (("-d", "10m", "--repeat", "9"), "connections"), (("--step", "10,20@10m"), "connections"),
                                  (("-d", "3s", "--search", "errors=0"), "search: 1000/s")):
                with self.subTest(options):
                    self.interrupt(server.addresses[0], *options, line=line)

    def test_interrupt_tells_what_was_in_flight(self):
        with Frozen(0) as address:
            out = self.interrupt(address, "-c", "4", "-d", "10m", "-w", "1ms")
        self.assertRegex(out, r"(?m)^  Unfinished: [0-4] at the end")


def schedstat():
    return os.path.exists("/proc/self/schedstat")


@unittest.skipUnless(schedstat(), "the kernel has no schedstat")
class Starved(unittest.TestCase):
    """Goal: a load generator that does not get its CPU says so."""

    def test_a_shared_cpu_is_told(self):
        cpu = min(os.sched_getaffinity(0))

        def pin():
            os.sched_setaffinity(0, {cpu})

        hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"], preexec_fn=pin) for _ in range(6)]
        try:
            with serve(XCHG_EXCHANGE="echo") as server, tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "csv")
                command = ["taskset", "-c", str(cpu), BENCH, "-x", "echo", "-t", "1", "-d", "2s", "--csv", path,
                           "--json", "/dev/stderr", server.addresses[0]]
                ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=RUN_LIMIT)
                with open(path) as stream:
                    rows = list(csv.DictReader(stream))
        finally:
            for hog in hogs:
                hog.kill()
                hog.wait()
        self.assertEqual(ran.returncode, 0, ran.stdout)
        waited = re.search(r"(?m)^  starved: .* waited ([\d.]+) % of the time for a CPU", ran.stdout)
        self.assertGreater(float(waited.group(1)), 20, ran.stdout)
        self.assertIn('"starved": true', ran.stderr)
        self.assertIn('"harness_bound": true', ran.stderr)
        self.assertGreater(max(float(row["waiting_max"]) for row in rows), 0.2)


class WrongAnswer(unittest.TestCase):
    """Goal: the first wrong answer is shown, and what it looks like."""

    def test_another_exchange(self):
        for exchange, own, hint in (("greet", "echo", "-x greet"), ("echo", "greet", "-x echo")):
            with self.subTest(exchange), serve(XCHG_EXCHANGE=exchange) as server:
                ran = bench("-x", own, "-n", 10, "-d", "1s", server.addresses[0])
                self.assertEqual(ran.returncode, 1, ran.stdout)
                self.assertRegex(ran.stdout, r"(?m)^  First wrong answer: connection \d+, byte 0$")
                self.assertIn(hint, ran.stdout)
                self.assertIn('"Message from server\\x00"', ran.stdout)

    def test_escapes(self):
        with Fake(lambda connection, _: connection.sendall(b"\x1b[31m\\\"\r\n\xff")) as fake:
            report = measure(fake.address, "-x", "echo", "-d", "300ms", expect=1)
        self.assertEqual(report["wrong_example"]["received"], r"\x1b[31m\\\"\r\n\xff")

