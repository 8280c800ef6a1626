"""Goal: xchg-bench measures and reports what docs/reference.md, Load generator, says, with each exit code and kind of
error."""

import contextlib
import csv
import ctypes
import datetime
import fcntl
import json
import os
import pty
import re
import select
import shlex
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import time
import unittest

from bench import BENCH, RUN_LIMIT, Fake, bench, echo, kinds, measure, unused_port, wait_for_line
from clients import serve
from xchgd import PLAIN, TOP, receive_exactly, reset


def read_json(path):
    with open(path) as stream:
        return json.load(stream)


class Right(unittest.TestCase):
    """Goal: against a correct server, every exchange is counted and there are no errors."""

    EXCHANGES = [
        dict(EXCHANGE="greet"), dict(EXCHANGE="line"), dict(EXCHANGE="echo"), dict(EXCHANGE="discard"),
        dict(EXCHANGE="echo", FRAME="nul"), dict(EXCHANGE="echo", FRAME="line"), dict(EXCHANGE="echo", FRAME="u16"),
        dict(EXCHANGE="echo", FRAME="u32"), dict(EXCHANGE="echo", FRAME="fixed:64"),
        dict(EXCHANGE="echo", FRAME="line", REPLY="text:bye"), dict(EXCHANGE="line", MESSAGES="3"),
        dict(EXCHANGE="greet", REPLY="echo", MESSAGES="2"), dict(EXCHANGE="echo", FRAME="u16", GREETING="hello"),
        dict(EXCHANGE="greet", GREETING="none")]

    def test_exchanges(self):
        for exchange in self.EXCHANGES:
            with self.subTest(exchange), serve(**{f"XCHG_{k}": v for k, v in exchange.items()}) as server:
                options = [f"--{name.lower()}={value}" for name, value in exchange.items()]
                report = measure(server.addresses[0], "-n", 300, "-c", 5, "-d", "20s", *options)
                self.assertEqual(kinds(report), {})
                self.assertEqual(report["exchanges"], 300)
                counted = exchange.get("MESSAGES", "1" if exchange["EXCHANGE"] in ("greet", "line") else "0") != "0"
                if counted:
                    self.assertGreaterEqual(server.stop()["finished"], 300)

    def test_pipeline_sizes_and_reconnects(self):
        with serve(XCHG_EXCHANGE="echo", XCHG_FRAME="u32") as server:
            for options in (("-p", 16), ("--size", "uniform:0,3000"), ("--size", "exp:200", "-p", 8), ("--size", 60000),
                            ("--reconnect", 7), ("--reconnect", 5, "-p", 3)):
                with self.subTest(options):
                    report = measure(server.addresses[0], "-x", "echo", "--frame", "u32", "-n", 500, "-d", "20s", *options)
                    self.assertEqual((kinds(report), report["exchanges"]), ({}, 500))

    def test_unix_and_ipv6(self):
        with tempfile.TemporaryDirectory() as folder:
            listen = f"unix:{folder}/socket,[::1]:0"
            with serve(XCHG_EXCHANGE="echo", XCHG_LISTEN=listen) as server:
                for address in server.addresses:
                    with self.subTest(address):
                        self.assertEqual(measure(address, "-x", "echo", "-n", 100)["exchanges"], 100)

    def test_connections_are_spread_none_is_dropped(self):
        with serve(XCHG_EXCHANGE="echo") as server:
            report = measure(server.addresses[0], "-x", "echo", "-t", 3, "-c", 10, "-d", "500ms")
            self.assertEqual(report["connected"], 10)
            self.assertEqual(server.stop()["accepted"], 10)

    def test_idle_connections_are_verified_and_left(self):
        with serve(XCHG_EXCHANGE="echo", XCHG_GREETING="hi", XCHG_FRAME="line") as server:
            report = measure(server.addresses[0], "-x", "echo", "--greeting", "hi", "--frame", "line", "--idle", 40, "-c", 3, "-d", "500ms")
            self.assertEqual((report["idle_connected"], report["connected"], kinds(report)), (40, 3, {}))
            self.assertEqual(server.stop()["accepted"], 43)

    def test_bound_addresses(self):
        with serve(XCHG_EXCHANGE="echo") as server:
            report = measure(server.addresses[0], "-x", "echo", "-n", 100, "--bind", "127.0.0.1,127.0.0.2,127.0.0.3")
            self.assertEqual((kinds(report), report["exchanges"]), ({}, 100))

    def test_warm_up_is_not_measured(self):
        with serve(XCHG_EXCHANGE="echo") as server:
            report = measure(server.addresses[0], "-x", "echo", "-R", 100, "-w", "1s", "-d", "1s")
            self.assertAlmostEqual(report["exchanges"], 100, delta=5)
            self.assertAlmostEqual(report["seconds"], 1, delta=0.5)


