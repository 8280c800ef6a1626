"""Goal: closing is safe (docs/reference.md, Closing): no reply is lost to a reset, and no connection lingers
forever."""

import concurrent.futures
import contextlib
import random
import socket
import tempfile
import threading
import time
import unittest

from clients import MIB, PATIENT, ended, patient, play, serve, wait_acknowledged, wait_read
from fault_matrix import FaultTest, covers_fault
from xchgd import GREETING, SLOW, receive_all, receive_exactly, reset

ROUNDS = 200
AT_ONCE = 16

LINGER = 0.3  # seconds, in tests that wait for the end of lingering
# The server asks the kernel for progress, so lingering may take twice the value, and a busy machine adds a second.
LATEST = 2 * LINGER + 1.0 * SLOW


class Delivery(FaultTest):
    """Goal: the server's data arrives although the client sends much more than the exchange takes."""

    def rude(self, server, sent, rcvbuf=None):
        """Send everything, then read. Raises an exception on a reset."""
        with server.connect(rcvbuf=rcvbuf) as client:
            client.sendall(sent)
            return receive_all(client)

    def check(self, sent, expected, *, rcvbuf=None, rounds=ROUNDS, reason="finished", **variables):
        with self.subTest(**variables), self.survive(**{**PATIENT, **variables}) as fault:
            with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
                jobs = [pool.submit(self.rude, fault.server, sent, rcvbuf) for _ in range(rounds)]
                for job in jobs:
                    answer = job.result()
                    self.assertEqual(len(answer), len(expected))
                    self.assertTrue(answer == expected, "other bytes than expected")
            fault.expect_ends(**{reason: rounds})

    @covers_fault(22)
    def test_greet(self):
        """A client that sends 200 KB after its message gets the whole greeting and the end of the stream."""
        self.check(b"hello\0" + b"x" * 200_000, GREETING)

    def test_little_more(self):
        """A client that sends one byte more, or a second message, gets the whole greeting."""
        for rest in (b"x", b"again\0"):
            self.check(b"hello\0" + rest, GREETING)

    def test_line(self):
        """An echoed line survives the bytes that follow it."""
        self.check(b"hello\n" + b"x" * 200_000, b"hello\n", XCHG_EXCHANGE="line")

    def test_nearly_a_mebibyte(self):
        """The server discards up to 1 MiB."""
        self.check(b"hello\n" + b"x" * (MIB - 4096), b"hello\n", XCHG_EXCHANGE="line", rounds=20)

    @covers_fault(22)
    def test_large_reply(self):
        """A reply of 300 KiB reaches a client with a small window that first sends twice as much. Neither buffer holds
        the reply, so the server must discard input while it sends."""
        line = random.Random(6).randbytes(300 * 1024).replace(b"\n", b".") + b"\n"
        self.check(line + b"x" * 600_000, line, rcvbuf=16384, rounds=100, XCHG_EXCHANGE="line",
                   XCHG_MAX_MESSAGE="1MiB", XCHG_SNDBUF="16KiB")

    @covers_fault(22)
    def test_large_reply_in_the_kernel(self):
        """The same if the kernel takes the whole reply at once, where a close could destroy it."""
        line = random.Random(7).randbytes(300 * 1024).replace(b"\n", b".") + b"\n"
        self.check(line + b"x" * 200_000, line, rcvbuf=16384, rounds=100, XCHG_EXCHANGE="line",
                   XCHG_MAX_MESSAGE="1MiB")

    def test_unix(self):
        """The same over a UNIX socket, whose close also discards unread data."""
        line = random.Random(8).randbytes(300 * 1024).replace(b"\n", b".") + b"\n"
        with tempfile.TemporaryDirectory() as folder:
            listen = {"XCHG_LISTEN": f"unix:{folder}/exchange"}
            self.check(b"hello\0" + b"x" * 200_000, GREETING, **listen)
            self.check(line + b"x" * 600_000, line, rounds=100, XCHG_EXCHANGE="line", XCHG_MAX_MESSAGE="1MiB", **listen)
            self.check(b"fine\n" + b"x" * 500_000, b"fine\n", XCHG_EXCHANGE="line", XCHG_MESSAGES=0,
                       reason="too_long", **listen)

    def test_many_replies(self):
        """The replies of a counted exchange survive the bytes that follow its last message."""
        lines = b"".join(b"%d\n" % i for i in range(3000))
        self.check(lines + b"x" * 200_000, lines, rcvbuf=8192, XCHG_EXCHANGE="line", XCHG_MESSAGES=3000,
                   rounds=100)

    def test_too_long(self):
        """A message that is too long does not destroy the replies before it, although most of it is still to come."""
        self.check(b"fine\n" + b"x" * 500_000, b"fine\n", XCHG_EXCHANGE="line", XCHG_MESSAGES=0,
                   reason="too_long")
        self.check(b"\0\0\0\4fine\xff\xff\xff\xff" + b"x" * 500_000, b"\0\0\0\4fine", XCHG_FRAME="u32",
                   XCHG_GREETING="none", XCHG_REPLY="echo", XCHG_MESSAGES=0, reason="too_long")

    def test_truncated(self):
        """The replies before a truncated message arrive."""
        with patient(XCHG_FRAME="u16", XCHG_GREETING="none", XCHG_REPLY="echo", XCHG_MESSAGES=0) as server:
            whole = b"\xff\xff" + b"y" * 65535
            streams = [[whole * 4 + b"\0\5trun"]] * 50
            for answer in play(server, streams, half_close=True):
                self.assertTrue(answer == whole * 4)
            self.assertEqual(ended(server.stop()), {"truncated": 50})


