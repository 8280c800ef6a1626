"""Goal: start, listeners, signals and exit codes are those of docs/reference.md (Configuration, Signals, Exit
codes)."""

import ctypes
import itertools
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import unittest

from clients import FolderTest, serve
from fault_matrix import LINES, covers_fault, unharmed
from xchgd import (GREETING, LIMIT, PLAIN, PROGRAM, SANDBOX, WRAP, Notify, Server, environment, greet,
                   numbers, parse_logfmt, receive_all, receive_exactly, run)


class Listeners(FolderTest):
    def refused(self, code, **variables):
        """The start fails with ${code} and one line, which is returned."""
        done = run(**variables)
        lines = done.stderr.splitlines()
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(len(lines), 1, lines)
        return lines[0]

    def test_port_zero(self):
        """Port 0 takes any port and the log says which. A named port is that port."""
        with Server() as server:
            port = server.port
            self.assertNotEqual(port, 0)
            with server.connect() as client:
                greet(client)
            server.stop()
        with Server(XCHG_LISTEN=f"127.0.0.1:{port}") as server:  # with connections in TIME_WAIT
            self.assertEqual(server.addresses, [f"127.0.0.1:{port}"])
            with server.connect() as client:
                greet(client)
            server.stop()

    def test_listening_line(self):
        """The line names the exchange, the model, its workers and the version."""
        version = run("--version").stdout.split()[-1]
        for exchange, model in [("greet", "pool"), ("echo", "pool"), ("line", "iterative"), ("discard", "thread"), ("greet", "fork")]:
            for form in ["logfmt", "json"]:
                with self.subTest(exchange=exchange, model=model, form=form), \
                        Server(XCHG_EXCHANGE=exchange, XCHG_MODEL=model, XCHG_LOG_FORMAT=form,
                               XCHG_WORKERS="3" if model == "pool" else None) as server:
                    line = server.wait_line("listening")
                    self.assertEqual((line["exchange"], line["model"], line["version"]), (exchange, model, version))
                    self.assertEqual(line.get("workers"), "3" if model == "pool" else None)
                    server.stop()

    def test_several(self):
        """Every address of the list gets its line and serves."""
        listen = f"127.0.0.1:0,[::1]:0,unix:{self.path()},127.0.0.2:0"
        with Server(XCHG_LISTEN=listen) as server:
            self.assertEqual(len(server.messages("listening")), 4)
            self.assertRegex(server.addresses[1], r"^\[::1\]:\d+$")
            for address in server.addresses:
                with server.connect(address=address) as client:
                    greet(client)
            self.assertEqual(server.stop()["finished"], 4)

    def test_dual_stack(self):
        """:0 serves IPv4 and IPv6 clients on one port."""
        with Server(XCHG_LISTEN=":0") as server:
            for host in ["127.0.0.1", "[::1]"]:
                with server.connect(address=f"{host}:{server.port}") as client:
                    greet(client)
            self.assertEqual(server.stop()["finished"], 2)

    @covers_fault(51)
    def test_unix_mode(self):
        """A UNIX socket has the mode that was asked for under every umask, serves, and is removed by a clean stop."""
        for mask, mode in itertools.product((0, 0o77, 0o777), (0o600, 0o666)):
            with self.subTest(mask=mask, mode=mode), serve(XCHG_LISTEN=f"unix:{self.path()};mode=0{mode:o}",
                                                           preexec=lambda: os.umask(mask), **LINES) as server:
                found = os.stat(self.path()).st_mode
                self.assertTrue(stat.S_ISSOCK(found))
                self.assertEqual(stat.S_IMODE(found), mode)
                with unharmed(server):
                    pass
                server.stop()
                self.assertFalse(os.path.exists(self.path()))

    @covers_fault(43)
    def test_unix_foreign(self):
        """A file that is no socket exits with 69 and stays unchanged. So does a path that cannot exist."""
        with open(self.path(), "w") as f:
            f.write("precious")
        self.assertIn(self.path(), self.refused(69, XCHG_LISTEN=f"unix:{self.path()}"))
        with open(self.path()) as f:
            self.assertEqual(f.read(), "precious")
        self.refused(69, XCHG_LISTEN=f"unix:{self.folder}")
        self.refused(69, XCHG_LISTEN=f"unix:{self.path('no/such')}")

    def test_unix_too_long(self):
        """A path over 107 bytes is a configuration fault; one of 107 bytes works."""
        base = self.folder + "/"
        self.refused(78, XCHG_LISTEN="unix:" + base + (108 - len(base)) * "x")
        with Server(XCHG_LISTEN="unix:" + base + (107 - len(base)) * "x") as server:
            greet(self.unix_client(base + (107 - len(base)) * "x"))
            server.stop()

    @covers_fault(45)
    def test_busy(self):
        """A port in use exits with 69 and one line that names it."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = "127.0.0.1:%d" % taken.getsockname()[1]
            self.assertIn(address, self.refused(69, XCHG_LISTEN=address))
            self.assertIn(address, self.refused(69, XCHG_LISTEN=f"127.0.0.1:0,{address}"))

    @covers_fault(45)
    def test_not_bindable(self):
        """An address of another machine exits with 69 and one line that names it."""
        self.assertIn("192.0.2.1", self.refused(69, XCHG_LISTEN="192.0.2.1:0"))

    @covers_fault(45)
    def test_names_the_fix(self):
        """The line of an address that cannot be bound says what helps."""
        taken = self.enterContext(socket.create_server(("127.0.0.1", 0)))
        files = self.path("files")
        os.mkdir(files)
        with open(f"{files}/file", "w"):
            pass
        live = self.enterContext(socket.socket(socket.AF_UNIX))
        live.bind(f"{files}/live")
        live.listen()
        cases = [("127.0.0.1:%d" % taken.getsockname()[1], "in use", ["ss -ltnp", "another port"]),
                 ("192.0.2.1:0", "requested address", ["ip address"]),
                 ("[fe80::1]:0", "Invalid argument", ["interface", "[fe80::1%eth0]:7000"]),
                 ("[fe80::1%no-such-0]:0", "No such device", ["ip link"]),
                 (f"unix:{files}/live", "in use", ["another path"]),
                 (f"unix:{files}/file", "in use", ["no socket"]),
                 (f"unix:{files}/none/socket", "No such file", ["make the folder"]),
                 (f"unix:{files}/file/socket", "Not a directory", ["make the folder"])]
        for address, error, words in cases:
            with self.subTest(address):
                fields = parse_logfmt(self.refused(69, XCHG_LISTEN=address))
                self.assertEqual(fields["addr"], address)
                self.assertIn(error, fields["error"])
                for word in words:
                    self.assertIn(word, fields["fix"])

    def test_reuseport(self):
        """With XCHG_REUSEPORT=on two processes listen on one address. With off the second exits with 69."""
        with Server(XCHG_REUSEPORT="on") as one:
            address = one.addresses[0]
            with Server(XCHG_REUSEPORT="on", XCHG_LISTEN=address) as two:
                for _ in range(20):
                    with one.connect() as client:
                        greet(client)
                self.assertEqual(one.stop()["finished"] + two.stop()["finished"], 20)
        with Server() as one:
            self.refused(69, XCHG_LISTEN=one.addresses[0])
            one.stop()


class Start(FolderTest):
    def test_thread_names(self):
        """The threads have the names of docs/reference.md, workers with a number. There is no other thread."""
        with Server(XCHG_WORKERS="3") as server:
            clients = [server.connect() for _ in range(3)]  # one for each worker
            for client in clients:
                receive_exactly(client, 20)
            for client in clients:
                client.close()
            names, tasks = server.threads(), server.tasks()
            with open(f"/proc/{server.pid}/comm") as f:
                main = f.read().strip()
            server.stop()
        if PLAIN:  # a sanitizer adds a thread, valgrind changes a name
            self.assertEqual(main, "xchgd")
            self.assertEqual(len(tasks), len(names))
            self.assertEqual(sorted(names), ["xchg-accept", "xchg-work-0", "xchg-work-1",
                                             "xchg-work-2", "xchgd"])

    def test_notify(self):
        """READY=1 is sent once everything listens, STOPPING=1 at the stop, to a path and to an abstract name."""
        for kind in [dict(folder=self.folder), dict(abstract=f"xchg-test-{os.getpid()}")]:
            with self.subTest(kind), Notify(**kind) as notify, \
                    Server(NOTIFY_SOCKET=notify.address, XCHG_LISTEN=f"unix:{self.path()}",
                           wait=False) as server:
                notify.wait("READY=1")
                greet(self.unix_client(self.path()))
                server.process.send_signal(signal.SIGTERM)
                notify.wait("STOPPING=1")
                server.finish()

    def fill(self, notify):
        """Fill the queue of the service manager."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            with self.assertRaises(BlockingIOError):
                while True:
                    other.sendto(b"X=1", notify.address)

    def test_full_notify_socket(self):
        """READY=1 is sent once the manager's queue has room. The clients do not wait for it, and the log says both."""
        with Notify(self.folder) as notify:
            self.fill(notify)
            with Server(NOTIFY_SOCKET=notify.address) as server:
                self.assertEqual(server.wait_line("NOTIFY_SOCKET is full: sending later")["state"], "READY=1")
                with server.connect() as client:
                    greet(client)
                notify.wait("READY=1")
                self.assertEqual(server.wait_line("sent to NOTIFY_SOCKET")["state"], "READY=1")
                server.process.send_signal(signal.SIGTERM)
                notify.wait("STOPPING=1")
                server.finish()

    def test_manager_that_ends(self):
        """A manager that ends with a full queue is given up, with one line."""
        notify = Notify(self.folder)
        self.fill(notify)
        with Server(NOTIFY_SOCKET=notify.address) as server:
            server.wait_line("NOTIFY_SOCKET is full: sending later")
            notify.socket.close()
            self.assertEqual(server.wait_line("cannot send to NOTIFY_SOCKET")["state"], "READY=1")
            with server.connect() as client:
                greet(client)
            server.stop()

    def test_unreachable_notify_socket(self):
        """An unreachable NOTIFY_SOCKET does not keep the server from serving."""
        for address in [self.path("nothing"), "@xchg-nobody", "relative", "/" + 200 * "x"]:
            with self.subTest(address[:20]), Server(NOTIFY_SOCKET=address) as server:
                with server.connect() as client:
                    greet(client)
                server.stop()

    @covers_fault(50)
    def test_closed_streams(self):
        """With closed standard streams everything is served, and no socket takes their numbers."""
        def close():
            for fd in range(3):
                os.close(fd)
        with Notify(self.folder) as notify, \
                Server(preexec=close, stderr=subprocess.DEVNULL, NOTIFY_SOCKET=notify.address,
                       XCHG_LISTEN=f"unix:{self.path()}") as server:
            notify.wait("READY=1")
            first = self.unix_client(self.path())
            self.assertEqual(receive_exactly(first, 20), GREETING)
            for fd in range(3):
                target = "/dev/null"
                try:
                    target = os.readlink(f"/proc/{server.pid}/fd/{fd}")
                except FileNotFoundError:
                    pass
                if not WRAP:  # valgrind's own log may use the number
                    self.assertEqual(target, "/dev/null")
                self.assertFalse(target.startswith(("socket:", "anon_inode:")), target)
            first.sendall(b"x\0")
            self.assertEqual(receive_all(first), b"")
            server.stop()

    def test_output_that_cannot_be_written(self):
        """What prints to standard output exits with 74 if that is closed or full."""
        for flag in ("--help", "--version", "--explain"):
            for name, preexec in (("closed", lambda: os.close(1)), ("full", lambda: os.dup2(os.open("/dev/full", os.O_WRONLY), 1))):
                with self.subTest(flag=flag, output=name):
                    done = run(flag, preexec=preexec)
                    self.assertEqual((done.returncode, done.stderr.count("\n")), (74, 1), done.stderr)
                    self.assertIn("xchgd: cannot write to standard output: ", done.stderr)
        self.assertEqual(run("--check", preexec=lambda: os.close(1)).returncode, 0)  # it prints nothing

    def test_descriptors(self):
        """Serving opens no descriptor of the server's own."""
        with Notify(self.folder) as notify, \
                Server(NOTIFY_SOCKET=notify.address, XCHG_WORKERS="2") as server:
            notify.wait("READY=1")
            before = self.table(server.pid)
            clients = [server.connect() for _ in range(50)]
            server.wait_stats(lambda s: s["open"] == 50)
            for client in clients:
                greet(client)
            server.wait_stats(lambda s: s["finished"] == 50)
            for signum in [signal.SIGHUP, signal.SIGUSR2, signal.SIGPIPE]:
                server.process.send_signal(signum)
            server.stats()
            self.assertEqual(self.table(server.pid), before)
            server.stop()

    def table(self, pid):
        found = {}
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                found[int(fd)] = os.readlink(f"/proc/{pid}/fd/{fd}")
            except FileNotFoundError:
                pass
        return found


