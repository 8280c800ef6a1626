"""Goal: the Debian packages are what Debian's own tools accept, and they install, upgrade, go and come back without a surprise.

`make check-deb` builds the packages before it runs this. The source package is built again elsewhere, by another user and
without the network. Root also installs the packages in a fresh Debian system, where systemctl.py plays systemctl.

Environment: DEB_FOLDER = the folder of `make deb`; DEB_ROOT = where the Debian system is kept.
"""

import collections
import contextlib
import glob
import json
import os
import re
import shutil
import sys
import tempfile
import unittest

from fresh_system import ALONE, DEBS, MOUNT, REPORT, TOP, Again, System, deb_of, digests, make_base, read, report, run

sys.path.insert(0, os.path.join(TOP, "tests", "live"))

from doc_blocks import matches, read_blocks  # noqa: E402

PAGE = os.path.join(TOP, "docs", "deploy", "debian.md")
PACKAGES = ("xchgd", "libxchg0", "libxchg-dev", "xchg-bench")
# words-ok: nobody is a user
AUTOPKGTEST = """
exec autopkgtest --user=nobody -B "$3"/*_*.deb "$3"/xchg-*/ -- chroot "$2/root"
"""


def setUpModule():
    with contextlib.suppress(FileNotFoundError):
        os.remove(REPORT)
    folder = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(folder.cleanup)
    SystemTest.again = Packages.again = Again(folder.name)


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


def started(*units, action="start"):
    """The calls of a start or restart, which is one step for both services: ${units} are those that it concerns."""
    return [f"deb-systemd-invoke {action} xchgd.service xchgd-net.service", *(f"systemctl --quiet --system {action} {unit}" for unit in units)]


STOPPED = [f"{tool} stop xchgd.socket xchgd-admin.socket xchgd.service xchgd-net.service" for tool in ("deb-systemd-invoke", "systemctl")]
RELOADED = [f"{tool} reload xchgd.service" for tool in ("deb-systemd-invoke", "systemctl")]
INSTALL = "cd {} && apt-get install -y ./xchgd_*.deb 2>&1"
SERVICES = ["multi-user.target.wants/xchgd.service", "sockets.target.wants/xchgd-admin.socket", "sockets.target.wants/xchgd.socket"]


class SystemTest(unittest.TestCase):
    """With a fresh system for each test."""

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


class Installed(SystemTest):
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
        self.assertEqual(system.calls(), RELOADED)
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
        """An upgrade reloads what runs, restarts what cannot be reloaded, starts what is enabled, and does nothing else."""
        system = self.system
        self.install()
        system.calls()
        with self.subTest("the other service is in use"):
            system.run("rm /etc/systemd/system/*.wants/xchgd* && echo xchgd-net.service >/stub/active &&"
                       " ln -s /lib/systemd/system/xchgd-net.service /etc/systemd/system/multi-user.target.wants/")
            self.upgrade()
            self.assertEqual(system.calls(), [line.replace("xchgd.service", "xchgd-net.service") for line in RELOADED])
            self.assertEqual(system.links(), ["multi-user.target.wants/xchgd-net.service"])
        with self.subTest("it is enabled, but does not run"):
            system.run("rm /stub/active")
            self.upgrade()
            self.assertEqual(system.calls(), started("xchgd-net.service", action="restart"))
        with self.subTest("it runs, but is not enabled"):
            system.run("rm /etc/systemd/system/*.wants/xchgd* && echo xchgd.service >/stub/active")
            self.upgrade()
            self.assertEqual(system.calls(), RELOADED)
            self.assertEqual(system.links(), [])
        with self.subTest("it does not run and is not enabled"):
            system.run("rm /stub/active")
            self.upgrade()
            self.assertEqual(system.calls(), started(action="restart"))
        with self.subTest("the administrator forbids actions"):
            system.run("printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d && echo xchgd.service >/stub/active")
            self.upgrade()
            self.assertEqual(system.calls(), RELOADED[:1])
        with self.subTest("reload and restart fail"):
            system.run("rm /usr/sbin/policy-rc.d && touch /stub/fail")
            self.upgrade()
            self.assertEqual(system.calls(), RELOADED + started("xchgd.service", action="restart"))
            self.assertEqual(self.version(), ["installed", self.again.version])
        with self.subTest("the new version refuses the settings"):
            system.run("echo XCHG_WORKERS=none >>/etc/default/xchgd")
            output = self.upgrade("--force-confold")
            self.assertEqual(system.calls(), RELOADED)
            self.assertIn("XCHG_WORKERS", output)
            self.assertIn("xchgd.service is not restarted", output)
            self.assertEqual(self.version(), ["installed", self.again.version])

    def test_without_systemd(self):
        """Where systemd does not run, the scripts start nothing and the units are enabled all the same."""
        self.system.run("rmdir /run/systemd/system && rm /usr/bin/systemctl && " + INSTALL.format("/debs"))
        self.system.run("rmdir /run/systemd/system && dpkg -i /debs/xchgd_*.deb 2>&1", debs=self.again.next)
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


