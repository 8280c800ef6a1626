"""A file of several parts, each written by its own run: make bench, bench-languages and bench-http keep the others' parts.

A part stands between two comments, which Markdown and SVG do not show.
"""

import re

from series import GROUPS


def read(text):
    """Name -> part."""
    return {name: part for name, part in re.findall(r"<!-- part: (\w+) -->\n(.*?)\n<!-- end: \1 -->", text, re.S) if name in GROUPS}


def replace(text, name, part):
    """The parts of a file in the order of the groups, with a new one."""
    found = read(text) | {name: part}
    return {group: found[group] for group in GROUPS if group in found}


def mark(name, part):
    return f"<!-- part: {name} -->\n{part}\n<!-- end: {name} -->"
