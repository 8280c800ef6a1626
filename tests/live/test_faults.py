"""The table of faults, row by row, against the real program (contract, section 6)."""

import contextlib
import resource
import select
import shutil
import signal
import socket
import time
import unittest

from xchgd import (GREETING, LIMIT, PLAIN, SLOW, WRAP, Server, greet, is_cut, is_silent,
                   receive_all, receive_exactly, reset, strace)


def limit_descriptors(count):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


class Descriptors(unittest.TestCase):
    def serve_all(self, server, clients):
        """Serve whoever has been greeted until everybody was; how long the first new one took to
        be greeted."""
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
        """While everybody waits, a second costs under 5 % of a CPU and under 2 kB of log."""
        server.stats()
        cpu, written = server.cpu_seconds(), sum(map(len, server.lines))
        self.assertTrue(is_silent(waiting, 1.0))
        cpu = server.cpu_seconds() - cpu
        if PLAIN:
            self.assertLessEqual(cpu, 0.05 * SLOW)
        self.assertLess(sum(map(len, server.lines)) - written, 2048)

    def served_and_waiting(self, clients, least):
        """Divide the clients, once nothing happens any more, into those that have their greeting
        and those that have not."""
        self.assertFalse(is_silent(clients[least - 1], LIMIT))
        ready, waiting = [], clients
        while more := select.select(waiting, [], [], 0.4)[0]:
            ready += more
            waiting = [client for client in waiting if client not in more]
        self.assertTrue(waiting)
        return ready, waiting

    def check_next(self, server, served, waiting):
        """When descriptors are free, a waiting client has its greeting within 120 ms."""
        for client in served:
            client.close()
        start = time.monotonic()
        self.assertTrue(select.select(waiting, [], [], LIMIT)[0])
        self.assertLessEqual(time.monotonic() - start, 0.12 * SLOW)

    def test_few_descriptors(self):
        """A start with 64 descriptors and 200 clients: nothing spins, everybody is served in the
        end."""
        with Server(preexec=limit_descriptors(64), XCHG_WORKERS="2") as server:
            clients = [server.connect() for _ in range(200)]
            served, waiting = self.served_and_waiting(clients, 10)
            self.assertLess(len(served), 64)
            self.check_quiet(server, waiting[0])
            self.check_next(server, served, waiting)
            self.serve_all(server, waiting)
            server.wait_stats(lambda s: s["accepted"] == 200 and s["open"] == 0)
            self.assertEqual(server.stop()["finished"], len(waiting))

    def test_emfile(self):
        """Descriptors run out under way: no spinning, one line at the begin and one at the end,
        nobody notices."""
        with Server(XCHG_WORKERS="2") as server:
            with server.connect() as early:
                receive_exactly(early, 20)
                before = len(server.remarks())
                most = server.descriptors() + 20
                everything = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
                resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (most, everything[1]))
                clients = [server.connect() for _ in range(200)]
                served, waiting = self.served_and_waiting(clients, 10)
                self.assertLess(len(served), 100 if WRAP else 21)  # valgrind counts its own
                server.wait_stats(lambda s: s["accept_pauses"] > 0)
                self.check_quiet(server, waiting[0])
                early.sendall(b"noticed nothing\0")
                self.assertEqual(receive_all(early), b"")
                self.assertEqual(len(server.remarks()), before + 1, server.remarks())
                self.check_next(server, served, waiting)
                resource.prlimit(server.pid, resource.RLIMIT_NOFILE, everything)
                self.serve_all(server, waiting)
            server.wait_for(lambda lines: len(server.remarks()) > before + 1, "line at the end")
            with server.connect() as client:
                greet(client)
            totals = server.stop()
            self.assertEqual(totals["finished"], len(waiting) + 2)
            self.assertEqual(len(server.remarks()), before + 2, server.remarks())

    def test_again_and_again(self):
        """Many times out of descriptors and back leaves none behind."""
        with Server(XCHG_WORKERS="2") as server:
            idle = server.descriptors()
            for _ in range(5):
                everything = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
                resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (idle + 5, everything[1]))
                clients = [server.connect() for _ in range(30)]
                self.serve_all(server, clients)
                resource.prlimit(server.pid, resource.RLIMIT_NOFILE, everything)
                server.wait_stats(lambda s: s["open"] == 0)
                self.assertEqual(server.descriptors(), idle)
            self.assertEqual(server.stop()["finished"], 150)


