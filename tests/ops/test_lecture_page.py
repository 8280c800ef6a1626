"""The page of make lecture in Chromium, from a made-up measurement."""

import os
import sys
import tempfile
import unittest

from ops import TOP
from test_page import CONTRAST, Browser

sys.path.insert(0, os.path.join(TOP, "tests", "live"))
from test_lecture import lecture_page, made_up  # noqa: E402

SMALLEST = "Math.min(...[...document.querySelectorAll('body *')].filter((node) => !node.closest('svg')).map((node) => parseFloat(getComputedStyle(node).fontSize)))"
# The height of the letters of a plot on the screen.
LETTERS = "Math.min(...[...document.querySelectorAll('figure svg text')].map((node) => node.getBoundingClientRect().height))"
# Texts of a plot that reach beyond it.
CUT_OFF = """[...document.querySelectorAll('figure svg text')].filter((node) => {
  const [own, plot] = [node.getBoundingClientRect(), node.ownerSVGElement.getBoundingClientRect()];
  return own.left < plot.left || own.right > plot.right || own.bottom > plot.bottom;
}).map((node) => node.textContent)"""
FOCUSED = "document.activeElement.tagName"


class Lecture(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.close)
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.url = "file://" + os.path.join(folder.name, "lecture.html")
        with open(os.path.join(folder.name, "lecture.html"), "w") as stream:
            stream.write(lecture_page.html(made_up([1, 3, 10, 30, 100, 300, 1000])))

    def evaluate(self, page, script):
        return self.browser.do("evaluate", page, script=script)

    def test_schemes_and_widths(self):
        """Readable, nothing beyond the edge, no message, no request but for the page itself."""
        for scheme in ("light", "dark"):
            for width in (1280, 320):
                with self.subTest(scheme=scheme, width=width):
                    page = self.browser.do("open", url=self.url, scheme=scheme, width=width)
                    self.assertLessEqual(self.evaluate(page, "document.documentElement.scrollWidth"), width)
                    self.assertGreaterEqual(self.evaluate(page, SMALLEST), 14)
                    self.assertGreaterEqual(self.evaluate(page, LETTERS), 10)
                    self.assertEqual(self.evaluate(page, CUT_OFF), [])
                    ratio, text = self.evaluate(page, f"({CONTRAST})()")
                    self.assertGreaterEqual(ratio, 4.5, f"the contrast of {text!r}")
                    seen = self.browser.do("seen", page)
                    self.assertEqual((seen["console"], seen["failed"]), ([], []))
                    self.assertEqual([url for url in seen["requests"] if not url.startswith("data:")], [self.url])
                    self.browser.do("close", page)

    def test_the_keyboard_opens_a_table(self):
        page = self.browser.do("open", url=self.url)
        for _ in range(20):  # the links and the first table come before it
            self.browser.do("press", page, key="Tab")
            if self.evaluate(page, FOCUSED) == "SUMMARY":
                break
        self.assertEqual(self.evaluate(page, FOCUSED), "SUMMARY")
        self.assertFalse(self.evaluate(page, "document.activeElement.parentElement.open"))
        self.browser.do("press", page, key="Enter")
        self.assertTrue(self.evaluate(page, "document.activeElement.parentElement.open"))
        self.browser.do("press", page, key="Tab")
        self.assertEqual(self.evaluate(page, "document.activeElement.getAttribute('role')"), "region")
        self.browser.do("close", page)
