"""Goal: the server survives a lack of resources (docs/fault-matrix.md, entries 52 to 61).

The resources are memory, descriptors, the log, clocks, CPU time, addresses and processes.
"""

import collections
import contextlib
import os
import resource
import select
import signal
import struct
import subprocess
import threading
import time
import unittest

from bench import kinds, measure
from clients import INSTRUMENTED, ended, serve, wait_read
from fault_matrix import LINES, SECOND, Cgroup, ask, covers_fault, folder, may_mount, meanwhile, own_mounts, settle, unharmed
from test_network import OwnNetwork
from xchgd import (GREETING, LIMIT, PLAIN, PROGRAM, SLOW, WRAP, Server, check_totals, is_closed, numbers, parse_logfmt,
                   receive_exactly)

MIB = 1 << 20


def wait_until(test, condition):
    deadline = time.monotonic() + LIMIT
    while not condition():
        os.sched_yield()
        test.assertLess(time.monotonic(), deadline)


@unittest.skipUnless(PLAIN, "needs an address space without a sanitizer or a wrap")
class Memory(unittest.TestCase):
    @covers_fault(52)
    def test_start(self):
        """Under any memory limit, the start either fails in order with a line or leads to a working server."""
        outcomes = {self.start_within(mib * MIB) for mib in (*range(8, 80, 2), *range(80, 320, 24), 4096)}
        self.assertIn(None, outcomes)
        self.assertIn(71, outcomes)

    @covers_fault(52)
    def test_start_with_little_less_than_it_needs(self):
        """The last thread that starts has its stack, and may lack memory for its first allocation."""
        little, enough = 8 * MIB, 4096 * MIB
        while enough - little > MIB // 4:
            middle = (little + enough) // 2
            little, enough = (little, middle) if self.start_within(middle) is None else (middle, enough)
        for less in range(24):
            self.assertEqual(self.start_within(little - less * MIB // 2), 71)

    def start_within(self, size):
        """Start a server with this much address space. Returns its exit code, or None if it serves."""
        with self.subTest(size=size), contextlib.ExitStack() as stack:
            server = stack.enter_context(serve(preexec=lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size)),
                                               wait=False, XCHG_WORKERS="4", **LINES))
            code = self.listens(server)
            if code is None:
                server.addresses = [server.wait_line("listening")["addr"]]
                with server.connect() as client:
                    try:
                        ask(client)
                    except (AssertionError, ConnectionError):  # there may be no memory left for a connection
                        server.wait_stats(lambda values: values["closed_memory"] > 0)
                self.assertEqual(server.stop()["accepted"], 1)
            else:
                self.assertIn(code, (71, 127), server.lines)  # 127: the loader cannot map a library
                self.assertTrue(server.lines)
            return code

    def listens(self, server):
        """Wait for the listening line. Returns the exit code if the server ends instead, else None."""
        try:
            server.wait_line("listening")
            return None
        except AssertionError:
            return server.process.wait(LIMIT)

    @covers_fault(52)
    def test_under_way(self):
        """With any amount of memory left, a connection is served or ends as `memory`. The process lives and serves
        later."""
        for model in ("pool", "iterative", "fork"):
            for left in (0, 128 << 10, 512 << 10, MIB, 3 * MIB, 6 * MIB):
                with self.subTest(model, left=left), serve(XCHG_MODEL=model, XCHG_WORKERS="1", XCHG_DENY="127.0.0.9",
                                                           XCHG_MAX_MESSAGE="1MiB", **LINES) as server:
                    with server.connect(source="127.0.0.9") as client:  # the acceptor has run and has served no client
                        self.assertTrue(is_closed(client))
                    before = server.descriptors()
                    with server.limited(resource.RLIMIT_AS, server.memory_bytes("VmSize") + left):
                        served = sum(self.echoes(server, size) for size in (2, 5000, 600_000) * 2)
                    with server.connect() as client:
                        ask(client)
                    refused = {"memory": 6 - served} if served < 6 else {}
                    self.assertEqual(ended(settle(server)), {"finished": served + 1, "denied": 1, **refused})
                    # A child may have served its client before the parent closes its copy of the descriptor.
                    wait_until(self, lambda: server.descriptors() == before)
                    server.stop()

    @covers_fault(52)
    def test_threads(self):
        """A thread without memory is started later. No thread crashes in its first steps, wherever the memory ends."""
        for left in range(0, 10 * MIB, 640 << 10):
            with self.subTest(left=left), serve(XCHG_MODEL="thread", XCHG_DENY="127.0.0.9", **LINES) as server:
                with server.connect(source="127.0.0.9") as client:  # the acceptor has run, and no thread of a connection has
                    self.assertTrue(is_closed(client))
                before = server.descriptors()
                with contextlib.ExitStack() as stack:
                    with server.limited(resource.RLIMIT_AS, server.memory_bytes("VmSize") + left):
                        clients = [stack.enter_context(server.connect()) for _ in range(10)]
                        for client in clients:
                            client.sendall(b"here\n")
                        server.wait_stats(lambda values: values["accepted"] >= 2)  # the first has its thread, or waits for one
                    served = sum(self.gets(client, b"here\n") for client in clients)
                with server.connect() as client:
                    ask(client)
                counts = {"finished": served + 1, "memory": 10 - served, "denied": 1}
                self.assertEqual(ended(settle(server)), {reason: count for reason, count in counts.items() if count})
                self.assertEqual(server.descriptors(), before)
                server.stop()

    def echoes(self, server, size):
        """True if a client gets its line of ${size} bytes back."""
        line = (size - 1) * b"l" + b"\n"
        with server.connect() as client:
            try:
                client.sendall(line)
            except ConnectionError:
                return False
            return self.gets(client, line)

    def gets(self, client, line):
        """True if this line arrives."""
        try:
            return receive_exactly(client, len(line)) == line
        except (AssertionError, ConnectionError):
            return False

    @covers_fault(53)
    def test_killed_for_memory(self):
        """Killed by the kernel in a small control group, the server starts again there on its address and serves."""
        group = Cgroup(self, "memory", limit_in_bytes=24 * MIB)
        listen = "127.0.0.1:0"
        for turn in range(3):
            with serve(preexec=group.join, XCHG_LISTEN=listen, XCHG_MAX_MESSAGE="1GiB", **LINES) as server:
                listen = server.addresses[0]
                with unharmed(server), server.connect() as client:
                    ask(client, b"x" * MIB + b"\n")
                with server.connect() as client:
                    with contextlib.suppress(ConnectionError):
                        for _ in range(64):
                            client.sendall(b"x" * MIB)
                    self.assertEqual(server.process.wait(LIMIT), -signal.SIGKILL)
                    self.assertTrue(is_closed(client))


