"""Goal: the log is as docs/reference.md, Log lines, says, and a stream that takes no lines blocks nothing."""

import fcntl
import json
import os
import signal
import socket

from clients import FolderTest
from fault_matrix import covers_fault
from xchgd import Notify, Server, check_totals, greet, parse_logfmt, receive_all


class Log(FolderTest):
    def test_levels(self):
        """listening, stats and stopped are one line each at every level. At error there is nothing else."""
        for level in ["error", "warn", "info", "debug"]:
            with self.subTest(level), Server(XCHG_LOG_LEVEL=level) as server:
                with server.connect() as client:
                    greet(client)
                stats = server.wait_stats(lambda s: s["finished"] == 1)
                check_totals(stats)
                for name in ["open", "wakes", "stale", "accept_errors", "accept_pauses", "messages",
                             "bytes_in", "bytes_out"]:
                    self.assertIn(name, stats)
                self.assertEqual((stats["messages"], stats["bytes_in"], stats["bytes_out"]),
                                 (1, 6, 20))
                server.stop()
                self.assertEqual(len(server.messages("listening")), 1)
                self.assertEqual(len(server.messages("stopped")), 1)
                if level == "error":
                    kinds = [parse_logfmt(line).get("msg") for line in server.lines]
                    self.assertEqual(set(kinds), {"listening", "stats", "stopped"})

    def test_nothing_per_connection(self):
        """At info, connections add no line to the log, not even rude ones."""
        counts = []
        for clients in [0, 30]:
            with Server(XCHG_MAX_MESSAGE="4") as server:
                for i in range(clients):
                    with server.connect() as client:
                        client.sendall(b"too long for this\0" if i % 2 else b"x\0")
                        client.shutdown(socket.SHUT_WR)
                        receive_all(client)
                server.wait_stats(lambda s: s["accepted"] == clients and s["open"] == 0)
                server.stop()
                counts.append(len(server.remarks()))
        self.assertEqual(counts[0], counts[1])

    def test_logfmt(self):
        """Every line starts with time, level and msg and is printable ASCII."""
        with Server(XCHG_LOG_LEVEL="debug", XCHG_BACKLOG="2147483647") as server:
            with server.connect() as client:
                greet(client)
            server.stop()
            for line in server.lines:
                self.assertEqual(list(parse_logfmt(line))[:3], ["time", "level", "msg"], line)
                self.assertRegex(line, r"^[ -~]+$")

    def test_json(self):
        """In the JSON format every line is an object with time, level and msg. Totals are numbers."""
        with Server(XCHG_LOG_FORMAT="json", XCHG_LOG_LEVEL="debug",
                    XCHG_BACKLOG="2147483647") as server:
            with server.connect() as client:
                greet(client)
            server.wait_stats(lambda s: s["finished"] == 1)
            server.stop()
            for line in server.lines:
                self.assertTrue({"time", "level", "msg"} <= set(json.loads(line)), line)
            stopped = json.loads(server.lines[-1])
            self.assertEqual((stopped["msg"], stopped["accepted"]), ("stopped", 1))

    def quiet(self, notify, **streams):
        """A server whose stderr takes no lines. It serves clients and stops."""
        with Server(NOTIFY_SOCKET=notify.address, XCHG_LISTEN=f"unix:{self.path()}",
                    XCHG_LOG_LEVEL="debug", **streams) as server:
            notify.wait("READY=1")
            for _ in range(20):
                greet(self.unix_client(self.path()))
                server.process.send_signal(signal.SIGUSR1)
            greet(self.unix_client(self.path()))
            yield server
            server.stop()

    @covers_fault(55)
    def test_full_disk(self):
        """A full disk costs log lines and nothing else."""
        with Notify(self.folder) as notify, open("/dev/full", "wb") as full:
            for _ in self.quiet(notify, stderr=full.fileno()):
                pass

    @covers_fault(55)
    def test_full_pipe(self):
        """A pipe that is not read blocks nothing, keeps its flags, and gets lines again once it is read."""
        read_end, write_end = self.full_pipe()
        with Notify(self.folder) as notify:
            for server in self.quiet(notify, stderr=write_end):
                self.assertFalse(fcntl.fcntl(write_end, fcntl.F_GETFL) & os.O_NONBLOCK)
                data = b""
                os.set_blocking(read_end, False)
                while data.count(b"x") < self.stuffing:
                    data += os.read(read_end, 65536)
                os.set_blocking(read_end, True)
                server.process.send_signal(signal.SIGUSR1)
                while b"msg=stats" not in data or not data.endswith(b"\n"):
                    data += os.read(read_end, 65536)

    @covers_fault(55)
    def test_full_pipe_at_the_stop(self):
        """A pipe that is not read does not keep the server from stopping."""
        _, write_end = self.full_pipe()
        with Notify(self.folder) as notify:
            for _ in self.quiet(notify, stderr=write_end):
                pass

    def full_pipe(self):
        read_end, write_end = os.pipe()
        self.addCleanup(os.close, read_end)
        self.addCleanup(os.close, write_end)
        os.set_blocking(write_end, False)
        self.stuffing = 0
        for size in [4096, 1]:
            try:
                while True:
                    self.stuffing += os.write(write_end, size * b"x")
            except BlockingIOError:
                pass
        os.set_blocking(write_end, True)
        return read_end, write_end

    @covers_fault(55)
    def test_reader_is_gone(self):
        """A pipe without a reader costs log lines and nothing else."""
        read_end, write_end = os.pipe()
        os.close(read_end)
        self.addCleanup(os.close, write_end)
        with Notify(self.folder) as notify:
            for _ in self.quiet(notify, stderr=write_end):
                pass

    @covers_fault(55)
    def test_socket(self):
        """A full socket as stderr (the journal of a service manager) blocks nothing either."""
        left, right = socket.socketpair()
        self.addCleanup(left.close)
        self.addCleanup(right.close)
        right.setblocking(False)
        try:
            while right.send(4096 * b"x"):
                pass
        except BlockingIOError:
            right.setblocking(True)
        with Notify(self.folder) as notify:
            for _ in self.quiet(notify, stderr=right.fileno()):
                pass
