"""What the tests of docs/fault-matrix.md have in common: while a server suffers a fault, no other client may notice.

    class Some(FaultTest):
        @covers_fault(99)
        def test_some_fault(self):
            with self.survive(XCHG_EXCHANGE="echo") as fault:
                ...                            # provoke the fault on fault.server and let it end
                fault.expect_ends(reset=50)    # how each connection of the fault ended

survive() starts the server. A bystander in a thread of its own talks to the server until the block ends: over one connection if
the exchange is endless, else over one connection after the other. After the block, survive() checks:

- The bystander and a new client were answered within SECOND.
- Every connection and every descriptor that was opened is closed again.
- accepted = finished + closed + open, and each connection of the fault ended for the reason that the test expects.
- The server stops in order.

unharmed() checks the same around a server of endless lines (LINES) that the test starts itself, except the reasons, which the
test compares. Its bystander is a connection that the test asks itself:

    with serve(**LINES) as server, unharmed(server) as ask_bystander:
        ...
        ask_bystander()
"""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from clients import ended, serve
from xchgd import GREETING, LIMIT, SLOW, WRAP, check_totals, receive_all, receive_exactly

LINES = {"XCHG_EXCHANGE": "line", "XCHG_MESSAGES": "0"}
SECOND = 1.6 * SLOW  # the longest answer and the longest recovery: one second, and the delays of a busy machine
LIBC = ctypes.CDLL(None, use_errno=True)
PROBES = {"nul": b"hi\0", "line": b"hi\n", "u16": b"\0\2hi", "u32": b"\0\0\0\2hi", "raw": b"hi", "fixed:4": b"four"}
FRAMES = {"greet": "nul", "line": "line", "echo": "raw", "discard": "raw"}

can_inject = unittest.skipUnless(shutil.which("strace") and not WRAP, "needs strace and no other wrap")


def covers_fault(_number):
    """Mark a test, or each test of a class, as one that covers this entry of docs/fault-matrix.md.

    test_fault_matrix_table.py compares the marks with the entries.
    """
    return lambda test: test


# ---- the bystander and its server ----------------------------------------------------------------


class Protocol:
    """What a correct client says to a server with ${variables}, and what it must hear."""

    def __init__(self, variables, greeting=None):
        preset = variables.get("XCHG_EXCHANGE", "greet")
        handler = "XCHG_HANDLER" in variables
        frame = "line" if handler else variables.get("XCHG_FRAME", FRAMES[preset])
        messages = 0 if handler else int(variables.get("XCHG_MESSAGES", {"greet": "1", "line": "1"}.get(preset, "0")))
        self.endless = messages == 0
        self.probe = PROBES[frame] * max(messages, 1)
        greets = preset == "greet" and not handler and variables.get("XCHG_GREETING") != "none"
        self.greeting = greeting if greeting is not None else GREETING if greets else b""
        echoes = handler or variables.get("XCHG_REPLY", {"greet": "none", "discard": "none"}.get(preset, "echo")) == "echo"
        self.answer = self.probe if echoes else b""

    def open(self, server):
        client = server.connect()
        self.expect(client, self.greeting)
        return client

    def ask(self, client):
        client.sendall(self.probe)
        self.expect(client, self.answer)

    @staticmethod
    def expect(client, data):
        if receive_exactly(client, len(data)) != data:
            raise AssertionError(f"the answer is not {data!r}")

    def visit(self, server):
        """One connection from its start to its end."""
        with self.open(server) as client:
            self.ask(client)
            if self.endless:
                client.shutdown(socket.SHUT_WR)
            if rest := receive_all(client):
                raise AssertionError(f"more than the answer: {rest!r:.80}")


