"""Goal: limits and timeouts are those of docs/reference.md (Limits, Timeouts).

The client measures a timeout twice: from before the act that starts the server's clock, to find an early
end, and from after it, to find a late one. A timeout may be late by 10 % or 100 ms, by its double where
the server asks the kernel for progress, and by SLACK for the machine.
"""

import select
import shutil
import socket
import tempfile
import time
import unittest

from fault_matrix import covers_fault
from xchgd import (GREETING, LIMIT, SLOW, Server, greet, is_closed, is_silent, receive_all,
                   receive_exactly)

SLACK = 0.6 * SLOW


class Case(unittest.TestCase):
    def assert_fired(self, before, after, timeout, most=None):
        """A timeout whose clock started between ${before} and ${after} ends now, neither early nor late."""
        now = time.monotonic()
        self.assertGreaterEqual(now - before, timeout, "early")
        most = most or timeout
        self.assertLessEqual(now - after, most + max(most / 10, 0.1) + SLACK, "late")

    def ends(self, server, reason, count=1):
        """Wait until ${count} connections have ended for ${reason}, and stop the server."""
        server.wait_stats(lambda s: s[f"closed_{reason}"] == count, f"{count} ends as {reason}")
        return server.stop()


class Admission(Case):
    def served(self, server, source=None, address=None):
        """True if a client from there is served, False if it is closed without a byte."""
        with server.connect(source=source, address=address) as client:
            try:
                if client.recv(1, socket.MSG_PEEK):
                    greet(client)
                    return True
            except ConnectionError:
                pass
            return False

    def check(self, expected, **variables):
        with Server(**variables) as server:
            for source, admitted in expected.items():
                self.assertEqual(self.served(server, source), admitted, source)
            totals = server.stop()
            self.assertEqual(totals["finished"], sum(expected.values()))
            self.assertEqual(totals["closed_denied"], len(expected) - sum(expected.values()))

    def test_allow(self):
        """Only addresses on the allow list are served. An empty list admits all."""
        self.check({"127.0.0.2": True, "127.0.0.3": False, "127.0.1.9": True},
                   XCHG_ALLOW="127.0.0.2,127.0.1.0/24")
        self.check({"127.0.0.2": True}, XCHG_ALLOW="")

    def test_deny(self):
        """An address on the deny list is refused, whatever the allow list says."""
        self.check({"127.0.0.2": True, "127.0.0.3": False}, XCHG_DENY="127.0.0.3")
        self.check({"127.0.0.2": True, "127.0.0.3": False, "127.9.0.1": True},
                   XCHG_ALLOW="127.0.0.0/8", XCHG_DENY="::1,127.0.0.3/32")

    def test_host_bits(self):
        """Host bits of a block are masked. A block of no bits matches every address."""
        self.check({"127.0.0.1": True, "127.200.0.1": False}, XCHG_ALLOW="127.0.77.1/16")
        self.check({"127.0.0.1": False}, XCHG_DENY="1.2.3.4/0")

    def test_mapped(self):
        """On a dual-stack listener IPv4 clients match IPv4 blocks, and IPv6 clients match IPv6 blocks."""
        for variables, v4, v6 in [(dict(XCHG_ALLOW="127.0.0.1"), True, False),
                                  (dict(XCHG_DENY="127.0.0.0/8"), False, True),
                                  (dict(XCHG_DENY="::1"), True, False),
                                  (dict(XCHG_DENY="::ffff:127.0.0.1"), False, True)]:
            with self.subTest(variables), Server(XCHG_LISTEN=":0", **variables) as server:
                for host, admitted in [("127.0.0.1", v4), ("[::1]", v6)]:
                    address = f"{host}:{server.port}"
                    self.assertEqual(self.served(server, address=address), admitted, host)
                server.stop()

    def test_not_for_unix(self):
        """The lists and the limit per address do not apply to UNIX sockets."""
        folder = tempfile.mkdtemp(prefix="xchg-")
        self.addCleanup(shutil.rmtree, folder)
        with Server(XCHG_LISTEN=f"unix:{folder}/socket", XCHG_DENY="0.0.0.0/0,::/0",
                    XCHG_ALLOW="192.0.2.1", XCHG_MAX_PER_IP="1") as server:
            clients = [server.connect() for _ in range(3)]
            for client in clients:
                receive_exactly(client, 20)
            for client in clients:
                client.close()
            server.stop()

    @covers_fault(59)
    def test_per_address_comes_and_goes(self):
        """A second connection of one address is closed. Over many connections the count per address stays exact."""
        with Server(XCHG_MAX_PER_IP="1", XCHG_WORKERS="2") as server:
            for i in range(100):
                source = f"127.0.0.{2 + i % 7}"
                self.assertTrue(self.served(server, source))
                server.wait_stats(lambda s: s["open"] == 0)
            with server.connect(source="127.0.0.2") as client:
                receive_exactly(client, 20)
                self.assertFalse(self.served(server, "127.0.0.2"))
                self.assertTrue(self.served(server, "127.0.0.3"))
            server.wait_stats(lambda s: s["open"] == 0)
            self.assertTrue(self.served(server, "127.0.0.2"))
            self.assertEqual(self.ends(server, "per_ip")["accepted"], 104)

    def test_limit_waits(self):
        """At the limit under wait, the next client waits in the backlog and is served when one leaves."""
        with Server(XCHG_MAX_CONNECTIONS="2", XCHG_WORKERS="2") as server:
            clients = [server.connect() for _ in range(4)]
            for client in clients[:2]:
                receive_exactly(client, 20)
            self.assertTrue(is_silent(clients[2], 0.3))
            self.assertEqual(server.stats()["open"], 2)
            clients[0].close()
            greet(clients[2])
            greet(clients[3])
            clients[1].close()
            self.assertEqual(server.stop()["accepted"], 4)

    def test_limit_refuses(self):
        """At the limit under refuse, the next client is closed at once and counted."""
        with Server(XCHG_MAX_CONNECTIONS="2", XCHG_OVERLOAD="refuse") as server:
            clients = [server.connect() for _ in range(2)]
            for client in clients:
                receive_exactly(client, 20)
            self.assertFalse(self.served(server))
            self.assertFalse(self.served(server))
            clients[0].close()
            server.wait_stats(lambda s: s["open"] == 1)
            self.assertTrue(self.served(server))
            clients[1].close()
            self.ends(server, "overload", 2)


