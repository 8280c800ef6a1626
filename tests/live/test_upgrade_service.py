"""Goal: a service manager and a client of the admin endpoint see one server through an upgrade, and the endpoint says that one runs."""

import json
import signal
import unittest

from endpoint import Asker
from supervisor import Supervised, tcp_listener, unix_listener
from test_upgrade_signals import HOLDER
from upgrade import MODE, PausedTest, Upgradable, UpgradeEndpoint, UpgradeTest, exchange, lives
from xchgd import LIMIT, is_closed, receive_exactly, run


class UpgradeSupervised(Upgradable, Supervised):
    def refused(self):
        """Messages that a manager with NotifyAccess=main refuses."""
        return [text for _, text in self.states if "may not send" in text]


class Manager(UpgradeTest):
    def test_process_id(self):
        """MAINPID= comes before anything that the new process reports; it then sends status and watchdog."""
        server = self.server(UpgradeSupervised, watchdog=1, XCHG_WORKERS="1", XCHG_MAX_CONNECTIONS="100")
        self.clients(server, 5)
        for _ in range(3):
            child = server.upgrade()["child"]
            begin = server.wait_state(f"MAINPID={child}")
            server.wait_state("STATUS=serving 5 of 100 connections, 1 worker", after=begin)
            server.wait_state("WATCHDOG=1", after=begin)
        server.end()
        server.wait_state("STOPPING=1")
        self.assertEqual((len(server.values("MAINPID")), len(server.messages_with("READY=1")), server.refused()), (3, 1, []))

    def test_connections_that_stay(self):
        """The old process reports nothing while it serves them."""
        server = self.server(UpgradeSupervised, watchdog=0.4, XCHG_HANDLER=HOLDER, XCHG_EXCHANGE=None)
        with server.connect() as client:
            self.assertEqual(receive_exactly(client, 6), b"hello\n")
            server.signal(signal.SIGUSR2)
            server.followed(None)
            after = server.wait_state(f"MAINPID={server.now}")
            for _ in range(5):
                after = server.wait_state("WATCHDOG=1", after=after)
            self.assertIsNone(server.process.poll())
            client.sendall(b"x\n")
            self.assertEqual(receive_exactly(client, 2), b"x\n")
        self.assertEqual(server.process.wait(LIMIT), 0)
        server.end()
        self.assertEqual(server.refused(), [])

    def test_full_queue(self):
        """The old process does not end before the manager knows the new one."""
        server = self.server(UpgradeSupervised, reading=False)
        client, = self.clients(server, 1)
        server.wait_full()
        server.signal(signal.SIGUSR2)
        server.followed(None)
        line = server.wait_for(lambda _: [fields for fields in server.messages("NOTIFY_SOCKET is full: sending later") if "MAINPID" in fields["state"]])
        self.assertEqual(line[0]["state"], f"MAINPID={server.now}")
        exchange(client, b"served")
        self.assertIsNone(server.process.poll())
        server.read()
        server.wait_state(f"MAINPID={server.now}")
        self.assertEqual(server.process.wait(LIMIT), 0)
        server.end()


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
                server.wait_state(f"MAINPID={server.now}")
                exchange(client, b"served")
                self.clients(server, 1)
                with Asker(server.connect(address=f"unix:{admin}")) as asker:
                    self.assertEqual(len(json.loads(asker.ask("/stats").text)["workers"]), int(workers))
            server.end()
        self.assertEqual(server.refused(), [])


class TurnedBack(PausedTest):
    def test_manager(self):
        """It hears nothing of the new process, and the old one goes on."""
        server = self.paused("new 9 1 crash", UpgradeSupervised, watchdog=0.4)
        self.clients(server, 5)
        server.signal(signal.SIGUSR2)
        server.turned_back()
        after = server.wait_state("WATCHDOG=1", after=server.wait_state("WATCHDOG=1"))
        server.wait_state("WATCHDOG=1", after=after)
        self.assertEqual((server.values("MAINPID"), server.refused()), ([], []))

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
            server.followed(None)
            self.assertTrue(is_closed(asker.socket))
        self.assertEqual(server.metric("xchg_connections_open"), 1)
        self.assertIsNone(server.process.poll())  # it serves what has stayed
        client.close()
        self.assertEqual(server.process.wait(LIMIT), 0)
        server.end()


if __name__ == "__main__":
    unittest.main()
