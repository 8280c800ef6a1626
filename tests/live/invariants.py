"""What holds in every row of the list of faults, and the tools that several rows need.

    with unharmed(server):                        # a server of endless lines: serve(**LINES)
        ... provoke the fault and let it end ...
    self.assertEqual(ended(server.stop()), ...)   # each loss under its own reason

While the fault lasts a connection that was there before is answered within a second whenever the row asks
(`with unharmed(server) as bystander: bystander()`); after it the same holds for a new one, nobody is still open,
the descriptors are those of before, and the totals add up.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from clients import INSTRUMENTED, serve
from xchgd import LIMIT, SLOW, check_totals, receive_exactly

LINES = {"XCHG_EXCHANGE": "line", "XCHG_MESSAGES": "0"}
WITHIN = 1.6 * SLOW  # the second in which others are answered and all is as before, and what a busy machine adds
LIBC = ctypes.CDLL(None, use_errno=True)


def ask(client, text=b"is anybody there?\n"):
    """The client's line comes back within a second."""
    start = time.monotonic()
    client.sendall(text)
    answer = receive_exactly(client, len(text))
    took = time.monotonic() - start
    if answer != text or took > WITHIN:
        raise AssertionError(f"answered {answer!r} after {took:.3f} s")


def settle(server, count=0):
    """Wait until ${count} connections are open; what else was, is closed within a second."""
    start = time.monotonic()
    values = server.wait_stats(lambda values: values["open"] == count, f"{count} open")
    took = time.monotonic() - start
    if took > WITHIN:
        raise AssertionError(f"{took:.3f} s until {count} connections were open")
    check_totals(values)
    return values


@contextlib.contextmanager
def unharmed(server):
    """See above; gives a function that asks the bystander, and adds two connections that end as `finished`."""
    before = server.descriptors()
    open_before = server.stats()["open"]
    with server.connect() as bystander:
        ask(bystander)
        yield lambda: ask(bystander)
        ask(bystander)
        with server.connect() as late:
            ask(late)
    settle(server, open_before)
    if server.process.poll() is not None:
        raise AssertionError(f"the server has gone: {server.process.returncode}")
    if server.descriptors() != before:
        raise AssertionError(f"{server.descriptors()} descriptors, {before} before")


def injections(trace, call, error):
    """How often ${call} failed so by injection, as strace (a wrap with `-o ${trace}` behind it) has written by now."""
    with open(trace, errors="backslashreplace") as f:
        return sum(call in line and f" = -1 {error} " in line and "(INJECTED)" in line for line in f)


@contextlib.contextmanager
def meanwhile(work):
    """Do work() again and again in a thread of its own, until the block ends; its failure is the block's."""
    done = threading.Event()
    failures = []

    def loop():
        try:
            while not done.is_set():
                work()
        except BaseException as failure:
            failures.append(failure)
    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(LIMIT)
    if failures:
        raise failures[0]


class Cgroup:
    """A group of version 1's hierarchies for one test; the test is skipped where the machine gives none."""

    TOP = "/sys/fs/cgroup"

    def __init__(self, test, controller, **values):
        self.path = os.path.join(self.TOP, controller, f"xchg-{os.getpid()}-{time.monotonic_ns()}")
        try:
            os.mkdir(self.path)
            test.addCleanup(self.remove)
            for name, value in values.items():
                self.write(f"{controller}.{name}", value)
        except OSError as failure:
            test.skipTest(f"no control group of {controller}: {failure}")

    def write(self, name, value):
        with open(os.path.join(self.path, name), "w") as f:
            f.write(str(value))

    def read(self, name):
        with open(os.path.join(self.path, name)) as f:
            return f.read().strip()

    def wait(self, name, value):
        """Wait until the file reads so."""
        deadline = time.monotonic() + LIMIT
        while self.read(name) != value:
            os.sched_yield()
            if time.monotonic() > deadline:
                raise AssertionError(f"{name} stays {self.read(name)}, not {value}")

    def add(self, pid):
        self.write("cgroup.procs", pid)

    def join(self):
        """A preexec that starts the server in the group."""
        return self.add(os.getpid())

    def remove(self):
        """The group goes once its last process has been reaped by whoever must."""
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                for pid in self.read("cgroup.procs").split():
                    os.kill(int(pid), signal.SIGKILL)
                os.rmdir(self.path)
                return
            except ProcessLookupError:
                pass
            except OSError:
                if time.monotonic() > deadline:
                    raise
            os.sched_yield()


def own_mounts(script):
    """A wrap that runs the server with mounts of its own, after ${script} has made them."""
    return ["unshare", "-m", "sh", "-ec", script + '\nexec "$@"', "sh"]


def may_mount():
    """May this process mount anything, in a namespace of its own?"""
    if not shutil.which("unshare"):
        return False
    tried = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/tmp"], stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return tried.returncode == 0


def folder(test):
    """A folder that goes with the test."""
    path = tempfile.mkdtemp(prefix="xchg-")
    test.addCleanup(shutil.rmtree, path)
    return path


__all__ = ["INSTRUMENTED", "LIBC", "LINES", "WITHIN", "Cgroup", "ask", "folder", "injections", "may_mount", "meanwhile", "own_mounts",
           "serve", "settle", "unharmed"]
