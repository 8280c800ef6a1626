"""Goal: under a service manager the server takes named sockets, reports its state, and feeds the manager's watchdog only
while no thread is stalled (docs/reference.md, Service manager). tests/live/supervisor.py plays the manager."""

import contextlib
import json
import os
import signal
import socket
import time
import unittest

from clients import FolderTest
from endpoint import Asker
from supervisor import Supervised, address_of, tcp_listener, unix_listener
from test_proxy import V1, V2
from xchgd import GREETING, LIMIT, PROGRAM, SLOW, greet, is_silent, receive_all, receive_exactly, run

PLUGINS = os.path.join(os.path.dirname(PROGRAM), "tests/live/plugin")
HOLDER = os.path.join(PLUGINS, "holder.so")
SLOW_START = os.path.join(PLUGINS, "slow_start.so")


def ms(seconds):
    return f"{round(seconds * SLOW * 1000)}ms"


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
            server.wait_line("listening", nth=1)
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

    def test_restart(self):
        """A server that stops leaves the sockets open: who arrives between two servers is served by the second."""
        private, clients, more = self.unix("admin"), self.listener(), self.unix("data")
        sockets = [("data", clients), ("admin", private), ("data", more)]
        with Supervised(sockets=sockets, XCHG_DRAIN_DELAY="50ms") as server:
            greet(self.connect(clients))
            self.assertEqual(self.readyz(private), 200)
            server.stop()
        early = [self.connect(clients), self.connect(more), Asker(self.connect(private))]
        with Supervised(sockets=sockets) as server, early[2]:
            for client in early[:2]:
                greet(client)
            self.assertEqual(early[2].ask("/readyz").status, 200)
            self.assertEqual(server.stop()["finished"], 2)

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


