"""The servers, and the one way to start them: on loopback, on a port that the kernel chooses.

Every run starts a server afresh. Its configuration file, where it needs one, is written to a temporary folder.
Exchanges: echo, greet and hello as in benchmarks/peers/peer.h; `answer`: a fixed answer to a fixed request (class Traffic).
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import machine
import processes
from processes import Failure

GREETING = b"Message from server\0"
QUICK_STOP = {"XCHG_STOP_GRACE": "0", "XCHG_DRAIN_TIMEOUT": "0"}
MANY = 1000  # connections, which a slow runtime needs seconds to accept
ANY_PORT = {"XCHG_LISTEN": "127.0.0.1:0"}


def warmup_of(server, series):
    """Seconds that a server needs before its figures count."""
    seconds = getattr(server, "warmup_greet", server.warmup) if series.exchange == "greet" else server.warmup
    return seconds + 2 if seconds and series.connections >= MANY else seconds


class Absent(Failure):
    """A program is not installed, or not built."""


class Traffic:
    """Request and answer of a server with its own protocol. any: (offset, count) of answer bytes that may differ."""

    def __init__(self, request, answer, any_bytes=None):
        self.request, self.answer, self.any = request, answer, any_bytes


def escape(data):
    """Bytes as benchmarks/peers/text.h and XCHG_REPLY read them."""
    return "".join(chr(b) if 32 <= b < 127 and b != 92 else f"\\x{b:02x}" for b in data)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Running(processes.Child):
    """A started server. It is ready once it says pattern, after which its address follows, or else once port takes connections."""

    name = "the server"
    garbage = None  # a function of this class that collects it

    def __init__(self, command, *, pattern=None, port=None, folder=None, **how):
        self.folder, self.port = folder, port
        super().__init__(command, cwd=folder, **how)
        try:
            if pattern is None:
                self._wait_port()
            else:
                address = self.hear(pattern).split()[0].rstrip('"')
                self.port = int(address.rsplit(":", 1)[1])
        except BaseException:
            self.stop()
            raise

    def _wait_port(self):
        deadline = time.monotonic() + processes.LIMIT
        while time.monotonic() < deadline:
            self.check()
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                self._read(0.01)
        self.fail("the server does not listen")

    def hang_up(self):
        """The programs in Go and Erlang collect their garbage on SIGHUP."""
        os.kill(self.pid, signal.SIGHUP)

    def hang_up_all(self):
        for each in processes.family(self.pid):
            os.kill(each, signal.SIGHUP)

    def ask_java(self):
        subprocess.run(["jcmd", str(self.pid), "GC.run"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=processes.LIMIT, check=True)

    def collect(self):
        """Ask for a collection of garbage, where there is a collector. It may still go on when this returns."""
        if self.garbage is not None:
            self.garbage(self)

    def stop(self):
        super().stop()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def environment(settings):
    """The environment of an xchg server: these settings and no others."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("XCHG_") and k not in ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID")}
    return env | ANY_PORT | settings


def start_xchg(build, program="xchgd", *, cpus=None, prefix=(), priority=True, **settings):
    """Start xchgd, or another program that is built with libxchg and logs its address."""
    return Running([*prefix, os.path.join(build, program)], cpus=cpus, env=environment(settings), pattern="addr=", stream="stderr", priority=priority)


def start_named(name, build, exchange, cpus=None):
    """Start a server of the table below, or raise Absent."""
    why = BY_NAME[name].missing(build)
    if why:
        raise Absent(why)
    return BY_NAME[name].start(build, exchange, cpus)


def not_built(path):
    return None if os.access(path, os.X_OK) else f"{os.path.relpath(path)} is not built"


class Peer:
    """A program of benchmarks/peers.

    several: it serves with processes that live as long as it does. warmup: seconds until a compiler at run time is done; warmup_greet: the
    same under greet, whose calls are fewer. garbage: how to collect it, a function of Running.
    """

    def __init__(self, name, program, about, *, several=False, warmup=0, warmup_greet=None, garbage=None, **variables):
        self.name, self.program, self.about, self.several, self.variables, self.garbage = name, program, about, several, variables, garbage
        self.warmup, self.warmup_greet = warmup, warmup if warmup_greet is None else warmup_greet
        self.forks = program == "fork"

    def missing(self, build):
        return not_built(os.path.join(build, "peers", self.program))

    def start(self, build, exchange, cpus, traffic=None):
        arguments = [str(len(traffic.request)), escape(traffic.answer)] if exchange == "answer" else [exchange]
        running = Running([os.path.join(build, "peers", self.program), "0", *arguments], cpus=cpus, pattern="listening ",
                          env=os.environ | self.variables)
        running.garbage = self.garbage
        return running


