"""Goal: listeners with ;proxy= keep what docs/proxy.md promises, seen from the sockets of a proxy.

The senders here are sockets and curl. HAProxy and nginx are in tests/ops.
"""

import json
import os
import socket
import struct
import subprocess
import time
import unittest

from clients import FolderTest, ended
from endpoint import Endpoint
from xchgd import GREETING, LIMIT, PROGRAM, SLOW, Server, is_closed, is_silent, receive_all, receive_exactly, run

MODELS = ("pool", "iterative", "thread", "fork")
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 7000\r\n"
V2 = SIGNATURE + b"\x21\x11\0\x0c" + bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack("!HH", 12345, 7000)
LOCAL = SIGNATURE + b"\x20\0\0\0"
PLUGIN = os.path.join(os.path.dirname(os.path.abspath(PROGRAM)), "tests", "live", "plugin", "proxy.so")


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def v2(addresses, *tlvs, family=0x11, command=0x21):
    rest = addresses + b"".join(tlvs)
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest)) + rest


def serve(proxy="any", **variables):
    variables.setdefault("XCHG_LISTEN", f"127.0.0.1:0;proxy={proxy}")
    variables.setdefault("XCHG_PROXY_TRUST", "127.0.0.0/8")
    variables.setdefault("XCHG_STOP_GRACE", "0")
    return Server(**variables)


def reset(client):
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


class Headers(unittest.TestCase):
    def exchange(self, server, sent):
        with server.connect() as client:
            client.sendall(sent + b"bye\0")
            self.assertEqual(receive_all(client), GREETING)

    def test_models(self):
        """Each model takes both versions, with the message in the same segment."""
        for model in MODELS:
            with self.subTest(model), serve(XCHG_MODEL=model) as server:
                self.assertEqual(server.wait_line("listening")["proxy"], "any")
                for header in (V1, V2, LOCAL, b"PROXY UNKNOWN\r\n"):
                    self.exchange(server, header)
                with server.connect() as client:
                    client.sendall(b"GET / HTTP/1.0\r\n")
                    self.assertTrue(is_closed(client))
                self.assertEqual(ended(server.stop()), {"finished": 4, "proxy": 1})

    def test_greeting_waits(self):
        """No byte comes before the header is complete, however it is split."""
        with serve() as server:
            for header in (V1, V2):
                with server.connect() as client:
                    for i in range(len(header)):
                        client.sendall(header[i:i + 1])
                    self.assertEqual(receive_exactly(client, len(GREETING)), GREETING)
                    client.sendall(b"bye\0")
                    self.assertEqual(receive_all(client), b"")
                with server.connect() as client:
                    client.sendall(header[:-1])
                    self.assertTrue(is_silent(client, 0.2))
                    client.sendall(header[-1:])
                    self.assertEqual(receive_exactly(client, len(GREETING)), GREETING)
                    client.sendall(b"bye\0")
                    self.assertEqual(receive_all(client), b"")
            self.assertEqual(server.stop()["finished"], 4)

    def test_invalid(self):
        """A byte that cannot belong to a header closes at once; so does the other version, and an end."""
        for proxy, sent in (("any", b"X"), ("any", b"PROXY TCP5"), ("v1", V2), ("v2", V1),
                            ("any", SIGNATURE + b"\x21\x11\x10\0"), ("any", V2[:-1])):
            with self.subTest(sent), serve(proxy) as server, server.connect() as client:
                client.sendall(sent)
                if sent == V2[:-1]:
                    client.shutdown(socket.SHUT_WR)
                self.assertTrue(is_closed(client))
                totals = server.stop()
                self.assertEqual((totals["closed_proxy"], totals["messages"]), (1, 0))

    def test_timeout(self):
        """XCHG_PROXY_TIMEOUT closes a connection without a complete header, not early and not late."""
        with serve(XCHG_PROXY_TIMEOUT="3s", XCHG_IDLE_TIMEOUT="500ms", XCHG_MESSAGE_TIMEOUT="500ms") as server:
            before = time.monotonic()
            with server.connect() as silent, server.connect() as begun:
                after = time.monotonic()
                begun.sendall(V1[:9])
                for client in (silent, begun):
                    self.assertEqual(receive_all(client), b"")
                    now = time.monotonic()
                    self.assertGreaterEqual(now - before, 3)
                    self.assertLess(now - after, 3.4 + SLOW)
            self.assertEqual(server.stop()["closed_proxy"], 2)

    def test_two_listeners(self):
        """Only the listener with the option takes headers."""
        with serve(XCHG_LISTEN="127.0.0.1:0;proxy=v2,127.0.0.1:0", XCHG_MAX_PER_IP="1") as server:
            self.assertIn("XCHG_MAX_PER_IP does not apply", server.lines[0])
            ports = [int(address.rsplit(":", 1)[1]) for address in server.addresses]
            with socket.create_connection(("127.0.0.1", ports[1]), LIMIT) as plain:
                self.assertEqual(receive_exactly(plain, len(GREETING)), GREETING)
                with server.connect() as one, server.connect() as two:
                    for client in (one, two):
                        client.sendall(V2)
                        self.assertEqual(receive_exactly(client, len(GREETING)), GREETING)
                    for client in (one, two, plain):
                        client.sendall(b"bye\0")
                        self.assertEqual(receive_all(client), b"")
            self.assertEqual(server.stop()["finished"], 3)

    def test_deferred_accept(self):
        """With headers the accept may wait for the proxy's first bytes, although there is a greeting."""
        with serve(XCHG_DEFER_ACCEPT="5") as server:
            self.exchange(server, V2)
            server.stop()


