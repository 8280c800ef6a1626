"""Goal: a stop loses no client whose handshake is complete and finishes started messages (docs/reference.md,
Shutdown)."""

import ctypes
import errno
import os
import select
import signal
import socket
import struct
import tempfile
import time
import unittest

from clients import FolderTest
from fault_matrix import covers_fault
from xchgd import (GREETING, LIMIT, SLOW, WRAP, Notify, Server, greet, is_closed, is_silent, receive_all,
                   receive_exactly)

SO_ATTACH_FILTER, SO_GET_FILTER = 26, 26  # <asm-generic/socket.h>


class Client:
    """A client of the load: connect, greeting, message, end of stream, and again."""

    def __init__(self, load, eager):
        self.load = load
        self.eager = eager  # sends before it has read the greeting
        self.socket = None
        self.data = b""

    def connect(self):
        self.socket = socket.socket(self.load.family)
        self.socket.setblocking(False)
        self.data = b""
        error = self.socket.connect_ex(self.load.target)
        if error in (0, errno.EINPROGRESS):
            self.connected = error == 0
            self.load.poll.register(self.socket, select.POLLOUT)
            self.load.clients[self.socket.fileno()] = self
            if self.connected:
                self.begin()
            return
        self.socket.close()
        self.socket = None
        if error != errno.EAGAIN:  # the backlog of a UNIX socket is full: try again
            self.load.refuse(error)

    def begin(self):
        """The handshake is complete."""
        self.connected = True
        self.load.poll.modify(self.socket, select.POLLIN)
        if self.eager:
            self.socket.send(b"early\0")

    def drop(self):
        self.load.poll.unregister(self.socket)
        del self.load.clients[self.socket.fileno()]
        self.socket.close()
        self.socket = None

    def event(self):
        if not self.connected:
            error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error == 0:
                self.begin()
                return
            self.drop()
            if error == errno.ECONNREFUSED:
                self.load.refuse(error)
            else:
                self.load.lost.append(f"connected, then {errno.errorcode[error]}")
            return
        try:
            chunk = self.socket.recv(64)
            whole = self.data + chunk == GREETING
            if chunk and whole and not self.eager:
                self.socket.send(b"late\0")
        except OSError as error:
            self.load.lost.append(f"{error} after {self.data!r}")
            self.drop()
            return
        self.data += chunk
        if not chunk:
            if whole:
                self.load.done += 1
            else:
                self.load.lost.append(f"end after {self.data!r}")
            self.drop()


class Load:
    """Forty clients on one thread that connect, talk and close without pause."""

    def __init__(self, address, size=40):
        if address.startswith("unix:"):
            self.family, self.target = socket.AF_UNIX, address[5:]
        else:
            host, port = address.rsplit(":", 1)
            self.family, self.target = socket.AF_INET, (host, int(port))
        self.poll = select.poll()
        self.clients = {}  # connected or connecting clients by descriptor
        self.all = [Client(self, i % 2 == 0) for i in range(size)]
        self.done = 0
        self.lost = []
        self.refused = set()  # errno of refused connects
        self.going = True

    def refuse(self, error):
        self.refused.add(error)
        self.going = False  # a listener that refuses does not return

    def turn(self, timeout_ms=10):
        """One round. Returns how many clients had an event."""
        if self.going:
            for client in self.all:
                if client.socket is None and self.going:
                    client.connect()
        events = self.poll.poll(timeout_ms)
        for fd, _ in events:
            self.clients[fd].event()
        return len(events)

    def until(self, condition):
        deadline = time.monotonic() + LIMIT
        while not condition():
            self.turn()
            if time.monotonic() > deadline:
                raise AssertionError(f"the load makes no progress: {self.done} done, lost {self.lost}, "
                                     f"{len(self.clients)} open")

    def end(self):
        """After the server's exit, a client whose handshake was complete has been served or is lost. The others give
        up."""
        self.going = False
        while self.turn(0):
            pass
        for client in list(self.clients.values()):
            if client.connected:
                self.lost.append(f"still connected after the exit, with {client.data!r}")
            client.drop()


