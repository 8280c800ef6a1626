"""Goal: the server survives unexpected input (docs/fault-matrix.md, entries 25 to 30)."""

import contextlib
import os
import random
import socket
import struct
import time

from clients import MIB, every_split, play, talk
from fault_matrix import FaultTest, covers_fault
from xchgd import PLAIN, SLOW, is_silent, receive_all

SEED = int(os.environ.get("CHECK_SEED", time.time_ns() % 10**9))
ALL_BYTES = bytes(range(256))
ECHO = {"XCHG_GREETING": "none", "XCHG_REPLY": "echo", "XCHG_MESSAGES": "0"}
BANNERS = {
    "tls": bytes.fromhex("1603010200010001fc0303") + bytes(range(1, 33)) + b"\x20" + bytes(32) + b"\x00\x02\x13\x01\x01\x00",
    "http": b"GET / HTTP/1.1\r\nHost: example.org\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n",
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "proxy1": b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n",
    "proxy2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\xdc\x04\x01\xbb",
    "telnet": b"\xff\xfb\x1f\xff\xfb\x20\xff\xfb\x18\xff\xfb\x27\xff\xfd\x01\xff\xfb\x03\xff\xfd\x03",
    "ssh": b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
    "memcached": b"\x80\x0b\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    "random": random.Random(SEED).randbytes(300),
}


def wrap(frame, message):
    """A message as it is framed on the wire."""
    if frame in ("nul", "line"):
        return message + (b"\0" if frame == "nul" else b"\n")
    return struct.pack({"u16": ">H", "u32": ">I"}[frame], len(message)) + message


def setUpModule():
    print(f"CHECK_SEED={SEED}", flush=True)


def answer(frame, data, limit):
    """A model of an endless echo: its answer to ${data} and the end of the stream, and the reason of the end."""
    said, begun = b"", data
    while begun:
        if frame in ("nul", "line"):
            mark = b"\0" if frame == "nul" else b"\n"
            message, found, rest = begun.partition(mark)
            text = message.removesuffix(b"\r") if frame == "line" and found else message
            if len(text) > limit:
                return said, "too_long"
            said, begun = said + message + found, rest
        else:
            prefix = {"u16": 2, "u32": 4}[frame]
            if len(begun) < prefix:
                return said, "truncated"
            size = int.from_bytes(begun[:prefix], "big")
            if size > limit:
                return said, "too_long"
            if len(begun) < prefix + size:
                return said, "truncated"
            said, begun = said + begun[:prefix + size], begun[prefix + size:]
    return said, "finished"


