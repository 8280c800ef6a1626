#!/usr/bin/env python3
"""What libxchg promises, figure by figure, with its target and pass or fail (benchmarks/README.md has the formulas).

    benchmarks/runner/library.py --build build [--only memory,kv,publish,instructions] [--short] [--connections N] [--members N]
                                 [--pairs N] [--seconds S] [--budget S]

memory        bytes in user space of an idle connection: docs/examples/echo.c, xchgd, a handler with a state, and peers
kv            CPU time of docs/examples/kv.c beside that of memcached for gets that hit, in alternating pairs
publish       copies, wakes, memory and time of what is published to a group (tests/live/publish_server.c)
instructions  of an exchange under callgrind: xchgd's own exchanges beside the examples that do the same

Exit code 1 where a target is missed.
"""

import argparse
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import load
import machine
import publish
import servers
import stats
from connections import TIME_LIMIT, connect, exchange_all, receive, resident_bytes, wait_until
from publish import environment
from rows import Absent, missing, row, table, text_of
from servers import Failure, Running, Traffic

SETTLE = 2.5  # seconds until what was freed has gone back to the kernel: each worker looks once a second
STATE = 64    # bytes, of tests/live/plugin/state.c
KEYS = 1000
PARTS = ("memory", "kv", "publish", "instructions")


def ours(options, name, cpus=None, prefix=(), **settings):
    """A program of ours that says where it listens."""
    return Running([*prefix, os.path.join(options.build, name)], cpus=cpus, env=environment(**settings), pattern="addr=", stream="stderr")