class Reports(unittest.TestCase):
    """Goal: every report can be read by other programs and has what docs/reference.md, Load generator, promises."""

    @classmethod
    def setUpClass(cls):
        cls.server = serve(XCHG_EXCHANGE="echo")
        cls.address = cls.server.addresses[0]

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()

    def test_json(self):
        report = measure(self.address, "-x", "echo", "-R", 500, "-d", "2s", "--pid", self.server.pid)
        for name in ("version target options seconds exchanges rate target_rate bytes_in bytes_out errors latency_us "
                     "latency_uncorrected_us connect_us first_byte_us histogram client server harness_bound interval").split():
            self.assertIn(name, report)
        self.assertEqual(report["schema"], 2)
        for times in ("latency_us", "latency_uncorrected_us", "connect_us", "first_byte_us"):
            figures = report[times]
            order = [figures[name] for name in "min p50 p75 p90 p99 p99_9 p99_99 max".split()]
            self.assertEqual(order, sorted(order), times)
            self.assertTrue(figures["min"] <= figures["mean"] <= figures["max"], times)
            self.assertGreaterEqual(figures["stddev"], 0)
        self.assertEqual(report["latency_us"]["count"], report["exchanges"])
        self.assertIn("errno", report["errors"])
        self.assertEqual(report["harness_bound"], report["starved"])  # other programs may take the CPUs
        self.assertEqual(report["target_rate"], 500)
        self.assertAlmostEqual(report["rate"], 500, delta=50)
        self.assertEqual(sum(row["exchanges"] for row in report["interval"]), report["exchanges"])

    def test_a_report_on_standard_output_is_alone(self):
        for kind, begin in (("json", "{"), ("csv", "at_s,"), ("hdr", " "), ("html", "<!DOCTYPE html>")):
            with self.subTest(kind):
                ran = bench("-x", "echo", "-n", 50, f"--{kind}", "-", "--slo", "p50<60s", self.address)
                self.assertEqual((ran.returncode, ran.stderr), (0, ""))
                self.assertTrue(ran.stdout.startswith(begin), ran.stdout[:80])
                self.assertNotIn("Requests/sec", ran.stdout)
        self.assertEqual(json.loads(bench("-x", "echo", "-n", 50, "--json", "-", self.address).stdout)["exchanges"], 50)
        self.assertEqual(bench("-x", "echo", "-n", 50, "--json", "-", "--csv", "-", self.address).returncode, 64)

    def test_the_uncorrected_latency_has_the_names_of_both_tools(self):
        for name in ("-U", "--uncorrected", "--u_latency"):
            with self.subTest(name):
                ran = bench("-x", "echo", "-R", 100, "-d", "300ms", name, self.address)
                self.assertIn("Latency Distribution (uncorrected", ran.stdout)

    def test_closed_loop_has_no_uncorrected_latency(self):
        report = measure(self.address, "-x", "echo", "-n", 100)
        self.assertIsNone(report["latency_uncorrected_us"])

    def test_the_server_is_measured(self):
        report = measure(self.address, "-x", "echo", "-c", 20, "-d", "2s", "--pid", self.server.pid)
        usage = report["server"]
        self.assertGreater(usage["cpu_us_per_exchange"], 0.1)
        self.assertTrue(0 < usage["utilisation"] <= os.cpu_count() * 1.2, usage)
        self.assertGreater(usage["context_switches_per_exchange"], 0)
        resident = self.server.resident_bytes()
        self.assertTrue(resident / 3 < usage["resident_bytes"] < resident * 3, usage)
        self.assertGreater(report["client"]["cpu_us_per_exchange"], 0.1)

    def test_all_files_at_once(self):
        with tempfile.TemporaryDirectory() as folder:
            paths = {kind: os.path.join(folder, kind) for kind in ("json", "csv", "hdr", "html")}
            options = [word for kind, path in paths.items() for word in (f"--{kind}", path)]
            ran = bench("-x", "echo", "-R", 200, "-d", "2s", *options, self.address)
            self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
            with open(paths["json"]) as stream:
                report = json.load(stream)
            with open(paths["csv"]) as stream:
                rows = list(csv.DictReader(stream))
            self.assertEqual(sum(int(row["exchanges"]) for row in rows), report["exchanges"])
            self.assertIn(len(rows), (2, 3))
            with open(paths["hdr"]) as stream:
                hdr = stream.read()
            self.assertRegex(hdr, r"^\s*Value\s+Percentile\s+TotalCount\s+1/\(1-Percentile\)\s*\n")
            self.assertRegex(hdr, rf"#\[Max\s*=.*Total count\s*=\s*{report['exchanges']}\]")
            with open(paths["html"]) as stream:
                self.assertIn("</html>", stream.read())

    def test_the_terminal_reads_as_wrk(self):
        ran = bench("-x", "echo", "-t", 2, "-c", 4, "-d", "1s", "-R", 100, "-L", "-U", self.address)
        lines = ran.stdout.split("\n")
        self.assertEqual(lines[0], f"Running 1s test @ {self.address}")
        self.assertEqual(lines[1], "  2 threads and 4 connections")
        self.assertRegex(ran.stdout, r"(?m)^    Latency +\S+ +\S+ +\S+ +\S+%$")
        self.assertRegex(ran.stdout, r"(?m)^Requests/sec: +[\d.]+$")
        self.assertRegex(ran.stdout, r"(?m)^Transfer/sec: +[\d.]+[KMG]?B$")
        self.assertRegex(ran.stdout, r"(?m)^Target/sec: +100\.00$")
        self.assertEqual(ran.stdout.count("Latency Distribution"), 2)
        self.assertIn("Harness: ", ran.stdout)
        self.assertEqual(ran.stderr, "")

    def test_endless_without_reply_has_no_latency_and_says_so(self):
        with serve(XCHG_EXCHANGE="discard") as server:
            ran = bench("-x", "discard", "-d", "1s", server.addresses[0])
            self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
            self.assertIn("No latency", ran.stdout)
            self.assertNotRegex(ran.stdout, r"(?m)^    Latency ")

    def test_a_report_tells_when_where_and_how_it_was_made(self):
        before = time.time()
        report, other = (measure(self.address, "-x", "echo", "-n", 50, "--slo", "p99<60s", "-w", "100ms") for _ in range(2))
        started = datetime.datetime.fromisoformat(report["started"].replace("Z", "+00:00")).timestamp()
        self.assertTrue(before + 0.09 <= started <= time.time(), (before, started))
        self.assertEqual(report["host"], socket.gethostname())
        self.assertIn(os.uname().release, report["machine"])
        self.assertEqual(shlex.split(report["command"])[1:9], ["-x", "echo", "-n", "50", "--slo", "p99<60s", "-w", "100ms"])
        self.assertRegex(report["run_id"], "^[0-9a-f]{32}$")
        self.assertNotEqual(report["run_id"], other["run_id"])

    def test_the_same_run_is_not_merged_twice(self):
        with tempfile.TemporaryDirectory() as folder:
            paths = [os.path.join(folder, name) for name in "abm"]
            for path in paths[:2]:
                self.assertEqual(bench("-x", "echo", "-n", 50, "--json", path, self.address).returncode, 0)
            ran = bench("merge", paths[0], paths[0])
            self.assertEqual((ran.returncode, ran.stdout, ran.stderr.count("\n")), (64, "", 1), ran.stderr)
            ran = bench("merge", *paths[:2], "--json", paths[2])  # one after the other
            self.assertEqual(ran.returncode, 0)
            self.assertIn("warning: run 1: ", ran.stderr)
            self.assertEqual(bench("merge", paths[2], paths[1]).returncode, 64)

    def test_compare_fails_above_a_percentage(self):
        with tempfile.TemporaryDirectory() as folder:
            fast, slow = (os.path.join(folder, name) for name in "fs")
            for path, rate in ((fast, 400), (slow, 100)):
                ran = bench("-x", "echo", "-R", rate, "-d", "500ms", "--json", path, self.address)
                self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
            ran = bench("compare", "--fail-above", "1000000", fast, slow)
            self.assertEqual(ran.returncode, 0, ran.stdout)
            self.assertIn("warning: the work of", ran.stderr)
            self.assertIn("rate 400 and 100", ran.stderr)
            ran = bench("compare", fast, slow, "--fail-above=10%")
            self.assertEqual(ran.returncode, 99, ran.stdout)
            self.assertIn("B is worse than A: rate", ran.stdout)

    def test_rows_may_be_shorter_than_a_second(self):
        report = measure(self.address, "-x", "echo", "-R", 1000, "-d", "1050ms", "--interval", "100ms")
        self.assertEqual(len(report["interval"]), 11)
        for number, row in enumerate(report["interval"]):
            self.assertAlmostEqual(row["at"], number / 10)
            self.assertAlmostEqual(row["seconds"], 0.1 if number < 10 else 0.05, delta=0.011)
            self.assertEqual(row["target_rate"], 1000)
        self.assertEqual(sum(row["exchanges"] for row in report["interval"]), report["exchanges"])
        for wrong in ("0", "9ms", "x"):
            self.assertEqual(bench("-x", "echo", "--interval", wrong, self.address).returncode, 64)

    def test_the_line_on_a_terminal_fits_and_shows_rates(self):
        """A terminal of 40 columns, and a last second of 0.2 s."""
        reader, terminal = os.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 40, 0, 0))
        with open(terminal, "w") as err:
            process = subprocess.Popen([BENCH, "-x", "echo", "-R", "500", "-d", "1200ms", self.address], stdout=subprocess.DEVNULL, stderr=err)
        shown = b""
        with contextlib.suppress(OSError):  # the end of the terminal's other side
            while data := os.read(reader, 4096):
                shown += data
        os.close(reader)
        self.assertEqual(process.wait(RUN_LIMIT), 0)
        lines = [line for line in shown.decode().replace("\033[K", "").split("\r") if line]
        self.assertEqual({len(line) < 40 for line in lines}, {True}, lines)
        self.assertNotIn("\n", shown.decode())
        for line in lines:
            rate = re.search(r"(~?) +(\d+) /s", line)
            self.assertAlmostEqual(int(rate.group(2)), 500, delta=250, msg=line)
            self.assertEqual(rate.group(1) == "~", line.split()[0] != "1", line)

    def test_a_terminal_that_is_stopped_holds_nothing_up(self):
        """After Ctrl-S a write to the terminal waits."""
        reader, terminal = os.openpty()
        termios.tcflow(terminal, termios.TCOOFF)
        with contextlib.closing(os.fdopen(reader)), open(terminal, "w") as err:
            ran = subprocess.run([BENCH, "-x", "echo", "-d", "300ms", "--interval", "100ms", self.address],
                                 stdout=subprocess.PIPE, stderr=err, text=True, timeout=RUN_LIMIT)
            self.assertEqual(ran.returncode, 0)
            self.assertIn("Requests/sec:", ran.stdout)

    def test_a_job_in_the_background_leaves_the_terminal_alone(self):
        """With tostop, a write to the terminal would stop the job."""
        pid, reader = pty.fork()
        if pid == 0:
            job = f"set -m; stty tostop; {BENCH} -x echo -d 300ms --interval 100ms {self.address} >/dev/null & wait $!; echo code=$?"
            os.execvp("sh", ["sh", "-c", job])
        shown = b""
        with contextlib.suppress(OSError):  # the end of the terminal's other side
            while select.select([reader], [], [], RUN_LIMIT)[0]:
                shown += os.read(reader, 4096)
        os.close(reader)  # if the job was stopped, SIGHUP ends it
        os.waitpid(pid, 0)
        self.assertEqual(shown.split(), [b"code=0"])

    def test_repeat(self):
        report = measure(self.address, "-x", "echo", "-n", 200, "--repeat", 3)
        self.assertEqual([run["exchanges"] for run in report["runs"]], [200, 200, 200])

    def test_compare_and_merge(self):
        with tempfile.TemporaryDirectory() as folder:
            paths = [os.path.join(folder, name) for name in ("a", "b", "merged", "old")]
            for path in paths[:2]:
                ran = bench("-x", "echo", "-n", 100, "--repeat", 4, "--json", path, self.address)
                self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
            ran = bench("compare", *paths[:2])
            self.assertEqual(ran.returncode, 0, ran.stderr)
            self.assertIn("rate", ran.stdout)
            ran = bench("merge", *paths[:2], "--json", paths[2])
            self.assertEqual(ran.returncode, 0, ran.stderr)
            with open(paths[0]) as stream:
                old = json.load(stream)
            old["schema"] = 99
            with open(paths[3], "w") as stream:
                json.dump(old, stream)
            for command in ("compare", "merge"):
                for second in (paths[3], os.path.join(folder, "absent"), os.devnull):
                    ran = bench(command, paths[0], second)
                    self.assertEqual((ran.returncode, ran.stdout, ran.stderr.count("\n")), (64, "", 1), ran.stderr)


