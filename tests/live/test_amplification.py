"""Goal: a hostile peer cannot make the server spend more than docs/SECURITY.md states.

Memory: under echo, the server's anonymous memory grows by at most 4 bytes for each byte that its peers
sent, beyond a fixed cost for each connection. Memory of answered messages is given back within a second.
CPU: input costs the server at most 10 times what the same number of segments costs as one message each,
sent one after the other. No input gets more expensive with the input before it.

Memory is RssAnon of /proc, time is the CPU clock of the server's process, so neither depends on how busy
the machine is. XCHGD_AMPLIFICATION=print shows the figures.
"""

import contextlib
import math
import os
import resource
import socket
import struct
import threading
import time
import unittest

from clients import INSTRUMENTED, patient, send_now, wait_acknowledged, wait_read
from fault_matrix import SECOND, covers_fault
from xchgd import LIMIT, receive_exactly

# ---- the bounds, as docs/SECURITY.md states them -------------------------------------------------

MEMORY_TIMES = 4
CPU_TIMES = 10
CONNECTION_BYTES = 512  # its object (144), the rarely used part (56), one smallest block each for input and output (128)
SERVER_BYTES = 24 * os.sysconf("SC_PAGE_SIZE")  # once: a page in use for each block size, and the metadata of the slabs

CLIENTS = 200
SEGMENT = 1448  # bytes of a full segment on Ethernet
GROWTH = 2.5    # for a cost that should be linear
ATTEMPTS = 4    # noise only adds
NAGLE_OFF = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
SHOW = os.environ.get("XCHGD_AMPLIFICATION") == "print"

# The message of a probing client, by frame.
PROBES = {"raw": b"?", "line": b"?\n", "fixed:7": b"?" * 7, "u16": b"\0\1?", "u32": b"\0\0\0\1?"}

# A block is a power of two and starts with a header of 40 bytes. These sizes are one byte too many.
JUST_OVER = [2 ** k - 40 + 1 for k in (7, 8, 10, 12, 14, 17, 18)]  # 2^17 is the largest block; longer ones are mapped


def show(*words):
    if SHOW:
        print(*words, flush=True)


def server_cpu_ns(server):
    return time.clock_gettime_ns(~server.pid << 3 | 2)  # the clock id of clock_getcpuclockid(3)


