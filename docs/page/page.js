/*
 * The page of the admin endpoint: requests /stats once a second while it is visible, and keeps the
 * samples of five minutes.
 *
 * A sample is { t, at, stats }: the browser's monotonic clock in ms, the time of day, and the
 * response, or null if there was none.  Rates are computed from two consecutive samples of one
 * process.  Lines have a gap where a sample is missing, where the page was hidden, and at a restart.
 * Texts of the server enter the document as textContent only.
 */
"use strict";

const WINDOW_MS = 300000; // what the charts show
const POLL_MS = 1000;
const GIVE_UP_MS = 3000; // a later response is ignored
const GAP_MS = 4000; // samples further apart are not joined; above GIVE_UP_MS
const SHARE_MS = 10000; // the period of shares, busy times and rates in tables
const TOP_MS = 2000;
const TOP_COUNT = 20;
const STALLED_MS = 1000; // a turn that lasts longer gets a notice
const WIDTH = 300;
const HEIGHT = 64;

const samples = [];
const charts = [];
let paused = false;
let cursor = null; // the sample that a reader looks at; null: the newest
let timer = 0;
let polling = false;
let awaySince = null;
let firstVersion = null;
let topLast = 0;
let topAsking = false;

const $ = (id) => document.getElementById(id);

/* ---- texts ---- */

const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

