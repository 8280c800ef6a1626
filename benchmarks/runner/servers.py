"""The servers: how each is started for an exchange, on a port of the kernel's choice, on loopback alone.

A server is started afresh for every run. What it needs as a configuration is written into a temporary folder of the runner.
Exchanges: echo, greet and hello as in benchmarks/peers/peer.h; `answer`: a fixed answer to a fixed request (see Traffic).
"""

import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import processes

START_LIMIT = 10.0  # seconds


class Failure(Exception):
    """A run that brought no figures, and why."""


class Traffic:
    """Request and answer of peers with a protocol of their own. any: (from, count) of bytes of the answer that may differ."""

    def __init__(self, request, answer, any_bytes=None):
        self.request, self.answer, self.any = request, answer, any_bytes


def escape(data):
    """Bytes in the spelling of benchmarks/peers/text.h and of XCHG_REPLY."""
    return "".join(chr(b) if 32 <= b < 127 and b != 92 else f"\\x{b:02x}" for b in data)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Running:
    """A started server."""

    def __init__(self, command, *, cpus, env=None, port=None, pattern=None, stream="stdout", folder=None):
        """Ready once a line on stream holds pattern, whose rest ends in the port, or once port takes connections."""
        self.folder = folder
        self.port = port
        reader, writer = os.pipe()
        outputs = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        outputs[stream] = writer
        try:
            self.process = processes.start(command, cpus=cpus, env=env, cwd=folder,
                                           **outputs)
        except OSError as problem:
            os.close(reader)
            raise Failure(f"cannot start {command[0]}: {problem.strerror}") from None
        finally:
            os.close(writer)
        self._reader = reader
        self._said = b""
        try:
            if pattern is not None:
                self._wait_line(pattern)
            else:
                self._wait_port()
        except BaseException:
            self.stop()
            raise

    def _read(self, seconds):
        """Take what the server says; False at its end."""
        ready, _, _ = select.select([self._reader], [], [], max(seconds, 0))
        if not ready:
            return True
        data = os.read(self._reader, 65536)
        self._said = (self._said + data)[-65536:]
        return data != b""

    def _fail(self, what):
        said = [line for line in self._said.decode(errors="replace").splitlines() if line and "listening" not in line]
        raise Failure(": ".join([what, *said[-1:]]))

    def _wait_line(self, pattern):
        deadline = time.monotonic() + START_LIMIT
        while True:
            for line in self._said.decode(errors="replace").splitlines(keepends=True):
                if pattern in line and line.endswith("\n"):
                    digits = line.split(pattern, 1)[1].split()[0].rstrip('"')
                    self.port = int(digits.rsplit(":", 1)[1])
                    return
            if not self._read(deadline - time.monotonic()):
                self._fail("the server ended at its start")
            if time.monotonic() > deadline:
                self._fail("the server does not say that it listens")

    def _wait_port(self):
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                self._read(0)
                self._fail("the server ended at its start")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                self._read(0.01)
        self._fail("the server does not listen")

    @property
    def pid(self):
        return self.process.pid

    def check(self):
        """Failure where the server did not survive its run."""
        code = self.process.poll()
        if code is not None:
            self._read(0)
            self._fail(f"the server ended by signal {-code}" if code < 0 else f"the server ended with exit code {code}")

    def finish(self):
        """Ask it to end, wait until it has; what it said, the last 64 KiB of it."""
        self.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + START_LIMIT
        while self._read(deadline - time.monotonic()):
            if time.monotonic() > deadline:
                self._fail("the server does not end")
        return self._said.decode(errors="replace")

    def stop(self):
        processes.end(self.process)
        os.close(self._reader)
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


class Peer:
    """A program of benchmarks/peers."""

    forks = False

    def __init__(self, name, program, about, number=None):
        self.name, self.program, self.about, self.number = name, program, about, number
        self.forks = program == "fork"

    def missing(self, build):
        path = os.path.join(build, "peers", self.program)
        return None if os.access(path, os.X_OK) else f"{path} is not built"

    def start(self, build, exchange, cpus, traffic=None):
        command = [os.path.join(build, "peers", self.program), "0"]
        if exchange == "answer":
            command += [str(len(traffic.request)), escape(traffic.answer)]
        else:
            command += [exchange]
        if self.number is not None:
            command.append(str(self.number))
        return Running(command, cpus=cpus, pattern="listening ")


