"""Reads the fenced blocks of a Markdown page, and compares what a command printed with what the page shows.

A block is ```LANGUAGE WORDS...  In a console block a line that begins with `$ ` is a command and the lines below it are its
output; `...` stands for any text, on a line of its own for any lines.
"""

import collections
import os
import re

from xchgd import TOP

Block = collections.namedtuple("Block", "language words text line")


def blocks(page):
    """All fenced blocks of ${page}, a path in the source tree, in their order."""
    with open(os.path.join(TOP, page), encoding="utf-8") as f:
        text = f.read()
    for match in re.finditer(r"^```(\w*)([^\n]*)\n(.*?)^```$", text, re.M | re.S):
        yield Block(match.group(1), match.group(2).split(), match.group(3), text.count("\n", 0, match.start()) + 1)


def commands(block):
    """(command, expected output) for each command of a console block; what precedes the first has the command None."""
    found = [[None, ""]]
    for line in block.text.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append([line[2:].rstrip("\n"), ""])
        else:
            found[-1][1] += line
    return [tuple(each) for each in found if each != [None, ""]]


def expression(expected, any_number=False):
    """What the output must match: a regular expression for the shown lines; with any_number every number matches every other."""
    lines = ""
    for line in expected.splitlines():
        if line == "...":
            lines += r"(?:[^\n]*\n)*?"
            continue
        parts = [re.escape(part) for part in line.split("...")]
        if any_number:
            parts = [re.sub(r"\d+(?:\\\.\d+)?", lambda _: r"\d+(?:\.\d+)?", part) for part in parts]
            parts = [re.sub(r"(?:\\ )+", lambda _: " +", part) for part in parts]
        lines += r"[^\n]*".join(parts) + r"\n"
    return lines
