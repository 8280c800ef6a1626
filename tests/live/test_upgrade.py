"""Goal: a new program takes over all connections, listeners and totals under the old process id, and no client loses anything (docs/upgrade.md).

Each connection moves twice in an upgrade: to the child, and back to the process that has the id of the server.

test_upgrade_states.py, _requests.py and _failures.py have the states of connections, xchgd --upgrade, and what can fail.
"""

import os
import signal
import socket
import threading
import unittest

from bench import kinds, measure
from fault_matrix import covers_fault
from upgrade import MODE, UpgradeEndpoint, UpgradeTest, exchange
from xchgd import LIMIT, PROGRAM, SLOW, is_closed, numbers, receive_exactly, run


class Moves(UpgradeTest):
    def test_all_connections_move(self):
        server = self.server()
        clients = self.clients(server, 200)
        there = numbers(server.upgrade())
        back = numbers(server.wait_line("returned"))
        for fields in (there, back):
            self.assertEqual((fields["moved"], fields["stayed"], fields["listeners"]), (200, 0, 1))
            frozen = [fields[f"frozen_us_{name}"] for name in ("p50", "p99", "max")]
            self.assertEqual(frozen, sorted(frozen))
            self.assertGreater(frozen[0], 0)
        stats = server.stats()
        self.assertEqual(stats["moved"], 400)  # each way counts
        self.assertEqual(stats["frozen_us_max"], max(there["frozen_us_max"], back["frozen_us_max"]))
        self.assertIn(stats["frozen_us_p50"], range(min(there["frozen_us_p50"], back["frozen_us_p50"]), stats["frozen_us_max"] + 1))
        for i, client in enumerate(clients):
            exchange(client, b"after %d" % i)
        clients += self.clients(server, 10)
        self.assertEqual(server.stats()["open"], 210)
        for client in clients:
            client.close()
        totals = server.end()
        self.assertEqual((totals["accepted"], totals["finished"], totals["messages"]), (210, 210, 410))
        self.assertEqual(len(server.messages("listening")), 1)  # not repeated

    def resources(self, server):
        """Descriptors and threads, when the server has seen the end of its child."""
        server.stats()
        server.stats()  # the main thread answers after the turn in which it has read the first signal
        return server.descriptors(), len(server.tasks())

    def test_many_in_a_row(self):
        """Nothing grows: descriptors, threads, memory."""
        server = self.server()
        clients = self.clients(server, 100)
        server.upgrade()
        server.upgrade()
        before = self.resources(server)
        for i in range(10):
            server.upgrade()
            for client in clients:
                exchange(client, b"%d" % i)
        self.assertEqual(self.resources(server), before)
        self.assertEqual(server.end()["accepted"], 100)

    @covers_fault(41)
    def test_under_load(self):
        """xchg-bench sees no refusal, no reset and no wrong answer, and the totals are its own."""
        for options in (("-c", "64", "--size", "64"), ("-c", "32", "--reconnect", "5", "--size", "uniform:1,9000"),
                        ("-c", "16", "-p", "8", "--size", "uniform:1,20000")):
            with self.subTest(options=options):
                server = self.server(XCHG_WORKERS="2")
                report = {}

                def load(server=server, options=options, report=report):
                    report.update(measure(server.addresses[0], "-x", "echo", *options, "-d", f"{round(4 * SLOW)}s"))

                thread = threading.Thread(target=load)
                thread.start()
                moved = 0
                server.wait_stats(lambda values: values["messages"] > 0)
                while thread.is_alive():
                    moved += int(server.upgrade()["moved"])
                thread.join()
                self.assertEqual(kinds(report), {})
                self.assertGreater(moved, 50)
                self.assertGreater(server.upgrades, 2)
                server.end()
                self.assertEqual([line for line in server.lines if "level=warn" in line or "level=error" in line], [])

    def test_without_connections(self):
        server = self.server()
        self.assertEqual(numbers(server.upgrade())["moved"], 0)
        self.clients(server, 1)

    def test_off(self):
        server = self.server(XCHG_UPGRADE="off")
        server.signal(signal.SIGUSR2)
        self.clients(server, 1)
        self.assertEqual(server.messages("upgrading"), [])
        server.end()


