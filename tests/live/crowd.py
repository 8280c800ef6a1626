"""Thousands of clients of one kind, in a process of their own, so that their descriptors and their work are not the test's.

Crowd starts and controls that process. KINDS lists the kinds of clients.
"""

import contextlib
import json
import os
import resource
import select
import socket
import subprocess
import sys
import time

from xchgd import LIMIT


class Crowd:
    """A process with ${count} clients of ${kind}, a key of KINDS."""

    def __init__(self, server, kind, count, *arguments):
        command = [sys.executable, "-B", os.path.abspath(__file__), kind, str(server.port), str(count), *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def wait(self, word):
        """Wait for the next report of the process and return its values; the report must begin with ${word}."""
        line = self.process.stdout.readline()
        if not line.startswith(word + " "):
            raise AssertionError(f"the crowd reports {line!r} instead of {word}")
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


# ---- inside the process --------------------------------------------------------------------------


def report(word, **values):
    print(word, json.dumps(values), flush=True)


class Client:
    """One client: its socket and the times that bound when the server may close it."""

    def __init__(self, port, rcvbuf=None):
        self.socket = socket.socket()
        if rcvbuf is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, rcvbuf)
        self.begun = time.monotonic()
        self.socket.connect(("127.0.0.1", port))
        self.connected = self.since = time.monotonic()  # since: when the server's clock started at the latest
        self.socket.setblocking(False)
        self.sent = 0

    def send(self, data):
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self.sent += self.socket.send(data)


class Watch:
    """Counts the clients that the server closes; least is timed from the connect, most from Client.since."""

    def __init__(self, clients, events):
        self.clients = {client.socket.fileno(): client for client in clients}
        self.poll = select.epoll()
        for number in self.clients:
            self.poll.register(number, events)
        self.least, self.most, self.count = 1e9, 0.0, 0

    def closed(self, number):
        client = self.clients.pop(number)
        now = time.monotonic()
        self.least = min(self.least, now - client.begun)
        self.most = max(self.most, now - client.since)
        self.count += 1
        client.socket.close()

    def report(self):
        report("closed", count=self.count, least=self.least, most=self.most)


def slow(port, count, timeout, from_first_byte):
    """Each client sends one byte a second and never a whole message, until the server closes it.

    The server's clock starts at the accept or, with ${from_first_byte}, at the first byte.
    """
    clients = [Client(port) for _ in range(count)]
    report("ready")
    watch = Watch(clients, select.EPOLLRDHUP)
    end = time.monotonic() + timeout
    while watch.clients and time.monotonic() < end:
        now = time.monotonic()
        for client in list(watch.clients.values()):
            if now >= client.connected + client.sent:
                client.send(b"x")
                if from_first_byte and client.sent == 1:
                    client.since = now
        for number, _ in watch.poll.poll(0.02, 65536):
            watch.closed(number)
    watch.report()


def deaf(port, count, timeout, size):
    """Each client sends up to ${size} bytes, as far as the kernel takes them, and never reads."""
    clients = [Client(port, rcvbuf=4096) for _ in range(count)]
    report("ready")
    watch = Watch(clients, select.EPOLLOUT | select.EPOLLRDHUP)
    data = bytes(size)
    end = time.monotonic() + timeout
    while watch.clients and time.monotonic() < end:
        for number, events in watch.poll.poll(0.5, 65536):
            if events & (select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP):
                watch.closed(number)
                continue
            client = watch.clients[number]
            before = client.sent
            client.send(data[before:])
            if client.sent > before:
                client.since = time.monotonic()
            if client.sent == size:
                watch.poll.modify(number, select.EPOLLRDHUP)
    watch.report()


def burst(port, count, timeout, size):
    """All clients connect, then wait for a greeting of ${size} bytes, and stay until they are told to leave."""
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
    report("greeted", count=count - len(waiting))
    sys.stdin.readline()
    for client in clients:
        client.socket.close()
    report("gone")


KINDS = {"slow": slow, "deaf": deaf, "burst": burst}

if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    KINDS[sys.argv[1]](*map(int, sys.argv[2:4]), LIMIT, *map(int, sys.argv[4:]))