@covers_fault(38)
class UnderLoad(unittest.TestCase):
    def stop_under_load(self, after, **variables):
        """Start the server and the load, send SIGTERM after ${after} exchanges, and check that no client is lost."""
        with Server(**variables) as server:
            load = Load(server.addresses[0])
            load.until(lambda: load.done >= after)
            server.process.send_signal(signal.SIGTERM)
            load.until(lambda: server.process.poll() is not None)
            load.end()
            totals = server.finish()
            self.assertEqual(load.lost, [])
            self.assertEqual((totals["accepted"], totals["finished"]), (load.done, load.done))
            self.assertLessEqual(load.refused, {errno.ECONNREFUSED, errno.ENOENT})

    def test_tcp(self):
        """Fifty stops under forty clients that connect, talk and close. No client with a complete handshake is lost."""
        # Valgrind runs one thread at a time: fifty stops find no more than ten.
        for i in range(0, 50, 5 if WRAP else 1):
            with self.subTest(i):
                self.stop_under_load(100 + 7 * i)

    def test_unix(self):
        """The same over a UNIX socket, whose file is removed."""
        with tempfile.TemporaryDirectory() as folder:
            for i in range(10):
                with self.subTest(i):
                    self.stop_under_load(100 + 31 * i, XCHG_LISTEN=f"unix:{folder}/socket")
                    self.assertEqual(os.listdir(folder), [])

    def test_limited(self):
        """The same with most clients held in the backlog, by the limit or by full queues."""
        for variables in [dict(XCHG_MAX_CONNECTIONS="2"), dict(XCHG_QUEUE="1", XCHG_WORKERS="1")]:
            for i in range(3):
                with self.subTest(variables):
                    self.stop_under_load(100 + 50 * i, **variables)

    def test_no_grace(self):
        """A grace of 0 still serves every client in the accept queue. On loopback handshakes take no time."""
        with Server(XCHG_STOP_GRACE="0") as server:
            server.pause()
            clients = [server.connect() for _ in range(100)]
            server.process.send_signal(signal.SIGTERM)
            server.resume()
            for client in clients:
                greet(client)
            self.assertEqual(server.finish()["finished"], 100)


class Case(FolderTest):
    def setUp(self):
        super().setUp()
        self.notify = Notify(self.folder)
        self.addCleanup(self.notify.socket.close)

    def server(self, **variables):
        server = Server(NOTIFY_SOCKET=self.notify.address, **variables)
        self.addCleanup(server.__exit__)
        self.notify.wait("READY=1")
        return server

    def begin(self, server):
        """Send SIGTERM and wait until the stop has started. Returns the time of the signal."""
        start = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        self.notify.wait("STOPPING=1")
        return start

    def assert_took(self, start, least, most):
        took = time.monotonic() - start
        self.assertGreaterEqual(took, least)
        self.assertLessEqual(took, most * 1.1 + 0.1 + 1.0 * SLOW)