function scaled(value, step, units) {
  let i = 0;
  while (value >= step && i < units.length - 1) {
    value /= step;
    i++;
  }
  const digits = value >= 100 || (i === 0 && Number.isInteger(value)) ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)}${units[i] ? " " + units[i] : ""}`;
}

const known = (format) => (value) => (Number.isFinite(value) ? format(value) : "\u2013");
const count = known((value) => grouped.format(value));
const rate = known((value) => (value >= 100000 ? scaled(value, 1000, ["", "k", "M", "G"]) : value >= 10 || Number.isInteger(value) ? grouped.format(value) : value.toFixed(1)));
const bytes = known((value) => scaled(value, 1000, ["B", "kB", "MB", "GB", "TB"]));
const nanoseconds = known((value) => scaled(value, 1000, ["ns", "us", "ms", "s"]));
const percent = known((value) => `${(100 * value).toFixed(value < 0.0995 && value > 0 ? 1 : 0)} %`);

const duration = known((ms) => {
  const s = Math.floor(ms / 1000);
  if (s < 1) {
    return `${Math.round(ms)} ms`;
  }
  const parts = [[Math.floor(s / 86400), "d"], [Math.floor(s / 3600) % 24, "h"], [Math.floor(s / 60) % 60, "min"], [s % 60, "s"]];
  const first = parts.findIndex(([n]) => n > 0);
  return parts.slice(first, first + 2).map(([n, unit]) => `${n} ${unit}`).join(" ");
});

const clock = (date) => date.toTimeString().slice(0, 8);

function setText(node, text) {
  if (node.textContent !== text) {
    node.textContent = text;
  }
}

/* ---- what the samples say ---- */

/** True if both are answers of one process, the first one earlier. */
function sameRun(from, to) {
  return Boolean(from && to && from.stats && to.stats && from.stats.pid === to.stats.pid && to.stats.uptime_ms > from.stats.uptime_ms);
}

/** How much `field` of two samples grew in a second. NaN: not known. */
function perSecond(from, to, field) {
  if (!sameRun(from, to)) {
    return NaN;
  }
  return ((field(to.stats) - field(from.stats)) * 1000) / (to.stats.uptime_ms - from.stats.uptime_ms);
}

/** The oldest sample of the last one's process that is at most `ms` old. */
function base(ms) {
  const last = samples[samples.length - 1];
  return samples.find((sample) => last.t - sample.t <= ms && sameRun(sample, last)) || null;
}

const sum = (object) => Object.values(object || {}).reduce((total, n) => total + n, 0);
const grown = (field) => (from, to) => (to.t - from.t <= GAP_MS ? perSecond(from, to, field) : NaN);
const now = (field) => (_, to) => (to.stats ? field(to.stats) : NaN);
const quantile = (stats, name) => (stats.handoff_ns && stats.handoff_ns[name]) || NaN; // 0: there was no connection yet

const CHARTS = [
  { title: "Open connections", format: count, lines: [{ name: "open", value: now((s) => s.open) }], limit: (s) => s.limit },
  { title: "Accepts a second", format: rate, lines: [{ name: "accepts", value: grown((s) => s.accepted) }] },
  { title: "Messages a second", format: rate, lines: [{ name: "messages", value: grown((s) => s.messages) }] },
  {
    title: "Bytes a second", format: bytes,
    lines: [{ name: "in", value: grown((s) => s.bytes_in) }, { name: "out", value: grown((s) => s.bytes_out) }],
  },
  {
    title: "Hand-off, since the start", format: nanoseconds,
    lines: [{ name: "p50", value: now((s) => quantile(s, "p50")) }, { name: "p99", value: now((s) => quantile(s, "p99")) }],
  },
  { title: "Ends before the finish, a second", format: rate, lines: [{ name: "ends", value: grown((s) => sum(s.closed)) }] },
];

/* ---- charts ---- */

function element(name, attributes, ...children) {
  const svg = ["svg", "path", "line", "rect"].includes(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function makeChart(plan) {
  const chart = { plan, paths: [], values: [], top: element("span", { class: "top" }) };
  const keys = element("p", { class: "keys" });
  chart.cursor = element("line", { class: "cursor", y1: 0, y2: HEIGHT, visibility: "hidden" });
  const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    element("line", { class: "axis", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }), element("line", { class: "grid", x1: 0, x2: WIDTH, y1: 0, y2: 0 }));
  plan.lines.forEach((line, i) => {
    chart.paths[i] = element("path", { class: `line line-${i}` });
    chart.values[i] = element("strong", {}, "\u2013");
    const sample = element("svg", { class: "key", viewBox: "0 0 24 8", "aria-hidden": "true" }, element("path", { class: `line line-${i}`, d: "M1 4H23" }));
    keys.append(element("span", {}, ...(plan.lines.length > 1 ? [sample, ` ${line.name} `] : []), chart.values[i]), " ");
  });
  chart.note = element("span", { class: "note" });
  keys.append(chart.note);
  svg.append(...chart.paths, chart.cursor);
  chart.figure = element("figure", { tabindex: 0, role: "img", "aria-label": plan.title }, element("figcaption", {}, plan.title), keys,
    element("div", { class: "plot" }, svg, chart.top), element("p", { class: "time" }, element("span", {}, "5 min ago"), element("span", {}, "now")));
  if (plan.limit) {
    chart.bar = bar();
    chart.figure.insertBefore(chart.bar, chart.figure.children[2]);
  }
  chart.figure.addEventListener("keydown", onKey);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    look(nearest(newestTime() - WINDOW_MS * (1 - (event.clientX - box.left) / box.width)));
  });
  svg.addEventListener("pointerleave", () => look(null));
  chart.figure.addEventListener("blur", () => look(null));
  return chart;
}

const newestTime = () => (samples.length ? samples[samples.length - 1].t : performance.now());

/** The least of 1, 2, 5, 10, 20, 50, ... that is at least `value`. */
function ceiling(value) {
  if (!(value > 0)) {
    return 1;
  }
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((n) => n * power >= value) * power;
}

function drawChart(chart) {
  const end = newestTime();
  const values = chart.plan.lines.map((line) => samples.map((to, i) => line.value(samples[i - 1] || to, to)));
  const highest = Math.max(0, ...values.flat().filter(Number.isFinite));
  const top = ceiling(highest);
  values.forEach((series, i) => {
    let d = "";
    let last = -Infinity;
    series.forEach((value, k) => {
      if (!Number.isFinite(value)) {
        last = -Infinity;
        return;
      }
      const t = samples[k].t;
      const x = (WIDTH * (1 - (end - t) / WINDOW_MS)).toFixed(1);
      const y = (HEIGHT * (1 - value / top)).toFixed(1);
      const joined = t - last <= GAP_MS && sameRun(samples[k - 1], samples[k]);
      d += joined ? `L${x} ${y}` : `M${x} ${y}h.1`; // a point alone is a dot
      last = t;
    });
    chart.paths[i].setAttribute("d", d);
  });
  setText(chart.top, chart.plan.format(top));
  showValues(chart, values, highest);
}

function showValues(chart, values, highest) {
  const at = cursor ? samples.indexOf(cursor) : samples.length - 1;
  const shown = values.map((series) => chart.plan.format(series[at]));
  shown.forEach((text, i) => setText(chart.values[i], text));
  const limit = chart.plan.limit && samples[at] && samples[at].stats ? chart.plan.limit(samples[at].stats) : NaN;
  const of = Number.isFinite(limit) ? `of ${count(limit)}` : "";
  setText(chart.note, of);
  if (chart.bar) {
    setBar(chart.bar, limit > 0 ? values[0][at] / limit : 0);
  }
  const named = chart.plan.lines.map((line, i) => (shown.length > 1 ? `${line.name} ${shown[i]}` : shown[i])).join(", ");
  chart.reading = `${named} ${of}`.trim();
  chart.figure.setAttribute("aria-label", `${chart.plan.title}: ${chart.reading}; highest of 5 minutes ${chart.plan.format(highest)}`);
  chart.cursor.setAttribute("visibility", cursor ? "visible" : "hidden");
  if (cursor) {
    const x = WIDTH * (1 - (newestTime() - cursor.t) / WINDOW_MS);
    chart.cursor.setAttribute("x1", x);
    chart.cursor.setAttribute("x2", x);
  }
}

/* ---- reading a chart ---- */

function nearest(t) {
  return samples.reduce((best, sample) => (!best || Math.abs(sample.t - t) < Math.abs(best.t - t) ? sample : best), null);
}

function look(sample) {
  if (sample !== cursor) {
    cursor = sample;
    charts.forEach(drawChart);
    showReading();
  }
}

function showReading() {
  setText($("reading"), cursor ? `values at ${clock(cursor.at)}` : "point at a chart or use the arrow keys to read it");
}

function onKey(event) {
  const at = cursor ? samples.indexOf(cursor) : samples.length - 1;
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - 30, PageDown: at + 30, Home: 0, End: samples.length - 1, Escape: -2 }[event.key];
  if (to === undefined || samples.length === 0) {
    return;
  }
  event.preventDefault();
  look(to === -2 ? null : samples[Math.min(Math.max(to, 0), samples.length - 1)]);
  const chart = charts.find((one) => one.figure === event.currentTarget);
  setText($("spoken"), cursor ? `${clock(cursor.at)}: ${chart.reading}` : "");
}

/* ---- tables ---- */

function bar() {
  return element("svg", { class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    element("rect", { class: "full", width: 100, height: 8 }), element("rect", { class: "part", width: 0, height: 8 }),
    element("line", { class: "mark", y1: 0, y2: 8, visibility: "hidden" }));
}

/** Fill a bar up to `part` of 1, with a mark at `mark` if there is one. */
function setBar(node, part, mark) {
  node.children[1].setAttribute("width", 100 * Math.min(Math.max(part || 0, 0), 1));
  node.children[2].setAttribute("visibility", mark > 0 ? "visible" : "hidden");
  if (mark > 0) {
    node.children[2].setAttribute("x1", 100 * mark);
    node.children[2].setAttribute("x2", 100 * mark);
  }
}

/** Make the rows of a table. A cell is a text, or { part, mark, text } for a bar; the first one is the row's heading. */
function fill(table, rows) {
  const body = $(table).tBodies[0];
  while (body.rows.length > rows.length) {
    body.deleteRow(-1);
  }
  rows.forEach((cells, i) => {
    let row = body.rows[i];
    if (!row) {
      row = body.insertRow();
      cells.forEach((cell, k) => {
        const text = element("span", {});
        row.append(k ? element("td", {}, ...(cell.text === undefined ? [] : [bar()]), text) : element("th", { scope: "row" }, text));
      });
    }
    cells.forEach((cell, k) => {
      const node = row.cells[k];
      setText(node.lastChild, cell.text === undefined ? String(cell) : cell.text);
      if (cell.text !== undefined) {
        setBar(node.firstChild, cell.part, cell.mark);
      }
    });
  });
}

function showWorkers(stats, from) {
  const before = new Map((from ? from.stats.workers : []).map((worker) => [worker.worker, worker]));
  const seconds = from ? (stats.uptime_ms - from.stats.uptime_ms) / 1000 : NaN;
  const workers = (stats.workers || []).map((worker) => {
    const old = before.get(worker.worker);
    return { ...worker, rate: old ? (worker.messages - old.messages) / seconds : NaN, busy: old ? (worker.busy_ms - old.busy_ms) / 1000 / seconds : NaN };
  });
  const all = workers.reduce((total, worker) => total + (worker.rate || 0), 0);
  $("workers").closest("section").hidden = workers.length === 0; // another model than pool, or more than 64
  const share = (worker) => (all > 0 ? worker.rate / all : 0);
  const even = 1 / workers.length;
  const scale = Math.min(1, Math.max(2 * even, ...workers.map(share))) || 1;
  fill("workers", workers.map((worker) => [
    worker.worker, { part: share(worker) / scale, mark: workers.length > 1 ? even / scale : 0, text: percent(share(worker)) }, rate(worker.rate),
    percent(worker.busy), count(worker.open), count(worker.queue), duration(worker.turn_age_ms),
  ]));
}

function showEnds(stats, from) {
  const total = { finished: stats.finished, ...stats.closed };
  const old = from ? { finished: from.stats.finished, ...from.stats.closed } : {};
  const recent = Object.fromEntries(Object.entries(total).map(([reason, n]) => [reason, from ? n - (old[reason] || 0) : NaN]));
  const all = Object.values(recent).reduce((one, other) => one + (other || 0), 0);
  fill("ends", Object.entries(total).map(([reason, n]) => {
    const part = all > 0 ? recent[reason] / all : 0;
    return [reason, { part, text: percent(part) }, count(recent[reason]), count(n)];
  }));
  [...$("ends").tBodies[0].rows].forEach((row, i) => row.classList.toggle("none", Object.values(total)[i] === 0));
}

function showListeners(stats, from) {
  const before = new Map((from ? from.stats.listeners || [] : []).map((listener) => [listener.addr, listener]));
  const seconds = from ? (stats.uptime_ms - from.stats.uptime_ms) / 1000 : NaN;
  fill("listeners", (stats.listeners || []).map((listener) => {
    const old = before.get(listener.addr);
    return [listener.addr, rate(old ? (listener.accepted - old.accepted) / seconds : NaN), count(listener.accepted), listener.proxy || "off"];
  }));
}

/* ---- state ---- */

function showState(word, text) {
  const marks = { serving: "\u25cf", draining: "\u25bc", starting: "\u25b2", upgrading: "\u25b2", off: "\u25a0", paused: "\u2016", away: "\u2715" };
  $("state").dataset.state = word;
  setText($("state"), `${marks[word] || "\u25a0"} ${text}`);
  document.title = word === "serving" ? "xchgd" : `${text} \u2013 xchgd`;
}

function notices(stats) {
  const found = [];
  if (stats.accept_paused) {
    found.push("Accepting is paused: descriptors, memory or room are missing.");
  }
  if (stats.limit > 0 && stats.open >= 0.9 * stats.limit) {
    found.push("At least 90 % of XCHG_MAX_CONNECTIONS are open.");
  }
  for (const worker of stats.workers || []) {
    if (worker.turn_age_ms > STALLED_MS) {
      found.push(`Worker ${worker.worker} has been in one turn for more than ${duration(STALLED_MS)}.`);
    }
  }
  if (stats.version !== firstVersion) {
    found.push("The server and this page have different versions: reload the page.");
  }
  return found;
}

function showNotices(found) {
  const list = $("notices");
  const texts = [...list.children].map((item) => item.textContent);
  if (texts.join("\n") !== found.join("\n")) {
    list.replaceChildren(...found.map((text) => element("li", {}, text)));
  }
}

function show() {
  const last = samples[samples.length - 1];
  charts.forEach(drawChart);
  if (!last || !last.stats) {
    if (awaySince) {
      showState("away", `no answer since ${clock(awaySince)}`);
    }
    showNotices([]);
    return;
  }
  const stats = last.stats;
  const state = ["serving", "upgrading"].includes(stats.state) && stats.ready === false ? "off" : stats.state;
  showState(state, { serving: "serving, ready", upgrading: "upgrading, ready", off: "serving, set to not ready" }[state] || `${state}, not ready`);
  setText($("version"), String(stats.version));
  setText($("facts"), `${stats.exchange}, ${stats.model}, process ${stats.pid}, up ${duration(stats.uptime_ms)}`);
  showNotices(notices(stats));
  showWorkers(stats, base(SHARE_MS));
  showEnds(stats, base(WINDOW_MS));
  showListeners(stats, base(SHARE_MS));
}

/* ---- connections: on a UNIX socket only ---- */

function showTop(answer) {
  $("top").hidden = false;
  const missing = (answer.missing || []).length ? `; no response from worker ${answer.missing.join(", ")}` : "";
  setText($("seen"), `of ${count(answer.seen)}${missing}`);
  fill("connections", (answer.connections || []).map((conn) => [
    conn.via ? `${conn.peer} via ${conn.via}` : conn.peer, conn.worker, conn.paused ? `${conn.state}, paused` : conn.state, duration(conn.age_ms),
    duration(conn.idle_ms), count(conn.messages), bytes(conn.bytes_in), bytes(conn.bytes_out), bytes(conn.pending_bytes), conn.id,
  ]));
}

/** Request connections where they are available: on a UNIX socket, which also has settings, under XCHG_MODEL=pool. */
async function askTop(stats) {
  if (!stats.settings || stats.model !== "pool") {
    $("top").hidden = true;
    return;
  }
  if (topAsking || performance.now() - topLast < TOP_MS) {
    return;
  }
  topAsking = true;
  topLast = performance.now();
  try {
    const answer = await ask(`connections?n=${TOP_COUNT}&sort=${$("sort").value}`);
    if (answer.ok) { // 503: another walk runs; the rows stay
      showTop(await answer.json());
    }
  } catch {
    // The next request of /stats shows that the server does not respond.
  }
  topAsking = false;
}

/* ---- asking ---- */

function ask(path) {
  return fetch(path, { cache: "no-store", credentials: "omit", redirect: "error", signal: AbortSignal.timeout(GIVE_UP_MS) });
}

async function getStats() {
  try {
    const answer = await ask("stats");
    const stats = answer.ok ? await answer.json() : null;
    return stats && stats.schema === 1 ? stats : null;
  } catch {
    return null;
  }
}

async function poll() {
  clearTimeout(timer);
  if (polling || paused || document.hidden) {
    return;
  }
  polling = true;
  const start = performance.now();
  const stats = await getStats();
  polling = false;
  if (!paused) {
    take({ t: performance.now(), at: new Date(), stats });
    timer = setTimeout(poll, Math.max(0, POLL_MS - (performance.now() - start)));
  }
}

function take(sample) {
  samples.push(sample);
  while (sample.t - samples[0].t > WINDOW_MS) {
    samples.shift();
  }
  if (cursor && !samples.includes(cursor)) {
    cursor = samples[0];
    showReading();
  }
  if (sample.stats) {
    awaySince = null;
    firstVersion = firstVersion || sample.stats.version;
    askTop(sample.stats);
  } else {
    awaySince = awaySince || sample.at;
  }
  show();
}

function start() {
  charts.push(...CHARTS.map(makeChart));
  $("charts").append(...charts.map((chart) => chart.figure));
  $("pause").addEventListener("click", () => {
    paused = !paused;
    $("pause").setAttribute("aria-pressed", String(paused));
    if (paused) {
      showState("paused", `paused at ${clock(new Date())}`);
    } else {
      poll();
    }
  });
  $("sort").addEventListener("change", () => {
    topLast = 0; // the next sample asks
  });
  document.addEventListener("visibilitychange", poll);
  showReading();
  poll();
}

start();
