"""Goal: the server survives the faults while accepting (docs/fault-matrix.md, entries 1 to 7)."""

import contextlib
import os
import random
import select
import socket
import struct
import threading
import time

from clients import INSTRUMENTED
from crowd import Crowd
from fault_matrix import LINES, SECOND, FaultTest, can_inject, covers_fault, folder, injections
from test_network import OwnNetwork, tool
from xchgd import LIMIT, SLOW, Server, greet, receive_exactly, reset, strace



@can_inject
class Injected(FaultTest):
    """accept4 fails with each documented error while twenty clients connect."""

    def serve(self, fault, count=20):
        """Serve ${count} clients that connect at the same time."""
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(fault.server.connect()) for _ in range(count)]
            for client in clients:
                client.sendall(b"hello\n")
            for client in clients:
                self.assertEqual(receive_exactly(client, 6), b"hello\n")
        fault.expect_ends(finished=count)

    def goes_on(self, error):
        """Every second call fails with ${error}. The next call follows at once, and no line is logged."""
        trace = f"{folder(self)}/trace"
        with self.survive(wrap=strace(f"accept4:error={error}:when=1+2") + ["-o", trace], **LINES) as fault:
            before = len(fault.server.remarks())
            self.serve(fault)
            stats = fault.server.stats()
            self.assertEqual(stats["accept_pauses"], 0)
            self.assertEqual(fault.server.remarks()[before:], [])
            self.assertGreaterEqual(injections(trace, "accept4", error), 20)
            return stats["accept_errors"]

    @covers_fault(1)
    def test_errors_of_one_connection(self):
        """An error of one connection (accept(2)) is counted, and the next connection is accepted."""
        for error in ("ECONNABORTED", "EPROTO", "ENETDOWN", "EHOSTUNREACH", "ETIMEDOUT", "ENOPROTOOPT", "EHOSTDOWN", "ENONET",
                      "EOPNOTSUPP", "ENETUNREACH"):
            with self.subTest(error):
                self.assertGreaterEqual(self.goes_on(error), 1)

    @covers_fault(1)
    def test_interrupted(self):
        """An interrupted call is repeated."""
        self.goes_on("EINTR")

    def pauses(self, error):
        """Eight calls in a row fail with ${error} while twenty clients wait. A pause follows each, and all clients are
        served."""
        with self.survive(wrap=strace(f"accept4:error={error}:when=9..16"), **LINES) as fault:
            server = fault.server
            before, begun = len(server.remarks()), time.monotonic()
            self.serve(fault)
            stats = server.stats()
            self.assertGreaterEqual(stats["accept_pauses"], 8)
            # 100 ms each, because no connection closes meanwhile. The twenty arrive in two batches at most.
            self.assertGreaterEqual(time.monotonic() - begun, 0.6)
            self.assertLessEqual(time.monotonic() - begun, 0.8 + SECOND)
            server.wait_for(lambda lines: len(server.remarks()) >= before + 2, "a line at the end")
            self.assertEqual(len(server.remarks()), before + 2, server.remarks())

    @covers_fault(2)
    def test_out_of_descriptors(self):
        """Accepting pauses while no descriptor is left."""
        for error in ("EMFILE", "ENFILE"):
            with self.subTest(error):
                self.pauses(error)

    @covers_fault(3)
    def test_out_of_memory(self):
        """Accepting pauses while the kernel has no memory."""
        for error in ("ENOBUFS", "ENOMEM"):
            with self.subTest(error):
                self.pauses(error)

    @covers_fault(4)
    def test_firewall(self):
        """EPERM, which firewall rules cause, concerns one connection."""
        self.assertGreaterEqual(self.goes_on("EPERM"), 1)

    @covers_fault(4)
    def test_broken_listener(self):
        """A broken listener logs a line and ends the server in order with exit code 71."""
        for error in ("EINVAL", "EBADF", "ENOTSOCK"):
            with self.subTest(error), Server(wrap=strace(f"accept4:error={error}:when=1+")) as server:
                with contextlib.suppress(ConnectionError):  # it fails while we connect
                    server.connect().close()
                totals = server.finish(expect=71)
                self.assertTrue(server.remarks())
                self.assertEqual(totals["accepted"], 0)


class Backlog(FaultTest):
    @covers_fault(5)
    def test_reset_in_the_backlog(self):
        """Clients that reset before they are accepted are counted as `reset`. The clients after them are served."""
        with self.survive() as fault:
            with self.stopped(fault):
                for _ in range(50):
                    reset(fault.server.connect())
                last = fault.server.connect()
            with last:
                greet(last)
            fault.expect_ends(reset=50, finished=1)


