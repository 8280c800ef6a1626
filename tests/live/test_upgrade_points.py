"""Goal: wherever one side of an upgrade ends or stops, each connection is served by exactly one process afterwards, or has ended.

A row of POINTS is a point of pool/upgrade_point.h. test_upgrade_failures.py has the points of the old process, and bad successors.
"""

import os
import signal
import time
import unittest

from fault_matrix import covers_fault
from upgrade import POINTS, ROUNDS, PausedTest, exchange, lives
from xchgd import SLOW, check_totals, numbers

# The points at which the new process passes, and the most connections that it has taken there.
TAKEN_AT = {(1, 1): 0, (2, 1): 0, (3, 1): 0, (4, 1): 0, (5, 1): 0, (6, 1): 9, (7, 1): 9, (7, 2): 73, (8, 1): 73, (9, 1): 100}
ALONE = "the old process has ended during the upgrade: this one serves"
LONG = 6 * SLOW  # longer than the old process waits for any answer (pool/upgrade.c: ANSWER_NS)


class PointsTest(PausedTest):
    CLIENTS = 100

    def check_one_serves(self, server, clients, count):
        """${count} of the clients are served and counted, others have ended, new ones come, and the next upgrade succeeds."""
        alive = [client for client in clients if lives(client)]
        self.assertEqual(len(alive), count)
        alive += self.clients(server, 3)
        values = server.stats()
        check_totals(values)
        self.assertEqual(values["open"], len(alive))
        self.assertEqual(numbers(server.upgrade())["moved"], len(alive))
        for client in alive:
            exchange(client, b"x")
        server.end()


class NewProcessEnds(PointsTest):
    @covers_fault(42)
    def test_crash(self):
        """What it has taken is lost, and nothing else."""
        for (point, nth), most in self.each(TAKEN_AT.items()):
            server, clients, _ = self.at_point("new", point, "crash", nth)
            fields = numbers(server.turned_back())
            self.assertLessEqual(fields["lost"], most)
            self.assertEqual(fields["lost"] == 0, most == 0)
            self.check_one_serves(server, clients, self.CLIENTS - fields["lost"])

    @covers_fault(42)
    def test_crash_in_the_middle(self):
        """At the 20th batch of some 25, most clients are in the new process; the others live on."""
        server, clients, _ = self.at_point("new", 7, "crash", 20, clients=1600)
        fields = numbers(server.turned_back())
        self.assertIn(fields["lost"], range(900, 1300))
        self.check_one_serves(server, clients, 1600 - fields["lost"])


class OldProcessEnds(PointsTest):
    def test_killed(self):
        """The new one serves what it has taken and what was on its way to it, once it has the listeners."""
        for point, nth in self.each(TAKEN_AT):
            server, clients, child = self.at_point("new", point, "orphan", nth)
            server.wait_end(server.pid)
            if point == 1 or (point == 2 and not self.has_listeners(server)):
                self.assertEqual(server.wait_end(child), 71)
                self.assertFalse(any(lives(client) for client in clients))
                continue
            self.serves_alone(server, clients, child)

    def has_listeners(self, server):
        """Had the old process sent the listeners when it was killed?"""
        refusal = "xchgd: cannot replace the old process: it has ended"
        server.wait_for(lambda _: server.messages(ALONE) or refusal in server.lines)
        return refusal not in server.lines

    def serves_alone(self, server, clients, child):
        outcome = server.wait_for(lambda _: server.messages(ALONE))
        self.assertEqual(len(outcome), 1)
        server.now = child
        alive = sum(lives(client) for client in clients)
        self.assertEqual(server.stats()["open"], alive)
        self.check_one_serves(server, clients, alive)


class Stopped(PointsTest):
    def all_points(self, side, points, **variables):
        """ROUNDS servers for each point, all stopped at the same time."""
        found = [(point, self.at_point(side, point, **variables)) for point in points for _ in range(ROUNDS)]
        time.sleep(LONG)  # the stimulus: one side is stopped for so long
        return found

    def test_old_process(self):
        """However long it was stopped, it reads what has come before it looks at its deadlines."""
        for point, (server, clients, _) in self.all_points("old", POINTS, XCHG_UPGRADE_TIMEOUT="5s"):
            with self.subTest(point=point):
                os.kill(server.pid, signal.SIGCONT)
                outcome = server.wait_for(lambda _, server=server: server.messages("upgrade turned back") or server.messages("upgraded"))
                if outcome[0]["msg"] == "upgraded":
                    server.followed()
                else:  # the new process could do nothing without it, and its time is over
                    self.assertLess(point, 4)
                    self.assertEqual(outcome[0]["lost"], "0")
                self.check_one_serves(server, clients, self.CLIENTS)

    def test_new_process_before_the_batches(self):
        """It is killed. The old one serves all that it had not taken, and takes new clients again."""
        for point, (server, clients, child) in self.all_points("new", range(1, 7), XCHG_UPGRADE_TIMEOUT="5s"):
            with self.subTest(point=point):
                fields = numbers(server.turned_back())
                self.assertLessEqual(fields["lost"], TAKEN_AT[point, 1])
                self.assertNotIn(child, self.children(server.pid))
                self.check_one_serves(server, clients, self.CLIENTS - fields["lost"])


if __name__ == "__main__":
    unittest.main()
