"""Goal: systemd's own tools accept the units of docs/deploy/systemd, and judge their exposure as docs/deploy/systemd.md says. Each
line of a service is needed: the check finds a copy without it. The page's commands work, with recording programs in place of those
that change the system. systemd-socket-activate starts the server as the socket units do.

No test starts systemd or changes this system: everything happens in a folder that stands for /.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import unittest

from ops import TOP, UnixConnection, log_path, request, reserved_port, run, tool
from xchgd import LIMIT, PROGRAM, Server, environment, greet

UNITS = os.path.join(TOP, "docs/deploy/systemd")
PAGE = os.path.join(TOP, "docs/deploy/systemd.md")
SERVICES = ("xchgd.service", "xchgd-net.service")
SOCKETS = ("xchgd.socket", "xchgd-admin.socket")
LIMITS = {"xchgd.service": 0.3, "xchgd-net.service": 1.0}

# What systemd-analyze still counts, and why it is so.
EXPOSED = {
    "xchgd.service": {
        "SystemCallFilter_resources",  # sched_setaffinity and sched_setscheduler
        "RestrictAddressFamilies_AF_UNIX",  # NOTIFY_SOCKET
        "DeviceAllow",  # ProtectClock=yes brings /dev/rtc
        "RootDirectoryOrRootImage"}}  # it would need a copy of the libraries
EXPOSED["xchgd-net.service"] = EXPOSED["xchgd.service"] | {"RestrictAddressFamilies_AF_INET_INET6", "PrivateNetwork", "IPAddressDeny"}

# Settings that systemd-analyze does not judge.
REQUIRED = {
    "Type=notify", "NotifyAccess=main", "ExecReload=/usr/bin/xchgd --upgrade", "Environment=XCHG_UPGRADE=unix:/run/xchgd/upgrade",
    "RuntimeDirectory=xchgd", "RuntimeDirectoryMode=0750", "EnvironmentFile=-/etc/default/xchgd", "Group=xchg", "Restart=on-failure", "RestartPreventExitStatus=64 78",
    "WatchdogSec=60s", "TimeoutStopSec=60s", "LimitNOFILE=1048576", "AmbientCapabilities=", "DevicePolicy=closed", "PrivateIPC=yes",
    "SystemCallErrorNumber=EPERM", "SystemCallFilter=landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp",
    "SystemCallFilter=sched_setaffinity sched_setscheduler", "Documentation=man:xchgd(8)", "After=network.target", "WantedBy=multi-user.target"}
OWN = {"xchgd.service": {"Requires=xchgd.socket", "Sockets=xchgd.socket xchgd-admin.socket", "Also=xchgd.socket xchgd-admin.socket"},
       "xchgd-net.service": {"Conflicts=xchgd.service xchgd.socket xchgd-admin.socket", "Environment=XCHG_LISTEN=127.0.0.1:7000",
                             "Environment=XCHG_ADMIN=unix:/run/xchgd/admin.sock;mode=0660", "IPAddressAllow=localhost"}}

TARGETS = ("sysinit", "basic", "shutdown", "sockets", "network", "network-online", "multi-user")


def read_unit(name):
    with open(os.path.join(UNITS, name)) as f:
        return f.read()


def settings(text):
    return [line for line in text.split("\n") if "=" in line and not line.startswith("#")]


def value_of(unit, name):
    return [line.split("=", 1)[1] for line in settings(read_unit(unit)) if line.startswith(name + "=")]


class Root:
    """A folder that stands for /, with the units, the program, and the targets that units name."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="xchg-")
        for name in (*SERVICES, *SOCKETS):
            self.write(f"etc/systemd/system/{name}", read_unit(name))
        for name in TARGETS:
            self.write(f"usr/lib/systemd/system/{name}.target", "[Unit]\nDescription=stands for that of systemd\n")
        self.write("usr/bin/xchgd", "#!/bin/sh\n", 0o755)

    def write(self, name, text, mode=0o644):
        path = os.path.join(self.path, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as out:
            out.write(text)
        os.chmod(path, mode)

    def unit(self, name):
        return os.path.join(self.path, "etc/systemd/system", name)

    def verify(self, *names):
        """What systemd-analyze says against the units; it warns with exit code 0."""
        return run("systemd-analyze", "verify", "--man=no", f"--root={self.path}", *names, expect=None).strip()

    def analyze(self, name, *options):
        """systemd-analyze security of one unit, with its drop-ins: (exit code, output)."""
        more = {**os.environ, "SYSTEMD_UNIT_PATH": self.path + "/etc/systemd/system:"}
        done = subprocess.run([tool("systemd-analyze"), "security", "--offline=true", "--no-pager", *options, self.unit(name)], env=more,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=60, check=False)
        return done.returncode, done.stdout

    def score(self, name):
        return float(re.search(r"exposure level for \S+: ([\d.]+)", self.analyze(name)[1]).group(1))

    def exposed(self, name):
        """The settings that count, with their weights."""
        rows = json.loads(self.analyze(name, "--json=short")[1])
        return {row["json_field"]: float(row["exposure"]) for row in rows if float(row["exposure"] or 0) > 0}

    def fault(self, name):
        """What is wrong with a service: the first fault, or None."""
        with open(self.unit(name)) as f:
            missing = (REQUIRED | OWN[name]) - set(settings(f.read()))
        if missing:
            return f"missing: {sorted(missing)}"
        said = self.verify(name)
        if said:
            return said
        code, output = self.analyze(name, "--json=short")
        if code != 0 or not output.startswith("["):
            return "systemd-analyze refuses it"
        exposed = set(self.exposed(name)) - EXPOSED[name]
        if exposed:
            return f"exposed: {sorted(exposed)}"
        return None if self.analyze(name, f"--threshold={round(10 * LIMITS[name])}")[0] == 0 else f"exposure {self.score(name)}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path)


class Units(unittest.TestCase):
    def test_accepted(self):
        """systemd-analyze verify has nothing to say, and the exposure is within its limit."""
        with Root() as root, open(log_path("systemd.txt"), "w") as out:
            self.assertEqual(root.verify(*SERVICES, *SOCKETS), "")
            for name in SERVICES:
                line = f"{name}: exposure {root.score(name)}, limit {LIMITS[name]}: {root.exposed(name)}"
                print(line, file=out)
                print(line)
                self.assertIsNone(root.fault(name))
                self.assertLessEqual(root.score(name), LIMITS[name])
                self.assertEqual(set(root.exposed(name)), EXPOSED[name])

    def test_each_line_is_needed(self):
        """A service without one of its lines is found, whichever it is. Of the second one: without a line that the first has not."""
        done = set()
        for name in SERVICES:
            text = read_unit(name)
            lines = [line for line in settings(text) if not line.startswith("Description=") and line not in done]
            self.assertGreater(len(lines), 4)
            for line in lines:
                done.add(line)
                with self.subTest(unit=name, without=line), Root() as root:
                    self.assertEqual(text.count(f"\n{line}\n"), 1)
                    root.write(f"etc/systemd/system/{name}", text.replace(f"\n{line}\n", "\n"))
                    self.assertIsNotNone(root.fault(name))

    def test_mutants(self):
        """Weaker and misspelt values are found."""
        for name, old, new in (("xchgd.service", "User=xchg", "User=root"),
                               ("xchgd.service", "PrivateNetwork=yes", "PrivateNetwork=no"),
                               ("xchgd.service", "RestrictAddressFamilies=AF_UNIX", "RestrictAddressFamilies=AF_UNIX AF_INET"),
                               ("xchgd.service", "ProtectSystem=strict", "ProtectSystem=yes"),
                               ("xchgd.service", "~@privileged @resources", "~@resources"),
                               ("xchgd.service", "CapabilityBoundingSet=", "CapabilityBoundingSet=CAP_SYS_ADMIN"),
                               ("xchgd.service", "PrivateUsers=yes", "PrivateUser=yes"),
                               ("xchgd.service", "[Service]", "[Servise]"),
                               ("xchgd.service", "WatchdogSec=60s", "WatchdogSec=60x"),
                               ("xchgd.service", "ExecStart=/usr/bin/xchgd", "ExecStart=/usr/bin/xchg"),
                               ("xchgd-net.service", "IPAddressAllow=localhost", "IPAddressAllow=any"),
                               ("xchgd-net.service", "IPAddressDeny=any", "IPAddressDeny=192.0.2.1"),
                               ("xchgd-net.service", "AmbientCapabilities=", "AmbientCapabilities=CAP_NET_BIND_SERVICE")):
            with self.subTest(unit=name, new=new), Root() as root:
                text = read_unit(name)
                self.assertIn(f"{old}", text)
                root.write(f"etc/systemd/system/{name}", text.replace(old, new))
                self.assertIsNotNone(root.fault(name))
        for name, old, new in (("xchgd.socket", "Backlog=", "Backlogs="), ("xchgd-admin.socket", "SocketMode=0660", "SocketMode=660x"),
                               ("xchgd.socket", "ListenStream=7000", "ListenStream=70000")):
            with self.subTest(unit=name, new=new), Root() as root:
                self.assertIn(old, read_unit(name))
                root.write(f"etc/systemd/system/{name}", read_unit(name).replace(old, new))
                self.assertNotEqual(root.verify(name), "")

    def test_services_agree(self):
        """The two services differ in what the page says and in nothing else."""
        one, two = (set(settings(read_unit(name))) for name in SERVICES)
        keys = {line.split("=", 1)[0] for line in one ^ two}
        self.assertEqual(keys, {"Description", "Requires", "Sockets", "Also", "Conflicts", "Environment", "PrivateNetwork", "IPAddressAllow", "RestrictAddressFamilies"})

    def test_figures_of_the_page(self):
        """The page says what is measured: of the units, and of the drop-ins that open xchgd-net.service."""
        with open(PAGE) as f:
            page = f.read()
        for name in SERVICES:
            shown = re.search(rf"^\| `{name}` \|.*\| ([\d.]+) \|$", page, re.M).group(1)
            with Root() as root:
                self.assertEqual(float(shown), root.score(name))
        rows = re.findall(r"^\| (none|`IPAddress\w+=\S*`) \|.*\| ([\d.]+) \|$", page, re.M)
        self.assertEqual(len(rows), 3)
        for drop_in, shown in rows:
            with self.subTest(drop_in), Root() as root:
                if drop_in != "none":
                    root.write("etc/systemd/system/xchgd-net.service.d/network.conf", "[Service]\n" + drop_in.strip("`") + "\n")
                    self.assertEqual(root.verify("xchgd-net.service"), "")
                self.assertEqual(float(shown), root.score("xchgd-net.service"))

    def test_exit_codes(self):
        """The exit codes that systemd must not answer with a restart are those of a usage and a configuration fault."""
        codes = value_of("xchgd.service", "RestartPreventExitStatus")[0].split()
        found = [subprocess.run([PROGRAM, *arguments], env=environment(**variables), stderr=subprocess.DEVNULL, check=False, timeout=LIMIT).returncode
                 for arguments, variables in ((["--nonsense"], {}), ([], {"XCHG_LISTEN": "nonsense"}))]
        self.assertEqual([str(code) for code in found], codes)

    def test_sysusers(self):
        """systemd-sysusers makes the user and group of the units; nothing is written, on no system."""
        with Root() as root:
            with open(os.path.join(UNITS, "xchgd.sysusers")) as f:
                root.write("usr/lib/sysusers.d/xchgd.conf", f.read())
            said = run("systemd-sysusers", "--dry-run", f"--root={root.path}")
            self.assertRegex(said, r"Creating group 'xchg' with GID \d+")
            self.assertRegex(said, r"Creating user 'xchg' \(xchg server\) with UID \d+ and GID \d+")
            self.assertFalse(os.path.exists(os.path.join(root.path, "etc/passwd")))
            for name in SERVICES:
                self.assertEqual((value_of(name, "User"), value_of(name, "Group")), (["xchg"], ["xchg"]))
            self.assertEqual(value_of("xchgd-admin.socket", "SocketGroup"), ["xchg"])

    def test_defaults(self):
        """Each variable of the file of defaults is valid, for systemd and for a shell; as shipped none is set."""
        with open(os.path.join(UNITS, "xchgd.default")) as f:
            lines = f.read().splitlines()
        self.assertEqual([line for line in lines if line and not line.startswith("#")], [])
        examples = [line[1:] for line in lines if re.match(r"#XCHG_", line)]
        self.assertGreater(len(examples), 4)
        script = "set -a\n" + "\n".join(examples) + '\nexec "$0" --check\n'
        run("sh", "-c", script, PROGRAM, env=environment())
        for name, value in (line.split("=", 1) for line in examples):
            if name in ("XCHG_LISTEN", "XCHG_ADMIN"):
                self.assertIn(f"{name}={value.strip(chr(39))}", value_of("xchgd-net.service", "Environment"))


# Programs that would change the system. Each writes its arguments to the file RECORD.
RECORDED = ("make", "systemctl", "systemd-sysusers", "curl", "nc", "editor")


class Page(unittest.TestCase):
    def blocks(self):
        with open(PAGE) as f:
            return re.findall(r"^```bash\n(.*?)^```$", f.read(), re.M | re.S)

    def test_commands(self):
        """The commands of the page, in a folder that stands for /: files are where they belong, and units that are named exist."""
        with Root() as root:
            shutil.rmtree(os.path.join(root.path, "etc"))
            os.makedirs(os.path.join(root.path, "etc"))
            record = os.path.join(root.path, "record")
            for name in RECORDED:
                root.write(f"stubs/{name}", f'#!/bin/sh\necho "{name} $*" >>{record}\n', 0o755)
            for block in self.blocks():
                script = re.sub(r"(?<![\w.])/(etc|run)/", rf"{root.path}/\1/", "set -e\n" + block)
                script = script.replace("cd /etc/", f"cd {root.path}/etc/").replace("verify --man=no", f"verify --man=no --root={root.path}")
                path = f"{root.path}/stubs:{os.path.dirname(PROGRAM)}:{os.environ['PATH']}"
                done = subprocess.run(["bash", "-c", script], cwd=TOP, env={**environment(), "PATH": path}, stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
                self.assertEqual(done.returncode, 0, f"{block}\n{done.stdout}")
            with open(record) as f:
                called = f.read().splitlines()
            self.check_units(root, called)
            with open(os.path.join(root.path, "etc/default/xchgd")) as f:
                self.assertTrue(f.read().endswith("\nXCHG_LISTEN=192.0.2.10:7000\n"))
            self.assertEqual(root.score("xchgd-net.service"), 1.1)  # with the drop-in of the page
            self.check_addresses(root)
            self.assertEqual(root.verify(*SERVICES, *SOCKETS, "xchgd-metrics.socket"), "")

    def check_addresses(self, root):
        """The address of a network is not there yet when the sockets of a boot are bound, nor at network.target."""
        with open(root.unit("xchgd.socket.d/address.conf")) as f:
            socket_lines = settings(f.read())
        self.assertIn("ListenStream=192.0.2.10:443", socket_lines)
        self.assertIn("FreeBind=yes", socket_lines)
        with open(root.unit("xchgd-net.service.d/network.conf")) as f:
            self.assertLessEqual({"Wants=network-online.target", "After=network-online.target"}, set(settings(f.read())))

    def check_units(self, root, called):
        """The unit files that `systemctl` is asked for exist, and the daemon was told about each change before."""
        named = {word for line in called if line.startswith("systemctl") for word in line.split() if word.startswith("xchgd")}
        self.assertLessEqual(set(SERVICES) | set(SOCKETS) | {"xchgd-metrics.socket"}, named)
        for name in named:
            self.assertTrue(os.path.exists(root.unit(name)), name)
        self.assertEqual(called[:4], ["make install PREFIX=/usr", "systemd-sysusers ", "systemctl daemon-reload",
                                      "systemctl enable --now xchgd.socket xchgd-admin.socket xchgd.service"])
        self.assertTrue(os.path.exists(os.path.join(root.path, "etc/sysusers.d/xchgd.conf")))
        # systemd refuses to start a socket whose service runs, and each socket that listens may start the service.
        added = next(at for at, line in enumerate(called) if "xchgd-metrics.socket" in line)
        self.assertEqual(set(called[added - 1].split()), {"systemctl", "stop", "xchgd.service", *SOCKETS})
        self.assertLessEqual({"--now", "xchgd.service", *SOCKETS}, set(called[added].split()))


class Activation(unittest.TestCase):
    """systemd-socket-activate passes sockets with the names of the socket units, without PID 1."""

    def names(self):
        return [value_of(name, "FileDescriptorName")[0] for name in SOCKETS]

    @contextlib.contextmanager
    def activated(self, folder, names, **variables):
        """The server behind systemd-socket-activate: (server, TCP port, path of the admin socket)."""
        port, path = reserved_port(), os.path.join(folder, "admin.sock")
        wrap = [tool("systemd-socket-activate"), "-l", f"127.0.0.1:{port}", "-l", path, f"--fdname={names}"]
        for name in variables:
            wrap += ["-E", name]
        with Server(wrap=wrap, wait=False, **variables) as server:
            server.wait_for(lambda lines: sum("Listening on" in line for line in lines) == 2, "listeners")
            yield server, port, path

    def test_names_of_the_units(self):
        """Clients and the operator are served by the sockets of their units; no variable is needed."""
        self.assertEqual(self.names(), ["data", "admin"])
        self.assertEqual(value_of("xchgd-admin.socket", "Service"), ["xchgd.service"])
        with tempfile.TemporaryDirectory() as folder, self.activated(folder, ":".join(self.names()), XCHG_STOP_GRACE="0") as (server, port, path):
            with socket.create_connection(("127.0.0.1", port), LIMIT) as client:  # starts the server
                greet(client)
            self.assertEqual(server.wait_line("admin")["addr"], f"unix:{path}")
            self.assertEqual(server.wait_line("listening")["addr"], f"127.0.0.1:{port}")
            self.assertEqual(request(UnixConnection(path), "/readyz")[0], 200)
            self.assertEqual(request(UnixConnection(path), "/drain", "POST", Xchg_Command="yes")[0], 202)
            self.assertEqual(server.finish()["finished"], 1)

    def test_operator_starts_it(self):
        """The first connection may be one to the admin socket."""
        with tempfile.TemporaryDirectory() as folder, self.activated(folder, "data:admin", XCHG_STOP_GRACE="0") as (server, port, path):
            self.assertEqual(request(UnixConnection(path), "/livez")[0], 200)
            with socket.create_connection(("127.0.0.1", port), LIMIT) as client:
                greet(client)
            server.stop()

    def test_one_name_for_all(self):
        """One name is for all sockets (systemd-socket-activate does so): two for the operator, and XCHG_LISTEN for clients."""
        with tempfile.TemporaryDirectory() as folder, \
                self.activated(folder, "admin", XCHG_STOP_GRACE="0", XCHG_LISTEN="127.0.0.1:0") as (server, port, path):
            self.assertEqual(request(UnixConnection(path), "/livez")[0], 200)
            server.wait_line("admin", nth=1)
            self.assertEqual([line["addr"] for line in server.messages("admin")], [f"127.0.0.1:{port}", f"unix:{path}"])
            with server.connect(address=server.wait_line("listening")["addr"]) as client:
                greet(client)
            server.stop()


if __name__ == "__main__":
    unittest.main()
