"""Goal: connections that move between workers all the time are served as if they stayed.

The server is tests/shuffle/shuffle.c. xchg-bench compares every answer byte by byte.
"""

import os
import tempfile
import unittest

from bench import bench, kinds, measure
from xchgd import PROGRAM, SLOW, Server, check_totals, numbers

SHUFFLED = os.path.join(os.path.dirname(PROGRAM), "xchgd-shuffle")
FRAMES = ("nul", "line", "u16", "u32", "fixed:600", "raw")
EXCHANGES = int(20000 / SLOW)
LONG = "uniform:1,20000"  # messages that span reads and turns


def shuffled(**variables):
    variables.setdefault("XCHG_WORKERS", "3")
    return Server(program=SHUFFLED, SHUFFLE_REPORT="1", **variables)


class Shuffle(unittest.TestCase):
    """Each test counts what has moved, so that none passes without moves."""

    def end(self, server, *, least):
        """Stop ${server}: its counters add up, and at least ${least} connections have moved. Return: the counts of moves."""
        totals = server.stop()
        check_totals(totals)
        moves = numbers(server.messages("shuffled")[0])
        self.assertGreaterEqual(moves["moved"], least)
        return moves

    def serve(self, server, *options, least=50):
        """Run xchg-bench with ${options}: every answer is right. Return: the counts of moves."""
        report = measure(server.addresses[0], *options)
        self.assertEqual(kinds(report), {})
        return self.end(server, least=least)

    def test_every_frame(self):
        for frame in FRAMES:
            for size in ("64", LONG):
                with self.subTest(frame=frame, size=size), shuffled(XCHG_EXCHANGE="echo", XCHG_FRAME=frame) as server:
                    size = "600" if frame.startswith("fixed") else size
                    count = EXCHANGES if size != LONG else EXCHANGES // 4
                    self.serve(server, "-x", "echo", "--frame", frame, "--size", size, "-c", "20", "-n", count)

    def test_pipeline(self):
        """Unfinished messages and queued output move, too."""
        moves = {"input": 0, "output": 0}
        for frame in FRAMES:
            size = "600" if frame.startswith("fixed") else LONG
            with self.subTest(frame=frame), shuffled(XCHG_EXCHANGE="echo", XCHG_FRAME=frame, XCHG_SNDBUF="4KiB") as server:
                seen = self.serve(server, "-x", "echo", "--frame", frame, "--size", size, "-c", "20", "-p", "16",
                                  "-n", EXCHANGES // 2)
                moves = {name: moves[name] + seen[name] for name in moves}
        self.assertGreater(moves["input"], 0)
        self.assertGreater(moves["output"], 0)

    def test_small_pending(self):
        """Input is blocked, and its clock stands, while output waits."""
        with shuffled(XCHG_EXCHANGE="echo", XCHG_FRAME="u32", XCHG_MAX_PENDING="4KiB", XCHG_SNDBUF="4KiB") as server:
            moves = self.serve(server, "-x", "echo", "--frame", "u32", "--size", LONG, "-c", "20", "-p", "32",
                               "-n", EXCHANGES // 4)
        self.assertGreater(moves["output"], 0)

    def test_short_connections(self):
        for exchange in ("greet", "line"):
            with self.subTest(exchange=exchange), shuffled(XCHG_EXCHANGE=exchange) as server:
                self.serve(server, "-x", exchange, "-c", "20", "-n", EXCHANGES // 4)

    def test_reconnects(self):
        with shuffled(XCHG_EXCHANGE="echo") as server:
            self.serve(server, "-x", "echo", "-c", "20", "-p", "4", "--reconnect", "20", "-n", EXCHANGES)

    def test_proxy_headers(self):
        with shuffled(XCHG_EXCHANGE="echo", XCHG_LISTEN="127.0.0.1:0;proxy=any", XCHG_PROXY_TRUST="127.0.0.0/8") as server:
            self.serve(server, "-x", "echo", "-c", "20", "--reconnect", "5", "--proxy", "v2,crc32c,unique-id", "-n",
                       EXCHANGES // 4)

    def test_unix_sockets(self):
        with tempfile.TemporaryDirectory() as folder:
            path = f"unix:{folder}/socket"
            with shuffled(XCHG_EXCHANGE="echo", XCHG_LISTEN=path) as server:
                self.serve(server, "-x", "echo", "--size", LONG, "-c", "20", "-p", "8", "-n", EXCHANGES // 4)

    def test_one_worker(self):
        with shuffled(XCHG_EXCHANGE="echo", XCHG_WORKERS="1") as server:
            self.serve(server, "-x", "echo", "-c", "20", "-p", "4", "-n", EXCHANGES)

    def test_limit_per_address(self):
        """The count per address moves with the connection: at its end the address has its places back."""
        with shuffled(XCHG_EXCHANGE="echo", XCHG_MAX_PER_IP="20") as server:
            for _ in range(2):
                self.assertEqual(kinds(measure(server.addresses[0], "-x", "echo", "-c", "20", "-n", EXCHANGES // 2)), {})
                self.assertNotEqual(kinds(measure(server.addresses[0], "-x", "echo", "-c", "40", "-n", EXCHANGES // 2)), {})
            self.end(server, least=50)


if __name__ == "__main__":
    unittest.main()
