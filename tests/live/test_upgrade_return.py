"""Goal: wherever one side ends or stops while connections return to the old process, each is served by exactly one process, or has ended.

A place is a side and a point of pool/upgrade_point.h: what has happened when one process waits there. test_upgrade_points.py has the places
of the way to the child. Each row of the tables runs ROUNDS times.
"""

import contextlib
import os
import resource
import shutil
import select
import signal
import time
import unittest

from test_containers import wait_for
from test_upgrade_signals import wait_taken
from test_containers import may_run, wait_for
from upgrade import PAUSED, ROUNDS, PausedTest, exchange, lives
from xchgd import LIMIT, SLOW, check_totals, numbers, receive_exactly

LONG = 6 * SLOW  # longer than a process waits for any answer (pool/upgrade_back.h: UPGRADE_ANSWER_NS)
TAKEN = 9        # the most that the canary is

# The places in their order, and who has how many of the clients there: the child has the rest.
EXECUTE, EXECUTED = ("old", 10), ("parent", 1)
HELLO, LISTENERS, READY = ("child", 2), ("child", 3), ("child", 4)
CANARY_SENT, CANARY_TAKEN = ("child", 5), ("child", 6)
BATCH_SENT, BATCH_TAKEN = ("child", 7), ("child", 8)
TOTALS, EXIT = ("child", 9), ("child", 11)
EARLY = (EXECUTE, EXECUTED, HELLO, LISTENERS, READY)
MOVING = (CANARY_SENT, CANARY_TAKEN, BATCH_SENT, BATCH_TAKEN, TOTALS)
PARENT = (("parent", 2), ("parent", 3), ("parent", 4), ("parent", 5), ("parent", 6), ("parent", 7), ("parent", 8), ("parent", 9))


def has_ended(client):
    """Has the server closed the connection?  It has sent nothing that was not read."""
    return bool(select.select([client], [], [], 0)[0])


def own_threads(pid):
    """The threads of xchgd, without main and those of a sanitizer."""
    names = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/task/{task}/comm") as stream:
            names.append(stream.read().strip())
    return [name for name in names if name.startswith("xchg-")]


class ReturnTest(PausedTest):
    CLIENTS = 100

    def each_place(self, places, action="pause", **variables):
        for side, point in self.each(places):
            server, clients, child = self.at_point(side, point, action, **variables)
            server.wait_line("upgraded")
            yield (side, point), server, clients, child

    def kill(self, pid, waits):
        """Kill a process. ${waits}: the other one is at the point, and goes on when this one has ended."""
        os.kill(pid, signal.SIGKILL)
        if waits:
            self.wait_zombie(pid)
            self.go_on()

    def check_serves(self, server, pid, clients, least, most):
        """Process ${pid} serves between ${least} and ${most} of the clients, counts them, takes new ones, and can be upgraded."""
        server.now = pid
        alive = [client for client in clients if lives(client)]
        self.assertIn(len(alive), range(least, most + 1))
        alive += self.clients(server, 3)
        values = server.stats()
        check_totals(values)
        self.assertEqual(values["open"], len(alive))
        server.signal(signal.SIGUSR2)
        server.returns = len(server.messages("returned"))
        server.upgrades = len(server.messages("upgraded"))
        server.followed()
        for client in alive:
            exchange(client, b"x")
        server.end()


class ParentIsKilled(ReturnTest):
    def test_before_connections_return(self):
        """The child serves all of them."""
        for place, server, clients, child in self.each_place(EARLY):
            self.kill(server.pid, place[0] == "child")
            if place[0] == "child":
                server.wait_line("return turned back: the child stays the server")
            server.wait_end(server.pid)
            self.check_serves(server, child, clients, self.CLIENTS, self.CLIENTS)

    def test_while_connections_return(self):
        """What it has taken is lost, and nothing else."""
        for _, server, clients, child in self.each_place(MOVING):
            self.kill(server.pid, True)
            lost = int(server.wait_line("return turned back: the child stays the server")["lost"])
            server.wait_end(server.pid)
            self.check_serves(server, child, clients, self.CLIENTS - lost, self.CLIENTS - lost)

    def test_when_all_have_returned(self):
        """It was the server: all is lost, as by every kill, and the child ends."""
        for _, server, clients, child in self.each_place((EXIT,)):
            self.kill(server.pid, True)
            self.assertEqual(server.wait_end(child), 0)
            self.assertFalse(any(lives(client) for client in clients))