class Timeouts(Case):
    def test_idle(self):
        """Idle connections are closed after the idle timeout, counted from the last byte, and none is closed early."""
        with Server(XCHG_EXCHANGE="echo", XCHG_IDLE_TIMEOUT="600ms") as server:
            clients = [server.connect() for _ in range(20)]
            first = time.monotonic()
            for client in clients:
                client.sendall(b"x")
                receive_exactly(client, 1)
            self.assertTrue(is_silent(clients[0], 0.3))
            sent = {}
            for client in clients:
                before = time.monotonic()
                client.sendall(b"y")
                receive_exactly(client, 1)
                sent[client] = before, time.monotonic()
            self.assertGreaterEqual(time.monotonic() - first, 0.3)
            left = select.poll()
            by_number = {client.fileno(): client for client in clients}
            for client in clients:
                left.register(client, select.POLLIN)
            while by_number:
                events = left.poll(LIMIT * 1000)
                self.assertTrue(events, "no client is closed")
                for number, _ in events:
                    client = by_number.pop(number)
                    self.assert_fired(*sent[client], 0.6)
                    self.assertTrue(is_closed(client))
                    left.unregister(number)
                    client.close()
            self.ends(server, "idle", 20)

    def test_off(self):
        """A timeout of 0 is off."""
        with Server(XCHG_IDLE_TIMEOUT="0", XCHG_MESSAGE_TIMEOUT="0", XCHG_WRITE_TIMEOUT="0",
                    XCHG_MAX_LIFETIME="0") as server:
            with server.connect() as client:
                receive_exactly(client, 20)
                client.sendall(b"x")
                self.assertTrue(is_silent(client, 1.0))
                client.sendall(b"\0")
                self.assertEqual(receive_all(client), b"")
            self.assertEqual(server.stop()["finished"], 1)

    def test_between_messages(self):
        """The message timeout applies to a started message and not between messages."""
        for messages in ["0", "3"]:
            with self.subTest(messages), \
                    Server(XCHG_EXCHANGE="line", XCHG_MESSAGES=messages,
                           XCHG_MESSAGE_TIMEOUT="400ms") as server:
                with server.connect() as client:
                    client.sendall(b"a\n")
                    self.assertEqual(receive_exactly(client, 2), b"a\n")
                    self.assertTrue(is_silent(client, 0.9))
                    before = time.monotonic()
                    client.sendall(b"half")
                    after = time.monotonic()
                    self.assertTrue(is_closed(client))
                    self.assert_fired(before, after, 0.4)
                self.ends(server, "message")

    def test_endless_may_be_silent(self):
        """In an endless exchange the message timeout does not apply before the first byte."""
        with Server(XCHG_EXCHANGE="line", XCHG_MESSAGES="0", XCHG_MESSAGE_TIMEOUT="200ms") as server:
            with server.connect() as client:
                self.assertTrue(is_silent(client, 0.7))
                client.sendall(b"hello\n")
                self.assertEqual(receive_exactly(client, 6), b"hello\n")
            self.assertEqual(server.stop()["finished"], 1)

    def test_linger(self):
        """A client that stays after the half-close is closed after the linger time."""
        with Server(XCHG_LINGER="500ms") as server:
            before = time.monotonic()
            with server.connect() as client:
                client.sendall(b"message\0and more than that")
                self.assertEqual(receive_all(client), GREETING)
                after = time.monotonic()
                server.wait_stats(lambda s: s["open"] == 0)
                self.assert_fired(before, after, 0.5)
            self.assertEqual(server.stop()["finished"], 1)


