#!/usr/bin/env python3
"""What clients notice while a server is replaced: xchgd by its live upgrade, nginx and HAProxy as their manuals say.

    benchmarks/runner/upgrade.py [--build build] [--rounds 7] [--connections 10000] [--rate 5000] [--only xchgd,nginx] [--short]

Clients (peers/ping_clients; its first comment defines a ping) keep their connections and ping in turn, in an open loop. Each run has
a fresh server. Two seconds after the clients have begun, the server is replaced under the load. In the row `xchgd-stays` nothing is
replaced: its figures are those of the same time without a move. A round has one run of each row, in reverse order in every second
round. benchmarks/README.md, section 11, has the formulas and says what the load of nginx and HAProxy is.

An upgrade of xchgd moves each connection twice: to the new program in a child process, and back to the process that has the id of the
server. It is over when the child has ended.

Output in build/bench-upgrade: upgrade.json, and upgrade.txt, the table. Exit code 1 if xchgd lost a connection, refused one or gave a
wrong answer, or if a time is above its target.
"""

import argparse
import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import machine
import processes
import servers
import stats
from processes import Failure

BEFORE_SECONDS = 2.0
REPORT_LIMIT = 30.0
UPGRADE_LIMIT = 30.0
REPLACE_LIMIT = 5.0  # an old process that lives longer keeps connections: the row says so
NEWCOMERS = 200
P99_MS, LONGEST_MS, SECONDS = 10.0, 50.0, 1.0  # what xchgd must reach
FROZEN = ("frozen_us_p50", "frozen_us_p99", "frozen_us_max")
PR_SET_CHILD_SUBREAPER = 36
ECHO = ["--message", "{id}" + "." * 48, "--end", "{id}" + "." * 48]
HTTP = ["--message", r"GET /?id={id} HTTP/1.1\r\nHost: upgrade\r\n\r\n", "--begin", "HTTP/1.1 200 ", "--end", r"\r\n\r\n{id}"]


def wait_for(what, condition, limit=REPLACE_LIMIT):
    """Wait until ${condition} returns something true. Return: it, or raise Failure."""
    deadline = time.monotonic() + limit
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {limit:.0f} s")
        time.sleep(0.002)
    return found


def has_ended(pid):
    """Has the process ended? It is waited for if it is a child of the runner."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass  # of another parent, or waited for before
    return not os.path.exists(f"/proc/{pid}")


class Xchgd:
    """SIGUSR2 under XCHG_UPGRADE=on. The connections are in the child with msg=upgraded, and back with msg=returned."""

    load = ECHO

    def __init__(self, options, _folder, cpus):
        self.running = servers.start_xchg(options.build, cpus=cpus, XCHG_UPGRADE="on", XCHG_EXCHANGE="echo",
                                          XCHG_MAX_CONNECTIONS=str(options.connections + 2 * NEWCOMERS), **servers.QUICK_STOP)
        self.port, self.children = self.running.port, [self.running]

    def replace(self):
        """Return: what the two lines say, of both ways the worse."""
        os.kill(self.running.pid, signal.SIGUSR2)
        there, back = [{name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", self.running.hear(f"msg={line}", UPGRADE_LIMIT))}
                       for line in ("upgraded", "returned")]
        wait_for("the child has not ended", lambda: has_ended(back["child"]), UPGRADE_LIMIT)
        self.running.check()
        return {"moved": min(there["moved"], back["moved"])} | {name: max(there[name], back[name]) for name in ("stayed", *FROZEN)}


NGINX = """pid {folder}/nginx.pid;
worker_processes 1;
error_log {folder}/error.log crit;
events {{ worker_connections {most}; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
{temporary}  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "$arg_id"; }} }}
}}
"""


class Nginx:
    """USR2, and then WINCH and QUIT to the old master, when the new master has written its pid file."""

    load = HTTP

    def __init__(self, _options, folder, cpus):
        self.folder, self.port = folder, servers.free_port()
        temporary = "".join(f"  {kind}_temp_path {self.folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        text = NGINX.format(folder=self.folder, most=machine.descriptors() - 100, temporary=temporary, port=self.port)
        path = servers.write(self.folder, "nginx.conf", text)
        # USR2 is ignored by a master that has not become a daemon. As a daemon it is a child of this process, as a subreaper.
        self.children = [processes.Child([servers.BY_NAME["nginx-http"].path, "-e", "stderr", "-p", self.folder, "-c", path], "stderr", cpus=cpus)]
        self.pid = wait_for("nginx does not start", self.master)

    def master(self, name="nginx.pid"):
        try:
            with open(os.path.join(self.folder, name)) as stream:
                return int(stream.read())
        except (OSError, ValueError):
            return None

    def replace(self):
        os.kill(self.pid, signal.SIGUSR2)
        wait_for("the new master does not start", lambda: self.master("nginx.pid.oldbin") and self.master() not in (None, self.pid))
        os.kill(self.pid, signal.SIGWINCH)
        os.kill(self.pid, signal.SIGQUIT)
        return ended_or_not(self.pid)


HAPROXY = """global
  nbthread 1
  no strict-limits
  fd-hard-limit {limit}
  maxconn {most}
  stats socket {folder}/socket mode 600 level admin expose-fd listeners
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend bench
  bind 127.0.0.1:{port} backlog 4096
  http-request return status 200 content-type text/plain lf-string "%[url_param(id)]"
