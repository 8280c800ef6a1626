"""Goal: a new process takes over all connections, under load and in every state, and a failure at any point of the upgrade
loses only what it must (docs/upgrade.md).

The servers are xchgd and, where a test stops one side at a point, tests/live/xchgd_paused.c.
"""

import contextlib
import ctypes
import os
import resource
import signal
import socket
import threading
import time
import unittest

from bench import kinds, measure
from clients import FolderTest
from endpoint import Endpoint
from xchgd import LIMIT, PROGRAM, SANDBOX, SLOW, WRAP, Server, check_totals, is_closed, numbers, receive_all, receive_exactly, run

PAUSED = os.path.join(os.path.dirname(PROGRAM), "tests", "live", "xchgd_paused")
POINTS = range(1, 10)
PR_SET_CHILD_SUBREAPER = 36
MODE = "off" if SANDBOX == "off" else "auto"  # on and trap are faults beside XCHG_UPGRADE

# New processes become children of this one when the old ones end, so that the tests can wait for them.
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Upgradable:
    """Mixed into Server: follows the server from one process to the next."""

    def __init__(self, *arguments, **variables):
        variables.setdefault("XCHG_UPGRADE", "on")
        variables.setdefault("XCHG_SANDBOX", MODE)
        variables.setdefault("XCHG_EXCHANGE", "echo")
        variables.setdefault("XCHG_STOP_GRACE", "0")
        variables.setdefault("XCHG_IDLE_TIMEOUT", "0")
        variables.setdefault("XCHG_LINGER", "0")
        self.now = None  # the process that serves; None = the first one
        self.count = 0   # upgrades so far
        super().__init__(*arguments, **variables)

    @property
    def pid(self):
        return self.now or self.process.pid

    def signal(self, number):
        os.kill(self.pid, number)

    def wait_end(self, pid):
        """Wait until process ${pid} has ended. Return: its status as of subprocess."""
        if pid == self.process.pid:
            return self.process.wait(LIMIT)
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                found, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # its parent has not ended yet
                found, status = 0, 0
            if found:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > deadline:
                raise AssertionError(f"process {pid} does not end; the log was:\n" + "\n".join(self.lines[-50:]))
            time.sleep(0.005)

    def followed(self, expect=0):
        """Wait for msg=upgraded and for the end of the old process; the new one is the server. Return: the fields."""
        fields = self.wait_line("upgraded", self.count)
        self.count += 1
        old, self.now = self.pid, int(fields["child"])
        if expect is not None:
            code = self.wait_end(old)
            if code != expect:
                raise AssertionError(f"the old process ends with {code}; the log was:\n" + "\n".join(self.lines[-50:]))
        return fields

    def upgrade(self):
        self.signal(signal.SIGUSR2)
        return self.followed()

    def turned_back(self, nth=0):
        return self.wait_line("upgrade turned back", nth)

    def stats(self):
        nth = len(self.messages("stats"))
        self.signal(signal.SIGUSR1)
        return numbers(self.wait_line("stats", nth))

    def end(self):
        """Stop the present process. Return: its totals, which add up."""
        self.signal(signal.SIGTERM)
        code = self.wait_end(self.pid)
        totals = numbers(self.wait_line("stopped"))
        check_totals(totals)
        if code != 0:
            raise AssertionError(f"exit code {code}; the log was:\n" + "\n".join(self.lines[-50:]))
        return totals

    def __exit__(self, *exception):
        if self.now:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.now, signal.SIGKILL)
        super().__exit__(*exception)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


class UpgradeServer(Upgradable, Server):
    pass


class UpgradeEndpoint(Upgradable, Endpoint):
    pass


def exchange(client, data):
    client.sendall(data)
    got = receive_exactly(client, len(data))
    if got != data:
        raise AssertionError(f"{got!r} in place of {data!r}")


def lives(client):
    """Is the connection served?"""
    try:
        client.sendall(b"alive?")
        return receive_exactly(client, 6) == b"alive?"
    except (OSError, AssertionError):
        return False


