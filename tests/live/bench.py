"""Runs the real xchg-bench for the live tests, and servers that misbehave on purpose.

    report = measure(server.addresses[0], "-x", "echo", "-n", "100")     # the JSON report of a run that must succeed
    with Fake(handler) as fake: ...                                      # handler(connection, number) for each connection
"""

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import threading

from xchgd import LIMIT, PROGRAM, SLOW, TOP

BENCH = os.environ.get("XCHG_BENCH", os.path.join(os.path.dirname(PROGRAM), "xchg-bench"))
KINDS = ("connect", "reset", "timeout", "wrong", "short")

# Long enough for a run of a few seconds on a busy machine.
RUN_LIMIT = 60 * SLOW


def bench(*arguments):
    """Run xchg-bench to its end and return a CompletedProcess with text output."""
    return subprocess.run([BENCH, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=RUN_LIMIT, cwd=TOP)


def measure(address, *arguments, expect=0):
    """Run xchg-bench against ${address} and return the JSON report. The exit code must be ${expect}."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "report.json")
        ran = bench(*arguments, "--json", path, address)
        if ran.returncode != expect:
            raise AssertionError(f"exit code {ran.returncode}, expected {expect}:\n{ran.stdout}{ran.stderr}")
        with open(path) as stream:
            return json.load(stream)


def kinds(report):
    """The errors of a report: {kind: count} without zeros."""
    return {kind: report["errors"][kind] for kind in KINDS if report["errors"][kind]}


def unused_port():
    """A port on 127.0.0.1 that has no listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Fake:
    """A server on 127.0.0.1 that calls handler(connection, number) in a thread for each connection."""

    def __init__(self, handler):
        self.handler = handler
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.connections = []
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection, len(self.connections) - 1), daemon=True).start()

    def _serve(self, connection, number):
        with contextlib.suppress(OSError, AssertionError), connection:  # the client may leave at any time
            self.handler(connection, number)

    def die(self):
        """Close the listener and reset every connection, as the kernel does for a killed process."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.die()


def echo(connection, change=lambda data: data):
    """Echo until the end of the stream. ${change} modifies each answer."""
    while data := connection.recv(65536):
        connection.sendall(change(data))


def wait_for_line(stream, word):
    """Read lines of ${stream} until one contains ${word}."""
    for line in stream:
        if word in line:
            return line
    raise AssertionError(f"no line with {word!r}")


__all__ = ["BENCH", "KINDS", "LIMIT", "RUN_LIMIT", "Fake", "bench", "echo", "kinds", "measure", "unused_port", "wait_for_line"]
