"""A server with an admin endpoint, and a client of it that sees every byte of an answer.

    with Endpoint(self.path("admin")) as server:
        reply = server.ask("/readyz")            # by TCP
        reply = server.ask("/drain", "POST")     # a command goes to the UNIX socket, with Xchg-Command
"""

import time
from dataclasses import dataclass, field

from xchgd import LIMIT, Server

COMMAND = "Xchg-Command: yes"


@dataclass
class Reply:
    version: str
    status: int
    fields: dict = field(default_factory=dict)  # by name in small letters
    body: bytes = b""

    @property
    def text(self):
        return self.body.decode()


class Asker:
    """A connection to the endpoint."""

    def __init__(self, client):
        self.socket = client
        self.rest = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data.encode("latin-1"))

    def _more(self):
        data = self.socket.recv(65536)
        self.rest += data
        return bool(data)

    def reply(self, head_only=False):
        """The next reply; None at the end of the stream before it."""
        while b"\r\n\r\n" not in self.rest:
            if not self._more():
                if self.rest:
                    raise AssertionError(f"half a reply: {self.rest[:200]!r}")
                return None
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        reply = Reply(version, int(status))
        for line in lines[1:]:
            name, value = line.split(": ", 1)
            if name.lower() in reply.fields:
                raise AssertionError(f"{name} twice: {head!r}")
            reply.fields[name.lower()] = value
        size = 0 if head_only else int(reply.fields["content-length"])
        while len(self.rest) < size:
            if not self._more():
                raise AssertionError(f"{len(self.rest)} of {size} bytes of a body")
        reply.body, self.rest = self.rest[:size], self.rest[size:]
        return reply

    def ask(self, target, method="GET", *fields, host="localhost"):
        self.send(request(target, method, *fields, host=host))
        return self.reply(method == "HEAD")

    def at_end(self):
        """Is there nothing but the end of the stream?"""
        try:
            return not self.rest and self.socket.recv(1) == b""
        except ConnectionError:
            return True


def request(target, method="GET", *fields, host="localhost"):
    lines = [f"{method} {target} HTTP/1.1", *([f"Host: {host}"] if host is not None else []), *fields, "", ""]
    return "\r\n".join(lines)


class Endpoint(Server):
    """The addresses of the endpoint: ${tcp} and the UNIX socket at ${path}."""

    def __init__(self, path, admin="", **variables):
        self.tcp = self.path = None
        super().__init__(XCHG_ADMIN=admin or f"127.0.0.1:0,unix:{path}", **variables)  # its lines precede `listening`
        for fields in self.messages("admin"):
            if fields["addr"].startswith("unix:"):
                self.path = fields["addr"][5:]
            else:
                self.tcp = fields["addr"]

    def tcp_asker(self):
        return Asker(self.connect(address=self.tcp))

    def unix_asker(self):
        return Asker(self.connect(address=f"unix:{self.path}"))

    def ask(self, target, method="GET", *fields, unix=None, host="localhost"):
        """Ask on a connection of its own. Commands go to the UNIX socket with their field."""
        command = method == "POST"
        with self.unix_asker() if unix or (unix is None and command) else self.tcp_asker() as asker:
            return asker.ask(target, method, *([COMMAND] if command else []), *fields, host=host)

    def metric(self, name):
        """The value of a sample of /metrics."""
        for line in self.ask("/metrics").text.splitlines():
            if line.startswith(name + " "):
                return float(line.split(" ")[1])
        raise AssertionError(f"no sample {name}")

    def wait_reply(self, target, condition):
        """Ask until the reply meets ${condition}; return it."""
        deadline = time.monotonic() + LIMIT
        while True:
            reply = self.ask(target)
            if condition(reply):
                return reply
            if time.monotonic() > deadline:
                raise AssertionError(f"{target} stays {reply}")
