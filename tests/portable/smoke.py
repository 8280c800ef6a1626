"""Goal: what was built for another compiler, C library or machine serves, measures and stops.

XCHGD, XCHGD_WRAP and XCHGD_SLOW are those of tests/live/xchgd.py.
"""

import os
import subprocess
import unittest

from clients import ended, talk
from test_exchange import Pipelines, Presets  # noqa: F401 (unittest runs them too)
from xchgd import LIMIT, PROGRAM, WRAP, Server, environment, run

BUILT = os.path.dirname(PROGRAM)


class Smoke(unittest.TestCase):
    def test_version_and_help(self):
        """Both programs say what they are."""
        for name in ("xchgd", "xchg-bench"):
            done = subprocess.run([*WRAP, os.path.join(BUILT, name), "--version"], stdout=subprocess.PIPE, text=True, timeout=LIMIT)
            self.assertEqual((done.returncode, done.stdout.split()[0]), (0, name))
        self.assertIn("XCHG_WORKERS", run("--help").stdout)

    def test_load(self):
        """xchg-bench compares every answer of a server with two workers."""
        with Server(XCHG_EXCHANGE="echo", XCHG_WORKERS="2") as server:
            bench = [*WRAP, os.path.join(BUILT, "xchg-bench"), "-x", "echo", "-c", "8", "-t", "2", "-n", "2000", server.addresses[0]]
            done = subprocess.run(bench, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT)
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertIn(" 2000 requests in ", done.stdout)
            totals = server.stop()
        self.assertEqual(int(totals["messages"]), 2000)

    def test_models(self):
        """Each model serves, and a stop finishes what is connected."""
        for model in ("pool", "iterative", "thread", "fork"):
            with self.subTest(model), Server(XCHG_MODEL=model, XCHG_EXCHANGE="line") as server:
                with server.connect() as client:
                    self.assertEqual(talk(client, b"hello\n"), b"hello\n")
                self.assertEqual(ended(server.stop()), {"finished": 1})

    def test_library(self):
        """A program that is linked with the library serves."""
        with Server(program=os.path.join(BUILT, "examples", "echo")) as server:
            with server.connect() as client:
                client.sendall(b"hello\n")
                self.assertEqual(client.recv(6), b"hello\n")
            server.stop()

    def test_error_text(self):
        """An errno has its usual text with every C library."""
        with Server() as first:
            env = environment(XCHG_LISTEN=first.addresses[0])
            done = subprocess.run([*WRAP, PROGRAM], env=env, stderr=subprocess.PIPE, text=True, timeout=LIMIT)
            first.stop()
        self.assertEqual(done.returncode, 69, done.stderr)
        self.assertIn('error="Address already in use"', done.stderr)


if __name__ == "__main__":
    unittest.main()
