"""Goal: an echoed message touches at most two cache lines of struct xchg_conn.

valgrind's lackey writes every load and store of the server. The plug-in regions.c echoes, tells the addresses
of the worker's objects and stores a mark for each message. Lines between two marks were touched by one message:
from the send of one answer to the delivery of the next message. The kernel's own accesses are not traced.

    XCHGD=build/xchgd XCHGD_COST=print PYTHONPATH=tests/live python3 -m unittest -v test_memory_trace

prints the lines by region. docs/performance.md has them.
"""

import collections
import os
import re
import shutil
import tempfile
import unittest

from clients import INSTRUMENTED, serve
from test_handler import plugin
from xchgd import parse_logfmt, receive_exactly

LINE = 64
MESSAGES = 12
SETTLED = 4       # messages until buffers and the sizes of batches are what they stay
CONN_LINES = 2    # of struct xchg_conn, at most
ACCESS = re.compile(rb" ([LSM]) +([0-9a-f]+),(\d+)")


def touched(path, mark):
    """The lines that each message touched: a list of sets of line addresses."""
    windows, lines = [], set()
    with open(path, "rb") as trace:
        for text in trace:
            access = ACCESS.match(text)
            if access is None:
                continue  # an instruction
            address, size = int(access.group(2), 16), int(access.group(3))
            lines.update(range(address // LINE, (address + size - 1) // LINE + 1))
            if address == mark and access.group(1) != b"L":
                windows.append(lines)
                lines = set()
    return windows[1:]


def listening(server):
    """The address of the server. The start takes 6 s of CPU time under lackey, so a busy machine gets four times LIMIT."""
    for attempt in range(4):
        try:
            return server.wait_line("listening")["addr"]
        except AssertionError:
            if attempt == 3 or server.process.poll() is not None:
                raise
    return None


@unittest.skipIf(INSTRUMENTED or os.environ.get("XCHGD_VARIANT", "") not in ("", "release"), "traced in the release build")
@unittest.skipIf(shutil.which("valgrind") is None, "valgrind is not installed")
class MemoryTrace(unittest.TestCase):
    def trace(self):
        """Echo messages of 100 bytes on one connection. Return the regions, the mapped files and the lines of each message."""
        with tempfile.NamedTemporaryFile("r") as out:
            lackey = ["valgrind", "-q", "--tool=lackey", "--basic-counts=no", "--trace-mem=yes", f"--log-file={out.name}"]
            with serve(wrap=lackey, wait=False, XCHG_SANDBOX="off", XCHG_HANDLER=plugin("regions"), XCHG_WORKERS="1") as server:
                server.addresses.append(listening(server))
                with server.connect() as client:
                    for _ in range(MESSAGES):
                        client.sendall(b"m" * 100)
                        self.assertEqual(receive_exactly(client, 100), b"m" * 100)
                server.stop()
                told = [parse_logfmt(line) for line in server.lines if line.startswith("region=")]
            regions = [(fields["region"], int(fields["from"], 16), int(fields["to"], 16)) for fields in told]
            mark = next(first for name, first, _ in regions if name == "mark")
            return regions, touched(out.name, mark)[SETTLED:]

    def test_lines_of_an_echo(self):
        """Two lines of the connection's object, none of its peer, and the rest as the list says."""
        regions, windows = self.trace()
        self.assertGreaterEqual(len(windows), 4)
        every = set.intersection(*windows)  # other threads ran in some of them
        owners = collections.defaultdict(list)
        for line in sorted(every):
            owner = next((name for name, first, end in regions if first < (line + 1) * LINE and line * LINE < end), "other")
            owners[owner].append(line)
        if os.environ.get("XCHGD_COST") == "print":
            print(f"{len(every)} lines:", ", ".join(f"{len(lines)} {name}" for name, lines in owners.items()))
        self.assertEqual(len(owners["mark"]), 1)
        self.assertTrue(1 <= len(owners["xchg_conn"]) <= CONN_LINES, owners)
        self.assertEqual(owners["conn_peer"], [])