class Activation(FolderTest):
    def test_passed(self):
        """A listener from LISTEN_FDS replaces XCHG_LISTEN, and its address is logged."""
        with socket.create_server(("127.0.0.1", 0)) as one:
            port = one.getsockname()[1]
            with Server(activate=[one], XCHG_LISTEN="127.0.0.1:1") as server:
                self.assertEqual(server.addresses, [f"127.0.0.1:{port}"])
                with server.connect() as client:
                    greet(client)
                self.assertEqual(server.stop()["finished"], 1)

    def test_passed_several(self):
        """Several passed listeners are served. The server does not remove the file of a passed UNIX socket."""
        with socket.create_server(("127.0.0.1", 0)) as one, socket.socket(socket.AF_UNIX) as two:
            two.bind(self.path())
            two.listen()
            with Server(activate=[one, two]) as server:
                for address in ["127.0.0.1:%d" % one.getsockname()[1], f"unix:{self.path()}"]:
                    self.assertIn(address, server.addresses)
                    with server.connect(address=address) as client:
                        greet(client)
                self.assertEqual(server.stop()["finished"], 2)
            self.assertTrue(os.path.exists(self.path()))

    def test_passed_names(self):
        """The log shows an abstract name of a passed UNIX socket as ss does."""
        prefix = f"xchg-{os.getpid()}-"
        for name, text in [(f"\0{prefix}a", f"@{prefix}a"), (f"\0{prefix}a\0b", f"@{prefix}a@b"),
                           ("\0" + prefix.ljust(107, "n"), "@" + prefix.ljust(107, "n"))]:
            with self.subTest(text), socket.socket(socket.AF_UNIX) as one:
                one.bind(name)
                one.listen()
                with Server(activate=[one]) as server, socket.socket(socket.AF_UNIX) as client:
                    self.assertEqual(server.addresses, [f"unix:{text}"])
                    client.settimeout(LIMIT)
                    client.connect(name)
                    greet(client)
                    self.assertEqual(server.stop()["finished"], 1)

    def test_other_process(self):
        """LISTEN_FDS for another process is ignored: XCHG_LISTEN applies."""
        with socket.create_server(("127.0.0.1", 0)) as one:
            with Server(activate=[one], listen_pid=1) as server:
                self.assertNotEqual(server.port, one.getsockname()[1])
                with server.connect() as client:
                    greet(client)
                server.stop()

    def test_no_listener(self):
        """A descriptor that is no listening stream socket exits with 71 and a line."""
        unbound = socket.socket()
        datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagram.bind(("127.0.0.1", 0))
        left, right = socket.socketpair()
        null = open("/dev/null", "rb")
        for thing in [unbound, datagram, left, null]:
            self.addCleanup(thing.close)
        self.addCleanup(right.close)
        for thing in [unbound, datagram, left, null]:
            with self.subTest(str(thing)[:60]):
                with Server(activate=[thing], wait=False) as server:
                    server.finish(expect=71)
                    self.assertGreaterEqual(len(server.remarks()), 1)

    def test_missing_descriptors(self):
        """LISTEN_FDS that counts missing descriptors exits with 71."""
        done = subprocess.run(["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *WRAP, PROGRAM],
                              env=environment(LISTEN_FDS="60", XCHG_LISTEN="127.0.0.1:0"),
                              stderr=subprocess.PIPE, timeout=LIMIT)
        self.assertEqual(done.returncode, 71, done.stderr)

    @unittest.skipUnless(shutil.which("systemd-socket-activate"), "needs systemd-socket-activate")
    def test_systemd(self):
        """Started by systemd-socket-activate, the server answers the client that started it."""
        wrap = ["systemd-socket-activate", "-l", self.path(), "-E", "XCHG_LISTEN", *(["-E", "XCHG_SANDBOX"] if SANDBOX else [])]
        with Server(wrap=wrap, wait=False) as server:
            server.wait_for(lambda lines: any("Listening on" in line for line in lines), "listener")
            greet(self.unix_client(self.path()))
            self.assertIn(self.path(), server.wait_line("listening")["addr"])
            self.assertEqual(server.stop()["finished"], 1)


@covers_fault(38)
class Signals(FolderTest):
    def test_stop_signals(self):
        """SIGTERM, SIGINT and SIGQUIT stop cleanly."""
        for signum in [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]:
            with self.subTest(signum), Server() as server:
                with server.connect() as client:
                    greet(client)
                self.assertEqual(server.stop(signum)["finished"], 1)

    def test_second_signal(self):
        """A second signal ends the process at once with exit code 1, although a client is being served."""
        # The immediate end joins no thread, which the thread sanitizer would report.
        options = os.environ.get("TSAN_OPTIONS", "") + ":report_thread_leaks=0"
        for first, second in itertools.permutations([signal.SIGTERM, signal.SIGINT, signal.SIGQUIT], 2):
            with self.subTest(first=first, second=second), Notify(abstract=f"xchg-second-{os.getpid()}") as notify, \
                    Server(NOTIFY_SOCKET=notify.address, XCHG_MESSAGE_TIMEOUT="0",
                           XCHG_DRAIN_TIMEOUT="5m", TSAN_OPTIONS=options, ends_open=True) as server:
                with server.connect() as client:
                    receive_exactly(client, 20)
                    server.process.send_signal(first)
                    notify.wait("STOPPING=1")
                    server.process.send_signal(second)
                    self.assertEqual(server.process.wait(LIMIT), 1)

    def test_repeated_signal(self):
        """The same signal twice at once, as timeout(1) sends it, is one signal. The stop completes with exit code 0."""
        for each in [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]:
            with self.subTest(each), Server() as server:
                with server.connect() as client:
                    receive_exactly(client, 20)
                    # One is pending for the process and one for its main thread, so that both are read.
                    server.pause()
                    server.process.send_signal(each)
                    self.assertEqual(ctypes.CDLL(None).tgkill(server.pid, server.pid, each), 0)
                    server.resume()
                    server.wait_line("stopping")
                    client.sendall(b"hello\0")
                    self.assertEqual(receive_all(client), b"")
                    self.assertEqual(server.finish()["finished"], 1)
                self.assertEqual(server.remarks(), [])


OF_PACE = re.compile("^(wakes|handoff_|turn_|queue_depth_|accept_batch_)")


class Totals(FolderTest):
    def test_mixed_and_rude(self):
        """After a mixed load the totals of the stopped line add up and match what the clients did."""
        with Server(XCHG_EXCHANGE="line", XCHG_MAX_MESSAGE="100") as server:
            for i in range(60):
                with server.connect() as client:
                    client.sendall([b"", b"part", b"whole\n", 101 * b"l"][i % 4])
                    client.shutdown(socket.SHUT_WR)
                    self.assertEqual(receive_all(client), [b"", b"part", b"whole\n", b""][i % 4])
            server.wait_stats(lambda s: s["accepted"] == 60 and s["open"] == 0)
            totals = server.stop()
            self.assertEqual([totals[name] for name in ("finished", "closed_peer",
                                                        "closed_too_long")], [30, 15, 15])

    def test_stats_line_is_the_stopped_line(self):
        """The last stats line has the totals of the stopped line. Only the stats line has open."""
        with Server() as server:
            with server.connect() as client:
                greet(client)
            stats = server.wait_stats(lambda s: s["finished"] == 1)
            server.stop()
            stopped = numbers(server.messages("stopped")[0])
            self.assertEqual(stats.pop("open"), 0)
            self.assertEqual({k: v for k, v in stats.items() if k in stopped and not OF_PACE.search(k)},
                             {k: v for k, v in stopped.items() if k in stats and not OF_PACE.search(k)})
            self.assertTrue({"accepted", "finished"} <= set(stopped))
