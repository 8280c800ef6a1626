"""Goal: behind each load balancer of docs/deploy, and with several servers on one address, a restart loses no exchange.

A kill loses what the killed server had in flight, and nothing else: both ends count the same. TLS ends in HAProxy or in stunnel, and the
server knows the client's address. tests/ops/test_rolling.py has the restarts behind HAProxy.
"""

import contextlib
import os
import pwd
import re
import resource
import select
import signal
import ssl
import threading
import unittest

from ops import BUILD, LIMIT, Server, greet, log_path, run, wait_until

from balancer import HOST, HAProxy, Nginx, OpenLoad, Stunnel, children, errors_of, start_server, summary

ROUNDS = 5  # restarts of each server
PLUGIN = os.path.join(BUILD, "tests", "live", "plugin", "proxy.so")


def unread_sockets(port):
    """How many TCP sockets of 127.0.0.1:${port} hold bytes that the server has not read."""
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    listening = "0A"  # there the column is the length of the accept queue
    return sum(row[1] == f"0100007F:{port:04X}" and row[3] != listening and int(row[4].split(":")[1], 16) > 0 for row in rows)


class Base(unittest.TestCase):
    def note(self, name, text):
        with open(log_path(f"balancer-{name}.txt"), "w") as out:
            print(text, file=out)


class Restarts(Base):
    def test_nginx(self):
        """Two servers behind nginx, restarted in turn: nginx has no health checks, and tries the next server."""
        with contextlib.ExitStack() as stack:
            servers = [start_server(proxy="v1"), start_server(proxy="v1")]
            for server in servers:
                stack.push(server)
            proxy = stack.enter_context(Nginx([server.port for server in servers]))
            load = stack.enter_context(OpenLoad(proxy.port, "nginx", servers))
            for _ in range(ROUNDS):
                for number, old in enumerate(list(servers)):
                    load.stopped(old.stop())
                    servers[number] = start_server(port=old.port, admin_port=old.admin_port, proxy="v1")
                    stack.push(servers[number])
                    wait_until(lambda: servers[number].json()["accepted"] > OpenLoad.RATE / 4, "nginx uses the server again")
            report = load.end()
            abandoned = proxy.abandoned()
            for server in servers:
                load.stopped(server.stop())
        self.note("nginx", f"nginx, {2 * ROUNDS} restarts: {summary(report)}, sent to the other server {abandoned}")
        load.check(self, report, abandoned)

    def test_reuseport(self):
        """Without a balancer: the successor listens on the same address before its predecessor stops. A client waits a second at most
        for its next SYN, because the kernel sends some to the old listener until it closes. None is lost."""
        with contextlib.ExitStack() as stack:
            servers = [start_server(proxy="", XCHG_REUSEPORT="on")]
            stack.push(servers[0])
            port = servers[0].port
            load = stack.enter_context(OpenLoad(port, "reuseport", servers, "-c", 4 * OpenLoad.CLIENTS))
            for _ in range(2 * ROUNDS):
                servers.append(start_server(port=port, proxy="", XCHG_REUSEPORT="on"))
                stack.push(servers[-1])
                wait_until(lambda: servers[-1].json()["accepted"] > OpenLoad.RATE / 4, "the successor serves")
                load.stopped(servers[0].stop())
                del servers[0]
            report = load.end()
            load.stopped(servers[0].stop())
        histogram = report["latency_us"]
        self.note("reuseport", f"XCHG_REUSEPORT, {2 * ROUNDS} restarts: {summary(report)}, p99.9 {histogram['p99_9'] / 1000:.1f} ms")
        load.check(self, report, 0)
        self.assertLess(histogram["max"], 4e6)