class BareHttp(Peer):
    """The bare loop with a fixed answer, for the requests that wrk sends (http_load.request_of): the port is a part of them."""

    def start(self, build, exchange, cpus, traffic=None):
        port = free_port()
        request = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"
        return Running([os.path.join(build, "peers", self.program), str(port), str(len(request)), escape(answer)], cpus=cpus, pattern="listening ")


class Example:
    """A program of docs/examples."""

    forks = several = False
    warmup = 0

    def __init__(self, name, program, about):
        self.name, self.program, self.about = name, program, about

    def missing(self, build):
        return not_built(os.path.join(build, "examples", self.program))

    def start(self, build, _exchange, cpus, _traffic=None):
        return start_xchg(build, os.path.join("examples", self.program), cpus=cpus)


class Xchgd:
    """xchgd with one of its models."""

    several, warmup = False, 0

    def __init__(self, name, about, signum=signal.SIGTERM, **settings):
        self.name, self.about, self.signum, self.settings = name, about, signum, settings
        self.prefix = ()  # a command before the program
        self.forks = settings.get("XCHG_MODEL") == "fork"

    def missing(self, build):
        return not_built(os.path.join(build, "xchgd"))

    def start(self, build, exchange, cpus, traffic=None):
        settings = {"XCHG_EXCHANGE": exchange}
        if exchange == "answer":  # a line and its answer, as memcached
            settings = {"XCHG_EXCHANGE": "line", "XCHG_MESSAGES": "0", "XCHG_REPLY": "text:" + escape(traffic.answer.rstrip(b"\r\n"))}
        return start_xchg(build, cpus=cpus, prefix=self.prefix, **self.settings, **settings)


class Foreign:
    """An installed server; command(path, folder, port) writes its configuration and returns its command line."""

    forks = several = False
    warmup = 0

    def __init__(self, name, about, package, program, command, signum=signal.SIGTERM):
        self.name, self.about, self.package, self.program, self.command, self.signum = name, about, package, program, command, signum

    def missing(self, _build):
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
        self.path = shutil.which(self.program, path=path)
        return None if self.path else f"{self.program} is not installed (apt-get install {self.package})"

    def start(self, _build, _exchange, cpus, _traffic=None):
        folder = tempfile.mkdtemp(prefix="xchg-bench-")
        port = free_port()
        try:
            return Running(self.command(self.path, folder, port), cpus=cpus, port=port, stream="stderr", folder=folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "wb") as stream:
        stream.write(text.encode("latin-1"))
    return path


