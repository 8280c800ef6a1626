"""For test_debian.py: builds packages again, and makes fresh Debian systems, in which systemctl.py plays systemctl.

Environment: DEB_FOLDER = the folder of `make deb`; DEB_ROOT = where the Debian system is kept.
"""

import glob
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
DEBS = os.path.abspath(os.environ.get("DEB_FOLDER", os.path.join(TOP, "build", "deb")))
BASE = os.path.abspath(os.environ.get("DEB_ROOT", os.path.join(TOP, "build", "release", "debian")))
REPORT = os.path.join(DEBS, "report")
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

    PROGRAM = "0.1.0+next"  # what the server of the next version calls itself

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
        """The server says another version, too. A line of the conffile is new. Once is enough."""
        if os.listdir(self.next):
            return
        for name, old, new in (("debian/changelog", r"\(.*?\)", f"({self.version})"),
                               ("core/xchg.h", r'(#define XCHG_VERSION) ".*"', rf'\1 "{self.PROGRAM}"')):
            path = os.path.join(self.tree, name)
            text = re.sub(old, new, read(path), count=1)
            with open(path, "w") as f:
                f.write(text)
        with open(os.path.join(self.tree, "docs", "deploy", "systemd", "xchgd.default"), "a") as f:
            f.write("# The next version.\n")
        self.build("-nc")
        for path in glob.glob(os.path.join(self.folder, f"*_{self.version}_*.deb")):
            os.rename(path, os.path.join(self.next, os.path.basename(path)))

    def package_with(self, script):
        """The package of the next version with a script in place of the program. The program is /usr/bin/xchgd.real. Return: its path."""
        made = tempfile.mkdtemp(dir=self.folder)
        program = os.path.join(made, "tree", "usr/bin/xchgd")
        run("dpkg-deb", "-R", deb_of("xchgd", self.next), os.path.join(made, "tree"))
        os.rename(program, program + ".real")
        with open(program, "w") as f:
            f.write("#!/bin/sh\n" + script)
        os.chmod(program, 0o755)
        run("dpkg-deb", "--root-owner-group", "-b", os.path.join(made, "tree"), os.path.join(made, "xchgd_0_all.deb"))
        return os.path.join(made, "xchgd_0_all.deb")


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
        for name in ("systemctl.py", "upgrade_under_load.py"):
            shutil.copy(os.path.join(HERE, name), self.path(name))
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
