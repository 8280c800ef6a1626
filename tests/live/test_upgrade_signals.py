"""Goal: each stop signal is obeyed once, by the process that is the server, whichever process gets it at whatever time of an upgrade.

Connections of a handler stay with the old process, so half a message keeps it alive after the upgrade.
"""

import os
import signal
import socket
import time
import unittest

from test_containers import children, may_run, wait_for
from upgrade import PausedTest, UpgradeTest, exchange, lives
from xchgd import LIMIT, PROGRAM, SLOW, check_totals, is_closed, numbers, receive_exactly

HOLDER = os.path.join(os.path.dirname(PROGRAM), "tests/live/plugin/holder.so")


def wait_taken(pid, number):
    """Wait until process ${pid} has read signal ${number}, which it blocks."""
    deadline = time.monotonic() + LIMIT
    pending = 1
    while pending:
        if time.monotonic() > deadline:
            raise AssertionError(f"process {pid} does not read signal {number}")
        with open(f"/proc/{pid}/status") as stream:
            pending = sum(int(line.split()[1], 16) for line in stream if line.startswith(("SigPnd", "ShdPnd"))) >> (number - 1) & 1


class Stays(UpgradeTest):
    """The old process has one connection, which waits for the rest of a message. When that ends it comes back, or it ends with the child."""

    def setUp(self):
        super().setUp()
        self.s = self.server(XCHG_HANDLER=HOLDER, XCHG_EXCHANGE=None, XCHG_DRAIN_TIMEOUT=f"{30 * SLOW:.0f}s", XCHG_MESSAGE_TIMEOUT="0")
        self.old = self.half()
        self.s.signal(signal.SIGUSR2)
        self.s.followed_to_child(None)

    def half(self):
        client = self.s.connect()
        self.addCleanup(client.close)
        self.assertEqual(receive_exactly(client, 6), b"hello\n")
        client.sendall(b"ha")
        return client

    def check_rest(self, client):
        """It is served to the end of its message, and ends then."""
        client.sendall(b"lf\n")
        self.assertEqual(receive_exactly(client, 5), b"half\n")
        self.assertTrue(is_closed(client))

    def check_end(self, code=0, status=0):
        """The old process ends after its child, and with its exit code. The next parent gets the child's status."""
        self.assertEqual(self.s.process.wait(LIMIT), code)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(self.s.now, os.WNOHANG)[1]), status)

    def test_new_process_is_killed(self):
        """The old one drains and ends, too, with the code of a shell.

        systemd watches the new one as the main process. It sees how it has ended as soon as it is its parent.
        """
        os.kill(self.s.now, signal.SIGKILL)
        self.s.wait_line("the new process stops or has ended: this one drains")
        self.s.process.send_signal(signal.SIGTERM)
        wait_taken(self.s.process.pid, signal.SIGTERM)
        self.check_rest(self.old)
        self.check_end(128 + signal.SIGKILL, -signal.SIGKILL)

    def check_stop(self, pid):
        """Both drain, and so they do if the new one gets the signal.  The totals contain what the old one served last."""
        new = self.half()
        os.kill(pid, signal.SIGTERM)
        self.s.wait_line("stopping")
        self.check_rest(new)
        self.check_rest(self.old)
        self.check_end()
        totals = numbers(self.s.wait_line("stopped"))
        check_totals(totals)
        self.assertEqual((totals["accepted"], totals["finished"], totals["messages"]), (2, 2, 2))

    def test_stop_of_the_old_process(self):
        self.check_stop(self.s.process.pid)

    def test_stop_of_the_new_process(self):
        self.check_stop(self.s.now)

    def test_stop_of_both(self):
        """A signal that reaches the new process twice, itself and through the old one, is one signal, in either order."""
        new = self.half()
        self.s.process.send_signal(signal.SIGTERM)
        self.s.wait_line("stopping")
        self.s.signal(signal.SIGTERM)
        wait_taken(self.s.now, signal.SIGTERM)
        self.check_rest(new)
        self.check_rest(self.old)
        self.check_end()

    def test_stop_of_both_the_new_one_first(self):
        new = self.half()
        self.s.signal(signal.SIGTERM)
        self.s.wait_line("stopping")
        self.s.process.send_signal(signal.SIGTERM)
        wait_taken(self.s.process.pid, signal.SIGTERM)
        self.check_rest(self.old)
        self.check_rest(new)
        self.check_end()

    def test_second_signal_ends_both(self):
        self.half()
        self.s.process.send_signal(signal.SIGTERM)
        self.s.wait_line("stopping")
        self.s.process.send_signal(signal.SIGINT)
        self.assertEqual((self.s.process.wait(LIMIT), self.s.wait_end(self.s.now)), (1, 1))

    def test_statistics(self):
        """The old process passes the signal on: the totals are the new one's."""
        self.half()
        self.s.process.send_signal(signal.SIGUSR1)
        stats = numbers(self.s.wait_line("stats"))
        self.assertEqual((stats["accepted"], stats["open"]), (2, 2))
        self.assertEqual(len(self.s.messages("stats")), 1)

    def test_next_upgrade_waits(self):
        """No next one while the process before has connections: its last totals would be lost."""
        self.s.signal(signal.SIGUSR2)
        self.assertEqual(self.s.wait_line("upgrade refused")["reason"], "the process before this one has not ended")
        self.old.close()
        self.s.returned()
        self.assertEqual(numbers(self.s.upgrade())["stayed"], 0)
        self.assertEqual(self.s.end()["accepted"], 1)


