"""Goal: of the addresses of a name, xchg-bench uses the first that accepts, and makes only the connections of the run."""

import json
import os
import subprocess
import tempfile
import unittest

from bench import BENCH, RUN_LIMIT, unused_port
from clients import serve
from xchgd import TOP

UNSHARE = ["unshare", "--map-root-user", "--mount"]


class Name(unittest.TestCase):
    """Goal: a name with several addresses is no list of failures."""

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.hosts = os.path.join(temporary.name, "hosts")
        with open(self.hosts, "w") as stream:
            stream.write("".join(f"127.0.0.{host} several.test\n" for host in (2, 3, 1)))
        if self.bench("--version").returncode != 0:
            self.skipTest("needs a mount namespace")

    def bench(self, *arguments):
        """Run xchg-bench with hosts of our own."""
        command = 'mount --bind "$0" /etc/hosts && exec "$@"'
        return subprocess.run([*UNSHARE, "sh", "-c", command, self.hosts, BENCH, *map(str, arguments)], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=RUN_LIMIT, cwd=TOP)

    def test_the_first_that_accepts(self):
        for options in (("-x", "echo", "-n", "50", "-c", "3"), ("-n", "20", "-c", "3"), ("-x", "echo", "-n", "50", "-c", "3", "--repeat", "2")):
            exchange = "echo" if "echo" in options else "greet"
            with self.subTest(options), serve(XCHG_EXCHANGE=exchange, XCHG_LISTEN="127.0.0.3:0") as server:
                port = server.addresses[0].rsplit(":", 1)[1]
                ran = self.bench(*options, "--json", "-", f"several.test:{port}")
                self.assertEqual(ran.returncode, 0, ran.stderr)
                report = json.loads(ran.stdout)
                self.assertEqual(report["address"], f"127.0.0.3:{port}")
                self.assertEqual(sum(count for kind, count in report["errors"].items() if kind != "errno"), 0)
                accepted = server.stop()["accepted"]  # no spare connection
                self.assertEqual(accepted, {"greet": 20}.get(exchange, 6 if "--repeat" in options else 3))

    def test_the_text_tells_which(self):
        with serve(XCHG_EXCHANGE="echo", XCHG_LISTEN="127.0.0.3:0") as server:
            port = server.addresses[0].rsplit(":", 1)[1]
            ran = self.bench("-x", "echo", "-n", "50", f"several.test:{port}")
            self.assertRegex(ran.stdout, rf"(?m)^  Address: 127\.0\.0\.3:{port}, number [23] of 3 of the name$")  # the resolver sorts

    def test_none(self):
        ran = self.bench("-x", "echo", "-d", "100ms", f"several.test:{unused_port()}")
        self.assertEqual(ran.returncode, 1)
        self.assertIn("none of 3 of the name answers", ran.stdout)
        self.assertIn("ECONNREFUSED", ran.stdout)