class LiveUpgrade(SystemTest):
    """The next version is installed while 64 clients use the server."""

    def under_load(self, service="xchgd.service", package=None, settings="", prepare="true"):
        """Start the server with ${settings}, and with clients run ${prepare} and install the next version, or ${package}.

        Return: what upgrade_under_load.py has seen.
        """
        system = self.system
        system.run("cd /debs && apt-get install -y ./xchgd_*.deb ./xchg-bench_*.deb 2>&1")
        shutil.copy(package or deb_of("xchgd", self.again.next), system.path("next.deb"))
        with open(system.path("etc/default/xchgd"), "a") as f:
            f.write("XCHG_EXCHANGE=echo\n" + settings)
        system.calls()
        admin = {"xchgd.service": "/run/xchgd-admin.sock", "xchgd-net.service": "/run/xchgd/admin.sock"}[service]
        command = f"{prepare} && apt-get install -y -o Dpkg::Options::=--force-confold /next.deb"
        without = "" if service == "xchgd.service" else "rm -r /run/systemd /usr/bin/systemctl &&"
        output = system.run(f"touch /stub/serve && {without} python3 -B /upgrade_under_load.py {service} {admin} '{command}' 2>&1")
        seen = json.loads(output.splitlines()[-1])
        seen["calls"] = system.calls()[1:]  # without the start
        self.assertEqual(seen["status"], "installed", seen["output"])
        return seen

    def check(self, seen, *, upgraded, restarted=False, calls):
        """The new or the old version answers. Without a restart, it is the process of before, and nothing is lost."""
        text = f"{seen['output']}\n{seen['log']}\n{seen['said']}"
        before, after = seen["before"], seen["after"]
        self.assertEqual(seen["calls"], calls + STOPPED if calls else [], text)
        self.assertNotEqual(before["version"], self.again.PROGRAM)
        self.assertEqual(after["version"], self.again.PROGRAM if upgraded else before["version"], text)
        self.assertEqual(after["servers"].keys() == before["servers"].keys(), not restarted, text)
        self.assertEqual(any(seen["bench"]["errors"].values()), restarted, text)
        self.assertEqual(seen["bench"]["connected"], 64)
        self.assertEqual(len(seen["left"]), 0 if calls else 1)  # without systemd, nothing is stopped

    def test_under_systemd(self):
        """Nothing is lost."""
        seen = self.under_load()
        self.check(seen, upgraded=True, calls=RELOADED)
        self.assertEqual(list(seen["after"]["servers"].values()), ["/usr/bin/xchgd"])
        report(f"live upgrade: {seen['bench']['exchanges']} exchanges of 64 clients, the longest {seen['bench']['latency_us']['max'] / 1000:.0f} ms")

    def test_without_systemd(self):
        """The server has the settings of /etc/default/xchgd."""
        seen = self.under_load("xchgd-net.service", settings="XCHG_LISTEN=127.0.0.1:7000\nXCHG_ADMIN='unix:/run/xchgd/admin.sock;mode=0660'\n")
        self.check(seen, upgraded=True, calls=[])
        self.assertIn("upgraded", seen["output"])

    def test_broken_without_systemd(self):
        """The new version cannot start: the old one continues to serve, and dpkg ends well."""
        seen = self.under_load("xchgd-net.service", self.again.package_with("exit 78"), "XCHG_LISTEN=127.0.0.1:7000\n")
        self.check(seen, upgraded=False, calls=[])
        self.assertIn("keeps the old version", seen["output"])

    def test_policy_without_systemd(self):
        """The administrator forbids it."""
        policy = 'printf "#!/bin/sh\\nexit 101\\n" >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d'
        seen = self.under_load("xchgd-net.service", settings="XCHG_LISTEN=127.0.0.1:7000\n", prepare=policy)
        self.check(seen, upgraded=False, calls=[])

    def test_broken(self):
        """The new version cannot start: the old one continues to serve."""
        seen = self.under_load(package=self.again.package_with("exit 78"))
        self.check(seen, upgraded=False, calls=RELOADED)
        self.assertIn("xchgd.service is not restarted", seen["output"])

    def test_old_version_cannot(self):
        """It was started without XCHG_UPGRADE: a restart, which ends all connections."""
        seen = self.under_load(settings="XCHG_UPGRADE=off\n", prepare="sed -i /^XCHG_UPGRADE/d /etc/default/xchgd")
        self.check(seen, upgraded=True, restarted=True, calls=RELOADED + started("xchgd.service", action="restart"))

    def test_turned_back(self):
        """The new version starts, but cannot replace the server: a restart. A script is such a program."""
        seen = self.under_load(package=self.again.package_with('exec /usr/bin/xchgd.real "$@"'))
        self.check(seen, upgraded=True, restarted=True, calls=RELOADED + started("xchgd.service", action="restart"))



if __name__ == "__main__":
    unittest.main()
