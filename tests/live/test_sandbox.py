"""Goal: XCHG_SANDBOX, XCHG_USER and XCHG_CORE (docs/operations.md, Rights of the server): every thread gives up what it does not
need, msg=sandbox says what is in force, and everything works as before.

What needs root is skipped for an ordinary user, with a reason.
"""

import contextlib
import errno
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

from call_filter import layered, refusing, unit_filter
from clients import FolderTest
from endpoint import Endpoint
from test_handler import plugin
from xchgd import LIMIT, PLAIN, PROGRAM, SANDBOX, TOP, WRAP, Notify, Server, environment, greet, receive_all, receive_exactly, run, strace

HELLO = os.path.join(os.path.dirname(PROGRAM), "examples", "hello")
EMBED = os.path.join(os.path.dirname(PROGRAM), "examples", "embed")
OTHER, GROUP = 65532, 65531
ROOT = os.geteuid() == 0
LANDLOCK = ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"]
LACKS, REFUSED = "the kernel lacks a part of the sandbox", "the kernel lacks what XCHG_SANDBOX asks for"
KEEPS_FILE = "the stop cannot remove a socket file: its folder is not writable for the user"
needs_root = unittest.skipUnless(ROOT, "needs root")


def of_process(pid="self"):
    """The fields of /proc/PID/status as texts."""
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as f:
        return dict(re.findall(r"^(\w+):[ \t]*(.*?)[ \t]*$", f.read(), re.M))


def of_threads(server):
    """The same of every thread, by its name and number."""
    found = {}
    for task in server.tasks():
        fields = of_process(f"{server.pid}/task/{task}")
        found[f"{fields['Name']} {task}"] = fields
    return found


def filters(fields):
    return int(fields.get("Seccomp_filters", 0))


def has_landlock():
    """Does this kernel, with the filters of this process, have Landlock?"""
    script = "import ctypes, sys; sys.exit(ctypes.CDLL(None).syscall(444, None, 0, 1) < 1)"
    return subprocess.run([sys.executable, "-S", "-c", script], check=False).returncode == 0


def wait_listening(path):
    """Wait until a server that logs to the file ${path} is ready."""
    deadline = time.monotonic() + LIMIT
    text = ""
    while "msg=listening" not in text:
        if time.monotonic() > deadline:
            raise AssertionError(f"it does not listen: {text}")
        with open(path, encoding="utf-8", errors="replace") as f:
            text = f.read()


COMPLETE = PLAIN and has_landlock()


@contextlib.contextmanager
def kinds(folder, **variables):
    """A server of each kind, with an admin endpoint and a log that has a thread: (name, server)."""
    servers = {"built in": {}, "plug-in": dict(XCHG_HANDLER=plugin("holder")), "xchg_main": dict(program=HELLO)}
    def start():
        for name, more in servers.items():
            with Endpoint(os.path.join(folder, f"admin-{len(name)}"), **more, **variables) as server:
                yield name, server
    yield start()


def talk(name, server):
    """One exchange."""
    with server.connect() as client:
        if name == "plug-in":
            client.sendall(b"echo me\n")
            if receive_exactly(client, 14) != b"hello\necho me\n":
                raise AssertionError("no echo")
        else:
            greet(client)


@unittest.skipIf(WRAP, "valgrind and sanitizers run without a sandbox")
class SandboxTest(FolderTest):
    def check_threads(self, server, mode):
        """Every thread has the filter and no_new_privs, or none has."""
        own = of_process()
        threads = of_threads(server)
        for name, fields in threads.items():
            if mode == "off":
                self.assertEqual((fields["Seccomp"], fields["NoNewPrivs"]), (own["Seccomp"], own["NoNewPrivs"]), name)
            else:
                self.assertEqual((fields["Seccomp"], fields["NoNewPrivs"]), ("2", "1"), name)
                self.assertEqual(filters(fields), filters(own) + 1, name)
                self.assertEqual(int(fields["CapEff"], 16) | int(fields["CapPrm"], 16) | int(fields["CapAmb"], 16), 0, name)
        return threads


