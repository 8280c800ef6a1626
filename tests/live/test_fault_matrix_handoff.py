"""Goal: the hand-off from the acceptor to a worker survives its faults (docs/fault-matrix.md, entries 8 to 13).

Models and the explorer prove on the code itself that no wake-up is lost (9) and that a full eventfd is
harmless (10). These tests show the same from outside.
"""

import contextlib
import ctypes
import errno
import os
import re
import resource
import select
import signal
import subprocess
import tempfile
import time

from fault_matrix import LIBC, LINES, SECOND, Cgroup, FaultTest, can_inject, covers_fault
from test_handler import HOLDS, WATCHDOG_MS, Hold, Talk, plugin
from xchgd import LIMIT, Server, greet, is_closed, is_silent, receive_exactly, run



@covers_fault(8)
class Full(FaultTest):
    """Goal: full queues lose no connection."""

    QUEUE = 4

    @contextlib.contextmanager
    def full(self, **variables):
        """A handler blocks the only worker, so its queue is full after four of 400 clients."""
        with self.survive(greeting=b"hello\n", XCHG_HANDLER=plugin("holder"), XCHG_WORKERS="1", XCHG_QUEUE=str(self.QUEUE),
                          **variables) as fault, contextlib.ExitStack() as stack:
            with fault.bystander.paused(), stack.enter_context(Talk(fault.server)) as holder:
                before = fault.server.stats()
                with Hold(holder):
                    clients = [stack.enter_context(fault.server.connect()) for _ in range(400)]
                    yield fault, clients, before
                self.assertEqual(holder.hear(), "held")
                for client in clients:
                    if client.fileno() != -1:
                        self.assertEqual(receive_exactly(client, 6), b"hello\n")
            self.assertEqual(fault.server.stats()["queue_depth_max"], self.QUEUE - 1)  # of the last client that found room

    def test_wait(self):
        """Under wait, the clients without room wait in the backlog. All are served in the end."""
        with self.full() as (fault, clients, before):
            values = fault.server.wait_stats(lambda values: values["accepted"] >= before["accepted"] + self.QUEUE)
            self.assertTrue(is_silent(clients[0], 0.3))
            values = fault.server.stats()
            self.assertEqual(values["accepted"] - before["accepted"], self.QUEUE)
            self.assertEqual(values["closed_overload"], 0)
            fault.expect_ends(finished=1 + 400)

    def test_refuse(self):
        """Under refuse, the clients without room are closed at once and counted. The others are served."""
        refused = 400 - self.QUEUE
        with self.full(XCHG_OVERLOAD="refuse") as (fault, clients, _):
            fault.server.wait_stats(lambda values: values["closed_overload"] >= refused, "client that was refused")
            for client in clients[self.QUEUE:]:
                self.assertTrue(is_closed(client))
                client.close()
            fault.expect_ends(finished=1 + self.QUEUE, overload=refused)

    def test_another_worker(self):
        """While a handler blocks one worker, the other worker gets every new connection."""
        with self.survive(greeting=b"hello\n", XCHG_HANDLER=plugin("holder"), XCHG_WATCHDOG=f"{WATCHDOG_MS}ms", XCHG_WORKERS="2",
                          XCHG_QUEUE="2") as fault, contextlib.ExitStack() as stack:
            with fault.bystander.paused():
                theirs = self.thread_of(fault.bystander.client)
            clients = [stack.enter_context(Talk(fault.server))]
            while (held := clients[-1].ask("thread")) == theirs:
                clients.append(stack.enter_context(Talk(fault.server)))
            with Hold(clients[-1]):
                fault.server.wait_line(HOLDS)
                for _ in range(50):
                    other = stack.enter_context(Talk(fault.server))
                    self.assertNotEqual(other.ask("thread"), held)
            self.assertEqual(clients[-1].hear(), "held")
            stack.close()
            fault.expect_ends(finished=50 + len(clients))

    def thread_of(self, client):
        """The name of the thread that serves this client, from the handler."""
        client.sendall(b"thread\n")
        with client.makefile("rb") as lines:
            return lines.readline().decode().rstrip("\n")


class Wake(FaultTest):
    @covers_fault(9)
    def test_no_wake_up_is_lost(self):
        """On one processor, each of a thousand clients finds the workers asleep or about to sleep."""
        one = min(os.sched_getaffinity(0))
        with self.survive(preexec=lambda: os.sched_setaffinity(0, {one}), XCHG_WORKERS="2") as fault:
            longest = 0.0
            for _ in range(1000):
                begun = time.monotonic()
                with fault.server.connect() as client:
                    greet(client)
                longest = max(longest, time.monotonic() - begun)
            self.assertLessEqual(longest, SECOND)
            stats = fault.server.stats()
            self.assertLessEqual(stats["handoff_ns_max"], SECOND * 1e9)
            fault.expect_ends(finished=1000)

    @can_inject
    @covers_fault(10)
    def test_interrupted_wake(self):
        """Every second write to an eventfd and to the log is interrupted. No wake-up is lost."""
        with self.survive(XCHG_WORKERS="2") as fault:
            with tempfile.NamedTemporaryFile("r") as trace:
                with self.attached(fault.server, "write:error=EINTR:when=1+2", trace.name):
                    for _ in range(100):
                        with fault.server.connect() as client:
                            greet(client)
                # A write to an eventfd has eight bytes, the lowest first.
                interrupted = re.findall(r'"\\1(?:\\0){7}", 8\) += -1 EINTR', trace.read())
                self.assertGreater(len(interrupted), 5)
            self.assertGreater(fault.server.stats()["wakes"], 0)
            fault.expect_ends(finished=100)

    @contextlib.contextmanager
    def attached(self, server, rule, trace):
        """Inject into a running server: its start needs the same calls."""
        command = ["strace", "-f", "-p", str(server.pid), "-o", trace, "-e", "trace=" + rule.split(":")[0], "-e", "inject=" + rule]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as tracer:
            try:
                said = tracer.stderr.readline()  # "Process 1 attached with 4 threads"
                if "attached" not in said:
                    self.skipTest(f"strace attaches to nothing: {said.strip()}")
                yield
            finally:
                tracer.terminate()