class Bounds(unittest.TestCase):
    """Goal: lingering after the half-close ends, whatever the peer does."""

    def test_a_mebibyte(self):
        """A client that keeps sending after its message is closed after 1 MiB, long before XCHG_LINGER."""
        with patient() as server, server.connect() as client:
            client.sendall(b"hello\0")
            sent = 0
            with self.assertRaises((ConnectionResetError, BrokenPipeError)):
                while sent < 256 * MIB:
                    sent += client.send(b"x" * 65536)
            self.assertEqual(ended(server.wait_stats(lambda values: values["open"] == 0)), {"finished": 1})
            server.stop()

    def wait_closed(self, server, begun, meanwhile=lambda: None):
        """Wait until no connection is open. The linger must take LINGER at least, and LATEST at most."""
        def closed(values):
            meanwhile()
            return values["accepted"] > 0 and values["open"] == 0
        values = server.wait_stats(closed)
        passed = time.monotonic() - begun
        self.assertGreaterEqual(passed, LINGER)
        self.assertLess(passed, LATEST)
        return values

    def test_half_close_ends_lingering(self):
        """Lingering ends at once when the client ends its stream."""
        with patient() as server:
            with server.connect() as client:
                client.sendall(b"hello\0more")
                self.assertEqual(receive_all(client), GREETING)
                self.assertEqual(server.stats()["open"], 1)
                client.shutdown(socket.SHUT_WR)
                server.wait_stats(lambda values: values["open"] == 0)
            self.assertEqual(ended(server.stop()), {"finished": 1})

    def test_nothing_beyond(self):
        """If everything is acknowledged and no byte follows the message, the server closes without waiting for the
        client."""
        with patient() as server, server.connect() as client:
            self.assertEqual(receive_exactly(client, 20), GREETING)
            client.sendall(b"hello\0")  # carries the acknowledgement
            self.assertEqual(receive_all(client), b"")
            server.wait_stats(lambda values: values["open"] == 0)
            self.assertEqual(ended(server.stop()), {"finished": 1})

    def test_client_that_reads_nothing(self):
        """A client whose window stays closed, so that the reply is never acknowledged, is closed after XCHG_LINGER."""
        line = b"y" * 100_000 + b"\n"
        for rest in (b"", b"more"):
            with self.subTest(rest=rest), serve(XCHG_EXCHANGE="line", XCHG_MAX_MESSAGE="1MiB", XCHG_LINGER="300ms",
                                                XCHG_SNDBUF="400KiB", XCHG_WRITE_TIMEOUT=0) as server:
                with server.connect(rcvbuf=4096) as client:
                    begun = time.monotonic()
                    client.sendall(line + rest)
                    values = self.wait_closed(server, begun)
                self.assertEqual(ended(values), {"finished": 1})
                server.stop()

    def test_single_bytes_prolong_nothing(self):
        """A client that keeps sending single bytes is closed no later than a silent one."""
        with serve(XCHG_LINGER="300ms") as server, server.connect() as client:
            begun = time.monotonic()
            client.sendall(b"hello\0more")

            def dribble():
                with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    client.send(b"x")
            values = self.wait_closed(server, begun, dribble)
            self.assertEqual(ended(values), {"finished": 1})
            server.stop()

    def test_acknowledgements_prolong(self):
        """A client that keeps reading a long reply gets the whole reply, although that takes several times XCHG_LINGER."""
        line = b"y" * 200_000 + b"\n"
        linger = 1.0 * SLOW
        never = threading.Event()
        with serve(XCHG_EXCHANGE="line", XCHG_MAX_MESSAGE="1MiB", XCHG_LINGER=f"{int(linger * 1000)}ms",
                   XCHG_SNDBUF="400KiB", XCHG_WRITE_TIMEOUT=0) as server:
            with server.connect(rcvbuf=16384) as client:
                client.sendall(line + b"more")
                answer = bytearray()
                began = time.monotonic()
                while chunk := client.recv(10_000):
                    answer += chunk
                    if time.monotonic() - began < 2 * linger:
                        never.wait(linger / 10)  # the client's pace
                self.assertTrue(bytes(answer) == line, f"{len(answer)} of {len(line)} bytes")
            self.assertEqual(ended(server.stop()), {"finished": 1})

    def test_linger_zero(self):
        """XCHG_LINGER=0 closes at once, even if bytes follow the message."""
        with serve(XCHG_LINGER=0) as server:
            with server.connect() as client:
                client.sendall(b"hello\0")
                self.assertEqual(receive_all(client), GREETING)
            with server.connect() as client:
                self.assertEqual(receive_exactly(client, 20), GREETING)
                begun = time.monotonic()
                client.sendall(b"hello\0more")
                server.wait_stats(lambda values: values["open"] == 0)
                if SLOW == 1:
                    self.assertLess(time.monotonic() - begun, 2.0)  # when the default linger time would end
            self.assertEqual(ended(server.stop()), {"finished": 2})

    def test_lingering_counts_as_live(self):
        """A lingering connection counts for XCHG_MAX_CONNECTIONS until it ends."""
        with patient(XCHG_MAX_CONNECTIONS=1) as server:
            with server.connect() as first:
                first.sendall(b"hello\0more")
                self.assertEqual(receive_all(first), GREETING)
                with server.connect() as second:
                    second.sendall(b"hello\0")
                    values = server.stats()
                    self.assertEqual((values["accepted"], values["open"]), (1, 1))
                    first.close()
                    self.assertEqual(receive_all(second), GREETING)
            self.assertEqual(ended(server.stop()), {"finished": 2})


