"""Goal: a connection in any state moves to a new process, and then ends as it would have without the upgrade."""

import os
import signal
import threading
import time
import unittest

from clients import MIB
from upgrade import PausedTest, UpgradeEndpoint, UpgradeTest, exchange
from xchgd import LIMIT, SLOW, check_totals, is_closed, numbers, receive_all, receive_exactly


class States(UpgradeTest):
    def test_half_a_message(self):
        server = self.server(XCHG_FRAME="line")
        clients = [server.connect() for _ in range(10)]
        for client in clients:
            self.addCleanup(client.close)
            client.sendall(b"first\nsec")
            self.assertEqual(receive_exactly(client, 6), b"first\n")
        server.upgrade()
        for client in clients:
            client.sendall(b"ond\n")
            self.assertEqual(receive_exactly(client, 7), b"second\n")
        server.end()

    def test_output_for_a_client_that_does_not_read(self):
        """More than a batch takes: each of them is a batch of its own."""
        size = 3 << 20
        server = self.server(XCHG_MAX_PENDING="4MiB", XCHG_SNDBUF="16KiB", XCHG_WRITE_TIMEOUT="0")
        data = os.urandom(size)
        clients = [server.connect(rcvbuf=4096) for _ in range(3)]
        for client in clients:
            self.addCleanup(client.close)
            threading.Thread(target=client.sendall, args=(data,), daemon=True).start()
        server.wait_stats(lambda values: values["bytes_in"] == 3 * size)
        self.assertEqual(numbers(server.upgrade())["moved"], 3)
        for client in clients:
            self.assertEqual(receive_exactly(client, size), data)
        server.end()

    def test_an_end_in_progress(self):
        """A connection that has sent its last answer and waits for the client ends as it would have."""
        server = self.server(XCHG_EXCHANGE="line", XCHG_LINGER="20s", XCHG_SNDBUF="16KiB", XCHG_MAX_MESSAGE="1MiB", XCHG_WRITE_TIMEOUT="0")
        client = server.connect(rcvbuf=4096)
        self.addCleanup(client.close)
        line = os.urandom(300000).replace(b"\n", b"x") + b"\n"
        client.sendall(line)
        server.wait_stats(lambda values: values["messages"] == 1)
        self.assertEqual(numbers(server.upgrade())["moved"], 1)
        self.assertEqual(receive_all(client), line)
        client.close()
        server.wait_stats(lambda values: values["finished"] == 1)
        server.end()

    def test_input_waits_for_output(self):
        """The server reads no more from a client that does not read; after the upgrade it goes on."""
        size = 1 << 20
        server = self.server(XCHG_MAX_PENDING="64KiB", XCHG_SNDBUF="16KiB", XCHG_WRITE_TIMEOUT="0", XCHG_MESSAGE_TIMEOUT="0")
        data = os.urandom(size)
        clients = [server.connect(rcvbuf=4096) for _ in range(20)]
        for client in clients:
            self.addCleanup(client.close)
            threading.Thread(target=client.sendall, args=(data,), daemon=True).start()
        server.wait_stats(lambda values: values["bytes_in"] >= 20 * 64 << 10)
        for _ in range(2):
            self.assertEqual(numbers(server.upgrade())["moved"], 20)
        for client in clients:
            self.assertEqual(receive_exactly(client, size), data)
        for client in clients:
            client.close()
        totals = server.end()
        self.assertEqual((totals["bytes_in"], totals["bytes_out"], totals["finished"]), (20 * size, 20 * size, 20))

    def test_connections_per_address(self):
        """Those that have moved count, and none of them is refused."""
        server = self.server(XCHG_MAX_PER_IP="20")
        clients = self.clients(server, 20)
        self.assertEqual(numbers(server.upgrade())["moved"], 20)
        with server.connect() as one_more:
            self.assertTrue(is_closed(one_more))
        clients.pop().close()
        server.wait_stats(lambda values: values["open"] == 19)
        clients += self.clients(server, 1)
        self.assertEqual(server.end()["closed_per_ip"], 1)

    def test_a_full_server(self):
        server = self.server(XCHG_MAX_CONNECTIONS="50")
        self.clients(server, 50)
        self.assertEqual(numbers(server.upgrade())["moved"], 50)
        server.end()


