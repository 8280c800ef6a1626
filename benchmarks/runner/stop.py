#!/usr/bin/env python3
"""Clients lost when a server is stopped: xchgd, nginx and HAProxy, each stopped gracefully as its manual says.

    benchmarks/runner/stop.py --build build [--stops 200] [--others 100] [--only xchgd-greet,nginx-http] [--as user,container]
                              [--seed n] [--short]

Each stop has its own server and its own clients (peers/stop_clients; its first comment defines a lost client). The signal comes at a
random moment after as many exchanges as there are clients. The moments depend only on the seed, which is printed. Each row of xchgd
runs with each of the rights that --as names (rights.py). In the row xchgd-half-open half of the handshakes are held back.
benchmarks/README.md, section 8, has the formulas and says why the count is fair to all servers.

Output in build/bench-stop: stop.json, and stop.txt, the table. Exit code 1 if xchgd lost a client, did not end with exit code 0, or
counted other exchanges than its clients.
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field

import machine
import processes
import rights
import servers
import stats
from http_load import learn
from processes import Failure

CLIENTS = 16
STOP_LIMIT = 60.0  # seconds from the signal to the end of the last process
REPORT_LIMIT = 20.0
LOAD_SECONDS = (0.002, 0.06)  # from `running` to the signal
MESSAGE = bytes(range(97, 97 + 26)) * 2  # of xchgd's clients, without its terminator
HTTP_REQUEST = b"GET / HTTP/1.1\r\nHost: stop\r\nConnection: close\r\n\r\n"


@dataclass
class Row:
    """A server, its exchange, and the signal that stops it."""
    name: str
    about: str
    server: object             # of servers.py
    exchange: str = "answer"
    texts: dict = field(default_factory=dict)  # options of stop_clients
    held: bool = False         # half of the handshakes are held back
    rights: str = ""           # of rights.py; "" = those of the runner

    @property
    def ours(self):
        return isinstance(self.server, servers.Xchgd)


def foreign(name, about, program, signum, command, **texts):
    return Row(name, about, servers.Foreign(name, about, program, program, command, signum), texts=texts)


ALL = [
    Row("xchgd-greet", "greeting, message, end of stream; SIGTERM", servers.Xchgd("xchgd", "", XCHG_MODEL="pool"), "greet",
        {"greeting": servers.GREETING, "message": MESSAGE + b"\0"}),
    Row("xchgd-line", "message, answer, end of stream; SIGTERM", servers.Xchgd("xchgd", "", XCHG_MODEL="pool"), "line",
        {"message": MESSAGE + b"\n", "answer": MESSAGE + b"\n"}),
    Row("xchgd-half-open", "as xchgd-line, with half of the handshakes held back; SIGTERM",
        servers.Xchgd("xchgd", "", XCHG_MODEL="pool", XCHG_STOP_GRACE="500ms"), "line",
        {"message": MESSAGE + b"\n", "answer": MESSAGE + b"\n"}, held=True),
    foreign("nginx-stream", "`return` of the greeting, end of stream; SIGQUIT", "nginx", signal.SIGQUIT,
            functools.partial(servers.nginx_stream, master=True), greeting=servers.GREETING),
    foreign("nginx-http", "`return 200`, Connection: close; SIGQUIT", "nginx", signal.SIGQUIT,
            functools.partial(servers.nginx_http, master=True), message=HTTP_REQUEST),
    foreign("haproxy-http", "`http-request return`, Connection: close; SIGUSR1", "haproxy", signal.SIGUSR1,
            servers.haproxy_http, message=HTTP_REQUEST),
]


def problem_of(row, said, code, report):
    """What was wrong with a stop of xchgd besides lost clients, or None."""
    if not row.ours:
        return None
    if code != 0:
        return f"exit code {code}"
    stopped = re.search(r"msg=stopped .*?accepted=(\d+) finished=(\d+)", said)
    if not stopped:
        return "it did not log `stopped`"
    counts = int(stopped.group(1)), int(stopped.group(2))
    if report["lost"] == 0 and counts != (report["exchanges"],) * 2:
        return f"accepted and finished {counts}, but the clients had {report['exchanges']} exchanges"
    return None


def clients_line(options, row, port):
    line = [os.path.join(options.build, "peers", "stop_clients"), "-c", str(CLIENTS)]
    texts = dict(row.texts)
    if texts.get("message") == HTTP_REQUEST:
        traffic = learn(port, HTTP_REQUEST)
        texts["answer"] = traffic.answer
        line += ["--any", "%d:%d" % traffic.any] if traffic.any else []
    for name, text in texts.items():
        line += [f"--{name}", servers.escape(text)]
    return line + [str(port)]


def one_stop(options, row, load_seconds):
    """Start a server and its clients, and stop the server; the clients' report, with the duration and exit code of the stop."""
    cpu_server, cpu_load = machine.cpus()
    running = row.server.start(options.build, row.exchange, {cpu_server})
    try:
        clients = processes.Child(clients_line(options, row, running.port), cpus={cpu_load}, stdin=subprocess.PIPE)
        try:
            clients.hear("running", REPORT_LIMIT)
            time.sleep(load_seconds)  # the moment of the signal is what varies
            running.check()
            clients.tell("s")
            clients.hear("counted", REPORT_LIMIT)
            half_open = rights.half_open(running.port) if row.held else 0
            said, code, seconds = running.finish(row.server.signum, STOP_LIMIT)
            clients.tell("e")
            report = json.loads("{" + clients.hear("{", REPORT_LIMIT))
        finally:
            clients.stop()
    finally:
        running.stop()
    # Connections of the runner itself, to learn an answer or to probe the port, are not counted. xchgd has had none.
    report.update(seconds=seconds, code=code, half_open=half_open, problem=problem_of(row, said, code, report))
    return report


