"""System calls of a loaded server, counted by perf's tracepoint if permitted, else by strace -c.

The count runs from before the first connection to the end of the load, so it includes the set-up of the connections. The difference of
two runs removes that part: calls per exchange = (calls of the long run - of the short run) / (exchanges of the long run - of the short run).
"""

import os
import re
import shutil
import signal
import subprocess

import processes

EVENT = "raw_syscalls:sys_enter"


class Perf:
    """perf attaches to the server and then starts the load itself."""

    name = "perf"
    longer = {"echo": 50000, "answer": 50000, "greet": 6000, "hello": 6000}  # additional exchanges of the long run

    @staticmethod
    def works():
        if shutil.which("perf") is None:
            return False
        done = subprocess.run(["perf", "stat", "-x", ",", "-e", EVENT, "true"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, timeout=30)
        return re.search(rf"^\d+,[^,]*,{EVENT}", done.stderr, re.M) is not None

    def __init__(self, pid, folder):
        self.path = os.path.join(folder, "perf")
        self.prefix = ["perf", "stat", "-x", ",", "-o", self.path, "-e", EVENT, "-p", str(pid)]

    def total(self):
        with open(self.path) as stream:
            found = re.search(rf"^(\d+),[^,]*,{EVENT}", stream.read(), re.M)
        return int(found.group(1)) if found else None

    def stop(self):
        pass


def attach_strace(pid, *options):
    """Start strace on a running process and wait until it has attached. SIGINT ends it."""
    child = processes.Child(["strace", "-f", *options, "-p", str(pid)], "stderr", priority=False)
    try:
        child.hear(" attached")
    except BaseException:
        child.stop()
        raise
    return child


class Strace:
    """strace attaches before the load starts. It slows the server down by a factor of ten."""

    name = "strace"
    longer = {"echo": 6000, "answer": 6000, "greet": 1000, "hello": 1000}
    prefix = []

    @staticmethod
    def works():
        return shutil.which("strace") is not None

    def __init__(self, pid, folder):
        self.path = os.path.join(folder, "strace")
        self.child = attach_strace(pid, "-c", "-o", self.path)

    def total(self):
        self.child.finish(signal.SIGINT, 30)
        with open(self.path) as stream:
            found = re.search(r"^\s*100\.00\s+\S+\s+\S*\s+(\d+)\s.*total", stream.read(), re.M)
        return int(found.group(1)) if found else None

    def stop(self):
        self.child.stop()


def counter():
    """The class that can count on this machine, or None."""
    for way in (Perf, Strace):
        if way.works():
            return way
    return None


def exchanges(way, series):
    """The number of exchanges of the short run and of the long run."""
    short = 4 * series.connections + 500
    longer = way.longer[series.exchange] * (4 if series.pipeline > 1 else 1)
    if series.connections == 1 and series.exchange == "echo":
        longer //= 10  # the count of one connection does not vary
    return short, short + longer


def per_exchange(short, long):
    """The difference quotient of two runs, each as (calls, exchanges)."""
    if None in (short[0], long[0]) or long[1] <= short[1]:
        return None
    return (long[0] - short[0]) / (long[1] - short[1])
