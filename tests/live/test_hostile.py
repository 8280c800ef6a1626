"""Goal: what a handler can and cannot do under XCHG_SANDBOX=auto and on, wherever its code runs (docs/SECURITY.md).

tests/live/plugin/hostile.c makes the attempts: in a callback, on a thread born in on_start, in offloaded work, in on_start and
when it is loaded. Each argument is chosen so that the call does no harm if the sandbox lets it through.
"""

import errno
import os
import re
import signal
import socket
import subprocess
import unittest

from clients import INSTRUMENTED, FolderTest, serve
from xchgd import LIMIT, PROGRAM, SANDBOX

PLUGIN = os.path.join(os.path.dirname(os.path.abspath(PROGRAM)), "tests/live/plugin/hostile.so")
PLACES = ("call", "thread", "offload")
OK, BY_SIGNAL = 0, 1000
SIGSYS_CHILD = BY_SIGNAL + signal.SIGSYS
PROGRAM_TO_START = "/bin/true"
UID, GID = os.getuid(), os.getgid()

# Calls that fail with EPERM, with their arguments.
REFUSED = {
    "mount": '"" "" "" 0 0', "umount2": '"" 0', "fsopen": '"" -1', "fsconfig": "-1 0 0 0 0", "fsmount": "-1 0 0", "fspick": '-1 "" -1',
    "move_mount": '-1 "" -1 "" 0', "open_tree": '-1 "" 0', "open_tree_attr": '-1 "" 0 0 0', "mount_setattr": '-1 "" 0 0 0', "pivot_root": '"" ""', "chroot": '""',
    "setns": "-1 0", "unshare": "0", "bpf": "-1 0 0", "perf_event_open": "0 0 0 0 0", "userfaultfd": "-1",
    "keyctl": "-1 0 0 0 0", "add_key": '"" "" 0 0 0', "request_key": '"" "" 0 0',
    "init_module": '* 0 ""', "finit_module": '-1 "" 0', "delete_module": '"" 0', "kexec_load": "0 0 0 -1", "kexec_file_load": "-1 -1 0 0 -1",
    "reboot": "0 0 0 0", "swapon": '"" 0', "swapoff": '""', "quotactl": '-1 "" 0 0', "quotactl_fd": "-1 -1 0 0", "acct": '""', "open_by_handle_at": "-1 * 0",
    "io_uring_setup": "0 *", "io_uring_enter": "-1 0 0 0 0", "io_uring_register": "-1 0 0 0", "personality": "0xffffffff",
    "setuid": f"{UID}", "setgid": f"{GID}", "setreuid": f"{UID} {UID}", "setregid": f"{GID} {GID}", "setresuid": f"{UID} {UID} {UID}",
    "setresgid": f"{GID} {GID} {GID}", "setfsuid": "-1", "setfsgid": "-1", "setgroups": "-1 0", "iopl": "-1", "ioperm": "0 0 0",
}
# Calls that kill the process.
KILLING = {
    "execve": '"" 0 0', "execveat": '-1 "" 0 0 0', "ptrace": "-1 0 0 0", "process_vm_readv": "0 0 0 0 0 0", "process_vm_writev": "0 0 0 0 0 0",
}
# tests/lint/sandbox compares them with the table.
ATTEMPTS = [*REFUSED, *KILLING, "clone", "clone3"]
NUMBERS = {"open_tree_attr": 467}  # newer than the headers of Debian 12


def setUpModule():
    """Skip where the server has no sandbox, and learn the numbers of calls from the kernel's headers."""
    if INSTRUMENTED or SANDBOX == "off":
        raise unittest.SkipTest("a sanitizer, valgrind and gcov need calls that the sandbox refuses")
    with hostile() as server:
        line = server.wait_line("sandbox")
        server.stop()
    if line["seccomp"] == "off" or line["landlock"] == "0":
        raise unittest.SkipTest(f"this kernel has no sandbox: {line}")
    text = "".join(f"{name} __NR_{name}\n" for name in ATTEMPTS)
    made = subprocess.run(["gcc", "-E", "-P", "-include", "sys/syscall.h", "-"], input=text, capture_output=True, text=True, check=True, timeout=LIMIT)
    NUMBERS.update({name: int(number) for name, number in re.findall(r"^(\w+) (\d+)$", made.stdout, re.M)})


def hostile(**variables):
    return serve(**{"XCHG_HANDLER": PLUGIN, "XCHG_SANDBOX": "auto", "XCHG_WORKERS": "1", **variables})


def raw(name, arguments):
    return f"raw {NUMBERS[name]} {arguments}"


class Attempts(FolderTest):
    def ask(self, server, line):
        """The result of an attempt; None if the connection has ended."""
        with server.connect() as client, client.makefile("rb") as answers:
            client.sendall(line.encode() + b"\n")
            try:
                found = answers.readline()
            except ConnectionError:
                return None
            return int(found) if found else None

    def each_place(self, server, what, expected):
        for place in PLACES:
            with self.subTest(place=place, what=what):
                self.assertEqual(self.ask(server, f"{place} {what}"), expected)


