"""All images, as `make check-images` builds them: the digest in another folder, the machine arm64 under qemu-user, and plug-ins.

It takes minutes and needs root, because the base image is made of Debian's packages. So it belongs to `make check-release`.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import unittest

from containers import IMAGES, USER, Contained, Image, as_root
from image_sizes import NAMES, table_faults
from ops import PROGRAM, TOP, run, tool
from xchgd import Server, greet, receive_all

EMULATOR = "qemu-aarch64-static"
MACHINES = {"amd64": 62, "arm64": 183}  # e_machine of an ELF file
PLUGIN = os.path.join(TOP, "docs", "examples", "handler_so.c")
COMPILER = {"amd64": "gcc", "arm64": "aarch64-linux-gnu-gcc"}


def sandbox_off():
    """The emulator makes system calls that xchgd does not make itself."""
    return {"XCHG_SANDBOX": "off"} if "XCHG_SANDBOX" in run(PROGRAM, "--help") else {}


def archive(name):
    return os.path.join(IMAGES, f"{name}.tar")


def machine_of(path):
    with open(path, "rb") as stream:
        head = stream.read(20)
    if head[:4] != b"\x7fELF":
        raise AssertionError(f"{path} is no ELF file")
    return int.from_bytes(head[18:20], "little")


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        os.chmod(self.folder, 0o755)


class Sources(Folder):
    """The digest is the same wherever the sources are and whenever they were written."""

    def test_another_folder_gives_the_same_image(self):
        for architecture in MACHINES:
            with self.subTest(architecture):
                copy = os.path.join(self.folder, architecture, "some-other-folder")
                shutil.copytree(TOP, copy, ignore=shutil.ignore_patterns("build", ".git", "__pycache__", "results"), symlinks=True, copy_function=shutil.copy)
                environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "VARIANT")}
                run("make", "-C", copy, "-j2", f"ARCH={architecture}", "BUILD=build/else", "image", limit=300, env=environment)
                found = Image(os.path.join(copy, "build", "else", "image", f"xchgd-{architecture}.tar"))
                self.assertEqual(found.digest, Image(archive(f"xchgd-{architecture}")).digest)


class Sizes(unittest.TestCase):
    def test_the_page_has_the_sizes_of_all_images(self):
        self.assertEqual(table_faults(NAMES), [])


class Foreign(Folder):
    """The static image of arm64."""

    def test_it_serves_under_the_emulator(self):
        image = Image(archive("xchgd-arm64"))
        image.unpack(self.folder)
        self.assertEqual(image.settings["architecture"], "arm64")
        program = os.path.join(self.folder, "xchgd")
        self.assertEqual(machine_of(program), MACHINES["arm64"])
        with Server(program=program, wrap=[tool(EMULATOR)], **sandbox_off()) as server:
            for _ in range(20):
                with server.connect() as client:
                    greet(client)
            self.assertEqual(server.stop()["finished"], 20)

    def test_it_contains_jemalloc(self):
        Image(archive("xchgd-arm64")).unpack(self.folder)
        printed = subprocess.run([tool(EMULATOR), os.path.join(self.folder, "xchgd"), "--version"], env={"MALLOC_CONF": "stats_print:true"},
                                 stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True)
        self.assertIn("jemalloc statistics", printed.stderr)


@unittest.skipUnless(os.geteuid() == 0, "the base image is made by root")
class Plugins(Folder):
    """The image with Debian: a plug-in that is put into it answers."""

    def serve(self, architecture, wrap, **variables):
        image = Image(archive(f"xchgd-plugins-{architecture}"))
        image.unpack(self.folder)
        self.assertEqual(image.config["User"], f"{USER}:{USER}")
        self.assertEqual(image.settings["architecture"], architecture)
        self.assertEqual(machine_of(os.path.join(self.folder, "usr/bin/xchgd")), MACHINES[architecture])
        with open(os.path.join(self.folder, "var/lib/dpkg/status")) as stream:
            self.assertIn("Package: libjemalloc2\nStatus: install ok installed", stream.read())
        plugin = os.path.join(self.folder, "plugins", "shout.so")
        run(COMPILER[architecture], "-shared", "-fPIC", "-I", os.path.join(TOP, "core"), "-o", plugin, PLUGIN)
        with Contained(self.folder, image.entrypoint, wrap, XCHG_HANDLER="/plugins/shout.so", **variables) as server:
            with server.connect() as client:
                client.sendall(b"hello\n")
                client.shutdown(1)
                self.assertEqual(receive_all(client), b"HELLO\n")
            self.assertEqual(server.get("/readyz")[0], 200)
            server.terminate(signal.SIGTERM)

    def test_amd64(self):
        self.serve("amd64", as_root)

    def test_arm64(self):
        foreign = os.path.join(TOP, "docs", "deploy", "image", "foreign.sh")
        self.serve("arm64", lambda root, memory: [foreign, *as_root(root, memory)], **sandbox_off())
