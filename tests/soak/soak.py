#!/usr/bin/env python3
"""Runs a mixed load with changing faults against five servers: nothing may grow, be lost or be late.

    tests/soak/soak.py [--minutes 10 | --seconds 5] [--seed n]      (XCHGD = the program; make soak MINUTES=n)

The servers are xchgd as `echo`, `greet`, `line` and `u32` echo, and docs/examples/chat.c if it is built.
The seed determines each client (load.py), so SEED=n repeats the same plan. The faults come in turn:
statistics, a log that is not read, no descriptors, more connections than the limit, hundreds of resets, a
stopped process, a storm of publications. At quiet points the load pauses.

Checked:
- every byte
- answers to a polite client within ANSWER_LIMIT, to a newcomer within NEWCOMER_LIMIT
- the number of threads in each sample, the number of descriptors at each quiet point
- memory (judge.py)
- the counters at the end, reason by reason, and exit code 0

Samples, one a second and server, go to build/soak/samples.csv.
"""

import argparse
import collections
import csv
import fcntl
import os
import random
import re
import resource
import signal
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(TOP, "tests", "live")]

from xchgd import LIMIT, PLAIN, PROGRAM, REASONS, SLOW, Server, check_totals, reset  # noqa: E402
import judge  # noqa: E402
import load  # noqa: E402

THREADS = 10
CONNECTIONS_MAX = 300
ANSWER_LIMIT = 1.0 * SLOW  # seconds, including the delays of a loaded machine
NEWCOMER_LIMIT = 2.0 * SLOW  # the same, while no descriptor is left for half a second
QUIET_SECONDS = 15
FAILURES_MAX = 10
F_SETPIPE_SZ = 1031  # <fcntl.h>
MEMORY = ("resident", "anonymous")


class Watched(Server):
    """A server that counts its clients' connections and whose log can be left unread, in a pipe of 4 KiB."""

    def __init__(self, name, **options):
        self.name = name
        self.connections = 0
        self.expected = collections.Counter()  # reasons; None if more than one is right
        self.reading = threading.Event()
        self.reading.set()
        super().__init__(**options)

    def _read(self, fd):
        fcntl.fcntl(fd, F_SETPIPE_SZ, 4096)
        super()._read(fd)

    def _take(self, line):
        self.reading.wait()
        super()._take(line)

    def wait_more(self, msg, known, seconds):
        """Wait at most ${seconds} for more than ${known} lines msg=${msg}. Returns their number."""
        with self._news:
            self._news.wait_for(lambda: self._fields and sum(f.get("msg") == msg for f in self._fields) > known, seconds)
        return len(self.messages(msg))

    def sample(self):
        """Descriptors, threads, resident and anonymous bytes."""
        with open(f"/proc/{self.pid}/smaps_rollup") as f:
            text = f.read()
        found = [int(re.search(rf"^{name}:\s+(\d+) kB", text, re.M).group(1)) * 1024 for name in ("Rss", "Anonymous")]
        return self.descriptors(), len(os.listdir(f"/proc/{self.pid}/task")), *found


def start_servers(count):
    """Start the servers. Returns {name: clients of it}."""
    common = dict(XCHG_MAX_MESSAGE=load.MAX_MESSAGE, XCHG_MAX_CONNECTIONS=CONNECTIONS_MAX, XCHG_MAX_PENDING="64KiB", XCHG_SNDBUF="32KiB",
                  XCHG_MESSAGE_TIMEOUT=f"{int(2000 * SLOW)}ms", XCHG_WRITE_TIMEOUT=f"{int(1000 * SLOW)}ms",
                  XCHG_IDLE_TIMEOUT=f"{int(3000 * SLOW)}ms", XCHG_LINGER=f"{int(3000 * SLOW)}ms", XCHG_WORKERS=2)
    endless = dict(common, XCHG_MESSAGES=0, XCHG_REPLY="echo")
    kinds = {
        "echo": load.Stream(Watched("echo", XCHG_EXCHANGE="echo", **common), count, "raw"),
        "greet": load.Greet(Watched("greet", **common), count),
        "line": load.Stream(Watched("line", XCHG_EXCHANGE="line", **endless), count, "line"),
        "u32": load.Stream(Watched("u32", XCHG_FRAME="u32", XCHG_GREETING="none", **endless), count, "u32"),
    }
    chat = os.path.join(os.path.dirname(PROGRAM), "examples", "chat")
    if os.access(chat, os.X_OK):
        common.pop("XCHG_MAX_MESSAGE")
        kinds["chat"] = load.Chat(Watched("chat", program=chat, **common), count)
    return kinds


