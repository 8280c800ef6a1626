"""Goal: what the pages of docs/deploy tell operators to type works, and what cannot be typed here is listed with a reason.

Each fenced block is of one kind:

    sh, bash     commands. The blocks of a page in PAGES are typed in a shell, one after the other, with an empty home directory and a
                 network of their own. Every other one stands in NOT_TYPED with the reason.
    console      commands with their output. The test in CONSOLES types those of the page.
    others       contents of files (DATA), which the tests of their own check

A block that is neither typed nor listed is a failure, and so is an entry of a list without its block. Pages of the lists that do not
exist are no failure.
"""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

from ops import LIMIT, TOP, log_path

import test_balancer
import test_rolling
from balancer import OpenLoad, read_config
from doc_blocks import NETWORK, may_make_network
from xchgd import PROGRAM, environment

PAGES_FOLDER = os.path.join(TOP, "docs", "deploy")
SECONDS = 150
BUILDER, USER = "builder", "user"

# Who types each block, and what its output must contain. A user has no rights: if the tests run as root, it is 65534.
PAGES = {
    "by-hand.md": [(BUILDER, []), (USER, ["ok\n"]), (USER, ["Message from server"]), (USER, ["msg=stopped accepted=1 finished=1 "]),
                   (USER, ["Message from server"])],
    "balancer.md": [(USER, ["ok\nok\n"]), (USER, ["1200 requests in", "msg=stopped"]), (USER, ["Message from server"])],
    "nats.md": [(USER, []), (USER, ["* which room?", "hello from the other server"])],
}

MANAGER = "needs systemd as process 1"
NOT_TYPED = {
    # page: {beginning of the block: reason}
    "balancer.md": {"install -m 644 docs/deploy/haproxy.cfg /etc/haproxy/haproxy.cfg": MANAGER},
    "systemd.md": {"": MANAGER},  # all blocks; tests/ops checks the units themselves
    "image.md": {"skopeo copy": "needs a registry", "buildah manifest create": "needs a registry", "podman load": "containers cannot run here",
                 "podman run": "containers cannot run here", "mkdir context": "needs a registry for the base image"},
    "kubernetes.md": {"": "needs a cluster"},
    "debian.md": {"": MANAGER},
}
# Which test types the console blocks of a page.
CONSOLES = {"debian.md": "tests/release/test_debian.py", "image.md": "tests/ops/test_image.py", "kubernetes.md": "tests/ops/test_manifests.py"}
DATA = {"", "ini", "yaml", "dockerfile", "json", "text", "conf", "c"}


def blocks(page):
    """(language, text) of each fenced block."""
    with open(os.path.join(PAGES_FOLDER, page), encoding="utf-8") as stream:
        return re.findall(r"^```(\w*)[^\n]*\n(.*?)^```$", stream.read(), re.M | re.S)


def pages():
    return sorted(name for name in os.listdir(PAGES_FOLDER) if name.endswith(".md"))


def commands(page):
    return [text for language, text in blocks(page) if language in ("sh", "bash")]


def is_listed(page, text):
    return any(text.startswith(beginning) for beginning in NOT_TYPED.get(page, {}))


def typed(page):
    return [text for text in commands(page) if not is_listed(page, text)]