class Together(unittest.TestCase):
    """Goal: several servers on one address and several xchg-bench processes make one report. No percentile is
    averaged."""

    def test_merged(self):
        with serve(XCHG_EXCHANGE="echo", XCHG_REUSEPORT="on") as first, \
                serve(XCHG_EXCHANGE="echo", XCHG_REUSEPORT="on", XCHG_LISTEN=first.addresses[0]) as second, \
                tempfile.TemporaryDirectory() as folder:
            paths = [os.path.join(folder, name) for name in ("a", "b", "both")]
            pids = f"{first.pid},{second.pid}"
            running = [subprocess.Popen([BENCH, "-x", "echo", "-c", "32", "-d", "1s", "--pid", pids, "--json", path, first.addresses[0]],
                                        stdout=subprocess.DEVNULL) for path in paths[:2]]
            self.assertEqual([process.wait(RUN_LIMIT) for process in running], [0, 0])
            ran = bench("merge", *paths[:2], "--json", paths[2])
            self.assertEqual(ran.returncode, 0, ran.stderr)
            a, b, both = map(read_json, paths)
            self.assertEqual(both["exchanges"], a["exchanges"] + b["exchanges"])
            self.assertEqual(both["latency_us"]["count"], a["latency_us"]["count"] + b["latency_us"]["count"])
            self.assertEqual(both["latency_us"]["max"], max(a["latency_us"]["max"], b["latency_us"]["max"]))
            low, high = sorted((a["latency_us"]["p99"], b["latency_us"]["p99"]))
            self.assertTrue(low * 0.99 <= both["latency_us"]["p99"] <= high * 1.01)
            accepted = first.stop()["accepted"], second.stop()["accepted"]
            self.assertEqual(sum(accepted), 64)


