"""Goal: the locale of a program changes neither what a variable means nor what the server writes.

The locales are compiled into a folder of their own. A translation of one of libc's texts stands for all of them.
"""

import importlib.machinery
import importlib.util
import os
import re
import shutil
import struct
import subprocess
import tempfile
import unittest

from test_config import prefixed
from xchgd import LIMIT, PLAIN, PROGRAM, TOP, WRAP, Server, environment

LOCALE_SERVER = os.path.join(os.path.dirname(PROGRAM), "tests", "live", "locale_server")
LOCALES = (("tr_TR.UTF-8", "tr_TR", "UTF-8"), ("tr_TR", "tr_TR", "ISO-8859-9"), ("de_DE.UTF-8", "de_DE", "UTF-8"))
PROBES = {"tr_TR.UTF-8": "other 1,5 Address already in use", "tr_TR": "other 1,5 Address already in use",
          "de_DE.UTF-8": "same 1,5 Adresse belegt"}
# Each kind of value that is a word or begins with one.
SHOUTED = (dict(OVERLOAD="WAIT"), dict(LOG_LEVEL="INFO", LOG_FORMAT="LOGFMT"), dict(DISPATCH="ROUND-ROBIN"), dict(PIN="ON", KEEPALIVE="OFF"),
           dict(LISTEN="UNIX:/tmp/i;MODE=0660"), dict(IDLE_TIMEOUT="250ms", MAX_PENDING="1MiB", SPIN="5us", ALLOW="FE80::/10"))


def catalogue(texts):
    """A file of translations, as msgfmt(1) makes it."""
    pairs = sorted({"": "Content-Type: text/plain; charset=UTF-8\n", **texts}.items())
    keys, values = ([pair[i].encode() + b"\0" for pair in pairs] for i in (0, 1))
    at, tables = 28 + 16 * len(pairs), b""
    for column in (keys, values):
        for text in column:
            tables += struct.pack("<II", len(text) - 1, at)
            at += len(text)
    return struct.pack("<7I", 0x950412de, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0) + tables + b"".join(keys + values)


class InLocales(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if shutil.which("localedef") is None or not os.path.exists("/usr/share/i18n/locales/tr_TR"):
            raise unittest.SkipTest("the package locales is not installed")
        cls.folder = tempfile.mkdtemp(prefix="xchg-locale-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        for name, source, charset in LOCALES:
            path = os.path.join(cls.folder, name)
            done = subprocess.run(["localedef", "--no-archive", "-c", "-i", source, "-f", charset, path], capture_output=True, text=True)
            if not os.path.exists(os.path.join(path, "LC_CTYPE")):
                raise AssertionError(f"localedef: {done.stderr}")
        texts = os.path.join(cls.folder, "texts", "de", "LC_MESSAGES")
        os.makedirs(texts)
        with open(os.path.join(texts, "libc.mo"), "wb") as f:
            f.write(catalogue({"Address already in use": "Adresse belegt"}))

    def locale(self, name):
        """The variables that select a locale."""
        return dict(LC_ALL=name, LANGUAGE="", LOCPATH=self.folder, LOCALE_TEXTS=os.path.join(self.folder, "texts"))

    def said(self, name, *arguments, **variables):
        """What the program says in a locale: exit code and both outputs."""
        done = subprocess.run([*WRAP, LOCALE_SERVER, *arguments], env=environment(**self.locale(name), **variables), stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=LIMIT)
        return done.returncode, done.stdout, done.stderr

    @unittest.skipUnless(PLAIN, "a sanitizer brings a strcasecmp of its own")
    def test_locales_are_in_force(self):
        """libc's own functions behave otherwise in the locales of this test."""
        for name, expected in PROBES.items():
            with self.subTest(name):
                code, out, err = self.said(name, "probe")
                self.assertEqual((code, out.decode("utf-8"), err), (0, f"{name} {expected}\n", b""))

    def test_values(self):
        """A value in capital or small letters means the same in every locale."""
        for given in SHOUTED:
            expected = self.said("C", "--explain", **prefixed(given))
            self.assertEqual(expected[0], 0, expected)
            for name, _, _ in LOCALES:
                with self.subTest(name, given=given):
                    self.assertEqual(self.said(name, "--explain", **prefixed(given)), expected)

    def test_help_and_faults(self):
        """--help and the lines about faults are the same in every locale."""
        for arguments, given in ((["--help"], {}), (["--version"], {}), (["--check"], dict(IDLE_TIMEOUT="1,5s", PIN="IN")),
                                 (["--check"], dict(IDLE_TIMEOUTI="1s", mInLIFETIME="1s")), (["--nothing"], {})):
            expected = self.said("C", *arguments, **prefixed(given))
            for name, _, _ in LOCALES:
                with self.subTest(name, arguments=arguments):
                    code, out, err = self.said(name, *arguments, **prefixed(given))
                    times = re.compile(rb"time=\S+")
                    self.assertEqual((code, out, times.sub(b"", err)), (*expected[:2], times.sub(b"", expected[2])))

    def test_server(self):
        """A program in the Turkish locale waits at the limit when XCHG_OVERLOAD=WAIT says so, and serves."""
        with Server(program=LOCALE_SERVER, XCHG_OVERLOAD="WAIT", **self.locale("tr_TR.UTF-8")) as server:
            with server.connect() as client:
                client.sendall(b"hello\n")
                self.assertEqual(client.recv(6), b"hello\n")
            server.stop()

    def test_error_in_the_log(self):
        """The text of an errno in a log line is not translated."""
        with Server() as first:
            code, _, err = self.said("de_DE.UTF-8", XCHG_LISTEN=first.addresses[0])
            first.stop()
        self.assertEqual(code, 69, err)
        self.assertIn(b'error="Address already in use"', err)


class Lint(unittest.TestCase):
    """tests/lint/rules refuses what depends on the locale."""

    def faults(self, line):
        path = os.path.join(TOP, "tests", "lint", "rules")
        loader = importlib.machinery.SourceFileLoader("rules", path)
        rules = importlib.util.module_from_spec(importlib.util.spec_from_loader("rules", loader))
        loader.exec_module(rules)
        for check in (rules.check_owners, rules.check_conversions):
            check("core/x.c", line)
        return rules.faults

    def test_refused(self):
        """Each such call, function pointer, header and conversion is a fault."""
        for line in ("if (strcasecmp(a, b) == 0) {", "c = toupper(c);", "if (isalpha(c)) {", "x = strtod(a, NULL);", "x = strtoul(a, NULL, 10);",
                     "log_str(line, key, strerror(errno));", "strerror_r(e, a, n);", "qsort(a, n, s, strcoll);", "n = strftime(t, n, f, tm);",
                     "#include <ctype.h>", 'printf("%.1f", x);', 'printf("%m");', "printf(\"%'d\", x);", 'printf("%-10g", x);', 'printf("%*.*Lf", x);',
                     'sscanf(a, "%d", &x);', 'perror("x");', "strncasecmp(a, b, 1)", "isdigit (c)", "towupper(c)", 'setlocale(LC_ALL, "");'):
            self.assertNotEqual(self.faults(line), [], line)

    def test_allowed(self):
        """Other names and conversions are not."""
        for line in ("error_text(error, text);", 'printf("%d %u %s %zu %08x %c", a);', 'printf("100 %% of %s", a);', "int error = errno;", "x.error = 1;",
                     'puts("50% more");', 'puts("strcasecmp(3)");'):
            self.assertEqual(self.faults(line), [], line)


if __name__ == "__main__":
    unittest.main()
