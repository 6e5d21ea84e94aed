// Judge a reward loss by refrm's test vectors: node runner.mjs DIRECTORY [--mistake NAME]. Needs nothing but Node.
import { readFileSync } from "node:fs";
import { join } from "node:path";

const BITS = { float64: [53, -1022], float32: [24, -126], bfloat16: [8, -126], float16: [11, -14] };
const sum = (x) => x.reduce((a, b) => a + b, 0);

function fromHex(text) {
  const m = /^(-?)0x([01])\.([0-9a-f]+)p([+-]\d+)$/.exec(text);
  if (!m) return { nan: NaN, inf: Infinity, "-inf": -Infinity }[text];
  const [low, high] = [Number("0x" + m[3].padEnd(13, "0")), Number(m[2])]; // 52 bits, and the one before the point
  const e = Number(m[4]), half = Math.trunc(e / 2); // in two steps: 2^e alone may overflow or vanish
  return (m[1] ? -1 : 1) * (high + low * 2 ** -52) * 2 ** half * 2 ** (e - half);
}

function ulp(x, dtype) {
  const [bits, least] = BITS[dtype];
  let e = Math.max(Math.floor(Math.log2(Math.abs(x))), least); // of 0: least
  if (2 ** e > Math.abs(x) && e > least) e -= 1; // log2 may round up
  return 2 ** (e - bits + 1);
}

function accepts({ hex, tolerance }, found, dtype) {
  return hex.every((text, i) => {
    const x = fromHex(text), f = found[i];
    if (Object.is(x, f) || x === f) return true;
    if (!Number.isFinite(x) || !Number.isFinite(f)) return false; // arithmetic is float64 here: nothing else overflows
    return Math.abs(f - x) <= tolerance.bound[i] * (tolerance.kind === "ulp" ? ulp(x, dtype) : 1);
  });
}

// The implementation on trial, and some mistakes it can make.
const sigmoid = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));
const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
function loss({ r_w, r_l, margin = [0], weight }, { coef, factor, penalty, eps, pairwise }, mistake) {
  const n = r_w.length, m = (i) => (mistake === "margin-ignored" ? 0 : margin[margin.length > 1 ? i : 0]);
  const z = r_w.map((w, i) => (mistake === "margin-sign" ? w - r_l[i] + m(i) : w - r_l[i] - m(i)));
  const w = weight ?? r_w.map(() => 1), total = mistake === "sum-for-mean" ? 1 : sum(w);
  const mean = (f) => sum(w.map((q, i) => (q > 0 ? (q * f(i)) / total : 0)));
  const share = (f) => w.map((q, i) => (q > 0 ? (q * f(i)) / total : 0));
  const sp = mistake === "naive-log-exp" ? (x) => Math.log(1 + Math.exp(x)) : softplus;
  const both = (f, x) => (eps ? (1 - eps) * f(-x) + eps * f(x) : f(-x));
  const s = r_w.map((a, i) => a + (mistake === "squared-difference" ? -r_l[i] : r_l[i])), middle = mean((i) => s[i]);
  const [value, by_w, by_l] = {
    "squared-sum": [(i) => s[i] * s[i], (i) => 2 * s[i], (i) => (mistake === "squared-difference" ? -2 : 2) * s[i]],
    "sum-of-squares": [(i) => r_w[i] ** 2 + r_l[i] ** 2, (i) => 2 * r_w[i], (i) => 2 * r_l[i]],
    "sum-to-zero": [() => middle * middle, () => 2 * middle, () => 2 * middle],
  }[penalty] ?? [() => 0, () => 0, () => 0];
  const scale = penalty ? coef * { 1: 1, "1/2": 0.5, "B/4": n / 4 }[factor] * (mistake === "minus-sign" ? -1 : 1) : 0;
  const of = (a, b) => (i) => (pairwise ? a(i) : 0) + (scale ? scale * b(i) : 0);
  const naive = (x) => Math.exp(x) / (1 + Math.exp(x)), sg = mistake === "naive-log-exp" ? naive : sigmoid;
  const pair = (i) => both(sp, z[i]), slope = (i) => (eps ? eps * sg(z[i]) : 0) - (1 - eps) * sg(-z[i]);
  return {
    loss: r_w.map((_, i) => pair(i)), value: [mean(of(pair, value))],
    grad_w: share(of(slope, by_w)), grad_l: share(of((i) => -slope(i), by_l)),
  };
}

const [directory, option, mistake] = process.argv.slice(2), failures = [];
const MISTAKES = ["margin-ignored", "margin-sign", "minus-sign", "naive-log-exp", "squared-difference", "sum-for-mean"];
if (!directory || (option && (option !== "--mistake" || !MISTAKES.includes(mistake)))) {
  console.error(`usage: node runner.mjs DIRECTORY [--mistake ${MISTAKES.join("|")}]`);
  process.exit(2);
}
let tests = 0;
for (const name of ["bradley_terry", "penalties", "objective"]) {
  for (const group of JSON.parse(readFileSync(join(directory, `${name}.json`), "utf8")).groups) {
    const { penalty, factor, coef, label_smoothing } = group.convention;
    const pairwise = ["bradley-terry", "objective"].includes(group.term);
    const how = { penalty, factor, pairwise, coef: fromHex(coef.hex[0]), eps: fromHex(label_smoothing.hex[0]) };
    for (const test of group.tests) {
      const inputs = Object.fromEntries(Object.entries(test.inputs).map(([key, x]) => [key, x.hex.map(fromHex)]));
      const found = loss(inputs, how, mistake);
      const wrong = Object.keys(found).filter((key) => test.expected[key] && !accepts(test.expected[key], found[key], group.dtype));
      tests += 1;
      if (wrong.length) failures.push(`${test.id} (${test.comment}): ${wrong.join(", ")}; flags: ${test.flags.join(", ")}`);
    }
  }
}
failures.forEach((line) => console.log(line));
console.log(`${tests} tests, ${tests - failures.length} passed, ${failures.length} failed`);
process.exit(failures.length ? 1 : 0);