class Times(UpgradeTest):
    """A time limit goes on. Of two connections, the later one begins half a limit later, and the upgrade follows at once. If the
    upgrade began the limit anew, both would end at the same time."""

    LIMIT = 6 * SLOW
    VARIABLES = {"XCHG_FRAME": "line", "XCHG_MESSAGE_TIMEOUT": "0", "XCHG_WRITE_TIMEOUT": "0", "XCHG_MAX_PENDING": "4MiB",
                 "XCHG_MAX_MESSAGE": "4MiB", "XCHG_SNDBUF": "16KiB"}

    def idle(self, server):
        return server.connect()

    def half(self, server):
        client = server.connect()
        client.sendall(b"ha")
        return client

    def unread(self, server):
        client = server.connect(rcvbuf=4096)
        client.sendall(2 * MIB * b"x" + b"\n")
        return client

    def ended(self, server):
        """It has got its last answer, and does not close: the server lingers."""
        client = server.connect()
        client.sendall(b"last\nmore")  # without more, the server closes at once
        self.assertEqual(receive_all(client), b"last\n")
        return client

    def test_limits_go_on(self):
        limit = f"{round(self.LIMIT * 1000)}ms"
        kinds = (
            (self.idle, "closed_idle", {"XCHG_IDLE_TIMEOUT": limit}),
            (self.half, "closed_message", {"XCHG_MESSAGE_TIMEOUT": limit}),
            (self.unread, "closed_write", {"XCHG_WRITE_TIMEOUT": limit}),
            (self.idle, "closed_lifetime", {"XCHG_MAX_LIFETIME": limit}),
            (self.ended, "finished", {"XCHG_LINGER": limit, "XCHG_MESSAGES": "1"}),
        )
        servers = [(self.server(**{**self.VARIABLES, **variables}), connect, reason) for connect, reason, variables in kinds]
        for server, connect, _ in servers:
            self.addCleanup(connect(server).close)
        begin = time.monotonic()
        time.sleep(self.LIMIT / 2)  # the stimulus: half of the limit passes
        for server, connect, _ in servers:
            self.addCleanup(connect(server).close)
            server.wait_stats(lambda values: values["accepted"] == 2)
            self.assertEqual(server.upgrade()["moved"], "2")
        waiting = [(server, reason) for server, _, reason in servers]
        while waiting:
            server, reason = waiting.pop(0)
            values = server.stats()
            with self.subTest(reason):
                self.assertNotEqual(values["open"], 0, "both have ended at the same time")
            if values["open"] == 2:
                self.assertLess(time.monotonic() - begin, self.LIMIT + LIMIT)
                waiting.append((server, reason))
            elif values["open"] == 1:
                self.assertGreater(time.monotonic() - begin, 0.89 * self.LIMIT, reason)  # a lifetime is shortened by up to 10 %
        for server, _, reason in servers:
            with self.subTest(reason):
                self.assertEqual(server.wait_stats(lambda values: values["open"] == 0)[reason], 2)
                server.end()


class Proxied(UpgradeTest):
    def test_headers(self):
        """The announced address moves, and so does half of a header."""
        server = self.server(UpgradeEndpoint, self.path("admin"), XCHG_LISTEN="127.0.0.1:0;proxy=v1", XCHG_PROXY_TRUST="127.0.0.1")
        whole, half = server.connect(), server.connect()
        self.addCleanup(whole.close)
        self.addCleanup(half.close)
        whole.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\n")
        exchange(whole, b"x")
        half.sendall(b"PROXY TCP4 192.0.2.9 192")
        server.wait_stats(lambda values: values["accepted"] == 2)
        self.assertEqual(numbers(server.upgrade())["moved"], 2)
        half.sendall(b".0.2.8 1234 80\r\n")
        exchange(half, b"y")
        exchange(whole, b"z")
        text = server.ask("/connections", unix=self.path("admin")).text
        self.assertIn("192.0.2.7:1234", text)
        self.assertIn("192.0.2.9:1234", text)
        server.end()


class Stopping(PausedTest):
    """XCHG_DRAIN_DELAY holds for a stop after an upgrade, and for one that comes while connections return."""

    CLIENTS = 20

    def check_delay(self, server, clients):
        self.assertRegex(server.wait_line("stopping")["delay"], "^[0-9]+s$")
        reply = server.ask("/readyz")
        self.assertEqual((reply.status, reply.text), (503, "draining\n"))
        for client in clients + self.clients(server, 1):
            exchange(client, b"in the delay")
        self.assertEqual(server.process.wait(LIMIT), 0)
        totals = numbers(server.wait_line("stopped"))
        check_totals(totals)
        self.assertEqual((totals["accepted"], totals["messages"]), (self.CLIENTS + 1, 2 * self.CLIENTS + 2))

    def test_after(self):
        server = self.server(UpgradeEndpoint, self.path("admin"), XCHG_DRAIN_DELAY=f"{round(3 * SLOW)}s")
        clients = self.clients(server, self.CLIENTS)
        server.upgrade()
        server.signal(signal.SIGTERM)
        self.check_delay(server, clients)

    def test_in_the_return(self):
        server, clients, _ = self.at_point("parent", 4, "pause", kind=UpgradeEndpoint, path=self.path("admin"), XCHG_DRAIN_DELAY=f"{round(3 * SLOW)}s")
        server.signal(signal.SIGTERM)
        self.go_on()
        server.followed()
        self.check_delay(server, clients)


if __name__ == "__main__":
    unittest.main()
