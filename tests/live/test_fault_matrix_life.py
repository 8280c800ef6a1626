"""Goal: the process survives bad starts, signals and restarts (docs/fault-matrix.md, entries 37 to 51)."""

import os
import pwd
import re
import resource
import shutil
import signal
import subprocess
import unittest

from clients import INSTRUMENTED, ended, serve
from fault_matrix import LINES, ask, can_inject, covers_fault, folder, may_mount, own_mounts, settle, unharmed
from test_config import BAD, VARIABLES
from xchgd import GREETING, LIMIT, PLAIN, PROGRAM, WRAP, Server, environment, is_closed, receive_exactly, run, strace

O_CLOEXEC = 0o2000000


class Inherited(unittest.TestCase):
    def of_server(self, pid):
        """The descriptors that a program started by the server would inherit: {number: target}."""
        found = {}
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                with open(f"/proc/{pid}/fdinfo/{fd}") as f:
                    flags = next(int(line.split()[1], 8) for line in f if line.startswith("flags:"))
                if not flags & O_CLOEXEC:
                    found[int(fd)] = os.readlink(f"/proc/{pid}/fd/{fd}")
            except FileNotFoundError:
                pass
        return found

    @unittest.skipIf(WRAP, "a wrap has descriptors of its own")
    @covers_fault(37)
    def test_close_on_exec(self):
        """Under every model each descriptor except the standard three is closed on exec, also those of clients."""
        for model in ("pool", "fork", "thread", "iterative"):
            listen = f"127.0.0.1:0,unix:{folder(self)}/socket"
            with self.subTest(model), Server(XCHG_MODEL=model, XCHG_LISTEN=listen) as server:
                clients = [server.connect(address=address) for address in server.addresses]
                for client in clients[:1 if model == "iterative" else 2]:
                    receive_exactly(client, len(GREETING))
                pids = [server.pid]
                for task in os.listdir(f"/proc/{server.pid}/task"):
                    with open(f"/proc/{server.pid}/task/{task}/children") as children:
                        pids += map(int, children.read().split())
                self.assertEqual(len(pids), 3 if model == "fork" else 1)
                for pid in pids:
                    self.assertLessEqual(set(self.of_server(pid)), {0, 1, 2}, self.of_server(pid))
                for client in clients:
                    client.close()
                server.stop()


@covers_fault(40)
class Signals(unittest.TestCase):
    @covers_fault(39)
    def test_signals_in_a_loop(self):
        """A thousand signals that are ignored, ask for statistics, stop or continue the process. The bystander is
        answered."""
        loop = (signal.SIGHUP, signal.SIGUSR2, signal.SIGPIPE, signal.SIGTSTP, signal.SIGCONT, signal.SIGCHLD, signal.SIGWINCH,
                signal.SIGURG, signal.SIGSTOP, signal.SIGCONT)
        with serve(**LINES) as server, unharmed(server) as ask_bystander:
            for turn in range(20 if INSTRUMENTED else 100):
                for signum in loop:
                    server.process.send_signal(signum)
                if turn % 10 == 0:
                    server.process.send_signal(signal.SIGUSR1)
                ask_bystander()

    @unittest.skipIf(INSTRUMENTED, "the sanitizer or wrap reports a death by a signal")
    def test_signals_that_end_it(self):
        """A signal without a meaning has its default effect: the process dies, and another starts at once."""
        with serve(**LINES) as first:
            address = first.addresses[0]
            first.stop()
        for signum in (signal.SIGRTMIN, signal.SIGRTMAX, signal.SIGALRM):
            with self.subTest(signum), serve(XCHG_LISTEN=address, **LINES) as server:
                with server.connect() as client:
                    ask(client)
                    server.process.send_signal(signum)
                    self.assertTrue(is_closed(client))
                    self.assertEqual(server.process.wait(LIMIT), -signum)

    def test_what_the_parent_set(self):
        """Signals that the parent ignored or blocked have their usual effect."""
        def ignore():
            for signum in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
                signal.signal(signum, signal.SIG_IGN)

        def block():
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD})
        for preexec in (ignore, block):
            with self.subTest(preexec.__name__), serve(preexec=preexec, **LINES) as server:
                with unharmed(server):
                    server.stats()
                self.assertEqual(ended(server.stop()), {"finished": 2})


