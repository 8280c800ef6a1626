"""Goal: a bad new process costs nothing, or the connections that it had taken (docs/upgrade.md, "What can fail").

Bad are other programs at the path of the server's program, and processes that lack memory, descriptors or files.
"""

import contextlib
import os
import resource
import shutil
import signal
import threading
import unittest

from clients import MIB
from fault_matrix import Cgroup
from upgrade import PausedTest, exchange, lives
from xchgd import PROGRAM, check_totals, numbers, receive_exactly

BAD = os.path.join(os.path.dirname(PROGRAM), "tests", "live", "bad_successor")


class SuccessorsTest(PausedTest):
    def outcome(self, server):
        """Wait until the first upgrade is over. Return: the fields of its last line."""
        ends = ("upgraded", "upgrade turned back", "upgrade refused")
        return server.wait_for(lambda _: [fields for end in ends for fields in server.messages(end)], "end of the upgrade")[0]

    def check_served(self, server, clients):
        """All clients and three new ones are served and counted. Return: all of them."""
        for i, client in enumerate(clients):
            exchange(client, b"still %d" % i)
        clients = clients + self.clients(server, 3)
        values = server.stats()
        check_totals(values)
        self.assertEqual((values["accepted"], values["open"]), (len(clients), len(clients)))
        return clients


class OtherPrograms(SuccessorsTest):
    """Another program lies at the path. Nothing is lost, and a right one can follow."""

    def setUp(self):
        super().setUp()
        self.program = self.path("xchgd")

    def put(self, source, size=None, mode=0o755):
        """The file at the path gets the contents of another, or the first ${size} bytes, as an installation does it."""
        with open(source, "rb") as stream, open(self.path("next"), "wb") as to:
            to.write(stream.read(-1 if size is None else size))
        os.chmod(self.path("next"), mode)
        os.replace(self.path("next"), self.program)

    def check_bad(self, replace, bad="silent"):
        """An upgrade to what ${replace} leaves at the path fails. Return: its line."""
        self.put(PROGRAM)
        server = self.server(program=self.program, XCHG_UPGRADE_TIMEOUT="3s", BAD_SUCCESSOR=bad)
        clients = self.clients(server, 20)
        server.stats()
        before = server.descriptors()
        replace()
        server.signal(signal.SIGUSR2)
        fields = self.outcome(server)
        self.assertIn(fields["msg"], ("upgrade turned back", "upgrade refused"))
        self.assertEqual(fields.get("lost", "0"), "0")
        clients = self.check_served(server, clients)
        self.assertEqual((server.descriptors(), self.children(server.pid)), (before + 3, []))
        self.put(PROGRAM)
        self.assertEqual(numbers(server.upgrade())["moved"], len(clients))
        self.assertTrue(all(lives(client) for client in clients))
        server.end()
        return fields

    def test_no_program(self):
        replaces = {
            "nothing": lambda: os.unlink(self.program),
            "not executable": lambda: self.put(PROGRAM, mode=0o644),
            "a text": lambda: self.put(__file__),
            "an empty file": lambda: self.put(PROGRAM, size=0),
            "a part": lambda: self.put(PROGRAM, size=20000),
        }
        for name, replace in replaces.items():
            with self.subTest(name):
                self.check_bad(replace)

    def test_it_ends(self):
        for name, code in (("true", 0), ("false", 1)):
            with self.subTest(name):
                fields = self.check_bad(lambda name=name: self.put(shutil.which(name)))
                self.assertEqual((fields["msg"], fields["status"]), ("upgrade turned back", f"exit {code}"))

    def test_no_protocol(self):
        """It speaks, but not as it should, or says nothing."""
        for bad in ("silent", "garbage", "empty", "long", "descriptors", "flood", "mirror", "closes"):
            with self.subTest(bad):
                fields = self.check_bad(lambda: self.put(BAD), bad)
                self.assertEqual((fields["msg"], fields["status"]), ("upgrade turned back", "signal 9"))

    def test_another_version_of_the_format(self):
        """A program of another release, in whose packets the fields may have another meaning."""
        fields = self.check_bad(lambda: self.put(BAD), "version")
        self.assertEqual((fields["msg"], fields["step"], fields["reason"]), ("upgrade turned back", "start", "another version"))


