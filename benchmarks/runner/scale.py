#!/usr/bin/env python3
"""A hundred thousand connections at once: several harnesses against several xchgd that share one address.

    benchmarks/runner/scale.py --build build [--connections 100000] [--servers 6] [--harnesses 6] [--rate 20000]

Each process is bounded by its descriptors and each harness by 10,000 connections a source address; so there are several of both,
every harness with loopback addresses of its own, and the kernel spreads the connections over the servers (XCHG_REUSEPORT=on). The
load is an open loop over all connections in turn. The reports are merged by `xchg-bench merge`, histogram by histogram.

What is printed: connections that the harnesses made and that the servers hold, errors, latency of the merged histogram, and memory
per connection, at both ends together:

    user space = (resident bytes of all servers and harnesses with the connections - those of the servers before) / connections
    all        = (MemAvailable before - MemAvailable with the connections) / connections        what else the machine does is in it

Exit code 1 where a connection is missing or an exchange failed.
"""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

import machine
import processes

PER_ADDRESS = 10000
START_LIMIT = 20  # seconds


class Xchgd:
    """One of the servers; its log is a file, read again whenever something is asked."""

    def __init__(self, build, port, folder, index):
        self.log = os.path.join(folder, f"xchgd-{index}.log")
        env = {name: value for name, value in os.environ.items() if not name.startswith("XCHG_")}
        env |= {"XCHG_EXCHANGE": "echo", "XCHG_LISTEN": f"127.0.0.1:{port}", "XCHG_REUSEPORT": "on", "XCHG_IDLE_TIMEOUT": "0",
                "XCHG_STOP_GRACE": "0", "XCHG_DRAIN_TIMEOUT": "0"}
        with open(self.log, "w") as errors:
            self.process = processes.start([os.path.join(build, "xchgd")], env=env, stderr=errors, priority=False)
        self.wait_for("listening", 1)

    def lines(self, word):
        with open(self.log) as log:
            return [line for line in log if f"msg={word} " in line]

    def wait_for(self, word, count):
        """The last of the ${count} lines of that kind."""
        end = time.monotonic() + START_LIMIT
        while len(self.lines(word)) < count:
            if time.monotonic() > end or self.process.poll() is not None:
                raise SystemExit(f"an xchgd did not say {word}: {open(self.log).read()}")
            time.sleep(0.01)
        return self.lines(word)[-1]

    def open(self):
        """The connections that it holds."""
        before = len(self.lines("stats"))
        self.process.send_signal(signal.SIGUSR1)
        return int(re.search(r" open=(\d+)", self.wait_for("stats", before + 1)).group(1))


def resident_bytes(pid):
    found = re.search(r"^VmRSS:\s+(\d+)", machine.read(f"/proc/{pid}/status", ""), re.M)
    return int(found.group(1)) * 1024 if found else 0


def available_bytes():
    return int(re.search(r"^MemAvailable:\s+(\d+)", machine.read("/proc/meminfo"), re.M).group(1)) * 1024


def unused_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def start_harness(options, port, folder, index):
    """A harness with its share of the connections and the rate, and addresses of its own."""
    share = options.connections // options.harnesses + (index < options.connections % options.harnesses)
    addresses = ",".join(f"127.1.{index}.{i + 1}" for i in range(-(-share // PER_ADDRESS)))
    path = os.path.join(folder, f"harness-{index}.json")
    command = [os.path.join(options.build, "xchg-bench"), "-x", "echo", "-t", "1", "-c", str(share), "-R", f"{options.rate / options.harnesses:g}",
               "-w", f"{options.warmup}s", "-d", f"{options.seconds}s", "-T", "30s", "--bind", addresses, "--seed", str(index + 1),
               "--json", path, f"127.0.0.1:{port}"]
    with open(os.path.join(folder, f"harness-{index}.out"), "w") as out:
        return processes.start(command, stdout=out, stderr=subprocess.STDOUT, priority=False), path


def hold(servers, connections, limit):
    """Wait until the servers hold all connections: each one's number."""
    end = time.monotonic() + limit
    while True:
        counts = [server.open() for server in servers]
        if sum(counts) >= connections or time.monotonic() > end:
            return counts
        time.sleep(0.2)


def merge(options, paths, folder):
    merged = os.path.join(folder, "merged.json")
    ran = subprocess.run([os.path.join(options.build, "xchg-bench"), "merge", *paths, "--json", merged], stdout=subprocess.PIPE, text=True, check=True)
    with open(merged) as stream:
        return ran.stdout, json.load(stream)


def measure(options, folder, running):
    """Start all, wait for the harnesses; what was seen while they held all connections, and the merged report."""
    port = unused_port()
    for index in range(options.servers):
        running.append(Xchgd(options.build, port, folder, index))
    servers = list(running)
    available, resident = available_bytes(), sum(resident_bytes(server.process.pid) for server in servers)
    begun = time.monotonic()
    harnesses = []
    for index in range(options.harnesses):
        harnesses.append(start_harness(options, port, folder, index))
        running.append(harnesses[-1][0])
    held = hold(servers, options.connections, 60)
    seen = {"held": held, "seconds": time.monotonic() - begun,
            "user": sum(resident_bytes(each.process.pid) for each in servers) + sum(resident_bytes(h.pid) for h, _ in harnesses) - resident,
            "all": available - available_bytes()}
    for index, (process, _) in enumerate(harnesses):
        if process.wait(options.warmup + options.seconds + 120) != 0:
            raise SystemExit(f"a harness failed: {open(os.path.join(folder, f'harness-{index}.out')).read()}")
    return seen, *merge(options, [path for _, path in harnesses], folder)


def run(options):
    running = []
    with tempfile.TemporaryDirectory(prefix="xchg-scale-") as folder:
        try:
            seen, text, report = measure(options, folder, running)
        finally:
            for each in running:
                processes.end(each.process if isinstance(each, Xchgd) else each)
    failed = sum(count for kind, count in report["errors"].items() if kind != "errno")
    held = sum(seen["held"])
    print(text)
    print(f"held by the servers: {held} connections, {' + '.join(map(str, seen['held']))}, all of them after {seen['seconds']:.1f} s")
    print(f"memory per connection, both ends: {seen['user'] / held:.0f} bytes in user space, {seen['all'] / held:.0f} in all")
    print(f"made by the harnesses: {report['connected']} connections; errors: {failed}")
    return 0 if held == report["connected"] == options.connections and failed == 0 else 1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build")
    parser.add_argument("--connections", type=int, default=100000)
    parser.add_argument("--servers", type=int, default=6)
    parser.add_argument("--harnesses", type=int, default=6)
    parser.add_argument("--rate", type=float, default=20000, help="exchanges a second, over all connections")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=5, help="seconds; longer than the harnesses differ in their start")
    options = parser.parse_args()
    each = -(-options.connections // min(options.servers, options.harnesses))
    if each * 1.1 > machine.descriptors():
        raise SystemExit(f"each process would hold {each} connections and more, with {machine.descriptors()} descriptors: "
                         "more --servers and --harnesses, or a higher limit")
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
