#!/usr/bin/env python3
"""Measure the four concurrency models side by side, and write one page with curves. docs/lecture.md explains it.

    lecture.py --build build [--clients 1,10,100] [--rounds N] [--seconds S] [--short] [--no-textbook] [--budget SECONDS]
               [--output FOLDER] [--document docs/lecture.md]
    lecture.py --from build/lecture/lecture.json [...]       write the pages again

Each point is one server, one scenario and a number of clients N. The exchange is greet: connect, greeting, message, close by the server;
a client begins its next exchange when the last one has ended. Scenarios: `fast`, N such clients; `silent`, N such clients after
ceil(N / 10) others that connect and say nothing until the run ends. A round has one run of every point. In odd rounds the servers come in
reverse order, so that drift affects all of them. The pool is measured twice in each place: the A/A pair.

What is held is measured apart: N clients connect and say nothing. Then the server's memory, processes and threads are read.
"""

import argparse
import contextlib
import json
import math
import os
import select
import signal
import sys
import time
from dataclasses import dataclass

import connections
import lecture_page
import load
import machine
import processes
import render
from processes import Failure
from servers import BY_NAME, GREETING, Xchgd

CLIENTS = [1, 3, 10, 30, 100, 300, 1000]
SCENARIOS = ("fast", "silent")
CONNECTIONS_MAX = 2048  # XCHG_MAX_CONNECTIONS of a server with a process or a thread for each connection; its default is 1,024
DESCRIPTORS_SPARE = 200
QUIET = 1.0             # seconds without a new greeting, after which no more are expected
FAILURES_MAX = 2        # of a point, after which it is given up
AGAIN = "pool-again"


@dataclass
class Shown:
    """A server that is compared."""
    name: str
    title: str
    model: str
    server: object
    textbook: bool = False
    again: bool = False

    def facts(self):
        return {"name": self.name, "title": self.title, "model": self.model, "textbook": self.textbook, "again": self.again}


def xchgd(model, **settings):
    return Xchgd(f"xchgd-{model}", "", XCHG_MODEL=model, **settings)


def all_servers(textbook=True):
    """The order of a round. The pool and its double are neighbours."""
    many = {"XCHG_MAX_CONNECTIONS": str(min(CONNECTIONS_MAX, machine.descriptors() - DESCRIPTORS_SPARE))}
    own = [Shown("iterative", "one client at a time", "iterative", xchgd("iterative")),
           Shown("fork", "a process for each connection", "fork", xchgd("fork", **many)),
           Shown("thread", "a thread for each connection", "thread", xchgd("thread", **many)),
           Shown("pool", "an acceptor and a fixed pool of workers", "pool", xchgd("pool")),
           Shown(AGAIN, "the pool a second time", "pool", xchgd("pool"), again=True)]
    books = [Shown(f"textbook-{model}", f"the listing in benchmarks/peers/{model}.c", model, BY_NAME[f"lecture-{model}"], textbook=True)
             for model in ("iterative", "fork", "thread")]
    return own + (books if textbook else [])


def silent_clients(scenario, clients):
    """One in ten, at least one."""
    return math.ceil(clients / 10) if scenario == "silent" else 0


# ---- one run ----

def run_figures(report, silent):
    """The figures of a run with this number of silent clients, from the load's report. A run without an exchange has none but the rate."""
    found = load.figures(report)
    served = report["exchanges"] > 0
    errors = {kind: count for kind, count in report["errors"].items() if kind != "errno" and count}
    # A silent client that was never greeted is an error of the load, but no exchange.
    greeted = report.get("idle_connected", 0)
    failed = max(sum(errors.values()) - (silent - greeted), 0)
    values = {name: found[name] if served or name == "rate" else None for name in ("rate", "cpu_us", "p50_us", "p90_us", "p99_us")}
    return values | {"exchanges": report["exchanges"], "failed": failed, "errors": errors, "client_bound": served and found["client_bound"],
                     "server_busy": found["server_busy"], "client_busy": found["client_busy"], "silent_greeted": greeted}


def one_run(options, shown, scenario, clients):
    """Start a server, load it, stop it; the figures of the run."""
    silent = silent_clients(scenario, clients)
    cpu_server, cpu_load = machine.cpus()
    running = shown.server.start(options.build, "greet", {cpu_server})
    more = ["-T", f"{round(options.timeout * 1000)}ms", "--pid", str(running.pid)] + (["--idle", str(silent)] if silent else [])
    line = load.xchg_bench(options.build, "greet", clients, options.seconds, options.warmup, running.port, *more)
    try:
        report, _ = load.read_report(line, {cpu_load}, options.seconds + options.warmup + 2 * options.timeout + 20, running)
    finally:
        running.stop()
    if report["errors"].get("wrong"):
        raise Failure("a wrong answer")
    return run_figures(report, silent)


