"""Goal: what takes longer than XCHG_SLOW_LOG is counted and logged, and level debug logs the life of each connection. Neither
floods the log (docs/tracing.md)."""

import contextlib
import time
import unittest

from clients import serve
from test_handler import plugin
from xchgd import LIMIT, GREETING, is_silent, numbers, receive_all, receive_exactly, reset, run

LATER = b"later\n"


def slow(limit="10ms", **variables):
    """A server with tests/live/plugin/slow.c."""
    return serve(XCHG_HANDLER=plugin("slow"), XCHG_SLOW_LOG=limit, **variables)


def later(client, ms):
    client.sendall(b"later %d\n" % ms)
    if receive_exactly(client, len(LATER)) != LATER:
        raise AssertionError("another answer")


def let_pass(client, seconds=0.03):
    if not is_silent(client, seconds):
        raise AssertionError("the server is not silent")


def told(lines):
    """How many events these lines stand for."""
    return sum(1 + int(line.get("suppressed", 0)) for line in lines)


def allowed(rate, begin):
    """The most lines since ${begin}: a burst of a second, and ${rate} a second."""
    return rate + rate * (time.monotonic() - begin) + 1


class SlowLog(unittest.TestCase):
    def the_line(self, server):
        """The one slow line of the server, and its numbers."""
        server.wait_stats(lambda stats: stats["slow"] == 1)
        lines = server.messages("slow")
        self.assertEqual(len(lines), 1)
        self.assertEqual(lines[0]["level"], "warn")
        return lines[0], numbers(lines[0])

    def test_off(self):
        with slow("0") as server, server.connect() as client:
            later(client, 30)
            self.assertEqual(server.stats()["slow"], 0)
            self.assertEqual(server.remarks(), [])

    def test_a_handler_that_answers_later(self):
        """A message takes the time until the handler lets the connection go on. What is quick is not logged."""
        with slow("20ms") as server, server.connect() as client:
            for _ in range(3):
                client.sendall(b"quick\n")
                receive_exactly(client, 6)
            before = time.monotonic()
            later(client, 50)
            client.sendall(b"quick\n")
            receive_exactly(client, 6)
            took_ms = (time.monotonic() - before) * 1000
            line, values = self.the_line(server)
            self.assertTrue(50 <= values["took_ms"] <= took_ms, (values, took_ms))
            self.assertEqual(line["peer"], "127.0.0.1:%d" % client.getsockname()[1])
            self.assertEqual((values["messages"], values["bytes_in"], values["bytes_out"]), (4, 27, 24))
            self.assertRegex(line["id"], "^[0-9a-f]{16}$")
            self.assertLess(values["handoff_us"], LIMIT * 1e6)
            self.assertNotIn("reason", line)
            self.assertNotIn("suppressed", line)

    def test_a_message_that_comes_slowly(self):
        """Also one whose handler then answers later: the times are added."""
        for rest, ms in ((b"ow\n", 30), (b"ter 50\n", 80)):
            with self.subTest(rest=rest), slow("20ms") as server, server.connect() as client:
                client.sendall(b"la")
                server.wait_stats(lambda stats: stats["bytes_in"] == 2)
                let_pass(client)
                client.sendall(rest)
                receive_exactly(client, 5)
                _, values = self.the_line(server)
                self.assertTrue(ms - 5 <= values["took_ms"] < LIMIT * 1000, values)

    def test_a_message_that_is_not_finished(self):
        """The reason of the end is in the line."""
        with slow(XCHG_MESSAGE_TIMEOUT="30ms") as server, server.connect() as client:
            client.sendall(b"half a line")
            self.assertEqual(receive_all(client), b"")
            line, values = self.the_line(server)
            self.assertEqual((line["reason"], values["messages"]), ("message", 0))
        with slow() as server, server.connect() as client:
            client.sendall(b"never\n")
            server.wait_stats(lambda stats: stats["messages"] == 1)
            let_pass(client)
            reset(client)
            line, values = self.the_line(server)
            self.assertEqual((line["reason"], values["messages"]), ("reset", 1))
            self.assertGreaterEqual(values["took_ms"], 25)

    def test_an_idle_connection_is_not_slow(self):
        with slow() as server, server.connect() as client:
            client.sendall(b"quick\n")
            receive_exactly(client, 6)
            let_pass(client)
            client.close()
            server.wait_stats(lambda stats: stats["finished"] == 1)
            self.assertEqual(server.stats()["slow"], 0)

    def test_a_counted_exchange(self):
        """It takes the time from the accept to its end. Children of the fork model write no log line, but are counted."""
        for model in ("pool", "iterative", "thread", "fork"):
            with self.subTest(model), serve(XCHG_MODEL=model, XCHG_SLOW_LOG="10ms") as server:
                with server.connect() as client:
                    receive_exactly(client, len(GREETING))
                    let_pass(client)
                    client.sendall(b"hello\0")
                    self.assertEqual(receive_all(client), b"")
                if model == "fork":
                    server.wait_stats(lambda stats: stats["slow"] == 1)
                    self.assertEqual(server.remarks(), [])
                    continue
                line, values = self.the_line(server)
                self.assertEqual((line["reason"], values["messages"]), ("finished", 1))
                self.assertEqual((values["bytes_in"], values["bytes_out"]), (6, len(GREETING)))
                self.assertGreaterEqual(values["took_ms"], 25)

    def test_level_error_only_counts(self):
        with slow(XCHG_LOG_LEVEL="error") as server, server.connect() as client:
            later(client, 30)
            server.wait_stats(lambda stats: stats["slow"] == 1)
            self.assertEqual(server.messages("slow"), [])

    def test_a_burst(self):
        """Ten lines a second of a worker. The next line says how many are missing, and none is counted twice."""
        with slow("10ms", XCHG_WORKERS="1") as server, contextlib.ExitStack() as stack:
            begin = time.monotonic()
            clients = [stack.enter_context(server.connect()) for _ in range(200)]
            for client in clients:
                client.sendall(b"later 20\n")
            for client in clients:
                receive_exactly(client, len(LATER))
            events, deadline = 200, time.monotonic() + LIMIT
            server.wait_stats(lambda stats: stats["slow"] == events)
            self.assertLessEqual(len(server.messages("slow")), allowed(10, begin))
            while told(server.messages("slow")) < events and time.monotonic() < deadline:
                later(clients[0], 20)
                events += 1
                server.wait_stats(lambda stats: stats["slow"] == events)  # the server counts after its answer
            self.assertEqual(told(server.messages("slow")), events)

    def test_configuration(self):
        for value, ok in (("0", True), ("1ms", True), ("60m", True), ("999us", False), ("61m", False), ("fast", False)):
            with self.subTest(value):
                done = run("--check", XCHG_SLOW_LOG=value)
                self.assertEqual(done.returncode, 0 if ok else 78, done.stderr)
                self.assertEqual("XCHG_SLOW_LOG" in done.stderr, not ok)


