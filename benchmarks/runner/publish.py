"""What is published to a group: how often it is copied, whom it wakes, what it takes in memory and time.

The server is tests/live/publish_server.c, which publishes on its main thread and counts; the members are this process.
"""

import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time

import machine
import processes
import stats
from connections import TIME_LIMIT, connect, exchange_all, receive, resident_bytes, wait_until
from rows import Absent, missing, row
from servers import Failure

GROUP = 1


def environment(**settings):
    """Of a server of ours, with no setting but these."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("XCHG_")}
    return env | {"XCHG_LISTEN": "127.0.0.1:0", "XCHG_STOP_GRACE": "0", "XCHG_DRAIN_TIMEOUT": "0"} | settings


class Publisher:
    """tests/live/publish_server: it listens, and obeys orders on its standard input."""

    def __init__(self, options, **settings):
        settings |= {"XCHG_IDLE_TIMEOUT": "0", "XCHG_WRITE_TIMEOUT": "0", "XCHG_WORKERS": str(options.workers)}
        self.clients, self.unread = [], {}
        self.process = subprocess.Popen([os.path.join(options.build, "tests/live/publish_server")], env=environment(**settings),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1,
                                        start_new_session=True, preexec_fn=processes.prepare(None, False))
        try:
            self.port = int(self.hear("listening").rsplit(":", 1)[1])
        except BaseException:
            self.stop()
            raise

    def hear(self, word):
        """The rest of a line that begins so. Whole lines come, one for each order."""
        if not select.select([self.process.stdout], [], [], TIME_LIMIT)[0]:
            raise Failure("the publisher does not answer")
        line = self.process.stdout.readline().strip()
        if line.split(" ")[0] != word:
            raise Failure(f"the publisher says {line!r}")
        return line

    def numbers(self, order):
        self.process.stdin.write(order + "\n")
        return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", self.hear(order))}

    def publish(self, number, size):
        self.process.stdin.write(f"publish {GROUP} {number} {size}\n")
        self.hear("published")

    def join(self, count, rcvbuf=None):
        for index in range(count):
            self.clients.append(connect(self.port, index, rcvbuf))
        exchange_all(self.clients, b"join %d skip\n" % GROUP, b"joined\n")

    def stop(self):
        processes.end(self.process)
        for client in self.clients:
            client.close()


def reach_all(publisher, size, rounds):
    """Publish so often, each time until all members have it: the seconds that each took, and its counts."""
    seconds, counts = [], []
    with select.epoll() as epoll:
        for client in publisher.clients:  # edge-triggered: each tells once that it has something, and is read later
            epoll.register(client.fileno(), select.EPOLLIN | select.EPOLLET)
        for number in range(rounds):
            time.sleep(0.05)  # so that all workers sleep
            reached, begun = set(), time.monotonic()
            publisher.publish(number, size)
            while len(reached) < len(publisher.clients):
                events = epoll.poll(TIME_LIMIT, len(publisher.clients))
                if not events:
                    raise Failure("a member does not get what was published")
                reached.update(fd for fd, _ in events)
            seconds.append(time.monotonic() - begun)
            counts.append(publisher.numbers("counts"))
            for client in publisher.clients:
                if receive(client, size)[:8] != b"%08d" % number:
                    raise Failure("a member got something else")
    return seconds, counts


def traced_wakes(publisher, size, rounds):
    """The eventfd writes of the whole process per publish, as strace sees them."""
    with tempfile.TemporaryDirectory(prefix="xchg-bench-") as folder:
        path = os.path.join(folder, "strace")
        trace = processes.start(["strace", "-f", "-e", "trace=write", "-o", path, "-p", str(publisher.process.pid)], stderr=subprocess.PIPE,
                                priority=False)
        try:
            trace.stderr.readline()  # it has attached, or it says why not
            reach_all(publisher, size, rounds)
            trace.send_signal(signal.SIGINT)
            trace.wait(TIME_LIMIT)
        finally:
            processes.end(trace)
        text = machine.read(path, "")
    if len(re.findall(r'write\(1, "published', text)) != rounds:
        raise Failure("strace did not see what was published")
    return len(re.findall(r'write\(\d+, "\\1(?:\\0){7}", 8', text)) / rounds


def publish_many(options):
    """What one publication to many members costs."""
    members, rounds, size = min(options.members, machine.descriptors() - 1500), 20, 1024
    title = f"publish of 1 KiB to {members:,} members"
    publisher = Publisher(options)
    try:
        publisher.join(members)
        seconds, counts = reach_all(publisher, size, rounds)
        for name, what in (("copies", "copies of the message"), ("allocations", "allocations of its size")):
            yield row(f"{title}: {what}", max(each[name] for each in counts), most=1, note=f"the most of {rounds}")
        wakes = [each["wakes"] for each in counts]
        note = f"{options.workers} workers; the most of {rounds}; by the publishing thread; the median is {stats.median(wakes):g}"
        yield row(f"{title}: wakes", max(wakes), most=options.workers, note=note)
        try:
            if shutil.which("strace") is None:
                raise Absent("strace is not installed")
            yield row(f"{title}: eventfd writes that strace sees", traced_wakes(publisher, size, rounds), most=options.workers,
                      note=f"the mean of {rounds}; by all threads")
        except (Failure, OSError, subprocess.TimeoutExpired) as problem:
            yield missing(f"{title}: eventfd writes that strace sees", problem)
        yield row(f"{title}: until the last has it", stats.median(seconds) * 1e3, unit="ms", note=f"the median of {rounds}")
    finally:
        publisher.stop()


def publish_large(options):
    """What one publication costs in memory while nobody reads it."""
    members, size = min(1000, machine.descriptors() - 1500), 1 << 20
    publisher = Publisher(options, XCHG_SNDBUF="4KiB")
    try:
        publisher.join(members, rcvbuf=4096)
        before = resident_bytes(publisher.process.pid)
        publisher.publish(1, size)
        wait_until(lambda: publisher.numbers("stats")["published"] == members, "published to all")
        yield row(f"publish of 1 MiB to {members:,} members that do not read: growth", (resident_bytes(publisher.process.pid) - before) / 1024,
                  most=2 * 1024 + members, unit="KiB", note="the target: 2 MiB, and 1 KiB a member")
    finally:
        publisher.stop()


def measure(options):
    for part in (publish_many, publish_large):
        try:
            yield from part(options)
        except (Failure, OSError) as problem:
            yield missing(part.__doc__.rstrip("."), problem)
