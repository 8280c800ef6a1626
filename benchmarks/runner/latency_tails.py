"""Waiting times that the server alone decides: the hand-off to an idle and to a busy worker, and pings next to a flood.

Each measurement repeats its run with a fresh server. benchmarks/README.md, section 7, has the formulas.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time

import load
import machine
import processes
import servers
from connections import TIME_LIMIT, connect, receive
from processes import Failure
from servers import QUICK_STOP, start_xchg

NS_PER_US = 1000
MESSAGE = b"x" * 64


def counts_of(running, line):
    """End a server by SIGTERM: the numbers on its last line that contains ${line}."""
    found = [each for each in running.finish()[0].splitlines() if line in each]
    if not found:
        raise Failure("the server has not printed its counters")
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", found[-1])}


def quantiles(counts, prefix=""):
    """The server's own hand-off quantiles, in us."""
    return {f"{prefix}{name}_us": counts[f"handoff_ns_{name}"] / NS_PER_US for name in ("p50", "p90", "p99")}


def gather(figures, values):
    for name, value in values.items():
        figures.setdefault(name, []).append(value)


# ---- the hand-off, idle --------------------------------------------------------------------------

def greet_alone(bench, running, line):
    """Load a server with one client at a time, so that every thread sleeps when it arrives; the server's counters."""
    build, seconds = bench.options.build, bench.plan.long_ms / 1000
    try:
        load.run_report(load.xchg_bench(build, "greet", 1, seconds, 0, running.port), {bench.cpus[1]}, TIME_LIMIT, running)
        return counts_of(running, line)
    finally:
        running.stop()


def handoff_idle(bench):
    """Acceptor and worker on one core: xchgd, alternating with the lower bound, peers/hand_off."""
    build, core, figures, count = bench.options.build, {bench.cpus[0]}, {}, 0
    for _ in range(bench.plan.repeats):
        counts = greet_alone(bench, start_xchg(build, cpus=core, XCHG_EXCHANGE="greet", **QUICK_STOP), "msg=stopped ")
        gather(figures, quantiles(counts))
        count += counts["accepted"]
        running = servers.Running([os.path.join(build, "peers", "hand_off"), "0", "greet"], cpus=core, pattern="listening ")
        gather(figures, quantiles(greet_alone(bench, running, "handoff_ns"), "floor_"))
    return figures, f"{count} hand-offs"


# ---- the hand-off next to a busy worker ----------------------------------------------------------

def worker_times(pid):
    """CPU time of each worker in ns, by thread id."""
    folder = f"/proc/{pid}/task"
    names = {task: machine.read(f"{folder}/{task}/comm") for task in os.listdir(folder)}
    return {task: int(machine.read(f"{folder}/{task}/schedstat").split()[0]) for task, name in names.items() if name.startswith("xchg-work-")}


def worker_of(client, pid, messages=200):
    """The id of the thread that serves a connection: its CPU time grows while the connection sends."""
    before = worker_times(pid)
    for _ in range(messages):
        client.sendall(MESSAGE)
        receive(client, len(MESSAGE))
    after = worker_times(pid)
    return max(after, key=lambda task: after[task] - before[task])


def take_one_worker(running, count, held):
    """Open connections until one worker has ${count} of them; close the others and return these. held: every opened connection."""
    owners = {}
    for _ in range(4 * count):
        client = socket.create_connection(("127.0.0.1", running.port), TIME_LIMIT)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        held.append(client)
        own = owners.setdefault(worker_of(client, running.pid), [])
        own.append(client)
        if len(own) == count:
            for each in held:
                if each not in own:
                    each.close()
            return own
    raise Failure(f"no worker got {count} connections")


def flood(build, mode, count, size, clients, cpus):
    """Start peers/flood on open connections, which it inherits as descriptors."""
    descriptors = [client.fileno() for client in clients]
    return processes.start([os.path.join(build, "peers/flood"), mode, str(count), str(size), *map(str, descriptors)], cpus=cpus,
                           stdout=subprocess.PIPE, pass_fds=descriptors)