class Soak:
    """The whole soak. One lock for everything that its threads share."""

    def __init__(self, options):
        self.options = options
        self.count = load.Count()
        self.kinds = start_servers(self.count)
        self.servers = [kinds.server for kinds in self.kinds.values()]
        self.news = threading.Condition()
        self.ended = self.paused = False
        self.index = self.active = 0
        self.done = collections.Counter()
        self.faults = collections.Counter()
        self.failures = []
        self.worst = {"answer": (0.0, ""), "newcomer": (0.0, "")}
        self.samples = []  # (seconds, server's name, descriptors, threads, resident, anonymous)
        self.begin = {}
        self.residents = {}  # one permanent connection to each server with an endless exchange
        self.parting = threading.Event()  # set after the last quiet point; the residents talk until then
        self.start = time.monotonic()

    def fail(self, what):
        with self.news:
            self.failures.append(f"{time.monotonic() - self.start:.1f} s: {what}")
            print(f"soak: {self.failures[-1]}", flush=True)
            if len(self.failures) >= FAILURES_MAX:
                self.ended = True
                self.news.notify_all()

    def tick(self, seconds):
        """Wait at most ${seconds}. True at the end of the soak."""
        with self.news:
            return self.news.wait_for(lambda: self.ended, seconds)

    # ---- the load ----

    def next_index(self):
        """The number of the next client, or None at the end. Waits while the soak is paused."""
        with self.news:
            self.news.wait_for(lambda: self.ended or not self.paused)
            if self.ended:
                return None
            self.index += 1
            self.active += 1
            return self.index

    def work(self):
        while (i := self.next_index()) is not None:
            chance = random.Random(f"{self.options.seed} {i}")
            kinds = self.kinds[chance.choice(list(self.kinds))]
            self.attempt(f"client {i}", kinds, lambda: kinds.run(chance))
            self.leave()

    def attempt(self, what, kinds, client):
        """Run one client and note how its connections must be counted."""
        try:
            name, reasons = client()
        except (AssertionError, OSError) as failure:
            self.fail(f"{what} of {kinds.server.name}: {type(failure).__name__}: {failure}")
            return
        with self.count.lock:
            kinds.server.expected.update(reasons)
            self.done[f"{kinds.server.name}/{name}"] += 1

    # ---- residents and newcomers ----

    def measure(self, what, limit, server, start):
        took = time.monotonic() - start
        if took > self.worst[what][0]:
            self.worst[what] = (took, server.name)
        if took > limit:
            self.fail(f"{server.name}: {what} after {took:.2f} s")

    def reside(self):
        for turn in range(1 << 62):
            for name, talk in self.residents.items():
                start = time.monotonic()
                self.attempt("the resident", self.kinds[name], lambda: (self.kinds[name].brief(talk), ("resident", []))[1])
                self.measure("answer", ANSWER_LIMIT, self.kinds[name].server, start)
            if turn % 10 == 0 and self.enter():
                for kinds in self.kinds.values():
                    self.attempt("a newcomer", kinds, lambda: self.newcomer(kinds))
                self.leave()
            if self.parting.wait(0.02):
                return

    def enter(self):
        """True if a newcomer may connect now."""
        with self.news:
            self.active += not (self.ended or self.paused)
            return not (self.ended or self.paused)

    def leave(self):
        with self.news:
            self.active -= 1
            self.news.notify_all()

    def newcomer(self, kinds):
        start = time.monotonic()
        with kinds.talk() as talk:
            kinds.brief(talk)
        self.measure("newcomer", NEWCOMER_LIMIT, kinds.server, start)
        return "newcomer", ["finished"]

    # ---- faults ----

    def statistics(self, kinds, _):
        values = kinds.server.stats()
        check_totals(values)

    def unread_log(self, kinds, _):
        """Ask for more statistics than the log's pipe holds. They are lost or late, and no client waits."""
        server = kinds.server
        server.reading.clear()
        for _ in range(20):
            server.process.send_signal(signal.SIGUSR1)
            if self.tick(0.05):
                break
        server.reading.set()
        self.synchronize(server)

    def synchronize(self, server):
        """Wait until a request has its own answer, after the unread lines have arrived or are lost."""
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            known = len(server.messages("stats"))
            server.process.send_signal(signal.SIGUSR1)
            more = server.wait_more("stats", known, 0.5)
            if more == known + 1 and server.wait_more("stats", more, 0.1) == more:
                return
        raise AssertionError("no statistics after the log was read again")

    def no_descriptors(self, kinds, _):
        """For half a second new clients find no descriptor. They are served afterwards."""
        server = kinds.server
        hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)[1]
        soft = resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (self.begin[server.name] + 3, hard))[0]
        try:
            self.attempt("no descriptors", kinds, lambda: self.crowd(kinds, 40, lambda: self.tick(0.4), resource.prlimit, server.pid,
                                                                     resource.RLIMIT_NOFILE, (soft, hard)))
        finally:
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (soft, hard))

    def crowd(self, kinds, size, meanwhile=None, then=None, *arguments):
        """Connect ${size} clients one after the other, then serve each. Those over the limit are served as others
        leave."""
        talks = []
        try:
            for _ in range(size):
                talks.append(load.Talk(kinds.connect(), self.count))
            if meanwhile:
                meanwhile()
                then(*arguments)
            for talk in talks:
                kinds.brief(talk)
                talk.client.close()
        finally:
            for talk in talks:
                talk.client.close()
        return "crowd", ["finished"] * size

    def over_the_limit(self, kinds, chance):
        self.attempt("over the limit", kinds, lambda: self.crowd(kinds, CONNECTIONS_MAX + chance.randrange(50)))

    def resets(self, kinds, _):
        def all_at_once():
            clients = [kinds.connect() for _ in range(100)]
            for client in clients:
                client.setblocking(True)
                client.send(b"x")
            for client in clients:
                reset(client)
            return "resets", [None] * 100  # in the greet exchange some end as peer
        self.attempt("resets", kinds, all_at_once)

    def stopped(self, kinds, _):
        kinds.server.pause()
        try:
            self.tick(0.2)
        finally:
            kinds.server.resume()

    def storm(self, _, chance):
        if "chat" in self.kinds:
            self.attempt("storm", self.kinds["chat"], lambda: ("storm", self.kinds["chat"].storm(chance)))

    def direct(self):
        """Provoke the faults in the order of the seed, with quiet points in between."""
        chance = random.Random(f"{self.options.seed} faults")
        kinds_of_fault = (self.statistics, self.unread_log, self.no_descriptors, self.over_the_limit, self.resets, self.stopped, self.storm)
        plan = []
        quiet = time.monotonic() + min(QUIET_SECONDS, self.options.seconds / 2)
        while not self.tick(chance.uniform(0.05, 0.4)):
            if not plan:
                plan = [(fault, name) for fault in kinds_of_fault for name in self.kinds]
                chance.shuffle(plan)
            fault, name = plan.pop()
            try:
                fault(self.kinds[name], chance)
                self.faults[fault.__name__] += 1
                if time.monotonic() >= quiet and not self.ended:
                    self.be_quiet()
                    quiet = time.monotonic() + QUIET_SECONDS
            except (AssertionError, OSError) as failure:
                self.fail(f"{fault.__name__} of {name}: {type(failure).__name__}: {failure}")

    # ---- samples ----

    def be_quiet(self):
        """Pause the load. Only the connections that were open at the start may be open."""
        with self.news:
            self.paused = True
            if not self.news.wait_for(lambda: self.active == 0, 2 * LIMIT):
                raise AssertionError(f"{self.active} clients never end")
        try:
            for kinds in self.kinds.values():
                residents = int(kinds.server.name in self.residents)
                kinds.server.wait_stats(lambda values: values["open"] == residents)
                found, wanted = kinds.server.descriptors(), self.begin[kinds.server.name] + residents
                if found != wanted:
                    raise AssertionError(f"{kinds.server.name}: {found} descriptors at a quiet point, {wanted} at the beginning")
            self.faults["quiet points"] += 1
        finally:
            with self.news:
                self.paused = False
                self.news.notify_all()

    def sample(self):
        """Take a sample of each server every second. The number of threads must not change."""
        threads = {}
        due = time.monotonic()
        while not self.tick(max(due - time.monotonic(), 0)):
            due += 1
            for server in self.servers:
                values = server.sample()
                self.samples.append((time.monotonic() - self.start, server.name, *values))
                if threads.setdefault(server.name, values[1]) != values[1]:
                    self.fail(f"{server.name}: {values[1]} threads, {threads[server.name]} before")
            if len(self.samples) % (60 * len(self.servers)) == 0:
                minutes = (time.monotonic() - self.start) / 60
                print(f"soak: {minutes:.0f} of {self.options.seconds / 60:.0f} min, {self.count.connections:,} connections, "
                      f"{self.count.bytes / 1e6:,.0f} MB compared, {sum(self.faults.values())} faults, {len(self.failures)} failures; "
                      f"worst answer {self.worst['answer'][0]:.3f} s, newcomer {self.worst['newcomer'][0]:.3f} s", flush=True)

    # ---- from start to end ----

    def run(self):
        for server in self.servers:
            self.begin[server.name] = server.descriptors()
        self.residents = {name: load.Talk(kinds.connect(), self.count) for name, kinds in self.kinds.items() if isinstance(kinds, load.Stream)}
        works = [self.work] * THREADS + [self.direct, self.sample]
        threads = [threading.Thread(target=self.guard, args=(work,), daemon=True) for work in works]
        resident = threading.Thread(target=self.guard, args=(self.reside,), daemon=True)
        for thread in (*threads, resident):
            thread.start()
        try:
            self.tick(self.options.seconds)
        finally:
            with self.news:
                self.ended = True
                self.news.notify_all()
            for thread in threads:
                thread.join(3 * LIMIT)
        if any(thread.is_alive() for thread in threads):
            self.fail("a client does not come to an end")
            return
        self.guard(self.be_quiet)
        self.parting.set()
        resident.join(3 * LIMIT)
        if resident.is_alive():
            self.fail("the residents do not come to an end")
            return
        for name, talk in self.residents.items():
            talk.client.close()
            self.kinds[name].server.expected["finished"] += 1

    def guard(self, work):
        """An exception in a thread is a failure of the run."""
        try:
            work()
        except Exception as failure:
            self.fail(f"{work.__name__}: {type(failure).__name__}: {failure}")
            with self.news:
                self.ended = True
                self.news.notify_all()

    def finish(self):
        """Stop the servers and compare the counters, reason by reason."""
        for server in self.servers:
            try:
                totals = server.stop()
            except AssertionError as failure:
                self.fail(f"{server.name}: {failure}")
                continue
            found = {reason: totals[f"closed_{reason}"] for reason in REASONS} | {"finished": totals["finished"]}
            unclear = server.expected.pop(None, 0)
            over = {reason: number - server.expected[reason] for reason, number in found.items() if number != server.expected[reason]}
            wrong = totals["accepted"] != server.connections or min(over.values(), default=0) < 0 or sum(over.values()) != unclear
            if wrong and not self.failures:
                self.fail(f"{server.name}: accepted {totals['accepted']} of {server.connections}, "
                          f"over what was expected {over} (any: {unclear})")

    def verdicts(self):
        """Judge the memory of each server."""
        for server in self.servers:
            rows = [row for row in self.samples if row[1] == server.name]
            times = [row[0] for row in rows]
            for column, what in zip((4, 5), MEMORY):
                values = [row[column] for row in rows]
                verdict = judge.judge(times, values) if PLAIN else None
                if verdict is None:
                    print(f"  {server.name:5} {what:9} not judged: {len(values)} samples{'' if PLAIN else ', and not the plain build'}")
                    continue
                print(f"  {server.name:5} {what:9} {min(values) / 1024:6.0f} to {max(values) / 1024:6.0f} KiB: {verdict}: "
                      f"{'flat' if verdict.flat else 'GROWS'}")
                if not verdict.flat:
                    self.fail(f"{server.name}: {what} memory grows: {verdict}")

    def save(self):
        folder = os.path.join(TOP, "build", "soak")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "samples.csv"), "w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("seconds", "server", "descriptors", "threads", *MEMORY))
            writer.writerows((f"{row[0]:.2f}", *row[1:]) for row in self.samples)

    def report(self):
        descriptors = max((row[2] for row in self.samples), default=0)
        print("  faults: " + ", ".join(f"{name} {number}" for name, number in sorted(self.faults.items())))
        print("  clients: " + ", ".join(f"{name} {number}" for name, number in sorted(self.done.items())))
        for failure in self.failures:
            print(f"  failed: {failure}")
        waits = ", ".join(f"worst {what} {seconds:.3f} s ({name})" for what, (seconds, name) in self.worst.items())
        print(f"soak: {'FAIL' if self.failures else 'ok'}: {time.monotonic() - self.start:.0f} s, seed={self.options.seed}, "
              f"{self.count.connections:,} connections, {self.count.bytes / 1e6:,.0f} MB compared, at most {descriptors} descriptors, {waits}",
              flush=True)
        return 1 if self.failures else 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seconds", type=float, default=None)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED") or random.randrange(1 << 32)))
    options = parser.parse_args()
    options.seconds = options.minutes * 60 if options.seconds is None else options.seconds
    return options


def main():
    options = parse()
    print(f"soak: SEED={options.seed}", flush=True)
    sys.setswitchinterval(0.001)  # so that clients do not wait for our own threads
    soak = Soak(options)
    try:
        soak.run()
        soak.finish()
        soak.verdicts()
    finally:
        for server in soak.servers:
            server.__exit__()
        soak.save()
    return soak.report()


if __name__ == "__main__":
    sys.exit(main())
