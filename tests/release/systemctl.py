#!/usr/bin/python3 -B
"""Plays systemctl in a root without systemd, for test_debian.py.

It writes each call to /stub/calls. A unit is enabled if it has a link below /etc/systemd/system, and active if /stub/active
names it. Where /stub/serve exists, `start xchgd.service` starts the server as PID 1 does: with the sockets of the installed
units, as their user, and it returns after READY=1.
"""

import configparser
import glob
import os
import pwd
import select
import shutil
import signal
import socket
import sys

UNITS = "/lib/systemd/system/"
LIMIT = 30


def read_unit(name):
    unit = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    unit.optionxform = str
    unit.read(UNITS + name)
    return unit


def listen(name):
    """The socket of a unit, and its name for LISTEN_FDNAMES."""
    unit = read_unit(name)["Socket"]
    address = unit["ListenStream"]
    if address.startswith("/"):
        if os.path.exists(address):
            os.remove(address)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
        os.chmod(address, int(unit["SocketMode"], 8))
        shutil.chown(address, "root", unit["SocketGroup"])
        listener.listen()
    else:
        listener = socket.create_server(("::", int(address)), family=socket.AF_INET6, dualstack_ipv6=True, backlog=int(unit["Backlog"]))
    return listener, unit["FileDescriptorName"]


def serve():
    """Start xchgd.service; return when it is ready."""
    service = read_unit("xchgd.service")["Service"]
    passed = [listen(name) for name in service["Sockets"].split()]
    os.makedirs("/stub/notify", exist_ok=True)
    if os.path.exists("/stub/notify/socket"):
        os.remove("/stub/notify/socket")
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind("/stub/notify/socket")
    os.chmod("/stub/notify/socket", 0o666)
    notify.settimeout(LIMIT)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        log = os.open("/stub/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        high = [os.dup(listener.fileno()) for listener, name in passed]
        for number, descriptor in enumerate(high, 3):
            os.dup2(descriptor, number)
        os.closerange(3 + len(high), 256)
        user = pwd.getpwnam(service["User"])
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(passed)), "LISTEN_FDNAMES": ":".join(name for _, name in passed),
                       "NOTIFY_SOCKET": "/stub/notify/socket"}
        with open(service["EnvironmentFile"].lstrip("-")) as f:
            environment.update(line.strip().split("=", 1) for line in f if line.strip() and not line.startswith("#"))
        os.execve(service["ExecStart"], [service["ExecStart"]], environment)
    with open("/stub/pid", "w") as f:
        f.write(str(pid))
    while b"READY=1" not in notify.recv(4096):
        pass


def end():
    """Stop what serve started; wait for its end."""
    with open("/stub/pid") as f:
        pid = int(f.read())
    descriptor = os.pidfd_open(pid)
    signal.pidfd_send_signal(descriptor, signal.SIGTERM)
    if not select.select([descriptor], [], [], LIMIT)[0]:
        sys.exit("the server does not stop")
    os.remove("/stub/pid")


def enable(name):
    """Make the links of [Install], as a preset that enables everything does."""
    for target in read_unit(name)["Install"]["WantedBy"].split():
        folder = f"/etc/systemd/system/{target}.wants"
        os.makedirs(folder, exist_ok=True)
        os.symlink(UNITS + name, f"{folder}/{name}")


def read_active():
    try:
        with open("/stub/active") as f:
            return f.read().split()
    except FileNotFoundError:
        return []


def main():
    with open("/stub/calls", "a") as f:
        f.write("systemctl " + " ".join(sys.argv[1:]) + "\n")
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    action, units, active = words[0], words[1:], read_active()
    if action == "is-enabled":
        enabled = glob.glob(f"/etc/systemd/system/*.wants/{units[0]}")
        print("enabled" if enabled else "disabled")
        sys.exit(0 if enabled else 1)
    if action == "is-active":
        sys.exit(0 if units[0] in active else 3)
    if action == "preset":
        enable(units[0])
    elif action in ("start", "restart"):
        if os.path.exists("/stub/fail"):
            sys.exit(1)
        if "xchgd.service" in units and os.path.exists("/stub/serve"):
            if os.path.exists("/stub/pid"):
                end()
            serve()
        active += [unit for unit in units if unit not in active]
    elif action == "stop":
        if "xchgd.service" in units and os.path.exists("/stub/pid"):
            end()
        active = [unit for unit in active if unit not in units]
    with open("/stub/active", "w") as f:
        f.write("\n".join(active))


main()
