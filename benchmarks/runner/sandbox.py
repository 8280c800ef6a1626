#!/usr/bin/env python3
"""What the sandbox costs: XCHG_SANDBOX=auto against off.

    exchange    CPU time of the whole process for an exchange, as a ratio, for echo (one connection, many exchanges) and for greet
                (a connection for each exchange); and the ratio of two runs with off
    start       time from the start of the process to its line msg=listening, as a difference

The runs come in pairs, in alternating order. Each row shows the median of all pairs and the interval that contains the true median
with a probability of 95 %. A row passes or fails if the interval is on one side of its target. Otherwise it is undecided.

    sandbox.py [--build build] [--pairs 24] [--seconds 1] [--starts 200]       print the table as Markdown
"""

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time

import processes
import stats

RATIO, START_MS = 1.01, 2.0


@contextlib.contextmanager
def serve(build, sandbox, **settings):
    """Start xchgd; its process, its address and the milliseconds until it listened."""
    environment = {"PATH": os.environ["PATH"], "XCHG_STOP_GRACE": "0", "XCHG_DRAIN_TIMEOUT": "0", "XCHG_LISTEN": "127.0.0.1:0",
                   "XCHG_SANDBOX": sandbox, **settings}
    begun = time.monotonic()
    server = processes.start([os.path.join(build, "xchgd")], env=environment, priority=False, stderr=subprocess.PIPE)
    try:
        for said in server.stderr:
            if b"msg=listening" in said:
                break
        else:
            sys.exit("xchgd did not start")
        yield server.pid, said.split(b"addr=")[1].split()[0].decode(), (time.monotonic() - begun) * 1e3
    finally:
        processes.end(server)


def cpu_seconds(pid):
    """CPU time of all threads of a process."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat") as times:
            total += int(times.read().split()[0])
    return total / 1e9


def exchange_us(options, exchange, sandbox):
    """Microseconds of CPU of the server for an exchange."""
    with serve(options.build, sandbox, XCHG_EXCHANGE=exchange, XCHG_WORKERS="1") as (pid, address, _), \
            tempfile.TemporaryDirectory(prefix="xchg-bench-") as folder:
        report = os.path.join(folder, "report.json")
        before = cpu_seconds(pid)
        subprocess.run([os.path.join(options.build, "xchg-bench"), "-x", exchange, "-t", "1", "-c", "64", "-d", f"{options.seconds}s", "--json",
                        report, address], check=True, stdout=subprocess.DEVNULL, timeout=60 + 2 * options.seconds)
        used = cpu_seconds(pid) - before
        with open(report) as f:
            return used / json.load(f)["exchanges"] * 1e6


def start_ms(options, sandbox):
    with serve(options.build, sandbox) as (_, _, passed):
        return passed


def paired(count, measure, second, combine):
    """${combine} of each pair (off, ${second}). The second run of a pair comes first in every other pair."""
    found = []
    for i in range(count):
        if i % 2 == 0:
            base, other = measure("off"), measure(second)
        else:
            other, base = measure(second), measure("off")
        found.append(combine(other, base))
    return found


def interval(values):
    """The median, and the order statistics around it that hold the true one with a probability of 95 %."""
    ordered, count = sorted(values), len(values)
    reach = math.ceil(0.98 * math.sqrt(count))
    return statistics.median(ordered), ordered[max(count // 2 - reach, 0)], ordered[min((count - 1) // 2 + reach, count - 1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--seconds", type=int, default=1, help="length of a run of a pair")
    parser.add_argument("--starts", type=int, default=200, help="pairs of starts")
    options = parser.parse_args()
    rows = []
    for exchange in ("echo", "greet"):
        for second in ("auto", "off"):
            found = paired(options.pairs, lambda sandbox: exchange_us(options, exchange, sandbox), second, lambda other, base: other / base)
            middle, low, high = interval(found)
            rows.append([f"CPU of an exchange of {exchange}, {second} / off", f"{middle:.4f} [{low:.4f}-{high:.4f}]",
                         f"{RATIO:.2f}" if second == "auto" else "", stats.verdict(low, high, RATIO) if second == "auto" else "A/A"])
    for second in ("auto", "off"):
        middle, low, high = interval(paired(options.starts, lambda sandbox: start_ms(options, sandbox), second, lambda other, base: other - base))
        rows.append([f"start, {second} - off", f"{middle:.2f} ms [{low:.2f}-{high:.2f}]", f"{START_MS} ms" if second == "auto" else "",
                     stats.verdict(low, high, START_MS) if second == "auto" else "A/A"])
    print(stats.markdown(["figure", "reached", "target", "verdict"], rows, lambda i: False))
    return 1 if any(row[-1] == "FAIL" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