class Trust(FolderTest):
    def test_untrusted(self):
        """A peer that is not in XCHG_PROXY_TRUST is closed without a byte."""
        with serve(XCHG_PROXY_TRUST="127.0.0.2,10.0.0.0/8") as server:
            with server.connect() as client:
                self.assertTrue(is_closed(client))
            with server.connect(source="127.0.0.2") as client:
                client.sendall(V2 + b"bye\0")
                self.assertEqual(receive_all(client), GREETING)
            self.assertEqual(ended(server.stop()), {"finished": 1, "proxy": 1})

    def test_debug_line(self):
        """Level debug tells of a complete header: who announced whom."""
        with serve(XCHG_LOG_LEVEL="debug") as server:
            with server.connect() as client:
                proxy = f"127.0.0.1:{client.getsockname()[1]}"
                client.sendall(V2 + b"bye\0")
                self.assertEqual(receive_all(client), GREETING)
            line = server.wait_line("proxy")
            self.assertEqual([line[key] for key in ("peer", "via", "version", "command")], ["192.0.2.7:12345", proxy, "2", "proxy"])
            self.assertEqual(server.wait_line("opened")["peer"], proxy)

    def test_announced_path(self):
        """Lines of the log and rows of /connections show an announced path, and no byte of it raw."""
        raw, shown = b'/run/"a"\\\n\x1b\xff b', r'unix:/run/"a"\x5c\x0a\x1b\xff\x20b'
        header = v2(raw.ljust(108, b"\0") + 108 * b"\0", family=0x31)
        trust = {"XCHG_LISTEN": "127.0.0.1:0;proxy=v2", "XCHG_PROXY_TRUST": "127.0.0.1", "XCHG_LOG_LEVEL": "debug"}
        with Endpoint(self.path("admin"), **trust) as server:
            with server.connect() as client:
                client.sendall(header)
                receive_exactly(client, len(GREETING))
                (row,) = json.loads(server.ask("/connections", unix=True).text)["connections"]
                self.assertEqual(row["peer"], shown)
                self.assertEqual(row["via"], f"127.0.0.1:{client.getsockname()[1]}")
                client.sendall(b"bye\0")
                self.assertEqual(receive_all(client), b"")
            server.wait_for(lambda _: any(line["reason"] == "finished" and line["peer"] != "unix" for line in server.messages("closed")))
            (closed,) = [line for line in server.messages("closed") if line["peer"] != "unix"]
            for line in (server.wait_line("proxy"), closed):
                self.assertEqual(line["peer"].replace('\\"', '"').replace("\\\\", "\\"), shown)
            server.stop()
        with serve(XCHG_ALLOW="192.0.2.0/24", XCHG_LOG_LEVEL="debug") as server, server.connect() as client:
            client.sendall(v2(b"/run/b".ljust(108, b"\0") + 108 * b"\0", family=0x31))
            self.assertEqual(receive_all(client), b"")
            self.assertEqual((server.wait_line("proxy")["peer"], server.wait_line("closed")["peer"]), ("unix:/run/b", "unix:/run/b"))
            self.assertEqual(ended(server.stop()), {"denied": 1})

    def test_unix(self):
        """A UNIX socket needs no list. An announced path is an address of the allow list's kind: denied."""
        path = self.path()
        with serve(XCHG_LISTEN=f"unix:{path};mode=0600;proxy=v2", XCHG_PROXY_TRUST="", XCHG_ALLOW="192.0.2.0/24") as server:
            for sent, served in ((V2, True), (LOCAL, True), (v2(b"/run/a".ljust(108, b"\0") + 108 * b"\0", family=0x31), False)):
                client = self.unix_client(path)
                client.sendall(sent + b"bye\0")
                self.assertEqual(receive_all(client), GREETING if served else b"")
            self.assertEqual(ended(server.stop()), {"finished": 2, "denied": 1})

    def test_lists(self):
        """XCHG_ALLOW and XCHG_DENY are asked for the announced address."""
        for variables, served in (({"XCHG_DENY": "192.0.2.7"}, False), ({"XCHG_DENY": "127.0.0.1"}, True),
                                  ({"XCHG_ALLOW": "192.0.2.0/24"}, True), ({"XCHG_ALLOW": "127.0.0.1"}, False)):
            with self.subTest(variables), serve(**variables) as server, server.connect() as client:
                client.sendall(V1 + b"bye\0")
                self.assertEqual(receive_all(client), GREETING if served else b"")
                self.assertEqual(ended(server.stop()), {"finished" if served else "denied": 1})

    def test_faults(self):
        """A TCP listener with headers and without a list of proxies is a fault."""
        done = run("--check", XCHG_LISTEN="127.0.0.1:0;proxy=v2")
        self.assertEqual(done.returncode, 78)
        self.assertIn("XCHG_PROXY_TRUST='': want the addresses of the proxies", done.stderr)


