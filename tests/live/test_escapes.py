"""Goal: bytes below 0x20 and above 0x7e in the text of others are escaped wherever it is printed."""

import os
import socket
import subprocess
import unittest

from clients import FolderTest
from xchgd import LIMIT, PROGRAM, Server, environment, run

EXAMPLE = os.path.join(os.path.dirname(PROGRAM), "examples", "echo")  # it calls xchg_main


class Escapes(FolderTest):
    NASTY = "\x1b[31m\x07\x9b2J\x7f\u00e9\r'\\"

    def check(self, result, *wanted):
        text = result.stdout + result.stderr
        self.assertRegex(text, r"^[ -~\n]*$")
        for each in wanted:
            self.assertIn(each, text)

    def test_names_of_plug_ins(self):
        for path in ("/" + self.NASTY, self.path(self.NASTY), self.NASTY + "/x"):
            self.check(run(XCHG_HANDLER=path), "XCHG_HANDLER=", "\\x1b[31m")
        self.check(run(XCHG_HANDLER=self.NASTY), "XCHG_HANDLER=", "\\x1b[31m")

    def test_words_of_the_loader(self):
        """dlerror quotes a name that a plug-in contains."""
        source, plugin = self.path("nasty.c"), self.path("nasty.so")
        with open(source, "w") as f:
            f.write("int no_plugin;\n")
        soname = "-Wl,-soname," + self.NASTY.replace("'", "").replace("\\", "") + ".so"
        library, needs = self.path("library.so"), self.path("needs.so")
        compiler = os.environ.get("CC", "cc")
        try:
            subprocess.run([compiler, "-shared", "-fPIC", "-o", library, soname, source], check=True)
            subprocess.run([compiler, "-shared", "-fPIC", "-Wl,--no-as-needed", "-o", needs, source, library], check=True)
            subprocess.run([compiler, "-shared", "-fPIC", "-o", plugin, source], check=True)
        except (OSError, subprocess.CalledProcessError):
            self.skipTest("no C compiler")
        self.check(run(XCHG_HANDLER=needs), "\\x1b[31m", "cannot be loaded")
        self.check(run(XCHG_HANDLER=plugin), "has no entry")

    def test_values_and_names_of_variables(self):
        for name in ("XCHG_LISTEN", "XCHG_WORKERS", "XCHG_FRAME", "XCHG_REPLY", "XCHG_DENY", "XCHG_NODELAY", "XCHG_MODEL",
                     "XCHG_IDLE_TIMEOUT", "XCHG_MAX_MESSAGE", "XCHG_" + self.NASTY):
            self.check(run(**{name: self.NASTY}), "\\x1b[31m")
        self.check(run("--explain", XCHG_GREETING=self.NASTY.replace("\\", "") + "x"), "\\x1b[31m")

    def test_arguments(self):
        self.check(run(self.NASTY), "\\x1b[31m")
        self.check(run("--check", self.NASTY), "\\x1b[31m")

    def test_name_of_the_program(self):
        """A program with xchg_main has the name that its caller gives it."""
        for arguments, variables in ((["--nothing"], {}), ([], {"XCHG_WORKERS": "x"}), ([], {"XCHG_X": "x"})):
            result = subprocess.run([self.NASTY, *arguments], executable=EXAMPLE, env=environment(**variables),
                                    stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT)
            self.assertNotEqual(result.returncode, 0)
            self.check(result, "\\x1b[31m")

    def test_addresses(self):
        """A socket path in the log, also of one that cannot be bound and of one that is passed."""
        path = self.path(self.NASTY.replace("\\", ""))
        with Server(XCHG_LISTEN=f"unix:{path}") as server:
            server.stop()
            self.assertRegex("\n".join(server.lines), r"^[ -~\n]*$")
            self.assertIn("\\x1b[31m", server.addresses[0])
        self.check(run(XCHG_LISTEN=f"unix:{path}/no"), "\\x1b[31m")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            with Server(activate=[listener], XCHG_STOP_GRACE="0") as server:
                server.stop()
            self.assertRegex("\n".join(server.lines), r"^[ -~\n]*$")


if __name__ == "__main__":
    unittest.main()