class Descriptors(unittest.TestCase):
    CYCLES = 50 if INSTRUMENTED else 1000

    @covers_fault(54)
    def test_out_of_descriptors_and_back(self):
        """A thousand times: no descriptor leaks, every client is served in the end, the bystander notices nothing."""
        with serve(XCHG_WORKERS="2", **LINES) as server:
            first = server.stats()
            with unharmed(server) as ask_bystander:
                idle = server.descriptors()
                for cycle in range(self.CYCLES):
                    self.run_out(server, idle + 3, briefly=cycle % 2 == 1, ask_bystander=ask_bystander)
                values = settle(server, 1)
                self.assertGreater(values["accept_pauses"], first["accept_pauses"])
                self.assertEqual(server.descriptors(), idle)
            self.assertEqual(ended(server.stop()), {"finished": 6 * self.CYCLES + 2})

    def run_out(self, server, most, *, briefly, ask_bystander):
        """Six clients connect while the server may have ${most} descriptors: until they are served, or only
        ${briefly}."""
        with contextlib.ExitStack() as stack, contextlib.ExitStack() as limit:
            limit.enter_context(server.limited(resource.RLIMIT_NOFILE, most))
            clients = [stack.enter_context(server.connect()) for _ in range(6)]
            for client in clients:
                client.sendall(b"hello\n")
            ask_bystander()
            if briefly:
                limit.close()
            while clients:
                ready, _, _ = select.select(clients, [], [], LIMIT)
                self.assertTrue(ready, f"{len(clients)} clients are never served")
                for client in ready:
                    self.assertEqual(receive_exactly(client, 6), b"hello\n")
                    clients.remove(client)
                    client.close()