class Lists(unittest.TestCase):
    """The lists above are complete."""

    def test_every_block(self):
        for page in pages():
            for language, text in blocks(page):
                with self.subTest(page=page, block=text[:60]):
                    if language == "console":
                        self.assertIn(page, CONSOLES, "a console block that no test types")
                        with open(os.path.join(TOP, CONSOLES[page]), encoding="utf-8") as stream:
                            self.assertIn(page, stream.read())
                    elif language in ("sh", "bash"):
                        self.assertTrue(page in PAGES or is_listed(page, text), "a block that is neither typed nor listed")
                    else:
                        self.assertIn(language, DATA, "a kind of block that this test does not know")
            if page in PAGES:
                self.assertEqual(len(typed(page)), len(PAGES[page]), page)

    def test_no_stale_entry(self):
        for page, entries in NOT_TYPED.items():
            for beginning in entries if page in pages() else ():
                self.assertTrue(any(text.startswith(beginning) for _, text in blocks(page)), f"{page} has no block {beginning!r}")

    def test_index(self):
        """README.md names each page and each configuration, and every link in the pages leads to a file."""
        for page in pages():
            with open(os.path.join(PAGES_FOLDER, page), encoding="utf-8") as stream:
                text = stream.read()
            for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
                if not (page == "README.md" and link in NOT_TYPED):  # a page that another change adds
                    self.assertTrue(os.path.exists(os.path.join(PAGES_FOLDER, link)), f"{page}: {link}")
            if page == "README.md":
                for name in pages() + [name for name in os.listdir(PAGES_FOLDER) if name.endswith((".cfg", ".conf", ".yml", ".json"))]:
                    self.assertTrue(name == page or f"]({name})" in text, f"README.md does not name {name}")

    def test_limits_of_the_bridge(self):
        """nats.md has the limits of the source."""
        with open(os.path.join(TOP, "docs", "examples", "nats_bridge.c"), encoding="utf-8") as stream:
            source = stream.read()
        with open(os.path.join(PAGES_FOLDER, "nats.md"), encoding="utf-8") as stream:
            page = " ".join(stream.read().split())

        def constant(name):
            return int(re.search(rf"\b{name} = (\d+)", source).group(1))

        mebibytes = {name: int(re.search(rf"{name} \(\(size_t\)(.*) \* 1024\)", source).group(1).replace(" ", "").split("*")[0])
                     for name in ("QUEUE_MAX_BYTES", "PAYLOAD_MAX_BYTES")}
        if "PAYLOAD_MAX_BYTES ((size_t)1024 * 1024)" in source:
            mebibytes["PAYLOAD_MAX_BYTES"] = 1
        for text in (f"{mebibytes['QUEUE_MAX_BYTES']} MiB are queued", f"at most {mebibytes['PAYLOAD_MAX_BYTES']} MiB, is refused",
                     f"up to {constant('HUBS_MAX')} NATS servers", f"PING every {constant('PING_MS') // 1000} s",
                     f"after {constant('PINGS_MAX')} without an answer", f"{constant('BACK_OFF_MAX_MS') // 1000} s at most",
                     f"{constant('LEAVE_MS') // 1000} s at most |"):
            self.assertIn(text, page)
        lines = source.count("\n")
        self.assertIn(f"about {round(lines, -2)} lines of C", page)

    def test_figures_of_the_balancer(self):
        """balancer.md says what the tests do, and what the configurations say."""
        with open(os.path.join(PAGES_FOLDER, "balancer.md"), encoding="utf-8") as stream:
            page = " ".join(stream.read().split())
        self.assertEqual(test_rolling.ROUNDS, test_balancer.ROUNDS)
        self.assertIn(f"restarts each of two servers {('one', 'two', 'three', 'four', 'five')[test_rolling.ROUNDS - 1]} times under "
                      f"{OpenLoad.RATE} exchanges a second", page)
        connect = {re.search(rf"{word}\s+(\d+)ms", read_config(name)).group(1)
                   for name, word in (("haproxy.cfg", "timeout connect"), ("nginx.conf", "proxy_connect_timeout"))}
        self.assertEqual(connect, set(re.findall(r"wait `timeout connect` \((\d+) ms\)", page)))

    def test_times_of_the_balancers(self):
        """Every file waits longer than XCHG_IDLE_TIMEOUT, and HAProxy finds a 503 within the shortest drain delay that is recommended."""
        said = subprocess.run([PROGRAM, "--help"], stdout=subprocess.PIPE, text=True, timeout=LIMIT, check=True).stdout
        idle = int(re.search(r"XCHG_IDLE_TIMEOUT +default: (\d+)s$", said, re.M).group(1))
        for name, words in (("haproxy.cfg", ("timeout client", "timeout server")), ("nginx.conf", ("proxy_timeout",)),
                            ("stunnel.conf", ("TIMEOUTidle =",))):
            for word in words:
                with self.subTest(file=name, word=word):
                    self.assertGreater(int(re.search(rf"^ *{word} (\d+)s?;?$", read_config(name), re.M).group(1)), idle)
        config = read_config("haproxy.cfg")
        every, fall = map(int, re.search(r"inter (\d+)s fall (\d+) ", config).groups())
        notice = every * fall + int(re.search(r"timeout check (\d+)ms", config).group(1)) / 1000
        with open(os.path.join(PAGES_FOLDER, "balancer.md"), encoding="utf-8") as stream:
            for delay in (*re.findall(r"XCHG_DRAIN_DELAY=(\d+)s", stream.read()), *re.findall(r"XCHG_DRAIN_DELAY=(\d+)s", config)):
                self.assertGreaterEqual(int(delay), notice)


