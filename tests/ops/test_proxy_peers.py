"""Goal: two other implementations of the PROXY protocol understand what xchg-bench sends, and core/proxy what one of them builds.

The packages come from npm (tests/ops/proxy/package-lock.json) into OPS_PROXY_FOLDER, build/ops-proxy by default.
Every helper program has a time limit.
"""

import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests", "live"))

from bench import bench  # noqa: E402
from test_bench_proxy import read_exactly  # noqa: E402
from xchgd import PROGRAM  # noqa: E402

BUILD = os.path.dirname(os.path.abspath(PROGRAM))
PARSE = os.path.join(BUILD, "tests", "ops", "proxy_parse")
FOLDER = os.environ.get("OPS_PROXY_FOLDER", os.path.join(BUILD, "ops-proxy"))
SOURCE = os.path.join(TOP, "tests", "ops", "proxy")
PROGRAM_SECONDS = 60


def run(command, given="", limit=PROGRAM_SECONDS, **more):
    """Run a program to its end; return what it wrote."""
    ran = subprocess.run(command, input=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=limit, check=False, **more)
    if ran.returncode != 0:
        raise AssertionError(f"{command}: exit code {ran.returncode}:\n{ran.stdout}{ran.stderr}")
    return ran.stdout


def lines(command, given=""):
    return [json.loads(line) for line in run(command, given).splitlines()]


def install():
    """Copy the script, and install the packages of the lock file unless they are there."""
    os.makedirs(FOLDER, exist_ok=True)
    shutil.copy(os.path.join(SOURCE, "peers.mjs"), FOLDER)
    wanted, there = os.path.join(SOURCE, "package-lock.json"), os.path.join(FOLDER, "installed.json")
    with open(wanted, "rb") as stream:
        lock = stream.read()
    if os.path.exists(there) and open(there, "rb").read() == lock:
        return
    for name in ("package.json", "package-lock.json"):
        shutil.copy(os.path.join(SOURCE, name), FOLDER)
    run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], limit=200, cwd=FOLDER)
    with open(there, "wb") as stream:
        stream.write(lock)


def plain(text):
    """"[::1]:80", "127.0.0.1:80", "0:0:0:0:0:0:0:1 80" and so on in one form; a path as it is."""
    if text in (None, "none"):
        return None
    host, _, port = text.rpartition(" " if " " in text else ":")
    return (str(ipaddress.ip_address(host.strip("[]"))), int(port)) if host else text


class Recorder:
    """A server that records the header of each connection, and then echoes."""

    def __init__(self, listener):
        self.listener, self.headers, self.lock = listener, [], threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            data = read_exactly(connection, 16)  # a line is longer, too
            if data.startswith(b"PROXY"):
                while not data.endswith(b"\r\n"):
                    data += read_exactly(connection, 1)
            else:
                data += read_exactly(connection, int.from_bytes(data[14:16], "big"))
            with self.lock:
                self.headers.append(data)
            try:
                while piece := connection.recv(65536):
                    connection.sendall(piece)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class ProxyPeers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        install()

    def node(self, word, given=""):
        return lines(["node", os.path.join(FOLDER, "peers.mjs"), word], given)

    def test_we_read_what_another_encoder_builds(self):
        built = self.node("encode")
        self.assertEqual(len(built), 3 + 4 * 6)
        parsed = lines([PARSE], "".join(header["hex"] + "\n" for header in built))
        for header, found in zip(built, parsed, strict=True):
            with self.subTest(header["name"]):
                self.assertEqual((found["result"], found["cause"]), ("done", "none"))
                self.assertEqual(found["size"], len(header["hex"]) // 2)
                self.assertEqual((found["version"], found["command"]), (header["version"], header["command"]))
                for end in ("source", "destination"):
                    self.assertEqual(plain(found[end]), plain(header[end]))

    def test_every_prefix_of_it_can_go_on(self):
        built = [header["hex"] for header in self.node("encode")]
        prefixes = [text[:size] for text in built for size in range(0, len(text), 2)]
        results = {found["result"] for found in lines([PARSE], "".join(prefix + "\n" for prefix in prefixes))}
        self.assertEqual(results, {"more"})

    def check_sent(self, listener, address, options, connections):
        """Record what xchg-bench sends; all four readers must find the same in it."""
        with Recorder(listener) as server:
            for option in options:
                ran = bench("-x", "echo", "-c", connections, "-n", 10 * connections, "--proxy", option, address)
                self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
            with server.lock:
                headers = [header.hex() for header in server.headers]
        self.assertEqual(len(headers), connections * len(options))
        given = "".join(header + "\n" for header in headers)
        for ours, theirs in zip(lines([PARSE], given), self.node("decode", given), strict=True):
            self.assertEqual(ours["result"], "done")
            for end in ("source", "destination"):
                self.assertEqual(plain(theirs["balena"][end]), plain(ours[end]))
                self.assertEqual(plain(theirs["js"][end]), plain(ours[end]))
        return headers

    def test_others_read_what_xchg_bench_sends(self):
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with self.subTest(host):
                listener = socket.create_server((host, 0), family=family, backlog=64)
                port = listener.getsockname()[1]
                address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                options = ("v1", "v2", "v2,crc32c", "v2,unique-id,authority=a.example,crc32c")
                headers = self.check_sent(listener, address, options, 5)
                self.assertEqual(len(set(headers)), 2 * 5 + 5 + 5)

    def test_also_over_a_unix_socket(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "s")
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(path)
            listener.listen(64)
            self.check_sent(listener, f"unix:{path}", ("v1", "v2,crc32c"), 3)


if __name__ == "__main__":
    unittest.main()
