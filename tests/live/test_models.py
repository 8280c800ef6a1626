"""Goal: the models iterative, fork and thread work (docs/reference.md, Concurrency models)."""

import contextlib
import os
import signal
import socket
import tempfile
import time
import unittest

from fault_matrix import can_inject, covers_fault
from xchgd import (GREETING, PLAIN, Notify, Server, greet, is_silent, receive_all,
                   receive_exactly, strace)

MODELS = ("iterative", "fork", "thread")


def children(pid):
    """The states of the child processes of ${pid}."""
    states = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as f:
                state, parent = f.read().rsplit(")", 1)[1].split()[:2]
        except OSError:
            continue
        if int(parent) == pid:
            states[int(name)] = state
    return states


class Models(unittest.TestCase):
    def each(self, models=MODELS, **variables):
        """A context with a running server for each model."""
        return [self.running(model, variables) for model in models]

    @contextlib.contextmanager
    def running(self, model, variables):
        """A server of the model with a notify socket, so that a test can wait for the stop."""
        with self.subTest(model), tempfile.TemporaryDirectory() as folder, \
                Notify(folder) as notify, \
                Server(XCHG_MODEL=model, NOTIFY_SOCKET=notify.address, **variables) as server:
            notify.wait("READY=1")
            server.notify = notify
            yield server

    def begin_stop(self, server):
        server.process.send_signal(signal.SIGTERM)
        server.notify.wait("STOPPING=1")

    def test_reasons_add_up(self):
        """Connections of a child, of a thread and of the only thread end for several reasons and are all counted."""
        for context in self.each(XCHG_FRAME="u16", XCHG_GREETING="none", XCHG_REPLY="echo",
                                 XCHG_MAX_MESSAGE="8", XCHG_MESSAGES="1"):
            with context as server:
                for data, answer in [(b"\0\3abc", b"\0\3abc"), (b"\0\3ab", b""), (b"\0\11", b""),
                                     (b"", b"")]:
                    with server.connect() as client:
                        client.sendall(data)
                        client.shutdown(socket.SHUT_WR)
                        self.assertEqual(receive_all(client), answer)
                server.wait_stats(lambda s: s["accepted"] == 4 and s["open"] == 0)
                totals = server.stop()
                self.assertEqual([totals[name] for name in ("finished", "closed_truncated",
                                                            "closed_too_long", "closed_peer")],
                                 [1, 1, 1, 1])

    def test_concurrent(self):
        """fork and thread serve many connections at the same time."""
        for context in self.each(("fork", "thread"), XCHG_EXCHANGE="echo"):
            with context as server:
                clients = [server.connect() for _ in range(10)]
                for i, client in enumerate(reversed(clients)):
                    client.sendall(b"%d" % i)
                    self.assertEqual(receive_exactly(client, 1), b"%d" % i)
                self.assertEqual(server.stats()["open"], 10)
                for client in clients:
                    client.close()
                server.wait_stats(lambda s: s["finished"] == 10)
                self.assertEqual(server.stop()["finished"], 10)

    def test_slots_come_back(self):
        """The slots of very short connections are neither lost nor used twice."""
        for context in self.each(("fork", "thread"), XCHG_MAX_CONNECTIONS="3"):
            with context as server:
                for _ in range(30):
                    clients = [server.connect() for _ in range(6)]
                    for client in clients:
                        client.sendall(b"early\0")
                    for client in clients:
                        with client:
                            self.assertEqual(receive_all(client), GREETING)
                server.wait_stats(lambda s: s["finished"] == 180 and s["open"] == 0)
                server.stop()

    def test_one_at_a_time(self):
        """iterative leaves the second client in the backlog until the first is served."""
        for context in self.each(("iterative",)):
            with context as server:
                first, second = server.connect(), server.connect()
                self.assertTrue(is_silent(second, 0.3))
                self.assertEqual(server.stats()["accepted"], 1)
                greet(first)
                greet(second)
                self.assertEqual(server.stop()["finished"], 2)

    def test_a_thread_or_process_each(self):
        """Each connection has a process under fork and a thread under thread."""
        for model, count in [("fork", lambda pid: len(children(pid))),
                             ("thread", lambda pid: len(os.listdir(f"/proc/{pid}/task")))]:
            for context in self.each((model,), XCHG_EXCHANGE="echo"):
                with context as server:
                    before = count(server.pid)
                    clients = [server.connect() for _ in range(3)]
                    for client in clients:
                        client.sendall(b"x")
                        self.assertEqual(receive_exactly(client, 1), b"x")
                    self.assertEqual(count(server.pid) - before, 3)
                    for client in clients:
                        client.close()
                    server.wait_stats(lambda s: s["open"] == 0)
                    server.stop()

    def test_ignored_variables(self):
        """Variables of the pool are ignored with one warning that names those that are set."""
        names = dict(XCHG_WORKERS="2", XCHG_QUEUE="8", XCHG_DISPATCH="least", XCHG_PIN="on",
                     XCHG_SPIN="1ms")
        for context in self.each(**names):
            with context as server:
                server.stop()
                warnings = [line for line in server.lines if "level=warn" in line]
                self.assertEqual(len(warnings), 1, server.lines)
                for name in names:
                    self.assertIn(name, warnings[0])
        for context in self.each():
            with context as server:
                server.stop()
                self.assertFalse([line for line in server.lines if "level=warn" in line])

    def test_idle_is_drained(self):
        """At the stop an endless connection between messages is half-closed and finished."""
        for context in self.each(XCHG_EXCHANGE="echo"):
            with context as server:
                with server.connect() as client:
                    client.sendall(b"x")
                    self.assertEqual(receive_exactly(client, 1), b"x")
                    self.begin_stop(server)
                    self.assertEqual(receive_all(client), b"")
                self.assertEqual(server.finish()["finished"], 1)

    def test_begun_completes(self):
        """At the stop a started message is completed and answered."""
        for context in self.each(XCHG_EXCHANGE="line"):
            with context as server:
                with server.connect() as client:
                    client.sendall(b"be")
                    server.wait_stats(lambda s: s["accepted"] == 1)
                    self.begin_stop(server)
                    client.sendall(b"gun\n")
                    self.assertEqual(receive_all(client), b"begun\n")
                self.assertEqual(server.finish()["finished"], 1)

    def test_drain_timeout(self):
        """At the drain timeout the remaining connections are closed as `drain`, and the exit is clean."""
        for context in self.each(XCHG_DRAIN_TIMEOUT="400ms", XCHG_MESSAGE_TIMEOUT="0"):
            with context as server:
                with server.connect() as client:
                    receive_exactly(client, 20)
                    client.sendall(b"never ending")
                    server.wait_stats(lambda s: s["accepted"] == 1)
                    left = set(children(server.pid))
                    start = time.monotonic()
                    self.begin_stop(server)
                    self.assertEqual(server.finish()["closed_drain"], 1)
                    self.assertGreaterEqual(time.monotonic() - start, 0.4)
                    self.assertFalse([pid for pid in left if os.path.exists(f"/proc/{pid}")])

    def test_no_zombies(self):
        """Every child is waited for while the server runs, however it ended."""
        for context in self.each(("fork",)):
            with context as server:
                clients = [server.connect() for _ in range(20)]
                for client in clients[:10]:
                    greet(client)
                for client in clients:
                    client.close()
                server.wait_stats(lambda s: s["accepted"] == 20 and s["open"] == 0)
                server.wait_stats(lambda s: not children(server.pid), "end of all children")
                server.stop()

    @covers_fault(12)
    def test_killed_child(self):
        """A killed child costs its connection and nothing else. The totals add up."""
        for context in self.each(("fork",)):
            with context as server:
                with server.connect() as client:
                    receive_exactly(client, 20)
                    (child,) = children(server.pid)
                    os.kill(child, signal.SIGKILL)
                    try:
                        self.assertEqual(receive_all(client), b"")
                    except ConnectionError:
                        pass
                server.wait_stats(lambda s: s["accepted"] == 1 and s["open"] == 0)
                with server.connect() as client:
                    greet(client)
                server.wait_stats(lambda s: s["open"] == 0)
                totals = server.stop()
                self.assertEqual((totals["accepted"], totals["finished"]), (2, 1))

    def test_signal_to_the_group(self):
        """Ctrl-C reaches the children, too. A started message is still completed."""
        for context in self.each(("fork",), XCHG_EXCHANGE="line"):
            with context as server:
                with server.connect() as client:
                    client.sendall(b"be")
                    server.wait_stats(lambda s: s["accepted"] == 1)
                    os.killpg(server.pid, signal.SIGINT)
                    server.notify.wait("STOPPING=1")
                    client.sendall(b"gun\n")
                    self.assertEqual(receive_all(client), b"begun\n")
                self.assertEqual(server.finish()["finished"], 1)

    def test_limit(self):
        """At the limit further clients wait, as under pool."""
        for context in self.each(("fork", "thread"), XCHG_MAX_CONNECTIONS="2"):
            with context as server:
                clients = [server.connect() for _ in range(3)]
                for client in clients[:2]:
                    receive_exactly(client, 20)
                self.assertTrue(is_silent(clients[2], 0.3))
                clients[0].close()
                greet(clients[2])
                clients[1].close()
                server.wait_stats(lambda s: s["accepted"] == 3 and s["open"] == 0)
                server.stop()


