"""Goal: make install puts a usable product into an empty tree.

Every promised file is there and no other. Programs compile against the installed header, link with both
libraries through pkg-config, and serve. The installed xchgd loads a plug-in, completion offers every
option, and uninstall leaves no file.
"""

import glob
import os
import re
import shutil
import stat
import subprocess
import tempfile
import unittest

from clients import ended, talk
from xchgd import LIMIT, PROGRAM, TOP, WRAP, Server, environment, greet

VARIANT = os.environ.get("XCHGD_VARIANT") or "release"
BUILT = os.path.dirname(PROGRAM)
EXAMPLES = os.path.join(TOP, "docs", "examples")
# A library that needs the runtime of a sanitizer or of gcov cannot be linked here.
links_alone = unittest.skipIf(VARIANT in ("asan", "tsan", "cov"), f"the library of VARIANT={VARIANT} needs its tool's runtime")

OWN_NAMES = """
#include <stdio.h>
#include <xchg.h>

/* Names that the library has for itself, with other types. */
const char buf_len[] = "mine";
double log_init(void) { return 1.5; }
int config_load(int x) { return x + 1; }
void buf_append(void) {}

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  char text[64];
  buf_append();
  int size = snprintf(text, sizeof(text), "%zu %s %.1f %d", message->size, buf_len, log_init(), config_load(6));
  xchg_send(conn, text, (size_t)size);
}

int main(int argc, char **argv) {
  static const struct xchg_handler own = {.size = sizeof(own), .on_message = on_message};
  return xchg_main(&own, argc, argv);
}
"""
OWN_INTERNAL = ("buf_append", "log_init", "config_load")  # those that are functions of the library, not inline

CXX = """
#include <xchg.h>

static void on_message(xchg_conn *conn, const xchg_message *message) { xchg_send(conn, message->data, message->size); }

int main(int argc, char **argv) {
  xchg_handler echo = xchg_handler();
  echo.size = sizeof(echo);
  echo.on_message = on_message;
  return xchg_main(&echo, argc, argv);
}
"""

PLUGIN = """
#include <xchg.h>
static const struct xchg_handler sink = {sizeof(struct xchg_handler), %s};
XCHG_PLUGIN(sink)
"""

# Prints the completions of the last of its arguments, which is being typed.
COMPLETE = """
source "$1" || exit 1
COMP_WORDS=("${@:2}")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
line=$(complete -p "$2") || exit 1
[[ $line =~ -F\\ ([^ ]+) ]] || exit 1
"${BASH_REMATCH[1]}" "$2" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" || exit 1
printf '%s\\n' "${COMPREPLY[@]}"
"""