class Departures(unittest.TestCase):
    """Goal: a client that leaves is counted by how it left."""

    @covers_fault(16)
    def test_reset_in_a_message(self):
        """A reset within a message is counted as `reset`, in counted and in endless exchanges."""
        for variables in ({}, {"XCHG_EXCHANGE": "line"}, {"XCHG_FRAME": "u16", "XCHG_MESSAGES": 0}):
            with self.subTest(variables), patient(**variables) as server:
                clients = [server.connect() for _ in range(50)]
                for client in clients:
                    client.sendall(b"\1he")
                wait_acknowledged(clients)
                wait_read(clients)
                self.assertEqual(ended(server.stats()), {"open": 50})
                for client in clients:
                    reset(client)
                values = server.wait_stats(lambda values: values["open"] == 0)
                self.assertEqual(ended(values), {"reset": 50})
                server.stop()

    def test_end_before_a_message(self):
        """A client that leaves before its message is `peer` in a counted exchange, `finished` in an endless one."""
        for variables, greeting, reason in (
                ({}, GREETING, "peer"), ({"XCHG_EXCHANGE": "line"}, b"", "peer"),
                ({"XCHG_FRAME": "u16", "XCHG_GREETING": "none"}, b"", "peer"),
                ({"XCHG_MESSAGES": 0}, GREETING, "finished"),
                ({"XCHG_EXCHANGE": "echo"}, b"", "finished"), ({"XCHG_EXCHANGE": "discard"}, b"", "finished")):
            with self.subTest(variables), patient(**variables) as server:
                with server.connect() as client:
                    client.shutdown(socket.SHUT_WR)
                    self.assertEqual(receive_all(client), greeting)
                with server.connect() as client:
                    self.assertEqual(receive_exactly(client, len(greeting)), greeting)
                values = server.wait_stats(lambda values: values["accepted"] == 2 and values["open"] == 0)
                self.assertEqual(ended(values), {reason: 2})
                server.stop()

    def test_end_between_messages(self):
        """A client that leaves after one message of two is answered and counted as `peer`."""
        with patient(XCHG_EXCHANGE="line", XCHG_MESSAGES=2) as server:
            with server.connect() as client:
                client.sendall(b"one\n")
                client.shutdown(socket.SHUT_WR)
                self.assertEqual(receive_all(client), b"one\n")
            self.assertEqual(ended(server.stop()), {"peer": 1})
