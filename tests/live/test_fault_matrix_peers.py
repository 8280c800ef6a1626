"""Goal: the server survives what its peers do (docs/fault-matrix.md, entries 14 to 24)."""

import contextlib
import re
import select
import shutil
import signal
import socket
import subprocess
import time

from clients import INSTRUMENTED, wait_acknowledged, wait_read
from crowd import Crowd
from fault_matrix import LINES, SECOND, FaultTest, covers_fault
from test_network import OwnNetwork, states, tool
from xchgd import GREETING, LIMIT, PLAIN, SLOW, Server, greet, is_closed, is_silent, receive_all, receive_exactly, reset

CROWD = 500 if INSTRUMENTED else 5000
KIB = 1024
TCP_REPAIR = 19
FIN_WAIT_1 = "04"  # its number in /proc/net/tcp


class Leaving(FaultTest):
    """Goal: clients that leave touch no other client."""

    @covers_fault(14)
    def test_gone_at_once(self):
        """Clients that leave right after their connect, by close or reset, are counted. No line is logged about
        them."""
        with self.survive() as fault:
            before = fault.server.remarks()
            for _ in range(500):
                fault.server.connect().close()
                reset(fault.server.connect())
            fault.server.wait_stats(lambda values: values["open"] <= 1 and values["accepted"] >= 1000)
            self.assertEqual(fault.server.remarks(), before)
            # A close with the greeting unread is a reset, too. Whether the greeting has arrived is chance.
            fault.expect_ends(peer=range(501), reset=range(500, 1001))

    @covers_fault(16)
    def test_resets(self):
        """Clients that reset before, within and after a message touch no other client, and each is counted."""
        with self.survive(XCHG_WORKERS="2", **LINES) as fault:
            for i in range(120):
                client = fault.server.connect()
                if i % 3 == 1:
                    client.sendall(b"begun")
                elif i % 3 == 2:
                    client.sendall(b"whole\n")
                    receive_exactly(client, 6)
                reset(client)
            fault.expect_ends(reset=120)

    @covers_fault(16)
    def test_data_before_a_reset(self):
        """Data before a reset is handled although the reset has arrived before the server looks."""
        with self.survive(XCHG_REPLY="none", **LINES) as fault:
            clients = [fault.server.connect() for _ in range(20)]
            fault.server.wait_stats(lambda values: values["open"] >= 20)
            with self.stopped(fault):
                before = fault.server.messages("stats")[-1]
                for client in clients:
                    client.sendall(b"one\ntwo\nthr")
                wait_acknowledged(clients)
                for client in clients:
                    reset(client)
            stats = fault.server.wait_stats(lambda values: values["open"] <= 1)
            self.assertGreaterEqual(stats["messages"] - int(before["messages"]), 40)
            fault.expect_ends(reset=20)

    @covers_fault(16)
    def test_reset_while_output_waits(self):
        """A reset within a long reply ends that connection as `reset`."""
        with self.survive(XCHG_MAX_MESSAGE="8MiB", **LINES) as fault:
            client = fault.server.connect(rcvbuf=4096)
            client.sendall((6 << 20) * b"x" + b"\n")
            self.assertFalse(is_silent(client, LIMIT))
            reset(client)
            fault.expect_ends(reset=1)

    @covers_fault(24)
    def test_restart(self):
        """A server killed with connections in every state, TIME_WAIT and simultaneous close included, binds its port
        again at once."""
        address, clients = "127.0.0.1:0", []
        for _ in range(10):
            with Server(XCHG_LISTEN=address, ends_open=True) as server:
                address = server.addresses[0]
                for i in range(12):
                    client = server.connect()
                    self.addCleanup(client.close)
                    clients.append(client)
                    if i % 4 == 0:
                        greet(client)
                    elif i % 4 == 1:  # the server half-closes first
                        client.sendall(b"hello\0more")
                        self.assertEqual(receive_all(client), GREETING)
                    elif i % 4 == 2:
                        receive_exactly(client, 20)
                server.pause()
                for client in clients[-12::3]:
                    client.close()  # while the server's kernel closes
                server.process.send_signal(signal.SIGKILL)
                server.process.wait(LIMIT)