def memcached(path, folder, port):
    command = [path, "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "1", "-c", str(machine.descriptors() - 500), "-b", "4096"]
    return command + (["-u", "root"] if os.getuid() == 0 else [])


def redis(path, folder, port):
    return [path, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", folder,
            "--loglevel", "warning", "--maxclients", "16000"]


NGINX_HEAD = """daemon off;
{processes}
pid {folder}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 8192; }}
"""


def nginx_head(folder, master):
    """master: with a master process, without which nginx has no graceful stop."""
    return NGINX_HEAD.format(folder=folder, processes="worker_processes 1;" if master else "master_process off;")


def nginx_stream(path, folder, port, master=False):
    module = "/usr/lib/nginx/modules/ngx_stream_module.so"
    load = f"load_module {module};\n" if os.path.exists(module) else ""
    text = load + nginx_head(folder, master) + f"""stream {{
  server {{ listen 127.0.0.1:{port} backlog=4096; return "Message from server\0"; }}
}}
"""
    return [path, "-e", "stderr", "-p", folder, "-c", write(folder, "nginx.conf", text)]


def nginx_http(path, folder, port, master=False):
    temporary = "".join(f"  {kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    text = nginx_head(folder, master) + f"""http {{
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


def h2o_http(path, folder, port):
    """A file is the cheapest fixed answer of h2o: it caches small ones."""
    write(folder, "index.txt", "ok\n")
    user = "user: root\n" if os.getuid() == 0 else ""
    text = f"""num-threads: 1
max-connections: 8192
http1-request-timeout: 60
{user}pid-file: {folder}/h2o.pid
error-log: /dev/stderr
listen: {{host: 127.0.0.1, port: {port}}}
hosts:
  default:
    paths:
      /: {{file.dir: {folder}, file.index: [index.txt], file.etag: OFF}}
"""
    return [path, "-c", write(folder, "h2o.conf", text)]


ALL = [
    Peer("bare", "bare", "one thread, level-triggered epoll, no state: the lower bound"),
    Peer("bare-et", "bare_et", "the same with edge-triggered epoll; reads until a short read"),
    Peer("bare-answer", "bare_answer", "the bare loop with a fixed answer: the lower bound of request and answer"),
    Peer("reuseport", "reuseport", "one bare loop per core, SO_REUSEPORT"),
    Peer("libevent-raw", "libevent_raw", "libevent, plain events"),
    Peer("libevent-bev", "libevent_bev", "libevent, bufferevents"),
    Peer("libuv", "libuv", "libuv, uv_try_write"),
    Peer("io_uring", "uring", "liburing: multishot accept and receive, provided buffers"),
    Peer("lecture-iterative", "iterative", "one connection at a time: accept, serve, close"),
    Peer("lecture-fork", "fork", "a child process per connection"),
    Peer("lecture-thread", "thread", "a thread per connection"),
    Xchgd("xchgd", "xchgd with its defaults: acceptor and workers (pool)"),
    Xchgd("xchgd-linger-0", "the same, closing at once (XCHG_LINGER=0)", XCHG_LINGER="0"),
    Xchgd("xchgd-iterative", "xchgd, XCHG_MODEL=iterative", XCHG_MODEL="iterative"),
    Xchgd("xchgd-fork", "xchgd, XCHG_MODEL=fork", XCHG_MODEL="fork"),
    Xchgd("xchgd-thread", "xchgd, XCHG_MODEL=thread", XCHG_MODEL="thread"),
    Peer("go-net", "go_net", "Go, net: a goroutine for each connection", garbage=Running.hang_up),
    Peer("tokio", "tokio", "Rust, tokio: a task for each connection"),
    Peer("netty", "netty", "Java, Netty: event loop groups, NIO", warmup=4, warmup_greet=10, garbage=Running.ask_java),
    Peer("asio", "asio", "C++, Boost.Asio: a pool of threads, each with an io_context"),
    Peer("node", "node_net", "Node.js, net under cluster", several=True, warmup=2, warmup_greet=10, garbage=Running.hang_up_all),
    Peer("node-shared", "node_net", "the same, each process accepts (NODE_CLUSTER_SCHED_POLICY=none)", several=True, warmup=2, warmup_greet=6,
         garbage=Running.hang_up_all, NODE_CLUSTER_SCHED_POLICY="none"),
    Peer("uvloop", "uvloop_net", "Python, protocols on uvloop, a process for each core", several=True),
    Peer("erlang", "erlang_tcp", "Erlang, gen_tcp: a process for each connection", warmup=1, garbage=Running.hang_up),
    Example("http-example", "http", "docs/examples/http.c: the library with a parse function"),
    BareHttp("bare-http", "bare_answer", "the bare loop with a fixed answer: the lower bound"),
    Peer("go-http", "go_net", "Go, net/http"),
    Peer("node-http", "node_net", "Node.js, http", several=True, warmup=2),
    Foreign("h2o", "h2o, a file of 3 bytes", "h2o", "h2o", h2o_http),
    Foreign("memcached", "memcached with one worker thread, `mn`", "memcached", "memcached", memcached),
    Foreign("redis", "Redis, `PING`, nothing written to disk", "redis-server", "redis-server", redis),
    Foreign("nginx-stream", "nginx stream, `return`", "nginx libnginx-mod-stream", "nginx", nginx_stream),
    Foreign("nginx-http", "nginx, `return 200`", "nginx", "nginx", nginx_http),
    Foreign("haproxy-http", "HAProxy, `http-request return`", "haproxy", "haproxy", haproxy_http),
]
BY_NAME = {server.name: server for server in ALL}