class Handlers(UpgradeTest):
    def test_connections_of_a_handler_stay(self):
        """Those of the server end before it executes the new program, those of the child before the child ends.

        Main is open, and all other threads have the filter of a handler.
        """
        holder = os.path.join(os.path.dirname(PROGRAM), "tests/live/plugin/holder.so")
        server = self.server(XCHG_HANDLER=holder, XCHG_EXCHANGE=None, XCHG_DRAIN_TIMEOUT="1s")
        with server.connect() as old:
            self.assertEqual(receive_exactly(old, 6), b"hello\n")
            server.signal(signal.SIGUSR2)
            stays = server.wait_line("connections stay with the old process")
            self.assertEqual(stays["count"], "1")
            self.assertEqual(server.wait_line("upgraded")["stayed"], "1")
            with server.connect() as new:
                self.assertEqual(receive_exactly(new, 6), b"hello\n")
                server.followed()
                self.assertTrue(is_closed(old))
                self.assertTrue(is_closed(new))
        self.assertEqual(server.messages("returned")[0]["stayed"], "1")
        totals = server.wait_stats(lambda values: values["open"] == 0)
        self.assertEqual((totals["accepted"], totals["closed_drain"]), (2, 2))
        with server.connect() as client:
            self.assertEqual(receive_exactly(client, 6), b"hello\n")
        for name, task in server.threads().items():
            with open(f"/proc/{server.pid}/task/{task}/status") as stream:
                self.assertEqual("Seccomp:\t2" in stream.read(), name != "xchgd" and MODE != "off", name)
        server.end()

    def test_a_child_of_the_program(self):
        """A child that the program has forked keeps the channel open: the end of the process counts all the same."""
        holder = os.path.join(os.path.dirname(PROGRAM), "tests/live/plugin/holder.so")
        os.mkfifo(self.path("fifo"))
        server = self.server(XCHG_HANDLER=holder, XCHG_EXCHANGE=None, HOLDER_FORKS=self.path("fifo"))
        for _ in range(3):
            server.upgrade()
            with server.connect() as client:
                self.assertEqual(receive_exactly(client, 6), b"hello\n")
        server.end()
        with open(self.path("fifo"), "w"):  # it lets the children end
            pass

    def test_a_callback_that_blocks(self):
        """Its worker cannot be asked for anything, and new clients are served all the same."""
        holder = os.path.join(os.path.dirname(PROGRAM), "tests/live/plugin/holder.so")
        server = self.server(XCHG_HANDLER=holder, XCHG_EXCHANGE=None, XCHG_WORKERS="1", XCHG_DRAIN_TIMEOUT="1s")
        os.mkfifo(self.path("fifo"))
        with server.connect() as old:
            self.assertEqual(receive_exactly(old, 6), b"hello\n")
            old.sendall(b"hold " + self.path("fifo").encode() + b"\n")
            with open(self.path("fifo"), "w"):  # it reads now
                server.signal(signal.SIGUSR2)
                server.wait_line("upgraded")
                with server.connect() as new:
                    self.assertEqual(receive_exactly(new, 6), b"hello\n")
                server.followed()
        self.assertEqual(server.wait_stats(lambda values: values["open"] == 0)["closed_error"], 1)  # the one whose callback blocked
        server.end()

    def test_arguments_of_a_program(self):
        """A program with arguments of its own starts with them again, and keeps its name. Nothing else inherits the channel's variable."""
        program = os.path.join(os.path.dirname(PROGRAM), "tests/live/argument_server")
        server = self.server(wrap=[program], program="two words", XCHG_EXCHANGE=None)
        for _ in range(2):
            with server.connect() as client:
                self.assertEqual(receive_exactly(client, 9), b"two words")
            server.upgrade()
            with open(f"/proc/{server.pid}/comm") as stream:
                self.assertEqual(stream.read(), "argument_server\n")
        server.end()
        self.assertEqual(server.messages("channel"), [])