class Limits(SuccessorsTest):
    """The new process meets a limit in the middle."""

    def limited(self, point, limit, clients=300):
        """Stop main of the new process at a point, call limit(its id), let it go on, and await the end of the upgrade.

        Return: the server, the clients and the fields of the last line.
        """
        server, found, child = self.at_point("new", point, "pause", clients=clients)
        limit(child)
        self.go_on()
        return server, found, self.outcome(server)

    def check_limited(self, point, kind, soft, most):
        """The new process has the limit soft(its id) until the upgrade is over, which costs ${most} connections."""
        limits = {}

        def limit(child):
            limits[child] = resource.prlimit(child, kind)
            resource.prlimit(child, kind, (soft(child), limits[child][1]))

        server, clients, fields = self.limited(point, limit)
        for child, before in limits.items():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(child, kind, before)
        self.check_lost(server, clients, fields, most)

    def check_lost(self, server, clients, fields, most):
        """All are served, by one of the two processes, except ${most} if the new one has ended."""
        lost = int(fields.get("lost", 0))
        self.assertLessEqual(lost, most)
        self.assertEqual(sum(lives(client) for client in clients), len(clients) - lost)
        if fields["msg"] == "upgraded":
            self.assertEqual(int(fields["moved"]) + int(fields["stayed"]), len(clients))
            if fields["stayed"] == "0":
                server.followed()
            else:  # the old process serves them, and comes back later
                server.followed_to_child(None)
        self.clients(server, 3)
        check_totals(server.stats())

    def test_few_descriptors_at_the_start(self):
        """The new process may open fewer descriptors than there are connections."""
        server = self.server()
        self.clients(server, 200)
        few = server.descriptors() + 8  # room for the channel, but not for the reserve of another process
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (few, few))
        server.signal(signal.SIGUSR2)
        self.assertEqual(server.turned_back()["reason"], "the new process can open too few descriptors")
        self.assertEqual(server.stats()["open"], 200)

    def test_few_descriptors_later(self):
        """A batch does not fit: the kernel delivers a part of its descriptors, and none of them stays open."""
        for room in (0, 1, 20, 100):
            with self.subTest(room=room):
                self.check_limited(4, resource.RLIMIT_NOFILE, lambda child, room=room: max(map(int, os.listdir(f"/proc/{child}/fd"))) + 1 + room, 9)

    def test_no_address_space(self):
        """RLIMIT_AS, before the threads run and before the connections come."""
        def now(child):
            with open(f"/proc/{child}/statm") as stream:
                return int(stream.read().split()[0]) * resource.getpagesize()

        for point, room in ((1, 0), (1, MIB), (1, 16 * MIB), (4, 0), (4, MIB // 4), (4, MIB)):
            with self.subTest(point=point, room=room):
                self.check_limited(point, resource.RLIMIT_AS, lambda child, room=room: now(child) + room, 0 if point == 1 else 300)

    def test_no_file_size(self):
        """RLIMIT_FSIZE of both: what needs a file in memory stays, and no process gets SIGXFSZ."""
        size = 200 << 10
        server = self.server(XCHG_MAX_PENDING="4MiB", XCHG_SNDBUF="16KiB", XCHG_WRITE_TIMEOUT="0", XCHG_DRAIN_TIMEOUT="5m")
        clients = self.clients(server, 20)
        reader = server.connect(rcvbuf=4096)
        self.addCleanup(reader.close)
        data = os.urandom(size)
        threading.Thread(target=reader.sendall, args=(data,), daemon=True).start()
        server.wait_stats(lambda values: values["open"] == 21 and values["bytes_in"] >= size)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, 0))
        server.signal(signal.SIGUSR2)
        fields = self.outcome(server)
        self.assertEqual(receive_exactly(reader, size), data)
        self.check_lost(server, [*clients, reader], fields, 0)

    def test_no_memory(self):
        """The kernel ends the new process when its control group has no memory, before and while connections come."""
        for point, most in ((1, 0), (4, 300)):
            with self.subTest(point=point):
                group = Cgroup(self, "memory", limit_in_bytes=64 << 10)
                server, clients, fields = self.limited(point, group.add)
                self.assertEqual((fields["msg"], fields["status"]), ("upgrade turned back", "signal 9"))
                self.check_lost(server, clients, fields, most)


if __name__ == "__main__":
    unittest.main()