@unittest.skipUnless(shutil.which("strace") and not WRAP, "needs strace and no other wrap")
class Accept(unittest.TestCase):
    def serve(self, error, when, count=20):
        """Serve ${count} clients while accept4 fails so; the totals, and the lines beyond the
        usual."""
        with Server(wrap=strace(f"accept4:error={error}:when={when}")) as server:
            before = len(server.remarks())
            clients = [server.connect() for _ in range(count)]
            for client in clients:
                greet(client)
            server.wait_stats(lambda s: s["finished"] == count)
            if error in ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"):
                server.wait_for(lambda lines: len(server.remarks()) >= before + 2, "two lines")
            totals = server.stop()
            self.assertEqual((totals["accepted"], totals["finished"]), (count, count))
            return totals, server.remarks()[before:]

    def test_one_connections_fault(self):
        """An error of one connection is counted and the next one accepted at once."""
        for error in ["ECONNABORTED", "EPROTO", "ENETDOWN", "EHOSTUNREACH", "EPERM"]:
            with self.subTest(error):
                totals, lines = self.serve(error, "1+2")
                self.assertGreaterEqual(totals["accept_errors"], 1)
                self.assertEqual((totals["accept_pauses"], lines), (0, []))

    def test_interrupted(self):
        """An interrupted accept is taken up again."""
        self.serve("EINTR", "1+2")

    def test_out_of_something(self):
        """Without descriptors, buffers or memory accepting pauses and resumes; a line at the
        begin, one at the end."""
        for error in ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]:
            with self.subTest(error):
                totals, lines = self.serve(error, "2..4")
                self.assertGreaterEqual(totals["accept_pauses"], 1)
                self.assertEqual(len(lines), 2, lines)

    def test_broken_listener(self):
        """A listener that is broken ends the server in order: a line about it, exit 71."""
        for error in ["EINVAL", "EBADF", "ENOTSOCK"]:
            with self.subTest(error), \
                    Server(wrap=strace(f"accept4:error={error}:when=1+")) as server:
                with contextlib.suppress(ConnectionError):  # it breaks while we connect
                    server.connect().close()
                totals = server.finish(expect=71)
                self.assertTrue(server.remarks())
                self.assertEqual(totals["accepted"], 0)