def end_flood(process):
    """End peers/flood; the number of bytes that it sent."""
    process.send_signal(signal.SIGTERM)
    try:
        said, _ = process.communicate(timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        raise Failure("peers/flood does not end") from None
    found = re.match(rb"sent (\d+)", said)
    if not found:
        raise Failure("peers/flood ended early")
    return int(found.group(1))


def handoff_busy(bench):
    """Two workers on one core each; 16 connections keep one worker busy, with load on both cores; one client connects again and again."""
    build, cpus, figures, notes = bench.options.build, bench.cpus, {}, []
    if cpus[0] == cpus[1]:
        raise Failure("two CPUs are needed")
    for _ in range(bench.plan.repeats):
        held, floods = [], []
        running = start_xchg(build, cpus=set(cpus), XCHG_EXCHANGE="echo", XCHG_WORKERS="2", XCHG_PIN="on", **QUICK_STOP)
        try:
            busy = take_one_worker(running, 16, held)
            # Each flood has half of the connections, so both cores have a busy loader and one worker has all the work.
            floods += [flood(build, "bounce", 8, 64, busy[i::2], {cpus[i]}) for i in (0, 1)]
            begin, used = time.monotonic(), worker_times(running.pid)
            line = load.request_loop(build, 1, bench.plan.long_ms / 1000, 0, running.port, servers.Traffic(MESSAGE, MESSAGE), "-k")
            load.run_report(line, set(cpus), TIME_LIMIT, running)
            passed, now = time.monotonic() - begin, worker_times(running.pid)
            for process in floods:
                end_flood(process)
            counts = counts_of(running, "msg=stopped ")
        finally:
            for process in floods:
                processes.end(process)
            running.stop()
            for client in held:
                client.close()
        gather(figures, quantiles(counts))
        shares = sorted(((now[task] - used[task]) / 1e9 / passed for task in now), reverse=True)
        notes.append(f"{counts['accepted']} hand-offs, workers {' and '.join(f'{share:.0%}' for share in shares)} of a core")
    return figures, notes[0]


# ---- pings next to a flood -----------------------------------------------------------------------

def pings(bench, flooded):
    """Latencies of 1,000 pinging connections in us, and the bytes a second of the flood."""
    build, (core, other) = bench.options.build, bench.cpus
    running = start_xchg(build, cpus={core}, XCHG_EXCHANGE="echo")
    with contextlib.ExitStack() as stack:
        stack.callback(running.stop)
        line = load.xchg_bench(build, "echo", 1000, bench.plan.long_ms / 1000, 0.3, running.port)
        if not flooded:
            return load.run_report(line, {other}, TIME_LIMIT, running)[0]["latency_us"], 0
        client = stack.enter_context(connect(running.port, 0))
        pouring = flood(build, "pour", 0, 65536, [client], {other})
        stack.callback(processes.end, pouring)
        begin = time.monotonic()
        latency = load.run_report(line, {other}, TIME_LIMIT, running)[0]["latency_us"]
        return latency, end_flood(pouring) / (time.monotonic() - begin)


def unfairness(bench):
    """Alternating pairs of the same pings, alone and next to one connection that sends without pause."""
    figures, rates, values = {}, [], {True: [], False: []}
    for number in range(bench.plan.pairs):
        pair = {}
        for flooded in (True, False) if number % 2 == 0 else (False, True):
            pair[flooded], rate = pings(bench, flooded)
            values[flooded].append(pair[flooded]["p90"])
            rates += [rate] if flooded else []
        gather(figures, {f"{name}_ratio": pair[True][name] / pair[False][name] for name in ("p50", "p90", "p99")})
    middle = {flooded: sorted(each)[len(each) // 2] for flooded, each in values.items()}
    return figures, f"p90 {middle[True]:,.0f} and {middle[False]:,.0f} us; the flood sends {sorted(rates)[len(rates) // 2] / 1e6:,.0f} MB/s"
