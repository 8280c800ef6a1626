"""Goal: handshakes in flight survive a stop, a reply survives packet loss, and a machine may lack IPv6.

Each class runs in a network namespace (unshare(2)) whose loopback drops what the test says. It is skipped
without the right to create one, or without ip and nft.
"""

import collections
import ctypes
import os
import select
import shutil
import socket
import subprocess
import time
import unittest

from fault_matrix import LIBC, can_inject, covers_fault
from xchgd import GREETING, LIMIT, Server, greet, is_closed, receive_all, receive_exactly, run, strace

CLONE_NEWNET = 0x40000000

ESTABLISHED, SYN_RECV = "01", "03"  # their numbers in /proc/net/tcp

TABLE = """table inet loss {
  chain input { type filter hook input priority 0; }
}
"""


def tool(*command):
    """Run a network tool and return its output. OSError with the output if it fails."""
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            timeout=LIMIT)
    if result.returncode != 0:
        raise OSError(f"{' '.join(command)}: {result.stdout.strip()}")
    return result.stdout


class OwnNetwork(unittest.TestCase):
    """A network namespace for the class, its children and the server."""

    @classmethod
    def setUpClass(cls):
        if not shutil.which("ip") or not shutil.which("nft"):
            raise unittest.SkipTest("needs ip and nft")
        cls.before = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        cls.addClassCleanup(os.close, cls.before)
        if LIBC.unshare(CLONE_NEWNET) == -1:
            raise unittest.SkipTest(f"may not make a network: {os.strerror(ctypes.get_errno())}")
        cls.addClassCleanup(LIBC.setns, cls.before, CLONE_NEWNET)
        tool("ip", "link", "set", "lo", "up")
        try:
            tool("nft", TABLE)
        except OSError as failure:
            raise unittest.SkipTest(f"the kernel filters nothing: {failure}")

    def server(self, **variables):
        server = Server(**variables)
        self.addCleanup(server.__exit__)
        return server


def states(port, peers=None):
    """The number of the server's connections in each state, or only of those with these peer ports. While connections come
    and go, the kernel's table can list one twice."""
    found = {}
    with open("/proc/self/net/tcp") as table:
        for line in list(table)[1:]:
            _, local, remote, state = line.split()[:4]
            if int(local.split(":")[1], 16) == port and (peers is None or int(remote.split(":")[1], 16) in peers):
                found[local, remote] = state
    return collections.Counter(found.values())


class LinkLocal(OwnNetwork):
    """Listeners at a link-local address, whose interface is part of it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        tool("ip", "-6", "address", "add", "fe80::77/64", "dev", "lo", "nodad")

    def check(self, server, pattern):
        self.assertRegex(server.addresses[0], pattern)
        with server.connect() as client:
            greet(client)
        self.assertEqual(server.stop()["finished"], 1)

    def test_interface(self):
        """By the interface's name or number. The log shows its name, and the real port."""
        for scope in ("lo", socket.if_nametoindex("lo")):
            self.check(self.server(XCHG_LISTEN=f"[fe80::77%{scope}]:0"), r"^\[fe80::77%lo\]:[1-9]\d*$")

    def test_passed(self):
        """The log shows the interface of a passed listener."""
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("fe80::77", 0, 0, socket.if_nametoindex("lo")))
            one.listen()
            self.check(self.server(activate=[one]), rf"^\[fe80::77%lo\]:{one.getsockname()[1]}$")