class Modes(SandboxTest):
    @unittest.skipUnless(COMPLETE, "needs a kernel with Landlock, and a build without a sanitizer")
    def test_every_mode_and_server(self):
        """Each value with each kind of server: what msg=sandbox says is what /proc shows, and clients are served."""
        for mode in ("off", "auto", "on", "trap"):
            with kinds(self.folder, XCHG_SANDBOX=mode, XCHG_WORKERS="2") as servers:
                for name, server in servers:
                    with self.subTest(name, mode=mode):
                        said = server.wait_line("sandbox")
                        self.assertEqual(said["user"], str(os.geteuid()))
                        self.assertEqual(said["seccomp"], "off" if mode == "off" else "pool" if name == "built in" else "handler")
                        self.assertEqual(said["landlock"] == "0", mode == "off")
                        self.assertEqual(said["caps"].strip("0") == "", mode != "off" or not ROOT)
                        talk(name, server)
                        threads = self.check_threads(server, mode)
                        self.assertEqual(len(threads), 6)  # main, acceptor, two workers, two of the admin endpoint
                        self.assertEqual(server.ask("/readyz").status, 200)
                        remarks = [line for line in server.remarks() if "msg=" in line and "msg=admin" not in line]
                        self.assertEqual(remarks, [])
                        server.stop()

    @unittest.skipUnless(COMPLETE, "needs a kernel with Landlock, and a build without a sanitizer")
    def test_all_kinds_of_threads(self):
        """The threads of the log, of offloaded work and of a program are restricted, too."""
        path = self.path("log")
        with open(path, "wb") as log, Server(stderr=log.fileno(), XCHG_LISTEN=f"unix:{self.path()}") as server:
            wait_listening(path)
            self.assertIn("xchg-log", " ".join(self.check_threads(server, "auto")))
            server.stop()
        with Server(XCHG_HANDLER=plugin("life"), LIFE_TICKS="1", XCHG_SANDBOX="on") as server:
            self.check_threads(server, "on")
            server.stop()
        with Server(XCHG_HANDLER=plugin("holder"), XCHG_SANDBOX="on") as server, server.connect() as client:
            receive_exactly(client, 6)
            client.sendall(b"calls\n")
            self.assertEqual(sorted(receive_exactly(client, 14).split()), [b"posted", b"worked"])
            # The thread that has worked has its name; another one may not have set its own yet.
            self.assertIn("xchg-off-", " ".join(self.check_threads(server, "on")))

    def test_the_library_restricts_nothing(self):
        """An embedded server leaves its program as it is."""
        with subprocess.Popen([EMBED], env=environment(XCHG_SANDBOX=None, XCHG_LISTEN="127.0.0.1:0"), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, text=True) as process:
            for _ in range(2):
                self.assertIn("listens at", process.stdout.readline())
            own, its = of_process(), of_process(process.pid)
            process.kill()
        for key in ("Seccomp", "NoNewPrivs", "CapEff", "CapBnd"):
            self.assertEqual(its[key], own[key], key)
        done = subprocess.run([EMBED], env=environment(XCHG_SANDBOX="on"), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=LIMIT, check=False)
        self.assertIn("XCHG_SANDBOX='on': must be unset", done.stderr + done.stdout)

    def test_other_models(self):
        """Only the pool has a sandbox: `on` is a fault, and `auto` gives up capabilities alone."""
        for model in ("iterative", "fork", "thread"):
            for mode in ("on", "trap"):
                done = run(XCHG_MODEL=model, XCHG_SANDBOX=mode)
                self.assertEqual(done.returncode, 78)
                self.assertEqual(done.stderr, f"xchgd: XCHG_SANDBOX='{mode}': want auto or off, or XCHG_MODEL=pool\n")
            for mode in ("auto", "off"):
                with self.subTest(model, mode=mode), Server(XCHG_MODEL=model, XCHG_SANDBOX=mode) as server:
                    said = server.wait_line("sandbox")
                    self.assertEqual((said["landlock"], said["seccomp"]), ("0", "off"))
                    self.assertEqual(said["caps"] == "0", mode == "auto" or not ROOT)
                    with server.connect() as client:
                        greet(client)
                    self.assertEqual(server.remarks(), [])
                    server.stop()


