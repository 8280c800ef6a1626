"""Stops seen from outside: two servers behind HAProxy restarted in turn under load, and probes every 5 ms over 50 stops.

HAProxy runs docs/deploy/haproxy.cfg with the addresses of this test. tests/ops/test_balancer.py has kills, nginx and TLS.
"""

import contextlib
import datetime
import http.client
import re
import signal
import threading
import time
import unittest

from ops import Operated, log_path, wait_until

from balancer import HAProxy, OpenLoad, start_server, summary

NAMES = ("one", "two")  # in haproxy.cfg
ROUNDS = 5  # restarts of each server
STOPS = 50
PERIOD = 0.005


class Rolling(unittest.TestCase):
    """Two servers restarted in turn under load lose no exchange. HAProxy's checks go to the admin port, so they are no exchanges."""

    def test_with_the_delay(self):
        """The delay is that of haproxy.cfg: HAProxy knows before a server refuses a client, and no client waits."""
        self.assertEqual(self.roll("3s", self.with_delay), 0)

    def with_delay(self, proxy, name, old):
        proxy.wait(name, "DOWN")
        self.assertIsNone(old.process.poll(), "the delay is over before HAProxy saw the 503")

    def test_without_a_delay(self):
        """A client that a server refuses goes to the other one, after `timeout connect`."""
        self.roll("0", lambda proxy, name, old: None)

    def roll(self, delay, after_signal):
        with contextlib.ExitStack() as stack:
            servers = [start_server(delay), start_server(delay)]
            for server in servers:
                stack.push(server)
            proxy = stack.enter_context(HAProxy([(server.port, server.admin_port) for server in servers]))
            for name in NAMES:
                proxy.wait(name, "UP")
            load = stack.enter_context(OpenLoad(proxy.port, f"rolling-{delay}", servers))
            for _ in range(ROUNDS):
                for number, name in enumerate(NAMES):
                    old = servers[number]
                    old.process.send_signal(signal.SIGTERM)
                    after_signal(proxy, name, old)
                    load.stopped(old.finish())
                    proxy.wait(name, "DOWN")
                    servers[number] = start_server(delay, old.port, old.admin_port)
                    stack.push(servers[number])
                    proxy.wait(name, "UP")
            report = load.end()
            retries = proxy.retries()
            for server in servers:
                load.stopped(server.stop())
        with open(log_path(f"rolling-{delay}.txt"), "w") as out:
            print(f"HAProxy, {2 * ROUNDS} restarts, delay {delay}: {summary(report)}, refused and sent to the other server {retries}", file=out)
        load.check(self, report, retries)
        return retries


class Prober(threading.Thread):
    """Asks /readyz every 5 ms on a connection of its own. ${answers}: (begin, end, answer), times of day; the answer is a status or an error.

    "starting" is no answer here: the probes may begin before the first 200.
    """

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.answers, self.over = server, [], threading.Event()

    def run(self):
        while not self.over.is_set():
            begin = time.time()
            try:
                answer, _, body = self.server.get("/readyz") if len(self.answers) % 2 else self.server.ask("/readyz")
                if body == b"starting\n":
                    continue
            except (OSError, http.client.HTTPException) as fault:
                answer = type(fault).__name__
            self.answers.append((begin, time.time(), answer))
            self.over.wait(PERIOD)

    def wait_for(self, answer):
        wait_until(lambda: any(found[2] == answer for found in self.answers), f"/readyz says {answer}")


class Stops(unittest.TestCase):
    """No 200 from /readyz behind the first 503, and no refused admin connection before msg=stopped."""

    VARIANTS = ({}, {"XCHG_DRAIN_DELAY": "100ms"}, {"XCHG_DRAIN_TIMEOUT": "200ms", "held": True}, {"XCHG_DRAIN_DELAY": "50ms", "XCHG_MODEL": "thread"},
                {"XCHG_EXCHANGE": "echo", "held": True, "XCHG_DRAIN_DELAY": "50ms", "XCHG_DRAIN_TIMEOUT": "100ms"})

    def test_probes_over_many_stops(self):
        seen = {200: 0, 503: 0}
        for number in range(STOPS):
            variant = dict(self.VARIANTS[number % len(self.VARIANTS)])
            held = variant.pop("held", False)
            with self.subTest(number=number, variant=variant), Operated(**variant) as server:
                prober = Prober(server)
                prober.start()
                prober.wait_for(200)
                client = server.connect() if held else None
                if client:
                    server.wait_stats(lambda stats: stats["open"] == 1)
                server.process.send_signal(signal.SIGTERM)
                server.finish()
                prober.wait_for("ConnectionRefusedError")
                prober.over.set()
                prober.join()
                if client:
                    client.close()
                self.judge(server, prober.answers, variant)
                for answer in seen:
                    seen[answer] += sum(found[2] == answer for found in prober.answers)
        with open(log_path("stops.txt"), "w") as out:
            print(f"{STOPS} stops, answers {seen}", file=out)
        self.assertGreater(seen[503], STOPS)

    def judge(self, server, answers, variant):
        line = next(line for line in server.lines if "msg=stopped" in line)
        stopped = datetime.datetime.fromisoformat(re.search(r"time=(\S+)", line).group(1).replace("Z", "+00:00")).timestamp()
        first = next((at for at, answer in enumerate(answers) if answer[2] == 503), len(answers))
        behind = [answer for answer in answers[first:] if answer[2] == 200]
        self.assertEqual(behind, [], "200 behind 503")
        # The log has milliseconds, cut off: the line was written before the next one began.
        early = [answer for answer in answers if answer[2] not in (200, 503) and answer[1] < stopped]
        self.assertEqual(early, [], f"not answered before the last line, {stopped}")
        if "XCHG_DRAIN_DELAY" in variant:
            self.assertLess(first, len(answers), "no probe saw the 503")


if __name__ == "__main__":
    unittest.main()
