"""Goal: from the signal on /readyz says 503 and everything else goes on for XCHG_DRAIN_DELAY, then the server drains; the
admin endpoint answers until the end (docs/reference.md, Shutdown)."""

import errno
import json
import os
import pty
import signal
import socket
import tempfile
import threading
import time
from datetime import datetime

from clients import FolderTest
from endpoint import Endpoint
from xchgd import LIMIT, PROGRAM, SLOW, Notify, Server, greet, receive_all, receive_exactly

DELAY = 0.3 * SLOW  # long enough for a few clients
STOPS = 50
SLOW_START = os.path.join(os.path.dirname(PROGRAM), "tests/live/plugin/slow_start.so")


def ms(seconds):
    return f"{round(seconds * 1000)}ms"


def refuses(address):
    host, port = address.rsplit(":", 1)
    with socket.socket() as client:
        client.settimeout(LIMIT)
        return client.connect_ex((host, int(port))) == errno.ECONNREFUSED


class DelayTest(FolderTest):
    def endpoint(self, **variables):
        server = Endpoint(self.path("admin"), **variables)
        self.addCleanup(server.__exit__)
        return server


class Delay(DelayTest):
    def test_everything_else_goes_on(self):
        delay = 10 * DELAY  # for clients on a loaded machine
        server = self.endpoint(XCHG_DRAIN_DELAY=ms(delay), XCHG_STOP_GRACE="0", XCHG_EXCHANGE="line", XCHG_MESSAGES="0")
        old = server.connect()
        old.sendall(b"a\n")
        self.assertEqual(receive_exactly(old, 2), b"a\n")
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.wait_line("stopping")["delay"], f"{round(delay)}s")
        reply = server.ask("/readyz")
        self.assertEqual((reply.status, reply.text), (503, "draining\n"))
        self.assertEqual(server.ask("/livez").status, 200)
        with server.connect() as new:  # a new client is served, and an old one goes on
            new.sendall(b"b\n")
            self.assertEqual(receive_exactly(new, 2), b"b\n")
        old.sendall(b"c\n")
        self.assertEqual(receive_exactly(old, 2), b"c\n")
        self.assertEqual(server.metric("xchg_draining"), 1)
        self.assertEqual(receive_all(old), b"")
        self.assertGreaterEqual(time.monotonic() - begin, delay)
        old.close()
        self.assertEqual(server.finish()["finished"], 2)

    def test_the_drain_timeout_counts_from_the_end_of_the_delay(self):
        server = self.endpoint(XCHG_DRAIN_DELAY=ms(DELAY), XCHG_DRAIN_TIMEOUT=ms(DELAY), XCHG_STOP_GRACE="0", XCHG_MESSAGES="2")
        with server.connect() as client:
            receive_exactly(client, 20)
            client.sendall(b"half of a message")
            begin = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(receive_all(client), b"")
            self.assertGreaterEqual(time.monotonic() - begin, 2 * DELAY)
        self.assertEqual(server.finish()["closed_drain"], 1)

    def test_numbers_during_the_drain(self):
        server = self.endpoint(XCHG_STOP_GRACE="0")
        with server.connect() as client:
            receive_exactly(client, 20)
            client.sendall(b"half")
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(server.wait_reply("/readyz", lambda reply: reply.status == 503).text, "draining\n")
            while not refuses(server.addresses[0]):
                pass  # the listeners close after the grace
            # refuses() may have been accepted once
            server.wait_reply("/metrics", lambda reply: "\nxchg_connections_open 1\n" in reply.text)
            self.assertEqual(json.loads(server.ask("/stats", unix=True).text)["state"], "draining")
            self.assertEqual(server.ask("/drain", "POST").status, 202)
            client.sendall(b" a message\0")
            self.assertEqual(receive_all(client), b"")
        self.assertEqual(server.finish()["finished"], 1)

    def test_second_signal_ends_the_delay_at_once(self):
        server = self.endpoint(XCHG_DRAIN_DELAY="10m")
        server.process.send_signal(signal.SIGTERM)
        server.wait_line("stopping")
        server.process.send_signal(signal.SIGINT)
        self.assertEqual(server.process.wait(LIMIT), 1)

    def test_no_delay_without_the_endpoint(self):
        """XCHG_DRAIN_DELAY works without XCHG_ADMIN, too: a service manager may be told."""
        with tempfile.TemporaryDirectory() as folder, Notify(folder) as notify:
            with Server(XCHG_DRAIN_DELAY="10m", NOTIFY_SOCKET=notify.address) as server:
                notify.wait("READY=1")
                server.process.send_signal(signal.SIGTERM)
                notify.wait("STOPPING=1")  # at the begin of the delay
                with server.connect() as client:
                    greet(client)