@unittest.skipUnless(os.environ.get("XCHGD_VARIANT", "release") == "release" and os.path.dirname(os.path.abspath(PROGRAM)) == os.path.join(TOP, "build"),
                     "the pages build and run the release build")
@unittest.skipUnless(may_make_network(), "no network of its own can be made here")
class Typed(unittest.TestCase):
    def shell(self, page, home, first, texts):
        """Run the blocks in one shell of the user, after ${first} in one of the builder. Every failure ends it."""
        mark = "end of block %d"
        script = "\n".join(f"{text}\necho '{mark % number}'" for number, text in enumerate(texts))
        user = f"setpriv --reuid=65534 --regid=65534 --clear-groups {shutil.which('bash')}" if os.geteuid() == 0 else "bash"
        paths = [os.path.join(home, name) for name in ("builder.sh", "user.sh")]
        for path, text in zip(paths, (first, script)):
            with open(path, "w", encoding="utf-8") as out:
                out.write(text)
        if os.geteuid() == 0:
            os.chmod(home, 0o755)
            os.chown(home, 65534, 65534)
        flags = re.sub(r"(^|\s)(-j\d*|--jobserver-\S+|--jobs\S*)", " ", os.environ.get("MAKEFLAGS", ""))
        variables = environment(HOME=home, MAKEFLAGS=flags, MAKELEVEL=None)
        command = [*NETWORK, "sh", "-c", f"bash -euo pipefail {paths[0]} && exec {user} -euo pipefail {paths[1]}"]
        with tempfile.TemporaryFile() as out:
            limited = ["timeout", "-k", "5", str(SECONDS), *command]
            ran = subprocess.run(limited, cwd=TOP, env=variables, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, check=False,
                                 timeout=SECONDS + LIMIT)
            out.seek(0)
            said = out.read().decode(errors="replace").replace("\0", "")
        with open(log_path(f"typed-{page}.txt"), "w", encoding="utf-8") as log:
            log.write(said)
        self.assertEqual(ran.returncode, 0, f"{page}:\n{said[-3000:]}")
        return re.split("|".join(mark % number for number in range(len(texts))), said)

    def type_page(self, page):
        texts = typed(page)
        builder = sum(who == BUILDER for who, _ in PAGES[page])
        with tempfile.TemporaryDirectory() as home:
            first = "\n".join(texts[:builder])
            said = self.shell(page, home, first, texts[builder:])
        for (_, expected), output in zip(PAGES[page][builder:], said):
            for text in expected:
                self.assertIn(text, output)

    def test_by_hand(self):
        self.type_page("by-hand.md")

    def test_balancer(self):
        self.type_page("balancer.md")

    def test_nats(self):
        self.type_page("nats.md")


if __name__ == "__main__":
    unittest.main()
