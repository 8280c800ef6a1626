"""The table in docs/checklist.md names what proves each row: all of it is there, and every test_row_NN_... stands in its row."""

import glob
import os
import re
import unittest

from xchgd import TOP

TABLE = "docs/checklist.md"
ROW = re.compile(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \|$", re.M)
LINK = re.compile(r"`([^`]+)`((?:[ ,]+test_\w+|[ ,]+\w+_\w+)*)")
LAST = 62


def read(path):
    with open(os.path.join(TOP, path), encoding="utf-8") as file:
        return file.read()


class Table(unittest.TestCase):
    def setUp(self):
        self.rows = {int(number): proof.strip() for number, _, proof in ROW.findall(read(TABLE))}

    def links(self, number):
        """What a row names: (path, names) of each file."""
        return [(path, re.findall(r"\w+", names)) for path, names in LINK.findall(self.rows[number])]

    def test_every_row_is_there(self):
        self.assertEqual(sorted(self.rows), list(range(1, LAST + 1)))
        for number, proof in self.rows.items():
            self.assertTrue(self.links(number) or proof.startswith("later: "), f"row {number} is proved by nothing: {proof}")

    def test_every_row_has_a_test_of_its_number(self):
        """The C programs beside it prove more; from outside each row that is not put off has one, which bears its number."""
        for number, proof in self.rows.items():
            if "`" in proof:
                names = [name for _, names in self.links(number) for name in names]
                self.assertTrue(any(name.startswith(f"test_row_{number:02}_") for name in names), f"row {number}: {proof}")

    def test_what_is_named_exists(self):
        """A file that is named without tests is one that proves the row as a whole, or has tests with the row's number."""
        for number in self.rows:
            for path, names in self.links(number):
                with self.subTest(row=number, path=path):
                    text = read(path)
                    for name in names:
                        self.assertTrue(re.search(rf"\b{name}\b", text), f"there is no {name}")
                    if not names and "/test_rows_" in path:
                        self.assertTrue(f"def test_row_{number:02}_" in text, "no test has the row's number")

    def test_every_numbered_test_is_named(self):
        found = 0
        for path in sorted(glob.glob(os.path.join(TOP, "tests", "live", "test_*.py"))):
            path = os.path.relpath(path, TOP)
            for name, number in re.findall(r"\bdef (test_row_(\d\d)_\w+)\(", read(path)):
                found += 1
                named = [names for link, names in self.links(int(number)) if link == path]
                self.assertTrue(any(name in names or not names for names in named), f"{TABLE} does not name {path} {name}")
        self.assertGreater(found, 30)


if __name__ == "__main__":
    unittest.main()
