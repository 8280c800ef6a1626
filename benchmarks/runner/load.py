"""One run: the load against a started server, and the figures that came of it."""

import json
import os
import re
import socket
import subprocess
import tempfile
import time

import processes
from servers import Failure, Traffic, escape

# What is reported of a run. All but rate: less is better.
FIGURES = ("rate", "cpu_us", "p50_us", "p90_us", "p99_us", "p99_9_us", "client_us")


def command(build, series, server, port, pid, seconds, warmup, report, rate=None, traffic=None, count=None):
    """The loader's command line. xchg-bench, or request_loop where the peer has a protocol of its own."""
    if count is not None:
        seconds, warmup = 10, 0
    if not series.own_protocol:
        threads = "1" if series.pinned and not series.overload else "2"
        line = [os.path.join(build, "xchg-bench"), "-t", threads if series.connections > 1 else "1", "-c", str(series.connections),
                "-d", f"{round(seconds * 1000)}ms", "-w", f"{round(warmup * 1000)}ms", "-x", series.exchange, "--size", "64",
                "--pid", str(pid), "--json", report]
        if series.pipeline > 1:
            line += ["-p", str(series.pipeline)]
        if count is not None:
            line += ["-n", str(count)]
        if rate is not None:
            line += ["-R", str(max(int(rate), 1))]
        return line + [f"127.0.0.1:{port}"]
    line = [os.path.join(build, "peers", "request_loop"), "-c", str(series.connections), "-p", str(series.pipeline), "-w", str(warmup),
            "-d", str(seconds), "--pid", str(pid), "--json", report]
    if series.once:
        line.append("-k")
    if count is not None:
        line += ["-n", str(count)]
    if traffic is None:
        traffic = Traffic(b"", b"Message from server\0")
    if traffic.any is not None:
        line += ["--any", "%d:%d" % traffic.any]
    return line + ["--request", escape(traffic.request), "--answer", escape(traffic.answer), str(port)]


def learn(server, build, cpus, request):
    """Ask a peer once and return what it answers, its date marked as free to change."""
    running = server.start(build, "answer", cpus)
    try:
        with socket.create_connection(("127.0.0.1", running.port), 5) as client:
            client.sendall(request)
            answer = b""
            while True:
                head, separator, body = answer.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                if separator and length and len(body) >= int(length.group(1)):
                    break
                data = client.recv(65536)
                if not data:
                    raise Failure("no whole answer")
                answer += data
    except OSError as problem:
        raise Failure(f"no answer: {problem}") from None
    finally:
        running.stop()
    date = re.search(rb"(?i)date: ([^\r]*)", answer)
    return Traffic(request, answer, (date.start(1), len(date.group(1))) if date else None)


class Children:
    """CPU time of a server whose children live through the run: looked at twice while the load runs."""

    def __init__(self, pid, begin, finish):
        self.pid, self.times, self.seen = pid, [begin, finish], []

    def look(self, since_start):
        if self.times and since_start >= self.times[0]:
            del self.times[0]
            self.seen.append((time.monotonic(), processes.family_cpu_seconds(self.pid), len(processes.family(self.pid))))

    def utilisation(self):
        """None where a look is missing, or came before all children were there or after some had gone."""
        if len(self.seen) < 2 or self.seen[0][2] != self.seen[1][2]:
            return None
        (t0, c0, _), (t1, c1, _) = self.seen
        return (c1 - c0) / (t1 - t0)


def wait(process, limit, check, children=None):
    """Wait for the loader; check() raises once its server is gone."""
    start = time.monotonic()
    while process.poll() is None:
        passed = time.monotonic() - start
        if passed > limit:
            raise Failure(f"the load did not end within {limit:.0f} s")
        check()
        if children is not None:
            children.look(passed)
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            pass


def figures(report, children):
    """The figures of a run out of the loader's report."""
    latency, client, server = report["latency_us"] or {}, report["client"], report.get("server") or {}
    rate = report["rate"]
    values = {"rate": rate, "client_us": client["cpu_us_per_exchange"], "cpu_us": server.get("cpu_us_per_exchange"),
              "server_busy": server.get("utilisation"), "client_busy": client.get("thread_busy_max", client["utilisation"])}
    for name in ("p50", "p90", "p99", "p99_9"):
        values[f"{name}_us"] = latency.get(name)
    if children is not None:  # their time is not yet their parent's
        busy = children.utilisation()
        values["server_busy"] = busy
        values["cpu_us"] = None if busy is None else busy * 1e6 / rate
    # In an open loop the load is given, and its generator may poll to be on time.
    known = values["server_busy"] is not None and not report.get("target_rate")
    values["client_bound"] = known and values["client_busy"] > 0.95 > values["server_busy"]
    return values


def drive(line, cpus, folder, limit, children, counter, running):
    """Run the loader to its end; the last line that it said, and the system calls that counter saw of the server."""
    counting = counter(running.pid, folder) if counter else None
    try:
        with open(os.path.join(folder, "errors"), "w+") as errors:
            load = processes.start((counting.prefix if counting else []) + line, cpus=cpus, stderr=errors)
            try:
                wait(load, limit, running.check, children)
            finally:
                processes.end(load)
            errors.seek(0)
            said = errors.read().strip().splitlines()[-1:]
        return said, counting.total() if counting else None
    except OSError as problem:
        raise Failure(f"cannot count system calls: {problem}") from None
    finally:
        if counting:
            counting.stop()


def run(build, series, server, cpus, seconds, warmup, *, rate=None, traffic=None, count=None, counter=None):
    """Start a server, load it, stop it; its figures.

    cpus: (the server's, the load's), or None where nothing is pinned. count: end after so many exchanges; with it counter, of counts.py,
    whose total becomes `calls`.
    """
    server_cpus, load_cpus = ({cpus[0]}, set(cpus) if series.overload else {cpus[1]}) if cpus else (None, None)
    running = server.start(build, series.exchange, server_cpus, traffic)
    try:
        with tempfile.TemporaryDirectory(prefix="xchg-bench-") as folder:
            report = os.path.join(folder, "report.json")
            line = command(build, series, server, running.port, running.pid, seconds, warmup, report, rate, traffic, count)
            children = None
            if server.forks and series.exchange == "echo" and count is None:
                children = Children(running.pid, warmup + 0.25 * seconds, warmup + 0.85 * seconds)
            said, calls = drive(line, load_cpus, folder, seconds + warmup + 40, children, counter, running)
            running.check()
            try:
                with open(report) as stream:
                    parsed = json.load(stream)
            except (OSError, ValueError):
                raise Failure(": ".join(["the load wrote no report", *said])) from None
        failed = sum(count for kind, count in parsed["errors"].items() if kind != "errno")
        if parsed["exchanges"] == 0 or parsed["errors"].get("wrong") or failed > parsed["exchanges"] / 1000:
            kinds = ", ".join(f"{kind} {count}" for kind, count in parsed["errors"].items() if kind != "errno" and count)
            raise Failure(f"{parsed['exchanges']} exchanges, errors: {kinds or 'none'}")
        values = figures(parsed, children)
        values["exchanges"], values["calls"] = parsed["exchanges"], calls
        return values
    finally:
        running.stop()
