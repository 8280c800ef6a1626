#!/usr/bin/env python3
"""The CPU cost of xchg-bench compared with wrk, and whether one thread of it can keep a pinned server busy.

    benchmarks/runner/wrk.py --build build [--pairs 8] [--connections 64] [--seconds 1]

A pair is one run of each client: wrk against the bare loop with a fixed answer (peers/bare_answer), and xchg-bench with echo against the
bare loop (peers/bare). Request, answer and message have the same size. The order alternates. Each client has one thread, pinned to the
second usable CPU; the server is pinned to the first. xchg-bench compares every answer.

    client CPU us   = 10^6 * (user + system seconds of the client process) / requests that it reports
    ratio           = the median over pairs of (xchg-bench's / wrk's of the same pair)
    [interval]      = as in section 3 of benchmarks/README.md
    at its limit    = xchg-bench's thread uses over 95 % of its CPU, and the server less than 0.95 times as much as that thread

Each side of an exchange does one send and one recv, so xchg-bench and the bare loop need about the same CPU time. Both may be at 100 %.
"""

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile

import http_load
import limits
import load
import machine
import processes
import servers
import stats


def answer_of(size):
    """An HTTP answer of ${size} bytes."""
    for body in range(size):
        answer = f"HTTP/1.1 200 OK\r\nContent-Length: {body}\r\n\r\n" + "x" * body
        if len(answer) == size:
            return answer
    raise SystemExit(f"no HTTP answer has {size} bytes")


def client(command, cpu, limit):
    """Run a client: its output, and its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryFile("w+") as out:
        process = processes.start(command, cpus={cpu}, stdout=out, stderr=subprocess.STDOUT)
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"not finished after {limit} s: {' '.join(command)}") from None
        finally:
            processes.end(process)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        out.seek(0)
        said = out.read()
    if process.returncode != 0:
        raise SystemExit(f"{command[0]} failed:\n{said}")
    return said, used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime


def run_wrk(options, running, cpu):
    """One run of wrk: its CPU us per request, and its rate."""
    said, cpu_seconds = client(["wrk", "-t", "1", "-c", str(options.connections), "-d", f"{options.seconds}s", f"http://127.0.0.1:{running.port}/"],
                               cpu, options.seconds + 20)
    if re.search(r"Socket errors|Non-2xx", said):
        raise SystemExit(f"wrk had errors:\n{said}")
    requests = int(re.search(r"(\d+) requests in", said).group(1))
    return {"us": cpu_seconds * 1e6 / requests, "rate": requests / options.seconds}


def run_bench(options, running, cpu, size):
    """One run of xchg-bench."""
    with tempfile.TemporaryDirectory(prefix="xchg-wrk-") as folder:
        path = os.path.join(folder, "report.json")
        line = load.xchg_bench(options.build, "echo", options.connections, options.seconds, 0, running.port,
                               "--pid", str(running.pid), "--json", path, size=size)
        _, cpu_seconds = client(line, cpu, options.seconds + 20)
        with open(path) as stream:
            report = json.load(stream)
    busy, server_busy = report["client"]["thread_busy_max"], report["server"]["utilisation"]
    return {"us": cpu_seconds * 1e6 / report["exchanges"], "rate": report["rate"], "busy": busy, "server_busy": server_busy,
            "bound": report["harness_bound"] and server_busy < 0.95 * busy}


def measure(options):
    """The runs of all pairs, as (wrk's, xchg-bench's), and the size of a message."""
    server_cpu, cpu = machine.cpus()
    port = servers.free_port()
    size, started = len(http_load.request_of(port)), []  # the port's digits are part of the request
    try:
        for command in (["bare_answer", str(port), str(size), servers.escape(answer_of(size).encode())], ["bare", "0", "echo"]):
            started.append(servers.Running([os.path.join(options.build, "peers", command[0]), *command[1:]], cpus={server_cpu}, pattern="listening "))
        pairs = []
        for index in range(options.pairs + 1):
            runs = [lambda: run_wrk(options, started[0], cpu), lambda: run_bench(options, started[1], cpu, size)]
            done = [run() for run in (runs if index % 2 == 0 else reversed(runs))]
            pairs.append(tuple(done if index % 2 == 0 else reversed(done)))
        return size, pairs[1:]  # the first pair is the warm-up
    finally:
        for each in started:
            each.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=1)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed")
    print(f"load average before: {machine.load_average():.2f}")
    size, pairs = measure(options)
    for wrk, bench in pairs:
        print(f"wrk {wrk['us']:.3f} us, {wrk['rate']:.0f}/s   xchg-bench {bench['us']:.3f} us, {bench['rate']:.0f}/s   ratio {bench['us'] / wrk['us']:.3f}   "
              f"its thread {bench['busy']:.0%} busy, its server {bench['server_busy']:.0%}")
    us = [stats.median([pair[i]["us"] for pair in pairs]) for i in (0, 1)]
    note = f"{size} bytes, {options.connections} connections, {options.pairs} pairs: wrk {us[0]:.3f} us, xchg-bench {us[1]:.3f} us"
    rows = [limits.line(limits.of("wrk"), "client CPU per request: xchg-bench / wrk", stats.spread([b["us"] / w["us"] for w, b in pairs]), note),
            limits.line(limits.of("runs at the limit"), "runs in which only xchg-bench was at its limit", sum(b["bound"] for _, b in pairs))]
    print(limits.text(rows))
    return 1 if any(row["verdict"] == "FAIL" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