class Live(Case):
    def test_idle_endless(self):
        """An endless connection between messages is half-closed and counts as `finished`."""
        server = self.server(XCHG_EXCHANGE="echo")
        clients = [server.connect() for _ in range(5)]
        for client in clients:
            client.sendall(b"x")
            self.assertEqual(receive_exactly(client, 1), b"x")
        start = self.begin(server)
        for client in clients:
            self.assertEqual(client.recv(1), b"")
            client.sendall(b"into the drain")
            client.close()
        self.assertEqual(server.finish()["finished"], 5)
        self.assert_took(start, 0, 1)

    def test_linger_bounds_the_drain(self):
        """A client that does not close after the half-close delays the stop by at most the linger time."""
        server = self.server(XCHG_EXCHANGE="echo", XCHG_LINGER="500ms")
        client = server.connect()
        self.addCleanup(client.close)
        client.sendall(b"x")
        self.assertEqual(receive_exactly(client, 1), b"x")
        start = self.begin(server)
        self.assertEqual(client.recv(1), b"")
        self.assertEqual(server.finish()["finished"], 1)
        self.assert_took(start, 0, 0.5)

    def test_idle_counted(self):
        """A counted connection between messages is half-closed and counts as `drain`."""
        server = self.server(XCHG_EXCHANGE="line", XCHG_MESSAGES="3")
        with server.connect() as client:
            client.sendall(b"one\n")
            self.assertEqual(receive_exactly(client, 4), b"one\n")
            self.begin(server)
            self.assertEqual(client.recv(1), b"")
        self.assertEqual(server.finish()["closed_drain"], 1)

    def test_begun_endless(self):
        """A started message is completed and answered, then the connection ends as `finished`."""
        server = self.server(XCHG_EXCHANGE="line", XCHG_MESSAGES="0")
        with server.connect() as client:
            client.sendall(b"ab\ncd")
            self.assertEqual(receive_exactly(client, 3), b"ab\n")
            server.wait_stats(lambda s: s["bytes_in"] == 5)
            self.begin(server)
            self.assertTrue(is_silent(client, 0.3))
            client.sendall(b"ef\n")
            self.assertEqual(receive_all(client), b"cdef\n")
        self.assertEqual(server.finish()["finished"], 1)

    def test_begun_counted(self):
        """A greet client within its message finishes its exchange."""
        server = self.server()
        with server.connect() as client:
            client.sendall(b"hel")
            server.wait_stats(lambda s: s["bytes_in"] == 3)
            self.begin(server)
            client.sendall(b"lo\0")
            self.assertEqual(receive_all(client), GREETING)
        self.assertEqual(server.finish()["finished"], 1)

    def test_begun_too_slow(self):
        """A started message gets its timeout and no more."""
        server = self.server(XCHG_EXCHANGE="line", XCHG_MESSAGES="0", XCHG_MESSAGE_TIMEOUT="700ms")
        with server.connect() as client:
            start = time.monotonic()
            client.sendall(b"never")
            server.wait_stats(lambda s: s["bytes_in"] == 5)
            self.begin(server)
            self.assertTrue(is_closed(client))
            self.assert_took(start, 0.7, 0.7)
        self.assertEqual(server.finish()["closed_message"], 1)

    def test_unsent_reply(self):
        """A reply that is queued at the stop reaches its slow client whole."""
        server = self.server(XCHG_EXCHANGE="line", XCHG_MESSAGES="0", XCHG_MAX_MESSAGE="8MiB",
                             XCHG_SNDBUF="16KiB")
        line = b"0123456789abcde" * 400_000 + b"\n"
        with server.connect(rcvbuf=16384) as client:
            client.sendall(line)
            server.wait_stats(lambda s: s["messages"] == 1)
            self.begin(server)
            self.assertEqual(receive_all(client), line)
        self.assertEqual(server.finish()["finished"], 1)

    def test_silent_endless(self):
        """An endless connection that has sent nothing is closed after about a second as `drain`."""
        server = self.server(XCHG_EXCHANGE="echo")
        with server.connect() as client:
            server.wait_stats(lambda s: s["open"] == 1)
            start = self.begin(server)
            self.assertTrue(is_closed(client))
            self.assert_took(start, 0, 1)
        self.assertEqual(server.finish()["closed_drain"], 1)

    def test_silent_endless_speaks(self):
        """If it sends a message within that second, it is answered and finished."""
        server = self.server(XCHG_EXCHANGE="echo")
        with server.connect() as client:
            server.wait_stats(lambda s: s["open"] == 1)
            self.begin(server)
            client.sendall(b"just in time")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(receive_all(client), b"just in time")
        self.assertEqual(server.finish()["finished"], 1)

    def test_silent_counted(self):
        """A counted connection that has sent nothing ends at its message timeout as `message`."""
        server = self.server(XCHG_MESSAGE_TIMEOUT="1500ms")
        start = time.monotonic()
        with server.connect() as client:
            receive_exactly(client, 20)
            self.begin(server)
            self.assertTrue(is_closed(client))
            self.assert_took(start, 1.5, 1.5)
        self.assertEqual(server.finish()["closed_message"], 1)

    def test_drain_timeout(self):
        """At the drain timeout the remaining connections are closed, counted and logged. The exit code is 0."""
        server = self.server(XCHG_DRAIN_TIMEOUT="600ms", XCHG_MESSAGE_TIMEOUT="0")
        clients = [server.connect() for _ in range(3)]
        for client in clients:
            receive_exactly(client, 20)
        start = self.begin(server)
        for client in clients:
            self.assertTrue(is_closed(client))
        self.assert_took(start, 0.6, 0.6)
        totals = server.finish()
        self.assertEqual((totals["closed_drain"], totals["cut"]), (3, 3))

    def test_no_drain(self):
        """With a drain timeout of 0, every live connection is closed as `drain` once the grace is over."""
        server = self.server(XCHG_DRAIN_TIMEOUT="0", XCHG_STOP_GRACE="300ms")
        with server.connect() as client:
            receive_exactly(client, 20)
            start = self.begin(server)
            self.assertTrue(is_closed(client))
            self.assert_took(start, 0.3, 0.3)
        self.assertEqual(server.finish()["closed_drain"], 1)