class Close(FolderTest):
    def test_close(self):
        """The command /close ends a connection at once, although its header has not come."""
        for how, reason in (("finish", "finished"), ("abort", "error")):
            with self.subTest(how), Endpoint(self.path(), XCHG_LISTEN="127.0.0.1:0;proxy=any", XCHG_PROXY_TRUST="127.0.0.1",
                                             XCHG_PROXY_TIMEOUT="60s") as server:
                with server.connect() as silent, server.connect() as begun:
                    begun.sendall(V2[:9])
                    server.wait_stats(lambda s: s["accepted"] == 2 and s["bytes_in"] == 9, "two connections")
                    for row in json.loads(server.ask("/connections?state=header", unix=True).text)["connections"]:
                        self.assertEqual(server.ask(f"/close?id={row['id']}&how={how}", "POST").status, 200)
                    self.assertTrue(is_closed(silent) and is_closed(begun))
                self.assertEqual(ended(server.stop()), {reason: 2})


class Checks(unittest.TestCase):
    def test_health_checks(self):
        """LOCAL that ends without data is finished, by an end of stream or a reset. With data it is served."""
        for model in MODELS:
            with self.subTest(model), serve(XCHG_MODEL=model) as server:
                for end in (socket.socket.close, reset):
                    client = server.connect()
                    client.sendall(LOCAL)
                    end(client)
                    server.wait_stats(lambda s: s["open"] == 0 and s["accepted"] > 0, "the end of the check")
                with server.connect() as client:
                    client.sendall(LOCAL + b"bye\0")
                    self.assertEqual(receive_all(client), GREETING)
                totals = server.stop()
                self.assertEqual((ended(totals), totals["messages"]), ({"finished": 3}, 1))