class Reports(FolderTest):
    """States and status."""

    def test_ready(self):
        """Nothing is said before on_start has returned. READY=1 comes first, and by then clients can connect."""
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        for abstract in (False, True):
            with self.subTest(abstract=abstract), \
                    Supervised(abstract=abstract, wait=False, XCHG_LISTEN=f"unix:{self.path()}", XCHG_HANDLER=SLOW_START, SLOW_START=fifo) as server:
                with open(fifo, "wb"):  # on_start has begun
                    self.assertEqual(server.states, [])
                server.wait_state("READY=1")
                self.assertEqual(server.states[0][1], "READY=1")
                self.unix_client(self.path()).close()
                server.terminate(timeout=LIMIT)
                server.wait_state("STOPPING=1")
                self.assertEqual(len(server.messages_with("READY=1") + server.messages_with("STOPPING=1")), 2)

    def test_status(self):
        """A status each 10 s, and at each change of the phase; with more time for the stop from its beginning on."""
        with Supervised(XCHG_WORKERS="2", XCHG_MAX_CONNECTIONS="100", XCHG_DRAIN_DELAY=ms(2), XCHG_DRAIN_TIMEOUT="1m", XCHG_EXCHANGE="echo",
                        XCHG_MESSAGE_TIMEOUT="0") as server:
            begin = server.wait_state("STATUS=serving 0 of 100 connections, 2 workers")
            clients = [server.connect() for _ in range(3)]
            for client in clients:
                client.sendall(b"half")
                self.addCleanup(client.close)
            server.wait_stats(lambda stats: stats["open"] == 3)
            next_one = server.wait_state("STATUS=serving 3 of 100 connections, 2 workers")
            self.assertGreater(next_one - begin, 9.9)
            self.assertEqual(server.values("EXTEND_TIMEOUT_USEC"), [])
            server.process.send_signal(signal.SIGTERM)
            stopping = server.wait_state("STOPPING=1")
            server.wait_status(r"serving 3 of 100 connections, 2 workers, draining in \d+ s", after=stopping)
            server.wait_status(r"draining, 3 left, (60|[1-5]\d) s", after=stopping)
            for _, text in server.states[[text for _, text in server.states].index("STOPPING=1") + 1:]:
                self.assertRegex(text, r"\ASTATUS=[^\n]+\nEXTEND_TIMEOUT_USEC=30000000\Z")
            for client in clients:
                client.sendall(b"\0")
                client.shutdown(socket.SHUT_WR)
                receive_all(client)
            server.finish()

    def test_models(self):
        """The other models report the same states, and their status names no workers."""
        for model in ("iterative", "thread", "fork"):
            with self.subTest(model), Supervised(XCHG_MODEL=model, XCHG_MAX_CONNECTIONS="50", watchdog=0.4) as server:
                server.wait_state("STATUS=serving 0 of 50 connections")
                server.wait_state("WATCHDOG=1", after=server.wait_state("WATCHDOG=1"))
                with server.connect() as client:
                    greet(client)
                server.wait_stats(lambda stats: (stats["finished"], stats["open"]) == (1, 0))  # a child may not be reaped yet
                server.terminate(timeout=LIMIT)
                server.wait_status(r"draining, 0 left, \d+ s", after=server.wait_state("STOPPING=1"))

    def test_more_time(self):
        """The server gets the time that it asks for, also beyond TimeoutStopSec; a server that asks for none is killed."""
        for notify, code in ((None, 0), ("", -signal.SIGKILL)):
            more = {} if notify is None else {"NOTIFY_SOCKET": notify}
            with self.subTest(code), Supervised(XCHG_DRAIN_TIMEOUT=ms(3), XCHG_MESSAGE_TIMEOUT="0", XCHG_STOP_GRACE="0", **more) as server:
                with server.connect() as client:
                    client.sendall(b"half")
                    self.assertEqual(receive_exactly(client, len(GREETING)), GREETING)
                    server.wait_stats(lambda stats: stats["messages"] == 0 and stats["open"] == 1)
                    totals = server.terminate(timeout=0.2, expect=code)
                    if code == 0:
                        self.assertEqual(totals["cut"], 1)

    def test_full_queue(self):
        """A manager that does not read never blocks the server: it serves, answers signals and stops."""
        with Supervised(reading=False, watchdog=0.004) as server:
            server.wait_full()
            for _ in range(3):
                with server.connect() as client:
                    greet(client)
                server.stats()
            self.assertEqual(server.stop()["finished"], 3)

    def test_late_reader(self):
        """Of what did not fit, the states are sent in their order, once, when the manager reads again."""
        with Supervised(reading=False, watchdog=0.004, XCHG_DRAIN_TIMEOUT="1m", XCHG_MESSAGE_TIMEOUT="0") as server:
            server.wait_full()
            with server.connect() as client:
                self.assertEqual(receive_exactly(client, len(GREETING)), GREETING)
                client.sendall(b"half")
                server.process.send_signal(signal.SIGTERM)
                self.assertEqual(server.wait_line("NOTIFY_SOCKET is full: sending later")["state"], "STOPPING=1")
                server.read()
                stopping = server.wait_state("STOPPING=1")
                server.wait_state("WATCHDOG=1", after=stopping)
                server.wait_status(r"draining, 1 left, \d+ s", after=stopping)
                self.assertEqual(server.wait_line("sent to NOTIFY_SOCKET")["state"], "STOPPING=1")
                client.sendall(b"\0")
                receive_all(client)
            server.finish()
            self.assertEqual((len(server.messages_with("READY=1")), len(server.messages_with("STOPPING=1"))), (1, 1))