class Kill(Base):
    def test_what_is_in_flight(self):
        """SIGKILL of one of two servers. It is frozen first, until each of its clients waits for an answer: their messages are in the
        sockets of the server, where they can be counted. The load must see as many broken exchanges, and no other fault."""
        with contextlib.ExitStack() as stack:
            servers = [start_server(XCHG_EXCHANGE="echo"), start_server(XCHG_EXCHANGE="echo")]
            for server in servers:
                stack.push(server)
            victim, other = servers
            proxy = stack.enter_context(HAProxy([(server.port, server.admin_port) for server in servers]))
            for name in ("one", "two"):
                proxy.wait(name, "UP")
            load = stack.enter_context(OpenLoad(proxy.port, "killed", servers, "-x", "echo"))
            wait_until(lambda: sum(server.json()["open"] for server in servers) == OpenLoad.CLIENTS, "all clients are connected")
            opened, victim_messages = (victim.json()[key] for key in ("open", "messages"))
            self.assertIn(opened, range(OpenLoad.CLIENTS // 2 - 4, OpenLoad.CLIENTS // 2 + 5))
            victim.pause()
            wait_until(lambda: unread_sockets(victim.port) == opened, "each client waits for an answer")
            load.stopped({"messages": victim_messages + opened})  # what it served, nearly, and what is lost
            servers.remove(victim)
            victim.process.kill()
            victim.process.wait()
            wait_until(lambda: other.json()["open"] == OpenLoad.CLIENTS, "all clients are connected again")
            report = load.end()
            retries, accepted = proxy.retries(), other.stop()["accepted"]
            lost = sum(errors_of(report).values())
            self.note("killed", f"one of two killed: {summary(report)}; in flight on the killed server {opened}, lost {lost}")
            self.assertEqual(report["errors"]["wrong"], 0)
            # The listener may close after the connections. A client that connects again before that loses a second exchange.
            self.assertIn(lost - opened, range(opened + 1))
            self.assertIn(accepted - OpenLoad.CLIENTS, range(retries + 1))
            load.check_schedule(self, report, lost)


@unittest.skipUnless(os.geteuid() == 0, "an ordinary user has no rights to give up")
class Rights(Base):
    def test_haproxy(self):
        """Started by root, HAProxy serves as its own user."""
        with HAProxy([(1, 1), (1, 1)]) as proxy:
            (pid,) = children(proxy.process.pid)  # of the program `timeout`
            self.assertEqual(os.stat(f"/proc/{pid}").st_uid, pwd.getpwnam("haproxy").pw_uid)

    def test_nginx(self):
        """Started by root with few descriptors, as a service manager does, nginx has as many as its configuration needs."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
        with Nginx([1, 1]) as proxy:
            (master,) = children(proxy.process.pid)
            workers = wait_until(lambda: children(master), "nginx has workers")
            wait_until(lambda: all(os.stat(f"/proc/{worker}").st_uid for worker in workers), "they have given up their rights")
            with open(proxy.config) as config:
                needed = min(int(re.search(r"worker_connections (\d+);", config.read()).group(1)), hard)
            for worker in workers:
                with open(f"/proc/{worker}/limits") as limits:
                    self.assertGreaterEqual(int(re.search(r"Max open files +(\d+)", limits.read()).group(1)), needed)
        with open(log_path("nginx.log")) as log:
            self.assertNotIn("exceed open file resource limit", log.read())


class Tls(Base):
    def exchange(self, proxy, port, version):
        with proxy.tls_client(port, version) as client:
            self.assertEqual(client.version(), version.name.replace("_", "."))
            greet(client)

    def check_front(self, proxy, server, name):
        """Handshakes of both versions, 200 exchanges on 8 threads, 1 MiB both ways, openssl s_client."""
        port = proxy.tls_port
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            self.exchange(proxy, port, version)
        failures = []

        def work():
            try:
                for _ in range(25):
                    self.exchange(proxy, port, ssl.TLSVersion.TLSv1_3)
            except Exception as failure:  # the main thread asserts
                failures.append(failure)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        shown = run("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", HOST, "-CAfile", f"{proxy.folder}/cert.pem",
                    "-verify_return_error", "-quiet", expect=None)
        self.assertIn("Message from server", shown)
        accepted = server.stats()["finished"]
        self.assertGreaterEqual(accepted, 202)
        self.note(name, f"TLS ended in {name}: {accepted} exchanges finished")

    def check_address(self, proxy):
        """The plug-in answers a line with what the PROXY header said."""
        with proxy.tls_client(proxy.tls_port) as client:
            host, port = client.getsockname()
            client.sendall(b"?\n")
            with client.makefile("r") as lines:
                words = lines.readline().split()
            self.assertEqual(words[2], f"{host}:{port}")
            return words

    def check_large(self, proxy):
        """One thread sends and receives, because OpenSSL allows no two threads in one connection."""
        data = os.urandom(1 << 20)
        sent, received = 0, b""
        with proxy.tls_client(proxy.tls_port) as client:
            client.setblocking(False)
            while len(received) < len(data):
                ready = select.select([client], [client] if sent < len(data) else [], [], LIMIT)
                self.assertNotEqual(ready, ([], [], []))
                with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    while sent < len(data):
                        sent += client.send(data[sent:sent + 65536])
                with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    while chunk := client.recv(65536):
                        received += chunk
                    self.fail(f"end of stream after {len(received)} bytes")
        self.assertEqual(received, data)

    def test_haproxy(self):
        """haproxy-tls.cfg beside haproxy.cfg: both servers serve over TLS and without."""
        for variables, check in (({}, None), ({"XCHG_HANDLER": PLUGIN}, self.check_address), ({"XCHG_EXCHANGE": "echo"}, self.check_large)):
            with contextlib.ExitStack() as stack:
                servers = [start_server(**variables), start_server(**variables)]
                for server in servers:
                    stack.push(server)
                proxy = stack.enter_context(HAProxy([(server.port, server.admin_port) for server in servers], tls=True))
                proxy.wait("one", "UP")
                proxy.wait("two", "UP")
                if check:
                    check(proxy)
                    continue
                servers[1].process.send_signal(signal.SIGTERM)  # one server alone, so that its counts are all
                servers[1].finish()
                proxy.wait("two", "DOWN")
                self.check_front(proxy, servers[0], "haproxy")
                self.assertEqual(servers[0].stop()["closed_proxy"], 0)

    def test_stunnel(self):
        """stunnel.conf beside one server: PROXY version 1."""
        for variables, check in (({}, None), ({"XCHG_HANDLER": PLUGIN}, self.check_address), ({"XCHG_EXCHANGE": "echo"}, self.check_large)):
            with Server(XCHG_LISTEN="127.0.0.1:0;proxy=v1", XCHG_PROXY_TRUST="127.0.0.1", XCHG_STOP_GRACE="0", **variables) as server:
                with contextlib.ExitStack() as stack:
                    proxy = stack.enter_context(Stunnel(server.port))
                    if check:
                        words = check(proxy)
                        if words:
                            self.assertEqual(words[0], "1")
                    else:
                        self.check_front(proxy, server, "stunnel")
                totals = server.stop()
                self.assertLessEqual(totals["closed_proxy"], 1)  # the look whether stunnel listens


if __name__ == "__main__":
    unittest.main()
