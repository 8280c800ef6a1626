"""Goal: the kernel's table of descriptors has its final size before the first client comes.

A process with threads waits for milliseconds each time the table grows, and accepts no client meanwhile.
"""

import resource
import unittest

from clients import INSTRUMENTED
from crowd import Crowd
from fault_matrix import covers_fault
from xchgd import WRAP, Server

TABLE_MAX = 65536
LINES = {"XCHG_EXCHANGE": "line", "XCHG_MESSAGES": "0", "XCHG_GREETING": "hello", "XCHG_WORKERS": "2", "XCHG_BACKLOG": "8192"}


def table_size(server):
    """How many descriptors the table of the server has room for."""
    with open(f"/proc/{server.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("FDSize:"))


def limited(count):
    """A preexec function that sets both descriptor limits."""
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


@unittest.skipIf(WRAP, "valgrind keeps descriptors of its own at the end of the table")
class DescriptorTable(unittest.TestCase):

    def arrive(self, server, count):
        """${count} clients connect at once and are greeted. The table keeps its size."""
        before = table_size(server)
        with Crowd(server, "burst", count, 6) as crowd:
            crowd.wait("ready")
            crowd.go_on()
            self.assertEqual(crowd.wait("greeted")["count"], count)
            self.assertEqual(table_size(server), before)
            crowd.go_on()
            crowd.wait("gone")
        return before

    @covers_fault(6)
    def test_5000_clients(self):
        """5,000 clients arrive at a fresh server."""
        count = 1000 if INSTRUMENTED else 5000
        with Server(**LINES) as server:
            self.assertGreaterEqual(self.arrive(server, count), count)
            server.stop()

    def test_as_many_as_the_limit(self):
        """The limit on connections is small, and it is reached. The table holds it and is not larger than necessary."""
        for model in ("pool", "thread", "iterative", "fork"):
            with self.subTest(model=model), Server(XCHG_MODEL=model, XCHG_MAX_CONNECTIONS="300", **{**LINES, "XCHG_WORKERS": None}) as server:
                size = self.arrive(server, 1 if model == "iterative" else 300)
                self.assertGreaterEqual(size, 300)
                self.assertLess(size, 2048)
                server.stop()

    def test_as_many_as_the_descriptors(self):
        """The limit on connections is what the descriptor limit allows."""
        with Server(preexec=limited(600), **LINES) as server:
            self.assertGreaterEqual(table_size(server), 600)
            server.stop()

    def test_a_million_descriptors(self):
        """A high limit costs no more than the largest table."""
        if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 1 << 20:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1 << 20))
            except ValueError as refused:
                self.skipTest(f"cannot raise RLIMIT_NOFILE: {refused}")
        with Server(preexec=limited(1 << 20), **LINES) as server:
            self.assertEqual(table_size(server), TABLE_MAX)
            server.stop()


if __name__ == "__main__":
    unittest.main()
