"""Starts, drives and stops the real xchgd for the live tests, and reads its log.

A test waits for a condition, at most LIMIT. Nothing here sleeps in the hope that something happens.

    with Server(XCHG_EXCHANGE="line") as server:
        with server.connect() as client:
            client.sendall(b"hello\n")
            self.assertEqual(receive_all(client), b"hello\n")
        totals = server.stop()

Environment: XCHGD = the program, XCHGD_WRAP = a command before it (valgrind ...), XCHGD_SLOW = a factor
for LIMIT, XCHGD_VARIANT = how the program was built (asan, tsan ...), XCHG_SANDBOX = the default of that
variable for each server of the pool model. A wrap of one server (strace ...) comes before XCHGD_WRAP. It must
end in an exec, so that the process id is that of the server.
"""

import contextlib
import json
import os
import re
import resource
import shlex
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.environ.get("XCHGD", os.path.join(TOP, "build", "xchgd"))
WRAP = shlex.split(os.environ.get("XCHGD_WRAP", ""))
SLOW = float(os.environ.get("XCHGD_SLOW", "1"))
LIMIT = 20.0 * SLOW  # seconds; a longer wait is a failure
SANDBOX = os.environ.get("XCHG_SANDBOX", "")
# True for a build whose memory and CPU time are those of a release.
PLAIN = not WRAP and os.environ.get("XCHGD_VARIANT", "") in ("", "release", "clang", "cov")

GREETING = b"Message from server\0"
REASONS = ("peer", "reset", "too_long", "truncated", "idle", "message", "write", "lifetime", "denied", "per_ip",
           "overload", "memory", "drain", "error", "proxy")


# Moves the descriptors argv[1] (comma-separated) to 3, 4, ... as a service manager does, and executes
# argv[3:]. argv[2] is the value of LISTEN_PID; empty means the process's own id.
ACTIVATE = """import fcntl, os, sys
given = [int(fd) for fd in sys.argv[1].split(",")]
above = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in given]
for fd in given:
    os.close(fd)
for i, fd in enumerate(above):
    os.dup2(fd, 3 + i)
os.environ["LISTEN_FDS"] = str(len(given))
os.environ["LISTEN_PID"] = sys.argv[2] or str(os.getpid())
os.execvp(sys.argv[3], sys.argv[3:])
"""


def strace(*inject, trace="accept4"):
    """A wrap that runs the server under strace with these injections. With -D the server stays our child."""
    quiet = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"  # the leak check traces, too, and only one tracer is possible
    command = ["env", f"ASAN_OPTIONS={quiet}", "strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={trace}"]
    for rule in inject:
        command += ["-e", f"inject={rule}"]
    return command


def parse_logfmt(line):
    """The fields of a logfmt or JSON line as a dict of strings."""
    if line.startswith("{"):
        return {key: str(value) for key, value in json.loads(line).items()}
    fields = {}
    for key, quoted, plain in re.findall(r'([A-Za-z_0-9]+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))', line):
        fields[key] = plain if plain else quoted
    return fields


