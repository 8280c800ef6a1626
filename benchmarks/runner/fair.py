#!/usr/bin/env python3
"""What one good client waits for while 40 others flood the only worker, for each kind of flood.

    ratio = median answer time of the good client under this flood / under the plain flood of the same server

The plain flood sends lines over TCP and reads the answers. A kind with a higher ratio gets more than its turn. The good client sends
one line at a time. Flooding clients run in a process of their own.

    fair.py [--build build] [--seconds 3]       print the table as Markdown
"""

import argparse
import array
import contextlib
import multiprocessing
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time

import processes
import stats

FLOODERS = 40
RATIO_MAX = 3
LINES = b"x\n" * 32768
LONG_LINES = b"x\n" * 10000
TIME_LIMIT = 60


def joins(index):
    """Lines that name ever more groups, other ones for each client."""
    return b"".join(b"join %d skip\n" % (index * 1000000 + i) for i in range(4000))


def refused_leaves(index):
    """Lines of the same length that change nothing."""
    return b"".join(b"leave %d....\n" % (index * 1000000 + i) for i in range(4000))


class Flooder:
    """A client that sends without pause. ${kind} is a key of KINDS."""

    def __init__(self, kind, index, port, path):
        self.kind, self.at, self.index = kind, 0, index
        self.address = path if kind.startswith("UNIX") else ("127.0.0.1", port)
        self.data = {"joining groups": joins, "plain, same server": refused_leaves}.get(kind, lambda _: LINES)(index)
        self.connect()

    def connect(self):
        self.socket = socket.socket(socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET)
        self.socket.connect(self.address)
        self.socket.setblocking(False)
        self.left = 300000 if self.kind == "half-closing" else None
        if self.kind == "urgent byte":
            self.socket.send(b"!", socket.MSG_OOB)

    def send(self):
        if self.left == 0:
            return
        if self.kind == "UNIX, descriptors":
            control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [self.socket.fileno()]))]
            self.socket.sendmsg([LONG_LINES[self.at:]], control)  # a send is taken as a whole, or not
            return
        sent = self.socket.send(self.data[self.at:self.at + (self.left or len(self.data))])
        self.at = (self.at + sent) % len(self.data)
        if self.left is not None:
            self.left -= sent
            if self.left == 0:
                self.socket.shutdown(socket.SHUT_WR)

    def receive(self):
        """Read what is there. Return: has the stream ended?"""
        return self.kind != "pipelined, never reading" and self.socket.recv(1 << 20) == b""


def flood(kind, port, path, begun):
    flooders, epoll = {}, select.epoll()

    def watch(flooder):
        flooders[flooder.socket.fileno()] = flooder
        epoll.register(flooder.socket.fileno(), select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)

    for index in range(FLOODERS):
        watch(Flooder(kind, index, port, path))
    begun.set()
    ready = set(flooders)
    while True:
        ready |= {fd for fd, _ in epoll.poll(0 if ready else 1)}
        for fd in list(ready):
            flooder, idle = flooders[fd], 0
            for step in (flooder.send, flooder.receive):
                try:
                    ended = step()
                except BlockingIOError:
                    idle += 1
                    continue
                except OSError:
                    ended = True
                if ended:
                    del flooders[fd]
                    ready.discard(fd)
                    flooder.socket.close()
                    flooder.connect()
                    watch(flooder)
                    ready.add(flooder.socket.fileno())
                    break
            else:
                if idle == 2 or (flooder.left == 0 and idle == 1):
                    ready.discard(fd)


def answer_times(port, seconds, line, answer):
    """Seconds from a line to its answer, one after the other."""
    times, end = [], time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", port), timeout=TIME_LIMIT) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not times or time.monotonic() < end:
            begun = time.monotonic()
            client.sendall(line)
            got = b""
            while len(got) < len(answer):
                got += client.recv(len(answer) - len(got)) or sys.exit("the server closed the good client's connection")
            times.append(time.monotonic() - begun)
    return times


@contextlib.contextmanager
def serve(program, **settings):
    """Start a server; its port."""
    environment = {"PATH": os.environ["PATH"], "XCHG_WORKERS": "1", "XCHG_STOP_GRACE": "0", "XCHG_DRAIN_TIMEOUT": "0",
                   "XCHG_WRITE_TIMEOUT": "0", **settings}
    server = processes.start([program], env=environment, priority=False, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    try:
        for said in server.stdout:
            found = re.search(rb"addr=127\.0\.0\.1:(\d+)", said)
            if found:
                break
        else:
            sys.exit(f"{program} did not start")
        yield int(found[1])
    finally:
        processes.end(server)


# kind: the server, and the good client's line and its answer
ECHO = ("xchgd", b"ping\n", b"ping\n")
GROUPS = ("tests/live/publish_server", b"leave 7\n", b"failed\n")
KINDS = {"plain": ECHO, "urgent byte": ECHO, "UNIX": ECHO, "UNIX, descriptors": ECHO, "half-closing": ECHO,
         "pipelined, never reading": ECHO, "plain, same server": GROUPS, "joining groups": GROUPS}


def measure(options, kind):
    """Answer times of the good client."""
    program, line, answer = KINDS[kind]
    with tempfile.TemporaryDirectory(prefix="xchg-bench-") as folder:
        path = os.path.join(folder, "flood")
        settings = {"XCHG_LISTEN": f"127.0.0.1:0,unix:{path}"}
        if program == "xchgd":
            settings |= {"XCHG_EXCHANGE": "line", "XCHG_MESSAGES": "0"}
        with serve(os.path.join(options.build, program), **settings) as port:
            begun = multiprocessing.Event()
            flooding = multiprocessing.Process(target=flood, args=(kind, port, path, begun), daemon=True)
            flooding.start()
            try:
                if not begun.wait(TIME_LIMIT):
                    sys.exit(f"the flood '{kind}' did not begin")
                return answer_times(port, options.seconds, line, answer)
            finally:
                flooding.kill()
                flooding.join()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default="build")
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    print(f"| {FLOODERS} flooding clients, one worker | answers | p50, ms | longest, ms | p50 / plain | verdict |")
    print("|---|---|---|---|---|---|")
    plain, failed = {}, False
    for kind, (server, _, _) in KINDS.items():
        times = measure(options, kind)
        ratio = stats.median(times) / plain.setdefault(server, stats.median(times))
        verdict = "pass" if ratio <= RATIO_MAX else "FAIL"
        failed = failed or verdict == "FAIL"
        print(f"| {kind} | {len(times)} | {stats.median(times) * 1e3:.1f} | {max(times) * 1e3:.1f} | {ratio:.2f} | {verdict} |", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