class Refused(Attempts):
    def test_each_call(self):
        """Every call of the list fails with EPERM, wherever the handler makes it."""
        for mode in ("auto", "on"):
            with hostile(XCHG_SANDBOX=mode) as server:
                for name, arguments in REFUSED.items():
                    if name in NUMBERS:
                        self.each_place(server, raw(name, arguments), errno.EPERM)
                server.stop()

    def test_without_a_sandbox(self):
        """The same attempts succeed under `off`, so the answers above come from the sandbox."""
        with hostile(XCHG_SANDBOX="off") as server:
            for name in ("setuid", "setgid", "setresuid", "setresgid"):
                self.each_place(server, raw(name, REFUSED[name]), OK)
            self.each_place(server, f"fork {PROGRAM_TO_START}", OK)
            self.each_place(server, f"spawn {PROGRAM_TO_START}", OK)
            self.assertIsNone(self.ask(server, f"call exec {PROGRAM_TO_START}"))
            self.assertEqual(server.process.wait(LIMIT), 0)  # of the program that has replaced the server

    def test_namespaces_by_clone(self):
        """clone makes threads and children, but no namespace. clone3, whose flags a filter cannot see, does not exist."""
        new_user, new_net = 0x10000000, 0x40000000
        with hostile() as server:
            for flags in (new_user, new_net, new_user | new_net):
                self.each_place(server, raw("clone", f"{flags | signal.SIGCHLD} 0 0 0 0"), errno.EPERM)
            self.each_place(server, raw("clone3", "* 0"), errno.ENOSYS)
            server.stop()


class Killed(Attempts):
    def killed(self, what, **variables):
        for place in PLACES:
            with self.subTest(place=place, what=what), hostile(**variables) as server:
                self.assertIsNone(self.ask(server, f"{place} {what}"))
                self.assertEqual(server.process.wait(LIMIT), -signal.SIGSYS)

    def test_each_call(self):
        """To execute a program or to look into another process ends the server."""
        for name, arguments in KILLING.items():
            self.killed(raw(name, arguments))

    def test_programs(self):
        """... whether the program is a file or in memory."""
        self.killed(f"exec {PROGRAM_TO_START}")
        self.killed("memory", XCHG_SANDBOX="on")

    def test_children(self):
        """A child that executes a program is killed; the server goes on."""
        with hostile() as server:
            self.each_place(server, f"fork {PROGRAM_TO_START}", SIGSYS_CHILD)
            self.each_place(server, f"spawn {PROGRAM_TO_START}", SIGSYS_CHILD)
            self.assertEqual(self.ask(server, "call fork"), OK)
            server.stop()

    def test_on_start(self):
        """on_start runs under the sandbox, too."""
        tried = {name: raw(name, arguments) for name, arguments in REFUSED.items() if name in NUMBERS}
        with hostile(HOSTILE_START=",".join(tried.values())) as server:
            results = [line for line in server.lines if line.startswith("hostile result: ")]
            self.assertEqual(results, [f"hostile result: {errno.EPERM}"] * len(tried))
            server.stop()
        for name, arguments in KILLING.items():
            with self.subTest(name), hostile(HOSTILE_START=raw(name, arguments), wait=False) as server:
                self.assertEqual(server.process.wait(LIMIT), -signal.SIGSYS)
                self.assertEqual(server.messages("listening"), [])

    def test_loading_comes_before(self):
        """The constructors of a plug-in run before the sandbox is made."""
        with hostile(HOSTILE_BIRTH=f"fork {PROGRAM_TO_START}") as server:
            self.assertIn("hostile result: 0", server.lines)
            server.stop()


class Trapped(Attempts):
    def test_a_refused_call_is_named(self):
        """Under `trap` the process names the call, and aborts."""
        for place in PLACES:
            for name in ("unshare", "execve"):
                arguments = {**REFUSED, **KILLING}[name]
                with self.subTest(place=place, name=name), hostile(XCHG_SANDBOX="trap") as server:
                    self.assertIsNone(self.ask(server, f"{place} {raw(name, arguments)}"))
                    self.assertIsNone(server.finish(expect=-signal.SIGABRT))
                    self.assertIn(f"sandbox: call {NUMBERS[name]} ({name}) is not allowed in thread handler", server.lines)


class Open(Attempts):
    def test_what_stays(self):
        """Files, sockets, connections, threads, children, signals and libraries stay open to a handler."""
        with socket.create_server(("127.0.0.1", 0)) as other, hostile(XCHG_SANDBOX="on") as server:
            for what in ("read /etc/passwd", f"create {self.path('file')}", f"connect {other.getsockname()[1]}", "fork", "thread",
                         f"signal {os.getpid()}", f"load {PLUGIN.replace('hostile', 'clock')}"):
                self.each_place(server, what, OK)
            server.stop()

    def test_every_thread_is_restricted(self):
        """/proc shows the filter, no_new_privs and no capability for every thread."""
        with hostile(XCHG_SANDBOX="on") as server:
            self.assertEqual(self.ask(server, "offload fork"), OK)
            threads = server.threads()
            # The thread that has worked has its name; another one may not have set its own yet.
            for name in ("hostile", "xchg-accept", "xchg-work-0", "xchg-off-"):
                self.assertTrue(any(thread.startswith(name) for thread in threads), threads)
            for name, task in threads.items():
                with self.subTest(name), open(f"/proc/{server.pid}/task/{task}/status") as file:
                    text = file.read()
                    self.assertRegex(text, r"(?m)^Seccomp:\t2$")
                    self.assertRegex(text, r"(?m)^NoNewPrivs:\t1$")
                    self.assertRegex(text, r"(?m)^CapEff:\t0+$")
                    self.assertRegex(text, r"(?m)^CapPrm:\t0+$")
            server.stop()


if __name__ == "__main__":
    unittest.main()
