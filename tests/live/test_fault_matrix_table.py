"""Goal: docs/fault-matrix.md and the tests agree.

Every test that an entry names exists, each entry names a live test that is marked with its number (@covers_fault), and every
marked test is named in its entry.
"""

import ast
import glob
import os
import re
import unittest

from xchgd import TOP

TABLE = "docs/fault-matrix.md"
ENTRY = re.compile(r"^\| (\d+) \|(?: [^|]+ \|)* ([^|]+) \|$", re.M)  # its number and its last column
LINK = re.compile(r"`([^`]+)`((?:[ ,]+\w+_\w+)*)")
LAST = 62
NOT_BUILT = "later: "  # begins the last column of a fault of something that does not exist yet


def read(path):
    with open(os.path.join(TOP, path), encoding="utf-8") as file:
        return file.read()


def marks(path):
    """The marked tests of a file: {(number, name)}. The mark of a class applies to each of its tests."""
    found = set()
    for node in ast.walk(ast.parse(read(path))):
        for mark in getattr(node, "decorator_list", []):
            if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "covers_fault":
                tests = node.body if isinstance(node, ast.ClassDef) else [node]
                found |= {(mark.args[0].value, test.name) for test in tests if getattr(test, "name", "").startswith("test_")}
    return found


class Table(unittest.TestCase):
    def setUp(self):
        self.entries = {int(number): tests.strip() for number, tests in ENTRY.findall(read(TABLE))}

    def links(self, number):
        """The tests that an entry names: [(path, names)]."""
        return [(path, re.findall(r"\w+", names)) for path, names in LINK.findall(self.entries[number])]

    def test_every_entry_is_there(self):
        """The entries are numbered without gaps, and each names tests or what must exist first."""
        self.assertEqual(sorted(self.entries), list(range(1, LAST + 1)))
        for number, tests in self.entries.items():
            self.assertTrue(self.links(number) or tests.startswith(NOT_BUILT), f"entry {number} names no test: {tests}")

    def test_every_entry_has_a_live_test(self):
        """Each entry with tests names a live test."""
        for number, tests in self.entries.items():
            marked = [name for path, names in self.links(number) if path.startswith("tests/live/") for name in names]
            self.assertTrue(marked or not self.links(number), f"entry {number}: {tests}")

    def test_what_is_named_exists(self):
        """A live test that is named has the mark of the entry. A file that is named without tests exists."""
        for number in self.entries:
            for path, names in self.links(number):
                with self.subTest(entry=number, path=path):
                    text = read(path)
                    marked = marks(path) if path.startswith("tests/live/") else None
                    self.assertTrue(names or marked is None, f"{path} is named without its tests")
                    for name in names:
                        self.assertTrue(re.search(rf"\b{name}\b", text), f"there is no {name}")
                        self.assertTrue(marked is None or (number, name) in marked, f"{name} has no @covers_fault({number})")

    def test_every_marked_test_is_named(self):
        """Each marked test stands in its entry."""
        found = 0
        for path in sorted(glob.glob(os.path.join(TOP, "tests", "live", "test_*.py"))):
            path = os.path.relpath(path, TOP)
            for number, name in marks(path):
                found += 1
                self.assertTrue(any(name in names for link, names in self.links(number) if link == path),
                                f"entry {number} of {TABLE} does not name {path} {name}")
        self.assertGreater(found, 30)