def memcached(cpus=None):
    """memcached with one thread, or Failure."""
    def command(path, folder, port):
        line = [path, "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "1", "-c", str(machine.descriptors() - 500), "-b", "4096"]
        return line + (["-u", "root"] if os.getuid() == 0 else [])
    peer = servers.Foreign("memcached", "", "memcached", "memcached", command)
    why = peer.missing(None)
    if why:
        raise Absent(why)
    return peer.start(None, "answer", cpus)


def peer(options, name):
    why = servers.BY_NAME[name].missing(options.build)
    if why:
        raise Absent(why)
    return servers.BY_NAME[name].start(options.build, "echo", None)


# ---- memory --------------------------------------------------------------------------------------

def grown(running, count, request, answer):
    """Bytes for each of so many connections: that never spoke, and that spoke once."""
    folder = f"/proc/{running.pid}/fd"
    before, descriptors = resident_bytes(running.pid), len(os.listdir(folder))
    clients = []
    try:
        for index in range(count):
            clients.append(connect(running.port, index))
        wait_until(lambda: len(os.listdir(folder)) >= descriptors + count, "all connections accepted")
        time.sleep(SETTLE)
        silent = resident_bytes(running.pid)
        exchange_all(clients, request, answer)
        time.sleep(SETTLE)
        spoken = resident_bytes(running.pid)
        running.check()
    finally:
        running.stop()  # first: it has less to do than for each that closes
        for client in clients:
            client.close()
    return (silent - before) / count, (spoken - before) / count


def measure_memory(options):
    count = min(options.connections, machine.descriptors() - 1500)
    message = b"x" * 64
    state = os.path.abspath(os.path.join(options.build, "tests/live/plugin/state.so"))
    work = [
        ("docs/examples/echo.c", lambda: ours(options, "examples/echo"), message, message, 0, 256),
        ("xchgd, echo", lambda: ours(options, "xchgd", XCHG_EXCHANGE="echo"), message, message, 0, 256),
        (f"a handler with {STATE} bytes of state, apart from them", lambda: ours(options, "xchgd", XCHG_HANDLER=state), message, message, STATE, 256),
        ("libevent, bufferevents", lambda: peer(options, "libevent-bev"), message, message, 0, None),
        ("libevent, plain events", lambda: peer(options, "libevent-raw"), message, message, 0, None),
        ("libuv", lambda: peer(options, "libuv"), message, message, 0, None),
        ("memcached", memcached, b"mn\r\n", b"MN\r\n", 0, None),
    ]
    for name, start, request, answer, apart, most in work:
        what = f"memory: {name}"
        try:
            silent, spoken = grown(start(), count, request, answer)
        except (Failure, OSError) as problem:
            yield missing(what, problem, aimed=most is not None)
            continue
        for kind, value in (("silent", silent), ("after a message", spoken)):
            yield row(f"{what}, {kind}", value - apart, most=most, unit="bytes", note=f"{count:,} connections")


# ---- kv ------------------------------------------------------------------------------------------

VALUE = b"0123456789abcdef" * 4
KEY = b"key%04d"


def start_kv(options, name, cpus):
    """kv or memcached, with all keys in it."""
    running = ours(options, "examples/kv", cpus, XCHG_WORKERS="1") if name == "kv" else memcached(cpus)
    try:
        with socket.create_connection(("127.0.0.1", running.port), TIME_LIMIT) as client:
            for number in range(KEYS):
                client.sendall(b"set %s 0 0 %d\r\n%s\r\n" % (KEY % number, len(VALUE), VALUE))
                if receive(client, 8) != b"STORED\r\n":
                    raise Failure(f"{name} does not store")
    except BaseException:
        running.stop()
        raise
    return running


def load_kv(options, name, keys, pipeline):
    """One run: its figures."""
    cpus = machine.cpus()
    traffic = Traffic(b"get %s\r\n" % (KEY % 0), b"VALUE %s 0 %d\r\n%s\r\nEND\r\n" % (KEY % 0, len(VALUE), VALUE))
    running = start_kv(options, name, {cpus[0]})
    try:
        with tempfile.TemporaryDirectory(prefix="xchg-bench-") as folder:
            path = os.path.join(folder, "report.json")
            line = [os.path.join(options.build, "peers/request_loop"), "-c", "64", "-p", str(pipeline), "-w", "0.2", "-d", str(options.seconds),
                    "--pid", str(running.pid), "--json", path, "--request", servers.escape(traffic.request),
                    "--answer", servers.escape(traffic.answer)]
            if keys > 1:  # the digits of the key, of which the answer may have others
                line += ["--turn", f"7:4:{keys}", "--any", "9:4"]
            said, _ = load.drive([*line, str(running.port)], {cpus[1]}, folder, options.seconds + 20, None, None, running)
            report = json.loads(machine.read(path, "null"))
        running.check()
    finally:
        running.stop()
    if report is None or report["exchanges"] == 0 or report["errors"]["wrong"] or report["errors"]["reset"]:
        raise Failure(": ".join([f"no right answers from {name}", *said]))
    return load.figures(report, None)


def measure_kv(options):
    for title, keys, pipeline, most in (("one key", 1, 1, 1.0), (f"{KEYS:,} keys in turn", KEYS, 1, 1.0), ("one key, 16 in flight", 1, 16, None)):
        what = f"kv: server CPU of a get beside memcached's, {title}"
        pairs = []
        try:
            for index in range(options.pairs):
                if pairs and time.monotonic() > options.deadline:
                    break
                done = {name: load_kv(options, name, keys, pipeline) for name in (("kv", "memcached") if index % 2 == 0 else ("memcached", "kv"))}
                pairs.append((done["kv"], done["memcached"]))
        except (Failure, OSError) as problem:
            yield missing(what, problem, aimed=most is not None)
            continue
        ratio = stats.ratios(pairs, "cpu_us")
        us = [stats.median([pair[i]["cpu_us"] for pair in pairs]) for i in (0, 1)]
        yield row(what, ratio["median"], most=most, note=f"[{ratio['low']:.2f}-{ratio['high']:.2f}], {len(pairs)} pairs; {us[0]:.3f} and {us[1]:.3f} us")


# ---- instructions --------------------------------------------------------------------------------

def echo(port, count):
    message = b"x" * 64
    with socket.create_connection(("127.0.0.1", port), TIME_LIMIT) as client:
        for _ in range(count):
            client.sendall(message)
            if receive(client, len(message)) != message:
                raise Failure("a wrong answer")


def greet(port, count):
    greeting, message = b"Message from server\0", b"x" * 63 + b"\0"
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port), TIME_LIMIT) as client:
            if receive(client, len(greeting)) != greeting:
                raise Failure("a wrong greeting")
            client.sendall(message)
            if client.recv(1) != b"":
                raise Failure("more than a greeting")


