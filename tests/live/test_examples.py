"""Goal: the examples of docs/examples are short, compile as documented, and work.

Each example runs on a port of the kernel's choice, talks to clients over real sockets, and exits with 0
after SIGTERM. The quotes in docs/library.md are part of the examples.
"""

import contextlib
import os
import random
import re
import resource
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.append("/usr/lib/python3/dist-packages")  # for Debian's packages, if another python3 comes first
from pymemcache.client.base import Client  # noqa: E402
from pymemcache.exceptions import MemcacheServerError  # noqa: E402

import doc_blocks
from clients import MIB, ended, every_split, patient, play, talk, wait_acknowledged, wait_read
from xchgd import GREETING, LIMIT, PROGRAM, TOP, WRAP, environment, receive_all, receive_exactly, reset

SOURCES = os.path.join(TOP, "docs", "examples")
BUILT = os.path.join(os.path.dirname(PROGRAM), "examples")
BAD_LINE = b"CLIENT_ERROR bad command line format\r\n"


def example(name, **variables):
    """The example as a running server, without timeouts that a slow machine could reach."""
    return patient(program=os.path.join(BUILT, name), **variables)


def source(name):
    with open(os.path.join(SOURCES, name)) as f:
        return f.read()


def code_lines(name):
    """The number of lines without comments and blank lines."""
    text = re.sub(r"/\*.*?\*/", "", source(name), flags=re.S)
    return sum(1 for line in text.split("\n") if line.strip() and not line.strip().startswith("//"))


def memory_peak(pid):
    """The most bytes of a process that were resident."""
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read()).group(1)) * 1024