class Stop(unittest.TestCase):
    def test_stop(self):
        """At a stop, a connection without a byte ends as drain. One whose header has begun is served."""
        for model in ("pool", "thread", "fork"):
            with self.subTest(model), serve(XCHG_MODEL=model, XCHG_PROXY_TIMEOUT="60s") as server:
                with server.connect() as silent, server.connect() as begun:
                    begun.sendall(V2[:7])
                    server.wait_stats(lambda s: s["accepted"] == 2, "two connections")
                    server.process.terminate()
                    server.wait_line("stopping")
                    self.assertEqual(receive_all(silent), b"")
                    begun.sendall(V2[7:] + b"bye\0")
                    self.assertEqual(receive_all(begun), GREETING)
                    silent.close()
                    self.assertEqual(ended(server.finish()), {"finished": 1, "drain": 1})


class Passed(unittest.TestCase):
    def listener(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        return listener

    def test_passed_sockets(self):
        """Sockets of LISTEN_FDS take the option of the item with their address, in any order."""
        one, two = self.listener(), self.listener()
        ports = [listener.getsockname()[1] for listener in (one, two)]
        with serve(activate=[one, two], XCHG_LISTEN=f"127.0.0.1:{ports[1]},127.0.0.1:{ports[0]};proxy=v2") as server:
            with socket.create_connection(("127.0.0.1", ports[0]), LIMIT) as proxied:
                self.assertTrue(is_silent(proxied, 0.1))
                proxied.sendall(V2 + b"bye\0")
                self.assertEqual(receive_all(proxied), GREETING)
            with socket.create_connection(("127.0.0.1", ports[1]), LIMIT) as plain:
                self.assertEqual(receive_exactly(plain, len(GREETING)), GREETING)
                plain.sendall(b"bye\0")
                self.assertEqual(receive_all(plain), b"")
            server.stop()

    def test_unknown_socket(self):
        """A socket that the list does not name is refused where the list has ;proxy=."""
        with serve(activate=[self.listener()], wait=False, XCHG_LISTEN="127.0.0.1:1;proxy=v2") as server:
            self.assertEqual(server.process.wait(LIMIT), 71)
            server.wait_for(lambda lines: any("is not in XCHG_LISTEN" in line for line in lines))


class Handler(unittest.TestCase):
    def ask(self, header):
        with serve(XCHG_HANDLER=PLUGIN) as server, server.connect() as client:
            port = client.getsockname()[1]
            client.sendall(header + b"?\n")
            with client.makefile("r") as lines:
                answer = lines.readline().replace(f":{port}", ":PORT")
            client.close()
            server.stop()
            return answer.rstrip("\n")

    def test_handler(self):
        """A handler learns addresses, TLVs and TLS."""
        tls = tlv(0x20, b"\1\0\0\0\0" + tlv(0x21, b"TLSv1.3"))
        header = v2(V2[16:], tlv(2, b"sni.test"), tlv(5, b"id-1"), tls, tlv(0xea, b"abc"))
        self.assertEqual(self.ask(header), "2 0 192.0.2.7:12345 127.0.0.1:PORT 192.0.2.7:12345 198.51.100.1:7000 "
                                           "[sni.test] [id-1] 1 [TLSv1.3] 1 3")
        self.assertEqual(self.ask(LOCAL), "2 1 127.0.0.1:PORT 127.0.0.1:PORT   [] [] 0 [] 0 0")
        self.assertEqual(self.ask(V1), "1 0 192.0.2.7:12345 127.0.0.1:PORT 192.0.2.7:12345 198.51.100.1:7000 [] [] 0 [] 0 0")

    def test_curl(self):
        """curl announces its own address, with the request in the same segment."""
        with serve("v1", XCHG_EXCHANGE="line") as server:
            done = subprocess.run(["curl", "-s", "--http0.9", "--haproxy-protocol", "--max-time", str(LIMIT),
                                   f"http://127.0.0.1:{server.port}/x"], stdout=subprocess.PIPE, timeout=LIMIT, check=True)
            self.assertEqual(done.stdout, b"GET /x HTTP/1.1\r\n")
            server.stop()


if __name__ == "__main__":
    unittest.main()