@unittest.skipIf(WRAP, "the program of the process is that of the wrap")
class UpgradeTest(FolderTest):
    def server(self, kind=UpgradeServer, *arguments, **variables):
        server = kind(*arguments, **variables)
        self.addCleanup(server.__exit__)
        return server

    def clients(self, server, count):
        found = []
        for i in range(count):
            client = server.connect()
            self.addCleanup(client.close)
            exchange(client, b"%d" % i)
            found.append(client)
        return found


class Moves(UpgradeTest):
    def test_all_connections_move(self):
        server = self.server()
        clients = self.clients(server, 200)
        fields = numbers(server.upgrade())
        self.assertEqual((fields["moved"], fields["stayed"], fields["listeners"]), (200, 0, 1))
        for i, client in enumerate(clients):
            exchange(client, b"after %d" % i)
        clients += self.clients(server, 10)
        self.assertEqual(server.stats()["open"], 210)
        for client in clients:
            client.close()
        totals = server.end()
        self.assertEqual((totals["accepted"], totals["finished"], totals["messages"]), (210, 210, 410))
        self.assertEqual(len(server.messages("listening")), 1)  # not repeated

    def test_many_in_a_row(self):
        """Nothing grows: descriptors, threads, memory."""
        server = self.server()
        clients = self.clients(server, 100)
        server.upgrade()
        server.upgrade()
        before = (server.descriptors(), len(server.tasks()))
        for i in range(10):
            server.upgrade()
            for client in clients:
                exchange(client, b"%d" % i)
        self.assertEqual((server.descriptors(), len(server.tasks())), before)
        self.assertEqual(server.end()["accepted"], 100)

    def test_under_load(self):
        """xchg-bench sees no refusal, no reset and no wrong answer, and the totals are its own."""
        for options in (("-c", "64", "--size", "64"), ("-c", "32", "--reconnect", "5", "--size", "uniform:1,9000"),
                        ("-c", "16", "-p", "8", "--size", "uniform:1,20000")):
            with self.subTest(options=options):
                server = self.server(XCHG_WORKERS="2")
                report = {}

                def load(server=server, options=options, report=report):
                    report.update(measure(server.addresses[0], "-x", "echo", *options, "-d", f"{round(4 * SLOW)}s"))

                thread = threading.Thread(target=load)
                thread.start()
                moved = 0
                server.wait_stats(lambda values: values["messages"] > 0)
                while thread.is_alive():
                    moved += int(server.upgrade()["moved"])
                thread.join()
                self.assertEqual(kinds(report), {})
                self.assertGreater(moved, 50)
                self.assertGreater(server.count, 2)
                server.end()
                self.assertEqual([line for line in server.lines if "level=warn" in line or "level=error" in line], [])

    def test_without_connections(self):
        server = self.server()
        self.assertEqual(numbers(server.upgrade())["moved"], 0)
        self.clients(server, 1)

    def test_off(self):
        server = self.server(XCHG_UPGRADE="off")
        server.signal(signal.SIGUSR2)
        self.clients(server, 1)
        self.assertEqual(server.messages("upgrading"), [])
        server.end()