# ---- the order of the start ----

# What a thread may do before it is in the sandbox: its own set-up by libc and jemalloc, its name, its CPU.
SET_UP = {"rseq", "set_robust_list", "rt_sigprocmask", "mmap", "munmap", "mprotect", "madvise", "brk", "prctl", "sched_getaffinity",
          "sched_setaffinity", "getrandom", "landlock_restrict_self", "seccomp", "futex", "gettid", "clock_gettime"}
CALL = re.compile(r"^(?P<thread>\d+) +(?P<call>\w+)\((?P<rest>.*)$", re.M)


@unittest.skipUnless(COMPLETE and shutil.which("strace"), "needs strace, Landlock and a plain build")
class Order(SandboxTest):
    def trace(self, **variables):
        """The calls of a run, from the first bind on: [(thread, call, rest of the line)]."""
        path = self.path("trace")
        wrap = ["strace", "-D", "-f", "-qq", "-o", path]
        log = self.path("log")
        with open(log, "wb") as stderr, Server(wrap=wrap, stderr=stderr.fileno(), **variables) as server:
            wait_listening(log)
            server.stop()
        with open(path, encoding="utf-8", errors="replace") as f:
            calls = [(int(m["thread"]), m["call"], m["rest"]) for m in CALL.finditer(f.read())]
        return server.pid, calls

    def check_order(self, pid, calls, kind):
        """Binds, then rights, then the sandbox, then threads, each of which is restricted first; main last."""
        names = [call for thread, call, _ in calls if thread == pid]
        def last(*wanted):
            return max(i for i, name in enumerate(names) if name in wanted)
        def first(*wanted):
            return min(i for i, name in enumerate(names) if name in wanted)
        begun = first("clone", "clone3")
        self.assertLess(last("bind", "listen"), first("landlock_create_ruleset"))
        self.assertLess(last("landlock_add_rule", "landlock_create_ruleset"), begun)
        if ROOT:
            self.assertLess(last("bind"), first("setgroups"))
            self.assertLess(first("setgroups"), first("setresgid"))
            self.assertLess(first("setresgid"), first("setresuid"))
            self.assertLess(last("setresuid"), first("landlock_create_ruleset"))
        if kind == "handler":
            self.assertLess(last("seccomp", "landlock_restrict_self"), begun)
        else:
            self.assertGreater(first("landlock_restrict_self"), last("clone", "clone3"))
        for thread in {thread for thread, _, _ in calls} - {pid}:
            own = [call for tid, call, _ in calls if tid == thread]
            if kind == "handler":
                self.assertFalse({"seccomp", "landlock_restrict_self"} & set(own))
                continue
            entered = own.index("seccomp")
            self.assertLess(own.index("landlock_restrict_self"), entered)
            self.assertEqual(set(own[:entered]) - SET_UP, set())

    def test_built_in(self):
        user = dict(XCHG_USER=f"{OTHER}:{GROUP}") if ROOT else {}
        os.chmod(self.folder, 0o777)
        listen = f"127.0.0.1:0,unix:{self.path('a')}"
        self.check_order(*self.trace(XCHG_LISTEN=listen, XCHG_ADMIN=f"unix:{self.path('b')}", XCHG_PIN="on", **user), "built in")

    def test_handler(self):
        user = dict(XCHG_USER=f"{OTHER}:{GROUP}") if ROOT else {}
        self.check_order(*self.trace(XCHG_HANDLER=plugin("life"), XCHG_ADMIN="127.0.0.1:0", **user), "handler")