class Plans(unittest.TestCase):
    """Goal: counts are exact, rates are kept, load shapes are run."""

    @classmethod
    def setUpClass(cls):
        cls.server = serve(XCHG_EXCHANGE="echo")
        cls.address = cls.server.addresses[0]

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()

    def test_a_count_is_exact(self):
        for options in (("-n", 1), ("-n", 7, "-c", 5, "-t", 2), ("-n", 1001, "-c", 10, "-t", 3), ("-n", 50, "-R", 500),
                        ("-n", 999, "-p", 16)):
            with self.subTest(options):
                self.assertEqual(measure(self.address, "-x", "echo", *options)["exchanges"], options[1])

    def test_a_rate_below_the_number_of_threads(self):
        report = measure(self.address, "-x", "echo", "-R", 1, "-t", 4, "-c", 4, "-d", "3s")
        self.assertIn(report["exchanges"], (2, 3, 4))

    def test_steps(self):
        report = measure(self.address, "-x", "echo", "--step", "50,100,200@1s")
        self.assertEqual([run["target_rate"] for run in report["runs"]], [50, 100, 200])
        for run in report["runs"]:
            self.assertAlmostEqual(run["exchanges"], run["target_rate"], delta=run["target_rate"] * 0.2 + 2)

    def test_a_ramp(self):
        report = measure(self.address, "-x", "echo", "--ramp", "100:300:3s")
        self.assertAlmostEqual(report["exchanges"], 600, delta=60)
        counts = [row["exchanges"] for row in report["interval"]]
        self.assertLess(counts[0], counts[2])

    def test_a_search_finds_what_the_server_can(self):
        def slow(connection, _):
            while data := connection.recv(64):
                time.sleep(0.005)  # the time of one exchange: one connection carries at most 200 a second
                connection.sendall(data)

        with Fake(slow) as fake:
            ran = bench("-x", "echo", "-t", 1, "-c", 1, "-d", "1s", "--search", "errors=0", fake.address)
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
        found = float(re.search(r"Highest rate with errors=0: (\d+)/s", ran.stdout).group(1))
        self.assertTrue(20 <= found <= 215, ran.stdout)

    def test_a_search_that_finds_nothing(self):
        ran = bench("-x", "echo", "-d", "1s", "--search", "max<1us", self.address)
        self.assertEqual(ran.returncode, 99, ran.stdout + ran.stderr)
        self.assertIn("Highest rate with max<1us: none\n", ran.stdout)


