#!/usr/bin/env python3
"""What libxchg promises, figure by figure, with targets and verdicts. benchmarks/README.md, section 6, has the formulas.

    benchmarks/runner/library.py --build build [--only memory,kv,publish,instructions] [--short] [--connections N] [--members N]
                                 [--pairs N] [--seconds S] [--budget S]

memory        user-space bytes of an idle connection: docs/examples/echo.c, xchgd, a handler with state, and peers
kv            CPU time of docs/examples/kv.c and of memcached for gets that hit, in alternating pairs
publish       copies, wakes, memory and time of a publication to a group (tests/live/publish_server.c)
instructions  of one exchange under callgrind: xchgd's built-in exchanges, and the examples that do the same

Exit code 1 if a target is missed.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import limits
import load
import machine
import publish
import stats
from connections import TIME_LIMIT, connect, memory_per_connection, receive
from processes import Failure
from servers import GREETING, QUICK_STOP, Absent, Traffic, start_named, start_xchg

STATE = 64  # bytes, as in tests/live/plugin/state.c
KEYS = 1000
PARTS = ("memory", "kv", "publish", "instructions")
MN = (b"mn\r\n", b"MN\r\n")


# ---- memory --------------------------------------------------------------------------------------

def measure_memory(options):
    count, build = machine.affordable(options.connections), options.build
    echo = (b"x" * 64,) * 2
    plugin = os.path.abspath(os.path.join(build, "tests/live/plugin/state.so"))
    work = [  # with a target: our own
        ("docs/examples/echo.c", lambda: start_xchg(build, "examples/echo"), echo, 0, True),
        ("xchgd, echo", lambda: start_xchg(build, XCHG_EXCHANGE="echo"), echo, 0, True),
        (f"a handler with {STATE} bytes of state, without these", lambda: start_xchg(build, XCHG_HANDLER=plugin), echo, STATE, True),
        ("libevent, bufferevents", lambda: start_named("libevent-bev", build, "echo"), echo, 0, False),
        ("libevent, plain events", lambda: start_named("libevent-raw", build, "echo"), echo, 0, False),
        ("libuv", lambda: start_named("libuv", build, "echo"), echo, 0, False),
        ("memcached", lambda: start_named("memcached", build, "answer"), MN, 0, False),
    ]
    for name, start, (request, answer), state, aimed in work:
        limit = limits.of("memory") if aimed else limits.of("memory", target=None)
        try:
            found = memory_per_connection(start(), count, request, answer)
        except (Failure, OSError) as problem:
            yield limits.missing(limit, f"memory: {name}", problem)
            continue
        for kind, value in zip(("silent", "after a message"), found):
            yield limits.line(limit, f"memory: {name}, {kind}", value - state, f"{count:,} connections")


# ---- kv ------------------------------------------------------------------------------------------

VALUE = b"0123456789abcdef" * 4
KEY = b"key%04d"


def start_kv(options, name, cpus):
    """Start kv or memcached and store all keys."""
    running = start_xchg(options.build, "examples/kv", cpus=cpus, XCHG_WORKERS="1") if name == "kv" else start_named(name, options.build, "answer", cpus)
    try:
        with socket.create_connection(("127.0.0.1", running.port), TIME_LIMIT) as client:
            for number in range(KEYS):
                client.sendall(b"set %s 0 0 %d\r\n%s\r\n" % (KEY % number, len(VALUE), VALUE))
                if receive(client, 8) != b"STORED\r\n":
                    raise Failure(f"{name} did not store a key")
    except BaseException:
        running.stop()
        raise
    return running


def load_kv(options, name, keys, pipeline):
    """The figures of one run."""
    cpus = machine.cpus()
    # The digits of the key in the answer may be those of any key.
    traffic = Traffic(b"get %s\r\n" % (KEY % 0), b"VALUE %s 0 %d\r\n%s\r\nEND\r\n" % (KEY % 0, len(VALUE), VALUE), (9, 4) if keys > 1 else None)
    running = start_kv(options, name, {cpus[0]})
    try:
        more = ["-p", str(pipeline), "--pid", str(running.pid)] + (["--turn", f"7:4:{keys}"] if keys > 1 else [])
        line = load.request_loop(options.build, 64, options.seconds, 0.2, running.port, traffic, *more)
        report, _ = load.run_report(line, {cpus[1]}, options.seconds + 20, running)
    finally:
        running.stop()
    if report["errors"]["reset"]:
        raise Failure(f"{name} reset a connection")
    return load.figures(report)


def measure_kv(options):
    for title, keys, pipeline in (("one key", 1, 1), (f"{KEYS:,} keys in turn", KEYS, 1), ("one key, 16 in flight", 1, 16)):
        what, limit, pairs = f"kv: server CPU of a get / memcached's, {title}", limits.of("kv") if pipeline == 1 else limits.of("kv", target=None), []
        try:
            for index in range(options.pairs):
                if pairs and time.monotonic() > options.deadline:
                    break
                done = {name: load_kv(options, name, keys, pipeline) for name in (("kv", "memcached") if index % 2 == 0 else ("memcached", "kv"))}
                pairs.append((done["kv"], done["memcached"]))
        except (Failure, OSError) as problem:
            yield limits.missing(limit, what, problem)
            continue
        us = [stats.median([pair[i]["cpu_us"] for pair in pairs]) for i in (0, 1)]
        yield limits.line(limit, what, stats.ratios(pairs, "cpu_us"), f"{len(pairs)} pairs; {us[0]:.3f} and {us[1]:.3f} us")


# ---- instructions --------------------------------------------------------------------------------

def echo(port, count):
    message = b"x" * 64
    with connect(port, 0) as client:
        for _ in range(count):
            client.sendall(message)
            if receive(client, len(message)) != message:
                raise Failure("a wrong answer")


def greet(port, count):
    for _ in range(count):
        with connect(port, 0) as client:
            if receive(client, len(GREETING)) != GREETING:
                raise Failure("a wrong greeting")
            client.sendall(b"x" * 63 + b"\0")
            if client.recv(1) != b"":
                raise Failure("more than a greeting")


def instructions(options, program, exchange, count, **settings):
    """All instructions of a program from its start to its end, with ${count} exchanges."""
    with tempfile.TemporaryDirectory(prefix="xchg-bench-") as folder:
        path = os.path.join(folder, "callgrind")
        prefix = ["valgrind", "-q", "--tool=callgrind", "--fair-sched=yes", f"--callgrind-out-file={path}"]
        running = start_xchg(options.build, program, prefix=prefix, XCHG_WORKERS="1", **QUICK_STOP, **settings)
        try:
            exchange(running.port, count)
            _, code, _ = running.finish(signal.SIGTERM, TIME_LIMIT)
        finally:
            running.stop()
        found = re.search(r"^(?:totals|summary): (\d+)", machine.read(path, ""), re.M)
    if code != 0 or not found:
        raise Failure(f"{program} under callgrind ended with exit code {code}")
    return int(found.group(1))


def measure_instructions(options):
    if shutil.which("valgrind") is None:
        yield limits.missing(limits.of("instructions"), "instructions", Absent("valgrind is not installed"))
        return
    scale = 10 if options.short else 1
    for name, exchange, few, many, example, preset in (("echo", echo, 2000, 12000, "examples/echo", "echo"),
                                                       ("greet", greet, 400, 2400, "examples/hello", "greet")):
        few, many = few // scale, many // scale
        what = f"instructions of an exchange: docs/{example}.c / xchgd, {name}"
        try:
            per = []
            for program, settings in ((example, {}), ("xchgd", {"XCHG_EXCHANGE": preset})):
                runs = [instructions(options, program, exchange, count, **settings) for count in (few, many)]
                per.append((runs[1] - runs[0]) / (many - few))
        except (Failure, OSError, subprocess.TimeoutExpired) as problem:
            yield limits.missing(limits.of("instructions"), what, problem)
            continue
        yield limits.line(limits.of("instructions"), what, per[0] / per[1], f"{per[0]:,.0f} and {per[1]:,.0f} instructions")


# ---- the table -----------------------------------------------------------------------------------

def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build")
    parser.add_argument("--output", help="the folder of library.json (BUILD/bench-library)")
    parser.add_argument("--only", default=",".join(PARTS), help="parts: " + ",".join(PARTS))
    parser.add_argument("--short", action="store_true", help="small numbers: a test of the runner, not a measurement")
    parser.add_argument("--connections", type=int, help="for memory (18,000)")
    parser.add_argument("--members", type=int, help="for publish (10,000)")
    parser.add_argument("--workers", type=int, default=2, help="for publish (2)")
    parser.add_argument("--pairs", type=int, help="for kv (8)")
    parser.add_argument("--seconds", type=float, help="per run of kv (0.6)")
    parser.add_argument("--budget", type=float, default=330, help="seconds after which kv starts no further pair (330)")
    options = parser.parse_args()
    options.only = options.only.split(",")
    if not set(options.only) <= set(PARTS):
        parser.error(f"--only takes {','.join(PARTS)}")
    for name, whole, short in (("connections", 18000, 2000), ("members", 10000, 1000), ("pairs", 8, 2), ("seconds", 0.6, 0.2)):
        if getattr(options, name) is None:
            setattr(options, name, short if options.short else whole)
    options.output = options.output or os.path.join(options.build, "bench-library")
    options.deadline = time.monotonic() + options.budget
    return options


def main():
    options = parse()
    before, begun, rows = machine.load_average(), time.monotonic(), []
    measures = {"memory": measure_memory, "kv": measure_kv, "publish": publish.measure, "instructions": measure_instructions}
    for part in (part for part in PARTS if part in options.only):
        for each in measures[part](options):
            rows.append(each)
            print("  ".join(filter(None, *limits.cells([each]))), file=sys.stderr, flush=True)
    os.makedirs(options.output, exist_ok=True)
    with open(os.path.join(options.output, "library.json"), "w") as stream:
        json.dump({"schema": 2, "machine": machine.describe(), "load_average": before, "seconds": time.monotonic() - begun,
                   "options": {name: value for name, value in vars(options).items() if name != "deadline"}, "rows": rows}, stream, indent=1)
        stream.write("\n")
    failed = sum(each["verdict"] == "FAIL" for each in rows)
    print(f"load average before: {before:.2f}; took {time.monotonic() - begun:.0f} s\n{limits.text(rows)}")
    print(f"{failed} targets missed" if failed else "no target missed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