def instructions(options, program, exchange, count, **settings):
    """All instructions of a program from its start to its end, with so many exchanges between."""
    with tempfile.TemporaryDirectory(prefix="xchg-bench-") as folder:
        path = os.path.join(folder, "callgrind")
        prefix = ["valgrind", "-q", "--tool=callgrind", "--fair-sched=yes", f"--callgrind-out-file={path}"]
        running = ours(options, program, prefix=prefix, XCHG_WORKERS="1", **settings)
        try:
            exchange(running.port, count)
            running.process.send_signal(signal.SIGTERM)
            code = running.process.wait(TIME_LIMIT)
        finally:
            running.stop()
        found = re.search(r"^(?:totals|summary): (\d+)", machine.read(path, ""), re.M)
    if code != 0 or not found:
        raise Failure(f"{program} under callgrind ended with exit code {code}")
    return int(found.group(1))


def measure_instructions(options):
    if shutil.which("valgrind") is None:
        yield missing("instructions", Absent("valgrind is not installed"))
        return
    scale = 10 if options.short else 1
    for name, exchange, few, many, example, preset in (("echo", echo, 2000, 12000, "examples/echo", "echo"),
                                                       ("greet", greet, 400, 2400, "examples/hello", "greet")):
        few, many = few // scale, many // scale
        what = f"instructions of an exchange: docs/{example}.c beside xchgd, {name}"
        try:
            per = []
            for program, settings in ((example, {}), ("xchgd", {"XCHG_EXCHANGE": preset})):
                runs = [instructions(options, program, exchange, count, **settings) for count in (few, many)]
                per.append((runs[1] - runs[0]) / (many - few))
        except (Failure, OSError, subprocess.TimeoutExpired) as problem:
            yield missing(what, problem)
            continue
        yield row(what, per[0] / per[1], within=0.03, note=f"{per[0]:,.0f} and {per[1]:,.0f} instructions")


# ---- the table -----------------------------------------------------------------------------------

def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build")
    parser.add_argument("--output", help="folder of library.json; without it bench-library within the build's")
    parser.add_argument("--only", default=",".join(PARTS), help="parts of it: " + ",".join(PARTS))
    parser.add_argument("--short", action="store_true", help="small numbers: does it work, not how good is it")
    parser.add_argument("--connections", type=int, help="of memory (18,000)")
    parser.add_argument("--members", type=int, help="of publish (10,000)")
    parser.add_argument("--workers", type=int, default=2, help="of publish")
    parser.add_argument("--pairs", type=int, help="of kv (8)")
    parser.add_argument("--seconds", type=float, help="of a run of kv (0.6)")
    parser.add_argument("--budget", type=float, default=330, help="seconds after which kv begins no further pair")
    options = parser.parse_args()
    options.only = options.only.split(",")
    if not set(options.only) <= set(PARTS):
        parser.error(f"--only knows {','.join(PARTS)}")
    for name, whole, short in (("connections", 18000, 2000), ("members", 10000, 1000), ("pairs", 8, 2), ("seconds", 0.6, 0.2)):
        if getattr(options, name) is None:
            setattr(options, name, short if options.short else whole)
    options.output = options.output or os.path.join(options.build, "bench-library")
    options.deadline = time.monotonic() + options.budget
    return options


def main():
    options = parse()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    before, begun, rows = machine.load_average(), time.monotonic(), []
    measures = {"memory": measure_memory, "kv": measure_kv, "publish": publish.measure, "instructions": measure_instructions}
    for part in (part for part in PARTS if part in options.only):
        for each in measures[part](options):
            rows.append(each)
            print("  ".join(filter(None, text_of(each))), file=sys.stderr, flush=True)
    os.makedirs(options.output, exist_ok=True)
    with open(os.path.join(options.output, "library.json"), "w") as stream:
        json.dump({"schema": 1, "machine": machine.describe(), "load_average": before, "seconds": time.monotonic() - begun,
                   "options": {name: value for name, value in vars(options).items() if name != "deadline"}, "rows": rows}, stream, indent=1)
        stream.write("\n")
    failed = sum(each["verdict"] == "FAIL" for each in rows)
    print(f"load average before: {before:.2f}; took {time.monotonic() - begun:.0f} s\n{table(rows)}")
    print(f"{failed} targets missed" if failed else "no target missed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