class Inputs(FaultTest):
    def send_all(self, fault, frame, limit, inputs):
        """Send each input on a connection of its own and check its answer and the reason of its end."""
        counts = {}
        for data in inputs:
            said, reason = answer(frame, data, limit)
            with fault.server.connect() as client:
                self.assertEqual(talk(client, data), said, f"{frame}, seed {SEED}: {data[:60]!r}")
            counts[reason] = counts.get(reason, 0) + 1
        fault.expect_ends(**counts)
        return counts

    @covers_fault(25)
    def test_lengths(self):
        """Messages of 0 bytes, 1 byte, the limit and more, in every framing. Length prefixes up to the largest cost no
        memory."""
        limit = 1000
        for frame in ("nul", "line", "u16", "u32"):
            sizes = (0, 1, limit - 1, limit, limit + 1, limit + 2, 60_000)
            inputs = [wrap(frame, b"first") + wrap(frame, size * b"m") + wrap(frame, b"last") for size in sizes]
            inputs += [wrap(frame, size * b"m") for size in sizes]
            if frame in ("u16", "u32"):
                digits = {"u16": 2, "u32": 4}[frame]
                for size in (limit + 1, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff):
                    if size < 1 << 8 * digits:
                        inputs += [wrap(frame, b"first") + size.to_bytes(digits, "big") + rest for rest in (b"", b"more")] * 20
            with self.subTest(frame), self.survive(XCHG_FRAME=frame, XCHG_MAX_MESSAGE=limit, **ECHO) as fault:
                before = fault.server.resident_bytes()
                self.assertGreater(self.send_all(fault, frame, limit, inputs)["too_long"], 0)
                if PLAIN:
                    self.assertLess(fault.server.resident_bytes() - before, MIB)

    @covers_fault(26)
    def test_every_split(self):
        """A session in pieces, split at every byte and at every pair of bytes, gets the same answers."""
        for frame, session in (("line", b"one\r\n\ntwo\r\n\0\xff\nend"), ("u16", b"\0\3one\0\0\0\1\0\0\4four"),
                               ("nul", b"one\0\0two\0\n\r\xff\0end")):
            said, reason = answer(frame, session, 64)
            streams = every_split(session)
            with self.subTest(frame), self.survive(XCHG_FRAME=frame, XCHG_MAX_MESSAGE="64", XCHG_WORKERS="1", **ECHO) as fault:
                for pieces, heard in zip(streams, play(fault.server, streams, half_close=True), strict=True):
                    self.assertEqual(heard, said, f"sent in the pieces {pieces}")
                fault.expect_ends(**{reason: len(streams)})

    @covers_fault(27)
    def test_pipelines(self):
        """Up to 20,000 messages sent at once are answered in order, while another client of the same worker is
        answered, too."""
        counts = (1, 2, 10, 100, 1000, 10000)
        with self.survive(XCHG_FRAME="line", XCHG_WORKERS="1", **ECHO) as fault:
            for count in counts:
                stream = b"".join(b"%d\n" % i for i in range(count))
                with fault.server.connect() as client:
                    self.assertTrue(talk(client, stream) == stream, f"{count} messages")
            fault.expect_ends(finished=len(counts))
        for frame in ("nul", "line", "u16", "u32"):
            stream = b"".join(wrap(frame, b"%d" % i) for i in range(20000))
            with self.subTest(frame), self.survive(XCHG_FRAME=frame, XCHG_MAX_PENDING="4KiB", **ECHO) as fault:
                with fault.server.connect() as client:
                    self.assertTrue(talk(client, stream) == stream)
                fault.expect_ends(finished=1)

    @covers_fault(28)
    def test_every_byte(self):
        """All byte values, invalid UTF-8 and every kind of line end pass through unchanged."""
        texts = [ALL_BYTES, ALL_BYTES[::-1], bytes([0]) * 100, b"\xc0\x80\xed\xa0\x80\xff\xfe\xf8", b"\r", b"\n", b"\r\n", b"\n\r",
                 b"a\rb", b"a\nb", b"a\r\nb\r", b"a\n\nb\n", b"\r\r\n", b"no end", b"\0", b"\0\0a"]
        texts += [bytes([value]) for value in ALL_BYTES]
        for frame in ("line", "nul"):
            with self.subTest(frame), self.survive(XCHG_FRAME=frame, **ECHO) as fault:
                self.send_all(fault, frame, 65536, texts)
        with self.subTest("u16"), self.survive(XCHG_FRAME="u16", **ECHO) as fault:
            self.send_all(fault, "u16", 65536, [struct.pack(">H", len(text)) + text for text in texts])
        with self.subTest("raw"), self.survive(XCHG_EXCHANGE="echo") as fault:
            for text in texts:
                with fault.server.connect() as client:
                    self.assertEqual(talk(client, text), text)
            fault.expect_ends(finished=len(texts))

    @covers_fault(29)
    def test_other_protocols(self):
        """The first bytes of other protocols are treated as messages. Each connection ends for the reason of its
        bytes."""
        for frame in ("line", "nul", "u16", "u32"):
            with self.subTest(frame), self.survive(XCHG_FRAME=frame, XCHG_MAX_MESSAGE="256", **ECHO) as fault:
                before = fault.server.remarks()
                self.send_all(fault, frame, 256, BANNERS.values())
                self.assertEqual(fault.server.remarks(), before)
        with self.survive() as fault:  # greet accepts any bytes up to a 0 byte or the end of the stream
            for banner in BANNERS.values():
                with fault.server.connect() as client:
                    self.assertEqual(talk(client, banner), b"Message from server\0")
            fault.expect_ends(finished=len(BANNERS))


@covers_fault(30)
class Urgent(FaultTest):
    """Urgent data of TCP (MSG_OOB): an urgent byte may arrive as an ordinary one or not at all."""

    def hear(self, client, size):
        data = b""
        while len(data) < size:
            chunk = client.recv(size - len(data))
            self.assertTrue(chunk)
            data += chunk.replace(b"!", b"")
        return data

    def test_urgent(self):
        """Urgent data within a stream does not stall or spin and loses no other byte."""
        with self.survive(XCHG_EXCHANGE="echo", XCHG_WORKERS="1") as fault:
            with fault.server.connect() as client:
                for i in range(200):
                    data = b"<%d>" % i
                    client.sendall(data[:2])
                    client.send(b"!", socket.MSG_OOB)
                    client.sendall(data[2:])
                    self.assertEqual(self.hear(client, len(data)), data)
                client.send(b"!", socket.MSG_OOB)
                with fault.bystander.paused():
                    cpu = fault.server.cpu_seconds()
                    while not is_silent(client, 0.6):  # the last urgent byte may be echoed
                        self.assertEqual(client.recv(1), b"!")
                    if PLAIN:
                        self.assertLessEqual(fault.server.cpu_seconds() - cpu, 0.06 * SLOW)
                client.sendall(b"end")
                self.assertEqual(self.hear(client, 3), b"end")
            fault.expect_ends(finished=1)

    def test_urgent_then_end(self):
        """A client whose last or only byte is urgent ends like any other."""
        with self.survive(XCHG_EXCHANGE="echo") as fault:
            for data in (b"", b"data"):
                with fault.server.connect() as client:
                    client.sendall(data)
                    client.send(b"!", socket.MSG_OOB)
                    client.shutdown(socket.SHUT_WR)
                    self.assertEqual(receive_all(client).replace(b"!", b""), data)
            fault.expect_ends(finished=2)

    def test_flood(self):
        """A flood of urgent bytes touches no other client."""
        with self.survive(XCHG_EXCHANGE="line", XCHG_MESSAGES="0", XCHG_WORKERS="1") as fault:
            with fault.server.connect() as client:
                for _ in range(2000):
                    client.send(b"!", socket.MSG_OOB)
                client.sendall(b"\n")
                with contextlib.closing(client.makefile("rb")) as lines:
                    self.assertEqual(lines.readline().replace(b"!", b""), b"\n")
            fault.expect_ends(finished=1)
