"""Goal: a new process that is slow is not killed once it serves clients, unless it answers nothing at all (docs/upgrade.md).

In each test main of the new process stops at a point, and its workers go on.
"""

import signal
import time
import unittest

from upgrade import PausedTest, exchange, lives
from xchgd import SLOW, numbers

CLIENTS = 300
BATCH = 64
CANARY = 8


class Late(PausedTest):
    def test_a_batch_is_taken_late(self):
        """Two seconds later than the canary may be: nothing is lost, and all connections move."""
        server = self.paused("new 7 1 pause")
        clients = self.clients(server, CLIENTS)
        server.signal(signal.SIGUSR2)
        server.wait_line("point")
        time.sleep(2)  # the stimulus: the new process is late
        self.go_on()
        self.assertEqual(numbers(server.followed())["moved"], CLIENTS)
        for client in clients:
            exchange(client, b"x")
        self.assertEqual(server.stats()["open"], CLIENTS)
        server.end()

    def test_a_batch_is_not_taken(self):
        """After XCHG_UPGRADE_TIMEOUT, and without an answer to the totals, the new process is killed."""
        server = self.paused("new 7 1 pause", XCHG_UPGRADE_TIMEOUT=f"{round(3 * SLOW)}s")
        clients = self.clients(server, CLIENTS)
        server.signal(signal.SIGUSR2)
        fields = server.turned_back()
        self.assertEqual((fields["step"], fields["returned"]), ("totals", str(BATCH)))
        self.assertEqual(fields["reason"], "the new process answers neither the last batch nor the totals")
        self.check_turned_back(server, clients, CANARY)

    def test_totals_are_not_answered(self):
        """The new process has all connections: it becomes the server, and its workers serve them. The return waits for its main."""
        server = self.paused("new 9 1 pause")
        clients = self.clients(server, CLIENTS)
        server.signal(signal.SIGUSR2)
        server.wait_line("the new process does not answer the totals")
        server.wait_line("upgraded")
        self.assertTrue(all(lives(client) for client in clients))
        self.go_on()
        server.followed()
        self.assertTrue(all(lives(client) for client in clients))
        self.clients(server, 1)
        self.assertEqual(server.stats()["open"], CLIENTS + 1)
        server.end()


if __name__ == "__main__":
    unittest.main()
