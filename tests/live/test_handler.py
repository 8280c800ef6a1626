"""Goal: a handler in a shared object (XCHG_HANDLER), its watchdog, and handlers under every model work."""

import contextlib
import errno
import os
import tempfile
import time
import unittest

from clients import ended, serve
from fault_matrix import covers_fault
from xchgd import LIMIT, PLAIN, PROGRAM, SLOW, Server, is_silent, receive_exactly, reset, run

PLUGINS = os.path.join(os.path.dirname(os.path.abspath(PROGRAM)), "tests", "live", "plugin")
WATCHDOG_MS = int(50 * SLOW)
HOLDS, GOES_ON = "a handler blocks its worker", "a blocked worker runs again"
UNSUPPORTED = os.strerror(errno.ENOTSUP)


def plugin(name):
    return os.path.join(PLUGINS, name + ".so")


def holder(**variables):
    """A server with tests/live/plugin/holder.c."""
    return serve(XCHG_HANDLER=plugin("holder"), **variables)


class Talk:
    """A client of lines that has been greeted."""

    def __init__(self, server):
        self.socket = server.connect()
        self.file = self.socket.makefile("rb")
        if self.hear() != "hello":
            raise AssertionError("no greeting")

    def say(self, line):
        self.socket.sendall(line.encode() + b"\n")

    def hear(self):
        return self.file.readline().decode().rstrip("\n")

    def ask(self, line):
        self.say(line)
        return self.hear()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()
        self.socket.close()


class Hold:
    """Blocks a worker from the start of the block until release() or its end."""

    def __init__(self, client):
        self.folder = tempfile.TemporaryDirectory()
        self.client, self.path, self.fd = client, os.path.join(self.folder.name, "fifo"), None

    def __enter__(self):
        os.mkfifo(self.path)
        self.client.say("hold " + self.path)
        self.fd = os.open(self.path, os.O_WRONLY)  # returns when the handler has opened it, too
        return self

    def release(self):
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def __exit__(self, *exception):
        self.release()
        self.folder.cleanup()


def switches(server):
    """Voluntary context switches by thread."""
    counts = {}
    for task in os.listdir(f"/proc/{server.pid}/task"):
        with open(f"/proc/{server.pid}/task/{task}/status") as f:
            fields = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        counts[fields["Name"]] = int(fields["voluntary_ctxt_switches"])
    return counts


def switches_at_rest(server):
    """How often each thread sleeps in a second, once the start is over."""
    deadline, before, now = time.monotonic() + LIMIT, {}, switches(server)
    while any(now[name] != before.get(name) for name in now if name != "xchg-accept"):
        if time.monotonic() > deadline:
            raise AssertionError("the server is never still")
        time.sleep(0.25)  # between two looks: a thread is at rest if it has not run
        before, now = now, switches(server)
    before = switches(server)
    time.sleep(1)  # the measured second
    return {name: count - before[name] for name, count in switches(server).items()}


