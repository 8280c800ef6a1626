"""What the tests of operation share: xchgd with an admin endpoint, requests to it, and the programs beside it.

A test waits for a condition, at most LIMIT. Every program has a time limit of its own, and none outlives its test.

    with Operated(XCHG_WORKERS=2) as server:            # the endpoint is on a UNIX socket and on a TCP port
        status, headers, body = server.get("/readyz")
        with Relay(server.admin_path) as relay: ...     # TCP in front of the UNIX socket, as `ssh -L` makes it

Environment: OPS_FOLDER = where node finds the packages, OPS_LOGS = the folder for screenshots and logs; otherwise as tests/live/xchgd.py.
"""

import atexit
import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests", "live"))

from bench import BENCH, unused_port  # noqa: E402,F401
from xchgd import LIMIT, PROGRAM, Server, greet  # noqa: E402,F401

BUILD = os.path.dirname(os.path.abspath(PROGRAM))
LOGS = os.environ.get("OPS_LOGS", os.path.join(BUILD, "tests", "log-ops"))
FOLDER = os.environ.get("OPS_FOLDER", os.path.join(BUILD, "ops"))
PROGRAM_SECONDS = 200  # the limit of a helper program; a test module has 240 (see tests.mk)


RESERVED = contextlib.ExitStack()
atexit.register(RESERVED.close)


def reserved_port():
    """A port of 127.0.0.1 for a listener with SO_REUSEADDR. The kernel gives it to no other program, also while the listener restarts."""
    holder = RESERVED.enter_context(socket.socket())  # bound, and never listening
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder.getsockname()[1]


def log_path(name):
    os.makedirs(LOGS, exist_ok=True)
    return os.path.join(LOGS, name)


def tool(name):
    """The path of a program; its absence is a failure and no skip."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise AssertionError(f"{name} is not installed; `make check-ops` installs it")
    return path


def run(*command, limit=60, expect=0, **more):
    """Run a program to its end; return its output, both streams."""
    ran = subprocess.run([tool(command[0]), *map(str, command[1:])], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True, timeout=limit, **more)
    if expect is not None and ran.returncode != expect:
        raise AssertionError(f"{' '.join(map(str, command))}: exit code {ran.returncode}, expected {expect}:\n{ran.stdout}")
    return ran.stdout


def wait_until(condition, what, limit=LIMIT):
    """Ask until condition() is true, and return its value."""
    deadline = time.monotonic() + limit
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit} s: {what}")
        time.sleep(0.02)  # the pace of the looks; only the condition or the deadline ends the wait


@contextlib.contextmanager
def program(*command, log, ready=None, **more):
    """A program beside the server, for the length of the block; its output goes to the file ${log}."""
    with open(log_path(log), "wb") as out:
        limited = [tool("timeout"), "--foreground", "-k", "5", str(PROGRAM_SECONDS), tool(command[0]), *map(str, command[1:])]
        process = subprocess.Popen(limited, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, **more)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path, timeout=LIMIT):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def request(connection, path, method="GET", **headers):
    """One request on a connection of its own: (status, headers, body)."""
    with contextlib.closing(connection):
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def get_json(port, path, host="127.0.0.1"):
    status, _, body = request(http.client.HTTPConnection(host, port, timeout=LIMIT), path)
    if status != 200:
        raise AssertionError(f"{path}: {status} {body[:300]!r}")
    return json.loads(body)


class Operated(Server):
    """xchgd with an admin endpoint on a UNIX socket and on a TCP port of 127.0.0.1."""

    def __init__(self, *, admin_port=None, folder=None, **variables):
        self._made = None if folder else tempfile.TemporaryDirectory()
        self.folder = folder or self._made.name
        self.admin_path = os.path.join(self.folder, "admin.sock")
        self.admin_port = admin_port or reserved_port()
        variables.setdefault("XCHG_ADMIN", f"unix:{self.admin_path},127.0.0.1:{self.admin_port}")
        super().__init__(**variables)

    def get(self, path, method="GET", **headers):
        """A request to the TCP port."""
        return request(http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=LIMIT), path, method, **headers)

    def ask(self, path, method="GET", **headers):
        """A request to the UNIX socket."""
        return request(UnixConnection(self.admin_path), path, method, **headers)

    def json(self, path="/stats"):
        status, _, body = self.ask(path)
        if status != 200:
            raise AssertionError(f"{path}: {status} {body[:300]!r}")
        return json.loads(body)

    def __exit__(self, *exception):
        super().__exit__(*exception)
        if self._made:
            self._made.cleanup()


class Relay:
    """A TCP port in front of a UNIX socket. ${change}(request head) may return other bytes for it, ${reply}(all bytes) for the answer."""

    def __init__(self, path, change=None, reply=None):
        self.path, self.change, self.reply = path, change, reply
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with contextlib.suppress(OSError), client, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            client.settimeout(PROGRAM_SECONDS)
            head = b""
            while b"\r\n\r\n" not in head:
                data = client.recv(65536)
                if not data:
                    return
                head += data
            if self.change:
                head = self.change(head)
            server.settimeout(PROGRAM_SECONDS)
            server.connect(self.path)
            server.sendall(re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
            answer = bytearray()
            while data := server.recv(65536):
                answer += data
            client.sendall(self.reply(bytes(answer)) if self.reply else bytes(answer))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.listener.close()


class Load:
    """xchg-bench in the background: `with Load(address, "-R", "100", "-d", "5s") as load: ...; report = load.finish()`."""

    def __init__(self, address, *arguments, wrap=(), log="load"):
        self.path = log_path(f"{log}.json")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        with open(log_path(f"{log}.txt"), "wb") as out:
            command = [*wrap, tool("timeout"), "--foreground", "-k", "5", str(PROGRAM_SECONDS), BENCH, *map(str, arguments), "--json", self.path, address]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)

    def is_running(self):
        return self.process.poll() is None

    def finish(self, limit=PROGRAM_SECONDS):
        """The report of the run."""
        self.process.wait(limit)
        with open(self.path) as stream:
            return json.load(stream)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)


def series(text):
    """The samples of a scrape in the text form: {'name{labels}': value}."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            key, value = line.rsplit(" ", 1)
            found[key] = float(value)
    return found