@covers_fault(55)
class Log(unittest.TestCase):
    @unittest.skipUnless(may_mount() and not WRAP, "needs the right to mount, and no wrap that writes")
    def test_full_file_system(self):
        """A log on a full file system loses lines. Their number is logged once there is space again."""
        path = folder(self)
        script = f"mount --make-rprivate /\nmount -t tmpfs -o size=16k none {path}\nexec 3>&2 2>>{path}/log"
        with serve(wrap=own_mounts(script), stderr=subprocess.DEVNULL, XCHG_LISTEN=f"unix:{path}/socket", **LINES) as server:
            inside = f"/proc/{server.pid}/root{path}"
            wait_until(self, lambda: "msg=listening" in self.text(f"{inside}/log"))
            server.addresses = [f"unix:{inside}/socket"]
            before = server.descriptors()
            with server.connect() as client:
                wait_until(self, lambda: self.signalled(server, client) and os.statvfs(inside).f_bavail == 0 and
                          os.stat(f"{inside}/log").st_size % 4096 == 0)
                for _ in range(20):
                    self.signalled(server, client)
                os.truncate(f"{inside}/log", 0)
                wait_until(self, lambda: self.signalled(server, client) and self.text(f"{inside}/log").count("msg=stats") > 1)
                with server.connect() as late:
                    ask(late)
            wait_until(self, lambda: server.descriptors() == before)
            self.assertIn("lines lost", self.text(f"{inside}/log"))
            server.stop()

    def text(self, path):
        try:
            with open(path, errors="backslashreplace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def signalled(self, server, client):
        """Ask for statistics twice, so that the first line is written or lost. The client is answered all the time."""
        for _ in range(2):
            server.process.send_signal(signal.SIGUSR1)
            ask(client)
            wait_until(self, lambda: not self.pending(server.pid) >> (signal.SIGUSR1 - 1) & 1)
        return True

    def pending(self, pid):
        """The mask of the signals that the process has not taken yet."""
        with open(f"/proc/{pid}/status") as f:
            return next(int(line.split()[1], 16) for line in f if line.startswith("ShdPnd:"))

    @unittest.skipIf(WRAP, "a wrap writes there as well")
    def test_stopped_reader(self):
        """A stopped reader of the log costs lines and nothing else. Later it reads how many."""
        path = f"{folder(self)}/log"
        with open(path, "wb") as out:
            reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=out)
        self.addCleanup(reader.wait)
        self.addCleanup(reader.kill)
        listen = f"unix:{os.path.dirname(path)}/socket"
        with serve(stderr=reader.stdin.fileno(), XCHG_LISTEN=listen, **LINES) as server:
            reader.stdin.close()
            wait_until(self, lambda: "msg=listening" in self.text(path))
            server.addresses = [listen]
            before = server.descriptors()
            with server.connect() as client:
                reader.send_signal(signal.SIGSTOP)
                for _ in range(150):  # lines of 900 bytes: more than a pipe holds
                    self.signalled(server, client)
                reader.send_signal(signal.SIGCONT)
                wait_until(self, lambda: self.signalled(server, client) and "lines lost" in self.text(path))
                with server.connect() as late:
                    ask(late)
            wait_until(self, lambda: server.descriptors() == before)
            server.stop()
            reader.wait(LIMIT)
            self.assertEqual(ended(self.totals(path)), {"finished": 2})

    def totals(self, path):
        """The totals of the last line of the log."""
        fields = parse_logfmt(self.text(path).splitlines()[-1])
        self.assertEqual(fields["msg"], "stopped")
        check_totals(numbers(fields))
        return numbers(fields)