@covers_fault(43)
class Killed(unittest.TestCase):
    TURNS = 5 if INSTRUMENTED else 20

    def kill_and_start(self, listen, **variables):
        """Kill the server at work and start it again on the same address, many times."""
        for turn in range(self.TURNS):
            with self.subTest(turn), serve(XCHG_LISTEN=listen, **LINES, **variables) as server:
                clients = [server.connect() for _ in range(10)]
                for client in clients:
                    ask(client)
                clients[0].sendall(b"begun")
                listen = server.addresses[0] if turn == 0 and not listen.startswith("unix:") else listen
                server.process.kill()
                server.process.wait(LIMIT)
                for client in clients:
                    self.assertTrue(is_closed(client))
                    client.close()
        with serve(XCHG_LISTEN=listen, **LINES) as server:
            with unharmed(server):
                pass
            self.assertEqual(ended(server.stop()), {"finished": 2})

    def test_tcp(self):
        """A killed server leaves its port to the next one."""
        self.kill_and_start("127.0.0.1:0")

    def test_unix(self):
        """The socket file of a killed server is replaced. One with a live listener is not."""
        path = f"{folder(self)}/socket"
        self.kill_and_start(f"unix:{path}")
        self.assertFalse(os.path.exists(path))
        with serve(XCHG_LISTEN=f"unix:{path}", **LINES) as server, unharmed(server):
            done = run(XCHG_LISTEN=f"unix:{path}")
            self.assertEqual((done.returncode, len(done.stderr.splitlines())), (69, 1), done.stderr)
            self.assertIn(path, done.stderr)

    def test_other_models(self):
        """No child of a killed server lives on with the listener."""
        for model in ("fork", "thread"):
            with self.subTest(model):
                self.TURNS = 3
                self.kill_and_start("127.0.0.1:0", XCHG_MODEL=model)

    def test_file_of_a_successor(self):
        """A stop removes the server's own socket file and not the file of its successor."""
        listen = f"unix:{folder(self)}/socket"
        with serve(XCHG_LISTEN=listen, **LINES) as first:
            os.unlink(listen[5:])
            with serve(XCHG_LISTEN=listen, **LINES) as second:
                first.stop()
                with unharmed(second):
                    pass
                second.stop()
        self.assertFalse(os.path.exists(listen[5:]))

    def test_running_successor(self):
        """With XCHG_REUSEPORT a running successor continues to serve when the first server is killed."""
        with serve(XCHG_REUSEPORT="on", **LINES) as first, \
                serve(XCHG_REUSEPORT="on", XCHG_LISTEN=first.addresses[0], **LINES) as second:
            first.process.kill()
            first.process.wait(LIMIT)
            with unharmed(second):
                pass
            second.stop()


