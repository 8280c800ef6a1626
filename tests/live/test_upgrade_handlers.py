"""Goal: connections of a handler that saves its state move to the new process, and the others stay until they end.

The handler is tests/live/plugin/saving.c. Exactly one of on_close and on_gone follows each on_open and on_restore, over all processes.
"""

import contextlib
import os
import select
import signal
import threading
import unittest

from upgrade import PausedTest, UpgradeTest
from xchgd import LIMIT, PROGRAM, SLOW, is_closed, numbers, receive_exactly

FOLDER = os.path.dirname(PROGRAM)
SAVING = os.path.join(FOLDER, "tests/live/plugin/saving.so")
VERSION_0 = os.path.join(FOLDER, "tests/plugin/version_0.so")
SHUFFLED = os.path.join(FOLDER, "xchgd-shuffle")


def ask(client, line, answer):
    client.sendall(line.encode() + b"\n")
    expect(client, answer)


def expect(client, answer):
    got = receive_exactly(client, len(answer) + 1).decode()
    if got != answer + "\n":
        raise AssertionError(f"{got!r} in place of {answer!r}")


class HandlerTest(UpgradeTest):
    def saving(self, **variables):
        return self.server(XCHG_HANDLER=SAVING, XCHG_EXCHANGE=None, **variables)

    def visitors(self, server, names):
        found = []
        for name in names:
            client = server.connect()
            self.addCleanup(client.close)
            ask(client, f"name {name}", "ok")
            found.append(client)
        return found

    def end(self, server):
        """Stop ${server}. Return: how often each callback was called, in all processes."""
        server.end()
        calls = [numbers(line) for line in server.messages("calls")]
        sums = {name: sum(call[name] for call in calls) for name in ("opened", "restored", "closed", "gone", "saved")}
        self.assertEqual(sums["opened"] + sums["restored"], sums["closed"] + sums["gone"])
        self.assertEqual(sums["restored"], sums["gone"])
        for call in calls:
            self.assertEqual(call["opened"] + call["restored"], call["closed"] + call["gone"])
        return sums


