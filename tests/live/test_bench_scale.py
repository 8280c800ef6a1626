"""Goal: xchg-bench holds many connections in one process, takes little memory for each, and allocates none while it
measures."""

import json
import os
import resource
import subprocess
import tempfile
import unittest

from bench import BENCH, RUN_LIMIT, bench, kinds, measure
from clients import INSTRUMENTED, serve
from fault_matrix import covers_fault
from xchgd import TOP, WRAP

CONNECTIONS = 18000
SOURCES = "127.0.0.1,127.0.0.2,127.0.0.3"  # connect() is slow beyond 10,000 a source address
DESCRIPTORS = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


class Scale(unittest.TestCase):
    """Goal: one xchg-bench process holds many connections."""

    @unittest.skipUnless(DESCRIPTORS >= CONNECTIONS + 2000, "18,000 connections need RLIMIT_NOFILE of 20,000")
    @unittest.skipIf(WRAP, "18,000 connections take valgrind too long")
    def test_eighteen_thousand_connections(self):
        """Each of 18,000 connections is served twice without an error. From the 1,000th on, each takes less than 512
        bytes."""
        def run(server, connections):
            report = measure(server.addresses[0], "-x", "echo", "-c", connections, "-n", 2 * CONNECTIONS, "-T", "60s",
                             "--bind", SOURCES)
            self.assertEqual(report["connected"], connections)
            self.assertEqual(report["exchanges"], 2 * CONNECTIONS)
            self.assertEqual(kinds(report), {})
            return report["client"]["resident_bytes"]
        with serve(XCHG_EXCHANGE="echo", XCHG_IDLE_TIMEOUT="0") as server:
            few, many = run(server, 1000), run(server, CONNECTIONS)
            if not INSTRUMENTED:
                self.assertLess(many - few, 512 * (CONNECTIONS - 1000))

    def test_idle_connections(self):
        """Idle connections are verified and count for the limit of 10,000 connections an address."""
        count = 500 if INSTRUMENTED else 5000
        count = min(count, DESCRIPTORS - 1000)
        with serve(XCHG_EXCHANGE="echo", XCHG_IDLE_TIMEOUT="0") as server:
            report = measure(server.addresses[0], "-x", "echo", "-c", 20, "-n", 1000, "-T", "60s", "--idle", count, "--bind", SOURCES)
            self.assertEqual((report["connected"], report["idle_connected"]), (20, count))
            self.assertEqual(kinds(report), {})
            self.assertEqual(server.stats()["accepted"], 20 + count)


class Limits(unittest.TestCase):
    """Goal: what cannot work is refused with one line before anything starts."""

    def test_more_connections_than_descriptors(self):
        """More connections than descriptors."""
        if DESCRIPTORS > 1000000:
            self.skipTest("more descriptors than -c can ask for")
        ran = bench("-x", "echo", "-c", DESCRIPTORS, "127.0.0.1:9")
        self.assertEqual((ran.returncode, ran.stdout), (64, ""))
        self.assertRegex(ran.stderr, r"\Axchg-bench: --connections '\d+', --idle '0': this process is limited to \d+ descriptors\n\Z")

    @covers_fault(60)
    def test_more_connections_than_an_address_has(self):
        """More connections than one source address has ports."""
        ran = bench("-x", "echo", "-c", 9000, "--idle", 1001, "--bind", "127.0.0.1", "127.0.0.1:9")
        self.assertEqual((ran.returncode, ran.stdout), (64, ""))
        self.assertRegex(ran.stderr, r"\Axchg-bench: --bind [^\n]*10000[^\n]*\n\Z")

    def test_missing_report(self):
        """A report that does not exist."""
        ran = bench("compare", "/nonexistent/a.json", "/nonexistent/b.json")
        self.assertEqual((ran.returncode, ran.stdout), (64, ""))
        self.assertEqual(ran.stderr, "xchg-bench: '/nonexistent/a.json': cannot be read: No such file or directory\n")


def allocations(address, *arguments):
    """The number of allocations of one xchg-bench run. None without jemalloc."""
    with tempfile.TemporaryFile("w+") as errors:
        ran = subprocess.run([BENCH, *map(str, arguments), address], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=errors, timeout=RUN_LIMIT, cwd=TOP,
                             env=dict(os.environ, MALLOC_CONF="tcache:false,stats_print:true,stats_print_opts:J"))
        errors.seek(0)
        text = errors.read()
    if ran.returncode != 0:
        raise AssertionError(f"exit code {ran.returncode}:\n{text}")
    if "{" not in text:
        return None
    arena = json.loads(text[text.index("{"):])["jemalloc"]["stats.arenas"]
    return sum(each[size]["nmalloc"] for name, each in arena.items() if name != "destroyed" for size in ("small", "large"))


@unittest.skipIf(INSTRUMENTED, "allocations are counted in a release build")
class Memory(unittest.TestCase):
    """Goal: xchg-bench never allocates while it measures. Ten times the exchanges and three times the seconds need no
    allocation more."""

    def assert_none(self, address, few, many, more):
        base = allocations(address, *few)
        if base is None:
            self.skipTest("jemalloc, which counts allocations, is not in this build")
        self.assertGreater(allocations(address, *more), base)  # an allocation is counted
        self.assertEqual(allocations(address, *many), base)

    def test_exchanges(self):
        """Many exchanges on few connections."""
        with serve(XCHG_EXCHANGE="echo") as server:
            run = ("-x", "echo", "-c", 16, "-t", 1)
            self.assert_none(server.addresses[0], (*run, "-n", 2000), (*run, "-n", 20000), ("-x", "echo", "-c", 16, "-t", 2, "-n", 2000))

    def test_connections(self):
        """Every exchange opens and closes a connection."""
        with serve() as server:
            run = ("-c", 16, "-t", 1)
            self.assert_none(server.addresses[0], (*run, "-n", 500), (*run, "-n", 5000), ("-c", 16, "-t", 2, "-n", 500))

    def test_seconds(self):
        """An open loop that also measures the server and writes a row a second."""
        with serve(XCHG_EXCHANGE="echo") as server:
            run = ("-x", "echo", "-c", 16, "-R", 2000, "--pid", server.process.pid)
            self.assert_none(server.addresses[0], (*run, "-t", 1, "-d", "1s"), (*run, "-t", 1, "-d", "3s"), (*run, "-t", 2, "-d", "1s"))
