"""Goal: the server behaves as docs/reference.md, Faults, says when descriptors or memory run out."""

import contextlib
import resource
import select
import time
import unittest

from fault_matrix import covers_fault
from xchgd import (LIMIT, PLAIN, SLOW, WRAP, Server, greet, is_silent, receive_all,
                   receive_exactly, reset)


def limit_descriptors(count):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


@covers_fault(2)
class Descriptors(unittest.TestCase):
    def serve_all(self, server, clients):
        """Serve each client once it is greeted."""
        poll = select.poll()
        waiting = {client.fileno(): client for client in clients}
        for client in clients:
            poll.register(client, select.POLLIN)
        while waiting:
            events = poll.poll(LIMIT * 1000)
            self.assertTrue(events, f"{len(waiting)} clients are never served")
            for number, _ in events:
                poll.unregister(number)
                with waiting.pop(number) as client:
                    greet(client)

    def check_quiet(self, server, waiting):
        """While all clients wait, a second costs less than 5 % of a CPU and less than 2 kB of log."""
        server.stats()
        cpu, written = server.cpu_seconds(), sum(map(len, server.lines))
        self.assertTrue(is_silent(waiting, 1.0))
        cpu = server.cpu_seconds() - cpu
        if PLAIN:
            self.assertLessEqual(cpu, 0.05 * SLOW)
        self.assertLess(sum(map(len, server.lines)) - written, 2048)

    def served_and_waiting(self, clients, least):
        """Once nothing happens any more, divide the clients into greeted and waiting ones."""
        self.assertFalse(is_silent(clients[least - 1], LIMIT))
        ready, waiting = [], clients
        while more := select.select(waiting, [], [], 0.4)[0]:
            ready += more
            waiting = [client for client in waiting if client not in more]
        self.assertTrue(waiting)
        return ready, waiting

    def check_next(self, server, served, waiting):
        """When descriptors become free, a waiting client is greeted within 120 ms."""
        for client in served:
            client.close()
        start = time.monotonic()
        self.assertTrue(select.select(waiting, [], [], LIMIT)[0])
        self.assertLessEqual(time.monotonic() - start, 0.12 * SLOW)

    def test_few_descriptors(self):
        """A server with 64 descriptors and 200 clients does not spin and serves all of them in the end."""
        with Server(preexec=limit_descriptors(64), XCHG_WORKERS="2") as server:
            clients = [server.connect() for _ in range(200)]
            served, waiting = self.served_and_waiting(clients, 10)
            self.assertLess(len(served), 64)
            self.check_quiet(server, waiting[0])
            self.check_next(server, served, waiting)
            self.serve_all(server, waiting)
            server.wait_stats(lambda s: s["accepted"] == 200 and s["open"] == 0)
            self.assertEqual(server.stop()["finished"], len(waiting))

    def test_out_of_descriptors_under_way(self):
        """Descriptors run out: the server does not spin, logs one line at the start and one at the end, and a connected
        client notices nothing."""
        with Server(XCHG_WORKERS="2") as server:
            with server.connect() as early:
                receive_exactly(early, 20)
                before = len(server.remarks())
                most = server.descriptors() + 20
                with server.limited(resource.RLIMIT_NOFILE, most):
                    clients = [server.connect() for _ in range(200)]
                    served, waiting = self.served_and_waiting(clients, 10)
                    self.assertLess(len(served), 100 if WRAP else 21)  # valgrind has descriptors of its own
                    server.wait_stats(lambda s: s["accept_pauses"] > 0)
                    self.check_quiet(server, waiting[0])
                    early.sendall(b"noticed nothing\0")
                    self.assertEqual(receive_all(early), b"")
                    self.assertEqual(len(server.remarks()), before + 1, server.remarks())
                    self.check_next(server, served, waiting)
                self.serve_all(server, waiting)
            server.wait_for(lambda lines: len(server.remarks()) > before + 1, "line at the end")
            with server.connect() as client:
                greet(client)
            totals = server.stop()
            self.assertEqual(totals["finished"], len(waiting) + 2)
            self.assertEqual(len(server.remarks()), before + 2, server.remarks())


class Queues(unittest.TestCase):
    def test_burst_costs_few_wakes(self):
        """A burst of 500 connections costs far fewer than 500 wakes."""
        with Server(XCHG_WORKERS="2") as server:
            before = server.stats()["wakes"]
            server.pause()
            clients = [server.connect() for _ in range(500)]
            server.resume()
            for client in clients:
                greet(client)
            stats = server.wait_stats(lambda s: s["finished"] == 500)
            self.assertLess(stats["wakes"] - before, 250)
            self.assertGreater(stats["wakes"], 0)
            server.stop()


class Peers(unittest.TestCase):
    @covers_fault(31)
    def test_numbers_are_reused(self):
        """Connections that reuse a descriptor number at once never get each other's bytes."""
        with Server(XCHG_EXCHANGE="line", XCHG_WORKERS="2") as server:
            for turn in range(20):
                server.pause()
                clients = [server.connect() for _ in range(20)]
                for i, client in enumerate(clients):
                    if i % 2:
                        client.sendall(b"part")
                        reset(client)
                    else:
                        client.sendall(b"%d.%d\n" % (turn, i))
                server.resume()
                for i, client in enumerate(clients):
                    if i % 2 == 0:
                        self.assertEqual(receive_all(client), b"%d.%d\n" % (turn, i))
                        client.close()
            server.wait_stats(lambda s: s["accepted"] == 400 and s["open"] == 0)
            self.assertEqual(server.stop()["finished"], 200)


class Memory(unittest.TestCase):
    @unittest.skipUnless(PLAIN, "needs an address space without a sanitizer or a wrap")
    @covers_fault(52)
    def test_no_memory(self):
        """Without memory, the connections that need more end as `memory`. Other connections and the process live."""
        with Server(XCHG_EXCHANGE="line", XCHG_MAX_MESSAGE="1MiB", XCHG_WORKERS="1",
                    XCHG_MESSAGE_TIMEOUT="0") as server:
            with server.connect() as steady:
                server.wait_stats(lambda s: s["open"] == 1)  # all threads have started and mapped their memory
                with server.limited(resource.RLIMIT_AS, server.memory_bytes("VmSize") + (4 << 20)):
                    clients = [server.connect() for _ in range(64)]
                    for client in clients:
                        with contextlib.suppress(ConnectionError):
                            client.sendall(600_000 * b"m")
                    server.wait_stats(lambda s: s["closed_memory"] > 0, "connection closed as memory")
                steady.sendall(b"still here\n")
                self.assertEqual(receive_all(steady), b"still here\n")
                for client in clients:
                    client.close()
            server.wait_stats(lambda s: s["open"] == 0)
            with server.connect() as client:
                client.sendall(b"and again\n")
                self.assertEqual(receive_all(client), b"and again\n")
            server.stop()
