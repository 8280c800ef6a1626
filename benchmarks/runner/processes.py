"""Start the processes of a measurement, and end every one of them whatever happens.

Each process runs in a session of its own and is killed when the runner dies. Where permitted, it gets priority over the rest of the
machine. `nice` alone counts only within a session's scheduling group, so the priority of the group is raised too.
"""

import ctypes
import os
import resource
import select
import signal
import subprocess
import time

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)
LIMIT = 10.0        # seconds for a start or an answer
SAID_MAX = 1 << 16  # bytes of output that are kept


class Failure(Exception):
    """A run without figures; the text says why."""


def prepare(cpus, priority):
    """A function for the child to run between fork and exec."""
    def run():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a background shell ignores it, and perf needs it
        if cpus is not None:
            os.sched_setaffinity(0, cpus)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        if not priority:
            return
        try:
            with open("/proc/self/autogroup", "w") as stream:
                stream.write("-20")
            os.setpriority(os.PRIO_PROCESS, 0, -20)
        except OSError:
            pass  # not permitted, or the kernel has no autogroups
    return run


def start(command, *, cpus=None, priority=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more):
    return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True, preexec_fn=prepare(cpus, priority), **more)


def end(process):
    """Kill a process that start() started, with its children, and wait for it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


class Child:
    """A started program, and what it says on one of its streams. stop() must be called."""

    name = property(lambda self: os.path.basename(self.process.args[0]))

    def __init__(self, command, stream="stdout", **how):
        self._reader, writer = os.pipe()
        self._said, self._heard = b"", 0
        try:
            self.process = start(command, **{stream: writer}, **how)
        except OSError as problem:
            os.close(self._reader)
            raise Failure(f"cannot start {command[0]}: {problem.strerror}") from None
        finally:
            os.close(writer)

    @property
    def pid(self):
        return self.process.pid

    def said(self):
        return self._said.decode(errors="replace")

    def _read(self, seconds):
        """Wait for output and keep it; False at its end."""
        if not select.select([self._reader], [], [], max(seconds, 0))[0]:
            return True
        data = os.read(self._reader, SAID_MAX)
        dropped = max(len(self._said) + len(data) - SAID_MAX, 0)
        self._said, self._heard = (self._said + data)[dropped:], max(self._heard - dropped, 0)
        return data != b""

    def fail(self, what):
        lines = [line for line in self.said().splitlines() if line and "listening" not in line]
        raise Failure(": ".join([what, *lines[-1:]]))

    def hear(self, pattern, limit=LIMIT):
        """Wait for the next line that contains pattern; the rest of that line."""
        deadline = time.monotonic() + limit
        while True:
            found, line_end = self._said.find(pattern.encode(), self._heard), -1
            if found != -1:
                line_end = self._said.find(b"\n", found)
            if line_end != -1:
                self._heard = line_end + 1
                return self._said[found + len(pattern):line_end].decode(errors="replace")
            if not self._read(deadline - time.monotonic()):
                self.fail(f"{self.name} ended before it said {pattern!r}")
            if time.monotonic() > deadline:
                self.fail(f"{self.name} did not say {pattern!r} within {limit:.0f} s")

    def tell(self, text):
        """Write to its standard input, for which stdin=subprocess.PIPE is needed."""
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def check(self):
        """Raise Failure if the program has ended."""
        code = self.process.poll()
        if code is not None:
            self._read(0)
            self.fail(f"{self.name} ended by signal {-code}" if code < 0 else f"{self.name} ended with exit code {code}")

    def finish(self, signum=signal.SIGTERM, limit=LIMIT):
        """Send a signal and wait for the end: the last output, the exit code, and the seconds that it took."""
        begun = time.monotonic()
        self.process.send_signal(signum)
        while self._read(begun + limit - time.monotonic()):
            if time.monotonic() > begun + limit:
                self.fail(f"{self.name} did not end within {limit:.0f} s of the signal")
        code = self.process.wait(limit)
        return self.said(), code, time.monotonic() - begun

    def stop(self):
        end(self.process)
        os.close(self._reader)


def family(pid):
    """The ids of a process and of all its living descendants."""
    found, todo = [], [pid]
    while todo:
        each = todo.pop()
        found.append(each)
        try:
            for task in os.listdir(f"/proc/{each}/task"):
                with open(f"/proc/{each}/task/{task}/children") as stream:
                    todo += map(int, stream.read().split())
        except OSError:
            pass  # it has ended meanwhile
    return found


def family_cpu_seconds(pid):
    """CPU seconds of a process and its living descendants, from the scheduler's count in ns."""
    total = 0
    for each in family(pid):
        try:
            for task in os.listdir(f"/proc/{each}/task"):
                with open(f"/proc/{each}/task/{task}/schedstat") as stream:
                    total += int(stream.read().split()[0])
        except OSError:
            pass
    return total / 1e9