class Command(DelayTest):
    def test_first_signal_after_the_command_continues(self):
        server = self.endpoint(XCHG_DRAIN_DELAY=ms(2 * DELAY), XCHG_STOP_GRACE="0")
        begin = time.monotonic()
        self.assertEqual(server.ask("/drain", "POST").status, 202)
        self.assertEqual(server.ask("/readyz").status, 503)  # at once, whatever the main thread does
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.ask("/drain", "POST").status, 202)  # repeated
        server.finish()
        self.assertGreaterEqual(time.monotonic() - begin, 2 * DELAY)
        self.assertEqual(len(server.messages("stopping")), 1)

    def test_second_signal_after_the_command_ends(self):
        server = self.endpoint(XCHG_DRAIN_DELAY="10m")
        server.ask("/drain", "POST")
        server.wait_line("stopping")
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGINT)
        self.assertEqual(server.process.wait(LIMIT), 1)


class Terminal(DelayTest):
    def run_on_terminal(self, signum):
        """Send ${signum} to a server whose standard error is a terminal. Return: does it still serve?"""
        leader, terminal = pty.openpty()
        self.addCleanup(os.close, leader)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = Server(stderr=terminal, XCHG_LISTEN=f"127.0.0.1:{port}", XCHG_DRAIN_DELAY="10m", XCHG_STOP_GRACE="0")
        self.addCleanup(server.__exit__)
        server.addresses = [f"127.0.0.1:{port}"]
        text = b""
        while b"listening" not in text:
            text += os.read(leader, 4096)
        server.process.send_signal(signum)
        while b"stopping" not in text:
            text += os.read(leader, 4096)
        return server, text

    def test_interrupt_skips_the_delay(self):
        server, _ = self.run_on_terminal(signal.SIGINT)
        self.assertEqual(server.process.wait(LIMIT), 0)

    def test_other_signals_do_not(self):
        server, text = self.run_on_terminal(signal.SIGTERM)
        self.assertIn(b"delay=10m", text)
        with server.connect() as client:
            greet(client)


class Probe:
    """Asks for /readyz in a tight loop, each time on a new connection, until a connection is refused."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.target = (host, int(port))
        self.seen = []  # (time of day behind it, status, "refused" or "lost")
        self.begun = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _ask(self):
        with socket.socket() as client:
            client.settimeout(LIMIT)
            try:
                client.connect(self.target)
            except ConnectionError:
                return "refused"
            try:
                client.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
                reply = receive_all(client)
            except ConnectionError:
                return "lost"
            return int(reply.split(b" ", 2)[1]) if reply else "lost"

    def _run(self):
        what = None
        while what != "refused":
            what = self._ask()
            if what == 200:  # before that it says starting
                self.begun.set()
            if self.begun.is_set():
                self.seen.append((time.time(), what))


class Promise(DelayTest):
    def stop_under_probe(self, server):
        """Return what the probe saw, and when the line msg=stopped was written."""
        probe = Probe(server.tcp)
        self.assertTrue(probe.begun.wait(LIMIT))
        with server.connect() as client:
            greet(client)
        server.process.send_signal(signal.SIGTERM)
        server.finish()
        probe.thread.join(LIMIT)
        return probe.seen, datetime.fromisoformat(server.messages("stopped")[0]["time"]).timestamp()

    def test_no_200_after_a_503_and_no_refusal_before_the_end(self):
        for i in range(STOPS):
            delayed = i % 2 == 1
            with Endpoint(self.path(f"admin{i}"), XCHG_STOP_GRACE="0", XCHG_DRAIN_DELAY="20ms" if delayed else "0") as server:
                seen, stopped = self.stop_under_probe(server)
            statuses = [what for _, what in seen]
            self.assertEqual(statuses[0], 200)
            self.assertEqual(statuses[-1], "refused")
            first = statuses.index(503) if 503 in statuses else len(statuses)
            self.assertNotIn(200, statuses[first:])
            self.assertEqual([what for when, what in seen if what in ("refused", "lost") and when < stopped], [])
            self.assertTrue(503 in statuses or not delayed)


class Start(DelayTest):
    def test_starting(self):
        """The endpoint answers while the server does not listen yet: on_start of a plug-in waits."""
        fifo = self.path("fifo")
        os.mkfifo(fifo)
        server = self.endpoint(XCHG_HANDLER=SLOW_START, SLOW_START=fifo, wait=False)
        server.tcp = server.wait_line("admin", 0)["addr"]
        server.path = server.wait_line("admin", 1)["addr"][5:]
        reply = server.ask("/readyz")
        self.assertEqual((reply.status, reply.text), (503, "starting\n"))
        self.assertEqual(server.ask("/livez").status, 200)
        self.assertEqual(server.ask("/").status, 200)
        for target, method in (("/metrics", "GET"), ("/stats", "GET"), ("/drain", "POST"), ("/log?level=info", "POST")):
            reply = server.ask(target, method)
            self.assertEqual((reply.status, reply.text), (503, "starting\n"), target)
        self.assertEqual(server.messages("command"), [])
        os.close(os.open(fifo, os.O_WRONLY))
        server.wait_line("listening")
        server.wait_reply("/readyz", lambda reply: reply.status == 200)
        server.stop()