class Watchdog(FolderTest):
    EVERY = 0.4 * SLOW  # WATCHDOG_USEC; a quarter of it is the interval

    def setUp(self):
        super().setUp()
        self.fifo = self.path("fifo")
        os.mkfifo(self.fifo)

    @contextlib.contextmanager
    def blocked(self, server):
        """A callback blocks its worker until the block ends."""
        with server.connect() as client:
            self.assertEqual(receive_exactly(client, 6), b"hello\n")
            client.sendall(f"hold {self.fifo}\n".encode())
            with open(self.fifo, "wb"):
                yield
            self.assertEqual(receive_exactly(client, 5), b"held\n")

    def test_interval(self):
        """A message each quarter of the time, so that none is missed."""
        for abstract in (False, True):
            with self.subTest(abstract=abstract), Supervised(watchdog=8 * self.EVERY, abstract=abstract) as server:
                times = [server.wait_state("WATCHDOG=1")]
                while len(times) < 4:
                    times.append(server.wait_state("WATCHDOG=1", after=times[-1]))
                gaps = [b - a for a, b in zip(times, times[1:])]
                self.assertGreater(min(gaps), 1.5 * self.EVERY, gaps)
                self.assertLess(max(gaps), 8 * self.EVERY, gaps)
                server.terminate(timeout=LIMIT)

    def test_stalled_thread(self):
        """None while a callback blocks a turn longer than XCHG_STALL, and again afterwards. The log says both."""
        with Supervised(watchdog=self.EVERY, XCHG_HANDLER=HOLDER, XCHG_STALL="1s", XCHG_WORKERS="2") as server:
            server.wait_state("WATCHDOG=1")
            with self.blocked(server):
                line = server.wait_line("WATCHDOG=1 is not sent: a thread is stalled")
                self.assertRegex(line["stalled"], r"\Axchg-work-[01] [1-9]\d*s\Z")
                silent = time.monotonic()
                self.assertFalse(self.came(server, silent, 5 * self.EVERY))
            server.wait_state("WATCHDOG=1", after=silent)
            server.wait_line("WATCHDOG=1 is sent again")
            server.terminate(timeout=LIMIT)

    def came(self, server, after, seconds):
        """Does a message come within this time?"""
        try:
            server._wait_notified(lambda: server.messages_with("WATCHDOG=1", after), "message", seconds)
            return True
        except AssertionError:
            return False

    def test_blocked_but_not_stalled(self):
        """With XCHG_STALL=0, and in the models where a callback has a thread or the only thread, the messages go on."""
        for variables in ({"XCHG_STALL": "0", "XCHG_WORKERS": "1"}, {"XCHG_STALL": "1s", "XCHG_MODEL": "thread"},
                          {"XCHG_STALL": "1s", "XCHG_MODEL": "iterative"}):
            with self.subTest(variables), Supervised(watchdog=self.EVERY, XCHG_HANDLER=HOLDER, **variables) as server:
                with self.blocked(server):
                    begin = time.monotonic()
                    while time.monotonic() < begin + 1.5:
                        server.wait_state("WATCHDOG=1", after=time.monotonic())
                self.assertEqual(server.messages("WATCHDOG=1 is not sent: a thread is stalled"), [])
                server.terminate(timeout=LIMIT)

    def test_drain(self):
        """The messages go on in the drain delay and in the drain."""
        with Supervised(watchdog=self.EVERY, XCHG_DRAIN_DELAY=ms(1), XCHG_MESSAGE_TIMEOUT="0", XCHG_DRAIN_TIMEOUT="1m") as server:
            with server.connect() as client:
                self.assertEqual(receive_exactly(client, len(GREETING)), GREETING)
                client.sendall(b"half")
                server.process.send_signal(signal.SIGTERM)
                stopping = server.wait_state("STOPPING=1")
                server.wait_state("WATCHDOG=1", after=stopping)
                server.wait_status(r"draining, 1 left, \d+ s", after=stopping)
                now = time.monotonic()
                for _ in range(3):
                    now = server.wait_state("WATCHDOG=1", after=now)
                client.sendall(b"\0")
                self.assertEqual(receive_all(client), b"")
            server.finish()

    def test_not_for_us(self):
        """Without WATCHDOG_USEC, with one that is no number, and for another process there are no messages."""
        for watchdog, pid, warned in ((None, "own", 0), ("0", "own", 1), ("1s", "own", 1), (0.01, 1, 0), (0.01, "x", 1)):
            with self.subTest(watchdog=watchdog, pid=pid), Supervised(watchdog=watchdog, watchdog_pid=pid) as server:
                server.wait_status(r"serving .*")
                self.assertEqual(len([line for line in server.lines if "is not a number: WATCHDOG=1" in line]), warned)
                server.terminate(timeout=LIMIT)
                server.wait_state("STOPPING=1")
                self.assertEqual(server.messages_with("WATCHDOG=1"), [])

    def test_own_variable_is_optional(self):
        """Without WATCHDOG_PID the watchdog is for this process (sd_watchdog_enabled(3))."""
        with Supervised(watchdog=self.EVERY, watchdog_pid="none") as server:
            server.wait_state("WATCHDOG=1")
            server.terminate(timeout=LIMIT)


if __name__ == "__main__":
    unittest.main()
