"""Goal: the defaults of a container suit the server: what it has to reap, and the limits that are low there."""

import os
import resource
import shutil
import subprocess
import sys
import time
import unittest

from clients import FolderTest
from test_handler import holder
from xchgd import LIMIT, PLAIN, PROGRAM, WRAP, Server, environment, greet, parse_logfmt

CHILD = 'cat "$0" & exec "$@"'  # a child that ends when the pipe $0 does
ENDED = """import os, sys
child = os.fork()
if child == 0:
    os._exit(0)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
os.execvp(sys.argv[1], sys.argv[1:])
"""
ORPHAN = '(cat "$0" &) ; exec "$@"'
LONELY = 100000 + os.getpid()  # a user without other processes, which RLIMIT_NPROC would count


def may_run(wrap):
    """Can this test start a program with ${wrap} before it?"""
    return shutil.which(wrap[0]) and subprocess.run([*wrap, "true"], stderr=subprocess.DEVNULL).returncode == 0


def own_pids():
    """A wrap that makes the server the first process of a pid namespace, or None."""
    command = ["unshare", "--pid", "--fork", "--kill-child"]
    return command if may_run(command) else None


def children(pid):
    """The children of a process, those that have ended and wait to be reaped too."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as f:
            found += [int(child) for child in f.read().split()]
    return found


def state(pid):
    """The state of a process, Z if it waits to be reaped; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def wait_for(condition, what):
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"no {what}")


@unittest.skipUnless(os.path.exists(f"/proc/self/task/{os.getpid()}/children"), "needs /proc/PID/task/TID/children")
@unittest.skipIf(WRAP, "a wrap has children of its own")
class Reaping(FolderTest):
    def ended(self, pid, pipe):
        """End the only child of a process and return its id."""
        wait_for(lambda: children(pid), "child")
        child = children(pid)[0]
        os.close(os.open(pipe, os.O_WRONLY))
        wait_for(lambda: state(child) in ("Z", None), "end of the child")
        return child

    def reaps(self, script, outer=(), **variables):
        pipe = self.path("pipe")
        os.mkfifo(pipe)
        with Server(wrap=[*outer, "sh", "-c", script, pipe], **variables) as server:
            pid = children(server.pid)[0] if outer else server.pid
            self.ended(pid, pipe)
            wait_for(lambda: not children(pid), "reaped child")
            with server.connect() as client:
                greet(client)
            if not outer:
                self.assertEqual(server.stop()["finished"], 1)
        os.unlink(pipe)

    def test_child_of_the_shell(self):
        """A shell started a child and then executed the server. The child is reaped under every model."""
        for model in ("pool", "iterative", "thread", "fork"):
            with self.subTest(model):
                self.reaps(CHILD, XCHG_MODEL=model)

    def test_first_process(self):
        """As the first process of a container the server gets orphans, and reaps them."""
        outer = own_pids()
        if outer is None:
            self.skipTest("may not make a pid namespace")
        for model in ("pool", "fork"):
            with self.subTest(model):
                self.reaps(ORPHAN, outer, XCHG_MODEL=model)

    def test_ended_before_the_start(self):
        """A child that ended before the server ran is reaped too."""
        with Server(wrap=[sys.executable, "-S", "-c", ENDED]) as server:
            self.assertEqual(children(server.pid), [])
            server.stop()

    def test_handler(self):
        """With a handler nothing is reaped: the handler may wait for children of its own."""
        pipe = self.path("pipe")
        os.mkfifo(pipe)
        with holder(wrap=["sh", "-c", CHILD, pipe]) as server:
            self.assertEqual(state(self.ended(server.pid, pipe)), "Z")
            server.stop()


@unittest.skipUnless(PLAIN, "an instrumented build needs more memory")
class LowLimits(unittest.TestCase):
    def refused(self, wrap=(), preexec=None, own=True, **variables):
        """The start exits with 71 and one line, which is returned. own: the server may open standard error again."""
        reader, writer = os.pipe()
        if own and wrap:
            os.fchown(writer, LONELY, LONELY)
        with open(reader) as lines:
            done = subprocess.run([*wrap, PROGRAM], env=environment(XCHG_LISTEN="127.0.0.1:0", **variables), stdin=subprocess.DEVNULL,
                                  stderr=writer, timeout=LIMIT, preexec_fn=preexec)
            os.close(writer)
            text = lines.read()
        self.assertEqual(done.returncode, 71, text)
        self.assertEqual(len(text.splitlines()), 1, text)
        return text

    def test_address_space(self):
        """A limited address space: the line says what to lower, and the lower value starts."""
        def few():
            resource.setrlimit(resource.RLIMIT_AS, (200 << 20, 200 << 20))
        fields = parse_logfmt(self.refused(preexec=few, XCHG_WORKERS="64"))
        self.assertEqual(fields["error"], os.strerror(12))
        for word in ("XCHG_MAX_CONNECTIONS", "XCHG_WORKERS", "ulimit -v"):
            self.assertIn(word, fields["fix"])
        with Server(preexec=few, XCHG_WORKERS="2", XCHG_MAX_CONNECTIONS="1000") as server:
            with server.connect() as client:
                greet(client)
            self.assertEqual(server.stop()["finished"], 1)

    def test_threads(self):
        """A limited number of threads: the line says what to lower, also where the log needs a thread itself."""
        wrap, user = [], os.getuid()
        if user == 0:  # root is not limited
            wrap = ["setpriv", f"--reuid={LONELY}", f"--regid={LONELY}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
            if not shutil.which("setpriv") or subprocess.run([*wrap, PROGRAM, "--version"], stdout=subprocess.DEVNULL,
                                                             stderr=subprocess.DEVNULL).returncode != 0:
                self.skipTest("another user cannot run the program in its folder")

        def few():
            resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        fields = parse_logfmt(self.refused(wrap, few, XCHG_WORKERS="4"))
        for word in ("XCHG_WORKERS", "ulimit -u", "pids.max"):
            self.assertIn(word, fields["fix"])
        if wrap:
            text = self.refused(wrap, few, own=False)
            for word in ("the log", "ulimit -u", "pids.max"):
                self.assertIn(word, text)


if __name__ == "__main__":
    unittest.main()