def summarize(server, reports):
    total = {"name": server.name, "about": server.about, "stops": len(reports),
             "seconds_median": round(statistics.median(r["seconds"] for r in reports), 4),
             "seconds_max": round(max(r["seconds"] for r in reports), 4),
             "codes": dict(collections.Counter(str(r["code"]) for r in reports)),
             "stops_with_loss": sum(r["lost"] > 0 for r in reports),
             "kinds": dict(sum((collections.Counter(r["kinds"]) for r in reports), collections.Counter())),
             "problems": [f"stop {i + 1}: {r['problem']}" for i, r in enumerate(reports) if r["problem"]]}
    for name in ("exchanges", "exchanges_stopping", "connected", "half_open", "refused", "gave_up", "lost"):
        total[name] = sum(r[name] for r in reports)
    return total


def table(totals):
    head = ["server", "stops", "exchanges", "connected", "half-open", "since the signal", "lost", "stops with loss", "s median", "s max", "exit codes", "how"]
    rows = [head]
    for t in totals:
        codes = ", ".join(f"{code} x {count}" for code, count in sorted(t["codes"].items()))
        how = ", ".join(f"{kind} {count}" for kind, count in t["kinds"].items() if count) or "-"
        rows.append([t["name"], t["stops"], t["exchanges"], t["connected"], t["half_open"], t["exchanges_stopping"], t["lost"], t["stops_with_loss"],
                     f"{t['seconds_median']:.3f}", f"{t['seconds_max']:.3f}", codes, how])
    return stats.columns(rows, lambda i: False)


def measure(options, server, count, totals):
    """Stop a server ${count} times. The row ends after three stops that could not be measured."""
    chance = random.Random(f"{options.seed} {server.name}")
    reports, failures = [], []
    try:
        for i in range(count):
            load_seconds = chance.uniform(*LOAD_SECONDS)
            try:
                reports.append(one_stop(options, server, load_seconds))
            except Failure as failure:
                failures.append(f"stop {i + 1}: {failure}")
                if len(failures) == 3:
                    break
            if (i + 1) % 100 == 0:
                print(f"  {server.name}: {i + 1} stops, lost {sum(r['lost'] for r in reports)}", flush=True)
    finally:
        if reports:
            totals.append(summarize(server, reports))
            totals[-1]["problems"] += failures
        elif failures:
            print(f"{server.name}: {failures[-1]}")


