"""Goal: xchgd as each C library makes it serves, reports, drains and stops in its sandbox, and makes no call that the table lacks.

XCHGD_VARIANTS = the programs. Each runs under XCHG_SANDBOX=trap, where a call that is not in the table ends it, and under `on`.
"""

import json
import os
import signal
import sys
import unittest

sys.path[:0] = [os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "live")]

from clients import FolderTest  # noqa: E402
from endpoint import Endpoint  # noqa: E402
from xchgd import GREETING, is_closed, receive_all, receive_exactly, reset  # noqa: E402

PROGRAMS = os.environ["XCHGD_VARIANTS"].split()
MODES = ("trap", "on")
LINES = {"XCHG_EXCHANGE": "line", "XCHG_MESSAGES": "0", "XCHG_STOP_GRACE": "0"}


class Variants(FolderTest):
    def each(self, play, **variables):
        """play(server) with each program and mode, on a TCP listener and a UNIX listener."""
        for i, (program, mode) in enumerate((program, mode) for program in PROGRAMS for mode in MODES):
            path = self.path(f"socket{i}")
            with self.subTest(program=program, mode=mode), Endpoint(self.path(f"admin{i}"), program=program, XCHG_SANDBOX=mode,
                                                                    XCHG_LISTEN=f"127.0.0.1:0,unix:{path}", **variables) as server:
                line = server.wait_line("sandbox")
                self.assertNotIn("off", (line["seccomp"], line["landlock"]))
                self.assertEqual([text for text in server.lines if "level=warn" in text], [])
                play(server)
                self.assertEqual([found for found in (path, server.path) if os.path.exists(found)], [])

    def test_exchange_and_stop(self):
        """Greetings over TCP and over a UNIX socket; the stop removes the socket files."""
        def play(server):
            for address in server.addresses:
                with server.connect(address=address) as client:
                    self.assertEqual(receive_exactly(client, len(GREETING)), GREETING)
                    client.sendall(b"hello\0")
                    self.assertEqual(receive_all(client), b"")
            reset(server.connect())
            self.assertEqual(server.stop()["finished"], len(server.addresses))

        self.each(play)

    def test_admin(self):
        """Probes, metrics, connections, a changed log level, statistics by signal, and a client closed by command."""
        def play(server):
            with server.connect() as client:
                client.sendall(b"a\n")
                self.assertEqual(receive_exactly(client, 2), b"a\n")
                for target in ("/livez", "/readyz", "/metrics", "/stats", "/"):
                    self.assertEqual(server.ask(target).status, 200, target)
                self.assertEqual(server.ask("/log?level=debug", "POST").status, 200)
                self.assertEqual(server.stats()["open"], 1)
                found = json.loads(server.ask("/connections", unix=True).text)["connections"]
                self.assertEqual(server.ask(f"/close?id={found[0]['id']}", "POST").status, 200)
                self.assertTrue(is_closed(client))
            server.stop()

        self.each(play, **LINES)

    def test_drain(self):
        """A drain by command ends the server after the last client."""
        def play(server):
            with server.connect() as client:
                receive_exactly(client, len(GREETING))
                self.assertEqual(server.ask("/drain", "POST").status, 202)
                server.wait_line("stopping")
                client.sendall(b"bye\0")
                self.assertEqual(receive_all(client), b"")
            self.assertEqual(server.finish()["finished"], 1)

        self.each(play, XCHG_DRAIN_TIMEOUT="1m", XCHG_STOP_GRACE="0")

    def test_large_messages(self):
        """Blocks that the allocator maps and gives back."""
        def play(server):
            with server.connect() as client:
                for size in (1 << 10, 1 << 16, 1 << 20, 6 << 20):
                    client.sendall(b"x" * size + b"\n")
                    self.assertEqual(len(receive_exactly(client, size + 1)), size + 1)
            server.stop(signal.SIGINT)

        self.each(play, **{**LINES, "XCHG_MAX_MESSAGE": "8MiB", "XCHG_MAX_PENDING": "16MiB"})


if __name__ == "__main__":
    unittest.main()