class Output(Case):
    def flood(self, client, most):
        """Send up to ${most} bytes until the server takes no more for a while. Returns the number of bytes."""
        client.setblocking(False)
        sent = 0
        while sent < most:
            if not select.select([], [client], [], 0.3)[1]:
                break
            try:
                sent += client.send(min(65536, most - sent) * b"x")
            except BlockingIOError:
                pass
        client.settimeout(LIMIT)
        return sent

    def wait_reset(self, client):
        """Wait for the peer's reset without reading."""
        poll = select.poll()
        poll.register(client, 0)
        self.assertTrue(poll.poll(LIMIT * 1000), "no hang-up")

    def test_write_timeout_resets(self):
        """A client that never reads gets a reset at its timeout, although none of its data is unread."""
        with Server(XCHG_EXCHANGE="echo", XCHG_WRITE_TIMEOUT="1s", XCHG_IDLE_TIMEOUT="0",
                    XCHG_SNDBUF="32KiB", XCHG_MAX_PENDING="8MiB") as server:
            with server.connect(rcvbuf=4096) as client:
                client.sendall(bytes(1 << 20))
                self.wait_reset(client)
            self.ends(server, "write")

    def test_idle_timeout_resets(self):
        """The same for the idle timeout if the kernel has taken the whole reply."""
        with Server(XCHG_EXCHANGE="echo", XCHG_IDLE_TIMEOUT="1s") as server:
            with server.connect(rcvbuf=4096) as client:
                client.sendall(bytes(200000))
                self.wait_reset(client)
            self.ends(server, "idle")

    @covers_fault(20)
    def test_slow_reader(self):
        """A slow reader is not closed, although the socket is not writable for several timeouts."""
        with Server(XCHG_EXCHANGE="echo", XCHG_WRITE_TIMEOUT="1s", XCHG_IDLE_TIMEOUT="0",
                    XCHG_SNDBUF="1MiB") as server:
            with server.connect(rcvbuf=16384) as client:
                sent = self.flood(client, 64 << 20)
                self.assertGreater(sent, 1 << 19)
                start = time.monotonic()
                received = 0
                while time.monotonic() - start < 4.5:
                    received += len(client.recv(8192))
                    select.select([], [], [], 0.1)  # the reader's pace
                client.shutdown(socket.SHUT_WR)
                received += len(receive_all(client))
                self.assertEqual(received, sent)
            totals = server.stop()
            self.assertEqual((totals["closed_write"], totals["finished"]), (0, 1))

    def test_idle_while_reading(self):
        """The idle timeout is prolonged only while output waits and keeps being acknowledged."""
        with Server(XCHG_EXCHANGE="echo", XCHG_WRITE_TIMEOUT="0", XCHG_IDLE_TIMEOUT="1s") as server:
            with server.connect(rcvbuf=16384) as client:
                sent = self.flood(client, 64 << 20)
                start = time.monotonic()
                received = 0
                while time.monotonic() - start < 2.5:
                    received += len(client.recv(8192))
                    select.select([], [], [], 0.05)
                after = time.monotonic()
                self.assertLess(received, sent)
                self.wait_reset(client)
                # A later probe of the kernel may find and fill a window that opened before.
                self.assert_fired(after - 1, after, 1.0, most=4.0)
            self.ends(server, "idle")

    def test_clock_stands_while_not_reading(self):
        """The message timeout stands while waiting output keeps the server from reading."""
        line = 1000 * b"x" + b"\n"
        with Server(XCHG_EXCHANGE="line", XCHG_MESSAGES="0", XCHG_MESSAGE_TIMEOUT="300ms",
                    XCHG_MAX_PENDING="4KiB", XCHG_SNDBUF="8KiB") as server:
            with server.connect(rcvbuf=4096) as client:
                client.setblocking(False)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
                stream, sent = 4000 * line, 0
                while select.select([], [client], [], 0.3)[1] and sent < len(stream):
                    try:
                        sent += client.send(stream[sent:sent + 65536])
                    except BlockingIOError:
                        pass
                self.assertLess(sent, len(stream), "nothing held the client back")
                self.assertFalse(select.select([], [client], [], 0.9)[1])
                received = b""
                while len(received) < len(stream):
                    ready = select.select([client], [client] if sent < len(stream) else [], [],
                                          LIMIT)
                    self.assertTrue(any(ready))
                    if ready[0]:
                        chunk = client.recv(65536)
                        self.assertTrue(chunk, f"closed after {len(received)} bytes")
                        received += chunk
                    if ready[1]:
                        sent += client.send(stream[sent:sent + 65536])
                self.assertEqual(received, stream)
            self.assertEqual(server.stop()["finished"], 1)


