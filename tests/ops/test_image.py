"""The image with a static xchgd: what is in it, that a second build is the same, that it runs as containers run, and the documented sizes."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from containers import IMAGES, USER, Contained, Image, as_root, as_user
from doc_blocks import Terminal, may_make_network, read_blocks
from image_sizes import table_faults
from ops import BUILD, TOP, run
from xchgd import greet

FOLDER = os.path.join(TOP, "docs", "deploy", "image")
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
PATH = os.path.join(IMAGES, f"xchgd-{MACHINE}.tar")
BYTES_MAX = 3_000_000


def build(archive, context, containerfile="Containerfile", *more):
    """Run build.sh; return what it prints."""
    return run(os.path.join(FOLDER, "build.sh"), archive, MACHINE, os.path.join(FOLDER, containerfile), context, *more, limit=120)


class Contents(unittest.TestCase):
    def setUp(self):
        self.image = Image(PATH)

    def test_one_program_and_nothing_else(self):
        found = [(member.name, member.isreg(), oct(member.mode & 0o7777), member.uid, member.gid, member.mtime) for member in self.image.members()]
        self.assertEqual(found, [("xchgd", True, "0o755", 0, 0, 0)])

    def test_it_is_small(self):
        (program,) = self.image.members()
        self.assertLess(program.size, BYTES_MAX)
        self.assertLess(os.path.getsize(PATH), BYTES_MAX)

    def test_documented_sizes(self):
        self.assertEqual(table_faults([f"xchgd-{MACHINE}"]), [])

    def test_it_needs_no_other_file(self):
        with tempfile.TemporaryDirectory() as folder:
            self.image.unpack(folder)
            self.assertNotIn("NEEDED", run("readelf", "--dynamic", os.path.join(folder, "xchgd")))
            self.assertNotIn("INTERP", run("readelf", "--segments", "--wide", os.path.join(folder, "xchgd")))
            self.assertRegex(run(os.path.join(folder, "xchgd"), "--version"), r"xchgd \d+\.\d+\.\d+")

    def test_configuration(self):
        config = self.image.config
        self.assertEqual(config["User"], f"{USER}:{USER}")
        self.assertEqual(config["Entrypoint"], ["/xchgd"])
        self.assertEqual(list(config["ExposedPorts"]), ["7000/tcp"])
        self.assertEqual(config["StopSignal"], "SIGTERM")
        for unwanted in ("Healthcheck", "Shell", "Cmd", "Volumes"):
            self.assertNotIn(unwanted, config)
        self.assertFalse([name for name in config.get("Env", []) if name.startswith("XCHG_")])
        self.assertEqual((self.image.settings["os"], self.image.settings["architecture"]), ("linux", MACHINE))
        self.assertTrue(self.image.settings["created"].startswith("1970-01-01T00:00:00"))
        self.assertRegex(config["Labels"]["org.opencontainers.image.version"], r"^\d+\.\d+\.\d+$")

    def test_no_path_of_this_machine_is_in_it(self):
        text = b"".join(self.image.files.values()) + b"".join(layer.extractfile("xchgd").read() for layer in self.image.layers())
        for path in (TOP, BUILD, os.path.expanduser("~")):
            if len(path) > 5:
                self.assertNotIn(path.encode(), text)


class Reproducible(unittest.TestCase):
    """The digest depends on the bytes of the program and on the Containerfile alone."""

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        Image(PATH).unpack(self.folder)
        self.program = os.path.join(self.folder, "xchgd")
        self.archive = os.path.join(self.folder, f"xchgd-{MACHINE}.tar")

    def test_a_second_build_gives_the_same_digest(self):
        os.utime(self.program, (1_000_000_000, 1_000_000_000))
        os.chmod(self.program, 0o700)
        said = build(self.archive, self.folder)
        self.assertIn(Image(PATH).digest, said)
        self.assertEqual(Image(self.archive).digest, Image(PATH).digest)
        self.assertEqual(sorted(Image(self.archive).files), sorted(Image(PATH).files))

    def test_another_program_gives_another_digest(self):
        with open(self.program, "r+b") as program:
            program.seek(-1, os.SEEK_END)
            last = program.read(1)[0]
            program.seek(-1, os.SEEK_END)
            program.write(bytes([last ^ 1]))
        build(self.archive, self.folder)
        self.assertNotEqual(Image(self.archive).digest, Image(PATH).digest)

    def test_a_failed_build_leaves_nothing(self):
        os.unlink(self.program)
        failed = subprocess.run([os.path.join(FOLDER, "build.sh"), self.archive, MACHINE, os.path.join(FOLDER, "Containerfile"), self.folder],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
        self.assertNotEqual(failed.returncode, 0)
        self.assertFalse(os.path.exists(self.archive))
        self.assertFalse([name for name in os.listdir(self.folder) if name.startswith("storage")])


class Run(unittest.TestCase):
    """The files of the image as a container engine runs them."""

    wrap = staticmethod(as_user)

    def setUp(self):
        self.root = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.root)
        os.chmod(self.root, 0o755)
        self.image = Image(PATH)
        self.image.unpack(self.root)

    def contained(self, **variables):
        return Contained(self.root, self.image.entrypoint, self.wrap, **variables)

    def test_it_serves_as_the_first_process_and_ends_in_time(self):
        with self.contained(XCHG_LOG_LEVEL="info") as server:
            with server.connect() as client:
                greet(client)
            self.assertEqual(server.get("/readyz")[0], 200)
            self.assertEqual(server.get("/livez")[0], 200)
            self.assertIn(b"\nxchg_connections_accepted_total 1\n", server.get("/metrics")[2])
            begun = time.monotonic()
            totals = server.terminate(signal.SIGTERM)
            self.assertLess(time.monotonic() - begun, 5)
            self.assertEqual((totals["accepted"], totals["finished"]), (1, 1))

    def test_rights(self):
        with self.contained() as server:
            status = server.status()
            self.assertEqual(status["NSpid"].split()[-1], "1")
            for capabilities in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
                self.assertEqual(int(status[capabilities], 16), 0, capabilities)
            with open(f"/proc/{server.first}/mountinfo") as stream:
                options = {line.split()[4]: line.split()[5].split(",") for line in stream}
            self.assertIn("ro", options["/"])
            self.check_ids(server, status)
            server.terminate(signal.SIGTERM)

    def test_the_sandbox_is_in_force(self):
        """All that this kernel has, and the static program makes no other call than those of the table."""
        for value in ("auto", "trap"):
            with self.subTest(value), self.contained(XCHG_SANDBOX=value) as server:
                said = server.wait_line("sandbox")
                self.assertEqual((said["user"], said["seccomp"], said["caps"]), (str(USER), "pool", "0"))
                status = server.status()
                self.assertEqual((status["Seccomp"], status["NoNewPrivs"]), ("2", "1"))
                with server.connect() as client:
                    greet(client)
                self.assertEqual(server.get("/readyz")[0], 200)
                self.assertEqual(server.terminate(signal.SIGTERM)["finished"], 1)
                self.assertEqual(server.messages("sandbox"), [said])

    def check_ids(self, server, status):
        for kind in ("uid", "gid"):
            with open(f"/proc/{server.first}/{kind}_map") as stream:
                self.assertEqual(stream.read().split()[0], str(USER))
        self.assertEqual(status["Uid"].split(), [str(os.geteuid())] * 4)

    def test_a_drain_delay_keeps_serving(self):
        with self.contained(XCHG_DRAIN_DELAY="2s") as server:
            server.signal(signal.SIGTERM)
            server.wait_line("stopping")
            status, _, body = server.get("/readyz")
            self.assertEqual((status, body.strip()), (503, b"draining"))
            with server.connect() as client:
                greet(client)
            self.assertEqual(server.finish()["finished"], 1)

    def test_a_socket_file_needs_a_folder_in_memory(self):
        listen = "unix:/run/xchg/xchg.sock;mode=0666"
        with self.contained(memory=["/run/xchg"], XCHG_LISTEN=listen) as server:
            path = f"/proc/{server.first}/root/run/xchg/xchg.sock"
            with server.connect(address=f"unix:{path}") as client:
                greet(client)
            server.terminate(signal.SIGTERM)
        with self.contained(XCHG_LISTEN=listen, wait=False) as server:
            server.process.wait(20)
            self.assertNotEqual(server.process.returncode, 0)
            self.assertIn("Read-only file system", "\n".join(server.lines))


@unittest.skipUnless(os.geteuid() == 0, "only root can take the ids of another user")
class RunByRoot(Run):
    wrap = staticmethod(as_root)

    def check_ids(self, server, status):
        self.assertEqual((status["Uid"].split(), status["Gid"].split(), status["Groups"].split()), ([str(USER)] * 4, [str(USER)] * 4, []))
        self.assertEqual(status["NoNewPrivs"], "1")


@unittest.skipUnless(IMAGES == os.path.join(TOP, "build", "image"), "the page builds in build/")
@unittest.skipUnless(may_make_network(), "no network of its own can be made here")
class Page(unittest.TestCase):
    """The blocks of docs/deploy/image.md that need no registry and no engine."""

    def test_blocks(self):
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "XCHG"))}
        blocks = read_blocks(os.path.join(TOP, "docs", "deploy", "image.md"))
        self.assertTrue(blocks)
        with Terminal(TOP, environment, limit=200) as terminal:
            for command in sum(blocks, []):
                terminal.type(command)
