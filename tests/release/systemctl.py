#!/usr/bin/python3 -B
"""Plays systemctl in a root without systemd, for test_debian.py.

It writes each call to /stub/calls. A unit is enabled if it has a link below /etc/systemd/system, and active if /stub/active
names it. Where /stub/serve exists, `start`, `reload` and `stop` of a service act as PID 1 does. The server gets the environment,
the user and the sockets of the installed units, and a start returns after READY=1. A process stays beside the server: it takes the
messages to NOTIFY_SOCKET, and keeps in /stub/pid which process is the server.
"""

import glob
import os
import pwd
import select
import shlex
import shutil
import signal
import socket
import sys

UNITS = "/lib/systemd/system/"
SERVICES = ("xchgd.service", "xchgd-net.service")
NOTIFY = "/stub/notify/socket"
LIMIT = 60


def read_unit(name):
    """{name of a setting: its values}"""
    found = {}
    with open(UNITS + name) as f:
        for line in f:
            if "=" in line and not line.startswith("#"):
                key, value = line.strip().split("=", 1)
                found.setdefault(key, []).append(value)
    return found


def read_environment(unit):
    environment = dict(text.split("=", 1) for text in unit["Environment"])
    with open(unit["EnvironmentFile"][0].lstrip("-")) as f:
        environment.update("".join(shlex.split(line)).split("=", 1) for line in f if line.strip() and not line.startswith("#"))
    return environment


def listen(name):
    """The socket of a unit, and its name for LISTEN_FDNAMES."""
    unit = read_unit(name)
    address = unit["ListenStream"][0]
    if address.startswith("/"):
        if os.path.exists(address):
            os.remove(address)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
        os.chmod(address, int(unit["SocketMode"][0], 8))
        shutil.chown(address, "root", unit["SocketGroup"][0])
        listener.listen()
    else:
        listener = socket.create_server(("::", int(address)), family=socket.AF_INET6, dualstack_ipv6=True, backlog=int(unit["Backlog"][0]))
    return listener, unit["FileDescriptorName"][0]


def run(unit, setting, environment, passed=()):
    """Start the command of a setting as the user of the unit. Return: its process id."""
    pid = os.fork()
    if pid == 0:
        log = os.open("/stub/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        high = [os.dup(listener.fileno()) for listener, name in passed]
        for number, descriptor in enumerate(high, 3):
            os.dup2(descriptor, number)
        os.closerange(3 + len(high), 256)
        if passed:
            environment = {**environment, "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(passed)),
                           "LISTEN_FDNAMES": ":".join(name for _, name in passed)}
        user = pwd.getpwnam(unit["User"][0])
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        command = unit[setting][0].split()
        os.execve(command[0], command, environment)
    return pid


def write(path, text):
    with open(path + ".new", "w") as f:
        f.write(text)
    os.rename(path + ".new", path)


def attend(unit, ready):
    """Start the server, write to ${ready} when it is ready, and follow it to its end."""
    passed = [listen(name) for name in unit.get("Sockets", [""])[0].split()]
    for folder in ("/stub/notify", "/run/" + unit["RuntimeDirectory"][0]):
        os.makedirs(folder, exist_ok=True)
    shutil.chown(folder, unit["User"][0], unit["Group"][0])
    os.chmod(folder, int(unit["RuntimeDirectoryMode"][0], 8))
    if os.path.exists(NOTIFY):
        os.remove(NOTIFY)
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(NOTIFY)
    os.chmod(NOTIFY, 0o666)
    pid = run(unit, "ExecStart", {**read_environment(unit), "NOTIFY_SOCKET": NOTIFY}, passed)
    process = os.pidfd_open(pid)
    write("/stub/pid", str(pid))
    while True:
        readable = select.select([notify, process], [], [])[0]
        if notify in readable:
            for line in notify.recv(4096).decode().split("\n"):
                if line == "READY=1" and ready is not None:  # another one follows a reload
                    os.write(ready, b"1")
                    ready = None
                if line.startswith("MAINPID="):
                    os.close(process)
                    pid = int(line.split("=")[1])
                    process = os.pidfd_open(pid)
                    write("/stub/pid", str(pid))
        elif process in readable:
            return


def start(name):
    """Return when it is ready."""
    ready, writes = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.close(ready)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(os.open("/stub/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), 1)
        os.dup2(1, 2)
        attend(read_unit(name), writes)
        os._exit(0)
    write("/stub/attendant", str(pid))
    os.close(writes)
    if not select.select([ready], [], [], LIMIT)[0] or not os.read(ready, 1):
        sys.exit("the server does not start")


def end():
    """Stop the server, if there is one; wait for the end of the process beside it, which holds the sockets."""
    if not os.path.exists("/stub/attendant"):
        return
    with open("/stub/pid") as f:
        pid = int(f.read())
    with open("/stub/attendant") as f:
        attendant = os.pidfd_open(int(f.read()))
    os.kill(pid, signal.SIGTERM)
    if not select.select([attendant], [], [], LIMIT)[0]:
        sys.exit("the server does not stop")
    os.remove("/stub/attendant")


def reload(name):
    unit = read_unit(name)
    code = os.waitstatus_to_exitcode(os.waitpid(run(unit, "ExecReload", read_environment(unit)), 0)[1])
    if code != 0:
        sys.exit(f"the reload ends with {code}")


def enable(name):
    """Make the links of [Install], as a preset that enables everything does."""
    for target in read_unit(name)["WantedBy"][0].split():
        folder = f"/etc/systemd/system/{target}.wants"
        os.makedirs(folder, exist_ok=True)
        os.symlink(UNITS + name, f"{folder}/{name}")


def read_active():
    try:
        with open("/stub/active") as f:
            return f.read().split()
    except FileNotFoundError:
        return []


def act(action, units):
    """Do it to the server. ${units} are the services."""
    if os.path.exists("/stub/fail"):
        sys.exit(1)
    if os.path.exists("/stub/serve"):
        if action in ("restart", "stop") and units:
            end()
        for name in units:
            if action in ("start", "restart"):
                start(name)
            elif action == "reload":
                reload(name)


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
    elif action in ("start", "restart", "reload", "stop"):
        act(action, [unit for unit in units if unit in SERVICES])
        active = [unit for unit in active if unit not in units] + ([] if action == "stop" else units)
    write("/stub/active", "\n".join(active))


main()
