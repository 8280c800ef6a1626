"""README.md works as typed: every block, in the order in which it stands, in two terminals.

A block `console server` belongs to the terminal of the server: its last command goes on until Ctrl-C.  A block `console` belongs to
the second terminal.  Only the port is another one, since 7000 may be taken, and the home directory is an empty one.
"""

import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from doc_blocks import blocks, commands, expression
from xchgd import LIMIT, PROGRAM, TOP, environment

END = "end-of-command"
BUILD_LIMIT = 10 * LIMIT  # a command may be a build


def free_port():
    with socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET) as taken:
        taken.bind(("", 0))
        return str(taken.getsockname()[1])


def make_flags():
    """The variables that the make above us was given, without its jobs."""
    return re.sub(r"(^|\s)(-j\d*|--jobserver-\S+|--jobs\S*)", " ", os.environ.get("MAKEFLAGS", ""))


class Terminal:
    """A shell in the source tree that is typed into; everything it prints is kept."""

    def __init__(self, env):
        self.shell = subprocess.Popen(["bash"], cwd=TOP, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, start_new_session=True)
        self.output, self.news = "", threading.Condition()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        while data := os.read(self.shell.stdout.fileno(), 65536):
            with self.news:
                self.output += data.decode(errors="backslashreplace").replace("\0", "")
                self.news.notify_all()

    def type(self, text):
        """Type a line; what was printed before is forgotten."""
        self.output = ""
        self.shell.stdin.write(text.encode() + b"\n")
        self.shell.stdin.flush()

    def wait(self, pattern):
        """Wait until the output matches to its end; the match."""
        deadline = time.monotonic() + BUILD_LIMIT
        with self.news:
            while not (match := re.fullmatch(pattern, self.output, re.S)):
                if time.monotonic() > deadline or not self.news.wait(deadline - time.monotonic()):
                    raise AssertionError(f"expected {pattern}, got:\n{self.output}")
        return match

    def run(self, command):
        """Run a command to its end: what it printed and its exit code."""
        self.type(f"{{ {command}\n}} </dev/null; echo {END} $?")
        match = self.wait(rf"(.*){END} (\d+)\n")
        printed = match.group(1)
        return printed if printed == "" or printed.endswith("\n") else printed + "\n", int(match.group(2))

    def interrupt(self):
        """Ctrl-C: SIGINT to what runs in the foreground, not to the shell, which waits."""
        self.output = ""
        os.killpg(self.shell.pid, signal.SIGINT)

    def close(self):
        if self.shell.poll() is None:
            os.killpg(self.shell.pid, signal.SIGKILL)
        self.shell.wait()
        self.reader.join(LIMIT)
        self.shell.stdin.close()
        self.shell.stdout.close()


class Readme(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.TemporaryDirectory()
        self.addCleanup(self.home.cleanup)
        self.port = free_port()
        self.env = environment(XCHG_LISTEN=f":{self.port}", HOME=self.home.name, MAKEFLAGS=make_flags())
        self.env.pop("MAKELEVEL", None)
        self.second = Terminal(self.env)
        self.addCleanup(self.second.close)
        self.server = None

    def there(self, text):
        """What stands on the page, as it is here."""
        text = text.replace("7000", self.port)
        return text if socket.has_dualstack_ipv6() else text.replace("[::]", "0.0.0.0")

    def check_run(self, terminal, command, expected):
        printed, code = terminal.run(self.there(command))
        self.assertEqual(code, 0, f"{command}\n{printed}")
        pattern = expression(self.there(expected), any_number="xchg-bench" in command)
        self.assertRegex(printed, rf"\A{pattern}\Z", command)

    def stop_server(self, expected="...\n"):
        if self.server is not None:
            self.server.interrupt()
            self.server.wait(expression(expected) + rf"{END}\n")
            self.server.close()
            self.server = None

    def start_server(self, given):
        """All commands but the last one come to their end; that one is left running."""
        self.stop_server()
        self.server = Terminal(self.env)
        self.addCleanup(self.server.close)
        for command, expected in given[:-1]:
            self.check_run(self.server, command, expected)
        command, expected = given[-1]
        self.server.type(f"trap : INT; {self.there(command)} </dev/null; echo {END}")
        self.server.wait(expression(self.there(expected)))

    def type_block(self, block):
        """Type one block; how many commands it has."""
        if block.language == "c":
            with open(os.path.join(TOP, "docs", "examples", block.words[0]), encoding="utf-8") as f:
                self.assertIn(block.text, f.read())
            return 0
        self.assertEqual(block.language, "console", "a block that nobody tries")
        given = commands(block)
        if block.words == ["server"] and given[0][0] is None:
            self.assertEqual(given[0][1][:3], "^C\n")
            self.stop_server(given[0][1][3:])
            return 0
        if block.words == ["server"]:
            self.start_server(given)
            return len(given)
        for command, expected in given:
            self.check_run(self.second, command, expected)
        return len(given)

    def test_blocks(self):
        typed = 0
        for block in blocks("README.md"):
            try:
                typed += self.type_block(block)
            except AssertionError as error:
                self.fail(f"README.md:{block.line}: {error}")
        self.stop_server()
        self.assertGreaterEqual(typed, 12)


if os.environ.get("XCHGD_VARIANT", "release") != "release" or os.path.dirname(PROGRAM) != os.path.join(TOP, "build"):
    Readme = unittest.skip("README's blocks build and run the release build")(Readme)
