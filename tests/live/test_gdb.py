"""docs/debugging/xchg-gdb.py shows servers, workers, connections and rings of a process and of its core."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import unittest

from clients import patient
from test_handler import Hold, Talk, holder
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
    def gdb(self, server, *commands, core=None):
        """What gdb prints for these commands while it is attached, or on a core."""
        options = [option for command in commands for option in ("-ex", command)]
        target = ["-p", str(server.pid)] if core is None else [PROGRAM, core]
        done = subprocess.run(["gdb", "-nx", "-batch", *target, "-x", SCRIPT, *options], stdin=subprocess.DEVNULL,
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
                printed = self.gdb(server, "xchg conns", EACH % "conn", EACH % "conn['in'].dereference()" +
                                   " if int(conn['in']) else None")
                workers = re.findall(r"^worker (\d): (\d) connections$", printed, re.M)
                self.assertEqual([index for index, _ in workers], ["0", "1"])
                self.assertEqual(sum(int(count) for _, count in workers), 2)
                mine = re.findall(r"(fd \d+ OPEN 127\.0\.0\.1:(\d+) slot \d+ generation \d+ age \d+ ms messages (\d+) in (\d+) out (\d+))$",
                                  printed, re.M)
                self.assertEqual(len(mine), 4, printed)  # by the command and by the printer
                self.assertEqual(sorted(mine[:2]), sorted(mine[2:]))
                found = {int(port): tuple(map(int, rest)) for _, port, *rest in mine}
                self.assertEqual(found[half.getsockname()[1]], (1, 11, 0))
                messages, _, out = found[full.getsockname()[1]]
                self.assertGreater(messages, 100)
                self.assertGreaterEqual(out, 64 * 1024)
                self.assertIn("11 bytes b'half a line'", printed)
                self.assertIn("worker 1", self.gdb(server, "xchg conns 1"))
                self.assertNotIn("worker 0", self.gdb(server, "xchg conns 1"))
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

    def test_one_connection(self):
        """By the id that the log prints."""
        with patient(XCHG_EXCHANGE="line", XCHG_MESSAGES=0, XCHG_WORKERS=2, XCHG_LOG_LEVEL="debug") as server:
            with server.connect() as first, server.connect() as client:
                for each in (first, client):
                    each.sendall(b"one\nhalf a line")
                    self.assertEqual(receive_exactly(each, 4), b"one\n")
                lines = {line["peer"]: line for line in (server.wait_line("opened"), server.wait_line("opened", 1))}
                wanted = lines["127.0.0.1:%d" % client.getsockname()[1]]
                printed = self.gdb(server, "xchg conn " + wanted["id"])
                self.assertRegex(printed, rf"(?m)^id {wanted['id']} fd \d+ OPEN {wanted['peer']} ")
                self.assertRegex(printed, rf"(?m)^  worker {wanted['worker']} listener 0 object 0x")
                self.assertRegex(printed, r"(?m)^  bytes in 15 out 4, idle \d+ ms$")
                self.assertIn("  held by: nothing\n", printed)
                self.assertIn("  in: 11 bytes b'half a line'\n", printed)
                self.assertIn("there is no connection 1", self.gdb(server, "xchg conn 1"))
            server.stop()

    def test_a_core(self):
        """The core of a server with 20 connections says 20, and so does the process. The admin endpoint is told apart."""
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            server = stack.enter_context(patient(XCHG_EXCHANGE="line", XCHG_MESSAGES=0, XCHG_WORKERS=2, XCHG_LINGER="0",
                                                 XCHG_ADMIN=f"unix:{folder}/admin"))
            with server.connect() as gone:
                gone.sendall(b"bye\n")
                receive_exactly(gone, 4)
            server.wait_stats(lambda stats: stats["finished"] == 1)
            clients = [stack.enter_context(server.connect()) for _ in range(20)]
            for client in clients:
                client.sendall(b"hello\n")
                receive_exactly(client, 6)
            core = os.path.join(folder, "core")
            commands = ("xchg server", "xchg workers", "xchg conns")
            live = self.gdb(server, *commands, f"gcore {core}")
            server.wait_stats(lambda stats: stats["open"] == 20)  # it goes on
            dead = self.gdb(server, *commands, core=core)
        for printed in (live, dead):
            self.assertRegex(printed, r"(?m)^server: accepts, model pool, 2 workers, 20 of \d+ connections, 0 waiting\n"
                                      r"  listener 0: 127\.0\.0\.1:\d+ accepted 21\n  ended: finished 1$")
            self.assertRegex(printed, r"(?m)^admin endpoint: accepts, model pool, 1 workers, 0 of \d+ connections, 0 waiting$")
            workers = re.findall(r"^worker (\d): (\d+) connections, 0 waiting, waits, messages (\d+)$", printed, re.M)
            self.assertEqual([index for index, _, _ in workers], ["0", "1"])
            self.assertEqual([sum(int(worker[i]) for worker in workers) for i in (1, 2)], [20, 21])
            self.assertEqual(len(re.findall(r"^  id [0-9a-f]{16} fd \d+ OPEN 127\.0\.0\.1:\d+ ", printed, re.M)), 20)

    def test_a_ring(self):
        """A worker that a callback blocks, and the clients that wait in its ring."""
        with holder(XCHG_WORKERS="1") as server, Talk(server) as talk, Hold(talk), contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.connect()) for _ in range(3)]
            server.wait_stats(lambda stats: stats["accepted"] == 4)
            printed = self.gdb(server, "xchg ring 0", "xchg workers", "xchg ring 1")
            self.assertRegex(printed, r"(?m)^worker 0: 3 waiting, capacity 1024$")
            self.assertEqual(re.findall(r"^  fd \d+ 127\.0\.0\.1:(\d+) listener 0$", printed, re.M),
                             [str(client.getsockname()[1]) for client in clients])
            self.assertRegex(printed, r"(?m)^worker 0: 1 connections, 3 waiting, in a turn of connection \d+, messages 1$")
            self.assertIn("there is no worker 1", printed)