class Address(unittest.TestCase):
    def refused(self, wrap, listen):
        done = subprocess.run([*wrap, *WRAP, PROGRAM], env=environment(XCHG_LISTEN=listen), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=LIMIT)
        self.assertEqual(done.returncode, 69, done.stderr)
        said = [line for line in done.stderr.splitlines() if not line.startswith("profiling:")]  # gcov's complaint about missing rights
        self.assertEqual(len(said), 1, said)
        self.assertIn(listen, said[0])
        self.assertIn("Permission denied", said[0])

    @covers_fault(45)
    def test_without_permission(self):
        """A privileged port and a folder without write permission, for an unprivileged user."""
        if os.getuid() != 0 or not shutil.which("setpriv") or WRAP or not os.access(PROGRAM, os.X_OK):
            self.skipTest("needs root, setpriv and no wrap")
        nobody = pwd.getpwnam("nobody")
        wrap = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", "--inh-caps=-all"]
        if subprocess.run([*wrap, PROGRAM, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("the user nobody cannot run the program in its folder")
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as f:
            if int(f.read()) <= 99:
                self.skipTest("every user may bind every port")
        self.refused(wrap, "127.0.0.1:99")
        self.refused(wrap, f"unix:{folder(self)}/socket")


# Invalid for every variable, except those that take any text.
NONSENSE = ("abc", "-1", "1e99", "8k ", " ", "18446744073709551616", "0x10", "1,2,", "nan", "1.5", "\x01", "\u0661\u0662",
            "on off", "$(reboot)", "%n%s", "../../etc/passwd", ";", "64 KiB")
ANY_TEXT = ("GREETING", "HANDLER", "USER")  # with a handler the variables of the exchange are faults, too


class Values(unittest.TestCase):
    @covers_fault(46)
    def test_nonsense(self):
        """Hundreds of invalid values, many at once: exit code 78 and one line for each variable."""
        names = [name for name in VARIABLES if name not in ANY_TEXT]
        self.assertGreater(len(names) * len(NONSENSE) + len(BAD), 300)
        for value in NONSENSE:
            with self.subTest(value):
                for arguments in ((), ("--check",)):
                    done = run(*arguments, **{f"XCHG_{name}": value for name in (*names, "MODLE")})
                    self.assertEqual((done.returncode, done.stdout), (78, ""))
                    found = [re.search(r"XCHG_[A-Z_]+", line)[0] for line in done.stderr.splitlines()]
                    self.assertEqual(sorted(found), sorted(f"XCHG_{name}" for name in (*names, "MODLE")))

    @covers_fault(46)
    def test_of_a_handler(self):
        """Each invalid value as the path of a handler."""
        for value in NONSENSE:
            with self.subTest(value):
                done = run(XCHG_HANDLER=value)
                self.assertEqual(done.returncode, 78)
                self.assertEqual(len(done.stderr.splitlines()), 1)

    # One string may have 128 KiB, with its name and its 0 byte (MAX_ARG_STRLEN).
    LARGEST = 131072 - len("XCHG_OFFLOAD_THREADS=") - 1

    def small_stack(self):
        """Set a stack limit that is just large enough for the environment, which may take a quarter of it."""
        resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, 1 << 20))

    @covers_fault(47)
    def test_values_of_128_kib(self):
        """A value of 128 KiB is refused for each variable, on a small stack."""
        for name in VARIABLES:
            if name in ("GREETING", "REPLY"):
                continue
            with self.subTest(name):
                done = run(preexec=self.small_stack if PLAIN else None, **{f"XCHG_{name}": self.LARGEST * "9"})
                self.assertEqual(done.returncode, 78)
                lines = done.stderr.splitlines()
                self.assertEqual(len(lines), 1)
                self.assertTrue(f" XCHG_{name}=" in lines[0][:64])
                self.assertLess(len(lines[0]), 4096)

    @covers_fault(47)
    def test_a_text_of_128_kib(self):
        """A greeting of 128 KiB is accepted and sent."""
        text = self.LARGEST * "t"
        with serve(preexec=self.small_stack if PLAIN else None, XCHG_GREETING=text) as server:
            with server.connect() as client:
                self.assertEqual(receive_exactly(client, len(text) + 1), text.encode() + b"\0")
            settle(server)
            server.stop()

    @covers_fault(47)
    def test_an_environment_of_2_mib(self):
        """Other programs' variables may be as large as the kernel allows."""
        most = os.sysconf("SC_ARG_MAX")
        count = (most - 262144) // 131072
        with serve(**{f"OTHER_{i}": 130000 * "o" for i in range(min(count, 14))}, **LINES) as server, unharmed(server):
            pass

    @covers_fault(48)
    def test_too_few_descriptors(self):
        """More connections than the descriptors allow are a configuration fault. Fewer are not, and neither is no
        setting."""
        def few(count=32):
            resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
        for flags, preexec, most in (((), few, "1000"), (("--check",), lambda: few(256), "256")):
            done = run(*flags, preexec=preexec, XCHG_MAX_CONNECTIONS=most, XCHG_LISTEN="127.0.0.1:0")
            self.assertEqual(done.returncode, 78, done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1)
            self.assertIn("XCHG_MAX_CONNECTIONS", done.stderr)
        self.assertEqual(run("--check", preexec=lambda: few(256), XCHG_MAX_CONNECTIONS="64").returncode, 0)
        with serve(preexec=few, XCHG_WORKERS="1", **LINES) as server, unharmed(server):
            pass

    @covers_fault(48)
    @can_inject
    @unittest.skipIf(INSTRUMENTED, "a sanitizer needs getrlimit itself")
    def test_unknown_descriptor_limit(self):
        """A sandbox refuses prlimit64: the line says so, and an explicit limit on connections starts."""
        wrap = strace("prlimit64:error=EPERM", trace="prlimit64")
        with Server(wrap=wrap, wait=False, **LINES) as server:
            server.finish(expect=78)
            self.assertEqual(len(server.lines), 1)
            for word in ("XCHG_MAX_CONNECTIONS", "prlimit64", "not permitted"):
                self.assertIn(word, server.lines[0])
        with serve(wrap=wrap, XCHG_MAX_CONNECTIONS="100", **LINES) as server, unharmed(server):
            pass


