"""Goal: what xchg-bench writes about files, arguments and reports of others never makes a terminal act."""

import json
import os
import re
import subprocess
import tempfile
import unittest

from bench import BENCH, RUN_LIMIT, unused_port
from clients import serve
from xchgd import TOP

# Cursor and colour, a line feed that would forge a line, the same introducer in UTF-8 and alone, DEL.
EVIL = b"a\x1b[31m\nxchg-bench: all is well\r\xc2\x9b2J\x9b\x7f"
SHOWN = b"a\\x1b[31m\\x0axchg-bench: all is well\\x0d\\xc2\\x9b2J\\x9b\\x7f"
WILD = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|(?<![\xc2-\xf4])(?<![\xe0-\xf4][\x80-\xbf])(?<![\xf0-\xf4][\x80-\xbf]{2})[\x80-\xbf]")


class Escapes(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = temporary.name.encode()

    def run_bench(self, *arguments):
        """(code, output, errors) of a run, of which neither may hold a control character."""
        command = [BENCH.encode(), *(argument if isinstance(argument, bytes) else str(argument).encode() for argument in arguments)]
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=RUN_LIMIT, cwd=TOP)
        for text in (ran.stdout, ran.stderr):
            self.assertIsNone(WILD.search(text), text)
        return ran.returncode, ran.stdout, ran.stderr

    def path(self, name):
        return os.path.join(self.folder, name)

    def report(self, name, change=None):
        """A real report in a file of that name; ${change} alters its value."""
        if not hasattr(self, "original"):
            with serve(XCHG_EXCHANGE="echo") as server:
                code, out, errors = self.run_bench("-x", "echo", "-c", 1, "-t", 1, "-n", 20, "--json", "-", server.addresses[0])
            self.assertEqual(code, 0, errors)
            self.original = out
        value = json.loads(self.original)
        value["run_id"] = os.urandom(16).hex()
        if change:
            change(value)
        with open(self.path(name), "w", encoding="utf-8") as stream:
            json.dump(value, stream)
        return self.path(name)

    def expect_line(self, errors, *parts):
        """One line on standard error, with the name as it is shown."""
        self.assertEqual(errors.count(b"\n"), 1, errors)
        self.assertTrue(errors.startswith(b"xchg-bench: "), errors)
        for part in (SHOWN, *parts):
            self.assertIn(part, errors)

    def test_names_of_missing_and_broken_files(self):
        good, broken = self.report(b"good.json"), self.path(EVIL + b"broken")
        with open(broken, "wb") as stream:
            stream.write(b'{"schema": 2, "schema"')
        for command in ("compare", "merge"):
            for other, why in ((self.path(EVIL), b"cannot be read"), (broken, b"")):
                with self.subTest(command, other=other):
                    code, _, errors = self.run_bench(command, good, other)
                    self.assertEqual(code, 64)
                    self.expect_line(errors, why)

    def test_names_in_tables_and_warnings(self):
        def other_work(value):
            value["options"]["size"] = "65"
            value["started"] = "2020-01-01T00:00:00.000Z"

        one, two = self.report(EVIL + b"1"), self.report(EVIL + b"2", other_work)
        code, out, errors = self.run_bench("compare", one, two)
        self.assertEqual(code, 0, errors)
        self.assertEqual(out.count(SHOWN), 2)
        self.assertEqual(errors.count(SHOWN), 2)
        code, _, errors = self.run_bench("merge", one, two)
        self.assertEqual(code, 0, errors)
        self.assertGreaterEqual(errors.count(SHOWN), 2)
        self.assertIn(b"the work of", errors)
        code, _, errors = self.run_bench("merge", one, one)
        self.assertEqual(code, 64)
        self.expect_line(errors, b"cannot merge")

    def test_names_of_files_that_cannot_be_written(self):
        good, folder = self.report(b"good.json"), self.path(EVIL)
        os.mkdir(folder)
        code, _, errors = self.run_bench("merge", good, "--json", folder)
        self.assertEqual(code, 64)
        self.expect_line(errors, b"cannot write")
        for option in ("--json", "--csv", "--hdr", "--html"):
            code, _, errors = self.run_bench(option, folder, f"127.0.0.1:{unused_port()}")
            self.assertEqual(code, 64)
            self.expect_line(errors, b"cannot write")

    def test_arguments(self):
        good = self.report(b"good.json")
        for arguments in (("compare", b"--" + EVIL), ("merge", b"--" + EVIL), (b"--" + EVIL,), (b"--size=" + EVIL,),
                          ("compare", "--fail-above", EVIL, good, good), (EVIL,)):
            with self.subTest(arguments):
                code, _, errors = self.run_bench(*arguments)
                self.assertEqual(code, 64)
                self.expect_line(errors)

    def test_strings_of_a_report(self):
        """ASCII's control characters are refused there; those beyond it are escaped."""
        for text, code in (("a\x1b[31m", 64), ("a\nb", 64), ("a\u009b2J", 0), ("a\x7f", 64)):
            def change(value, text=text):
                value["target"] = text
                value["wrong_example"] = {"connection": 0, "offset": 0, "wanted": text, "received": text, "hint": text}

            path = self.report(b"strings.json", change)
            for arguments in (("compare", path, path), ("merge", path)):
                with self.subTest(arguments, text=text):
                    found, out, errors = self.run_bench(*arguments)
                    self.assertEqual(found, code, errors)
                    self.assertIn(b"control character" if code else b"a\\xc2\\x9b2J", out + errors)


if __name__ == "__main__":
    unittest.main()
