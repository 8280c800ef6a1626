"""How long somebody waits whom the server has no reason to let wait: the hand-off, idle and beside a busy worker, and pings beside a flood.

Each is a list of runs with a fresh server; benchmarks/README.md, section 7, has the formulas.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time

import load
import machine
import processes
import servers
from connections import TIME_LIMIT, connect, receive
from publish import environment
from servers import Failure

NS_PER_US = 1000
MESSAGE = b"x" * 64


def xchgd(build, cpus, **settings):
    """xchgd, which ends at once when it is told to."""
    return servers.Running([os.path.join(build, "xchgd")], cpus=cpus, env=environment(**settings), pattern="addr=", stream="stderr")


def stopped(running):
    """End a server by SIGTERM: the numbers on its `stopped` line."""
    line = next((line for line in running.finish().splitlines() if "msg=stopped " in line), None)
    if line is None:
        raise Failure("the server has not said what it counted")
    return {name: int(value) for name, value in re.findall(r" (\w+)=(\d+)", line)}


def quantiles(said, prefix=""):
    """Hand-offs in us, as a server has counted them."""
    return {f"{prefix}{name}_us": said[f"handoff_ns_{name}"] / NS_PER_US for name in ("p50", "p90", "p99")}


def handoffs(running):
    """Its hand-offs, and how many."""
    said = stopped(running)
    return quantiles(said), said["accepted"]


def run_report(line, cpus, running, limit):
    """Run a loader that writes a report to the path after --json; the report."""
    with tempfile.TemporaryDirectory(prefix="xchg-bench-") as folder:
        path = os.path.join(folder, "report.json")
        said, _ = load.drive([path if part is None else part for part in line], cpus, folder, limit, None, None, running)
        try:
            with open(path) as stream:
                report = json.load(stream)
        except (OSError, ValueError):
            raise Failure(": ".join(["the load wrote no report", *said])) from None
    failed = sum(count for kind, count in report["errors"].items() if kind != "errno")
    if report["exchanges"] == 0 or failed > report["exchanges"] / 1000:
        raise Failure(f"{report['exchanges']} exchanges, {failed} errors")
    return report


def gather(figures, values):
    for name, value in values.items():
        figures.setdefault(name, []).append(value)


# ---- the hand-off, idle --------------------------------------------------------------------------

def greet_alone(bench, running):
    """Load a server with one client at a time, which finds everything asleep."""
    run_report([os.path.join(bench.options.build, "xchg-bench"), "-x", "greet", "-t", "1", "-c", "1", "-w", "0s",
                "-d", f"{bench.plan.long_ms}ms", "--json", None, f"127.0.0.1:{running.port}"], {bench.cpus[1]}, running, TIME_LIMIT)


def handoff_idle(bench):
    """Acceptor and worker on one core: xchgd, and the floor right after it."""
    build, core, figures, count = bench.options.build, {bench.cpus[0]}, {}, 0
    for _ in range(bench.plan.repeats):
        running = xchgd(build, core, XCHG_EXCHANGE="greet")
        try:
            greet_alone(bench, running)
            values, accepted = handoffs(running)
        finally:
            running.stop()
        gather(figures, values)
        count += accepted
        running = servers.Running([os.path.join(build, "peers", "hand_off"), "0", "greet"], cpus=core, pattern="listening")
        try:
            greet_alone(bench, running)
            said = dict(re.findall(r"(\w+)=(\d+)", running.finish()))
        finally:
            running.stop()
        gather(figures, quantiles({name: int(value) for name, value in said.items()}, "floor_"))
    return figures, f"{count} hand-offs"


# ---- the hand-off beside a worker that echo keeps busy -------------------------------------------

def worker_times(pid):
    """CPU time of each worker, by thread."""
    folder = f"/proc/{pid}/task"
    names = {task: machine.read(f"{folder}/{task}/comm") for task in os.listdir(folder)}
    return {task: int(machine.read(f"{folder}/{task}/schedstat").split()[0]) for task, name in names.items() if name.startswith("xchg-work-")}


def worker_of(client, pid, messages=200):
    """The thread that serves a connection: the one that works when the connection does."""
    before = worker_times(pid)
    for _ in range(messages):
        client.sendall(MESSAGE)
        receive(client, len(MESSAGE))
    after = worker_times(pid)
    return max(after, key=lambda task: after[task] - before[task])


def take_one_worker(running, count, held):
    """Open connections until one worker has ${count} of them, and give the other's up: the descriptors."""
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
    raise Failure("no worker gets its share of the connections")


