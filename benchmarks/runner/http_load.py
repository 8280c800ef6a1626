"""HTTP: what a server answers, and a run of wrk against it.

wrk reports requests and quantiles. The CPU time of the server and of wrk is read twice during the run, as with servers of several
processes: CPU us = 10^6 * (CPU2 - CPU1) / (t2 - t1) / (requests a second). A run of wrk before it warms the server up.
"""

import math
import re
import socket
import subprocess
import tempfile
import time

import processes
from processes import Failure
from servers import Traffic

UNITS = {"us": 1, "ms": 1e3, "s": 1e6, "m": 60e6}


def learn(port, request):
    """Send an HTTP request once and return its answer as Traffic. The date in it may differ."""
    answer, length, body = b"", None, b""
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(request)
        while not (length and len(body) >= int(length.group(1))) and (data := client.recv(65536)):
            answer += data
            head, separator, body = answer.partition(b"\r\n\r\n")
            length = separator and re.search(rb"(?i)content-length: (\d+)", head)
    if b" 200 " not in answer:
        raise Failure(f"not an HTTP answer with status 200: {answer[:80]!r}")
    date = re.search(rb"(?i)\r\ndate: ([^\r]*)", answer)
    return Traffic(request, answer, (date.start(1), len(date.group(1))) if date else None)


class Children:
    """CPU time of a server whose child processes live through the run. It is read twice during the load."""

    def __init__(self, pid, begin, finish):
        self.pid, self.times, self.seen = pid, [begin, finish], []

    def look(self, since_start):
        if self.times and since_start >= self.times[0]:
            del self.times[0]
            self.seen.append((time.monotonic(), processes.family_cpu_seconds(self.pid), len(processes.family(self.pid))))

    def utilisation(self):
        """None if a reading is missing, or if the number of children changed between the two."""
        if len(self.seen) < 2 or self.seen[0][2] != self.seen[1][2]:
            return None
        (t0, c0, _), (t1, c1, _) = self.seen
        return (c1 - c0) / (t1 - t0)


def request_of(port):
    """The request of wrk."""
    return f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()


def command(series, port, seconds, threads):
    return ["wrk", "-t", str(threads), "-c", str(series.connections), "-d", f"{seconds}s", "--latency", f"http://127.0.0.1:{port}/"]


def drive(line, cpus, limit, look):
    """Run wrk to its end: its output. look(process id, seconds since the start) is called every 20 ms."""
    with tempfile.TemporaryFile("w+") as out:
        wrk, begun = processes.start(line, cpus=cpus, stdout=out, stderr=subprocess.STDOUT), time.monotonic()
        try:
            while wrk.poll() is None:
                passed = time.monotonic() - begun
                if passed > limit:
                    raise Failure(f"wrk did not end within {limit:.0f} s")
                look(wrk.pid, passed)
                try:
                    wrk.wait(0.02)
                except subprocess.TimeoutExpired:
                    pass
        finally:
            processes.end(wrk)
        out.seek(0)
        said = out.read()
    if wrk.returncode != 0 or re.search(r"Socket errors|Non-2xx", said):
        raise Failure(f"wrk: {' '.join(said.split()[-20:])}")
    return said


def parse(said):
    """The figures in wrk's output: requests a second and quantiles in us."""
    rate = re.search(r"^Requests/sec:\s+([\d.]+)", said, re.M)
    quantiles = {name: float(value) * UNITS[unit] for name, value, unit in re.findall(r"^\s+(\d+)%\s+([\d.]+)(us|ms|s|m)\s*$", said, re.M)}
    if not rate or not float(rate.group(1)) or "99" not in quantiles:
        raise Failure("wrk reported no figures")
    return {"rate": float(rate.group(1)), **{f"p{name}_us": quantiles[name] for name in ("50", "90", "99")}, "p99_9_us": None}


def run(series, running, cpus, seconds, warmup):
    """The figures of a run of wrk, which takes whole seconds."""
    try:
        learn(running.port, request_of(running.port))
    except OSError as problem:
        raise Failure(f"no answer: {problem}") from None
    seconds = max(math.ceil(seconds), 1)
    threads = 1 if series.pinned else 2
    drive(command(series, running.port, max(math.ceil(warmup), 1), threads), cpus, warmup + 20, lambda _pid, _passed: running.check())
    watched = {}

    def look(pid, passed):
        running.check()
        for name, each in (("server", running.pid), ("client", pid)):
            watched.setdefault(name, Children(each, 0.2 * seconds, 0.85 * seconds)).look(passed)
    values = parse(drive(command(series, running.port, seconds, threads), cpus, seconds + 20, look))
    busy = {name: each.utilisation() for name, each in watched.items()}
    for name, figure in (("server", "cpu_us"), ("client", "client_us")):
        values[figure] = None if busy.get(name) is None else busy[name] * 1e6 / values["rate"]
        values[f"{name}_busy"] = busy.get(name)
    values["client_bound"] = None not in busy.values() and busy["client"] > 0.95 * threads and busy["server"] < 0.95
    return values | {"exchanges": None, "calls": None}
