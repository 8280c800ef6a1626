"""The static probes of `make PROBES=1`: what readelf lists, how often each one fires, and what the scripts of docs/bpftrace print.

bpftrace attaches to usdt by the process id, which works without tracefs. It needs root.
"""

import contextlib
import glob
import importlib.machinery
import importlib.util
import json
import os
import re
import subprocess
import tempfile
import unittest

from ops import BUILD, LIMIT, PROGRAM, TOP, run, tool, wait_until
from test_handler import Hold, Talk, holder
from xchgd import GREETING, Server, greet, receive_exactly

PROBED = os.path.join(BUILD, "probes", "xchgd")
EXCHANGES, DENIED, PROXIED, ROOM = 100, 5, 3, 4  # ROOM: XCHG_MAX_CONNECTIONS
DENIED_REASON = 9  # in enum xchg_reason
FIRST, LAST = 'interval:ms:50 { printf("first\\n"); }', 'interval:ms:51 { printf("last\\n"); }'


def table():
    """The names of the probes."""
    loader = importlib.machinery.SourceFileLoader("probes", os.path.join(TOP, "tests/lint/probes"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("probes", loader))
    loader.exec_module(module)
    return set(module.table())


def read(path):
    with open(path) as f:
        return f.read()


class Tracer:
    """bpftrace with a script, attached to a process until that ends."""

    def __init__(self, pid, script, folder):
        self.path = os.path.join(folder, f"{len(os.listdir(folder))}.bt")
        body = re.search(r"^(?:BEGIN|usdt)", script, re.M).start()  # after structs and comments
        with open(self.path, "w") as f:  # the probes are attached one by one: with the first and the last, all are
            f.write(f"{script[:body]}{FIRST}\n{script[body:]}\n{LAST}\n")
        self.process = subprocess.Popen([tool("bpftrace"), "-B", "line", "-f", "json", "-p", str(pid), self.path],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.said = []

    def wait(self):
        """Wait until all probes are attached."""
        ticks = set()
        while ticks != {"first\n", "last\n"}:
            line = self.process.stdout.readline()
            if not line:
                raise AssertionError("bpftrace ended:\n" + "".join(self.said))
            self.said.append(line)
            if line.startswith("{"):
                ticks.add(json.loads(line).get("data") if "printf" in line else None)
                ticks.discard(None)

    def finish(self):
        """After the end of the process: {name of a map: value, or {key: value}, or the sum of a histogram}."""
        rest, _ = self.process.communicate(timeout=3 * LIMIT)
        found = {}
        for line in rest.splitlines():
            if not line.startswith("{"):
                continue
            message = json.loads(line)
            if message["type"] in ("map", "hist"):
                for name, value in message["data"].items():
                    if message["type"] == "hist":
                        value = sum(bucket["count"] for bucket in value) if isinstance(value, list) else {
                            key: sum(bucket["count"] for bucket in buckets) for key, buckets in value.items()}
                    found[name] = value
        return found

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def watched_sockets(pid):
    """How many sockets the epoll sets of a process watch."""
    count = 0
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"/proc/{pid}/fd/{fd}") == "anon_inode:[eventpoll]":
                with open(f"/proc/{pid}/fdinfo/{fd}") as info:
                    watched = re.findall(r"^tfd:\s+(\d+)", info.read(), re.M)
                count += sum(os.readlink(f"/proc/{pid}/fd/{each}").startswith("socket:") for each in watched)
    return count


def counting(names):
    """A script that counts each probe."""
    return "\n".join(f"usdt:*:xchg:{name} {{ @{name} = count(); }}" for name in sorted(names)) + \
        "\nusdt:*:xchg:stop { @stages[arg0] = count(); }\nusdt:*:xchg:message { @bytes = sum(arg2); }\n"


class Notes(unittest.TestCase):
    def test_readelf_lists_all(self):
        names = table()
        notes = run("readelf", "-n", PROBED)
        self.assertEqual(set(re.findall(r"Provider: xchg\n\s*Name: (\w+)", notes)), names)
        self.assertEqual(set(re.findall(r"Semaphore: (\w+)", notes)), {"0x0000000000000000"})

    def test_other_builds_have_none(self):
        self.assertNotIn("stapsdt", run("readelf", "-SW", PROGRAM) + run("readelf", "-n", PROGRAM))


@unittest.skipIf(os.getuid() != 0, "bpftrace needs root")
class Probes(unittest.TestCase):
    def load(self, server):
        """EXCHANGES exchanges one after the other, PROXIED of them behind a header, DENIED clients, a header that is none, and one
        connection more than there is room for."""
        for _ in range(EXCHANGES - PROXIED):
            with server.connect() as client:
                greet(client)
        for _ in range(PROXIED):
            with server.connect(address=server.addresses[1]) as client:
                client.sendall(b"PROXY TCP4 192.0.2.1 198.51.100.1 1111 2222\r\n")
                greet(client)
        with server.connect(address=server.addresses[1]) as client:
            client.sendall(b"GET / HTTP/1.1\r\n")
            self.assertEqual(client.recv(1), b"")
        for _ in range(DENIED):
            with server.connect(source="127.0.0.2") as client:
                self.assertEqual(client.recv(1), b"")
        server.wait_stats(lambda stats: stats["open"] == 0)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.connect()) for _ in range(ROOM)]
            for client in clients:
                receive_exactly(client, len(GREETING))
            late = stack.enter_context(server.connect())
            wait_until(lambda: watched_sockets(server.pid) == ROOM, "pause: the listener is still watched")
            for client in clients:
                client.close()
            receive_exactly(late, len(GREETING))
        return server.wait_stats(lambda stats: stats["open"] == 0)

    def test_each_fires_as_often_as_it_must(self):
        names = table()
        scripts = {os.path.basename(path)[:-3]: read(path) for path in glob.glob(os.path.join(TOP, "docs/bpftrace/*.bt"))}
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            server = stack.enter_context(Server(program=PROBED, XCHG_WORKERS=2, XCHG_DENY="127.0.0.2/32", XCHG_MAX_CONNECTIONS=ROOM,
                                                XCHG_LISTEN="127.0.0.1:0,127.0.0.1:0;proxy=any", XCHG_PROXY_TRUST="127.0.0.1",
                                                XCHG_STOP_GRACE="0"))
            scripts["counts"] = counting(names)
            tracers = {name: stack.enter_context(Tracer(server.pid, script, folder)) for name, script in scripts.items()}
            for tracer in tracers.values():
                tracer.wait()
            stats = self.load(server)
            server.stop()
            found = {name: tracer.finish() for name, tracer in tracers.items()}
        greeted, served, counts = EXCHANGES + ROOM + 1, EXCHANGES + ROOM + 2, found["counts"]
        wanted = {"accept": served + DENIED, "refuse": DENIED, "handoff": served, "wake": stats["wakes"], "open": served,
                  "message": EXCHANGES, "bytes": 5 * EXCHANGES, "sent": greeted, "close": served, "pause": 1, "resume": 1, "stop": 3,
                  "proxy": PROXIED + 1,
                  "stages": {"1": 1, "2": 1, "4": 1}}
        self.assertEqual({name: value for name, value in counts.items() if name[1:] in wanted},
                         {f"@{name}": value for name, value in wanted.items()})
        self.assertGreaterEqual(counts["@turn"], served)
        self.assertEqual(found["handoff"], {"@handoff_us": served, "@queued": served, "@woken": stats["wakes"]})
        self.assertEqual(found["ends"], {"@ends": {"finished": EXCHANGES, "peer": ROOM + 1, "proxy": 1}, "@age_ms": served})
        self.assertEqual({name: sum(values.values()) for name, values in found["workers"].items()},
                         {"@opened": served, "@closed": served, "@messages": EXCHANGES, "@bytes_out": greeted * len(GREETING)})
        self.assertEqual(sum(found["slow"]["@turns"].values()), counts["@turn"])
        self.assertEqual(found["refused"]["@accepted"], served + DENIED)
        self.assertEqual(found["refused"]["@refused"], {f"127.0.0.2,{DENIED_REASON}": DENIED})
        self.assertEqual(found["refused"]["@pause_ms"], 1)

    def test_a_blocked_worker(self):
        with tempfile.TemporaryDirectory() as folder, holder(program=PROBED, XCHG_WORKERS="1", XCHG_WATCHDOG="50ms") as server:
            with Tracer(server.pid, counting({"blocked"}), folder) as tracer:
                tracer.wait()
                with Talk(server) as client:
                    with Hold(client):
                        server.wait_stats(lambda stats: stats["blocked"] == 1)
                server.stop()
                self.assertEqual(tracer.finish()["@blocked"], 1)


if __name__ == "__main__":
    unittest.main()
