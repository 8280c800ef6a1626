"""What the tests of docs/checklist.md have in common: whatever a row does to a server, the rest of the world may not notice.

    class Some(Row):
        def test_row_99_fault(self):
            with self.survive(XCHG_EXCHANGE="echo") as fault:
                ...                         # the fault, on fault.server; it is over when the block ends
                fault.lost(reset=50)        # how its own connections ended, all of them

survive() starts the server, counts its descriptors, and has others talk to it all the while: over a connection of their own where the
exchange is endless, else over a new one each time.  Behind the block, in every row: the others were answered within SECOND, and
so is somebody new; everything that was opened is closed; accepted = finished + closed + open; each of the row's connections ended for the
reason that the row gives; the server stops in order.

Crowd is a load in a process of its own, so that neither its descriptors nor its turns are those of the test.
"""

import contextlib
import json
import os
import resource
import select
import socket
import subprocess
import sys
import threading
import time
import unittest

from clients import ended, serve
from xchgd import GREETING, LIMIT, SLOW, check_totals, receive_all, receive_exactly

# How long anybody waits for an answer, and how long a server takes to come back to normal: a second, and what a busy machine adds.
SECOND = 1.6 * SLOW
PROBES = {"nul": b"hi\0", "line": b"hi\n", "u16": b"\0\2hi", "u32": b"\0\0\0\2hi", "raw": b"hi", "fixed:4": b"four"}
FRAMES = {"greet": "nul", "line": "line", "echo": "raw", "discard": "raw"}


class Exchange:
    """How somebody with good manners talks to a server that was told ${variables}."""

    def __init__(self, variables, greeting=None):
        preset = variables.get("XCHG_EXCHANGE", "greet")
        handler = "XCHG_HANDLER" in variables
        frame = "line" if handler else variables.get("XCHG_FRAME", FRAMES[preset])
        self.endless = handler or str(variables.get("XCHG_MESSAGES", {"greet": "1", "line": "1"}.get(preset, "0"))) == "0"
        self.probe = PROBES[frame]
        greets = preset == "greet" and not handler and variables.get("XCHG_GREETING") != "none"
        self.greeting = greeting if greeting is not None else GREETING if greets else b""
        echoes = handler or variables.get("XCHG_REPLY", {"greet": "none", "discard": "none"}.get(preset, "echo")) == "echo"
        self.answer = self.probe if echoes else b""

    def begin(self, server):
        client = server.connect()
        self.expect(client, self.greeting)
        return client

    def say(self, client):
        client.sendall(self.probe)
        self.expect(client, self.answer)

    @staticmethod
    def expect(client, data):
        if receive_exactly(client, len(data)) != data:
            raise AssertionError(f"another answer than {data!r}")

    def visit(self, server):
        """A connection from its beginning to its end."""
        with self.begin(server) as client:
            self.say(client)
            if self.endless:
                client.shutdown(socket.SHUT_WR)
            if rest := receive_all(client):
                raise AssertionError(f"more than the answer: {rest!r:.80}")


class Others(threading.Thread):
    """Those who have nothing to do with the fault and talk on; how long they had to wait for an answer at most."""

    def __init__(self, server, exchange):
        super().__init__(daemon=True)
        self.server, self.exchange = server, exchange
        self.longest, self.connections, self.answers, self.failure = 0.0, 0, 0, None
        self.lock, self.over, self.begun = threading.Lock(), threading.Event(), threading.Event()
        self.client = None  # where the exchange is endless: their connection, for whoever holds them

    def run(self):
        try:
            if self.exchange.endless:
                with self.exchange.begin(self.server) as self.client:
                    self.connections += 1
                    self.talk(lambda: self.exchange.say(self.client))
            else:
                self.talk(self.visit)
        except (OSError, AssertionError) as failure:
            self.failure = failure

    def visit(self):
        self.connections += 1
        self.exchange.visit(self.server)

    def talk(self, turn):
        while not self.over.is_set():
            with self.lock:
                self.timed(turn)
            self.over.wait(0.01)  # their pace

    def timed(self, turn):
        begun = time.monotonic()
        turn()
        self.longest = max(self.longest, time.monotonic() - begun)
        self.answers += 1
        self.begun.set()

    @contextlib.contextmanager
    def held(self):
        """While the server as a whole stands still by the test's own hand, nobody is asked."""
        with self.lock:
            yield

    def end(self):
        self.over.set()
        self.join(LIMIT)
        if self.failure:
            raise AssertionError(f"somebody else noticed: {self.failure!r}") from self.failure
        if self.is_alive():
            raise AssertionError("somebody else waits for ever")


class Fault:
    """A row on its way: its server, the others, what it expects."""

    def __init__(self, server, others):
        self.server, self.others, self.expected = server, others, {}

    def lost(self, **counts):
        """How the row's own connections end: {reason: count or range}; "finished" is one of them."""
        self.expected = counts

    def check(self, totals):
        """Are the row's connections accounted for, each under the reason that was given?"""
        check_totals(totals)
        counts = ended(totals)
        counts["finished"] = counts.get("finished", 0) - self.others.connections
        for reason in set(counts) | set(self.expected):
            count, expected = counts.get(reason, 0), self.expected.get(reason, 0)
            if count not in (expected if isinstance(expected, range) else (expected,)):
                raise AssertionError(f"{count} connections ended as {reason}, {expected} should have: {counts}")