class Stall(unittest.TestCase):
    """Goal: with -R, a stall of 200 ms delays every exchange that should have started within it. -U shows the
    uncorrected latency."""

    def test_a_stall_is_not_omitted(self):
        def stall_once(connection, _):
            for count in range(1 << 30):
                data = receive_exactly(connection, 64)
                if count == 100:
                    time.sleep(0.2)  # the stall of the server
                connection.sendall(data)

        with Fake(stall_once) as fake:
            report = measure(fake.address, "-x", "echo", "-t", 1, "-c", 1, "-R", 200, "-d", "3s", "-L", "-U")
        self.assertGreater(report["latency_us"]["p99"], 100e3)
        self.assertLess(report["latency_uncorrected_us"]["p99"], 100e3)
        self.assertGreaterEqual(report["latency_uncorrected_us"]["max"], 200e3)
        self.assertGreaterEqual(report["latency_us"]["max"], 200e3)
        self.assertGreater(report["late"], 20)


class Wrong(unittest.TestCase):
    """Goal: every misbehaviour of a server is reported by its kind, and xchg-bench never hangs."""

    def check(self, address, *options, expect=1):
        report = measure(address, "-x", "echo", "-c", 4, "-t", 2, "-d", "1s", *options, expect=expect)
        return kinds(report), report

    def test_absent(self):
        found, report = self.check(f"127.0.0.1:{unused_port()}")
        self.assertEqual(set(found), {"connect"})
        self.assertGreater(report["errors"]["errno"]["ECONNREFUSED"], 0)
        self.assertEqual(report["exchanges"], 0)

    def test_absent_socket_file(self):
        found, report = self.check("unix:/nonexistent/socket")
        self.assertEqual(set(found), {"connect"})
        self.assertGreater(report["errors"]["errno"]["ENOENT"], 0)

    def test_wrong_answer(self):
        with Fake(lambda connection, _: echo(connection, lambda data: data[:-1] + bytes([data[-1] ^ 1]))) as fake:
            found, _ = self.check(fake.address)
            self.assertIn("wrong", found)

    def test_one_wrong_answer_of_many(self):
        def lie_once(connection, number):
            left = [50 if number == 0 else -1]

            def change(data):
                left[0] -= 1
                return bytes([data[0] ^ 1]) + data[1:] if left[0] == 0 else data
            echo(connection, change)

        with Fake(lie_once) as fake:
            found, report = self.check(fake.address)
            self.assertIn("wrong", found)
            self.assertGreater(report["exchanges"], 50)

    def test_too_much(self):
        with Fake(lambda connection, _: echo(connection, lambda data: data + b"more")) as fake:
            found, _ = self.check(fake.address)
            self.assertIn("wrong", found)

    def test_short_answer(self):
        def half(connection, _):
            connection.sendall(receive_exactly(connection, 64)[:32])

        with Fake(half) as fake:
            found, report = self.check(fake.address)
            self.assertEqual(set(found), {"short"})
            self.assertEqual(report["exchanges"], 0)

    def test_no_answer_but_the_end(self):
        with Fake(lambda connection, _: receive_exactly(connection, 64)) as fake:
            found, _ = self.check(fake.address)
            self.assertEqual(set(found), {"short"})

    def test_reset(self):
        def reset_after_request(connection, _):
            receive_exactly(connection, 64)
            reset(connection)

        with Fake(reset_after_request) as fake:
            found, report = self.check(fake.address)
            self.assertEqual(set(found), {"reset"})
            self.assertGreater(report["errors"]["errno"]["ECONNRESET"], 0)

    def test_silent(self):
        with Fake(lambda connection, _: connection.recv(64) and connection.recv(1)) as fake:
            found, report = self.check(fake.address, "-T", "200ms")
            self.assertEqual(set(found), {"timeout"})
            self.assertEqual(report["exchanges"], 0)

    def test_late(self):
        def late(connection, _):
            for count in range(1 << 30):
                data = receive_exactly(connection, 64)
                if count == 5:
                    time.sleep(0.5)  # the late answer, after the timeout of 200 ms
                connection.sendall(data)

        with Fake(late) as fake:
            found, report = self.check(fake.address, "-T", "200ms", expect=0)
            self.assertEqual(set(found), {"timeout"})
            self.assertGreater(report["exchanges"], 0)

    def test_never_accepts(self):
        """The backlog is full, so handshakes are not answered."""
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
            address = listener.getsockname()
            with socket.create_connection(address):
                found, _ = self.check("127.0.0.1:%d" % address[1], "-T", "300ms")
        self.assertTrue(set(found) <= {"timeout", "connect"} and found, found)

    def test_server_dies(self):
        with serve(XCHG_EXCHANGE="echo") as server, tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "report.json")
            process = subprocess.Popen([BENCH, "-x", "echo", "-d", "3s", "--json", path, server.addresses[0]], stdout=subprocess.DEVNULL)
            server.wait_stats(lambda totals: totals["messages"] > 1000, "exchanges")
            os.killpg(server.pid, signal.SIGKILL)
            self.assertIn(process.wait(RUN_LIMIT), (0, 1))
            with open(path) as stream:
                report = json.load(stream)
            self.assertTrue(set(kinds(report)) & {"reset", "short"}, report["errors"])
            self.assertIn("connect", kinds(report))

    def test_another_exchange(self):
        with serve(XCHG_EXCHANGE="greet") as server:
            report = measure(server.addresses[0], "-x", "greet", "--greeting", "Another text", "-d", "500ms", expect=1)
            self.assertIn("wrong", kinds(report))
            self.assertEqual(report["exchanges"], 0)