class ChildIsKilled(ReturnTest):
    def test_before_connections_return(self):
        """It was the server: all is lost, and its parent ends with the exit code that says so."""
        for place, server, clients, child in self.each_place(EARLY):
            self.kill(child, place[0] != "child")
            if place in (LISTENERS, READY):  # the parent has all listeners, so it serves new clients
                server.wait_line("the old process has ended during the upgrade: this one serves")
                self.check_serves(server, server.pid, clients, 0, 0)
            else:
                self.assertEqual(server.wait_end(server.pid), 128 + signal.SIGKILL)
            self.assertFalse(any(lives(client) for client in clients))

    def test_while_connections_return(self):
        """The parent serves what it has taken and what was on its way."""
        for place, server, clients, child in self.each_place(MOVING):
            os.kill(child, signal.SIGKILL)
            moved = int(server.wait_line("the old process has ended during the upgrade: this one serves")["moved"])
            self.assertLessEqual(moved, TAKEN if place in (CANARY_SENT, CANARY_TAKEN) else self.CLIENTS)
            self.check_serves(server, server.pid, clients, moved, moved)

    def test_when_all_have_returned(self):
        for _, server, clients, child in self.each_place((EXIT,)):
            os.kill(child, signal.SIGKILL)
            server.wait_line("returned")
            self.check_serves(server, server.pid, clients, self.CLIENTS, self.CLIENTS)


class Stopped(ReturnTest):
    def all_places(self, places, **variables):
        """A server for each place, all stopped at the same time."""
        found = [(place, *self.at_point(*place, **variables)) for place in places for _ in range(ROUNDS)]
        time.sleep(LONG)  # the stimulus: one side is stopped for so long
        return found

    def check_returned(self, server, clients):
        server.followed()
        self.check_serves(server, server.pid, clients, len(clients), len(clients))

    def test_parent_before_it_comes_back(self):
        """The child serves for as long as that takes, also new clients."""
        for place, server, clients, child in self.all_places((EXECUTE, EXECUTED)):
            with self.subTest(place=place):
                for client in clients:
                    exchange(client, b"x")
                clients += self.clients(server, 3)
                os.kill(server.pid, signal.SIGCONT)
                self.check_returned(server, clients)

    def test_parent_while_connections_return(self):
        """The child waits for it at most as long as for any new process, kills it, and serves what the parent had not taken."""
        for place, server, clients, child in self.all_places(PARENT[2:-1], XCHG_UPGRADE_TIMEOUT="5s"):
            with self.subTest(place=place):
                lost = int(server.wait_line("return turned back: the child stays the server")["lost"])
                server.wait_end(server.pid)
                self.check_serves(server, child, clients, self.CLIENTS - lost, self.CLIENTS - lost)

    def test_parent_before_it_is_ready(self):
        """The child closes the channel, or kills it if it may have become ready since."""
        for place, server, clients, child in self.all_places((EXECUTED, *PARENT[:2]), XCHG_UPGRADE_TIMEOUT="5s"):
            with self.subTest(place=place):
                for client in clients:
                    exchange(client, b"x")

    def test_parent_that_has_taken_all(self):
        """It does not answer the totals: it is the server all the same."""
        for place, server, clients, child in self.all_places(PARENT[-1:]):
            with self.subTest(place=place):
                server.wait_line("the new process does not answer the totals")
                os.kill(server.pid, signal.SIGCONT)
                self.check_returned(server, clients)

    def test_child(self):
        """However long it was stopped, it goes on."""
        for place, server, clients, child in self.all_places((HELLO, LISTENERS, READY, *MOVING, EXIT)):
            with self.subTest(place=place):
                os.kill(child, signal.SIGCONT)
                self.check_returned(server, clients)