class Listener(Case):
    def test_grace(self):
        """During the grace a SYN is not answered, or is refused where the kernel refuses the filter. After it, a connect
        is refused."""
        server = self.server(XCHG_STOP_GRACE="1500ms")
        address = ("127.0.0.1", server.port)
        start = self.begin(server)
        kept_out = 0
        while time.monotonic() < start + 0.8 and not kept_out:
            with socket.socket() as client:
                client.settimeout(0.3)
                try:
                    client.connect(address)
                    client.settimeout(LIMIT)
                    greet(client)  # its SYN was just in time
                except (TimeoutError, ConnectionRefusedError):
                    kept_out += 1
        self.assertEqual(kept_out, 1)
        server.finish()
        self.assert_took(start, 1.5, 1.5)
        with self.assertRaises(ConnectionRefusedError), socket.create_connection(address):
            pass

    def test_held_back(self):
        """A backlog that the limit holds back is served before the end, even after the grace."""
        server = self.server(XCHG_MAX_CONNECTIONS="1", XCHG_STOP_GRACE="100ms")
        clients = [server.connect() for _ in range(5)]
        receive_exactly(clients[0], 20)
        self.begin(server)
        self.assertTrue(is_silent(clients[1], 0.5))
        clients[0].sendall(b"x\0")
        self.assertEqual(receive_all(clients[0]), b"")
        for client in clients[1:]:
            greet(client)
        self.assertEqual(server.finish()["finished"], 5)

    def test_held_back_until_the_drain_timeout(self):
        """Clients that are still held back at the drain timeout are closed."""
        server = self.server(XCHG_MAX_CONNECTIONS="1", XCHG_DRAIN_TIMEOUT="500ms",
                             XCHG_MESSAGE_TIMEOUT="0")
        clients = [server.connect() for _ in range(3)]
        receive_exactly(clients[0], 20)
        start = self.begin(server)
        server.finish()
        self.assert_took(start, 0.5, 0.5)
        self.assertTrue(is_closed(clients[0]))

    def test_refusing(self):
        """Under refuse the stop does not wait for room: clients in the queue are refused and counted."""
        server = self.server(XCHG_MAX_CONNECTIONS="1", XCHG_OVERLOAD="refuse")
        with server.connect() as first:
            receive_exactly(first, 20)
            server.pause()
            late = server.connect()
            server.process.send_signal(signal.SIGTERM)
            server.resume()
            self.assertTrue(is_closed(late))
            first.sendall(b"x\0")
            self.assertEqual(receive_all(first), b"")
        totals = server.finish()
        self.assertEqual((totals["finished"], totals["closed_overload"]), (1, 1))

    def filters(self, listener):
        """The number of instructions of the socket's filter. 0 means no filter."""
        return len(listener.getsockopt(socket.SOL_SOCKET, SO_GET_FILTER, 1024))

    def test_passed_is_left(self):
        """A listener from LISTEN_FDS is left unchanged: its backlog belongs to the next process, and no filter is on
        it."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            one = self.server(activate=[listener])
            with one.connect() as client:
                greet(client)
            self.assertEqual(one.stop()["finished"], 1)
            self.assertEqual(self.filters(listener), 0)
            waiting = [one.connect() for _ in range(3)]
            two = self.server(activate=[listener])
            for client in waiting:
                greet(client)
            self.assertEqual(two.stop()["finished"], 3)

    def test_passed_under_load(self):
        """Over a passed listener no client is lost or refused between one process and the next, under load."""
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            load = Load("127.0.0.1:%d" % listener.getsockname()[1])
            finished = 0
            for _ in range(4):
                server = self.server(activate=[listener])
                goal = load.done + 200
                load.until(lambda: load.done >= goal)
                server.process.send_signal(signal.SIGTERM)
                load.until(lambda: server.process.poll() is not None)
                finished += server.finish()["finished"]
                self.assertEqual((load.lost, load.refused), ([], set()))
            server = self.server(activate=[listener])
            load.going = False
            load.until(lambda: not load.clients)
            finished += server.stop()["finished"]
            self.assertEqual((load.lost, finished), ([], load.done))

    def test_filter_of_a_predecessor(self):
        """A filter that a predecessor left on a passed listener is removed at the start."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
            program = struct.pack("HxxxxxxP", 1, ctypes.addressof(drop_all))
            try:
                listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
            except PermissionError:
                self.skipTest("attaching a filter needs CAP_NET_ADMIN on this kernel")
            self.assertEqual(self.filters(listener), 1)
            server = self.server(activate=[listener])
            with server.connect() as client:
                greet(client)
            server.stop()

    def test_own_unix_listener_refuses(self):
        """After the stop of a UNIX listener a connect fails, and a successor can bind at once."""
        listen = f"unix:{self.folder}/socket"
        for _ in range(2):
            server = self.server(XCHG_LISTEN=listen)
            with server.connect() as client:
                greet(client)
            server.stop()
            with self.assertRaises(OSError), socket.socket(socket.AF_UNIX) as client:
                client.connect(listen[5:])