class Xchgd:
    """xchgd under one of its models."""

    def __init__(self, name, about, **settings):
        self.name, self.about, self.settings = name, about, settings
        self.forks = settings.get("XCHG_MODEL") == "fork"

    def missing(self, build):
        path = os.path.join(build, "xchgd")
        return None if os.access(path, os.X_OK) else f"{path} is not built"

    def start(self, build, exchange, cpus, traffic=None):
        env = {k: v for k, v in os.environ.items() if not k.startswith("XCHG_") and k not in ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID")}
        env.update(self.settings, XCHG_LISTEN="127.0.0.1:0")
        if exchange == "answer":  # a line and its answer: memcached's
            env.update(XCHG_EXCHANGE="line", XCHG_MESSAGES="0", XCHG_REPLY="text:" + escape(traffic.answer.rstrip(b"\r\n")))
        else:
            env.update(XCHG_EXCHANGE=exchange)
        return Running([os.path.join(build, "xchgd")], cpus=cpus, env=env, pattern="addr=", stream="stderr")


class Foreign:
    """An installed server with a configuration that is written for the run."""

    forks = False

    def __init__(self, name, about, package, program, command):
        self.name, self.about, self.package, self.program, self._command = name, about, package, program, command

    def missing(self, build):
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
        self.path = shutil.which(self.program, path=path)
        return None if self.path else f"{self.program} is not installed (apt-get install {self.package})"

    def start(self, build, exchange, cpus, traffic=None):
        folder = tempfile.mkdtemp(prefix="xchg-bench-")
        port = free_port()
        try:
            return Running(self._command(self.path, folder, port), cpus=cpus, port=port, stream="stderr", folder=folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "wb") as stream:
        stream.write(text.encode("latin-1"))
    return path


def memcached(path, folder, port):
    command = [path, "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "1", "-c", "16000", "-b", "4096"]
    return command + (["-u", "root"] if os.getuid() == 0 else [])


def redis(path, folder, port):
    return [path, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", folder,
            "--loglevel", "warning", "--maxclients", "16000"]


NGINX_HEAD = """daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 8192; }}
"""


def nginx_stream(path, folder, port):
    module = "/usr/lib/nginx/modules/ngx_stream_module.so"
    load = f"load_module {module};\n" if os.path.exists(module) else ""
    text = load + NGINX_HEAD.format(folder=folder) + f"""stream {{
  server {{ listen 127.0.0.1:{port} backlog=4096; return "Message from server\0"; }}
}}
"""
    return [path, "-e", "stderr", "-p", folder, "-c", write(folder, "nginx.conf", text)]


def nginx_http(path, folder, port):
    temporary = "".join(f"  {kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    text = NGINX_HEAD.format(folder=folder) + f"""http {{
  access_log off;
  keepalive_requests 1000000000;
{temporary}  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "ok\\n"; }} }}
}}
"""
    return [path, "-e", "stderr", "-p", folder, "-c", write(folder, "nginx.conf", text)]


def haproxy_http(path, folder, port):
    text = f"""global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend bench
  bind 127.0.0.1:{port} backlog 4096
  http-request return status 200 content-type text/plain string ok
"""
    return [path, "-db", "-f", write(folder, "haproxy.cfg", text)]


ALL = [
    Peer("bare", "bare", "one thread, level-triggered epoll, no state: the floor"),
    Peer("bare-et", "bare_et", "the same, edge-triggered, reads until a short read"),
    Peer("bare-answer", "bare_answer", "the bare loop with a fixed answer: the floor of request and answer"),
    Peer("reuseport", "reuseport", "a bare loop per core, SO_REUSEPORT"),
    Peer("libevent-raw", "libevent_raw", "libevent, plain events"),
    Peer("libevent-bev", "libevent_bev", "libevent, bufferevents"),
    Peer("libuv", "libuv", "libuv, uv_try_write"),
    Peer("io_uring", "uring", "liburing: multishot accept and receive, provided buffers"),
    Peer("lecture-iterative", "iterative", "accept, serve, close, one after the other"),
    Peer("lecture-fork", "fork", "a child process per connection"),
    Peer("lecture-thread", "thread", "a thread per connection"),
    Xchgd("xchgd", "xchgd as it comes: acceptor and workers (pool)"),
    Xchgd("xchgd-linger-0", "the same, closing at once (XCHG_LINGER=0)", XCHG_LINGER="0"),
    Xchgd("xchgd-iterative", "xchgd, XCHG_MODEL=iterative", XCHG_MODEL="iterative"),
    Xchgd("xchgd-fork", "xchgd, XCHG_MODEL=fork", XCHG_MODEL="fork"),
    Xchgd("xchgd-thread", "xchgd, XCHG_MODEL=thread", XCHG_MODEL="thread"),
    Foreign("memcached", "memcached with one worker thread, `mn`", "memcached", "memcached", memcached),
    Foreign("redis", "Redis, `PING`, nothing kept on disk", "redis-server", "redis-server", redis),
    Foreign("nginx-stream", "nginx stream, `return`", "nginx libnginx-mod-stream", "nginx", nginx_stream),
    Foreign("nginx-http", "nginx, `return 200`", "nginx", "nginx", nginx_http),
    Foreign("haproxy-http", "HAProxy, `http-request return`", "haproxy", "haproxy", haproxy_http),
]
BY_NAME = {server.name: server for server in ALL}