class During(PausedTest):
    """Signals while the upgrade is under way."""

    def begin(self, test, **variables):
        self.s = self.paused(test, **variables)
        self.connected = self.clients(self.s, self.CLIENTS)
        self.s.signal(signal.SIGUSR2)
        self.s.wait_line("point")
        self.child, = self.children(self.s.pid)

    def test_second_signal_ends_both(self):
        """The old process awaits the answer to the totals, and the new one serves every client."""
        self.begin("new 9 1 pause")
        self.s.signal(signal.SIGTERM)
        wait_taken(self.s.pid, signal.SIGTERM)
        self.s.signal(signal.SIGINT)
        self.assertEqual(self.s.process.wait(LIMIT), 1)
        self.assertEqual(self.s.wait_end(self.child), -signal.SIGKILL)

    def test_old_process_is_killed(self):
        """A stop signal that the new process got before is obeyed then."""
        self.begin("old 7 1 pause", XCHG_DRAIN_TIMEOUT="0")
        os.kill(self.child, signal.SIGTERM)
        wait_taken(self.child, signal.SIGTERM)
        self.assertEqual(self.s.messages("stopping"), [])
        os.kill(self.s.pid, signal.SIGKILL)
        self.s.wait_end(self.s.pid)
        self.s.wait_line("stopping")
        self.assertEqual(self.s.wait_end(self.child), 0)

    def test_new_process_is_stopped(self):
        """It becomes the server, then it stops, as after any signal that comes during an upgrade."""
        self.begin("old 7 1 pause", XCHG_DRAIN_TIMEOUT="0")
        os.kill(self.child, signal.SIGTERM)
        wait_taken(self.child, signal.SIGTERM)
        self.go_on()
        self.s.followed_to_child()
        check_totals(numbers(self.s.wait_line("stopped")))
        self.assertEqual(self.s.wait_end(self.child), 0)

    def test_both_are_stopped(self):
        """As by a service manager or a terminal."""
        for point in (1, 4, 7, 9):
            with self.subTest(point=point):
                self.begin(f"old {point} 1 pause", XCHG_DRAIN_TIMEOUT="0")
                os.kill(self.child, signal.SIGTERM)
                self.s.signal(signal.SIGTERM)
                self.go_on()
                totals = numbers(self.s.wait_line("stopped"))
                check_totals(totals)
                self.assertEqual(totals["accepted"], self.CLIENTS)
                self.assertEqual(self.s.process.wait(LIMIT), 0)
                self.assertTrue(all(is_closed(client) for client in self.connected))

    def test_old_process_does_not_go_on(self):
        """A second signal ends a new process that waits for an old one that is stopped."""
        self.begin("old 7 1 pause")
        os.kill(self.child, signal.SIGTERM)
        wait_taken(self.child, signal.SIGTERM)
        os.kill(self.child, signal.SIGINT)
        self.wait_zombie(self.child)
        self.go_on()
        self.assertEqual(self.s.turned_back()["status"], "exit 1")
        self.assertTrue(any(lives(client) for client in self.connected))

    def test_listener_fails_in_the_new_process(self):
        """It stops when it is the server: until then connections come."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.begin("old 7 1 pause", activate=[listener], XCHG_DRAIN_TIMEOUT="0")
            listener.shutdown(socket.SHUT_RDWR)
            self.s.wait_line(f"listener '127.0.0.1:{listener.getsockname()[1]}' failed")
            self.go_on()
            self.assertEqual(numbers(self.s.followed_to_child(71))["moved"], self.CLIENTS)
            check_totals(numbers(self.s.wait_line("stopped")))


class Back(PausedTest):
    """Signals while the connections return. The process with the id of the server has the new program.

    test_upgrade_return.py has stop signals at the points of the child, to the process with the id of the server.
    """

    CLIENTS = 100  # more than the canary and a batch

    def begin(self, side, point, **variables):
        self.s, self.connected, self.child = self.at_point(side, point, "pause", **variables)

    def check_stopped(self):
        totals = numbers(self.s.wait_line("stopped"))
        check_totals(totals)
        self.assertEqual(totals["accepted"], self.CLIENTS)
        self.assertEqual(self.s.process.wait(LIMIT), 0)
        self.assertIn(self.s.wait_end(self.child), (0, None))  # its parent waits no longer than XCHG_DRAIN_TIMEOUT
        self.assertTrue(all(is_closed(client) for client in self.connected))
        self.assertEqual((len(self.s.messages("stopping")), len(self.s.messages("stopped"))), (1, 1))

    def test_stop(self):
        """Whichever process gets the signal, or both, it is one stop, and no signal is lost."""
        for point in (1, 2, 3, 4, 5, 7, 9):
            for to in (("parent",), ("child",), ("child", "parent"), ("parent", "child")):
                with self.subTest(point=point, to=to):
                    self.begin("parent", point, XCHG_DRAIN_TIMEOUT="0")
                    for name in to:
                        os.kill(self.child if name == "child" else self.s.pid, signal.SIGTERM)
                        if name == "child":
                            wait_taken(self.child, signal.SIGTERM)
                    self.go_on()
                    self.check_stopped()

    def test_stop_of_the_child(self):
        for point in (1, 2, 3, 4, 5, 6, 7, 8, 9, 11):
            with self.subTest(point=point):
                self.begin("child", point, XCHG_DRAIN_TIMEOUT="0")
                os.kill(self.child, signal.SIGTERM)
                self.go_on()
                self.check_stopped()

    def test_second_signal_ends_both(self):
        """The child is no server without its parent then."""
        self.begin("child", 7)
        self.s.signal(signal.SIGTERM)
        wait_taken(self.s.pid, signal.SIGTERM)
        self.s.signal(signal.SIGINT)
        self.assertEqual(self.s.process.wait(LIMIT), 1)
        self.assertIn(self.s.wait_end(self.child), (-signal.SIGKILL, None))

    def test_statistics(self):
        """They are those of the server, and come when its totals have come back."""
        for point in (1, 4, 9):
            with self.subTest(point=point):
                self.begin("parent", point)
                self.s.signal(signal.SIGUSR1)
                self.go_on()
                self.s.followed()
                stats = numbers(self.s.wait_line("stats"))
                self.assertEqual((stats["accepted"], stats["open"], stats["messages"]), (self.CLIENTS, self.CLIENTS, self.CLIENTS))
                self.s.end()
                self.assertEqual(len(self.s.messages("stats")), 1)

    def test_next_upgrade(self):
        """It is refused, and the log says so."""
        for point in (1, 4, 9):
            with self.subTest(point=point):
                self.begin("parent", point)
                self.s.signal(signal.SIGUSR2)
                self.go_on()
                self.s.followed()
                self.assertEqual(len(self.s.messages("upgrade refused")), 1)
                self.assertEqual(len(self.s.messages("upgrading")), 1)


class DuringOnStop(UpgradeTest):
    """The handler's on_stop blocks in a process that is left. Its main thread reads no signal meanwhile, and loses none."""

    def setUp(self):
        super().setUp()
        os.mkfifo(self.path("fifo"))
        self.s = self.server(XCHG_HANDLER=HOLDER, XCHG_EXCHANGE=None, HOLDER_STOP=self.path("fifo"))
        self.s.signal(signal.SIGUSR2)
        self.ends = 0

    def on_stop(self):
        """Wait until a process is in on_stop. Return: its id."""
        fields = self.s.wait_line("on_stop", self.ends)
        self.ends += 1
        return int(fields["pid"])

    def go_on(self):
        with open(self.path("fifo"), "w"):
            pass

    def check_stopped(self):
        self.assertEqual(self.on_stop(), self.s.process.pid)
        self.go_on()
        self.assertEqual(self.s.process.wait(LIMIT), 0)
        check_totals(numbers(self.s.wait_line("stopped")))
        self.assertEqual(self.s.messages("second signal: ending at once"), [])

    def test_stop_of_the_parent(self):
        """The program that it executes obeys it."""
        self.assertEqual(self.on_stop(), self.s.process.pid)
        self.s.signal(signal.SIGTERM)
        self.go_on()
        self.assertNotEqual(self.on_stop(), self.s.process.pid)
        self.go_on()
        self.check_stopped()

    def test_stop_of_the_child(self):
        """It has given everything back, and passes the signal on."""
        self.on_stop()
        self.go_on()
        child = self.on_stop()
        os.kill(child, signal.SIGTERM)
        self.go_on()
        self.check_stopped()

    def test_other_signals_to_the_parent(self):
        """They are obeyed when it is the server again: a report, and an upgrade that is refused."""
        self.on_stop()
        self.s.signal(signal.SIGUSR1)
        self.s.signal(signal.SIGUSR2)
        self.go_on()
        self.on_stop()
        self.s.wait_line("stats")
        self.s.wait_line("upgrade refused")
        self.go_on()
        self.s.followed()
        self.s.signal(signal.SIGTERM)
        self.check_stopped()

    def test_second_signal(self):
        """Both are in a stop, so it ends both."""
        self.on_stop()
        child, = children(self.s.pid)
        self.s.signal(signal.SIGTERM)
        self.s.signal(signal.SIGINT)
        self.go_on()
        self.assertEqual((self.s.process.wait(LIMIT), self.s.wait_end(child)), (1, -signal.SIGKILL))


