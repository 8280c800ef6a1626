"""Goal: a publication costs one copy and one wake for each worker, arrives whole and in order, and waits for no slow member.

The server is tests/live/publish_server.c, which publishes on its main thread and counts the cost.
"""

import contextlib
import os
import queue
import resource
import subprocess
import threading
import unittest

from clients import INSTRUMENTED, MIB
from xchgd import LIMIT, PROGRAM, WRAP, environment, numbers, parse_logfmt, receive_exactly, Server

PUBLISHER = os.path.join(os.path.dirname(PROGRAM), "tests", "live", "publish_server")
DESCRIPTORS = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
GROUP = 7
PATTERN = bytes(range(251))


def setUpModule():
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


def publication(number, size):
    """The bytes that the server publishes under this number."""
    start = (number + 8) % len(PATTERN)
    return b"%08d" % number + (PATTERN * (size // len(PATTERN) + 2))[start:start + size - 8]


class Publisher(Server):
    """The running program. Its answers are lines."""

    def __init__(self, **variables):
        for name in ("IDLE", "MESSAGE", "WRITE"):
            variables.setdefault(f"XCHG_{name}_TIMEOUT", "0")
        variables.setdefault("XCHG_LISTEN", "127.0.0.1:0")
        self.process = subprocess.Popen([*WRAP, PUBLISHER], env=environment(XCHG_SANDBOX=None, **variables), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True)
        self.heard = queue.Queue()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.addresses = [self.hear("listening")["addr"]]

    def read(self):
        for line in self.process.stdout:
            self.heard.put(line)
        self.heard.put("ended")

    def hear(self, word):
        line = self.heard.get(timeout=LIMIT)
        if line.split()[0] != word:
            raise AssertionError(f"expected {word}, heard {line}")
        return parse_logfmt(line)

    def order(self, text, word):
        self.process.stdin.write(text + "\n")
        return self.hear(word)

    def publish(self, number, size, group=GROUP):
        self.order(f"publish {group} {number} {size}", "published")

    def counts(self):
        return numbers(self.order("counts", "counts"))

    def stats(self):
        return numbers(self.order("stats", "stats"))

    def join(self, group=GROUP, slow="skip", **options):
        """A client that is a member of the group."""
        client = self.connect(**options)
        client.sendall(b"join %d %s\n" % (group, slow.encode()))
        if receive_exactly(client, 7) != b"joined\n":
            raise AssertionError("not a member")
        return client

    def end(self):
        """End the program in order and return its last statistics."""
        self.process.stdin.close()
        last = self.hear("stats")
        code = self.process.wait(LIMIT + 40)
        if code != 0:
            raise AssertionError(f"exit code {code}")
        return numbers(last)

    def __exit__(self, *exception):
        super().__exit__(*exception)
        self.reader.join(LIMIT)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()


class Publish(unittest.TestCase):
    def setUp(self):
        self.servers, self.clients = contextlib.ExitStack(), contextlib.ExitStack()
        self.addCleanup(self.servers.close)
        self.addCleanup(self.clients.close)

    def serve(self, **variables):
        return self.servers.enter_context(Publisher(**variables))

    def join(self, server, count=None, **options):
        """One new member, or a list of ${count}."""
        members = [self.clients.enter_context(server.join(**options)) for _ in range(count or 1)]
        return members if count else members[0]

    def check(self, members, number, size):
        """Each member gets this publication next."""
        expected = publication(number, size)
        for member in members:
            self.assertTrue(receive_exactly(member, size) == expected, f"not publication {number}")

    def test_one_copy_one_wake(self):
        """Any number of members costs memory for one message, one copy and at most one wake for each worker."""
        workers, size, members = 4, 16384, min(200 if INSTRUMENTED else 1000, DESCRIPTORS // 2 - 100)
        server = self.serve(XCHG_WORKERS=workers)
        clients = self.join(server, members)
        wakes = []
        while len(wakes) < 3 or (not INSTRUMENTED and max(wakes) < workers and len(wakes) < 50):
            server.wait_threads("S")
            server.publish(len(wakes), size)
            self.check(clients, len(wakes), size)
            counts = server.counts()
            self.assertEqual((counts["allocations"], counts["copies"]), (1, 1))
            self.assertLessEqual(counts["wakes"], workers)
            wakes.append(counts["wakes"])
        if not INSTRUMENTED:  # otherwise a thread that seems to sleep may wait for its turn
            self.assertEqual(max(wakes), workers)
        self.assertEqual(server.end()["published"], members * len(wakes))

    @unittest.skipIf(INSTRUMENTED, "memory is measured in a release build")
    def test_memory(self):
        """Members that do not read share one message and take little memory each."""
        members = min(1000, DESCRIPTORS // 2 - 100)
        server = self.serve(XCHG_WORKERS=2, XCHG_SNDBUF="4KiB")
        self.join(server, members, rcvbuf=4096)
        before = server.resident_bytes()
        server.publish(1, MIB)
        server.wait_stats(lambda stats: stats["published"] == members)
        server.wait_threads("S")
        self.assertLessEqual(server.resident_bytes() - before, 2 * MIB + 1024 * members)
        self.assertEqual(server.end()["skipped"], 0)

    def test_order(self):
        """Many publications arrive whole and in order before any member reads, at members of that group only."""
        server = self.serve(XCHG_WORKERS=2, XCHG_MAX_PENDING="8MiB")
        clients, others = self.join(server, 20), self.join(server, 2, group=GROUP + 1)
        sizes = [(number * 7919) % 6000 + 8 for number in range(300)]
        for number, size in enumerate(sizes):
            server.publish(number, size)
        server.publish(300, 8, group=GROUP + 1)
        expected = b"".join(publication(number, size) for number, size in enumerate(sizes))
        for client in clients:
            self.assertTrue(receive_exactly(client, len(expected)) == expected)
        self.check(others, 300, 8)
        self.assertEqual(server.end()["published"], 300 * len(clients) + len(others))

    def test_leave(self):
        """A client that has left gets nothing until it joins again. One worker: another one might see a later
        member."""
        server = self.serve(XCHG_WORKERS=1)
        stays, goes = self.join(server, 2)
        goes.sendall(b"leave %d\n" % GROUP)
        self.assertEqual(receive_exactly(goes, 5), b"left\n")
        server.publish(1, 100)
        self.check([stays], 1, 100)
        goes.sendall(b"leave %d\njoin %d skip\n" % (GROUP, GROUP))
        self.assertEqual(receive_exactly(goes, 14), b"failed\njoined\n")
        server.publish(2, 100)
        self.check([stays, goes], 2, 100)
        self.assertEqual(server.end()["published"], 3)

    def until_slow(self, slow, condition):
        """Publish to 40 reading members and one that does not read, until the statistics meet the condition. Each
        publication reaches all readers before the next one."""
        size = 8192
        server = self.serve(XCHG_WORKERS=2, XCHG_MAX_PENDING="16KiB", XCHG_SNDBUF="32KiB")
        readers = self.join(server, 40)
        other = self.join(server, slow=slow, rcvbuf=4096)
        number = 0
        while not condition(server.stats()):
            self.assertLess(number, 1000, "its queue is never full")
            server.publish(number, size)
            self.check(readers, number, size)
            number += 1
        return server, readers, other, number, size

    def test_slow_drop(self):
        """With drop, a member that does not read is closed. What it received was correct, and the others continue."""
        server, readers, slow, count, size = self.until_slow("drop", lambda stats: stats["closed_write"] == 1)
        server.publish(count, size)
        self.check(readers, count, size)
        data = bytearray()
        with contextlib.suppress(ConnectionError):
            while chunk := slow.recv(65536):
                data += chunk
        expected = b"".join(publication(number, size) for number in range(count))
        self.assertGreater(len(data), 0)
        self.assertTrue(expected.startswith(data))
        totals = server.end()
        self.assertEqual((totals["closed_write"], totals["skipped"]), (1, 1))

    def test_slow_skip(self):
        """With skip, a member that does not read stays and misses whole messages. The others miss none."""
        server, readers, slow, count, size = self.until_slow("skip", lambda stats: stats["skipped"] >= 5)
        stats = server.wait_stats(lambda stats: stats["published"] + stats["skipped"] == count * (len(readers) + 1))
        self.assertEqual((stats["open"], stats["closed_write"]), (len(readers) + 1, 0))
        seen = []
        for _ in range(count - stats["skipped"]):
            data = receive_exactly(slow, size)
            seen.append(int(data[:8]))
            self.assertTrue(data == publication(seen[-1], size))
        self.assertEqual((seen[0], seen), (0, sorted(set(seen))))
        server.publish(count, size)
        self.check([*readers, slow], count, size)
        self.assertEqual(server.end()["skipped"], stats["skipped"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