class ExitCodes(unittest.TestCase):
    """Goal: the exit code is the first of 130, 64, 1, 99, 0 that applies."""

    def test_usage_is_one_line_and_nothing_runs(self):
        with serve(XCHG_EXCHANGE="echo") as server:
            address = server.addresses[0]
            for options in ((), (address, address), ("-z", address), ("-R", "0.5", address), ("-x", "http", address),
                            ("-p", 4, address), ("-H", "a: b", address), ("-s", "a.lua", address), ("http://" + address,),
                            ("no-such-host.invalid:7",), ("--pid", "2147483647", address), ("--json", "/nonexistent/a", address),
                            ("--html", "/", address), ("-d",), ("compare",), ("merge",)):
                with self.subTest(options):
                    ran = bench(*options)
                    self.assertEqual((ran.returncode, ran.stdout, ran.stderr.count("\n")), (64, "", 1), ran.stderr)
            self.assertEqual(server.stop()["accepted"], 0)

    def test_a_report_that_cannot_be_finished(self):
        with serve(XCHG_EXCHANGE="echo") as server:
            ran = bench("-x", "echo", "-n", 10, "--json", "/dev/full", server.addresses[0])
            self.assertEqual(ran.returncode, 1)
            self.assertIn("cannot write '/dev/full'", ran.stderr)

    def test_objectives(self):
        with serve(XCHG_EXCHANGE="echo") as server:
            for slo, code in (("p99<60s,errors=0", 0), ("p50<1us", 99), ("errors=0,rate>1G", 99)):
                with self.subTest(slo):
                    ran = bench("-x", "echo", "-n", 100, "--slo", slo, server.addresses[0])
                    self.assertEqual(ran.returncode, code, ran.stdout)
                    self.assertEqual("missed" in ran.stdout, code == 99)
        ran = bench("-x", "echo", "-d", "200ms", "--slo", "errors=0", f"127.0.0.1:{unused_port()}")
        self.assertEqual(ran.returncode, 1)

    def test_help_and_version(self):
        for flag, text in (("--help", "Usage: xchg-bench"), ("-h", "Usage: xchg-bench"), ("--version", "xchg-bench "), ("-v", "xchg-bench ")):
            ran = bench(flag)
            self.assertEqual((ran.returncode, ran.stderr), (0, ""))
            self.assertTrue(ran.stdout.startswith(text))


