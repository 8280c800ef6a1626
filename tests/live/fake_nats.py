"""A NATS server of the tests, which can break the protocol, and members of the rooms of docs/examples/nats.c.

    def session(peer):                       # one for each connection of the bridge, in this order
        peer.greet()
        peer.send(msg(ROOM, b"hello\n"))

    with FakeNats(session) as nats:
        server = ... NATS_URL=nats.url       # connects, and waits
        nats.begin()                         # when the members are there
"""

import contextlib
import queue
import re
import socket
import threading

from clients import wait_read
from xchgd import LIMIT

INFO = b'INFO {"server_id":"FAKE","version":"2.9.10","proto":1,"headers":true,"max_payload":%d,"client_id":7}\r\n'
ROOM = b"attic"


def group_of(room):
    """FNV-1a, as in the example."""
    value = 0xCBF29CE484222325
    for byte in room:
        value = (value ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return value


def subject(room, prefix="xchg"):
    return b"%s.g.%016x" % (prefix.encode(), group_of(room))


def msg(room, data, reply=b""):
    return b"MSG %s 1 %s%d\r\n%s\r\n" % (subject(room), reply and reply + b" ", len(data), data)


class Peer:
    """The connection of a bridge, seen from NATS."""

    def __init__(self, connection):
        self.connection, self.file = connection, connection.makefile("rb")
        connection.settimeout(LIMIT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data):
        self.connection.sendall(data)

    def send_apart(self, *pieces):
        """Send each piece when the bridge has read the one before, which is nearly always certain."""
        for piece in pieces:
            self.connection.sendall(piece)
            wait_read([self.connection])

    def line(self):
        return self.file.readline()

    def expect(self, pattern):
        """The next line."""
        line = self.line()
        if not re.fullmatch(pattern, line):
            raise AssertionError(f"the bridge sent {line!r}, not {pattern!r}")
        return line

    def hear(self):
        """CONNECT, SUB and PING of the bridge."""
        connect = self.expect(rb"CONNECT \{.*\}\r\n")
        self.expect(rb"SUB \S+\.g\.> 1\r\n")
        self.expect(rb"PING\r\n")
        return connect

    def greet(self, max_payload=1 << 20):
        self.send(INFO % max_payload)
        connect = self.hear()
        self.send(b"PONG\r\n")
        return connect

    def flush(self):
        """Return when the bridge has handled everything that was sent."""
        self.send(b"PING\r\n")
        self.expect(rb"PONG\r\n")

    def publication(self):
        """(subject, data) of the next PUB. PINGs before it are answered."""
        while (line := self.line()) == b"PING\r\n":
            self.send(b"PONG\r\n")
        found = re.fullmatch(rb"PUB (\S+) (\d+)\r\n", line)
        if not found:
            raise AssertionError(f"the bridge sent {line!r}, not PUB")
        data = self.file.read(int(found.group(2)) + 2)
        if data[-2:] != b"\r\n":
            raise AssertionError(f"a PUB ends with {data[-20:]!r}")
        return found.group(1), data[:-2]

    def serve(self):
        """Answer PINGs until the bridge leaves."""
        while line := self.line():
            if line == b"PING\r\n":
                self.send(b"PONG\r\n")

    def drain(self):
        """Wait until the bridge has closed the connection."""
        with contextlib.suppress(ConnectionError):
            while self.connection.recv(65536):
                pass


class FakeNats:
    """Runs ${sessions} on the connections of a bridge, one after the other; the last one also on all further ones."""

    def __init__(self, *sessions, receive_bytes=None):
        self.sessions = sessions
        self.may_begin = threading.Event()
        self.begun = queue.Queue()  # the number of each session that begins
        self.failures = queue.Queue()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=8)
        if receive_bytes:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.port = self.listener.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        number = 0
        self.may_begin.wait()
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                self.begun.put(number)
                try:
                    self.sessions[min(number, len(self.sessions) - 1)](Peer(connection))
                except ConnectionError:
                    pass  # the bridge has closed it
                except Exception as failure:  # pylint: disable=broad-except
                    self.failures.put(failure)
            number += 1

    def begin(self):
        """Answer. Before that, a bridge can connect but hears nothing."""
        self.may_begin.set()

    def wait(self, number):
        """Wait until session ${number} has begun."""
        while self.begun.get(timeout=LIMIT) < number:
            pass

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, failure, traceback):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.may_begin.set()
        if kind is None:
            self.thread.join(LIMIT)
            if not self.failures.empty():
                raise self.failures.get()


class Member:
    """A client in a room."""

    def __init__(self, server, room=ROOM, **options):
        self.socket = server.connect(**options)
        self.file = self.socket.makefile("rb")
        self.socket.sendall(room + b"\n")
        for expected in (b"* which room?\n", b"* you are in\n"):
            if self.hear() != expected:
                raise AssertionError("not in the room")

    def say(self, *lines):
        self.socket.sendall(b"".join(line + b"\n" for line in lines))

    def hear(self):
        return self.file.readline()

    def hear_lines(self, count):
        return [self.hear().rstrip(b"\n") for _ in range(count)]

    def close(self):
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def counts(server):
    """The numbers of the bridge's last line."""
    line = server.messages("nats")[-1]
    if line["state"] != "stopped":
        raise AssertionError(f"the bridge has not stopped: {line}")
    return {key: int(value) for key, value in line.items() if value.isdigit()}