class FirstProcess(UpgradeTest):
    def test_of_a_container(self):
        """It stays the first process, so the container lives on, and there is no second server."""
        command = ["unshare", "--pid", "--fork", "--kill-child"]
        wraps = [wrap for wrap in (command, [*command, "--user", "--map-root-user"]) if may_run(wrap)]
        if not wraps:
            self.skipTest("may not make a pid namespace")
        for wrap in wraps:
            with self.subTest(wrap=wrap):
                self.upgrade_first(self.server(wrap=wrap))

    def upgrade_first(self, server):
        first, = children(server.pid)
        clients = self.clients(server, 20)
        for i in range(3):
            os.kill(first, signal.SIGUSR2)
            self.assertEqual((server.wait_line("upgraded", i)["pid"], server.wait_line("returned", i)["pid"]), ("1", "1"))
            wait_for(lambda: not children(first), "end of the child")
            self.assertEqual(children(server.pid), [first])
            for client in clients:
                exchange(client, b"x")
            clients += self.clients(server, 1)
        os.kill(first, signal.SIGTERM)
        self.assertEqual(server.process.wait(LIMIT), 0)
        totals = numbers(server.wait_line("stopped"))
        check_totals(totals)
        self.assertEqual(totals["accepted"], 23)


if __name__ == "__main__":
    unittest.main()