class Listeners(UpgradeTest):
    def test_unix_socket(self):
        """The file is never unlinked or bound again, and the last process removes it."""
        path = self.path("data")
        server = self.server(XCHG_LISTEN=f"unix:{path};mode=0660,127.0.0.1:0")
        before = os.stat(path)
        clients = self.clients(server, 5)
        for _ in range(3):
            self.assertEqual(numbers(server.upgrade())["moved"], 5)
            after = os.stat(path)
            self.assertEqual((after.st_ino, after.st_mode), (before.st_ino, before.st_mode))
        for client in clients:
            exchange(client, b"x")
        server.end()
        self.assertFalse(os.path.exists(path))

    def test_passed_sockets(self):
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            server = self.server(activate=[one, two])
            clients = self.clients(server, 10)
            for _ in range(2):
                server.upgrade()
            for address in server.addresses:
                with server.connect(address=address) as client:
                    exchange(client, b"x")
            for client in clients:
                exchange(client, b"y")
            server.end()
            with socket.create_connection(one.getsockname(), LIMIT):
                pass  # the manager's socket is as before: it listens

    def test_admin_endpoint(self):
        """It answers in one process until the totals go, then in the next one; counters never decrease."""
        server = self.server(UpgradeEndpoint, self.path("admin"))
        inode = os.stat(self.path("admin")).st_ino
        clients = self.clients(server, 30)
        for i in range(3):
            server.upgrade()
            self.assertEqual(server.metric("xchg_connections_accepted_total"), 30)
            self.assertEqual(server.metric("xchg_connections_open"), 30)
            self.assertEqual(server.metric("xchg_messages_received_total"), 30 * (i + 1))
            self.assertEqual(server.metric("xchg_handoff_seconds_count"), 30)
            self.assertEqual(server.metric("xchg_connections_moved_total"), 60 * (i + 1))  # each way counts
            self.assertEqual(server.metric("xchg_move_seconds_count"), 60 * (i + 1))
            for client in clients:
                exchange(client, b"x")
        self.assertEqual(os.stat(self.path("admin")).st_ino, inode)
        server.end()
        self.assertFalse(os.path.exists(self.path("admin")))


    def test_commands_of_the_admin_endpoint(self):
        """What they have set goes over: /ready, and the log level with its end."""
        server = self.server(UpgradeEndpoint, self.path("admin"), XCHG_LOG_LEVEL="info")
        again = "the log level is the configured one again"
        self.clients(server, 1)
        server.ask("/ready?state=off", "POST")
        server.ask("/log?level=debug&for=60m", "POST")
        server.upgrade()
        reply = server.ask("/readyz")
        self.assertEqual((reply.status, reply.text), (503, "off\n"))
        self.assertEqual(server.messages("opened"), [])
        self.clients(server, 1)
        server.wait_line("opened")
        server.ask("/ready?state=on", "POST")
        server.ask(f"/log?level=debug&for={round(5 * SLOW)}s", "POST")
        server.upgrade()
        self.assertEqual(server.ask("/readyz").status, 200)
        self.assertEqual(server.messages(again), [])
        server.wait_line(again)
        opened = len(server.messages("opened"))
        self.clients(server, 1)
        self.assertEqual(server.stats()["open"], 3)
        self.assertEqual(len(server.messages("opened")), opened)
        server.end()


@unittest.skipIf(MODE == "off", "instrumented programs make calls of their own")
class Sandboxed(UpgradeTest):
    def test_main_is_open(self):
        server = self.server()
        self.assertEqual(server.wait_line("sandbox").get("main"), "open")
        server.upgrade()
        self.assertEqual(server.wait_line("sandbox", 1).get("main"), "open")
        for name, task in server.threads().items():
            with open(f"/proc/{server.pid}/task/{task}/status") as stream:
                filtered = "Seccomp:\t2" in stream.read()
            self.assertEqual(filtered, name != "xchgd", name)
        server.end()

    def test_on_is_a_fault(self):
        result = run("--check", XCHG_SANDBOX="on", XCHG_UPGRADE="on")
        self.assertEqual(result.returncode, 78)


if __name__ == "__main__":
    unittest.main()
