"""Goal: a failure at any point of an upgrade loses only what it must (docs/upgrade.md, "What can fail").

One side is killed or stopped at each point, or the new process is a bad one.
"""

import os
import signal
import unittest

from upgrade import POINTS, PausedTest, UpgradeEndpoint, lives
from xchgd import PROGRAM, check_totals, is_closed, numbers

HOLDER = os.path.join(os.path.dirname(PROGRAM), "tests/live/plugin/holder.so")


class Failures(PausedTest):
    CLIENTS = 100

    def test_new_process_is_killed(self):
        for point in self.each(POINTS):
            server, clients, child = self.at_point("old", point, "pause")
            os.kill(child, signal.SIGKILL)
            self.wait_zombie(child)
            self.go_on()
            self.check_turned_back(server, clients, 0 if point < 5 else None)

    def test_new_process_hangs(self):
        for point in POINTS:
            with self.subTest(point=point):
                server, clients, child = self.at_point("old", point, "pause", XCHG_UPGRADE_TIMEOUT="1s", XCHG_DRAIN_TIMEOUT="10m")
                os.kill(child, signal.SIGSTOP)
                self.go_on()
                outcome = server.wait_for(lambda _: server.messages("upgrade turned back") or server.messages("upgraded"))
                if outcome[0]["msg"] == "upgraded":  # it has served the canary; what has not moved stays
                    os.kill(child, signal.SIGCONT)
                    server.followed()
                    self.assertTrue(all(lives(client) for client in clients))
                else:
                    self.check_turned_back(server, clients, 0 if point < 5 else None)

    def test_old_process_is_killed(self):
        for point in self.each(POINTS):
            server, clients, child = self.at_point("old", point, "pause")
            os.kill(server.pid, signal.SIGKILL)
            server.wait_end(server.pid)
            if point < 3:  # it has no listener yet
                self.assertEqual(server.wait_end(child), 71)
                continue
            server.now = child
            fields = server.wait_line("the old process has ended during the upgrade: this one serves")
            alive = [client for client in clients if lives(client)]
            self.assertEqual(int(fields["moved"]), len(alive))
            self.clients(server, 3)
            values = server.stats()
            check_totals(values)
            self.assertEqual(values["open"], len(alive) + 3)
            server.end()

    def test_old_process_is_stopped_for_a_while(self):
        for point in POINTS:
            with self.subTest(point=point):
                server, clients, _ = self.at_point("old", point, "pause")
                self.go_on()
                server.followed()
                self.assertTrue(all(lives(client) for client in clients))
                server.end()

    def test_bad_successors(self):
        cases = {"new 1 1 exit 78": 0, "new 2 1 exit 71": 0, "new 3 1 crash": 0, "new 4 1 crash": 0, "new 5 1 crash": 0,
                 "new 6 1 crash": None, "new 7 1 crash": None, "new 7 3 crash": None, "new 9 1 crash": None}
        for test, lost in cases.items():
            with self.subTest(test=test):
                server = self.paused(test)
                clients = self.clients(server, 300)
                server.signal(signal.SIGUSR2)
                fields = server.turned_back()
                self.assertIn(fields["status"], (f"exit {test.split()[-1]}", "signal 11"))
                alive = [client for client in clients if lives(client)]
                self.assertEqual(len(alive), 300 - int(fields["lost"]))
                if lost is not None:
                    self.assertEqual(int(fields["lost"]), lost)
                self.clients(server, 1)
                values = server.stats()
                check_totals(values)
                self.assertEqual((values["open"], values["closed_error"]), (len(alive) + 1, int(fields["lost"])))

    def test_start_fails_late(self):
        """The admin endpoint of the new process runs when on_start fails. Its sockets are still the old process's."""
        server = self.server(UpgradeEndpoint, self.path("admin"), XCHG_HANDLER=HOLDER, XCHG_EXCHANGE=None, HOLDER_ONCE=self.path("started"))
        server.signal(signal.SIGUSR2)
        fields = server.turned_back()
        self.assertEqual((fields["status"], fields["lost"]), ("exit 71", "0"))
        for unix in (False, True):
            self.assertEqual(server.ask("/readyz", unix=unix).status, 200)
        server.end()

    def test_never_ready(self):
        server = self.paused("new 3 1 pause", XCHG_UPGRADE_TIMEOUT="1s")
        clients = self.clients(server, 20)
        server.signal(signal.SIGUSR2)
        self.assertEqual(server.turned_back()["reason"], "the new process is not ready in time")
        self.assertTrue(all(lives(client) for client in clients))

    def test_says_taken_and_serves_nothing(self):
        server = self.paused("new 6 1 pause")
        clients = self.clients(server, 20)
        server.signal(signal.SIGUSR2)
        fields = server.turned_back()
        self.assertEqual(fields["step"], "canary")
        self.assertLessEqual(int(fields["lost"]), 9)
        self.assertEqual(sum(lives(client) for client in clients), 20 - int(fields["lost"]))

    def test_a_stop_during_an_upgrade(self):
        """Before the first connection has gone the upgrade is turned back; afterwards the new process stops."""
        for point in self.each(POINTS):
            server, clients, _ = self.at_point("old", point, "pause", XCHG_DRAIN_TIMEOUT="0")
            server.signal(signal.SIGTERM)
            self.go_on()
            totals = numbers(server.wait_line("stopped"))
            check_totals(totals)
            self.assertEqual(totals["accepted"], self.CLIENTS)
            self.assertEqual(server.wait_end(server.process.pid), 0)
            self.assertTrue(all(is_closed(client) for client in clients))

    def test_two_at_once(self):
        server = self.paused("old 4 1 pause")
        self.clients(server, 5)
        server.signal(signal.SIGUSR2)
        server.wait_line("point")
        server.signal(signal.SIGUSR2)
        self.go_on()
        server.followed()
        self.assertEqual(len(server.messages("upgrading")) + len(server.messages("upgrade refused")), 2)


if __name__ == "__main__":
    unittest.main()
