"""Goal: the server survives what epoll reports and leaves out (docs/fault-matrix.md, entries 32 to 36)."""

import contextlib
import os
import select
import signal
import socket
import threading
import time
import unittest

from clients import INSTRUMENTED, ended, send_now, serve
from fault_matrix import LIBC, LINES, SECOND, FaultTest, can_inject, covers_fault, folder, injections, meanwhile, settle, unharmed
from xchgd import LIMIT, SLOW, is_closed, receive_all, receive_exactly, reset, strace


@covers_fault(32)
class Ends(unittest.TestCase):
    """Each way in which epoll reports the end of a connection, alone and after data."""

    # Name, the client's acts, what it must receive, the reason, the messages that the server handles.
    CASES = (
        ("half-close", "h", b"", "finished", 0),
        ("close", "c", None, "finished", 0),
        ("reset", "r", None, "reset", 0),
        ("data, half-close", "dh", b"line\n", "finished", 1),
        ("data, close", "dc", None, None, 1),  # finished, or reset because our answer reached a closed client
        ("data, reset", "dr", None, "reset", 1),
        ("half-close, reset", "hr", None, None, 0),
        ("data, half-close, reset", "dhr", None, None, 1),
        ("part, half-close", "ph", b"part", "finished", 1),
        ("part, reset", "pr", None, "reset", 0),
        ("urgent, half-close", "uh", b"", "finished", 0),
        ("data, urgent, reset", "dur", None, "reset", 1))

    def act(self, client, acts):
        for act in acts:
            if act == "d":
                client.sendall(b"line\n")
            elif act == "p":
                client.sendall(b"part")
            elif act == "u":
                client.send(b"!", socket.MSG_OOB)
            elif act == "h":
                client.shutdown(socket.SHUT_WR)
            elif act == "c":
                client.close()
            elif act == "r":
                reset(client)

    def check(self, server, acts, expected, reason, messages, together):
        """One client performs ${acts}. All of them reach the server in one turn or, without ${together}, one by one."""
        before = server.stats()
        with server.connect() as client:
            server.wait_stats(lambda values: values["open"] == before["open"] + 1)
            if together:
                server.pause()
            self.act(client, acts)
            if together:
                server.resume()
            if expected is not None:
                self.assertEqual(receive_all(client).replace(b"!", b""), expected)
        after = settle(server, before["open"])
        how = {name: count - ended(before).get(name, 0) for name, count in ended(after).items() if name != "open"}
        how = {name: count for name, count in how.items() if count}
        self.assertEqual(after["accepted"], before["accepted"] + 1)
        self.assertIn(how, [{reason: 1}] if reason else [{"finished": 1}, {"reset": 1}])
        if together:  # everything before the end was handled
            self.assertEqual(after["messages"] - before["messages"], messages)
        else:
            self.assertLessEqual(after["messages"] - before["messages"], messages)

    def test_every_combination(self):
        """Hang-up, half-close, reset and data in each combination: the data is read, then the connection closes
        once."""
        with serve(XCHG_WORKERS="1", **LINES) as server, unharmed(server):
            for name, acts, expected, reason, messages in self.CASES:
                for together in (True, False):
                    with self.subTest(name, together=together):
                        self.check(server, acts, expected, reason, messages, together)

    def test_unix(self):
        """The same on a UNIX socket, where both directions close at once."""
        with serve(XCHG_WORKERS="1", XCHG_LISTEN=f"unix:{folder(self)}/socket", **LINES) as server, unharmed(server):
            for name, acts, expected, reason, messages in self.CASES[:2] + self.CASES[3:5]:
                for together in (True, False):
                    with self.subTest(name, together=together):
                        self.check(server, acts, expected, reason, messages, together)


