"""In the system of test_debian.py: a server that 64 clients use, then a command, which installs another version, then a removal.

    upgrade_under_load.py SERVICE ADMIN-SOCKET COMMAND

Prints what was seen, as JSON. The server is that of SERVICE, started by systemctl.py. The clients send 2,000 messages a second and
connect again after every 50.
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

LIMIT = 60
BENCH = ["xchg-bench", "-x", "echo", "-c", "64", "-R", "2000", "--reconnect", "50", "-T", "30s", "-d", "10m", "--json", "/stub/bench.json",
         "127.0.0.1:7000"]


def scrape(path):
    """The metrics: {name with labels: value}"""
    connection = http.client.HTTPConnection("localhost", timeout=LIMIT)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(path)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return dict(line.rsplit(" ", 1) for line in text.split("\n") if line and not line.startswith("#"))


def run(command):
    ran = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if ran.returncode != 0:
        sys.exit(f"{command}: exit code {ran.returncode}\n{ran.stdout}")
    return ran.stdout


def wait_for(what, condition):
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"not in {LIMIT} s: {what}")
        time.sleep(0.02)  # the pace of the looks; only the condition or the deadline ends the wait


def servers():
    """{process id: program} of all processes of xchgd."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            program = os.readlink(f"/proc/{pid}/exe")
        except OSError:  # it has ended
            continue
        if program.startswith("/usr/bin/xchgd"):
            found[int(pid)] = program
    return found


def look(admin):
    """Which version answers, and which processes there are. Waits until messages have come since the call."""
    def messages():
        return int(scrape(admin)["xchg_messages_received_total"])
    before = messages()
    wait_for("messages", lambda: messages() > before + 500)
    wait_for("one process", lambda: len(servers()) == 1)
    info, = (name for name in scrape(admin) if name.startswith("xchg_build_info"))
    return {"version": re.search(r'version="([^"]*)"', info).group(1), "servers": servers()}


def main():
    service, admin, command = sys.argv[1:]
    run(f"python3 -B /systemctl.py start {service}")
    bench = subprocess.Popen(BENCH, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    seen = {"before": look(admin)}
    seen["output"] = run(command)
    seen["status"] = run("dpkg-query -W -f '${db:Status-Status}' xchgd")
    seen["after"] = look(admin)
    bench.send_signal(signal.SIGINT)
    seen["said"] = bench.communicate(timeout=LIMIT)[1]
    with open("/stub/bench.json") as f:
        seen["bench"] = json.load(f)
    run("apt-get remove -y xchgd")
    seen["left"] = servers()
    with open("/stub/log") as f:
        seen["log"] = f.read()
    print(json.dumps(seen))


main()