CLOCK = os.path.join(os.path.dirname(PROGRAM), "tests", "live", "plugin", "clock.so")


class Clocks(unittest.TestCase):
    TIMEOUT = 0.6 * SLOW

    @unittest.skipUnless(os.path.exists(CLOCK) and PLAIN, "needs clock.so before any sanitizer's library")
    @covers_fault(56)
    def test_the_clock_jumps(self):
        """The wall clock jumps a day forward and a day back. No timeout fires early or late."""
        jump = f"{folder(self)}/jump"
        with open(jump, "wb") as f:
            f.write(bytes(8))

        def set_clock(days):
            with open(jump, "r+b") as f:
                f.write(struct.pack("q", days * 86400))
        wrap = ["env", f"LD_PRELOAD={CLOCK}", f"CLOCK_FILE={jump}"]
        with serve(wrap=wrap, XCHG_IDLE_TIMEOUT=f"{int(self.TIMEOUT * 1000)}ms", **LINES) as server:
            with unharmed(server) as ask_bystander:
                days = []
                for offset in (1, -1, 0):
                    start = time.monotonic()
                    with server.connect() as silent:
                        server.wait_stats(lambda values: values["open"] == 2)
                        late = time.monotonic()
                        set_clock(offset)
                        while not select.select([silent], [], [], 0.05)[0]:
                            ask_bystander()
                        self.assertTrue(is_closed(silent))
                    self.assertGreaterEqual(time.monotonic() - start, self.TIMEOUT)
                    self.assertLessEqual(time.monotonic() - late, self.TIMEOUT * 1.1 + 0.1 + SECOND)
                    server.stats()
                    days.append(server.messages("stats")[-1]["time"][:10])
                self.assertEqual(len(set(days)), 3, days)  # the time of the log did jump
            self.assertEqual(ended(server.stop()), {"finished": 2, "idle": 3})

    # The exchange, what a client sends before and during the pause, and how silent clients end.
    PAUSES = (({"XCHG_EXCHANGE": "echo"}, b"", b"b\n", "idle"), ({"XCHG_EXCHANGE": "line"}, b"a", b"b\n", "message"),
              (LINES, b"a", b"b\n", "idle"), (LINES, b"", b"during the pause\n", "idle"))

    def check_pause(self, pause, resume):
        """A pause longer than the timeouts: clients whose data has arrived are answered, silent ones are closed."""
        timeout = f"{int(self.TIMEOUT * 1000)}ms"
        for variables, before, during, reason in self.PAUSES:
            with self.subTest(variables, before=before), serve(XCHG_WORKERS="2", XCHG_IDLE_TIMEOUT=timeout, XCHG_MESSAGE_TIMEOUT=timeout,
                                                               **variables) as server, contextlib.ExitStack() as stack:
                idle = server.descriptors()
                clients = [stack.enter_context(server.connect()) for _ in range(100)]
                talking, silent = clients[:80], clients[80:]
                server.wait_stats(lambda values: values["open"] == 100)
                for client in talking:
                    client.sendall(before)
                server.wait_stats(lambda values, size=80 * len(before): values["bytes_in"] == size)
                pause(server)
                for client in talking:
                    client.sendall(during)
                time.sleep(3 * self.TIMEOUT)  # the length of the pause
                resume(server)
                start = time.monotonic()
                for client in talking:
                    self.assertEqual(receive_exactly(client, len(before + during)), before + during)
                    client.close()
                for client in silent:
                    self.assertTrue(is_closed(client))
                    client.close()
                self.assertLessEqual(time.monotonic() - start, SECOND)
                self.assertEqual(ended(settle(server)), {"finished": 80, reason: 20})
                self.assertEqual(server.descriptors(), idle)
                with server.connect() as client:
                    ask(client)
                server.stop()

    @covers_fault(57)
    def test_stopped(self):
        """A pause by SIGSTOP."""
        self.check_pause(Server.pause, Server.resume)

    @covers_fault(57)
    def test_stopped_in_the_drain(self):
        """A SIGSTOP beyond the end of the drain: a client whose data has arrived is answered before the rest is
        closed."""
        for model in ("pool", "iterative"):
            with self.subTest(model), serve(XCHG_MODEL=model, XCHG_DRAIN_TIMEOUT=f"{int(self.TIMEOUT * 2000)}ms", **LINES) as server:
                with server.connect() as client:
                    ask(client)
                    client.sendall(b"be")
                    wait_read([client])
                    server.process.send_signal(signal.SIGTERM)
                    server.wait_line("stopping")
                    server.pause()
                    client.sendall(b"gun\n")
                    time.sleep(2.5 * self.TIMEOUT)  # the length of the pause
                    server.resume()
                    self.assertEqual(receive_exactly(client, 6), b"begun\n")
                    self.assertTrue(is_closed(client))
                self.assertEqual(server.finish()["accepted"], 1)

    @covers_fault(57)
    def test_many_stopped_in_the_drain(self):
        """The same with 600 clients, whose data arrives in reverse order."""
        count = 600
        with serve(XCHG_WORKERS="1", XCHG_DRAIN_TIMEOUT=f"{int(self.TIMEOUT * 2000)}ms") as server, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.connect()) for _ in range(count)]
            for client in clients:
                receive_exactly(client, len(GREETING))
            server.process.send_signal(signal.SIGTERM)
            server.wait_line("stopping")
            server.pause()
            for client in reversed(clients):
                client.sendall(b"hello\0")
            time.sleep(2.5 * self.TIMEOUT)  # the length of the pause
            server.resume()
            totals = server.finish()
            self.assertEqual((totals["finished"], totals["cut"]), (count, 0))

    @covers_fault(57)
    def test_frozen(self):
        """A pause by the freezer of control groups."""
        group = Cgroup(self, "freezer")

        def freeze(server):
            group.add(server.pid)
            group.freeze()
        self.check_pause(freeze, lambda _: group.freeze("THAWED"))

    @unittest.skipUnless(PLAIN, "an instrumented program needs more CPU time")
    @covers_fault(58)
    def test_a_twentieth_of_a_cpu(self):
        """With 5 ms of CPU in each 100 ms, every answer is correct and no client is closed."""
        group = Cgroup(self, "cpu")
        group.write("cpu.cfs_period_us", 100000)
        group.write("cpu.cfs_quota_us", 5000)
        with serve(XCHG_WORKERS="2", **LINES) as server:
            group.add(server.pid)
            line = b"z" * 1000 + b"\n"
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(server.connect()) for _ in range(50)]
                rounds, deadline = 0, time.monotonic() + LIMIT
                while rounds < 100 or not self.throttled(group):  # on a busy machine it takes longer to use so much CPU time
                    self.assertLess(time.monotonic(), deadline, "it never needs a twentieth")
                    for client in clients:
                        client.sendall(line)
                    for client in clients:
                        self.assertEqual(receive_exactly(client, len(line)), line)
                    rounds += 1
            group.write("cpu.cfs_quota_us", -1)
            settle(server)
            with unharmed(server):
                pass
            self.assertEqual(server.remarks(), [])
            self.assertEqual(ended(server.stop()), {"finished": 52})

    def throttled(self, group):
        """How often the group had to wait for its next period."""
        return int(dict(line.split() for line in group.read("cpu.stat").splitlines())["nr_throttled"])


