"""Goal: a service manager and a client of the admin endpoint see one server through an upgrade, and the endpoint says that one runs."""

import json
import os
import re
import signal
import time
import unittest

from call_filter import unit_filter
from endpoint import Asker
from supervisor import Supervised, tcp_listener, unix_listener
from test_upgrade_signals import HOLDER
from upgrade import MODE, PausedTest, Upgradable, UpgradeEndpoint, UpgradeTest, exchange, lives
from xchgd import LIMIT, PLAIN, check_totals, is_closed, numbers, receive_exactly, run


class UpgradeSupervised(Upgradable, Supervised):
    def refused(self):
        """Messages that a manager with NotifyAccess=main refuses."""
        return [text for _, text in self.states if "may not send" in text]

    def reports(self):
        """The messages that change what the manager knows, without the time of a reload."""
        return [text.split("\nMONOTONIC_USEC=")[0] for _, text in self.states if re.match("READY|RELOADING|MAINPID|STOPPING", text)]


class Manager(UpgradeTest):
    def test_process_id(self):
        """MAINPID= comes before anything that the child reports, and again before the server has its old process id.

        For the manager the upgrade is a reload: it begins before the child starts, and ends when the child is the server. When the
        child has ended, the process with the id of the server says so again, then it sends status and watchdog.
        """
        server = self.server(UpgradeSupervised, watchdog=1, XCHG_WORKERS="1", XCHG_MAX_CONNECTIONS="100")
        self.clients(server, 5)
        expected = ["READY=1"]
        for _ in range(3):
            before = time.monotonic()
            child = server.upgrade()["child"]
            end = server.wait_state(f"MAINPID={server.pid}", after=before)
            server.wait_state("STATUS=serving 5 of 100 connections, 1 worker", after=end)
            server.wait_state("WATCHDOG=1", after=end)
            begin = server.values("MONOTONIC_USEC")[-1][1]
            self.assertTrue(before <= int(begin) / 1e6 + 1e-6 <= end, begin)
            expected += ["RELOADING=1", f"MAINPID={child}", "READY=1", f"MAINPID={server.pid}", "READY=1"]
        server.end()
        server.wait_state("STOPPING=1")
        self.assertEqual((server.reports(), server.refused()), ([*expected, "STOPPING=1"], []))

    def test_connections_that_stay(self):
        """The old process reports nothing while it serves them, and comes back when they have ended."""
        server = self.server(UpgradeSupervised, watchdog=0.4, XCHG_HANDLER=HOLDER, XCHG_EXCHANGE=None)
        with server.connect() as client:
            self.assertEqual(receive_exactly(client, 6), b"hello\n")
            server.signal(signal.SIGUSR2)
            server.followed_to_child(None)
            after = server.wait_state(f"MAINPID={server.now}")
            for _ in range(5):
                after = server.wait_state("WATCHDOG=1", after=after)
            self.assertEqual(server.messages("returning"), [])
            client.sendall(b"x\n")
            self.assertEqual(receive_exactly(client, 2), b"x\n")
        server.returned()
        after = server.wait_state(f"MAINPID={server.pid}")
        server.wait_state("WATCHDOG=1", after=after)
        server.end()
        self.assertEqual(server.refused(), [])

    def test_full_queue(self):
        """Neither process gives up its place before the manager knows the other one, and the reload ends for the manager.

        READY=1 of the child may come before MAINPID= of the old process, and is refused then.
        """
        server = self.server(UpgradeSupervised, reading=False)
        client, = self.clients(server, 1)
        server.wait_full()
        server.signal(signal.SIGUSR2)
        child = server.followed_to_child(None)["child"]
        server.wait_line("NOTIFY_SOCKET is full: sending later")
        exchange(client, b"served")
        self.assertEqual(server.messages("returning"), [])
        server.read()
        server.returned()
        server.wait_state(f"MAINPID={server.pid}")
        exchange(client, b"served")
        server.end()
        server.wait_state("STOPPING=1")
        begin, end = ["READY=1", "RELOADING=1", f"MAINPID={child}"], [f"MAINPID={server.pid}", "READY=1", "STOPPING=1"]
        self.assertIn(server.reports(), (begin + end, [*begin, "READY=1", *end]))

    def test_reload(self):
        """As the units of docs/deploy/systemd: systemd passes the sockets, and a reload runs xchgd --upgrade without them."""
        at, admin = f"unix:{self.path('upgrade')}", self.path("admin")
        with tcp_listener() as data, unix_listener(admin) as commands:
            server = self.server(UpgradeSupervised, sockets=[("data", data), ("admin", commands)], XCHG_UPGRADE=at)
            client, = self.clients(server, 1)
            for workers in ("3", "1"):
                settings = {name: "0" for name in ("XCHG_STOP_GRACE", "XCHG_IDLE_TIMEOUT", "XCHG_LINGER")}
                result = run("--upgrade", XCHG_UPGRADE=at, XCHG_EXCHANGE="echo", XCHG_SANDBOX=MODE, XCHG_WORKERS=workers, **settings)
                self.assertEqual((result.returncode, result.stderr), (0, ""))
                server.followed()
                server.wait_state(f"MAINPID={server.pid}")
                exchange(client, b"served")
                self.clients(server, 1)
                with Asker(server.connect(address=f"unix:{admin}")) as asker:
                    self.assertEqual(len(json.loads(asker.ask("/stats").text)["workers"]), int(workers))
            server.end()
        self.assertEqual(server.refused(), [])

    @unittest.skipUnless(PLAIN, "a sanitizer makes calls of its own")
    def test_filter_of_the_units(self):
        """Their SystemCallFilter= allows all that upgrades need, and an upgrade changes no restriction."""
        wrap = unit_filter()
        if os.geteuid() == 0:
            wrap = ["setpriv", "--reuid=65532", "--regid=65531", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all", *wrap]
            os.chmod(self.folder, 0o777)
        server = self.server(wrap=wrap, XCHG_LISTEN=f"127.0.0.1:0,unix:{self.path('data')}", XCHG_UPGRADE=f"unix:{self.path('upgrade')}")
        clients = self.clients(server, 20)
        for _ in range(3):
            server.upgrade()
            self.assertTrue(all(map(lives, clients)))
        server.end()
        self.assertEqual([line for line in server.remarks() if "level=warn" in line or "level=error" in line], [])
        self.assertEqual(len({tuple(sorted(fields.items() - {("time", fields["time"])})) for fields in server.messages("sandbox")}), 1)


class Paused(PausedTest):
    def test_watchdog(self):
        """The child sends it while connections return, however long that takes."""
        server, _, child = self.at_point("parent", 4, "pause", clients=5, kind=UpgradeSupervised, watchdog=0.2)
        after = server.wait_state(f"MAINPID={child}")
        for _ in range(8):
            after = server.wait_state("WATCHDOG=1", after=after)
        self.go_on()
        server.followed()
        after = server.wait_state(f"MAINPID={server.pid}")
        for _ in range(2):
            after = server.wait_state("WATCHDOG=1", after=after)
        server.end()
        self.assertEqual(server.refused(), [])

    def test_turned_back(self):
        """The manager hears nothing of the new process, and the old one goes on. The reload is over."""
        server = self.paused("new 9 1 crash", UpgradeSupervised, watchdog=0.4)
        self.clients(server, 5)
        server.signal(signal.SIGUSR2)
        server.turned_back()
        after = server.wait_state("WATCHDOG=1", after=server.wait_state("WATCHDOG=1"))
        server.wait_state("WATCHDOG=1", after=after)
        self.assertEqual((server.reports(), server.refused()), (["READY=1", "RELOADING=1", "READY=1"], []))

    def test_endpoint(self):
        """The state is `upgrading`, and the server is ready."""
        server = self.paused("new 3 1 pause", UpgradeEndpoint, self.path("admin"), XCHG_UPGRADE_TIMEOUT="2s")
        client, = self.clients(server, 1)
        server.signal(signal.SIGUSR2)
        server.wait_line("point")
        self.assertEqual(self.state(server), ("upgrading", True))
        self.assertEqual(server.ask("/readyz", unix=self.path("admin")).status, 200)
        server.turned_back()
        while self.state(server)[0] == "upgrading":  # until main has set it
            pass
        self.assertEqual(self.state(server), ("serving", True))
        self.assertTrue(lives(client))

    def test_endpoint_in_the_return(self):
        """It is the child's. What a command has set there holds afterwards."""
        server, clients, _ = self.at_point("parent", 4, "pause", clients=3, kind=UpgradeEndpoint, path=self.path("admin"), XCHG_DRAIN_TIMEOUT="0")
        self.assertEqual(self.state(server), ("upgrading", True))
        self.assertEqual(server.ask("/ready?state=off", "POST").status, 200)
        self.go_on()
        server.followed()
        self.assertEqual(self.state(server), ("serving", False))
        self.assertTrue(all(lives(client) for client in clients))
        server.ask("/drain", "POST")
        self.assertEqual(server.process.wait(LIMIT), 0)

    def test_drain_in_the_return(self):
        """It is a stop of the server."""
        server, clients, child = self.at_point("parent", 4, "pause", clients=3, kind=UpgradeEndpoint, path=self.path("admin"), XCHG_DRAIN_TIMEOUT="0")
        server.ask("/drain", "POST")
        self.go_on()
        self.assertEqual(server.process.wait(LIMIT), 0)
        self.assertEqual(len(server.messages("stopping")), 1)
        totals = numbers(server.wait_line("stopped"))
        check_totals(totals)
        self.assertEqual(totals["accepted"], 3)
        self.assertTrue(all(is_closed(client) for client in clients))

    def state(self, server):
        stats = json.loads(server.ask("/stats", unix=self.path("admin")).text)
        return stats["state"], stats["ready"]


class Admin(UpgradeTest):
    def test_connection_ends(self):
        """One that is kept alive would show old totals."""
        server = self.server(UpgradeEndpoint, self.path("admin"), XCHG_HANDLER=HOLDER, XCHG_EXCHANGE=None)
        client = server.connect()
        self.addCleanup(client.close)
        self.assertEqual(receive_exactly(client, 6), b"hello\n")
        with server.unix_asker() as asker:
            self.assertEqual(asker.ask("/readyz").status, 200)
            server.signal(signal.SIGUSR2)
            server.followed_to_child(None)
            self.assertTrue(is_closed(asker.socket))
        self.assertEqual(server.metric("xchg_connections_open"), 1)  # the old process serves it
        with server.unix_asker() as asker:
            self.assertEqual(asker.ask("/readyz").status, 200)
            client.close()
            server.returned()
            self.assertTrue(is_closed(asker.socket))
        self.assertEqual(server.metric("xchg_connections_open"), 0)
        server.end()


if __name__ == "__main__":
    unittest.main()