# ---- what is held ----

def count_greeted(clients):
    """How many of the connections get their greeting, until all have it or none has come for a while."""
    by_fd, greeted = {client.fileno(): client for client in clients}, 0
    with select.epoll() as epoll:
        for fd in by_fd:
            epoll.register(fd, select.EPOLLIN)
        while by_fd:
            events = epoll.poll(QUIET, 256)
            if not events:
                break
            for fd, _ in events:
                epoll.unregister(fd)
                greeted += by_fd.pop(fd).recv(len(GREETING)) == GREETING
    return greeted


def page_table_bytes(pid):
    text = machine.read(f"/proc/{pid}/status", "")
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmPTE:")), 0)


def one_held(options, shown, clients):
    """Memory, processes and threads of a server to which silent clients are connected."""
    running = shown.server.start(options.build, "greet", {machine.cpus()[0]})
    with contextlib.ExitStack() as stack:
        stack.callback(running.stop)
        opened = [stack.enter_context(connections.connect(running.port, i)) for i in range(clients)]
        greeted = count_greeted(opened)
        running.check()
        family = processes.family(running.pid)
        return {"greeted": greeted, "bytes": sum(connections.memory_bytes(pid, "Pss") for pid in family),
                "page_table_bytes": sum(map(page_table_bytes, family)), "processes": len(family),
                "threads": sum(len(os.listdir(f"/proc/{pid}/task")) for pid in family)}


# ---- all of them ----

class Lecture:
    def __init__(self, options):
        self.options = options
        self.begin = time.monotonic()
        self.skipped = []
        self.points = {}  # (scenario, clients, server) -> the runs
        self.failures = {}
        self.held = []
        self.rounds = 0
        self.live = sys.stderr.isatty()

    def say(self, line):
        if self.live:
            sys.stderr.write("\r\x1b[K")
        print(line, flush=True)

    def skip(self, line):
        self.skipped.append(line)
        self.say(f"skipped: {line}")

    def progress(self, line):
        if self.live:
            sys.stderr.write(f"\r\x1b[K{line}; {self.passed():.0f} s of at most {self.options.budget:.0f}"[:120])
            sys.stderr.flush()

    def passed(self):
        return time.monotonic() - self.begin

    def choose(self):
        """The servers and the numbers of clients that can be measured here."""
        machine.affordable(0)  # raises this process's limit on descriptors
        self.clients = []
        for count in self.options.clients:
            if count + silent_clients("silent", count) + DESCRIPTORS_SPARE > machine.descriptors():
                self.skip(f"{count:,} clients: the limit on descriptors is {machine.descriptors()} here")
            else:
                self.clients.append(count)
        self.servers = []
        for shown in all_servers(self.options.textbook):
            missing = shown.server.missing(self.options.build)
            if missing:
                self.skip(f"{shown.name}: {missing}")
            else:
                self.servers.append(shown)

    def measure_held(self):
        for clients in self.clients:
            for shown in self.servers:
                if shown.again:
                    continue
                self.progress(f"held: {shown.name}, {clients:,} clients")
                row = {"server": shown.name, "clients": clients, "failure": None}
                try:
                    row |= one_held(self.options, shown, clients)
                except (Failure, OSError) as problem:
                    row["failure"] = str(problem)
                self.held.append(row)

    def late(self, number, scenario, clients):
        """Would the runs of this place exceed the budget? The first round is always complete."""
        each = self.options.seconds + self.options.warmup + 0.3 + clients / 4000
        stopping = self.options.timeout * sum(shown.model == "iterative" for shown in self.servers) if scenario == "silent" else 0
        return number > 0 and self.passed() + each * len(self.servers) + stopping > self.options.budget

    def one_place(self, number, scenario, clients):
        """One run of each server with this scenario and number of clients."""
        for shown in self.servers if number % 2 == 0 else reversed(self.servers):
            key = scenario, clients, shown.name
            runs, failures = self.points.setdefault(key, []), self.failures.setdefault(key, [])
            if len(failures) >= FAILURES_MAX:
                continue
            self.progress(f"round {number + 1} of {self.options.rounds}: {scenario}, {clients:,} clients, {shown.name}")
            try:
                runs.append({"round": number} | one_run(self.options, shown, scenario, clients))
            except (Failure, OSError) as problem:
                failures.append(str(problem))

    def measure(self):
        self.measure_held()
        for number in range(self.options.rounds):
            for scenario in SCENARIOS:
                for clients in self.clients:
                    if self.late(number, scenario, clients):
                        self.say(f"the time is over: {self.rounds} rounds are complete")
                        return
                    self.one_place(number, scenario, clients)
            self.rounds = number + 1
            self.say(f"round {self.rounds} of {self.options.rounds} is complete ({self.passed():.0f} s)")

    def report(self, complete):
        places = [{"scenario": scenario, "clients": clients, "silent": silent_clients(scenario, clients), "server": name, "runs": runs,
                   "failures": self.failures[scenario, clients, name]} for (scenario, clients, name), runs in self.points.items()]
        return {"schema": lecture_page.SCHEMA, "complete": complete, "command": self.options.command, "machine": self.machine,
                "seconds": round(self.passed(), 1), "rounds": self.rounds, "window_s": self.options.seconds, "warmup_s": self.options.warmup,
                "timeout_s": self.options.timeout, "clients": self.clients, "servers": [shown.facts() for shown in self.servers],
                "skipped": self.skipped, "points": [place | {"values": lecture_page.summary(place)} for place in places], "held": self.held}

    def main(self):
        self.machine = machine.describe() | {"load_average_before": machine.load_average()}
        self.say(render.text_machine(self.machine))
        self.choose()
        complete = False
        try:
            self.measure()
            complete = self.rounds > 0
        except KeyboardInterrupt:
            self.say("interrupted: the results so far are written")
        if not any(self.points.values()):
            return 1
        report = self.report(complete)
        self.say("\n" + lecture_page.text(report))
        write_all(report, self.options)
        return 0 if complete else 130


