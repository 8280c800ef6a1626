"""Plays the part of a service manager for xchgd, as systemd does (sd_notify(3), sd_listen_fds(3), systemd.service(5)).

    with Supervised(sockets=[("data", one), ("admin", two)], watchdog=0.4, XCHG_STALL="1s") as server:
        server.wait_state("READY=1")
        server.wait_status(r"serving 0 of \\d+ connections, 2 workers")
        server.terminate(timeout=1)  # SIGTERM, then SIGKILL after TimeoutStopSec, unless the server asks for more time

A thread reads NOTIFY_SOCKET and keeps each message with its time; reading=False leaves the queue to fill up. Like
NotifyAccess=main, it refuses messages of other processes.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
import time

from xchgd import LIMIT, Server

# Does what systemd does between fork and exec. argv[1]: the descriptors that become 3, 4, ..., comma-separated. argv[2]:
# LISTEN_FDNAMES; `-` leaves it unset. argv[3]: LISTEN_FDS; empty means their number. argv[4]: whether WATCHDOG_PID is
# `own`, `none` or a number. argv[5:] is executed.
START = """import fcntl, os, sys
fds, names, count, watchdog_pid = sys.argv[1:5]
given = [int(fd) for fd in fds.split(",") if fd]
above = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in given]
for fd in given:
    os.close(fd)
for i, fd in enumerate(above):
    os.dup2(fd, 3 + i)
if given:
    os.environ["LISTEN_FDS"] = count or str(len(given))
    os.environ["LISTEN_PID"] = str(os.getpid())
if names != "-":
    os.environ["LISTEN_FDNAMES"] = names
if watchdog_pid != "none":
    os.environ["WATCHDOG_PID"] = str(os.getpid()) if watchdog_pid == "own" else watchdog_pid
os.execvp(sys.argv[5], sys.argv[5:])
"""

CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class Supervised(Server):
    """A server under a service manager. Its log goes to lines, as that of every Server.

    sockets: pairs of a name and a listening socket, passed in their order; name None: LISTEN_FDNAMES is not set.
    names, count: other values of LISTEN_FDNAMES and LISTEN_FDS than those that fit.
    watchdog: WATCHDOG_USEC in seconds, or a text; watchdog_pid: "own", "none" or a number.
    abstract: NOTIFY_SOCKET is an abstract name.
    """

    def __init__(self, *, sockets=(), names=None, count="", watchdog=None, watchdog_pid="own", abstract=False, reading=True, wait=True,
                 **variables):
        self._folder = tempfile.mkdtemp(prefix="xchg-")
        self.states = []  # (time, message) of each message, in their order
        self._main = None  # the process of the last MAINPID=
        self._changed = threading.Condition()
        self.notify = self._open_notify(abstract)
        self.notify_address = self.notify.getsockname()
        if names is None:
            names = "-" if not sockets or any(name is None for name, _ in sockets) else ":".join(name for name, _ in sockets)
        given = [each.fileno() for _, each in sockets]
        pid = str(watchdog_pid) if watchdog is not None else "none"
        wrap = [sys.executable, "-S", "-c", START, ",".join(map(str, given)), names, str(count), pid]
        if watchdog is not None:
            variables["WATCHDOG_USEC"] = watchdog if isinstance(watchdog, str) else str(round(watchdog * 1e6))
        address = self.notify_address
        variables.setdefault("NOTIFY_SOCKET", address if isinstance(address, str) else "@" + address[1:].decode())
        super().__init__(wrap=wrap, pass_fds=tuple(given), wait=False, **variables)
        self._manager = threading.Thread(target=self._listen, daemon=True)
        if reading:
            self._manager.start()
        if wait:
            try:
                self.addresses.append(self.wait_line("listening")["addr"])
            except BaseException:
                self.__exit__()
                raise

    def _open_notify(self, abstract):
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        made.bind(f"\0xchg-supervisor-{os.getpid()}-{id(self)}" if abstract else os.path.join(self._folder, "notify"))
        return made

    def read(self):
        """Read messages from now on, if that was not so from the start."""
        self._manager.start()

    def read_one(self):
        """Read one message. Return: whether there was one before the end."""
        try:
            text, control, _, _ = self.notify.recvmsg(4096, socket.CMSG_SPACE(CREDENTIALS.size))
        except OSError:
            return False
        if not text:
            return False
        sender = CREDENTIALS.unpack(control[0][2])[0]
        message = text.decode() if sender == (self._main or self.process.pid) else f"process {sender} may not send: {text!r}"
        if message.startswith("MAINPID="):
            self._main = int(message[len("MAINPID="):])
        with self._changed:
            self.states.append((time.monotonic(), message))
            self._changed.notify_all()
        return True

    def wait_full(self):
        """Fill the queue, after READY=1 has been read from it."""
        self.read_one()
        if self.states[0][1] != "READY=1":
            raise AssertionError(f"the first message is {self.states[0][1]!r}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            deadline = time.monotonic() + LIMIT
            while time.monotonic() < deadline:
                try:
                    other.sendto(b"X=1", self.notify_address)
                except BlockingIOError:
                    return
        raise AssertionError("the queue is never full")

    def _listen(self):
        while self.read_one():
            pass

    def _wait_notified(self, condition, what, limit=LIMIT):
        deadline = time.monotonic() + limit
        with self._changed:
            while not (found := condition()):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"no {what}; the messages were:\n" + "\n".join(text for _, text in self.states[-50:]))
                self._changed.wait(left)
        return found

    def messages_with(self, line, after=0.0):
        """The times of the messages that hold this line, sent after a time."""
        with self._changed:
            return [when for when, text in self.states if when > after and line in text.split("\n")]

    def wait_state(self, line, after=0.0):
        """Wait for a message with this line; return its time."""
        return self._wait_notified(lambda: self.messages_with(line, after), f"message with {line}")[0]

    def values(self, name):
        """(time, value) of each line name=value."""
        with self._changed:
            return [(when, line[len(name) + 1:]) for when, text in self.states for line in text.split("\n") if line.startswith(name + "=")]

    def wait_status(self, pattern, after=0.0):
        """Wait for a status that matches the whole pattern; return the match."""
        def find():
            return [found for when, text in self.values("STATUS") if when > after and (found := re.fullmatch(pattern, text))]
        return self._wait_notified(find, f"status {pattern}")[0]

    def terminate(self, timeout, expect=0):
        """Stop as systemd does: SIGTERM, and SIGKILL after ${timeout} s and after the time that the server asks for."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        while self.process.poll() is None:
            deadlines = [begin + timeout, *(when + int(value) / 1e6 for when, value in self.values("EXTEND_TIMEOUT_USEC"))]
            left = max(deadlines) - time.monotonic()
            if left <= 0:
                self.process.kill()
            with contextlib.suppress(Exception):
                self.process.wait(max(min(left, 0.1), 0.01))
        return self.finish(expect)

    def __exit__(self, *exception):
        super().__exit__(*exception)
        with contextlib.suppress(OSError):
            self.notify.shutdown(socket.SHUT_RDWR)  # ends the wait of the thread
        if self._manager.is_alive():
            self._manager.join(LIMIT)
        self.notify.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def tcp_listener():
    return socket.create_server(("127.0.0.1", 0))


def unix_listener(path, mode=0o600):
    made = socket.socket(socket.AF_UNIX)
    made.bind(path)
    os.chmod(path, mode)
    made.listen()
    return made


def address_of(listener):
    """The address of a listening socket, as the log writes it."""
    name = listener.getsockname()
    return f"unix:{name}" if listener.family == socket.AF_UNIX else f"{name[0]}:{name[1]}"