@covers_fault(33)
class Edges(unittest.TestCase):
    """An edge is reported once, so the server must remember unread input and unsent output."""

    def test_all_in_one_edge(self):
        """Much more input than a turn reads has arrived before the server looks, while output leaves in small
        pieces."""
        line = b"x" * 900 + b"\n"
        count = 500 if INSTRUMENTED else 2000
        with serve(XCHG_WORKERS="1", XCHG_MAX_PENDING="4KiB", XCHG_SNDBUF="4KiB", XCHG_WRITE_TIMEOUT="0", **LINES) as server, \
                unharmed(server) as ask_bystander:
            with server.connect(rcvbuf=4096) as client:
                server.wait_stats(lambda values: values["open"] == 2)
                server.pause()
                data = line * count
                sent = send_now(client, data)
                self.assertGreater(sent, 64 << 10)
                sender = threading.Thread(target=client.sendall, args=(data[sent:],), daemon=True)
                server.resume()
                sender.start()
                for _ in range(count):
                    self.assertEqual(receive_exactly(client, len(line)), line)
                sender.join(LIMIT)
                ask_bystander()
            settle(server, 1)

    def test_end_after_the_budget(self):
        """The last edge reports the end of the stream, which follows more bytes than a turn reads."""
        data = bytes(range(256)) * 1024
        with serve(XCHG_WORKERS="1", XCHG_EXCHANGE="echo", XCHG_MAX_MESSAGE="1KiB") as server:
            with unharmed(server) as ask_bystander:
                for _ in range(5):
                    with server.connect() as client:
                        server.wait_stats(lambda values: values["open"] == 2)
                        server.pause()
                        sent = send_now(client, data)
                        self.assertGreater(sent, 16 << 10)  # more than sixteen reads
                        client.shutdown(socket.SHUT_WR)
                        server.resume()
                        ask_bystander()
                        self.assertEqual(receive_all(client), data[:sent])
            self.assertEqual(ended(server.stop()), {"finished": 5 + 2})

    @can_inject
    def test_interrupted(self):
        """Every other read and write is interrupted, and no edge is lost."""
        trace = f"{folder(self)}/trace"
        wrap = strace("recvfrom:error=EINTR:when=1+2", "sendto:error=EINTR:when=1+2", trace="recvfrom,sendto") + ["-o", trace]
        line = b"y" * 3000 + b"\n"
        with serve(wrap=wrap, XCHG_WORKERS="1", **LINES) as server:
            with unharmed(server):
                with server.connect() as client:
                    for _ in range(50):
                        client.sendall(line)
                        self.assertEqual(receive_exactly(client, len(line)), line)
            for call in ("recvfrom", "sendto"):
                self.assertGreaterEqual(injections(trace, call, "EINTR"), 50)
            self.assertEqual(ended(server.stop()), {"finished": 1 + 2})


class Starvation(unittest.TestCase):
    COUNT = 200 if INSTRUMENTED else 1000

    def pour(self, hose):
        """Send and receive what is possible without waiting."""
        readable, writable, _ = select.select([hose], [hose], [], 0.1)
        if writable:
            hose.send(self.WATER)
        if readable and hose.recv(262144):
            self.poured.set()

    WATER = 65536 * b"w"

    @covers_fault(34)
    def test_a_firehose_and_a_thousand(self):
        """One client sends as fast as it can. A thousand others are answered within a second."""
        self.poured = threading.Event()
        with serve(XCHG_EXCHANGE="echo", XCHG_WORKERS="1") as server:
            with unharmed(server) as ask_bystander, server.connect() as hose, contextlib.ExitStack() as stack:
                hose.setblocking(False)
                clients = [stack.enter_context(server.connect()) for _ in range(self.COUNT)]
                with meanwhile(lambda: self.pour(hose)):
                    for turn in range(5):
                        self.poured.clear()
                        for client in clients:
                            client.send(b"%04d" % turn)
                            start = time.monotonic()
                            self.assertEqual(receive_exactly(client, 4), b"%04d" % turn)
                            self.assertLessEqual(time.monotonic() - start, SECOND)
                        ask_bystander()
                        self.assertTrue(self.poured.wait(LIMIT))
                hose.settimeout(LIMIT)
                hose.shutdown(socket.SHUT_WR)
                receive_all(hose)  # otherwise its close would be a reset
            self.assertEqual(ended(server.stop()), {"finished": 1 + self.COUNT + 2})