class States(UpgradeTest):
    def test_half_a_message(self):
        server = self.server(XCHG_FRAME="line")
        clients = [server.connect() for _ in range(10)]
        for client in clients:
            self.addCleanup(client.close)
            client.sendall(b"first\nsec")
            self.assertEqual(receive_exactly(client, 6), b"first\n")
        server.upgrade()
        for client in clients:
            client.sendall(b"ond\n")
            self.assertEqual(receive_exactly(client, 7), b"second\n")
        server.end()

    def test_output_for_a_client_that_does_not_read(self):
        """More than a packet holds: it goes in a file in memory."""
        size = 3 << 20
        server = self.server(XCHG_MAX_PENDING="4MiB", XCHG_SNDBUF="16KiB", XCHG_WRITE_TIMEOUT="0")
        data = os.urandom(size)
        clients = [server.connect(rcvbuf=4096) for _ in range(3)]
        for client in clients:
            self.addCleanup(client.close)
            threading.Thread(target=client.sendall, args=(data,), daemon=True).start()
        server.wait_stats(lambda values: values["bytes_in"] == 3 * size)
        self.assertEqual(numbers(server.upgrade())["moved"], 3)
        for client in clients:
            self.assertEqual(receive_exactly(client, size), data)
        server.end()

    def test_an_end_in_progress(self):
        """A connection that has sent its last answer and waits for the client ends as it would have."""
        server = self.server(XCHG_EXCHANGE="line", XCHG_LINGER="20s", XCHG_SNDBUF="16KiB", XCHG_MAX_MESSAGE="1MiB", XCHG_WRITE_TIMEOUT="0")
        client = server.connect(rcvbuf=4096)
        self.addCleanup(client.close)
        line = os.urandom(300000).replace(b"\n", b"x") + b"\n"
        client.sendall(line)
        server.wait_stats(lambda values: values["messages"] == 1)
        self.assertEqual(numbers(server.upgrade())["moved"], 1)
        self.assertEqual(receive_all(client), line)
        client.close()
        server.wait_stats(lambda values: values["finished"] == 1)
        server.end()

    def test_times_go_on(self):
        """A connection is idle as long as it would have been without the upgrade."""
        seconds = 3 * SLOW
        server = self.server(XCHG_IDLE_TIMEOUT=f"{round(seconds * 1000)}ms")
        client, = self.clients(server, 1)
        begin = time.monotonic()
        server.upgrade()
        self.assertTrue(is_closed(client))
        took = time.monotonic() - begin
        self.assertGreater(took, seconds - 0.5)
        self.assertEqual(server.end()["closed_idle"], 1)

    def test_connections_per_address(self):
        """Those that have moved count, and none of them is refused."""
        server = self.server(XCHG_MAX_PER_IP="20")
        clients = self.clients(server, 20)
        self.assertEqual(numbers(server.upgrade())["moved"], 20)
        with server.connect() as one_more:
            self.assertTrue(is_closed(one_more))
        clients.pop().close()
        server.wait_stats(lambda values: values["open"] == 19)
        clients += self.clients(server, 1)
        self.assertEqual(server.end()["closed_per_ip"], 1)

    def test_a_full_server(self):
        server = self.server(XCHG_MAX_CONNECTIONS="50")
        self.clients(server, 50)
        self.assertEqual(numbers(server.upgrade())["moved"], 50)
        server.end()


class Handlers(UpgradeTest):
    def test_connections_of_a_handler_stay(self):
        """New clients get the new process; main is open, and all other threads have the filter of a handler."""
        holder = os.path.join(os.path.dirname(PROGRAM), "tests/live/plugin/holder.so")
        server = self.server(XCHG_HANDLER=holder, XCHG_EXCHANGE=None, XCHG_DRAIN_TIMEOUT="1s")
        with server.connect() as old:
            self.assertEqual(receive_exactly(old, 6), b"hello\n")
            server.signal(signal.SIGUSR2)
            stays = server.wait_line("connections stay with the old process")
            self.assertEqual(stays["count"], "1")
            self.assertEqual(server.wait_line("upgraded")["stayed"], "1")
            with server.connect():
                server.followed()
                self.assertTrue(is_closed(old))
                server.wait_stats(lambda values: values["accepted"] == 2 and values["open"] == 1)
        for name, task in server.threads().items():
            with open(f"/proc/{server.pid}/task/{task}/status") as stream:
                self.assertEqual("Seccomp:\t2" in stream.read(), name != "xchgd" and MODE != "off", name)
        server.end()


class Proxied(UpgradeTest):
    def test_headers(self):
        """The announced address moves, and so does half of a header."""
        server = self.server(UpgradeEndpoint, self.path("admin"), XCHG_LISTEN="127.0.0.1:0;proxy=v1", XCHG_PROXY_TRUST="127.0.0.1")
        whole, half = server.connect(), server.connect()
        self.addCleanup(whole.close)
        self.addCleanup(half.close)
        whole.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\n")
        exchange(whole, b"x")
        half.sendall(b"PROXY TCP4 192.0.2.9 192")
        server.wait_stats(lambda values: values["accepted"] == 2)
        self.assertEqual(numbers(server.upgrade())["moved"], 2)
        half.sendall(b".0.2.8 1234 80\r\n")
        exchange(half, b"y")
        exchange(whole, b"z")
        text = server.ask("/connections", unix=self.path("admin")).text
        self.assertIn("192.0.2.7:1234", text)
        self.assertIn("192.0.2.9:1234", text)
        server.end()


