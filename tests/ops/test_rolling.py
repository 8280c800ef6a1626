"""Stops seen from outside: two servers behind HAProxy restarted in turn under load, and probes every 5 ms over 50 stops.

HAProxy runs docs/deploy/haproxy.cfg with the addresses of this test.
"""

import contextlib
import datetime
import http.client
import os
import re
import signal
import socket
import tempfile
import threading
import time
import unittest

from ops import LIMIT, TOP, Load, Operated, log_path, program, reserved_port, wait_until

CONFIG = os.path.join(TOP, "docs", "deploy", "haproxy.cfg")
ROUNDS = 2  # restarts of each server
RATE = 200
CLIENTS = 32
STOPS = 50
PERIOD = 0.005


def read_config():
    with open(CONFIG) as stream:
        return stream.read()


class HAProxy:
    """HAProxy in front of servers: (name, port, admin port)."""

    def __init__(self, servers):
        self.folder = tempfile.TemporaryDirectory()
        self.port = reserved_port()
        self.stats_path = os.path.join(self.folder.name, "stats.sock")
        text = read_config()
        replaced = [("bind :7000", f"bind 127.0.0.1:{self.port}"), ("global\n", f"global\n    stats socket {self.stats_path} level operator\n")]
        for name, address, (port, admin_port) in zip(("one", "two"), ("192.0.2.11:7000", "192.0.2.12:7000"), servers):
            replaced.append((f"server {name} {address}", f"server {name} 127.0.0.1:{port} port {admin_port}"))
        for old, new in replaced:
            if text.count(old) != 1:
                raise AssertionError(f"{old!r} is not once in docs/deploy/haproxy.cfg")
            text = text.replace(old, new)
        self.config = os.path.join(self.folder.name, "haproxy.cfg")
        with open(self.config, "w") as stream:
            stream.write(text)
        self.stack = contextlib.ExitStack()

    def column(self, name, column):
        """What HAProxy says of a server, or of the BACKEND."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(LIMIT)
            client.connect(self.stats_path)
            client.sendall(b"show stat\n")
            lines = b"".join(iter(lambda: client.recv(65536), b"")).decode().splitlines()
        at = lines[0].split(",").index(column)
        return next(line.split(",")[at] for line in lines if line.startswith(f"xchg,{name},"))

    def state(self, name):
        """UP, DOWN, ..."""
        return self.column(name, "status")

    def retries(self):
        """How often a server refused a client, who had to wait then."""
        return int(self.column("BACKEND", "wretr")) + int(self.column("BACKEND", "wredis"))

    def wait(self, name, state):
        wait_until(lambda: self.state(name).startswith(state), f"HAProxy says {name} is {state}")

    def __enter__(self):
        self.stack.enter_context(program("haproxy", "-db", "-f", self.config, log="haproxy.txt"))
        wait_until(lambda: os.path.exists(self.stats_path), "HAProxy runs")
        return self

    def __exit__(self, *exception):
        self.stack.close()
        self.folder.cleanup()


class Rolling(unittest.TestCase):
    """Two servers restarted in turn under load lose no exchange."""

    def start(self, delay, port=None, admin_port=None):
        port = port or reserved_port()
        variables = {"XCHG_LISTEN": f"127.0.0.1:{port}", "XCHG_DRAIN_DELAY": delay, "XCHG_WORKERS": 1}
        if re.search(r"^ +default-server .*send-proxy-v2", read_config(), re.M):
            variables |= {"XCHG_LISTEN": f"127.0.0.1:{port};proxy=v2", "XCHG_PROXY_TRUST": "127.0.0.0/8"}
        return Operated(admin_port=admin_port, **variables)

    def test_with_the_delay(self):
        """The delay is as docs/operations.md wants it: HAProxy knows before a server refuses a client, and no client waits."""
        self.assertEqual(self.roll("2s", 40, self.with_delay), 0)

    def with_delay(self, proxy, name, old):
        proxy.wait(name, "DOWN")
        self.assertIsNone(old.process.poll(), "the delay is over before HAProxy saw the 503")

    def test_without_a_delay(self):
        """A client that a server refuses goes to the other one, after `timeout connect`."""
        self.roll("0", 25, lambda proxy, name, old: None)

    def test_a_killed_server_loses_what_is_in_flight(self):
        with contextlib.ExitStack() as stack:
            servers = [self.start("0"), self.start("0")]
            for server in servers:
                stack.push(server)
            proxy = stack.enter_context(HAProxy([(server.port, server.admin_port) for server in servers]))
            for name in ("one", "two"):
                proxy.wait(name, "UP")
            load = stack.enter_context(Load(f"127.0.0.1:{proxy.port}", "-R", RATE, "-c", CLIENTS, "-d", "8s", "-T", "5s", log="killed"))
            wait_until(lambda: servers[0].json()["accepted"] > RATE / 4, "the load reaches the server")
            servers[0].process.kill()
            proxy.wait("one", "DOWN")
            self.assertTrue(load.is_running())
            report = load.finish()
            accepted = servers[1].stop()["accepted"]
        errors = {kind: count for kind, count in report["errors"].items() if count and kind != "errno"}
        with open(log_path("killed.txt"), "w") as out:
            print(f"one of two killed: {report['exchanges']} exchanges, errors {errors}, worst {report['latency_us']['max'] / 1000:.1f} ms", file=out)
        self.assertEqual(report["errors"]["wrong"], 0)
        self.assertLessEqual(sum(errors.values()), CLIENTS)
        unfinished = report["unfinished"]["count"]  # those that the end of the run met
        self.assertEqual(report["exchanges"] + sum(errors.values()) + report["dropped"] + unfinished, 8 * RATE)
        self.assertGreater(accepted, RATE)

    def roll(self, delay, seconds, after_signal):
        with contextlib.ExitStack() as stack:
            servers = {name: self.start(delay) for name in ("one", "two")}
            for server in servers.values():
                stack.push(server)
            accepted = 0
            proxy = stack.enter_context(HAProxy([(server.port, server.admin_port) for server in servers.values()]))
            for name in servers:
                proxy.wait(name, "UP")
            load = stack.enter_context(Load(f"127.0.0.1:{proxy.port}", "-R", RATE, "-c", CLIENTS, "-d", f"{seconds}s", "-T", "5s", log=f"rolling-{delay}"))
            for _ in range(ROUNDS):
                for name, old in servers.items():
                    old.process.send_signal(signal.SIGTERM)
                    after_signal(proxy, name, old)
                    accepted += old.finish()["accepted"]
                    proxy.wait(name, "DOWN")
                    servers[name] = self.start(delay, old.port, old.admin_port)
                    stack.push(servers[name])
                    proxy.wait(name, "UP")
            self.assertTrue(load.is_running(), "the load was over before the last restart")
            report = load.finish()
            retries = proxy.retries()
            accepted += sum(server.stop()["accepted"] for server in servers.values())
        errors = {kind: count for kind, count in report["errors"].items() if count}
        worst_ms = report["latency_us"]["max"] / 1000
        with open(log_path(f"rolling-{delay}.txt"), "w") as out:
            print(f"{2 * ROUNDS} restarts, delay {delay}: {report['exchanges']} exchanges, errors {errors}, dropped {report['dropped']}, "
                  f"refused and sent to the other server {retries}, worst {worst_ms:.1f} ms", file=out)
        self.assertEqual(errors, {})
        self.assertEqual(report["dropped"], 0)
        unfinished = report["unfinished"]["count"]  # those that the end of the run met
        self.assertLessEqual(unfinished, CLIENTS)
        self.assertEqual(report["exchanges"] + unfinished, seconds * RATE)
        self.assertIn(accepted - report["exchanges"], range(unfinished + 1))  # each was served once
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
