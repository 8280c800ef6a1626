"""docs/debugging/xchg-gdb.py shows the connections of a server that runs, what they have received and what they have yet to send."""

import os
import re
import shutil
import socket
import subprocess
import unittest

from clients import patient
from xchgd import LIMIT, PLAIN, PROGRAM, TOP, receive_exactly

SCRIPT = os.path.join(TOP, "docs", "debugging", "xchg-gdb.py")
EACH = "python for conn in (conn for worker in workers() for conn in connections(worker)): print(%s)"


def fill(client, data):
    """Send copies of ${data} until the kernel takes no more; the server has then stopped reading."""
    client.settimeout(0.5)
    try:
        while True:
            client.sendall(data)
    except TimeoutError:
        pass


@unittest.skipUnless(shutil.which("gdb"), "there is no gdb")
@unittest.skipUnless(PLAIN, "the program is instrumented")
class Gdb(unittest.TestCase):
    def gdb(self, server, *commands):
        """What gdb prints for these commands while it is attached."""
        options = [option for command in commands for option in ("-ex", command)]
        done = subprocess.run(["gdb", "-nx", "-batch", "-p", str(server.pid), "-x", SCRIPT, *options], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=6 * LIMIT)
        if "ptrace: Operation not permitted" in done.stdout:
            self.skipTest("gdb may not attach to a process here (ptrace)")
        self.assertNotIn("Python Exception", done.stdout)
        self.assertNotIn("Error", done.stdout)
        return done.stdout

    def test_connections(self):
        with patient(XCHG_EXCHANGE="line", XCHG_MESSAGES=0, XCHG_WORKERS=2, XCHG_MAX_PENDING="64KiB", XCHG_SNDBUF="64KiB") as server:
            with server.connect() as half, server.connect(rcvbuf=4096) as full:
                half.sendall(b"one\nhalf a line")
                self.assertEqual(receive_exactly(half, 4), b"one\n")
                fill(full, b"x" * 99 + b"\n")
                printed = self.gdb(server, "xchg-conns", EACH % "conn", EACH % "conn['in'].dereference()" +
                                   " if int(conn['in']) else None")
                workers = re.findall(r"^worker (\d): (\d) connections$", printed, re.M)
                self.assertEqual([index for index, _ in workers], ["0", "1"])
                self.assertEqual(sum(int(count) for _, count in workers), 2)
                mine = re.findall(r"(fd \d+ OPEN 127\.0\.0\.1:(\d+) slot \d+ generation \d+ messages (\d+) in (\d+) out (\d+))$",
                                  printed, re.M)
                self.assertEqual(len(mine), 4, printed)  # by the command and by the printer
                self.assertEqual(sorted(mine[:2]), sorted(mine[2:]))
                found = {int(port): tuple(map(int, rest)) for _, port, *rest in mine}
                self.assertEqual(found[half.getsockname()[1]], (1, 11, 0))
                messages, _, out = found[full.getsockname()[1]]
                self.assertGreater(messages, 100)
                self.assertGreaterEqual(out, 64 * 1024)
                self.assertIn("11 bytes b'half a line'", printed)
                self.assertIn("worker 1", self.gdb(server, "xchg-conns 1"))
                self.assertNotIn("worker 0", self.gdb(server, "xchg-conns 1"))
            server.stop()

    def test_references(self):
        value = b"v" * 100000
        with patient(program=os.path.join(os.path.dirname(PROGRAM), "examples", "kv"), XCHG_SNDBUF="64KiB") as server:
            with server.connect(rcvbuf=4096) as client:
                client.sendall(b"set a 0 0 %d\r\n%s\r\n" % (len(value), value))
                self.assertEqual(receive_exactly(client, 8), b"STORED\r\n")
                client.sendall(b"get a\r\n" * 8)
                self.assertEqual(client.recv(5, socket.MSG_WAITALL), b"VALUE")
                printed = self.gdb(server, EACH % "conn['out']")
                self.assertRegex(printed, r"(?m)^reference of \d+ bytes, \d+ bytes")
            server.stop()