class ParentStays(ReturnTest):
    """The child is the server, and its parent passes signals on."""

    def check_parent(self, server, clients, child):
        for client in clients:
            exchange(client, b"x")
        self.assertEqual(server.stats()["open"], len(clients))
        server.signal(signal.SIGUSR2)  # the child upgrades, and keeps its id
        self.assertEqual(server.wait_line("upgrading", 1)["pid"], str(child))
        self.assertEqual(server.wait_line("returned", 0)["pid"], str(child))
        for client in clients:
            exchange(client, b"y")
            client.close()
        server.signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(60 * SLOW), 0)
        check_totals(numbers(server.wait_line("stopped")))
        self.assertTrue(server.is_over(child))

    def cannot_execute(self, **variables):
        program = shutil.copy(PAUSED, self.path("xchgd"))
        server, clients, child = self.at_point(*EXECUTE, "pause", program=program, **variables)
        os.chmod(program, 0o644)
        self.go_on()
        server.wait_line("cannot execute the new program in place: this process stays the parent of the server")
        os.chmod(program, 0o755)
        return server, clients, child

    def test_program_cannot_be_executed(self):
        self.check_parent(*self.cannot_execute())

    def test_stop_of_both(self):
        """It is one stop, however late the parent passes it on."""
        server, clients, child = self.cannot_execute(XCHG_MAX_MESSAGE="1MiB", XCHG_SNDBUF="16KiB", XCHG_DRAIN_TIMEOUT="10m")
        unread = server.connect(rcvbuf=4096)
        self.addCleanup(unread.close)
        data = b"x" * (1 << 20)
        unread.sendall(data)
        os.kill(child, signal.SIGTERM)
        server.wait_line("stopping")
        time.sleep(0.2)  # the stimulus: longer than a repetition may take (pool/signals.c: REPEAT_NS)
        server.signal(signal.SIGTERM)
        wait_taken(server.pid, signal.SIGTERM)
        self.assertEqual(receive_exactly(unread, len(data)), data)
        self.assertEqual(server.process.wait(LIMIT), 0)
        self.assertEqual(server.messages("second signal: ending at once"), [])

    def cannot_start(self, **variables):
        """It has too few descriptors, which its child had not."""
        limits = resource.prlimit(0, resource.RLIMIT_NOFILE)
        server, clients, child = self.at_point(*EXECUTED, "pause", **variables)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (9, limits[1]))
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (9, 9))
        self.go_on()
        fields = server.wait_line("return turned back: the child stays the server")
        self.assertEqual((fields["step"], fields["lost"]), ("start", "0"))
        return server, clients, child

    def test_new_program_cannot_start(self):
        self.check_parent(*self.cannot_start())

    def test_other_children(self):
        """The parent reaps those that it did not start, as xchgd without a handler always does."""
        fifo = self.path("other")
        os.mkfifo(fifo)
        for stays in (self.cannot_execute, self.cannot_start):
            with self.subTest(stays=stays.__name__):
                server, clients, _ = stays(wrap=["sh", "-c", f"for i in 1 2; do read x <{fifo} & done; exec \"$@\"", "sh"])
                child = int(server.wait_line("upgraded")["child"])
                self.assertEqual(len(self.children(server.pid)), 3)
                with open(fifo, "w"):
                    pass
                wait_for(lambda server=server, child=child: self.children(server.pid) == [child], "end of the other children")
                self.check_parent(server, clients, child)


