"""Goal: under a service manager the server takes named sockets, reports its state, and feeds the manager's watchdog only
while no thread is stalled (docs/reference.md, Service manager). tests/live/supervisor.py plays the manager."""

import contextlib
import json
import os
import socket
import unittest

from clients import FolderTest
from endpoint import Asker
from supervisor import Supervised, address_of, tcp_listener, unix_listener
from test_proxy import V1, V2
from xchgd import GREETING, LIMIT, greet, is_silent, receive_all, receive_exactly, run


class Named(FolderTest):
    """Sockets by their names."""

    def listener(self):
        made = tcp_listener()
        self.addCleanup(made.close)
        return made

    def unix(self, name, mode=0o600):
        made = unix_listener(self.path(name), mode)
        self.addCleanup(made.close)
        return made

    def connect(self, listener):
        client = socket.socket(listener.family)
        self.addCleanup(client.close)
        client.settimeout(LIMIT)
        client.connect(listener.getsockname())
        return client

    def readyz(self, listener):
        with Asker(self.connect(listener)) as asker:
            return asker.ask("/readyz").status

    def command(self, listener, target):
        with Asker(self.connect(listener)) as asker:
            return asker.ask(target, "POST", "Xchg-Command: yes").status

    def test_admin_and_data(self):
        """The admin endpoint answers on the sockets named admin, without XCHG_ADMIN, and clients are served on the others."""
        public, private, clients, more = self.listener(), self.unix("admin"), self.listener(), self.unix("data")
        with Supervised(sockets=[("admin", public), ("data", clients), ("admin", private), ("xchgd.socket", more)]) as server:
            self.assertEqual([line["addr"] for line in server.messages("admin")], [address_of(public), address_of(private)])
            self.assertEqual([line["addr"] for line in server.messages("listening")], [address_of(clients), address_of(more)])
            self.assertEqual(server.remarks(), [line for line in server.lines if "msg=admin" in line])
            for each in (public, private):
                self.assertEqual(self.readyz(each), 200)
            for each in (clients, more):
                greet(self.connect(each))
            self.assertEqual(self.command(public, "/drain"), 403)  # TCP reads, a UNIX socket rules
            self.assertEqual(self.command(private, "/drain"), 202)
            self.assertEqual(server.finish()["finished"], 2)
        self.assertTrue(os.path.exists(private.getsockname()))  # the file belongs to the manager

    def test_only_admin(self):
        """Without a socket for clients XCHG_LISTEN applies, and a passed admin socket replaces XCHG_ADMIN."""
        private = self.unix("admin")
        with Supervised(sockets=[("admin", private)], XCHG_ADMIN=f"unix:{self.path('other')}") as server:
            self.assertEqual([line["addr"] for line in server.messages("admin")], [address_of(private)])
            self.assertFalse(os.path.exists(self.path("other")))
            self.assertEqual(self.readyz(private), 200)
            with server.connect() as client:
                greet(client)
            self.assertEqual(server.stop()["finished"], 1)

    def test_only_data(self):
        """Without a socket named admin XCHG_ADMIN applies."""
        clients = self.listener()
        with Supervised(sockets=[("data", clients)], XCHG_ADMIN=f"unix:{self.path('other')}") as server:
            self.assertEqual([line["addr"] for line in server.messages("admin")], [f"unix:{self.path('other')}"])
            greet(self.connect(clients))
            server.stop()

    def test_without_names(self):
        """Without LISTEN_FDNAMES, and with an empty one, every socket is for clients."""
        for names in (None, ""):
            with self.subTest(names):
                one, two = self.listener(), self.listener()
                with Supervised(sockets=[(None, one), (None, two)], names=names) as server:
                    for each in (one, two):
                        greet(self.connect(each))
                    self.assertEqual(server.messages("admin"), [])
                    server.stop()

    def test_open_to_others(self):
        """A socket that every user may write to, and one that other machines reach, are a warning each; the server serves."""
        for made in (lambda: self.unix("open", 0o666), lambda: socket.create_server(("0.0.0.0", 0)), self.abstract):
            private = made()
            self.addCleanup(private.close)
            with self.subTest(private.getsockname()), Supervised(sockets=[("admin", private)]) as server:
                warnings = [line for line in server.lines if "level=warn" in line]
                self.assertEqual(len(warnings), 1, warnings)
                what = "can be reached from other machines" if private.family == socket.AF_INET else "every user may give commands"
                self.assertIn(what, warnings[0])
                server.stop()

    def abstract(self):
        made = socket.socket(socket.AF_UNIX)
        made.bind(f"\0xchg-admin-{os.getpid()}")
        made.listen()
        return made

    def test_proxy(self):
        """data-proxy-* requires headers of that version, whatever XCHG_LISTEN says; other sockets take none."""
        for name, good, bad in [("v1", V1, V2), ("v2", V2, V1), ("any", V1, b"x" * 16), ("any", V2, b"x" * 16)]:
            proxied, plain = self.listener(), self.listener()
            with self.subTest(name, good=good[:6]), \
                    Supervised(sockets=[(f"data-proxy-{name}", proxied), ("data", plain)], XCHG_PROXY_TRUST="127.0.0.1",
                               XCHG_LISTEN=address_of(proxied)) as server:
                server.wait_line("listening", nth=1)
                self.assertEqual([line.get("proxy") for line in server.messages("listening")], [name, None])
                client = self.connect(proxied)
                self.assertTrue(is_silent(client, 0.1))
                client.sendall(good + b"bye\0")
                self.assertEqual(receive_all(client), GREETING)
                refused = self.connect(proxied)
                refused.sendall(bad + b"bye\0")
                with contextlib.suppress(ConnectionError):
                    self.assertEqual(receive_all(refused), b"")
                greet(self.connect(plain))
                totals = server.stop()
                self.assertEqual((totals["finished"], totals["closed_proxy"]), (2, 1))

    def test_proxy_needs_trust(self):
        """A TCP socket named data-proxy-* needs XCHG_PROXY_TRUST; on a UNIX socket its mode is the trust."""
        with Supervised(sockets=[("data-proxy-v2", self.listener())], wait=False) as server:
            server.finish(expect=71)
            self.assertEqual([line for line in server.lines if "level=error" in line],
                             [line for line in server.lines if "needs trusted proxies" in line and "XCHG_PROXY_TRUST" in line])
        private = self.unix("proxied")
        with Supervised(sockets=[("data-proxy-v2", private)]) as server:
            client = self.connect(private)
            client.sendall(V2 + b"bye\0")
            self.assertEqual(receive_all(client), GREETING)
            server.stop()

    def test_wrong_names(self):
        """Not one name for each socket: a fault of the configuration. More names could turn a client into an operator."""
        one, two = self.listener(), self.unix("two")
        for names in ("admin", "data", "data:admin:data", "data:admin:", ":::"):
            with self.subTest(names), Supervised(sockets=[("", one), ("", two)], names=names, wait=False) as server:
                self.assertEqual(server.process.wait(LIMIT), 78)
                server._reader.join(LIMIT)
                self.assertEqual(server.lines, ["xchgd: LISTEN_FDNAMES: want one name for each of the 2 sockets of LISTEN_FDS, "
                                                "at most 64 for clients and 8 named admin"])

    def test_garbage(self):
        """Names that mean nothing are sockets for clients."""
        for name in ("Admin", "admin ", "", "\xff\n;", "data-proxy-v3", "stored", "a" * 255):
            one = self.listener()
            with self.subTest(name), Supervised(sockets=[(name, one)]) as server:
                greet(self.connect(one))
                self.assertEqual(server.messages("admin"), [])
                server.stop()

    def test_missing_sockets(self):
        """LISTEN_FDS counts more sockets than there are: exit code 71."""
        with Supervised(sockets=[("data", self.listener())], names="data:admin", count=2, wait=False) as server:
            server.finish(expect=71)

    def test_models(self):
        """Each model serves named sockets."""
        for model in ("iterative", "thread", "fork"):
            public, clients = self.listener(), self.listener()
            with self.subTest(model), Supervised(sockets=[("admin", public), ("data", clients)], XCHG_MODEL=model) as server:
                client = self.connect(clients)
                self.assertEqual(receive_exactly(client, len(GREETING)), GREETING)
                self.assertEqual(self.readyz(public), 200)
                client.sendall(b"bye\0")
                self.assertEqual(receive_all(client), b"")
                server.stop()

    def test_explain(self):
        """--explain marks what passed sockets replace. Names of another process are ignored."""
        self.assertIn("XCHG_ADMIN= (default) ", run("--explain", LISTEN_PID="1", LISTEN_FDS="1", LISTEN_FDNAMES="admin:admin").stdout)

    def test_settings(self):
        """/stats of a passed UNIX socket has the settings, as that of XCHG_ADMIN."""
        private = self.unix("admin")
        with Supervised(sockets=[("admin", private)]) as server, Asker(self.connect(private)) as asker:
            self.assertIn("XCHG_ADMIN", json.loads(asker.ask("/stats").text)["settings"])
            asker.socket.close()
            server.stop()


if __name__ == "__main__":
    unittest.main()