class Listeners(UpgradeTest):
    def test_unix_socket(self):
        """The file is never unlinked or bound again, and the last process removes it."""
        path = self.path("data")
        server = self.server(XCHG_LISTEN=f"unix:{path};mode=0660,127.0.0.1:0")
        before = os.stat(path)
        clients = self.clients(server, 5)
        for _ in range(3):
            self.assertEqual(numbers(server.upgrade())["moved"], 5)
            after = os.stat(path)
            self.assertEqual((after.st_ino, after.st_mode), (before.st_ino, before.st_mode))
        for client in clients:
            exchange(client, b"x")
        server.end()
        self.assertFalse(os.path.exists(path))

    def test_passed_sockets(self):
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            server = self.server(activate=[one, two])
            clients = self.clients(server, 10)
            for _ in range(2):
                server.upgrade()
            for address in server.addresses:
                with server.connect(address=address) as client:
                    exchange(client, b"x")
            for client in clients:
                exchange(client, b"y")
            server.end()
            with socket.create_connection(one.getsockname(), LIMIT):
                pass  # the manager's socket is as before: it listens

    def test_admin_endpoint(self):
        """It answers in the old process until the totals go, then in the new one; counters never decrease."""
        server = self.server(UpgradeEndpoint, self.path("admin"))
        inode = os.stat(self.path("admin")).st_ino
        clients = self.clients(server, 30)
        for i in range(3):
            server.upgrade()
            self.assertEqual(server.metric("xchg_connections_accepted_total"), 30)
            self.assertEqual(server.metric("xchg_connections_open"), 30)
            self.assertEqual(server.metric("xchg_messages_received_total"), 30 * (i + 1))
            self.assertEqual(server.metric("xchg_handoff_seconds_count"), 30)
            for client in clients:
                exchange(client, b"x")
        self.assertEqual(os.stat(self.path("admin")).st_ino, inode)
        server.end()
        self.assertFalse(os.path.exists(self.path("admin")))


class Requests(UpgradeTest):
    """xchgd --upgrade."""

    def setUp(self):
        super().setUp()
        self.at = f"unix:{self.path('upgrade')}"

    def ask(self, server, expect=0, preexec=None, **changes):
        variables = {"XCHG_UPGRADE": self.at, "XCHG_EXCHANGE": "echo", "XCHG_LISTEN": "127.0.0.1:0", "XCHG_STOP_GRACE": "0",
                     "XCHG_IDLE_TIMEOUT": "0", "XCHG_LINGER": "0", "XCHG_SANDBOX": MODE, **changes}
        result = run("--upgrade", preexec=preexec, **variables)
        self.assertEqual(result.returncode, expect, result.stdout + result.stderr + "\n".join(server.lines[-20:] if server else []))
        return result

    def test_new_settings(self):
        server = self.server(XCHG_UPGRADE=self.at)
        clients = self.clients(server, 20)
        self.assertEqual(os.stat(self.path("upgrade")).st_mode & 0o777, 0o600)
        result = self.ask(server, XCHG_WORKERS="3", XCHG_IDLE_TIMEOUT="300ms")
        self.assertEqual(result.stdout, "upgraded; changed variables: XCHG_IDLE_TIMEOUT XCHG_WORKERS\n")
        server.followed()
        self.assertEqual(len([name for name in server.threads() if name.startswith("xchg-work")]), 3)
        for client in clients:
            self.assertTrue(is_closed(client))
        self.assertEqual(server.stats()["closed_idle"], 20)
        self.ask(server, XCHG_WORKERS="1")
        server.followed()
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

    @unittest.skipIf(os.getuid() != 0, "only root can become another user")
    def test_another_user(self):
        server = self.server(XCHG_UPGRADE=self.at)
        os.chmod(self.folder, 0o755)
        self.ask(server, 77, preexec=lambda: os.setuid(65534))
        os.chmod(self.path("upgrade"), 0o666)
        self.assertIn("another user", self.ask(server, 77, preexec=lambda: os.setuid(65534)).stderr)
        self.assertEqual(server.wait_line("upgrade refused")["uid"], "65534")
        server.end()