def flood(build, mode, count, size, clients, cpus):
    """Start peers/flood on open connections."""
    descriptors = [client.fileno() for client in clients]
    return processes.start([os.path.join(build, "peers/flood"), mode, str(count), str(size), *map(str, descriptors)], cpus=cpus,
                           stdout=subprocess.PIPE, pass_fds=descriptors)


def end_flood(process):
    """End it; the bytes that it sent."""
    process.send_signal(signal.SIGTERM)
    try:
        said, _ = process.communicate(timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        raise Failure("the flood does not end") from None
    found = re.match(rb"sent (\d+)", said)
    if not found:
        raise Failure("the flood has ended before its time")
    return int(found.group(1))


def handoff_busy(bench):
    """Two workers, a core each; sixteen connections keep one at work; loaders on both cores; one client that comes and goes."""
    build, cpus, figures, notes = bench.options.build, bench.cpus, {}, []
    if cpus[0] == cpus[1]:
        raise Failure("it takes two CPUs")
    for _ in range(bench.plan.repeats):
        held, floods = [], []
        running = xchgd(build, set(cpus), XCHG_EXCHANGE="echo", XCHG_WORKERS="2", XCHG_PIN="on")
        try:
            busy = take_one_worker(running, 16, held)
            # Half of them each: so both cores have a loader that is never done, and one worker all of their work.
            floods += [flood(build, "bounce", 8, 64, busy[i::2], {cpus[i]}) for i in (0, 1)]
            begin, used = time.monotonic(), worker_times(running.pid)
            text = servers.escape(MESSAGE)
            run_report([os.path.join(build, "peers/request_loop"), "-k", "-c", "1", "-w", "0", "-d", str(bench.plan.long_ms / 1000),
                        "--json", None, "--request", text, "--answer", text, str(running.port)], set(cpus), running, TIME_LIMIT)
            passed, now = time.monotonic() - begin, worker_times(running.pid)
            for process in floods:
                end_flood(process)
            values, accepted = handoffs(running)
        finally:
            for process in floods:
                processes.end(process)
            running.stop()
            for client in held:
                client.close()
        gather(figures, values)
        shares = sorted(((now[task] - used[task]) / 1e9 / passed for task in now), reverse=True)
        notes.append(f"{accepted} hand-offs, workers {' and '.join(f'{share:.0%}' for share in shares)} of a core")
    return figures, "; ".join(notes[:1])


# ---- pings beside a flood ------------------------------------------------------------------------

def pings(bench, beside):
    """The latencies of 1,000 connections that ping, in us; and bytes a second of the flood."""
    build, (core, other) = bench.options.build, bench.cpus
    line = [os.path.join(build, "xchg-bench"), "-x", "echo", "-t", "1", "-c", "1000", "--size", "64", "-w", "300ms", "-d", f"{bench.plan.long_ms}ms",
            "--json", None]
    running = xchgd(build, {core}, XCHG_EXCHANGE="echo")
    with contextlib.ExitStack() as stack:
        stack.callback(running.stop)
        line.append(f"127.0.0.1:{running.port}")
        if not beside:
            return run_report(line, {other}, running, TIME_LIMIT)["latency_us"], 0
        client = stack.enter_context(connect(running.port, 0))
        pouring = flood(build, "pour", 0, 65536, [client], {other})
        stack.callback(processes.end, pouring)
        begin = time.monotonic()
        latency = run_report(line, {other}, running, TIME_LIMIT)["latency_us"]
        return latency, end_flood(pouring) / (time.monotonic() - begin)


def unfairness(bench):
    """The same pings alone and beside one connection that sends without pause, in alternating pairs."""
    figures, rates, values = {}, [], {True: [], False: []}
    for number in range(bench.plan.pairs):
        pair = {}
        for beside in (True, False) if number % 2 == 0 else (False, True):
            pair[beside], rate = pings(bench, beside)
            values[beside].append(pair[beside]["p90"])
            rates += [rate] if beside else []
        gather(figures, {f"{name}_ratio": pair[True][name] / pair[False][name] for name in ("p50", "p90", "p99")})
    middle = {beside: sorted(each)[len(each) // 2] for beside, each in values.items()}
    return figures, f"p90 {middle[True]:,.0f} and {middle[False]:,.0f} us; the flood sends {sorted(rates)[len(rates) // 2] / 1e6:,.0f} MB/s"
