"""Goal: a connection in any state moves to a new process, and then ends as it would have without the upgrade."""

import os
import threading
import time
import unittest

from upgrade import UpgradeEndpoint, UpgradeTest, exchange
from xchgd import SLOW, is_closed, numbers, receive_all, receive_exactly


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

    def test_times_go_on(self):
        """A connection is idle as long as it would have been without the upgrade."""
        seconds = 3 * SLOW
        server = self.server(XCHG_IDLE_TIMEOUT=f"{round(seconds * 1000)}ms")
        client, = self.clients(server, 1)
        begin = time.monotonic()
        server.upgrade()
        self.assertTrue(is_closed(client))
        took = time.monotonic() - begin
        self.assertGreater(took, seconds - 0.5)
        self.assertEqual(server.end()["closed_idle"], 1)

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


if __name__ == "__main__":
    unittest.main()