class Streams(unittest.TestCase):
    """Goal: text that standard output does not take is exit code 74 in every command, and no report gets it."""

    @classmethod
    def setUpClass(cls):
        cls.server = serve(XCHG_EXCHANGE="echo")
        cls.address = cls.server.addresses[0]
        cls.temporary = tempfile.TemporaryDirectory()
        cls.report = os.path.join(cls.temporary.name, "report.json")
        ran = bench("-x", "echo", "-n", 10, "--json", cls.report, cls.address)
        assert ran.returncode == 0, ran.stdout + ran.stderr

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()
        cls.server.__exit__()

    def start(self, *arguments, closed=(), out=None):
        """Start xchg-bench with closed descriptors, or with ${out} as its standard output."""
        def close():
            for fd in closed:
                os.close(fd)
        out = out or subprocess.DEVNULL
        return subprocess.Popen([BENCH, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, text=True,
                                preexec_fn=close)

    def check(self, process, code, line="cannot write to standard output"):
        _, errors = process.communicate(timeout=RUN_LIMIT)
        self.assertEqual((process.returncode, errors.count("\n")), (code, 1), errors)
        self.assertIn(line, errors)

    def commands(self):
        return (("-x", "echo", "-n", 10, self.address), ("compare", self.report, self.report), ("merge", self.report),
                ("merge", self.report, "--json", "-"), ("-x", "echo", "-n", 10, "--json", "-", self.address), ("--help",), ("--version",))

    def test_closed(self):
        for command in self.commands():
            with self.subTest(command):
                self.check(self.start(*command, closed=(1,)), 74)

    def test_full(self):
        for command in self.commands():
            with self.subTest(command), open("/dev/full", "w") as full:
                self.check(self.start(*command, out=full), 74, "No space left")

    def test_without_a_reader(self):
        for command in self.commands():
            with self.subTest(command):
                reader, writer = os.pipe()
                os.close(reader)
                with open(writer, "w") as out:
                    self.check(self.start(*command, out=out), 74, "Broken pipe")

    def test_no_report_gets_the_text(self):
        """All three standard descriptors are closed, so a report would take the number of one."""
        for closed in ((0,), (1,), (2,), (0, 1, 2)):
            with self.subTest(closed):
                path = os.path.join(self.temporary.name, "clean.json")
                process = self.start("-x", "echo", "-n", 10, "--json", path, self.address, closed=closed)
                process.communicate(timeout=RUN_LIMIT)
                self.assertEqual(process.returncode, 74 if 1 in closed else 0)
                self.assertEqual(read_json(path)["exchanges"], 10)

    def test_the_order_of_the_codes(self):
        with open("/dev/full", "w") as full:
            for options, code in ((("-R", "0.5", self.address), 64),
                                  (("-x", "echo", "-n", 10, "--slo", "p50<1us", self.address), 74),
                                  (("-x", "echo", "-d", "100ms", f"127.0.0.1:{unused_port()}"), 74)):
                with self.subTest(options):
                    self.check(self.start(*options, out=full), code, "xchg-bench: ")
            server = serve(XCHG_EXCHANGE="echo")
            with server:
                process = self.start("-x", "echo", "-d", "10m", server.addresses[0], out=full)
                server.wait_stats(lambda totals: totals["messages"] > 1000, "exchanges")
                process.send_signal(signal.SIGINT)
                self.check(process, 130)


class Interrupt(unittest.TestCase):
    """Goal: Ctrl-C prints the report so far. A second Ctrl-C ends the program at once."""

    def start(self, server, *options):
        process = subprocess.Popen([BENCH, "-x", "echo", "-d", "10m", *options, server.addresses[0]], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        server.wait_stats(lambda totals: totals["messages"] > 1000, "exchanges")
        return process

    def test_once(self):
        with serve(XCHG_EXCHANGE="echo") as server, tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "report.json")
            process = self.start(server, "--json", path, "--slo", "p99<1us")
            process.send_signal(signal.SIGINT)
            out, errors = process.communicate(timeout=RUN_LIMIT)
            self.assertEqual((process.returncode, errors), (130, ""))
            self.assertIn("Requests/sec:", out)
            self.assertIn("Interrupted", out)
            with open(path) as stream:
                self.assertLess(json.load(stream)["seconds"], 600)

    def test_a_repetition_is_no_second_signal(self):
        """The same signal twice at once, as timeout(1) sends it, is one signal: the report is written."""
        for each in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(each), serve(XCHG_EXCHANGE="echo") as server:
                process = self.start(server)
                # One is pending for the process and one for its main thread, so that both are delivered.
                process.send_signal(signal.SIGSTOP)
                os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
                process.send_signal(each)
                self.assertEqual(ctypes.CDLL(None).tgkill(process.pid, process.pid, each), 0)
                process.send_signal(signal.SIGCONT)
                out, _ = process.communicate(timeout=RUN_LIMIT)
                self.assertEqual(process.returncode, 130)
                self.assertIn("Interrupted", out)

    def test_between_and_during_repeated_runs(self):
        with serve(XCHG_EXCHANGE="echo") as server:
            process = self.start(server, "--repeat", "100")
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=RUN_LIMIT)
            self.assertEqual(process.returncode, 130, out)

    def test_while_nothing_answers(self):
        with Fake(lambda connection, _: connection.recv(64) and connection.recv(1)) as fake:
            process = subprocess.Popen([BENCH, "-x", "echo", "-d", "10m", "-T", "5m", fake.address], stdout=subprocess.PIPE, text=True)
            wait_for_line(process.stdout, "connections")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=RUN_LIMIT)
            self.assertEqual(process.returncode, 130)

    @unittest.skipUnless(PLAIN, "a sanitizer holds signals back while a write waits")
    def test_twice(self):
        """The report goes to a pipe that is not read, so the first signal does not end the process."""
        with serve(XCHG_EXCHANGE="echo") as server, tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "pipe")
            os.mkfifo(path)
            reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
            try:
                process = self.start(server, "--html", path)
                process.send_signal(signal.SIGINT)
                wait_for_line(process.stdout, "Interrupted")
                with self.assertRaises(subprocess.TimeoutExpired):
                    process.wait(0.5)  # only the full pipe keeps it from ending
                process.send_signal(signal.SIGINT)
                self.assertEqual(process.wait(RUN_LIMIT), 130)
                process.stdout.close()
                process.stderr.close()
            finally:
                os.close(reader)


class Manual(unittest.TestCase):
    """Goal: the manual page has the options of --help and no others."""

    def test_options(self):
        with open(os.path.join(TOP, "docs/man/xchg-bench.1")) as stream:
            page = stream.read().replace("\\-", "-").replace("\\fB", "").replace("\\fR", "")
        helped = set(re.findall(r"(?m)^  (?:-(\w),|   ) --([a-z]+)", bench("--help").stdout))
        self.assertGreater(len(helped), 30)
        section = page[page.index(".SH OPTIONS"):page.index(".SH OBJECTIVES")]
        paged = set()
        for letter, name in re.findall(r"(?m)^\.TP\n\.B[RI]* (?:-(\w) \", \" )?--([a-z]+)", section):
            paged.add((letter, name))
        self.assertEqual(paged, helped)