def write_all(report, options):
    """The JSON, the page, and the figures in a document."""
    path = os.path.join(options.output, "lecture.html")
    render.write(os.path.join(options.output, "lecture.json"), json.dumps(report, indent=1) + "\n")
    render.write(path, lecture_page.html(report))
    written = [path]
    if options.document and report["complete"]:
        with open(options.document) as stream:
            text = stream.read()
        render.write(options.document, lecture_page.fill(text, lecture_page.markdown(report)))
        written.append(options.document)
    print(f"\nwritten: {', '.join(written)} ({report['seconds']:.0f} s of measurement)")


def command_line(arguments):
    """What a reader types to repeat the measurement."""
    hidden, shown = {"--build", "--output", "--document"}, []
    words = iter(arguments)
    for word in words:
        if word in hidden:
            next(words, None)
        elif word.split("=")[0] not in hidden:
            shown.append(word)
    return "make lecture" + (f" BENCH_OPTIONS='{' '.join(shown)}'" if shown else "")


def counts(text):
    found = sorted({int(part) for part in text.split(",")})
    if not found or found[0] < 1:
        raise ValueError(text)
    return found


def parse(arguments):
    parser = argparse.ArgumentParser(description="Measure the four concurrency models side by side. docs/lecture.md explains the page.")
    parser.add_argument("--build", default="build", help="where the programs are (build)")
    parser.add_argument("--output", help="the folder of lecture.json and lecture.html (BUILD/lecture)")
    parser.add_argument("--document", help="a Markdown page whose block of figures is written again")
    parser.add_argument("--from", dest="source", metavar="FILE", help="a lecture.json: write its pages again, measure nothing")
    parser.add_argument("--clients", type=counts, help="numbers of clients (" + ",".join(map(str, CLIENTS)) + ")")
    parser.add_argument("--rounds", type=int, help="runs of each point (3, short 2)")
    parser.add_argument("--seconds", type=float, help="length of a run (0.5, short 0.2)")
    parser.add_argument("--short", action="store_true", help="1, 10 and 100 clients, short runs: a demonstration, not a measurement")
    parser.add_argument("--no-textbook", dest="textbook", action="store_false", help="without the servers of benchmarks/peers")
    parser.add_argument("--budget", type=float, default=560, help="seconds for everything (560); fewer rounds if they do not suffice")
    options = parser.parse_args(arguments)
    options.command = command_line(arguments)
    options.build = os.path.abspath(options.build)
    options.output = options.output or os.path.join(options.build, "lecture")
    options.clients = options.clients or ([1, 10, 100] if options.short else CLIENTS)
    options.rounds = options.rounds or (2 if options.short else 3)
    options.seconds = options.seconds or (0.2 if options.short else 0.5)
    options.warmup = 0.1 if options.short else 0.2
    options.timeout = 0.5 if options.short else 2.0
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be above 0")
    return options


def main():
    options = parse(sys.argv[1:])
    if options.source:
        with open(options.source) as stream:
            report = json.load(stream)
        if report.get("schema") != lecture_page.SCHEMA:
            sys.exit(f"{options.source}: schema {report.get('schema')}, want {lecture_page.SCHEMA}")
        write_all(report, options)
        return 0
    if not os.access(os.path.join(options.build, "xchg-bench"), os.X_OK):
        print(f"{options.build}/xchg-bench is not built; run make all", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # runs the finally blocks, which end all processes
    return Lecture(options).main()


if __name__ == "__main__":
    sys.exit(main())
