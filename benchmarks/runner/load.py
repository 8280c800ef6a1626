"""One run: a loader against a started server, and the figures in the loader's report."""

import json
import os
import subprocess
import tempfile
import time

import http_load
import processes
from http_load import Children
from processes import Failure
from servers import GREETING, MANY, Traffic, escape, warmup_of

# The figures of a run. More is better for rate, less for the others.
FIGURES = ("rate", "cpu_us", "p50_us", "p90_us", "p99_us", "p99_9_us", "client_us")


def xchg_bench(build, exchange, connections, seconds, warmup, port, *more, threads=1, size=64):
    """The command line of the load generator, xchg-bench."""
    return [os.path.join(build, "xchg-bench"), "-x", exchange, "-t", str(threads), "-c", str(connections), "-d", f"{round(seconds * 1000)}ms",
            "-w", f"{round(warmup * 1000)}ms", "--size", str(size), *more, f"127.0.0.1:{port}"]


def request_loop(build, connections, seconds, warmup, port, traffic, *more):
    """The command line of peers/request_loop, which loads servers with their own protocols."""
    line = [os.path.join(build, "peers", "request_loop"), "-c", str(connections), "-d", str(seconds), "-w", str(warmup), *more]
    if traffic.any is not None:
        line += ["--any", "%d:%d" % traffic.any]
    return line + ["--request", escape(traffic.request), "--answer", escape(traffic.answer), str(port)]


def command(build, series, running, seconds, warmup, rate=None, traffic=None, count=None):
    """The loader's command line for a series; count: exchanges after which the run ends."""
    if count is not None:
        seconds, warmup = 10, 0
    more = ["--pid", str(running.pid)]
    more += ["-p", str(series.pipeline)] if series.pipeline > 1 else []
    more += ["-n", str(count)] if count is not None else []
    if series.own_protocol:
        more += ["-k"] if series.once else []
        return request_loop(build, series.connections, seconds, warmup, running.port, traffic or Traffic(b"", GREETING), *more)
    more += ["-R", str(max(int(rate), 1))] if rate is not None else []
    # All connect at once, and a slow accept is a part of the latency. It is not an error.
    more += ["-T", "10s"] if series.connections >= MANY else []
    threads = 1 if series.connections == 1 or (series.pinned and not series.overload) else 2
    return xchg_bench(build, series.exchange, series.connections, seconds, warmup, running.port, *more, threads=threads)


def figures(report, children=None):
    """The figures of a run, from the loader's report."""
    latency, client, server = report["latency_us"] or {}, report["client"], report.get("server") or {}
    rate = report["rate"]
    values = {"rate": rate, "client_us": client["cpu_us_per_exchange"], "cpu_us": server.get("cpu_us_per_exchange"),
              "server_busy": server.get("utilisation"), "client_busy": client.get("thread_busy_max", client["utilisation"])}
    for name in ("p50", "p90", "p99", "p99_9"):
        values[f"{name}_us"] = latency.get(name)
    if children is not None:  # the parent's CPU time does not include them until they have ended
        busy = children.utilisation()
        values["server_busy"] = busy
        values["cpu_us"] = None if busy is None else busy * 1e6 / rate
    # An open loop has a given rate, and its load generator may poll to keep it.
    known = values["server_busy"] is not None and not report.get("target_rate")
    values["client_bound"] = known and values["client_busy"] > 0.95 > values["server_busy"]
    return values


def wait(process, limit, look):
    """Wait for the loader; look(seconds) is called every 20 ms and may raise Failure."""
    begun = time.monotonic()
    while process.poll() is None:
        passed = time.monotonic() - begun
        if passed > limit:
            raise Failure(f"the load did not end within {limit:.0f} s")
        look(passed)
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            pass


def drive(line, cpus, folder, limit, look, counter, pid):
    """Run a loader to its end: the last line that it wrote to stderr, and the number of system calls that counter saw."""
    counting = counter(pid, folder) if counter else None
    try:
        with open(os.path.join(folder, "errors"), "w+") as errors:
            load = processes.start((counting.prefix if counting else []) + line, cpus=cpus, stderr=errors)
            try:
                wait(load, limit, look)
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


def read_report(line, cpus, limit, running, look=lambda passed: None, counter=None):
    """Run a loader against a server: its report, and the server's system calls. Failure if it writes no report."""
    def look_at_both(passed):
        running.check()
        look(passed)
    with tempfile.TemporaryDirectory(prefix="xchg-bench-") as folder:
        path = os.path.join(folder, "report.json")
        said, calls = drive([line[0], "--json", path, *line[1:]], cpus, folder, limit, look_at_both, counter, running.pid)
        running.check()
        try:
            with open(path) as stream:
                return json.load(stream), calls
        except (OSError, ValueError):
            raise Failure(": ".join(["the load wrote no report", *said])) from None


def run_report(line, cpus, limit, running, look=lambda passed: None, counter=None):
    """As read_report. Failure, too, if more than one exchange in 1,000 failed."""
    report, calls = read_report(line, cpus, limit, running, look, counter)
    errors = {kind: count for kind, count in report["errors"].items() if kind != "errno" and count}
    if report["exchanges"] == 0 or errors.get("wrong") or sum(errors.values()) > report["exchanges"] / 1000:
        kinds = ", ".join(f"{kind} {count}" for kind, count in errors.items())
        raise Failure(f"{report['exchanges']} exchanges, errors: {kinds or 'none'}")
    return report, calls


def run(build, series, server, cpus, seconds, warmup, *, rate=None, traffic=None, count=None, counter=None):
    """Start a server, load it, stop it; its figures.

    cpus: (the server's, the load's), or None to pin nothing. count: exchanges after which the run ends. counter: a class of counts.py,
    whose total becomes `calls`.
    """
    server_cpus, load_cpus = ({cpus[0]}, set(cpus) if series.overload else {cpus[1]}) if cpus else (None, None)
    running = server.start(build, series.exchange, server_cpus, traffic)
    warmup = max(warmup, warmup_of(server, series)) if count is None else warmup
    try:
        if series.exchange == "http":
            return http_load.run(series, running, load_cpus, seconds, warmup)
        line = command(build, series, running, seconds, warmup, rate, traffic, count)
        children, look = None, {}
        if (server.several or (server.forks and series.exchange == "echo")) and count is None:
            children = Children(running.pid, warmup + 0.25 * seconds, warmup + 0.85 * seconds)
            look = {"look": children.look}
        report, calls = run_report(line, load_cpus, seconds + warmup + 40, running, counter=counter, **look)
        return figures(report, children) | {"exchanges": report["exchanges"], "calls": calls}
    finally:
        running.stop()
