"""Load balancers and TLS proxies in front of xchgd, as docs/deploy configures them, with the addresses of a test.

    with HAProxy([(server.port, server.admin_port), ...]) as proxy:
        proxy.wait("one", "UP")
"""

import contextlib
import os
import socket
import ssl
import tempfile
import time

from ops import LIMIT, TOP, Load, Operated, log_path, program, reserved_port, run, wait_until

DEPLOY = os.path.join(TOP, "docs", "deploy")
HOST = "xchg.test"  # in the certificate


def read_config(name):
    with open(os.path.join(DEPLOY, name)) as stream:
        return stream.read()


def replace_once(name, text, replaced):
    for old, new in replaced:
        if text.count(old) != 1:
            raise AssertionError(f"{old!r} is not once in docs/deploy/{name}")
        text = text.replace(old, new)
    return text


def children(pid):
    """The processes that it has started."""
    with open(f"/proc/{pid}/task/{pid}/children") as stream:
        return [int(word) for word in stream.read().split()]


def is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Front:
    """A program in front of servers; its folder ends with it."""

    def __init__(self):
        self.stack = contextlib.ExitStack()
        self.folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        os.chmod(self.folder, 0o755)  # nginx's workers are another user's

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as out:
            out.write(text)
        return path

    def certificate(self):
        """A file with a key and a certificate of HOST; returns its path."""
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={HOST}", "-addext",
            f"subjectAltName=DNS:{HOST}", "-days", "2", "-keyout", f"{self.folder}/key.pem", "-out", f"{self.folder}/cert.pem")
        with open(f"{self.folder}/cert.pem") as cert, open(f"{self.folder}/key.pem") as key:
            return self.write("both.pem", cert.read() + key.read())

    def tls_client(self, port, version=None):
        """A client that verifies the certificate and the name."""
        context = ssl.create_default_context(cafile=f"{self.folder}/cert.pem")
        if version:
            context.minimum_version = context.maximum_version = version
        return context.wrap_socket(socket.create_connection(("127.0.0.1", port), LIMIT), server_hostname=HOST)

    def __exit__(self, *exception):
        self.stack.close()


class HAProxy(Front):
    """HAProxy in front of two servers: (port, admin port). With ${tls} also over TLS on ${tls_port}."""

    def __init__(self, servers, tls=False):
        super().__init__()
        self.port, self.stats_path = reserved_port(), os.path.join(self.folder, "stats.sock")
        replaced = [("bind :7000", f"bind 127.0.0.1:{self.port}"), ("global\n", f"global\n    stats socket {self.stats_path} level operator\n")]
        if os.geteuid() != 0:
            replaced += [("    user haproxy\n", ""), ("    group haproxy\n", "")]
        for name, address, (port, admin_port) in zip(("one", "two"), ("192.0.2.11:7000", "192.0.2.12:7000"), servers):
            replaced.append((f"server {name} {address}", f"server {name} 127.0.0.1:{port} port {admin_port}"))
        self.files = ["-f", self.write("haproxy.cfg", replace_once("haproxy.cfg", read_config("haproxy.cfg"), replaced))]
        if tls:
            self.tls_port = reserved_port()
            replaced = [("bind :7443 ssl crt /etc/haproxy/xchg.pem", f"bind 127.0.0.1:{self.tls_port} ssl crt {self.certificate()}")]
            self.files += ["-f", self.write("haproxy-tls.cfg", replace_once("haproxy-tls.cfg", read_config("haproxy-tls.cfg"), replaced))]

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
        warned = run("haproxy", "-c", *self.files)
        if "WARNING" in warned:
            raise AssertionError(f"HAProxy warns of docs/deploy:\n{warned}")
        self.process = self.stack.enter_context(program("haproxy", "-db", *self.files, log="haproxy.log"))
        wait_until(lambda: os.path.exists(self.stats_path), "HAProxy runs")
        return self


class Nginx(Front):
    """nginx in front of two servers, given by their ports."""

    def __init__(self, ports):
        super().__init__()
        self.port = reserved_port()
        replaced = [("worker_processes auto;", f"worker_processes 2;\ndaemon off;\npid {self.folder}/nginx.pid;\nerror_log stderr;"),
                    ("listen 7000;", f"listen 127.0.0.1:{self.port};")]
        replaced += [(f"server {address}", f"server 127.0.0.1:{port}") for address, port in zip(("192.0.2.11:7000", "192.0.2.12:7000"), ports)]
        self.config = self.write("nginx.conf", replace_once("nginx.conf", read_config("nginx.conf"), replaced))

    def __enter__(self):
        self.process = self.stack.enter_context(program("nginx", "-p", self.folder, "-e", "stderr", "-c", self.config, log="nginx.log"))
        wait_until(lambda: is_listening(self.port), "nginx listens")
        return self

    def abandoned(self):
        """How often it has left a server that refused, or did not answer in time."""
        with open(log_path("nginx.log")) as log:
            return sum("while connecting to upstream" in line for line in log)


