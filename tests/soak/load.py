"""The soak's clients, polite and rude, and what each must receive, byte for byte.

A client is a method of a subclass of Kinds. It opens its connections, talks, and returns for each one the
reason under which it must be counted, or None if more than one reason is right. A wrong byte or a missing
answer is an AssertionError.
"""

import contextlib
import select
import socket
import struct
import threading
import time

from xchgd import GREETING, LIMIT, SLOW, reset

MAX_MESSAGE = 32 * 1024
PATIENCE_MS = int(LIMIT * 1000)
CUT_MS = int(5000 * SLOW)  # a little more than the write timeout or the idle timeout


class Count:
    """What all clients did together."""

    def __init__(self):
        self.lock = threading.Lock()
        self.connections = 0
        self.bytes = 0

    def add_bytes(self, number):
        with self.lock:
            self.bytes += number


def split(chance, data):
    """The data in up to six pieces."""
    places = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(6)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)]) if a < b]


class Talk:
    """Sends and reads on one connection at the same time and compares each byte as it arrives."""

    def __init__(self, client, count):
        self.client, self.count = client, count
        client.setblocking(False)
        self.poll = select.poll()

    def wait(self, events):
        self.poll.register(self.client, events)
        if not self.poll.poll(PATIENCE_MS):
            raise AssertionError(f"nothing for {PATIENCE_MS} ms")
        return self.poll.poll(0)[0][1]

    def exchange(self, pieces, wanted, read_size=65536, pace=0.0, half_close=False):
        """Send the pieces and read ${wanted}. ${pace}: the seconds that a slow reader waits after each read."""
        left, got = list(pieces), 0
        while left or got < len(wanted):
            events = self.wait((select.POLLIN if got < len(wanted) else 0) | (select.POLLOUT if left else 0))
            if left and events & ~select.POLLIN:
                sent = self.client.send(left[0])
                left[0] = left[0][sent:]
                if not left[0]:
                    left.pop(0)
                if not left and half_close:
                    self.client.shutdown(socket.SHUT_WR)
            if got < len(wanted):
                got += self.read(wanted, got, read_size, pace)

    def read(self, wanted, got, size, pace):
        try:
            data = self.client.recv(size)
        except BlockingIOError:
            return 0
        if data == b"" or data != wanted[got:got + len(data)]:
            raise AssertionError(f"after {got} of {len(wanted)} bytes: {data[:60]!r}")
        self.count.add_bytes(len(data))
        if pace:
            time.sleep(pace)  # the pace of the load
        return len(data)

    def end(self):
        """The server ends the stream without another byte."""
        self.wait(select.POLLIN)
        data = self.client.recv(65536)
        if data:
            raise AssertionError(f"{data[:60]!r} instead of the end")

    def read_what_was_left(self, message):
        """Wait until the server may have closed us, then read the rest: copies of ${message}, then an end or a
        reset."""
        got = 0
        self.poll.register(self.client, 0)
        self.poll.poll(CUT_MS)
        with contextlib.suppress(ConnectionError):
            while self.wait(select.POLLIN) and (data := self.client.recv(4096)):
                at = got % len(message)
                if data != (message * (2 + len(data) // len(message)))[at:at + len(data)]:
                    raise AssertionError(f"after {got} bytes: {data[:60]!r}")
                got += len(data)
                self.count.add_bytes(len(data))

    def pour(self, message):
        """Send without reading until nothing is taken for a while."""
        out = select.poll()
        out.register(self.client, select.POLLOUT)
        rest = b""
        while out.poll(300):
            rest = rest or message
            try:
                rest = rest[self.client.send(rest):]
            except ConnectionError:
                return


class Kinds:
    """The kinds of clients of one server. run(chance) runs one client."""

    def __init__(self, server, count):
        self.server, self.count = server, count

    def connect(self, **options):
        client = self.server.connect(**options)
        with self.count.lock:
            self.count.connections += 1
            self.server.connections += 1
        if client.family != socket.AF_UNIX:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    @contextlib.contextmanager
    def talk(self, **options):
        client = self.connect(**options)
        try:
            yield Talk(client, self.count)
        finally:
            client.close()

    def run(self, chance):
        """Run one client. Returns its kind and the reasons of its connections."""
        names = [name for name, weight in self.weights.items() for _ in range(weight)]
        name = chance.choice(names)
        return name, getattr(self, name)(chance)


class Stream(Kinds):
    """Clients of the exchanges that echo without end: raw, line, u32."""

    common = {"polite": 60, "pipelined": 24, "half_closing": 24, "slow_reader": 6, "resetting": 12, "never_reader": 1, "idle": 1}

    def __init__(self, server, count, frame):
        super().__init__(server, count)
        self.frame = frame
        self.weights = dict(self.common)
        if frame != "raw":
            self.weights |= {"unfinished": 2, "garbage": 8}
        if frame == "u32":
            self.weights |= {"truncated": 8}

    def message(self, chance, most=MAX_MESSAGE):
        size = chance.randrange(1, most) if chance.random() < 0.1 else chance.randrange(1, 200)
        data = chance.randbytes(size)
        if self.frame == "line":
            return data.replace(b"\n", b".").replace(b"\r", b".") + chance.choice((b"\n", b"\r\n"))
        return struct.pack(">I", size) + data if self.frame == "u32" else data

    def messages(self, chance, most):
        return b"".join(self.message(chance) for _ in range(chance.randrange(1, most)))

    def polite(self, chance):
        with self.talk() as talk:
            for _ in range(chance.randrange(1, 8)):
                message = self.message(chance)
                talk.exchange(split(chance, message), message)
        return ["finished"]

    def pipelined(self, chance):
        with self.talk() as talk:
            stream = self.messages(chance, 60)
            talk.exchange(split(chance, stream), stream)
        return ["finished"]

    def half_closing(self, chance):
        with self.talk() as talk:
            stream = self.messages(chance, 10)
            if self.frame == "line" and chance.random() < 0.5:
                stream += b"without an end"
            talk.exchange(split(chance, stream), stream, half_close=True)
            talk.end()
        return ["finished"]

    def slow_reader(self, chance):
        with self.talk(rcvbuf=4096) as talk:
            stream = b"".join(self.message(chance, 8192) for _ in range(100))
            talk.exchange([stream], stream, chance.randrange(512, 4096), 0.001)
        return ["finished"]

    def resetting(self, chance):
        client = self.connect()
        client.sendall(self.messages(chance, 5)[:chance.randrange(1, 2000)])
        reset(client)
        return ["reset"]

    def never_reader(self, chance):
        with self.talk(rcvbuf=4096) as talk:
            talk.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
            message = self.message(chance)
            talk.pour(message)
            talk.read_what_was_left(message)
        return [None]  # write or idle

    def idle(self, chance):
        with self.talk() as talk:
            message = self.message(chance)
            talk.exchange([message], message)
            talk.end()
        return ["idle"]

    def unfinished(self, chance):
        with self.talk() as talk:
            whole, part = self.messages(chance, 5), self.message(chance)
            part = part[:chance.randrange(1, len(part))].rstrip(b"\r") or b"\0"
            talk.exchange(split(chance, whole + part), whole)
            talk.end()
        return ["message"]

    def garbage(self, chance):
        """A message that is too long, and more bytes. Earlier messages are answered, and the end is no reset."""
        with self.talk() as talk:
            whole, rest = self.messages(chance, 5), chance.randbytes(chance.randrange(1, 60000))
            if self.frame == "line":
                rest = b"." * (MAX_MESSAGE + 2) + rest
            else:
                rest = struct.pack(">I", chance.randrange(MAX_MESSAGE + 1, 1 << 32)) + rest
            talk.exchange(split(chance, whole + rest), whole)
            talk.end()
        return ["too_long"]

    def truncated(self, chance):
        with self.talk() as talk:
            whole, part = self.messages(chance, 5), self.message(chance)
            part = part[:chance.randrange(1, len(part))]
            talk.exchange(split(chance, whole + part), whole, half_close=True)
            talk.end()
        return ["truncated"]

    def hello(self):
        """A short message and its answer."""
        return {"raw": b"hello", "line": b"hello\n", "u32": b"\0\0\0\5hello"}[self.frame]

    def brief(self, talk):
        talk.exchange([self.hello()], self.hello())


class Greet(Kinds):
    """Clients of the greet exchange."""

    weights = {"polite": 60, "eager": 30, "chatty": 16, "half_closing": 16, "without_a_word": 8, "resetting": 8, "unfinished": 2, "garbage": 6}

    def message(self, chance):
        return chance.randbytes(chance.randrange(2000)).replace(b"\0", b"0") + b"\0"

    def polite(self, chance):
        with self.talk() as talk:
            talk.exchange([], GREETING)
            talk.exchange(split(chance, self.message(chance)), b"")
            talk.end()
        return ["finished"]

    def eager(self, chance):
        with self.talk() as talk:
            talk.exchange(split(chance, self.message(chance)), GREETING)
            talk.end()
        return ["finished"]

    def chatty(self, chance):
        """Sends more than the exchange takes. A reset would destroy the greeting."""
        with self.talk() as talk:
            talk.exchange([self.message(chance) + chance.randbytes(chance.randrange(1, 100000))], GREETING)
            talk.end()
        return ["finished"]

    def half_closing(self, chance):
        with self.talk() as talk:
            talk.exchange(split(chance, b"x" + self.message(chance)[:-1]), GREETING, half_close=True)
            talk.end()
        return ["finished"]

    def without_a_word(self, _):
        with self.talk() as talk:
            talk.exchange([], GREETING)
        return ["peer"]

    def resetting(self, chance):
        with self.talk() as talk:
            talk.exchange([], GREETING)
            talk.client.send(b"x" * chance.randrange(1, 1000))
            reset(talk.client)
        return ["reset"]

    def unfinished(self, chance):
        with self.talk() as talk:
            talk.exchange(split(chance, self.message(chance)[:-1]), GREETING)
            talk.end()
        return ["message"]

    def garbage(self, chance):
        """A message that is too long, and more bytes."""
        with self.talk() as talk:
            talk.exchange([b"x" * (MAX_MESSAGE + 1) + chance.randbytes(chance.randrange(1000))], GREETING)
            talk.end()
        return ["too_long"]

    def brief(self, talk):
        talk.exchange([b"hello\0"], GREETING)
        talk.end()


class Member:
    """A client of the chat that reads lines."""

    def __init__(self, kinds, nick):
        self.client = kinds.connect()
        self.nick, self.count = nick, kinds.count
        self.lines = self.client.makefile("rb")
        self.say(nick)

    def say(self, line):
        self.client.sendall(line.encode() + b"\n")

    def hear(self, wanted):
        line = self.lines.readline()
        if line != wanted.encode() + b"\n":
            raise AssertionError(f"{self.nick}: {line[:80]!r} instead of {wanted!r}")
        self.count.add_bytes(len(line))

    def enter(self, room):
        """Join a room from the lobby, where other clients come and go. Messages from just before the join may still
        arrive (docs/library.md)."""
        self.say(f"/join {room}")
        wanted = f"* {self.nick} has entered {room}\n".encode()
        while (line := self.lines.readline()) != wanted:
            if line != b"* your name?\n" and not line.endswith((b" lobby\n", f" has entered {room}\n".encode())):
                raise AssertionError(f"{self.nick} in the lobby: {line!r}")

    def close(self):
        self.lines.close()
        self.client.close()


class Chat(Kinds):
    """Clients of docs/examples/chat.c: rooms in which every line reaches every member in order."""

    weights = {"room": 6, "nameless": 2}

    def __init__(self, server, count):
        super().__init__(server, count)
        self.rooms = 0

    def meet(self, stack, size):
        with self.count.lock:
            self.rooms += 1
            room = f"r{self.rooms}"
        members = []
        for i in range(size):
            member = Member(self, f"{room}m{i}")
            stack.callback(member.close)
            member.enter(room)
            for other in members:
                other.hear(f"* {member.nick} has entered {room}")
            members.append(member)
        return room, members

    def room(self, chance):
        with contextlib.ExitStack() as stack:
            room, members = self.meet(stack, chance.randrange(1, 6))
            self.speak(chance, members, 10)
            first = members[0]
            first.lines.close()
            reset(first.client)
            for other in members[1:]:
                other.hear(f"* {first.nick} has left {room}")
            self.quit(room, members[1:])
        return ["reset"] + ["finished"] * (len(members) - 1)

    def speak(self, chance, members, most):
        for _ in range(chance.randrange(1, most)):
            speaker, text = chance.choice(members), "x" * chance.randrange(1, 400)
            speaker.say(text)
            for member in members:
                member.hear(f"<{speaker.nick}> {text}")

    def quit(self, room, members):
        """The members leave one after the other. The others are told, and the leaver hears nothing more."""
        left = list(members)
        while left:
            gone = left.pop()
            gone.say("/quit")
            if gone.lines.readline():
                raise AssertionError("a line after /quit")
            gone.close()
            for other in left:
                other.hear(f"* {gone.nick} has left {room}")

    def nameless(self, _):
        with self.talk() as talk:
            talk.exchange([], b"* your name?\n")
        return ["finished"]

    def storm(self, chance):
        """Publish to a room with one member that does not read. It is closed, and the others get every line."""
        with contextlib.ExitStack() as stack:
            room, members = self.meet(stack, 6)
            deaf = members.pop()
            gone = f"* {deaf.nick} has left {room}\n".encode()
            heard = set()
            for i in range(1200):
                text = "y" * 400
                members[i % 5].say(text)
                for member in members:
                    line = member.lines.readline()
                    if line == gone:  # each member hears of it between two lines, not always the same two
                        heard.add(member)
                        line = member.lines.readline()
                    if line != f"<{members[i % 5].nick}> {text}\n".encode():
                        raise AssertionError(f"{member.nick} in the storm: {line[:80]!r}")
                    self.count.add_bytes(len(line))
                if heard:
                    break
            if not heard:
                raise AssertionError("the member that does not read is not closed")
            for member in set(members) - heard:
                member.hear(gone.decode().rstrip())
            self.quit(room, members)
        return ["finished"] * 5 + [None]

    def brief(self, talk):
        talk.exchange([], b"* your name?\n")