class Slow(FaultTest):
    """Goal: thousands of slow clients delay no other client."""

    @covers_fault(17)
    def test_slowloris(self):
        """Thousands of clients that send a byte a second are closed by the message timeout, never early, and take
        little memory."""
        timeout = 3 * SLOW
        for variables, from_first_byte in (({}, 0), (LINES, 1)):
            with self.subTest(variables), self.survive(XCHG_MESSAGE_TIMEOUT=f"{int(timeout * 1000)}ms", XCHG_WORKERS="2",
                                                       **variables) as fault:
                before = fault.server.resident_bytes()
                with Crowd(fault.server, "slow", CROWD, from_first_byte) as crowd:
                    crowd.wait("ready")
                    stats = fault.server.wait_stats(lambda values: values["open"] + values["closed_message"] >= CROWD)
                    if PLAIN:
                        self.assertLess((fault.server.resident_bytes() - before) / stats["open"], 4 * KIB)
                    closed = crowd.wait("closed")
                self.assertEqual(closed["count"], CROWD)
                self.assertGreaterEqual(closed["least"], timeout)
                self.assertLessEqual(closed["most"], 1.1 * timeout + SECOND)
                fault.expect_ends(message=CROWD)

    @covers_fault(18)
    def test_silence(self):
        """Clients that send nothing are closed by the message timeout in a counted exchange, by the idle timeout in
        an endless one."""
        for variables, reason in (({"XCHG_MESSAGE_TIMEOUT": "700ms"}, "message"), ({"XCHG_IDLE_TIMEOUT": "700ms", **LINES}, "idle")):
            with self.subTest(reason), self.survive(**variables) as fault:
                begun = time.monotonic()
                clients = [fault.server.connect() for _ in range(100)]
                connected = time.monotonic()
                for client in clients:
                    with client:
                        self.assertEqual(receive_all(client), GREETING if reason == "message" else b"")
                        self.assertGreaterEqual(time.monotonic() - begun, 0.7)
                self.assertLessEqual(time.monotonic() - connected, 0.8 + 0.6 * SLOW)
                fault.expect_ends(**{reason: 100})

    @covers_fault(19)
    def test_never_reads(self):
        """Thousands of clients that send and never read hold at most XCHG_MAX_PENDING and are closed by the write
        timeout."""
        timeout, size = 3 * SLOW, 64 * KIB  # long enough to tell two times from three times the timeout
        with self.survive(XCHG_EXCHANGE="echo", XCHG_SNDBUF="16KiB", XCHG_MAX_PENDING="4KiB", XCHG_MAX_MESSAGE="4KiB",
                          XCHG_WORKERS="2", XCHG_WRITE_TIMEOUT=f"{int(timeout * 1000)}ms") as fault:
            before = fault.server.resident_bytes()
            with Crowd(fault.server, "deaf", CROWD, size) as crowd:
                crowd.wait("ready")
                stats = fault.server.wait_stats(lambda values: values["open"] + values["closed_write"] >= CROWD)
                self.assertLessEqual(stats["bytes_in"] - stats["bytes_out"], CROWD * 8 * KIB)
                if PLAIN:
                    self.assertLess(fault.server.resident_bytes() - before, CROWD * 16 * KIB)
                closed = crowd.wait("closed")
            self.assertEqual(closed["count"], CROWD)
            self.assertGreaterEqual(closed["least"], timeout)
            # The server asks the kernel for progress, so a timeout takes up to twice the value.
            self.assertLessEqual(closed["most"], 2 * 1.1 * timeout + SECOND)
            fault.expect_ends(write=CROWD)

    @covers_fault(20)
    def test_reads_very_slowly(self):
        """Clients read so slowly that the window never opens. The write timeout closes them or, if it is off, their
        lifetime."""
        for variables, reason in (({"XCHG_WRITE_TIMEOUT": "1s"}, "write"),
                                  ({"XCHG_WRITE_TIMEOUT": "0", "XCHG_MAX_LIFETIME": "1s", "XCHG_DRAIN_TIMEOUT": "500ms"}, "lifetime")):
            variables = {"XCHG_EXCHANGE": "line", "XCHG_SNDBUF": "16KiB", "XCHG_MAX_MESSAGE": "1MiB", **variables}
            with self.subTest(reason), self.survive(**variables) as fault:
                begun = time.monotonic()
                clients = [fault.server.connect(rcvbuf=4096) for _ in range(50)]
                for client in clients:
                    self.addCleanup(client.close)
                    client.sendall(200_000 * b"s" + b"\n")
                sent = time.monotonic()
                fault.server.wait_stats(lambda values, reason=reason: self.all_closed(clients, values, reason))
                self.assertGreaterEqual(time.monotonic() - begun, 1.0)
                self.assertLessEqual(time.monotonic() - sent, 2.2 + SECOND)
                fault.expect_ends(**{reason: 50})

    @covers_fault(20)
    def test_no_output_stays_in_the_kernel(self):
        """The undelivered output of a closed connection does not stay in the kernel for minutes."""
        with self.survive(XCHG_EXCHANGE="line", XCHG_SNDBUF="16KiB", XCHG_MAX_MESSAGE="1MiB", XCHG_WRITE_TIMEOUT="500ms") as fault:
            clients = [fault.server.connect(rcvbuf=4096) for _ in range(20)]
            for client in clients:
                self.addCleanup(client.close)
                client.sendall(200_000 * b"s" + b"\n")
            peers = {client.getsockname()[1] for client in clients}  # the bystander's connections come and go
            fault.server.wait_stats(lambda values: values["closed_write"] == 20)
            self.assertEqual(states(fault.server.port, peers).get(FIN_WAIT_1, 0), 0)
            fault.expect_ends(write=20)

    def all_closed(self, clients, values, reason):
        """True if all clients are closed. If not, each reads a byte after a while."""
        if values[f"closed_{reason}"] == len(clients):
            return True
        select.select([], [], [], 0.1)  # the clients' pace
        for client in clients:
            with contextlib.suppress(ConnectionError):
                client.recv(1)
        return False


