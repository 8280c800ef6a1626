// Drives Chromium for test_page.py: reads one JSON object a line from standard input, answers with one a line.
//   node browser.mjs CHROMIUM
// Requests: { do: NAME of an entry of `commands`, page: number, ... }.  Answers: { value: ... } or { error: "..." }.
import { createInterface } from "node:readline";
import puppeteer from "puppeteer-core";

const rights = process.getuid() === 0 ? ["--no-sandbox"] : []; // Chromium's sandbox refuses root
const browser = await puppeteer.launch({
  executablePath: process.argv[2], args: [...rights, "--disable-dev-shm-usage", "--force-color-profile=srgb"], protocolTimeout: 30_000,
});
const pages = [];

const commands = {
  async open({ url, scheme = "light", width = 1280, motion = "no-preference" }) {
    const page = await browser.newPage();
    const seen = { console: [], requests: [], failed: [] };
    page.on("console", (message) => seen.console.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => seen.console.push(`pageerror: ${error.message}`));
    page.on("request", (request) => seen.requests.push(request.url()));
    page.on("requestfailed", (request) => seen.failed.push(request.url()));
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }, { name: "prefers-reduced-motion", value: motion }]);
    await page.setViewport({ width, height: 800 });
    await page.goto(url, { timeout: 20_000 });
    return pages.push({ page, seen }) - 1;
  },
  // The value of an expression, in the page.
  async evaluate({ page, script }) {
    return (await pages[page].page.evaluate(script)) ?? null;
  },
  // Wait until an expression is true.  Asked from here, since the page's policy forbids what waitForFunction does.
  async wait({ page, script, limit }) {
    const end = performance.now() + limit * 1000;
    while (!(await pages[page].page.evaluate(script))) {
      if (performance.now() > end) throw new Error(`not within ${limit} s`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return true;
  },
  async press({ page, key }) {
    await pages[page].page.keyboard.press(key);
    return true;
  },
  async hover({ page, selector }) {
    await pages[page].page.hover(selector);
    return true;
  },
  async screenshot({ page, path }) {
    await pages[page].page.screenshot({ path, fullPage: true });
    return true;
  },
  // The page in front; the others are hidden.
  async front({ page }) {
    await pages[page].page.bringToFront();
    return true;
  },
  // What has happened since the last call.
  async seen({ page }) {
    const { seen } = pages[page];
    const now = structuredClone(seen);
    Object.values(seen).forEach((list) => list.splice(0));
    return now;
  },
  async close({ page }) {
    await pages[page].page.close();
    return true;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  let answer;
  try {
    answer = { value: await commands[request.do](request) };
  } catch (error) {
    answer = { error: String(error.message) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
