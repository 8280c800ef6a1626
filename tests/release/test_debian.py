"""Goal: the Debian packages are what Debian's own tools accept, and they install, upgrade, go and come back without a surprise.

`make check-deb` builds the packages before it runs this. The source package is built again elsewhere, by another user and
without the network. Root also installs the packages in a fresh Debian system, where systemctl.py plays systemctl.

Environment: DEB_FOLDER = the folder of `make deb`; DEB_ROOT = where the Debian system is kept.
"""

import collections
import contextlib
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TOP, "tests", "live"))

from doc_blocks import matches, read_blocks  # noqa: E402

DEBS = os.path.abspath(os.environ.get("DEB_FOLDER", os.path.join(TOP, "build", "deb")))
BASE = os.path.abspath(os.environ.get("DEB_ROOT", os.path.join(TOP, "build", "release", "debian")))
PAGE = os.path.join(TOP, "docs", "deploy", "debian.md")
REPORT = os.path.join(DEBS, "report")
PACKAGES = ("xchgd", "libxchg0", "libxchg-dev", "xchg-bench")
ROOT = os.getuid() == 0
ALONE = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "sh", "-c"]
WITH_LO = 'ip link set lo up && exec "$@"'

# What a fresh system has besides Debian's own: a way to make users, the server's library, and what the tests need.
CONTENTS = ("systemd-standalone-sysusers", "libjemalloc2", "python3", "iproute2", "apt-utils", "build-essential", "pkg-config", "curl",
            "netcat-openbsd")

# Makes the system: $1 = what it is made of, $2 = what changes, $3 = the packages, $4 = what to run in it.
MOUNT = """
set -e
ip link set lo up
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mount -t proc proc "$2/root/proc"
mount --rbind /dev "$2/root/dev"
mount -t tmpfs tmpfs "$2/root/run"
mkdir -p "$2/root/run/systemd/system" "$2/root/debs"
mount --bind "$3" "$2/root/debs"
"""
ENTER = """
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec chroot "$2/root" env -i HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive PATH=$path bash -c "$4"
"""
# words-ok: nobody is a user
AUTOPKGTEST = """
exec autopkgtest --user=nobody -B "$3"/*_*.deb "$3"/xchg-*/ -- chroot "$2/root"
"""


def read(path):
    with open(path) as f:
        return f.read()


def report(text):
    """A line that `make check-deb` prints at its end."""
    with open(REPORT, "a") as f:
        f.write(text + "\n")


def run(*command, limit=120, expect=0, **more):
    """Run a program to its end; return its output, both streams."""
    ran = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                         errors="replace", timeout=limit, **more)
    if expect is not None and (ran.returncode != 0) != (expect != 0):
        raise AssertionError(f"{' '.join(map(str, command))[:200]}: exit code {ran.returncode}:\n{ran.stdout[-8000:]}")
    return ran.stdout


def deb_of(package, folder=DEBS):
    found = glob.glob(os.path.join(folder, f"{package}_*.deb"))
    if len(found) != 1:
        raise AssertionError(f"{package} in {folder}: {found}")
    return found[0]


def digests(folder):
    """SHA-256 of each package, those of debug symbols included."""
    found = {}
    for path in glob.glob(os.path.join(folder, "*.deb")):
        with open(path, "rb") as f:
            found[os.path.basename(path)] = hashlib.sha256(f.read()).hexdigest()
    return found