class Vanished(OwnNetwork, FaultTest):
    """Peers whose machine vanishes without a packet, in a network namespace."""

    def tearDown(self):
        tool("nft", "flush chain inet loss input")

    def vanish(self, server, clients):
        """Drop all packets between the server and these clients. Their kernel forgets the connections."""
        for client in clients:
            here, there = client.getsockname()[1], server.port
            tool("nft", f"add rule inet loss input tcp sport {here} tcp dport {there} drop")
            tool("nft", f"add rule inet loss input tcp sport {there} tcp dport {here} drop")
            self.forget(client)

    def forget(self, client):
        try:
            client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)  # its close sends no packet
        except PermissionError as failure:
            self.skipTest(f"may not use TCP_REPAIR: {failure}")
        client.close()

    def check(self, reason, send, **variables):
        with self.survive(**variables) as fault:
            clients = [fault.server.connect(rcvbuf=4096) for _ in range(5)]
            begun = time.monotonic()
            for client in clients:
                client.sendall(send)
            wait_acknowledged(clients)
            if reason != "write":
                wait_read(clients)
            vanished = time.monotonic()
            self.vanish(fault.server, clients)
            fault.server.wait_stats(lambda values: self.none_early(values[f"closed_{reason}"], begun + 1.0) == 5)
            self.assertLessEqual(time.monotonic() - vanished, 2.2 + SECOND)
            fault.expect_ends(**{reason: 5})

    def none_early(self, count, due):
        """Returns ${count}, the closed connections. None may be closed before ${due}."""
        if count > 0:
            self.assertGreaterEqual(time.monotonic(), due)
        return count

    @covers_fault(21)
    def test_power_loss(self):
        """A client that vanishes while silent, within a message or during a reply is closed by the timeout that
        applies."""
        self.check("idle", b"whole\n", XCHG_IDLE_TIMEOUT="1s", **LINES)
        self.check("message", b"begun", XCHG_MESSAGE_TIMEOUT="1s", **LINES)
        self.check("write", 400_000 * b"w" + b"\n", XCHG_WRITE_TIMEOUT="1s", XCHG_SNDBUF="16KiB", XCHG_MAX_MESSAGE="1MiB", **LINES)

    @covers_fault(16)
    def test_reset_by_a_firewall(self):
        """A firewall answers with resets, within a message, after one and during a reply. That ends the server's side,
        then the client's."""
        with self.survive(XCHG_MAX_MESSAGE="1MiB", XCHG_SNDBUF="16KiB", **LINES) as fault:
            server = fault.server
            clients = [server.connect(source="127.0.0.9", rcvbuf=4096) for _ in range(15)]
            for client in clients[:5]:
                self.addCleanup(client.close)
                client.sendall(400_000 * b"w" + b"\n")
            for client in clients[:5]:
                self.assertFalse(is_silent(client, LIMIT))
            self.reject("ip saddr 127.0.0.1 ip daddr 127.0.0.9", f"tcp sport {server.port}")
            for client in clients[5:10]:
                client.sendall(b"begun")
            for client in clients[10:]:
                client.sendall(b"whole\n")
            server.wait_stats(lambda values: values["closed_reset"] == 15, "reset from the firewall")
            self.assertGreaterEqual(self.rejected(), 15)
            self.reject("ip saddr 127.0.0.9 ip daddr 127.0.0.1", f"tcp dport {server.port}")
            for client in clients[5:]:
                with client, self.assertRaises(ConnectionResetError):
                    while True:
                        client.sendall(b"on\n")
            self.assertGreaterEqual(self.rejected(), 10)
            fault.expect_ends(reset=15)

    def reject(self, *match):
        """From now on, packets that match are answered with a reset."""
        try:  # in one step: the server's kernel would answer packets that are sent again in between
            rule = " ".join(match) + " counter reject with tcp reset"
            tool("nft", f"flush chain inet loss input; add rule inet loss input {rule}")
        except OSError as failure:
            self.skipTest(f"the kernel rejects nothing: {failure}")

    def rejected(self):
        """The number of packets that were answered with a reset."""
        return sum(map(int, re.findall(r"counter packets (\d+)", tool("nft", "list chain inet loss input"))))

    @covers_fault(21)
    def test_rebooted(self):
        """A restarted peer, which has forgotten the connection, answers with a reset and is counted as `reset`."""
        with self.survive(XCHG_MAX_LIFETIME="0", **LINES) as fault:
            clients = [fault.server.connect() for _ in range(5)]
            fault.server.wait_stats(lambda values: values["open"] >= 6)
            with self.stopped(fault):
                for client in clients:
                    client.sendall(b"asked\n")
                wait_acknowledged(clients)
                for client in clients:
                    self.forget(client)
            fault.expect_ends(reset=5)

    @covers_fault(23)
    def test_destroyed(self):
        """A connection that an administrator destroys (ss -K) ends as `reset`."""
        if not shutil.which("ss"):
            self.skipTest("needs ss")
        with self.survive(**LINES) as fault:
            clients = [fault.server.connect(source="127.0.0.9") for _ in range(10)]
            for client in clients[:5]:
                client.sendall(b"begun")
            fault.server.wait_stats(lambda values: values["open"] >= 11)
            killed = subprocess.run(["ss", "-tnK", "state", "established", "src", "127.0.0.1", "dst", "127.0.0.9"], stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT, text=True, timeout=LIMIT)
            if not is_killed(clients[0]):
                self.skipTest(f"the kernel destroys no sockets: {killed.stdout.strip()}")
            for client in clients:
                self.assertTrue(is_closed(client))
                client.close()
            fault.expect_ends(reset=10)


def is_killed(client):
    """True if the connection ends within a second."""
    return not is_silent(client, SECOND)