class Bystander(threading.Thread):
    """A client that has nothing to do with the fault. It talks until the fault is over and times the slowest answer."""

    def __init__(self, server, protocol):
        super().__init__(daemon=True)
        self.server, self.protocol = server, protocol
        self.longest, self.connections, self.answers, self.failure = 0.0, 0, 0, None
        self.lock, self.over, self.begun = threading.Lock(), threading.Event(), threading.Event()
        self.client = None  # its connection, if the exchange is endless; a test may use it within paused()

    def run(self):
        try:
            if self.protocol.endless:
                with self.protocol.open(self.server) as self.client:
                    self.connections += 1
                    self.talk(lambda: self.protocol.ask(self.client))
            else:
                self.talk(self.visit)
        except (OSError, AssertionError) as failure:
            self.failure = failure

    def visit(self):
        self.connections += 1
        self.protocol.visit(self.server)

    def talk(self, ask):
        while not self.over.is_set():
            with self.lock:
                self.timed(ask)
            self.over.wait(0.01)  # the bystander's pace

    def timed(self, ask):
        begun = time.monotonic()
        ask()
        self.longest = max(self.longest, time.monotonic() - begun)
        self.answers += 1
        self.begun.set()

    @contextlib.contextmanager
    def paused(self):
        """Ask nothing while the test itself holds the whole server."""
        with self.lock:
            yield

    def end(self):
        self.over.set()
        self.join(LIMIT)
        if self.failure:
            raise AssertionError(f"the bystander noticed the fault: {self.failure!r}") from self.failure
        if self.is_alive():
            raise AssertionError("the bystander is never answered")


class Fault:
    """What survive() gives to the test."""

    def __init__(self, server, bystander):
        self.server, self.bystander, self.expected = server, bystander, {}

    def expect_ends(self, **counts):
        """How the connections of the fault end: {reason: count or range}. "finished" is one of the reasons."""
        self.expected = counts

    def check(self, totals):
        check_totals(totals)
        counts = ended(totals)
        counts["finished"] = counts.get("finished", 0) - self.bystander.connections
        for reason in set(counts) | set(self.expected):
            count, expected = counts.get(reason, 0), self.expected.get(reason, 0)
            if count not in (expected if isinstance(expected, range) else (expected,)):
                raise AssertionError(f"{count} connections ended as {reason}, expected {expected}: {counts}")


class FaultTest(unittest.TestCase):
    @contextlib.contextmanager
    def survive(self, *, greeting=None, **variables):
        with serve(**variables) as server:
            bystander = Bystander(server, Protocol(variables, greeting))
            bystander.visit()
            settle(server)
            idle = server.descriptors()
            bystander.begun.clear()
            bystander.start()
            self.assertTrue(bystander.begun.wait(LIMIT), "the bystander is not answered before the fault")
            fault = Fault(server, bystander)
            try:
                yield fault
                bystander.timed(bystander.visit)
            finally:
                bystander.over.set()
            bystander.end()
            server.wait_stats(lambda values: values["open"] == 0, "end of every connection")
            wait_descriptors(server, idle)
            fault.check(server.stop())
            self.assertGreaterEqual(bystander.answers, 1)
            self.assertLessEqual(bystander.longest, SECOND, f"the slowest of {bystander.answers} answers")

    @contextlib.contextmanager
    def stopped(self, fault):
        """SIGSTOP the server for the length of the block."""
        with fault.bystander.paused():
            fault.server.pause()
            try:
                yield
            finally:
                fault.server.resume()


def wait_descriptors(server, count):
    """Wait at most SECOND for ${count} descriptors: a connection is counted as ended shortly before or after its close."""
    deadline = time.monotonic() + SECOND
    while (now := server.descriptors()) != count:
        if time.monotonic() > deadline:
            raise AssertionError(f"{now} descriptors, {count} before")


def ask(client, text=b"is anybody there?\n"):
    """Send a line, which must come back within SECOND."""
    start = time.monotonic()
    client.sendall(text)
    answer = receive_exactly(client, len(text))
    took = time.monotonic() - start
    if answer != text or took > SECOND:
        raise AssertionError(f"answered {answer!r} after {took:.3f} s")


def settle(server, count=0):
    """Wait at most SECOND until ${count} connections are open, and return the statistics."""
    start = time.monotonic()
    values = server.wait_stats(lambda values: values["open"] == count, f"{count} open")
    took = time.monotonic() - start
    if took > SECOND:
        raise AssertionError(f"{took:.3f} s until {count} connections were open")
    check_totals(values)
    return values