class Queues(unittest.TestCase):
    def test_full_waits(self):
        """With every queue full under wait everybody is served in the end."""
        with Server(XCHG_QUEUE="1", XCHG_WORKERS="1") as server:
            server.pause()
            clients = [server.connect() for _ in range(400)]
            server.resume()
            for client in clients:
                greet(client)
            self.assertEqual(server.stop()["finished"], 400)

    def test_full_refuses(self):
        """With every queue full under refuse a client has its whole exchange or is closed, and is
        counted so."""
        with Server(XCHG_QUEUE="1", XCHG_WORKERS="1", XCHG_OVERLOAD="refuse") as server:
            server.pause()
            clients = [server.connect() for _ in range(400)]
            server.resume()
            served = 0
            for client in clients:
                with client:
                    try:
                        if client.recv(1, socket.MSG_PEEK):
                            greet(client)
                            served += 1
                    except ConnectionError:
                        pass
            server.wait_stats(lambda s: s["accepted"] == 400 and s["open"] == 0)
            totals = server.stop()
            self.assertGreater(served, 0)
            self.assertEqual((totals["finished"], totals["closed_overload"]),
                             (served, 400 - served))

    def test_burst_costs_few_wakes(self):
        """500 connections in a burst cost far fewer than 500 wakes."""
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
    def test_urgent(self):
        """Urgent data among the rest stalls nothing, loses no other byte, and does not spin."""
        with Server(XCHG_EXCHANGE="echo", XCHG_WORKERS="1") as server:
            with server.connect() as client:
                for i in range(200):
                    data = b"<%d>" % i
                    client.sendall(data[:2])
                    client.send(b"!", socket.MSG_OOB)
                    client.sendall(data[2:])
                    self.assertEqual(self.receive(client, len(data)), data)
                client.send(b"!", socket.MSG_OOB)
                cpu = server.cpu_seconds()
                self.quiet(client, 0.6)
                if PLAIN:
                    self.assertLessEqual(server.cpu_seconds() - cpu, 0.06 * SLOW)
                client.sendall(b"end")
                self.assertEqual(self.receive(client, 3), b"end")
            self.assertEqual(server.stop()["finished"], 1)

    def receive(self, client, size):
        """So many bytes, urgent ones apart, which may come as ordinary ones or not at all."""
        data = b""
        while len(data) < size:
            chunk = client.recv(size - len(data))
            self.assertTrue(chunk)
            data += chunk.replace(b"!", b"")
        return data

    def quiet(self, client, seconds):
        """Let the time pass; a stray urgent byte may come back."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not is_silent(client, left):
                self.assertEqual(client.recv(1), b"!")

    def test_urgent_then_end(self):
        """A client whose last byte is urgent, or whose only one is, ends like any other."""
        for data in [b"", b"data"]:
            with self.subTest(data), Server(XCHG_EXCHANGE="echo") as server:
                with server.connect() as client:
                    client.sendall(data)
                    client.send(b"!", socket.MSG_OOB)
                    client.shutdown(socket.SHUT_WR)
                    self.assertEqual(receive_all(client).replace(b"!", b""), data)
                self.assertEqual(server.stop()["finished"], 1)

    def test_resets(self):
        """Clients that reset at any moment touch nobody else, and every one of them is counted."""
        with Server(XCHG_EXCHANGE="line", XCHG_MESSAGES="0", XCHG_WORKERS="2") as server:
            with server.connect() as steady:
                for i in range(120):
                    client = server.connect()
                    if i % 3 == 1:
                        client.sendall(b"begun")
                    elif i % 3 == 2:
                        client.sendall(b"whole\n")
                        receive_exactly(client, 6)
                    reset(client)
                    steady.sendall(b"%d\n" % i)
                    self.assertEqual(receive_exactly(steady, len(b"%d\n" % i)), b"%d\n" % i)
            server.wait_stats(lambda s: s["accepted"] == 121 and s["open"] == 0)
            totals = server.stop()
            self.assertGreaterEqual(totals["closed_reset"], 1)
            self.assertEqual(totals["closed_error"], 0)

    def test_reset_in_the_backlog(self):
        """Clients that are gone before they were accepted are counted and cost nothing more."""
        with Server() as server:
            server.pause()
            for _ in range(50):
                reset(server.connect())
            last = server.connect()
            server.resume()
            greet(last)
            stats = server.wait_stats(lambda s: s["finished"] == 1 and s["open"] == 0)
            self.assertLessEqual(stats["closed_error"], 0)
            server.stop()

    def test_reset_while_output_waits(self):
        """A reset in the middle of a long reply ends that connection as reset."""
        with Server(XCHG_EXCHANGE="line", XCHG_MESSAGES="0", XCHG_MAX_MESSAGE="8MiB") as server:
            client = server.connect(rcvbuf=4096)
            client.sendall((6 << 20) * b"x" + b"\n")
            server.wait_stats(lambda s: s["messages"] == 1)
            reset(client)
            server.wait_stats(lambda s: s["open"] == 0)
            self.assertEqual(server.stop()["closed_reset"], 1)

    def test_half_close(self):
        """A client that half-closes after its message has its whole reply."""
        line = (1 << 20) * b"y" + b"\n"
        with Server(XCHG_EXCHANGE="line", XCHG_MAX_MESSAGE="2MiB") as server:
            with server.connect() as client:
                client.sendall(line)
                client.shutdown(socket.SHUT_WR)
                self.assertEqual(receive_all(client), line)
            self.assertEqual(server.stop()["finished"], 1)

    def test_early_writer_keeps_the_greeting(self):
        """A client that sends far more than its message before it reads does not lose the greeting
        to a reset."""
        with Server() as server:
            for _ in range(20):
                with server.connect() as client:
                    client.sendall(b"message\0" + 200_000 * b"z")
                    self.assertEqual(receive_all(client), GREETING)
            server.wait_stats(lambda s: s["open"] == 0)
            self.assertEqual(server.stop()["finished"], 20)

    def test_byte_by_byte(self):
        """A client that sends byte by byte has its exchange while others have theirs."""
        with Server(XCHG_EXCHANGE="line", XCHG_WORKERS="1") as server:
            with server.connect() as slow:
                slow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for byte in b"slow":
                    slow.sendall(bytes([byte]))
                    with server.connect() as other:
                        other.sendall(b"quick\n")
                        self.assertEqual(receive_all(other), b"quick\n")
                slow.sendall(b"\n")
                self.assertEqual(receive_all(slow), b"slow\n")
            self.assertEqual(server.stop()["finished"], 5)

    def test_numbers_are_reused(self):
        """Descriptor numbers that close and come again at once never mix two connections' bytes."""
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
    @unittest.skipUnless(PLAIN, "needs an address space that nobody else uses")
    def test_no_memory(self):
        """Without memory the connections that need more end, counted as memory; the rest and the
        process live."""
        with Server(XCHG_EXCHANGE="line", XCHG_MAX_MESSAGE="1MiB", XCHG_WORKERS="1",
                    XCHG_MESSAGE_TIMEOUT="0") as server:
            with server.connect() as steady:
                with open(f"/proc/{server.pid}/statm") as f:
                    size = int(f.read().split()[0]) * resource.getpagesize()
                before = resource.prlimit(server.pid, resource.RLIMIT_AS)
                resource.prlimit(server.pid, resource.RLIMIT_AS, (size + (4 << 20), before[1]))
                clients = [server.connect() for _ in range(64)]
                for client in clients:
                    try:
                        client.sendall(600_000 * b"m")
                    except ConnectionError:
                        pass
                server.wait_stats(lambda s: s["closed_memory"] > 0, "end for want of memory")
                resource.prlimit(server.pid, resource.RLIMIT_AS, before)
                steady.sendall(b"still here\n")
                self.assertEqual(receive_all(steady), b"still here\n")
                for client in clients:
                    client.close()
            server.wait_stats(lambda s: s["open"] == 0)
            with server.connect() as client:
                client.sendall(b"and again\n")
                self.assertEqual(receive_all(client), b"and again\n")
            server.stop()


