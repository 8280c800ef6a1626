"""Goal: each stop signal is obeyed once, by the process that is the server, whichever process gets it at whatever time of an upgrade.

Connections of a handler stay with the old process, so half a message keeps it alive after the upgrade.
"""

import os
import signal
import socket
import time
import unittest

from test_containers import own_pids
from upgrade import PausedTest, UpgradeTest, lives
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
    """The old process has one connection, which waits for the rest of a message."""

    def setUp(self):
        super().setUp()
        self.s = self.server(XCHG_HANDLER=HOLDER, XCHG_EXCHANGE=None, XCHG_DRAIN_TIMEOUT=f"{30 * SLOW:.0f}s", XCHG_MESSAGE_TIMEOUT="0")
        self.old = self.half()
        self.s.signal(signal.SIGUSR2)
        self.s.followed(None)

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

    def test_new_process_is_killed(self):
        """The old one ends, too, so that a service manager sees the end: it drains."""
        os.kill(self.s.now, signal.SIGKILL)
        self.s.wait_line("the new process stops or has ended: this one drains")
        self.s.process.send_signal(signal.SIGTERM)
        wait_taken(self.s.process.pid, signal.SIGTERM)
        self.check_rest(self.old)
        self.assertEqual(self.s.process.wait(LIMIT), 0)

    def check_stop(self, pid):
        """Both drain, and so they do if the new one gets the signal.  The totals contain what the old one served last."""
        new = self.half()
        os.kill(pid, signal.SIGTERM)
        self.s.wait_line("stopping")
        self.check_rest(new)
        self.check_rest(self.old)
        self.assertEqual((self.s.process.wait(LIMIT), self.s.wait_end(self.s.now)), (0, 0))
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
        self.assertEqual((self.s.process.wait(LIMIT), self.s.wait_end(self.s.now)), (0, 0))

    def test_stop_of_both_the_new_one_first(self):
        new = self.half()
        self.s.signal(signal.SIGTERM)
        self.s.wait_line("stopping")
        self.s.process.send_signal(signal.SIGTERM)
        wait_taken(self.s.process.pid, signal.SIGTERM)
        self.check_rest(self.old)
        self.assertEqual(self.s.process.wait(LIMIT), 0)
        self.check_rest(new)
        self.assertEqual(self.s.wait_end(self.s.now), 0)

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
        self.assertEqual(self.s.wait_line("upgrade refused")["reason"], "the process before this one still has connections")
        self.old.close()
        self.assertEqual(self.s.process.wait(LIMIT), 0)
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
        self.s.followed()
        check_totals(numbers(self.s.wait_line("stopped")))
        self.assertIn(self.s.wait_end(self.child), (0, None))

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
            self.assertEqual(numbers(self.s.followed())["moved"], self.CLIENTS)
            check_totals(numbers(self.s.wait_line("stopped")))


class Back(PausedTest):
    """Signals while the connections return. The process with the id of the server has the new program, and waits at READY."""

    def setUp(self):
        super().setUp()
        self.s, self.connected, self.child = self.at_point("parent", 4, "pause", XCHG_DRAIN_TIMEOUT="0")

    def test_next_upgrade(self):
        """It is refused, and the log says so."""
        self.s.signal(signal.SIGUSR2)
        self.go_on()
        self.s.followed()
        self.assertEqual(len(self.s.messages("upgrade refused")), 1)
        self.assertEqual(len(self.s.messages("upgrading")), 1)


class FirstProcess(UpgradeTest):
    def test_of_a_container(self):
        """Its end would end the container, so it cannot be replaced."""
        outer = own_pids()
        if outer is None:
            self.skipTest("may not make a pid namespace")
        server = self.server(wrap=outer)
        self.clients(server, 1)
        with open(f"/proc/{server.pid}/task/{server.pid}/children") as stream:
            first = int(stream.read())
        os.kill(first, signal.SIGUSR2)
        self.assertIn("container", server.wait_line("upgrade refused")["reason"])
        self.clients(server, 1)


if __name__ == "__main__":
    unittest.main()