@covers_fault(51)
class Surroundings(unittest.TestCase):
    def serves(self, **options):
        with serve(**options, **LINES) as server:
            with unharmed(server):
                pass
            self.assertEqual(ended(server.stop()), {"finished": 2})

    def test_removed_working_directory(self):
        """The working directory has been removed."""
        path = f"{folder(self)}/gone"
        os.mkdir(path)

        def leave():
            os.chdir(path)
            os.rmdir(path)
        self.serves(preexec=leave)

    def test_no_home(self):
        """HOME, PATH, USER and all other variables are unset."""
        keep = ("XCHG_", "LD_", "ASAN_", "TSAN_", "UBSAN_", "GCOV_")
        none = {name: None for name in os.environ if not name.startswith(keep)}
        wrap = ["env", *[part for name in none for part in ("-u", name)]]
        self.serves(wrap=wrap if not WRAP else [])

    @unittest.skipUnless(may_mount() and not WRAP, "needs the right to mount, and no wrap that writes")
    def test_read_only(self):
        """The usual writable folders are read-only."""
        script = "mount --make-rprivate /\n"
        for path in ("/tmp", "/var/tmp", "/run"):
            script += f"mount --bind {path} {path}\nmount -o remount,bind,ro {path}\n"
        self.serves(wrap=own_mounts(script + "! touch /tmp/written 2>/dev/null"))

    @unittest.skipUnless(may_mount() and not WRAP, "needs the right to mount, and no wrap that writes")
    def test_no_devices(self):
        """Without /dev/null the server starts. With a closed standard descriptor it exits with 71, and a line names both."""
        wrap = own_mounts("mount --make-rprivate /\nmount -t tmpfs none /dev")
        self.serves(wrap=wrap, preexec=lambda: os.dup2(2, 1))  # the shell's standard input came from the old /dev
        closed = own_mounts("mount --make-rprivate /\nmount -t tmpfs none /dev\nexec <&-")
        done = subprocess.run([*closed, PROGRAM], env=environment(XCHG_LISTEN="127.0.0.1:0"), stdin=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, timeout=LIMIT)
        self.assertEqual(done.returncode, 71, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertIn("cannot open /dev/null in place of descriptor 0", done.stderr)

    @unittest.skipUnless(may_mount() and not WRAP, "needs the right to mount, and no wrap that writes")
    def test_socket_in_a_read_only_folder(self):
        """A UNIX socket in a read-only folder exits with 69 and a line that names it."""
        path = folder(self)
        wrap = own_mounts(f"mount --make-rprivate /\nmount -t tmpfs -o ro none {path}")
        done = subprocess.run([*wrap, PROGRAM], env=environment(XCHG_LISTEN=f"unix:{path}/socket"), stdin=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, timeout=LIMIT)
        self.assertEqual(done.returncode, 69, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertIn(f"{path}/socket", done.stderr)