"""


class Haproxy:
    """A second process with -x, which takes the listeners over, and -sf, which tells the first one to finish."""

    load = HTTP

    def __init__(self, options, folder, cpus):
        self.folder, self.port, self.cpus = folder, servers.free_port(), cpus
        text = HAPROXY.format(limit=machine.descriptors(), most=options.connections + 2 * NEWCOMERS, folder=self.folder, port=self.port)
        self.command = [servers.BY_NAME["haproxy-http"].path, "-db", "-f", servers.write(self.folder, "haproxy.cfg", text)]
        self.children = [servers.Running(self.command, port=self.port, stream="stderr", cpus=cpus)]

    def replace(self):
        pid = self.children[0].pid
        command = [*self.command, "-x", os.path.join(self.folder, "socket"), "-sf", str(pid)]
        self.children.append(processes.Child(command, "stderr", cpus=self.cpus))
        return ended_or_not(pid)


def ended_or_not(pid):
    """Wait for the end of the old process, but not for long: it may serve its clients until they go."""
    try:
        wait_for("", lambda: has_ended(pid))
        return {}
    except Failure:
        return {"old_lives": True}


@dataclass
class Row:
    name: str
    about: str
    kind: type
    peer: str = ""        # of servers.py, which knows whether it is installed
    replaces: bool = True

    def missing(self, build):
        paths = [os.path.join(build, "xchgd"), os.path.join(build, "peers", "ping_clients")]
        why = next(filter(None, map(servers.not_built, paths)), None)
        return why or (servers.BY_NAME[self.peer].missing(build) if self.peer else None)


ALL = [
    Row("xchgd", "echo; SIGUSR2", Xchgd),
    Row("xchgd-stays", "echo; nothing is replaced", Xchgd, replaces=False),
    Row("nginx", "keep-alive, `return 200`; USR2, WINCH, QUIT", Nginx, "nginx-http"),
    Row("haproxy", "keep-alive, `http-request return`; -x, -sf", Haproxy, "haproxy-http"),
]


def end_everything():
    """End each process that a run has left. All are children of the runner, or become such (PR_SET_CHILD_SUBREAPER)."""
    for pid in processes.family(os.getpid())[1:]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def one_run(options, row, seconds_without):
    """The clients' report of one run, with the seconds of the replacement and what the server says of it."""
    cpu_server, cpu_load = machine.cpus()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="xchg-bench-", ignore_cleanup_errors=True))
        stack.callback(end_everything)
        server = row.kind(options, folder, {cpu_server})
        stack.callback(lambda: [child.stop() for child in server.children])
        line = [os.path.join(options.build, "peers", "ping_clients"), "-c", str(options.connections), "-n", str(options.newcomers),
                "-R", str(options.rate), *server.load, str(server.port)]
        clients = processes.Child(line, cpus={cpu_load}, stdin=subprocess.PIPE)
        stack.callback(clients.stop)
        clients.hear("running", REPORT_LIMIT)
        time.sleep(options.before)  # the pings of the phase `before`
        begun = time.monotonic()
        clients.tell("s")
        said = {}
        if row.replaces:
            said = server.replace()
        else:
            time.sleep(seconds_without)
        seconds = time.monotonic() - begun
        clients.tell("e")
        time.sleep(options.connections / options.rate + 0.2)  # a ping of each client
        clients.tell("q")
        report = json.loads("{" + clients.hear("{", REPORT_LIMIT))
    return report | said | {"seconds": seconds}


def figures(report):
    """The figures of a run."""
    phases = [report["before"], report["move"], report["after"]]
    found = {name: report[name] for name in ("wrong", "refused", "seconds")}
    found["lost"] = sum(report[name] for name in ("closed", "reset", "cut", "unanswered"))
    found["unanswered_pings"] = sum(report[name] for name in ("reset", "cut", "unanswered"))
    found["skipped"] = sum(phase["skipped"] for phase in phases)
    found["p99_before_ms"] = report["before"]["residents"]["p99_us"] / 1e3
    found["p99_move_ms"] = report["move"]["residents"]["p99_us"] / 1e3
    found["longest_ms"] = max(phase["residents"]["max_us"] for phase in phases[1:]) / 1e3
    found["longest_new_ms"] = max(phase["newcomers"]["max_us"] for phase in phases[1:]) / 1e3
    found["old_lives"] = report.get("old_lives", False)
    for name in ("moved", "stayed", *FROZEN):
        found[name] = report.get(name)
    return found


SHOWN = {"p99_before_ms": "p99 before ms", "p99_move_ms": "p99 during ms", "longest_ms": "longest ms", "longest_new_ms": "longest, new ms",
         "seconds": "s"}


