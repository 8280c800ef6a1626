"""Goal: the configuration works as docs/reference.md, Configuration, says: flags, faults, ignored variables,
--explain."""

import os
import re
import resource
import socket
import unittest

from fault_matrix import covers_fault
from xchgd import Server, greet, run

VARIABLES = (
    "EXCHANGE GREETING FRAME REPLY MESSAGES MAX_MESSAGE LISTEN BACKLOG MODEL WORKERS QUEUE DISPATCH PIN "
    "REUSEPORT SPIN MAX_CONNECTIONS OVERLOAD MAX_PER_IP ALLOW DENY MAX_PENDING SNDBUF IDLE_TIMEOUT "
    "MESSAGE_TIMEOUT WRITE_TIMEOUT MAX_LIFETIME LINGER STOP_GRACE DRAIN_TIMEOUT NODELAY KEEPALIVE "
    "DEFER_ACCEPT FASTOPEN HANDLER OFFLOAD_THREADS WATCHDOG LOG_LEVEL LOG_FORMAT SLOW_LOG "
    "ADMIN STALL DRAIN_DELAY PROXY_TRUST PROXY_TIMEOUT USER SANDBOX CORE UPGRADE UPGRADE_TIMEOUT").split()

BAD = [  # a variable and an invalid value
    ("EXCHANGE", "http"), ("EXCHANGE", "greet,echo"), ("FRAME", "crlf"), ("FRAME", "fixed"),
    ("FRAME", "fixed:"), ("FRAME", "fixed:0"), ("FRAME", "fixed:-1"), ("FRAME", "fixed:9x"),
    ("FRAME", "u64"), ("REPLY", "text"), ("REPLY", "yes"), ("REPLY", r"text:\q"), ("GREETING", r"\q"), ("GREETING", r"\x4"),
    ("REPLY", "text:\\"), ("GREETING", r"\x1"), ("GREETING", r"\xgg"), ("GREETING", "end\\"),
    ("MESSAGES", "-1"), ("MESSAGES", "9223372036854775808"), ("MESSAGES", "1.5"),
    ("MESSAGES", "1e3"), ("MESSAGES", " 1"), ("MESSAGES", "+1"), ("MAX_MESSAGE", "0"),
    ("MAX_MESSAGE", "1025MiB"), ("MAX_MESSAGE", "64KB"), ("MAX_MESSAGE", "64 KiB"),
    ("MAX_MESSAGE", "99999999999999999999"), ("MAX_MESSAGE", "17179869184GiB"),
    ("LISTEN", "localhost:7000"), ("LISTEN", "127.0.0.1"), ("LISTEN", "127.0.0.1:"),
    ("LISTEN", ":65536"), ("LISTEN", "::1:7000"), ("LISTEN", "[::1]"), ("LISTEN", "[::1:7000"),
    ("LISTEN", "1.2.3:7000"), ("LISTEN", "1.2.3.256:7000"), ("LISTEN", ":7000,,:7001"),
    ("LISTEN", "unix:relative"), ("LISTEN", "unix:"), ("LISTEN", "unix:/" + 107 * "x"),
    ("LISTEN", "unix:/tmp/x;mode=0999"), ("LISTEN", "unix:/tmp/x;mode="),
    ("LISTEN", "127.0.0.1:0;proxy=v3"), ("LISTEN", ":0;proxy"), ("LISTEN", ":0;mode=0600"),
    ("LISTEN", "unix:/tmp/x;proxy=v1;proxy=v1"), ("PROXY_TRUST", "localhost"), ("PROXY_TRUST", "10.0.0.0/33"),
    ("PROXY_TIMEOUT", "0"), ("PROXY_TIMEOUT", "2s"), ("PROXY_TIMEOUT", "61s"),
    ("LISTEN", "unix:/tmp/x;owner=me"), ("LISTEN", ",".join(f"127.0.0.1:{i + 7000}"
                                                            for i in range(65))),
    ("BACKLOG", "0"), ("BACKLOG", "2147483648"), ("MODEL", "prefork"), ("WORKERS", "0"),
    ("WORKERS", "1025"), ("WORKERS", "two"), ("QUEUE", "0"), ("QUEUE", "1048577"),
    ("DISPATCH", "random"), ("PIN", "1"), ("PIN", "yes"), ("REUSEPORT", "true"), ("SPIN", "2s"),
    ("SPIN", "5"), ("MAX_CONNECTIONS", "0"), ("MAX_CONNECTIONS", "99999999999"),
    ("OVERLOAD", "drop"), ("MAX_PER_IP", "-1"), ("ALLOW", "10.0.0.0/33"), ("ALLOW", "10.0.0/8"),
    ("ALLOW", "10.0.0.0/"), ("ALLOW", "example.org"), ("ALLOW", "127.0.0.1,"), ("DENY", "::/129"),
    ("DENY", ":::1"), ("DENY", "10.0.0.0/8;::1"), ("MAX_PENDING", "4095"),
    ("MAX_PENDING", "2GiB"), ("SNDBUF", "-1"), ("IDLE_TIMEOUT", "60"), ("IDLE_TIMEOUT", "-1s"),
    ("IDLE_TIMEOUT", "1h"), ("MESSAGE_TIMEOUT", "1.5s"), ("WRITE_TIMEOUT", "s"),
    ("MAX_LIFETIME", "9999999999999999999s"), ("LINGER", "2 s"), ("STOP_GRACE", "61s"),
    ("DRAIN_TIMEOUT", "never"), ("NODELAY", "offf"), ("KEEPALIVE", "0"), ("DEFER_ACCEPT", "500ms"),
    ("FASTOPEN", "-1"), ("HANDLER", "handler.so"), ("HANDLER", "/" + 4095 * "x"),
    ("OFFLOAD_THREADS", "1025"), ("OFFLOAD_THREADS", "-1"), ("WATCHDOG", "100"), ("WATCHDOG", "off"),
    ("LOG_LEVEL", "trace"), ("LOG_FORMAT", "xml"), ("SLOW_LOG", "999us"), ("SLOW_LOG", "61m"), ("SLOW_LOG", "on"),
    ("USER", "-1"), ("USER", "4294967295"), ("USER", "1:"), ("USER", "no-such-user-of-xchg"), ("SANDBOX", "yes"), ("CORE", "1"),
    ("ADMIN", "localhost:1"), ("ADMIN", ",".join(f":{i + 1}" for i in range(9))), ("ADMIN", ":7001;proxy=v2"), ("ADMIN", ":7000"),
    ("STALL", "999ms"), ("STALL", "61m"), ("DRAIN_DELAY", "601s"),
    ("UPGRADE", "yes"), ("UPGRADE", "unix:x"), ("UPGRADE", ":7001"), ("UPGRADE_TIMEOUT", "999ms"), ("UPGRADE_TIMEOUT", "61m")]

