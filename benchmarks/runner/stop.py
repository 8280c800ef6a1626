#!/usr/bin/env python3
"""Who is lost when a server is stopped: xchgd beside nginx and HAProxy, each as its manual says to stop it gracefully.

    benchmarks/runner/stop.py --build build [--stops 500] [--others 100] [--only xchgd-greet,nginx-http] [--seed n] [--short]

Each stop has a server and clients of its own (peers/stop_clients, whose head says who is lost). The signal comes at a random moment
after each client has been served about once; the plan is drawn from the seed, which is printed. What the figures mean, and why the
same count is fair to all: benchmarks/README.md, section 8.

Into build/bench-stop: stop.json, and stop.txt, the table. Exit code 1 where xchgd lost a client, did not end with exit code 0,
or counted other exchanges than its clients had.
"""

import argparse
import collections
import json
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import machine
import processes
import servers

CLIENTS = 16
STOP_LIMIT = 60.0  # seconds from the signal to the last process's end
REPORT_LIMIT = 20.0
LOAD_SECONDS = (0.002, 0.06)  # from `running` to the signal
MESSAGE = bytes(range(97, 97 + 26)) * 2  # of xchgd's clients, its terminator not counted
HTTP_REQUEST = b"GET / HTTP/1.1\r\nHost: stop\r\nConnection: close\r\n\r\n"
GREETING = b"Message from server\0"
DATE_SIZE = len("Tue, 01 Jan 2030 00:00:00 GMT")


class Stoppable(servers.Running):
    """A server that is stopped by a signal, and watched until its last process has ended."""

    def stop_by(self, signum):
        """What it said, its exit code, and the seconds from the signal to the end."""
        start = time.monotonic()
        self.process.send_signal(signum)
        while self._read(start + STOP_LIMIT - time.monotonic()):
            if time.monotonic() > start + STOP_LIMIT:
                self._fail(f"not ended {STOP_LIMIT:.0f} s after the signal")
        code = self.process.wait(REPORT_LIMIT)
        return self._said.decode(errors="replace"), code, time.monotonic() - start