class Flood(unittest.TestCase):
    def test_firehose(self):
        """A client that sends and reads as fast as it can does not keep its worker from the
        others."""
        with Server(XCHG_EXCHANGE="echo", XCHG_WORKERS="1") as server:
            with server.connect() as hose, server.connect() as other:
                hose.setblocking(False)
                other.settimeout(LIMIT)
                for i in range(50):
                    other.sendall(b"%3d" % i)
                    answer = b""
                    while len(answer) < 3:
                        readable, writable, _ = select.select([hose, other], [hose], [], LIMIT)
                        self.assertTrue(readable or writable)
                        if writable:
                            hose.send(65536 * b"w")
                        if hose in readable:
                            hose.recv(65536)
                        if other in readable:
                            answer += other.recv(3)
                    self.assertEqual(answer, b"%3d" % i)
            server.wait_stats(lambda s: s["open"] == 0)
            server.stop()

    def test_many_at_once(self):
        """As many connections as the descriptors of this process allow, at most 5,000, are served
        at once."""
        count = min(5000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200)
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft[1], soft[1]))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, soft)
        with Server(XCHG_EXCHANGE="echo") as server:
            clients = []
            self.addCleanup(lambda: [client.close() for client in clients])
            for i in range(count):
                clients.append(server.connect(source=f"127.0.0.{2 + i % 8}"))
            server.wait_stats(lambda s: s["open"] == count)
            for i, client in enumerate(clients):
                client.sendall(b"%d" % i)
            for i, client in enumerate(clients):
                self.assertEqual(receive_exactly(client, len(b"%d" % i)), b"%d" % i)
            server.process.send_signal(signal.SIGTERM)
            for client in clients:
                self.assertTrue(is_cut(client))
                client.close()
            self.assertEqual(server.finish()["finished"], count)


if __name__ == "__main__":
    unittest.main()
