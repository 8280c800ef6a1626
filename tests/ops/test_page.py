"""The operator's page in Chromium, against the real xchgd."""

import json
import os
import re
import signal
import subprocess
import unittest

from ops import FOLDER, LIMIT, PROGRAM_SECONDS, TOP, Load, Operated, Relay, greet, log_path, tool

SERVING = "document.getElementById('state').dataset.state === 'serving'"
STATE = "document.getElementById('state').textContent"
CHARTS = ["Open connections", "Accepts a second", "Messages a second", "Bytes a second", "Hand-off, since the start",
          "Ends before the finish, a second"]

# The lowest contrast of a text with what is behind it, as WCAG 2 computes it, and the text.
CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const color = parse(getComputedStyle(node).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  let lowest = [99, ""];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility() || node.closest("noscript, select, button")) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < lowest[0]) lowest = [ratio, node.textContent.trim()];
  }
  return lowest;
}"""


class Browser:
    """Chromium, driven by browser.mjs."""

    def __init__(self):
        with open(os.path.join(TOP, "tests", "ops", "browser.mjs")) as source, open(os.path.join(FOLDER, "browser.mjs"), "w") as copy:
            copy.write(source.read())  # node looks for packages next to the program
        self.log = open(log_path("chromium.log"), "wb")
        command = [tool("timeout"), "--foreground", "-k", "5", str(PROGRAM_SECONDS), tool("node"), os.path.join(FOLDER, "browser.mjs"),
                   tool("chromium")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)

    def do(self, what, page=None, **more):
        self.process.stdin.write(json.dumps({"do": what, "page": page, **more}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"the browser ended: see {self.log.name}")
        answer = json.loads(line)
        if "error" in answer:
            raise AssertionError(f"{what} {more}: {answer['error']}")
        return answer["value"]

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()
        self.log.close()


class Tab:
    """A page in the browser."""

    def __init__(self, browser, port, **more):
        self.browser, self.origin = browser, f"http://127.0.0.1:{port}/"
        self.number = browser.do("open", url=self.origin, **more)

    def __call__(self, script):
        return self.browser.do("evaluate", self.number, script=script)

    def wait(self, script, limit=LIMIT):
        self.browser.do("wait", self.number, script=script, limit=limit)

    def press(self, *keys):
        for key in keys:
            self.browser.do("press", self.number, key=key)

    def seen(self):
        return self.browser.do("seen", self.number)

    def samples(self):
        return self("samples.length")

    def wait_samples(self, more):
        self.wait(f"samples.length >= {self.samples() + more}", LIMIT)

    def table(self, name):
        """The rows of a table: {first cell: [other cells]}."""
        rows = self(f"[...document.getElementById('{name}').tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent))")
        return {row[0]: row[1:] for row in rows}

    def screenshot(self, name):
        self.browser.do("screenshot", self.number, path=log_path(f"page-{name}.png"))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.browser.do("close", self.number)


class PageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.close)

    def tab(self, port, **more):
        return Tab(self.browser, port, **more)


class Files(PageTest):
    """What the server sends is what docs/page has, with the headers that keep a browser from anything else."""

    def test_are_those_of_the_sources(self):
        with open(os.path.join(TOP, "pool", "page.h")) as header:
            policy = "".join(re.findall(r'"([^"]*)"', header.read().split("PAGE_SECURITY_POLICY")[1].split("extern")[0]))
        size = 0
        with Operated() as server:
            for path, name, kind in (("/", "index.html", "text/html"), ("/page.js", "page.js", "text/javascript"), ("/page.css", "page.css", "text/css")):
                with open(os.path.join(TOP, "docs", "page", name), "rb") as source:
                    expected = source.read()
                for ask in (server.get, server.ask):
                    status, headers, body = ask(path)
                    self.assertEqual((status, body), (200, expected))
                    self.assertEqual(headers["Content-Type"], f"{kind}; charset=utf-8")
                    self.assertEqual(headers["Content-Security-Policy"], policy)
                    self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
                    self.assertEqual(headers["Cache-Control"], "no-store")
                size += len(expected)
        self.assertLessEqual(size, 40 * 1024)

    def test_name_no_other_origin(self):
        for name in os.listdir(os.path.join(TOP, "docs", "page")):
            with open(os.path.join(TOP, "docs", "page", name)) as source:
                text = source.read().replace("http://www.w3.org/2000/svg", "")
            self.assertNotRegex(text, r"(?i)https?:|//[a-z]+\.|@import|url\(|innerHTML|outerHTML|insertAdjacent|document\.write|eval\(")
            self.assertNotRegex(text, r"(?i)\b(animation|transition|setInterval|requestAnimationFrame)\b")  # nothing moves


class Looks(PageTest):
    """Both colour schemes, wide and narrow: readable, nothing beyond the edge, no error, no foreign request."""

    def test_schemes_and_widths(self):
        with Operated(XCHG_WORKERS=4, XCHG_EXCHANGE="echo", XCHG_MESSAGES=50,
                      XCHG_LISTEN="127.0.0.1:0,127.0.0.1:0") as server, Relay(server.admin_path) as relay:
            with Load(server.addresses[0], "-x", "echo", "-c", "24", "--messages", "50", "-R", "4000", "-d", "100s", log="page-load"):
                for scheme, width in (("light", 1280), ("light", 320), ("dark", 1280), ("dark", 320)):
                    with self.subTest(scheme=scheme, width=width), self.tab(relay.port, scheme=scheme, width=width) as tab:
                        self.look_at(tab, scheme, width)

    def look_at(self, tab, scheme, width):
        tab.wait(f"{SERVING} && samples.length >= 8 && !document.getElementById('top').hidden", 40)
        self.assertLessEqual(tab("document.documentElement.scrollWidth"), width)
        self.assertGreaterEqual(tab("Math.min(...[...document.querySelectorAll('body *')].map((node) => parseFloat(getComputedStyle(node).fontSize)))"), 12)
        ratio, text = tab(f"({CONTRAST})()")
        self.assertGreaterEqual(ratio, 4.5, f"the contrast of {text!r}")
        back = [int(n) for n in re.findall(r"\d+", tab("getComputedStyle(document.body).backgroundColor"))[:3]]
        self.assertTrue(min(back) > 200 if scheme == "light" else max(back) < 60, back)
        self.assertEqual(tab("document.getAnimations().length"), 0)
        self.assertEqual(tab("[...document.querySelectorAll('figcaption')].map((node) => node.textContent)"), CHARTS)
        # Two lines of a chart differ in more than their colour, and each has its name beside it.
        self.assertEqual(tab("[...new Set([...document.querySelectorAll('.plot .line-1')].map((node) => getComputedStyle(node).strokeDasharray))]"),
                         ["5px, 4px"])
        self.assertEqual(tab("[...document.querySelectorAll('.plot .line-0')].filter((node) => getComputedStyle(node).strokeDasharray !== 'none').length"), 0)
        tab.screenshot(f"{scheme}-{width}")
        seen = tab.seen()
        self.assertEqual(seen["console"], [])
        self.assertEqual(seen["failed"], [])
        self.assertEqual({url[:len(tab.origin)] for url in seen["requests"]}, {tab.origin})

    def test_motion_is_not_needed(self):
        with Operated() as server, self.tab(server.admin_port, motion="reduce") as tab:
            tab.wait(f"{SERVING} && samples.length >= 3")
            self.assertEqual(tab("document.getAnimations().length"), 0)


class Numbers(PageTest):
    """What the page shows is what happened."""

    def load(self, server, count):
        with Load(server.addresses[0], "-n", count, "-c", 4, log="page-numbers") as load:
            report = load.finish()
        self.assertEqual(report["exchanges"], count)
        return report

    def test_are_those_of_the_server(self):
        with Operated(XCHG_WORKERS=2) as server:
            self.load(server, 200)
            with self.tab(server.admin_port) as tab:
                tab.wait(f"{SERVING} && samples.length >= 2")
                report = self.load(server, 500)
                tab.wait("document.querySelector('#ends td:last-child').textContent === '700'")
                tab.wait_samples(1)
                stats = server.json()
                self.assertEqual(tab.table("ends")["finished"], ["100 %", "500", "700"])
                self.assertEqual(list(tab.table("ends")), ["finished", *stats["closed"]])
                self.assertEqual(tab.table("listeners")[server.addresses[0]][1], "700")
                self.assertEqual(list(tab.table("workers")), ["0", "1"])
                self.assertIn(f"greet, pool, process {server.pid}, up ", tab("document.getElementById('facts').textContent"))
                self.assertEqual(tab("document.getElementById('version').textContent"), stats["version"])
                self.assertRegex(tab("document.querySelectorAll('figure')[0].getAttribute('aria-label')"), r"^Open connections: 0 of [\d,]+; ")
                # What the lines of rates enclose is what was counted.
                for chart, line, expected in ((1, 0, 500), (2, 0, 500), (3, 0, report["bytes_out"]), (3, 1, report["bytes_in"]), (5, 0, 0)):
                    area = tab(f"samples.slice(1).reduce((sum, to, i) => sum + CHARTS[{chart}].lines[{line}].value(samples[i], to)"
                               " * (to.stats.uptime_ms - samples[i].stats.uptime_ms) / 1000, 0)")
                    self.assertAlmostEqual(area, expected, 3, f"{CHARTS[chart]}, line {line}")

    def test_top_connections_are_for_a_unix_socket(self):
        with Operated(XCHG_EXCHANGE="echo") as server, Relay(server.admin_path) as relay:
            clients = [server.connect() for _ in range(25)]
            for number, client in enumerate(clients):
                client.sendall(b"x" * (100 * number) + b"\n")
            with self.tab(server.admin_port) as tab:  # TCP
                tab.wait("samples.length >= 3")
                self.assertTrue(tab("document.getElementById('top').hidden"))
                seen = tab.seen()
                self.assertEqual(seen["console"], [])
                self.assertFalse([url for url in seen["requests"] if "/connections" in url])
            with self.tab(relay.port) as tab:
                tab.wait("document.getElementById('connections').tBodies[0].rows.length === 20")
                self.assertIn("of 25", tab("document.getElementById('seen').textContent"))
                tab("document.getElementById('sort').focus()")
                tab.press("b")  # the first choice that begins like this: bytes in
                peer = "127.0.0.1:%d" % clients[-1].getsockname()[1]
                tab.wait(f"document.querySelector('#connections tbody th').textContent === '{peer}'")
                self.assertEqual(tab.seen()["console"], [])
            for client in clients:
                client.close()

    def test_texts_of_the_server_stay_texts(self):
        evil = "<img src=x onerror=alert(1)>"

        def spoil(answer):
            return re.sub(rb'("version": ?")', rb'\1' + evil.encode(), answer) if b"application/json" in answer else answer

        def without_length(answer):
            return re.sub(rb"(?i)\r\ncontent-length:[^\r]*", b"", spoil(answer), count=1)

        with Operated() as server, Relay(server.admin_path, reply=without_length) as relay, self.tab(relay.port) as tab:
            tab.wait(f"document.getElementById('version').textContent.includes('{evil}')")
            self.assertEqual(tab("document.querySelectorAll('img').length"), 0)
            self.assertEqual(tab.seen()["console"], [])


class Keyboard(PageTest):
    """Everything can be done without a pointer, and the focus can be seen."""

    def test_charts_are_read_and_polling_is_paused(self):
        with Operated() as server, Relay(server.admin_path) as relay, self.tab(relay.port) as tab:
            tab.wait(f"{SERVING} && samples.length >= 3 && !document.getElementById('top').hidden")
            order = []
            for _ in range(12):
                tab.press("Tab")
                order.append(tab("document.activeElement.id || document.activeElement.tagName.toLowerCase()"))
                self.assertNotEqual(tab("getComputedStyle(document.activeElement).outlineStyle"), "none", order)
            self.assertEqual(order, ["pause", *["figure"] * 6, *["div"] * 3, "sort", "div"])

            tab("document.querySelector('figure').focus()")
            tab.press("ArrowLeft")
            self.assertRegex(tab("document.getElementById('reading').textContent"), r"^values at \d\d:\d\d:\d\d$")
            self.assertRegex(tab("document.getElementById('spoken').textContent"), r"^\d\d:\d\d:\d\d: 0 of [\d,]+$")
            self.assertEqual(tab("document.querySelectorAll('.cursor[visibility=visible]').length"), 6)
            tab.press("Home")
            self.assertTrue(tab("cursor === samples[0]"))
            tab.press("Escape")
            self.assertEqual(tab("document.querySelectorAll('.cursor[visibility=visible]').length"), 0)
            self.browser.do("hover", tab.number, selector="figure:nth-child(2) .plot")
            self.assertEqual(tab("document.querySelectorAll('.cursor[visibility=visible]').length"), 6)

            tab("document.getElementById('pause').focus()")
            tab.press("Space")
            self.assertEqual(tab("document.getElementById('pause').getAttribute('aria-pressed')"), "true")
            self.assertIn("paused at", tab(STATE))
            tab.wait("!polling")
            tab.seen()
            tab("new Promise((resolve) => setTimeout(resolve, 2500))")  # two polls long: there must be none
            self.assertEqual(tab.seen()["requests"], [])
            tab.press("Space")
            tab.wait_samples(2)
            self.assertEqual(tab.seen()["console"], [])


class Away(PageTest):
    """A server that stops, comes back, hangs or drains."""

    def test_gap_while_the_server_is_away(self):
        with Operated() as server, self.tab(server.admin_port) as tab:
            with server.connect() as client:
                greet(client)  # so that there is a time of a hand-off
            tab.wait(f"{SERVING} && samples.length >= 4")
            self.assertEqual(tab.seen()["console"], [])
            port, pid = server.admin_port, server.pid
            server.stop()
            tab.wait("document.getElementById('state').dataset.state === 'away'")
            self.assertRegex(tab(STATE), r"no answer since \d\d:\d\d:\d\d")
            tab.wait("samples.filter((sample) => !sample.stats).length >= 2")
            tab.screenshot("away")
            with Operated(admin_port=port) as again:
                with again.connect() as client:
                    greet(client)
                tab.wait(f"{SERVING} && samples.filter((sample) => sample.stats && sample.stats.pid === {again.pid}).length >= 3")
                self.assertNotEqual(again.pid, pid)
                for chart in range(6):
                    path = tab(f"document.querySelectorAll('.plot .line-0')[{chart}].getAttribute('d')")
                    self.assertEqual(path.count("M"), 2, f"{CHARTS[chart]}: {path}")
                tab.screenshot("gap")
                # Requests that no server took are the only complaint.
                self.assertEqual([text for text in tab.seen()["console"] if "ERR_CONNECTION_REFUSED" not in text], [])

    def test_a_server_that_hangs_is_away(self):
        with Operated() as server, self.tab(server.admin_port) as tab:
            tab.wait(f"{SERVING} && samples.length >= 2")
            server.pause()
            tab.wait("document.getElementById('state').dataset.state === 'away'")
            server.resume()
            tab.wait(SERVING)

    def test_a_drain_is_shown(self):
        with Operated(XCHG_DRAIN_DELAY="30s") as server, self.tab(server.admin_port) as tab:
            tab.wait(f"{SERVING} && samples.length >= 2")
            server.process.send_signal(signal.SIGTERM)
            tab.wait("document.getElementById('state').dataset.state === 'draining'")
            self.assertIn("draining, not ready", tab(STATE))
            self.assertIn("draining", tab("document.title"))
            tab.screenshot("draining")
            server.stop(expect=1)  # the second signal ends the delay at once

    def test_a_hidden_page_asks_nothing(self):
        with Operated() as server, self.tab(server.admin_port) as tab:
            tab.wait(f"{SERVING} && samples.length >= 2")
            with self.tab(server.admin_port) as other:
                self.browser.do("front", other.number)
                other.wait("samples.length >= 2")
                tab.wait("document.hidden && !polling")
                tab.seen()
                other.wait_samples(3)
                self.assertEqual(tab.seen()["requests"], [])
            self.browser.do("front", tab.number)
            tab.wait_samples(2)


if __name__ == "__main__":
    unittest.main()