class Row(unittest.TestCase):
    @contextlib.contextmanager
    def survive(self, *, greeting=None, **variables):
        with serve(**variables) as server:
            exchange = Exchange(variables, greeting)
            others = Others(server, exchange)
            others.visit()
            server.wait_stats(lambda values: values["open"] == 0)
            idle = server.descriptors()
            others.begun.clear()
            others.start()
            self.assertTrue(others.begun.wait(LIMIT), "nobody is answered before there is a fault")
            fault = Fault(server, others)
            try:
                yield fault
                others.timed(others.visit)
            finally:
                others.over.set()
            others.end()
            server.wait_stats(lambda values: values["open"] == 0, "end of every connection")
            self.wait_descriptors(server, idle)
            fault.check(server.stop())
            self.assertGreaterEqual(others.answers, 1)
            self.assertLessEqual(others.longest, SECOND, f"the longest of {others.answers} answers")

    def wait_descriptors(self, server, count):
        """A connection is counted as ended a moment before or after its descriptor is closed."""
        deadline = time.monotonic() + SECOND
        while (now := server.descriptors()) != count:
            self.assertLess(time.monotonic(), deadline, f"{now} descriptors, {count} before")

    @contextlib.contextmanager
    def still(self, fault):
        """The server stands still as after a SIGSTOP, and then goes on."""
        with fault.others.held():
            fault.server.pause()
            try:
                yield
            finally:
                fault.server.resume()


class Crowd:
    """${count} clients of a kind (see KINDS) in a process of their own."""

    def __init__(self, server, kind, count, *arguments):
        command = [sys.executable, "-B", os.path.abspath(__file__), kind, str(server.port), str(count), *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def wait(self, word):
        """The process's next report, which begins with ${word}."""
        line = self.process.stdout.readline()
        if not line.startswith(word + " "):
            raise AssertionError(f"the crowd says {line!r} instead of {word}")
        return json.loads(line[len(word):])

    def go_on(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.kill()
        self.process.wait()


# ---- the crowd's process -------------------------------------------------------------------------


def report(word, **values):
    print(word, json.dumps(values), flush=True)


class Client:
    """A client of a crowd: its socket, what became of it, and since when it does nothing that could prolong its time."""

    def __init__(self, port, rcvbuf=None):
        self.socket = socket.socket()
        if rcvbuf is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, rcvbuf)
        self.begun = time.monotonic()
        self.socket.connect(("127.0.0.1", port))
        self.connected = self.since = time.monotonic()
        self.socket.setblocking(False)
        self.sent = 0

    def send(self, data):
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self.sent += self.socket.send(data)


class Watch:
    """Who of the clients is cut, and how long after its connect at least, and at most after what it has done since."""

    def __init__(self, clients, events):
        self.clients = {client.socket.fileno(): client for client in clients}
        self.poll = select.epoll()
        for number in self.clients:
            self.poll.register(number, events)
        self.least, self.most, self.count = 1e9, 0.0, 0

    def cut(self, number):
        client = self.clients.pop(number)
        now = time.monotonic()
        self.least = min(self.least, now - client.begun)
        self.most = max(self.most, now - client.since)
        self.count += 1
        client.socket.close()

    def tell(self):
        report("cut", count=self.count, least=self.least, most=self.most)


def slow(port, count, timeout):
    """Each sends a byte a second and never a whole message, until it is cut."""
    clients = [Client(port) for _ in range(count)]
    report("ready")
    watch = Watch(clients, select.EPOLLRDHUP)
    end = time.monotonic() + timeout
    while watch.clients and time.monotonic() < end:
        now = time.monotonic()
        for client in list(watch.clients.values()):
            if now >= client.connected + client.sent:
                client.send(b"x")
        for number, _ in watch.poll.poll(0.02, 65536):
            watch.cut(number)
    watch.tell()


def deaf(port, count, timeout, size):
    """Each sends up to ${size} bytes, as far as they are taken, and never reads."""
    clients = [Client(port, rcvbuf=4096) for _ in range(count)]
    report("ready")
    watch = Watch(clients, select.EPOLLOUT | select.EPOLLRDHUP)
    data = bytes(size)
    end = time.monotonic() + timeout
    while watch.clients and time.monotonic() < end:
        for number, events in watch.poll.poll(0.5, 65536):
            if events & (select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP):
                watch.cut(number)
                continue
            client = watch.clients[number]
            before = client.sent
            client.send(data[before:])
            if client.sent > before:
                client.since = time.monotonic()
            if client.sent == size:
                watch.poll.modify(number, select.EPOLLRDHUP)
    watch.tell()


def burst(port, count, timeout, size):
    """All connect, then wait for a greeting of ${size} bytes; they stay until they are told to go."""
    clients = [Client(port) for _ in range(count)]
    report("ready")
    waiting = {client.socket.fileno(): client for client in clients}
    poll = select.epoll()
    for number in waiting:
        poll.register(number, select.EPOLLIN)
    sys.stdin.readline()
    begun = time.monotonic()
    while waiting and time.monotonic() < begun + timeout:
        for number, _ in poll.poll(1.0, 65536):
            if len(waiting[number].socket.recv(size)) == size:
                poll.unregister(number)
                del waiting[number]
    report("greeted", count=count - len(waiting), seconds=time.monotonic() - begun)
    sys.stdin.readline()
    for client in clients:
        client.socket.close()
    report("gone")


KINDS = {"slow": slow, "deaf": deaf, "burst": burst}

if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    KINDS[sys.argv[1]](*map(int, sys.argv[2:4]), LIMIT, *map(int, sys.argv[4:]))