class Start(unittest.TestCase):
    def refused(self, words, code=78, **variables):
        """The start ends with ${code} and one line that contains the words."""
        for flag in ((), ("--check",), ("--explain",)) if code == 78 else ((),):
            done = run(*flag, **variables)
            self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
            lines = [line for line in done.stderr.splitlines() if line != "holder starts"]
            self.assertEqual(len(lines), 1, done.stderr)
            for word in words:
                self.assertIn(word, lines[0])

    def test_listening_line(self):
        """The line names no built-in exchange."""
        with holder() as server:
            self.assertEqual(server.wait_line("listening")["exchange"], "handler")
            server.stop()

    def test_faults(self):
        """A handler that cannot be used is a configuration fault, and the line says why."""
        path = plugin("holder")
        with tempfile.NamedTemporaryFile(suffix=".so") as empty:
            self.refused(["XCHG_HANDLER", empty.name, "cannot be loaded"], XCHG_HANDLER=empty.name)
        self.refused(["XCHG_HANDLER", "/nowhere/x.so", "No such file"], XCHG_HANDLER="/nowhere/x.so")
        self.refused(["XCHG_HANDLER", "'holder.so'", "a path that contains a /"], XCHG_HANDLER="holder.so")
        self.refused(["XCHG_HANDLER", plugin("old_entry"), "no entry xchg_plugin_1"], XCHG_HANDLER=plugin("old_entry"))
        self.refused(["XCHG_HANDLER", plugin("old_size"), "another version"], XCHG_HANDLER=plugin("old_size"))
        self.refused(["frame"], XCHG_HANDLER=plugin("no_frame"))
        for name, value in (("EXCHANGE", "echo"), ("GREETING", "hi"), ("FRAME", "line"), ("REPLY", "echo"), ("MESSAGES", "1")):
            self.refused([f"XCHG_{name}", "XCHG_HANDLER"], XCHG_HANDLER=path, **{f"XCHG_{name}": value})

    def test_handler_declines(self):
        """A handler whose on_start fails ends the start with 71."""
        self.refused(["handler: on_start failed"], code=71, XCHG_HANDLER=plugin("holder"), XCHG_LISTEN="127.0.0.1:0", HOLDER_DECLINES="1")

    def test_flags(self):
        """--check loads the handler and starts nothing. --explain shows what the handler sets."""
        done = run("--check", XCHG_HANDLER=plugin("holder"))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        done = run("--explain", XCHG_HANDLER=plugin("holder"))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        lines = dict(line.split("=", 1) for line in done.stdout.splitlines())
        self.assertTrue(lines["XCHG_HANDLER"].startswith(plugin("holder") + " (environment)"), lines["XCHG_HANDLER"])
        for name in ("EXCHANGE", "GREETING", "FRAME", "REPLY", "MESSAGES"):
            self.assertIn("(set by the handler)", lines[f"XCHG_{name}"])
        self.assertIn("unless the handler sets one", lines["XCHG_MAX_MESSAGE"])


class Callbacks(unittest.TestCase):
    def converse(self, server, calls):
        """Use everything that a callback can do. ${calls} are the results of post and offload."""
        server.wait_for(lambda lines: "holder starts" in lines)
        with Talk(server) as client:
            self.assertEqual(client.ask("echo this"), "echo this")
            self.assertEqual(client.ask("later"), "timer")
            client.say("calls")
            self.assertEqual(sorted([client.hear(), client.hear()]), sorted(calls))
            self.assertEqual(client.ask("count"), "4")
            client.say("finish")
            self.assertEqual(client.hear(), "")
        server.wait_for(lambda lines: "holder closes finished after 5" in lines)
        with Talk(server) as client:
            self.assertEqual(client.ask("count"), "1")
        server.wait_for(lambda lines: "holder closes finished after 1" in lines)
        server.wait_stats(lambda s: s["finished"] == 2)
        totals = server.stop()
        self.assertEqual(ended(totals), {"finished": 2})
        self.assertEqual(totals["messages"], 6)

    def test_pool(self):
        """Every callback and call works under pool."""
        with holder() as server:
            self.converse(server, ["posted", "worked"])

    def test_other_models(self):
        """The same callbacks under the other models, except what needs workers."""
        for model in ("thread", "fork", "iterative"):
            with self.subTest(model), holder(XCHG_MODEL=model) as server:
                self.converse(server, [UNSUPPORTED, UNSUPPORTED])


class Paused(unittest.TestCase):
    """Goal: a reset is noticed while the handler has paused the connection, although nothing is read."""

    def test_reset(self):
        with holder(XCHG_IDLE_TIMEOUT="0") as server:
            talk = Talk(server)
            self.assertEqual(talk.ask("pause"), "paused")
            talk.say("never read")
            talk.file.close()
            reset(talk.socket)
            totals = server.wait_stats(lambda stats: stats["open"] == 0, "that it is gone")
            self.assertEqual(ended(totals), {"reset": 1})