GOOD = [
    dict(EXCHANGE="ECHO"), dict(EXCHANGE="Line", MODEL="FORK", OVERLOAD="Refuse", NODELAY="OFF"),
    dict(LOG_LEVEL="Debug", LOG_FORMAT="JSON", DISPATCH="Round-Robin", FRAME="NUL"),
    dict(FRAME="fixed:8", GREETING="12345678", REPLY=r"text:\x00\x01\\\r\n\t\0z"),
    dict(FRAME="u16", GREETING="", REPLY="text:"), dict(REPLY="text:none", GREETING="none"),
    dict(MESSAGES="9223372036854775807", MAX_MESSAGE="1GiB"), dict(MAX_MESSAGE="1"),
    dict(LISTEN="127.0.0.1:0,[::1]:0,:0,unix:/tmp/a;mode=0660,unix:/" + 106 * "x"),
    dict(LISTEN="127.0.0.1:0;proxy=V2,unix:/tmp/a;proxy=any;mode=0660,:0", PROXY_TRUST="127.0.0.1,::1/128",
         PROXY_TIMEOUT="3s"), dict(LISTEN="unix:/tmp/a;proxy=v1", PROXY_TIMEOUT="1m"),
    dict(LISTEN=":0;proxy=any", PROXY_TRUST="0.0.0.0/0", DEFER_ACCEPT="3"),
    dict(BACKLOG="2147483647", WORKERS="1024", QUEUE="1048576"), dict(MAX_PENDING="1GiB"),
    dict(IDLE_TIMEOUT="0", MESSAGE_TIMEOUT="500us", WRITE_TIMEOUT="250ms", MAX_LIFETIME="5m"),
    dict(SPIN="1s", STOP_GRACE="60s", LINGER="0", DRAIN_TIMEOUT="0"),
    dict(ALLOW="10.1.2.3/8,::1,fe80::/10,::ffff:10.0.0.1,127.0.0.1", DENY="0.0.0.0/0"),
    dict(EXCHANGE="echo", DEFER_ACCEPT="3"), dict(DEFER_ACCEPT="3", GREETING="none"),
    dict(USER=str(os.getuid()) + ":" + str(os.getgid()), SANDBOX="TRAP", CORE="on"), dict(SANDBOX="off", MODEL="fork"),
    dict(UPGRADE="on", SANDBOX="auto", UPGRADE_TIMEOUT="1s"), dict(UPGRADE="unix:/tmp/c", SANDBOX="off"),
    dict(OFFLOAD_THREADS="0", WATCHDOG="0", SLOW_LOG="0"), dict(SLOW_LOG="1ms"), dict(OFFLOAD_THREADS="1024", WATCHDOG="5m", SLOW_LOG="60m"),
    dict(ADMIN="127.0.0.1:7001,unix:/tmp/b;mode=0660", STALL="1s", DRAIN_DELAY="10m"), dict(ADMIN="", STALL="0"),
    dict(MAX_PER_IP="5", SNDBUF="64KiB", FASTOPEN="16", PIN="on", REUSEPORT="on")]


