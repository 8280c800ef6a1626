"""Goal: with --proxy every connection of xchg-bench begins with one PROXY header, and the exchange follows it unchanged."""

import ipaddress
import os
import struct
import tempfile
import threading
import unittest

from bench import Fake, bench, echo, kinds, measure

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
NETWORK = ipaddress.ip_network("198.18.0.0/15")
PREFIX = {"v1": b"PROXY TCP4 ", "v2": SIGNATURE + b"\x21\x11"}


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def read_exactly(connection, size):
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise AssertionError(f"the stream ends after {data!r}")
        data += piece
    return data


def read_v1(connection):
    """(source, destination, {}) of a line."""
    line = read_exactly(connection, 6)
    while not line.endswith(b"\r\n"):
        line += read_exactly(connection, 1)
    word, family, source, destination, source_port, destination_port = line[:-2].decode("ascii").split(" ")
    if (word, family) != ("PROXY", "TCP4") or len(line) > 107:
        raise AssertionError(f"not a header: {line!r}")
    return (source, int(source_port)), (destination, int(destination_port)), {}


def read_v2(connection):
    """(source, destination, {type: value}) of a binary header."""
    head = read_exactly(connection, 16)
    signature, command, family, length = struct.unpack(">12sBBH", head)
    block = read_exactly(connection, length)
    if (signature, command, family) != (SIGNATURE, 0x21, 0x11):
        raise AssertionError(f"not a header: {head!r}")
    source, destination, source_port, destination_port = struct.unpack(">4s4sHH", block[:12])
    tlvs, at = {}, 12
    while at < len(block):
        kind, size = struct.unpack(">BH", block[at:at + 3])
        tlvs[kind] = block[at + 3:at + 3 + size]
        if kind == 3:
            whole = head + block
            zeroed = whole[:16 + at + 3] + bytes(4) + whole[16 + at + 7:]
            if crc32c(zeroed) != int.from_bytes(tlvs[kind], "big"):
                raise AssertionError(f"wrong checksum: {whole!r}")
        at += 3 + size
    return ((str(ipaddress.ip_address(source)), source_port), (str(ipaddress.ip_address(destination)), destination_port), tlvs)


class Proxied(Fake):
    """A server that takes a header and then echoes, or greets and closes after the client's message (greet)."""

    def __init__(self, version, greet=False):
        self.headers, self.wrong, self.lock, self.greet = [], [], threading.Lock(), greet
        self.read = {"v1": read_v1, "v2": read_v2}[version]
        super().__init__(self.answer)

    def answer(self, connection, _):
        try:
            header = self.read(connection)
        except (AssertionError, ValueError) as fault:
            with self.lock:
                self.wrong.append(fault)
            return
        with self.lock:
            self.headers.append(header)
        if self.greet:
            connection.sendall(b"Message from server\0")
            while not connection.recv(4096).endswith(b"\0"):
                pass
            return
        while data := connection.recv(65536):
            connection.sendall(data)


class Proxy(unittest.TestCase):
    def check(self, server, report, connections):
        """Each connection announced another client, and nothing else was wrong."""
        self.assertEqual(kinds(report), {})
        self.assertEqual(server.wrong, [])
        self.assertEqual(len(server.headers), connections)
        host, port = server.address.rsplit(":", 1)
        for source, destination, _ in server.headers:
            self.assertIn(ipaddress.ip_address(source[0]), NETWORK)
            self.assertEqual(destination, (host, int(port)))

    def test_every_connection_begins_with_a_header(self):
        for version in ("v1", "v2"):
            with self.subTest(version), Proxied(version) as server:
                report = measure(server.address, "-x", "echo", "--size", 10, "-c", 4, "-n", 200, "--proxy", version)
                self.check(server, report, 4)
                self.assertEqual(len({source for source, _, _ in server.headers}), 4)
                self.assertEqual(report["options"]["proxy"], version)
                self.assertEqual(report["exchanges"], 200)

    def test_reconnects_and_idle_connections_have_one_too(self):
        with Proxied("v2") as server:
            report = measure(server.address, "-x", "echo", "-c", 1, "-n", 18, "--reconnect", 5, "--idle", 3, "--proxy", "v2,unique-id")
            self.check(server, report, 4 + 3)
            ids = {tlvs[5] for _, _, tlvs in server.headers}
            self.assertEqual(len(ids), 7)  # also where the same client comes again
            self.assertEqual({value.split(b"-")[0].decode() for value in ids}, {report["run_id"]})

    def test_counted_exchanges_begin_with_a_header(self):
        for version in ("v1", "v2"):
            with self.subTest(version), Proxied(version, greet=True) as server:
                report = measure(server.address, "-c", 2, "-n", 30, "--proxy", version)
                self.assertEqual(kinds(report), {})
                self.assertGreaterEqual(len(server.headers), 30)
                self.assertLessEqual(len(server.wrong), 2)  # connections that the end of the run cuts

    def test_tlvs(self):
        with Proxied("v2") as server:
            option = "v2,unique-id,authority=bench.example,crc32c"
            report = measure(server.address, "-x", "echo", "-c", 3, "-n", 30, "--proxy", option)
            self.check(server, report, 3)
            for _, _, tlvs in server.headers:
                self.assertEqual(set(tlvs), {2, 3, 5})
                self.assertEqual(tlvs[2], b"bench.example")
            self.assertEqual(report["options"]["proxy"], "v2,crc32c,unique-id,authority=bench.example")

    def test_headers_are_no_payload(self):
        with Proxied("v2") as server:
            report = measure(server.address, "-x", "echo", "--frame", "fixed:8", "-c", 1, "-n", 10, "--proxy", "v2")
            self.assertEqual((report["bytes_out"], report["bytes_in"]), (80, 80))

    def test_without_the_option_nothing_is_sent(self):
        with Proxied("v1") as server:
            report = measure(server.address, "-x", "echo", "-c", 1, "-n", 1, "-T", "300ms", "-d", "400ms", expect=1)
            self.assertEqual(server.headers, [])
            self.assertEqual(report["options"]["proxy"], "none")

    def test_compare_tells_that_the_header_differs(self):
        with tempfile.TemporaryDirectory() as folder, Proxied("v2") as with_header, Fake(lambda connection, _: echo(connection)) as without:
            a, b = (os.path.join(folder, name) for name in ("a.json", "b.json"))
            for server, path, value in ((with_header, a, "v2,crc32c"), (without, b, "none")):
                ran = bench("-x", "echo", "-n", 20, "--proxy", value, "--json", path, server.address)
                self.assertEqual(ran.returncode, 0, ran.stderr)
            ran = bench("compare", a, b)
            self.assertIn("proxy v2,crc32c and none", ran.stdout + ran.stderr)

    def test_other_values_are_refused(self):
        for value in ("", "v3", "v1,crc32c", "v2,", "v2,authority=", "v2,authority=\x1b[2J"):
            ran = bench("--proxy", value, "127.0.0.1:1")
            self.assertEqual(ran.returncode, 64)
            self.assertRegex(ran.stderr, r"\Axchg-bench: --proxy '[ -~]*': want none, v1, or v2 [ -~]*\n\Z")


if __name__ == "__main__":
    unittest.main()