# ---- kernels that lack something ----

class Kernels(SandboxTest):
    def limited(self, names, error, lacks, **variables):
        """Under `auto` one warning names what is missing, under `on` the start ends with 71 and the same."""
        wrap = refusing(names, error)
        for mode in ("auto", "on", "trap"):
            if mode == "auto":
                with Server(wrap=wrap, XCHG_SANDBOX=mode, **variables) as server:
                    with server.connect() as client:
                        client.sendall(b"x\0\n")
                        self.assertTrue(client.recv(1))
                    server.stop()
                warnings = [line for line in server.remarks() if "level=warn" in line]
                self.assertEqual(len(warnings), 1, warnings)
                self.assertIn(LACKS, warnings[0])
                said = server.wait_line("sandbox")
                self.assertEqual((said["landlock"] == "0", said["seccomp"] == "off"), ("landlock" in lacks, "seccomp" in lacks))
                found = server.wait_line(LACKS)
            else:
                server = Server(wrap=wrap, wait=False, XCHG_SANDBOX=mode, **variables)
                server.finish(71)
                found = server.wait_line(REFUSED)
                self.assertEqual(server.messages("listening"), [])
            self.assertEqual({key for key in ("landlock", "seccomp") if key in found}, lacks)
            for key in lacks:
                self.assertEqual(found[key], os.strerror(error))

    @unittest.skipUnless(COMPLETE, "needs a kernel that lacks nothing")
    def test_parts_are_missing(self):
        """An old kernel, one without Landlock in its boot line, a container engine that does not know the calls."""
        for handler in ({}, dict(XCHG_HANDLER=plugin("holder"))):
            for names, error, lacks in ((LANDLOCK, errno.ENOSYS, {"landlock"}), (LANDLOCK, errno.EOPNOTSUPP, {"landlock"}),
                                        (LANDLOCK, errno.EPERM, {"landlock"}), (["seccomp"], errno.ENOSYS, {"seccomp"}),
                                        ([*LANDLOCK, "seccomp"], errno.ENOSYS, {"landlock", "seccomp"})):
                with self.subTest(names, error=error, **handler):
                    self.limited(names, error, lacks, **handler)

    @unittest.skipUnless(COMPLETE, "needs a kernel that lacks nothing")
    def test_no_layer_of_landlock_is_left(self):
        """A process has 16 at most. Without one for the server it still has its filter, and the log says what is missing."""
        for handler in ({}, dict(XCHG_HANDLER=plugin("holder"))):
            with self.subTest(**handler):
                with Server(wrap=layered(15), XCHG_SANDBOX="on", **handler) as server:
                    self.assertNotIn("main", server.wait_line("sandbox"))
                    server.stop()
                with Server(wrap=layered(16), XCHG_SANDBOX="auto", **handler) as server:
                    self.assertEqual(server.wait_line("sandbox")["main"], "incomplete")
                    self.assertEqual(server.wait_line("the main thread runs without a part of the sandbox")["error"], os.strerror(errno.E2BIG))
                    for name, fields in of_threads(server).items():
                        self.assertEqual(filters(fields), filters(of_process()) + 1, name)
                    talk("plug-in" if handler else "", server)
                    server.stop()
                server = Server(wrap=layered(16), wait=False, XCHG_SANDBOX="on", **handler)
                server.finish(71)

    @unittest.skipUnless(COMPLETE and shutil.which("strace"), "needs strace, Landlock and a plain build")
    def test_main_alone_cannot_enter(self):
        """The other threads run then. Where the sandbox is required, the start ends with 71 and one line."""
        server = Server(wrap=strace("seccomp:error=ENOMEM:when=2", trace="seccomp"), wait=False, XCHG_SANDBOX="on",
                        XCHG_LISTEN=f"127.0.0.1:0,unix:{self.path('a')}")
        server.finish(71)
        self.assertEqual(server.wait_line("cannot enter the sandbox")["error"], os.strerror(errno.ENOMEM))
        self.assertEqual(len(server.lines), 1, server.lines)
        self.assertEqual(os.listdir(self.folder), [])

    @unittest.skipUnless(COMPLETE, "needs a kernel that lacks nothing")
    def test_the_thread_of_the_log_says_so_too(self):
        """Each kind of thread without a part of the sandbox is a warning."""
        path = self.path("log")
        with open(path, "wb") as stderr, Server(wrap=layered(16), stderr=stderr.fileno(), XCHG_SANDBOX="auto") as server:
            wait_listening(path)
            server.stop()
        with open(path, encoding="utf-8") as f:
            text = f.read()
        for who in ("a worker", "the acceptor", "the main thread", "the thread of the log"):
            self.assertEqual(text.count(f'msg="{who} runs without a part of the sandbox"'), 1, text)

    @unittest.skipUnless(ROOT and PLAIN, "needs root, whose capabilities are given up")
    def test_capset_is_refused(self):
        """Capabilities that cannot be given up are a warning, or the end of the start."""
        wrap = refusing(["capset"], errno.EPERM)
        said = "cannot give up capabilities"
        with Server(wrap=wrap, XCHG_SANDBOX="auto") as server:
            self.assertEqual(server.wait_line(said)["level"], "warn")
            self.assertNotEqual(server.wait_line("sandbox")["caps"], "0")
            server.stop()
        server = Server(wrap=wrap, wait=False, XCHG_SANDBOX="on")
        server.finish(71)
        self.assertEqual(server.wait_line(said)["level"], "error")

    @unittest.skipUnless(PLAIN, "a sanitizer has threads of its own")
    def test_a_thread_that_runs_already(self):
        """jemalloc can start a thread before main. It stays outside, so that is a warning, or the end of the start."""
        said = "threads that already run stay outside of the sandbox"
        jemalloc = dict(MALLOC_CONF="background_thread:true")
        with Server(XCHG_SANDBOX="auto", **jemalloc) as server:
            if "jemalloc_bg_thd" not in server.threads():
                self.skipTest("needs jemalloc")
            self.assertEqual(server.wait_line(said)["threads"], "1")
            server.stop()
            self.assertEqual(len(server.remarks()), 1)
        server = Server(wait=False, XCHG_SANDBOX="on", **jemalloc)
        server.finish(71)
        self.assertEqual(server.wait_line(said)["level"], "error")

    @unittest.skipUnless(COMPLETE, "needs a kernel with Landlock, and a build without a sanitizer")
    def test_the_filter_of_the_unit(self):
        """Under the SystemCallFilter= of docs/deploy/systemd the whole sandbox is in force, and nothing warns."""
        wrap = unit_filter()
        if ROOT:
            wrap = ["setpriv", f"--reuid={OTHER}", f"--regid={GROUP}", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all", *wrap]
            os.chmod(self.folder, 0o777)
        for more in ({}, dict(XCHG_PIN="on", XCHG_WORKERS="2"), dict(XCHG_HANDLER=plugin("holder"))):
            with self.subTest(**more), tempfile.TemporaryDirectory() as folder:
                os.chmod(folder, 0o777)
                with Endpoint(os.path.join(folder, "admin"), wrap=wrap, XCHG_SANDBOX="on",
                              XCHG_LISTEN=f"127.0.0.1:0,unix:{folder}/data", **more) as server:
                    said = server.wait_line("sandbox")
                    self.assertNotEqual((said["landlock"], said["seccomp"]), ("0", "off"))
                    self.assertEqual(said["caps"], "0")
                    talk("plug-in" if "XCHG_HANDLER" in more else "", server)
                    self.assertEqual(server.ask("/stats", unix=True).status, 200)
                    server.stop()
                self.assertEqual([line for line in server.remarks() if "level=warn" in line or "level=error" in line], [])
                self.assertEqual(os.listdir(folder), [])


# ---- the user ----

class User(SandboxTest):
    def refused(self, value, why, **variables):
        for flags in ((), ("--check",)):
            done = run(*flags, XCHG_USER=value, **variables)
            self.assertEqual(done.stderr, f"xchgd: XCHG_USER='{value}': {why}\n")
            self.assertEqual(done.returncode, 78)

    def test_faults(self):
        """A name that does not exist, and a change that is impossible, end the start with 78."""
        self.refused("no-such-user", "/etc/passwd has no such user; use its number")
        own = f"{os.getuid()}:{os.getgid() + 1}"
        self.refused(own, "want another user than root" if ROOT else "only root can become another user")
        if not ROOT:
            self.refused("root", "only root can become another user")

    @needs_root
    def test_an_ordinary_user_cannot_change(self):
        command = ["setpriv", f"--reuid={OTHER}", f"--regid={GROUP}", "--clear-groups"]
        if subprocess.run([*command, "test", "-x", PROGRAM], check=False).returncode != 0:
            self.skipTest("needs a program that other users can execute")
        for user, code in ((f"{OTHER}:{GROUP}", 0), (str(OTHER), 78), ("0", 78)):
            done = subprocess.run([*command, PROGRAM, "--check"], env=environment(XCHG_USER=user), capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, code, done.stderr)

    def test_its_own_user_is_met_already(self):
        """Nothing has to change, so an ordinary user can ask for it, too."""
        for mode in ("auto", "off"):
            with Server(XCHG_USER=f"{os.getuid()}:{os.getgid()}", XCHG_SANDBOX=mode) as server:
                self.assertEqual(of_process(server.pid)["Groups"], of_process()["Groups"])
                with server.connect() as client:
                    greet(client)
                server.stop()
                self.assertEqual(server.remarks(), [])

    @needs_root
    def test_the_change(self):
        """Numbers and a name: all threads have the ids and no group, no capability and no bounding set."""
        os.chmod(self.folder, 0o777)
        for value, ids in ((f"{OTHER}:{GROUP}", (OTHER, GROUP)), (str(OTHER), (OTHER, OTHER)), ("nobody", (65534, 65534))):
            for mode in ("auto", "off"):
                for handler in ({}, dict(XCHG_HANDLER=plugin("holder"))):
                    with self.subTest(value, mode=mode, **handler):
                        self.check_change(value, ids, XCHG_SANDBOX=mode, **handler)

    def check_change(self, value, ids, **variables):
        with Endpoint(self.path("admin"), XCHG_USER=value, **variables) as server:
            self.assertEqual(server.wait_line("sandbox")["user"], str(ids[0]))
            self.assertEqual(server.wait_line("sandbox")["caps"], "0")
            for name, fields in of_threads(server).items():
                self.assertEqual(set(fields["Uid"].split()), {str(ids[0])}, name)
                self.assertEqual(set(fields["Gid"].split()), {str(ids[1])}, name)
                self.assertEqual(fields["Groups"], "", name)
                for key in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
                    self.assertEqual(int(fields[key], 16), 0, name)
            talk("plug-in" if "XCHG_HANDLER" in variables else "", server)
            self.assertEqual(server.ask("/metrics").status, 200)
            self.assertGreater(server.metric("process_threads"), 1)  # /proc/self/stat was opened before
            server.stop()
        self.assertFalse(os.path.exists(self.path("admin")))

    @needs_root
    def test_a_port_below_1024(self):
        """It is bound before the change."""
        for _ in range(50):
            port = random.randrange(600, 1024)
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                    break
                except OSError:
                    continue
        with Server(XCHG_LISTEN=f"127.0.0.1:{port}", XCHG_USER=str(OTHER), XCHG_SANDBOX="on") as server:
            with server.connect() as client:
                greet(client)
            server.stop()

    @needs_root
    def test_socket_files(self):
        """A file that the user cannot remove is one warning at the start, however many there are."""
        def folder(name, mode, owner=0):
            os.mkdir(self.path(name))
            os.chmod(self.path(name), mode)
            os.chown(self.path(name), owner, -1)
            return self.path(name)
        os.chmod(self.folder, 0o755)
        for place, removed in ((folder("own", 0o700, OTHER), True), (folder("open", 0o777), True), (folder("closed", 0o755), False),
                               (folder("sticky", 0o1777), False)):
            with self.subTest(place), Server(XCHG_LISTEN=f"unix:{place}/a,unix:{place}/b", XCHG_ADMIN=f"unix:{place}/c",
                                             XCHG_USER=str(OTHER)) as server:
                server.stop()
            self.assertEqual(len(server.messages(KEEPS_FILE)), 0 if removed else 1)
            self.assertEqual(sorted(os.listdir(place)), [] if removed else ["a", "b", "c"])

    @needs_root
    def test_core(self):
        """After the change the process belongs to root in /proc, unless XCHG_CORE=on."""
        for core, owner in (("off", 0), ("on", OTHER)):
            for handler in ({}, dict(XCHG_HANDLER=plugin("holder"))):
                with self.subTest(core, **handler), Server(XCHG_USER=str(OTHER), XCHG_CORE=core, **handler) as server:
                    self.assertEqual(os.stat(f"/proc/{server.pid}/mem").st_uid, owner)
                    server.stop()
        for core in ("off", "on"):
            with Server(XCHG_CORE=core) as server:
                self.assertEqual(os.stat(f"/proc/{server.pid}/mem").st_uid, os.getuid())
                server.stop()

    @needs_root
    def test_a_change_that_fails(self):
        """Each step of the change that the system refuses ends the start with 71 and a line."""
        for call, said in (("setgroups", "cannot give up the supplementary groups"), ("setresgid", "cannot become the group of XCHG_USER"),
                           ("setresuid", "cannot become XCHG_USER")):
            with self.subTest(call):
                server = Server(wrap=refusing([call], errno.EPERM), wait=False, XCHG_USER=str(OTHER), XCHG_SANDBOX="off")
                server.finish(71)
                self.assertEqual(server.wait_line(said)["error"], os.strerror(errno.EPERM))


# ---- everything works under trap ----

@unittest.skipUnless(COMPLETE, "needs a kernel with Landlock, and a build without a sanitizer")
class Trap(SandboxTest):
    """A call that the sandbox forbids would end the server: these tests reach what is rare."""

    def setUp(self):
        super().setUp()
        self.mode = dict(XCHG_SANDBOX="trap")

    def test_activation(self):
        with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix, \
                Notify(self.folder) as notify:
            unix.bind(self.path("passed"))
            unix.listen()
            with Server(activate=[tcp, unix], NOTIFY_SOCKET=notify.address, **self.mode) as server:
                notify.wait("READY=1")
                for address in server.addresses:
                    with server.connect(address=address) as client:
                        greet(client)
                server.process.send_signal(signal.SIGTERM)
                notify.wait("STOPPING=1")
                server.finish()
        self.assertTrue(os.path.exists(self.path("passed")))

    def test_an_abstract_notify_socket(self):
        """Landlock forbids new connections to abstract sockets; this one was connected before."""
        with Notify(abstract=f"xchg-{os.getpid()}") as notify, Server(NOTIFY_SOCKET=notify.address, **self.mode) as server:
            notify.wait("READY=1")
            server.process.send_signal(signal.SIGTERM)
            notify.wait("STOPPING=1")
            server.finish()

    def test_socket_files_are_removed(self):
        for more in ({}, dict(XCHG_HANDLER=plugin("holder"))):
            with Endpoint(self.path("admin"), XCHG_LISTEN=f"unix:{self.path('a')},unix:{self.path('b')}", **self.mode, **more) as server:
                self.assertEqual(sorted(os.listdir(self.folder)), ["a", "admin", "b"])
                server.stop()
            self.assertEqual(os.listdir(self.folder), [])

    def test_commands_and_reports(self):
        with Endpoint(self.path("admin"), XCHG_SLOW_LOG="1ms", XCHG_DRAIN_DELAY="1ms", XCHG_IDLE_TIMEOUT="1m", **self.mode) as server:
            with server.connect() as client:
                receive_exactly(client, 20)
                server.stats()
                self.assertEqual(server.ask("/log?level=debug&for=1s", "POST").status, 200)
                self.assertEqual(server.ask("/connections", unix=True).status, 200)
                for target in ("/", "/page.js", "/metrics", "/stats", "/livez"):
                    self.assertEqual(server.ask(target).status, 200)
                client.sendall(b"late\0")
                self.assertEqual(receive_all(client), b"")
            server.wait_line("slow")
            server.wait_line("the log level is the configured one again")
            self.assertEqual(server.ask("/ready?state=off", "POST").status, 200)
            self.assertEqual(server.ask("/drain", "POST").status, 202)
            server.finish()

    def test_a_second_signal(self):
        with Server(XCHG_EXCHANGE="echo", **self.mode) as server, server.connect() as client:
            client.sendall(b"x")
            receive_exactly(client, 1)
            server.process.send_signal(signal.SIGTERM)
            server.wait_line("stopping")
            server.process.send_signal(signal.SIGINT)
            server.finish(1)

    def test_sigint_on_a_terminal(self):
        """Whether standard error is a terminal is asked at the start."""
        ours, its = os.openpty()
        with Server(stderr=its, XCHG_DRAIN_DELAY="10m", **self.mode) as server:
            os.close(its)
            text = b""
            while b"msg=listening" not in text:
                text += os.read(ours, 65536)
            server.process.send_signal(signal.SIGINT)
            self.assertEqual(server.process.wait(LIMIT), 0)
        os.close(ours)

    def test_descriptors_run_out(self):
        with Server(XCHG_EXCHANGE="echo", XCHG_MAX_CONNECTIONS="200", **self.mode) as server, \
                contextlib.ExitStack() as stack:
            with server.limited(resource.RLIMIT_NOFILE, server.descriptors() + 4):
                clients = [stack.enter_context(server.connect()) for _ in range(20)]
                server.wait_for(lambda lines: any("accepting pauses" in line for line in lines), "pause")
            for client in clients:
                client.sendall(b"x")
                self.assertEqual(receive_exactly(client, 1), b"x")

    def test_a_thousand_connections(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < 2100:
            self.skipTest("needs 2,100 descriptors")
        resource.setrlimit(resource.RLIMIT_NOFILE, (2100, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with Server(**self.mode) as server, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.connect()) for _ in range(1000)]
            for client in clients:
                greet(client)
            totals = server.stop()
        self.assertEqual(totals["finished"], 1000)

    def test_a_handler(self):
        """Its FIFO, its timer, its threads and its on_stop work; a second signal ends it meanwhile."""
        os.mkfifo(self.path("fifo"))
        with Server(XCHG_HANDLER=plugin("holder"), **self.mode) as server, server.connect() as client:
            receive_exactly(client, 6)
            client.sendall(f"calls\nlater\nhold {self.path('fifo')}\n".encode())
            os.close(os.open(self.path("fifo"), os.O_WRONLY))
            words = b""
            while b"held" not in words or b"timer" not in words or b"worked" not in words:
                words += client.recv(100)
            client.close()
            server.stop()
        with Server(XCHG_HANDLER=plugin("life"), LIFE_TICKS="1", **self.mode) as server:
            server.stop()


if __name__ == "__main__":
    unittest.main()
