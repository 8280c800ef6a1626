"""For the live tests of upgrades: servers that are followed from one process to the next, and processes that stop at a point.

    server = self.server(XCHG_WORKERS="2")     # in a test of UpgradeTest
    clients = self.clients(server, 100)
    fields = server.upgrade()                  # SIGUSR2; afterwards ${server} has the new program and its old id
    totals = server.end()

Under PausedTest one side stops, ends or crashes at a point of pool/upgrade_point.h (tests/live/xchgd_paused.c).
"""

import contextlib
import ctypes
import os
import signal
import time
import unittest

from clients import FolderTest
from endpoint import Endpoint
from xchgd import LIMIT, PROGRAM, SANDBOX, WRAP, Server, check_totals, numbers, receive_exactly

PAUSED = os.path.join(os.path.dirname(PROGRAM), "tests", "live", "xchgd_paused")
POINTS = range(1, 10)  # of the way to the child
ROUNDS = 3  # how often each row of a matrix runs
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
        self.upgrades = self.returns = 0  # so far
        super().__init__(*arguments, **variables)

    @property
    def pid(self):
        return self.now or self.process.pid

    def signal(self, number):
        os.kill(self.pid, number)

    def wait_end(self, pid):
        """Wait until process ${pid} has ended. Return: its status as of subprocess; None if its parent was the old process and reaped it."""
        if pid == self.process.pid:
            return self.process.wait(LIMIT)
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                found, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # its parent has not ended yet
                found, status = 0, 0
                if not os.path.exists(f"/proc/{pid}"):
                    return None
            if found:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > deadline:
                raise AssertionError(f"process {pid} does not end; the log was:\n" + "\n".join(self.lines[-50:]))
            time.sleep(0.005)  # the pace of the looks; only the end or the deadline ends the wait

    def is_over(self, pid):
        """Has the process ended, which is no child of this one while its parent lives? It is waited for."""
        try:
            return os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            return not os.path.exists(f"/proc/{pid}")

    def followed(self):
        """Wait for msg=upgraded, msg=returned and the end of the child. Return: the fields of msg=upgraded."""
        fields, pid = self.wait_line("upgraded", self.upgrades), self.pid
        self.upgrades += 1
        back = self.returned()
        if (fields["pid"], fields["child"]) != (back["pid"], back["child"]) or int(fields["pid"]) != pid:
            raise AssertionError(f"{fields} and {back} are of different processes")
        return fields

    def returned(self):
        """Wait for msg=returned and the end of the child. Return: its fields."""
        fields = self.wait_line("returned", self.returns)
        self.returns += 1
        self.wait_end(int(fields["child"]))
        self.now = None if int(fields["pid"]) == self.process.pid else int(fields["pid"])
        return fields

    def followed_to_child(self, expect=0):
        """Wait for msg=upgraded and, if ${expect} is not None, for the end of the old process; the child is the server. Return: the fields.

        With None the old process may come back: returned().
        """
        fields = self.wait_line("upgraded", self.upgrades)
        self.upgrades += 1
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
            self.now = None  # the group is that of the first process
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


class PausedTest(UpgradeTest):
    CLIENTS = 100

    def paused(self, test, kind=UpgradeServer, *arguments, **variables):
        fifo = self.path("fifo")
        if not os.path.exists(fifo):
            os.mkfifo(fifo)
        once = self.path(f"once-{len(os.listdir(self.folder))}")
        with open(once, "w"):
            pass
        variables.setdefault("program", PAUSED)
        return self.server(kind, *arguments, UPGRADE_TEST=test, UPGRADE_FIFO=fifo, UPGRADE_ONCE=once, XCHG_WORKERS="2",
                           **variables)

    def go_on(self):
        with open(self.path("fifo"), "w"):
            pass

    def at_point(self, side, point, action="stop", nth=1, clients=None, **variables):
        """Start a server and clients, and an upgrade in which one side does ${action} at the ${nth} time that it is at ${point}.

        Return: the server, the clients and the id of the new process.
        """
        server = self.paused(f"{side} {point} {nth} {action}", **variables)
        found = self.clients(server, self.CLIENTS if clients is None else clients)
        server.signal(signal.SIGUSR2)
        fields = server.wait_line("point")
        child = int(fields["pid"]) if side in ("new", "child") else self.children(server.pid)[0]
        if action == "stop":
            self.wait_state(int(fields["pid"]), "T")
        return server, found, child

    def children(self, pid):
        with open(f"/proc/{pid}/task/{pid}/children") as stream:
            return [int(child) for child in stream.read().split()]

    def wait_state(self, pid, wanted):
        """Wait until all threads of a process are in a state of proc(5): T = stopped, Z = ended, and the descriptors are closed."""
        deadline = time.monotonic() + LIMIT
        states = set()
        while states != {wanted}:
            self.assertLess(time.monotonic(), deadline)
            states.clear()
            for task in os.listdir(f"/proc/{pid}/task"):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/task/{task}/stat") as stream:
                    states.add(stream.read().rsplit(")", 1)[1].split()[0])

    def wait_zombie(self, pid):
        self.wait_state(pid, "Z")

    def each(self, rows):
        """Each row ROUNDS times, as a subtest. The first failure ends the test."""
        for row in rows:
            for nth in range(ROUNDS):
                ended = False
                with self.subTest(row=row, nth=nth):
                    try:
                        yield row
                    except GeneratorExit:
                        ended = True
                        self.fail("the test has failed in this row")
                if ended:
                    return

    def check_turned_back(self, server, clients, lost=None):
        """The old process serves all but the lost ones, its totals add up, and it can upgrade afterwards."""
        fields = numbers(server.turned_back())
        alive = [client for client in clients if lives(client)]
        self.assertEqual(len(alive), len(clients) - fields["lost"])
        self.assertNotIn("moved", fields)  # they are lost
        if lost is not None:
            self.assertEqual(fields["lost"], lost)
        alive += self.clients(server, 1)
        values = server.stats()
        check_totals(values)
        self.assertEqual((values["open"], values["closed_error"]), (len(alive), fields["lost"]))
        self.assertEqual(numbers(server.upgrade())["moved"], len(alive))
        for client in alive:
            exchange(client, b"x")