class Stunnel(Front):
    """stunnel in front of one server."""

    def __init__(self, port):
        super().__init__()
        self.tls_port = reserved_port()
        replaced = [("accept = :::7443", f"accept = 127.0.0.1:{self.tls_port}"), ("connect = 127.0.0.1:7000", f"connect = 127.0.0.1:{port}"),
                    ("cert = /etc/stunnel/xchg.pem", f"cert = {self.certificate()}")]
        self.config = self.write("stunnel.conf", replace_once("stunnel.conf", read_config("stunnel.conf"), replaced))

    def __enter__(self):
        self.stack.enter_context(program("stunnel4", self.config, log="stunnel.log"))
        wait_until(lambda: is_listening(self.tls_port), "stunnel listens")
        return self


def start_server(delay="0", port=None, admin_port=None, proxy="v2", **variables):
    """A server as the comments of docs/deploy want it. ${proxy}: "" = without PROXY headers."""
    port = port or reserved_port()
    if proxy:
        variables |= {"XCHG_PROXY_TRUST": "127.0.0.0/8"}
    return Operated(admin_port=admin_port, XCHG_LISTEN=f"127.0.0.1:{port}" + (f";proxy={proxy}" if proxy else ""), XCHG_DRAIN_DELAY=delay,
                    XCHG_WORKERS=1, **variables)


class OpenLoad(Load):
    """An open load that runs until the test has seen enough. ${servers}: the running servers, which the test replaces in that list."""

    RATE = 200
    CLIENTS = 32

    def __init__(self, port, log, servers, *arguments):
        self.servers, self.totals = servers, []
        self.begun = time.monotonic()
        super().__init__(f"127.0.0.1:{port}", "-R", self.RATE, "-c", self.CLIENTS, "-d", "190s", "-T", "5s", *arguments, log=log)

    def __enter__(self):
        wait_until(lambda: self.served() > self.RATE / 4, "the load reaches the servers")
        self.begun = time.monotonic() - self.served() / self.RATE
        return self

    def served(self):
        """The exchanges of all servers so far."""
        return sum(each["messages"] for each in self.totals) + sum(server.json()["messages"] for server in self.servers)

    def stopped(self, totals):
        """The test has stopped a server."""
        self.totals.append(totals)

    def end(self):
        """End it when the clients that waited have been served. Return the report."""
        wait_until(lambda: self.served() > (time.monotonic() - self.begun) * self.RATE - self.RATE / 4, "no client waits any more")
        if not self.is_running():
            raise AssertionError("the load was over before the test")
        self.process.terminate()
        return self.finish()

    def check(self, test, report, abandoned):
        """The load lost nothing, and the servers, which have stopped, served each exchange once.

        ${abandoned}: how often the balancer has left a server that it was about to use, with or without a connection.
        """
        unfinished = report["unfinished"]["count"]
        finished, accepted = (sum(each[key] for each in self.totals) for key in ("finished", "accepted"))
        test.assertEqual(errors_of(report), {})
        self.check_schedule(test, report, 0)
        test.assertIn(finished - report["exchanges"], range(unfinished + 1))
        test.assertIn(accepted - finished, range(unfinished + abandoned + 1))

    def check_schedule(self, test, report, lost):
        """Each exchange of the schedule has been done, is lost, or was cut off by the end."""
        test.assertAlmostEqual(report["exchanges"] + lost + report["unfinished"]["count"], report["seconds"] * self.RATE, delta=2)
        test.assertLess(report["unfinished"]["count"], self.RATE)


def errors_of(report):
    return {kind: count for kind, count in report["errors"].items() if count and kind != "errno"}


def summary(report):
    """One line about a run, for the logs and docs/notes."""
    starved = ", load generator starved" if report["starved"] else ""
    return (f"{report['exchanges']} exchanges, errors {errors_of(report)}, wrong {report['errors']['wrong']}{starved}, "
            f"p99 {report['latency_us']['p99'] / 1000:.1f} ms, worst {report['latency_us']['max'] / 1000:.1f} ms")