class Stuck(FaultTest):
    """Goal: a thread that does not run delays only its own connections."""

    @covers_fault(11)
    def test_frozen_worker(self):
        """A frozen worker keeps its connections. The other worker serves all new clients, and later all are served."""
        freezer = Cgroup(self, "freezer")
        with self.survive(XCHG_WORKERS="2", XCHG_MESSAGE_TIMEOUT="0") as fault:
            server = fault.server
            with contextlib.ExitStack() as stack, fault.bystander.paused():
                with freezer.frozen(server.threads()["xchg-work-0"]):
                    waiting = []
                    for _ in range(40):
                        waiting.append(stack.enter_context(server.connect()))
                        waiting = self.served(waiting)
                    self.assertEqual(len(waiting), 1)  # the connection in its queue tells the acceptor that it is blocked
                    begun = time.monotonic()
                greet(waiting[0])
                self.assertLessEqual(time.monotonic() - begun, SECOND)
            fault.expect_ends(finished=40)

    def served(self, waiting):
        """Serve the greeted clients until at most one waits or nothing happens for a second. Returns the waiting
        ones."""
        while len(waiting) > 1 and (ready := select.select(waiting, [], [], SECOND)[0]):
            for client in ready:
                greet(client)
            waiting = [client for client in waiting if client not in ready]
        return waiting

    @covers_fault(11)
    def test_frozen_acceptor(self):
        """While the acceptor is frozen, connected clients notice nothing. New clients wait and are served later."""
        freezer = Cgroup(self, "freezer")
        with self.survive(XCHG_WORKERS="2", **LINES) as fault, contextlib.ExitStack() as stack:
            with freezer.frozen(fault.server.threads()["xchg-accept"]):
                clients = [stack.enter_context(fault.server.connect()) for _ in range(40)]
                for client in clients:
                    client.sendall(b"hello\n")
                answers = fault.bystander.answers
                self.assertTrue(is_silent(clients[0], 0.3))
                self.assertGreater(fault.bystander.answers, answers)
                begun = time.monotonic()
            for client in clients:
                self.assertEqual(receive_exactly(client, 6), b"hello\n")
            self.assertLessEqual(time.monotonic() - begun, SECOND)
            fault.expect_ends(finished=40)

    @covers_fault(12)
    def test_worker_dies(self):
        """A crash of a worker ends the process by its signal. Its clients see the end, and a successor binds at
        once."""
        address = "127.0.0.1:0"
        for signum in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS):
            quiet = {name: os.environ.get(name, "") + ":handle_segv=0:handle_sigbus=0:handle_abort=0"
                     for name in ("ASAN_OPTIONS", "TSAN_OPTIONS")}
            with Server(XCHG_LISTEN=address, XCHG_WORKERS="2", preexec=no_core, **quiet) as server:
                address = server.addresses[0]
                with server.connect() as client:
                    receive_exactly(client, 20)
                    tgkill(server.pid, server.threads()["xchg-work-1"], signum)
                    self.assertEqual(server.process.wait(LIMIT), -signum)
                    with contextlib.suppress(ConnectionError):
                        self.assertEqual(client.recv(1), b"")


def no_core():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def tgkill(process, thread, signum):
    """Send a signal to one thread."""
    tgkill_number = {"x86_64": 234}.get(os.uname().machine, 131)
    if LIBC.syscall(tgkill_number, process, thread, int(signum)) == -1:
        raise OSError(ctypes.get_errno(), "tgkill")


class NoThread(FaultTest):
    """Goal: if the system refuses a thread at the start, the server logs one line and exits with 71."""

    def refused(self, result):
        self.assertEqual(result.returncode, 71, result.stderr)
        self.assertNotIn("msg=listening", result.stderr)
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        self.assertRegex(result.stderr, "(?i)thread|worker|accept")
        self.assertIn(os.strerror(errno.EAGAIN), result.stderr)

    @covers_fault(13)
    @covers_fault(61)
    def test_no_more_processes(self):
        """A control group allows fewer threads than the start needs."""
        pids = Cgroup(self, "pids")
        quiet = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"  # the leak check needs a thread
        for most in (1, 2, 4):
            with self.subTest(most):
                pids.write("pids.max", most)
                self.refused(run(preexec=pids.join, XCHG_LISTEN="127.0.0.1:0", XCHG_WORKERS="4", ASAN_OPTIONS=quiet))
