"""Goal: xchgd --upgrade gives a server other settings, and only its own user and root can ask for that."""

import contextlib
import os
import resource
import shutil
import signal
import socket
import threading
import unittest

from fault_matrix import covers_fault
from upgrade import MODE, PAUSED, PausedTest, UpgradeTest, exchange
from xchgd import LIMIT, PROGRAM, is_closed, numbers, receive_exactly, run


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
    @covers_fault(39)
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

    def test_one_after_the_other(self):
        """A request that comes before the return is over waits for it."""
        server = self.server(XCHG_UPGRADE=self.at)
        clients = self.clients(server, 20)
        for workers in ("1", "2", "3", "1"):
            self.ask(server, XCHG_WORKERS=workers)
        for _ in range(4):
            server.followed()
        for client in clients:
            exchange(client, b"x")
        server.end()

    def test_another_exchange(self):
        """Connections stay with the old process until XCHG_DRAIN_TIMEOUT."""
        server = self.server(XCHG_UPGRADE=self.at, XCHG_DRAIN_TIMEOUT="1s")
        clients = self.clients(server, 5)
        result = self.ask(server, XCHG_FRAME="line", XCHG_DRAIN_TIMEOUT="1s")
        self.assertEqual(result.stdout, "upgraded; changed variables: XCHG_FRAME; connections that stay: 5 (another exchange)\n")
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

    def proxied(self, server, count, address):
        """Clients whose connections began with a PROXY header."""
        found = [server.connect(address=address) for _ in range(count)]
        for client in found:
            self.addCleanup(client.close)
            client.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\n")
            exchange(client, b"x")
        return found

    def test_refused_connections(self):
        """Connections with a PROXY header stay if the new process has no listener for any; all others move."""
        variables = {"XCHG_PROXY_TRUST": "127.0.0.1", "XCHG_DRAIN_TIMEOUT": "1s"}
        server = self.server(XCHG_UPGRADE=self.at, XCHG_LISTEN="127.0.0.1:0,127.0.0.1:0;proxy=v1", **variables)
        plain = self.clients(server, 10)
        proxied = self.proxied(server, 10, server.addresses[1])
        result = self.ask(server, XCHG_LISTEN="127.0.0.1:0,127.0.0.1:0", **variables)
        self.assertEqual(result.stdout, "upgraded; changed variables: XCHG_LISTEN; connections that stay: 10 (the new process has refused them)\n")
        stays = server.wait_line("connections stay with the old process")
        self.assertEqual((stays["count"], stays["reason"]), ("10", "the new process has refused them"))
        for client in proxied:
            self.assertTrue(is_closed(client))
        fields = server.followed()
        self.assertEqual((fields["moved"], fields["stayed"]), ("10", "10"))
        for client in plain:
            exchange(client, b"y")
        server.end()

    def test_all_connections_are_refused(self):
        """Nothing has moved, so nothing is lost if the upgrade is turned back."""
        server = self.server(XCHG_UPGRADE=self.at, XCHG_LISTEN="127.0.0.1:0;proxy=v1", XCHG_PROXY_TRUST="127.0.0.1")
        clients = self.proxied(server, 20, server.addresses[0])
        self.assertIn("the new process takes no connection", self.ask(server, 71, XCHG_PROXY_TRUST="127.0.0.1").stderr)
        for client in clients:
            exchange(client, b"y")
        self.assertEqual(server.stats()["open"], 20)
        server.end()

    def test_a_late_failure(self):
        """The answer says which step failed and why."""
        server = self.server(program=PAUSED, UPGRADE_TEST="new 6 1 crash", XCHG_UPGRADE=self.at)
        self.clients(server, 20)
        self.assertIn("at step 'canary': the new process has ended", self.ask(server, 71).stderr)
        self.assertEqual(server.turned_back()["status"], "signal 11")

    def test_a_silent_program(self):
        """The time limit of the new process runs from the request on, though no other event comes."""
        program = self.path("xchgd")
        shutil.copy(PROGRAM, program)
        server = self.server(program=program, XCHG_UPGRADE=self.at, XCHG_UPGRADE_TIMEOUT="1s", BAD_SUCCESSOR="silent")
        clients = self.clients(server, 3)
        shutil.copy(os.path.join(os.path.dirname(PROGRAM), "tests/live/bad_successor"), self.path("next"))
        os.replace(self.path("next"), program)
        self.assertIn("at step 'start': the new process is not ready in time", self.ask(server, 71).stderr)
        for client in clients:
            exchange(client, b"x")

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

    def test_a_request_that_is_too_long(self):
        """It is refused, and the server goes on."""
        server = self.server(XCHG_UPGRADE=self.at)
        clients = self.clients(server, 3)
        for size in (128 << 10, 150000):
            self.assertEqual(self.send(f"\0XCHG_GREETING={size * 'x'}\0"), "78 at step 'request': it has descriptors or is too long")
        self.assertEqual(server.messages("upgrading"), [])
        for client in clients:
            exchange(client, b"x")
        self.ask(server)
        self.assertEqual(numbers(server.followed())["moved"], 3)
        server.end()

    def test_a_request_during_a_stop(self):
        """It is refused while a client finishes its message, and in the drain delay."""
        for delay in ("0", "10m"):
            with self.subTest(delay=delay):
                server = self.server(XCHG_UPGRADE=self.at, XCHG_FRAME="line", XCHG_DRAIN_DELAY=delay, XCHG_DRAIN_TIMEOUT="10m")
                client = server.connect()
                self.addCleanup(client.close)
                client.sendall(b"half a ")
                server.wait_stats(lambda values: values["bytes_in"] == 7)
                server.signal(signal.SIGTERM)
                server.wait_line("stopping")
                self.assertIn("at step 'request': a stop is under way", self.ask(server, 75).stderr)
                self.assertEqual(self.send(XCHG_WORKERS="none"), "75 at step 'request': a stop is under way")
                self.assertEqual(server.messages("upgrading"), [])
                client.sendall(b"line\n")
                self.assertEqual(receive_exactly(client, 12), b"half a line\n")
                client.close()
                if delay == "0":
                    self.assertEqual(server.wait_end(server.pid), 0)

    def test_requests_that_xchgd_would_not_send(self):
        server = self.server(XCHG_UPGRADE=self.at)
        self.assertRegex(self.send(fds=[0]), "^78 at step 'request': it has descriptors")
        self.assertRegex(self.send(""), "^78 at step 'request': it is no list of variables")
        self.assertRegex(self.send("\0PATH=/bin\0"), "^78 at step 'request': it is no list of variables")
        self.assertRegex(self.send("\0XCHG_WORKERS\0"), "^78 at step 'request': it is no list of variables")
        self.assertRegex(self.send(XCHG_WORKERS="none"), "^78 at step 'request': the configuration has a fault")
        self.assertRegex(self.send(XCHG_UPGRADE="off"), "^78 at step 'request': XCHG_UPGRADE must not be off")
        self.assertRegex(self.send(XCHG_MODEL="fork"), "^78 at step 'request': XCHG_MODEL must be pool")
        self.assertRegex(self.send(XCHG_USER="1"), "^78 at step 'request': XCHG_USER must be the user of the server")
        self.assertRegex(self.send(XCHG_UPGRADE=f"unix:{self.path('no')}/upgrade"), "^69 at step 'listeners': the new process has ended")
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

    def test_variables_that_are_not_set(self):
        """They get their defaults, and the names of all that change are printed."""
        given = {"XCHG_QUEUE": "77", "XCHG_BACKLOG": "78", "XCHG_MAX_PENDING": "2MiB", "XCHG_MAX_MESSAGE": "3000", "XCHG_WRITE_TIMEOUT": "79s",
                 "XCHG_MESSAGE_TIMEOUT": "80s", "XCHG_MAX_LIFETIME": "81s", "XCHG_DRAIN_TIMEOUT": "82s", "XCHG_MAX_PER_IP": "83",
                 "XCHG_UPGRADE_TIMEOUT": "84s", "XCHG_LOG_FORMAT": "logfmt", "XCHG_DRAIN_DELAY": "1ms", "XCHG_MAX_CONNECTIONS": "85",
                 "XCHG_KEEPALIVE": "off", "XCHG_NODELAY": "off", "XCHG_SNDBUF": "86KiB"}
        server = self.server(XCHG_UPGRADE=self.at, **given)
        changed = self.ask(server).stdout.removeprefix("upgraded; changed variables: ").split()
        self.assertEqual(set(changed), set(given))
        self.assertGreater(len(" ".join(changed)), 255)
        server.followed()
        with open(f"/proc/{server.pid}/environ") as stream:
            self.assertEqual([text for text in stream.read().split("\0") if text.split("=")[0] in given], [])
        self.assertEqual(self.ask(server).stdout, "upgraded; changed variables: none\n")
        server.followed()
        server.end()

    def as_user(self):
        """What lets a process run as an ordinary user."""
        os.chmod(self.folder, 0o777)
        return (lambda: (os.setgid(65534), os.setuid(65534))) if os.getuid() == 0 else None

    def test_a_port_below_1024(self):
        """The server may keep the right to bind one; another user's request must not use it."""
        user = self.as_user()
        server = self.server(XCHG_UPGRADE=self.at, XCHG_ADMIN=f"unix:{self.path('admin')}", preexec=user)
        for changes in ({"XCHG_LISTEN": "127.0.0.1:0,127.0.0.1:1023"}, {"XCHG_ADMIN": "127.0.0.1:1"}):
            self.assertIn("only root may add a port below 1024", self.ask(server, 69, user, **changes).stderr)
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as stream:
            if user and int(stream.read()) >= 1024:  # root may ask, but the new process cannot bind it
                self.assertIn("listeners", self.ask(server, 69, XCHG_LISTEN="127.0.0.1:0,127.0.0.1:1").stderr)
        server.end()

    @unittest.skipIf(os.getuid() != 0, "only root can bind a port below 1024")
    def test_a_port_below_1024_that_stays(self):
        for port in range(600, 1024):
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                break
        user = self.as_user()
        server = self.server(XCHG_UPGRADE=self.at, XCHG_LISTEN=f"127.0.0.1:{port}", XCHG_USER="65534")
        clients = self.clients(server, 3)
        for _ in range(2):
            self.ask(server, 0, user, XCHG_LISTEN=f"127.0.0.1:{port}", XCHG_USER="65534")
            self.assertEqual(numbers(server.followed())["moved"], len(clients))
            clients += self.clients(server, 1)
        server.end()

    def test_what_only_root_may_change(self):
        user = self.as_user()
        holder = os.path.join(os.path.dirname(PROGRAM), "tests/live/plugin/holder.so")
        server = self.server(XCHG_UPGRADE=self.at, preexec=user)
        result = self.ask(server, 78, user, XCHG_HANDLER=holder, XCHG_EXCHANGE=None)
        self.assertIn("only root may change XCHG_HANDLER", result.stderr)
        if MODE != "off":
            self.assertIn("only root may weaken XCHG_SANDBOX", self.ask(server, 78, user, XCHG_SANDBOX="off").stderr)
        if user:
            self.ask(server, XCHG_SANDBOX="off")
            server.followed()
            self.ask(server, XCHG_HANDLER=holder, XCHG_EXCHANGE=None, XCHG_SANDBOX="off")
            server.followed()
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

    def test_mode_of_a_socket_file(self):
        path = self.path("data")
        server = self.server(XCHG_UPGRADE=self.at, XCHG_LISTEN=f"unix:{path};mode=0600")
        before = os.stat(path)
        for mode in ("0660", "0606"):
            self.ask(server, XCHG_LISTEN=f"unix:{path};mode={mode}")
            server.followed()
            server.stats()  # the new process has read COMMIT before it answers
            after = os.stat(path)
            self.assertEqual((after.st_ino, after.st_mode & 0o777), (before.st_ino, int(mode, 8)))
        self.assertEqual([line for line in server.lines if "level=warn" in line], [])

    def test_a_request_during_an_upgrade(self):
        """It is refused before it is looked at, and the socket is never away."""
        server = self.paused("new 9 1 pause", XCHG_UPGRADE=self.at)
        asked = threading.Thread(target=self.ask, args=(server,))
        asked.start()
        server.wait_line("point")
        self.assertRegex(self.send(XCHG_WORKERS="none"), "^75 at step 'request': another upgrade is under way")
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