class Watchdog(unittest.TestCase):
    def messages(self, server, msg, worker):
        """The lines about one worker. On a busy machine other workers may be blocked for a moment, too."""
        return [fields for fields in server.messages(msg) if fields["worker"] == worker]

    @covers_fault(11)
    def test_logs_a_blocked_worker_once(self):
        """A blocked worker is logged once an episode, and so is its end. The other worker serves new clients."""
        with holder(XCHG_WATCHDOG=f"{WATCHDOG_MS}ms", XCHG_WORKERS="2") as server, contextlib.ExitStack() as stack:
            client = stack.enter_context(Talk(server))
            thread = client.ask("thread")
            worker = thread.removeprefix("xchg-work-")
            for episode in range(2):
                told = [len(self.messages(server, msg, worker)) for msg in (HOLDS, GOES_ON)]
                with Hold(client) as hold:
                    line = server.wait_for(lambda _: self.messages(server, HOLDS, worker)[told[0]:])[0]
                    self.assertEqual(line["level"], "warn")
                    self.assertGreaterEqual(int(line["ms"]), WATCHDOG_MS)
                    for _ in range(5):
                        other = stack.enter_context(Talk(server))
                        self.assertNotEqual(other.ask("thread"), thread)
                    self.assertTrue(is_silent(client.socket, 5 * WATCHDOG_MS / 1000))
                    self.assertEqual(len(self.messages(server, HOLDS, worker)), told[0] + 1)
                    self.assertEqual(len(self.messages(server, GOES_ON, worker)), told[1])
                    hold.release()
                    self.assertEqual(client.hear(), "held")
                over = server.wait_for(lambda _: self.messages(server, GOES_ON, worker)[told[1]:])[0]
                self.assertGreaterEqual(int(over["ms"]), int(line["ms"]))
                self.assertEqual(client.ask("still there"), "still there")
            stack.close()
            totals = server.stop()
            self.assertEqual(ended(totals), {"finished": 11})
            self.assertGreaterEqual(totals["blocked"], 2)
            self.assertEqual(totals["blocked"], len(server.messages(HOLDS)))

    def test_off(self):
        """XCHG_WATCHDOG=0 logs nothing."""
        with holder(XCHG_WATCHDOG="0", XCHG_WORKERS="2") as server:
            with Talk(server) as client:
                with Hold(client):
                    self.assertTrue(is_silent(client.socket, 0.4))
                self.assertEqual(client.hear(), "held")
            self.assertEqual(server.stop()["blocked"], 0)
            self.assertEqual([len(server.messages(msg)) for msg in (HOLDS, GOES_ON)], [0, 0])

    def test_every_worker_is_blocked(self):
        """If every worker is blocked, new clients wait and are served later."""
        with holder(XCHG_WATCHDOG=f"{WATCHDOG_MS}ms", XCHG_WORKERS="1") as server:
            with Talk(server) as client, contextlib.ExitStack() as stack:
                with Hold(client):
                    server.wait_line(HOLDS)
                    late = stack.enter_context(server.connect())
                    self.assertTrue(is_silent(late, 0.2))
                self.assertEqual(client.hear(), "held")
                self.assertEqual(receive_exactly(late, 6), b"hello\n")
            server.wait_line(GOES_ON)
            server.stop()

    def test_a_stop_waits_for_a_blocked_worker(self):
        """A stop waits until the handler returns."""
        with holder(XCHG_WATCHDOG=f"{WATCHDOG_MS}ms", XCHG_WORKERS="2") as server:
            with Talk(server) as client, Hold(client) as hold:
                server.wait_line(HOLDS)
                server.process.terminate()
                self.assertTrue(is_silent(client.socket, 0.3))
                hold.release()
                self.assertEqual(client.hear(), "held")
                self.assertEqual(client.hear(), "")
            self.assertEqual(ended(server.finish(0)), {"finished": 1})

    @unittest.skipUnless(PLAIN, "other builds have additional threads and switches")
    def test_an_idle_server_sleeps(self):
        """Without a handler or with XCHG_WATCHDOG=0 no thread wakes up to watch. Otherwise only the acceptor does, once
        a limit."""
        for variables, watched in ((dict(), False), (dict(XCHG_EXCHANGE="echo", XCHG_WATCHDOG="10ms"), False),
                                   (dict(XCHG_HANDLER=plugin("holder"), XCHG_WATCHDOG="0"), False),
                                   (dict(XCHG_HANDLER=plugin("holder"), XCHG_WATCHDOG="100ms"), True)):
            with self.subTest(variables), Server(XCHG_WORKERS="2", **variables) as server:
                counts = switches_at_rest(server)
                self.assertLessEqual(counts.pop("xchg-accept"), 20 if watched else 0)
                self.assertEqual(set(counts.values()), {0}, counts)
                server.stop()
