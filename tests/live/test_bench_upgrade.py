"""Goal: the clients of bench-upgrade count what a server does to them, and its runner measures a live upgrade and judges it.

The clients run against servers that misbehave on purpose. No figure here depends on the machine.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import unittest
from importlib.machinery import SourceFileLoader

from bench import Fake
from xchgd import LIMIT, PROGRAM, TOP, WRAP

RUNNER = os.path.join(TOP, "benchmarks", "runner")
sys.path.insert(0, RUNNER)
BUILD = os.path.dirname(PROGRAM)
CLIENTS = os.path.join(BUILD, "peers", "ping_clients")
runner = SourceFileLoader("runner_upgrade", os.path.join(RUNNER, "upgrade.py")).load_module()  # tests/live has an upgrade.py, too

SIZE = 64  # of a ping
HTTP_BODY = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 16\r\n\r\n"


def needs(path):
    return unittest.skipUnless(os.access(path, os.X_OK), f"not built (make peers): {os.path.basename(path)}")


class Pings:
    """A server for ping_clients. It echoes the first ping of each connection, and does what ${then} says with each later one."""

    def __init__(self, then, first):
        self.then, self.first = then, first
        self.ids, self.later = set(), threading.Semaphore(0)
        self.fake = Fake(self.serve)

    def serve(self, connection, _number):
        with contextlib.suppress(OSError):
            is_first = True
            while len(data := connection.recv(SIZE, socket.MSG_WAITALL)) == SIZE:
                self.ids.add(data)
                if is_first:
                    self.first(connection, data)
                else:
                    self.later.release()
                    self.then(connection, data)
                is_first = False


def echo(connection, data):
    connection.sendall(data)


def wrong(connection, data):
    connection.sendall(b"x" + data[1:])


def cut(connection, _data):
    connection.close()


def echo_and_cut(connection, data):
    connection.sendall(data)
    connection.close()


def nothing(_connection, _data):
    pass


@needs(CLIENTS)
class Clients(unittest.TestCase):
    def run_clients(self, then, pings=10, orders=("s", "e", "q"), load=runner.ECHO, first=echo, options=()):
        """The report. Before each order the server has had ${pings} pings more."""
        server = Pings(then, first)
        with server.fake:
            port = server.fake.address.rsplit(":", 1)[1]
            clients = subprocess.Popen([CLIENTS, "-c", "5", "-R", "200", *options, *load, port], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       text=True)
            try:
                self.assertEqual(clients.stdout.readline(), "running\n")
                for order in orders:
                    for _ in range(pings):
                        self.assertTrue(server.later.acquire(timeout=LIMIT))
                    clients.stdin.write(order)
                    clients.stdin.flush()
                report = json.loads(clients.stdout.readline())
                self.assertEqual(clients.wait(LIMIT), 0)
            finally:
                clients.kill()
                clients.communicate()
        self.server = server
        return report

    def faults(self, report):
        return {name: report[name] for name in ("closed", "reset", "cut", "unanswered", "wrong", "refused") if report[name]}

    def test_a_server_that_answers(self):
        """Every ping has its own bytes and counts in the phase in which it begins."""
        report = self.run_clients(echo)
        self.assertEqual(self.faults(report), {})
        answered = 0
        for phase in ("before", "move", "after"):
            residents = report[phase]["residents"]
            answered += residents["answered"]
            self.assertGreater(residents["answered"], 0)
            self.assertLessEqual(residents["p50_us"], residents["p99_us"])
            self.assertLessEqual(residents["p99_us"], residents["max_us"])
        self.assertEqual(len(self.server.ids), answered + 5)

    def test_new_clients(self):
        """Each 50th ping is one of a client that connects for it."""
        report = self.run_clients(echo, pings=100, orders=("q",), options=("-n", "3"))
        self.assertEqual(self.faults(report), {})
        self.assertGreater(report["before"]["newcomers"]["answered"], 1)
        self.assertLess(report["before"]["newcomers"]["answered"], report["before"]["residents"]["answered"] / 30)

    def test_the_end_of_an_idle_connection(self):
        """It is no lost ping, and the client connects again."""
        faults = self.faults(self.run_clients(echo_and_cut, pings=5, options=("-R", "50")))
        self.assertLessEqual(set(faults), {"closed", "reset", "cut"})  # the next ping may come first
        self.assertGreater(faults["closed"], 0)

    def test_the_end_of_a_connection_with_a_ping(self):
        faults = self.faults(self.run_clients(cut, pings=3))
        self.assertLessEqual(set(faults), {"reset", "cut"})
        self.assertGreaterEqual(sum(faults.values()), 9)

    def test_wrong_answers(self):
        faults = self.faults(self.run_clients(wrong, pings=3))
        self.assertLessEqual(set(faults), {"wrong"})
        self.assertGreaterEqual(faults["wrong"], 9)

    def test_no_answer(self):
        """Five clients wait, and their later pings are skipped."""
        self.assertEqual(self.faults(self.run_clients(nothing, pings=5, orders=("q",))), {"unanswered": 5})

    def test_answers_with_a_head(self):
        """Only the begin and the end of an HTTP answer are compared."""
        def answer(connection, data):
            connection.sendall(HTTP_BODY + data[9:25])
        load = ["--message", "GET /?id={id}".ljust(SIZE - 16 + len("{id}"), "."), *runner.HTTP[2:]]
        self.assertEqual(self.faults(self.run_clients(answer, pings=3, load=load, first=answer)), {})


def report_of(**changes):
    """A run in which nothing was lost."""
    phase = {"residents": {"answered": 9, "p50_us": 100, "p99_us": 2000, "max_us": 3000},
             "newcomers": {"answered": 1, "p50_us": 100, "p99_us": 100, "max_us": 4000}, "skipped": 0}
    report = {"before": phase, "move": phase, "after": phase, "closed": 0, "reset": 0, "cut": 0, "unanswered": 0, "wrong": 0, "refused": 0,
              "seconds": 0.2, "moved": 100, "stayed": 0, "frozen_us_p50": 300, "frozen_us_p99": 500, "frozen_us_max": 600}
    return report | changes


class Judgement(unittest.TestCase):
    def judge(self, *reports, short=False):
        options = runner.argparse.Namespace(short=short)
        row = next(row for row in runner.ALL if row.name == "xchgd")
        totals = [runner.summarize(row, 100, [runner.figures(report) for report in reports])]
        return totals[0], [verdict for _, verdict in runner.verdicts(options, totals)]

    def test_nothing_is_lost(self):
        total, found = self.judge(*[report_of()] * 5)
        self.assertEqual(found, ["pass"] * 4)
        self.assertEqual((total["lost"], total["p99_move_ms"]["median"], total["longest_ms"]["median"]), (0, 2.0, 3.0))

    def test_each_loss_fails(self):
        for name in ("closed", "reset", "cut", "unanswered", "wrong", "refused"):
            with self.subTest(name=name):
                self.assertEqual(self.judge(report_of(), report_of(**{name: 1}))[1][0], "FAIL")

    def test_times(self):
        """The longest ping may come after the move, and a longer one before it does not count."""
        slow = report_of()["move"] | {"residents": {"answered": 9, "p50_us": 100, "p99_us": 20000, "max_us": 90000}}
        self.assertEqual(self.judge(*[report_of(move=slow)] * 5)[1], ["pass", "FAIL", "FAIL", "pass"])
        self.assertEqual(self.judge(*[report_of(after=slow)] * 5)[1], ["pass", "pass", "FAIL", "pass"])
        self.assertEqual(self.judge(*[report_of(before=slow)] * 5)[1], ["pass"] * 4)
        self.assertEqual(self.judge(*[report_of(seconds=1.2)] * 5)[1], ["pass", "pass", "pass", "FAIL"])
        self.assertEqual(self.judge(report_of(move=slow), short=True)[1], ["pass", "shown", "shown", "shown"])


@unittest.skipIf(WRAP, "the program of the process is that of the wrap")
@needs(CLIENTS)
class Runs(unittest.TestCase):
    def test_a_short_run(self):
        """xchgd loses nothing, and the others, where they are installed, are measured under the same load."""
        ran = subprocess.run([sys.executable, os.path.join(RUNNER, "upgrade.py"), "--build", BUILD, "--short"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=4 * LIMIT)
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
        self.assertIn("xchgd: nothing is lost, refused or wrong: pass", ran.stdout)
        with open(os.path.join(BUILD, "bench-upgrade", "upgrade.json")) as stream:
            found = json.load(stream)
        names = [total["name"] for total in found["servers"]]
        self.assertEqual(names[:2], ["xchgd", "xchgd-stays"])
        self.assertGreaterEqual(found["runs"]["xchgd"][0]["moved"], 200)
        for name in ("nginx", "haproxy"):
            self.assertTrue(name in names or f"{name} is skipped" in ran.stdout, ran.stdout)


if __name__ == "__main__":
    unittest.main()