class Xchgd:
    """xchgd with an exchange of one message a connection."""

    def __init__(self, name, about, exchange, **texts):
        self.name, self.about, self.exchange, self.texts = name, about, exchange, texts
        self.signal = signal.SIGTERM

    def missing(self, build):
        return None if os.access(os.path.join(build, "xchgd"), os.X_OK) else "it is not built"

    def start(self, build, cpus):
        env = {k: v for k, v in os.environ.items()
               if not k.startswith("XCHG_") and k not in ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID")}
        env.update(XCHG_LISTEN="127.0.0.1:0", XCHG_MODEL="pool", XCHG_EXCHANGE=self.exchange)
        return Stoppable([os.path.join(build, "xchgd")], cpus=cpus, env=env, pattern="addr=", stream="stderr")

    def problem(self, said, code, report):
        """What was wrong besides lost clients, or None."""
        if code != 0:
            return f"exit code {code}"
        stopped = re.search(r"msg=stopped .*?accepted=(\d+) finished=(\d+)", said)
        if not stopped:
            return "it did not say `stopped`"
        counts = int(stopped.group(1)), int(stopped.group(2))
        if report["lost"] == 0 and counts != (report["exchanges"],) * 2:
            return f"accepted and finished {counts}, and the clients had {report['exchanges']} exchanges"
        return None


class Foreign:
    """An installed server, with one worker; command as in servers.py."""

    def __init__(self, name, about, program, signum, command, **texts):
        self.name, self.about, self.program, self.signal, self.command = name, about, program, signum, command
        self.texts = texts

    def missing(self, _):
        path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
        self.path = shutil.which(self.program, path=path)
        return None if self.path else f"{self.program} is not installed"

    def start(self, _, cpus):
        folder = tempfile.mkdtemp(prefix="xchg-stop-")
        try:
            port = servers.free_port()
            return Stoppable(self.command(self.path, folder, port), cpus=cpus, port=port, stream="stderr", folder=folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def problem(self, _said, _code, _report):
        return None


def with_master(command):
    """nginx as it is deployed: without a master process there is no graceful stop."""
    def make(path, folder, port):
        line = command(path, folder, port)
        with open(line[-1], "r+b") as conf:
            text = conf.read().replace(b"master_process off;", b"worker_processes 1;")
            conf.seek(0)
            conf.truncate()
            conf.write(text)
        return line
    return make


ALL = [
    Xchgd("xchgd-greet", "greeting, message, end; SIGTERM", "greet", greeting=GREETING, message=MESSAGE + b"\0"),
    Xchgd("xchgd-line", "message, answer, end; SIGTERM", "line", message=MESSAGE + b"\n", answer=MESSAGE + b"\n"),
    Foreign("nginx-stream", "`return` of the greeting, end; SIGQUIT", "nginx", signal.SIGQUIT,
            with_master(servers.nginx_stream), greeting=GREETING),
    Foreign("nginx-http", "`return 200`, Connection: close; SIGQUIT", "nginx", signal.SIGQUIT,
            with_master(servers.nginx_http), message=HTTP_REQUEST),
    Foreign("haproxy-http", "`http-request return`, Connection: close; SIGUSR1", "haproxy", signal.SIGUSR1,
            servers.haproxy_http, message=HTTP_REQUEST),
]


def learn(port, request):
    """The answer of a server of HTTP, to its end."""
    with socket.create_connection(("127.0.0.1", port), REPORT_LIMIT) as client:
        client.sendall(request)
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    if b" 200 " not in answer:
        raise servers.Failure(f"another answer than 200: {answer[:80]!r}")
    return answer


def clients_line(options, server, port):
    line = [os.path.join(options.build, "peers", "stop_clients"), "-c", str(CLIENTS)]
    texts = dict(server.texts)
    if texts.get("message") == HTTP_REQUEST:
        texts["answer"] = learn(port, HTTP_REQUEST)
        date = texts["answer"].find(b"\r\nDate: ")
        if date != -1:
            line += ["--any", f"{date + len('..Date: ')}:{DATE_SIZE}"]
    for name, text in texts.items():
        line += [f"--{name}", servers.escape(text)]
    return line + [str(port)]


class Crowd:
    """peers/stop_clients, started."""

    def __init__(self, line, cpus):
        stdin, self.orders = os.pipe()
        reader, writer = os.pipe()
        try:
            self.process = subprocess.Popen(line, stdin=stdin, stdout=writer, start_new_session=True,
                                            preexec_fn=processes.prepare(cpus, True))
        finally:
            os.close(stdin)
            os.close(writer)
        self.lines = os.fdopen(reader)

    def order(self, letter):
        os.write(self.orders, letter)

    def line(self):
        """The next line. It ends by itself soon after its last order, or is killed with the runner."""
        return self.lines.readline().strip()

    def expect(self, said):
        line = self.line()
        if line != said:
            raise servers.Failure(f"the clients said {line!r} instead of {said!r}")

    def close(self):
        os.close(self.orders)
        self.lines.close()
        processes.end(self.process)


def one_stop(options, server, load_seconds):
    """A server, its clients, and the stop; the clients' report with what the stop was."""
    cpu_server, cpu_load = machine.cpus()
    running = server.start(options.build, {cpu_server})
    try:
        crowd = Crowd(clients_line(options, server, running.port), {cpu_load})
        try:
            crowd.expect("running")
            time.sleep(load_seconds)  # the stimulus: the moment of the signal
            running.check()
            crowd.order(b"s")
            crowd.expect("counted")
            said, code, seconds = running.stop_by(server.signal)
            crowd.order(b"e")
            report = json.loads(crowd.line())
        finally:
            crowd.close()
    finally:
        running.stop()
    # What asked for the answer beforehand, or whether the port is open, was no client; xchgd has had none of these.
    report.update(seconds=seconds, code=code, problem=server.problem(said, code, report))
    return report


def summarize(server, reports):
    total = {"name": server.name, "about": server.about, "stops": len(reports),
             "seconds_median": round(statistics.median(r["seconds"] for r in reports), 4),
             "seconds_max": round(max(r["seconds"] for r in reports), 4),
             "codes": dict(collections.Counter(str(r["code"]) for r in reports)),
             "stops_with_loss": sum(r["lost"] > 0 for r in reports),
             "kinds": dict(sum((collections.Counter(r["kinds"]) for r in reports), collections.Counter())),
             "problems": [f"stop {i + 1}: {r['problem']}" for i, r in enumerate(reports) if r["problem"]]}
    for name in ("exchanges", "exchanges_stopping", "connected", "refused", "gave_up", "lost"):
        total[name] = sum(r[name] for r in reports)
    return total


def table(totals):
    head = ["server", "stops", "exchanges", "connected", "since the signal", "lost", "stops with loss", "s median", "s max", "exit codes", "how"]
    rows = [head]
    for t in totals:
        codes = ", ".join(f"{code} x {count}" for code, count in sorted(t["codes"].items()))
        how = ", ".join(f"{kind} {count}" for kind, count in t["kinds"].items() if count) or "-"
        rows.append([t["name"], t["stops"], t["exchanges"], t["connected"], t["exchanges_stopping"], t["lost"], t["stops_with_loss"],
                     f"{t['seconds_median']:.3f}", f"{t['seconds_max']:.3f}", codes, how])
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(head))]
    return "\n".join("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def measure(options, server, count, totals):
    """Stop it so often; what could not be done is a problem of its own, and three of them end its row."""
    chance = random.Random(f"{options.seed} {server.name}")
    reports, failures = [], []
    try:
        for i in range(count):
            load_seconds = chance.uniform(*LOAD_SECONDS)
            try:
                reports.append(one_stop(options, server, load_seconds))
            except servers.Failure as failure:
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
    """Write and print what there is; the exit code."""
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
    wanted = [server for server in chosen if isinstance(server, Xchgd)]
    good = len(ours) == len(wanted) and all(total["lost"] == 0 and not total["problems"] for total in ours)
    if wanted:
        print(f"xchgd lost {sum(total['lost'] for total in ours)} of {sum(total['connected'] for total in ours)} connected clients "
              f"in {sum(total['stops'] for total in ours)} stops: {'pass' if good else 'FAIL'}")
    return 0 if good else 1


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--stops", type=int, default=500, help="of xchgd, with each of its exchanges")
    parser.add_argument("--others", type=int, help="of each other server; a fifth of --stops")
    parser.add_argument("--only", default="", help="these rows: " + ",".join(server.name for server in ALL))
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--short", action="store_true", help="20 stops")
    options = parser.parse_args()
    options.stops = 20 if options.short else options.stops
    options.others = max(options.stops // 5, 10) if options.others is None else options.others
    options.seed = random.randrange(1 << 32) if options.seed is None else options.seed
    unknown = set(filter(None, options.only.split(","))) - {server.name for server in ALL}
    if unknown or options.stops < 1 or options.others < 1:
        parser.error(f"no such row: {', '.join(sorted(unknown))}" if unknown else "at least one stop")
    return options


def main():
    options = parse()
    only = set(filter(None, options.only.split(",")))
    chosen = [server for server in ALL if not only or server.name in only]
    print(f"{CLIENTS} looping clients, seed {options.seed}", flush=True)
    totals = []
    code = None
    try:
        for server in chosen:
            missing = server.missing(options.build)
            if missing:
                print(f"{server.name} is skipped: {missing}")
                continue
            measure(options, server, options.stops if isinstance(server, Xchgd) else options.others, totals)
    except KeyboardInterrupt:
        code = 130
    verdict = save(options, totals, chosen)
    return verdict if code is None else code


if __name__ == "__main__":
    sys.exit(main())