class Sources(unittest.TestCase):
    def test_short(self):
        """The small examples are as short as README and docs/library.md say."""
        for name, most in (("echo.c", 12), ("hello.c", 20)):
            self.assertLessEqual(code_lines(name), most, name)

    def test_plain_compiler(self):
        """Each example compiles with the compiler's defaults, without a warning, and includes no header of ours but
        xchg.h, or that of another example."""
        names = [name for name in sorted(os.listdir(SOURCES)) if name.endswith(".c")]
        self.assertGreaterEqual(len(names), 6)
        for name in names:
            done = subprocess.run(["cc", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Icore", os.path.join(SOURCES, name)], cwd=TOP,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT)
            self.assertEqual((done.returncode, done.stdout), (0, ""), name)
            self.assertLessEqual(set(re.findall(r'#include "(.*)"', source(name))), set(os.listdir(SOURCES)), name)

    def test_tutorial_quotes(self):
        """Every C block of docs/library.md that names a file is part of that file."""
        with open(os.path.join(TOP, "docs", "library.md")) as f:
            blocks = re.findall(r"^```c ([\w.]+)\n(.*?)^```$", f.read(), re.M | re.S)
        self.assertGreaterEqual(len(blocks), 10)
        for name, block in blocks:
            self.assertTrue(block in source(name), f"not in {name}:\n{block}")


@unittest.skipIf(WRAP or os.environ.get("XCHGD_VARIANT") in ("asan", "tsan", "cov"), "the library wants its tool's runtime")
class Tutorial(unittest.TestCase):
    def test_commands(self):
        """The commands of docs/library.md, typed one after the other, say what the page shows."""
        if not doc_blocks.may_make_network():
            self.skipTest("may not make a network")
        with tempfile.TemporaryDirectory() as home:
            make = os.path.join(home, "make")  # what has been built is taken as it is
            with open(make, "w") as f:
                f.write(f'#!/bin/sh\nexec {shutil.which("make")} -o all VARIANT={os.environ.get("XCHGD_VARIANT") or "release"} "$@"\n')
            os.chmod(make, 0o755)
            variables = environment(HOME=home, PATH=f"{home}:{os.environ['PATH']}", MAKEFLAGS="", MAKELEVEL="", XCHG_SANDBOX=None)  # embed refuses it
            blocks = doc_blocks.read_blocks(os.path.join(TOP, "docs", "library.md"))
            self.assertGreaterEqual(len(blocks), 7)
            with doc_blocks.Terminal(TOP, variables, LIMIT) as terminal:
                for block in blocks:
                    for command in block:
                        terminal.type(command)


class Small(unittest.TestCase):
    def test_echo(self):
        """The echo example returns a stream unchanged."""
        data = random.Random(4).randbytes(MIB)
        with example("echo") as server:
            with server.connect() as client:
                client.sendall(b"piece")
                self.assertEqual(receive_exactly(client, 5), b"piece")
                self.assertEqual(talk(client, data), data)
            self.assertEqual(ended(server.stop()), {"finished": 1})

    def test_hello(self):
        """The greet exchange: a client that sends first, one that sends later and one that sends too much."""
        with example("hello") as server:
            for before, after in ((b"", b"hello\0"), (b"hello\0", b""), (b"", b"\0and more")):
                with server.connect() as client:
                    client.sendall(before)
                    self.assertEqual(receive_exactly(client, len(GREETING)), GREETING)
                    client.sendall(after)
                    self.assertEqual(receive_all(client), b"")
            totals = server.stop()
            self.assertEqual((totals["finished"], totals["accepted"]), (3, 3))

    def test_plug_in(self):
        """The plug-in example returns lines in upper case."""
        data = b"hello\nCR LF\r\n\n\xe4\0z\n" + b"x" * 5000 + b"\nno end"
        with patient(XCHG_HANDLER=os.path.join(BUILT, "handler_so.so")) as server:
            with server.connect() as client:
                self.assertEqual(talk(client, data), data.upper())
            self.assertEqual(ended(server.stop()), {"finished": 1})


class Lines:
    """A client of a line protocol."""

    def __init__(self, server):
        self.socket = server.connect()
        self.file = self.socket.makefile("rb")

    def say(self, *lines):
        self.socket.sendall(b"".join(line.encode() + b"\n" for line in lines))

    def hear(self):
        return self.file.readline().decode().rstrip("\n")

    def hear_until(self, line):
        """Read lines up to ${line}. A member may still hear what was said before it entered."""
        while (heard := self.hear()) != line:
            if not heard:
                raise AssertionError(f"never heard {line!r}")

    def close(self):
        self.file.close()
        self.socket.close()


class Offload(unittest.TestCase):
    def ask(self, server, data):
        with server.connect() as client:
            return talk(client, data)

    def test_answers(self):
        """Correct answers in the order of the questions, also for a client that has half-closed."""
        with example("offload") as server:
            self.assertEqual(self.ask(server, b"100\n1\n2\n3\n10\n100000\n20\n"), b"25\n0\n0\n1\n4\n9592\n8\n")
            self.assertEqual(self.ask(server, b"30"), b"10\n")
            bad = b"not a number from 1 to 10000000\n"
            self.assertEqual(self.ask(server, b"\n0\n-1\n3x\n10000001\n99999999999\n12\n"), bad * 6 + b"5\n")
            self.assertEqual(ended(server.stop()), {"finished": 3})

    def test_refused(self):
        """Without offload threads, the answer says so."""
        with example("offload", XCHG_OFFLOAD_THREADS=0) as server:
            self.assertEqual(self.ask(server, b"100\n"), b"cannot count here\n")
            server.stop()

    def test_client_leaves(self):
        """The work of a client that has left is finished and freed."""
        with example("offload", XCHG_OFFLOAD_THREADS=1) as server:
            client = server.connect()
            client.sendall(b"300000\n")
            wait_acknowledged([client])
            wait_read([client])
            reset(client)
            server.wait_stats(lambda stats: stats["open"] == 0)
            self.assertEqual(self.ask(server, b"10\n"), b"4\n")
            server.stop()

    @unittest.skipIf(os.environ.get("XCHGD_VARIANT") == "tsan", "the sanitizer reports the jobs that a stop leaves alone")
    def test_full(self):
        """If the offload queue is full, some clients are told so. A stop with a full queue sends no answers and frees
        everything."""
        count, busy = 1024 + 180, b"busy, ask again later\n"
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        with example("offload", XCHG_OFFLOAD_THREADS=1, XCHG_DRAIN_TIMEOUT=0) as server, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.connect()) for _ in range(count)]
            for client in clients:
                client.sendall(b"200000\n")
            answers = dict.fromkeys(clients, b"")
            with selectors.DefaultSelector() as selector:
                for client in clients:
                    selector.register(client, selectors.EVENT_READ)
                while busy not in answers.values():
                    ready = selector.select(LIMIT)
                    self.assertTrue(ready, "no answer")
                    for key, _ in ready:
                        answers[key.fileobj] += key.fileobj.recv(100)
            totals = server.stop()
            for client in clients:
                with contextlib.suppress(ConnectionError):
                    answers[client] += receive_all(client)
            self.assertLessEqual(set(answers.values()), {busy, b"17984\n", b""})
            self.assertEqual(totals["accepted"], count)


