"""Goal: a handler works from the server's start to its end, under each model (docs/reference.md, Concurrency
models)."""

import contextlib
import socket
import unittest

from clients import MIB, ended, serve
from test_handler import plugin
from xchgd import is_closed, receive_all, receive_exactly, run

MODELS = ("pool", "thread", "fork", "iterative")
STARTS, STOPS = "life starts", "life stops: 0, 0 open"
REFS = b"".join(bytes([ord("a") + i % 26]) * 5000 for i in range(100))


def living(**variables):
    """A server with tests/live/plugin/life.c, without timeouts that a slow machine could reach."""
    for name in ("IDLE", "MESSAGE", "WRITE"):
        variables.setdefault(f"XCHG_{name}_TIMEOUT", "0")
    return serve(XCHG_HANDLER=plugin("life"), **variables)


def ask(client, line):
    """Send ${line} and return the answer."""
    client.sendall(line.encode() + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        answer += receive_exactly(client, 1)
    return answer.decode().rstrip("\n")


def said(server):
    """What on_start and on_stop of the plug-in logged."""
    return [line for line in server.lines if line.startswith("life s")]


class Stop(unittest.TestCase):
    """Goal: on_stop is called once, after the last use of the handler, and the server may be used until then."""

    def test_a_thread_of_the_handler(self):
        """A thread publishes until on_stop ends it. The sanitizers notice any use of freed memory."""
        for clients in (0, 3):
            with self.subTest(clients=clients), living(LIFE_TICKS="1", XCHG_WORKERS="2") as server, contextlib.ExitStack() as stack:
                for _ in range(clients):
                    client = stack.enter_context(server.connect())
                    client.sendall(b"ticks\n")
                    self.assertEqual(receive_exactly(client, 10), b"tick\ntick\n")
                totals = server.stop()
                self.assertEqual(said(server), [STARTS, STOPS])
                self.assertEqual(totals["accepted"], clients)

    def test_each_model(self):
        """on_stop is called under every model; under fork in the parent only."""
        for model in MODELS:
            with self.subTest(model), living(XCHG_MODEL=model, LIFE_TICKS="1") as server:
                with server.connect() as client:
                    self.assertEqual(ask(client, "hello"), "hello")
                server.wait_stats(lambda stats: stats["finished"] == 1)
                server.stop()
                self.assertEqual(said(server), [STARTS, STOPS])

    def test_not_where_nothing_was_started(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            for code, lines, variables in ((71, [STARTS], dict(LIFE_DECLINES="1", XCHG_LISTEN="127.0.0.1:0")),
                                           (69, [], dict(XCHG_LISTEN=address))):
                done = run(XCHG_HANDLER=plugin("life"), LIFE_TICKS="1", **variables)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertEqual([line for line in done.stderr.splitlines() if line.startswith("life")], lines)
            for flag in ("--check", "--explain"):
                self.assertNotIn("life", run(flag, XCHG_HANDLER=plugin("life")).stderr)


class Lent(unittest.TestCase):
    def test_many_borrowed_blocks(self):
        """Goal: one callback may send many borrowed blocks under every model."""
        for model in MODELS:
            with self.subTest(model), living(XCHG_MODEL=model) as server:
                with server.connect() as client:
                    for _ in range(2):
                        client.sendall(b"refs\n")
                        self.assertEqual(receive_exactly(client, len(REFS)), REFS)
                server.wait_stats(lambda stats: stats["open"] == 0)
                self.assertEqual(ended(server.stop()), {"finished": 1})
                self.assertEqual([line for line in server.lines if "lends" in line], [])


class Stream(unittest.TestCase):
    def test_to_a_half_closed_client(self):
        """Goal: a client that half-closes after its request gets 10 MiB that are made while it reads."""
        for model in MODELS:
            with self.subTest(model), living(XCHG_MODEL=model) as server:
                with server.connect(rcvbuf=65536) as client:
                    client.sendall(b"stream 160\n")
                    client.shutdown(socket.SHUT_WR)
                    self.assertEqual(len(receive_all(client)), 10 * MIB)
                server.wait_stats(lambda stats: stats["open"] == 0)
                self.assertEqual(ended(server.stop()), {"finished": 1})


class Drain(unittest.TestCase):
    """Goal: a handler may drain or stop its own server."""

    def test_a_child_cannot_stop_the_server(self):
        """Goal: under fork the server belongs to the parent. Neither call in a child ends it, and a signal still
        does."""
        with living(XCHG_MODEL="fork") as server, contextlib.ExitStack() as stack:
            for line in ("drain", "stop", "drain"):
                client = stack.enter_context(server.connect())
                self.assertEqual(ask(client, line), "told")
                self.assertEqual(ask(client, "and on"), "and on")
                other = stack.enter_context(server.connect())
                self.assertEqual(ask(other, "hello"), "hello")
                self.assertEqual(ask(client, "still"), "still")
            self.assertEqual(server.messages("stopping"), [])
            stack.close()
            server.wait_stats(lambda stats: stats["open"] == 0)
            self.assertEqual(ended(server.stop()), {"finished": 6})

    def test_a_signal_reaches_its_children(self):
        """Goal: a child that has called drain in vain is drained by the parent."""
        with living(XCHG_MODEL="fork") as server, server.connect() as client:
            self.assertEqual(ask(client, "drain"), "told")
            server.process.terminate()
            self.assertTrue(is_closed(client))
            self.assertEqual(ended(server.finish()), {"finished": 1})

    def test_other_models(self):
        """Goal: under the other models the call ends the server."""
        for model in ("pool", "thread", "iterative"):
            with self.subTest(model), living(XCHG_MODEL=model) as server:
                with server.connect() as client:
                    client.sendall(b"drain\n")
                    self.assertEqual(receive_all(client), b"told\n")
                self.assertEqual(ended(server.finish()), {"finished": 1})
                self.assertEqual(said(server), [STARTS, STOPS])


class Ids(unittest.TestCase):
    def test_no_two_connections_share_one(self):
        """Goal: an id names one connection, among the live and the closed ones."""
        for model in MODELS:
            together = 1 if model == "iterative" else 4
            with self.subTest(model), living(XCHG_MODEL=model) as server:
                ids = []
                for _ in range(3):
                    with contextlib.ExitStack() as stack:
                        clients = [stack.enter_context(server.connect()) for _ in range(together)]
                        ids += [ask(client, "id") for client in clients]
                        self.assertEqual([ask(client, "id") for client in clients], ids[-together:])
                self.assertNotIn("0", ids)
                self.assertEqual(len(set(ids)), 3 * together, ids)
                server.wait_stats(lambda stats: stats["open"] == 0)
                server.stop()