class Moves(HandlerTest):
    def test_state_moves(self):
        server = self.saving(XCHG_WORKERS="2")
        clients = self.visitors(server, [f"n{i}" for i in range(100)])
        for i in range(3):
            fields = numbers(server.upgrade())
            self.assertEqual((fields["moved"], fields["stayed"]), (100, 0))
            for k, client in enumerate(clients):
                ask(client, "who", f"n{k} {i + 2}")
        sums = self.end(server)
        self.assertEqual((sums["opened"], sums["gone"], sums["saved"]), (100, 600, 600))

    def test_groups_and_timers_move(self):
        server = self.saving(XCHG_WORKERS="2")
        clients = self.visitors(server, [f"n{i}" for i in range(20)])
        for client in clients:
            ask(client, "join", "ok")
        clients[0].sendall(f"timer {round(1500 * SLOW)}\n".encode())
        ask(clients[0], "pub first", "first")
        server.upgrade()
        clients[5].sendall(b"pub second\n")
        for client in clients[1:]:
            expect(client, "first")
            expect(client, "second")
        self.assertEqual(sorted((receive_exactly(clients[0], 13)).split()), [b"second", b"timer"])
        self.end(server)

    def test_half_a_message(self):
        server = self.saving()
        client, = self.visitors(server, ["half"])
        client.sendall(b"w")
        server.stats()
        server.upgrade()
        ask(client, "ho", "half 2")
        self.end(server)

    def test_under_load(self):
        """Clients loop while upgrades follow each other: no line is lost, and none is answered twice."""
        server = self.saving(XCHG_WORKERS="2")
        clients = self.visitors(server, [f"n{i}" for i in range(8)])
        over, failures = threading.Event(), []

        def loop(client, name):
            lines = 1
            try:
                while not over.is_set():
                    lines += 1
                    ask(client, "who", f"{name} {lines}")
            except (OSError, AssertionError) as error:
                failures.append(error)

        threads = [threading.Thread(target=loop, args=(client, f"n{i}")) for i, client in enumerate(clients)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            self.assertEqual(server.upgrade()["moved"], "8")
        over.set()
        for thread in threads:
            thread.join(LIMIT)
        self.assertEqual(failures, [])
        self.end(server)

    def test_shuffled(self):
        """Workers give connections to each other all the time."""
        server = self.saving(program=SHUFFLED, XCHG_WORKERS="3", SHUFFLE_REPORT="1")
        clients = self.visitors(server, [f"n{i}" for i in range(20)])
        for lines in range(2, 52):
            for i, client in enumerate(clients):
                ask(client, "who", f"n{i} {lines}")
        server.end()
        calls = numbers(server.messages("calls")[0])
        self.assertEqual(calls["opened"] + calls["restored"], calls["closed"] + calls["gone"])
        self.assertEqual(calls["gone"], numbers(server.messages("shuffled")[0])["moved"])
        self.assertGreater(calls["gone"], 20)


class Stays(HandlerTest):
    def check_stay(self, names, reason):
        """Two of ten connections stay in the old process, which serves them."""
        server = self.saving()
        clients = self.visitors(server, [*names, *(f"n{i}" for i in range(8))])
        server.signal(signal.SIGUSR2)
        fields = server.wait_line("connections stay with the old process")
        self.assertEqual((fields["count"], fields["reason"]), ("2", reason))
        fields = numbers(server.wait_line("upgraded"))
        self.assertEqual((fields["moved"], fields["stayed"]), (8, 2))
        for client, name in zip(clients, names, strict=False):
            ask(client, "who", f"{name} 2")
            client.close()
        server.followed()
        for i, client in enumerate(clients[2:]):
            ask(client, "who", f"n{i} 2")
        return server

    def test_on_save_refuses(self):
        sums = self.end(self.check_stay(["stay1", "stay2"], "on_save has refused them"))
        self.assertEqual((sums["restored"], sums["saved"]), (16, 16))

    def test_on_restore_refuses(self):
        sums = self.end(self.check_stay(["refuse1", "refuse2"], "the new process has refused them"))
        self.assertEqual(sums["restored"], 16)
        self.assertGreaterEqual(sums["saved"], 18)

    def test_all_are_refused(self):
        """A new version that cannot read the state is found by the first connections, and the upgrade is turned back."""
        server = self.saving()
        clients = self.visitors(server, [f"refuse{i}" for i in range(20)])
        server.signal(signal.SIGUSR2)
        fields = server.turned_back()
        self.assertEqual((fields["reason"], fields["lost"]), ("the new process takes no connection", "0"))
        for i, client in enumerate(clients):
            ask(client, "who", f"refuse{i} 2")
        self.end(server)

    def test_version_0(self):
        """A plug-in that was built before: its connections end in the old process."""
        server = self.server(XCHG_HANDLER=VERSION_0, XCHG_EXCHANGE=None, XCHG_DRAIN_TIMEOUT="1s")
        with server.connect() as old:
            ask(old, "line", "line")
            server.signal(signal.SIGUSR2)
            fields = server.wait_line("connections stay with the old process")
            self.assertEqual((fields["count"], fields["reason"]), ("1", "their handler has no state_version"))
            with server.connect() as new:
                ask(new, "line", "line")
                server.followed()
                self.assertTrue(is_closed(old))
                self.assertTrue(is_closed(new))
        server.end()


class Together(HandlerTest):
    def server_of(self, names, **variables):
        server = self.saving(**{"SAVING_TOGETHER": "1", "XCHG_WORKERS": "2", **variables})
        return server, self.visitors(server, names)

    def check_turned_back(self, server, clients, names, reason, returned=None):
        """All connections go on in the old process, and another upgrade finds the same obstacle or none."""
        fields = server.turned_back()
        self.assertEqual((fields["step"], fields["reason"], fields["lost"]), ("batches", reason, "0"))
        if returned is not None:
            self.assertEqual(fields["returned"], str(returned))
        for client, name in zip(clients, names, strict=True):
            ask(client, "who", f"{name} 2")

    def test_state_moves(self):
        names = [f"n{i}" for i in range(200)]
        server, clients = self.server_of(names)
        for i in range(3):
            fields = numbers(server.upgrade())
            self.assertEqual((fields["moved"], fields["stayed"]), (200, 0))
            self.assertGreater(fields["frozen_us_max"], 0)
            for name, client in zip(names, clients, strict=True):
                ask(client, "who", f"{name} {i + 2}")
        sums = self.end(server)
        self.assertEqual((sums["opened"], sums["gone"], sums["saved"]), (200, 1200, 1200))

    def test_one_is_refused(self):
        for name, reason in (("stay", "on_save has refused them"), ("refuse", "the new process has refused them")):
            with self.subTest(name=name):
                names = [f"n{i}" for i in range(150)] + [name]
                server, clients = self.server_of(names)
                server.signal(signal.SIGUSR2)
                self.check_turned_back(server, clients, names, reason)
                clients.pop().close()
                self.assertEqual(server.upgrade()["moved"], "150")
                self.end(server)

    def test_offloaded_work(self):
        """It is waited for, at most a second."""
        names = [f"n{i}" for i in range(20)]
        server, clients = self.server_of(names, XCHG_SANDBOX="off")
        os.mkfifo(self.path("fifo"))
        clients[3].sendall(f"work {self.path('fifo')}\n".encode())
        server.wait_stats(lambda values: values["messages"] == 21)
        server.signal(signal.SIGUSR2)
        self.check_turned_back(server, clients[:3] + clients[4:], names[:3] + names[4:],
                               "posted calls or offloaded work do not end", returned=20)
        server.signal(signal.SIGUSR2)
        server.wait_line("upgrading", 1)
        with open(self.path("fifo"), "w"):
            expect(clients[3], "worked")
        self.assertEqual(server.followed()["moved"], "20")
        ask(clients[3], "who", "n3 3")
        self.end(server)

    def test_one_of_two_programs(self):
        """The old program wants it, or the new one: it is so on both ways."""
        path = self.path("together")
        for change in (lambda: open(path, "x").close(), lambda: os.unlink(path)):
            server, clients = self.server_of(["n0", "stay"], SAVING_TOGETHER=path)
            change()
            server.signal(signal.SIGUSR2)
            self.check_turned_back(server, clients, ["n0", "stay"], "on_save has refused them")
            self.end(server)

    def test_a_callback_blocks(self):
        """The other worker's connections are served again before the callback returns."""
        server, clients = self.server_of(["n0", "n1"], XCHG_DISPATCH="least", XCHG_SANDBOX="off")
        os.mkfifo(self.path("fifo"))
        clients[1].sendall(f"block {self.path('fifo')}\n".encode())
        server.wait_stats(lambda values: values["messages"] == 3)
        server.signal(signal.SIGUSR2)
        child = os.pidfd_open(int(server.wait_line("upgrading")["child"]))
        self.addCleanup(os.close, child)
        self.assertTrue(select.select([child], [], [], LIMIT)[0])
        ask(clients[0], "who", "n0 2")
        with open(self.path("fifo"), "w"):
            expect(clients[1], "worked")
        fields = server.turned_back()
        self.assertEqual((fields["reason"], fields["returned"]), ("a worker does not answer", "2"))
        self.assertEqual(server.upgrade()["moved"], "2")
        self.end(server)

    def test_numbers_that_fill_batches(self):
        """A worker's last batch is full, and others have none: all workers forget what has moved."""
        for count in (1, 64, 128, 192):
            with self.subTest(count=count):
                server, clients = self.server_of([f"n{i}" for i in range(count)], XCHG_WORKERS="3",
                                                 XCHG_DISPATCH="least", XCHG_DRAIN_TIMEOUT="60m")
                self.assertEqual(server.upgrade()["moved"], str(count))
                ask(clients[0], "who", "n0 2")
                self.assertEqual(self.end(server)["gone"], 2 * count)

    def test_publications(self):
        """Members on three workers publish all the time: each one gets every line of each one, once and in its order."""
        names = [f"n{i}" for i in range(9)]
        server = self.saving(SAVING_TOGETHER="1", XCHG_WORKERS="3", XCHG_MAX_PENDING="16MiB")
        clients = self.visitors(server, names)
        for client in clients:
            ask(client, "join", "ok")
        over, sent, got = threading.Event(), [0] * len(clients), [[] for _ in clients]

        def talk(i):
            """Send 20 lines, and read until the last of them has come back. At the end read until each member has ended."""
            with clients[i].makefile("rb") as stream:
                while not over.is_set():
                    clients[i].sendall(b"".join(b"pub %d %d\n" % (i, sent[i] + k) for k in range(20)))
                    sent[i] += 20
                    while not got[i] or got[i][-1] != b"%d %d\n" % (i, sent[i] - 1):
                        got[i].append(stream.readline())
                clients[i].sendall(b"pub %d end\n" % i)
                ended = sum(b"end" in line for line in got[i])
                while ended < len(clients):
                    got[i].append(stream.readline())
                    ended += b"end" in got[i][-1]

        threads = [threading.Thread(target=talk, args=(i,)) for i in range(len(clients))]
        for thread in threads:
            thread.start()
        for _ in range(4):
            self.assertEqual(server.upgrade()["moved"], "9")
        over.set()
        for thread in threads:
            thread.join(LIMIT)
        for lines in got:
            for i, count in enumerate(sent):
                words = [line.split()[1] for line in lines if line.startswith(b"%d " % i)]
                self.assertEqual(words, [b"%d" % k for k in range(count)] + [b"end"])
        self.end(server)

    def test_without_connections(self):
        server, _ = self.server_of([])
        self.assertEqual(server.upgrade()["moved"], "0")
        clients = self.visitors(server, ["late"])
        ask(clients[0], "who", "late 2")
        self.end(server)


class TogetherPaused(PausedTest):
    """One process ends while all connections are on their way."""

    NAMES = [f"n{i}" for i in range(150)]

    def at(self, test):
        server = self.paused(test, XCHG_HANDLER=SAVING, XCHG_EXCHANGE=None, SAVING_TOGETHER="1")
        clients = []
        for name in self.NAMES:
            client = server.connect()
            self.addCleanup(client.close)
            ask(client, f"name {name}", "ok")
            clients.append(client)
        server.signal(signal.SIGUSR2)
        return server, clients

    def test_the_new_process_ends(self):
        """None was served there, so none is lost, whatever it has taken. One that has stopped is killed."""
        for test in ("new 7 1 crash", "new 8 1 crash", "new 8 3 crash", "new 9 1 crash", "new 8 2 stop"):
            with self.subTest(test=test):
                server, clients = self.at(test)
                self.assertEqual(server.turned_back()["lost"], "0")
                for client, name in zip(clients, self.NAMES, strict=True):
                    ask(client, "who", f"{name} 2")
                self.assertEqual(server.upgrade()["moved"], "150")
                for client, name in zip(clients, self.NAMES, strict=True):
                    ask(client, "who", f"{name} 3")
                server.end()


    def test_the_old_process_ends(self):
        """The new one serves what it has got."""
        server, clients = self.at("new 8 1 orphan")
        fields = numbers(server.wait_line("the old process has ended during the upgrade: this one serves"))
        child = int(server.wait_line("upgrading")["child"])
        served = 0
        for client, name in zip(clients, self.NAMES, strict=True):
            with contextlib.suppress(OSError, AssertionError):
                ask(client, "who", f"{name} 2")
                served += 1
        self.assertEqual(served, fields["moved"])
        self.assertGreater(served, 0)
        self.assertEqual(server.wait_end(server.pid), -signal.SIGKILL)
        server.now = child
        with server.connect() as client:
            ask(client, "name late", "ok")
        server.end()


class Examples(UpgradeTest):
    def example(self, name, **variables):
        return self.server(program=os.path.join(FOLDER, "examples", name), XCHG_EXCHANGE=None, **variables)

    def test_chat(self):
        """Each member of a room gets each line once, before, during and after upgrades."""
        server = self.example("chat", XCHG_WORKERS="2")
        members = []
        for i in range(10):
            member = server.connect()
            self.addCleanup(member.close)
            expect(member, "* your name?")
            ask(member, f"m{i}", f"* m{i} has entered lobby")
            for other in members:
                expect(other, f"* m{i} has entered lobby")
            members.append(member)
        waits = server.connect()  # has no name yet: its timer goes on
        self.addCleanup(waits.close)
        expect(waits, "* your name?")
        for round_ in range(3):
            over, said = threading.Event(), []

            def talk(over=over, said=said, round_=round_):
                while not over.is_set() or not said:
                    line = f"<m0> {round_} {len(said)}"
                    said.append(line)
                    ask(members[0], line[5:], line)

            thread = threading.Thread(target=talk)
            thread.start()
            self.assertEqual(server.upgrade()["moved"], "11")
            over.set()
            thread.join(LIMIT)
            for member in members[1:]:
                for line in said:
                    expect(member, line)
        ask(waits, "late", "* late has entered lobby")
        server.end()

    def test_kv(self):
        """Clients keep their values in the old process. New ones begin with an empty store."""
        server = self.example("kv", XCHG_DRAIN_TIMEOUT="1m")
        with server.connect() as old:
            ask(old, "set a 7 0 5\r\nhello\r", "STORED\r")
            server.signal(signal.SIGUSR2)
            server.wait_line("upgraded")
            ask(old, "get a\r", "VALUE a 7 5\r\nhello\r\nEND\r")
            with server.connect() as new:
                ask(new, "get a\r", "END\r")
        server.followed()
        server.end()


if __name__ == "__main__":
    unittest.main()