class Failures(UpgradeTest):
    """One side is killed or stopped at each point."""

    CLIENTS = 100

    def paused(self, test, **variables):
        fifo = self.path("fifo")
        if not os.path.exists(fifo):
            os.mkfifo(fifo)
        return self.server(program=PAUSED, UPGRADE_TEST=test, UPGRADE_FIFO=fifo, XCHG_WORKERS="2", **variables)

    def go_on(self):
        with open(self.path("fifo"), "w"):
            pass

    def children(self, pid):
        with open(f"/proc/{pid}/task/{pid}/children") as stream:
            return [int(child) for child in stream.read().split()]

    def wait_zombie(self, pid):
        """Wait until a killed process has closed its descriptors."""
        deadline = time.monotonic() + LIMIT
        state = ""
        while state != "Z":
            self.assertLess(time.monotonic(), deadline)
            with open(f"/proc/{pid}/stat") as stream:
                state = stream.read().rsplit(")", 1)[1].split()[0]

    def check_turned_back(self, server, clients, lost=None):
        """The old process serves all but the lost ones, its totals add up, and it can upgrade afterwards."""
        fields = numbers(server.turned_back())
        alive = [client for client in clients if lives(client)]
        self.assertEqual(len(alive), len(clients) - fields["lost"])
        if lost is not None:
            self.assertEqual(fields["lost"], lost)
        alive += self.clients(server, 1)
        self.assertEqual(numbers(server.upgrade())["moved"], len(alive))
        for client in alive:
            exchange(client, b"x")

    def test_new_process_is_killed(self):
        for point in POINTS:
            with self.subTest(point=point):
                server = self.paused(f"old {point} 1 pause")
                clients = self.clients(server, self.CLIENTS)
                server.signal(signal.SIGUSR2)
                server.wait_line("point")
                child, = self.children(server.pid)
                os.kill(child, signal.SIGKILL)
                self.wait_zombie(child)
                self.go_on()
                self.check_turned_back(server, clients, 0 if point < 5 else None)

    def test_new_process_hangs(self):
        for point in POINTS:
            with self.subTest(point=point):
                server = self.paused(f"old {point} 1 pause", XCHG_UPGRADE_TIMEOUT="1s")
                clients = self.clients(server, self.CLIENTS)
                server.signal(signal.SIGUSR2)
                server.wait_line("point")
                child, = self.children(server.pid)
                os.kill(child, signal.SIGSTOP)
                self.go_on()
                outcome = server.wait_for(lambda _: server.messages("upgrade turned back") or server.messages("upgraded"))
                if outcome[0]["msg"] == "upgraded":  # it had done its part before
                    os.kill(child, signal.SIGCONT)
                    server.followed()
                    self.assertTrue(all(lives(client) for client in clients))
                else:
                    self.check_turned_back(server, clients, 0 if point < 5 else None)

    def test_old_process_is_killed(self):
        for point in POINTS:
            with self.subTest(point=point):
                server = self.paused(f"old {point} 1 pause")
                clients = self.clients(server, self.CLIENTS)
                server.signal(signal.SIGUSR2)
                server.wait_line("point")
                child, = self.children(server.pid)
                os.kill(server.pid, signal.SIGKILL)
                server.wait_end(server.pid)
                if point < 3:  # it has no listener yet
                    self.assertEqual(server.wait_end(child), 71)
                    continue
                server.now = child
                server.wait_line("the old process has ended during the upgrade: this one serves")
                alive = [client for client in clients if lives(client)]
                self.clients(server, 3)
                values = server.stats()
                check_totals(values)
                self.assertEqual(values["open"], len(alive) + 3)
                server.end()

    def test_old_process_is_stopped_for_a_while(self):
        for point in POINTS:
            with self.subTest(point=point):
                server = self.paused(f"old {point} 1 pause")
                clients = self.clients(server, self.CLIENTS)
                server.signal(signal.SIGUSR2)
                server.wait_line("point")
                self.go_on()
                server.followed()
                self.assertTrue(all(lives(client) for client in clients))
                server.end()

    def test_bad_successors(self):
        cases = {"new 1 1 exit 78": 0, "new 2 1 exit 71": 0, "new 3 1 crash": 0, "new 4 1 crash": 0, "new 5 1 crash": 0,
                 "new 6 1 crash": None, "new 7 1 crash": None, "new 7 3 crash": None, "new 9 1 crash": None}
        for test, lost in cases.items():
            with self.subTest(test=test):
                server = self.paused(test)
                clients = self.clients(server, 300)
                server.signal(signal.SIGUSR2)
                fields = server.turned_back()
                self.assertIn(fields["status"], (f"exit {test.split()[-1]}", "signal 11"))
                alive = [client for client in clients if lives(client)]
                self.assertEqual(len(alive), 300 - int(fields["lost"]))
                if lost is not None:
                    self.assertEqual(int(fields["lost"]), lost)
                self.clients(server, 1)
                values = server.stats()
                check_totals(values)

    def test_never_ready(self):
        server = self.paused("new 3 1 pause", XCHG_UPGRADE_TIMEOUT="1s")
        clients = self.clients(server, 20)
        server.signal(signal.SIGUSR2)
        self.assertEqual(server.turned_back()["reason"], "the new process is not ready in time")
        self.assertTrue(all(lives(client) for client in clients))

    def test_says_taken_and_serves_nothing(self):
        server = self.paused("new 6 1 pause")
        clients = self.clients(server, 20)
        server.signal(signal.SIGUSR2)
        fields = server.turned_back()
        self.assertEqual(fields["step"], "canary")
        self.assertLessEqual(int(fields["lost"]), 9)
        self.assertEqual(sum(lives(client) for client in clients), 20 - int(fields["lost"]))

    def test_a_stop_during_an_upgrade(self):
        """Before the first connection has gone the upgrade is turned back; afterwards the new process stops."""
        for point in (1, 4, 7):
            with self.subTest(point=point):
                server = self.paused(f"old {point} 1 pause", XCHG_DRAIN_TIMEOUT="0")
                clients = self.clients(server, self.CLIENTS)
                server.signal(signal.SIGUSR2)
                server.wait_line("point")
                server.signal(signal.SIGTERM)
                self.go_on()
                totals = numbers(server.wait_line("stopped"))
                check_totals(totals)
                self.assertEqual(totals["accepted"], self.CLIENTS)
                self.assertEqual(server.wait_end(server.process.pid), 0)
                self.assertTrue(all(is_closed(client) for client in clients))

    def test_two_at_once(self):
        server = self.paused("old 4 1 pause")
        self.clients(server, 5)
        server.signal(signal.SIGUSR2)
        server.wait_line("point")
        server.signal(signal.SIGUSR2)
        self.go_on()
        server.followed()
        self.assertEqual(len(server.messages("upgrading")) + len(server.messages("upgrade refused")), 2)

    def test_few_descriptors(self):
        """The new process may open fewer descriptors than there are connections."""
        server = self.server()
        self.clients(server, 200)
        few = server.descriptors() + 8  # room for the channel, but not for the reserve of another process
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (few, few))
        server.signal(signal.SIGUSR2)
        self.assertEqual(server.turned_back()["reason"], "the new process can open too few descriptors")
        self.assertEqual(server.stats()["open"], 200)


@unittest.skipIf(MODE == "off", "instrumented programs make calls of their own")
class Sandboxed(UpgradeTest):
    def test_main_is_open(self):
        server = self.server()
        self.assertEqual(server.wait_line("sandbox").get("main"), "open")
        server.upgrade()
        self.assertEqual(server.wait_line("sandbox", 1).get("main"), "open")
        for name, task in server.threads().items():
            with open(f"/proc/{server.pid}/task/{task}/status") as stream:
                filtered = "Seccomp:\t2" in stream.read()
            self.assertEqual(filtered, name != "xchgd", name)
        server.end()

    def test_on_is_a_fault(self):
        result = run("--check", XCHG_SANDBOX="on", XCHG_UPGRADE="on")
        self.assertEqual(result.returncode, 78)


if __name__ == "__main__":
    unittest.main()