class Life(unittest.TestCase):
    def test_level_debug(self):
        """Each connection has two lines of level debug with one id."""
        for model in ("pool", "iterative", "thread"):
            with self.subTest(model), serve(XCHG_MODEL=model, XCHG_LOG_LEVEL="debug", XCHG_EXCHANGE="line") as server:
                with server.connect() as client:
                    client.sendall(b"hello\n")
                    self.assertEqual(receive_all(client), b"hello\n")
                    opened, closed = server.wait_line("opened"), server.wait_line("closed")
                    for line in (opened, closed):
                        self.assertEqual(line["peer"], "127.0.0.1:%d" % client.getsockname()[1])
                        self.assertEqual(line["level"], "debug")
                        self.assertEqual((line["id"], line["worker"]), (opened["id"], opened["worker"]))
                self.assertEqual(opened["listener"], "0")
                self.assertLess(int(opened["handoff_us"]), LIMIT * 1e6)
                self.assertEqual(closed["reason"], "finished")
                self.assertEqual([int(closed[key]) for key in ("messages", "bytes_in", "bytes_out")], [1, 6, 6])
                self.assertLess(int(closed["age_ms"]), LIMIT * 1000)
                server.stop()
                self.assertEqual(len(server.messages("opened")), 1)
                self.assertEqual(len(server.messages("closed")), 1)

    def test_a_burst(self):
        """A hundred lines a second of a worker, and all lines that are missing are told in the next ones."""
        with serve(XCHG_LOG_LEVEL="debug", XCHG_EXCHANGE="line", XCHG_MESSAGES="0", XCHG_WORKERS="1") as server:
            begin = time.monotonic()
            with contextlib.ExitStack() as stack:
                for _ in range(300):
                    stack.enter_context(server.connect())
                server.wait_stats(lambda stats: stats["open"] == 300)
            stats = server.wait_stats(lambda stats: stats["open"] == 0)
            self.assertLessEqual(len(server.messages("opened") + server.messages("closed")), allowed(100, begin))
            events, deadline = 600, time.monotonic() + LIMIT
            while told(server.messages("opened") + server.messages("closed")) < events and time.monotonic() < deadline:
                server.connect().close()
                events += 2
                stats = server.wait_stats(lambda stats: 2 * stats["accepted"] == events and stats["open"] == 0)
            self.assertEqual(told(server.messages("opened") + server.messages("closed")), 2 * stats["accepted"])

    def test_level_info_has_no_line_for_a_connection(self):
        with serve() as server:
            with server.connect() as client:
                receive_exactly(client, len(GREETING))
                client.sendall(b"hello\0")
                receive_all(client)
            server.stop()
            self.assertEqual(server.remarks(), [])


if __name__ == "__main__":
    unittest.main()