@can_inject
@covers_fault(61)
class Refused(unittest.TestCase):
    def refused(self, model, rule, trace):
        """Forks or threads are refused at first. All clients are served."""
        with Server(wrap=strace(rule, trace=trace), XCHG_MODEL=model) as server:
            before = len(server.remarks())
            for _ in range(4):
                with server.connect() as client:
                    greet(client)
            server.wait_stats(lambda s: s["finished"] == 4)
            server.wait_for(lambda lines: len(server.remarks()) >= before + 2,
                            "line at the begin and at the end of the episode")
            totals = server.stop()
            self.assertEqual((totals["accepted"], totals["finished"]), (4, 4))
            self.assertGreaterEqual(totals["accept_pauses"], 1)

    def test_fork_refused(self):
        """A refused fork is tried again with the accepted descriptor."""
        self.refused("fork", "clone:error=EAGAIN:when=1..2", "clone")

    @unittest.skipUnless(PLAIN, "a sanitizer starts threads of its own")
    def test_thread_refused(self):
        """A refused thread is tried again. The first clone, which the start needs, is allowed."""
        self.refused("thread", "clone3:error=EAGAIN:when=2..3", "clone3")


@can_inject
class Children(unittest.TestCase):
    def test_close_range_refused(self):
        """A child holds no socket but its connection, even if a container's system call filter refuses close_range. A
        listener that it kept would hold the address after the server's end."""
        with Server(wrap=strace("close_range:error=EPERM", trace="close_range"), XCHG_MODEL="fork") as server:
            with server.connect() as client:
                receive_exactly(client, len(GREETING))
                [child] = children(server.pid)
                held = [os.readlink(f"/proc/{child}/fd/{fd}") for fd in os.listdir(f"/proc/{child}/fd")]
                self.assertEqual(sum(name.startswith("socket:") for name in held), 1, held)
                client.sendall(b"x\0")
                self.assertEqual(receive_all(client), b"")
            server.stop()