def summarize(row, connections, runs):
    total = {"name": row.name, "about": row.about, "connections": connections, "runs": len(runs)}
    for name in ("lost", "unanswered_pings", "refused", "wrong", "skipped"):
        total[name] = sum(run[name] for run in runs)
    for name in (*SHOWN, *FROZEN):
        total[name] = stats.spread(run[name] for run in runs)
    total["old_lives"] = sum(run["old_lives"] for run in runs)
    return total


def show(spread, digits):
    return "-" if spread is None else f"{spread['median']:.{digits}f} [{spread['low']:.{digits}f}-{spread['high']:.{digits}f}]"


def table(totals):
    rows = [["server", "runs", "lost of", "", "pings lost", "refused", "wrong", *SHOWN.values()]]
    for t in totals:
        rows.append([t["name"], t["runs"], f"{t['lost']:,}", f"{t['connections'] * t['runs']:,}", f"{t['unanswered_pings']:,}", f"{t['refused']:,}", t["wrong"],
                     *(show(t[name], 2 if name == "seconds" else 1) for name in SHOWN)])
    return stats.columns(rows, lambda i: 0 < i < 7)


def verdicts(options, totals):
    """What is promised of xchgd: (text, verdict) for each."""
    found = []
    for t in totals:
        if t["name"] != "xchgd":
            continue
        good = t["lost"] == t["refused"] == t["wrong"] == t["unanswered_pings"] == 0
        found.append(("xchgd: nothing is lost, refused or wrong", "pass" if good else "FAIL"))
        for name, limit, text in (("p99_move_ms", P99_MS, "p99 during at most 10 ms"), ("longest_ms", LONGEST_MS, "longest at most 50 ms"),
                                  ("seconds", SECONDS, "all within a second")):
            text = "xchgd: " + text
            found.append((text, "shown" if options.short else stats.verdict(t[name]["low"], t[name]["high"], limit)))
    return found


def measure(options, rows):
    """The runs of each row, and the failures."""
    runs, failures, seconds_without = {row.name: [] for row in rows}, [], 0.3
    for i in range(options.rounds):
        for row in rows if i % 2 == 0 else reversed(rows):
            try:
                found = figures(one_run(options, row, seconds_without))
            except Failure as failure:
                failures.append(f"{row.name}, round {i + 1}: {failure}")
                continue
            runs[row.name].append(found)
            if row.name == "xchgd":
                seconds_without = found["seconds"]
    return runs, failures


def save(options, rows, runs, failures):
    """Write and print the results; the exit code."""
    folder = os.path.join(options.build, "bench-upgrade")
    os.makedirs(folder, exist_ok=True)
    totals = [summarize(row, options.connections, runs[row.name]) for row in rows if runs[row.name]]
    judged = verdicts(options, totals)
    lines = [table(totals)]
    for t in totals:
        if t["frozen_us_max"]:
            times = ", ".join(f"{name} {show(t[f'frozen_us_{name}'], 0)}" for name in ("p50", "p99", "max"))
            lines.append(f"{t['name']}: us in which a connection was in no process: {times}")
        if t["old_lives"]:
            lines.append(f"{t['name']}: the old process still served clients after {REPLACE_LIMIT:.0f} s in {t['old_lives']} of {t['runs']} runs")
    lines += [f"{text}: {verdict}" for text, verdict in judged] + failures
    text = "\n".join(lines)
    with open(os.path.join(folder, "upgrade.json"), "w") as stream:
        json.dump({"schema": 1, "rate": options.rate, "machine": machine.describe(), "runs": runs, "servers": totals}, stream, indent=1)
    with open(os.path.join(folder, "upgrade.txt"), "w") as stream:
        stream.write(text + "\n")
    print(text)
    return 1 if failures or any(verdict == "FAIL" for _, verdict in judged) else 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each row (7)")
    parser.add_argument("--connections", type=int, default=10000, help="clients that stay (10000, or what the limit of descriptors allows)")
    parser.add_argument("--rate", type=int, default=5000, help="pings a second (5000)")
    parser.add_argument("--only", default="", help="rows: " + ",".join(row.name for row in ALL))
    parser.add_argument("--short", action="store_true", help="200 clients, one round: a test of the runner, no time is judged")
    options = parser.parse_args()
    options.before, options.newcomers = BEFORE_SECONDS, NEWCOMERS
    if options.short:
        options.rounds, options.connections, options.rate, options.before, options.newcomers = 1, 200, 1000, 0.2, 10
    options.connections = machine.affordable(options.connections)
    unknown = set(filter(None, options.only.split(","))) - {row.name for row in ALL}
    if unknown or options.rounds < 1 or options.connections < 1 or options.rate < 1:
        parser.error(f"unknown: {', '.join(sorted(unknown))}" if unknown else "the numbers must be at least 1")
    return options


def main():
    options = parse()
    only, rows = set(filter(None, options.only.split(","))), []
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for row in ALL:
        why = None if only and row.name not in only else row.missing(options.build)
        if why:
            print(f"{row.name} is skipped: {why}")
        elif not only or row.name in only:
            rows.append(row)
    print(f"{options.connections:,} clients, {options.rate:,} pings a second, {options.rounds} rounds", flush=True)
    return save(options, rows, *measure(options, rows))


if __name__ == "__main__":
    sys.exit(main())