def call(*command, **options):
    """Run a command to its end and return its output. AssertionError with the output if it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT,
                          **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}")
    return done.stdout


def make(target, root, *variables):
    """make ${target} into ${root}. -o all: use the existing build, whatever has changed."""
    clean = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")}
    return call("make", "-o", "all", target, f"VARIANT={VARIANT}", f"DESTDIR={root}", *variables, cwd=TOP, env=clean)


def files(root):
    """The paths of all files below ${root}."""
    return {os.path.relpath(os.path.join(folder, name), root) for folder, folders, names in os.walk(root)
            for name in names + [f for f in folders if os.path.islink(os.path.join(folder, f))]}


def version():
    with open(os.path.join(TOP, "core", "xchg.h")) as f:
        return re.search(r'^#define XCHG_VERSION "(.*)"$', f.read(), re.M).group(1)


def expected(prefix="usr", lib="usr/lib", include="usr/include"):
    with open(os.path.join(TOP, "core", "xchg.h")) as f:
        calls = re.findall(r"^[a-z][^;{}()]*\b(xchg_\w+)\(", re.sub(r"/\*.*?\*/|^(?:typedef|#)[^\n]*", "", f.read(), flags=re.M | re.S), re.M)
    pages = ["xchgd.8", "xchg-bench.1", "xchg-metrics.7", "xchg-proxy.7", *(f"{name}.3" for name in ["libxchg", "xchg_handler", "xchg_conn", "xchg_server", *calls])]
    return {f"{prefix}/bin/xchgd", f"{prefix}/bin/xchg-bench", f"{include}/xchg.h",
            f"{lib}/libxchg.a", f"{lib}/libxchg.so", f"{lib}/libxchg.so.0", f"{lib}/libxchg.so.{version()}", f"{lib}/pkgconfig/xchg.pc",
            f"{prefix}/share/bash-completion/completions/xchgd", f"{prefix}/share/bash-completion/completions/xchg-bench",
            *(f"{prefix}/share/man/man{page[-1]}/{page}" for page in pages)}


def modules_of(source):
    """The .c files of the headers that ${source} includes from its own folder."""
    with open(source) as stream:
        return [os.path.join(os.path.dirname(source), name[:-2] + ".c") for name in re.findall(r'^#include "(.*)"', stream.read(), re.M)]


class Installed(unittest.TestCase):
    """One installed tree for all tests of a class, which do not change it."""

    @classmethod
    def setUpClass(cls):
        cls.root = tempfile.mkdtemp(prefix="xchg-install-")
        cls.addClassCleanup(shutil.rmtree, cls.root)
        make("install", cls.root, "PREFIX=/usr")

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="xchg-install-")
        self.addCleanup(shutil.rmtree, self.folder)

    def at(self, path):
        return os.path.join(self.root, "usr", path)

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def pkg_config(self, *arguments, **extra):
        """The words that pkg-config prints for the tree."""
        env = dict(os.environ, PKG_CONFIG_PATH="", PKG_CONFIG_LIBDIR=self.at("lib/pkgconfig"), **extra)  # no other installed xchg
        return call("pkg-config", *arguments, "xchg", env=env).split()

    def moved(self, *arguments):
        return self.pkg_config(f"--define-variable=prefix={self.at('')[:-1]}", *arguments)

    def compile(self, source, *, static=False, compiler=("cc", "-Wall", "-Wextra", "-Werror")):
        """Compile ${source}, with the modules whose headers it includes, and link it as pkg-config says."""
        program = os.path.join(self.folder, os.path.basename(source).rsplit(".", 1)[0] + ("-static" if static else ""))
        flags = self.moved("--cflags", "--libs", *(["--static"] if static else []))
        if static:
            flags = ["-l:libxchg.a" if flag == "-lxchg" else flag for flag in flags]
        call(*compiler, "-o", program, source, *modules_of(source), *flags)
        needed = re.findall(r"\(NEEDED\).*\[(.*)\]", call("readelf", "-W", "-d", program, env=dict(os.environ, LC_ALL="C")))
        self.assertEqual("libxchg.so.0" in needed, not static, needed)
        return program

    def serve(self, program, **variables):
        return Server(program=program, LD_LIBRARY_PATH=self.at("lib"), **variables)

    def check_echo(self, program):
        with self.serve(program) as server:
            with server.connect() as client:
                self.assertEqual(talk(client, b"some\0bytes"), b"some\0bytes")
            self.assertEqual(ended(server.stop()), {"finished": 1})


class Tree(Installed):
    def test_files(self):
        """Every promised file is there and no other. Programs are executable, all files readable by all."""
        self.assertEqual(files(self.root), expected())
        for path in files(self.root):
            mode = os.stat(os.path.join(self.root, path)).st_mode
            self.assertEqual(stat.S_IMODE(mode), 0o755 if "/bin/" in path else 0o644, path)
        self.assertEqual(os.readlink(self.at("lib/libxchg.so")), "libxchg.so.0")
        self.assertEqual(os.readlink(self.at("lib/libxchg.so.0")), f"libxchg.so.{version()}")

    def test_what_was_built(self):
        """The programs and libraries are those of this build. The programs print the version of the header."""
        for path in ("bin/xchgd", "bin/xchg-bench", "lib/libxchg.a", "lib/libxchg.so"):
            with open(self.at(path), "rb") as installed, open(os.path.join(BUILT, os.path.basename(path)), "rb") as built:
                self.assertEqual(installed.read(), built.read(), path)
        for name in ("xchgd", "xchg-bench"):
            self.assertEqual(call(self.at(f"bin/{name}"), "--version"), f"{name} {version()}\n")

    def test_pages(self):
        """A page that refers to another names a page that is there."""
        leads = 0
        for path in glob.glob(self.at("share/man/man*/*")):
            with open(path) as f:
                line = f.readline()
            if line.startswith(".so "):
                leads += 1
                self.assertTrue(os.path.exists(self.at(os.path.join("share/man", line.split()[1]))), f"{path}: {line}")
        self.assertGreater(leads, 0)

    def test_pkg_config(self):
        """The tree may be moved, by its prefix or as a system root."""
        for static in ([], ["--static"]):
            flags = self.moved("--cflags", "--libs", *static)
            self.assertEqual(flags[:3], [f"-I{self.at('include')}", f"-L{self.at('lib')}", "-lxchg"])
            self.assertEqual("-lpthread" in flags, bool(static))
            self.assertEqual(self.pkg_config("--cflags", "--libs", *static, PKG_CONFIG_SYSROOT_DIR=self.root), flags)
        self.assertEqual(self.pkg_config("--modversion"), [version()])
        self.assertEqual(self.pkg_config("--variable=prefix"), ["/usr"])

    def test_other_folders(self):
        """PREFIX, LIBDIR and INCLUDEDIR are respected by install and uninstall. Other files stay."""
        folders = ("PREFIX=/opt/x", "LIBDIR=/opt/x/lib/some-arch", "INCLUDEDIR=/else/include")
        make("install", self.folder, *folders)
        self.assertEqual(files(self.folder), expected("opt/x", "opt/x/lib/some-arch", "else/include"))
        with open(os.path.join(self.folder, "opt/x/lib/some-arch/pkgconfig/xchg.pc")) as f:
            text = f.read()
        self.assertIn("prefix=/opt/x\nlibdir=${prefix}/lib/some-arch\nincludedir=/else/include\n", text)
        self.assertNotIn("@", text)
        foreign = "opt/x/lib/some-arch/libxchg.so.7"
        self.write(foreign, "")
        make("uninstall", self.folder, *folders)
        self.assertEqual(files(self.folder), {foreign})

    def test_uninstall(self):
        """uninstall removes every file and leaves the folders. Running it again is no error."""
        make("install", self.folder, "PREFIX=/usr")
        make("install", self.folder, "PREFIX=/usr")
        self.assertEqual(files(self.folder), expected())
        for _ in range(2):
            make("uninstall", self.folder, "PREFIX=/usr")
            self.assertEqual(files(self.folder), set())
            self.assertTrue(os.path.isdir(os.path.join(self.folder, "usr/lib/pkgconfig")))
        make("uninstall", os.path.join(self.folder, "nowhere"), "PREFIX=/usr")


class Header(Installed):
    C = ("cc", "-std=c11", "-pedantic", "-Wall", "-Wextra", "-Werror")
    CXX = ("g++", "-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror")

    def check(self, *command):
        call(*command, "-fsyntax-only", *self.moved("--cflags"))

    def test_c11(self):
        """The header compiles as C11."""
        self.check(*self.C, self.write("a.c", "#include <xchg.h>\n#include <xchg.h>\nint main(void) { return 0; }\n"))
        self.check(*self.C, self.write("b.c", PLUGIN % ".messages = 1"))

    def test_cxx11(self):
        """The header compiles as C++11."""
        self.check(*self.CXX, self.write("a.cc", CXX))
        everything = ", ".join(["xchg_frame(), 0, 1, 0, nullptr, false", *["nullptr"] * 7, "0", *["nullptr"] * 3, "false"])
        self.check(*self.CXX, self.write("b.cc", PLUGIN % everything))


@links_alone
class Linked(Installed):
    def test_examples(self):
        """Each example compiles against both libraries and works."""
        names = sorted(name for name in os.listdir(EXAMPLES) if name.endswith(".c") and not name.endswith(("_so.c", "_bridge.c")))
        self.assertLessEqual({"hello.c", "echo.c"}, set(names))
        for name in names:
            for static in (False, True):
                with self.subTest(name, static=static):
                    self.check_example(name, self.compile(os.path.join(EXAMPLES, name), static=static))

    def check_example(self, name, program):
        if name == "echo.c":
            self.check_echo(program)
        elif name == "hello.c":
            with self.serve(program) as server:
                with server.connect() as client:
                    greet(client)
                self.assertEqual(ended(server.stop()), {"finished": 1})
        else:  # tests/live/test_examples.py tests what they serve
            self.check_life(program)

    def check_life(self, program):
        """The program prints where it listens and stops in order."""
        env = environment(XCHG_LISTEN="127.0.0.1:0", LD_LIBRARY_PATH=self.at("lib"))
        process = subprocess.Popen([*WRAP, program], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        with process:
            try:
                for line in process.stdout:
                    if "127.0.0.1:" in line:
                        break
                process.terminate()
                said = process.communicate(timeout=LIMIT)[0]
            finally:
                process.kill()
        self.assertEqual(process.returncode, 0, said)

    @unittest.skipIf(WRAP, "valgrind does not know the malloc of a program that is static altogether")
    def test_no_library_at_all(self):
        """A completely static program works."""
        program = os.path.join(self.folder, "echo")
        call("cc", "-static", "-o", program, os.path.join(EXAMPLES, "echo.c"), *self.moved("--static", "--cflags", "--libs"))
        self.check_echo(program)

    def test_cxx(self):
        """A handler in C++ works."""
        source = self.write("cxx.cc", CXX)
        for static in (False, True):
            self.check_echo(self.compile(source, static=static, compiler=Header.CXX))

    def test_own_names(self):
        """A program may use names that the library uses internally. Each keeps its own meaning."""
        symbols = call("nm", "-P", "-g", "--defined-only", os.path.join(BUILT, "internal.a"))
        for name in OWN_INTERNAL:
            self.assertRegex(symbols, rf"(?m)^{name} T ")
        source = self.write("own.c", OWN_NAMES)
        for static in (False, True):
            with self.serve(self.compile(source, static=static)) as server:
                with server.connect() as client:
                    self.assertEqual(talk(client, b"hello"), b"5 mine 1.5 7")
                self.assertEqual(ended(server.stop()), {"finished": 1})


class Plugin(Installed):
    def test_handler(self):
        """The installed xchgd loads a plug-in that was compiled against the installed header and is linked to no
        library."""
        plugin = os.path.join(self.folder, "handler_so.so")
        call("cc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", plugin, os.path.join(EXAMPLES, "handler_so.c"),
             *self.moved("--cflags"))
        with Server(program=self.at("bin/xchgd"), XCHG_HANDLER=plugin) as server:
            with server.connect() as client:
                self.assertEqual(talk(client, b"small\r\nLetters\n"), b"SMALL\r\nLETTERS\n")
            self.assertEqual(ended(server.stop()), {"finished": 1})


class Completion(Installed):
    def offered(self, *words):
        """The completions of the last of ${words}. The first word is the program."""
        completion = self.at(f"share/bash-completion/completions/{words[0]}")
        return call("bash", "--norc", "--noprofile", "-c", COMPLETE, "bash", completion, *words, cwd=self.folder).split("\n")[:-1]

    def bench_options(self):
        """The options of --help: (names, argument or "", description)."""
        text = call(self.at("bin/xchg-bench"), "--help")
        found = re.findall(r"^  ((?:-\w, |    )--[\w-]+)(?: (\S+))? +(.*)$", text, re.M)
        self.assertGreater(len(found), 30)
        return [(names.replace(",", "").split(), argument, what) for names, argument, what in found]

    def test_xchgd(self):
        """The flags of xchgd are completed."""
        usage = re.search(r"^usage: xchgd \[(.*)\]$", call(PROGRAM, "--help"), re.M).group(1).split(" | ")
        self.assertEqual(len(usage), 6)
        self.assertEqual(sorted(self.offered("xchgd", "")), sorted(usage))
        self.assertEqual(self.offered("xchgd", "--ve"), ["--version"])
        self.assertEqual(self.offered("xchgd", "--check", ""), [""])

    def test_bench_options(self):
        """Every option of --help is offered and no other. After an option with a value none is offered."""
        options = self.bench_options()
        every = sorted(name for names, _, _ in options for name in names)
        self.assertEqual(sorted(self.offered("xchg-bench", "-")), every)
        for names, argument, _ in options:
            for name in names:
                self.assertEqual(self.offered("xchg-bench", name, "-"), [""] if argument else self.offered("xchg-bench", "-L", "-"), name)
        self.assertEqual(self.offered("xchg-bench", "127.0.0.1", ":", "7000", "--hd"), ["--hdr"])

    def test_bench_values(self):
        """The values that --help lists are offered, for each way to write an option."""
        lists = {"--exchange": 4, "--frame": 6, "--reply": 3}
        for names, argument, what in self.bench_options():
            if names[-1] not in lists:
                continue
            values = [re.sub(r":\w+$", ":", value) for value in re.split(r", | or ", re.sub(r" \(.*\)$", "", what))]
            self.assertEqual(len(values), lists.pop(names[-1]))
            for name in names:
                self.assertEqual(sorted(self.offered("xchg-bench", name, "")), sorted(values), name)
            self.assertEqual(sorted(self.offered("xchg-bench", names[-1], "=")), sorted(values))
            self.assertEqual(self.offered("xchg-bench", names[-1], "=", values[0][:3]), [values[0]])
        self.assertEqual(lists, {})
        self.assertEqual(self.offered("xchg-bench", "--frame", "fixed", ":", ""), [""])

    def test_bench_files(self):
        """File names are offered for options that take a file, even with spaces."""
        for name in ("a.json", "a b.json", "other"):
            self.write(name, "")
        reports = ["a b.json", "a.json"]
        for option in ("--json", "--csv", "--hdr", "--html"):
            self.assertEqual(sorted(self.offered("xchg-bench", option, "a")), reports)
        self.assertEqual(sorted(self.offered("xchg-bench", "--json", "=", "a")), reports)
        self.assertEqual(sorted(self.offered("xchg-bench", "compare", "a.json", "a")), reports)
        self.assertEqual(sorted(self.offered("xchg-bench", "merge", "--json", "a")), reports)
        self.assertEqual(self.offered("xchg-bench", "merge", "--"), ["--json"])
        self.assertEqual(self.offered("xchg-bench", "unix", ":", "ot"), ["other"])
        self.assertEqual(self.offered("xchg-bench", ""), ["compare", "merge", "unix:"])