def prefixed(variables):
    return {f"XCHG_{name}": value for name, value in variables.items()}


class Flags(unittest.TestCase):
    def test_help(self):
        """--help names every flag and every variable on standard output and exits with 0."""
        done = run("--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(run("-h").stdout, done.stdout)
        for word in ["-h, --help", "--version", "--check", "--explain"]:
            self.assertIn(word, done.stdout)
        for name in VARIABLES:
            self.assertRegex(done.stdout, rf"\bXCHG_{name}\b")

    def test_version(self):
        """--version is one line with a number and exits with 0."""
        done = run("--version")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(len(done.stdout.splitlines()), 1)
        self.assertRegex(done.stdout, r"xchgd.*\d")

    def test_output_that_cannot_be_written(self):
        """Where standard output cannot be written, the flags that print say so and exit with 74."""
        for flag in ("--help", "--version", "--explain"):
            with self.subTest(flag), open("/dev/full", "wb") as full:
                done = run(flag, stdout=full)
                self.assertEqual(done.returncode, 74)
                self.assertEqual(done.stderr, "xchgd: cannot write to standard output: No space left on device\n")

    def test_help_with_invalid_variables(self):
        """--help and --version work with invalid variables."""
        for flag in ["-h", "--help", "--version"]:
            with self.subTest(flag):
                self.assertEqual(run(flag, XCHG_WORKERS="many").returncode, 0)

    def test_unknown_flags(self):
        """An unknown flag exits with 64, says why on standard error and starts nothing."""
        for arguments in [["--frobnicate"], ["-x"], ["7000"], ["--check", "--bogus"], ["--"],
                          ["--explain=all"], [""]]:
            with self.subTest(arguments):
                done = run(*arguments)
                self.assertEqual(done.returncode, 64)
                self.assertEqual(done.stdout, "")
                self.assertNotEqual(done.stderr, "")

    def test_check(self):
        """--check accepts a valid configuration without listening, even if the port is in use."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            done = run("--check", XCHG_LISTEN=f"127.0.0.1:{taken.getsockname()[1]}")
        self.assertEqual(done.returncode, 0)
        self.assertNotIn("msg=listening", done.stderr)


class Explain(unittest.TestCase):
    def explain(self, **variables):
        done = run("--explain", **variables)
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = {}
        for line in done.stdout.splitlines():
            name = re.match(r"XCHG_[A-Z0-9_]+\b", line)
            self.assertTrue(name, f"a line that begins with no variable: {line!r}")
            self.assertNotIn(name[0], lines, "a variable twice")
            lines[name[0]] = line
        return lines

    def test_every_variable(self):
        """Each variable is one line that starts with its name and shows the default and that it is one."""
        lines = self.explain(XCHG_SANDBOX=None)
        self.assertEqual(sorted(lines), sorted(f"XCHG_{name}" for name in VARIABLES))
        for name, value in dict(EXCHANGE="greet", LISTEN=":7000", BACKLOG="4096", MODEL="pool",
                                QUEUE="1024", DISPATCH="least", OVERLOAD="wait", LINGER="2s",
                                IDLE_TIMEOUT="60s|1m", MESSAGE_TIMEOUT="10s", MAX_PENDING="256KiB",
                                MAX_MESSAGE="64KiB", STOP_GRACE="100ms", DRAIN_TIMEOUT="30s",
                                NODELAY="on", KEEPALIVE="on", OFFLOAD_THREADS="4",
                                WATCHDOG="100ms", LOG_LEVEL="info",
                                LOG_FORMAT="logfmt", SLOW_LOG="0", SANDBOX="auto", CORE="off").items():
            with self.subTest(name):
                self.assertRegex(lines[f"XCHG_{name}"], rf"(?<![\w.])({value})(?![\w.])")
                self.assertIn("default", lines[f"XCHG_{name}"])

    def test_sources(self):
        """A line says where its value comes from: the environment, the descriptor limit."""
        def few():
            resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
        done = run("--explain", preexec=few, XCHG_QUEUE="64", XCHG_LISTEN="127.0.0.1:7123")
        self.assertEqual(done.returncode, 0, done.stderr)
        queue, listen, most = (next(line for line in done.stdout.splitlines()
                                    if line.startswith(f"XCHG_{name}"))
                               for name in ("QUEUE", "LISTEN", "MAX_CONNECTIONS"))
        self.assertRegex(queue, r"\b64\b.*environment")
        self.assertRegex(listen, r"127\.0\.0\.1:7123.*environment")
        self.assertIn("limit", most)
        number = int(re.search(r"\b(\d{1,3})\b", most)[1])
        self.assertTrue(256 <= number < 512, most)

    def test_preset_and_override(self):
        """The five values of the exchange show the preset and its overrides."""
        lines = self.explain(XCHG_EXCHANGE="line", XCHG_MESSAGES="7")
        self.assertRegex(lines["XCHG_FRAME"], r"\bline\b")
        self.assertRegex(lines["XCHG_REPLY"], r"\becho\b")
        self.assertRegex(lines["XCHG_MESSAGES"], r"\b7\b.*environment")

    def test_clamped(self):
        """A rounded value shows the effective value and the word clamped. Other values do not."""
        lines = self.explain(XCHG_QUEUE="1000")
        self.assertRegex(lines["XCHG_QUEUE"], r"\b1024\b")
        self.assertIn("clamped", lines["XCHG_QUEUE"])
        self.assertNotIn("clamped", self.explain(XCHG_QUEUE="512")["XCHG_QUEUE"])

    def test_models_default(self):
        """With a model other than pool, the default limit is 1,024 connections."""
        for model in ["iterative", "fork", "thread"]:
            with self.subTest(model):
                line = self.explain(XCHG_MODEL=model)["XCHG_MAX_CONNECTIONS"]
                self.assertRegex(line, r"\b1024\b")

    def test_refuses_faults(self):
        """--explain refuses an invalid configuration."""
        self.assertEqual(run("--explain", XCHG_QUEUE="0").returncode, 78)


class Faults(unittest.TestCase):
    def faults(self, arguments=("--check",), **variables):
        done = run(*arguments, **variables)
        self.assertEqual(done.returncode, 78, f"{variables}: {done.stderr}")
        self.assertEqual(done.stdout, "")
        return done.stderr.splitlines()

    @covers_fault(46)
    def test_bad_values(self):
        """Each invalid value exits with 78 and one line: the variable, the value and what is allowed."""
        for name, value in BAD:
            with self.subTest(name=name, value=value):
                lines = self.faults(**{f"XCHG_{name}": value})
                self.assertEqual(len(lines), 1, lines)
                self.assertIn(f"XCHG_{name}", lines[0])
                if len(value) < 40 and "\\" not in value:
                    self.assertIn(value, lines[0])
                self.assertGreater(len(lines[0]), len(name) + min(len(value), 80) + 15, "allowed?")

    def test_good_values(self):
        """Every value that docs/reference.md, Configuration, allows is accepted."""
        for variables in GOOD:
            with self.subTest(variables):
                done = run("--check", **prefixed(variables))
                self.assertEqual(done.returncode, 0, done.stderr)

    @covers_fault(46)
    def test_contradictions(self):
        """Values that contradict each other are faults that name a variable, although each value is valid."""
        for named, variables in [
                ("DEFER_ACCEPT", dict(DEFER_ACCEPT="1")), ("GREETING", dict(GREETING=r"a\0b")),
                ("GREETING", dict(EXCHANGE="line", GREETING=r"two\nlines")), ("GREETING", dict(GREETING=r"a\x0ab", FRAME="line")),
                ("REPLY", dict(EXCHANGE="line", REPLY=r"text:a\nb")),
                ("REPLY", dict(FRAME="fixed:4", GREETING="none", REPLY="text:12345")),
                ("REPLY", dict(FRAME="fixed:3", GREETING="abc", REPLY="text:four")),
                ("GREETING", dict(FRAME="fixed:4", GREETING="12345")), ("GREETING|XCHG_FRAME", dict(FRAME="fixed:3")),
                ("FRAME", dict(FRAME="fixed:65537", GREETING="none")),
                ("FRAME", dict(FRAME="fixed:5", MAX_MESSAGE="4", GREETING="none")),
                ("GREETING", dict(FRAME="u16", GREETING=65536 * "g")),
                ("REPLY", dict(FRAME="u16", GREETING="none", REPLY="text:" + 65536 * "r"))]:
            with self.subTest(str(variables)[:60]):
                self.assertRegex("\n".join(self.faults(**prefixed(variables))), f"XCHG_{named}")
        self.assertEqual(run("--check", XCHG_FRAME="u16", XCHG_GREETING="g" * 65535).returncode, 0)

    def test_handler_decides_the_exchange(self):
        """With a handler, each variable of the exchange is a fault, and the line says so."""
        exchange = dict(EXCHANGE="echo", GREETING="hi", FRAME="line", REPLY="echo", MESSAGES="1")
        lines = self.faults(XCHG_HANDLER="/no/such/handler.so", **prefixed(exchange))
        self.assertEqual(len(lines), len(exchange), lines)
        for name, line in zip(exchange, lines):
            self.assertIn(f"XCHG_{name}=", line)
            self.assertIn("XCHG_HANDLER defines the exchange", line)

    @covers_fault(46)
    def test_unknown_names(self):
        """An unknown variable is a fault that names the nearest known one."""
        for name, nearest in [("XCHG_WORKER", "XCHG_WORKERS"), ("XCHG_LISETN", "XCHG_LISTEN"),
                              ("XCHG_IDLE_TIMOUT", "XCHG_IDLE_TIMEOUT"),
                              ("XCHG_MAX_MESSAGES", "XCHG_MAX_MESSAGE"),
                              ("XCHG_LOGLEVEL", "XCHG_LOG_LEVEL"), ("XCHG_", ""),
                              ("XCHG_HANDLERS", "XCHG_HANDLER"),
                              ("XCHG_OFFLOAD", ""), ("XCHG_WATCHDOGS", "XCHG_WATCHDOG"),
                              ("XCHG_listen", "")]:
            with self.subTest(name):
                lines = self.faults(**{name: "1"})
                self.assertEqual(len(lines), 1, lines)
                self.assertRegex(lines[0], rf"{name}(?![A-Z_])")
                self.assertIn(nearest, lines[0])

    def test_value_cannot_write_lines(self):
        """Line breaks and control bytes of a value are escaped in the fault."""
        lines = self.faults(XCHG_MODEL="a\nmsg=fake\x1b[31m\x7f")
        self.assertEqual(len(lines), 1)
        self.assertNotRegex(lines[0], r"[\x00-\x1f\x7f]")
        lines = self.faults(**{"XCHG_A\nB": "1"})
        self.assertEqual(len(lines), 1)


class Ignored(unittest.TestCase):
    @covers_fault(46)
    def test_kubernetes(self):
        """The variables that Kubernetes injects for a Service named xchg or xchg-something are ignored."""
        done = run("--check", XCHG_SERVICE_HOST="10.0.0.1", XCHG_SERVICE_PORT="7000",
                   XCHG_SERVICE_PORT_EXCHANGE="7000", XCHG_PORT="tcp://10.0.0.1:7000",
                   XCHG_PORT_7000_TCP="tcp://10.0.0.1:7000", XCHG_PORT_7000_TCP_PROTO="tcp",
                   XCHG_PORT_7000_TCP_PORT="7000", XCHG_PORT_7000_TCP_ADDR="10.0.0.1",
                   XCHG_BLUE_SERVICE_HOST="h", XCHG_BLUE_2_SERVICE_PORT="1",
                   XCHG_BLUE_PORT="udp://10.0.0.1:7", XCHG_BLUE_PORT_7_UDP="udp://10.0.0.1:7",
                   XCHG_BLUE_PORT_7_SCTP_ADDR="10.0.0.1", XCHG_BLUE_SERVICE_PORT_A_B="1",
                   XCHG_X_PORT="sctp://10.0.0.1:9")
        self.assertEqual(done.returncode, 0, done.stderr)

    @covers_fault(46)
    def test_not_kubernetes(self):
        """A variable that only resembles those of Kubernetes is a fault."""
        for name, value in [("XCHG_PORT", "7000"), ("XCHG_BLUE_PORT", "http://x"),
                            ("XCHG_PORT_X_TCP", "1"), ("XCHG_PORT_7000_HTTP", "1"),
                            ("XCHG_PORT_7000_TCP_HOST", "1"), ("XCHG_SERVICE_HOSTS", "1"),
                            ("XCHG_SERVICEHOST", "1"), ("XCHG_PORT_7000", "tcp://1.2.3.4:1"),
                            ("XCHG_PORT__TCP", "1")]:
            with self.subTest(name):
                done = run("--check", **{name: value})
                self.assertEqual(done.returncode, 78)
                self.assertIn(name, done.stderr)

    @covers_fault(46)
    def test_empty_is_unset(self):
        """An empty variable counts as unset, even an unknown one."""
        empty = {f"XCHG_{name}": "" for name in VARIABLES}
        self.assertEqual(run("--explain", **empty).stdout, run("--explain", XCHG_SANDBOX=None).stdout)
        self.assertEqual(run("--check", XCHG_NOT_A_VARIABLE="").returncode, 0)

    def test_case(self):
        """Values are case-insensitive: the exchange ECHO echoes."""
        with Server(XCHG_EXCHANGE="ECHO", XCHG_NODELAY="Off") as server:
            with server.connect() as client:
                client.sendall(b"x")
                self.assertEqual(client.recv(1), b"x")
            server.stop()


class Start(unittest.TestCase):
    def warnings(self, server):
        return [line for line in server.lines if "level=warn" in line]

    def test_backlog_warning(self):
        """A backlog over somaxconn logs one warning that names the variable. A smaller one logs none."""
        with open("/proc/sys/net/core/somaxconn") as f:
            most = int(f.read())
        with Server(XCHG_BACKLOG=str(most + 1)) as server:
            with server.connect() as client:
                greet(client)
            server.stop()
            self.assertEqual(len(self.warnings(server)), 1, server.lines)
            self.assertIn("XCHG_BACKLOG", self.warnings(server)[0])
        with Server(XCHG_BACKLOG=str(most)) as server:
            server.stop()
            self.assertEqual(self.warnings(server), [])

    def test_descriptor_limit_is_raised(self):
        """The server raises its soft descriptor limit to the hard limit."""
        def soft():
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 1000))
        with Server(preexec=soft) as server:
            self.assertEqual(resource.prlimit(server.pid, resource.RLIMIT_NOFILE), (1000, 1000))
            server.stop()