class Chat(unittest.TestCase):
    def setUp(self):
        self.servers, self.members = contextlib.ExitStack(), contextlib.ExitStack()
        self.addCleanup(self.servers.close)
        self.addCleanup(self.members.close)

    def serve(self, **variables):
        return self.servers.enter_context(example("chat", **variables))

    def stop(self, server):
        """Close the clients first: the server waits for clients that it has said good-bye to."""
        self.members.close()
        return server.stop()

    def visit(self, server):
        member = Lines(server)
        self.members.callback(member.close)
        return member

    def enter(self, server, name, *others, room="lobby"):
        """A member that has entered. All ${others} have seen it enter."""
        member = self.visit(server)
        self.assertEqual(member.hear(), "* your name?")
        member.say(name)
        member.hear_until(f"* {name} has entered {room}")
        for each in others:
            self.assertEqual(each.hear(), f"* {name} has entered {room}")
        return member

    def test_rooms(self):
        """Every member of a room gets its messages, whichever worker serves it. Other clients do not."""
        server = self.serve(XCHG_WORKERS=2)
        ada = self.enter(server, "ada")
        bob = self.enter(server, "bob", ada)
        eve = self.enter(server, "eve", ada, bob)
        everybody = (ada, bob, eve)

        def heard(line, *members):
            for member in members:
                self.assertEqual(member.hear(), line)

        ada.say("hello")
        heard("<ada> hello", *everybody)
        eve.say("/join attic")
        heard("* eve has left lobby", ada, bob)
        heard("* eve has entered attic", eve)
        eve.say("alone")
        heard("<eve> alone", eve)
        ada.say("is she gone?")
        heard("<ada> is she gone?", ada, bob)
        bob.say("/join attic")
        bob.hear_until("* bob has entered attic")
        heard("* bob has left lobby", ada)
        heard("* bob has entered attic", eve)
        bob.say("/nick rob", "here")
        heard("* bob is now rob", eve, bob)
        heard("<rob> here", eve, bob)
        eve.say("/join attic")
        heard("* you are there", eve)
        bob.say("/quit")
        heard("", bob)
        bob.close()
        heard("* rob has left attic", eve)
        reset(eve.socket)
        eve.file.close()
        ada.say("last")
        heard("<ada> last", ada)
        self.stop(server)

    def test_commands(self):
        """Invalid names and commands are refused. Control bytes are not passed on."""
        server = self.serve(XCHG_WORKERS=2)
        member = self.visit(server)
        bad_name = "* a name has 1 to 24 bytes and no space"
        member.say("", "two words", "x" * 25, "/nick ", "/nick ada")
        for line in ("* your name?", *[bad_name] * 4, "* ada has entered lobby"):
            self.assertEqual(member.hear(), line)
        member.say("/join two words", "/nick  ", "/help", "\x1b[2Jhi\x7f", "x" * 512)
        for line in ("* a room's name has 1 to 24 bytes and no space", bad_name, "* /nick NAME, /join ROOM, /quit"):
            self.assertEqual(member.hear(), line)
        self.assertEqual(member.hear(), "<ada> ?[2Jhi?")
        self.assertEqual(member.hear(), "<ada> " + "x" * 512)
        member.say("x" * 513)
        self.assertEqual(member.hear(), "")
        self.assertEqual(ended(self.stop(server)), {"too_long": 1})

    def test_slow_member(self):
        """A member that does not read is closed, and the others do not wait for it."""
        server = self.serve(XCHG_WORKERS=2, XCHG_MAX_PENDING="4KiB", XCHG_SNDBUF="4KiB")
        ada = self.enter(server, "ada")
        slow = server.connect(rcvbuf=2048)
        self.members.enter_context(slow)
        slow.sendall(b"slow\n")
        self.assertEqual(ada.hear(), "* slow has entered lobby")
        deadline = time.monotonic() + LIMIT
        heard = ""
        while heard != "* slow has left lobby":
            self.assertLess(time.monotonic(), deadline, "it was not dropped")
            ada.say("x" * 500)
            heard = ada.hear()
            self.assertIn(heard, ("<ada> " + "x" * 500, "* slow has left lobby"))
        totals = self.stop(server)
        self.assertEqual(totals["closed_write"], 1)

    def test_no_name(self):
        """A client that sends no name is closed after its time, never early. Members stay."""
        server = self.serve(XCHG_WORKERS=2)
        ada = self.enter(server, "ada")
        start = time.monotonic()
        silent = self.visit(server)
        self.assertEqual([silent.hear() for _ in range(3)], ["* your name?", "* another time", ""])
        self.assertGreaterEqual(time.monotonic() - start, 15.0)
        ada.say("still here")
        self.assertEqual(ada.hear(), "<ada> still here")
        self.stop(server)

    def test_model_without_groups(self):
        """Under the fork model a client is alone in its process. The example says so and continues."""
        server = self.serve(XCHG_MODEL="fork")
        member = self.visit(server)
        member.say("ada", "hello", "/quit")
        heard = [member.hear() for _ in range(4)]
        self.assertEqual(heard[0], "* your name?")
        self.assertEqual(heard[-1], "")
        self.assertEqual(set(heard[1:-1]), {"* your message was not delivered"})
        self.stop(server)


