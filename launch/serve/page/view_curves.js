// Curves of groups of runs: mean and spread over all their replicas.

import { choice, make, replace, tick } from "./dom.js";
import { colorOf, curves, dashOf, sample } from "./chart.js";
import { arrow, ask, choices, choose, chosen, groups, known, labelOf, mainMetric, metricsOf, mixed, MOST_GROUPS, ranges } from "./store.js";

const BETWEEN = 3000;
let figure, legend, controls, note, asked, timer, busy, waiting;

export function open(main) {
  controls = make("div", { class: "controls" });
  figure = make("figure", { id: "curves" });
  legend = make("ul", { class: "legend" });
  note = make("p", { class: "soft" });
  main.append(controls, figure, legend, note);
  asked = "";
  busy = waiting = false;
  return () => clearTimeout(timer);
}

// With many groups, the best by their last values are drawn, or those with the most runs.
function selected(found, metric) {
  if (found.length <= MOST_GROUPS) return found;
  const direction = known.quantities[metric]?.direction;
  const score = (group) => {
    const values = group.runs.map((run) => run.finals[metric]?.[0]).filter(Number.isFinite);
    if (!direction || !values.length) return Infinity;
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    return direction === "smaller" ? mean : -mean;
  };
  return [...found].sort((a, b) => score(a) - score(b) || b.runs.length - a.runs.length).slice(0, MOST_GROUPS);
}

const PLACES = ["epoch", "communicated_bytes", "simulated_time"];

const settings = (runs) => {
  const names = metricsOf(runs).filter((name) => !["epoch", "simulated_time"].includes(name));
  const metric = names.includes(choices.get("metric")) ? choices.get("metric") : mainMetric(names);
  const places = ["step", ...(runs.some((run) => run.samples) ? ["samples"] : []),
    ...PLACES.filter((name) => runs.some((run) => name in run.finals))];
  const x = places.includes(choices.get("x")) ? choices.get("x") : "step";
  return { names, metric, places, x, spread: choices.get("spread") ?? "se", xLog: choices.has("xlog"), yLog: choices.has("ylog") };
};

export function update(what) {
  const runs = chosen().filter((run) => Object.keys(run.finals).length);
  if (!runs.length) {
    replace(controls);
    replace(legend);
    replace(figure, make("p", { class: "empty" }, "Nothing has been measured in these runs yet."));
    note.textContent = "";
    asked = "";
    return;
  }
  const { names, metric, places, x, spread, xLog, yLog } = settings(runs);
  if (!controls.contains(document.activeElement) || what === "choice" || !controls.childElementCount) {
    replace(controls,
      choice("metric", names.map((name) => [name, labelOf(name)]), metric, (value) => choose({ metric: value })),
      choice("against", places.map((name) => [name, labelOf(name)]), x, (value) => choose({ x: value })),
      choice("spread", [["se", "standard error"], ["sd", "standard deviation"], ["range", "smallest to largest"], ["none", "none"]],
        spread, (value) => choose({ spread: value })),
      tick("log x", xLog, (on) => choose({ xlog: on })), tick("log y", yLog, (on) => choose({ ylog: on })));
  }
  const found = groups(runs);
  const drawn = selected(found, metric);
  const key = JSON.stringify([metric, x, drawn.map((group) => [group.label, ranges(group.runs)])]);
  const versions = drawn.flatMap((group) => group.runs.map((run) => `${run.changed} ${run.state} ${run.diverged}`)).join();
  fetchAll(key, versions, { metric, x, drawn, left: found.length - drawn.length });
  if (what === "choice" && last?.key === key) show();
}

let last = null;

async function fetchAll(key, versions, wanted) {
  if (busy) {
    waiting = true;
    return;
  }
  if (asked === key + versions) return;
  const fresh = last?.key !== key;
  asked = key + versions;
  busy = true;
  let pending = 0;
  try {
    const answer = await ask("curves", { metric: wanted.metric, x: wanted.x, groups: wanted.drawn.map((group) => ranges(group.runs)).join(";") });
    pending = answer.pending;
    last = { key, ...wanted, ...answer };
    show();
  } catch (error) {
    asked = "";
    note.textContent = `The curves could not be read: ${error.message}.`;
  }
  busy = false;
  if (pending) asked = "";
  clearTimeout(timer);
  // While runs write, a curve is asked for every few seconds at most.
  if (pending || waiting) timer = setTimeout(() => { waiting = false; update("later"); }, pending || fresh ? 30 : BETWEEN);
}

function show() {
  const { spread, xLog, yLog } = settings(chosen().filter((run) => Object.keys(run.finals).length));
  const { metric, x, drawn, left, pending, problems } = last;
  const series = drawn.map((group, place) => {
    const curve = last.curves[place];
    const errors = curve.sd.map((sd, i) => (curve.n[i] > 1 ? (spread === "sd" ? sd : sd / Math.sqrt(curve.n[i])) : 0));
    const around = (sign) => curve.mean.map((mean, i) => mean + sign * errors[i]);
    const band = spread === "none" ? {} : spread === "range" ? { low: curve.low, high: curve.high } : { low: around(-1), high: around(1) };
    return { ...curve, low: null, high: null, ...band, spread: ["se", "sd"].includes(spread) ? errors : null,
      label: group.label, runs: group.runs.length, color: colorOf(place), dash: dashOf(place) };
  });
  const some = series.filter((one) => one.x.length);
  if (!some.length && !pending) {
    replace(figure, make("p", { class: "empty" }, `${labelOf(metric)} has no curve in these runs.`));
  } else {
    curves(figure, some, { xLabel: labelOf(x), yLabel: labelOf(metric) + arrow(metric), xLog, yLog,
      about: `${labelOf(metric)} over ${labelOf(x)} of ${some.length} groups of runs` });
  }
  replace(legend, some.map((one) => make("li", {}, sample(one.color, one.dash), `${one.label}`,
    one.runs > 1 ? make("span", { class: "soft" }, `(${one.runs} runs)`) : null)));
  const differing = mixed(drawn);
  const every = Math.max(1, ...last.curves.map((curve) => curve.every));
  replace(note, [
    pending ? `Reading ${pending.toLocaleString("en")} more runs … ` : "",
    left ? `${known.quantities[metric]?.direction ? "The best" : "Only"} ${drawn.length} of ${drawn.length + left} groups; group by fewer keys for fewer curves. ` : "",
    every > 1 ? `Of long runs, one in ${every} evaluations. ` : "",
    differing ? `Each line averages runs that differ in ${differing}; to part them, group by these keys. ` : "",
    "Diverged replicas are left out.",
  ].join(""), problems.slice(0, 5).map((problem) => make("span", { class: "problem" }, ` ${problem}`)));
}