class Addresses(unittest.TestCase):
    @covers_fault(59)
    def test_a_flood_from_one_address(self):
        """One address connects as fast as it can, over its limit. Other addresses are served within a second."""
        with serve(XCHG_MAX_PER_IP="8", **LINES) as server, unharmed(server) as ask_bystander:
            held = [server.connect(source="127.0.0.2") for _ in range(8)]
            for client in held:
                ask(client)
            flood = collections.Counter()

            def pour():
                with server.connect(source="127.0.0.2") as client:
                    if not is_closed(client):
                        raise AssertionError("the ninth of an address is served")
                flood[threading.get_ident()] += 1
            with contextlib.ExitStack() as stack:
                for _ in range(3):
                    stack.enter_context(meanwhile(pour))
                for i in range(100):
                    with server.connect(source=f"127.0.0.{3 + i % 4}") as client:
                        ask(client)
                    ask_bystander()
                ask(held[0])
            for client in held:
                client.close()
            values = settle(server, 1)
            self.assertGreater(sum(flood.values()), 100)
            self.assertEqual(ended(values), {"finished": 108, "per_ip": sum(flood.values()), "open": 1})
            with server.connect(source="127.0.0.2") as client:
                ask(client)


class Ports(OwnNetwork):
    """A machine with ten ports for clients."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as f:
            f.write("50000 50009")

    @unittest.skipIf(INSTRUMENTED, "xchg-bench is measured in a release build")
    @covers_fault(60)
    def test_xchg_bench_runs_out_of_ports(self):
        """xchg-bench reports that its ports ran out. With more source addresses it has enough."""
        server = self.server(XCHG_LISTEN="127.0.0.1:7000", XCHG_EXCHANGE="echo", XCHG_STOP_GRACE="0")
        report = measure(server.addresses[0], "-x", "echo", "-c", 40, "-t", 1, "-d", "1s")
        self.assertEqual(list(kinds(report)), ["connect"])
        self.assertEqual(list(report["errors"]["errno"]), ["EADDRNOTAVAIL"])
        self.assertGreater(report["exchanges"], 0)
        settle(server)
        sources = ",".join(f"127.0.0.{i}" for i in range(2, 8))
        report = measure(server.addresses[0], "-x", "echo", "-c", 40, "-t", 1, "-n", 4000, "--bind", sources)
        self.assertEqual((kinds(report), report["exchanges"], report["connected"]), ({}, 4000, 40))
        settle(server)
        server.stop()


@covers_fault(61)
class Processes(unittest.TestCase):
    def test_no_more_processes(self):
        """The process limit is reached. Connected clients stay served, and new ones are served."""
        group = Cgroup(self, "pids")
        with serve(XCHG_WORKERS="2", **LINES) as server, unharmed(server) as ask_bystander:
            group.add(server.pid)
            group.write("pids.max", int(group.read("pids.current")))
            for _ in range(50):
                with server.connect() as client:
                    ask(client)
                ask_bystander()
            group.write("pids.max", "max")

    @unittest.skipIf(WRAP, "a wrap has threads of its own")
    def test_no_more_children(self):
        """Under the fork model new clients wait, the accepted one included. They are served once there is room."""
        group = Cgroup(self, "pids")
        with serve(XCHG_MODEL="fork", **LINES) as server:
            group.add(server.pid)
            with unharmed(server) as ask_bystander, contextlib.ExitStack() as stack:
                held = [stack.enter_context(server.connect()) for _ in range(3)]
                for client in held:
                    ask(client)
                group.write("pids.max", int(group.read("pids.current")))
                waiting = [stack.enter_context(server.connect()) for _ in range(5)]
                for client in waiting:
                    client.sendall(b"waiting\n")
                server.wait_stats(lambda values: values["accept_pauses"] > 0)
                ask_bystander()
                self.assertEqual(select.select(waiting, [], [], 0)[0], [])
                start = time.monotonic()
                group.write("pids.max", "max")
                for client in waiting:
                    self.assertEqual(receive_exactly(client, 8), b"waiting\n")
                self.assertLessEqual(time.monotonic() - start, SECOND)
            self.assertEqual(ended(server.stop()), {"finished": 8 + 2})
