#!/usr/bin/env python3
"""What the harness costs beside wrk, and whether one thread of it can keep a pinned server busy.

    benchmarks/runner/wrk.py --build build [--pairs 8] [--connections 64] [--seconds 1]

A pair is one run of wrk against the bare loop that answers every request with one fixed text (peers/bare_answer), and one of
xchg-bench, echo, against the bare loop that echoes (peers/bare); request, answer and message have the same size. The order
alternates. One thread each, the server pinned to the first CPU that we may use, the client to the second; answers are checked, as ever.

    client CPU us   = 10^6 * (user + system seconds of the client process, by wait4) / requests that it reports
    ratio           = the median over pairs of (xchg-bench's / wrk's of the same pair)
    [low-high]      = second lowest and second highest of them
    at its limit    = the harness' thread is over 95 % of its CPU, and the server uses less than 0.95 of what the thread does

Each side of an exchange is one send and one recv, so that harness and bare loop fill their CPUs at about the same rate: both may be full.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

import machine
import processes
import servers
import stats

LIMIT = 0.80


def request_of(port):
    """What wrk sends."""
    return f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"


def answer_of(size):
    """An HTTP answer of that size."""
    for body in range(size):
        answer = f"HTTP/1.1 200 OK\r\nContent-Length: {body}\r\n\r\n" + "x" * body
        if len(answer) == size:
            return answer
    raise SystemExit(f"no HTTP answer has {size} bytes")


def client(command, cpu, limit):
    """Run a client; what it wrote, and its CPU seconds."""
    with tempfile.TemporaryFile("w+") as out:
        process = processes.start(command, cpus={cpu}, stdout=out, stderr=subprocess.STDOUT)
        end, done = time.monotonic() + limit, 0
        while done == 0 and time.monotonic() < end:
            time.sleep(0.02)
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
        if done == 0:
            processes.end(process)
            raise SystemExit(f"not finished after {limit} s: {' '.join(command)}")
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        said = out.read()
    if process.returncode != 0:
        raise SystemExit(f"{command[0]} failed:\n{said}")
    return said, usage.ru_utime + usage.ru_stime


class Wrk:
    """wrk and its server; the answer has the request's size, which depends on the port's digits."""

    def __init__(self, options, cpus):
        self.options, self.cpus, self.port = options, cpus, servers.free_port()
        self.size = len(request_of(self.port))
        command = [os.path.join(options.build, "peers/bare_answer"), str(self.port), str(self.size),
                   servers.escape(answer_of(self.size).encode())]
        self.server = servers.Running(command, cpus={cpus[0]}, port=self.port)

    def run(self):
        """Its CPU us per request, and its rate."""
        said, cpu = client(["wrk", "-t", "1", "-c", str(self.options.connections), "-d", f"{self.options.seconds}s",
                            f"http://127.0.0.1:{self.port}/"], self.cpus[1], self.options.seconds + 20)
        if re.search(r"Socket errors|Non-2xx", said):
            raise SystemExit(f"wrk had errors:\n{said}")
        requests = int(re.search(r"(\d+) requests in", said).group(1))
        return {"us": cpu * 1e6 / requests, "rate": requests / self.options.seconds}


class Bench:
    """xchg-bench and its server."""

    def __init__(self, options, cpus, size):
        self.options, self.cpus, self.size, self.port = options, cpus, size, servers.free_port()
        self.server = servers.Running([os.path.join(options.build, "peers/bare"), str(self.port), "echo"], cpus={cpus[0]}, port=self.port)

    def run(self):
        with tempfile.TemporaryDirectory(prefix="xchg-wrk-") as folder:
            path = os.path.join(folder, "report.json")
            _, cpu = client([os.path.join(self.options.build, "xchg-bench"), "-x", "echo", "-t", "1", "-c", str(self.options.connections),
                             "-d", f"{self.options.seconds}s", "--size", str(self.size), "--pid", str(self.server.process.pid),
                             "--json", path, f"127.0.0.1:{self.port}"], self.cpus[1], self.options.seconds + 20)
            with open(path) as stream:
                report = json.load(stream)
        return {"us": cpu * 1e6 / report["exchanges"], "rate": report["rate"], "busy": report["client"]["thread_busy_max"],
                "server_busy": report["server"]["utilisation"], "bound": report["harness_bound"]}


def series(options, cpus):
    """The runs of all pairs, as (of wrk, of xchg-bench)."""
    wrk = Wrk(options, cpus)
    try:
        bench = Bench(options, cpus, wrk.size)
        try:
            wrk.run(), bench.run()  # warm
            pairs = []
            for index in range(options.pairs):
                order = (wrk, bench) if index % 2 == 0 else (bench, wrk)
                done = {each: each.run() for each in order}
                pairs.append((done[wrk], done[bench]))
            return wrk.size, pairs
        finally:
            bench.server.stop()
    finally:
        wrk.server.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=1)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed")
    print(f"load average before: {machine.load_average():.2f}")
    size, pairs = series(options, machine.cpus())
    for wrk, bench in pairs:
        print(f"wrk {wrk['us']:.3f} us, {wrk['rate']:.0f}/s   xchg-bench {bench['us']:.3f} us, {bench['rate']:.0f}/s   ratio {bench['us'] / wrk['us']:.3f}   "
              f"its thread {bench['busy']:.0%} busy, its server {bench['server_busy']:.0%}")
    ratio = stats.spread([bench["us"] / wrk["us"] for wrk, bench in pairs])
    bound = sum(bench["bound"] and bench["server_busy"] < 0.95 * bench["busy"] for _, bench in pairs)
    print(f"{size} bytes, {options.connections} connections, {options.pairs} pairs: client CPU us per request: wrk {stats.median([w['us'] for w, _ in pairs]):.3f}, "
          f"xchg-bench {stats.median([b['us'] for _, b in pairs]):.3f}")
    print(f"ratio {ratio['median']:.3f} [{ratio['low']:.3f}-{ratio['high']:.3f}], at most {LIMIT:.2f}: {'pass' if ratio['median'] <= LIMIT else 'FAIL'}")
    print(f"the harness alone at its limit in {bound} of {options.pairs} runs: {'pass' if bound == 0 else 'FAIL'}")
    return 0 if ratio["median"] <= LIMIT and bound == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