class Handshake(OwnNetwork):
    def tearDown(self):
        tool("nft", "flush chain inet loss input")

    def in_flight(self, server, lost):
        """A client whose handshake stands still because packets that match ${lost} are dropped."""
        tool("nft", f"add rule inet loss input {lost.format(port=server.port)} drop")
        client = socket.socket()
        self.addCleanup(client.close)
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", server.port))
        deadline = time.monotonic() + LIMIT
        while states(server.port).get(SYN_RECV, 0) == 0:
            self.assertLess(time.monotonic(), deadline, "no handshake in flight")
        client.settimeout(LIMIT)
        return client

    def complete(self, client):
        """Wait until the client's connect succeeds."""
        _, writable, _ = select.select([], [client], [], LIMIT)
        self.assertTrue(writable, "the handshake does not complete")
        self.assertEqual(client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0)

    def go_on(self, server):
        """Stop the server and, once the stop has started, let all packets through again."""
        server.process.terminate()
        server.wait_line("stopping")
        self.assertEqual(states(server.port).get(ESTABLISHED, 0), 0)
        tool("nft", "flush chain inet loss input")

    # The kernel sends a lost SYN-ACK again after 1, 3 and 7 seconds.
    GRACE = "10s"
    SYN_ACK = "tcp sport {port} tcp flags & (syn|ack) == syn|ack"
    ACK = "tcp dport {port} tcp flags & (syn|ack) == ack"

    def test_lost_syn_ack(self):
        """The SYN-ACK was lost. The client gets the second one and is served."""
        server = self.server(XCHG_STOP_GRACE=self.GRACE)
        client = self.in_flight(server, self.SYN_ACK)
        self.go_on(server)
        self.complete(client)
        greet(client)
        self.assertEqual(server.finish()["finished"], 1)

    def test_lost_ack(self):
        """The ACK was lost. The client, for which the handshake is complete, has already sent data."""
        server = self.server(XCHG_STOP_GRACE=self.GRACE)
        client = self.in_flight(server, self.ACK)
        self.complete(client)
        client.sendall(b"hello\0")
        self.go_on(server)
        self.assertEqual(receive_all(client), GREETING)
        self.assertEqual(server.finish()["finished"], 1)

    def test_many(self):
        """A hundred such clients under each model that serves many at once."""
        for model in ("pool", "thread", "fork"):
            with self.subTest(model):
                server = self.server(XCHG_MODEL=model, XCHG_STOP_GRACE=self.GRACE)
                clients = [self.in_flight(server, self.ACK)]
                clients += [server.connect() for _ in range(99)]
                self.assertEqual(states(server.port).get(SYN_RECV), 100)
                self.go_on(server)
                for client in clients:
                    greet(client)
                    client.close()
                self.assertEqual(server.finish()["finished"], 100)

    def test_no_grace(self):
        """Without the stop grace the same client is refused."""
        server = self.server(XCHG_STOP_GRACE="0")
        client = self.in_flight(server, self.ACK)
        self.complete(client)
        client.sendall(b"hello\0")
        self.go_on(server)
        self.assertTrue(is_closed(client))
        self.assertEqual(server.finish()["accepted"], 0)


class Loss(OwnNetwork):
    def tearDown(self):
        tool("nft", "flush chain inet loss input")

    def test_long_reply(self):
        """A long reply arrives whole over a link that loses one packet in eight."""
        server = self.server(XCHG_EXCHANGE="line", XCHG_MAX_MESSAGE="1MiB", XCHG_STOP_GRACE="0", XCHG_IDLE_TIMEOUT="0",
                             XCHG_MESSAGE_TIMEOUT="0", XCHG_WRITE_TIMEOUT="0", XCHG_LINGER="1m")
        line = bytes(1 + i % 200 + (i % 200 >= 9) for i in range(200000)) + b"\n"
        tool("nft", f"add rule inet loss input tcp sport {server.port} numgen random mod 8 0 drop")
        with server.connect() as client:
            client.sendall(line + b"more than asked for\n")
            self.assertEqual(receive_all(client), line)
        tool("nft", "flush chain inet loss input")
        self.assertEqual(server.stop()["finished"], 1)


@covers_fault(49)
class IPv6Off(OwnNetwork):
    """A machine with net.ipv6.conf.all.disable_ipv6=1."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        try:
            with open("/proc/sys/net/ipv6/conf/all/disable_ipv6", "w") as switch:
                switch.write("1")
        except FileNotFoundError:
            pass  # a kernel without IPv6

    def test_any_address(self):
        """`:port` listens on every IPv4 address."""
        server = self.server(XCHG_LISTEN=":0", XCHG_STOP_GRACE="0")
        with server.connect(address=f"127.0.0.1:{server.port}") as client:
            greet(client)
        self.assertEqual(server.stop()["finished"], 1)

    def test_ipv6_address(self):
        """An explicit IPv6 address cannot be bound."""
        result = run(XCHG_LISTEN="127.0.0.1:0,[::1]:0")
        self.assertEqual(result.returncode, 69)
        self.assertIn("[::1]:0", result.stderr)
        self.assertEqual(len(result.stderr.splitlines()), 1)


@can_inject
@covers_fault(49)
class IPv6Unknown(unittest.TestCase):
    """A kernel without IPv6."""

    def check(self, *inject, call):
        with Server(wrap=strace(*inject, trace=call), XCHG_LISTEN=":0", XCHG_STOP_GRACE="0") as server:
            self.assertRegex(server.addresses[0], r"^0\.0\.0\.0:\d+$")
            with server.connect() as client:
                self.assertEqual(receive_exactly(client, len(GREETING)), GREETING)
                client.sendall(b"hello\0")
                self.assertEqual(receive_all(client), b"")
            server.stop()

    def test_no_such_family(self):
        """The kernel has no IPv6 sockets."""
        self.check("socket:error=EAFNOSUPPORT:when=1", call="socket")

    def test_no_such_address(self):
        """The kernel cannot bind an IPv6 socket."""
        self.check("bind:error=EADDRNOTAVAIL:when=1", call="bind")
