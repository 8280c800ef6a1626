"""README.md works as typed: every block, in the order in which it stands.

A command that shows `msg=listening` last is a server: it goes on, as in the first of two terminals, until the next such command or
the block that begins with `^C`.  The home directory is an empty one.
"""

import os
import re
import shlex
import tempfile
import unittest

from doc_blocks import Command, Terminal, commands, may_make_network
from xchgd import LIMIT, PROGRAM, TOP, environment

STOP = 'kill -INT "$server" $(cat "/proc/$server/task/$server/children"); wait "$server" || true'


def fenced(page):
    """(language and words, numbered lines) of each fenced block."""
    with open(os.path.join(TOP, page), encoding="utf-8") as f:
        text = f.read()
    for match in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.M | re.S):
        first = text.count("\n", 0, match.start()) + 2
        yield match.group(1), list(enumerate(match.group(2).splitlines(), first))


def make_flags():
    """The variables that the make above us was given, without its jobs."""
    return re.sub(r"(^|\s)(-j\d*|--jobserver-\S+|--jobs\S*)", " ", os.environ.get("MAKEFLAGS", ""))


def any_number(command):
    """The command with every number that it shows, and the space before it, left open."""
    return command._replace(output=[re.sub(r" *\d[\d.]*", "...", line) for line in command.output])


class Screen(Terminal):
    """A terminal shows no NUL."""

    def read_line(self, deadline):
        line = super().read_line(deadline)
        return line if line is None else line.replace("\0", "")


@unittest.skipUnless(os.environ.get("XCHGD_VARIANT", "release") == "release" and os.path.dirname(PROGRAM) == os.path.join(TOP, "build"),
                     "README's blocks build and run the release build")
@unittest.skipUnless(may_make_network(), "no network of its own can be made here")
class Readme(unittest.TestCase):
    def setUp(self):
        self.serving = False

    def type(self, terminal, command):
        if not command.output or "msg=listening" not in command.output[-1]:
            terminal.type(any_number(command) if "xchg-bench" in command.text else command)
            return
        if self.serving:
            terminal.type(Command(command.line, STOP, ["..."]))
        # In the background SIGINT would be ignored.
        text = f"env --default-signal=INT bash -c {shlex.quote(command.text)} & server=$!"
        terminal.type(command._replace(text=text))
        self.serving = True

    def type_block(self, terminal, language, lines):
        """Type one block; how many commands it has."""
        if language.startswith("c "):
            with open(os.path.join(TOP, "docs", "examples", language[2:]), encoding="utf-8") as f:
                self.assertIn("\n".join(text for _, text in lines), f.read())
            return 0
        self.assertEqual(language, "console", "a block that nobody tries")
        if lines[0][1] == "^C":
            terminal.type(Command(lines[0][0], STOP, [text for _, text in lines[1:]]))
            self.serving = False
        given = commands(lines)
        for command in given:
            self.type(terminal, command)
        return len(given)

    def test_blocks(self):
        with tempfile.TemporaryDirectory() as home:
            env = environment(HOME=home, MAKEFLAGS=make_flags(), XCHG_SANDBOX=None)
            env.pop("MAKELEVEL", None)
            with Screen(TOP, env, limit=10 * LIMIT) as terminal:
                typed = sum(self.type_block(terminal, *block) for block in fenced("README.md"))
        self.assertGreaterEqual(typed, 12)