class Lifetime(Case):
    def test_lifetime(self):
        """A talking connection ends after its lifetime, shortened by at most 10 %, with all replies."""
        with Server(XCHG_EXCHANGE="line", XCHG_MESSAGES="0", XCHG_MAX_LIFETIME="1s") as server:
            before = time.monotonic()
            with server.connect() as client:
                after = time.monotonic()
                for i in range(1, 10**6):
                    client.sendall(b"%d\n" % i)
                    answer = b""
                    while not answer.endswith(b"\n"):
                        chunk = client.recv(64)
                        if not chunk:
                            break
                        answer += chunk
                    if not answer:
                        break
                    self.assertEqual(answer, b"%d\n" % i)
                    self.assertLess(time.monotonic() - before, LIMIT)
                    if not is_silent(client, 0.02):
                        self.assertEqual(client.recv(1), b"")
                        break
                self.assert_fired(before, after, 0.9, most=1.0)
            self.ends(server, "lifetime")

    def test_started_is_finished(self):
        """A message that has started at the end of the lifetime is finished and answered."""
        with Server(XCHG_EXCHANGE="line", XCHG_MESSAGES="0", XCHG_MAX_LIFETIME="500ms") as server:
            with server.connect() as client:
                client.sendall(b"be")
                self.assertTrue(is_silent(client, 1.0))
                client.sendall(b"gun\n")
                self.assertEqual(receive_all(client), b"begun\n")
            self.ends(server, "lifetime")

    def test_closed_after_drain_timeout(self):
        """A message that does not finish is closed after the drain timeout."""
        with Server(XCHG_EXCHANGE="line", XCHG_MESSAGES="0", XCHG_MAX_LIFETIME="500ms",
                    XCHG_DRAIN_TIMEOUT="500ms") as server:
            before = time.monotonic()
            with server.connect() as client:
                client.sendall(b"never")
                after = time.monotonic()
                self.assertTrue(is_closed(client))
                self.assert_fired(before, after, 0.95, most=1.0)
            self.ends(server, "lifetime")
