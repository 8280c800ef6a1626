"""Goal: the baselines of the benchmarks answer correctly, and the runner that compares them computes correctly.

Each program of benchmarks/peers gets its exchanges. A program that is not built (make peers) is skipped.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import unittest

from xchgd import GREETING, LIMIT, PLAIN, PROGRAM, TOP, receive_all, receive_exactly

RUNNER = os.path.join(TOP, "benchmarks", "runner")
sys.path.insert(0, RUNNER)
import single_measurements  # noqa: E402
import counts  # noqa: E402
import http_load  # noqa: E402
import limits  # noqa: E402
import processes  # noqa: E402
import render  # noqa: E402
import stats  # noqa: E402
import latency_tails  # noqa: E402
from series import SERIES, SERIES_BY_NAME  # noqa: E402
import servers  # noqa: E402

BUILD = os.path.dirname(PROGRAM)
PEERS = os.path.join(os.path.dirname(PROGRAM), "peers")
ONE_AT_A_TIME = ("iterative",)
NAMES = ("bare", "bare_et", "reuseport", "libevent_raw", "libevent_bev", "libuv", "uring", "iterative", "fork", "thread")


class Peer:
    """A running peer. Its children end with it."""

    def __init__(self, name, *arguments):
        self.path = os.path.join(PEERS, name)
        if not os.access(self.path, os.X_OK):
            raise unittest.SkipTest(f"not built (make peers languages): {name}")
        self.process = subprocess.Popen([self.path, "0", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, start_new_session=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening 127.0.0.1:"):
            problem = self.process.stderr.read()
            self.__exit__()
            if "io_uring" in problem:
                raise unittest.SkipTest(f"peer {name}: {problem.strip()}")
            raise AssertionError(f"{name} does not listen: {line!r} {problem!r}")
        self.port = int(line.rsplit(":", 1)[1])

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), LIMIT)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        try:
            os.killpg(self.process.pid, 9)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


class Exchanges:
    """Goal: each peer answers correctly. Mixed into one class for each peer."""

    name = None

    def test_echo(self):
        with Peer(self.name, "echo") as peer, peer.connect() as client:
            for message in (b"x", b"\0\n\xff" * 21, b"y" * 8000, b"".join(bytes([i]) * 64 for i in range(16))):
                client.sendall(message)
                self.assertEqual(receive_exactly(client, len(message)), message)
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(receive_all(client), b"")

    def test_echo_keeps_the_order_of_many_messages(self):
        with Peer(self.name, "echo") as peer, peer.connect() as client:
            for first in range(0, 4096, 128):
                messages = [b"%06d" % i for i in range(first, first + 128)]
                for message in messages:
                    client.sendall(message)
                self.assertEqual(receive_exactly(client, 6 * 128), b"".join(messages))

    def test_echo_of_several_connections_in_turn(self):
        count = 1 if self.name in ONE_AT_A_TIME else 20
        with Peer(self.name, "echo") as peer:
            clients = [peer.connect() for _ in range(count)]
            for turn in range(3):
                for i, client in enumerate(clients):
                    client.sendall(b"%d:%d" % (turn, i))
                for i, client in enumerate(clients):
                    self.assertEqual(receive_exactly(client, len(b"%d:%d" % (turn, i))), b"%d:%d" % (turn, i))
            for client in clients:
                client.close()
            with peer.connect() as client:
                client.sendall(b"after")
                self.assertEqual(receive_exactly(client, 5), b"after")

    def test_greet(self):
        with Peer(self.name, "greet") as peer:
            for _ in range(20):
                with peer.connect() as client:
                    self.assertEqual(receive_exactly(client, len(GREETING)), GREETING)
                    client.sendall(b"hello\0")
                    self.assertEqual(receive_all(client), b"")

    def test_greet_waits_for_the_whole_message(self):
        with Peer(self.name, "greet") as peer, peer.connect() as client:
            self.assertEqual(receive_exactly(client, len(GREETING)), GREETING)
            client.sendall(b"hel")
            # Peers that can serve another client meanwhile, so the first piece has been read.
            if self.name not in ONE_AT_A_TIME:
                with peer.connect() as other:
                    self.assertEqual(receive_exactly(other, len(GREETING)), GREETING)
                    other.sendall(b"\0")
                    self.assertEqual(receive_all(other), b"")
            client.sendall(b"lo\0")
            self.assertEqual(receive_all(client), b"")

    def test_greet_survives_a_client_that_leaves(self):
        with Peer(self.name, "greet") as peer:
            peer.connect().close()
            with peer.connect() as client:
                self.assertEqual(receive_exactly(client, len(GREETING)), GREETING)
                client.sendall(b"\0")
                self.assertEqual(receive_all(client), b"")

    def test_hello(self):
        with Peer(self.name, "hello") as peer:
            for _ in range(5):
                with peer.connect() as client:
                    self.assertEqual(receive_all(client), GREETING)


for each in NAMES:
    globals()[f"Test_{each}"] = type(f"Test_{each}", (Exchanges, unittest.TestCase), {"name": each})


class RequestLoop(unittest.TestCase):
    """Goal: the load generator for foreign protocols counts right."""

    def load(self, peer, *arguments):
        program = os.path.join(PEERS, "request_loop")
        with tempfile.TemporaryDirectory() as folder:
            report = os.path.join(folder, "report.json")
            ended = subprocess.run([program, "-w", "0", "-d", "0.2", "--pid", str(peer.process.pid), "--json", report, *arguments,
                                    str(peer.port)], stderr=subprocess.PIPE, text=True, timeout=LIMIT)
            if ended.returncode != 0:
                return ended, None
            with open(report) as stream:
                return ended, json.load(stream)

    def test_answers_are_counted(self):
        with Peer("bare_answer", "4", r"MN\r\n") as peer:
            ended, report = self.load(peer, "-c", "8", "--request", r"mn\r\n", "--answer", r"MN\r\n")
            self.assertEqual(ended.returncode, 0, ended.stderr)
            self.assertGreater(report["exchanges"], 0)
            self.assertEqual(report["bytes_in"], 4 * report["exchanges"])
            self.assertGreater(report["server"]["cpu_us_per_exchange"], 0)
            self.assertGreater(report["latency_us"]["p50"], 0)

    def test_pipelined_answers_are_counted_one_by_one(self):
        with Peer("bare_answer", "4", r"MN\r\n") as peer:
            ended, report = self.load(peer, "-c", "2", "-p", "16", "--request", r"mn\r\n", "--answer", r"MN\r\n")
            self.assertEqual(ended.returncode, 0, ended.stderr)
            self.assertEqual(report["latency_us"]["count"], report["exchanges"])
            self.assertEqual(report["bytes_in"], 4 * report["exchanges"])

    def test_a_connection_an_exchange(self):
        with Peer("bare", "hello") as peer:
            ended, report = self.load(peer, "-c", "4", "-k", "--request", "", "--answer", r"Message from server\0")
            self.assertEqual(ended.returncode, 0, ended.stderr)
            self.assertEqual(report["errors"], {"reset": 0, "wrong": 0})
            self.assertGreater(report["exchanges"], 0)

    def test_a_wrong_answer_is_a_failure(self):
        with Peer("bare_answer", "4", r"MM\r\n") as peer:
            ended, _ = self.load(peer, "--request", r"mn\r\n", "--answer", r"MN\r\n")
            self.assertEqual(ended.returncode, 1)
            self.assertIn("wrong answer", ended.stderr)

    def test_bytes_that_may_differ(self):
        with Peer("bare_answer", "1", "aXXb") as peer:
            ended, report = self.load(peer, "-p", "3", "--any", "1:2", "--request", "?", "--answer", "a..b")
            self.assertEqual(ended.returncode, 0, ended.stderr)
            self.assertEqual(report["bytes_in"], 4 * report["exchanges"])
            ended, _ = self.load(peer, "--any", "1:2", "--request", "?", "--answer", "a..c")
            self.assertEqual(ended.returncode, 1)


class Flood(unittest.TestCase):
    """Goal: the flood program loads connections that it gets from the test."""

    def flood(self, mode, count, size, clients):
        try:
            return latency_tails.flood(BUILD, mode, count, size, clients, None)
        except FileNotFoundError:
            self.skipTest("not built (make peers): flood")

    def test_what_comes_back_is_sent_again(self):
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname(), LIMIT) as client:
            served, _ = listener.accept()
            with served:
                served.settimeout(LIMIT)
                process = self.flood("bounce", 2, 64, [client])
                self.assertEqual(receive_exactly(served, 128), b"x" * 128)
                for message in (b"o" * 64, b"p" * 128):
                    served.sendall(message)
                    self.assertEqual(receive_exactly(served, len(message)), message)
                self.assertEqual(latency_tails.end_flood(process), 128 + 64 + 128)

    def test_what_pours_goes_on_although_nobody_reads(self):
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname(), LIMIT) as client:
            served, _ = listener.accept()
            with served:
                served.settimeout(LIMIT)
                process = self.flood("pour", 0, 4096, [client])
                self.assertEqual(receive_exactly(served, 1 << 20), b"x" * (1 << 20))
                self.assertGreaterEqual(latency_tails.end_flood(process), 1 << 20)

    def test_it_ends_when_its_connection_does(self):
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname(), LIMIT) as client:
            process = self.flood("bounce", 1, 64, [client])
            listener.accept()[0].close()
            self.assertEqual(process.wait(LIMIT), 1)
            process.stdout.close()


class Limits(unittest.TestCase):
    """Goal: bench-limit judges made-up reports correctly."""

    @staticmethod
    def row(server, values):
        """${values}: (the server's, the baseline's) of each round."""
        runs = [{"round": i, "peer": {"cpu_us": own}, "baseline": {"cpu_us": base}} for i, (own, base) in enumerate(values)]
        ratios = {"cpu_us": stats.ratios([(run["peer"], run["baseline"]) for run in runs], "cpu_us")}
        return {"server": server, "runs": runs, "ratios": ratios, "syscalls": 2.05, "failures": []}

    def found(self, rows, everything=False):
        report = {"series": [{"name": "echo-64", "baseline": "bare", "baseline_syscalls": 2.0, "rows": rows}],
                  "single_measurements": [{"name": "handoff", "note": "", "figures": {
                      "p50_us": [2.5, 2.0, 2.4], "p99_us": [12.0, 11.0, 13.0], "floor_p50_us": [1.0], "floor_p99_us": [5.0]}}]}
        return {row["what"]: row for row in limits.check(report, everything)}

    def test_targets_and_stretches(self):
        found = self.found([self.row("xchgd", [(1.02, 1.0), (2.04, 2.0)] * 4)])
        self.assertAlmostEqual(found["echo-64: xchgd's cpu_us / bare"]["value"], 1.02)
        self.assertEqual({what: row["verdict"] for what, row in found.items()}, {
            "echo-64: xchgd's cpu_us / bare": "pass", "echo-64: xchgd's calls": "pass",
            "handoff: p50_us": "pass", "handoff: p99_us": "FAIL", "handoff: floor_p50_us": "shown", "handoff: floor_p99_us": "shown"})

    def test_another_server_is_compared_round_by_round(self):
        own, other = self.row("xchgd", [(2.0, 1.0), (3.0, 1.0), (9.0, 3.0)]), self.row("libuv", [(1.0, 1.0), (3.0, 1.0), (8.0, 2.0)])
        row = self.found([own, other])["echo-64: xchgd's cpu_us / libuv"]
        self.assertEqual((row["low"], row["value"], row["high"], row["count"], row["verdict"]), (0.75, 1.0, 2.0, 3, "undecided"))
        # The floor of this figure is the bare loop: 1 / (1, 3, 4), and xchgd / bare.
        self.assertEqual((row["floor"]["name"], row["floor"]["median"]), ("bare", 1 / 3))
        self.assertEqual(row["distance"]["median"], 3.0)

    def test_the_floor_may_be_another_row_or_the_baseline(self):
        http = {"name": "http-64-wrk", "baseline": "nginx-http", "baseline_syscalls": None,
                "rows": [self.row("http-example", [(0.9, 1.0)] * 8), self.row("bare-http", [(0.75, 1.0)] * 8)]}
        row, _ = limits.check({"series": [http]}, everything=False, group="http")
        self.assertEqual((row["floor"]["name"], row["floor"]["median"], row["verdict"]), ("bare-http", 0.75, "FAIL"))
        self.assertAlmostEqual(row["distance"]["median"], 1.2)
        calls = self.found([self.row("xchgd", [(1.0, 1.0)] * 8)])["echo-64: xchgd's calls"]
        self.assertEqual((calls["floor"]["median"], calls["distance"]["median"]), (2.0, 1.025))
        handoff = self.found([])["handoff: p50_us"]
        self.assertEqual((handoff["floor"]["name"], handoff["distance"]["median"]), ("floor_p50_us", 2.5))

    def test_noise_around_the_target_is_undecided(self):
        for values, verdict in (([1.0, 1.2, 1.02, 1.0, 1.0], "undecided"), ([1.0, 1.2, 1.19, 1.2, 1.2], "undecided"),
                                ([1.19, 1.2, 1.18, 1.2, 1.2], "FAIL"), ([1.19, 1.2, 1.18], "undecided")):
            found = self.found([self.row("xchgd", [(value, 1.0) for value in values])])
            self.assertEqual(found["echo-64: xchgd's cpu_us / bare"]["verdict"], verdict)
        limit = limits.of("instructions")
        self.assertEqual([limits.verdict(limit, values) for values in ((1.0, 0.99, 1.01), (1.0, 0.9, 1.01), (1.2, 1.1, 1.3))],
                         ["pass", "undecided", "FAIL"])

    def test_what_was_not_measured_is_no_pass(self):
        found = self.found([self.row("xchgd", [])], everything=True)
        self.assertEqual(found["echo-64: xchgd's cpu_us / bare"]["verdict"], "not measured")
        self.assertEqual(found["idle: silent"]["verdict"], "not measured")
        self.assertEqual(len(found), len(limits.LIMITS))
        self.assertEqual(limits.text(found.values()).count("\n"), len(found))

    def test_every_limit_is_about_something_that_is_run(self):
        for group, each in limits.OF_GROUP.items():
            for limit in each:
                if limit.series not in single_measurements.BY_NAME:
                    rows = SERIES_BY_NAME[limit.series].rows
                    self.assertIn(limit.server, rows, limit.series)
                    self.assertIn(limit.to, [None, *rows], limit.series)
                    self.assertIn(limit.floor, [None, *rows], limit.series)
                    self.assertTrue(limit.within is None or limits.floor_name(limit, {"baseline": SERIES_BY_NAME[limit.series].baseline}), limit)
                    self.assertEqual(SERIES_BY_NAME[limit.series].group, group, limit.series)

    def test_a_language_must_cost_more(self):
        rows = [self.row("go-net", [(2.1, 1.0)] * 8), self.row("tokio", [(0.9, 1.0)] * 8)]
        report = {"series": [{"name": "languages-echo-64", "baseline": "xchgd", "baseline_syscalls": None, "rows": rows}]}
        self.assertEqual({row["what"]: row["verdict"] for row in limits.check(report, everything=False, group="languages")}, {
            "languages-echo-64: go-net's cpu_us / xchgd": "pass, stretch too",
            "languages-echo-64: tokio's cpu_us / xchgd": "FAIL"})


class Figures(unittest.TestCase):
    """Goal: the runner's arithmetic matches figures worked out by hand."""

    def test_the_spread_leaves_out_one_at_each_end_from_eight_values_on(self):
        self.assertEqual(stats.spread([5, 1, 3, 2, 4, 100, 7, 6]), {"median": 4.5, "low": 2, "high": 7, "count": 8, "level": 0.93})
        self.assertEqual(stats.spread([3, 1, 2]), {"median": 2, "low": 1, "high": 3, "count": 3, "level": 0.75})
        self.assertEqual(stats.spread([None, 7])["median"], 7)
        self.assertIsNone(stats.spread([None]))

    def test_a_ratio_is_the_median_of_the_pairs_ratios(self):
        # The ratio of the medians would be 3 / 4.
        pairs = [({"x": 1.0}, {"x": 4.0}), ({"x": 3.0}, {"x": 2.0}), ({"x": 9.0}, {"x": 8.0})]
        self.assertEqual(stats.ratios(pairs, "x")["median"], 1.125)
        self.assertEqual(stats.ratios([*pairs, ({"x": None}, {"x": 1.0}), ({"x": 1.0}, {"x": 0})], "x")["count"], 3)

    def test_calls_per_exchange_leave_the_set_up_out(self):
        self.assertEqual(counts.per_exchange((300 + 2 * 1000, 1000), (300 + 2 * 9000, 9000)), 2.0)
        self.assertIsNone(counts.per_exchange((None, 1000), (18000, 9000)))

    def test_every_row_of_the_work_list_has_a_server(self):
        for series in SERIES:
            for name in [series.baseline, *series.rows, *series.quick]:
                self.assertIn(name, servers.BY_NAME, series.name)
            self.assertLessEqual(set(series.quick), set(series.rows), series.name)
            self.assertIn(series.half_rate_of, [None, *SERIES_BY_NAME], series.name)
            self.assertIn(series.group, ("core", "languages", "http"), series.name)
            for request in series.lines.values():
                self.assertEqual(len(request), len(series.request), series.name)

    def test_bytes_are_spelt_as_the_peers_read_them(self):
        self.assertEqual(servers.escape(b"a\\\r\0\xff"), r"a\x5c\x0d\x00\xff")