class Replaced(ReturnTest):
    def test_another_file_meanwhile(self):
        """The parent executes what its child has executed, and the next upgrade the file that lies at the path then."""
        for backup in (None, self.path("backup")):
            with self.subTest(backup=backup):
                program = shutil.copy(PAUSED, self.path("xchgd"))
                server, clients, _ = self.at_point(*EXECUTE, "pause", program=program)
                if backup:
                    os.rename(program, backup)
                os.replace(shutil.copy(PAUSED, self.path("next")), program)
                self.go_on()
                for _ in range(2):
                    server.followed()
                    server.signal(signal.SIGUSR2)
                server.followed()
                self.assertEqual({fields["binary"] for fields in server.messages("upgrading")}, {program})
                self.assertTrue(os.path.samefile(f"/proc/{server.pid}/exe", program))
                self.check_serves(server, server.pid, clients, len(clients), len(clients))


class FirstProcess(ReturnTest):
    """The kernel does not kill the first process of a container from within."""

    def test_it_hangs(self):
        """The child serves what the parent had not taken. The parent stays the parent when it goes on."""
        command = ["unshare", "--pid", "--fork", "--kill-child"]
        if not may_run(command):
            self.skipTest("may not make a pid namespace")
        for point, taken in ((5, range(1, 9)), (7, range(9, 73))):
            with self.subTest(point=point):
                server = self.paused(f"parent {point} 1 pause", wrap=command, XCHG_UPGRADE_TIMEOUT="1s")
                clients = self.clients(server, self.CLIENTS)
                first, = self.children(server.pid)
                os.kill(first, signal.SIGUSR2)
                lost = int(server.wait_line("return turned back: the child stays the server")["lost"])
                self.assertIn(lost, taken)
                self.go_on()
                server.wait_line("the child stays the server: this process closes what it has, and stays its parent")
                wait_for(lambda clients=clients, lost=lost: sum(map(has_ended, clients)) == lost, "end of what the parent had taken")
                wait_for(lambda first=first: not own_threads(first), "end of the parent's threads")
                alive = [client for client in clients if not has_ended(client)] + self.clients(server, 3)
                for client in alive:
                    exchange(client, b"x")
                os.kill(first, signal.SIGUSR1)
                values = numbers(server.wait_line("stats"))
                check_totals(values)
                self.assertEqual(values["open"], len(alive))
                for client in alive:
                    client.close()
                os.kill(first, signal.SIGTERM)
                self.assertEqual(server.process.wait(60 * SLOW), 0)
                check_totals(numbers(server.wait_line("stopped")))


class StopSignals(ReturnTest):
    def check_stopped(self, server):
        self.assertEqual(server.process.wait(60 * SLOW), 0)
        check_totals(numbers(server.wait_line("stopped")))
        self.assertEqual(len(server.messages("stopped")), 1)

    def test_to_the_known_process(self):
        """The server drains and ends: the process that a supervisor knows ends with 0, and the child has ended before."""
        for place, server, clients, child in self.each_place((EXECUTE, EXECUTED, HELLO, LISTENERS, READY, *MOVING, EXIT), XCHG_DRAIN_TIMEOUT="1s"):
            os.kill(server.pid, signal.SIGTERM)
            self.go_on()
            self.check_stopped(server)
            self.assertTrue(server.is_over(child))
            self.assertFalse(any(lives(client) for client in clients))

    def test_to_both(self):
        """systemd and a terminal signal both processes: that counts as one signal."""
        for place, server, clients, child in self.each_place((EXECUTE, EXECUTED, HELLO, LISTENERS, READY, *MOVING, EXIT), XCHG_DRAIN_TIMEOUT="1s"):
            os.kill(child, signal.SIGTERM)
            os.kill(server.pid, signal.SIGTERM)
            self.go_on()
            self.check_stopped(server)
            self.assertEqual(server.messages("second signal: ending at once"), [])


if __name__ == "__main__":
    unittest.main()
