"""Goal: the peers in other languages answer correctly, so that their figures mean something.

Each program of benchmarks/peers/languages gets its exchanges, as in test_peers.py, and what a loaded server gets: split and joined
messages, a half-close with echoes on their way, 1,000 connections. A peer that is not built (make languages) is skipped.
"""

import contextlib
import os
import random
import resource
import socket
import subprocess
import threading
import unittest

from clients import MIB, talk
from test_peers import BUILD, Exchanges, Peer
from xchgd import GREETING, LIMIT, WRAP, receive_all, receive_exactly

LANGUAGES = ("go_net", "tokio", "netty", "asio", "node_net", "uvloop_net", "erlang_tcp")
WITH_HTTP = ("go_net", "node_net")
# When a client half-closes while a send to it is blocked, the driver of gen_tcp drops what is queued.
DROP_BLOCKED = ("erlang_tcp",)
CONNECTIONS = 1000
DESCRIPTORS = CONNECTIONS + 100


@contextlib.contextmanager
def many_descriptors():
    """Raise the soft limit, which the peer inherits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < DESCRIPTORS:
        raise unittest.SkipTest(f"the limit on descriptors is {hard}, {DESCRIPTORS} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, DESCRIPTORS), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Languages(Exchanges):
    """Mixed into one class for each language."""

    def test_echo_of_split_and_joined_messages(self):
        with Peer(self.name, "echo") as peer, peer.connect() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            message = bytes(range(256))
            for at in range(len(message)):
                client.sendall(message[at:at + 1])
            self.assertEqual(receive_exactly(client, len(message)), message)
            joined = b"".join(b"%063d\n" % i for i in range(128))
            client.sendall(joined)
            self.assertEqual(receive_exactly(client, len(joined)), joined)

    def test_echoes_on_their_way_survive_a_half_close(self):
        data = random.Random(7).randbytes(MIB)
        with Peer(self.name, "echo") as peer:
            for size in (1, 4096) if self.name in DROP_BLOCKED else (1, 4096, 65536, MIB):
                with peer.connect() as client:
                    self.assertTrue(talk(client, data[:size]) == data[:size], size)

    def test_a_client_that_reads_slower_than_it_sends(self):
        """A small receive buffer: the peer meets sends that are not complete, and clients that it should not read."""
        data = random.Random(8).randbytes(4 * MIB)
        with Peer(self.name, "echo") as peer, socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(LIMIT)
            client.connect(("127.0.0.1", peer.port))
            sender = threading.Thread(target=client.sendall, args=(data,), daemon=True)
            sender.start()
            self.assertTrue(receive_exactly(client, len(data)) == data)
            sender.join(LIMIT)
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(receive_all(client), b"")

    def test_a_thousand_connections(self):
        with many_descriptors(), Peer(self.name, "echo") as peer, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(peer.connect()) for _ in range(CONNECTIONS)]
            for turn in range(2):
                for i, client in enumerate(clients):
                    client.sendall(b"%d:%d" % (turn, i))
                for i, client in enumerate(clients):
                    self.assertEqual(receive_exactly(client, len(b"%d:%d" % (turn, i))), b"%d:%d" % (turn, i))
            for client in clients[::2]:
                client.close()
            for i, client in enumerate(clients[1::2]):
                client.sendall(b"%d" % i)
                self.assertEqual(receive_exactly(client, len(b"%d" % i)), b"%d" % i)

    def test_greet_at_the_same_time(self):
        with Peer(self.name, "greet") as peer, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(peer.connect()) for _ in range(200)]
            for client in clients:
                self.assertEqual(receive_exactly(client, len(GREETING)), GREETING)
                client.sendall(b"in two ")
            for client in clients:
                client.sendall(b"pieces\0")
            for client in clients:
                self.assertEqual(receive_all(client), b"")

    def test_greet_of_a_client_that_leaves(self):
        with Peer(self.name, "greet") as peer:
            with peer.connect() as client:
                self.assertEqual(receive_exactly(client, len(GREETING)), GREETING)
                client.shutdown(socket.SHUT_WR)
                self.assertEqual(receive_all(client), b"")

    def test_number_of_workers(self):
        for count in ("1", "2", "3"):
            with Peer(self.name, "echo", count) as peer, contextlib.ExitStack() as stack:
                for _ in range(12):
                    client = stack.enter_context(peer.connect())
                    client.sendall(b"ping")
                    self.assertEqual(receive_exactly(client, 4), b"ping")

    def test_wrong_arguments(self):
        path = os.path.join(BUILD, "peers", self.name)
        if not os.access(path, os.X_OK):
            self.skipTest(f"not built (make languages): {self.name}")
        for arguments in ((), ("0",), ("0", "sing")):
            ended = subprocess.run([path, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   timeout=LIMIT)
            self.assertEqual((ended.returncode, ended.stdout), (64, ""), ended.stderr)
            self.assertIn("usage: ", ended.stderr)

    def test_http(self):
        if self.name not in WITH_HTTP:
            self.skipTest("serves no HTTP")
        with Peer(self.name, "http") as peer, peer.connect() as client:
            for _ in range(3):
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += receive_exactly(client, 1)
                self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"), head)
                self.assertIn(b"Content-Length: 3\r\n", head)
                self.assertEqual(receive_exactly(client, 3), b"ok\n")


for each in LANGUAGES:
    globals()[f"Test_{each}"] = unittest.skipIf(WRAP, "measures no program of ours")(
        type(f"Test_{each}", (Languages, unittest.TestCase), {"name": each}))