def save(options, totals, chosen):
    """Write and print the results; the exit code."""
    folder = os.path.join(options.build, "bench-stop")
    os.makedirs(folder, exist_ok=True)
    text = table(totals)
    with open(os.path.join(folder, "stop.json"), "w") as stream:
        json.dump({"schema": 1, "seed": options.seed, "clients": CLIENTS, "machine": machine.describe(), "servers": totals}, stream, indent=1)
    with open(os.path.join(folder, "stop.txt"), "w") as stream:
        stream.write(text + "\n")
    print(text)
    for total in totals:
        for problem in total["problems"]:
            print(f"{total['name']}: {problem}")
    ours = [total for total in totals if total["name"].startswith("xchgd")]
    wanted = [server for server in chosen if server.ours]
    good = len(ours) == len(wanted) and all(total["lost"] == 0 and not total["problems"] for total in ours)
    if wanted:
        print(f"xchgd lost {sum(total['lost'] for total in ours)} of {sum(total['connected'] for total in ours)} connected clients "
              f"in {sum(total['stops'] for total in ours)} stops: {'pass' if good else 'FAIL'}")
    return 0 if good else 1


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--stops", type=int, default=200, help="stops of each xchgd row (200)")
    parser.add_argument("--others", type=int, help="stops of each other row (half of --stops)")
    parser.add_argument("--only", default="", help="rows: " + ",".join(server.name for server in ALL))
    parser.add_argument("--as", dest="rights", default="", metavar="RIGHTS",
                        help="rights of xchgd, one series for each: self,user,container (user,container as root, else self)")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--short", action="store_true", help="20 stops of each xchgd row, 10 of the others")
    options = parser.parse_args()
    options.stops = 20 if options.short else options.stops
    options.others = max(options.stops // 2, 10) if options.others is None else options.others
    options.seed = random.randrange(1 << 32) if options.seed is None else options.seed
    options.rights = options.rights.split(",") if options.rights else rights.default()
    unknown = set(filter(None, options.only.split(","))) - {server.name for server in ALL}
    unknown |= set(options.rights) - set(rights.RIGHTS)
    if unknown or options.stops < 1 or options.others < 1:
        parser.error(f"unknown: {', '.join(sorted(unknown))}" if unknown else "--stops and --others must be at least 1")
    return options


def with_rights(options, row):
    """The row as each server with its rights, or the row itself."""
    if not row.ours:
        return [row]
    rows = []
    for name in options.rights:
        server = servers.Xchgd(row.server.name, row.server.about, row.server.signum, **row.server.settings)
        server.prefix = rights.command(name)
        rows.append(dataclasses.replace(row, name=f"{row.name}/{name}", server=server, rights=name))
    return rows


def skipped(options, row, no_network):
    """Why a row cannot be measured here, or None."""
    why = row.server.missing(options.build)
    if not why and row.held:
        why = no_network
    if not why and row.rights:
        why = rights.missing(row.rights, os.path.abspath(os.path.join(options.build, "xchgd")))
    return why


def main():
    options = parse()
    only = set(filter(None, options.only.split(",")))
    chosen = [row for each in ALL if not only or each.name in only for row in with_rights(options, each)]
    no_network = rights.enter_network() if any(row.held for row in chosen) else None
    print(f"{CLIENTS} looping clients, seed {options.seed}", flush=True)
    totals = []
    code = None
    try:
        for row in chosen:
            why = skipped(options, row, no_network)
            if why:
                print(f"{row.name} is skipped: {why}")
                continue
            with rights.Held() if row.held else contextlib.nullcontext():
                measure(options, row, options.stops if row.ours else options.others, totals)
    except KeyboardInterrupt:
        code = 130
    verdict = save(options, totals, chosen)
    return verdict if code is None else code


if __name__ == "__main__":
    sys.exit(main())
