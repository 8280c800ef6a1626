"""The rights with which a server runs, and a network of the runner's own.

RIGHTS says who a server can be: this user; an unprivileged user without capabilities; root with the default capabilities of a
container (what Docker grants). The latter two need root.

A network namespace of its own lets the runner hold back handshakes: the server's kernel does not see what a client sends within
HOLD_MS of its SYN, so the handshake is half-open that long, and longer if the client has nothing to repeat. An ordinary user gets
such a network in a user namespace, where the kernel permits it; "self" is without capabilities there.
"""

import ctypes
import os
import shutil
import subprocess
import sys

CONTAINER = ("chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot mknod audit_write "
             "setfcap").split()
NO_CAPABILITIES = ["--bounding-set=-all", "--inh-caps=-all"]
RIGHTS = {
    "self": [],
    "user": ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *NO_CAPABILITIES],
    "container": ["setpriv", "--inh-caps=-all", "--bounding-set=-all," + ",".join(f"+{name}" for name in CONTAINER)],
}
INSIDE = "XCHG_BENCH_INSIDE"  # set in the user namespace of an ordinary user
CLONE_NEWNET = 0x40000000
HOLD_MS = 50
TABLE = """table inet hold {
  set held { type inet_service; flags dynamic, timeout; timeout %dms; size 65535; }
  chain input {
    type filter hook input priority 0;
    tcp flags & (syn | ack) == syn numgen inc mod 2 == 0 add @held { tcp sport }
    tcp flags & (syn | ack) == ack tcp sport @held drop
  }
}
""" % HOLD_MS


def command(name):
    """The command before the server."""
    if name == "self" and os.environ.get(INSIDE):
        return ["setpriv", *NO_CAPABILITIES]
    return RIGHTS[name]


def missing(name, program):
    """Why a server cannot have these rights, or None."""
    before = command(name)
    try:
        ran = subprocess.run([*before, "test", "-x", program], capture_output=True, text=True)
    except OSError as problem:
        return f"{before[0]}: {problem.strerror}"
    if ran.returncode == 0:
        return None
    return ran.stderr.strip() or f"{program} cannot be executed with them"


def default():
    return ["user", "container"] if os.geteuid() == 0 and not os.environ.get(INSIDE) else ["self"]


def enter_network():
    """Enter a network of our own. Return: why that cannot be, or None."""
    if not all(map(shutil.which, ("nft", "ip", "ss"))):
        return "needs ip, ss and nft"
    if os.geteuid() != 0:
        if os.environ.get(INSIDE) or subprocess.run(["unshare", "-Urn", "true"], capture_output=True).returncode != 0:
            return "needs root, or a kernel that gives a user a network"
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", "-Urn", sys.executable, *sys.argv])
    libc = ctypes.CDLL(None, use_errno=True)
    if not os.environ.get(INSIDE) and libc.unshare(CLONE_NEWNET) == -1:
        return f"no network of its own: {os.strerror(ctypes.get_errno())}"
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    return None


class Held:
    """While it is entered, half of the handshakes are held back."""

    def __enter__(self):
        subprocess.run(["nft", "-f", "-"], input=TABLE, text=True, check=True)

    def __exit__(self, *_):
        subprocess.run(["nft", "delete", "table", "inet", "hold"], check=True)


def half_open(port):
    """The number of half-open handshakes at this port. (/proc/net/tcp would list every connection in TIME_WAIT.)"""
    ran = subprocess.run(["ss", "-Hnt", "state", "syn-recv", f"sport = :{port}"], capture_output=True, text=True, check=True)
    return len(ran.stdout.splitlines())
