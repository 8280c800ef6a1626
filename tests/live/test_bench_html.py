"""Goal: the page of xchg-bench --html works in a real browser: light, dark, with its curves, without console messages.

Skipped if chromium is not installed.
"""

import os
import re
import shutil
import struct
import subprocess
import tempfile
import unittest
import zlib

from bench import bench
from clients import serve
from xchgd import SLOW

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--window-size=1240,3000", "--enable-logging=stderr")
SCHEMES = {"light": ("--blink-settings=preferredColorScheme=1",), "dark": ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")}
BACKGROUND = {"light": (0xfc, 0xfc, 0xfb), "dark": (0x15, 0x17, 0x1a)}
CURVES = {"light": ((0x1f, 0x6f, 0xd6), (0xd9, 0x73, 0x0d), (0x2b, 0x8a, 0x3e), (0xc2, 0x25, 0x5c)),
          "dark": ((0x6a, 0xa9, 0xff), (0xff, 0xb0, 0x61), (0x69, 0xdb, 0x7c), (0xff, 0x8f, 0xb3))}


def browse(folder, page, *options, scheme="light"):
    """Open a file with chromium. Returns its standard output and the console messages."""
    command = [CHROMIUM, *FLAGS, *SCHEMES[scheme], f"--user-data-dir={folder}/profile", *options, "file://" + page]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120 * SLOW)
    return ran.stdout, [line for line in ran.stderr.split("\n") if ":CONSOLE" in line]


def pixels(path):
    """The colours of a PNG with 8 bits a channel: {(r, g, b): count}."""
    with open(path, "rb") as stream:
        data = stream.read()
    at, packed = 8, b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + size]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
        elif kind == b"IDAT":
            packed += body
        at += size + 12
    assert depth == 8 and colour in (2, 6)
    channels = 3 if colour == 2 else 4
    stride, raw, counts = width * channels, zlib.decompress(packed), {}
    above = bytearray(stride)
    for y in range(height):
        start = y * (stride + 1)
        row = unfilter(raw[start], bytearray(raw[start + 1:start + 1 + stride]), above, channels)
        for x in range(0, stride, channels):
            rgb = bytes(row[x:x + 3])
            counts[rgb] = counts.get(rgb, 0) + 1
        above = row
    return {tuple(rgb): count for rgb, count in counts.items()}


def unfilter(kind, row, above, channels):
    """Undo a PNG row's filter (none, sub, up, average, Paeth)."""
    for i in range(len(row) if kind else 0):
        left = row[i - channels] if i >= channels else 0
        up, corner = above[i], above[i - channels] if i >= channels else 0
        if kind == 1:
            guess = left
        elif kind == 2:
            guess = up
        elif kind == 3:
            guess = (left + up) // 2
        else:
            estimate = left + up - corner
            guess = min((left, up, corner), key=lambda value: abs(estimate - value))
        row[i] = (row[i] + guess) & 255
    return row


@unittest.skipUnless(CHROMIUM, "chromium is not installed")
class Page(unittest.TestCase):

    """Goal: the page of --html renders in a browser, in light and dark."""

    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = cls.temporary.name
        cls.page = os.path.join(cls.folder, "page.html")
        with serve(XCHG_EXCHANGE="echo") as server:
            ran = bench("-x", "echo", "-R", 1000, "-d", "3s", "-L", "-U", "--pid", server.pid, "--html", cls.page, server.addresses[0])
            assert ran.returncode == 0, ran.stdout + ran.stderr

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def test_nothing_is_fetched(self):
        with open(self.page) as stream:
            text = stream.read()
        self.assertIsNone(re.search(r"https?://|src=|url\(|@import|<script", text))

    def test_the_charts_are_in_the_document_and_the_console_is_silent(self):
        dom, console = browse(self.folder, self.page, "--dump-dom")
        self.assertEqual(console, [])
        self.assertEqual(dom.count("<svg "), 5)
        self.assertEqual(dom.count("</svg>"), 5)
        for title in ("Latency by percentile", "Histogram of latency", "Latency over time", "Rate over time", "Errors over time"):
            self.assertIn(title, dom)
        self.assertNotRegex(dom.lower(), r"\bnan\b|\binf\b")

    def test_the_console_would_be_heard(self):
        page = os.path.join(self.folder, "loud.html")
        with open(page, "w") as stream:
            stream.write("<script>console.error('here')</script>")
        _, console = browse(self.folder, page, "--dump-dom")
        self.assertEqual(len(console), 1)

    def test_light_and_dark_show_the_curves(self):
        for scheme in SCHEMES:
            with self.subTest(scheme):
                path = os.path.join(self.folder, scheme + ".png")
                browse(self.folder, self.page, f"--screenshot={path}", scheme=scheme)
                seen = pixels(path)
                self.assertGreater(seen.get(BACKGROUND[scheme], 0), 100000)
                for curve in CURVES[scheme]:
                    self.assertGreater(seen.get(curve, 0), 50, (scheme, curve))
