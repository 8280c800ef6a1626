"""The cost of a publication to a group: copies, wakes, time and memory.

The server is tests/live/publish_server.c, which publishes on its main thread and counts. This process holds the members' connections.
"""

import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time

import limits
import machine
import servers
import stats
from connections import TIME_LIMIT, connect, exchange_all, memory_bytes, receive, wait_until
from counts import attach_strace
from processes import Failure

GROUP = 1


class Publisher(servers.Running):
    """tests/live/publish_server, which takes orders on its standard input, and the connections of its members."""

    name = "the publisher"

    def __init__(self, options, **settings):
        settings |= servers.QUICK_STOP | {"XCHG_IDLE_TIMEOUT": "0", "XCHG_WRITE_TIMEOUT": "0", "XCHG_WORKERS": str(options.workers)}
        self.clients = []
        super().__init__([os.path.join(options.build, "tests/live/publish_server")], pattern="listening", priority=False,
                         env=servers.environment(settings), stdin=subprocess.PIPE)

    def numbers(self, order):
        self.tell(order + "\n")
        return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", self.hear(order, TIME_LIMIT))}

    def publish(self, number, size):
        self.tell(f"publish {GROUP} {number} {size}\n")
        self.hear("published", TIME_LIMIT)

    def join(self, count, rcvbuf=None):
        for index in range(count):
            self.clients.append(connect(self.port, index, rcvbuf))
        exchange_all(self.clients, b"join %d skip\n" % GROUP, b"joined\n")

    def stop(self):
        super().stop()
        for client in self.clients:
            client.close()


def reach_all(publisher, size, rounds):
    """Publish several times, each time until every member has received it: the seconds and the counts of each."""
    seconds, counts = [], []
    with select.epoll() as epoll:
        for client in publisher.clients:  # edge-triggered: each member reports once, and is read later
            epoll.register(client.fileno(), select.EPOLLIN | select.EPOLLET)
        for number in range(rounds):
            time.sleep(0.05)  # until all workers sleep
            reached, begun = set(), time.monotonic()
            publisher.publish(number, size)
            while len(reached) < len(publisher.clients):
                events = epoll.poll(TIME_LIMIT, len(publisher.clients))
                if not events:
                    raise Failure("a member did not receive the publication")
                reached.update(fd for fd, _ in events)
            seconds.append(time.monotonic() - begun)
            counts.append(publisher.numbers("counts"))
            for client in publisher.clients:
                if receive(client, size)[:8] != b"%08d" % number:
                    raise Failure("a member received other bytes")
    return seconds, counts


def traced_wakes(publisher, size, rounds):
    """Eventfd writes of the whole process per publication, counted by strace."""
    with tempfile.TemporaryDirectory(prefix="xchg-bench-") as folder:
        path = os.path.join(folder, "strace")
        trace = attach_strace(publisher.pid, "-e", "trace=write", "-o", path)
        try:
            reach_all(publisher, size, rounds)
            trace.finish(signal.SIGINT, TIME_LIMIT)
        finally:
            trace.stop()
        text = machine.read(path, "")
    if len(re.findall(r'write\(1, "published', text)) != rounds:
        raise Failure("strace did not see the publications")
    return len(re.findall(r'write\(\d+, "\\1(?:\\0){7}", 8', text)) / rounds


def publish_many(options):
    """publish of 1 KiB to many members"""
    members, rounds, size = machine.affordable(options.members), 20, 1024
    title = f"publish of 1 KiB to {members:,} members"
    publisher = Publisher(options)
    try:
        publisher.join(members)
        seconds, counts = reach_all(publisher, size, rounds)
        for name, what in (("copies", "copies of the message"), ("allocations", "allocations of its size")):
            yield limits.line(limits.of(name), f"{title}: {what}", max(each[name] for each in counts), f"the maximum of {rounds}")
        wakes = [each["wakes"] for each in counts]
        note = f"{options.workers} workers; the maximum of {rounds}; by the publishing thread; the median is {stats.median(wakes):g}"
        yield limits.line(limits.of("wakes", target=options.workers), f"{title}: wakes", max(wakes), note)
        limit, what = limits.of("eventfd writes", target=options.workers), f"{title}: eventfd writes that strace sees"
        try:
            if shutil.which("strace") is None:
                raise servers.Absent("strace is not installed")
            yield limits.line(limit, what, traced_wakes(publisher, size, rounds), f"the mean of {rounds}; by all threads")
        except (Failure, OSError, subprocess.TimeoutExpired) as problem:
            yield limits.missing(limit, what, problem)
        yield limits.line(limits.of("publish time"), f"{title}: until the last member has it", stats.median(seconds) * 1e3, f"the median of {rounds}")
    finally:
        publisher.stop()


def publish_large(options):
    """memory for a publication of 1 MiB that no member reads"""
    members, size = machine.affordable(1000), 1 << 20
    publisher = Publisher(options, XCHG_SNDBUF="4KiB")
    try:
        publisher.join(members, rcvbuf=4096)
        before = memory_bytes(publisher.pid)
        publisher.publish(1, size)
        wait_until(lambda: publisher.numbers("stats")["published"] == members, "published to all")
        limit = limits.of("growth", target=limits.of("growth").target + members)
        yield limits.line(limit, f"publish of 1 MiB to {members:,} members that do not read: growth", (memory_bytes(publisher.pid) - before) / 1024,
                          "the target: 2 MiB, and 1 KiB a member")
    finally:
        publisher.stop()


def measure(options):
    for part in (publish_many, publish_large):
        try:
            yield from part(options)
        except (Failure, OSError) as problem:
            yield limits.missing(limits.of("wakes", target=0), part.__doc__, problem)