@unittest.skipIf(INSTRUMENTED, "memory is measured in a release build")
class Memory(unittest.TestCase):

    def setUp(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))

    @contextlib.contextmanager
    def clients(self, **variables):
        """A server and CLIENTS clients with small buffers that have sent nothing."""
        variables = {"XCHG_EXCHANGE": "echo", "XCHG_WORKERS": 1, "XCHG_SNDBUF": "16KiB", "XCHG_MAX_MESSAGE": "1MiB", **variables}
        with patient(**variables) as server, contextlib.ExitStack() as stack:
            warm_up(server, PROBES[variables.get("XCHG_FRAME", "raw")])
            self.server, self.before = server, server.memory_bytes("RssAnon")
            clients = [stack.enter_context(server.connect(rcvbuf=4096)) for _ in range(CLIENTS)]
            self.probe, self.message = stack.enter_context(server.connect()), PROBES[variables.get("XCHG_FRAME", "raw")]
            server.wait_stats(lambda stats: stats["open"] == CLIENTS + 1)
            for client in clients:
                client.setsockopt(*NAGLE_OFF)
            yield clients
            for client in clients:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def wait_until_still(self):
        """Wait until the server is still, with this test's probe."""
        wait_until_still(self.server, self.probe, self.message)

    def check(self, what, sent, within=0):
        """The bound holds now or, if memory must be given back, within ${within} seconds."""
        bound = MEMORY_TIMES * sent + CONNECTION_BYTES * CLIENTS + SERVER_BYTES
        deadline = time.monotonic() + within
        while (grown := self.server.memory_bytes("RssAnon") - self.before) > bound and time.monotonic() < deadline:
            os.sched_yield()
        beyond = (grown - CONNECTION_BYTES * CLIENTS - SERVER_BYTES) / max(sent, 1)
        show(f"memory, {what}: {sent} sent, {grown} grown, {grown / max(sent, 1):.2f} times, {beyond:.2f} beyond the fixed cost")
        self.assertLessEqual(grown, bound, what)

    def send_all(self, clients, data):
        """Each client sends ${data}, which the server reads. Returns the sum of bytes."""
        for client in clients:
            client.sendall(data)
        wait_acknowledged(clients)
        wait_read(clients)
        return len(data) * len(clients)

    def test_idle_connections(self):
        """An idle connection costs its fixed bytes only."""
        with self.clients():
            self.check("idle", 0)

    def test_unfinished_messages(self):
        """Messages of one byte more than a block, at each block size, in two pieces: the second piece grows the
        buffer."""
        for size in JUST_OVER:
            with self.subTest(size=size), self.clients(XCHG_FRAME="line") as clients:
                sent = self.send_all(clients, b"x" * (size - 1))
                self.check(f"unfinished, {size - 1}", sent)
                self.check(f"unfinished, {size}", sent + self.send_all(clients, b"x"))

    def test_unfinished_messages_byte_by_byte(self):
        """The bound also holds for a message that arrives byte by byte."""
        with self.clients(XCHG_FRAME="line") as clients:
            sent = 0
            for size in range(1, 100):
                sent += self.send_all(clients, b"x")
                if size in (1, 88, 89, 99):
                    self.check(f"byte by byte, {size}", sent)

    def test_memory_is_given_back(self):
        """Memory of answered messages is given back within a second, while the clients stay connected."""
        with self.clients(XCHG_FRAME="line") as clients:
            self.send_all(clients, b"x" * 40000)
            for client in clients:
                client.sendall(b"\n")
                receive_exactly(client, 40001)
            self.check("all was answered", 0, within=SECOND)

    def test_announced_lengths(self):
        """A length prefix costs what its four bytes may cost, whatever length it announces."""
        with self.clients(XCHG_FRAME="u32", XCHG_MAX_MESSAGE="1GiB") as clients:
            mapped = self.server.memory_bytes("VmSize")
            self.check("announced 1 GiB", self.send_all(clients, struct.pack("!I", 1 << 30)))
            self.check("announced 1 GiB, and a little", self.send_all(clients, b"x" * 1000))
            self.assertLess(self.server.memory_bytes("VmSize") - mapped, 1 << 30)
            self.assertEqual(self.server.stats()["open"], CLIENTS + 1)

    def never_read(self, what, data, **variables):
        """Send what the server reads and a little more. Further bytes would stay in the kernel."""
        with self.clients(**variables) as clients:
            sent = 0
            for at in range(0, len(data), 65536):
                sent += sum(send_now(client, data[at:at + 65536]) for client in clients)
                self.wait_until_still()
                self.check(f"{what}, {at // 1024} KiB on", sent)

    @covers_fault(19)
    def test_never_reading(self):
        """Clients that send and never read."""
        for pending in (4, 64, 256):
            with self.subTest(pending=pending):
                self.never_read(f"never reads, raw, {pending} KiB", b"x" * (pending * 1024 + 150_000), XCHG_MAX_PENDING=f"{pending}KiB")

    def test_never_reading_pipelined_messages(self):
        """Many small messages from clients that never read, some cut in the middle of a message."""
        inputs = {"empty lines": ("line", b"\n"), "lines of 100": ("line", b"x" * 99 + b"\n"), "fixed": ("fixed:7", b"x"),
                  "u16": ("u16", b"\0\1x")}
        for name, (frame, message) in inputs.items():
            with self.subTest(name):
                self.never_read(f"never reads, {name}", message * (200_000 // len(message)), XCHG_FRAME=frame, XCHG_MAX_PENDING="64KiB")

    def test_output_that_is_left(self):
        """Clients read most of a long output and leave a rest. The memory beyond the bound is given back."""
        with self.clients(XCHG_MAX_PENDING="256KiB") as clients:
            sent = sum(send_now(client, b"x" * 150_000) for client in clients)
            self.wait_until_still()
            for client in clients:
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    client.recv(60_000)
                client.settimeout(LIMIT)
            self.wait_until_still()
            self.check("half read", sent)
            sent += sum(send_now(client, b"x" * 150_000) for client in clients)
            self.wait_until_still()
            self.check("half read, and more", sent)


def warm_up(server, message):
    """Serve one client and write one statistics line, so that each thread has made its first allocations."""
    with server.connect() as client:
        client.sendall(message)
        receive_exactly(client, len(message))
    server.wait_stats(lambda stats: stats["open"] == 0)


def wait_until_still(server, probe, message):
    """Wait until the worker, which answers a probe, moves no bytes of other clients for three turns."""
    same, last, deadline = 0, None, time.monotonic() + LIMIT
    for pings in range(1, 1 << 30):
        probe.sendall(message)
        receive_exactly(probe, len(message))
        stats = server.stats()
        own = pings * len(message)
        now = (stats["bytes_in"] - own, stats["bytes_out"] - own)
        same = same + 1 if now == last else 0
        last = now
        if same == 3:
            return
        if time.monotonic() > deadline:
            raise AssertionError("the server is never still")


class Reader:
    """Reads everything that a client receives, in a thread."""

    def __init__(self, client):
        self.client, self.count = client, 0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        room = bytearray(1 << 18)
        while count := self.client.recv_into(room):
            self.count += count

    def finish(self):
        self.client.shutdown(socket.SHUT_WR)
        self.thread.join(LIMIT)
        if self.thread.is_alive():
            raise AssertionError(f"no end of the stream, {self.count} bytes came")


@unittest.skipIf(INSTRUMENTED or os.environ.get("XCHGD_VARIANT") == "cov", "CPU time is measured in a release build")
class Cpu(unittest.TestCase):

    SERVER = {"XCHG_EXCHANGE": "echo", "XCHG_WORKERS": 1, "XCHG_MAX_MESSAGE": "1MiB"}

    def well_behaved_ns(self):
        """The server's CPU time for a full segment that is one message and is answered before the next."""
        rounds = 3000
        with patient(**self.SERVER, XCHG_FRAME="line") as server, server.connect() as client:
            client.setsockopt(*NAGLE_OFF)
            message = b"x" * (SEGMENT - 1) + b"\n"
            before = server_cpu_ns(server)
            for _ in range(rounds):
                client.sendall(message)
                receive_exactly(client, SEGMENT)
            return (server_cpu_ns(server) - before) / rounds

    def spent_ns(self, frame, pieces, **variables):
        """The server's CPU time for ${pieces} and all their answers."""
        with patient(**self.SERVER, XCHG_FRAME=frame, **variables) as server, server.connect() as client:
            client.setsockopt(*NAGLE_OFF)
            reader = Reader(client)
            before = server_cpu_ns(server)
            for piece in pieces:
                client.sendall(piece)
            reader.finish()
            return server_cpu_ns(server) - before

    def test_any_input(self):
        """No input costs more than CPU_TIMES the time of well-behaved segments."""
        bulk, single = 32, 20_000
        inputs = {
            "empty lines": ("line", [b"\n" * 65536] * bulk),
            "empty lines, CR LF": ("line", [b"\r\n" * 32768] * bulk),
            "nothing but NUL": ("nul", [b"\0" * 65536] * bulk),
            "messages of no byte": ("u16", [b"\0\0" * 32768] * bulk),
            "messages of a byte, u16": ("u16", [b"\0\1x" * 21845] * bulk),
            "messages of a byte": ("fixed:1", [b"x" * 65536] * bulk),
            "CR and no LF": ("line", [b"\r" * 65535 + b"\n"] * bulk),
            "a byte a segment, unfinished": ("line", [b"x"] * single),
            "a byte a segment, CR": ("line", [b"\r"] * single),
            "a byte a segment, messages": ("line", [b"\n"] * single),
            "a byte a segment, raw": ("raw", [b"x"] * single),
            "a byte a segment, prefixes": ("u32", [b"\0"] * single),
        }
        usual = min(self.well_behaved_ns() for _ in range(2))
        show(f"CPU, well behaved: {usual:.0f} ns a segment")
        for name, (frame, pieces) in inputs.items():
            with self.subTest(name):
                segments = sum(math.ceil(len(piece) / SEGMENT) for piece in pieces)
                times = []
                for _ in range(ATTEMPTS):
                    times.append(self.spent_ns(frame, pieces) / (segments * usual))
                    if times[-1] <= CPU_TIMES:
                        break
                show(f"CPU, {name}: {segments} segments, {min(times):.2f} times")
                self.assertLessEqual(min(times), CPU_TIMES, name)

    def growth(self, frame, piece, count):
        """The cost of the last quarter of ${count} pieces of one message, relative to the first quarter."""
        with patient(**{**self.SERVER, "XCHG_MAX_MESSAGE": "8MiB"}, XCHG_FRAME=frame) as server, server.connect() as client:
            client.setsockopt(*NAGLE_OFF)
            marks = [server_cpu_ns(server)]
            for quarter in range(4):
                for _ in range(count // 4):
                    client.sendall(piece)
                    wait_read([client])
                marks.append(server_cpu_ns(server))
            return (marks[4] - marks[3]) / (marks[1] - marks[0])

    def test_cost_stays_linear(self):
        """A long message costs the same per byte from start to end. A scan of all waiting input would make its last
        quarter up to seven times as expensive."""
        for name, frame, piece in (("line", "line", b"x" * 2048), ("nul", "nul", b"x" * 2048), ("CR", "line", b"\r" * 2048)):
            with self.subTest(name):
                times = []
                while len(times) < ATTEMPTS and (not times or min(times) > GROWTH):
                    times.append(self.growth(frame, piece, 3000))
                show(f"CPU, unfinished {name}: the last quarter is {min(times):.2f} times the first")
                self.assertLess(min(times), GROWTH, name)

    def drained_ns(self, count):
        """The server's CPU time for ${count} pipelined messages to a client that reads slowly, so that output stops and
        resumes."""
        with patient(**self.SERVER, XCHG_FRAME="line", XCHG_MAX_PENDING="4KiB", XCHG_SNDBUF="4KiB") as server:
            with server.connect(rcvbuf=4096) as client:
                before = server_cpu_ns(server)
                sender = threading.Thread(target=client.sendall, args=(b"\n" * count,), daemon=True)
                sender.start()
                received = 0
                while received < count:
                    received += len(client.recv(2048))
                sender.join(LIMIT)
                return server_cpu_ns(server) - before

    def test_stopping_and_going_on_is_linear(self):
        """Output that stops and resumes costs the same per message for many messages as for few."""
        times = []
        while len(times) < ATTEMPTS and (not times or min(times) > GROWTH):
            times.append(self.drained_ns(800_000) / (4 * self.drained_ns(200_000)))
        show(f"CPU, four times the messages for a slow reader: each {min(times):.2f} times as dear")
        self.assertLess(min(times), GROWTH)
