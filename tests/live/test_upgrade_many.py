"""Goal: after any number of upgrades in a row nothing is lost, no total has gone back, and the server is the same process, as large as at first.

XCHGD_UPGRADES = how many; `make check-upgrades` has 100.
"""

import json
import os
import resource
import signal
import subprocess
import threading
import time
import unittest

from bench import BENCH, RUN_LIMIT, kinds, measure
from clients import INSTRUMENTED, MIB
from fault_matrix import covers_fault
from test_containers import children
from upgrade import UpgradeEndpoint, UpgradeTest
from xchgd import LIMIT, PROGRAM, SLOW, check_totals, receive_exactly

UPGRADES = int(os.environ.get("XCHGD_UPGRADES", "6"))
RESIDENTS = 1000
SHUFFLED = os.path.join(os.path.dirname(PROGRAM), "xchgd-shuffle")
RESTARTS = ("process_", "xchg_worker_")  # families of one process and of its threads


class Loop:
    """xchg-bench in a process, until stop()."""

    def __init__(self, server, path, *options):
        self.path = path
        self.process = subprocess.Popen([BENCH, "-x", "echo", *options, "-d", "1h", "--json", path, server.addresses[0]],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def stop(self):
        """Return: the report."""
        self.process.send_signal(signal.SIGINT)
        output, _ = self.process.communicate(timeout=RUN_LIMIT)
        if self.process.returncode != 130:
            raise AssertionError(f"exit code {self.process.returncode}: {output}")
        with open(self.path) as stream:
            return json.load(stream)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.kill()
        self.process.communicate()


class Size:
    """What a process holds."""

    def __init__(self, server):
        self.threads = sorted(server.threads())
        with open(f"/proc/{server.pid}/environ", "rb") as stream:
            self.environment = sorted(entry for entry in stream.read().split(b"\0") if not entry.startswith(b"XCHG_UPGRADE_CHANNEL="))
        with open(f"/proc/{server.pid}/maps") as stream:
            self.mappings = len(stream.readlines())
        self.memory = server.memory_bytes("RssAnon")


def identity(server):
    """What does not change with the program of a process: its ids, its group, its arguments, and its standard descriptors."""
    process = f"/proc/{server.pid}"
    with open(f"{process}/status") as stream:
        found = [line for line in stream if line.startswith(("Name:", "Pid:", "PPid:", "Uid:", "Gid:", "NSpid:"))]
    for name in ("cgroup", "cmdline"):
        with open(f"{process}/{name}") as stream:
            found.append(stream.read())
    return found + [os.readlink(f"{process}/fd/{fd}") for fd in range(3)] + [os.getpgid(server.pid), os.getsid(server.pid)]


class InARow(UpgradeTest):
    def exchange_all(self, clients, data):
        """All at the same time."""
        for client in clients:
            client.sendall(data)
        for client in clients:
            self.assertEqual(receive_exactly(client, len(data)), data)

    def wait_descriptors(self, server, count):
        """The channel to the child is closed when its end is seen."""
        deadline = time.monotonic() + LIMIT
        while server.descriptors() != count:
            self.assertLess(time.monotonic(), deadline, f"{server.descriptors()} descriptors, not {count}")
            server.stats()

    @covers_fault(37)
    def test_loops_and_residents(self):
        """64 clients loop, 1,000 stay: 0 lost. Descriptors, memory and threads are those after the second upgrade, and the process is the first one."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.assertGreaterEqual(hard, RESIDENTS + 200)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, RESIDENTS + 500)), hard))
        server = self.server(XCHG_WORKERS="2", XCHG_MAX_CONNECTIONS="1100")
        clients = self.clients(server, RESIDENTS)
        process = identity(server)
        with Loop(server, self.path("report"), "-c", "64", "--size", "64") as loop:
            server.wait_stats(lambda values: values["open"] == RESIDENTS + 64)
            server.upgrade()
            server.stats()
            server.stats()  # main answers after the turn in which it has seen the end of the child
            descriptors, first = server.descriptors(), None
            for i in range(UPGRADES):
                fields = server.upgrade()
                self.assertEqual((fields["moved"], fields["stayed"]), (str(RESIDENTS + 64), "0"))
                self.exchange_all(clients, b"round %d" % i)
                self.wait_descriptors(server, descriptors)
                self.assertEqual((identity(server), children(server.pid)), (process, []))
                size = Size(server)
                first = first or size
            report = loop.stop()
        self.assertEqual(kinds(report), {})
        self.assertEqual((size.threads, size.environment), (first.threads, first.environment))
        self.assertEqual([line for line in server.lines if "level=warn" in line or "level=error" in line], [])
        if not INSTRUMENTED:
            self.assertLess(size.memory, first.memory + MIB)
            self.assertLess(size.mappings, first.mappings + 20)
        for client in clients:
            client.close()
        totals = server.end()
        self.assertEqual(totals["accepted"], RESIDENTS + 64)
        self.assertEqual(totals["moved"], 2 * (UPGRADES + 1) * (RESIDENTS + 64))  # each way counts
        self.assertGreaterEqual(totals["messages"], report["exchanges"] + RESIDENTS * (UPGRADES + 1))

    def test_totals_are_those_of_the_clients(self):
        """What xchg-bench has counted over several programs is in the last line of the last one."""
        server = self.server(XCHG_WORKERS="2", XCHG_FRAME="u32")
        report = {}

        def load():
            report.update(measure(server.addresses[0], "-x", "echo", "--frame", "u32", "-c", "16", "--reconnect", "50",
                                  "--size", "uniform:1,4000", "-n", str(round(60000 / SLOW))))

        thread = threading.Thread(target=load)
        thread.start()
        server.wait_stats(lambda values: values["messages"] > 0)
        while thread.is_alive():
            server.upgrade()
        thread.join()
        totals = server.end()
        self.assertGreater(server.upgrades, 1)
        self.assertEqual(kinds(report), {})
        self.assertEqual((totals["finished"], totals["messages"]), (totals["accepted"], report["exchanges"]))
        self.assertIn(totals["accepted"] - report["connect_us"]["count"], range(17))  # the last ones had no time to ask
        self.assertEqual((totals["bytes_in"], totals["bytes_out"]), (report["bytes_out"], report["bytes_in"]))


class Shuffled(UpgradeTest):
    """The workers give connections to each other all the time, and an upgrade takes them away (tests/shuffle/shuffle.c)."""

    def test_under_load(self):
        server = self.server(program=SHUFFLED, XCHG_WORKERS="3", XCHG_FRAME="u32", XCHG_SNDBUF="4KiB", XCHG_DRAIN_TIMEOUT="5m")
        options = ("--frame", "u32", "-c", "20", "-p", "8", "--size", "uniform:1,9000", "--reconnect", "200")
        with Loop(server, self.path("report"), *options) as loop:
            server.wait_stats(lambda values: values["messages"] > 0)
            for _ in range(UPGRADES):
                server.upgrade()
            report = loop.stop()
        self.assertEqual(kinds(report), {})
        self.assertGreaterEqual(server.end()["messages"], report["exchanges"])


class Scrapes(UpgradeTest):
    """A counter that a client has seen never decreases, whichever process answers."""

    def samples(self, text):
        """The counters of a scrape: {series: value}."""
        kind, found = {}, {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind[name] = line.split(" ")
            elif not line.startswith(("#", *RESTARTS)):
                series, value = line.rsplit(" ", 1)
                name = series.split("{")[0]
                if kind.get(name) == "counter" or kind.get(name.rsplit("_", 1)[0]) == "histogram":
                    found[series] = float(value)
        return found

    def scrape_until(self, server, over, failures):
        """Scrape without a pause, each time on a new connection."""
        before, count = {}, 0
        try:
            while not over.is_set() or count == 0:
                now = self.samples(server.ask("/metrics").text)
                self.assertEqual(sorted(before.keys() - now.keys()), [])
                for series, value in before.items():
                    self.assertGreaterEqual(now[series], value, series)
                before, count = now, count + 1
            self.assertGreater(len(before), 100)
        except (OSError, AssertionError) as failure:
            failures.append(failure)

    def test_counters_never_decrease(self):
        server = self.server(UpgradeEndpoint, self.path("admin"), XCHG_WORKERS="2")
        clients = self.clients(server, 50)
        over, failures = threading.Event(), []
        scraper = threading.Thread(target=self.scrape_until, args=(server, over, failures))
        scraper.start()
        try:
            with Loop(server, self.path("report"), "-c", "4", "--reconnect", "20") as loop:
                server.wait_stats(lambda values: values["messages"] > 100)
                for _ in range(UPGRADES):
                    server.upgrade()
                report = loop.stop()
        finally:
            over.set()
            scraper.join()
        self.assertEqual(failures, [])
        self.assertEqual(kinds(report), {})
        check_totals(server.stats())
        self.assertEqual(server.metric("xchg_connections_moved_total"), server.stats()["moved"])
        self.assertGreaterEqual(server.stats()["moved"], 2 * len(clients) * UPGRADES)
        server.end()


if __name__ == "__main__":
    unittest.main()
