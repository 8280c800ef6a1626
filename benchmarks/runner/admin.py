#!/usr/bin/env python3
"""What the admin endpoint costs, and how fast it answers.

    scrape      CPU time of the threads xchg-adm* for one scrape of a server with 64 workers and 16 listeners, and its bytes
    exchange    CPU time of the whole process for an exchange while the metrics are scraped 10 times a second, as a ratio to the
                same without scrapes; pairs of runs in alternating order, and the ratio of two runs without scrapes
    probe       how long /readyz takes while every worker is saturated, beside an idle server

    admin.py [--build build] [--pairs 8] [--seconds 3]       print the table as Markdown
"""

import argparse
import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

import processes
import stats

WORKERS, LISTENERS, SCRAPES, PROBES = 64, 16, 500, 300
SCRAPES_A_SECOND = 10
SCRAPE_MS, SCRAPE_BYTES, RATIO = 5, 100 * 1024, 1.01


@contextlib.contextmanager
def serve(build, listeners=1, **settings):
    """Start xchgd; its process, the address of its first listener and that of the admin endpoint."""
    environment = {"PATH": os.environ["PATH"], "XCHG_EXCHANGE": "echo", "XCHG_STOP_GRACE": "0", "XCHG_DRAIN_TIMEOUT": "0",
                   "XCHG_LISTEN": ",".join(["127.0.0.1:0"] * listeners), "XCHG_ADMIN": "127.0.0.1:0", **settings}
    server = processes.start([os.path.join(build, "xchgd")], env=environment, priority=False, stderr=subprocess.PIPE)
    try:
        found = {}
        for said in server.stderr:
            match = re.search(rb"msg=(admin|listening) addr=(\S+)", said)
            if match:
                found.setdefault(match[1], match[2].decode())
            if len(found) == 2:
                break
        else:
            sys.exit("xchgd did not start")
        yield server.pid, found[b"listening"], found[b"admin"]
    finally:
        processes.end(server)


def cpu_seconds(pid, name=None):
    """CPU time of the threads of a process, or of those whose name begins so."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/comm") as comm, open(f"/proc/{pid}/task/{thread}/schedstat") as times:
            if name is None or comm.read().startswith(name):
                total += int(times.read().split()[0])
    return total / 1e9


def get(connection, target, accept="text/plain"):
    connection.request("GET", target, headers={"Accept": accept})
    return connection.getresponse().read()


def scrapes(build):
    """For each form: CPU milliseconds of a scrape, and its bytes."""
    with serve(build, LISTENERS, XCHG_WORKERS=str(WORKERS)) as (pid, _, admin):
        client = http.client.HTTPConnection(admin)
        for target, accept in (("/metrics", "text/plain"), ("/metrics", "application/openmetrics-text"), ("/stats", "*/*")):
            size, before = 0, cpu_seconds(pid, "xchg-adm")
            for _ in range(SCRAPES):
                size = len(get(client, target, accept))
            yield f"{target}, {accept}", (cpu_seconds(pid, "xchg-adm") - before) / SCRAPES * 1e3, size


class Scraper(threading.Thread):
    """Scrapes at a fixed rate until it is told to end."""

    def __init__(self, admin):
        super().__init__(daemon=True)
        self.client, self.over, self.count = http.client.HTTPConnection(admin), threading.Event(), 0

    def run(self):
        start = time.monotonic()
        while not self.over.wait(max(start + self.count / SCRAPES_A_SECOND - time.monotonic(), 0)):
            get(self.client, "/metrics")
            self.count += 1


def exchange_us(options, scraped):
    """Microseconds of CPU of the server for an exchange."""
    with serve(options.build, XCHG_WORKERS="1") as (pid, address, admin), tempfile.TemporaryDirectory(prefix="xchg-bench-") as folder:
        report, scraper = os.path.join(folder, "report.json"), Scraper(admin)
        if scraped:
            scraper.start()
        before = cpu_seconds(pid)
        subprocess.run([os.path.join(options.build, "xchg-bench"), "-x", "echo", "-t", "1", "-c", "64", "-d", f"{options.seconds}s", "--json", report,
                        address], check=True, stdout=subprocess.DEVNULL, timeout=60 + 2 * options.seconds)
        used = cpu_seconds(pid) - before
        if scraped:
            scraper.over.set()
            scraper.join()
        with open(report) as f:
            return used / json.load(f)["exchanges"] * 1e6


def compare(options, scraped):
    """Ratios of pairs of runs, the second with scrapes if ${scraped}, in alternating order."""
    found = []
    for i in range(options.pairs):
        values = {second: exchange_us(options, scraped and second) for second in ((False, True) if i % 2 == 0 else (True, False))}
        found.append(values[True] / values[False])
    return stats.spread(found)


def probe_ms(options, saturated):
    """Median and 99th percentile of the time of a probe, in milliseconds."""
    with serve(options.build, XCHG_WORKERS="2") as (_, address, admin), contextlib.ExitStack() as stack:
        if saturated:
            load = processes.start([os.path.join(options.build, "xchg-bench"), "-x", "echo", "-t", "2", "-c", "256", "-p", "16", "-d", "60s", address],
                                   priority=False)
            stack.callback(processes.end, load)
            client = http.client.HTTPConnection(admin)
            while b"\nxchg_connections_open 256\n" not in get(client, "/metrics"):
                pass
        client, times = http.client.HTTPConnection(admin), []
        for _ in range(PROBES):
            begun = time.monotonic()
            get(client, "/readyz")
            times.append((time.monotonic() - begun) * 1e3)
    times.sort()
    return times[len(times) // 2], times[len(times) * 99 // 100]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=3, help="length of a run of a pair")
    options = parser.parse_args()
    rows = []
    for what, cpu, size in scrapes(options.build):
        rows.append([f"CPU of a scrape of {what}", f"{cpu:.3f} ms", f"{SCRAPE_MS} ms", stats.verdict(cpu, cpu, SCRAPE_MS)])
        rows.append([f"bytes of {what}", f"{size:,}", f"{SCRAPE_BYTES:,}", stats.verdict(size, size, SCRAPE_BYTES)])
    for what, scraped in (("an exchange with 10 scrapes a second / without", True), ("an exchange without / without", False)):
        found = compare(options, scraped)
        shown = f"{found['median']:.3f} [{found['low']:.3f}-{found['high']:.3f}]"
        rows.append([f"CPU of {what}", shown, f"{RATIO:.2f}" if scraped else "", stats.verdict(found["low"], found["high"], RATIO) if scraped else "A/A"])
    for what, saturated in (("an idle server", False), ("a server whose workers are saturated", True)):
        middle, late = probe_ms(options, saturated)
        rows.append([f"time of a probe of {what}", f"p50 {middle:.2f} ms, p99 {late:.2f} ms", "", "shown"])
    print(stats.markdown(["figure", "reached", "target", "verdict"], rows, lambda i: False))
    return 1 if any(row[-1] == "FAIL" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
