"""Starting processes for a measurement, and getting rid of them whatever happens.

Each gets a session of its own, dies with the runner, and where that is allowed runs with priority over what else the machine does:
`nice` alone counts within a session's group only, so that the group is raised too.
"""

import ctypes
import os
import resource
import signal
import subprocess

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


def prepare(cpus, priority):
    """What the child does between fork and exec."""
    def run():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a background shell has it ignored, and perf needs it
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
            pass  # not allowed, or no such thing here
    return run


def start(command, *, cpus=None, env=None, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, priority=True, cwd=None, pass_fds=()):
    return subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True,
                            preexec_fn=prepare(cpus, priority), cwd=cwd, pass_fds=pass_fds)


def end(process):
    """Kill a process that start() started, with its children, and wait for it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def family(pid):
    """A process and all its descendants that live."""
    found, todo = [], [pid]
    while todo:
        each = todo.pop()
        found.append(each)
        try:
            for task in os.listdir(f"/proc/{each}/task"):
                with open(f"/proc/{each}/task/{task}/children") as stream:
                    todo += map(int, stream.read().split())
        except OSError:
            pass  # ended meanwhile
    return found


def family_cpu_seconds(pid):
    """CPU time that a process and its living descendants have had (the scheduler's count, in ns)."""
    total = 0
    for each in family(pid):
        try:
            for task in os.listdir(f"/proc/{each}/task"):
                with open(f"/proc/{each}/task/{task}/schedstat") as stream:
                    total += int(stream.read().split()[0])
        except OSError:
            pass
    return total / 1e9
