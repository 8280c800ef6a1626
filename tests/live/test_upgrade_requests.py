"""Goal: xchgd --upgrade gives a server other settings, and only its own user and root can ask for that."""

import contextlib
import os
import resource
import socket
import threading
import unittest

from upgrade import MODE, PAUSED, PausedTest, UpgradeTest, exchange
from xchgd import LIMIT, is_closed, numbers, receive_exactly, run


class Asking:
    """Mixed into UpgradeTest: xchgd --upgrade."""

    def setUp(self):
        super().setUp()
        self.at = f"unix:{self.path('upgrade')}"

    def ask(self, server, expect=0, preexec=None, **changes):
        variables = {"XCHG_UPGRADE": self.at, "XCHG_EXCHANGE": "echo", "XCHG_LISTEN": "127.0.0.1:0", "XCHG_STOP_GRACE": "0",
                     "XCHG_IDLE_TIMEOUT": "0", "XCHG_LINGER": "0", "XCHG_SANDBOX": MODE, **changes}
        result = run("--upgrade", preexec=preexec, **variables)
        self.assertEqual(result.returncode, expect, result.stdout + result.stderr + "\n".join(server.lines[-20:] if server else []))
        return result

    def send(self, rest="\0", fds=(), **changes):
        """Send a request without xchgd --upgrade. Return: the answer."""
        variables = {"XCHG_UPGRADE": self.at, "XCHG_EXCHANGE": "echo", "XCHG_LISTEN": "127.0.0.1:0", "XCHG_SANDBOX": MODE, **changes}
        texts = "\0".join(f"{name}={value}" for name, value in variables.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asker:
            asker.settimeout(LIMIT)
            asker.connect(self.path("upgrade"))
            socket.send_fds(asker, [(texts + rest).encode()], fds)
            return asker.recv(1 << 16).decode()


class Requests(Asking, UpgradeTest):
    def test_new_settings(self):
        server = self.server(XCHG_UPGRADE=self.at)
        clients = self.clients(server, 20)
        before = os.stat(self.path("upgrade"))
        self.assertEqual(before.st_mode & 0o777, 0o600)
        result = self.ask(server, XCHG_WORKERS="3", XCHG_IDLE_TIMEOUT="300ms")
        self.assertEqual(result.stdout, "upgraded; changed variables: XCHG_WORKERS XCHG_IDLE_TIMEOUT\n")
        server.followed()
        self.assertEqual(len([name for name in server.threads() if name.startswith("xchg-work")]), 3)
        for client in clients:
            self.assertTrue(is_closed(client))
        self.assertEqual(server.stats()["closed_idle"], 20)
        self.ask(server, XCHG_WORKERS="1")
        server.followed()
        self.assertEqual(os.stat(self.path("upgrade")).st_ino, before.st_ino)  # it was never bound again
        server.end()
        self.assertFalse(os.path.exists(self.path("upgrade")))

    def test_another_exchange(self):
        """Connections stay with the old process until XCHG_DRAIN_TIMEOUT."""
        server = self.server(XCHG_UPGRADE=self.at, XCHG_DRAIN_TIMEOUT="1s")
        clients = self.clients(server, 5)
        self.ask(server, XCHG_FRAME="line", XCHG_DRAIN_TIMEOUT="1s")
        self.assertEqual(server.wait_line("connections stay with the old process")["reason"], "another exchange")
        exchange(clients[0], b"old")
        with server.connect() as new:
            new.sendall(b"a line\n")
            self.assertEqual(receive_exactly(new, 7), b"a line\n")
        for client in clients:
            self.assertTrue(is_closed(client))
        server.followed()
        totals = server.wait_stats(lambda values: values["open"] == 0)
        self.assertEqual((totals["accepted"], totals["closed_drain"], totals["finished"]), (6, 5, 1))
        server.end()

    def test_refused_connections(self):
        """Connections with a PROXY header stay if the new process has no listener for any; all others move."""
        variables = {"XCHG_PROXY_TRUST": "127.0.0.1", "XCHG_DRAIN_TIMEOUT": "1s"}
        server = self.server(XCHG_UPGRADE=self.at, XCHG_LISTEN="127.0.0.1:0;proxy=v1,127.0.0.1:0", **variables)
        proxied, plain = ([server.connect(address=address) for _ in range(10)] for address in server.addresses)
        for client in proxied + plain:
            self.addCleanup(client.close)
        for client in proxied:
            client.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\n")
        for client in proxied + plain:
            exchange(client, b"x")
        self.ask(server, XCHG_LISTEN="127.0.0.1:0,127.0.0.1:0", **variables)
        stays = server.wait_line("connections stay with the old process")
        self.assertEqual((stays["count"], stays["reason"]), ("10", "the new process has refused it"))
        for client in proxied:
            self.assertTrue(is_closed(client))
        fields = server.followed()
        self.assertEqual((fields["moved"], fields["stayed"]), ("10", "10"))
        for client in plain:
            exchange(client, b"y")
        server.end()

    def test_a_late_failure(self):
        """The answer says which step failed and why."""
        server = self.server(program=PAUSED, UPGRADE_TEST="new 6 1 crash", XCHG_UPGRADE=self.at)
        self.clients(server, 20)
        self.assertIn("at step 'canary': the new process has ended", self.ask(server, 71).stderr)
        self.assertEqual(server.turned_back()["status"], "signal 11")

    def test_refusals(self):
        server = self.server(XCHG_UPGRADE=self.at)
        self.clients(server, 3)
        self.assertIn("no address of XCHG_LISTEN would stay", self.ask(server, 78, XCHG_LISTEN="127.0.0.1:1").stderr)
        self.assertIn("want integer", self.ask(server, 78, XCHG_WORKERS="none").stderr.replace("want an", "want"))
        self.assertIn("XCHG_MODEL", self.ask(server, 78, XCHG_MODEL="fork").stderr)
        self.assertIn("XCHG_UPGRADE", self.ask(server, 78, XCHG_UPGRADE="on").stderr)
        self.ask(None, 69, XCHG_UPGRADE=f"unix:{self.path('nobody')}")
        self.assertIn("want at most", self.ask(server, 78, XCHG_GREETING=128 * 1024 * "x", XCHG_REPLY="none").stderr) \
            if resource.getrlimit(resource.RLIMIT_STACK)[0] > 8 << 20 else None
        self.assertEqual(server.messages("upgrading"), [])
        self.assertEqual(server.stats()["open"], 3)
        server.end()

    def test_strangers(self):
        """Garbage, silence and packets that are no request change nothing."""
        server = self.server(XCHG_UPGRADE=self.at)
        self.clients(server, 3)
        for data in (b"", b"x", b"XCHGUPGR" + bytes(16), os.urandom(100000)):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
                stranger.settimeout(LIMIT)
                stranger.connect(self.path("upgrade"))
                stranger.sendall(data)
                with contextlib.suppress(ConnectionResetError):
                    stranger.recv(4096)
        self.ask(server)
        self.assertEqual(numbers(server.followed())["moved"], 3)
        server.end()

    def test_requests_that_xchgd_would_not_send(self):
        server = self.server(XCHG_UPGRADE=self.at)
        self.assertRegex(self.send(fds=[0]), "^78 request: it has descriptors")
        self.assertRegex(self.send(""), "^78 request: it is no list of variables")
        self.assertRegex(self.send("\0PATH=/bin\0"), "^78 request: it is no list of variables")
        self.assertRegex(self.send("\0XCHG_WORKERS\0"), "^78 request: it is no list of variables")
        self.assertRegex(self.send(XCHG_WORKERS="none"), "^78 request: the configuration has a fault")
        self.assertRegex(self.send(XCHG_UPGRADE="off"), "^78 request: XCHG_UPGRADE must not be off")
        self.assertRegex(self.send(XCHG_MODEL="fork"), "^78 request: XCHG_MODEL must be pool")
        self.assertRegex(self.send(XCHG_USER="1"), "^78 request: XCHG_USER must be the user of the server")
        self.assertEqual(len(server.messages("upgrading")), 0)
        before = os.stat(self.path("upgrade")).st_ino
        self.assertRegex(self.send(), "^0 ")
        server.followed()
        self.assertEqual(os.stat(self.path("upgrade")).st_ino, before)
        self.assertRegex(self.send(XCHG_UPGRADE=f"unix:{self.path('another')}"), "^0 XCHG_UPGRADE$")
        server.followed()
        self.assertFalse(os.path.exists(self.path("upgrade")))
        self.assertEqual(os.stat(self.path("another")).st_mode & 0o777, 0o600)
        server.end()
        self.assertFalse(os.path.exists(self.path("another")))

    def test_a_port_below_1024(self):
        """The server may keep the right to bind one; another user's request must not use it."""
        user = (lambda: (os.setgid(65534), os.setuid(65534))) if os.getuid() == 0 else None
        os.chmod(self.folder, 0o777)
        server = self.server(XCHG_UPGRADE=self.at, XCHG_ADMIN=f"unix:{self.path('admin')}", preexec=user)
        for changes in ({"XCHG_LISTEN": "127.0.0.1:0,127.0.0.1:1023"}, {"XCHG_ADMIN": "127.0.0.1:1"}):
            self.assertIn("only root may add a port below 1024", self.ask(server, 69, user, **changes).stderr)
        server.end()

    @unittest.skipIf(os.getuid() != 0, "only root can become another user")
    def test_a_server_that_has_changed_its_user(self):
        """Its user can ask, again and again, although the user cannot write to the folder of the socket."""
        os.chmod(self.folder, 0o755)
        user = "65534"
        server = self.server(XCHG_UPGRADE=self.at, XCHG_USER=user)
        before = os.stat(self.path("upgrade"))
        self.assertEqual((before.st_uid, before.st_gid, before.st_mode & 0o777), (65534, 65534, 0o600))
        for asker in (lambda: (os.setgid(65534), os.setuid(65534)), None, lambda: (os.setgid(65534), os.setuid(65534))):
            self.ask(server, preexec=asker, XCHG_USER=user)
            server.followed()
            self.assertEqual(os.stat(self.path("upgrade")).st_ino, before.st_ino)
        self.ask(server, 78, XCHG_USER="1")
        server.end()

    @unittest.skipIf(os.getuid() != 0, "only root can become another user")
    def test_another_user(self):
        server = self.server(XCHG_UPGRADE=self.at)
        os.chmod(self.folder, 0o755)
        self.ask(server, 77, preexec=lambda: os.setuid(65534))
        os.chmod(self.path("upgrade"), 0o666)
        self.assertIn("another user", self.ask(server, 77, preexec=lambda: os.setuid(65534)).stderr)
        self.assertEqual(server.wait_line("upgrade refused")["uid"], "65534")
        server.end()


class Addresses(Asking, PausedTest):
    """What listens before an upgrade and after it."""

    def test_a_request_during_an_upgrade(self):
        """It is refused before it is looked at, and the socket is never away."""
        server = self.paused("new 9 1 pause", XCHG_UPGRADE=self.at)
        asked = threading.Thread(target=self.ask, args=(server,))
        asked.start()
        server.wait_line("point")
        self.assertRegex(self.send(XCHG_WORKERS="none"), "^75 request: another upgrade is under way")
        self.go_on()
        asked.join()
        server.followed()
        self.assertRegex(self.send(XCHG_WORKERS="none"), "^78 ")

    def test_addresses_that_are_gone(self):
        """The old process stops their listeners as at a stop, with their queues; the new one keeps no socket of them."""
        path, admin = self.path("data"), self.path("admin")
        server = self.paused("old 9 1 pause", XCHG_UPGRADE=self.at, XCHG_LISTEN=f"127.0.0.1:0,127.0.0.1:0,unix:{path}", XCHG_ADMIN=f"unix:{admin}")
        gone = server.addresses[1:]
        clients = self.clients(server, 5)
        asked = threading.Thread(target=self.ask, args=(server,))  # it keeps the first address only
        asked.start()
        server.wait_line("point")
        queued = [server.connect(address=address) for address in gone]
        for client in queued:
            self.addCleanup(client.close)
            client.sendall(b"queued")
        self.go_on()
        for client in queued:
            self.assertEqual(receive_exactly(client, 6), b"queued")
            client.close()
        asked.join()
        server.followed()
        host, port = gone[0].rsplit(":", 1)
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), LIMIT)
        self.assertFalse(os.path.exists(path))
        self.assertFalse(os.path.exists(admin))
        for client in clients:
            exchange(client, b"x")
        server.wait_stats(lambda values: (values["accepted"], values["open"], values["finished"]) == (7, 5, 2))
        server.end()


if __name__ == "__main__":
    unittest.main()