@contextlib.contextmanager
def unharmed(server):
    """See the top of the file. Gives a function that asks the bystander; adds two connections that end as `finished`."""
    before = server.descriptors()
    open_before = server.stats()["open"]
    with server.connect() as bystander:
        ask(bystander)
        yield lambda: ask(bystander)
        ask(bystander)
        with server.connect() as late:
            ask(late)
    settle(server, open_before)
    if server.process.poll() is not None:
        raise AssertionError(f"the server has ended: {server.process.returncode}")
    wait_descriptors(server, before)


# ---- to provoke faults ---------------------------------------------------------------------------


def injections(trace, call, error):
    """How many calls of ${call} strace has failed with ${error} so far; ${trace} is the file of its option -o."""
    with open(trace, errors="backslashreplace") as f:
        return sum(call in line and f" = -1 {error} " in line and "(INJECTED)" in line for line in f)


@contextlib.contextmanager
def meanwhile(work):
    """Repeat work() in a thread until the block ends; an exception of work() is raised at the end of the block."""
    done = threading.Event()
    failures = []

    def loop():
        try:
            while not done.is_set():
                work()
        except BaseException as failure:
            failures.append(failure)
    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(LIMIT)
    if failures:
        raise failures[0]


class Cgroup:
    """A control group (version 1) for one test; the test is skipped if the machine has no such controller."""

    TOP = "/sys/fs/cgroup"

    def __init__(self, test, controller, **values):
        self.top = os.path.join(self.TOP, controller)
        self.path = os.path.join(self.top, f"xchg-{os.getpid()}-{time.monotonic_ns()}")
        try:
            os.mkdir(self.path)
            test.addCleanup(self.remove)
            for name, value in values.items():
                self.write(f"{controller}.{name}", value)
        except OSError as failure:
            test.skipTest(f"no control group (version 1): {controller}: {failure}")

    def write(self, name, value):
        with open(os.path.join(self.path, name), "w") as f:
            f.write(str(value))

    def read(self, name):
        with open(os.path.join(self.path, name)) as f:
            return f.read().strip()

    def add(self, pid):
        self.write("cgroup.procs", pid)

    def join(self):
        """A preexec that starts the server in the group."""
        return self.add(os.getpid())

    def freeze(self, state="FROZEN"):
        """Set the state of a freezer group and wait until it is reached."""
        self.write("freezer.state", state)
        deadline = time.monotonic() + LIMIT
        while self.read("freezer.state") != state:
            os.sched_yield()
            if time.monotonic() > deadline:
                raise AssertionError(f"freezer.state stays {self.read('freezer.state')}, not {state}")

    @contextlib.contextmanager
    def frozen(self, thread):
        """Freeze one thread, which SIGSTOP cannot do."""
        self.write("tasks", thread)
        self.freeze()
        try:
            yield
        finally:
            self.freeze("THAWED")
            with open(os.path.join(self.top, "tasks"), "w") as f:
                f.write(str(thread))

    def remove(self):
        """Kill the processes of the group and remove it, which succeeds once they are reaped."""
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                for pid in self.read("cgroup.procs").split():
                    os.kill(int(pid), signal.SIGKILL)
                os.rmdir(self.path)
                return
            except ProcessLookupError:
                pass
            except OSError:
                if time.monotonic() > deadline:
                    raise
            os.sched_yield()


def own_mounts(script):
    """A wrap that gives the server a mount namespace and runs ${script} in it first."""
    return ["unshare", "-m", "sh", "-ec", script + '\nexec "$@"', "sh"]


def may_mount():
    """May this process mount in a namespace of its own?"""
    if not shutil.which("unshare"):
        return False
    tried = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/tmp"], stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return tried.returncode == 0


def folder(test):
    """A temporary folder that is removed after the test."""
    path = tempfile.mkdtemp(prefix="xchg-")
    test.addCleanup(shutil.rmtree, path)
    return path
