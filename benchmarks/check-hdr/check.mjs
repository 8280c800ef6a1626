// Compares hdr_histogram with hdr-histogram-js, an independent implementation:
//   node check.mjs HDR_DUMP
// Both get the same values. Percentiles, buckets, counts and the rows of the percentile distributions must be equal.
// Mean and deviation must be nearly equal: ours are exact, and hdr-histogram-js computes them from the buckets.
// The seed is printed, and CHECK_SEED sets it.
import { spawnSync } from "node:child_process";
import { build } from "hdr-histogram-js";

const program = process.argv[2];
const MAX_NS = 60_000_000_000;
const VALUES = 20_000;
const PERCENTS = ["1", "10", "25", "50", "75", "90", "95", "99", "99.9", "99.99", "99.999", "100"];
const faults = [];

let state = BigInt(process.env.CHECK_SEED ?? process.pid * 2654435761) | 1n;
console.log(`CHECK_SEED=${state}`);

// xorshift64: a number in 0 <= x < 1
function random() {
  const mask = (1n << 64n) - 1n;
  state ^= (state << 13n) & mask;
  state ^= state >> 7n;
  state ^= (state << 17n) & mask;
  return Number(state >> 11n) / 2 ** 53;
}

const SHAPES = {
  small: () => Math.floor(random() * 5000),
  uniform: () => Math.floor(random() * MAX_NS),
  exponential: () => Math.floor(-Math.log(1 - random()) * 150e3),
  logarithmic: () => Math.floor(Math.exp(random() * Math.log(MAX_NS))),
  "two peaks": () => Math.floor(random() < 0.01 ? 200e6 + random() * 1e6 : 20e3 + random() * 1e3),
  constant: () => 123456789,
  "powers of two": () => Math.min(2 ** Math.floor(random() * 36) + (random() < 0.5 ? 0 : -1), MAX_NS),
};

function run(values, args) {
  const ran = spawnSync(program, args, { input: values.join("\n"), encoding: "utf8", maxBuffer: 1 << 28 });
  if (ran.status !== 0) throw new Error(`${program}: ${ran.error ?? ran.stderr}`);
  return ran.stdout;
}

function same(shape, what, ours, theirs, tolerance = 0) {
  if (!(Math.abs(ours - theirs) <= tolerance)) faults.push(`${shape}: ${what}: ours ${ours}, theirs ${theirs}`);
}

function checkMetrics(shape, values, hdr) {
  const ours = { p: {}, buckets: new Map() };
  for (const line of run(values, PERCENTS).trim().split("\n")) {
    const [key, a, b] = line.split(" ");
    if (key === "p") ours.p[a] = Number(b);
    else if (key === "b") ours.buckets.set(Number(a), Number(b));
    else ours[key] = Number(a);
  }
  same(shape, "count", ours.count, hdr.totalCount);
  // Ours never exceeds the exact maximum. Theirs is the end of the bucket.
  for (const percent of PERCENTS)
    same(shape, `p${percent}`, ours.p[percent], Math.min(hdr.getValueAtPercentile(Number(percent)), ours.max));
  same(shape, "max", ours.max, hdr.maxValue);
  same(shape, "mean", ours.mean, hdr.mean, hdr.mean / 1000 + 1);
  same(shape, "stddev", ours.stddev, hdr.stdDeviation, (hdr.mean + hdr.stdDeviation) / 1000 + 1);
  let counted = 0;
  for (const [low, count] of ours.buckets) {
    same(shape, `bucket at ${low} begins`, low, hdr.lowestEquivalentValue(low));
    same(shape, `bucket at ${low}`, count, hdr.getCountAtIndex(hdr.countsArrayIndex(low)));
    counted += count;
  }
  same(shape, "counts of all buckets", counted, hdr.totalCount);
}

const rowsOf = (text) =>
  text
    .split("\n")
    .filter((line) => /^ *\d/.test(line))
    .map((line) => line.trim().split(/ +/).map(Number));

function checkDistribution(shape, values, hdr) {
  const ours = rowsOf(run(values, ["--hgrm"]));
  const theirs = rowsOf(hdr.outputPercentileDistribution(5, 1e6));
  same(shape, "rows of the distribution", ours.length, theirs.length);
  for (let i = 0; i < Math.min(ours.length, theirs.length); i++) {
    const [value, percentile, total] = ours[i];
    // The end of a bucket is at most a thousandth above the maximum.
    same(shape, `value of row ${i}`, value, theirs[i][0], theirs[i][0] / 1000 + 0.001);
    same(shape, `percentile of row ${i}`, percentile, theirs[i][1], 2e-12);
    same(shape, `count of row ${i}`, total, theirs[i][2]);
  }
}

for (const [shape, next] of Object.entries(SHAPES)) {
  const values = Array.from({ length: VALUES }, next);
  const hdr = build({
    bitBucketSize: 32,
    lowestDiscernibleValue: 1,
    highestTrackableValue: MAX_NS,
    numberOfSignificantValueDigits: 3,
  });
  for (const value of values) hdr.recordValue(value);
  checkMetrics(shape, values, hdr);
  checkDistribution(shape, values, hdr);
}

console.log(faults.length > 0 ? faults.slice(0, 50).join("\n") : `check-hdr: ${Object.keys(SHAPES).length} shapes, no difference`);
process.exit(faults.length > 0 ? 1 : 0);