WRK = """Running 1s test @ http://127.0.0.1:8080/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   723.01us    1.02ms  12.27ms   93.87%
    Req/Sec   118.24k    10.08k  130.00k    70.00%
  Latency Distribution
     50%  491.00us
     75%  602.50us
     90%    1.68ms
     99%    1.20s
  117633 requests in 1.00s, 16.15MB read
Requests/sec: 117500.45
Transfer/sec:     16.14MB
"""


class Wrk(unittest.TestCase):
    """Goal: the output of wrk is read right."""

    def test_units(self):
        self.assertEqual(http_load.parse(WRK), {"rate": 117500.45, "p50_us": 491.0, "p90_us": 1680.0, "p99_us": 1.2e6, "p99_9_us": None})

    def test_no_figures_are_a_failure(self):
        for text in ("", WRK.replace("117500.45", "0.00"), WRK.split("  Latency Distribution")[0]):
            with self.assertRaises(processes.Failure):
                http_load.parse(text)


class Runner(unittest.TestCase):
    """Goal: bench.py runs two short rows against real servers and one that crashes."""

    def bench(self, folder, build, only, *options):
        command = [sys.executable, os.path.join(RUNNER, "bench.py"), "--build", build, "--quick", "--short", "--pairs", "1", "--only", only, "--output", folder,
                   "--document", os.path.join(folder, "page.md"), *options]
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=10 * LIMIT)
        self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)
        with open(os.path.join(folder, "bench.json")) as stream:
            return ended.stdout, json.load(stream)

    def setUp(self):
        for name in ("xchg-bench", "peers/bare", "peers/request_loop", "peers/bare_answer"):
            if not os.access(os.path.join(BUILD, name), os.X_OK):
                self.skipTest(f"not built (make peers): {name}")
        if not PLAIN:
            self.skipTest("measures a release build")

    def test_rows_pairs_and_pages(self):
        with tempfile.TemporaryDirectory() as folder:
            text, report = self.bench(folder, BUILD, "echo-1/xchgd,mn-64/xchgd")
            self.assertEqual([s["name"] for s in report["series"]], ["echo-1", "mn-64"])
            for series in report["series"]:
                row, = series["rows"]
                self.assertEqual((row["server"], row["pairs"], row["failures"]), ("xchgd", 1, []))
                for figure in ("rate", "cpu_us", "p50_us", "p99_us"):
                    self.assertGreater(row["values"][figure], 0, figure)
                    self.assertGreater(row["ratios"][figure]["median"], 0, figure)
                self.assertIn(series["title"], text)
                if report["syscalls_by"]:
                    self.assertGreater(row["syscalls"], 1.9)
                    self.assertLess(series["baseline_syscalls"], 3.5)
            with open(os.path.join(folder, "bench.html")) as stream:
                html = stream.read()
            self.assertEqual(html.count("<svg"), 6)
            self.assertNotIn("://", html)
            with open(os.path.join(folder, "page.md")) as stream:
                page = stream.read()
            self.assertEqual(page, render.document("", report))
            self.assertIn("| xchgd |", page)

    def test_the_servers_own_figures(self):
        for name in ("flood", "accept_probe"):
            if not os.access(os.path.join(BUILD, "peers", name), os.X_OK):
                self.skipTest(f"not built (make peers): {name}")
        with tempfile.TemporaryDirectory() as folder:
            text, report = self.bench(folder, BUILD, "handoff,handoff-busy,unfair,gone,shares,arrivals", "--short")
            figures = {each["name"]: each["figures"] for each in report["single_measurements"]}
            for name, figure in (("handoff", "p50_us"), ("handoff-busy", "p90_us"), ("unfair", "p90_ratio"), ("shares", "least_share"),
                                 ("arrivals", "longest_us"), ("arrivals", "growing_longest_us")):
                self.assertTrue(figures[name].get(figure), report["single_measurements"])
                self.assertGreater(min(figures[name][figure]), 0, name)
            self.assertEqual(len(figures["gone"]["kib"]), 1)
            self.assertIn("handoff: p99_us", text)

    def test_a_server_that_crashes_costs_its_row(self):
        crashing = """#!{python}
import os, socket
listener = socket.create_server(("127.0.0.1", 0))
print("listening 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
listener.accept()
os.kill(os.getpid(), 9)
""".format(python=sys.executable)
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(os.path.join(folder, "peers"))
            for name in ("xchgd", "xchg-bench", "peers/bare", "peers/bare_et"):
                os.symlink(os.path.join(BUILD, name), os.path.join(folder, name))
            with open(os.path.join(folder, "peers", "libuv"), "w") as stream:
                stream.write(crashing)
            os.chmod(os.path.join(folder, "peers", "libuv"), 0o755)
            text, report = self.bench(folder, folder, "echo-1/libuv,echo-1/bare-et,echo-1/io_uring")
            rows = {row["server"]: row for row in report["series"][0]["rows"]}
            self.assertEqual(rows["libuv"]["failures"], ["the server ended by signal 9"])
            self.assertEqual((rows["libuv"]["pairs"], rows["bare-et"]["pairs"]), (0, 1))
            self.assertIn("the server ended by signal 9", text)
            self.assertRegex(text, "skipped: io_uring: .*/peers/uring is not built")