class KeyValue(unittest.TestCase):
    def memcached(self, server, **options):
        client = Client(("127.0.0.1", server.port), timeout=LIMIT, connect_timeout=LIMIT, **options)
        self.addCleanup(client.close)
        return client

    def check(self, server, said, expected):
        """Send ${said} and quit on a new connection. The answer must be ${expected}."""
        with server.connect() as client:
            self.assertEqual(talk(client, said + b"quit\r\n", half_close=False), expected, said[:200])

    def test_client(self):
        """A client library that was written for memcached works."""
        with example("kv") as server:
            for noreply in (False, True):
                client = self.memcached(server, default_noreply=noreply)
                self.assertTrue(client.set("key", b"value"))
                self.assertEqual(client.get("key"), b"value")
                self.assertEqual(client.get("none"), None)
                self.assertTrue(client.set("key", b"other", flags=4294967295))
                self.assertEqual(client.get("key"), b"other")
                self.assertTrue(client.delete("key"))
                self.assertEqual(client.get("key"), None)
                many = {f"{noreply}{i}": b"\r\nEND\r\n\0" * i for i in range(300)}
                self.assertEqual(client.set_many(many), [])
                self.assertEqual(client.get_many([*many, "none"]), many)
                self.assertTrue(client.delete_many(list(many)))
                self.assertEqual(client.get_many(list(many)), {})
                client.close()
            client = self.memcached(server, default_noreply=False)
            self.assertFalse(client.delete("key"))
            self.assertRegex(client.version(), rb"^\d+\.\d+\.\d+$")
            long = random.Random(5).randbytes(MIB)
            self.assertTrue(client.set("k" * 250, long))
            self.assertEqual(client.get("k" * 250), long)
            with self.assertRaises(MemcacheServerError):
                client.set("k" * 250, long + b"x")
            self.assertEqual(client.get("k" * 250), None)  # better no value than an old one
            self.assertTrue(client.set("past", b"1", expire=-1))
            self.assertEqual(client.get("past"), None)
            client.quit()
            totals = server.stop()
            self.assertEqual(totals["finished"], totals["accepted"])

    def test_protocol(self):
        """Every command, well formed and malformed."""
        key = b"k" * 250
        with example("kv") as server:
            for said, expected in (
                    (b"set a 7 0 3\r\nabc\r\nget a\r\n", b"STORED\r\nVALUE a 7 3\r\nabc\r\nEND\r\n"),
                    (b"set a 007 0 0\nxx", b"CLIENT_ERROR bad data chunk\r\n"),
                    (b"set a 007 0 03\nabc\r\nget  a  none a \n", b"STORED\r\n" + b"VALUE a 7 3\r\nabc\r\n" * 2 + b"END\r\n"),
                    (b"set a 1 0 1 noreply\r\nb\r\nget a\r\n", b"VALUE a 1 1\r\nb\r\nEND\r\n"),
                    (b"delete a\r\ndelete a\r\nget a\r\n", b"DELETED\r\nNOT_FOUND\r\nEND\r\n"),
                    (b"delete a noreply\r\n", b""),
                    (b"delete a 0\r\ndelete a 0 noreply\r\n", b"NOT_FOUND\r\n"),  # as older clients send it
                    (b"delete\r\ndelete a b\r\ndelete a 1\r\ndelete a noreply b\r\n", b"ERROR\r\n" + BAD_LINE * 3),
                    (b"\r\nfoo\r\nGET a\r\nget\r\nget \r\nquit! \r\n", b"ERROR\r\n" * 6),
                    (b"get " + key + b"\r\nget " + key + b"k\r\nget none " + key + b"k a\r\n", b"END\r\n" + BAD_LINE * 2),
                    (b"delete " + key + b"k\r\n", BAD_LINE),
                    # If its size is known, the data of a refused set is not read as commands.
                    (b"set " + key + b"k 0 0 9\r\nversion\r\n\r\nget a\r\n", BAD_LINE + b"END\r\n"),
                    (b"set a x 0 1\r\nb\r\nset a 0 x 1\r\nb\r\nset a 4294967296 0 1\r\nb\r\n", BAD_LINE * 3),
                    (b"set a 0 0 -1\r\nset a 0 0 1x\r\nset a 0 0\r\nset\r\nset a 0 0 99999999999\r\n", BAD_LINE * 5),
                    (b"set a 0 0 3\r\nabcd\r\nget a\r\n", b"CLIENT_ERROR bad data chunk\r\nERROR\r\nEND\r\n"),
                    (b"set a 0 0 3 noreply\r\nabc..get a\r\n", b"END\r\n"),
                    (b"set a 0 0 2\r\n\r\n\r\nget a\r\n", b"STORED\r\nVALUE a 0 2\r\n\r\n\r\nEND\r\n"),
                    (b"set \0 0 0 1\r\n\0\r\nget \0\r\n", b"STORED\r\nVALUE \0 0 1\r\n\0\r\nEND\r\n"),
                    (b"set a 0 -1 1\r\nb\r\nget a\r\ndelete a\r\n", b"STORED\r\nEND\r\nNOT_FOUND\r\n"),
                    (b"set a 0 2592001 1\r\nb\r\nget a\r\n", b"STORED\r\nEND\r\n"),  # a date: the 31st of January 1970
                    (b"set a 0 2592000 1\r\nb\r\nget a\r\n", b"STORED\r\nVALUE a 0 1\r\nb\r\nEND\r\n"),
                    (b"set a 0 4294967295 1\r\nc\r\nget a\r\n", b"STORED\r\nVALUE a 0 1\r\nc\r\nEND\r\n"),
                    (b"get " + b"none " * 6000 + b"a\r\n", b"VALUE a 0 1\r\nc\r\nEND\r\n")):
                self.check(server, said, expected)
            server.stop()

    @unittest.skipUnless(shutil.which("memccapable"), "memccapable (libmemcached-tools) is not installed")
    def test_memccapable(self):
        """The commands that kv has behave as the tool of libmemcached expects."""
        with example("kv") as server:
            for name in ("version", "quit", "verbosity", "set", "set noreply", "get", "gets", "mget", "delete",
                         "delete noreply", "stat"):
                tool = ["memccapable", "-h", "127.0.0.1", "-p", str(server.port), "-a", "-t", str(int(LIMIT)), "-T", f"ascii {name}"]
                done = subprocess.run(tool, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=2 * LIMIT)
                self.assertEqual(done.returncode, 0, done.stdout)
                self.assertIn("[pass]", done.stdout)
            server.stop()

    def test_answer_whose_length_the_client_chooses(self):
        """A get that names one large item hundreds of times waits for the client and takes no memory for it. The
        commands after it are answered in order."""
        value, count = b"v" * MIB, 200
        item = b"VALUE a 0 %d\r\n%s\r\n" % (MIB, value)
        with example("kv", XCHG_WORKERS=1) as server:
            self.check(server, b"set a 0 0 %d\r\n%s\r\n" % (MIB, value), b"STORED\r\n")
            with server.connect() as client, server.connect() as other:
                client.sendall(b"get" + b" a" * count + b"\r\nget none\r\nversion\r\n")
                self.assertEqual(receive_exactly(client, len(item)), item)  # it has begun
                self.assertEqual(talk(other, b"get none\r\nquit\r\n", half_close=False), b"END\r\n")
                self.assertLess(memory_peak(server.process.pid), 64 * MIB)
                for _ in range(count - 1):
                    self.assertEqual(receive_exactly(client, len(item)), item)
                client.sendall(b"quit\r\n")
                self.assertEqual(receive_all(client), b"END\r\nEND\r\nVERSION 0.1.0\r\n")
            with server.connect() as client:  # one that ends in the middle
                client.sendall(b"get" + b" a" * count + b"\r\n")
                receive_exactly(client, 1000)
                reset(client)
            self.check(server, b"gets a none\r\n", item.replace(b"\r\n", b" 1\r\n", 1) + b"END\r\n")
            server.stop()

    def test_too_large(self):
        """Data over the limit is discarded, in one piece or in many, and the next command is answered."""
        with example("kv") as server:
            for size in (MIB + 1, 5 * MIB):
                for option, expected in ((b"", b"SERVER_ERROR object too large for cache\r\n"), (b" noreply", b"")):
                    said = b"set a 0 0 %d%s\r\n%s\r\nget a\r\n" % (size, option, b"get b\r\n" * (size // 7) + b"x" * (size % 7))
                    self.check(server, said, expected + b"END\r\n")
            with server.connect() as client:  # a line can be too long, too
                client.sendall(b"x" * 32767)
                client.sendall(b"y")
                self.assertEqual(receive_all(client), b"")
            self.check(server, b"x" * 32766 + b"\n", b"ERROR\r\n")
            self.assertEqual(ended(server.stop()), {"finished": 5, "error": 1})

    def test_truncated(self):
        """A set whose data does not arrive is not executed."""
        with example("kv") as server:
            with server.connect() as client:
                self.assertEqual(talk(client, b"set a 0 0 5\r\nabc"), b"")
            with server.connect() as client:
                self.assertEqual(talk(client, b"get a\r\nget a"), b"END\r\n")
            self.assertEqual(ended(server.stop()), {"truncated": 2})

    def test_every_split(self):
        """The answers do not depend on how the bytes are split."""
        template = (b"set %s 5 0 4\r\n\r\nab\r\nget none %s %s\r\nset %s 0 0 1 noreply\r\nx\r\nbad\r\nset %s 1 0 0\r\n\r\ndelete %s\r\n"
                    b"set %s 0 0 1048577\r\nget %s\nquit\r\n")
        answer = (b"STORED\r\n" + b"VALUE %s 5 4\r\n\r\nab\r\n" * 2 + b"END\r\nERROR\r\nSTORED\r\nDELETED\r\n"
                  b"SERVER_ERROR object too large for cache\r\n")
        with example("kv") as server:
            streams, expected = [], []
            shape = template.replace(b"%s", b"k0000")
            for i, pieces in enumerate(every_split(shape, pairs=False)):
                name = b"k%04d" % i
                data, at = template.replace(b"%s", name), 0
                streams.append([])
                for piece in pieces:
                    streams[-1].append(data[at:at + len(piece)])
                    at += len(piece)
                expected.append(answer.replace(b"%s", name))
            answers = play(server, streams, half_close=True)
            for got, wanted, pieces in zip(answers, expected, streams, strict=True):
                self.assertEqual(got, wanted, f"sent in the pieces {pieces!r:.300}")
            server.stop()

    def test_expiry(self):
        """An item with an expiry time is there first and gone later."""
        with example("kv") as server:
            client = self.memcached(server, default_noreply=False)
            client.set("long", b"1", expire=1000)
            client.set("short", b"1", expire=1)
            deadline = time.monotonic() + LIMIT
            while client.get("short") is not None:
                self.assertLess(time.monotonic(), deadline)
            self.assertEqual(client.get("long"), b"1")
            client.close()
            server.stop()

    def test_memory(self):
        """A value that does not fit is refused, and the old value is deleted. Deleted items make room."""
        size = 1000000
        with example("kv", KV_MEMORY_MIB=2) as server:
            client = self.memcached(server, default_noreply=False)
            self.assertTrue(client.set("a", b"a" * size))
            self.assertTrue(client.set("b", b"b" * size))
            self.assertTrue(client.set("small", b"s"))
            for key in ("c", "small"):
                with self.assertRaisesRegex(MemcacheServerError, "out of memory"):
                    client.set(key, b"c" * size)
                self.assertEqual(client.get(key), None)
            self.assertTrue(client.delete("a"))
            self.assertTrue(client.set("c", b"c" * size))
            self.assertEqual(client.get_many(["a", "b", "c"]), {"b": b"b" * size, "c": b"c" * size})
            client.close()
            server.stop()

    def test_replaced_while_sent(self):
        """A value that is replaced while it is being sent to a slow client arrives unchanged."""
        old, new = random.Random(6).randbytes(MIB), random.Random(7).randbytes(MIB)
        with example("kv", XCHG_WORKERS=2) as server:
            other = self.memcached(server, default_noreply=False)
            other.set("a", old)
            with server.connect(rcvbuf=4096) as slow:
                slow.sendall(b"get a a a\r\n" * 4 + b"quit\r\n")
                head = receive_exactly(slow, 10)  # the first answer has started
                self.assertTrue(other.delete("a"))
                self.assertTrue(other.set("a", new))
                said = head + receive_all(slow)
            values = [b"VALUE a 0 %d\r\n%s\r\n" % (MIB, value) for value in (old, new)]
            self.assertTrue(said.startswith(values[0]))
            left = said.replace(values[0], b"<old>").replace(values[1], b"<new>")
            self.assertRegex(left, rb"\A((<old>|<new>)*END\r\n){4}\Z")
            other.close()
            server.stop()

    def test_together(self):
        """With many clients on the same keys, every value is whole and belongs to its key."""
        failures = []

        def work(server, seed):
            try:
                chance = random.Random(seed)
                client = Client(("127.0.0.1", server.port), timeout=LIMIT, connect_timeout=LIMIT, default_noreply=False)
                for _ in range(150):
                    key = f"key{chance.randrange(4)}"
                    action = chance.randrange(4)
                    if action == 0:
                        client.set(key, (key.encode() + b"%d" % chance.randrange(10)) * chance.choice((1, 100, 3000)))
                    elif action == 1:
                        client.delete(key)
                    else:
                        value = client.get(key)
                        if value is not None and value != value[:5] * (len(value) // 5) or value and value[:4] != key.encode():
                            failures.append((key, value[:100]))
                client.close()
            except Exception as failure:  # the main thread asserts
                failures.append(failure)

        with example("kv", XCHG_WORKERS=3) as server:
            threads = [threading.Thread(target=work, args=(server, seed)) for seed in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(failures, [])
            self.assertEqual(ended(server.stop()), {"finished": 6})


class Embed(unittest.TestCase):
    """The embed example has its own log, so the driver of xchgd cannot start it."""

    @contextlib.contextmanager
    def run_it(self, **variables):
        """Gives the process and a function that connects to one of its servers."""
        variables = environment(XCHG_SANDBOX=None, XCHG_LISTEN="127.0.0.1:0", XCHG_STOP_GRACE="0", **variables)
        with subprocess.Popen([*WRAP, os.path.join(BUILT, "embed")], env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              text=True) as process:
            try:
                ports = dict(re.fullmatch(r"(\w+) listens at 127\.0\.0\.1:(\d+)\n", process.stdout.readline()).groups() for _ in range(2))
                yield process, lambda name: socket.create_connection(("127.0.0.1", int(ports[name])), LIMIT)
            finally:
                process.kill()

    def test_two_servers(self):
        """Another thread answers orders in order, the second server counts them, and a signal ends both."""
        with self.run_it() as (process, connect):
            with connect("orders") as client:
                self.assertEqual(talk(client, b"abc\ndefg\n\nlast"), b"cba\ngfed\n\ntsal\n")
            with connect("numbers") as client:
                self.assertRegex(receive_all(client), rb"\Aopen \d+, orders 4\n\Z")
            gone = connect("orders")
            gone.sendall(b"nobody waits for this\n")
            reset(gone)
            with connect("orders") as client:
                client.sendall(b"olleh\n")
                self.assertEqual(receive_exactly(client, 6), b"hello\n")
                process.terminate()
                self.assertEqual(receive_all(client), b"")
            self.assertEqual(process.wait(LIMIT), 0)

    def test_bad_configuration(self):
        """An invalid configuration ends the program with a line that names the variable."""
        with tempfile.TemporaryFile() as log:
            done = subprocess.run([*WRAP, os.path.join(BUILT, "embed")], env=environment(XCHG_SANDBOX=None, XCHG_WORKERS="none"),
                                  stdin=subprocess.DEVNULL, stderr=log, timeout=LIMIT, check=False)
            log.seek(0)
            self.assertIn(b"XCHG_WORKERS", log.read())
            self.assertEqual(done.returncode, 1)