def environment(**variables):
    """The environment of this process with no other XCHG_ variables than the given ones, and the default of XCHG_SANDBOX.

    XCHG_SANDBOX=None leaves it unset: for programs that embed a server.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith("XCHG_") and k not in ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID")}
    if SANDBOX and "XCHG_SANDBOX" not in variables and str(variables.get("XCHG_MODEL", "pool")).lower() == "pool":
        env["XCHG_SANDBOX"] = SANDBOX
    env.update({k: str(v) for k, v in variables.items() if v is not None})
    return env


def run(*arguments, preexec=None, stdout=subprocess.PIPE, **variables):
    """Run xchgd to its end, for --check and configuration faults, and return a CompletedProcess with text output."""
    return subprocess.run(WRAP + [PROGRAM, *arguments], env=environment(**variables), stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
                          text=True, timeout=LIMIT, preexec_fn=preexec)


class Server:
    """A running xchgd on 127.0.0.1 and a port of the kernel's choice, unless XCHG_LISTEN says otherwise.

    activate: sockets to pass by LISTEN_FDS. listen_pid: another LISTEN_PID than the server's own.
    ends_open: the test ends the server with open descriptors, which valgrind must not report.
    """

    def __init__(self, *, wrap=(), preexec=None, pass_fds=(), program=PROGRAM, stderr=None, wait=True, activate=(), listen_pid="",
                 ends_open=False, **variables):
        variables.setdefault("XCHG_LISTEN", "127.0.0.1:0")
        count = len(variables["XCHG_LISTEN"].split(",")) if not pass_fds else 1
        if activate:
            pass_fds = tuple(s.fileno() for s in activate)
            wrap = [sys.executable, "-S", "-c", ACTIVATE, ",".join(map(str, pass_fds)), str(listen_pid), *wrap]
            count = count if listen_pid else len(activate)
        under = WRAP + ["--track-fds=no"] if ends_open and WRAP[:1] == ["valgrind"] else WRAP
        self.lines = []  # every line that the server wrote, without the newline
        self._fields = []  # the fields of each of these lines
        self._news = threading.Condition()
        self._ended = False
        self._reader = None
        read_end, write_end = os.pipe() if stderr is None else (None, stderr)
        self.process = subprocess.Popen([*wrap, *under, program], env=environment(**variables), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=write_end, preexec_fn=preexec, pass_fds=pass_fds,
                                        start_new_session=True)
        if stderr is None:
            os.close(write_end)
            self._reader = threading.Thread(target=self._read, args=(read_end,), daemon=True)
            self._reader.start()
        self.addresses = []
        if wait and stderr is None:
            try:
                for i in range(count):
                    self.addresses.append(self.wait_line("listening", nth=i)["addr"])
            except BaseException:
                self.__exit__()
                raise

    def _read(self, fd):
        with os.fdopen(fd, errors="backslashreplace") as stream:
            for line in stream:
                self._take(line)
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _take(self, line):
        """Keep one line of the log; tests/soak overrides this."""
        fields = parse_logfmt(line)
        with self._news:
            self.lines.append(line.rstrip("\n"))
            self._fields.append(fields)
            self._news.notify_all()

    @property
    def pid(self):
        return self.process.pid

    @property
    def port(self):
        return int(self.addresses[0].rsplit(":", 1)[1])

    def wait_for(self, condition, what="a condition"):
        """Wait until condition(lines) is true and return its value. Each new line wakes the wait."""
        deadline = time.monotonic() + LIMIT
        with self._news:
            while True:
                found = condition(self.lines)
                if found:
                    return found
                left = deadline - time.monotonic()
                if left <= 0 or self._ended:
                    raise AssertionError(f"no {what}; the log was:\n" + "\n".join(self.lines[-50:]))
                self._news.wait(left)

    def wait_line(self, msg, nth=0):
        """Wait for the nth line with msg=... and return its fields."""
        def find(_):
            found = [fields for fields in self._fields if fields.get("msg") == msg]
            return found[nth] if len(found) > nth else None
        return self.wait_for(find, f"line msg={msg}")

    def messages(self, msg):
        """The fields of all lines with msg=... so far."""
        with self._news:
            return [fields for fields in self._fields if fields.get("msg") == msg]

    def remarks(self):
        """The lines so far, except those that every run writes: sandbox, listening, stats, stopping, stopped."""
        usual = ("sandbox", "listening", "stats", "stopping", "stopped")
        with self._news:
            return [line for line in self.lines if parse_logfmt(line).get("msg") not in usual]

    def connect(self, *, rcvbuf=None, source=None, timeout=LIMIT, address=None):
        """A connected stream socket with a timeout."""
        text = address or self.addresses[0]
        if text.startswith("unix:"):
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            target = text[5:]
        else:
            host, port = text.rsplit(":", 1)
            family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
            host = host.strip("[]")
            host = {"::": "::1", "0.0.0.0": "127.0.0.1"}.get(host, host)
            client = socket.socket(family, socket.SOCK_STREAM)
            target = socket.getaddrinfo(host, int(port), family, socket.SOCK_STREAM)[0][4]  # with the scope of a link-local address
        if rcvbuf is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        if source is not None:
            client.bind((source, 0))
        client.settimeout(timeout)
        client.connect(target)
        return client

    def stats(self):
        """Ask for msg=stats and return its numbers."""
        nth = len(self.messages("stats"))
        self.process.send_signal(signal.SIGUSR1)
        return numbers(self.wait_line("stats", nth))

    def wait_stats(self, condition, what="such statistics"):
        """Ask for statistics, again and again, until condition(numbers) is true, and return the numbers."""
        deadline = time.monotonic() + LIMIT
        while True:
            values = self.stats()
            if condition(values):
                return values
            if time.monotonic() > deadline:
                raise AssertionError(f"no {what}: {values}")

    def stop(self, signum=signal.SIGTERM, expect=0):
        """Send a signal and wait for the end as finish() does."""
        self.process.send_signal(signum)
        return self.finish(expect)

    def finish(self, expect=0):
        code = self.process.wait(LIMIT + 40)
        if self._reader is not None:
            self._reader.join(LIMIT)
        if expect is not None and code != expect:
            raise AssertionError(f"exit code {code}, expected {expect}; the log was:\n" + "\n".join(self.lines[-50:]))
        if self._reader is None:
            return None
        stopped = self.messages("stopped")
        if expect == 0 and len(stopped) != 1:
            raise AssertionError(f"{len(stopped)} lines msg=stopped; the log was:\n" + "\n".join(self.lines[-50:]))
        if not stopped:
            return None
        totals = numbers(stopped[0])
        check_totals(totals)
        return totals

    def pause(self):
        """Send SIGSTOP and wait until every thread is stopped."""
        self.process.send_signal(signal.SIGSTOP)
        self.wait_threads("Tt")  # t: stopped under a tracer

    def tasks(self):
        """The ids of the threads."""
        return [int(task) for task in os.listdir(f"/proc/{self.pid}/task")]

    def threads(self):
        """The ids of the threads by their names."""
        found = {}
        for task in self.tasks():
            with open(f"/proc/{self.pid}/task/{task}/comm") as f:
                found[f.read().strip()] = task
        return found

    def wait_threads(self, states):
        """Wait until each thread has been in one of these states of proc(5)."""
        deadline = time.monotonic() + LIMIT
        for task in self.tasks():
            while True:
                with open(f"/proc/{self.pid}/task/{task}/stat") as f:
                    if f.read().rsplit(")", 1)[1].split()[0] in states:
                        break
                if time.monotonic() > deadline:
                    raise AssertionError(f"thread {task} is never in a state of {states}")

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def resident_bytes(self):
        with open(f"/proc/{self.pid}/smaps_rollup") as f:
            return int(re.search(r"^Rss:\s+(\d+) kB", f.read(), re.M).group(1)) * 1024

    def memory_bytes(self, kind):
        """A field of /proc/<pid>/status: VmSize, RssAnon ..."""
        with open(f"/proc/{self.pid}/status") as f:
            return int(re.search(rf"^{kind}:\s+(\d+) kB", f.read(), re.M).group(1)) * 1024

    @contextlib.contextmanager
    def limited(self, kind, soft):
        """Set the soft limit ${kind} (resource.RLIMIT_*) of the server for the length of the block."""
        before = resource.prlimit(self.pid, kind)
        resource.prlimit(self.pid, kind, (soft, before[1]))
        try:
            yield
        finally:
            if self.process.poll() is None:
                resource.prlimit(self.pid, kind, before)

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self):
        return self

    def __exit__(self, _kind=None, failure=None, _traceback=None):
        if self.process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)  # children of the fork model and strace too
            self.process.wait()
        if isinstance(failure, (AssertionError, OSError)) and "the log was" not in str(failure):
            failure.add_note("the log was:\n" + "\n".join(self.lines[-50:]))


def numbers(fields):
    """The counters of a stats or stopped line as integers."""
    return {k: int(v) for k, v in fields.items() if v.isdigit()}


def check_totals(totals):
    """accepted = finished + all closed (+ open, on a stats line)."""
    closed = sum(totals[f"closed_{reason}"] for reason in REASONS)
    if totals["accepted"] != totals["finished"] + closed + totals.get("open", 0):
        raise AssertionError(f"the totals do not add up: {totals}")


def receive_all(client):
    """Everything until the end of the stream."""
    data = bytearray()
    while chunk := client.recv(65536):
        data += chunk
    return bytes(data)


def receive_exactly(client, size):
    data = bytearray()
    while len(data) < size:
        chunk = client.recv(size - len(data))
        if not chunk:
            raise AssertionError(f"end of stream after {len(data)} of {size} bytes: {bytes(data)[:80]!r}")
        data += chunk
    return bytes(data)


def is_closed(client):
    """Wait for a byte or the end of the stream. True at the end; a reset is an end, too."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def is_silent(client, seconds):
    """True if neither a byte nor the end of the stream comes within ${seconds}."""
    client.settimeout(seconds)
    try:
        client.recv(1, socket.MSG_PEEK)
        return False
    except TimeoutError:
        return True
    except ConnectionError:
        return False
    finally:
        client.settimeout(LIMIT)


def greet(client, message=b"hello\0"):
    """The client's side of the greet exchange. Raises AssertionError if the server's side is wrong."""
    greeting = receive_exactly(client, len(GREETING))
    client.sendall(message)
    rest = receive_all(client)
    if greeting != GREETING or rest:
        raise AssertionError(f"not the greet exchange: {greeting!r}, {rest!r}")


def reset(client):
    """Close the connection so that the peer gets a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


class Notify:
    """The service manager's end of NOTIFY_SOCKET. ${address} is the value of the variable."""

    def __init__(self, folder=None, abstract=None):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.address = f"@{abstract}" if abstract else os.path.join(folder, "notify")
        self.socket.bind("\0" + abstract if abstract else self.address)
        self.socket.settimeout(LIMIT)

    def wait(self, state):
        """Wait for a message that holds the line ${state}."""
        while state not in self.socket.recv(4096).decode().split("\n"):
            pass

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.socket.close()
