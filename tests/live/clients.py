"""Helpers for the clients of several live tests: serve() and patient() start servers, talk() and play() are clients."""

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import struct
import tempfile
import termios
import threading
import time
import unittest

from xchgd import LIMIT, PLAIN, REASONS, Server, receive_all

# Under valgrind and in a sanitizer's build, memory and speed cannot be measured.
INSTRUMENTED = not PLAIN or os.environ.get("XCHGD_SANITIZED") == "1"

MIB = 1 << 20


class FolderTest(unittest.TestCase):
    """A test with a folder of its own, for UNIX sockets."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="xchg-")
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, name="socket"):
        return os.path.join(self.folder, name)

    def unix_client(self, path):
        client = socket.socket(socket.AF_UNIX)
        self.addCleanup(client.close)
        client.settimeout(LIMIT)
        client.connect(path)
        return client


def serve(**variables):
    """Start a server with no stop grace. Its clients must have left before the stop."""
    variables.setdefault("XCHG_STOP_GRACE", "0")
    return Server(**variables)


PATIENT = {"XCHG_IDLE_TIMEOUT": "0", "XCHG_MESSAGE_TIMEOUT": "0", "XCHG_WRITE_TIMEOUT": "0", "XCHG_LINGER": "5m"}


def patient(**variables):
    """Like serve(), without any timeout that a slow machine could reach."""
    return serve(**{**PATIENT, **variables})


def ended(totals):
    """How the connections ended: {reason: count} without zeros. A connection that is still open is "open"."""
    counts = {reason: totals[f"closed_{reason}"] for reason in REASONS}
    counts["finished"] = totals["finished"]
    counts["open"] = totals.get("open", 0)
    return {reason: count for reason, count in counts.items() if count}


def talk(client, data, half_close=True):
    """Send and receive at the same time, and return everything that the server sends."""
    failures = []

    def send():
        try:
            client.sendall(data)
            if half_close:
                client.shutdown(socket.SHUT_WR)
        except OSError as failure:
            failures.append(failure)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    received = receive_all(client)
    sender.join(LIMIT)
    if failures:
        raise failures[0]
    return received


def send_now(client, data):
    """Send what the kernel takes without waiting; return how many bytes that is."""
    sent = 0
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while sent < len(data):
            sent += client.send(data[sent:])
    client.settimeout(LIMIT)
    return sent


def unacknowledged(client):
    """The number of bytes that the server's kernel has not acknowledged (SIOCOUTQ)."""
    return struct.unpack("i", fcntl.ioctl(client, termios.TIOCOUTQ, b"\0" * 4))[0]


# For a query about one IPv4 TCP connection (sock_diag(7)): /proc/net/tcp can list thousands.
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLMSG_ERROR = 2
NLM_F_REQUEST = 1
NO_COOKIE = b"\xff" * 8


def unread_bytes(netlink, client):
    """How many bytes of ${client} have arrived and are unread by the server. 0 if its connection is gone."""
    try:
        here, there = client.getsockname(), client.getpeername()
    except OSError:  # both sides have closed
        return 0
    question = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xffffffff)
    question += struct.pack("!HH16s16s", there[1], here[1], socket.inet_aton(there[0]), socket.inet_aton(here[0]))
    question += struct.pack("=I", 0) + NO_COOKIE
    netlink.send(struct.pack("=IHHII", 16 + len(question), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0) + question)
    answer = netlink.recv(4096)
    kind = struct.unpack_from("=H", answer, 4)[0]
    if kind == NLMSG_ERROR:
        failure = -struct.unpack_from("=i", answer, 16)[0]
        if failure != errno.ENOENT:
            raise OSError(failure, os.strerror(failure))
        return 0
    return struct.unpack_from("=I", answer, 16 + 4 + 48 + 4)[0]


def wait_acknowledged(clients):
    """Wait until the server's kernel has acknowledged everything that the clients sent. A delayed ACK takes 40 ms."""
    deadline = time.monotonic() + LIMIT
    while waiting := [client for client in clients if unacknowledged(client)]:
        os.sched_yield()
        if time.monotonic() > deadline:
            raise AssertionError(f"{len(waiting)} clients have unacknowledged bytes")


def wait_read(clients):
    """Wait until the server has read everything that has arrived from the clients. Over loopback that is nearly always
    everything they sent. To be certain, call wait_acknowledged first."""
    deadline = time.monotonic() + LIMIT
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        netlink.connect((0, 0))
        while clients := [client for client in clients if unread_bytes(netlink, client)]:
            os.sched_yield()
            if time.monotonic() > deadline:
                raise AssertionError(f"{len(clients)} clients have bytes that the server has not read")


def every_split(data, pairs=True):
    """The stream whole, byte by byte, in two pieces at every place and, if ${pairs}, in three pieces."""
    places = range(1, len(data))
    splits = [[data], [data[i:i + 1] for i in range(len(data))]]
    splits += [[data[:i], data[i:]] for i in places]
    if pairs:
        splits += [[data[:i], data[i:j], data[j:]] for j in places for i in range(1, j)]
    return splits


def send_piece(client, piece, half_close=False):
    client.sendall(piece)
    if half_close:
        client.shutdown(socket.SHUT_WR)


def play(server, streams, half_close, together=400, *, send=send_piece, receive=receive_all):
    """Send each stream, a list of pieces, on a connection of its own. Returns the answers.

    All clients send a piece, wait until the server has read it, and send the next piece. The server
    probably reads the pieces one by one, but no answer may depend on that.
    """
    answers = []
    for start in range(0, len(streams), together):
        part = streams[start:start + together]
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.connect()) for _ in part]
            for client in clients:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for turn in range(max(map(len, part))):
                if turn > 0:
                    wait_read(clients)
                for client, pieces in zip(clients, part):
                    if turn < len(pieces):
                        send(client, pieces[turn], half_close and turn + 1 == len(pieces))
            answers += map(receive, clients)
    return answers