@can_inject
@covers_fault(35)
class NoPlace(FaultTest):
    def refused(self, error, reason):
        """A worker's epoll_ctl fails now and then. Those connections are refused as a whole."""
        wrap = strace(f"epoll_ctl:error={error}:when=5..26+3", trace="epoll_ctl")
        with self.survive(wrap=wrap, greeting=b"welcome\n", XCHG_WORKERS="1", XCHG_GREETING="welcome", **LINES) as fault:
            outcomes = {b"": 0, b"welcome\n": 0}
            for _ in range(30):
                answer = b""
                with fault.server.connect() as client, contextlib.suppress(ConnectionError):
                    client.sendall(b"hello\n")
                    while len(answer) < len(b"welcome\nhello\n") and (chunk := client.recv(64)):
                        answer += chunk
                self.assertIn(answer, (b"", b"welcome\nhello\n"))  # never a part of the answer
                outcomes[answer[:8]] += 1
            self.assertGreater(outcomes[b""], 5)
            self.assertGreater(outcomes[b"welcome\n"], 5)
            fault.expect_ends(**{"finished": outcomes[b"welcome\n"], reason: outcomes[b""]})

    def test_no_memory(self):
        """ENOMEM refuses the connection."""
        self.refused("ENOMEM", "memory")

    def test_too_many_watches(self):
        """ENOSPC refuses the connection."""
        self.refused("ENOSPC", "memory")  # watches are limited because they take memory

    def test_for_the_listener(self):
        """After a lack of descriptors, the listener cannot return to the epoll set. The server tries again."""
        # After the bystander's two connections, the listener's third return fails, and more. A worker makes fewer calls than that.
        rules = ("accept4:error=EMFILE:when=3..5", "epoll_ctl:error=ENOMEM:when=6..8")
        with self.survive(wrap=strace(*rules, trace="accept4,epoll_ctl"), XCHG_WORKERS="1", **LINES) as fault:
            self.assertEqual(fault.server.stats()["accept_pauses"], 0)
            for _ in range(2):
                with fault.server.connect() as client:
                    client.sendall(b"in the end\n")
                    self.assertEqual(receive_exactly(client, 11), b"in the end\n")
            self.assertEqual(fault.server.stats()["accept_pauses"], 3 + 2)  # one pause for each injected failure
            fault.expect_ends(finished=2)

    def test_at_the_start(self):
        """If the server's own descriptors cannot be registered, the start fails in order."""
        for when in (1, 2, 3):
            with self.subTest(when), serve(wrap=strace(f"epoll_ctl:error=ENOSPC:when={when}", trace="epoll_ctl"),
                                           XCHG_WORKERS="1", wait=False) as server:
                server.finish(expect=71)
                self.assertTrue(server.remarks())
                self.assertEqual(server.messages("listening"), [])


@covers_fault(36)
class Interrupted(FaultTest):
    """epoll_wait is interrupted all the time. SIGCONT interrupts it even without a signal handler."""

    TIMEOUT = max(1, 0.6 * SLOW)  # longer than a talking client is ever delayed, even on a busy machine

    def check(self, fault, storm):
        """During the storm no message is lost, and a silent client is closed in time."""
        with fault.server.connect() as client, fault.server.connect() as silent:
            start = time.monotonic()
            with meanwhile(storm):
                for i in range(100):
                    client.sendall(b"%d\n" % i)
                    self.assertEqual(receive_exactly(client, len(b"%d\n" % i)), b"%d\n" % i)
                readable = []
                while not readable:
                    readable, _, _ = select.select([silent], [], [], 0.05)
                    client.sendall(b"on\n")
                    self.assertEqual(receive_exactly(client, 3), b"on\n")
                    self.assertLess(time.monotonic() - start, LIMIT)
                took = time.monotonic() - start
                self.assertTrue(is_closed(silent))
            self.assertGreaterEqual(took, self.TIMEOUT)
            self.assertLessEqual(took, self.TIMEOUT * 1.1 + 0.1 + SECOND)
        fault.expect_ends(finished=1, idle=1)

    def impatient(self, **options):
        return self.survive(XCHG_WORKERS="2", XCHG_IDLE_TIMEOUT=f"{int(self.TIMEOUT * 1000)}ms", **LINES, **options)

    def test_signal_storm(self):
        """Thousands of signals a second to the process and to each thread."""
        with self.impatient() as fault:
            server = fault.server
            tasks = server.tasks()
            sent = 0

            def storm():
                nonlocal sent
                for _ in range(50):
                    os.kill(server.pid, signal.SIGUSR2)
                    os.kill(server.pid, signal.SIGCONT)
                    for task in tasks:
                        LIBC.tgkill(server.pid, task, signal.SIGHUP)
                    sent += 2 + len(tasks)
                time.sleep(0.005)  # the pace: about 10,000 a second
            self.check(fault, storm)
            self.assertGreater(sent, 1000)

    def test_stop_and_go(self):
        """The process is stopped and continued all the time."""
        with self.impatient() as fault:
            def storm():
                os.kill(fault.server.pid, signal.SIGSTOP)
                os.kill(fault.server.pid, signal.SIGCONT)
                time.sleep(0.002)  # the pace: the server must run in between
            self.check(fault, storm)

    @can_inject
    def test_every_other_wait(self):
        """Every other epoll_wait fails with EINTR, by injection."""
        trace = f"{folder(self)}/trace"
        wrap = strace("epoll_wait:error=EINTR:when=1+2", trace="epoll_wait") + ["-o", trace]
        with self.impatient(wrap=wrap) as fault:
            before = injections(trace, "epoll_wait", "EINTR")
            self.check(fault, lambda: time.sleep(0.01))  # the pace of the check: strace injects meanwhile
        self.assertGreaterEqual(injections(trace, "epoll_wait", "EINTR") - before, 50)