class Own(OwnNetwork, FaultTest):
    """Tests in a network namespace whose limits can be set."""

    def sysctl(self, name, value):
        path = "/proc/sys/net/" + name.replace(".", "/")
        try:
            with open(path, "w", encoding="ascii") as switch:
                switch.write(str(value))
        except OSError as failure:
            self.skipTest(f"may not set {name}: {failure}")

    def watched(self, server):
        """The number of connections in each worker's epoll set."""
        counts = []
        for number in os.listdir(f"/proc/{server.pid}/fdinfo"):
            with contextlib.suppress(FileNotFoundError), open(f"/proc/{server.pid}/fdinfo/{number}", encoding="ascii") as info:
                counts.append(sum(line.startswith("tfd:") for line in info))
        return sorted(counts)[-2:]

    @covers_fault(6)
    def test_burst(self):
        """10,000 clients are in the backlog at once. All are greeted, and the workers share them."""
        count = 1000 if INSTRUMENTED else 10000
        self.sysctl("core.somaxconn", 16384)
        self.sysctl("ipv4.tcp_max_syn_backlog", 16384)
        with self.survive(greeting=b"hello\n", XCHG_GREETING="hello", XCHG_WORKERS="2", XCHG_BACKLOG="16384", **LINES) as fault:
            with self.stopped(fault):
                crowd = Crowd(fault.server, "burst", count, 6)
                self.enterContext(crowd)
                crowd.wait("ready")
                crowd.go_on()
            self.assertEqual(crowd.wait("greeted")["count"], count)
            stats = fault.server.stats()
            self.assertGreaterEqual(stats["open"], count)
            self.assertLessEqual(stats["accept_batch_max"], 256)
            self.assertGreater(min(self.watched(fault.server)), count // 4)
            crowd.go_on()
            crowd.wait("gone")
            fault.expect_ends(finished=count)

    @covers_fault(7)
    def test_backlog_overflow(self):
        """Of twelve clients, some find the backlog full. TCP tries again, and all are served."""
        with self.survive(XCHG_BACKLOG="4", **LINES) as fault:
            clients, before = [], counter("ListenOverflows")
            with self.stopped(fault):
                for _ in range(12):
                    client = socket.socket()
                    self.addCleanup(client.close)
                    client.setblocking(False)
                    client.connect_ex(("127.0.0.1", fault.server.port))
                    clients.append(client)
                self.assertGreater(counter("ListenOverflows"), before)
            for client in clients:
                client.settimeout(LIMIT)
                with contextlib.suppress(BlockingIOError):
                    wait_connected(client)
                client.sendall(b"hello\n")
                self.assertEqual(receive_exactly(client, 6), b"hello\n")
                client.close()
            fault.expect_ends(finished=12)

    def flood(self, cookies):
        """Thousands of half-open connections a second, while eight real clients connect one after the other."""
        self.sysctl("ipv4.tcp_syncookies", cookies)
        self.sysctl("ipv4.tcp_synack_retries", 0)
        self.sysctl("ipv4.tcp_max_syn_backlog", 64)
        tool("ip", "route", "replace", "10.0.0.0/8", "dev", "lo")
        with self.survive(XCHG_BACKLOG="64", **LINES) as fault:
            over = threading.Event()
            sender = threading.Thread(target=send_syns, args=(fault.server.port, over), daemon=True)
            sender.start()
            try:
                deadline = time.monotonic() + LIMIT
                dropped = "TCPReqQFullDoCookies" if cookies else "ListenDrops"
                before = counter(dropped)
                while counter(dropped) == before:
                    self.assertLess(time.monotonic(), deadline, f"the flood fills no queue: {dropped} is {before}")
                served, begun = 0, time.monotonic()
                for _ in range(8):
                    with contextlib.suppress(TimeoutError), fault.server.connect(timeout=2 * SLOW if cookies else 0.2) as client:
                        client.settimeout(LIMIT)
                        client.sendall(b"hello\n")
                        self.assertEqual(receive_exactly(client, 6), b"hello\n")
                        served += 1
                seconds = time.monotonic() - begun
            finally:
                over.set()
                sender.join()
            deadline = time.monotonic() + LIMIT
            if not cookies:  # the rest of the flood leaves the queue by its timer
                while counter_of_syns(fault.server.port):
                    self.assertLess(time.monotonic(), deadline, "the queue stays full")
            fault.expect_ends(finished=served, reset=range(9 - served))  # a client that gives up at the last moment sends a reset
            return served, seconds

    @covers_fault(7)
    def test_syn_flood(self):
        """With SYN cookies every client is served at once."""
        served, seconds = self.flood(1)
        self.assertEqual(served, 8)
        self.assertLessEqual(seconds, 8 * SECOND)

    @covers_fault(7)
    def test_syn_flood_without_cookies(self):
        """Without SYN cookies the kernel lets few clients through. Connected clients notice nothing, and the server
        recovers."""
        self.flood(0)


def counter(name):
    """A TCP counter (TcpExt) of this network namespace."""
    with open("/proc/self/net/netstat", encoding="ascii") as table:
        names, values = [line.split() for line in table if line.startswith("TcpExt:")]
    return int(dict(zip(names[1:], values[1:]))[name])


def counter_of_syns(port):
    """The number of half-open connections of the listener."""
    with open("/proc/self/net/tcp", encoding="ascii") as table:
        lines = [line.split() for line in list(table)[1:]]
    return sum(int(line[1].split(":")[1], 16) == port and line[3] == "03" for line in lines)


def wait_connected(client):
    """Wait for the end of a non-blocking connect."""
    if not select.select([], [client], [], LIMIT)[1]:
        raise AssertionError("a client never connects")
    failure = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failure:
        raise OSError(failure, os.strerror(failure))


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def syn(source, port):
    """An IPv4 packet that opens a connection from ${source}, an address and a port, to 127.0.0.1."""
    target = bytes([127, 0, 0, 1])
    address, from_port = source
    header = struct.pack("!HHIIBBHHH", from_port, port, 1, 0, 5 << 4, 2, 1024, 0, 0)
    pseudo = address + target + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(header))
    header = header[:16] + struct.pack("!H", checksum(pseudo + header)) + header[18:]
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(header), 0, 0, 64, socket.IPPROTO_TCP, 0) + address + target + header


def send_syns(port, over):
    """Send about ten thousand SYNs a second, each from another address."""
    random_bytes = random.Random(7).randbytes
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        while not over.is_set():
            for _ in range(50):
                source = b"\x0a" + random_bytes(3), 1024 + random_bytes(1)[0]
                with contextlib.suppress(OSError):
                    raw.sendto(syn(source, port), ("127.0.0.1", 0))
            over.wait(0.005)  # the pace of the flood
