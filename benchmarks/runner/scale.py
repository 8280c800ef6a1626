#!/usr/bin/env python3
"""100,000 connections at once: several load generators against several xchgd processes that share one address.

    benchmarks/runner/scale.py --build build [--connections 100000] [--servers 6] [--generators 6] [--rate 20000]

One process cannot hold them all. A process is limited by its descriptors, and a load generator by 10,000 connections per source address.
Each load generator has loopback addresses of its own, and the kernel spreads the connections over the servers (XCHG_REUSEPORT=on).
The load is an open loop over all connections in turn. `xchg-bench merge` merges the reports, histogram by histogram.

The output: connections made and held, errors, the latency of the merged histogram, and the memory per connection at both ends together:

    user space = (resident bytes of all servers and load generators with the connections - of the servers before) / connections
    all        = (MemAvailable before - MemAvailable with the connections) / connections; includes what else the machine does

Exit code 1 if a connection is missing or an exchange failed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time

import machine
import memory
import processes
from connections import memory_bytes
from processes import Failure

PER_ADDRESS = 10000


def available_bytes():
    return int(re.search(r"^MemAvailable:\s+(\d+)", machine.read("/proc/meminfo"), re.M).group(1)) * 1024


def start_generator(options, port, path, index):
    """Start a load generator with its share of the connections and of the rate, on its own source addresses."""
    share = options.connections // options.generators + (index < options.connections % options.generators)
    addresses = ",".join(f"127.1.{index}.{i + 1}" for i in range(-(-share // PER_ADDRESS)))
    return processes.Child([os.path.join(options.build, "xchg-bench"), "-x", "echo", "-t", "1", "-c", str(share),
                            "-R", f"{options.rate / options.generators:g}", "-w", f"{options.warmup}s", "-d", f"{options.seconds}s", "-T", "30s",
                            "--bind", addresses, "--seed", str(index + 1), "--json", path, f"127.0.0.1:{port}"], "stderr", priority=False)


def hold(servers, connections, limit):
    """Wait until the servers hold all connections: the number of each."""
    end = time.monotonic() + limit
    while True:
        held = memory.held_by(servers)
        if sum(held) >= connections or time.monotonic() > end:
            return held
        time.sleep(0.2)


def merge(options, paths, folder):
    merged = os.path.join(folder, "merged.json")
    ran = subprocess.run([os.path.join(options.build, "xchg-bench"), "merge", *paths, "--json", merged], stdout=subprocess.PIPE, text=True, check=True)
    with open(merged) as stream:
        return ran.stdout, json.load(stream)


def measure(options, folder, running):
    """Start everything and wait for the load generators: the state while they held all connections, and the merged report."""
    servers = memory.start_several(options.build, options.servers)
    running += servers
    available, resident = available_bytes(), sum(memory_bytes(each.pid) for each in servers)
    begun = time.monotonic()
    paths = [os.path.join(folder, f"generator-{index}.json") for index in range(options.generators)]
    for index, path in enumerate(paths):
        running.append(start_generator(options, servers[0].port, path, index))
    held = hold(servers, options.connections, 60)
    seen = {"held": held, "seconds": time.monotonic() - begun, "user": sum(memory_bytes(each.pid) for each in running) - resident,
            "all": available - available_bytes()}
    for each in running[len(servers):]:
        if each.process.wait(options.warmup + options.seconds + 120) != 0:
            each.check()
    return seen, *merge(options, paths, folder)


def run(options):
    running = []
    with tempfile.TemporaryDirectory(prefix="xchg-scale-") as folder:
        try:
            seen, text, report = measure(options, folder, running)
        except Failure as problem:
            raise SystemExit(str(problem)) from None
        finally:
            memory.stop_all(running)
    failed = sum(count for kind, count in report["errors"].items() if kind != "errno")
    held = sum(seen["held"])
    print(text)
    print(f"held by the servers: {held} connections, {' + '.join(map(str, seen['held']))}, after {seen['seconds']:.1f} s")
    print(f"memory per connection, both ends: {seen['user'] / held:.0f} bytes in user space, {seen['all'] / held:.0f} in all")
    print(f"made by the load generators: {report['connected']} connections; errors: {failed}")
    return 0 if held == report["connected"] == options.connections and failed == 0 else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--connections", type=int, default=100000)
    parser.add_argument("--servers", type=int, default=6)
    parser.add_argument("--generators", type=int, default=6)
    parser.add_argument("--rate", type=float, default=20000, help="exchanges a second, over all connections")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=5, help="seconds; longer than the load generators' starts are apart")
    options = parser.parse_args()
    each = -(-options.connections // min(options.servers, options.generators))
    if each * 1.1 > machine.descriptors():
        raise SystemExit(f"each process would hold {each} connections and more, but has {machine.descriptors()} descriptors: "
                         "use more --servers and --generators, or raise the limit")
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