class Again:
    """The source package, built again, and then once more as the next version. Root builds as user 65534 and without the network."""

    def __init__(self, folder):
        self.folder, self.tree, self.next = folder, os.path.join(folder, "tree"), os.path.join(folder, "next")
        source = glob.glob(os.path.join(DEBS, "*.dsc"))[0]
        self.version = re.search(r"^Version: (.*)$", read(source), re.M).group(1) + ".1"
        run("dpkg-source", "-x", source, self.tree)
        os.mkdir(self.next)
        self.build()
        self.digests = digests(folder)

    def build(self, *options):
        prefix = []
        if ROOT:
            run("chown", "-R", "65534:65534", self.folder)
            prefix = [*ALONE, WITH_LO, "sh", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        environment = {"PATH": os.environ["PATH"], "HOME": self.folder, "LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo"}
        run(*prefix, "dpkg-buildpackage", "-us", "-uc", "-b", *options, cwd=self.tree, env=environment, limit=900)

    def build_next(self):
        """What is compiled stays. A line of the conffile is new."""
        path = os.path.join(self.tree, "debian", "changelog")
        text = read(path)
        with open(path, "w") as f:
            f.write(re.sub(r"\(.*?\)", f"({self.version})", text, count=1))
        with open(os.path.join(self.tree, "docs", "deploy", "systemd", "xchgd.default"), "a") as f:
            f.write("# The next version.\n")
        self.build("-nc")
        for path in glob.glob(os.path.join(self.folder, f"*_{self.version}_*.deb")):
            os.rename(path, os.path.join(self.next, os.path.basename(path)))


def setUpModule():
    with contextlib.suppress(FileNotFoundError):
        os.remove(REPORT)
    folder = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(folder.cleanup)
    Installed.again = Packages.again = Again(folder.name)


class Packages(unittest.TestCase):
    def test_lintian(self):
        """lintian finds no error, no warning, and nothing pedantic but the interpreter of the scripts for bpftrace."""
        output = run("lintian", "--allow-root", "--display-info", "--pedantic", "--tag-display-limit", "0",
                     *glob.glob(os.path.join(DEBS, "*.changes")), expect=None)
        tags = re.findall(r"^([EWIP]): .*?: ([\w-]+)", output, re.M)
        counts = collections.Counter(severity for severity, tag in tags)
        report("lintian: " + " ".join(f"{severity}={counts[severity]}" for severity in "EWIP"))
        self.assertGreater(counts["P"], 0, output)  # lintian has run
        self.assertEqual([tag for tag in tags if tag[0] in "EW"], [], output)
        self.assertEqual({tag for severity, tag in tags if severity == "P"}, {"example-unusual-interpreter"}, output)

    def test_everything_is_packaged(self):
        """Each file that `make install` installs is in one package."""
        with tempfile.TemporaryDirectory() as folder:
            owners = collections.defaultdict(list)
            for package in PACKAGES:
                run("dpkg-deb", "-x", deb_of(package), os.path.join(folder, package))
                for path, folders, names in os.walk(os.path.join(folder, package)):
                    for name in names:
                        owners[os.path.relpath(os.path.join(path, name), os.path.join(folder, package))].append(package)
            run("make", "install", "NO_INSTALL=1", "PREFIX=/usr", f"LIBDIR=/usr/lib/{run('dpkg-architecture', '-qDEB_HOST_MULTIARCH').strip()}",
                f"DESTDIR={folder}/all", cwd=TOP, limit=300, env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")})
            for path, folders, names in os.walk(os.path.join(folder, "all")):
                for name in names:
                    installed = os.path.relpath(os.path.join(path, name), os.path.join(folder, "all"))
                    there = owners[installed + ".gz" if "/man/" in installed else installed]
                    self.assertEqual(len(there), 1, f"{installed}: {there}")
            for page in ("xchgd/usr/share/man/man7/xchg-metrics.7.gz", "xchgd/usr/share/man/man7/xchg-proxy.7.gz", "xchgd/usr/share/man/man8/xchgd.8.gz"):
                self.assertTrue(os.path.exists(os.path.join(folder, page)), page)
            probes = run("readelf", "-n", os.path.join(folder, "xchgd/usr/bin/xchgd"))
            self.assertIn("stapsdt", probes)
            run("tests/lint/hardening", cwd=TOP, env=dict(os.environ, B=os.path.join(glob.glob(os.path.join(DEBS, "xchg-*/"))[0], "build")))

    def test_sizes(self):
        """The page has the sizes of the packages, to within a tenth."""
        shown = dict(re.findall(r"^\| `([\w-]+)` \|.*\| (\d+) KB \|$", read(PAGE), re.M))
        self.assertEqual(set(shown), set(PACKAGES))
        for package in PACKAGES:
            size = os.path.getsize(deb_of(package)) / 1000
            report(f"size: {package} {size:.0f} KB")
            self.assertAlmostEqual(int(shown[package]), size, delta=size / 10, msg=package)

    def test_again(self):
        """The source package alone, built by an ordinary user without the network in another folder and time zone: the same bytes."""
        first, second = digests(DEBS), self.again.digests
        report(f"reproduced: {sum(second.get(name) == digest for name, digest in first.items())} of {len(first)} packages")
        self.assertGreaterEqual(len(first), len(PACKAGES))
        self.assertEqual(first, second)

    def test_symbols(self):
        """The list of symbols is complete: a call too many in it or one too few ends the build."""
        path = os.path.join(self.again.tree, "debian", "libxchg0.symbols")
        self.addCleanup(shutil.copy, os.path.join(self.again.tree, "docs/deploy/debian/libxchg0.symbols"), path)
        text = read(path)
        rest = text.replace(" xchg_timer@XCHG_0 0.1.0\n", "")
        self.assertNotEqual(rest, text)
        for expect, symbols in ((0, text), (1, text + " xchg_vanished@XCHG_0 0.1.0\n"), (1, rest)):
            with open(path, "w") as f:
                f.write(symbols)
            output = run("debian/rules", "override_dh_makeshlibs", cwd=self.again.tree, expect=expect,
                         env=dict(os.environ, DEB_RULES_REQUIRES_ROOT="no"))
            if expect:
                self.assertRegex(output, "xchg_vanished|xchg_timer")


def make_base():
    """A fresh Debian of this machine's release. It is kept, because it takes a minute; a changed list makes it anew."""
    if not ROOT:
        raise unittest.SkipTest("a Debian system is made and entered by root only")
    run(*ALONE, "true")
    suite = re.search(r"^VERSION_CODENAME=(\w+)", read("/etc/os-release"), re.M).group(1)
    kinds = (".list", ".list.d/*.list", ".list.d/*.sources")
    sources = "".join(read(path) for kind in kinds for path in glob.glob("/etc/apt/sources" + kind))
    mirror = re.search(r"^(?:URIs: *|deb (?:\[[^]]*\] )?)(\S+/debian)/?\s", sources, re.M).group(1)
    stamp = os.path.join(BASE, "stamp")
    wanted = " ".join((suite, mirror, *CONTENTS))
    if not os.path.exists(stamp) or read(stamp) != wanted:
        shutil.rmtree(BASE, ignore_errors=True)
        os.makedirs(BASE)
        run("debootstrap", "--variant=minbase", "--include=" + ",".join(CONTENTS), suite, os.path.join(BASE, "system"), mirror, limit=900)
        with open(stamp, "w") as f:
            f.write(wanted)
    return os.path.join(BASE, "system")


class System:
    """A fresh Debian system. Processes end with the command that has started them; changed files stay until the end."""

    def __init__(self, base):
        self.base = base
        self.folder = tempfile.mkdtemp(prefix="xchg-debian-")
        for name in ("upper", "work", "root"):
            os.mkdir(os.path.join(self.folder, name))
        os.chmod(os.path.join(self.folder, "upper"), 0o755)
        shutil.copy(os.path.join(HERE, "systemctl.py"), self.path("systemctl.py"))
        self.run("""install -m 755 /systemctl.py /usr/bin/systemctl && mkdir /stub && cd /usr/bin && mv deb-systemd-invoke deb-systemd-invoke.real &&
            printf '%s\\n' '#!/bin/sh' 'echo "deb-systemd-invoke $*" >>/stub/calls' 'exec deb-systemd-invoke.real "$@"' >deb-systemd-invoke &&
            chmod 755 deb-systemd-invoke""")

    def path(self, name):
        """A file that the test gives to the system."""
        return os.path.join(self.folder, "upper", name)

    def remove(self):
        shutil.rmtree(self.folder)

    def run(self, script, debs=DEBS, expect=0, limit=200):
        return run(*ALONE, MOUNT + ENTER, "sh", self.base, self.folder, debs, script, expect=expect, limit=limit)

    def files(self):
        """What is there: paths with type, owner and mode. apt's and dpkg's own records are left out."""
        lines = self.run("cd / && find . -xdev \\( -path ./proc -o -path ./dev -o -path ./run -o -path ./stub -o -path ./tmp -o -path ./debs"
                         " -o -path ./var/lib/apt -o -path ./var/cache -o -path ./var/log -o -path './var/lib/dpkg' \\) -prune"
                         " -o -printf '%P %y %u:%g %m\\n'").splitlines()
        return dict(line.split(" ", 1) for line in lines)

    def calls(self):
        """What the maintainer scripts have asked for since the last time, without questions, reloads and the links of units."""
        lines = self.run("cat /stub/calls 2>/dev/null; rm -f /stub/calls").splitlines()
        return [line for line in lines if not re.search(r"is-active|is-enabled|daemon-reload|preset", line)]

    def links(self):
        return self.run("find /etc/systemd/system -type l -name 'xchg*' -printf '%P\\n'").split()


def started(*units, action="start"):
    """The calls of a start or restart, which is one step for both services: ${units} are those that it concerns."""
    return [f"deb-systemd-invoke {action} xchgd.service xchgd-net.service", *(f"systemctl --quiet --system {action} {unit}" for unit in units)]


STOPPED = [f"{tool} stop xchgd.socket xchgd-admin.socket xchgd.service xchgd-net.service" for tool in ("deb-systemd-invoke", "systemctl")]
INSTALL = "cd {} && apt-get install -y ./xchgd_*.deb 2>&1"
SERVICES = ["multi-user.target.wants/xchgd.service", "sockets.target.wants/xchgd-admin.socket", "sockets.target.wants/xchgd.socket"]


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = make_base()
        cls.again.build_next()

    def setUp(self):
        self.system = System(self.base)
        self.addCleanup(self.system.remove)

    def install(self):
        return self.system.run(INSTALL.format("/debs"))

    def upgrade(self, options=""):
        return self.system.run(f"dpkg -i {options} /debs/xchgd_*.deb 2>&1", debs=self.again.next)

    def version(self):
        return self.system.run("dpkg-query -W -f '${db:Status-Status} ${Version}' xchgd").split()

    def test_life(self):
        """Install, upgrade, remove, install again, purge: one action each, the sockets stop at a removal only, nothing stays but the user."""
        system = self.system
        before = system.files()
        self.install()
        self.assertEqual(system.calls(), started("xchgd.service"))
        self.assertEqual(sorted(system.links()), SERVICES)
        self.check_new_files(before)

        system.run("echo XCHG_EXCHANGE=line >>/etc/default/xchgd")
        self.upgrade("--force-confold")
        self.assertEqual(self.version(), ["installed", self.again.version])
        self.assertEqual(system.calls(), started("xchgd.service", action="restart"))
        self.assertEqual(sorted(system.links()), SERVICES)
        self.assertTrue(system.run("cat /etc/default/xchgd").endswith("\nXCHG_EXCHANGE=line\n"))

        system.run("apt-get remove -y xchgd 2>&1")
        self.assertEqual(system.calls(), STOPPED)
        self.assertEqual(self.version(), ["config-files", self.again.version])
        left = set(system.files()) - set(before)
        self.assertEqual({path for path in left if path.endswith(("default/xchgd", "bin/xchgd"))}, {"etc/default/xchgd"})
        self.assertEqual([path for path in left if path.startswith(("usr", "lib"))], [])

        system.run(INSTALL.format("/debs"), debs=self.again.next)
        self.assertEqual(system.calls(), started("xchgd.service", action="restart"))  # what is enabled is started
        self.assertTrue(system.run("cat /etc/default/xchgd").endswith("\nXCHG_EXCHANGE=line\n"))

        system.run("apt-get purge -y xchgd 2>&1")
        self.assertEqual(system.calls(), STOPPED)
        self.assertEqual(system.links(), [])
        self.assertIn("xchg:x:", system.run("cat /etc/passwd"))
        after = system.files()
        backups = {f"etc/{name}-" for name in ("passwd", "group", "shadow", "gshadow")}  # of the files with the user
        self.assertEqual(set(after) - set(before) - backups, set())
        self.assertEqual(set(before) - set(after), set())

    def check_new_files(self, before):
        """The installation adds the package's files and what its scripts promise; files belong to root, and one package owns each."""
        system = self.system
        owned = {re.sub("^/(lib/)?", lambda match: "usr/lib/" if match.group(1) else "", line) for line in system.run("dpkg -L xchgd").split()}
        new = {path: rest for path, rest in system.files().items() if path not in before}
        links = {f"etc/systemd/system/{link}" for link in system.links()}
        state = {path for path in new if path.startswith("var/lib/systemd/deb-systemd-helper-enabled")}
        folders = {path for path in new if path.startswith("etc/systemd/system/") and path.endswith(".wants")}
        backups = {f"etc/{name}-" for name in ("passwd", "group", "shadow", "gshadow")}
        self.assertEqual({path for path in set(new) - owned - links - state - folders - backups if path != "var/lib/systemd"}, set())
        for path in owned & set(new):
            self.assertRegex(new[path], r"^[dfl] root:root (644|755|777)$", path)
        self.assertEqual(system.run("dpkg-query -W -f '${Conffiles}' xchgd").split()[0], "/etc/default/xchgd")
        user = system.run("getent passwd xchg").strip().split(":")
        self.assertLess(int(user[2]), 1000)
        self.assertEqual((user[4], user[5], user[6]), ("xchg server", "/nonexistent", "/usr/sbin/nologin"))
        self.assertEqual(system.run("dpkg --verify xchgd").strip(), "")

    def test_upgrades(self):
        """An upgrade restarts what runs or is enabled, and nothing else."""
        system = self.system
        self.install()
        system.calls()
        with self.subTest("the other service is in use"):
            system.run("rm /etc/systemd/system/*.wants/xchgd* && echo xchgd-net.service >/stub/active &&"
                       " ln -s /lib/systemd/system/xchgd-net.service /etc/systemd/system/multi-user.target.wants/")
            self.upgrade()
            self.assertEqual(system.calls(), started("xchgd-net.service", action="restart"))
            self.assertEqual(system.links(), ["multi-user.target.wants/xchgd-net.service"])
        with self.subTest("it runs, but is not enabled"):
            system.run("rm /etc/systemd/system/*.wants/xchgd* && echo xchgd.service >/stub/active")
            self.upgrade()
            self.assertEqual(system.calls(), started("xchgd.service", action="restart"))
            self.assertEqual(system.links(), [])
        with self.subTest("it does not run and is not enabled"):
            system.run("rm /stub/active")
            self.upgrade()
            self.assertEqual(system.calls(), started(action="restart"))
        with self.subTest("the administrator forbids actions"):
            system.run("printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d && echo xchgd.service >/stub/active")
            self.upgrade()
            self.assertEqual(system.calls(), started(action="restart"))
        with self.subTest("the restart fails"):
            system.run("rm /usr/sbin/policy-rc.d && touch /stub/fail")
            self.upgrade()
            self.assertEqual(system.calls(), started("xchgd.service", action="restart"))
            self.assertEqual(self.version(), ["installed", self.again.version])

    def test_without_systemd(self):
        """Where systemd does not run, the scripts start nothing and the units are enabled all the same."""
        self.system.run("rmdir /run/systemd/system && rm /usr/bin/systemctl && " + INSTALL.format("/debs"))
        self.assertEqual(self.system.calls(), [])
        self.assertEqual(sorted(self.system.links()), SERVICES)

    def test_serves(self):
        """The installed server serves as the user of its unit, with its sockets, and as a program that this user starts."""
        unit = self.system.run(INSTALL.format("/debs") + " >/dev/null; cat /lib/systemd/system/xchgd.service")
        self.assertRegex(unit, r"(?m)^User=xchg$")
        self.assertRegex(unit, r"(?m)^Sockets=xchgd.socket xchgd-admin.socket$")  # which a start of the service pulls in
        self.assertRegex(unit, r"(?m)^Requires=.*\bxchgd.socket\b")
        output = self.system.run("setpriv --reuid=xchg --regid=xchg --clear-groups sh /debs/xchg-*/debian/tests/exchange")
        self.assertIn("/readyz: ok", output)

    def test_page(self):
        """The commands of the page work as typed."""
        system = self.system
        os.makedirs(system.path("xchg/build"))
        blocks = [command for block in read_blocks(PAGE) for command in block if command.text != "make deb"]
        self.assertGreater(len(blocks), 5)
        typed = "mkdir -p /xchg/build && ln -s /debs /xchg/build/deb && cd /xchg && touch /stub/serve\n"
        typed += "".join(f"{{ {command.text}\n}} 2>&1; echo \"end-of-command $?\"\n" for command in blocks)
        outputs = re.split(r"end-of-command (\d+)\n", system.run(typed + "cat /stub/log"))
        for command, output, code in zip(blocks, outputs[0::2], outputs[1::2]):
            self.assertEqual(code, "0", f"line {command.line}: {command.text}\n{output}")
            self.assertTrue(matches(command.output, output.splitlines()), f"line {command.line}: {command.text}\nexpected:\n" +
                            "\n".join(command.output) + f"\nsaid:\n{output}\n{outputs[-1]}")
        self.assertEqual(len(outputs), 2 * len(blocks) + 1)

    def test_autopkgtest(self):
        """autopkgtest, which Debian runs, passes in the fresh system, as an ordinary user."""
        output = run(*ALONE, MOUNT + AUTOPKGTEST, "sh", self.base, self.system.folder, DEBS, limit=400)
        results = dict(re.findall(r"^(\w+) +(PASS|FAIL\b.*|SKIP\b.*)$", output, re.M))
        self.assertEqual(results, {"exchange": "PASS", "bench": "PASS", "compile": "PASS"}, output[-4000:])
        report(f"autopkgtest: {len(results)} passed")


if __name__ == "__main__":
    unittest.main()
